/* cache_step.c - a step: everything is decided and taken in its begin; layers append and attend; its end lets go.
 *
 * Nothing of a sequence changes before the last thing that can fail has not failed. New tokens' pages are in the tables
 * while the step is open, but not in `held`: that is what cancelling goes by. */
#include "cache.h"

#include "error.h"
#include "split.h"

#include <string.h>

static attn_status no_memory(attn_error *err) { return attni_fail(err, ATTN_E_MEMORY, "out of memory"); }

/* ---- begin: what is asked for --------------------------------------------------------------------------------------
 */

static attn_status read_sequence(attn_cache *c, const attn_step_config *from, uint32_t i, attn_error *err)
{
    step_seq *to = &c->step.seqs[i];
    sequence *s;
    attn_status status = attni_seq_get(c, from->seqs[i], &s, err);
    if (status) return status;
    if (s->in_step)
        return attni_fail(err, ATTN_E_ARGUMENT, "sequence %llu is in the step twice", (unsigned long long)s->id);
    if (from->counts[i] < 0 || from->counts[i] > c->max_tokens - s->n)
        return attni_fail(err, ATTN_E_ARGUMENT, "counts[%u] is %lld; sequence %llu may grow from %lld to %lld tokens",
                          i, (long long)from->counts[i], (unsigned long long)s->id, (long long)s->n,
                          (long long)c->max_tokens);
    s->in_step = true;
    to->seq = s;
    to->m = from->counts[i];
    to->first = s->n / c->page_tokens;
    to->last = to->m ? (s->n + to->m - 1) / c->page_tokens : to->first - 1;
    return ATTN_OK;
}

static attn_status read_sequences(attn_cache *c, const attn_step_config *from, attn_error *err)
{
    step *t = &c->step;
    const uint32_t n = from->n_seqs, n_pools = c->n_pools;
    if (n > INT32_MAX || (n && (!from->seqs || !from->counts)))
        return attni_fail(err, ATTN_E_ARGUMENT, n > INT32_MAX ? "n_seqs is %u" : "seqs or counts of %u are NULL", n);
    t->seqs = attni_alloc(&t->mem, n, sizeof *t->seqs);
    step_table *tables = attni_alloc(&t->mem, (size_t)n * n_pools, sizeof *tables);
    if (t->mem.failed) return no_memory(err);
    for (uint32_t i = 0; i < n; i++) {
        attn_status s = read_sequence(c, from, i, err);
        if (s) return s;
        t->n_seqs++;
        t->seqs[i].tables = tables + (size_t)i * n_pools;
        for (uint32_t k = 0; k < n_pools; k++) {
            step_table *x = &t->seqs[i].tables[k];
            x->keep.mem = &c->mem;
            x->drop.mem = x->alive.mem = x->present.mem = &t->mem;
        }
    }
    return ATTN_OK;
}

/* The new values go behind the old ones, where nobody looks before the step ends. */
static attn_status read_attrs(attn_cache *c, const attn_step_config *from, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    int64_t total = 0;
    for (uint32_t i = 0; i < c->step.n_seqs; i++) total += c->step.seqs[i].m;
    for (uint32_t a = 0; total && a < d->n_attrs; a++)
        if (!from->attrs || !from->attrs[a])
            return attni_fail(err, ATTN_E_MISSING, "attribute '%s' of the new tokens was not given", d->attrs[a]);
    int64_t row = 0;
    for (uint32_t i = 0; i < c->step.n_seqs; i++) {
        const step_seq *x = &c->step.seqs[i];
        attn_status s = attni_seq_reserve(c, x->seq, x->seq->n + x->m, err);
        if (s) return s;
        for (uint32_t a = 0; x->m && a < d->n_attrs; a++)
            memcpy(x->seq->attrs[a] + x->seq->n, from->attrs[a] + row, (size_t)x->m * sizeof **x->seq->attrs);
        row += x->m;
    }
    return ATTN_OK;
}

