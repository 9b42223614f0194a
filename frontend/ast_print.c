/* ast_print.c - the syntax tree as source again: one declaration a line, every operand of an operator in parentheses
 * where precedence could be mistaken, so that the text shows how the parser understood it. It parses to the same tree.
 */
#include "frontend/ast_print.h"

#include <string.h>

static void print_node(text *to, const node *n);

static void print_list(text *to, const node_list *list)
{
    for (const node *n = list->first; n; n = n->next) {
        print_node(to, n);
        if (n->next) text_add(to, ", ");
    }
}

static bool is_compound(const node *n)
{
    switch (n->kind) {
    case NODE_NOT:
    case NODE_NEGATE:
    case NODE_AND:
    case NODE_OR:
    case NODE_BINARY:
    case NODE_IF:
    case NODE_IN:
        return true;
    case NODE_INT:
    case NODE_FLOAT:
    case NODE_BOOL:
    case NODE_NAME:
    case NODE_CALL:
    case NODE_INDEX:
    case NODE_MEMBER:
    case NODE_SPAN:
    case NODE_LIST:
    case NODE_ERROR:
        return false;
    }
    ATTNC_UNREACHABLE();
}

static void print_operand(text *to, const node *n)
{
    if (is_compound(n)) text_add(to, "(");
    print_node(to, n);
    if (is_compound(n)) text_add(to, ")");
}

static void print_joined(text *to, const node *n, const char *with)
{
    for (const node *k = n->kids.first; k; k = k->next) {
        print_operand(to, k);
        if (k->next) text_printf(to, " %s ", with);
    }
}

static bool is_comparison(const node *n) { return n->kind == NODE_BINARY && n->op <= BINARY_NE; }

/* A chain `a < b < c` is not the same as `(a < b) < c`. */
static void print_binary(text *to, const node *n)
{
    static const char *const spelled[] = {"<", "<=", ">", ">=", "==", "!=", "+", "-", "*", "/", "%"};
    const node *a = n->kids.first;
    bool chain = is_comparison(n) && is_comparison(a) && !a->parens;
    if (chain)
        print_node(to, a);
    else
        print_operand(to, a);
    text_printf(to, " %s ", spelled[n->op]);
    print_operand(to, a->next);
}

static void print_in(text *to, const node *n)
{
    print_operand(to, n->kids.first);
    text_add(to, " in [");
    for (const node *k = n->kids.first->next; k; k = k->next) {
        print_node(to, k);
        if (k->next) text_add(to, ", ");
    }
    text_add(to, "]");
}

static void print_float(text *to, double x)
{
    size_t before = to->n;
    text_double(to, x);
    if (!strpbrk(text_get(to) + before, ".e")) text_add(to, ".0");
}

static void print_node(text *to, const node *n)
{
    switch (n->kind) {
    case NODE_INT:
        text_printf(to, "%lld", (long long)n->i);
        return;
    case NODE_FLOAT:
        print_float(to, n->f);
        return;
    case NODE_BOOL:
        text_add(to, n->i ? "true" : "false");
        return;
    case NODE_NAME:
        text_add(to, n->name);
        return;
    case NODE_CALL:
    case NODE_INDEX:
        text_printf(to, "%s%s", n->name, n->kind == NODE_CALL ? "(" : "[");
        print_list(to, &n->kids);
        text_add(to, n->kind == NODE_CALL ? ")" : "]");
        return;
    case NODE_MEMBER:
        text_printf(to, "%s.%s", n->name, n->member);
        return;
    case NODE_NOT:
        text_add(to, "not "), print_operand(to, n->kids.first);
        return;
    case NODE_NEGATE:
        text_add(to, "-"), print_operand(to, n->kids.first);
        return;
    case NODE_AND:
        print_joined(to, n, "and");
        return;
    case NODE_OR:
        print_joined(to, n, "or");
        return;
    case NODE_BINARY:
        print_binary(to, n);
        return;
    case NODE_IF:
        text_add(to, "if "), print_node(to, n->kids.first);
        text_add(to, " then "), print_node(to, n->kids.first->next);
        text_add(to, " else "), print_node(to, n->kids.last);
        return;
    case NODE_IN:
        print_in(to, n);
        return;
    case NODE_SPAN:
        print_operand(to, n->kids.first), text_add(to, "..");
        print_operand(to, n->kids.last);
        return;
    case NODE_LIST:
        text_add(to, "["), print_list(to, &n->kids), text_add(to, "]");
        return;
    case NODE_ERROR:
        return;
    }
    ATTNC_UNREACHABLE();
}

