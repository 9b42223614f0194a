/* expr_simplify.c - constructors: type check, constant folding, identities.
 *
 * Every rule is exact over the integers (or the reals) and makes the expression smaller, or brings a constant to the
 * right or outwards, so the rules end. A rule that would need a constant outside 64 bits does not fire. Operands keep
 * the order they were written in; a commutative operation is looked up in both orders, so that a + b and b + a are one.
 */
#include "ir/pattern/pool.h"

#include <math.h>

static bool is_op(const expr_pool *p, expr e, expr_op op) { return pool_op(p, e) == op; }

static bool is_int(const expr_pool *p, expr e, int64_t v)
{
    int64_t x;
    return expr_is_const(p, e, &x) && x == v;
}

static bool is_float(const expr_pool *p, expr e, double v)
{
    const expr_node *n = expr_get(p, e);
    return n->op == EXPR_CONST && n->type == TYPE_FLOAT && n->value.f == v;
}

static bool bool_const(const expr_pool *p, expr e, bool *out)
{
    const expr_node *n = expr_get(p, e);
    if (n->op != EXPR_CONST || n->type != TYPE_BOOL) return false;
    *out = n->value.i;
    return true;
}

/* x = *term + *c */
static bool term_plus_const(const expr_pool *p, expr x, expr *term, int64_t *c)
{
    if (!is_op(p, x, EXPR_ADD) || !expr_is_const(p, pool_arg(p, x, 1), c)) return false;
    *term = pool_arg(p, x, 0);
    return true;
}

/* x = *term * *c */
static bool term_times_const(const expr_pool *p, expr x, expr *term, int64_t *c)
{
    if (!is_op(p, x, EXPR_MUL) || !expr_is_const(p, pool_arg(p, x, 1), c)) return false;
    *term = pool_arg(p, x, 0);
    return true;
}

bool expr_is_minus(const expr_pool *p, expr e)
{
    const expr_node *n = expr_get(p, e);
    if (n->op == EXPR_SUB) return is_int(p, n->arg[0], 0);
    return n->op == EXPR_FSUB && is_float(p, n->arg[0], 0) && !signbit(expr_get(p, n->arg[0])->value.f);
}

/* ---- booleans ---------------------------------------------------------------------------------------------------- */
static bool opposite(const expr_pool *p, expr a, expr b)
{
    const expr_node *x = expr_get(p, a), *y = expr_get(p, b);
    if (x->op == EXPR_NOT || y->op == EXPR_NOT)
        return (x->op == EXPR_NOT && x->arg[0] == b) || (y->op == EXPR_NOT && y->arg[0] == a);
    bool pair = (x->op == EXPR_LT && y->op == EXPR_LE) || (x->op == EXPR_LE && y->op == EXPR_LT);
    return pair && x->arg[0] == y->arg[1] && x->arg[1] == y->arg[0];
}

static expr make_not(expr_pool *p, const expr *a)
{
    expr_node n = *expr_get(p, a[0]);
    if (n.op == EXPR_NOT) return n.arg[0];
    if (n.op == EXPR_LT) return expr_binary(p, EXPR_LE, n.arg[1], n.arg[0]);
    return n.op == EXPR_LE ? expr_binary(p, EXPR_LT, n.arg[1], n.arg[0]) : 0;
}

/* (x and a) and a, (x or a) and a */
static bool holds_operand(const expr_pool *p, expr e, expr_op op, expr a)
{
    return is_op(p, e, op) && (pool_arg(p, e, 0) == a || pool_arg(p, e, 1) == a);
}

static expr make_and_or(expr_pool *p, expr_op op, const expr *a)
{
    bool is_and = op == EXPR_AND, known;
    expr_op other = is_and ? EXPR_OR : EXPR_AND;
    for (int i = 0; i < 2; i++) {
        expr x = a[i], y = a[1 - i];
        if (bool_const(p, x, &known)) return known == is_and ? y : x;
        if (holds_operand(p, x, op, y)) return x;
        if (holds_operand(p, x, other, y)) return y;
    }
    if (a[0] == a[1]) return a[0];
    return opposite(p, a[0], a[1]) ? expr_bool(p, !is_and) : 0;
}

static expr make_compare(expr_pool *p, expr_op op, const expr *a)
{
    if (a[0] == a[1]) return expr_bool(p, op != EXPR_LT);
    if (op == EXPR_EQ && expr_is_const(p, a[0], NULL)) return expr_binary(p, op, a[1], a[0]);
    return 0;
}

