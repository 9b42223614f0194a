/* cache_step.c - a step: everything is decided and taken in its begin; layers append and attend; its end lets go.
 *
 * Nothing of a sequence changes before the last thing that can fail has not failed. New tokens' pages are in the tables
 * while the step is open, but not in `held`: that is what cancelling goes by. */
#include "cache.h"

#include "error.h"
#include "split.h"

#include <string.h>

/* ---- begin: what is asked for --------------------------------------------------------------------------------------
 */

static attn_status read_sequence(attn_cache *c, const attn_step_config *from, uint32_t i, attn_error *err)
{
    step_seq *to = &c->step.seqs.at[i];
    sequence *s = i < c->seqs.n ? c->seqs.at[i] : NULL; /* all in a row, most likely */
    attn_status status = s && s->id == from->seqs[i] ? ATTN_OK : attni_seq_get(c, from->seqs[i], &s, err);
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
    to->first = attni_page_index(c, s->n);
    to->last = to->m ? attni_page_index(c, s->n + to->m - 1) : to->first - 1;
    return ATTN_OK;
}

/* Room for n sequences; the tables' own lists stay. */
static void widen_step(attn_cache *c, size_t n)
{
    step *t = &c->step;
    const size_t old = t->tables.cap;
    step_table *tables = t->tables.at;
    LIST_ROOM(&c->mem, &t->seqs, n);
    if (n * c->n_pools <= old) return;
    step_table *wide = attni_alloc(&c->mem, n * c->n_pools, sizeof *wide);
    if (!wide) return;
    if (old) memcpy(wide, tables, old * sizeof *wide);
    attni_free(&c->mem, tables);
    t->tables.at = wide;
    t->tables.cap = n * c->n_pools;
    for (size_t i = old; i < t->tables.cap; i++) wide[i].keep.mem = wide[i].drop.mem = wide[i].alive.mem = &c->mem;
}

static attn_status read_sequences(attn_cache *c, const attn_step_config *from, attn_error *err)
{
    step *t = &c->step;
    const uint32_t n = from->n_seqs;
    if (n > INT32_MAX || (n && (!from->seqs || !from->counts)))
        return attni_fail(err, ATTN_E_ARGUMENT, n > INT32_MAX ? "n_seqs is %u" : "seqs or counts of %u are NULL", n);
    widen_step(c, n);
    if (c->mem.failed) return attni_no_memory(err);
    for (uint32_t i = 0; i < n; i++) {
        attn_status s = read_sequence(c, from, i, err);
        if (s) return s;
        t->n_seqs++;
        t->seqs.at[i].tables = t->tables.at + (size_t)i * c->n_pools;
    }
    return ATTN_OK;
}

/* The new values go behind the old ones, where nobody looks before the step ends. */
static attn_status read_attrs(attn_cache *c, const attn_step_config *from, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    int64_t total = 0;
    for (uint32_t i = 0; i < c->step.n_seqs; i++) total += c->step.seqs.at[i].m;
    for (uint32_t a = 0; total && a < d->n_attrs; a++)
        if (!from->attrs || !from->attrs[a])
            return attni_fail(err, ATTN_E_MISSING, "attribute '%s' of the new tokens was not given", d->attrs[a]);
    int64_t row = 0;
    for (uint32_t i = 0; i < c->step.n_seqs; i++) {
        const step_seq *x = &c->step.seqs.at[i];
        attn_status s = attni_seq_reserve(c, x->seq, x->seq->n + x->m, err);
        if (s) return s;
        for (uint32_t a = 0; x->m && a < d->n_attrs; a++)
            memcpy(x->seq->attrs[a] + x->seq->n, from->attrs[a] + row, (size_t)x->m * sizeof **x->seq->attrs);
        if (x->m && c->keep_bounds)
            attni_mask_bound_blocks(x->seq->bounds, (const int32_t *const *)x->seq->attrs, d->n_attrs, x->seq->n,
                                    x->seq->n + x->m);
        row += x->m;
    }
    return ATTN_OK;
}

/* ---- begin: may it stand -------------------------------------------------------------------------------------------
 */

static attn_status check_layer_splits(attn_cache *c, uint32_t layer, attn_error *err)
{
    const attn_kind_desc *kind = attni_module_kind(c->module, layer);
    split at = attni_split_at(layer, c->inputs);
    attn_status s = ATTN_OK;
    for (uint32_t i = 0; i < c->step.n_seqs && !s; i++) {
        const step_seq *x = &c->step.seqs.at[i];
        if (!x->m || !x->seq->n) continue;
        at.n = x->seq->n;
        at.total = at.n + x->m;
        at.attrs = (const int32_t *const *)x->seq->attrs;
        if (!attni_split_is_clear(kind, &at, c->pairs)) s = attni_split_ask(c->module, &at, &c->mem.a, err);
    }
    return s;
}

static attn_status check_splits(attn_cache *c, attn_error *err)
{
    attn_status s = ATTN_OK;
    for (uint32_t i = 0; i < c->n_plans && !s; i++) s = check_layer_splits(c, c->plans[i].plan->layer, err);
    return s;
}

/* ---- begin: pages --------------------------------------------------------------------------------------------------
 */

/* Whether anybody shares anything comes first: a page's header is far away. */
static bool is_shared(const attn_cache *c, const page_pool *pool, const char *data)
{
    return (pool->shared || c->prefixes.root.children.n) && attni_page_is_shared(data);
}

/* Only the first page that is written to can be there already: the last of those that are held. */
static bool has_first(const table *t, const step_seq *x)
{
    return t->held.n && t->held.at[t->held.n - 1].hi > x->first;
}

