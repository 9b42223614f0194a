/* resolve.c - before anything is computed: every name means something, every use has the right number of arguments, and
 * no definition or param needs itself. Marks what is used. */
#include "frontend/internal.h"

#include <string.h>

typedef VEC(decl *) decl_path;

typedef struct resolver {
    frontend *f;
    decl_path path;
} resolver;

static void walk_node(resolver *r, const scope *names, const decl *inside, const node *n);

static bool is_argument(const decl *inside, const char *name)
{
    for (const node *a = inside ? inside->params.first : NULL; a; a = a->next)
        if (!strcmp(a->name, name)) return true;
    return false;
}

static const char *kind_of(const decl *d)
{
    switch (d->kind) {
    case DECL_PARAM:
        return d->is_array ? "a table" : "a param";
    case DECL_INPUT:
        return "an input";
    case DECL_ATTR:
        return "an attribute";
    case DECL_DEFINE:
        return "a definition";
    case DECL_IMPORT:
    case DECL_MODEL:
    case DECL_PATTERN:
    case DECL_CLAUSE:
    case DECL_SCHEDULE:
    case DECL_COUNT:
        break;
    }
    return "something else";
}

static void report_unknown(frontend *f, const scope *names, const decl *inside, const node *n)
{
    suggestion s = suggest_begin(n->name);
    for (const node *a = inside ? inside->params.first : NULL; a; a = a->next) suggest_offer(&s, a->name);
    scope_suggest(names, &s);
    suggest_builtins(&s);
    size_t before = f->diags->list.n;
    span where = {n->where.source, n->where.begin, n->where.begin + (uint32_t)strlen(n->name)};
    if (n->parens) where = n->where;
    diag_report(f->diags, DIAG_ID_UNKNOWN, where, "nothing is named '%s' here", n->name);
    if (f->diags->list.n > before && suggest_result(&s))
        diag_add_hint(f->diags, "did you mean '%s'?", suggest_result(&s));
}

/* All counts of arguments that a name takes: "1 or 2". */
static const char *counts_of(frontend *f, const scope *names, const char *name)
{
    text t = {.arena = f->arena};
    uint32_t told = 0;
    for (uint32_t n = 0; n <= 16; n++)
        if (scope_find(names, name, (int)n)) text_printf(&t, "%s%u", told++ ? " or " : "", n);
    return told ? text_get(&t) : "another number of";
}

static void report_arity(frontend *f, const scope *names, const node *n, const decl *d)
{
    size_t before = f->diags->list.n;
    if (d->kind != DECL_DEFINE) {
        diag_report(f->diags, DIAG_ID_TYPE, n->where, "'%s' is %s and takes no arguments", n->name, kind_of(d));
        bool has_elements = d->kind == DECL_INPUT || (d->kind == DECL_PARAM && d->is_array);
        if (has_elements && f->diags->list.n > before)
            diag_add_hint(f->diags, "elements are read with brackets: %s[...]", n->name);
    } else {
        uint32_t given = n->kind == NODE_CALL ? n->kids.n : 0;
        diag_report(f->diags, DIAG_ID_ARGUMENTS, n->where, "'%s' takes %s argument%s, not %u", n->name,
                    counts_of(f, names, n->name), d->params.n == 1 ? "" : "s", given);
    }
    if (f->diags->list.n > before && !in_prelude(f, d->where)) diag_add_note(f->diags, d->name_where, "defined here");
}

static void report_recursion(resolver *r, decl *d, span where)
{
    size_t from = r->path.n;
    while (from && r->path.at[from - 1] != d) from--;
    r->f->stuck = true;
    text t = {.arena = r->f->arena};
    for (size_t i = from ? from - 1 : 0; i < r->path.n && i < from + 8; i++)
        text_printf(&t, "%s -> ", r->path.at[i]->name);
    diag_report(r->f->diags, DIAG_ID_RECURSION, where, "'%s' needs itself: %s%s", d->name, text_get(&t), d->name);
    diag_add_note(r->f->diags, d->name_where, "defined here");
}

static void walk_decl(resolver *r, decl *d, span use)
{
    if (d->visit == 2) return;
    if (d->visit == 1) {
        report_recursion(r, d, use);
        return;
    }
    if (r->path.n >= AST_MAX_DEPTH) {
        r->f->stuck = true;
        diag_report(r->f->diags, DIAG_ID_TOO_LARGE, use, "definitions are nested more than %d deep", AST_MAX_DEPTH);
        return;
    }
    d->visit = 1;
    VEC_PUSH(r->f->arena, &r->path, d);
    for (const node *n = d->extents.first; n; n = n->next) walk_node(r, d->home, NULL, n);
    if (d->value) walk_node(r, d->home, d, d->value);
    for (const requirement *q = d->requires; q; q = q->next) walk_node(r, d->home, d, q->condition);
    r->path.n--;
    d->visit = 2;
}

