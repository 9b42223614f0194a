/* cache_layout.c - which KV heads share pages, and where they lie in them.
 *
 * KV heads that are live together make a pool; the module says which those are (attn_kind_desc.groups). A page of a
 * pool has a block for each of its heads in each of its layers: first the keys of all tokens, then their values. So a
 * head's rows are contiguous. */
#include "cache.h"

#include "error.h"

#define MAX_PAGE_BYTES ((uint64_t)1 << 40)
enum { BLOCK_ALIGN = 64 };

static bool is_shared(const attn_kind_desc *k) { return k->flags & ATTN_KIND_KV_SHARED; }
static uint32_t groups_of(const attn_kind_desc *k) { return k->n_groups > 1 ? k->n_groups : 1; }

/* ---- layers of the cache --------------------------------------------------------------------------------------- */

static attn_status choose_layers(attn_cache *c, const attn_cache_config *from, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    if (from->n_layers && !from->layers) return attni_fail(err, ATTN_E_ARGUMENT, "layers is NULL");
    for (uint32_t l = 0; l < d->n_layers; l++) c->layers[l].owner = from->n_layers ? CACHE_NO_LAYER : l;
    for (uint32_t i = 0; i < from->n_layers; i++) {
        const uint32_t l = from->layers[i];
        if (l >= d->n_layers)
            return attni_fail(err, ATTN_E_ARGUMENT, "layers[%u] is %u: module '%s' has %u layers", i, l, d->name,
                              d->n_layers);
        if (c->layers[l].owner != CACHE_NO_LAYER) return attni_fail(err, ATTN_E_ARGUMENT, "layer %u is given twice", l);
        c->layers[l].owner = l;
    }
    return ATTN_OK;
}

static attn_status find_owners(attn_cache *c, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    for (uint32_t l = 0; l < d->n_layers; l++) {
        const attn_kind_desc *kind = d->kinds[d->schedule[l]];
        if (c->layers[l].owner == CACHE_NO_LAYER) continue;
        c->n_layers++;
        if (!is_shared(kind)) continue;
        if (!attni_cache_has_layer(c, kind->kv_layer))
            return attni_fail(err, ATTN_E_ARGUMENT, "layer %u reads the keys of layer %u, which is not of this cache",
                              l, kind->kv_layer);
        c->layers[l].owner = kind->kv_layer;
    }
    return ATTN_OK;
}

/* ---- pools ----------------------------------------------------------------------------------------------------- */

static int64_t row_bytes(const attn_kind_desc *k, int64_t dim)
{
    if (k->kv_format == ATTN_KV_INT8) return dim + (k->kv_group ? dim / k->kv_group : 1) * (int64_t)sizeof(float);
    return dim * (k->dtype == ATTN_F32 ? 4 : 2);
}