static expr make_if(expr_pool *p, expr c, expr a, expr b)
{
    bool known;
    if (bool_const(p, c, &known)) return known ? a : b;
    if (a == b) return a;
    if (is_op(p, c, EXPR_NOT)) return expr_if(p, pool_arg(p, c, 0), b, a);
    if (expr_type_of(p, a) != TYPE_BOOL) return 0;
    expr not_c = expr_unary(p, EXPR_NOT, c);
    if (bool_const(p, a, &known)) return known ? expr_binary(p, EXPR_OR, c, b) : expr_binary(p, EXPR_AND, not_c, b);
    if (bool_const(p, b, &known)) return known ? expr_binary(p, EXPR_OR, not_c, a) : expr_binary(p, EXPR_AND, c, a);
    return 0;
}

/* ---- integers ---------------------------------------------------------------------------------------------------- */
static expr plus_const(expr_pool *p, expr x, int64_t c) { return expr_binary(p, EXPR_ADD, x, expr_int(p, c)); }

static expr make_add(expr_pool *p, expr a, expr b)
{
    int64_t c, d, sum;
    expr x;
    if (expr_is_const(p, a, &c)) return expr_is_const(p, b, &d) ? 0 : expr_binary(p, EXPR_ADD, b, a);
    if (expr_is_const(p, b, &c)) {
        if (c == 0) return a;
        if (is_op(p, a, EXPR_SUB) && expr_is_const(p, pool_arg(p, a, 0), &d) && !__builtin_add_overflow(c, d, &sum))
            return expr_binary(p, EXPR_SUB, expr_int(p, sum), pool_arg(p, a, 1)); /* (d - x) + c */
        return term_plus_const(p, a, &x, &d) && !__builtin_add_overflow(c, d, &sum) ? plus_const(p, x, sum) : 0;
    }
    if (term_plus_const(p, b, &x, &d)) return plus_const(p, expr_binary(p, EXPR_ADD, a, x), d);
    if (term_plus_const(p, a, &x, &d)) return plus_const(p, expr_binary(p, EXPR_ADD, x, b), d);
    if (expr_is_minus(p, b)) return expr_binary(p, EXPR_SUB, a, pool_arg(p, b, 1));
    if (expr_is_minus(p, a)) return expr_binary(p, EXPR_SUB, b, pool_arg(p, a, 1));
    if (is_op(p, a, EXPR_SUB) && pool_arg(p, a, 1) == b) return pool_arg(p, a, 0); /* (x - b) + b */
    if (is_op(p, b, EXPR_SUB) && pool_arg(p, b, 1) == a) return pool_arg(p, b, 0);
    return 0;
}

static expr make_sub(expr_pool *p, expr a, expr b)
{
    int64_t c, d;
    expr x;
    if (a == b) return expr_int(p, 0);
    if (expr_is_const(p, b, &c)) return c == INT64_MIN ? 0 : plus_const(p, a, -c);
    if (term_plus_const(p, b, &x, &d) && d != INT64_MIN) return plus_const(p, expr_binary(p, EXPR_SUB, a, x), -d);
    if (term_plus_const(p, a, &x, &d)) return plus_const(p, expr_binary(p, EXPR_SUB, x, b), d);
    if (expr_is_minus(p, b)) return expr_binary(p, EXPR_ADD, a, pool_arg(p, b, 1));
    if (expr_is_const(p, a, &c) && is_op(p, b, EXPR_SUB))
        return plus_const(p, expr_binary(p, EXPR_SUB, pool_arg(p, b, 1), pool_arg(p, b, 0)), c);
    if (is_int(p, a, 0) && term_times_const(p, b, &x, &c) && c != INT64_MIN)
        return expr_binary(p, EXPR_MUL, x, expr_int(p, -c));
    if (is_op(p, a, EXPR_ADD) && pool_arg(p, a, 1) == b) return pool_arg(p, a, 0);
    if (is_op(p, a, EXPR_ADD) && pool_arg(p, a, 0) == b) return pool_arg(p, a, 1);
    return 0;
}

static expr make_mul(expr_pool *p, expr a, expr b)
{
    int64_t c, d, product;
    expr x;
    if (expr_is_const(p, a, &c))
        return expr_is_const(p, b, &d) ? 0 : expr_binary(p, EXPR_MUL, b, a); /* 0: does not fit */
    if (!expr_is_const(p, b, &c)) return 0;
    if (c == 0) return b;
    if (c == 1) return a;
    if (term_times_const(p, a, &x, &d) && !__builtin_mul_overflow(c, d, &product))
        return expr_binary(p, EXPR_MUL, x, expr_int(p, product));
    if (expr_is_minus(p, a) && c != INT64_MIN) return expr_binary(p, EXPR_MUL, pool_arg(p, a, 1), expr_int(p, -c));
    return c == -1 ? expr_binary(p, EXPR_SUB, expr_int(p, 0), a) : 0;
}

