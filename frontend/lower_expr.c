/* lower_expr.c - expressions of the source to typed expressions of the pattern IR. */
#include "frontend/internal.h"

#include <string.h>

static const meaning failed = {.kind = VALUE_ERROR};
static meaning of_expr(expr e) { return e ? (meaning){.kind = VALUE_EXPR, .e = e} : failed; }

/* ---- names of the language -------------------------------------------------------------------------------------- */
static const char *const constant_name[CONSTANT_COUNT] = {
#define CONSTANT(ident, spelling) spelling,
#include "frontend/constants.def"
#undef CONSTANT
};

static const char *const variable_name[VAR_COUNT] = {
#define VAR(ident, spelling, type, depends) spelling,
#include "ir/pattern/expr_vars.def"
#undef VAR
};

enum { SOURCE_VARIABLES = VAR_S + 1 }; /* the rest belongs to the range analysis */

int find_constant(const char *name)
{
    for (int i = 0; i < CONSTANT_COUNT; i++)
        if (!strcmp(constant_name[i], name)) return i;
    return -1;
}

int find_variable(const char *name)
{
    for (int i = 0; i < SOURCE_VARIABLES; i++)
        if (!strcmp(variable_name[i], name)) return i;
    return -1;
}

enum { LAYER = 1 << VAR_LAYER, HEAD = 1 << VAR_H | 1 << VAR_G | LAYER, PAIR = HEAD | 1 << VAR_Q | 1 << VAR_K };
static const struct {
    const char *name;
    unsigned variables;
} place_table[PLACE_COUNT] = {
    [PLACE_CONST] = {"a constant", 0},
    [PLACE_SCHEDULE] = {"a schedule", LAYER},
    [PLACE_SCALE] = {"the scale", HEAD},
    [PLACE_SINK] = {"the sink", HEAD | 1 << VAR_Q},
    [PLACE_MASK] = {"a mask", PAIR | 1 << VAR_LEN},
    [PLACE_SCORE] = {"a score", PAIR | 1 << VAR_LEN | 1 << VAR_S},
};

static meaning lower_variable(frontend *f, const frame *in, const node *n, expr_var v)
{
    if (place_table[in->place].variables >> v & 1) return of_expr(expr_variable(f->pool, v));
    if (report(f, in, DIAG_ID_TYPE, n->where, "'%s' has no value in %s", n->name, place_table[in->place].name) &&
        v == VAR_S)
        diag_add_hint(f->diags, "'s' is the logit; only scores read it");
    return failed;
}

static meaning lower_constant(frontend *f, const frame *in, const node *n, constant c)
{
    if (c == CONSTANT_NONE) return of_expr(expr_int(f->pool, NONE_LIMIT));
    const sizes *s = in->place == PLACE_CONST || !f->now ? &f->model_sizes : &f->now->sizes;
    if (c == CONSTANT_LAYERS) s = &f->model_sizes;
    if (s->known[c]) return of_expr(expr_int(f->pool, s->value[c]));
    bool differs = f->module && f->module->layers && in->place == PLACE_CONST;
    report(f, in, DIAG_ID_TYPE, n->where,
           differs ? "'%s' is not the same in all patterns; write a number" : "'%s' is not known yet here", n->name);
    return failed;
}

static meaning lower_name(frontend *f, const frame *in, const node *n)
{
    if (in->define) {
        uint32_t i = 0;
        for (const node *a = in->define->params.first; a; a = a->next, i++)
            if (!strcmp(a->name, n->name)) return in->args[i];
    }
    decl *d = scope_find(in->names, n->name, SCOPE_VALUE);
    if (d) return d->kind == DECL_DEFINE ? use_definition(f, in, n->where, d, NULL, 0) : symbol_value(f, d);
    if (find_constant(n->name) >= 0) return lower_constant(f, in, n, (constant)find_constant(n->name));
    if (find_variable(n->name) >= 0) return lower_variable(f, in, n, (expr_var)find_variable(n->name));
    return failed; /* resolve.c has said so */
}

