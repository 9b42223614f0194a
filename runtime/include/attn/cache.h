/* attn/cache.h - the KV cache that a module's masks need, and steps over it.
 *
 * A step brings m >= 1 new tokens to each of some sequences, at positions n .. n + m - 1: prefill, decode, continuation and draft
 * verification are this one operation. The cache keeps what some future query can still see (the module's `live` rule) and nothing
 * else, in pages of a fixed number of tokens; pages that nothing alive lies in go back to the pool when the step ends.
 *
 *     attn_cache_create(module, &(attn_cache_config){.size = sizeof(attn_cache_config), .isa = -1}, &cache, &err);
 *     attn_seq_begin(cache, &seq, &err);
 *     attn_step_begin(cache, &(attn_step_config){.size = sizeof(attn_step_config), .n_seqs = 1, .seqs = &seq, .counts = &m}, &err);
 *     for (layer ..) attn_step_layer(cache, layer, &tensors, pool, &err);      keeps K and V of the new tokens, then attends
 *     attn_step_end(cache, &err);
 *
 * Conventions (beside those of attn/attn.h)
 *   Errors     a call that fails leaves sequences, pages and results as they were; the step that is open stays open.
 *   Order      between attn_step_begin and attn_step_end or _cancel only attn_step_layer and the functions that look inside are
 *              allowed; the others say ATTN_E_STATE.
 *   Ownership  the module and the pool outlive the cache. Nothing of a caller is kept but the data of `inputs`.
 *   Threads    one thread at a time uses a cache, any thread; a call that meets another one is refused with ATTN_E_BUSY (or, where
 *              there is no status, as said there). Different caches do not meet, also of one module.
 *   Prefixes   with `tokens` in its steps a sequence can be found by others: attn_seq_begin_with begins one with the longest beginning
 *              that the cache has. The same id with the same attributes, at the same place behind the same tokens, must mean the same keys
 *              and values: what is not told by ids (an image's pixels, an adapter) needs ids of its own, and the data of `inputs`
 *              must not change. Failing calls may let prefixes go that no sequence holds; nothing else.
 *   Memory     steps allocate in attn_step_begin only, and there only what the step before did not leave: attn_step_layer and
 *              attn_step_end cannot fail for memory. */
#ifndef ATTN_CACHE_H
#define ATTN_CACHE_H

#include <attn/attn.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct attn_cache attn_cache;
typedef uint64_t attn_seq_id; /* never used again while the cache lives; 0 is none */

typedef struct attn_cache_config {
    size_t size;              /* sizeof(attn_cache_config) */
    uint64_t budget;          /* most bytes of pages, over all kinds; 0: no limit */
    uint32_t page_tokens;     /* tokens of a page, 1 to 2^24; 0: 64 */
    uint32_t rollback;        /* R: how many tokens attn_seq_rollback can take back */
    uint32_t workers;         /* most workers that run a step; 0: 1 */
    int32_t isa;              /* attn_isa (0 is the baseline), or -1: the best this processor runs */
    const DLTensor *const *inputs; /* per input of the module; needed when a kind is ATTN_KIND_MASK_INPUTS, else may be NULL */
    const attn_allocator *allocator;
    uint32_t poison;          /* not 0: whatever holds no token that is alive is filled with NaN. Slow; for tests */
    uint32_t n_layers;        /* 0: all layers of the module; else this many, those in `layers` (a stage of a pipeline), with each
                               * layer whose keys and values another one of them shares */
    const uint32_t *layers;   /* [n_layers], all different; read by attn_cache_create only */
    uint64_t prefix_bytes;    /* most bytes of pages that are kept for attn_seq_begin_with alone, the last used ones; within the budget,
                               * and gone as soon as a step needs the room. 0: it finds what living sequences hold */
} attn_cache_config;

ATTN_API ATTN_CHECKED attn_status attn_cache_create(const attn_module *m, const attn_cache_config *c, attn_cache **out, attn_error *err);
ATTN_API void attn_cache_destroy(attn_cache *c);

