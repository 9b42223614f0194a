/* cache.h - what a KV cache holds.
 *
 *     cache.c         its life
 *     cache_layout.c  which KV heads share pages, and where they lie in them
 *     cache_pages.c   pages: taken, shared, free, within the budget
 *     cache_live.c    which positions and pages a kind keeps after n tokens
 *     cache_seq.c     sequences: begin, end, fork, rollback
 *     cache_step.c    a step: begin, layer, end, cancel
 *     cache_append.c  rows of K and V into pages
 *     cache_stats.c   counts, kept positions
 *     cache_bound.c   the most that can ever be held
 *     cache_check.c   the invariants
 *
 * A step decides everything before it changes anything: what must not fail later is computed and taken in its begin. */
#ifndef ATTN_SRC_CACHE_H
#define ATTN_SRC_CACHE_H

#include "forward.h"

#include <attn/cache.h>

enum { CACHE_PAGE_TOKENS = 64 };
#define CACHE_NO_LAYER UINT32_MAX

/* In front of a page's data; tables hold addresses of data, as kernels want them. */
typedef struct page {
    struct page *next, *prev; /* of all pages of the kind */
    struct page *next_free;
    uint32_t refs; /* tables, and steps that may have to put it back; 0: free */
    uint32_t seen; /* attn_cache_check counts here */
} page;

typedef struct viewer { /* query heads of a layer that read a pool */
    const attn_kind_desc *kind;
    uint32_t layer, head, heads;
} viewer;

/* Keys and values that are live together: some KV heads of layers of one kind. A page has a block of each: its keys, then its values. */
typedef struct page_pool {
    const attn_kind_desc *kind;
    uint32_t n_blocks; /* 0: no layer of the cache has this kind */
    int64_t k_row, v_row, block_bytes; /* v_row 0: values are in the keys */
    uint64_t page_bytes;
    LIST(viewer) viewers; /* what they can see is live */
    page *all, *free;
    int64_t pages, n_free, shared, evicted;
    int64_t made; /* by attni_pages_reserve, to be undone when it fails */
} page_pool;

typedef struct cache_layer {
    uint32_t owner; /* of its keys and values: itself, or the layer that it shares them with; CACHE_NO_LAYER: not of this cache */
    uint32_t plan_layer; /* a step's plan for that layer is this one's too; CACHE_NO_LAYER: a plan of its own, made when it runs */
    uint32_t n_groups;
    uint32_t *pools;           /* [n_groups] */
    uint16_t *head_group;      /* per KV head: index into pools */
    int64_t *k_heads, *v_heads; /* per KV head: bytes from a page's address to its first row */
} cache_layer;

typedef struct table { /* one pool of one sequence */
    const char **pages; /* by position / page_tokens; NULL: a hole */
    size_t cap;
    spans held; /* indices that have a page */
} table;

typedef struct sequence {
    attn_seq_id id;
    int64_t n, furthest; /* tokens; the most there ever were */
    table *tables;       /* per pool */
    int32_t **attrs;     /* per attribute: by position */
    int64_t attr_cap;
    bool in_step;
} sequence;

typedef struct step_table { /* one pool of one sequence of a step */
    spans keep;    /* indices that have a page when the step has ended; of the cache's memory */
    spans drop;    /* indices that lose it then */
    spans alive;   /* keys that are kept then */
    spans present; /* keys that are there while it runs */
    const char *copied; /* a shared page that got a copy: it comes back when the step is cancelled */
} step_table;

typedef struct step_seq {
    sequence *seq;
    int64_t m;
    int64_t first, last; /* indices of pages that new tokens write into; none when first > last */
    step_table *tables;  /* per pool */
} step_seq;

typedef struct step { /* all of it lives in mem */
    bool open;
    memory mem;
    uint32_t n_seqs, layers_done;
    step_seq *seqs;
    attn_plan_config plan; /* lengths and positions of the sequences */
    attn_plan **plans;     /* per layer: see cache_layer.plan_layer */
    uint8_t *done;         /* per layer */
    int64_t *need;         /* per pool: new pages */
} step;