/* ---- types ------------------------------------------------------------------------------------------------------ */
static const char *const type_text[] = {[TYPE_BOOL] = "a bool", [TYPE_INT] = "an int", [TYPE_FLOAT] = "a float"};

static const char *value_description(const frontend *f, meaning v)
{
    switch (v.kind) {
    case VALUE_ERROR:
        return "nothing";
    case VALUE_EXPR:
        return type_text[expr_type_of(f->pool, v.e)];
    case VALUE_TABLE:
        return "a whole table";
    case VALUE_ATTR:
        return "an attribute";
    }
    ATTNC_UNREACHABLE();
}

static void hint_type(frontend *f, meaning v, expr_type type)
{
    if (v.kind == VALUE_TABLE)
        diag_add_hint(f->diags, "read an element: name[...]");
    else if (v.kind == VALUE_ATTR)
        diag_add_hint(f->diags, "an attribute is read as name.q (of the query) or name.k (of the key)");
    else if (type == TYPE_INT)
        diag_add_hint(f->diags, "floor(x) makes an int of a float");
    else if (type == TYPE_BOOL)
        diag_add_hint(f->diags, "compare it, for example: ... == 1");
}

static bool reads_position(const frontend *f, expr e)
{
    return expr_reads_var(f->pool, e, VAR_Q) || expr_reads_var(f->pool, e, VAR_K) ||
           expr_reads_var(f->pool, e, VAR_LEN);
}

static expr int_to_float(frontend *f, const frame *in, expr e, span where)
{
    if (in->place == PLACE_MASK && reads_position(f, e)) {
        if (report(f, in, DIAG_ID_TYPE, where,
                   "a mask cannot compute with positions as floats: they would not stay exact"))
            diag_add_hint(f->diags, "use integers; '/' rounds down, '%%' is the rest");
        return 0;
    }
    return expr_unary(f->pool, EXPR_FLOAT, e);
}

expr as_type(frontend *f, const frame *in, meaning v, expr_type type, span where, const char *what)
{
    if (v.kind == VALUE_ERROR) return 0;
    if (v.kind == VALUE_EXPR) {
        expr_type have = expr_type_of(f->pool, v.e);
        if (have == type) return v.e;
        if (have == TYPE_INT && type == TYPE_FLOAT) return int_to_float(f, in, v.e, where);
    }
    if (report(f, in, DIAG_ID_TYPE, where, "%s must be %s, not %s", what, type_text[type], value_description(f, v)))
        hint_type(f, v, type);
    return 0;
}

expr lower_as(frontend *f, const frame *in, const node *n, expr_type type, const char *what)
{
    return as_type(f, in, lower(f, in, n), type, n->where, what);
}

/* A number of either type, or a bool when `bools`; else a message. */
static expr lower_plain(frontend *f, const frame *in, const node *n, bool bools, const char *what)
{
    meaning v = lower(f, in, n);
    if (v.kind == VALUE_ERROR) return 0;
    if (v.kind == VALUE_EXPR && (bools || expr_type_of(f->pool, v.e) != TYPE_BOOL)) return v.e;
    if (report(f, in, DIAG_ID_TYPE, n->where, "%s must be a number, not %s", what, value_description(f, v)) &&
        v.kind != VALUE_EXPR)
        hint_type(f, v, TYPE_FLOAT);
    return 0;
}

/* Brings both to one type: int, or float when one is. Leaves them when that cannot be. */
static bool unify(frontend *f, const frame *in, expr *a, span where_a, expr *b, span where_b)
{
    expr_type x = expr_type_of(f->pool, *a), y = expr_type_of(f->pool, *b);
    if (x == y) return true;
    expr converted = 0;
    if (x == TYPE_INT && y == TYPE_FLOAT && (converted = int_to_float(f, in, *a, where_a))) *a = converted;
    if (x == TYPE_FLOAT && y == TYPE_INT && (converted = int_to_float(f, in, *b, where_b))) *b = converted;
    return converted != 0;
}

