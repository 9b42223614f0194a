/* cache_plans.c - the plans of a cache: one for each kind, or for each layer where layers differ, or lie differently.
 *
 * They live as long as the cache and are made anew in the begin of each step; they run one at a time, so they share
 * workspaces and slots for parts. */
#include "cache.h"

#include "error.h"

#include <string.h>

/* ---- with the cache --------------------------------------------------------------------------------------------- */

static bool same_pools(const cache_layer *a, const cache_layer *b, uint32_t heads)
{
    if (a->n_groups != b->n_groups) return false;
    return !memcmp(a->pools, b->pools, a->n_groups * sizeof *a->pools) &&
           !memcmp(a->head_group, b->head_group, heads * sizeof *a->head_group);
}

/* Serves layers of a kind whose heads lie in the same pages: two of them may differ in that only because others read
 * one of them. n_plans: no plan does. */
static uint32_t find_plan(const attn_cache *c, uint32_t layer)
{
    const attn_kind_desc *kind = attni_module_kind(c->module, layer);
    uint32_t i = kind->flags & ATTN_KIND_LAYERS_DIFFER ? c->n_plans : 0;
    while (i < c->n_plans && (c->plans[i].plan->kind != kind ||
                              !same_pools(&c->layers[c->plans[i].plan->layer], &c->layers[layer], kind->kv_heads)))
        i++;
    return i;
}

static attn_status open_plan(attn_cache *c, uint32_t layer, attn_error *err)
{
    const attn_plan_config config = {
        .size = sizeof config, .layer = layer, .workers = c->workers, .isa = c->isa, .allocator = &c->mem.a};
    cache_plan *to = &c->plans[c->n_plans];
    attn_status s = attni_plan_open(c->module, &config, &to->plan, err);
    if (s) return s;
    const size_t stride = attni_workspace_stride(to->plan->kernel);
    if (stride > c->room.workspace_stride) c->room.workspace_stride = stride;
    c->n_plans++;
    return ATTN_OK;
}

attn_status attni_plans_open(attn_cache *c, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    c->plans = attni_alloc(&c->mem, d->n_layers, sizeof *c->plans);
    attn_status s = c->plans ? ATTN_OK : attni_no_memory(err);
    for (uint32_t l = 0; l < d->n_layers && !s; l++) {
        if (!attni_cache_has_layer(c, l)) continue;
        c->layers[l].plan = find_plan(c, l);
        if (c->layers[l].plan == c->n_plans) s = open_plan(c, l, err);
    }
    if (s) return s;
    attni_drafts_open(&c->drafts, &c->mem, d);
    c->room.workspaces = attni_alloc(&c->mem, c->workers ? c->workers : 1, c->room.workspace_stride);
    return c->mem.failed ? attni_no_memory(err) : ATTN_OK;
}

void attni_plans_close(attn_cache *c)
{
    for (uint32_t i = 0; i < c->n_plans; i++) attn_plan_destroy(c->plans[i].plan);
    c->n_plans = 0;
}

/* ---- in a step -------------------------------------------------------------------------------------------------- */

static attn_status describe(attn_cache *c, attn_plan_config *to)
{
    step *t = &c->step;
    const uint32_t n = t->n_seqs;
    LIST_ROOM(&c->mem, &t->lens, 3 * (size_t)n);
    if (c->mem.failed) return ATTN_E_MEMORY;
    int64_t *lens = t->lens.at;
    for (uint32_t i = 0; i < n; i++) {
        const step_seq *x = &t->seqs.at[i];
        lens[i] = x->m;
        lens[n + i] = x->m ? x->seq->n + x->m : 0;
        lens[2 * n + i] = x->seq->n;
    }
    *to = (attn_plan_config){
        .size = sizeof *to, .n_seqs = n, .q_lens = lens, .k_lens = lens + n, .positions = lens + 2 * n};
    return ATTN_OK;
}

/* What the layer's plan sees of each sequence, per group of KV heads. */
static void describe_past(attn_cache *c, const cache_layer *l, cache_plan *p)
{
    const bool by_data = p->plan->kind->n_data > 0;
    LIST_ROOM(&c->mem, &p->past, (size_t)c->step.n_seqs * l->n_groups);
    if (c->mem.failed) return;
    plan_past *to = p->past.at;
    for (uint32_t i = 0; i < c->step.n_seqs; i++)
        for (uint32_t g = 0; g < l->n_groups; g++) {
            const step_seq *x = &c->step.seqs.at[i];
            *to++ = (plan_past){.attrs = (const int32_t *const *)x->seq->attrs,
                                .pages = x->seq->tables[l->pools[g]].pages,
                                .bounds = by_data ? x->seq->bounds : NULL,
                                .alive = &x->seq->tables[l->pools[g]].alive};
        }
}

static attn_status make_plan(attn_cache *c, const attn_plan_config *config, cache_plan *p, attn_error *err)
{
    const cache_layer *l = &c->layers[p->plan->layer];
    describe_past(c, l, p);
    if (c->mem.failed) return attni_no_memory(err);
    const plan_given given = {.past = p->past.at,
                              .n_groups = l->n_groups,
                              .head_group = l->n_groups > 1 ? l->head_group : NULL,
                              .inputs = c->inputs};
    return attni_plan_make(p->plan, config, &given, &c->drafts, err);
}

/* Slots and stages for the plan that needs most of them. */
static attn_status reserve_room(attn_cache *c, attn_error *err)
{
    size_t slots = 0, bytes = 0, stages = 0, starts = 0;
    for (uint32_t i = 0; i < c->n_plans; i++) {
        const attn_plan *p = c->plans[i].plan;
        const size_t n = (size_t)p->n_slots, part_bytes = p->kernel->part_bytes;
        if (part_bytes && n > SIZE_MAX / part_bytes) return attni_no_memory(err);
        if (n > slots) slots = n;
        if (n * part_bytes > bytes) bytes = n * part_bytes;
        if (p->n_stages > stages) stages = p->n_stages;
        if (attni_start_bytes(p) > starts) starts = attni_start_bytes(p);
    }
    c->room.parts = attni_widen(&c->mem, c->room.parts, bytes, &c->room_parts, 1);
    c->room.finished = attni_widen(&c->mem, c->room.finished, slots, &c->room_finished, sizeof *c->room.finished);
    c->room.starts = attni_widen(&c->mem, c->room.starts, starts, &c->room_starts, 1);
    c->room.staged = attni_widen(&c->mem, c->room.staged, stages, &c->room_staged, sizeof *c->room.staged);
    if (c->mem.failed) return attni_no_memory(err);
    for (uint32_t i = 0; i < c->n_plans; i++) c->plans[i].plan->room = c->room;
    return ATTN_OK;
}

attn_status attni_plans_make(attn_cache *c, attn_error *err)
{
    attn_plan_config config;
    if (describe(c, &config)) return attni_no_memory(err);
    attn_status s = ATTN_OK;
    for (uint32_t i = 0; i < c->n_plans && !s; i++) s = make_plan(c, &config, &c->plans[i], err);
    return s ? s : reserve_room(c, err);
}
