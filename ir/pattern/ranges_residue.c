/* ranges_residue.c - comparisons that say which remainder a key leaves: (a * k + b) % n == r.
 *
 *     every(64, 3)    (k + 3) % 64 == 0    keys 61, 125, ..: an interval with a step, the same for all rows
 *     stride(64)      (q - k) % 64 == 0    the same for a single row, and for rows 64 apart; others may see anything
 *
 * n is the same for the whole tile and at least 1; a is 1 or -1, or n a constant and a any. */
#include "ir/pattern/analysis.h"
#include "ir/pattern/pool.h"

#define MOST_STEP ((int64_t)1 << 30) /* longer ones leave one key of a sequence; and products of two fit 64 bits */

/* a * k leaves the remainder of f when divided by n. */
typedef struct congruence {
    int64_t a;
    sum f;
    expr n, when; /* the remainder that was asked for is one */
} congruence;

static bool depends(const analysis *a, expr e, unsigned on) { return expr_depends(a->pool, e) & on; }

/* The only term over keys, taken out of d; false: there is none, or several. */
static bool take_key_term(const analysis *a, sum *d, term *out)
{
    uint32_t found = SUM_MAX_TERMS;
    for (uint32_t i = 0; i < d->n; i++) {
        if (!depends(a, d->t[i].x, DEPENDS_KEY)) continue;
        if (found < SUM_MAX_TERMS) return false;
        found = i;
    }
    if (found == SUM_MAX_TERMS) return false;
    *out = d->t[found];
    d->t[found] = d->t[--d->n];
    return true;
}

/* 0 <= r < n, or 0 where it cannot be said. */
static expr is_remainder(const analysis *a, const sum *r, expr n)
{
    const expr e = sum_rebuild(a->pool, r), zero = expr_int(a->pool, 0);
    if (!e) return 0;
    const expr both =
        expr_binary(a->pool, EXPR_AND, expr_binary(a->pool, EXPR_LE, zero, e), expr_binary(a->pool, EXPR_LT, e, n));
    return expr_simplify_by_range(a->pool, both);
}

static bool find_congruence(const analysis *a, expr d, congruence *out)
{
    sum rest = sum_of(a->pool, d), inside, r = sum_const(0);
    term modulo, key;
    int_range range;
    if (!rest.ok || !take_key_term(a, &rest, &modulo) || (modulo.c != 1 && modulo.c != -1)) return false;
    const expr_node n = *expr_get(a->pool, modulo.x);
    if (n.op != EXPR_MOD || depends(a, n.arg[1], DEPENDS_ROW | DEPENDS_KEY)) return false;
    if (!expr_range(a->pool, n.arg[1], EXPR_MAX_POSITION, &range)) return false;
    if (range.lo < 1 || range.hi > INT32_MAX) return false;
    inside = sum_of(a->pool, n.arg[0]);
    if (!inside.ok || !take_key_term(a, &inside, &key) || pool_op(a->pool, key.x) != EXPR_VAR) return false;
    sum_add_sum(&r, &rest, -modulo.c);
    *out = (congruence){.a = key.c, .f = r, .n = n.arg[1], .when = is_remainder(a, &r, n.arg[1])};
    sum_add_sum(&out->f, &inside, -1);
    return out->when && out->f.ok;
}

/* b with a * b % n == 1, for an a that has no factor in common with n; 0 <= b < n <= MOST_STEP. */
static int64_t inverse(int64_t a, int64_t n)
{
    int64_t r0 = n, r1 = int_floor_mod(a, n), b0 = 0, b1 = 1;
    while (r1) {
        const int64_t q = r0 / r1, r = r0 - q * r1, b = b0 - q * b1;
        r0 = r1, r1 = r, b0 = b1, b1 = b;
    }
    return int_floor_mod(b0, n);
}