/* ---- limits ----------------------------------------------------------------------------------------------------- */
meaning give_up(frontend *f, const frame *in, span where, const char *what)
{
    if (!f->too_large) report(f, in, DIAG_ID_TOO_LARGE, where, "%s", what);
    f->too_large = true;
    return failed;
}

meaning checked(frontend *f, const frame *in, expr e, span where)
{
    int_range r;
    if (!e) return failed;
    if (expr_count(f->pool) > MAX_EXPRESSIONS) return give_up(f, in, where, "too many expressions");
    if (expr_tree_size(f->pool, e) > MAX_TREE || expr_nesting(f->pool, e) > MAX_NESTING)
        return give_up(f, in, where, "with all definitions written out this expression is too large");
    if (expr_type_of(f->pool, e) == TYPE_FLOAT || expr_range(f->pool, e, EXPR_MAX_POSITION, &r)) return of_expr(e);
    if (is_dead(f, in))
        return of_expr(expr_type_of(f->pool, e) == TYPE_BOOL ? expr_bool(f->pool, false) : expr_int(f->pool, 0));
    report(f, in, DIAG_ID_OVERFLOW, where, "this can leave 64 bits; positions go up to 2^30");
    return failed;
}

/* ---- operators -------------------------------------------------------------------------------------------------- */
static void note_comparison(frontend *f, const frame *in, expr e, span where)
{
    const expr_node *n = expr_get(f->pool, e);
    if (n->op == EXPR_NOT) note_comparison(f, in, n->arg[0], where);
    while (f->compared.n <= e) VEC_PUSH(f->arena, &f->compared, SPAN_NONE);
    if (f->compared.at[e].source == UINT32_MAX) f->compared.at[e] = user_place(f, in, where);
}

static expr compare(frontend *f, binary_op op, expr a, expr b)
{
    bool is_float = expr_type_of(f->pool, a) == TYPE_FLOAT;
    bool swap = op == BINARY_GT || op == BINARY_GE;
    expr_op less = op == BINARY_LT || op == BINARY_GT ? (is_float ? EXPR_FLT : EXPR_LT) : is_float ? EXPR_FLE : EXPR_LE;
    if (op == BINARY_EQ || op == BINARY_NE) {
        expr e = expr_binary(f->pool, is_float ? EXPR_FEQ : EXPR_EQ, a, b);
        return op == BINARY_EQ ? e : expr_unary(f->pool, EXPR_NOT, e);
    }
    return swap ? expr_binary(f->pool, less, b, a) : expr_binary(f->pool, less, a, b);
}

static expr compare_bools(frontend *f, binary_op op, expr a, expr b)
{
    expr not_b = expr_unary(f->pool, EXPR_NOT, b);
    return op == BINARY_EQ ? expr_if(f->pool, a, b, not_b) : expr_if(f->pool, a, not_b, b);
}

static expr compare_values(frontend *f, const frame *in, const node *n, expr a, span where_a, expr b, span where_b)
{
    static const char *const spelled[] = {"<", "<=", ">", ">=", "==", "!="};
    bool bools = expr_type_of(f->pool, a) == TYPE_BOOL && expr_type_of(f->pool, b) == TYPE_BOOL;
    if (bools && (n->op == BINARY_EQ || n->op == BINARY_NE)) return compare_bools(f, n->op, a, b);
    if (bools || !unify(f, in, &a, where_a, &b, where_b)) {
        if (bools || expr_type_of(f->pool, a) == TYPE_BOOL || expr_type_of(f->pool, b) == TYPE_BOOL)
            report(f, in, DIAG_ID_TYPE, n->op_where, "'%s' cannot compare %s with %s", spelled[n->op],
                   type_text[expr_type_of(f->pool, a)], type_text[expr_type_of(f->pool, b)]);
        return 0;
    }
    expr e = compare(f, n->op, a, b);
    note_comparison(f, in, e, n->where);
    return e;
}

