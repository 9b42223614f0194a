/* cache.h - what a KV cache holds.
 *
 *     cache.c         its life
 *     cache_layout.c  which KV heads share pages, and where they lie in them
 *     cache_pages.c   pages: taken, shared, free, within the budget
 *     cache_live.c    which positions and pages a kind keeps after n tokens
 *     cache_seq.c     sequences: begin, end, fork, rollback
 *     cache_step.c    a step: begin, layer, end, cancel
 *     cache_plans.c   the plans of its layers
 *     cache_prefix.c  the tree of known prefixes: what enters it, what leaves it
 *     cache_hit.c     a sequence that begins with a known prefix
 *     cache_append.c  rows of K and V into pages
 *     quantise.c      rows of K and V as int8
 *     cache_stats.c   counts, kept positions
 *     cache_bound.c   the most that can ever be held
 *     cache_check.c   the invariants
 *
 * A step decides everything before it changes anything: what must not fail later is computed and taken in its begin.
 * What a step needs beside pages is kept for the next one: a step like the last one allocates nothing. */
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
    struct prefix_slot *slot; /* of the tree of prefixes, which then counts in refs, too; NULL: not there */
    uint32_t refs; /* tables, steps that may have to put it back, and the tree; 0: free */
    uint32_t from; /* slots before it were never written: the sequence began the page anew */
    uint32_t seen; /* attn_cache_check counts here */
} page;

typedef struct viewer { /* query heads of a layer that read a pool */
    const attn_kind_desc *kind;
    uint32_t layer, head, heads; /* heads: 1 where they see the same */
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
    int64_t idle; /* of pages: only the tree of prefixes has them */
    int64_t made; /* by attni_pages_reserve, to be undone when it fails */
} page_pool;

typedef struct cache_layer {
    uint32_t owner; /* of its keys and values: itself, or the layer that it shares them with; CACHE_NO_LAYER: not of this cache */
    uint32_t plan;    /* index into the cache's */
    uint32_t n_groups;
    uint32_t *pools;           /* [n_groups] */
    uint16_t *head_group;      /* per KV head: index into pools */
    int64_t *k_heads, *v_heads; /* per KV head: bytes from a page's address to its first row */
} cache_layer;

typedef struct table { /* one pool of one sequence */
    const char **pages; /* by position / page_tokens; NULL: a hole */
    size_t cap;
    spans held; /* indices that have a page */
    spans alive; /* attni_live(alive_from, alive_n): kept from the end of a step, for the next one's begin */
    int64_t alive_from, alive_n;
} table;

/* One pool of a node. */
typedef struct prefix_slot {
    struct prefix_node *node;
    struct prefix_slot *older, *newer; /* of all with idle pages, by when the last one became so */
    int64_t idle;                      /* pages that nobody else has */
    const char **pages;                /* [pages of the node]; NULL: let go */
} prefix_slot;

/* Some tokens behind those of its parent, known with their pages. Every sequence of tokens and attributes has one way
 * from the root. */
typedef struct prefix_node {
    struct prefix_node *parent;              /* NULL: the root, which has no tokens */
    LIST(struct prefix_node *) children;     /* by their words */
    int64_t begin, run;                      /* its tokens: run of them from begin on, a page's first position */
    int64_t users, held;                     /* sequences that stand here; pages in all slots */
    int32_t *words;                          /* token ids, then values of each attribute: [1 + attributes][run] */
    prefix_slot *slots;                      /* per pool */
} prefix_node;

typedef struct prefixes {
    prefix_node root;
    prefix_slot *oldest, *newest; /* with idle pages */
    uint64_t idle_bytes, limit;
    bool off;                     /* results depend on how tokens are cut into steps: nothing can be shared */
    LIST(uint32_t) layers;        /* of the module: one of each that may see otherwise */
    int64_t hits, tokens;
} prefixes;

typedef struct sequence {
    attn_seq_id id;
    int64_t n, furthest; /* tokens; the most there ever were */
    table *tables;       /* per pool */
    int32_t **attrs;     /* per attribute: by position */
    int32_t *bounds;     /* of attributes over blocks of keys (mask.h), right for blocks that lie below n; NULL: no kind asks */
    int64_t attr_cap;
    int32_t *tokens;     /* ids of the first `known` tokens */
    int64_t known, token_cap; /* known: their keys and values are what these tokens alone give */
    prefix_node *node;   /* the longest known prefix of whole pages; never NULL */
    bool in_step;
} sequence;

