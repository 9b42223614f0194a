/* linear.c - see linear.h. Recursion is bounded by the size of the tree, which callers check (LINEAR_MAX_TREE). */
#include "ir/pattern/linear.h"
#include "ir/pattern/pool.h"

enum { ROW_OR_KEY = DEPENDS_ROW | DEPENDS_KEY };

sum sum_const(int64_t k) { return (sum){.k = k, .ok = true}; }

static void add_const(sum *s, int64_t v, int64_t c)
{
    int64_t product;
    if (__builtin_mul_overflow(v, c, &product) || __builtin_add_overflow(s->k, product, &s->k)) s->ok = false;
}

void sum_add_term(sum *s, expr x, int64_t c)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->t[i].x != x) continue;
        if (__builtin_add_overflow(s->t[i].c, c, &s->t[i].c)) s->ok = false;
        if (s->t[i].c == 0) s->t[i] = s->t[--s->n];
        return;
    }
    if (s->n == SUM_MAX_TERMS)
        s->ok = false;
    else if (c)
        s->t[s->n++] = (term){x, c};
}

void sum_add_sum(sum *s, const sum *o, int64_t c)
{
    s->ok &= o->ok;
    add_const(s, o->k, c);
    for (uint32_t i = 0; i < o->n; i++) {
        int64_t product;
        if (__builtin_mul_overflow(o->t[i].c, c, &product))
            s->ok = false;
        else
            sum_add_term(s, o->t[i].x, product);
    }
}

/* ---- quotients, remainders, products ----------------------------------------------------------------------------- */
/* Takes the terms of a whose coefficients n divides out of it; whole (may be NULL) += c * them / n. */
static void take_multiples(sum *whole, sum *a, int64_t n, int64_t c)
{
    for (uint32_t i = 0; i < a->n;) {
        int64_t x = a->t[i].c;
        if (x == INT64_MIN || x % n) {
            i++;
            continue;
        }
        int64_t product;
        if (!whole)
            product = 0;
        else if (__builtin_mul_overflow(x / n, c, &product))
            whole->ok = false;
        else
            sum_add_term(whole, a->t[i].x, product);
        a->t[i] = a->t[--a->n];
    }
}

/* c * floor(a / n), n > 0: multiples of n leave the quotient, common factors cancel. */
static void add_quotient(expr_pool *p, sum *s, sum *a, int64_t n, int64_t c)
{
    take_multiples(s, a, n, c);
    add_const(s, int_floor_div(a->k, n), c);
    a->k = int_floor_mod(a->k, n);
    s->ok &= a->ok;
    if (a->n == 0 || !s->ok) return;
    int64_t g = n;
    for (uint32_t i = 0; i < a->n; i++) g = int_gcd(g, a->t[i].c);
    for (uint32_t i = 0; i < a->n; i++) a->t[i].c /= g;
    a->k = int_floor_div(a->k, g);
    sum_add_term(s, expr_binary(p, EXPR_DIV, sum_rebuild(p, a), expr_int(p, n / g)), c);
}

static void add_div(expr_pool *p, sum *s, expr a, expr b, int64_t c)
{
    int64_t n;
    sum x = sum_of(p, a);
    s->ok &= x.ok;
    if (!s->ok) return;
    if (!expr_is_const(p, b, &n)) {
        sum y = sum_of(p, b);
        s->ok &= y.ok;
        if (s->ok) sum_add_term(s, expr_binary(p, EXPR_DIV, sum_rebuild(p, &x), sum_rebuild(p, &y)), c);
    } else if (n == INT64_MIN) {
        s->ok = false;
    } else if (n < 0) {
        sum minus = sum_const(0);
        sum_add_sum(&minus, &x, -1);
        add_quotient(p, s, &minus, -n, c);
    } else if (n > 0) {
        add_quotient(p, s, &x, n, c);
    }
}

/* c * (a % n), n > 0 */
static void add_remainder(expr_pool *p, sum *s, sum *a, int64_t n, int64_t c)
{
    take_multiples(NULL, a, n, 0);
    a->k = int_floor_mod(a->k, n);
    s->ok &= a->ok;
    if (!s->ok) return;
    if (a->n == 0)
        add_const(s, a->k, c);
    else
        sum_add_term(s, expr_binary(p, EXPR_MOD, sum_rebuild(p, a), expr_int(p, n)), c);
}

static void add_mod(expr_pool *p, sum *s, expr a, expr b, int64_t c)
{
    int64_t n;
    sum x = sum_of(p, a);
    s->ok &= x.ok;
    if (!s->ok) return;
    if (!expr_is_const(p, b, &n)) {
        sum_add_term(s, expr_binary(p, EXPR_MOD, sum_rebuild(p, &x), b), c);
    } else if (n == INT64_MIN || c == INT64_MIN) {
        s->ok = false;
    } else if (n < 0) { /* a % -n = -(-a % n) */
        sum minus = sum_const(0);
        sum_add_sum(&minus, &x, -1);
        add_remainder(p, s, &minus, -n, -c);
    } else if (n > 0) {
        add_remainder(p, s, &x, n, c);
    }
}

