/* expr.h - hash-consed, typed scalar expressions: the language of masks, scores, key ranges.
 *
 * An `expr` is a 32-bit id into its pool; equal expressions have equal ids, so equality is `==` and side tables are plain
 * arrays. Ids grow: an expression's operands have smaller ids than itself. Constructors fold constants and simplify
 * identities (x + 0, not not x, a and a, if c then a else a ...), always exactly: integer folding never wraps, it is left unfolded
 * when it would and expr_range() shows it. Single-threaded. */
#ifndef ATTNC_IR_EXPR_H
#define ATTNC_IR_EXPR_H

#include "ir/base/arena.h"
#include "ir/base/text.h"
#include <stdbool.h>
#include <stdint.h>

typedef uint32_t expr; /* 0: none */

typedef enum expr_type { TYPE_BOOL, TYPE_INT, TYPE_FLOAT } expr_type;

typedef enum expr_op {
#define EXPR(ident, spelling, form, result, operand, operands) EXPR_##ident,
#include "ir/pattern/expr_ops.def"
#undef EXPR
    EXPR_OP_COUNT
} expr_op;

typedef enum expr_var {
#define VAR(ident, spelling, type, depends) VAR_##ident,
#include "ir/pattern/expr_vars.def"
#undef VAR
    VAR_COUNT
} expr_var;

/* What an expression's value depends on; a set. ATTR leaves depend on ROW or KEY (or nothing, for their bounds). */
enum { DEPENDS_UNIFORM = 0, DEPENDS_ROW = 1, DEPENDS_KEY = 2, DEPENDS_HEAD = 4, DEPENDS_SCORE = 8 };

typedef enum attr_side { ATTR_Q, ATTR_K, ATTR_Q_MIN, ATTR_Q_MAX, ATTR_K_MIN, ATTR_K_MAX, ATTR_SIDE_COUNT } attr_side;

enum { TABLE_MAX_RANK = 4, EXPR_MAX_ARGS = 8 };

/* A run-time input, or a table of constants (value != NULL, row-major; integers are exact to 2^53). */
typedef struct table {
    const char *name;
    expr_type type; /* TYPE_INT (int32 at run time) or TYPE_FLOAT (f32 at run time) */
    uint32_t rank;
    int64_t extent[TABLE_MAX_RANK];
    const double *value;
} table;

/* Names that expressions of one module refer to. */
typedef struct symbols {
    VEC(table) tables;
    VEC(const char *) attrs;
} symbols;

typedef struct expr_node {
    uint8_t op;   /* expr_op */
    uint8_t type; /* expr_type */
    uint8_t nargs;
    uint8_t side;   /* ATTR: attr_side; DATA: 0 may, 1 must */
    uint32_t index; /* VAR: expr_var; ATTR: attr; ELEM*: table; DATA: atom */
    union {
        int64_t i;
        double f; /* CONST */
    } value;
    expr arg[EXPR_MAX_ARGS];
} expr_node;

typedef struct expr_pool expr_pool;

expr_pool *expr_pool_create(arena *a, symbols *s); /* symbols may grow later; the pool keeps the pointer */
const expr_node *expr_get(const expr_pool *p, expr e); /* valid until the next constructor call */
size_t expr_count(const expr_pool *p);                 /* ids are 1 .. count - 1 */
symbols *expr_symbols(const expr_pool *p);
arena *expr_arena(const expr_pool *p);