typedef struct step_table { /* one pool of one sequence of a step */
    bool stays;  /* the pages are those that are held: keep and drop say nothing */
    spans keep;  /* indices that have a page when the step has ended */
    spans drop;  /* indices that lose it then */
    spans alive; /* keys that are kept then */
    int64_t need;       /* pages that the step takes */
    const char *copied; /* a shared page that got a copy: it comes back when the step is cancelled */
} step_table;

typedef struct step_seq {
    sequence *seq;
    int64_t m;
    int64_t first, last; /* indices of pages that new tokens write into; none when first > last */
    step_table *tables;  /* per pool */
} step_seq;

typedef struct step { /* its lists keep their room when it is closed */
    bool open;
    bool named; /* the new tokens' ids are known */
    uint32_t n_seqs, layers_done;
    LIST(step_seq) seqs;
    LIST(step_table) tables; /* [sequence][pool] */
    LIST(int64_t) lens;      /* what plans are told: new tokens, keys, positions */
    spans pages, there;      /* for decisions */
    uint8_t *done;           /* per layer */
    int64_t *need;           /* per pool: new pages */
} step;

typedef struct cache_plan {
    attn_plan *plan;
    LIST(plan_past) past;
} cache_plan;

struct attn_cache {
    memory mem;
    atomic_bool *busy; /* by itself: looking inside takes a const cache */
    const attn_module *module;
    uint32_t rollback, workers;
    int32_t isa;
    bool poison;
    bool keep_bounds; /* a kind asks about blocks of attributes */
    int64_t page_tokens, max_tokens; /* max_tokens: of a sequence */
    int page_shift;                  /* page_tokens is 1 << page_shift; -1: it is no power of 2 */
    uint64_t budget, bytes, bytes_reserved, bytes_most, bytes_bound;
    const void **inputs; /* per input of the module; entries NULL when not given */
    int64_t *pairs;      /* what a kind's `live` or `ranges` writes */
    page_pool *pools;
    uint32_t n_pools;
    cache_layer *layers; /* per layer of the module */
    uint32_t n_layers;   /* that are of this cache */
    LIST(sequence *) seqs; /* by rising id */
    attn_seq_id last_id;
    prefixes prefixes;
    cache_plan *plans;
    uint32_t n_plans;
    drafts drafts;
    run_room room; /* of all plans */
    size_t room_parts, room_finished, room_starts, room_staged;
    step step;
};