/* ---- begin: may it stand -------------------------------------------------------------------------------------------
 */

static attn_status check_splits(attn_cache *c, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    uint8_t *asked = attni_alloc(&c->step.mem, d->n_kinds, 1);
    if (!asked) return no_memory(err);
    for (uint32_t l = 0; l < d->n_layers; l++) {
        const uint32_t k = d->schedule[l];
        if (!attni_cache_has_layer(c, l)) continue;
        if (asked[k] && !(d->kinds[k]->flags & ATTN_KIND_LAYERS_DIFFER)) continue;
        asked[k] = 1;
        for (uint32_t i = 0; i < c->step.n_seqs; i++) {
            const step_seq *x = &c->step.seqs[i];
            const split at = {.layer = l,
                              .n = x->seq->n,
                              .total = x->seq->n + x->m,
                              .attrs = (const int32_t *const *)x->seq->attrs,
                              .inputs = c->inputs,
                              .pairs = c->pairs};
            attn_status s = attni_split_ask(c->module, &at, &c->mem.a, err);
            if (s) return s;
        }
    }
    return ATTN_OK;
}

/* ---- begin: pages --------------------------------------------------------------------------------------------------
 */

static bool is_held(const table *t, int64_t index) { return index < (int64_t)t->cap && t->pages[index]; }

/* Only the first page that is written to can be there already. */
static int64_t pages_needed(const table *t, const step_seq *x)
{
    if (x->first > x->last) return 0;
    const bool there = is_held(t, x->first);
    return x->last - x->first + 1 - (there && !attni_page_is_shared(t->pages[x->first]));
}

static void decide_table(attn_cache *c, uint32_t pool, step_seq *x, spans *work)
{
    const sequence *s = x->seq;
    const table *t = &s->tables[pool];
    step_table *to = &x->tables[pool];
    const int64_t end = s->n + x->m, furthest = end > s->furthest ? end : s->furthest;
    attni_live(c, pool, attni_live_from(c, s->furthest), s->n, &to->present);
    attni_spans_append(&to->present, s->n, end);
    attni_live(c, pool, attni_live_from(c, furthest), end, &to->alive);

    spans *pages = &work[0], *there = &work[1];
    attni_to_pages(c, &to->alive, pages);
    attni_spans_copy(there, &t->held);
    attni_spans_append(there, x->first, x->last + 1);
    attni_spans_intersect(pages, there, &to->keep);
    attni_spans_subtract(there, &to->keep, &to->drop);
    c->step.need[pool] += pages_needed(t, x);
}

static attn_status decide_pages(attn_cache *c, attn_error *err)
{
    step *t = &c->step;
    spans work[2] = {{.mem = &t->mem}, {.mem = &t->mem}};
    t->need = attni_alloc(&t->mem, c->n_pools, sizeof *t->need);
    for (uint32_t i = 0; i < t->n_seqs && !t->mem.failed; i++)
        for (uint32_t k = 0; k < c->n_pools; k++)
            if (c->pools[k].n_blocks) decide_table(c, k, &t->seqs[i], work);
    return t->mem.failed || c->mem.failed ? no_memory(err) : ATTN_OK;
}

/* ---- begin: plans --------------------------------------------------------------------------------------------------
 */

static attn_status describe(attn_cache *c, attn_error *err)
{
    step *t = &c->step;
    const uint32_t n = t->n_seqs;
    int64_t *lens = attni_alloc(&t->mem, 3 * (size_t)n, sizeof *lens);
    t->plans = attni_alloc(&t->mem, c->module->desc.n_layers, sizeof *t->plans);
    t->done = attni_alloc(&t->mem, c->module->desc.n_layers, 1);
    if (t->mem.failed) return no_memory(err);
    t->plan = (attn_plan_config){.size = sizeof t->plan,
                                 .n_seqs = n,
                                 .q_lens = lens,
                                 .k_lens = lens + n,
                                 .positions = lens + 2 * n,
                                 .workers = c->workers,
                                 .isa = c->isa,
                                 .allocator = &c->mem.a};
    for (uint32_t i = 0; i < n; i++) {
        const step_seq *x = &t->seqs[i];
        lens[i] = x->m;
        lens[n + i] = x->m ? x->seq->n + x->m : 0;
        lens[2 * n + i] = x->seq->n;
    }
    return ATTN_OK;
}