static expr modulo_of(analysis *a, expr e, expr n)
{
    sum s = sum_of(a->pool, expr_binary(a->pool, EXPR_MOD, e, n));
    return s.ok ? sum_rebuild(a->pool, &s) : expr_binary(a->pool, EXPR_MOD, e, n);
}

/* The keys of one row, or of all: a piece, solved for k. */
static bool solve(analysis *a, const congruence *c, piece *out)
{
    expr_pool *p = a->pool;
    expr f = sum_rebuild(p, &c->f);
    int64_t n;
    *out = (piece){.when = c->when, .step = c->n};
    if (!f) return false;
    if (c->a == 1 || c->a == -1) {
        out->at = modulo_of(a, c->a == 1 ? f : expr_negate(p, f), c->n);
        return true;
    }
    if (!expr_is_const(p, c->n, &n) || n > MOST_STEP || c->a == INT64_MIN) return false;
    const int64_t g = int_gcd(c->a, n), step = n / g;
    const expr by = expr_int(p, g), divides = expr_binary(p, EXPR_EQ, modulo_of(a, f, by), expr_int(p, 0));
    const expr quotient = modulo_of(a, expr_binary(p, EXPR_DIV, f, by), expr_int(p, step));
    out->when = expr_binary(p, EXPR_AND, out->when, divides);
    out->step = expr_int(p, step);
    out->at = modulo_of(a, expr_binary(p, EXPR_MUL, quotient, expr_int(p, inverse(c->a / g, step))), out->step);
    return true;
}

static expr at_row(const analysis *a, expr e) { return expr_substitute(a->pool, e, VAR_Q, a->q0); }

static expr divides(const analysis *a, int64_t n, expr x)
{
    return expr_binary(a->pool, EXPR_EQ, expr_binary(a->pool, EXPR_MOD, x, expr_int(a->pool, n)), expr_int(a->pool, 0));
}

/* How f moves with the row; false: not by a constant. */
static bool row_factor(const analysis *a, const congruence *c, int64_t *out)
{
    *out = 0;
    for (uint32_t i = 0; i < c->f.n; i++) {
        if (!depends(a, c->f.t[i].x, DEPENDS_ROW)) continue;
        if (c->f.t[i].x != a->q) return false;
        *out = c->f.t[i].c;
    }
    return true;
}

/* How far apart rows are of which c says the same: f moves by a multiple of n. -1: nobody knows. */
static int64_t period_of(const analysis *a, const congruence *c)
{
    int64_t n, by;
    if (depends(a, c->when, DEPENDS_ROW) || !expr_is_const(a->pool, c->n, &n) || n > MOST_STEP ||
        !row_factor(a, c, &by))
        return -1;
    return n / int_gcd(by % n, n);
}

static int64_t without_factor(int64_t n)
{
    for (int64_t f = 2; f * f <= n; f++)
        if (n % f == 0) return n / f;
    return 1;
}

/* Rows that leave several remainders when divided by n may leave one when divided by n / 2, or n / 4 ..: it holds for
 * the keys too. */
static piece agree_in_part(const analysis *a, const congruence *c, const piece *x, expr agree)
{
    expr_pool *p = a->pool;
    int64_t n = 0, by, divisor[8];
    int count = 0;
    piece r = {.when = expr_unary(p, EXPR_NOT, agree), .of_several = true};
    if ((c->a != 1 && c->a != -1) || !row_factor(a, c, &by) || !expr_is_const(p, c->n, &n) || n > MOST_STEP) return r;
    for (n = without_factor(n); n > 1 && count < 8; n = without_factor(n)) divisor[count++] = n;
    expr step = expr_int(p, 1);
    while (count-- > 0)
        step = expr_if(p, divides(a, divisor[count] / int_gcd(by, divisor[count]), a->row_step),
                       expr_int(p, divisor[count]), step);
    r.step = expr_if(p, expr_binary(p, EXPR_LT, expr_int(p, 0), a->row_step), step, expr_int(p, 1));
    r.at = expr_binary(p, EXPR_MOD, x->at, r.step);
    return piece_fits(a, &r) ? r : (piece){.when = r.when, .of_several = true};
}

