/* expr_range.c - interval arithmetic: the values an expression can take. Sound, never tight by luck. */
#include "ir/pattern/pool.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_HEAD_OR_LAYER = 1 << 20 };

static value_range int_between(int64_t lo, int64_t hi) { return (value_range){.i = {lo, hi}, .fits = true}; }
static value_range float_between(double lo, double hi, bool nan)
{
    return (value_range){.f = {lo, hi, nan}, .fits = true};
}
static const value_range does_not_fit = {.i = {INT64_MIN, INT64_MAX}, .f = {-INFINITY, INFINITY, true}, .fits = false};
static value_range any_float(void) { return float_between(-(double)INFINITY, (double)INFINITY, true); }

/* ---- leaves ------------------------------------------------------------------------------------------------------ */
static value_range variable_range(expr_var v, int64_t max_position)
{
    if (v == VAR_S) return any_float();
    if (v == VAR_SWEEP) return int_between(0, 2);
    return int_between(0, v == VAR_H || v == VAR_G || v == VAR_LAYER ? MAX_HEAD_OR_LAYER : max_position);
}

static value_range table_range(const table *t)
{
    bool is_int = t->type == TYPE_INT;
    if (!t->value) return is_int ? int_between(INT32_MIN, INT32_MAX) : any_float();
    double lo = 0, hi = 0; /* an index outside gives 0 */
    bool nan = false;
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->extent[i];
    for (int64_t i = 0; i < n; i++) {
        lo = fmin(lo, t->value[i]);
        hi = fmax(hi, t->value[i]);
        nan |= isnan(t->value[i]);
    }
    return is_int ? int_between((int64_t)lo, (int64_t)hi) : float_between(lo, hi, nan);
}

static value_range leaf_range(const expr_pool *p, const expr_node *n, int64_t max_position)
{
    if (n->op == EXPR_VAR) return variable_range((expr_var)n->index, max_position);
    if (n->op == EXPR_ATTR) return int_between(INT32_MIN, INT32_MAX);
    if (n->op == EXPR_DATA) return int_between(0, 1);
    if (n->op == EXPR_CONST && n->type == TYPE_FLOAT)
        return isnan(n->value.f) ? any_float() : float_between(n->value.f, n->value.f, false);
    if (n->op == EXPR_CONST) return int_between(n->value.i, n->value.i);
    return table_range(&p->symbols->tables.at[n->index]);
}

/* ---- integers ---------------------------------------------------------------------------------------------------- */
static int64_t least(const int64_t *x, unsigned n)
{
    int64_t r = x[0];
    for (unsigned i = 1; i < n; i++) r = x[i] < r ? x[i] : r;
    return r;
}
static int64_t greatest(const int64_t *x, unsigned n)
{
    int64_t r = x[0];
    for (unsigned i = 1; i < n; i++) r = x[i] > r ? x[i] : r;
    return r;
}

static value_range mul_range(int_range a, int_range b)
{
    int64_t x[4];
    bool over = __builtin_mul_overflow(a.lo, b.lo, &x[0]);
    over |= __builtin_mul_overflow(a.lo, b.hi, &x[1]);
    over |= __builtin_mul_overflow(a.hi, b.lo, &x[2]);
    over |= __builtin_mul_overflow(a.hi, b.hi, &x[3]);
    return over ? does_not_fit : int_between(least(x, 4), greatest(x, 4));
}

/* Floor division by divisors that do not include 0 inside: extremes lie at the ends of both. */
static value_range div_range(int_range a, int_range b)
{
    if (a.lo == INT64_MIN && b.lo <= -1 && b.hi >= -1) return does_not_fit;
    int64_t x[9];
    unsigned n = 0;
    if (b.lo <= 0 && b.hi >= 0) x[n++] = 0; /* a zero divisor gives 0 */
    const int_range part[2] = {{b.lo, b.hi < -1 ? b.hi : -1}, {b.lo > 1 ? b.lo : 1, b.hi}};
    for (unsigned i = 0; i < 2; i++) {
        if (part[i].lo > part[i].hi) continue;
        x[n++] = int_floor_div(a.lo, part[i].lo);
        x[n++] = int_floor_div(a.lo, part[i].hi);
        x[n++] = int_floor_div(a.hi, part[i].lo);
        x[n++] = int_floor_div(a.hi, part[i].hi);
    }
    return int_between(least(x, n), greatest(x, n));
}