static void use_name(resolver *r, const scope *names, const decl *inside, const node *n, int arguments)
{
    if (is_argument(inside, n->name) && arguments == SCOPE_VALUE) return;
    decl *d = scope_find(names, n->name, arguments);
    if (d) {
        d->used = true;
        walk_decl(r, d, n->where);
        return;
    }
    bool language =
        arguments == SCOPE_VALUE ? find_constant(n->name) >= 0 || find_variable(n->name) >= 0 : is_builtin(n->name);
    if (language) return;
    d = scope_find(names, n->name, SCOPE_ANY);
    if (d)
        report_arity(r->f, names, n, d);
    else if (is_builtin(n->name) || find_constant(n->name) >= 0 || find_variable(n->name) >= 0)
        diag_report(r->f->diags, DIAG_ID_TYPE, n->where,
                    is_builtin(n->name) ? "'%s' is a function: it needs arguments" : "'%s' takes no arguments",
                    n->name);
    else
        report_unknown(r->f, names, inside, n);
}

static void walk_node(resolver *r, const scope *names, const decl *inside, const node *n)
{
    switch (n->kind) {
    case NODE_NAME:
    case NODE_INDEX:
    case NODE_MEMBER:
        use_name(r, names, inside, n, SCOPE_VALUE);
        break;
    case NODE_CALL:
        use_name(r, names, inside, n, (int)n->kids.n);
        break;
    case NODE_INT:
    case NODE_FLOAT:
    case NODE_BOOL:
    case NODE_NOT:
    case NODE_NEGATE:
    case NODE_AND:
    case NODE_OR:
    case NODE_BINARY:
    case NODE_IF:
    case NODE_IN:
    case NODE_SPAN:
    case NODE_LIST:
    case NODE_ERROR:
        break;
    }
    for (const node *k = n->kids.first; k; k = k->next) walk_node(r, names, inside, k);
}

/* `int8` of kv quant(int8) is no name of anything. */
static bool is_kv_format(const decl *d, const option *o, const node *n)
{
    return d->clause == CLAUSE_KV && !strcmp(o->name, "quant") && n == o->value && n->kind == NODE_NAME;
}

static void walk_clause(resolver *r, const scope *names, const decl *d)
{
    if (!d) return;
    for (const node *n = d->values.first; n; n = n->next) walk_node(r, names, NULL, n);
    for (const option *o = d->options; o; o = o->next)
        for (const node *n = o->value; n; n = n->next)
            if (!is_kv_format(d, o, n)) walk_node(r, names, NULL, n);
}

static void walk_plan(resolver *r, const scope *names, const plan *p)
{
    if (p->value) walk_node(r, names, NULL, p->value);
    for (const plan *k = p->kids.first; k; k = k->next) walk_plan(r, names, k);
}

static void walk_scope(resolver *r, const scope *s)
{
    size_t n;
    decl *const *all = scope_all(s, &n);
    for (size_t i = 0; i < n; i++) walk_decl(r, all[i], all[i]->name_where);
}

void resolve_names(frontend *f)
{
    resolver r = {.f = f};
    walk_scope(&r, f->prelude);
    walk_scope(&r, f->file);
    walk_scope(&r, f->model_names);
    for (int c = 0; c < CLAUSE_COUNT; c++) walk_clause(&r, f->model_names, f->model_clause[c]);
    if (f->schedule) walk_plan(&r, f->model_names, f->schedule->plan);
    for (size_t i = 0; i < f->patterns.n; i++) {
        const source_pattern *p = f->patterns.at[i];
        walk_scope(&r, p->names);
        for (int c = 0; c < CLAUSE_COUNT; c++) walk_clause(&r, p->names, p->clause[c]);
    }
}

/* ---- unused ----------------------------------------------------------------------------------------------------- */
static void warn_scope(frontend *f, const scope *s)
{
    uint32_t main_source = f->files.at[0].decls.first ? f->files.at[0].decls.first->where.source : UINT32_MAX;
    size_t n;
    decl *const *all = scope_all(s, &n);
    for (size_t i = 0; i < n; i++) {
        const decl *d = all[i];
        if (d->used || d->kind == DECL_DEFINE || d->where.source != main_source) continue;
        diag_report(f->diags, DIAG_ID_UNUSED, d->name_where, "%s '%s' is never used",
                    d->kind == DECL_INPUT  ? "input"
                    : d->kind == DECL_ATTR ? "attr"
                                           : "param",
                    d->name);
    }
}

void warn_unused(frontend *f)
{
    warn_scope(f, f->file);
    warn_scope(f, f->model_names);
    for (size_t i = 0; i < f->patterns.n; i++) {
        const source_pattern *p = f->patterns.at[i];
        warn_scope(f, p->names);
        if (p->index == UINT32_MAX && p->decl->where.source == f->files.at[0].decls.first->where.source)
            diag_report(f->diags, DIAG_ID_UNUSED, p->decl->name_where, "no layer uses pattern '%s'", p->decl->name);
    }
}