static bool is_comparison(const node *n) { return n->kind == NODE_BINARY && n->op <= BINARY_NE; }

/* `0 <= x < 5` is `0 <= x and x < 5`. Each operand is lowered once; *right is the last one. */
static expr lower_chain(frontend *f, const frame *in, const node *n, expr *right)
{
    const node *left = n->kids.first, *middle = left;
    bool chain = is_comparison(left) && !left->parens, good = true;
    if (chain && (n->op == BINARY_NE || left->op == BINARY_NE)) {
        if (report(f, in, DIAG_ID_TYPE, n->op_where, "'!=' cannot stand in a chain of comparisons"))
            diag_add_hint(f->diags, "write two comparisons joined by 'and'");
        good = false;
    }
    expr a = 0, before = 0;
    if (chain) {
        middle = left->kids.first->next;
        before = lower_chain(f, in, left, &a);
        good &= before != 0;
    } else {
        a = lower_plain(f, in, left, true, "an operand of a comparison");
    }
    *right = lower_plain(f, in, n->kids.last, true, "an operand of a comparison");
    if (!a || !*right) return 0;
    expr e = compare_values(f, in, n, a, middle->where, *right, n->kids.last->where);
    if (!e || !good) return 0;
    return chain ? expr_binary(f->pool, EXPR_AND, before, e) : e;
}

static meaning lower_comparison(frontend *f, const frame *in, const node *n)
{
    expr right;
    return checked(f, in, lower_chain(f, in, n, &right), n->where);
}

static bool is_zero(const frontend *f, expr e)
{
    const expr_node *n = expr_get(f->pool, e);
    return n->op == EXPR_CONST && (n->type == TYPE_FLOAT ? n->value.f == 0 : n->value.i == 0);
}

static meaning lower_arithmetic(frontend *f, const frame *in, const node *n)
{
    static const expr_op on_ints[] = {EXPR_ADD, EXPR_SUB, EXPR_MUL, EXPR_DIV, EXPR_MOD};
    static const expr_op on_floats[] = {EXPR_FADD, EXPR_FSUB, EXPR_FMUL, EXPR_FDIV, EXPR_NONE};
    static const char *const what[] = {"an operand of '+'", "an operand of '-'", "an operand of '*'",
                                       "an operand of '/'", "an operand of '%'"};
    const node *x = n->kids.first, *y = x->next;
    unsigned op = n->op - BINARY_ADD;
    expr a = lower_plain(f, in, x, false, what[op]), b = lower_plain(f, in, y, false, what[op]);
    if (!a || !b || !unify(f, in, &a, x->where, &b, y->where)) return failed;
    bool is_float = expr_type_of(f->pool, a) == TYPE_FLOAT;
    if (is_float && n->op == BINARY_MOD) {
        report(f, in, DIAG_ID_TYPE, n->op_where, "'%%' is for ints");
        return failed;
    }
    if ((n->op == BINARY_DIV || n->op == BINARY_MOD) && is_zero(f, b)) {
        if (is_dead(f, in)) return of_expr(is_float ? expr_float(f->pool, 0) : expr_int(f->pool, 0));
        report(f, in, DIAG_ID_RANGE, y->where, "division by zero");
        return failed;
    }
    return checked(f, in, expr_binary(f->pool, is_float ? on_floats[op] : on_ints[op], a, b), n->where);
}

static meaning lower_negate(frontend *f, const frame *in, const node *n)
{
    expr a = lower_plain(f, in, n->kids.first, false, "the operand of '-'");
    if (!a) return failed;
    if (expr_type_of(f->pool, a) == TYPE_FLOAT) {
        const expr_node *c = expr_get(f->pool, a);
        if (c->op == EXPR_CONST) return of_expr(expr_float(f->pool, -c->value.f));
        return checked(f, in, expr_binary(f->pool, EXPR_FMUL, expr_float(f->pool, -1), a), n->where);
    }
    return checked(f, in, expr_negate(f->pool, a), n->where);
}