static value_range mod_range(int_range a, int_range b)
{
    if (b.lo >= 1 && a.lo >= 0 && a.hi < b.lo) return int_between(a.lo, a.hi);
    if (b.lo == b.hi && b.lo >= 1 && int_floor_div(a.lo, b.lo) == int_floor_div(a.hi, b.lo))
        return int_between(int_floor_mod(a.lo, b.lo), int_floor_mod(a.hi, b.lo));
    int64_t lo = b.lo < 0 ? b.lo + 1 : 0, hi = b.hi > 0 ? b.hi - 1 : 0;
    if (a.lo >= 0 && lo == 0 && a.hi < hi) hi = a.hi;
    return int_between(lo, hi);
}

static value_range add_range(int_range a, int_range b, bool minus)
{
    int64_t lo, hi;
    bool over = minus ? __builtin_sub_overflow(a.lo, b.hi, &lo) : __builtin_add_overflow(a.lo, b.lo, &lo);
    over |= minus ? __builtin_sub_overflow(a.hi, b.lo, &hi) : __builtin_add_overflow(a.hi, b.hi, &hi);
    return over ? does_not_fit : int_between(lo, hi);
}

static value_range abs_range(int_range a)
{
    if (a.lo == INT64_MIN) return does_not_fit;
    int64_t lo = a.lo > 0 ? a.lo : a.hi < 0 ? -a.hi : 0, hi = -a.lo > a.hi ? -a.lo : a.hi;
    return int_between(lo, hi);
}

static value_range compare_range(expr_op op, int_range a, int_range b)
{
    bool always, never;
    if (op == EXPR_LT)
        always = a.hi < b.lo, never = a.lo >= b.hi;
    else if (op == EXPR_LE)
        always = a.hi <= b.lo, never = a.lo > b.hi;
    else
        always = a.lo == a.hi && b.lo == b.hi && a.lo == b.lo, never = a.hi < b.lo || b.hi < a.lo;
    return int_between(always, !never);
}

static value_range int_op_range(expr_op op, int_range a, int_range b)
{
    switch ((int)op) { /* the operations over integers and booleans; the caller sorts out the rest */
    case EXPR_NOT:
        return int_between(1 - a.hi, 1 - a.lo);
    case EXPR_AND:
        return int_between(a.lo & b.lo, a.hi & b.hi);
    case EXPR_OR:
        return int_between(a.lo | b.lo, a.hi | b.hi);
    case EXPR_LT:
    case EXPR_LE:
    case EXPR_EQ:
        return compare_range(op, a, b);
    case EXPR_ADD:
        return add_range(a, b, false);
    case EXPR_SUB:
        return add_range(a, b, true);
    case EXPR_MUL:
        return mul_range(a, b);
    case EXPR_DIV:
        return div_range(a, b);
    case EXPR_MOD:
        return mod_range(a, b);
    case EXPR_MIN:
        return int_between(a.lo < b.lo ? a.lo : b.lo, a.hi < b.hi ? a.hi : b.hi);
    case EXPR_MAX:
        return int_between(a.lo > b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi);
    case EXPR_ABS:
        return abs_range(a);
    case EXPR_FLOAT:
        return float_between(nextafterf((float)a.lo, -INFINITY), nextafterf((float)a.hi, INFINITY), false);
    }
    ATTNC_UNREACHABLE();
}

/* ---- floats: ends are widened a little, because kernels compute in f32 ------------------------------------------- */
static value_range widened(double lo, double hi, bool nan)
{
    if (isnan(lo) || isnan(hi)) return any_float();
    lo -= fabs(lo) * 1e-5 + 1e-30;
    hi += fabs(hi) * 1e-5 + 1e-30;
    return float_between(lo, hi, nan);
}

static value_range product_range(float_range a, float_range b)
{
    double x[4] = {a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi};
    bool zero_times_inf = isnan(x[0]) || isnan(x[1]) || isnan(x[2]) || isnan(x[3]) ||
                          ((isinf(a.lo) || isinf(a.hi)) && b.lo <= 0 && b.hi >= 0) ||
                          ((isinf(b.lo) || isinf(b.hi)) && a.lo <= 0 && a.hi >= 0);
    if (zero_times_inf) return any_float();
    return widened(fmin(fmin(x[0], x[1]), fmin(x[2], x[3])), fmax(fmax(x[0], x[1]), fmax(x[2], x[3])), a.nan || b.nan);
}

static value_range sum_range(float_range a, float_range b)
{
    bool nan = a.nan || b.nan || (isinf(a.lo) && isinf(b.hi)) || (isinf(a.hi) && isinf(b.lo));
    return widened(a.lo + b.lo, a.hi + b.hi, nan);
}

