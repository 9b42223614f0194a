/* internal.h - the state of one compilation of .attn text, shared by the phases of the front end:
 *
 *   load.c      reads the file, its imports and the prelude into scopes
 *   resolve.c   every name means something; definitions do not use themselves
 *   shape.c     clauses to sizes;   schedule.c  patterns to layers;   symbols.c  inputs, attributes, params
 *   lower_*.c   expressions to the pattern IR, definitions expanded
 *   kv.c        what the cache is told: whose keys a layer reads, and whether they are its values too
 *   tabulate.c  what needs no run time becomes a table
 *   compile.c   the order of all this */
#ifndef ATTNC_FRONTEND_INTERNAL_H
#define ATTNC_FRONTEND_INTERNAL_H

#include "frontend/frontend.h"
#include "frontend/scope.h"

enum {
    MAX_IMPORT_DEPTH = 32,
    MAX_SOURCE_BYTES = 16 << 20,
    MOST_ARGUMENTS = 16,       /* of a definition */
    MAX_RECURSION = 1500,      /* of lower(): nested expressions inside nested definitions */
    MAX_EXPANSIONS = 200000,   /* uses of definitions that are worked out anew */
    MAX_EXPRESSIONS = 1000000, /* in the pool */
    MAX_CASES = 1 << 24,       /* heads and layers for which requirements are looked at, over all uses */
    MAX_CHOICE = 4096,         /* nodes of a condition in a schedule */
    MAX_NESTING = 250,         /* of one expression's text; half of what the IR's reader takes */
    MAX_TREE = 1 << 16,        /* of one expression written out */
    MAX_TABLE_ENTRIES = 1 << 20,
    MAX_BAKED_INDEX = 4096, /* values of an integer that a table is made over */
    NONE_LIMIT = 2147483647
};

/* What an expression of the source stands for. */
typedef enum value_kind { VALUE_ERROR, VALUE_EXPR, VALUE_TABLE, VALUE_ATTR } value_kind;
typedef struct meaning {
    value_kind kind;
    bool is_bool;   /* TABLE: elements stand for true and false */
    uint32_t index; /* TABLE, ATTR */
    expr e;
} meaning;

/* Names by which a size or clause is looked up. */
typedef enum constant {
#define CONSTANT(ident, spelling) CONSTANT_##ident,
#include "frontend/constants.def"
#undef CONSTANT
    CONSTANT_COUNT
} constant;

typedef struct sizes {
    bool known[CONSTANT_COUNT];
    int64_t value[CONSTANT_COUNT];
} sizes;

/* A place where an expression stands: which variables mean something there. */
typedef enum place { PLACE_CONST, PLACE_SCHEDULE, PLACE_SCALE, PLACE_SINK, PLACE_MASK, PLACE_SCORE, PLACE_COUNT } place;

/* A use of a definition while it is expanded; the outermost frame is the clause itself. */
typedef struct frame {
    const struct frame *up;
    const decl *define; /* NULL: a clause */
    span use;
    const meaning *args;
    scope *names;
    place place;
    expr path; /* under which condition this is computed; 0: always */
    unsigned depth;
} frame;

/* One pattern of the source while the module is made. */
typedef struct source_pattern {
    decl *decl;
    scope *names;
    decl *clause[CLAUSE_COUNT];
    sizes sizes;
    dtype type;
    const option *shared, *k_is_v, *quant; /* of the clause kv; NULL: not there */
    int64_t kv_group;                      /* of quant; 0: a scale for all of a row */
    uint32_t kv_layer;
    uint32_t index; /* in the module; UINT32_MAX: no layer uses it */
    VEC(uint32_t) layers;
} source_pattern;

typedef struct loaded_file {
    const char *path;
    decl_list decls;
} loaded_file;

typedef struct memo_entry memo_entry; /* lower_call.c */

typedef struct frontend {
    arena *arena;
    diags *diags;
    const frontend_options *options;
    uint32_t prelude_begin, prelude_end; /* sources of the prelude */
    scope *prelude, *file, *model_names;
    scope *file_patterns, *model_patterns; /* names of patterns are a world of their own */
    VEC(loaded_file) files;
    VEC(decl *) models; /* of the main file */
    decl *model;        /* NULL: a lone pattern */
    decl *model_clause[CLAUSE_COUNT];
    decl *schedule;
    sizes model_sizes;
    VEC(source_pattern *) patterns; /* in order of declaration */
    source_pattern *now;            /* being lowered */
    ir_module *module;
    expr_pool *pool;
    VEC(span) compared; /* per expression: where a comparison was written first */
    memo_entry **memo;
    size_t memo_size, memo_used;
    size_t expansions;
    uint64_t cases;
    unsigned recursion;
    bool and_grouped; /* an operand of the `and` lowered last compares an attribute of query and key */
    bool too_large;   /* said already */
    bool stuck;       /* definitions that need themselves: nothing can be computed */
} frontend;

