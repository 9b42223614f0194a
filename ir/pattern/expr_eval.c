/* expr_eval.c - the meaning of expressions: one function an operation, and straight-line programs over them.
 *
 * All operations are total (expr_ops.def). Integers that would leave 64 bits wrap here; expr_range() is what keeps that
 * from happening. */
#include "ir/pattern/pool.h"

#include <math.h>
#include <stdlib.h>

int64_t int_floor_div(int64_t a, int64_t b)
{
    if (b == 0) return 0;
    if (b == -1) return (int64_t)(0 - (uint64_t)a); /* INT64_MIN / -1 traps in C */
    int64_t q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

int64_t int_floor_mod(int64_t a, int64_t b)
{
    if (b == 0 || b == -1) return 0;
    int64_t r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

int64_t int_gcd(int64_t a, int64_t b)
{
    while (b) {
        int64_t r = a % b;
        a = b, b = r;
    }
    return a < 0 ? -a : a;
}

static int64_t floor_saturated(double x)
{
    if (isnan(x)) return 0;
    x = floor(x);
    if (x >= 0x1p63) return INT64_MAX;
    return x < -0x1p63 ? INT64_MIN : (int64_t)x;
}

static int64_t wrap(uint64_t x) { return (int64_t)x; }

static expr_value apply_int(expr_op op, int64_t a, int64_t b)
{
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b;
    switch ((int)op) {
    case EXPR_NOT:
        return (expr_value){.i = !a};
    case EXPR_AND:
        return (expr_value){.i = a && b};
    case EXPR_OR:
        return (expr_value){.i = a || b};
    case EXPR_LT:
        return (expr_value){.i = a < b};
    case EXPR_LE:
        return (expr_value){.i = a <= b};
    case EXPR_EQ:
        return (expr_value){.i = a == b};
    case EXPR_ADD:
        return (expr_value){.i = wrap(ua + ub)};
    case EXPR_SUB:
        return (expr_value){.i = wrap(ua - ub)};
    case EXPR_MUL:
        return (expr_value){.i = wrap(ua * ub)};
    case EXPR_DIV:
        return (expr_value){.i = int_floor_div(a, b)};
    case EXPR_MOD:
        return (expr_value){.i = int_floor_mod(a, b)};
    case EXPR_MIN:
        return (expr_value){.i = a < b ? a : b};
    case EXPR_MAX:
        return (expr_value){.i = a > b ? a : b};
    case EXPR_ABS:
        return (expr_value){.i = a < 0 ? wrap(0 - ua) : a};
    case EXPR_FLOAT:
        return (expr_value){.f = (double)a};
    }
    ATTNC_UNREACHABLE();
}

static expr_value apply_float(expr_op op, double a, double b)
{
    switch ((int)op) {
    case EXPR_FLT:
        return (expr_value){.i = a < b};
    case EXPR_FLE:
        return (expr_value){.i = a <= b};
    case EXPR_FEQ:
        return (expr_value){.i = a == b};
    case EXPR_FLOOR:
        return (expr_value){.i = floor_saturated(a)};
    case EXPR_FADD:
        return (expr_value){.f = a + b};
    case EXPR_FSUB:
        return (expr_value){.f = a - b};
    case EXPR_FMUL:
        return (expr_value){.f = a * b};
    case EXPR_FDIV:
        return (expr_value){.f = a / b};
    case EXPR_FMIN:
        return (expr_value){.f = fmin(a, b)};
    case EXPR_FMAX:
        return (expr_value){.f = fmax(a, b)};
    case EXPR_FABS:
        return (expr_value){.f = fabs(a)};
    case EXPR_EXP:
        return (expr_value){.f = exp(a)};
    case EXPR_EXP2:
        return (expr_value){.f = exp2(a)};
    case EXPR_LN:
        return (expr_value){.f = log(a)};
    case EXPR_LOG2:
        return (expr_value){.f = log2(a)};
    case EXPR_SQRT:
        return (expr_value){.f = sqrt(a)};
    case EXPR_TANH:
        return (expr_value){.f = tanh(a)};
    }
    ATTNC_UNREACHABLE();
}

expr_value expr_apply(expr_op op, const expr_value *v)
{
    const expr_op_info *info = &expr_op_table[op];
    if (op == EXPR_IF) return v[0].i ? v[1] : v[2];
    if (info->operand == RULE_FLOAT) return apply_float(op, v[0].f, info->operands > 1 ? v[1].f : 0);
    return apply_int(op, v[0].i, info->operands > 1 ? v[1].i : 0);
}

/* ---- leaves and tables ------------------------------------------------------------------------------------------- */
double table_element(const table *t, const double *values, const int64_t *index)
{
    int64_t at = 0;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (index[i] < 0 || index[i] >= t->extent[i]) return 0;
        at = at * t->extent[i] + index[i];
    }
    return values[at];
}

/* Least or greatest element of a box; what lies outside the table counts as 0, one NaN makes it NaN, an empty box gives
 * 0. */
static double table_bound(const table *t, const double *values, const expr_value *lo_hi, bool least)
{
    int64_t lo[TABLE_MAX_RANK], hi[TABLE_MAX_RANK], at[TABLE_MAX_RANK];
    bool outside = false, none = false;
    for (uint32_t i = 0; i < t->rank; i++) {
        lo[i] = lo_hi[2 * i].i, hi[i] = lo_hi[2 * i + 1].i;
        if (lo[i] > hi[i]) return 0;
        outside |= lo[i] < 0 || hi[i] >= t->extent[i];
        if (lo[i] < 0) lo[i] = 0;
        if (hi[i] >= t->extent[i]) hi[i] = t->extent[i] - 1;
        none |= lo[i] > hi[i];
        at[i] = lo[i];
    }
    if (none) return 0;
    double best = outside ? 0 : least ? (double)INFINITY : -(double)INFINITY;
    for (;;) {
        double x = table_element(t, values, at);
        if (isnan(x)) return x;
        if (least ? x < best : x > best) best = x;
        uint32_t i = t->rank;
        while (i > 0 && at[i - 1] == hi[i - 1]) at[i - 1] = lo[i - 1], i--;
        if (i == 0) return best;
        at[i - 1]++;
    }
}

static expr_value read_table(const expr_pool *p, const expr_node *n, const expr_env *env, const expr_value *args)
{
    const table *t = &p->symbols->tables.at[n->index];
    const double *values = env->tables && env->tables[n->index] ? env->tables[n->index] : t->value;
    int64_t index[TABLE_MAX_RANK] = {0};
    double x = 0;
    if (values && n->op == EXPR_ELEM) {
        for (uint32_t i = 0; i < t->rank; i++) index[i] = args[i].i;
        x = table_element(t, values, index);
    } else if (values) {
        x = table_bound(t, values, args, n->op == EXPR_ELEM_MIN);
    }
    return t->type == TYPE_INT ? (expr_value){.i = floor_saturated(x)} : (expr_value){.f = x};
}

static expr_value leaf_value(const expr_node *n, const expr_env *env)
{
    if (n->op == EXPR_CONST)
        return n->type == TYPE_FLOAT ? (expr_value){.f = n->value.f} : (expr_value){.i = n->value.i};
    if (n->op == EXPR_VAR) return n->index == VAR_S ? (expr_value){.f = env->s} : (expr_value){.i = env->var[n->index]};
    if (n->op == EXPR_ATTR) return (expr_value){.i = env->attr ? env->attr[n->index][n->side] : 0};
    ATTNC_CHECK(n->op == EXPR_DATA); /* nothing known: it may hold, it need not */
    return (expr_value){.i = env->data ? env->data[n->index][n->side] : !n->side};
}

static expr_value node_value(const expr_pool *p, const expr_node *n, const expr_env *env, const expr_value *args)
{
    if (n->op == EXPR_ELEM || n->op == EXPR_ELEM_MIN || n->op == EXPR_ELEM_MAX) return read_table(p, n, env, args);
    return n->nargs ? expr_apply((expr_op)n->op, args) : leaf_value(n, env);
}

/* ---- programs ---------------------------------------------------------------------------------------------------- */
typedef struct step {
    const expr_node *node;
    uint32_t arg[EXPR_MAX_ARGS]; /* earlier steps */
} step;

struct expr_program {
    const expr_pool *pool;
    step *steps;
    size_t n;
    uint32_t *roots;
    size_t n_roots;
};

/* slot[e] = 1 for everything below the roots. Operands have smaller ids, so one pass downwards finds all. */
static size_t mark(const expr_pool *p, uint32_t *slot, const expr *roots, size_t n)
{
    expr top = 0;
    for (size_t i = 0; i < n; i++) {
        slot[roots[i]] = 1;
        if (roots[i] > top) top = roots[i];
    }
    size_t count = 0;
    for (expr e = top; e > 0; e--) {
        if (!slot[e]) continue;
        const expr_node *x = expr_get(p, e);
        for (unsigned i = 0; i < x->nargs; i++) slot[x->arg[i]] = 1;
        count++;
    }
    return count;
}

static void fill_steps(expr_program *x, uint32_t *slot)
{
    uint32_t at = 0;
    for (expr e = 1; at < x->n; e++) {
        if (!slot[e]) continue;
        step *s = &x->steps[at];
        s->node = expr_get(x->pool, e);
        for (unsigned i = 0; i < s->node->nargs; i++) s->arg[i] = slot[s->node->arg[i]];
        slot[e] = at++;
    }
}

static uint32_t *slots_for(const expr *roots, size_t n)
{
    expr top = 0;
    for (size_t i = 0; i < n; i++) top = roots[i] > top ? roots[i] : top;
    uint32_t *slot = calloc((size_t)top + 1, sizeof *slot);
    if (!slot) ATTNC_BUG("no memory");
    return slot;
}

expr_program *expr_program_create(arena *a, const expr_pool *p, const expr *roots, size_t n)
{
    uint32_t *slot = ARENA_ARRAY(a, uint32_t, expr_count(p));
    expr_program *x = ARENA_NEW(a, expr_program);
    *x = (expr_program){.pool = p, .n = mark(p, slot, roots, n), .n_roots = n};
    x->steps = ARENA_ARRAY(a, step, x->n);
    x->roots = ARENA_ARRAY(a, uint32_t, n);
    fill_steps(x, slot);
    for (size_t i = 0; i < n; i++) x->roots[i] = slot[roots[i]];
    return x;
}

size_t expr_program_size(const expr_program *x) { return x->n; }

void expr_program_run(const expr_program *x, const expr_env *env, expr_value *values, expr_value *results)
{
    for (size_t i = 0; i < x->n; i++) {
        const step *s = &x->steps[i];
        expr_value args[EXPR_MAX_ARGS];
        for (unsigned j = 0; j < s->node->nargs; j++) args[j] = values[s->arg[j]];
        values[i] = node_value(x->pool, s->node, env, args);
        if (env->single && s->node->type == TYPE_FLOAT) values[i].f = (float)values[i].f;
    }
    for (size_t i = 0; i < x->n_roots; i++) results[i] = values[x->roots[i]];
}

/* Small trees without the bookkeeping. */
enum { SMALL_TREE = 200 };
static expr_value eval_small(const expr_pool *p, expr e, const expr_env *env)
{
    const expr_node *n = expr_get(p, e);
    expr_value args[EXPR_MAX_ARGS];
    for (unsigned i = 0; i < n->nargs; i++) args[i] = eval_small(p, n->arg[i], env);
    expr_value v = node_value(p, n, env, args);
    if (env->single && n->type == TYPE_FLOAT) v.f = (float)v.f;
    return v;
}

expr_value expr_eval(const expr_pool *p, expr e, const expr_env *env)
{
    if (expr_tree_size(p, e) <= SMALL_TREE) return eval_small(p, e, env);
    uint32_t *slot = slots_for(&e, 1);
    step *steps = calloc(mark(p, slot, &e, 1), sizeof *steps);
    expr_value result, *values = calloc((size_t)e + 1, sizeof *values);
    if (!steps || !values) ATTNC_BUG("no memory");
    uint32_t root = 0;
    expr_program x = {.pool = p, .steps = steps, .roots = &root, .n_roots = 1};
    for (expr i = 1; i <= e; i++) x.n += slot[i] != 0;
    fill_steps(&x, slot);
    root = slot[e];
    expr_program_run(&x, env, values, &result);
    free(slot), free(steps), free(values);
    return result;
}