/* ---- sequences ---------------------------------------------------------------------------------------------------------------- */

/* An empty sequence. */
ATTN_API ATTN_CHECKED attn_status attn_seq_begin(attn_cache *c, attn_seq_id *out, attn_error *err);

typedef struct attn_prefix {
    size_t size;                 /* sizeof(attn_prefix) */
    int64_t n_tokens;
    int64_t most;                /* tokens of the longest hit that is wanted; 0: n_tokens. All but one where the last one's result is */
    const int32_t *tokens;       /* [n_tokens] */
    const int32_t *const *attrs; /* per attribute of the module: [n_tokens] */
} attn_prefix;

/* A sequence that has the first *hit (0 .. most) of these tokens already, as if steps had brought them: the longest beginning of which
 * every layer has what later tokens can see (down to R tokens back). Not in pages: a hit may end anywhere, but where a token before its end
 * would see one behind it. Steps bring the rest, from token *hit on. Without a hit it is attn_seq_begin; so it is for modules
 * with a kind that is ATTN_KIND_LEN. */
ATTN_API ATTN_CHECKED attn_status attn_seq_begin_with(attn_cache *c, const attn_prefix *p, attn_seq_id *out, int64_t *hit, attn_error *err);
/* Its pages are free, but for those that others share. ATTN_E_STATE for a sequence that is not there (any more), here and below. */
ATTN_API ATTN_CHECKED attn_status attn_seq_end(attn_cache *c, attn_seq_id s, attn_error *err);
/* A second sequence with the same tokens; pages are shared until one of the two writes into them. */
ATTN_API ATTN_CHECKED attn_status attn_seq_fork(attn_cache *c, attn_seq_id s, attn_seq_id *out, attn_error *err);
/* Takes back the last r >= 0 tokens. ATTN_E_ROLLBACK when that is more than R tokens behind the furthest point that the sequence has
 * reached, or behind its beginning. Everything after it is as if they had never come. */
ATTN_API ATTN_CHECKED attn_status attn_seq_rollback(attn_cache *c, attn_seq_id s, int64_t r, attn_error *err);
/* Tokens of the sequence; those of an open step do not count. */
ATTN_API ATTN_CHECKED attn_status attn_seq_length(const attn_cache *c, attn_seq_id s, int64_t *tokens, attn_error *err);

/* ---- steps --------------------------------------------------------------------------------------------------------------------- */

typedef struct attn_step_config {
    size_t size;                 /* sizeof(attn_step_config) */
    uint32_t n_seqs;
    uint32_t reserved;           /* 0 */
    const attn_seq_id *seqs;     /* [n_seqs], all different */
    const int64_t *counts;       /* [n_seqs] new tokens, >= 0; 0: the sequence idles */
    const int32_t *const *attrs; /* per attribute of the module: values of all new tokens, sequence after sequence; copied */
    const int32_t *tokens;       /* ids of all new tokens, sequence after sequence; copied. NULL: others cannot find these sequences'
                                  * tokens from here on */
} attn_step_config;

/* Checks, takes all pages and plans, once per kind. ATTN_E_BUDGET when the pages do not fit; ATTN_E_SPLIT when a token that is there
 * already would have to see a new one. A sequence may have 2^30 tokens, or as many as the module's smallest `max_len` says. */
ATTN_API ATTN_CHECKED attn_status attn_step_begin(attn_cache *c, const attn_step_config *s, attn_error *err);
/* Attention of the new tokens over all that their sequence holds. q, k, v, o, lse have the new tokens only: packed [all new tokens, heads,
 * dim], or [n_seqs, tokens, heads, dim] with room for the longest; k and v in the kind's dtype. t->layer is not read. pool NULL: in this
 * thread. Each layer once, in any order (ATTN_E_STATE when it has been). A layer that shares another's keys and values (`kv shared`)
 * comes after that one, with k and v NULL. Without q, o and lse the keys and values are kept and nothing is attended: so comes a history
 * that was computed elsewhere. */