/* What the layer's plan sees of each sequence, per group of KV heads. */
static const plan_past *describe_past(attn_cache *c, const cache_layer *l)
{
    plan_past *past = attni_alloc(&c->step.mem, (size_t)c->step.n_seqs * l->n_groups, sizeof *past), *to = past;
    for (uint32_t i = 0; past && i < c->step.n_seqs; i++)
        for (uint32_t g = 0; g < l->n_groups; g++) {
            const step_seq *x = &c->step.seqs[i];
            *to++ = (plan_past){.attrs = (const int32_t *const *)x->seq->attrs,
                                .pages = x->seq->tables[l->pools[g]].pages,
                                .present = &x->tables[l->pools[g]].present};
        }
    return past;
}

static attn_status make_plan(attn_cache *c, uint32_t layer, attn_plan **out, attn_error *err)
{
    attn_plan_config config = c->step.plan;
    config.layer = layer;
    const cache_layer *l = &c->layers[layer];
    const plan_given given = {.past = describe_past(c, l),
                              .n_groups = l->n_groups,
                              .head_group = l->n_groups > 1 ? l->head_group : NULL,
                              .inputs = c->inputs};
    if (!given.past) return no_memory(err);
    return attni_plan_create(c->module, &config, &given, out, err);
}

static attn_status make_plans(attn_cache *c, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    attn_status s = describe(c, err);
    for (uint32_t l = 0; l < d->n_layers && !s; l++)
        if (attni_cache_has_layer(c, l) && c->layers[l].plan_layer == l) s = make_plan(c, l, &c->step.plans[l], err);
    return s;
}

/* ---- begin: it happens ---------------------------------------------------------------------------------------------
 */

/* A page that others hold too gets a copy; this step holds on to the old one, in case that it is cancelled. */
static void copy_first(attn_cache *c, uint32_t pool, step_seq *x, table *t)
{
    const char *old = t->pages[x->first];
    char *copy = attni_page_take(c, pool, attni_page_of(old)->from);
    memcpy(copy, old, c->pools[pool].page_bytes);
    t->pages[x->first] = copy;
    x->tables[pool].copied = old;
    attni_page_poison(c, pool, copy, x->seq->n % c->page_tokens, c->page_tokens);
}

static void take_pages(attn_cache *c)
{
    for (uint32_t i = 0; i < c->step.n_seqs; i++)
        for (uint32_t k = 0; k < c->n_pools; k++) {
            step_seq *x = &c->step.seqs[i];
            table *t = &x->seq->tables[k];
            if (!c->pools[k].n_blocks || x->first > x->last) continue;
            if (is_held(t, x->first) && attni_page_is_shared(t->pages[x->first])) copy_first(c, k, x, t);
            for (int64_t p = x->first; p <= x->last; p++)
                if (!t->pages[p])
                    t->pages[p] = attni_page_take(c, k, p == x->first ? x->seq->n % c->page_tokens : 0);
        }
}

/* Where it is too much, pages that are in the tree of prefixes need not be copied: the tree can do without. */
static attn_status reserve_pages(attn_cache *c, attn_error *err)
{
    const attn_status s = attni_pages_reserve(c, c->step.need, err);
    return s == ATTN_E_BUDGET && attni_prefix_yield(c) ? attni_pages_reserve(c, c->step.need, err) : s;
}

