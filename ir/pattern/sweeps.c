/* sweeps.c - finds the halves of a mask: the one `or` of which some operands want rows apart, and others do not. */
#include "ir/pattern/sweeps.h"

enum { MOST_QUESTIONS = 64 }; /* an analysis each; masks have a handful of operands */

typedef struct finder {
    expr_pool *pool;
    int64_t max_len;
    int questions;
} finder;

typedef struct halves {
    expr together, apart; /* no pair is in both; 0, 0: there are none */
} halves;

static const halves none = {0, 0};

static bool wants_rows_apart(finder *f, expr mask)
{
    f->questions++;
    return f->questions <= MOST_QUESTIONS && ranges_compute(f->pool, mask, f->max_len)->row_step;
}

/* The operands of an `or`, sorted. */
static void sort_operands(finder *f, expr e, halves *to)
{
    const expr_node n = *expr_get(f->pool, e);
    if (n.op == EXPR_OR) {
        for (uint32_t i = 0; i < n.nargs; i++) sort_operands(f, n.arg[i], to);
        return;
    }
    expr *half = wants_rows_apart(f, e) ? &to->apart : &to->together;
    *half = *half ? expr_binary(f->pool, EXPR_OR, *half, e) : e;
}

static bool has_operand(const finder *f, expr e, expr_op op, expr what)
{
    const expr_node n = *expr_get(f->pool, e);
    if (e == what || n.op != op) return e == what;
    return has_operand(f, n.arg[0], op, what) || has_operand(f, n.arg[1], op, what);
}

/* `e`, where `given` holds: without those operands of its `and` that are operands of that. */
static expr without(const finder *f, expr e, expr given)
{
    const expr_node n = *expr_get(f->pool, e);
    if (has_operand(f, given, EXPR_AND, e)) return expr_bool(f->pool, true);
    if (n.op != EXPR_AND) return e;
    return expr_binary(f->pool, EXPR_AND, without(f, n.arg[0], given), without(f, n.arg[1], given));
}

/* b but not a. What both ask for is not denied: of `k <= q and b and not (k <= q and a)` the analysis would look for keys behind the row. */
static expr but_not(const finder *f, expr b, expr a)
{
    return expr_binary(f->pool, EXPR_AND, b, expr_unary(f->pool, EXPR_NOT, without(f, a, b)));
}

/* What stands beside an `or` belongs to both of its halves; it must not want rows apart itself. */
static halves divide(finder *f, expr e)
{
    const expr_node n = *expr_get(f->pool, e);
    halves h = none;
    if (n.op == EXPR_OR) sort_operands(f, e, &h);
    if (n.op == EXPR_OR) return h.together && h.apart ? (halves){h.together, but_not(f, h.apart, h.together)} : none;
    for (uint32_t i = 0; n.op == EXPR_AND && i < 2; i++) {
        h = divide(f, n.arg[i]);
        if (!h.apart) continue;
        const expr other = n.arg[1 - i];
        if (wants_rows_apart(f, other)) return none;
        return (halves){expr_binary(f->pool, EXPR_AND, h.together, other), expr_binary(f->pool, EXPR_AND, h.apart, other)};
    }
    return none;
}

static expr unless_sweep(expr_pool *p, int64_t sweep, expr e)
{
    const expr is = expr_binary(p, EXPR_EQ, expr_variable(p, VAR_SWEEP), expr_int(p, sweep));
    return expr_binary(p, EXPR_AND, expr_unary(p, EXPR_NOT, is), e);
}

expr sweeps_of(expr_pool *p, expr mask, const ranges *whole, int64_t max_len)
{
    finder f = {.pool = p, .max_len = max_len};
    if (!whole->row_step || expr_nesting(p, mask) > EXPR_MAX_NESTING) return 0;
    const halves h = divide(&f, mask);
    if (!h.apart || f.questions > MOST_QUESTIONS) return 0;
    return expr_binary(p, EXPR_OR, unless_sweep(p, 2, h.together), unless_sweep(p, 1, h.apart));
}