/* Keys [token][row], then values the same way; no values where they are in the keys. */
static void lay_out_block(page_pool *p, const attn_kind_desc *kind, int64_t page_tokens)
{
    p->kind = kind;
    p->k_row = row_bytes(kind, kind->dim);
    p->v_row = kind->flags & ATTN_KIND_K_IS_V ? 0 : row_bytes(kind, kind->dim_v);
    p->block_bytes = (page_tokens * (p->k_row + p->v_row) + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
}

/* Per kind its first pool, the number of all at the end. */
static uint32_t *make_pools(attn_cache *c, memory *scratch)
{
    const attn_module_desc *d = &c->module->desc;
    uint32_t *first = attni_alloc(scratch, d->n_kinds + 1u, sizeof *first);
    for (uint32_t k = 0; first && k < d->n_kinds; k++) first[k + 1] = first[k] + groups_of(d->kinds[k]);
    if (!first) return NULL;
    c->n_pools = first[d->n_kinds];
    c->pools = attni_alloc(&c->mem, c->n_pools, sizeof *c->pools);
    c->step.need = attni_alloc(&c->mem, c->n_pools, sizeof *c->step.need);
    for (uint32_t k = 0; c->pools && k < d->n_kinds; k++)
        for (uint32_t p = first[k]; p < first[k + 1]; p++) lay_out_block(&c->pools[p], d->kinds[k], c->page_tokens);
    return c->pools && c->step.need ? first : NULL;
}

/* ---- who reads a pool ------------------------------------------------------------------------------------------ */

static bool is_viewed(const page_pool *pool, const attn_kind_desc *kind)
{
    for (size_t i = 0; i < pool->viewers.n; i++)
        if (pool->viewers.at[i].kind == kind) return true;
    return false;
}

/* All query heads of the layer, or those of one KV head. One layer stands for all of its kind that see the same. */
static void add_viewer(attn_cache *c, page_pool *pool, uint32_t layer, const uint32_t *kv_head)
{
    const attn_kind_desc *kind = attni_module_kind(c->module, layer);
    if (is_viewed(pool, kind) && !(kind->flags & ATTN_KIND_LAYERS_DIFFER)) return;
    const uint32_t per_kv = kind->q_heads / kind->kv_heads;
    const viewer v = {.kind = kind,
                      .layer = layer,
                      .head = kv_head ? *kv_head * per_kv : 0,
                      .heads = !(kind->flags & ATTN_KIND_HEADS_DIFFER) ? 1
                               : kv_head                               ? per_kv
                                                                       : kind->q_heads};
    LIST_ADD(&c->mem, &pool->viewers, v);
}

/* The layer itself and all of the module that read its keys, also those that are not of this cache: groups are made for
 * all. */
static void add_viewers(attn_cache *c, page_pool *pool, uint32_t layer, const uint32_t *kv_head)
{
    const attn_module_desc *d = &c->module->desc;
    add_viewer(c, pool, layer, kv_head);
    for (uint32_t l = layer + 1; l < d->n_layers; l++) {
        const attn_kind_desc *kind = d->kinds[d->schedule[l]];
        if (is_shared(kind) && kind->kv_layer == layer) add_viewer(c, pool, l, kv_head);
    }
}

/* ---- places ---------------------------------------------------------------------------------------------------- */

static uint16_t group_of_pool(cache_layer *l, uint32_t pool)
{
    for (uint32_t i = 0; i < l->n_groups; i++)
        if (l->pools[i] == pool) return (uint16_t)i;
    l->pools[l->n_groups] = pool;
    return (uint16_t)l->n_groups++;
}

static void place_head(attn_cache *c, uint32_t layer, uint32_t g, uint32_t pool_index)
{
    cache_layer *l = &c->layers[layer];
    page_pool *pool = &c->pools[pool_index];
    l->head_group[g] = group_of_pool(l, pool_index);
    l->k_heads[g] = (int64_t)pool->n_blocks * pool->block_bytes;
    l->v_heads[g] = pool->v_row ? l->k_heads[g] + c->page_tokens * pool->k_row : l->k_heads[g];
    if (pool->kind->n_groups > 1 && !pool->n_blocks)
        add_viewers(c, pool, layer, &g); /* the first stands for the group */
    if (pool->kind->n_groups <= 1 && !g) add_viewers(c, pool, layer, NULL);
    pool->n_blocks++;
}

static void place_layer(attn_cache *c, uint32_t layer, const uint32_t *first_pool)
{
    const attn_module_desc *d = &c->module->desc;
    const uint32_t k = d->schedule[layer], heads = d->kinds[k]->kv_heads;
    const uint16_t *groups = d->kinds[k]->n_groups > 1 ? d->kinds[k]->groups + (size_t)layer * heads : NULL;
    cache_layer *l = &c->layers[layer];
    l->pools = attni_alloc(&c->mem, heads, sizeof *l->pools);
    l->head_group = attni_alloc(&c->mem, heads, sizeof *l->head_group);
    l->k_heads = attni_alloc(&c->mem, heads, sizeof *l->k_heads);
    l->v_heads = attni_alloc(&c->mem, heads, sizeof *l->v_heads);
    for (uint32_t g = 0; g < heads && !c->mem.failed; g++)
        place_head(c, layer, g, first_pool[k] + (groups ? groups[g] : 0));
}

static attn_status size_pages(attn_cache *c, attn_error *err)
{
    for (uint32_t i = 0; i < c->n_pools; i++) {
        page_pool *p = &c->pools[i];
        p->page_bytes = (uint64_t)p->block_bytes * p->n_blocks;
        if (p->n_blocks && p->page_bytes / p->n_blocks != (uint64_t)p->block_bytes) p->page_bytes = UINT64_MAX;
        if (p->page_bytes > MAX_PAGE_BYTES)
            return attni_fail(err, ATTN_E_ARGUMENT, "page_tokens %lld: a page of '%s' would have %llu bytes",
                              (long long)c->page_tokens, p->kind->name, (unsigned long long)p->page_bytes);
    }
    return ATTN_OK;
}

static attn_status place_all(attn_cache *c, memory *scratch, attn_error *err)
{
    const uint32_t n_layers = c->module->desc.n_layers;
    const uint32_t *first_pool = make_pools(c, scratch);
    if (!first_pool) return attni_no_memory(err);
    for (uint32_t l = 0; l < n_layers; l++)
        if (c->layers[l].owner == l) place_layer(c, l, first_pool);
    for (uint32_t l = 0; l < n_layers; l++) {
        const uint32_t owner = c->layers[l].owner;
        if (owner == l || owner == CACHE_NO_LAYER) continue;
        c->layers[l] = c->layers[owner]; /* its owner is the owner */
    }
    return c->mem.failed ? attni_no_memory(err) : size_pages(c, err);
}

attn_status attni_cache_lay_out(attn_cache *c, const attn_cache_config *from, attn_error *err)
{
    memory scratch;
    c->layers = attni_alloc(&c->mem, c->module->desc.n_layers, sizeof *c->layers);
    if (!c->layers) return attni_no_memory(err);
    attn_status s = choose_layers(c, from, err);
    if (!s) s = find_owners(c, err);
    if (!s) s = attni_memory_open(&scratch, &c->mem.a, err);
    if (s) return s;
    s = place_all(c, &scratch, err);
    attni_memory_close(&scratch);
    return s;
}
