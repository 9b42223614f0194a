/* steps.h - a problem fed through a KV cache piece by piece. */
#ifndef ATTNC_TOOLS_STEPS_H
#define ATTNC_TOOLS_STEPS_H

#include "tools/common/call.h"
#include <attn/cache.h>

typedef struct steps_options {
    const int64_t *pieces; /* tokens of each step; a sequence takes them until it is used up */
    size_t n_pieces;
    int64_t page_tokens, rollback, budget; /* 0: the cache's own choice */
} steps_options;

/* Fills c's results, in the order of the problem, and stats (may be NULL) with what the cache says at the end. */
bool steps_run(call *c, attn_module *m, const steps_options *o, int32_t isa, attn_cache_stats *stats, tool_error *err);

#endif