/* ---- and, or ---------------------------------------------------------------------------------------------------- */
static bool reads_both_sides(frontend *f, expr root)
{
    VEC(expr) open = {0};
    bool side[ATTR_SIDE_COUNT] = {false};
    bool *seen = ARENA_ARRAY(f->arena, bool, (size_t)root + 1);
    VEC_PUSH(f->arena, &open, root);
    while (open.n) {
        expr e = open.at[--open.n];
        if (seen[e]) continue;
        seen[e] = true;
        const expr_node *n = expr_get(f->pool, e);
        if (n->op == EXPR_ATTR) side[n->side] = true;
        for (unsigned i = 0; i < n->nargs; i++) VEC_PUSH(f->arena, &open, n->arg[i]);
    }
    return side[ATTR_Q] && side[ATTR_K];
}

static const char *slice(const frontend *f, span from, span to)
{
    return arena_copy(f->arena, f->diags->sources.at[from.source].text + from.begin, to.end - from.begin);
}

/* `a and b or c` is `(a and b) or c` by precedence; where token groups meet other limits the writer must say it. */
static bool report_ambiguous(frontend *f, const frame *in, const node *n, const node *and)
{
    if (in_prelude(f, n->where)) return false;
    const char *one, *other;
    if (and->next) {
        one = arena_printf(f->arena, "(%s) or %s", slice(f, and->where, and->where),
                           slice(f, and->next->where, n->where));
        const node *last = and->kids.last, *before = and->kids.first;
        while (before->next != last) before = before->next;
        other =
            arena_printf(f->arena, "%s and (%s)", slice(f, and->where, before->where), slice(f, last->where, n->where));
    } else {
        const node *before = n->kids.first, *first = and->kids.first;
        while (before->next != and) before = before->next;
        one = arena_printf(f->arena, "%s or (%s)", slice(f, n->where, before->where), slice(f, and->where, and->where));
        other = arena_printf(f->arena, "(%s) and %s", slice(f, n->where, first->where),
                             slice(f, first->next->where, and->where));
    }
    if (!report(f, in, DIAG_ID_AMBIGUOUS, n->where,
                "'and' and 'or' are mixed around a token attribute: say which is meant"))
        return true;
    diag_add_hint(f->diags, "write %s", one);
    diag_add_hint(f->diags, "or    %s", other);
    return true;
}

static const node *bare_and(const node *n)
{
    for (const node *k = n->kids.first; k; k = k->next)
        if (k->kind == NODE_AND && !k->parens) return k;
    return NULL;
}

static meaning lower_joined(frontend *f, const frame *in, const node *n)
{
    bool is_and = n->kind == NODE_AND, good = true, grouped = false;
    expr joined = expr_bool(f->pool, is_and);
    for (const node *k = n->kids.first; k; k = k->next) {
        expr e = lower_as(f, in, k, TYPE_BOOL, is_and ? "an operand of 'and'" : "an operand of 'or'");
        if (!e) good = false;
        if (good) joined = expr_binary(f->pool, is_and ? EXPR_AND : EXPR_OR, joined, e);
        if (f->too_large) return failed;
        bool bare = k->kind == NODE_AND && !k->parens; /* then its own operands count */
        grouped |= bare ? f->and_grouped : e && expr_reads_data(f->pool, e) && reads_both_sides(f, e);
    }
    if (is_and) f->and_grouped = grouped;
    if (!good) return failed;
    const node *and = is_and ? NULL : bare_and(n);
    if (and&&grouped && report_ambiguous(f, in, n, and)) return failed;
    return checked(f, in, joined, n->where);
}

/* ---- if, in ----------------------------------------------------------------------------------------------------- */
static bool is_uniform(const frontend *f, expr e)
{
    return !(expr_depends(f->pool, e) & (DEPENDS_ROW | DEPENDS_KEY | DEPENDS_SCORE));
}

