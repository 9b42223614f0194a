/* schedule.c - which pattern each layer has. */
#include "frontend/internal.h"

#include <string.h>

typedef struct layer_list {
    uint32_t *at; /* index into frontend.patterns */
    uint32_t n;
} layer_list;

static bool expand(frontend *f, plan *p, layer_list *to);

static bool too_many(frontend *f, span where)
{
    diag_report(f->diags, DIAG_ID_SCHEDULE, where, "the schedule has more than %d layers", MODULE_MAX_LAYERS);
    return false;
}

static bool append(frontend *f, layer_list *to, uint32_t pattern_index, span where)
{
    if (to->n >= MODULE_MAX_LAYERS) return too_many(f, where);
    to->at[to->n++] = pattern_index;
    return true;
}

static bool find_pattern(frontend *f, const plan *p, uint32_t *out)
{
    const decl *d = scope_find_here(f->model_patterns, p->name, SCOPE_ANY);
    if (!d) d = scope_find_here(f->file_patterns, p->name, SCOPE_ANY);
    if (d) {
        *out = d->number;
        return true;
    }
    size_t before = f->diags->list.n;
    diag_report(f->diags, DIAG_ID_SCHEDULE, p->where, "there is no pattern '%s'", p->name);
    suggestion s = suggest_begin(p->name);
    scope_suggest(f->model_patterns, &s);
    scope_suggest(f->file_patterns, &s);
    if (f->diags->list.n > before && suggest_result(&s))
        diag_add_hint(f->diags, "did you mean '%s'?", suggest_result(&s));
    return false;
}

static bool has_choice(const plan *p)
{
    bool found = p->kind == PLAN_IF;
    for (const plan *k = p->kids.first; k && !found; k = k->next) found = has_choice(k);
    return found;
}

static bool expand_repeat(frontend *f, plan *p, layer_list *to)
{
    int64_t count;
    if (!constant_integer(f, p->value, f->model_names, 1, INT64_MAX, "a repetition", &count)) return false;
    uint32_t from = to->n;
    if (!expand(f, p->kids.first, to)) return false;
    uint32_t once = to->n - from;
    if (once && count > (MODULE_MAX_LAYERS - from) / once) return too_many(f, p->where);
    bool again = has_choice(p), good = true; /* a choice differs from layer to layer: no copies */
    for (int64_t i = 1; i < count && good; i++) {
        if (again) good = expand(f, p->kids.first, to);
        for (uint32_t j = 0; j < once && !again; j++) to->at[to->n++] = to->at[from + j];
    }
    return good;
}

static bool prepare_choice(frontend *f, plan *p)
{
    if (p->program) return true;
    frame in = {.names = f->model_names, .place = PLACE_SCHEDULE};
    expr cond = lower_as(f, &in, p->value, TYPE_BOOL, "the condition");
    if (!cond) return false;
    if (expr_tree_size(f->pool, cond) > MAX_CHOICE) {
        diag_report(f->diags, DIAG_ID_TOO_LARGE, p->value->where, "this condition is too large");
        return false;
    }
    if (reads_run_time(f, cond)) {
        diag_report(f->diags, DIAG_ID_TYPE, p->value->where,
                    "which layer has which pattern must be known when compiling");
        return false;
    }
    p->program = expr_program_create(f->arena, f->pool, &cond, 1);
    return true;
}

/* The branch that a layer takes, through nested choices. */
static plan *choose(frontend *f, plan *p, uint32_t layer)
{
    while (p->kind == PLAN_IF) {
        if (!prepare_choice(f, p)) return NULL;
        expr_value values[MAX_CHOICE + 1], result;
        expr_env env = {0};
        env.var[VAR_LAYER] = layer;
        expr_program_run(p->program, &env, values, &result);
        p = result.i ? p->kids.first : p->kids.first->next;
    }
    return p;
}

static bool expand_choice(frontend *f, plan *p, layer_list *to)
{
    plan *taken = choose(f, p, to->n);
    if (!taken) return false;
    uint32_t from = to->n;
    if (!expand(f, taken, to)) return false;
    if (to->n - from == 1) return true;
    diag_report(f->diags, DIAG_ID_SCHEDULE, taken->where,
                "a choice is made layer by layer: each branch is one pattern");
    return false;
}