/* ---- cache.c: every public function works between enter and leave --------------------------------------------- */
attn_status attni_cache_enter(const attn_cache *c, attn_error *err);
attn_status attni_cache_enter_idle(attn_cache *c, attn_error *err); /* refused in a step */
static inline attn_status attni_cache_leave(const attn_cache *c, attn_status s)
{
    atomic_store_explicit(c->busy, false, memory_order_release);
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
char *attni_page_take(attn_cache *c, uint32_t pool, int64_t from);  /* a reserved one, to be written from a slot on */
void attni_page_share(attn_cache *c, uint32_t pool, const char *data);
void attni_page_drop(attn_cache *c, uint32_t pool, const char *data);
/* The tree's reference: begins, ends. */
void attni_page_keep(attn_cache *c, uint32_t pool, const char *data, prefix_slot *slot);
void attni_page_let_go(attn_cache *c, uint32_t pool, const char *data);
bool attni_page_is_shared(const char *data);
/* NaN into the slots [lo, hi) of a page, when the cache poisons and no other sequence reads it. */
void attni_page_poison(attn_cache *c, uint32_t pool, const char *data, int64_t lo, int64_t hi);
page *attni_page_of(const char *data);

/* ---- cache_live.c ------------------------------------------------------------------------------------------------ */
/* Positions below n that some query at `from` or later can see, of those who read the pool. */
void attni_live(const attn_cache *c, uint32_t pool, int64_t from, int64_t n, spans *out);
void attni_to_pages(const attn_cache *c, const spans *keys, spans *out);
static inline int64_t attni_page_index(const attn_cache *c, int64_t position)
{
    return c->page_shift >= 0 ? position >> c->page_shift : position / c->page_tokens;
}
/* Where the queries to come may begin when a sequence has reached `furthest`. */
static inline int64_t attni_live_from(const attn_cache *c, int64_t furthest)
{
    return furthest > c->rollback ? furthest - c->rollback : 0;
}

/* ---- cache_seq.c ------------------------------------------------------------------------------------------------- */
sequence *attni_seq_find(const attn_cache *c, attn_seq_id id); /* NULL: not there */
attn_status attni_seq_get(const attn_cache *c, attn_seq_id id, sequence **out, attn_error *err);
/* Room for n tokens: attributes and tables; ids. What the sequence holds does not change. */
attn_status attni_seq_reserve(attn_cache *c, sequence *s, int64_t n, attn_error *err);
attn_status attni_seq_reserve_ids(attn_cache *c, sequence *s, int64_t n, attn_error *err);
void attni_seq_drop_pages(attn_cache *c, sequence *s, uint32_t pool, const spans *pages);
/* NaN where pages hold no token that is alive; nothing unless the cache poisons. */
void attni_seq_poison(attn_cache *c, sequence *s, uint32_t pool, const spans *alive);
/* Not in the list yet, but there is room for it. NULL: no memory, nothing is left behind. */
sequence *attni_seq_make(attn_cache *c);
attn_seq_id attni_seq_enlist(attn_cache *c, sequence *s);
void attni_seq_delete(attn_cache *c, sequence *s);

/* ---- cache_prefix.c ---------------------------------------------------------------------------------------------- */
typedef struct named_text { /* tokens with their attributes, by position */
    const int32_t *tokens;
    const int32_t *const *attrs;
    int64_t n;
} named_text;

static inline int64_t attni_prefix_end(const prefix_node *n) { return n->begin + n->run; }

attn_status attni_prefix_open(attn_cache *c, uint64_t limit, attn_error *err);
/* How many tokens of the node are the text's; *order: < 0 when it lies before the text, 0: the text ends with it. */
int64_t attni_prefix_compare(const attn_cache *c, const prefix_node *n, const named_text *text, int *order);
size_t attni_prefix_place(const attn_cache *c, const prefix_node *parent, const named_text *text);
/* No token before n sees one of n .. total - 1, in any layer of the module. *no_memory is only ever set. */
bool attni_prefix_is_closed(const attn_cache *c, const int32_t *const *attrs, int64_t n, int64_t total,
                            bool *no_memory);
/* Of a slot: a page more or less that nobody else has. */
void attni_prefix_count(attn_cache *c, prefix_slot *slot, int by);
/* Lets idle pages go, the oldest first: until those of the cache's limit are left; until `bytes` more fit the budget. */
void attni_prefix_trim(attn_cache *c);
void attni_prefix_make_room(attn_cache *c, uint64_t bytes);

/* The step's ids go behind those that are known; when it ends, full pages enter the tree, before any is dropped. */
attn_status attni_prefix_read(attn_cache *c, const int32_t *tokens, attn_error *err);
void attni_prefix_add(attn_cache *c);
/* Gives the tree's hold on pages up that the step would else have to copy. false: there are none. */
bool attni_prefix_yield(attn_cache *c);
void attni_prefix_stand(sequence *s, prefix_node *n);           /* for a sequence that stands nowhere */
void attni_prefix_back(attn_cache *c, sequence *s, int64_t n);  /* it is about to lose its tokens from n on */
void attni_prefix_keep_rest(attn_cache *c, sequence *s);        /* what is known behind whole pages; it is about to end */
void attni_prefix_leave(attn_cache *c, sequence *s);            /* stands nowhere then */

/* ---- cache_plans.c ----------------------------------------------------------------------------------------------- */
attn_status attni_plans_open(attn_cache *c, attn_error *err);
void attni_plans_close(attn_cache *c);
attn_status attni_plans_make(attn_cache *c, attn_error *err); /* for the sequences of the step, whose pages are decided */

/* ---- cache_append.c ---------------------------------------------------------------------------------------------- */
void attni_append(attn_cache *c, uint32_t layer, const view *k, const view *v);

/* ---- quantise.c -------------------------------------------------------------------------------------------------- */
/* A row of dim elements of this attn_dtype as int8 with a scale for each `group` of them (attn_kv_format). */
void attni_quantise_row(const char *from, uint32_t dtype, int64_t dim, int64_t group, char *to);

#endif
