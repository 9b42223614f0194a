/* cache_stats.c - counts, and which positions are kept. */
#include "cache.h"

#include "error.h"

#include <string.h>

static uint64_t full_bytes(const attn_cache *c)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < c->seqs.n; i++)
        for (uint32_t k = 0; k < c->n_pools; k++)
            bytes += (uint64_t)((c->seqs.at[i]->n + c->page_tokens - 1) / c->page_tokens) * c->pools[k].page_bytes;
    return bytes;
}

attn_status attn_cache_get_stats(const attn_cache *c, attn_cache_stats *out)
{
    attn_cache_stats s;
    attn_status status = attni_read_struct(&s, sizeof s, out, "attn_cache_stats", NULL);
    if (!status) status = attni_cache_enter(c, NULL);
    if (status) return status;
    const size_t size = out->size < sizeof s ? out->size : sizeof s;
    s = (attn_cache_stats){.size = out->size,
                           .bytes = c->bytes,
                           .bytes_reserved = c->bytes_reserved,
                           .bytes_full = full_bytes(c),
                           .bytes_most = c->bytes_most,
                           .bytes_bound = c->bytes_bound,
                           .bytes_prefix = c->prefixes.idle_bytes,
                           .prefix_hits = c->prefixes.hits,
                           .prefix_tokens = c->prefixes.tokens};
    for (uint32_t k = 0; k < c->n_pools; k++) {
        s.pages += c->pools[k].pages;
        s.pages_free += c->pools[k].n_free;
        s.pages_shared += c->pools[k].shared;
        s.pages_evicted += c->pools[k].evicted;
        s.pages_prefix += c->pools[k].idle;
    }
    memcpy(out, &s, size);
    return attni_cache_leave(c, ATTN_OK);
}

/* kv_head: of the layer, or ANY_HEAD. */
#define ANY_HEAD UINT32_MAX

static void find_kept(const attn_cache *c, const sequence *s, const cache_layer *l, uint32_t kv_head, memory *scratch,
                      spans *out)
{
    spans one = {.mem = scratch}, sum = {.mem = scratch};
    for (uint32_t g = 0; g < l->n_groups; g++) {
        if (kv_head != ANY_HEAD && l->head_group[kv_head] != g) continue;
        attni_live(c, l->pools[g], attni_live_from(c, s->furthest), s->n, &one);
        attni_spans_unite(out, &one, &sum);
        attni_spans_copy(out, &sum);
    }
}

static int64_t kept(const attn_cache *c, attn_seq_id id, uint32_t layer, uint32_t kv_head, int64_t (*intervals)[2],
                    int64_t max)
{
    const sequence *s = attni_seq_find(c, id);
    memory scratch;
    if (!s || !attni_cache_has_layer(c, layer)) return -1;
    if (kv_head != ANY_HEAD && kv_head >= attni_module_kind(c->module, layer)->kv_heads) return -1;
    if (attni_memory_open(&scratch, &c->mem.a, NULL)) return -1;
    spans alive = {.mem = &scratch};
    find_kept(c, s, &c->layers[layer], kv_head, &scratch, &alive);
    const int64_t n = scratch.failed ? -1 : (int64_t)alive.n;
    for (int64_t i = 0; i < n && i < max; i++) {
        intervals[i][0] = alive.at[i].lo;
        intervals[i][1] = alive.at[i].hi - 1;
    }
    attni_memory_close(&scratch);
    return n;
}

static int64_t enter_kept(const attn_cache *c, attn_seq_id s, uint32_t layer, uint32_t kv_head, int64_t (*intervals)[2],
                          int64_t max)
{
    if ((max > 0 && !intervals) || attni_cache_enter(c, NULL)) return -1;
    const int64_t n = kept(c, s, layer, kv_head, intervals, max);
    attni_cache_leave(c, ATTN_OK);
    return n;
}

int64_t attn_cache_kept(const attn_cache *c, attn_seq_id s, uint32_t layer, int64_t (*intervals)[2], int64_t max)
{
    return enter_kept(c, s, layer, ANY_HEAD, intervals, max);
}

int64_t attn_cache_kept_by_head(const attn_cache *c, attn_seq_id s, uint32_t layer, uint32_t kv_head,
                                int64_t (*intervals)[2], int64_t max)
{
    return kv_head == ANY_HEAD ? -1 : enter_kept(c, s, layer, kv_head, intervals, max);
}
