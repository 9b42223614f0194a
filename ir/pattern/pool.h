/* pool.h - inside ir/pattern only: what the pool knows of each expression besides its node.
 *
 * Facts are computed once, when an expression is made, from its operands' facts; so no question about an expression
 * walks it, and long chains (`a or b or ...`) cost no stack. */
#ifndef ATTNC_IR_PATTERN_POOL_H
#define ATTNC_IR_PATTERN_POOL_H

#include "ir/pattern/expr.h"

typedef struct float_range {
    double lo, hi; /* of the values that are no NaN */
    bool nan;      /* it can be NaN */
} float_range;

/* The values an expression can take. Booleans: [0, 1] or what is known. */
typedef struct value_range {
    int_range i;
    float_range f;
    bool fits; /* nothing on the way leaves 64 bits */
} value_range;

typedef struct expr_entry {
    expr_node node;
    value_range range; /* for EXPR_MAX_POSITION */
    uint32_t hash;
    uint32_t depth;     /* operands below it, the longest way */
    uint32_t tree_size; /* nodes when written as a tree; saturates */
    uint16_t nesting;   /* of the printed text; saturates */
    uint16_t vars;      /* bit per expr_var */
    uint8_t depends;
    bool reads_data;
} expr_entry;

enum { POOL_CHUNK = 512 };
struct expr_pool {
    arena *arena;
    symbols *symbols;
    VEC(expr_entry *) chunks; /* entries never move */
    size_t count;
    expr *buckets;
    size_t n_buckets;
    /* for expr_rewrite.c: made[e] is 0 between rewrites */
    expr *made;
    size_t made_cap;
    VEC(expr) todo, done;
};

typedef struct expr_op_info {
    const char *spelling;
    uint8_t form, result, operand; /* op_form, type_rule */
    int8_t operands;
} expr_op_info;
enum { FORM_LEAF, FORM_INFIX, FORM_PREFIX, FORM_CALL, FORM_IF, FORM_INDEX };
enum { RULE_BOOL, RULE_INT, RULE_FLOAT, RULE_SELF };
extern const expr_op_info expr_op_table[EXPR_OP_COUNT];

/* How tightly an expression binds when printed and read. */
enum { PREC_IF, PREC_OR, PREC_AND, PREC_NOT, PREC_COMPARE, PREC_SUM, PREC_PRODUCT, PREC_MINUS, PREC_ATOM };
int expr_precedence(const expr_pool *p, expr e);
bool expr_is_minus(const expr_pool *p, expr e); /* 0 - x, written -x */

static inline const expr_entry *pool_entry(const expr_pool *p, expr e)
{
    return &p->chunks.at[e / POOL_CHUNK][e % POOL_CHUNK];
}
static inline expr_op pool_op(const expr_pool *p, expr e) { return (expr_op)pool_entry(p, e)->node.op; }
static inline expr pool_arg(const expr_pool *p, expr e, unsigned i) { return pool_entry(p, e)->node.arg[i]; }

/* The node itself, without simplification. */
expr pool_intern(expr_pool *p, const expr_node *node);
expr pool_find(const expr_pool *p, const expr_node *node); /* 0: not there */

/* Semantics of one operation on values; ELEM, VAR and the other leaves are not meant. */
expr_value expr_apply(expr_op op, const expr_value *args);
int64_t int_floor_div(int64_t a, int64_t b);
int64_t int_floor_mod(int64_t a, int64_t b);
int64_t int_gcd(int64_t a, int64_t b); /* at least 0 */
double table_element(const table *t, const double *values, const int64_t *index);

value_range range_of_node(const expr_pool *p, const expr_node *n, const value_range *args, int64_t max_position);

#endif
