/* cache_live.c - which positions a kind keeps: the module's live rule, joined over heads and layers, in keys and pages.
 *
 * The rule is asked with the data unknown, since nobody knows the attributes of tokens to come. */
#include "cache.h"

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

static void add_live(const attn_cache *c, const attn_kind_desc *kind, attn_range_args *a, int64_t n, spans *out)
{
    for (uint32_t h = 0; h < attni_mask_heads(kind); h++) {
        a->h = h;
        a->g = h / (kind->q_heads / kind->kv_heads);
        kind->live(a, c->pairs);
        for (uint32_t i = 0; i < kind->n_live; i++) {
            const int64_t lo = c->pairs[2 * i], hi = c->pairs[2 * i + 1];
            if (lo <= hi && lo < n) attni_spans_insert(out, max64(lo, 0), min64(hi, n - 1) + 1);
        }
    }
}

void attni_live(const attn_cache *c, uint32_t kind, int64_t from, int64_t n, spans *out)
{
    const attn_module_desc *d = &c->module->desc;
    const attn_kind_desc *desc = d->kinds[kind];
    attn_range_args a = {.size = sizeof a, .q0 = from, .q1 = from, .inputs = c->inputs};
    out->n = 0;
    for (uint32_t l = 0; l < d->n_layers; l++) {
        if (d->schedule[l] != kind || c->layer_slot[l] == CACHE_NO_LAYER) continue;
        a.layer = l;
        add_live(c, desc, &a, n, out);
        if (!(desc->flags & ATTN_KIND_LAYERS_DIFFER)) return;
    }
}

void attni_to_pages(const attn_cache *c, const spans *keys, spans *out)
{
    const int64_t p = c->page_tokens;
    out->n = 0;
    for (size_t i = 0; i < keys->n; i++) attni_spans_append(out, keys->at[i].lo / p, (keys->at[i].hi + p - 1) / p);
}