/* c * a * b: something uniform is multiplied into the sum that the other is. */
static void add_product(expr_pool *p, sum *s, expr a, expr b, int64_t c)
{
    expr u = expr_depends(p, b) & ROW_OR_KEY ? a : b, other = u == a ? b : a;
    sum x = sum_of(p, other), y = sum_of(p, u);
    s->ok &= x.ok && y.ok;
    if (!s->ok) return;
    u = sum_rebuild(p, &y);
    if (expr_depends(p, u) & ROW_OR_KEY) {
        sum_add_term(s, expr_binary(p, EXPR_MUL, sum_rebuild(p, &x), u), c);
        return;
    }
    for (uint32_t i = 0; i < x.n; i++) {
        int64_t product;
        if (__builtin_mul_overflow(x.t[i].c, c, &product))
            s->ok = false;
        else
            sum_add_term(s, expr_binary(p, EXPR_MUL, x.t[i].x, u), product);
    }
    int64_t product;
    if (__builtin_mul_overflow(x.k, c, &product))
        s->ok = false;
    else
        sum_add_sum(s, &y, product);
}

void sum_add(expr_pool *p, sum *s, expr e, int64_t c)
{
    if (!s->ok) return;
    expr_node n = *expr_get(p, e);
    int64_t v;
    if (c == INT64_MIN)
        s->ok = false;
    else if (n.op == EXPR_CONST)
        add_const(s, n.value.i, c);
    else if (n.op == EXPR_ADD || n.op == EXPR_SUB)
        sum_add(p, s, n.arg[0], c), sum_add(p, s, n.arg[1], n.op == EXPR_ADD ? c : -c);
    else if (n.op == EXPR_MUL && expr_is_const(p, n.arg[1], &v)) {
        if (__builtin_mul_overflow(c, v, &c))
            s->ok = false;
        else
            sum_add(p, s, n.arg[0], c);
    } else if (n.op == EXPR_MUL)
        add_product(p, s, n.arg[0], n.arg[1], c);
    else if (n.op == EXPR_DIV)
        add_div(p, s, n.arg[0], n.arg[1], c);
    else if (n.op == EXPR_MOD)
        add_mod(p, s, n.arg[0], n.arg[1], c);
    else
        sum_add_term(s, e, c);
}

sum sum_of(expr_pool *p, expr e)
{
    sum s = sum_const(0);
    if (expr_tree_size(p, e) > LINEAR_MAX_TREE) s.ok = false;
    sum_add(p, &s, e, 1);
    return s;
}

/* What rises first, then what is taken away, then the constant; each in the order of ids. */
expr sum_rebuild(expr_pool *p, const sum *s)
{
    if (!s->ok) return 0;
    expr e = 0;
    for (int sign = 1; sign >= -1; sign -= 2) {
        for (expr last = 0;;) {
            const term *t = NULL;
            for (uint32_t i = 0; i < s->n; i++)
                if ((s->t[i].c > 0) == (sign > 0) && s->t[i].x > last && (!t || s->t[i].x < t->x)) t = &s->t[i];
            if (!t) break;
            last = t->x;
            bool minus = e && t->c < 0 && t->c != INT64_MIN;
            expr part = expr_binary(p, EXPR_MUL, t->x, expr_int(p, minus ? -t->c : t->c));
            e = e ? expr_binary(p, minus ? EXPR_SUB : EXPR_ADD, e, part) : part;
        }
    }
    return e ? expr_binary(p, EXPR_ADD, e, expr_int(p, s->k)) : expr_int(p, s->k);
}

/* ---- trends ------------------------------------------------------------------------------------------------------ */
static trend both(trend a, trend b)
{
    if (a == TREND_NONE || a == b) return b;
    return b == TREND_NONE ? a : TREND_UNKNOWN;
}
static trend turned(trend a) { return a == TREND_UNKNOWN ? a : (trend)-a; }

/* a times (or divided by) something with this range. */
static trend scaled(const expr_pool *p, trend a, expr factor, bool strictly)
{
    int_range r;
    if (a == TREND_NONE) return a;
    if (!expr_range(p, factor, EXPR_MAX_POSITION, &r)) return TREND_UNKNOWN;
    if (r.lo >= strictly) return a;
    return r.hi <= -(int)strictly ? turned(a) : TREND_UNKNOWN;
}

trend expr_trend(const expr_pool *p, expr e, expr x)
{
    if (e == x) return TREND_RISES;
    if (e < x) return TREND_NONE;
    const expr_node *n = expr_get(p, e);
    trend t[3] = {TREND_NONE, TREND_NONE, TREND_NONE};
    bool moves = false;
    for (unsigned i = 0; i < n->nargs; i++) {
        trend a = expr_trend(p, n->arg[i], x);
        moves |= a != TREND_NONE;
        if (i < 3) t[i] = a;
    }
    if (!moves) return TREND_NONE;
    if (n->op == EXPR_ADD || n->op == EXPR_MIN || n->op == EXPR_MAX) return both(t[0], t[1]);
    if (n->op == EXPR_SUB) return both(t[0], turned(t[1]));
    if (n->op == EXPR_MUL && t[1] == TREND_NONE) return scaled(p, t[0], n->arg[1], false);
    if (n->op == EXPR_MUL && t[0] == TREND_NONE) return scaled(p, t[1], n->arg[0], false);
    if (n->op == EXPR_DIV && t[1] == TREND_NONE) return scaled(p, t[0], n->arg[1], true);
    if (n->op == EXPR_IF && t[0] == TREND_NONE) return both(t[1], t[2]);
    return TREND_UNKNOWN;
}

