/* cache_append.c - rows of keys and values, from a call's tensors of any strides into the pages of their sequences. */
#include "cache.h"

#include <string.h>

typedef struct rows { /* of one KV head: into a page, from a tensor */
    char *to;
    const char *from;
    int64_t count, bytes, from_stride;
    const attn_kind_desc *kind;
    int64_t dim;
} rows;

static void quantise_rows(const rows *r)
{
    const int64_t group = r->kind->kv_group ? r->kind->kv_group : r->dim;
    for (int64_t i = 0; i < r->count; i++)
        attni_quantise_row(r->from + i * r->from_stride, r->kind->dtype, r->dim, group, r->to + i * r->bytes);
}

static void copy_rows(const rows *r)
{
    if (r->kind->kv_format == ATTN_KV_INT8) {
        quantise_rows(r);
        return;
    }
    if (r->from_stride == r->bytes) {
        memcpy(r->to, r->from, (size_t)(r->count * r->bytes));
        return;
    }
    for (int64_t i = 0; i < r->count; i++) memcpy(r->to + i * r->bytes, r->from + i * r->from_stride, (size_t)r->bytes);
}

/* `count` tokens from `from` on into the pages at `position`, which this sequence has for itself: the step has seen to
 * that. */
static void copy_tokens(const attn_cache *c, const cache_layer *l, const sequence *s, int64_t position, int64_t count,
                        const view *v, const char *from, bool values)
{
    const page_pool *pool = &c->pools[l->pools[0]];
    const int64_t row_bytes = values ? pool->v_row : pool->k_row, slot = position % c->page_tokens;
    const int64_t *head_at = values ? l->v_heads : l->k_heads;
    for (uint32_t g = 0; g < pool->kind->kv_heads; g++) {
        const char *data = s->tables[l->pools[l->head_group[g]]].pages[position / c->page_tokens];
        const rows r = {.to = (char *)(uintptr_t)data + head_at[g] + slot * row_bytes,
                        .from = from + g * v->head_stride,
                        .count = count,
                        .bytes = row_bytes,
                        .from_stride = v->token_stride,
                        .kind = pool->kind,
                        .dim = values ? pool->kind->dim_v : pool->kind->dim};
        copy_rows(&r);
    }
}

static void append(const attn_cache *c, const cache_layer *l, const step_seq *s, const view *v, const char *from,
                   bool values)
{
    for (int64_t done = 0, count; done < s->m; done += count) {
        const int64_t position = s->seq->n + done, room = c->page_tokens - position % c->page_tokens;
        count = s->m - done < room ? s->m - done : room;
        copy_tokens(c, l, s->seq, position, count, v, from + done * v->token_stride, values);
    }
}

void attni_append(attn_cache *c, uint32_t layer, const view *k, const view *v)
{
    const cache_layer *l = &c->layers[layer];
    const bool has_values = c->pools[l->pools[0]].v_row > 0;
    int64_t row = 0;
    for (uint32_t i = 0; i < c->step.n_seqs; i++) {
        const step_seq *s = &c->step.seqs.at[i];
        if (!s->m) continue;
        append(c, l, s, k, k->base + attni_view_offset(k, i, row), false);
        if (has_values) append(c, l, s, v, v->base + attni_view_offset(v, i, row), true);
        row += s->m;
    }
}
