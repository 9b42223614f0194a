/* cache.c - the life of a KV cache, and how it lays out a page of each kind. */
#include "cache.h"

#include "error.h"

#include <stddef.h>

#define MAX_PAGE_BYTES ((uint64_t)1 << 40)
enum { MAX_PAGE_TOKENS = 1 << 24, LAYER_ALIGN = 64 };

/* ---- entering ------------------------------------------------------------------------------------------------- */

attn_status attni_cache_enter(const attn_cache *c, attn_error *err)
{
    if (!c) return attni_fail(err, ATTN_E_ARGUMENT, "the cache is NULL");
    if (!atomic_exchange(c->busy, true)) return ATTN_OK;
    return attni_fail(err, ATTN_E_BUSY, "another call uses the cache");
}

attn_status attni_cache_enter_idle(attn_cache *c, attn_error *err)
{
    attn_status s = attni_cache_enter(c, err);
    if (s) return s;
    c->mem.failed = false;
    if (!c->step.open) return ATTN_OK;
    return attni_cache_leave(c,
                             attni_fail(err, ATTN_E_STATE, "a step is open; attn_step_end or attn_step_cancel first"));
}

/* ---- layout ---------------------------------------------------------------------------------------------------- */

/* A layer: keys [KV head][token][dim], then values the same way. */
static void lay_out_layer(page_pool *p, int64_t page_tokens)
{
    const attn_kind_desc *d = p->kind;
    const int64_t element = d->dtype == ATTN_F32 ? 4 : 2, k_row = d->dim * element, v_row = d->dim_v * element;
    p->layout = (paged_keys){.page_tokens = page_tokens,
                             .k_token_stride = k_row,
                             .k_head_stride = page_tokens * k_row,
                             .v_offset = d->kv_heads * page_tokens * k_row,
                             .v_token_stride = v_row,
                             .v_head_stride = page_tokens * v_row};
    const int64_t bytes = d->kv_heads * page_tokens * (k_row + v_row);
    p->layer_bytes = (bytes + LAYER_ALIGN - 1) / LAYER_ALIGN * LAYER_ALIGN;
}

/* Marks the layers that are not of this cache. */
static attn_status choose_layers(attn_cache *c, const attn_cache_config *from, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    if (from->n_layers && !from->layers) return attni_fail(err, ATTN_E_ARGUMENT, "layers is NULL");
    for (uint32_t l = 0; from->n_layers && l < d->n_layers; l++) c->layer_slot[l] = CACHE_NO_LAYER;
    for (uint32_t i = 0; i < from->n_layers; i++) {
        const uint32_t l = from->layers[i];
        if (l >= d->n_layers)
            return attni_fail(err, ATTN_E_ARGUMENT, "layers[%u] is %u: module '%s' has %u layers", i, l, d->name,
                              d->n_layers);
        if (c->layer_slot[l] != CACHE_NO_LAYER) return attni_fail(err, ATTN_E_ARGUMENT, "layer %u is given twice", l);
        c->layer_slot[l] = 0;
    }
    return ATTN_OK;
}

