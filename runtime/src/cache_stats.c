/* cache_stats.c - counts, and which positions are kept. */
#include "cache.h"

#include "error.h"

#include <string.h>

static uint64_t full_bytes(const attn_cache *c)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < c->seqs.n; i++)
        for (uint32_t k = 0; k < c->module->desc.n_kinds; k++)
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
                           .bytes_most = c->bytes_most};
    for (uint32_t k = 0; k < c->module->desc.n_kinds; k++) {
        s.pages += c->pools[k].pages;
        s.pages_free += c->pools[k].n_free;
        s.pages_shared += c->pools[k].shared;
        s.pages_evicted += c->pools[k].evicted;
    }
    memcpy(out, &s, size);
    return attni_cache_leave(c, ATTN_OK);
}

static int64_t kept(const attn_cache *c, attn_seq_id id, uint32_t layer, int64_t (*intervals)[2], int64_t max)
{
    const sequence *s = attni_seq_find(c, id);
    memory scratch;
    if (!s || layer >= c->module->desc.n_layers || c->layer_slot[layer] == CACHE_NO_LAYER) return -1;
    if (attni_memory_open(&scratch, &c->mem.a, NULL)) return -1;
    spans alive = {.mem = &scratch};
    attni_live(c, c->module->desc.schedule[layer], attni_live_from(c, s->furthest), s->n, &alive);
    const int64_t n = scratch.failed ? -1 : (int64_t)alive.n;
    for (int64_t i = 0; i < n && i < max; i++) {
        intervals[i][0] = alive.at[i].lo;
        intervals[i][1] = alive.at[i].hi - 1;
    }
    attni_memory_close(&scratch);
    return n;
}

int64_t attn_cache_kept(const attn_cache *c, attn_seq_id s, uint32_t layer, int64_t (*intervals)[2], int64_t max)
{
    if ((max > 0 && !intervals) || attni_cache_enter(c, NULL)) return -1;
    const int64_t n = kept(c, s, layer, intervals, max);
    attni_cache_leave(c, ATTN_OK);
    return n;
}