struct attn_cache {
    memory mem;
    atomic_bool *busy; /* by itself: looking inside takes a const cache */
    const attn_module *module;
    uint32_t rollback, workers;
    int32_t isa;
    bool poison;
    int64_t page_tokens, max_tokens; /* max_tokens: of a sequence */
    uint64_t budget, bytes, bytes_reserved, bytes_most, bytes_bound;
    const void **inputs; /* per input of the module; entries NULL when not given */
    int64_t *pairs;      /* what a kind's `live` or `ranges` writes */
    page_pool *pools;
    uint32_t n_pools;
    cache_layer *layers; /* per layer of the module */
    uint32_t n_layers;   /* that are of this cache */
    LIST(sequence *) seqs; /* by rising id */
    attn_seq_id last_id;
    step step;
};

/* ---- cache.c: every public function works between enter and leave --------------------------------------------- */
attn_status attni_cache_enter(const attn_cache *c, attn_error *err);
attn_status attni_cache_enter_idle(attn_cache *c, attn_error *err); /* refused in a step */
static inline attn_status attni_cache_leave(const attn_cache *c, attn_status s)
{
    atomic_store(c->busy, false);
    return s;
}

static inline bool attni_cache_has_layer(const attn_cache *c, uint32_t layer)
{
    return layer < c->module->desc.n_layers && c->layers[layer].owner != CACHE_NO_LAYER;
}

/* ---- cache_layout.c ---------------------------------------------------------------------------------------------- */
attn_status attni_cache_lay_out(attn_cache *c, const attn_cache_config *from, attn_error *err);

/* ---- cache_pages.c ----------------------------------------------------------------------------------------------- */
/* Makes sure that each pool has need[pool] free pages. Fails with nothing taken. */
attn_status attni_pages_reserve(attn_cache *c, const int64_t *need, attn_error *err);
char *attni_page_take(attn_cache *c, uint32_t pool);                /* a reserved one */
void attni_page_share(attn_cache *c, uint32_t pool, const char *data);
void attni_page_drop(attn_cache *c, uint32_t pool, const char *data);
bool attni_page_is_shared(const char *data);
/* NaN into the slots [lo, hi) of a page, when the cache poisons and no other sequence reads it. */
void attni_page_poison(attn_cache *c, uint32_t pool, const char *data, int64_t lo, int64_t hi);
page *attni_page_of(const char *data);

/* ---- cache_live.c ------------------------------------------------------------------------------------------------ */
/* Positions below n that some query at `from` or later can see, of those who read the pool. */
void attni_live(const attn_cache *c, uint32_t pool, int64_t from, int64_t n, spans *out);
void attni_to_pages(const attn_cache *c, const spans *keys, spans *out);
/* Where the queries to come may begin when a sequence has reached `furthest`. */
static inline int64_t attni_live_from(const attn_cache *c, int64_t furthest)
{
    return furthest > c->rollback ? furthest - c->rollback : 0;
}

/* ---- cache_seq.c ------------------------------------------------------------------------------------------------- */
sequence *attni_seq_find(const attn_cache *c, attn_seq_id id); /* NULL: not there */
attn_status attni_seq_get(const attn_cache *c, attn_seq_id id, sequence **out, attn_error *err);
/* Room for n tokens: attributes and tables. What the sequence holds does not change. */
attn_status attni_seq_reserve(attn_cache *c, sequence *s, int64_t n, attn_error *err);
void attni_seq_drop_pages(attn_cache *c, sequence *s, uint32_t pool, const spans *pages);
/* NaN where pages hold no token that is alive; nothing unless the cache poisons. */
void attni_seq_poison(attn_cache *c, sequence *s, uint32_t pool, const spans *alive);
void attni_seq_delete(attn_cache *c, sequence *s);

/* ---- cache_append.c ---------------------------------------------------------------------------------------------- */
void attni_append(attn_cache *c, uint32_t layer, const view *k, const view *v);

#endif
