/* ranges_atom.c - one comparison d(q, k) >= 0: bounded over the rows, then solved for the keys. */
#include "ir/pattern/analysis.h"
#include "ir/pattern/pool.h"

typedef enum outcome { BOUNDED, UNBOUNDED, FAILED } outcome;

/* What bounding one term over rows or keys can come to. */
typedef struct solver {
    analysis *a;
    expr_pool *p;
    ranges_list kind;
    bool loose; /* a bound was taken that is not exact on single rows */
} solver;

static bool range_of(const solver *s, expr e, int_range *r) { return expr_range(s->p, e, EXPR_MAX_POSITION, r); }
static bool depends(const solver *s, expr e, unsigned on) { return expr_depends(s->p, e) & on; }
static bool at_least_one(const solver *s, expr n)
{
    int_range r;
    return range_of(s, n, &r) && r.lo >= 1;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */
/* a % n over the rows: exact while a stays in one block of n, else [0, n - 1]. */
static expr remainder_extreme(solver *s, expr x, bool greatest)
{
    expr_node n = *expr_get(s->p, x);
    trend t = expr_trend(s->p, n.arg[0], s->a->q);
    expr edge = greatest ? expr_binary(s->p, EXPR_ADD, n.arg[1], expr_int(s->p, -1)) : expr_int(s->p, 0);
    if (s->kind == RANGES_LIVE) return edge;
    expr first = expr_substitute(s->p, n.arg[0], VAR_Q, s->a->q0),
         last = expr_substitute(s->p, n.arg[0], VAR_Q, s->a->q1);
    expr one_block = expr_binary(s->p, EXPR_EQ, expr_binary(s->p, EXPR_DIV, first, n.arg[1]),
                                 expr_binary(s->p, EXPR_DIV, last, n.arg[1]));
    expr end = (t == TREND_RISES) == greatest ? last : first;
    return expr_if(s->p, one_block, expr_binary(s->p, EXPR_MOD, end, n.arg[1]), edge);
}

/* Extreme of a term that does not simply rise or fall with q; 0: none known. */
static expr irregular_extreme(solver *s, expr x, bool greatest)
{
    expr_node n = *expr_get(s->p, x);
    int_range r;
    bool with_keys = depends(s, x, DEPENDS_KEY);
    if (n.op == EXPR_MOD && !with_keys && !depends(s, n.arg[1], DEPENDS_ROW) && at_least_one(s, n.arg[1])) {
        trend t = expr_trend(s->p, n.arg[0], s->a->q);
        if (t == TREND_RISES || t == TREND_FALLS) return remainder_extreme(s, x, greatest);
    }
    if (!range_of(s, x, &r)) return 0;
    expr edge = expr_int(s->p, greatest ? r.hi : r.lo);
    s->loose |= with_keys;
    if (with_keys || s->kind == RANGES_LIVE) return edge;
    expr one_row = expr_binary(s->p, EXPR_EQ, s->a->q0, s->a->q1);
    return expr_if(s->p, one_row, expr_substitute(s->p, x, VAR_Q, s->a->q0), edge);
}

static outcome add_row_extreme(solver *s, sum *out, const term *t)
{
    bool greatest = (t->c > 0) == (s->kind != RANGES_MUST);
    trend way = expr_trend(s->p, t->x, s->a->q);
    expr at;
    if (way == TREND_RISES || way == TREND_FALLS) {
        bool last = (way == TREND_RISES) == greatest;
        if (last && s->kind == RANGES_LIVE) return UNBOUNDED; /* some later row will do */
        at = expr_substitute(s->p, t->x, VAR_Q, last ? s->a->q1 : s->a->q0);
    } else {
        at = irregular_extreme(s, t->x, greatest);
    }
    if (!at) return FAILED;
    sum_add(s->p, out, at, t->c);
    return out->ok ? BOUNDED : FAILED;
}

/* The greatest (may, live) or least (must) value that d takes over the rows, as a sum over keys and uniform things. */
static outcome bound_rows(solver *s, const sum *d, sum *out)
{
    outcome r = BOUNDED;
    *out = sum_const(d->k);
    for (uint32_t i = 0; i < d->n && r != FAILED; i++) {
        const term *t = &d->t[i];
        outcome one = BOUNDED;
        if (depends(s, t->x, DEPENDS_ROW))
            one = add_row_extreme(s, out, t);
        else
            sum_add_term(out, t->x, t->c);
        if (one != BOUNDED) r = one;
    }
    return out->ok ? r : FAILED;
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */
/* Terms over keys that neither rise nor fall are replaced by their extreme. */
static bool bound_irregular_keys(solver *s, sum *d)
{
    expr k = expr_variable(s->p, VAR_K);
    sum r = sum_const(d->k);
    for (uint32_t i = 0; i < d->n; i++) {
        const term *t = &d->t[i];
        trend way = depends(s, t->x, DEPENDS_KEY) ? expr_trend(s->p, t->x, k) : TREND_RISES;
        int_range range;
        if (way == TREND_RISES || way == TREND_FALLS) {
            sum_add_term(&r, t->x, t->c);
        } else {
            if (!range_of(s, t->x, &range)) return false;
            s->loose = true;
            sum_add(s->p, &r, expr_int(s->p, (t->c > 0) == (s->kind != RANGES_MUST) ? range.hi : range.lo), t->c);
        }
    }
    *d = r;
    return r.ok;
}

/* Index of the only term over keys; -1: none, -2: several. */
static int key_term(const solver *s, const sum *d)
{
    int found = -1;
    for (uint32_t i = 0; i < d->n; i++) {
        if (!depends(s, d->t[i].x, DEPENDS_KEY)) continue;
        if (found != -1) return -2;
        found = (int)i;
    }
    return found;
}

/* c * x + rest >= 0 with a positive n = |c|: x >= ceil(-rest / n) or x <= floor(rest / n). */
static sum solve_factor(solver *s, sum rest, int64_t c)
{
    if (c == INT64_MIN || !rest.ok) {
        rest.ok = false;
        return rest;
    }
    sum bound = sum_const(c > 0 ? c - 1 : 0);
    sum_add_sum(&bound, &rest, c > 0 ? -1 : 1);
    if (!bound.ok) return bound;
    return sum_of(s->p, expr_binary(s->p, EXPR_DIV, sum_rebuild(s->p, &bound), expr_int(s->p, c > 0 ? c : -c)));
}

/* s += n * m for an expression n. */
static void add_times(solver *s, sum *to, expr n, const sum *m, int64_t c)
{
    to->ok &= m->ok;
    if (to->ok) sum_add(s->p, to, expr_binary(s->p, EXPR_MUL, sum_rebuild(s->p, m), n), c);
}

/* x >= m (up) or x <= m for x = floor(a / n): a >= n m, or a <= n m + n - 1; again as a sum >= 0. */
static sum open_quotient(solver *s, const expr_node *x, const sum *m, bool up)
{
    sum d = sum_of(s->p, x->arg[0]);
    if (up) {
        add_times(s, &d, x->arg[1], m, -1);
        return d;
    }
    sum r = sum_const(-1);
    add_times(s, &r, x->arg[1], m, 1);
    sum_add(s->p, &r, x->arg[1], 1);
    sum_add_sum(&r, &d, -1);
    return r;
}

/* The same for x = y * u with a uniform u >= 1: y >= ceil(m / u), or y <= floor(m / u). */
static sum open_product(solver *s, expr y, expr u, const sum *m, bool up)
{
    sum top = *m, r = sum_of(s->p, y);
    if (up) sum_add(s->p, &top, u, 1), sum_add_sum(&top, &(sum){.k = 1, .ok = true}, -1);
    if (!top.ok || !r.ok) return (sum){.ok = false};
    expr quotient = expr_binary(s->p, EXPR_DIV, sum_rebuild(s->p, &top), u);
    if (up) {
        sum_add(s->p, &r, quotient, -1);
        return r;
    }
    sum d = sum_of(s->p, quotient);
    sum_add_sum(&d, &r, -1);
    return d;
}

static sum open_term(solver *s, expr x, const sum *m, bool up)
{
    expr_node n = *expr_get(s->p, x);
    bool uniform[2] = {n.nargs == 2 && !depends(s, n.arg[0], DEPENDS_KEY),
                       n.nargs == 2 && !depends(s, n.arg[1], DEPENDS_KEY)};
    if (n.op == EXPR_DIV && uniform[1] && at_least_one(s, n.arg[1])) return open_quotient(s, &n, m, up);
    if (n.op == EXPR_MUL && uniform[1] && at_least_one(s, n.arg[1])) return open_product(s, n.arg[0], n.arg[1], m, up);
    if (n.op == EXPR_MUL && uniform[0] && at_least_one(s, n.arg[0])) return open_product(s, n.arg[1], n.arg[0], m, up);
    return (sum){.ok = false};
}

/* d >= 0 for a d without keys, written with what is negative on the left when all is. 0: not expressible. */
static expr condition(solver *s, sum d)
{
    bool falls = true;
    for (uint32_t i = 0; i < d.n; i++) falls &= d.t[i].c < 0;
    int64_t k = d.k;
    if (k == INT64_MIN) return 0;
    d.k = 0;
    sum minus = sum_const(0);
    sum_add_sum(&minus, &d, -1);
    if (!minus.ok) return 0;
    expr e = falls ? expr_binary(s->p, EXPR_LE, sum_rebuild(s->p, &minus), expr_int(s->p, k))
                   : expr_binary(s->p, EXPR_LE, expr_int(s->p, -k), sum_rebuild(s->p, &d));
    return expr_simplify_by_range(s->p, e);
}

/* d >= 0 as a condition on the tile, or as a half line of keys found from the outside in. */
static bool solve_keys(solver *s, sum d, piece *out)
{
    *out = (piece){.when = s->a->always};
    for (int step = 0; step < LINEAR_MAX_TREE && d.ok; step++) {
        int at = key_term(s, &d);
        if (at == -2) return false;
        if (at == -1) {
            out->when = condition(s, d);
            return out->when && piece_fits(s->a, out);
        }
        term t = d.t[at];
        d.t[at] = d.t[--d.n];
        sum m = solve_factor(s, d, t.c);
        if (!m.ok) return false;
        if (pool_op(s->p, t.x) == EXPR_VAR) {
            *(t.c > 0 ? &out->lo : &out->hi) = sum_rebuild(s->p, &m);
            return piece_fits(s->a, out);
        }
        d = open_term(s, t.x, &m, t.c > 0);
    }
    return false;
}

static piece_list solve(analysis *a, const sum *d, ranges_list kind, bool *decided)
{
    solver s = {.a = a, .p = a->pool, .kind = kind};
    sum bound;
    piece x;
    outcome rows = d->ok ? bound_rows(&s, d, &bound) : FAILED;
    if (rows == UNBOUNDED) return list_all(a);
    if (rows == FAILED || !bound_irregular_keys(&s, &bound) || !solve_keys(&s, bound, &x)) {
        *decided = false;
        return kind == RANGES_MUST ? list_none() : list_all(a);
    }
    if (s.loose) *decided = false;
    int_range r;
    bool never = expr_range(a->pool, x.when, EXPR_MAX_POSITION, &r) && r.hi == 0;
    return never ? list_none() : list_one(a, x);
}

lists atom_lists(analysis *a, expr d, bool *decided)
{
    sum s = sum_of(a->pool, d);
    lists r;
    for (int kind = RANGES_MAY; kind <= RANGES_LIVE; kind++) r.of[kind] = solve(a, &s, (ranges_list)kind, decided);
    return r;
}