static bool expand(frontend *f, plan *p, layer_list *to)
{
    uint32_t index;
    bool good = true;
    switch (p->kind) {
    case PLAN_NAME:
        return find_pattern(f, p, &index) && append(f, to, index, p->where);
    case PLAN_REPEAT:
        return expand_repeat(f, p, to);
    case PLAN_IF:
        return expand_choice(f, p, to);
    case PLAN_SEQUENCE:
        for (plan *k = p->kids.first; k && good; k = k->next) good = expand(f, k, to);
        return good;
    }
    ATTNC_UNREACHABLE();
}

static plan *lone_choice(plan *p)
{
    while (p->kind == PLAN_SEQUENCE && p->kids.n == 1) p = p->kids.first;
    return p->kind == PLAN_IF ? p : NULL;
}

static bool layers_clause(frontend *f, int64_t *out)
{
    const decl *d = f->model_clause[CLAUSE_LAYERS];
    return constant_integer(f, d->values.first, f->model_names, 1, MODULE_MAX_LAYERS, "the number of layers", out);
}

/* `schedule if layer % 4 == 3 then global else local;` is for all layers. */
static bool expand_all_layers(frontend *f, plan *p, layer_list *to, int64_t layers)
{
    for (int64_t i = 0; i < layers; i++)
        if (!expand(f, p, to)) return false;
    return true;
}

static bool check_count(frontend *f, const layer_list *list, int64_t layers)
{
    if (list->n == layers) return true;
    diag_report(f->diags, DIAG_ID_SCHEDULE, f->schedule->where, "the schedule has %u layer%s, the model has %lld",
                list->n, list->n == 1 ? "" : "s", (long long)layers);
    diag_add_note(f->diags, f->model_clause[CLAUSE_LAYERS]->where, "the number of layers is given here");
    if (list->n && layers % list->n == 0)
        diag_add_hint(f->diags, "repeat it: schedule (...) * %lld;", (long long)(layers / list->n));
    return false;
}

/* Without a schedule the one pattern has all layers. */
static bool default_schedule(frontend *f, layer_list *to, int64_t layers)
{
    if (f->patterns.n == 1) {
        for (int64_t i = 0; i < layers; i++) to->at[to->n++] = 0;
        return true;
    }
    diag_report(f->diags, DIAG_ID_MISSING, f->model->name_where,
                f->patterns.n ? "model '%s' has no schedule" : "model '%s' has no pattern", f->model->name);
    if (f->patterns.n)
        diag_add_hint(f->diags, "say which layer has which pattern: schedule (%s, %s) * N;",
                      f->patterns.at[0]->decl->name, f->patterns.at[1]->decl->name);
    else
        diag_add_hint(f->diags, "add: pattern main { mask causal; } schedule main;");
    return false;
}

/* Patterns of the module are those in use, in the order of the file. */
static void number_patterns(frontend *f, const layer_list *list)
{
    for (uint32_t i = 0; i < list->n; i++) {
        source_pattern *p = f->patterns.at[list->at[i]];
        VEC_PUSH(f->arena, &p->layers, i);
    }
    uint32_t next = 0;
    for (size_t i = 0; i < f->patterns.n; i++)
        if (f->patterns.at[i]->layers.n) f->patterns.at[i]->index = next++;
    f->module->layers = list->n;
    f->module->schedule = ARENA_ARRAY(f->arena, uint32_t, list->n);
    for (uint32_t i = 0; i < list->n; i++) f->module->schedule[i] = f->patterns.at[list->at[i]]->index;
}

bool expand_schedule(frontend *f)
{
    layer_list list = {.at = ARENA_ARRAY(f->arena, uint32_t, MODULE_MAX_LAYERS)};
    int64_t layers = 1;
    bool given = f->model_clause[CLAUSE_LAYERS], good = true;
    if (given && !layers_clause(f, &layers)) return false;
    if (given) f->model_sizes.known[CONSTANT_LAYERS] = true, f->model_sizes.value[CONSTANT_LAYERS] = layers;
    plan *choice = f->schedule ? lone_choice(f->schedule->plan) : NULL;
    if (choice && !given) {
        diag_report(f->diags, DIAG_ID_MISSING, f->schedule->name_where, "a choice by layer needs the number of layers");
        diag_add_hint(f->diags, "add: layers 48;");
        return false;
    }
    if (choice)
        good = expand_all_layers(f, choice, &list, layers);
    else if (f->schedule)
        good = expand(f, f->schedule->plan, &list) && (!given || check_count(f, &list, layers));
    else
        good = default_schedule(f, &list, layers);
    if (!good) return false;
    number_patterns(f, &list);
    f->model_sizes.known[CONSTANT_LAYERS] = true;
    f->model_sizes.value[CONSTANT_LAYERS] = list.n;
    return true;
}