ATTN_API ATTN_CHECKED attn_status attn_step_layer(attn_cache *c, uint32_t layer, const attn_tensors *t, attn_pool *pool, attn_error *err);
/* The new tokens belong to their sequences from here on. ATTN_E_STATE when a layer of the cache has not been run. */
ATTN_API ATTN_CHECKED attn_status attn_step_end(attn_cache *c, attn_error *err);
/* Gives the step up, as if it had not begun (what only prefixes held may have made room for it); nothing when none is open, or while another
 * call uses the cache. */
ATTN_API void attn_step_cancel(attn_cache *c);

/* ---- looking inside ------------------------------------------------------------------------------------------------------------ */

typedef struct attn_cache_stats {
    size_t size;             /* in: sizeof(attn_cache_stats) */
    uint64_t bytes;          /* of pages in use */
    uint64_t bytes_reserved; /* with free pages that are kept for later; never above the budget */
    uint64_t bytes_full;     /* of a cache that keeps every token of every sequence, without sharing, in pages of this size */
    uint64_t bytes_most;     /* largest `bytes` so far */
    int64_t pages, pages_free; /* in use; kept for later */
    int64_t pages_shared;    /* in use by more than one sequence */
    int64_t pages_evicted;   /* so far: let go by a sequence because the mask is past them */
    uint64_t bytes_bound;    /* what attn_cache_bound said last; 0: not asked */
    uint64_t bytes_prefix;   /* of `bytes`: held by no sequence, kept for attn_seq_begin_with */
    int64_t pages_prefix;
    int64_t prefix_hits;     /* so far: sequences that began with a prefix, and its tokens */
    int64_t prefix_tokens;
} attn_cache_stats;
ATTN_API ATTN_CHECKED attn_status attn_cache_get_stats(const attn_cache *c, attn_cache_stats *out);

typedef struct attn_cache_limits {
    size_t size;             /* sizeof(attn_cache_limits) */
    uint32_t n_seqs;         /* that live at the same time, forks included */
    uint32_t reserved;       /* 0 */
    int64_t max_tokens;      /* of a sequence, at least 1 */
    int64_t max_step;        /* most tokens that a step brings to one sequence; 0: any number */
} attn_cache_limits;

/* The most that `bytes` can be, at rest or while a step runs, as long as nobody goes beyond these limits: from the module's live rules, the
 * page size and R alone, before anything has run. With it as the budget, no step is ever refused for want of pages. Pages that are only
 * kept for attn_seq_begin_with come to it, where the budget lets them, and one that a step must not write into for their sake. Sequences may
 * share whatever forks share, or nothing; copies of pages that forks write into are counted. It is reached where every step boundary is
 * legal. Asks the live rules once for each length up to max_tokens. */
ATTN_API ATTN_CHECKED attn_status attn_cache_bound(attn_cache *c, const attn_cache_limits *given, uint64_t *bytes, attn_error *err);

/* The positions that a layer keeps for queries to come, live(n - R) cut to [0, n), as sorted intervals lo, hi (both included); pages round
 * them out. Of all its KV heads together; the second one of KV head `kv_head` alone. What a layer shares with another, both keep. Writes at
 * most `max` intervals and returns how many there are; -1: no such sequence, layer or head, no memory, or busy. */
ATTN_API int64_t attn_cache_kept(const attn_cache *c, attn_seq_id s, uint32_t layer, int64_t (*intervals)[2], int64_t max);
ATTN_API int64_t attn_cache_kept_by_head(const attn_cache *c, attn_seq_id s, uint32_t layer, uint32_t kv_head, int64_t (*intervals)[2],
                                         int64_t max);

/* Walks every invariant: reference counts, free lists, tables, sums, live sets. NULL when all hold, else a sentence. For tests. */
ATTN_API const char *attn_cache_check(const attn_cache *c);

#ifdef __cplusplus
}
#endif
#endif
