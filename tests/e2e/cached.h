/* cached.h - texts fed through a KV cache piece by piece, and compared with the oracle over all of their tokens.
 *
 *     cached x;
 *     cached_open(&x, &m, (attn_cache_config){.page_tokens = 4, .rollback = 2}, isa);
 *     cached_text *a = cached_begin(&x, 40, seed);        a text of up to 40 random tokens
 *     ok = cached_feed(&x, a, 10) && cached_feed(&x, a, 1) && cached_rollback(&x, a, 1) && cached_feed(&x, a, 7) &&
 * cached_matches(&x, a);
 *
 * All layers of the module run, unless config.layers names some. Pages without a living token hold NaN;
 * attn_cache_check runs after each operation. */
#ifndef ATTNC_TEST_CACHED_H
#define ATTNC_TEST_CACHED_H

#include "tests/e2e/harness.h"

#include <attn/cache.h>

enum { CACHED_LAYERS = 8, CACHED_TEXTS = 80 };

typedef struct cached_text {
    attn_seq_id id;               /* 0: free */
    int64_t n;                    /* tokens that the cache has */
    e2e_call call[CACHED_LAYERS]; /* per layer: values of all tokens that may come; results of those that have */
} cached_text;

typedef struct cached {
    const e2e_module *m;
    attn_cache *cache;
    attn_pool *pool;
    uint32_t n_layers, layers[CACHED_LAYERS];
    cached_text texts[CACHED_TEXTS];
    double *inputs[E2E_MAX_NAMED]; /* the values that every text sees */
    void *input_data[E2E_MAX_NAMED];
    DLTensor input_dl[E2E_MAX_NAMED];
    const DLTensor *input_list[E2E_MAX_NAMED];
    attn_status last; /* of the last attn_step_begin */
    bool named;       /* steps bring the tokens' ids, which are hashed from their keys */
} cached;

typedef struct cached_move {
    cached_text *text;
    int64_t m;
} cached_move;

/* The module's inputs get random values from the seed. */
bool cached_open(cached *x, const e2e_module *m, attn_cache_config config, unsigned long long seed);
void cached_close(cached *x);

cached_text *cached_begin(cached *x, int64_t most, unsigned long long seed);
/* The same text so far; what comes is other. */
cached_text *cached_fork(cached *x, const cached_text *from, unsigned long long seed);
/* A text whose first `alike` tokens are those of `like`, which may have ended but must have had as many. It begins with
 * what the cache knows of its first n tokens, at most `most` (0: n); t->n is the hit. NULL: a sentence was printed. */
cached_text *cached_share(cached *x, const cached_text *like, int64_t alike, int64_t n, int64_t most,
                          unsigned long long seed);
bool cached_end(cached *x, cached_text *t);
bool cached_leave(cached *x, cached_text *t); /* the same, but the text stays to be compared with, and to be shared */
bool cached_rollback(cached *x, cached_text *t, int64_t r);
bool cached_feed(cached *x, cached_text *t, int64_t m);
/* One step. false and a sentence; false alone when attn_step_begin says no: see `last`. */
bool cached_step(cached *x, const cached_move *moves, uint32_t n);
/* A step of other values in so many layers, given up; false as for cached_step. */
bool cached_cancel(cached *x, const cached_move *moves, uint32_t n, uint32_t layers);

/* The tokens that were fed, all layers, against the oracle. */
bool cached_matches(const cached *x, const cached_text *t);
/* Exactly these positions are kept: "0-1 8", "none". */
bool cached_keeps(const cached *x, const cached_text *t, uint32_t layer, const char *want);
attn_cache_stats cached_stats(const cached *x);

#endif
