/* parse_context.h - what scanner and parser share, and the constructors of the syntax tree that the grammar's actions
 * call. */
#ifndef ATTNC_FRONTEND_PARSE_CONTEXT_H
#define ATTNC_FRONTEND_PARSE_CONTEXT_H

#include "frontend/ast.h"

typedef struct parse_context {
    arena *arena;
    diags *diags;
    uint32_t source;
    const char *text;
    size_t len;
    uint32_t offset;  /* of the next token */
    uint32_t comment; /* begin of an open comment */
    uint32_t nesting; /* of brackets */
    int first_token;  /* decides between a file and a lone expression; 0 once it was delivered */
    bool muted;       /* inside a refused clause: what follows is not complained about */
    bool stopped;     /* nested too deeply: the rest is not read */
    decl_list file;   /* result: a file */
    node *expression; /* result: an expression */
} parse_context;

/* ---- scanner ---------------------------------------------------------------------------------------------------- */
int parse_keyword(const char *word, size_t len); /* its token, or the token of a name */
int64_t parse_integer(parse_context *c, span where, const char *word);
double parse_float(parse_context *c, span where, const char *word);
char *parse_string(parse_context *c, span where, const char *word, size_t len);
void parse_bad_character(parse_context *c, span where, const char *word, size_t len);
void parse_wrong_operator(parse_context *c, span where, const char *written, const char *right);
bool parse_nest(parse_context *c, span where, int by); /* false: too deep */

/* ---- tree ------------------------------------------------------------------------------------------------------- */
node *ast_node(parse_context *c, node_kind kind, span where);
node *ast_with_kids(parse_context *c, node_kind kind, span where, node_list kids);
node *ast_named(parse_context *c, node_kind kind, span where, const char *name, node_list kids);
node *ast_binary(parse_context *c, binary_op op, span where, span op_where, node *a, node *b);
node *ast_join(parse_context *c, node_kind and_or, span where, span op_where, node *a, node *b);
node *ast_unary(parse_context *c, node_kind kind, span where, node *a);
node *ast_if(parse_context *c, span where, node *cond, node *a, node *b);
node_list ast_append(node_list list, node *n);
node_list ast_one(node *n);

decl *ast_decl(parse_context *c, decl_kind kind, span where, span name_where, const char *name);
decl *ast_clause(parse_context *c, clause_kind kind, span where, span name_where);
decl *ast_define(parse_context *c, define_kind kind, span where, node *header, node *value, requirement *requires);
decl_list ast_append_decl(decl_list list, decl *d);
requirement *ast_require(parse_context *c, requirement *before, span where, node *condition, const char *text);
option *ast_option(parse_context *c, span where, const char *name, node *value);
option *ast_reverse_options(option *o);

plan *ast_plan(parse_context *c, plan_kind kind, span where);
plan_list ast_append_plan(plan_list list, plan *p);
plan *ast_plan_sequence(parse_context *c, span where, plan_list kids);
plan *ast_plan_repeat(parse_context *c, span where, plan *what, node *count);
plan *ast_plan_if(parse_context *c, span where, node *cond, plan *a, plan *b);

/* ---- entry ------------------------------------------------------------------------------------------------------ */
/* Both report mistakes and return what could be read. */
decl_list parse_file(arena *a, diags *d, uint32_t source);
node *parse_expression(arena *a, diags *d, uint32_t source);

#endif
