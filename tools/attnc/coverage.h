/* coverage.h - what a pattern's ranges say about a text of n tokens: pairs, tiles, live keys, legal step boundaries. */
#ifndef ATTNC_TOOLS_COVERAGE_H
#define ATTNC_TOOLS_COVERAGE_H

#include "ir/pattern/module.h"

/* KV heads that live together: what they keep after n tokens, and all of it. */
typedef struct coverage_group {
    int64_t kv_heads; /* of all layers */
    int64_t live_bytes, full_bytes;
} coverage_group;

/* Sums over the kind's layers and heads. */
typedef struct coverage {
    bool known;          /* false: the ranges read run-time inputs, or too many heads differ */
    const char *unknown; /* then why */
    bool exact_pairs;    /* pairs_visible is exact, else an upper bound */
    bool exact_live;     /* no token attributes and nothing undecided */
    int64_t pairs_visible, pairs_all;       /* (layer, head, query, key) */
    int64_t tiles_full, tiles_partial, tiles_all;
    int64_t live_bytes, live_peak_bytes, full_bytes; /* of K and V after n tokens, at most on the way, of all n tokens */
    coverage_group *groups; /* none where another layer's keys are read */
    uint32_t n_groups;
    int64_t boundaries;  /* of the n - 1 places between tokens: where a step may end, for certain */
} coverage;

typedef struct coverage_options {
    int64_t n;                   /* tokens */
    int64_t tile_rows, tile_keys;
} coverage_options;

coverage coverage_compute(arena *a, const ir_module *m, uint32_t pattern, const coverage_options *o);

#endif