static int64_t pages_needed(const attn_cache *c, const page_pool *pool, const table *t, const step_seq *x)
{
    if (x->first > x->last) return 0;
    return x->last - x->first + 1 - (has_first(t, x) && !is_shared(c, pool, t->pages[x->first]));
}

/* What of the sequence's keys is there, before the step. */
static void find_alive(const attn_cache *c, uint32_t pool, sequence *s)
{
    table *t = &s->tables[pool];
    const int64_t from = attni_live_from(c, s->furthest);
    if (t->alive_n == s->n && t->alive_from == from) return;
    attni_live(c, pool, from, s->n, &t->alive);
    t->alive_n = c->mem.failed ? -1 : s->n;
    t->alive_from = from;
}

static void decide_table(attn_cache *c, uint32_t pool, step_seq *x)
{
    sequence *s = x->seq;
    const table *t = &s->tables[pool];
    step_table *to = &x->tables[pool];
    spans *pages = &c->step.pages, *there = &c->step.there;
    const int64_t end = s->n + x->m, furthest = end > s->furthest ? end : s->furthest;
    to->copied = NULL;
    find_alive(c, pool, s);
    attni_live(c, pool, attni_live_from(c, furthest), end, &to->alive);
    c->step.need[pool] += to->need = pages_needed(c, &c->pools[pool], t, x);
    attni_to_pages(c, &to->alive, pages);
    to->stays = (x->first > x->last || (has_first(t, x) && x->first == x->last)) && attni_spans_same(pages, &t->held);
    if (to->stays) return;
    attni_spans_copy(there, &t->held);
    attni_spans_append(there, x->first, x->last + 1);
    attni_spans_intersect(pages, there, &to->keep);
    attni_spans_subtract(there, &to->keep, &to->drop);
}

static attn_status decide_pages(attn_cache *c, attn_error *err)
{
    step *t = &c->step;
    memset(t->need, 0, c->n_pools * sizeof *t->need);
    for (uint32_t i = 0; i < t->n_seqs && !c->mem.failed; i++)
        for (uint32_t k = 0; k < c->n_pools; k++)
            if (c->pools[k].n_blocks) decide_table(c, k, &t->seqs.at[i]);
    return c->mem.failed ? attni_no_memory(err) : ATTN_OK;
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
            step_seq *x = &c->step.seqs.at[i];
            table *t = &x->seq->tables[k];
            if (!c->pools[k].n_blocks || !x->tables[k].need) continue;
            if (has_first(t, x) && is_shared(c, &c->pools[k], t->pages[x->first])) copy_first(c, k, x, t);
            for (int64_t p = x->first; p <= x->last; p++)
                if (!t->pages[p]) t->pages[p] = attni_page_take(c, k, p == x->first ? x->seq->n % c->page_tokens : 0);
        }
}

/* Where it is too much, pages that are in the tree of prefixes need not be copied: the tree can do without. */
static attn_status reserve_pages(attn_cache *c, attn_error *err)
{
    const attn_status s = attni_pages_reserve(c, c->step.need, err);
    return s == ATTN_E_BUDGET && attni_prefix_yield(c) ? attni_pages_reserve(c, c->step.need, err) : s;
}

/* The marks. What was in the tables stays. */
static void close_step(attn_cache *c)
{
    step *t = &c->step;
    for (uint32_t i = 0; i < t->n_seqs; i++) t->seqs.at[i].seq->in_step = false;
    t->open = t->named = false;
    t->n_seqs = t->layers_done = 0;
}

static attn_status begin(attn_cache *c, const attn_step_config *from, attn_error *err)
{
    attn_status s = read_sequences(c, from, err);
    if (!s) s = read_attrs(c, from, err);
    if (!s) s = attni_prefix_read(c, from->tokens, err);
    if (!s) s = check_splits(c, err);
    if (!s) s = decide_pages(c, err);
    if (!s) s = attni_plans_make(c, err);
    if (!s) s = reserve_pages(c, err);
    if (s) {
        close_step(c);
        return s;
    }
    take_pages(c);
    memset(c->step.done, 0, c->module->desc.n_layers);
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
    s = run_plan(c, c->plans[c->layers[layer].plan].plan, &t, pool, err);
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

static void swap_spans(spans *a, spans *b)
{
    const spans was = *a;
    *a = *b;
    *b = was;
}

static void commit_pages(attn_cache *c, uint32_t pool, step_seq *x)
{
    step_table *to = &x->tables[pool];
    attni_seq_drop_pages(c, x->seq, pool, &to->drop);
    c->pools[pool].evicted += attni_spans_count(&to->drop);
    swap_spans(&x->seq->tables[pool].held, &to->keep);
}

static void commit_table(attn_cache *c, uint32_t pool, step_seq *x)
{
    table *t = &x->seq->tables[pool];
    step_table *to = &x->tables[pool];
    const int64_t end = x->seq->n + x->m, furthest = end > x->seq->furthest ? end : x->seq->furthest;
    if (to->copied) attni_page_drop(c, pool, to->copied);
    if (!to->stays) commit_pages(c, pool, x);
    swap_spans(&t->alive, &to->alive);
    t->alive_n = end;
    t->alive_from = attni_live_from(c, furthest);
    if (c->poison) attni_seq_poison(c, x->seq, pool, &t->alive);
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
        step_seq *x = &c->step.seqs.at[i];
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
            if (c->pools[k].n_blocks) put_back(c, k, &c->step.seqs.at[i]);
    if (c->step.open) close_step(c);
    attni_prefix_trim(c);
    attni_cache_leave(c, ATTN_OK);
}