static void print_plan(text *to, const plan *p)
{
    bool parens = p->kids.n > 1 || (p->kids.n && p->kids.first->kind == PLAN_IF);
    switch (p->kind) {
    case PLAN_NAME:
        text_add(to, p->name);
        return;
    case PLAN_SEQUENCE:
        if (parens) text_add(to, "(");
        for (const plan *k = p->kids.first; k; k = k->next) {
            print_plan(to, k);
            if (k->next) text_add(to, ", ");
        }
        if (parens) text_add(to, ")");
        return;
    case PLAN_REPEAT:
        print_plan(to, p->kids.first);
        text_add(to, " * ");
        print_operand(to, p->value);
        return;
    case PLAN_IF:
        text_add(to, "if "), print_node(to, p->value);
        text_add(to, " then "), print_plan(to, p->kids.first);
        text_add(to, " else "), print_plan(to, p->kids.last);
        return;
    }
    ATTNC_UNREACHABLE();
}

static void print_type(text *to, const decl *d)
{
    static const char *const name[] = {"?", "int", "float", "bool"};
    text_printf(to, " %s : %s", d->name, name[d->type]);
    if (d->is_array) text_add(to, "["), print_list(to, &d->extents), text_add(to, "]");
}

static void print_define(text *to, const decl *d)
{
    static const char *const word[] = {"mask", "score", "let"};
    text_printf(to, "%s %s", word[d->define], d->name);
    if (d->params.n) text_add(to, "("), print_list(to, &d->params), text_add(to, ")");
    text_add(to, " = ");
    print_node(to, d->value);
    for (const requirement *r = d->requires; r; r = r->next) {
        text_add(to, " require ");
        print_node(to, r->condition);
        if (r->text) text_printf(to, " \"%s\"", r->text);
    }
}

static void print_policies(text *to, const option *o)
{
    for (; o; o = o->next) {
        text_add(to, o->name);
        if (o->value) text_add(to, "(");
        for (const node *n = o->value; n; n = n->next) {
            print_node(to, n);
            text_add(to, n->next ? ", " : ")");
        }
        if (o->next) text_add(to, ", ");
    }
}

static void print_clause(text *to, const decl *d)
{
    static const char *const word[CLAUSE_COUNT] = {"layers", "heads", "dim",   "dim_v", "dtype",
                                                   "mask",   "score", "scale", "row",   "kv",    "max_len"};
    text_printf(to, "%s %s", word[d->clause], d->text ? d->text : "");
    if (d->clause == CLAUSE_KV) {
        print_policies(to, d->options);
        return;
    }
    bool parens = d->options;
    if (parens) text_add(to, "(");
    for (const option *o = d->options; o; o = o->next) {
        text_printf(to, "%s: ", o->name);
        print_node(to, o->value);
        if (o->next) text_add(to, ", ");
    }
    print_list(to, &d->values);
    if (parens) text_add(to, ")");
}

static void print_decl(text *to, const decl *d, const char *indent)
{
    text_add(to, indent);
    switch (d->kind) {
    case DECL_IMPORT:
        text_printf(to, "import \"%s\"", d->text);
        break;
    case DECL_MODEL:
    case DECL_PATTERN:
        text_printf(to, "%s %s {\n", d->kind == DECL_MODEL ? "model" : "pattern", d->name);
        for (const decl *x = d->body.first; x; x = x->next) print_decl(to, x, *indent ? "        " : "    ");
        text_printf(to, "%s}\n", indent);
        return;
    case DECL_PARAM:
        text_add(to, "param"), print_type(to, d), text_add(to, " = "), print_node(to, d->value);
        break;
    case DECL_INPUT:
        text_add(to, "input"), print_type(to, d);
        break;
    case DECL_ATTR:
        text_add(to, "attr"), print_type(to, d);
        break;
    case DECL_DEFINE:
        print_define(to, d);
        break;
    case DECL_CLAUSE:
        print_clause(to, d);
        break;
    case DECL_SCHEDULE:
        text_add(to, "schedule "), print_plan(to, d->plan);
        break;
    case DECL_COUNT:
        ATTNC_UNREACHABLE();
    }
    text_add(to, ";\n");
}

void ast_print(text *to, decl_list decls)
{
    for (const decl *d = decls.first; d; d = d->next) print_decl(to, d, "");
}
