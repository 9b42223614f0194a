/* symbols.c - what params, inputs and attributes stand for; -D. */
#include "frontend/internal.h"
#include "frontend/parse_context.h"

#include <math.h>
#include <string.h>

/* ---- -D NAME=VALUE ---------------------------------------------------------------------------------------------- */
static void offer_params(const scope *s, suggestion *to)
{
    size_t n;
    decl *const *all = scope_all(s, &n);
    for (size_t i = 0; i < n; i++)
        if (all[i]->kind == DECL_PARAM) suggest_offer(to, all[i]->name);
}

static bool override_in(frontend *f, const scope *s, const char *name, node *value)
{
    decl *d = scope_find_here(s, name, SCOPE_VALUE);
    if (!d || d->kind != DECL_PARAM) return false;
    d->value = value;
    d->used = true;
    (void)f;
    return true;
}

static void apply_define(frontend *f, const frontend_define *x)
{
    const char *what = arena_printf(f->arena, "-D %s", x->name);
    node *value = parse_expression(f->arena, f->diags, diags_add_source(f->diags, what, x->value, strlen(x->value)));
    if (!value) return;
    bool found = override_in(f, f->file, x->name, value);
    suggestion near = suggest_begin(x->name);
    offer_params(f->file, &near);
    if (f->model) {
        found |= override_in(f, f->model_names, x->name, value);
        offer_params(f->model_names, &near);
    }
    for (size_t i = 0; i < f->patterns.n; i++) {
        found |= override_in(f, f->patterns.at[i]->names, x->name, value);
        offer_params(f->patterns.at[i]->names, &near);
    }
    if (found) return;
    diag_report(f->diags, DIAG_ID_PARAM, SPAN_NONE, "-D %s: there is no param of this name", x->name);
    if (suggest_result(&near)) diag_add_hint(f->diags, "did you mean '%s'?", suggest_result(&near));
}