/* ---- proofs ------------------------------------------------------------------------------------------------------ */
enum { PROOF_MAX_TREE = 64, PROOF_MAX_DEPTH = 5 };

/* T(q1) - T(q0) >= 0 for a rising T, and the reverse for a falling one: takes such pairs out of the sum. */
static void drop_ordered_pairs(expr_pool *p, sum *s)
{
    expr q0 = expr_variable(p, VAR_Q0), q1 = expr_variable(p, VAR_Q1);
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->t[i].c >= 0) continue;
        bool low = expr_reads_var(p, s->t[i].x, VAR_Q0);
        expr from = low ? q0 : q1;
        if (expr_trend(p, s->t[i].x, from) != (low ? TREND_RISES : TREND_FALLS)) continue;
        expr twin = expr_substitute(p, s->t[i].x, low ? VAR_Q0 : VAR_Q1, low ? q1 : q0);
        for (uint32_t j = 0; j < s->n; j++) {
            if (s->t[j].x != twin || s->t[j].c <= 0) continue;
            int64_t m = s->t[j].c < -s->t[i].c ? s->t[j].c : -s->t[i].c;
            s->t[i].c += m, s->t[j].c -= m; /* terms of factor 0 stay until the sum is used */
        }
    }
}

/* n * floor(a / n) = a - a % n */
static sum without_floors(expr_pool *p, const sum *s)
{
    sum r = {.k = s->k, .ok = s->ok};
    for (uint32_t i = 0; i < s->n; i++) {
        expr_node x = *expr_get(p, s->t[i].x);
        int64_t n, c = s->t[i].c;
        if (x.op == EXPR_DIV && expr_is_const(p, x.arg[1], &n) && n > 0 && c % n == 0) {
            sum_add(p, &r, x.arg[0], c / n);
            sum_add_term(&r, expr_binary(p, EXPR_MOD, x.arg[0], x.arg[1]), -(c / n));
        } else {
            sum_add_term(&r, s->t[i].x, c);
        }
    }
    return r;
}

static bool never_negative(expr_pool *p, sum s)
{
    if (!s.ok) return false;
    drop_ordered_pairs(p, &s);
    int64_t least = s.k;
    for (uint32_t i = 0; i < s.n; i++) {
        int_range r;
        int64_t product;
        if (s.t[i].c == 0) continue;
        if (!expr_range(p, s.t[i].x, EXPR_MAX_POSITION, &r)) return false;
        if (__builtin_mul_overflow(s.t[i].c, s.t[i].c > 0 ? r.lo : r.hi, &product)) return false;
        if (__builtin_add_overflow(least, product, &least)) return false;
    }
    return least >= 0;
}

static bool proves(expr_pool *p, expr a, expr b, int depth)
{
    int_range x, y;
    if (a == b) return true;
    if (expr_range(p, a, EXPR_MAX_POSITION, &x) && expr_range(p, b, EXPR_MAX_POSITION, &y)) {
        if (x.hi <= y.lo) return true;
        if (x.lo > y.hi) return false;
    }
    if (expr_tree_size(p, a) > PROOF_MAX_TREE || expr_tree_size(p, b) > PROOF_MAX_TREE || depth > PROOF_MAX_DEPTH)
        return false;
    expr_node n = *expr_get(p, a), m = *expr_get(p, b);
    if (n.op == EXPR_MAX) return proves(p, n.arg[0], b, depth + 1) && proves(p, n.arg[1], b, depth + 1);
    if (m.op == EXPR_MIN) return proves(p, a, m.arg[0], depth + 1) && proves(p, a, m.arg[1], depth + 1);
    if (n.op == EXPR_MIN) return proves(p, n.arg[0], b, depth + 1) || proves(p, n.arg[1], b, depth + 1);
    if (m.op == EXPR_MAX) return proves(p, a, m.arg[0], depth + 1) || proves(p, a, m.arg[1], depth + 1);
    if (n.op == EXPR_IF) return proves(p, n.arg[1], b, depth + 1) && proves(p, n.arg[2], b, depth + 1);
    if (m.op == EXPR_IF) return proves(p, a, m.arg[1], depth + 1) && proves(p, a, m.arg[2], depth + 1);
    sum d = sum_of(p, b);
    sum_add(p, &d, a, -1);
    return never_negative(p, d) || never_negative(p, without_floors(p, &d));
}

bool expr_proves_le(expr_pool *p, expr a, expr b) { return proves(p, a, b, 0); }