static attn_status lay_out(attn_cache *c, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    for (uint32_t l = 0; l < d->n_layers; l++)
        if (c->layer_slot[l] != CACHE_NO_LAYER) c->layer_slot[l] = c->pools[d->schedule[l]].n_layers++, c->n_layers++;
    for (uint32_t k = 0; k < d->n_kinds; k++) {
        page_pool *p = &c->pools[k];
        p->kind = d->kinds[k];
        lay_out_layer(p, c->page_tokens);
        p->page_bytes = (uint64_t)p->layer_bytes * p->n_layers;
        if (p->n_layers && p->page_bytes / p->n_layers != (uint64_t)p->layer_bytes) p->page_bytes = UINT64_MAX;
        if (p->page_bytes > MAX_PAGE_BYTES)
            return attni_fail(err, ATTN_E_ARGUMENT, "page_tokens %lld: a page of '%s' would have %llu bytes",
                              (long long)c->page_tokens, p->kind->name, (unsigned long long)p->page_bytes);
    }
    return ATTN_OK;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static attn_status read_config(attn_cache *c, const attn_cache_config *from, attn_error *err)
{
    if (from->page_tokens > MAX_PAGE_TOKENS)
        return attni_fail(err, ATTN_E_ARGUMENT, "page_tokens is %u; at most %d", from->page_tokens, MAX_PAGE_TOKENS);
    if (from->workers > PLAN_MAX_WORKERS)
        return attni_fail(err, ATTN_E_ARGUMENT, "workers is %u; at most %d", from->workers, PLAN_MAX_WORKERS);
    c->page_tokens = from->page_tokens ? from->page_tokens : CACHE_PAGE_TOKENS;
    c->budget = from->budget ? from->budget : UINT64_MAX;
    c->rollback = from->rollback;
    c->workers = from->workers;
    c->isa = from->isa;
    c->poison = from->poison != 0;
    return ATTN_OK;
}

static attn_status take_memory(attn_cache *c, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    size_t most = 0;
    for (uint32_t k = 0; k < d->n_kinds; k++) {
        const size_t ranges = (size_t)d->kinds[k]->n_may + d->kinds[k]->n_must;
        if (ranges > most) most = ranges;
        if (d->kinds[k]->n_live > most) most = d->kinds[k]->n_live;
    }
    c->busy = attni_alloc(&c->mem, 1, sizeof *c->busy);
    c->pools = attni_alloc(&c->mem, d->n_kinds, sizeof *c->pools);
    c->layer_slot = attni_alloc(&c->mem, d->n_layers, sizeof *c->layer_slot);
    c->inputs = attni_alloc(&c->mem, d->n_inputs, sizeof *c->inputs);
    c->pairs = attni_alloc(&c->mem, most + 1, 2 * sizeof *c->pairs);
    return c->mem.failed ? attni_fail(err, ATTN_E_MEMORY, "out of memory") : ATTN_OK;
}

static attn_status check_kinds(const attn_cache *c, const attn_cache_config *from, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    for (uint32_t k = 0; k < d->n_kinds; k++) {
        const attn_kind_desc *kind = d->kinds[k];
        if (!kind->live)
            return attni_fail(err, ATTN_E_VERSION, "kind '%s' does not say what it keeps; compile the pattern again",
                              kind->name);
        if (kind->flags & ATTN_KIND_MASK_INPUTS && !from->inputs)
            return attni_fail(err, ATTN_E_MISSING, "the mask of '%s' reads run-time inputs; the cache needs them",
                              kind->name);
        if (c->isa >= 0 && !attni_kind_kernel(kind, c->isa))
            return attni_fail(err, ATTN_E_ISA, "'%s' has no kernel of instruction set %d that runs here", kind->name,
                              c->isa);
    }
    return ATTN_OK;
}

attn_status attn_cache_create(const attn_module *m, const attn_cache_config *config, attn_cache **out, attn_error *err)
{
    if (!m || !out) return attni_fail(err, ATTN_E_ARGUMENT, "attn_cache_create: %s is NULL", m ? "out" : "the module");
    attn_cache_config from;
    attn_status s = attni_read_struct(&from, sizeof from, config, "attn_cache_config", err);
    if (s) return s;
    memory *mem;
    attn_cache *c = attni_new_owner(sizeof *c, from.allocator, &mem, offsetof(attn_cache, mem), &s, err);
    if (!c) return s;
    c->module = m;
    s = read_config(c, &from, err);
    if (!s) s = check_kinds(c, &from, err);
    if (!s) s = take_memory(c, err);
    if (!s) s = choose_layers(c, &from, err);
    if (!s) s = lay_out(c, err);
    if (!s && from.inputs) s = attni_bind_inputs(&m->desc, from.inputs, c->inputs, err);
    if (s)
        attn_cache_destroy(c);
    else
        *out = c;
    return s;
}

void attn_cache_destroy(attn_cache *c)
{
    if (!c) return;
    if (c->busy) attn_step_cancel(c); /* or it was never made */
    attni_delete_owner(c, sizeof *c, offsetof(attn_cache, mem));
}