void apply_defines(frontend *f)
{
    for (size_t i = 0; i < f->options->n_defines; i++) apply_define(f, &f->options->defines[i]);
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */
uint32_t add_const_table(frontend *f, const char *name, expr_type type, uint32_t rank, const int64_t *extent,
                         const double *value)
{
    table t = {.name = name, .type = type, .rank = rank, .value = value};
    memcpy(t.extent, extent, rank * sizeof *extent);
    VEC_PUSH(f->arena, &f->module->symbols.tables, t);
    return (uint32_t)f->module->symbols.tables.n - 1;
}

static bool is_taken(const frontend *f, const char *name)
{
    for (size_t i = 0; i < f->module->symbols.tables.n; i++)
        if (!strcmp(f->module->symbols.tables.at[i].name, name)) return true;
    return false;
}

const char *fresh_table_name(frontend *f, const char *stem)
{
    const char *name = stem;
    for (unsigned n = 2; is_taken(f, name); n++) name = arena_printf(f->arena, "%s_%u", stem, n);
    return name;
}

static expr_type element_type(const decl *d) { return d->type == TYPE_NAME_FLOAT ? TYPE_FLOAT : TYPE_INT; }

/* Extents of a table; how many elements it has. */
static bool table_shape(frontend *f, const decl *d, int64_t *extent, int64_t *count)
{
    if (d->extents.n < 1 || d->extents.n > TABLE_MAX_RANK) {
        diag_report(f->diags, DIAG_ID_ARGUMENTS, d->name_where, "'%s' has %u indices; tables have 1 to %d", d->name,
                    d->extents.n, TABLE_MAX_RANK);
        if (!d->extents.n)
            diag_add_hint(f->diags, "a single number is a table of one: %s : f32[1], read as %s[0]", d->name, d->name);
        return false;
    }
    *count = 1;
    uint32_t i = 0;
    for (const node *n = d->extents.first; n; n = n->next, i++) {
        if (!constant_integer(f, n, d->home, 1, INT32_MAX, "an extent", &extent[i])) return false;
        if (*count > INT32_MAX / extent[i]) {
            diag_report(f->diags, DIAG_ID_TOO_LARGE, n->where, "'%s' has more than 2^31 elements", d->name);
            return false;
        }
        *count *= extent[i];
    }
    return true;
}

typedef struct filling {
    const decl *decl;
    const int64_t *extent;
    double *value;
    int64_t at;
} filling;

static bool is_constant(frontend *f, expr e, const node *n)
{
    if (expr_get(f->pool, e)->op == EXPR_CONST) return true;
    diag_report(f->diags, DIAG_ID_TYPE, n->where, "the value of a param must be known when compiling");
    return false;
}

static double element_value(frontend *f, const decl *d, const node *n)
{
    frame in = {.names = d->home, .place = PLACE_CONST};
    bool is_bool = d->type == TYPE_NAME_BOOL;
    expr e = lower_as(f, &in, n, is_bool ? TYPE_BOOL : element_type(d), "an element");
    if (!e || !is_constant(f, e, n)) return 0;
    const expr_node *x = expr_get(f->pool, e);
    if (d->type == TYPE_NAME_FLOAT) return x->value.f;
    if (x->value.i < INT32_MIN || x->value.i > INT32_MAX)
        diag_report(f->diags, DIAG_ID_PARAM, n->where, "elements of integer tables have 32 bits; %lld does not fit",
                    (long long)x->value.i);
    return (double)x->value.i;
}

static bool fill_table(frontend *f, filling *to, const node *n, uint32_t level)
{
    if (level == to->decl->extents.n) {
        if (n->kind == NODE_LIST) {
            diag_report(f->diags, DIAG_ID_TYPE, n->where, "'%s' has %u indices; this list is one too many",
                        to->decl->name, level);
            return false;
        }
        to->value[to->at++] = element_value(f, to->decl, n);
        return true;
    }
    if (n->kind != NODE_LIST) {
        diag_report(f->diags, DIAG_ID_TYPE, n->where, "a list of %lld elements is needed here: [...]",
                    (long long)to->extent[level]);
        return false;
    }
    if (n->kids.n != to->extent[level]) {
        diag_report(f->diags, DIAG_ID_PARAM, n->where, "%lld elements are declared, %u are given",
                    (long long)to->extent[level], n->kids.n);
        diag_add_note(f->diags, to->decl->name_where, "declared here");
        return false;
    }
    bool good = true;
    for (const node *k = n->kids.first; k && good; k = k->next) good = fill_table(f, to, k, level + 1);
    return good;
}

static meaning const_table(frontend *f, const decl *d)
{
    int64_t extent[TABLE_MAX_RANK], count;
    if (!table_shape(f, d, extent, &count)) return (meaning){0};
    if (count > MAX_TABLE_ENTRIES) {
        diag_report(f->diags, DIAG_ID_TOO_LARGE, d->name_where, "a table of constants has at most %d elements",
                    MAX_TABLE_ENTRIES);
        return (meaning){0};
    }
    filling to = {.decl = d, .extent = extent, .value = ARENA_ARRAY(f->arena, double, (size_t)count)};
    if (!fill_table(f, &to, d->value, 0)) return (meaning){0};
    const char *name = fresh_table_name(f, d->name);
    return (meaning){.kind = VALUE_TABLE,
                     .is_bool = d->type == TYPE_NAME_BOOL,
                     .index = add_const_table(f, name, element_type(d), d->extents.n, extent, to.value)};
}

/* ---- params, inputs, attributes --------------------------------------------------------------------------------- */
static meaning scalar_param(frontend *f, const decl *d)
{
    static const expr_type type_of[] = {
        [TYPE_NAME_INT] = TYPE_INT, [TYPE_NAME_FLOAT] = TYPE_FLOAT, [TYPE_NAME_BOOL] = TYPE_BOOL};
    if (d->type == TYPE_NAME_NONE) return (meaning){0};
    frame in = {.names = d->home, .place = PLACE_CONST};
    if (d->value->kind == NODE_LIST) {
        diag_report(f->diags, DIAG_ID_TYPE, d->value->where, "'%s' is a single value", d->name);
        diag_add_hint(f->diags, "an array says its extents: param %s : int[%u] = [...]", d->name, d->value->kids.n);
        return (meaning){0};
    }
    expr e = lower_as(f, &in, d->value, type_of[d->type], arena_printf(f->arena, "param '%s'", d->name));
    return e && is_constant(f, e, d->value) ? (meaning){.kind = VALUE_EXPR, .e = e} : (meaning){0};
}

static bool same_name_taken(frontend *f, const decl *d)
{
    bool taken = d->kind == DECL_INPUT && is_taken(f, d->name);
    for (size_t i = 0; i < f->module->symbols.attrs.n && d->kind == DECL_ATTR; i++)
        taken |= !strcmp(f->module->symbols.attrs.at[i], d->name);
    if (taken)
        diag_report(f->diags, DIAG_ID_REDEFINED, d->name_where,
                    "another %s of this name is in use: the run time could not tell them apart",
                    d->kind == DECL_INPUT ? "table" : "attribute");
    return taken;
}

static meaning declare_input(frontend *f, const decl *d)
{
    int64_t extent[TABLE_MAX_RANK], count;
    if (same_name_taken(f, d) || d->type == TYPE_NAME_NONE || !table_shape(f, d, extent, &count)) return (meaning){0};
    return (meaning){.kind = VALUE_TABLE,
                     .is_bool = d->type == TYPE_NAME_BOOL,
                     .index = add_const_table(f, d->name, element_type(d), d->extents.n, extent, NULL)};
}

static meaning declare_attr(frontend *f, const decl *d)
{
    if (same_name_taken(f, d)) return (meaning){0};
    if (d->is_array || d->type == TYPE_NAME_FLOAT) {
        diag_report(f->diags, DIAG_ID_TYPE, d->name_where, "an attribute is one integer per token: attr %s : int;",
                    d->name);
        return (meaning){0};
    }
    VEC_PUSH(f->arena, &f->module->symbols.attrs, d->name);
    return (meaning){.kind = VALUE_ATTR, .index = (uint32_t)f->module->symbols.attrs.n - 1};
}

meaning symbol_value(frontend *f, decl *d)
{
    if (d->known) return *d->known;
    d->known = ARENA_NEW(f->arena, meaning);
    meaning v = {0};
    if (d->kind == DECL_PARAM) v = d->is_array ? const_table(f, d) : scalar_param(f, d);
    if (d->kind == DECL_INPUT) v = declare_input(f, d);
    if (d->kind == DECL_ATTR) v = declare_attr(f, d);
    return *d->known = v;
}

static void declare_in(frontend *f, const scope *s)
{
    size_t n;
    decl *const *all = scope_all(s, &n);
    for (size_t i = 0; i < n; i++)
        if ((all[i]->kind == DECL_INPUT || all[i]->kind == DECL_ATTR) && all[i]->used) symbol_value(f, all[i]);
    for (size_t i = 0; i < n; i++)
        if (all[i]->kind == DECL_PARAM) symbol_value(f, all[i]);
}

/* In the order of the file, so that the run time's order follows from the text. */
void declare_symbols(frontend *f)
{
    declare_in(f, f->file);
    if (f->model) declare_in(f, f->model_names);
    for (size_t i = 0; i < f->patterns.n; i++)
        if (f->patterns.at[i]->index != UINT32_MAX) declare_in(f, f->patterns.at[i]->names);
}
