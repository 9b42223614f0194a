/* plan.h - what a plan holds, and the steps that make it.
 *
 *     plan_check.c    the caller's numbers and pointers                 -> seqs, attributes, inputs
 *     plan_items.c    how heads share tiles, tiles in order             -> items
 *     plan_ranges.c   the keys of one tile                              -> segments
 *     plan_parts.c    tiles that are too long for one worker            -> parts of items
 *     plan_stats.c    counts
 *     plan.c          the steps in order, memory of a run */
#ifndef ATTN_SRC_PLAN_H
#define ATTN_SRC_PLAN_H

#include "mask.h"
#include "module.h"

#include <stdatomic.h>

#define PLAN_MAX_TOKENS  ((int64_t)1 << 30) /* positions and keys of a sequence */
#define PLAN_PAGE_TOKENS ((int64_t)1 << 62) /* a contiguous tensor is one page */
enum { PLAN_MAX_WORKERS = 4096 };

/* What a cache knows of a sequence of a step. Borrowed, also by the plan. */
typedef struct plan_past {
    const int32_t *const *attrs; /* per attribute: values by position, the new tokens' included */
    const char *const *pages;    /* by position / page_tokens: keys and values */
    const spans *present;        /* keys that are there; the mask has let go of the others */
} plan_past;

typedef struct plan_given {     /* what a cache gives in place of the caller's lists */
    const plan_past *past;      /* [sequence][group] */
    uint32_t n_groups;          /* sets of KV heads that lie in pages of their own */
    const uint16_t *head_group; /* per KV head */
    const void *const *inputs;  /* per input of the module; entries NULL when they come with each call */
} plan_given;

struct attn_plan {
    memory mem;
    const attn_module *module;
    const plan_past *past;      /* [sequence][group]; NULL: keys come with each call */
    const uint16_t *head_group; /* per KV head; NULL: one group. Borrowed */
    const attn_kind_desc *kind;
    const attn_kernel_desc *kernel;
    uint32_t layer, n_seqs, n_groups, workers;
    int64_t q_total, k_total; /* tokens of all sequences */

    attn_seq *seqs;             /* [sequence][group] */
    const int32_t **key_bounds; /* per sequence; entries NULL without data atoms */
    const void **inputs;        /* per input of the module; entries NULL when not given to the plan */

    attn_item *items;
    attn_segment *segments;
    int64_t n_items, n_segments, n_slots;
    int64_t pairs_computed;

    /* Of the call that runs, made by attn_begin. */
    attn_kernel_args args;
    const char **pages; /* per sequence: of K, of V */
    int64_t *head_at;   /* per KV head: of K, then of V */
    const void **call_inputs;
    char *parts, *workspaces;
    size_t workspace_stride;
    atomic_uint *finished;                    /* per part slot; a tile counts in its first */
    _Alignas(MEMORY_ALIGN) atomic_llong next; /* item; all workers write it, so it has a cache line of its own */
    _Alignas(MEMORY_ALIGN) atomic_bool busy;
};

/* The groups of a sequence; they differ in their pages only. */
static inline attn_seq *attni_plan_seq(const attn_plan *p, uint32_t sequence)
{
    return &p->seqs[(size_t)sequence * p->n_groups];
}

/* plan.c: attn_plan_create without looking at the pointers; given: NULL, or in place of c's attributes and inputs. */
attn_status attni_plan_create(const attn_module *m, const attn_plan_config *c, const plan_given *given, attn_plan **out,
                              attn_error *err);

/* plan_check.c */
attn_status attni_plan_check(attn_plan *p, const attn_plan_config *c, const plan_given *given, attn_error *err);
/* Checks tensors for the inputs of a module and puts their addresses into `to`. */
attn_status attni_bind_inputs(const attn_module_desc *d, const DLTensor *const *inputs, const void **to,
                              attn_error *err);

/* ---- drafts: tiles before they are put in order --------------------------------------------------------------- */

/* What is ordered heaviest first; equal costs by rising key. */
typedef struct weight {
    int64_t cost, key;
} weight;

typedef struct tile {
    weight w;      /* lanes times keys, idle lanes included; the first row */
    int64_t pairs; /* without idle lanes */
    int32_t row, rows;
    int32_t segment0, segments;
    int32_t parts, cut0; /* parts > 1: drafts.cuts[cut0 ..] */
} tile;

/* Consecutive tiles of the same heads of one sequence. Heads that see the same share their tiles. */
typedef struct strip {
    int32_t seq, group, head, heads;
    size_t tile0, tiles;
} strip;

typedef struct part {
    int32_t segment0, segments;
} part;

typedef struct drafts {
    const attn_plan *plan;
    memory *mem; /* gone when the plan is made */
    mask mask;
    LIST(tile) tiles;
    LIST(strip) strips;
    LIST(attn_segment) segments;
    LIST(part) cuts;
    spans may, must, full, within, row_may, row_must, masked, open;
} drafts;

/* plan_ranges.c: adds the segments of t (row, rows given) for `heads` heads from `head`, and its cost. The mask is
 * bound. */
void attni_tile_segments(drafts *d, tile *t, uint32_t head, uint32_t heads);
/* plan_parts.c: cuts tiles. max_parts 0: as the number of workers asks for. */
void attni_cut_tiles(drafts *d, uint32_t max_parts);
/* plan_items.c: makes the plan's items and segments. */
attn_status attni_plan_items(attn_plan *p, const attn_plan_config *c, attn_error *err);

#endif