/* ---- constructors -------------------------------------------------------------------------------------------------- */
expr expr_bool(expr_pool *p, bool b);
expr expr_int(expr_pool *p, int64_t i);
expr expr_float(expr_pool *p, double f);
expr expr_variable(expr_pool *p, expr_var v);
expr expr_attr(expr_pool *p, uint32_t attr, attr_side side);
expr expr_data(expr_pool *p, uint32_t atom, bool must);
expr expr_elem(expr_pool *p, uint32_t table, const expr *index, uint32_t n);
expr expr_elem_bound(expr_pool *p, expr_op min_or_max, uint32_t table, const expr *lo_hi, uint32_t n); /* n = 2 x rank */
expr expr_make(expr_pool *p, expr_op op, const expr *args, uint32_t n); /* operand types must fit (ATTNC_CHECK) */
expr expr_unary(expr_pool *p, expr_op op, expr a);
expr expr_binary(expr_pool *p, expr_op op, expr a, expr b);
expr expr_if(expr_pool *p, expr cond, expr a, expr b);
expr expr_negate(expr_pool *p, expr a); /* 0 - a, written -a */

/* ---- facts ------------------------------------------------------------------------------------------------------------ */
const char *expr_op_spelling(expr_op op);
expr_type expr_type_of(const expr_pool *p, expr e);
unsigned expr_depends(const expr_pool *p, expr e);        /* set of DEPENDS_ */
bool expr_reads_data(const expr_pool *p, expr e);         /* an attribute, or a table indexed by q, k or an attribute */
bool expr_reads_var(const expr_pool *p, expr e, expr_var v);
bool expr_is_const(const expr_pool *p, expr e, int64_t *out); /* integer constant */

/* The values an integer expression can take when positions lie in [0, max_position] and heads and layers in [0, 2^20];
 * false when they may leave 64 bits somewhere on the way. */
typedef struct int_range {
    int64_t lo, hi;
} int_range;
enum { EXPR_MAX_POSITION = 1 << 30 };
bool expr_range(const expr_pool *p, expr e, int64_t max_position, int_range *out);

expr expr_substitute(expr_pool *p, expr e, expr_var v, expr by);
expr expr_replace(expr_pool *p, expr e, expr what, expr by); /* every occurrence of the subexpression */
/* Decides what ranges (with EXPR_MAX_POSITION) decide: `q - k < 2147483647` is true, `h % 2097152` is h. For whole masks. */
expr expr_simplify_by_range(expr_pool *p, expr e);

/* Sharing hides how large an expression is when written out: nodes of the tree (saturates), and nesting of the text. The printer
 * writes `<too large: N nodes>` beyond the first limit, the reader refuses beyond the second; a front end asks before. */
enum { EXPR_MAX_TREE = 1 << 20, EXPR_MAX_NESTING = 500 };
uint32_t expr_tree_size(const expr_pool *p, expr e);
unsigned expr_nesting(const expr_pool *p, expr e);

/* ---- text -------------------------------------------------------------------------------------------------------------- */
/* Infix, as in the language: `k <= q and k / 8192 == q / 8192`; reads back to the same expr. */
void expr_print(const expr_pool *p, expr e, text *to);
/* Reads the longest expression at *at and moves *at behind it. On a mistake returns 0, *error says what, *at where. */
expr expr_read(expr_pool *p, const char **at, const char **error);

/* ---- values ------------------------------------------------------------------------------------------------------------ */
typedef union expr_value {
    int64_t i; /* bool: 0 or 1 */
    double f;
} expr_value;

typedef struct expr_env {
    int64_t var[VAR_COUNT]; /* all but S */
    double s;
    const int64_t (*attr)[ATTR_SIDE_COUNT]; /* per attribute */
    const bool (*data)[2];                  /* per data atom: may, must */
    const double *const *tables;            /* per table; NULL entries: use table.value */
    bool single;                            /* every float is rounded to f32: what plain code in that precision gives */
} expr_env;

/* Straight-line code for some roots: shared parts are computed once. Thread-safe to run; values needs expr_program_size() entries. */
typedef struct expr_program expr_program;
expr_program *expr_program_create(arena *a, const expr_pool *p, const expr *roots, size_t n);
size_t expr_program_size(const expr_program *x);
void expr_program_run(const expr_program *x, const expr_env *env, expr_value *values, expr_value *results);
/* For one value, slow. */
expr_value expr_eval(const expr_pool *p, expr e, const expr_env *env);

#endif