/* ---- report.c: diagnostics that know about expansion ------------------------------------------------------------ */
/* Reports at the place the user wrote; when that is not `where`, a note leads there. False when it was said before. */
bool report(frontend *f, const frame *in, diag_id id, span where, const char *fmt, ...) ATTNC_PRINTF(5, 6);
span user_place(const frontend *f, const frame *in, span where);
bool in_prelude(const frontend *f, span where);
bool is_dead(const frontend *f, const frame *in); /* on a path that no head or layer takes */

/* ---- load.c ----------------------------------------------------------------------------------------------------- */
bool load_prelude(frontend *f, const char *dir);
bool load_main(frontend *f, const char *path);
bool load_main_text(frontend *f, const char *name, const char *text, size_t len);
bool load_only(frontend *f, const char *path, decl_list *out); /* one file as it stands, imports not followed */
/* The model or the lone pattern, its scopes and clauses. */
bool load_model(frontend *f);

/* ---- resolve.c -------------------------------------------------------------------------------------------------- */
void resolve_names(frontend *f);
void warn_unused(frontend *f);

/* ---- symbols.c -------------------------------------------------------------------------------------------------- */
void apply_defines(frontend *f);
void declare_symbols(frontend *f);
meaning symbol_value(frontend *f, decl *d); /* PARAM, INPUT, ATTR */
const char *fresh_table_name(frontend *f, const char *stem);
uint32_t add_const_table(frontend *f, const char *name, expr_type type, uint32_t rank, const int64_t *extent,
                         const double *value);

/* ---- shape.c ---------------------------------------------------------------------------------------------------- */
bool compute_shapes(frontend *f);
/* A constant in lo..hi; false after a mistake. */
bool constant_integer(frontend *f, const node *n, scope *names, int64_t lo, int64_t hi, const char *what, int64_t *out);
shape pattern_shape(const source_pattern *p);
scope *clause_names(const frontend *f, const source_pattern *p,
                    clause_kind c); /* a clause sees the names of its own block */

/* ---- schedule.c ------------------------------------------------------------------------------------------------- */
bool expand_schedule(frontend *f);

/* ---- lower_expr.c, lower_call.c --------------------------------------------------------------------------------- */
meaning lower(frontend *f, const frame *in, const node *n);
meaning lower_call(frontend *f, const frame *in, const node *n);
bool is_builtin(const char *name);
void suggest_builtins(suggestion *s);
meaning use_definition(frontend *f, const frame *in, span use, const decl *d, const meaning *args, uint32_t n);
/* Lowered and of that type (ints become floats); 0 after a mistake. `what` names it in messages. */
expr lower_as(frontend *f, const frame *in, const node *n, expr_type type, const char *what);
expr as_type(frontend *f, const frame *in, meaning v, expr_type type, span where, const char *what);
meaning give_up(frontend *f, const frame *in, span where, const char *what); /* says once that the input is too large */
meaning checked(frontend *f, const frame *in, expr e, span where);           /* overflow and size limits */
bool reads_run_time(const frontend *f, expr e); /* attributes, or tables given at run time */
int find_constant(const char *name);
int find_variable(const char *name); /* expr_var, or -1 */

/* ---- tabulate.c ------------------------------------------------------------------------------------------------- */
expr tabulate(frontend *f, expr e, const source_pattern *p);

/* ---- kv.c ------------------------------------------------------------------------------------------------------- */
bool read_policies(frontend *f, source_pattern *p);
void remark_kept(frontend *f); /* the heads that a cache cannot tell apart; behind all of lowering */
bool check_shared(frontend *f); /* behind read_policies of all patterns, when schedule and sizes are known */

/* ---- prelude_print.c -------------------------------------------------------------------------------------------- */
void print_definitions(const frontend *f, const scope *s, text *to);

/* ---- lower_pattern.c -------------------------------------------------------------------------------------------- */
bool lower_pattern(frontend *f, source_pattern *p);

#endif
