/* forward.h - a call whose keys lie in the pages of a cache. */
#ifndef ATTN_SRC_FORWARD_H
#define ATTN_SRC_FORWARD_H

#include "views.h"

/* Where a layer's keys and values lie in each page, in bytes. The tables are in the plan's sequences. */
typedef struct paged_keys {
    int64_t page_tokens, k_token_stride, v_token_stride;
    const int64_t *k_heads, *v_heads; /* per KV head: its first row in a page */
} paged_keys;

/* attn_begin with keys in pages; t is of this version's size. t->k and t->v are those of the new tokens, checked and handed back as views. */
attn_status attni_begin_paged(attn_plan *p, const attn_tensors *t, const paged_keys *keys, view *k, view *v,
                              attn_error *err);
/* Runs what was begun, and ends it. */
attn_status attni_run_begun(attn_plan *p, attn_pool *pool, attn_error *err);

#endif