static value_range floor_range(float_range a)
{
    expr_value lo = expr_apply(EXPR_FLOOR, &(expr_value){.f = a.lo}),
               hi = expr_apply(EXPR_FLOOR, &(expr_value){.f = a.hi});
    if (a.nan && lo.i > 0) lo.i = 0; /* floor(nan) = 0 */
    if (a.nan && hi.i < 0) hi.i = 0;
    return int_between(lo.i, hi.i);
}

/* f rises; below `from` it has no value. */
static value_range rising_range(double f(double), float_range a, double from)
{
    if (a.hi < from) return any_float();
    return widened(f(a.lo < from ? from : a.lo), f(a.hi), a.nan || a.lo < from);
}

/* min and max skip a NaN: then any value of the other operand may come out. */
static value_range pick_range(float_range a, float_range b, bool least_one)
{
    double lo = least_one ? fmin(a.lo, b.lo) : a.nan || b.nan ? fmin(a.lo, b.lo) : fmax(a.lo, b.lo);
    double hi = !least_one ? fmax(a.hi, b.hi) : a.nan || b.nan ? fmax(a.hi, b.hi) : fmin(a.hi, b.hi);
    return float_between(lo, hi, a.nan && b.nan);
}

static value_range float_op_range(expr_op op, float_range a, float_range b)
{
    switch ((int)op) {
    case EXPR_FLT:
    case EXPR_FLE:
    case EXPR_FEQ:
        return int_between(0, 1);
    case EXPR_FLOOR:
        return floor_range(a);
    case EXPR_FADD:
        return sum_range(a, b);
    case EXPR_FSUB:
        return sum_range(a, (float_range){-b.hi, -b.lo, b.nan});
    case EXPR_FMUL:
        return product_range(a, b);
    case EXPR_FDIV:
        if (b.lo <= 0 && b.hi >= 0) return any_float();
        return product_range(a, widened(1 / b.hi, 1 / b.lo, b.nan).f);
    case EXPR_FMIN:
        return pick_range(a, b, true);
    case EXPR_FMAX:
        return pick_range(a, b, false);
    case EXPR_FABS:
        return float_between(a.lo > 0 ? a.lo : a.hi < 0 ? -a.hi : 0, fmax(-a.lo, a.hi), a.nan);
    case EXPR_EXP:
        return rising_range(exp, a, -(double)INFINITY);
    case EXPR_EXP2:
        return rising_range(exp2, a, -(double)INFINITY);
    case EXPR_LN:
        return rising_range(log, a, 0);
    case EXPR_LOG2:
        return rising_range(log2, a, 0);
    case EXPR_SQRT:
        return rising_range(sqrt, a, 0);
    case EXPR_TANH:
        return rising_range(tanh, a, -(double)INFINITY);
    }
    ATTNC_UNREACHABLE();
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */
static value_range if_range(const value_range *v)
{
    if (v[0].i.lo == 1) return v[1];
    if (v[0].i.hi == 0) return v[2];
    int_range a = v[1].i, b = v[2].i;
    float_range x = v[1].f, y = v[2].f;
    return (value_range){.i = {a.lo < b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi},
                         .f = {fmin(x.lo, y.lo), fmax(x.hi, y.hi), x.nan || y.nan},
                         .fits = true};
}

value_range range_of_node(const expr_pool *p, const expr_node *n, const value_range *args, int64_t max_position)
{
    for (unsigned i = 0; i < n->nargs; i++)
        if (!args[i].fits) return does_not_fit;
    if (n->nargs == 0 || n->op == EXPR_ELEM || n->op == EXPR_ELEM_MIN || n->op == EXPR_ELEM_MAX)
        return leaf_range(p, n, max_position);
    if (n->op == EXPR_IF) return if_range(args);
    const value_range *b = &args[n->nargs > 1];
    return expr_op_table[n->op].operand == RULE_FLOAT ? float_op_range((expr_op)n->op, args[0].f, b->f)
                                                      : int_op_range((expr_op)n->op, args[0].i, b->i);
}

bool expr_range(const expr_pool *p, expr e, int64_t max_position, int_range *out)
{
    if (max_position == EXPR_MAX_POSITION) {
        const value_range *r = &pool_entry(p, e)->range;
        *out = r->i;
        return r->fits;
    }
    value_range *all = calloc((size_t)e + 1, sizeof *all);
    if (!all) ATTNC_BUG("no memory");
    for (expr i = 1; i <= e; i++) {
        const expr_node *n = expr_get(p, i);
        value_range args[EXPR_MAX_ARGS];
        for (unsigned j = 0; j < n->nargs; j++) args[j] = all[n->arg[j]];
        all[i] = range_of_node(p, n, args, max_position);
    }
    value_range r = all[e];
    free(all);
    *out = r.i;
    return r.fits;
}
