/* cache_live.c - which positions a pool keeps: the module's live rule, joined over those who read it, in keys and
 * pages.
 *
 * The rule is asked with the data unknown, since nobody knows the attributes of tokens to come. */
#include "cache.h"

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

static void add_live(const attn_cache *c, const viewer *v, int64_t from, int64_t n, spans *out)
{
    const attn_kind_desc *kind = v->kind;
    attn_range_args a = {.size = sizeof a, .q0 = from, .q1 = from, .layer = v->layer, .inputs = c->inputs};
    const uint32_t heads = kind->flags & ATTN_KIND_HEADS_DIFFER ? v->heads : 1;
    for (uint32_t h = v->head; h < v->head + heads; h++) {
        a.h = h;
        a.g = h / (kind->q_heads / kind->kv_heads);
        kind->live(&a, c->pairs);
        for (uint32_t i = 0; i < kind->n_live; i++) {
            const int64_t lo = c->pairs[2 * i], hi = c->pairs[2 * i + 1];
            if (lo <= hi && lo < n) attni_spans_insert(out, max64(lo, 0), min64(hi, n - 1) + 1);
        }
    }
}

void attni_live(const attn_cache *c, uint32_t pool, int64_t from, int64_t n, spans *out)
{
    out->n = 0;
    for (size_t i = 0; i < c->pools[pool].viewers.n; i++) add_live(c, &c->pools[pool].viewers.at[i], from, n, out);
}

void attni_to_pages(const attn_cache *c, const spans *keys, spans *out)
{
    const int64_t p = c->page_tokens;
    out->n = 0;
    for (size_t i = 0; i < keys->n; i++) attni_spans_append(out, keys->at[i].lo / p, (keys->at[i].hi + p - 1) / p);
}