/* The plans, the marks, and all memory. What was in the tables stays. */
static void close_step(attn_cache *c)
{
    step *t = &c->step;
    for (uint32_t l = 0; t->plans && l < c->module->desc.n_layers; l++) attn_plan_destroy(t->plans[l]);
    for (uint32_t i = 0; i < t->n_seqs; i++) {
        t->seqs[i].seq->in_step = false;
        for (uint32_t k = 0; k < c->n_pools; k++) attni_spans_free(&t->seqs[i].tables[k].keep);
    }
    attni_memory_close(&t->mem);
    *t = (step){0};
}

static attn_status begin(attn_cache *c, const attn_step_config *from, attn_error *err)
{
    attn_status s = attni_memory_open(&c->step.mem, &c->mem.a, err);
    if (!s) s = read_sequences(c, from, err);
    if (!s) s = read_attrs(c, from, err);
    if (!s) s = attni_prefix_read(c, from->tokens, err);
    if (!s) s = check_splits(c, err);
    if (!s) s = decide_pages(c, err);
    if (!s) s = make_plans(c, err);
    if (!s) s = reserve_pages(c, err);
    if (s) {
        close_step(c);
        return s;
    }
    take_pages(c);
    c->step.open = true;
    return ATTN_OK;
}

attn_status attn_step_begin(attn_cache *c, const attn_step_config *config, attn_error *err)
{
    attn_step_config from;
    attn_status s = attni_read_struct(&from, sizeof from, config, "attn_step_config", err);
    if (!s) s = attni_cache_enter_idle(c, err);
    return s ? s : attni_cache_leave(c, begin(c, &from, err));
}

/* ---- layers --------------------------------------------------------------------------------------------------------
 */

static attn_status check_layer(const attn_cache *c, uint32_t layer, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    if (!c->step.open) return attni_fail(err, ATTN_E_STATE, "no step is open; attn_step_begin first");
    if (layer >= d->n_layers)
        return attni_fail(err, ATTN_E_ARGUMENT, "layer %u: module '%s' has %u layers", layer, d->name, d->n_layers);
    const uint32_t owner = c->layers[layer].owner;
    if (owner == CACHE_NO_LAYER) return attni_fail(err, ATTN_E_ARGUMENT, "layer %u is not of this cache", layer);
    if (owner != layer && !c->step.done[owner])
        return attni_fail(err, ATTN_E_STATE, "layer %u reads the keys and values of layer %u, which has not been run",
                          layer, owner);
    if (c->step.done[layer]) return attni_fail(err, ATTN_E_STATE, "layer %u has been run in this step", layer);
    return ATTN_OK;
}

static attn_status run_plan(attn_cache *c, attn_plan *p, const attn_tensors *t, attn_pool *pool, attn_error *err)
{
    const cache_layer *l = &c->layers[t->layer];
    const page_pool *rows = &c->pools[l->pools[0]]; /* they are alike in all of the layer's pools */
    const paged_keys keys = {.page_tokens = c->page_tokens,
                             .k_token_stride = rows->k_row,
                             .v_token_stride = rows->v_row ? rows->v_row : rows->k_row,
                             .k_heads = l->k_heads,
                             .v_heads = l->v_heads};
    view k, v;
    attn_status s = attni_begin_paged(p, t, &keys, &k, &v, err);
    if (s) return s;
    if (l->owner == t->layer) attni_append(c, t->layer, &k, &v);
    if (!t->q) return attn_end(p), ATTN_OK; /* keys and values only */
    return attni_run_begun(p, pool, err);
}

