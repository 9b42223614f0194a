/* ast.h - the syntax tree: what was written, with its place; names are not resolved yet.
 *
 * Lists are chained through `next`. All of it lives in the arena of the parse. */
#ifndef ATTNC_FRONTEND_AST_H
#define ATTNC_FRONTEND_AST_H

#include "ir/base/diag.h"

enum { AST_MAX_DEPTH = 256 }; /* nesting of one expression, of blocks and of definitions in use */

typedef enum node_kind {
    NODE_INT,    /* i */
    NODE_FLOAT,  /* f */
    NODE_BOOL,   /* i */
    NODE_NAME,   /* name */
    NODE_CALL,   /* name(kids) */
    NODE_INDEX,  /* name[kids] */
    NODE_MEMBER, /* name.member */
    NODE_NOT,    /* kid */
    NODE_NEGATE, /* kid */
    NODE_AND,    /* two or more kids: `a and b and c` is one node */
    NODE_OR,
    NODE_BINARY, /* op; two kids */
    NODE_IF,     /* condition, then, else */
    NODE_IN,     /* value, then items: expressions or NODE_SPAN */
    NODE_SPAN,   /* lo..hi, both included */
    NODE_LIST,   /* [kids]: the value of an array param */
    NODE_ERROR   /* already reported */
} node_kind;

typedef enum binary_op {
    BINARY_LT,
    BINARY_LE,
    BINARY_GT,
    BINARY_GE,
    BINARY_EQ,
    BINARY_NE,
    BINARY_ADD,
    BINARY_SUB,
    BINARY_MUL,
    BINARY_DIV,
    BINARY_MOD
} binary_op;

typedef struct node node;
typedef struct node_list {
    node *first, *last;
    uint32_t n;
} node_list;

struct node {
    node_kind kind;
    binary_op op;
    bool parens; /* written in parentheses */
    uint32_t depth;
    span where;
    span op_where; /* of the operator */
    const char *name, *member;
    int64_t i;
    double f;
    node_list kids;
    node *next;
};

typedef enum type_name { TYPE_NAME_NONE, TYPE_NAME_INT, TYPE_NAME_FLOAT, TYPE_NAME_BOOL } type_name;

typedef enum decl_kind {
    DECL_IMPORT,   /* text */
    DECL_MODEL,    /* name, body */
    DECL_PATTERN,  /* name, body */
    DECL_PARAM,    /* name, type, extents, value */
    DECL_INPUT,    /* name, type, extents */
    DECL_ATTR,     /* name, type */
    DECL_DEFINE,   /* name, define, params, value, requires */
    DECL_CLAUSE,   /* clause, values */
    DECL_SCHEDULE, /* schedule */
    DECL_COUNT
} decl_kind;

typedef enum define_kind { DEFINE_MASK, DEFINE_SCORE, DEFINE_LET } define_kind;

typedef enum clause_kind {
    CLAUSE_LAYERS,
    CLAUSE_HEADS,
    CLAUSE_DIM,
    CLAUSE_DIM_V,
    CLAUSE_DTYPE,
    CLAUSE_MASK,
    CLAUSE_SCORE,
    CLAUSE_SCALE,
    CLAUSE_ROW,
    CLAUSE_KV,
    CLAUSE_MAX_LEN,
    CLAUSE_COUNT
} clause_kind;

typedef enum plan_kind { PLAN_NAME, PLAN_SEQUENCE, PLAN_REPEAT, PLAN_IF } plan_kind;

/* What stands behind `schedule`: names, sequences, repetition, choice by layer. */
typedef struct plan plan;
typedef struct plan_list {
    plan *first, *last;
    uint32_t n;
} plan_list;
struct plan {
    plan_kind kind;
    uint32_t depth;
    span where;
    const char *name;             /* NAME */
    node *value;                  /* REPEAT: how often; IF: condition */
    plan_list kids;               /* SEQUENCE; REPEAT: one; IF: two */
    struct expr_program *program; /* IF: the condition, once lowered */
    plan *next;
};

/* `require condition "what it means"` of a definition. */
typedef struct requirement {
    node *condition;
    const char *text;
    span where;
    struct requirement *next;
} requirement;

typedef struct option { /* `sink: expr` of a row function, `shared(expr, ...)` of a cache */
    const char *name;
    span where;
    node *value; /* the first of those in parentheses; NULL: none */
    struct option *next;
} option;

typedef struct decl decl;
typedef struct decl_list {
    decl *first, *last;
} decl_list;

struct decl {
    decl_kind kind;
    span where;      /* keyword to `;` */
    span name_where; /* the name, or the keyword where there is none */
    const char *name;
    const char *text; /* IMPORT: the file; clauses DTYPE, ROW: the word */
    type_name type;
    bool is_array;
    node_list extents;
    node_list params; /* NODE_NAMEs */
    node_list values; /* clause: expressions */
    node *value;
    requirement *requires;
    option *options; /* ROW, KV */
    define_kind define;
    clause_kind clause;
    plan *plan;
    decl_list body;
    /* filled by later phases */
    struct scope *home;    /* where it was declared: its body sees these names */
    bool used;             /* something mentions it */
    uint32_t number;       /* PATTERN: among all of the compilation */
    uint8_t visit;         /* walks over definitions and params: 0 new, 1 open, 2 done */
    struct meaning *known; /* PARAM, INPUT, ATTR: what it stands for, once computed */
    decl *next, *same_name;
};

#endif
