/* formula.h - random formulas for tests: a tree of their own, its value by plain recursion, and its text. Shares no
 * code with ir/pattern, which is what it tests. */
#ifndef ATTNC_TEST_FORMULA_H
#define ATTNC_TEST_FORMULA_H

#include "ir/base/text.h"
#include "tests/unit/check.h"

#include <stdbool.h>

/* Values of formulas with huge constants: nothing is said about those that leave 64 bits, but the test must not
 * stumble. */
__extension__ typedef __int128 wide;

typedef enum formula_kind {
    F_CONST,
    F_Q,
    F_K,
    F_H,
    F_DOC_Q,
    F_DOC_K,
    F_WIN,
    F_GRID, /* win[h], grid[a, b] */
    F_ADD,
    F_SUB,
    F_MUL,
    F_DIV,
    F_MOD,
    F_MIN,
    F_MAX,
    F_ABS,
    F_IF,
    F_LT,
    F_LE,
    F_GT,
    F_GE,
    F_EQ,
    F_NE,
    F_AND,
    F_OR,
    F_NOT,
    F_CHOOSE /* if of booleans */
} formula_kind;

typedef struct formula {
    formula_kind kind;
    long long c;
    const struct formula *a, *b, *d;
} formula;

enum { WIN_SIZE = 4, GRID_ROWS = 5, GRID_COLUMNS = 6, FORMULA_POSITIONS = 128 };
/* What formulas read. */
typedef struct formula_world {
    double win[WIN_SIZE], grid[GRID_ROWS * GRID_COLUMNS];
    int doc[FORMULA_POSITIONS];
} formula_world;

typedef struct formula_maker {
    arena *arena;
    unsigned long long *random;
    bool uniform; /* may read h and win[..] */
    bool data;    /* may read attributes and grid[..] */
    bool huge;    /* constants up to the ends of 64 bits */
} formula_maker;

static inline long long formula_pick(const formula_maker *m, long long n)
{
    return (long long)(check_random(m->random) % (unsigned long long)n);
}

static inline formula *formula_new(const formula_maker *m, formula_kind kind, long long c)
{
    formula *f = ARENA_NEW(m->arena, formula);
    f->kind = kind, f->c = c;
    return f;
}

static const formula *formula_bool(const formula_maker *m, int depth);

static inline const formula *formula_leaf(const formula_maker *m)
{
    long long pick = formula_pick(m, 10);
    if (m->data && pick < 2) return formula_new(m, pick ? F_DOC_Q : F_DOC_K, 0);
    if (m->uniform && pick == 2) return formula_new(m, F_H, 0);
    if (pick < 7) return formula_new(m, pick & 1 ? F_Q : F_K, 0);
    static const long long huge[] = {1ll << 30,       -(1ll << 31), 3000000000ll,          1ll << 40,
                                     (1ll << 61) - 1, 1ll << 62,    9223372036854775807ll, -9223372036854775807ll - 1};
    if (m->huge && formula_pick(m, 3) == 0) return formula_new(m, F_CONST, huge[formula_pick(m, 8)]);
    return formula_new(m, F_CONST, formula_pick(m, 29) - 9);
}

static inline const formula *formula_int(const formula_maker *m, int depth)
{
    if (depth <= 0 || formula_pick(m, 4) == 0) return formula_leaf(m);
    int first = m->uniform ? F_WIN : F_ADD;
    formula *f = formula_new(m, (formula_kind)(first + formula_pick(m, F_IF - first + 1)), 0);
    if (f->kind == F_GRID && !m->data) f->kind = F_MIN;
    if (f->kind == F_IF) f->d = formula_bool(m, depth - 1);
    f->a = formula_int(m, depth - 1);
    if (f->kind == F_WIN) f->a = formula_new(m, formula_pick(m, 3) ? F_H : F_CONST, formula_pick(m, WIN_SIZE + 1));
    bool constant = f->kind == F_MUL || f->kind == F_DIV || f->kind == F_MOD;
    f->b = constant && formula_pick(m, 8)
               ? formula_new(m, F_CONST, f->kind == F_MUL ? formula_pick(m, 7) - 3 : formula_pick(m, 12) - 2)
               : formula_int(m, depth - 1);
    return f;
}

static const formula *formula_bool(const formula_maker *m, int depth)
{
    bool junction = depth > 0 && formula_pick(m, 2);
    formula *f = formula_new(m, (formula_kind)(junction ? F_AND + formula_pick(m, 4) : F_LT + formula_pick(m, 6)), 0);
    f->a = junction ? formula_bool(m, depth - 1) : formula_int(m, depth);
    f->b = junction ? formula_bool(m, depth - 1) : formula_int(m, depth);
    f->d = junction ? formula_bool(m, depth - 1) : NULL;
    return f;
}