static attn_status run_layer(attn_cache *c, uint32_t layer, const attn_tensors *from, attn_pool *pool, attn_error *err)
{
    attn_tensors t;
    attn_status s = check_layer(c, layer, err);
    if (!s) s = attni_read_struct(&t, sizeof t, from, "attn_tensors", err);
    if (s) return s;
    t.layer = layer;
    t.size = sizeof t;
    const uint32_t plan_layer = c->layers[layer].plan_layer;
    attn_plan *kept = plan_layer == CACHE_NO_LAYER ? NULL : c->step.plans[plan_layer], *own = NULL;
    if (!kept) s = make_plan(c, layer, &own, err);
    if (!s) s = run_plan(c, kept ? kept : own, &t, pool, err);
    attn_plan_destroy(own);
    if (s) return s;
    c->step.done[layer] = 1;
    c->step.layers_done++;
    return ATTN_OK;
}

attn_status attn_step_layer(attn_cache *c, uint32_t layer, const attn_tensors *t, attn_pool *pool, attn_error *err)
{
    attn_status s = attni_cache_enter(c, err);
    return s ? s : attni_cache_leave(c, run_layer(c, layer, t, pool, err));
}

/* ---- end ------------------------------------------------------------------------------------------------------------
 */

static void commit_table(attn_cache *c, uint32_t pool, step_seq *x)
{
    table *t = &x->seq->tables[pool];
    step_table *to = &x->tables[pool];
    const spans old = t->held;
    if (to->copied) attni_page_drop(c, pool, to->copied);
    attni_seq_drop_pages(c, x->seq, pool, &to->drop);
    c->pools[pool].evicted += attni_spans_count(&to->drop);
    t->held = to->keep;
    to->keep = old; /* freed with the step */
    attni_seq_poison(c, x->seq, pool, &to->alive);
}

static attn_status end(attn_cache *c, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    if (!c->step.open) return attni_fail(err, ATTN_E_STATE, "no step is open; attn_step_begin first");
    for (uint32_t l = 0; l < d->n_layers; l++)
        if (!c->step.done[l] && attni_cache_has_layer(c, l))
            return attni_fail(err, ATTN_E_STATE, "%u of %u layers have been run; layer %u has not", c->step.layers_done,
                              c->n_layers, l);
    attni_prefix_add(c);
    for (uint32_t i = 0; i < c->step.n_seqs; i++) {
        step_seq *x = &c->step.seqs[i];
        for (uint32_t k = 0; k < c->n_pools; k++)
            if (c->pools[k].n_blocks) commit_table(c, k, x);
        x->seq->n += x->m;
        if (x->seq->n > x->seq->furthest) x->seq->furthest = x->seq->n;
    }
    close_step(c);
    attni_prefix_trim(c);
    return ATTN_OK;
}

attn_status attn_step_end(attn_cache *c, attn_error *err)
{
    attn_status s = attni_cache_enter(c, err);
    return s ? s : attni_cache_leave(c, end(c, err));
}

static void put_back(attn_cache *c, uint32_t pool, step_seq *x)
{
    table *t = &x->seq->tables[pool];
    const char *copied = x->tables[pool].copied;
    for (int64_t p = x->first; p <= x->last; p++) {
        bool held = false;
        for (size_t i = 0; i < t->held.n; i++) held |= p >= t->held.at[i].lo && p < t->held.at[i].hi;
        if (held && !copied) { /* only the first: new tokens' rows lie behind the last token there */
            attni_page_poison(c, pool, t->pages[p], x->seq->n % c->page_tokens, c->page_tokens);
            continue;
        }
        attni_page_drop(c, pool, t->pages[p]);
        t->pages[p] = held ? copied : NULL;
        copied = NULL;
    }
}

void attn_step_cancel(attn_cache *c)
{
    if (attni_cache_enter(c, NULL)) return;
    for (uint32_t i = 0; c->step.open && i < c->step.n_seqs; i++)
        for (uint32_t k = 0; k < c->n_pools; k++)
            if (c->pools[k].n_blocks) put_back(c, k, &c->step.seqs[i]);
    if (c->step.open) close_step(c);
    attni_prefix_trim(c);
    attni_cache_leave(c, ATTN_OK);
}
