/* expr_text.c - printing: infix, as few parentheses as the reader needs, with a stack of its own (long chains). */
#include "ir/pattern/pool.h"

static const char *const var_names[VAR_COUNT] = {
#define VAR(ident, spelling, type, depends) [VAR_##ident] = spelling,
#include "ir/pattern/expr_vars.def"
#undef VAR
};
static const char *const side_names[ATTR_SIDE_COUNT] = {".q", ".k", ".q.min", ".q.max", ".k.min", ".k.max"};

static bool negative(const expr_node *n)
{
    if (n->op != EXPR_CONST) return false;
    if (n->type != TYPE_FLOAT) return n->value.i < 0;
    return n->value.f < 0 || (n->value.f == 0 && 1 / n->value.f < 0);
}

static int infix_precedence(expr_op op)
{
    if (op == EXPR_OR) return PREC_OR;
    if (op == EXPR_AND) return PREC_AND;
    if (op == EXPR_ADD || op == EXPR_SUB || op == EXPR_FADD || op == EXPR_FSUB) return PREC_SUM;
    if (op == EXPR_MUL || op == EXPR_DIV || op == EXPR_MOD || op == EXPR_FMUL || op == EXPR_FDIV) return PREC_PRODUCT;
    return PREC_COMPARE;
}

int expr_precedence(const expr_pool *p, expr e)
{
    const expr_node *n = expr_get(p, e);
    if (n->op == EXPR_IF) return PREC_IF;
    if (n->op == EXPR_NOT) return PREC_NOT;
    if (negative(n) || expr_is_minus(p, e)) return PREC_MINUS;
    return expr_op_table[n->op].form == FORM_INFIX ? infix_precedence((expr_op)n->op) : PREC_ATOM;
}

/* What is still to be written, the next on top. */
typedef struct item {
    const char *word; /* or */
    expr e;           /* in parentheses when it binds less than: */
    int least;
} item;
typedef struct printer {
    const expr_pool *pool;
    text *to;
    VEC(item) stack;
} printer;

static void push(printer *w, const char *word, expr e, int least)
{
    item x = {word, e, least};
    VEC_PUSH(w->to->arena, &w->stack, x);
}
static void push_word(printer *w, const char *word) { push(w, word, 0, 0); }

static void print_leaf(printer *w, const expr_node *n)
{
    symbols *s = w->pool->symbols;
    if (n->op == EXPR_CONST && n->type == TYPE_FLOAT)
        text_double(w->to, n->value.f);
    else if (n->op == EXPR_CONST && n->type == TYPE_BOOL)
        text_add(w->to, n->value.i ? "true" : "false");
    else if (n->op == EXPR_CONST)
        text_printf(w->to, "%lld", (long long)n->value.i);
    else if (n->op == EXPR_VAR)
        text_add(w->to, var_names[n->index]);
    else if (n->op == EXPR_ATTR)
        text_add(w->to, s->attrs.at[n->index]), text_add(w->to, side_names[n->side]);
    else
        text_printf(w->to, "%s#%u", n->side ? "must" : "may", n->index);
}

static void print_infix(printer *w, const expr_node *n)
{
    int prec = infix_precedence((expr_op)n->op);
    const expr_node *right = expr_get(w->pool, n->arg[1]);
    static const char minus[] = " - ";
    if (n->op == EXPR_ADD && negative(right) && right->value.i != INT64_MIN) { /* x + -5 is written x - 5 */
        push_word(w, arena_printf(w->to->arena, "%lld", -(long long)right->value.i));
        push_word(w, minus);
    } else {
        push(w, NULL, n->arg[1], prec + 1);
        push_word(w, " "), push_word(w, expr_op_table[n->op].spelling), push_word(w, " ");
    }
    push(w, NULL, n->arg[0], prec);
}

static void print_list(printer *w, const expr_node *n, const char *first, const char *close)
{
    push_word(w, close);
    for (unsigned i = n->nargs; i-- > 0;) {
        push(w, NULL, n->arg[i], PREC_IF);
        if (i) push_word(w, ", ");
    }
    if (first) push_word(w, first);
}

static void print_call(printer *w, const expr_node *n)
{
    bool bound = n->op == EXPR_ELEM_MIN || n->op == EXPR_ELEM_MAX;
    text_printf(w->to, "%s(", expr_op_table[n->op].spelling);
    if (bound) text_printf(w->to, "%s, ", w->pool->symbols->tables.at[n->index].name);
    print_list(w, n, NULL, ")");
}

static void print_node(printer *w, expr e)
{
    const expr_node *n = expr_get(w->pool, e);
    switch (expr_op_table[n->op].form) {
    case FORM_LEAF:
        print_leaf(w, n);
        break;
    case FORM_INFIX:
        if (expr_is_minus(w->pool, e))
            push(w, NULL, n->arg[1], PREC_MINUS), push_word(w, "-");
        else
            print_infix(w, n);
        break;
    case FORM_PREFIX:
        push(w, NULL, n->arg[0], PREC_NOT), push_word(w, "not ");
        break;
    case FORM_CALL:
        print_call(w, n);
        break;
    case FORM_INDEX:
        print_list(w, n, "[", "]"), text_add(w->to, w->pool->symbols->tables.at[n->index].name);
        break;
    case FORM_IF:
        push(w, NULL, n->arg[2], PREC_IF), push_word(w, " else ");
        push(w, NULL, n->arg[1], PREC_IF), push_word(w, " then ");
        push(w, NULL, n->arg[0], PREC_IF), push_word(w, "if ");
        break;
    }
}

void expr_print(const expr_pool *p, expr e, text *to)
{
    if (expr_tree_size(p, e) > EXPR_MAX_TREE) {
        text_printf(to, "<too large: %u nodes>", expr_tree_size(p, e));
        return;
    }
    printer w = {.pool = p, .to = to};
    push(&w, NULL, e, PREC_IF);
    while (w.stack.n) {
        item x = w.stack.at[--w.stack.n];
        if (x.word) {
            text_add(to, x.word);
        } else if (expr_precedence(p, x.e) < x.least) {
            push_word(&w, ")"), push(&w, NULL, x.e, PREC_IF);
            text_add(to, "(");
        } else {
            print_node(&w, x.e);
        }
    }
}
