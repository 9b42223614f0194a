/* cache_bound.c - the most bytes of pages that sequences within given limits can ever hold, from the live rule alone.
 *
 * A sequence of n tokens holds the pages of live(n - R) below n; a step of m tokens writes those of n .. n + m - 1
 * beside them, and nothing goes before it ends. So the bound is a maximum over n, of all pools together, with m as
 * large as it may be. Who has been further and went back to n has no more: what is dead stays dead.
 *
 * Forks share pages, which is less than each its own, but for one thing: who writes into a page that others hold gets a
 * copy, and the old one is there until the step ends. Two that both write have what one held, and twice what one
 * writes. That is more than two strangers have where a sequence holds nothing but that page; larger families only share
 * more. */
#include "cache.h"

#include "error.h"
#include "numbers.h"

typedef struct limits {
    uint32_t n_seqs;
    int64_t tokens, step; /* of a sequence */
} limits;

typedef struct load { /* most bytes while a step runs */
    uint64_t alone;   /* of one sequence */
    uint64_t pair;    /* of two forks that copy a page */
} load;

/* ---- sums that stay at the largest number ------------------------------------------------------------------------ */

static uint64_t add(uint64_t a, uint64_t b) { return __builtin_add_overflow(a, b, &a) ? UINT64_MAX : a; }
static uint64_t times(uint64_t a, uint64_t b) { return __builtin_mul_overflow(a, b, &a) ? UINT64_MAX : a; }
static uint64_t max_of(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* ---- one place --------------------------------------------------------------------------------------------------- */

/* Pages that hold keys below n; *last: the one of position n is among them. */
static int64_t count_pages(const spans *keys, int64_t n, int64_t page_tokens, bool *last)
{
    int64_t pages = 0, next = 0;
    for (size_t i = 0; i < keys->n && keys->at[i].lo < n; i++) {
        const int64_t first = max64(keys->at[i].lo / page_tokens, next);
        const int64_t end = (min64(keys->at[i].hi, n) + page_tokens - 1) / page_tokens;
        pages += max64(end - first, 0);
        next = max64(next, end);
    }
    *last = next > n / page_tokens;
    return pages;
}

/* Adds what a step at n tokens has of the pool. */
static void add_pool(const attn_cache *c, const page_pool *pool, const spans *alive, int64_t n, const limits *l,
                     load *sum)
{
    const int64_t p = c->page_tokens, m = min64(l->step, l->tokens - n);
    bool last;
    const int64_t held = count_pages(alive, n, p, &last), written = m ? (n + m - 1) / p - n / p + 1 : 0;
    sum->alone = add(sum->alone, times((uint64_t)(held + written - (m && last)), pool->page_bytes));
    sum->pair = add(sum->pair, times((uint64_t)(held + 2 * written), pool->page_bytes));
}

/* ---- all places -------------------------------------------------------------------------------------------------- */

static void look(const attn_cache *c, int64_t n, const limits *l, spans *alive, load *most)
{
    load sum = {0};
    for (uint32_t k = 0; k < c->n_pools; k++) {
        if (!c->pools[k].n_blocks) continue;
        attni_live(c, k, attni_live_from(c, n), n, alive);
        add_pool(c, &c->pools[k], alive, n, l, &sum);
    }
    most->alone = max_of(most->alone, sum.alone);
    most->pair = max_of(most->pair, sum.pair);
}

static attn_status bound(attn_cache *c, const limits *l, uint64_t *bytes, attn_error *err)
{
    memory scratch;
    load most = {0};
    attn_status s = attni_memory_open(&scratch, &c->mem.a, err);
    if (s) return s;
    spans alive = {.mem = &scratch};
    for (int64_t n = 0; n <= l->tokens && !scratch.failed; n++) look(c, n, l, &alive, &most);
    if (scratch.failed) s = attni_no_memory(err);
    attni_memory_close(&scratch);
    if (s) return s;
    const uint64_t two = max_of(most.pair, times(2, most.alone));
    *bytes = c->bytes_bound = add(times(l->n_seqs / 2, two), times(l->n_seqs % 2, most.alone));
    return ATTN_OK;
}

attn_status attn_cache_bound(attn_cache *c, const attn_cache_limits *given, uint64_t *bytes, attn_error *err)
{
    attn_cache_limits from;
    attn_status s = attni_read_struct(&from, sizeof from, given, "attn_cache_limits", err);
    if (s) return s;
    if (!bytes) return attni_fail(err, ATTN_E_ARGUMENT, "attn_cache_bound: bytes is NULL");
    if (from.max_tokens < 1 || from.max_step < 0)
        return attni_fail(err, ATTN_E_ARGUMENT, "max_tokens is %lld, max_step %lld", (long long)from.max_tokens,
                          (long long)from.max_step);
    s = attni_cache_enter(c, err);
    if (s) return s;
    limits l = {.n_seqs = from.n_seqs, .tokens = min64(from.max_tokens, c->max_tokens), .step = from.max_step};
    if (!l.step || l.step > l.tokens) l.step = l.tokens;
    return attni_cache_leave(c, bound(c, &l, bytes, err));
}