static inline wide floor_quotient(wide a, wide b)
{
    if (b == 0) return 0;
    wide q = a / b;
    return (a % b != 0) && ((a % b < 0) != (b < 0)) ? q - 1 : q;
}
static inline wide floor_remainder(wide a, wide b) { return b == 0 ? 0 : a - b * floor_quotient(a, b); }

static inline wide formula_value(const formula *f, const formula_world *w, long long q, long long k, long long h)
{
#define V(x) formula_value((x), w, q, k, h)
    wide a, b;
    switch (f->kind) {
    case F_CONST:
        return f->c;
    case F_Q:
        return q;
    case F_K:
        return k;
    case F_H:
        return h;
    case F_DOC_Q:
        return w->doc[q];
    case F_DOC_K:
        return w->doc[k];
    case F_WIN:
        a = V(f->a);
        return a >= 0 && a < WIN_SIZE ? (long long)w->win[a] : 0;
    case F_GRID:
        a = V(f->a), b = V(f->b);
        return a >= 0 && a < GRID_ROWS && b >= 0 && b < GRID_COLUMNS ? (long long)w->grid[a * GRID_COLUMNS + b] : 0;
    case F_ADD:
        return V(f->a) + V(f->b);
    case F_SUB:
        return V(f->a) - V(f->b);
    case F_MUL:
        return __builtin_mul_overflow(V(f->a), V(f->b), &a) ? 0 : a;
    case F_DIV:
        return floor_quotient(V(f->a), V(f->b));
    case F_MOD:
        return floor_remainder(V(f->a), V(f->b));
    case F_MIN:
        a = V(f->a), b = V(f->b);
        return a < b ? a : b;
    case F_MAX:
        a = V(f->a), b = V(f->b);
        return a > b ? a : b;
    case F_ABS:
        a = V(f->a);
        return a < 0 ? -a : a;
    case F_IF:
    case F_CHOOSE:
        return V(f->d) ? V(f->a) : V(f->b);
    case F_LT:
        return V(f->a) < V(f->b);
    case F_LE:
        return V(f->a) <= V(f->b);
    case F_GT:
        return V(f->a) > V(f->b);
    case F_GE:
        return V(f->a) >= V(f->b);
    case F_EQ:
        return V(f->a) == V(f->b);
    case F_NE:
        return V(f->a) != V(f->b);
    case F_AND:
        return V(f->a) && V(f->b);
    case F_OR:
        return V(f->a) || V(f->b);
    case F_NOT:
        return !V(f->a);
    }
#undef V
    abort();
}

/* Every operation in parentheses. */
static inline void formula_text(const formula *f, text *to)
{
    static const char *const infix[F_CHOOSE + 1] = {
        [F_ADD] = "+", [F_SUB] = "-", [F_MUL] = "*", [F_DIV] = "/", [F_MOD] = "%",   [F_LT] = "<", [F_LE] = "<=",
        [F_GT] = ">",  [F_GE] = ">=", [F_EQ] = "==", [F_NE] = "!=", [F_AND] = "and", [F_OR] = "or"};
    static const char *const head[F_CHOOSE + 1] = {
        [F_Q] = "q",         [F_K] = "k",      [F_H] = "h",        [F_DOC_Q] = "doc.q",
        [F_DOC_K] = "doc.k", [F_WIN] = "win[", [F_GRID] = "grid[", [F_MIN] = "min(",
        [F_MAX] = "max(",    [F_ABS] = "abs(", [F_NOT] = "(not "};
    if (f->kind == F_CONST) {
        text_printf(to, "%lld", f->c);
    } else if (infix[f->kind]) {
        text_add(to, "("), formula_text(f->a, to);
        text_printf(to, " %s ", infix[f->kind]);
        formula_text(f->b, to), text_add(to, ")");
    } else if (f->kind == F_IF || f->kind == F_CHOOSE) {
        text_add(to, "(if "), formula_text(f->d, to), text_add(to, " then "), formula_text(f->a, to);
        text_add(to, " else "), formula_text(f->b, to), text_add(to, ")");
    } else {
        text_add(to, head[f->kind]);
        if (f->kind <= F_DOC_K) return;
        formula_text(f->a, to);
        if (f->kind == F_GRID || f->kind == F_MIN || f->kind == F_MAX) text_add(to, ", "), formula_text(f->b, to);
        text_add(to, f->kind == F_WIN || f->kind == F_GRID ? "]" : ")");
    }
}

static inline void formula_world_fill(formula_world *w, unsigned long long *random)
{
    for (int i = 0; i < WIN_SIZE; i++) w->win[i] = (double)(check_random(random) % 12);
    for (int i = 0; i < GRID_ROWS * GRID_COLUMNS; i++) w->grid[i] = (double)(check_random(random) % 5) - 2;
    int doc = -1;
    for (int i = 0; i < FORMULA_POSITIONS; i++) {
        if (check_random(random) % 6 == 0) doc = (int)(check_random(random) % 5) - 1;
        w->doc[i] = doc;
    }
}

#endif
