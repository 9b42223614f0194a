/* random_pattern.h - random well-formed pattern text, and what to run it on; all from one seed. */
#ifndef ATTNC_TEST_RANDOM_PATTERN_H
#define ATTNC_TEST_RANDOM_PATTERN_H

#include "tests/e2e/harness.h"

enum { RANDOM_TEXT = 8192, RANDOM_SEQS = 4 };

typedef struct random_pattern {
    unsigned long long seed; /* the generator's state */
    char at[RANDOM_TEXT];    /* the text */
    size_t n;
    int q_heads, kv_heads, layers;
    bool k_is_v;
    bool cached;       /* what only a KV cache can do may be drawn */
    const char *quant; /* "quant(int8)", with groups; NULL: none */
    bool may_read_len; /* not where later keys are seen: those of a later step are no keys yet */
    int32_t isa; /* compiled for this target only, and run on it */
} random_pattern;

void random_pattern_create(random_pattern *r, unsigned long long seed, bool cached);

int random_below(random_pattern *r, int n);
bool random_chance(random_pattern *r, double p);

#endif
