/* cache_append.c - rows of keys and values, from a call's tensors of any strides into the pages of their sequences. */
#include "cache.h"

#include <string.h>

typedef struct rows { /* of one KV head: into a page, from a tensor */
    char *to;
    const char *from;
    int64_t count, bytes, from_stride;
} rows;

static void copy_rows(const rows *r)
{
    if (r->from_stride == r->bytes) {
        memcpy(r->to, r->from, (size_t)(r->count * r->bytes));
        return;
    }
    for (int64_t i = 0; i < r->count; i++) memcpy(r->to + i * r->bytes, r->from + i * r->from_stride, (size_t)r->bytes);
}

/* `count` tokens from `from` on into the slots of a page from `to` on, all KV heads. */
static void copy_tokens(char *to, int64_t head_stride, int64_t row_bytes, const view *v, const char *from,
                        int64_t count, uint32_t heads)
{
    for (uint32_t g = 0; g < heads; g++) {
        const rows r = {.to = to + g * head_stride,
                        .from = from + g * v->head_stride,
                        .count = count,
                        .bytes = row_bytes,
                        .from_stride = v->token_stride};
        copy_rows(&r);
    }
}

static void append(const attn_cache *c, uint32_t kind, const step_seq *s, const paged_keys *at, const view *k,
                   const char *k_from, const view *v, const char *v_from)
{
    const uint32_t heads = c->pools[kind].kind->kv_heads;
    for (int64_t done = 0, count; done < s->m; done += count) {
        const int64_t position = s->seq->n + done, slot = position % c->page_tokens;
        /* new tokens lie in pages that this sequence has for itself: the step has seen to that */
        char *to = (char *)(uintptr_t)s->seq->tables[kind].pages[position / c->page_tokens];
        count = s->m - done < c->page_tokens - slot ? s->m - done : c->page_tokens - slot;
        copy_tokens(to + at->k_offset + slot * at->k_token_stride, at->k_head_stride, at->k_token_stride, k,
                    k_from + done * k->token_stride, count, heads);
        copy_tokens(to + at->v_offset + slot * at->v_token_stride, at->v_head_stride, at->v_token_stride, v,
                    v_from + done * v->token_stride, count, heads);
    }
}

void attni_append(attn_cache *c, uint32_t kind, const paged_keys *layout, const view *k, const view *v)
{
    int64_t row = 0;
    for (uint32_t i = 0; i < c->step.n_seqs; i++) {
        const step_seq *s = &c->step.seqs[i];
        if (s->m)
            append(c, kind, s, layout, k, k->base + attni_view_offset(k, i, row), v,
                   v->base + attni_view_offset(v, i, row));
        row += s->m;
    }
}
