/* attention.h - what the engine needs of attention: sequences that remember their keys and values, and steps over them.
 *
 * Nothing here speaks of windows, chunks or pages. What a layer may see, and so what is worth remembering, is in the
 * .attn file. */
#ifndef ENGINE_ATTENTION_H
#define ENGINE_ATTENTION_H

#include "failure.h"
#include <attn/abi.h>
#include <stdint.h>

typedef struct attention attention;
typedef uint64_t attention_sequence;

typedef struct attention_options {
    uint32_t page_tokens; /* 0: the library's choice */
    uint32_t rollback;    /* how many tokens attention_rollback can take back */
    uint32_t threads;     /* 0: 1 */
    uint64_t budget;      /* most bytes of keys and values; 0: no limit */
    bool share;           /* sequences can be found by what they say: attention_begin_with */
    float *sinks; /* the input of gpt-oss's kernels, [layers][heads], kept by address; NULL for models without */
} attention_options;

typedef struct attention_stats {
    uint64_t bytes;      /* of keys and values in memory */
    uint64_t bytes_full; /* a cache that keeps every token of every sequence would need */
} attention_stats;

bool attention_open(const attn_module_desc *kernels, const attention_options *o, attention **out, failure *f);
void attention_close(attention *a);

bool attention_begin(attention *a, attention_sequence *out, failure *f);
/* Begins with as many of these tokens, at most n - 1, as the cache knows from other sequences; *found: how many. */
bool attention_begin_with(attention *a, const uint8_t *tokens, int64_t n, attention_sequence *out, int64_t *found,
                          failure *f);
bool attention_fork(attention *a, attention_sequence from, attention_sequence *out, failure *f);
bool attention_rollback(attention *a, attention_sequence s, int64_t tokens, failure *f);
bool attention_end(attention *a, attention_sequence s, failure *f);

/* A step brings counts[i] new tokens to sequence i (`tokens`: all of them, sequence after sequence): open it, give q,
 * k, v of the new tokens to each layer ([all new tokens, heads, dim], sequence after sequence) and get their o, close
 * it. A failure in between is answered with attention_step_cancel. */
bool attention_step(attention *a, uint32_t n, const attention_sequence *sequences, const int64_t *counts,
                    const uint8_t *tokens, failure *f);
bool attention_layer(attention *a, uint32_t layer, float *q, float *k, float *v, float *o, failure *f);
bool attention_step_end(attention *a, failure *f);
void attention_step_cancel(attention *a);

bool attention_get_stats(const attention *a, attention_stats *out, failure *f);

#endif