static meaning lower_if(frontend *f, const frame *in, const node *n)
{
    const node *test = n->kids.first, *yes = test->next, *no = yes->next;
    expr cond = lower_as(f, in, test, TYPE_BOOL, "the condition of 'if'");
    frame in_yes = *in, in_no = *in;
    if (cond && is_uniform(f, cond)) {
        expr always = expr_bool(f->pool, true), path = in->path ? in->path : always;
        in_yes.path = expr_binary(f->pool, EXPR_AND, path, cond);
        in_no.path = expr_binary(f->pool, EXPR_AND, path, expr_unary(f->pool, EXPR_NOT, cond));
    }
    expr a = lower_plain(f, &in_yes, yes, true, "a branch of 'if'"),
         b = lower_plain(f, &in_no, no, true, "a branch of 'if'");
    if (!cond || !a || !b) return failed;
    if (!unify(f, in, &a, yes->where, &b, no->where)) {
        if (expr_type_of(f->pool, a) == TYPE_BOOL || expr_type_of(f->pool, b) == TYPE_BOOL)
            report(f, in, DIAG_ID_TYPE, n->where, "the branches of 'if' differ: %s and %s",
                   type_text[expr_type_of(f->pool, a)], type_text[expr_type_of(f->pool, b)]);
        return failed;
    }
    return checked(f, in, expr_if(f->pool, cond, a, b), n->where);
}

static expr lower_item(frontend *f, const frame *in, const node *n, expr x, span where, const node *item)
{
    node like = {.kind = NODE_BINARY, .op = BINARY_EQ, .where = n->where, .op_where = item->where};
    if (item->kind != NODE_SPAN) {
        expr y = lower_plain(f, in, item, false, "an element of the list");
        return y ? compare_values(f, in, &like, x, where, y, item->where) : 0;
    }
    const node *lo = item->kids.first, *hi = lo->next;
    expr a = lower_plain(f, in, lo, false, "an end of '..'"), b = lower_plain(f, in, hi, false, "an end of '..'");
    if (!a || !b) return 0;
    like.op = BINARY_LE;
    expr above = compare_values(f, in, &like, a, lo->where, x, where),
         below = compare_values(f, in, &like, x, where, b, hi->where);
    return above && below ? expr_binary(f->pool, EXPR_AND, above, below) : 0;
}

static meaning lower_in(frontend *f, const frame *in, const node *n)
{
    const node *tested = n->kids.first;
    expr x = lower_plain(f, in, tested, false, "the meaning before 'in'"), any = expr_bool(f->pool, false);
    if (!x) return failed;
    for (const node *item = tested->next; item; item = item->next) {
        expr e = lower_item(f, in, n, x, tested->where, item);
        if (!e) return failed;
        any = expr_binary(f->pool, EXPR_OR, any, e);
    }
    return checked(f, in, any, n->where);
}

/* ---- tables, attributes ----------------------------------------------------------------------------------------- */
/* An index that is never inside would silently read 0. */
static bool check_index(frontend *f, const frame *in, expr index, const table *t, uint32_t i, span where)
{
    int_range r;
    if (is_dead(f, in) || !expr_range(f->pool, index, EXPR_MAX_POSITION, &r)) return true;
    if (r.hi >= 0 && r.lo < t->extent[i]) return true;
    report(f, in, DIAG_ID_RANGE, where, "this index is never inside the table: it has %lld elements here",
           (long long)t->extent[i]);
    return false;
}