static expr make_div(expr_pool *p, expr a, expr b)
{
    int64_t c, d, product;
    expr x;
    if (is_int(p, a, 0)) return a;
    if (!expr_is_const(p, b, &c)) return 0;
    if (c == 0) return b;
    if (c == 1) return a;
    if (term_times_const(p, a, &x, &d) && d != INT64_MIN && d % c == 0)
        return expr_binary(p, EXPR_MUL, x, expr_int(p, d / c));
    /* floor(floor(x / d) / c) = floor(x / (d c)) for c, d > 0 */
    if (c > 0 && is_op(p, a, EXPR_DIV) && expr_is_const(p, pool_arg(p, a, 1), &d) && d > 0 &&
        !__builtin_mul_overflow(c, d, &product))
        return expr_binary(p, EXPR_DIV, pool_arg(p, a, 0), expr_int(p, product));
    return 0;
}

static expr make_mod(expr_pool *p, expr a, expr b)
{
    int64_t c, d;
    expr x;
    if (is_int(p, a, 0) || a == b) return expr_int(p, 0);
    if (!expr_is_const(p, b, &c)) return 0;
    if (c == 0 || c == 1 || c == -1) return expr_int(p, 0);
    if (term_times_const(p, a, &x, &d) && d != INT64_MIN && d % c == 0) return expr_int(p, 0);
    return is_op(p, a, EXPR_MOD) && pool_arg(p, a, 1) == b ? a : 0;
}

/* x + c as a term and a constant; any x will do. */
static void split_const(const expr_pool *p, expr e, expr *term, int64_t *c)
{
    if (term_plus_const(p, e, term, c)) return;
    *term = e, *c = 0;
}

static expr make_min_max(expr_pool *p, expr_op op, expr a, expr b)
{
    int64_t c, d;
    expr x, y;
    bool is_min = op == EXPR_MIN;
    expr_op other = is_min ? EXPR_MAX : EXPR_MIN;
    if (a == b) return a;
    if (expr_is_const(p, a, &c)) return expr_binary(p, op, b, a);
    if (expr_is_const(p, b, &c) && is_op(p, a, op) && expr_is_const(p, pool_arg(p, a, 1), &d))
        return expr_binary(p, op, pool_arg(p, a, 0), (c < d) == is_min ? b : expr_int(p, d));
    if (holds_operand(p, a, op, b) || holds_operand(p, b, other, a)) return a;
    if (holds_operand(p, b, op, a) || holds_operand(p, a, other, b)) return b;
    split_const(p, a, &x, &c);
    split_const(p, b, &y, &d);
    return x == y ? ((c < d) == is_min ? a : b) : 0;
}

static expr make_abs(expr_pool *p, expr a)
{
    if (is_op(p, a, EXPR_ABS)) return a;
    return expr_is_minus(p, a) ? expr_unary(p, EXPR_ABS, pool_arg(p, a, 1)) : 0;
}

/* ---- floats ------------------------------------------------------------------------------------------------------ */
static bool float_const(const expr_pool *p, expr e)
{
    const expr_node *n = expr_get(p, e);
    return n->op == EXPR_CONST && n->type == TYPE_FLOAT;
}

static expr make_float(expr_pool *p, expr_op op, const expr *a)
{
    bool commutes = op == EXPR_FADD || op == EXPR_FMUL;
    if (commutes && float_const(p, a[0])) return expr_binary(p, op, a[1], a[0]);
    if ((op == EXPR_FADD || op == EXPR_FSUB) && is_float(p, a[1], 0)) return a[0];
    if ((op == EXPR_FMUL || op == EXPR_FDIV) && is_float(p, a[1], 1)) return a[0];
    if ((op == EXPR_FMIN || op == EXPR_FMAX) && a[0] == a[1]) return a[0];
    if (op == EXPR_FSUB && expr_is_minus(p, a[1])) return expr_binary(p, EXPR_FADD, a[0], pool_arg(p, a[1], 1));
    if (op == EXPR_FLOOR && is_op(p, a[0], EXPR_FLOAT)) return pool_arg(p, a[0], 0);
    return op == EXPR_FABS && is_op(p, a[0], EXPR_FABS) ? a[0] : 0;
}

