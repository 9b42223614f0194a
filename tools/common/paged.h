/* paged.h - a step over a KV cache, to be timed again and again: a problem's last tokens come, the others are there. */
#ifndef ATTNC_TOOLS_PAGED_H
#define ATTNC_TOOLS_PAGED_H

#include "tools/common/call.h"
#include <attn/cache.h>

typedef struct paged {
    call *call;
    attn_cache *cache;
    attn_seq_id *ids;
    int64_t *counts; /* new tokens of each sequence */
    int32_t **attrs; /* of the new tokens, per attribute */
} paged;

/* A cache of the problem's layer, filled with all tokens but the last q_len of each sequence. The call lends its pool, inputs and results. */
bool paged_open(paged *x, attn_module *m, call *c, uint32_t page_tokens, int32_t isa, tool_error *err);
bool paged_begin(paged *x, tool_error *err); /* plans the step of the last tokens */
bool paged_run(paged *x, tool_error *err);   /* attn_step_layer */
void paged_cancel(paged *x);                 /* as if the step had not begun */
void paged_close(paged *x);

/* Over all sequences and KV heads: the keys that some query of the problem may see. */
bool paged_count_keys(const problem *p, int64_t *keys, tool_error *err);

#endif