static meaning lower_index(frontend *f, const frame *in, const node *n)
{
    node name = {.kind = NODE_NAME, .where = n->where, .name = n->name};
    meaning v = lower_name(f, in, &name);
    if (v.kind == VALUE_ERROR) return failed;
    if (v.kind != VALUE_TABLE) {
        report(f, in, DIAG_ID_TYPE, n->where, "'%s' is %s: it has no elements", n->name, value_description(f, v));
        return failed;
    }
    const table t = f->module->symbols.tables.at[v.index];
    if (t.rank != n->kids.n) {
        report(f, in, DIAG_ID_ARGUMENTS, n->where, "'%s' has %u %s, not %u", n->name, t.rank,
               t.rank == 1 ? "index" : "indices", n->kids.n);
        return failed;
    }
    expr index[TABLE_MAX_RANK];
    uint32_t i = 0;
    for (const node *k = n->kids.first; k; k = k->next, i++) {
        index[i] = lower_as(f, in, k, TYPE_INT, "an index");
        if (!index[i] || !check_index(f, in, index[i], &t, i, k->where)) return failed;
    }
    expr e = expr_elem(f->pool, v.index, index, t.rank);
    if (v.is_bool) e = expr_unary(f->pool, EXPR_NOT, expr_binary(f->pool, EXPR_EQ, e, expr_int(f->pool, 0)));
    return checked(f, in, e, n->where);
}

static meaning lower_member(frontend *f, const frame *in, const node *n)
{
    node name = {.kind = NODE_NAME, .where = n->where, .name = n->name};
    meaning v = lower_name(f, in, &name);
    if (v.kind == VALUE_ERROR) return failed;
    bool of_query = !strcmp(n->member, "q");
    if (v.kind != VALUE_ATTR)
        report(f, in, DIAG_ID_TYPE, n->where, "'%s' is %s, not an attribute", n->name, value_description(f, v));
    else if (!of_query && strcmp(n->member, "k"))
        report(f, in, DIAG_ID_UNKNOWN, n->where, "an attribute is read as %s.q or %s.k", n->name, n->name);
    else if (in->place != PLACE_MASK && in->place != PLACE_SCORE && !(in->place == PLACE_SINK && of_query))
        report(f, in, DIAG_ID_TYPE, n->where, "'%s.%s' has no value in %s", n->name, n->member,
               place_table[in->place].name);
    else
        return of_expr(expr_attr(f->pool, v.index, of_query ? ATTR_Q : ATTR_K));
    return failed;
}

static meaning lower_node(frontend *f, const frame *in, const node *n)
{
    switch (n->kind) {
    case NODE_INT:
        return of_expr(expr_int(f->pool, n->i));
    case NODE_FLOAT:
        return of_expr(expr_float(f->pool, n->f));
    case NODE_BOOL:
        return of_expr(expr_bool(f->pool, n->i));
    case NODE_NAME:
        return lower_name(f, in, n);
    case NODE_CALL:
        return lower_call(f, in, n);
    case NODE_INDEX:
        return lower_index(f, in, n);
    case NODE_MEMBER:
        return lower_member(f, in, n);
    case NODE_NOT: {
        expr e = lower_as(f, in, n->kids.first, TYPE_BOOL, "the operand of 'not'");
        return e ? checked(f, in, expr_unary(f->pool, EXPR_NOT, e), n->where) : failed;
    }
    case NODE_NEGATE:
        return lower_negate(f, in, n);
    case NODE_AND:
    case NODE_OR:
        return lower_joined(f, in, n);
    case NODE_BINARY:
        return is_comparison(n) ? lower_comparison(f, in, n) : lower_arithmetic(f, in, n);
    case NODE_IF:
        return lower_if(f, in, n);
    case NODE_IN:
        return lower_in(f, in, n);
    case NODE_LIST:
    case NODE_SPAN:
        report(f, in, DIAG_ID_TYPE, n->where, "a list has no value here");
        return failed;
    case NODE_ERROR:
        return failed;
    }
    ATTNC_UNREACHABLE();
}

meaning lower(frontend *f, const frame *in, const node *n)
{
    if (f->too_large) return failed;
    if (f->recursion >= MAX_RECURSION) return give_up(f, in, n->where, "expressions are nested too deeply");
    f->recursion++;
    meaning v = lower_node(f, in, n);
    f->recursion--;
    return v;
}