/* ---- one constructor --------------------------------------------------------------------------------------------- */
static expr identity(expr_pool *p, expr_op op, const expr *a)
{
    switch ((int)op) { /* operations without identities stay as they are */
    case EXPR_NOT:
        return make_not(p, a);
    case EXPR_AND:
    case EXPR_OR:
        return make_and_or(p, op, a);
    case EXPR_LT:
    case EXPR_LE:
    case EXPR_EQ:
        return make_compare(p, op, a);
    case EXPR_ADD:
        return make_add(p, a[0], a[1]);
    case EXPR_SUB:
        return make_sub(p, a[0], a[1]);
    case EXPR_MUL:
        return make_mul(p, a[0], a[1]);
    case EXPR_DIV:
        return make_div(p, a[0], a[1]);
    case EXPR_MOD:
        return make_mod(p, a[0], a[1]);
    case EXPR_MIN:
    case EXPR_MAX:
        return make_min_max(p, op, a[0], a[1]);
    case EXPR_ABS:
        return make_abs(p, a[0]);
    case EXPR_IF:
        return make_if(p, a[0], a[1], a[2]);
    case EXPR_FADD:
    case EXPR_FSUB:
    case EXPR_FMUL:
    case EXPR_FDIV:
    case EXPR_FMIN:
    case EXPR_FMAX:
    case EXPR_FABS:
    case EXPR_FLOOR:
        return make_float(p, op, a);
    }
    return 0;
}

static bool commutes(expr_op op)
{
    return op == EXPR_AND || op == EXPR_OR || op == EXPR_EQ || op == EXPR_FEQ || op == EXPR_ADD || op == EXPR_MUL ||
           op == EXPR_MIN || op == EXPR_MAX || op == EXPR_FADD || op == EXPR_FMUL || op == EXPR_FMIN || op == EXPR_FMAX;
}

/* Folds when all operands are constants and the result fits 64 bits. */
static expr fold(expr_pool *p, const expr_node *n)
{
    expr_value v[EXPR_MAX_ARGS];
    value_range ranges[EXPR_MAX_ARGS];
    for (unsigned i = 0; i < n->nargs; i++) {
        const expr_entry *a = pool_entry(p, n->arg[i]);
        if (a->node.op != EXPR_CONST) return 0;
        v[i] = a->node.type == TYPE_FLOAT ? (expr_value){.f = a->node.value.f} : (expr_value){.i = a->node.value.i};
        ranges[i] = a->range;
    }
    if (!range_of_node(p, n, ranges, EXPR_MAX_POSITION).fits) return 0;
    expr_value r = expr_apply((expr_op)n->op, v);
    if (n->type == TYPE_FLOAT) return expr_float(p, r.f);
    return n->type == TYPE_BOOL ? expr_bool(p, r.i) : expr_int(p, r.i);
}

static void check_types(const expr_pool *p, expr_op op, const expr *args, uint32_t n)
{
    const expr_op_info *info = &expr_op_table[op];
    ATTNC_CHECK(n >= 1 && (int)n == info->operands);
    for (uint32_t i = 0; i < n; i++) {
        expr_type t = expr_type_of(p, args[i]);
        if (op == EXPR_IF)
            ATTNC_CHECK(i == 0 ? t == TYPE_BOOL : t == expr_type_of(p, args[1]));
        else
            ATTNC_CHECK((int)t == (int)info->operand);
    }
}

expr expr_make(expr_pool *p, expr_op op, const expr *args, uint32_t count)
{
    check_types(p, op, args, count);
    const expr_op_info *info = &expr_op_table[op];
    uint8_t type = info->result == RULE_SELF ? (uint8_t)expr_type_of(p, args[count - 1]) : info->result;
    expr_node n = {.op = (uint8_t)op, .type = type, .nargs = (uint8_t)count};
    for (uint32_t i = 0; i < count; i++) n.arg[i] = args[i];
    expr made = fold(p, &n);
    if (!made) made = identity(p, op, n.arg);
    if (made) return made;
    if (commutes(op)) {
        expr_node swapped = n;
        swapped.arg[0] = n.arg[1], swapped.arg[1] = n.arg[0];
        made = pool_find(p, &swapped);
    }
    return made ? made : pool_intern(p, &n);
}

expr expr_unary(expr_pool *p, expr_op op, expr a) { return expr_make(p, op, &a, 1); }
expr expr_binary(expr_pool *p, expr_op op, expr a, expr b) { return expr_make(p, op, (expr[]){a, b}, 2); }
expr expr_if(expr_pool *p, expr cond, expr a, expr b) { return expr_make(p, EXPR_IF, (expr[]){cond, a, b}, 3); }

expr expr_negate(expr_pool *p, expr a)
{
    if (expr_type_of(p, a) == TYPE_INT) return expr_binary(p, EXPR_SUB, expr_int(p, 0), a);
    return float_const(p, a) ? expr_float(p, -expr_get(p, a)->value.f) : expr_binary(p, EXPR_FSUB, expr_float(p, 0), a);
}
