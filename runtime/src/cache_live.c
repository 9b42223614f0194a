/* cache_live.c - which positions a pool keeps: the module's live rule, joined over those who read it, in keys and
 * pages.
 *
 * The rule is asked with the data unknown, since nobody knows the attributes of tokens to come. */
#include "cache.h"
#include "numbers.h"

static void add_pairs(const int64_t *pairs, uint32_t n_pairs, int64_t n, spans *out)
{
    for (uint32_t i = 0; i < n_pairs; i++) {
        const int64_t lo = pairs[2 * i], hi = pairs[2 * i + 1];
        if (lo <= hi && lo < n) attni_spans_insert(out, max64(lo, 0), min64(hi, n - 1) + 1);
    }
}

void attni_live(const attn_cache *c, uint32_t pool, int64_t from, int64_t n, spans *out)
{
    const page_pool *p = &c->pools[pool];
    attn_range_args a = {.size = sizeof a, .q0 = from, .q1 = from, .inputs = c->inputs};
    out->n = 0;
    for (size_t i = 0; i < p->viewers.n; i++) {
        const viewer *v = &p->viewers.at[i];
        a.layer = v->layer;
        for (uint32_t h = v->head; h < v->head + v->heads; h++) {
            a.h = h;
            a.g = h ? h / (v->kind->q_heads / v->kind->kv_heads) : 0;
            v->kind->live(&a, c->pairs);
            add_pairs(c->pairs, v->kind->n_live, n, out);
        }
    }
}

void attni_to_pages(const attn_cache *c, const spans *keys, spans *out)
{
    out->n = 0;
    for (size_t i = 0; i < keys->n; i++)
        attni_spans_append(out, attni_page_index(c, keys->at[i].lo), attni_page_index(c, keys->at[i].hi - 1) + 1);
}
