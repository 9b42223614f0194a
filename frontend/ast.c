/* ast.c - constructors of the syntax tree. They keep nesting bounded, so that later phases may recurse. */
#include "frontend/parse_context.h"
#include "frontend/parse_report.h"

#include <string.h>

node *ast_node(parse_context *c, node_kind kind, span where)
{
    node *n = ARENA_NEW(c->arena, node);
    *n = (node){.kind = kind, .where = where, .op_where = where, .depth = 1};
    return n;
}

node_list ast_append(node_list list, node *n)
{
    n->next = NULL;
    if (list.last)
        list.last->next = n;
    else
        list.first = n;
    list.last = n;
    list.n++;
    return list;
}

node_list ast_one(node *n) { return ast_append((node_list){0}, n); }

node *ast_with_kids(parse_context *c, node_kind kind, span where, node_list kids)
{
    node *n = ast_node(c, kind, where);
    n->kids = kids;
    for (const node *k = kids.first; k; k = k->next)
        if (k->depth >= n->depth) n->depth = k->depth + 1;
    if (n->depth > AST_MAX_DEPTH) {
        parse_too_deep(c, where);
        *n = (node){.kind = NODE_ERROR, .where = where, .op_where = where, .depth = 1};
    }
    return n;
}

node *ast_named(parse_context *c, node_kind kind, span where, const char *name, node_list kids)
{
    node *n = ast_with_kids(c, kind, where, kids);
    n->name = name;
    return n;
}

node *ast_binary(parse_context *c, binary_op op, span where, span op_where, node *a, node *b)
{
    node *n = ast_with_kids(c, NODE_BINARY, where, ast_append(ast_one(a), b));
    n->op = op;
    n->op_where = op_where;
    return n;
}

/* `a and b and c` becomes one node, so that long lists are not deep. */
node *ast_join(parse_context *c, node_kind and_or, span where, span op_where, node *a, node *b)
{
    if (a->kind != and_or || a->parens) {
        node *n = ast_with_kids(c, and_or, where, ast_append(ast_one(a), b));
        n->op_where = op_where;
        return n;
    }
    a->kids = ast_append(a->kids, b);
    a->where = where;
    if (b->depth >= a->depth) a->depth = b->depth + 1;
    if (a->depth > AST_MAX_DEPTH) parse_too_deep(c, where);
    return a;
}

node *ast_unary(parse_context *c, node_kind kind, span where, node *a)
{
    return ast_with_kids(c, kind, where, ast_one(a));
}

node *ast_if(parse_context *c, span where, node *cond, node *a, node *b)
{
    return ast_with_kids(c, NODE_IF, where, ast_append(ast_append(ast_one(cond), a), b));
}

decl *ast_decl(parse_context *c, decl_kind kind, span where, span name_where, const char *name)
{
    decl *d = ARENA_NEW(c->arena, decl);
    *d = (decl){.kind = kind, .where = where, .name_where = name_where, .name = name};
    return d;
}

decl *ast_clause(parse_context *c, clause_kind kind, span where, span name_where)
{
    decl *d = ast_decl(c, DECL_CLAUSE, where, name_where, NULL);
    d->clause = kind;
    return d;
}

static bool is_plain_name(const node *n) { return n->kind == NODE_NAME && !n->parens; }

/* The header was read as an expression, because `mask f(w)` begins a clause as well as a definition. */
decl *ast_define(parse_context *c, define_kind kind, span where, node *header, node *value, requirement *requires)
{
    bool good = !header->parens && (header->kind == NODE_NAME || header->kind == NODE_CALL);
    for (const node *n = header->kids.first; n && good; n = n->next) good = is_plain_name(n);
    if (!good) {
        if (header->kind != NODE_ERROR) {
            diag_report(c->diags, DIAG_ID_SYNTAX, header->where,
                        "a definition begins with a name and the names of its arguments");
            diag_add_hint(c->diags, "write 'name = ...;' or 'name(a, b) = ...;'; equality is written '=='");
        }
        return NULL;
    }
    span name = {header->where.source, header->where.begin, header->where.begin + (uint32_t)strlen(header->name)};
    decl *d = ast_decl(c, DECL_DEFINE, where, name, header->name);
    d->define = kind;
    d->params = header->kids;
    d->value = value;
    d->requires = requires;
    return d;
}

decl_list ast_append_decl(decl_list list, decl *d)
{
    if (!d) return list;
    if (list.last)
        list.last->next = d;
    else
        list.first = d;
    list.last = d;
    return list;
}

requirement *ast_require(parse_context *c, requirement *before, span where, node *condition, const char *message)
{
    requirement *r = ARENA_NEW(c->arena, requirement);
    *r = (requirement){.condition = condition, .text = message, .where = where};
    if (!before) return r;
    requirement *last = before;
    while (last->next) last = last->next;
    last->next = r;
    return before;
}

option *ast_option(parse_context *c, span where, const char *name, node *value)
{
    option *o = ARENA_NEW(c->arena, option);
    *o = (option){.name = name, .where = where, .value = value};
    return o;
}

option *ast_reverse_options(option *o)
{
    option *list = NULL;
    while (o) {
        option *rest = o->next;
        o->next = list;
        list = o, o = rest;
    }
    return list;
}

plan *ast_plan(parse_context *c, plan_kind kind, span where)
{
    plan *p = ARENA_NEW(c->arena, plan);
    *p = (plan){.kind = kind, .where = where, .depth = 1};
    return p;
}

plan_list ast_append_plan(plan_list list, plan *p)
{
    if (list.last)
        list.last->next = p;
    else
        list.first = p;
    list.last = p;
    list.n++;
    return list;
}

static plan *set_depth(parse_context *c, plan *p)
{
    for (const plan *k = p->kids.first; k; k = k->next)
        if (k->depth >= p->depth) p->depth = k->depth + 1;
    if (p->depth > AST_MAX_DEPTH) {
        parse_too_deep(c, p->where);
        p->kids = (plan_list){0};
        p->depth = 1;
    }
    return p;
}

plan *ast_plan_sequence(parse_context *c, span where, plan_list kids)
{
    plan *p = ast_plan(c, PLAN_SEQUENCE, where);
    p->kids = kids;
    return set_depth(c, p);
}

plan *ast_plan_repeat(parse_context *c, span where, plan *what, node *count)
{
    plan *p = ast_plan(c, PLAN_REPEAT, where);
    p->kids = ast_append_plan((plan_list){0}, what);
    p->value = count;
    return set_depth(c, p);
}

plan *ast_plan_if(parse_context *c, span where, node *cond, plan *a, plan *b)
{
    plan *p = ast_plan(c, PLAN_IF, where);
    p->kids = ast_append_plan(ast_append_plan((plan_list){0}, a), b);
    p->value = cond;
    return set_depth(c, p);
}