/* Little is known of several rows that need not agree. */
static bool of_rows(analysis *a, const congruence *c, piece x, lists *out)
{
    expr_pool *p = a->pool;
    expr agree = expr_binary(p, EXPR_EQ, a->q0, a->q1);
    const int64_t period = period_of(a, c);
    if (period > 0) {
        const expr apart = expr_binary(p, EXPR_LT, expr_int(p, 0), a->row_step);
        agree = expr_binary(p, EXPR_OR, agree, expr_binary(p, EXPR_AND, apart, divides(a, period, a->row_step)));
    }
    x = (piece){.when = expr_binary(p, EXPR_AND, agree, at_row(a, x.when)), .step = x.step, .at = at_row(a, x.at)};
    if (!piece_fits(a, &x)) return false;
    const piece any = agree_in_part(a, c, &x, agree);
    out->of[RANGES_LIVE] = list_all(a);
    out->of[RANGES_MUST] = list_one(a, x);
    out->of[RANGES_MAY] = list_join(a, RANGES_MAY, out->of[RANGES_MUST], list_one(a, any));
    a->period = period;
    return true;
}

uint32_t residue_row_step(const analysis *a)
{
    enum { MOST = 1 << 16 }; /* texts are not much longer than so many rows of each remainder */
    int64_t step = a->by_rows.n ? 1 : 0;
    for (size_t i = 0; i < a->by_rows.n; i++) {
        const int64_t n = a->by_rows.at[i].period;
        if (n < 1) return 0;
        step = step / int_gcd(step, n) * n;
        if (step > MOST) return 0;
    }
    return (uint32_t)step;
}

bool residue_lists(analysis *a, expr d, lists *out)
{
    congruence c;
    piece x;
    if (!find_congruence(a, d, &c) || !solve(a, &c, &x) || !piece_fits(a, &x)) return false;
    if (depends(a, x.at, DEPENDS_ROW) || depends(a, x.when, DEPENDS_ROW)) return of_rows(a, &c, x, out);
    int64_t one;
    if (expr_is_const(a->pool, x.step, &one) && one == 1) x.step = x.at = 0;
    int_range r;
    const bool never = expr_range(a->pool, x.when, EXPR_MAX_POSITION, &r) && r.hi == 0;
    const piece_list l = never ? list_none() : list_one(a, x), alive = never ? l : list_one(a, (piece){.when = x.when});
    *out = (lists){{l, l, alive}};
    return true;
}

/* k = x.at + x.step * j, and for j the remainder when divided by what y.step has beside common factors. */
bool residue_meet(analysis *a, const piece *x, const piece *y, piece *out)
{
    expr_pool *p = a->pool;
    int64_t n, m;
    if (!expr_is_const(p, x->step, &n) || !expr_is_const(p, y->step, &m) || n > MOST_STEP || m > MOST_STEP)
        return false;
    const int64_t g = int_gcd(n, m), other = m / g;
    if (n > MOST_STEP / other) return false;
    const expr away = expr_binary(p, EXPR_SUB, y->at, x->at), by = expr_int(p, g);
    const expr agree = expr_binary(p, EXPR_EQ, modulo_of(a, away, by), expr_int(p, 0));
    const expr quotient = modulo_of(a, expr_binary(p, EXPR_DIV, away, by), expr_int(p, other));
    const expr j =
        modulo_of(a, expr_binary(p, EXPR_MUL, quotient, expr_int(p, inverse(n / g, other))), expr_int(p, other));
    out->when = expr_binary(p, EXPR_AND, out->when, agree);
    out->step = expr_int(p, n * other);
    out->at = expr_binary(p, EXPR_ADD, x->at, expr_binary(p, EXPR_MUL, j, x->step));
    return true;
}
