/* plan.h - what a plan holds, and the steps that make it.
 *
 *     plan_check.c    the caller's numbers and pointers                 -> seqs, attributes, inputs
 *     plan_rows.c     which rows lie side by side in tiles, in how many sweeps over the mask
 *     plan_items.c    how heads share tiles, tiles in order             -> items
 *     plan_ranges.c   the keys of one tile                              -> segments
 *     plan_parts.c    tiles that are too long for one worker            -> parts of items
 *     plan_stages.c   of two sweeps the second goes on from the first's results: what waits for what
 *     plan_again.c    the same for a step like the last one: only keys have moved
 *     plan_stats.c    counts
 *     plan.c          the steps in order, memory of a run
 *
 * A plan of a caller is made once. Those of a cache are made anew in each step: their lists keep their room, so that a
 * step like the last one allocates nothing. */
#ifndef ATTN_SRC_PLAN_H
#define ATTN_SRC_PLAN_H

#include "mask.h"
#include "module.h"
#include "tensor.h"

#include <stdatomic.h>

#define PLAN_MAX_TOKENS  ((int64_t)1 << 30) /* positions and keys of a sequence */
#define PLAN_PAGE_TOKENS ((int64_t)1 << 62) /* a contiguous tensor is one page */
enum { PLAN_MAX_WORKERS = 4096 };

/* What a cache knows of a sequence of a step. Borrowed, also by the plan. */
typedef struct plan_past {
    const int32_t *const *attrs; /* per attribute: values by position, the new tokens' included */
    const char *const *pages;    /* by position / page_tokens: keys and values */
    const int32_t *bounds;       /* of attributes over blocks of keys (mask.h); NULL: the kind has no data atoms */
    const spans *alive;          /* keys before the step's that are there; the mask has let go of the others */
} plan_past;

typedef struct plan_given {     /* what a cache gives in place of the caller's lists */
    const plan_past *past;      /* [sequence][group] */
    uint32_t n_groups;          /* sets of KV heads that lie in pages of their own */
    const uint16_t *head_group; /* per KV head */
    const void *const *inputs;  /* per input of the module; entries NULL when they come with each call */
} plan_given;

/* A sequence whose rows are one tile. */
typedef struct plan_row {
    int64_t cost, pairs; /* of the tile */
    int32_t n_q, segment0, segments;
    bool short_way; /* one segment, which attni_mask_interval gives */
} plan_row;

/* What a run needs beside the plan. Plans of a cache share it: one runs at a time. */
typedef struct run_room {
    char *workspaces, *parts;
    size_t workspace_stride;
    atomic_uint *finished; /* per part slot; a tile counts in its first */
    char *starts;          /* START_SLOTS heads' results of a first sweep */
    atomic_uint *staged;   /* per stage: how many of its items are done */
} run_room;

/* The tiles of one head in one sweep. The second goes on from the results of the first, which lie in a slot for a while. */
typedef struct stage {
    uint32_t sweep, items;
    int64_t rows;
    int32_t slot;
    int32_t after; /* the stage that must be done before: 1, 2, ..; 0: none */
} stage;
enum { START_SLOTS = 3 }; /* one is written, one is read, one is in between */

typedef struct view { /* a tensor of a call (views.h) */
    char *base;                                      /* NULL: no such tensor */
    int64_t batch_stride, token_stride, head_stride; /* bytes */
    bool packed, f32;
} view;

/* A tensor that was found good for the plan. */
typedef struct seen_tensor {
    bool known, strided;
    DLDataType type;
    int32_t ndim;
    int64_t shape[TENSOR_MAX_RANK], strides[TENSOR_MAX_RANK];
    view view;
} seen_tensor;

typedef struct seen_tensors {
    bool placed; /* the sequences' offsets are those of q, o and lse */
    seen_tensor q, k, v, o, lse;
} seen_tensors;

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
    const int32_t **attr_at;    /* [sequence][attribute] of the queries, then of the keys where those are others */
    const void **inputs;        /* per input of the module; entries NULL when not given to the plan */

    attn_item *items;
    attn_segment *segments;
    int64_t n_items, n_segments, n_slots;
    int64_t pairs_computed;
    stage *stages;
    size_t n_stages;
    int64_t start_rows;                /* of the longest stage */
    int32_t opened[2];                 /* stages of each sweep */
    int32_t last[2][START_SLOTS];      /* the last stage of each sweep that uses the slot */
    int32_t *order; /* the loads by falling work, n_order of them: the next order is most likely the same */
    size_t n_order;
    plan_row *rows; /* per sequence; n_rows 0: they are not all such */
    size_t n_rows;
    struct {
        size_t seqs, key_bounds, attr_at, items, segments, order, rows, stages;
    } cap;

    /* Of the call that runs, made by attn_begin. */
    attn_kernel_args args;
    const char **pages; /* per sequence: of K, of V */
    int64_t *head_at;   /* per KV head: of K, then of V */
    const void **call_inputs;
    seen_tensors seen;
    run_room room;
    _Alignas(MEMORY_ALIGN) atomic_llong next; /* item; all workers write it, so it has a cache line of its own */
    _Alignas(MEMORY_ALIGN) atomic_bool busy;
};

/* The groups of a sequence; they differ in their pages only. */
static inline attn_seq *attni_plan_seq(const attn_plan *p, uint32_t sequence)
{
    return &p->seqs[(size_t)sequence * p->n_groups];
}

typedef struct drafts drafts;

/* plan.c: a plan for c's layer, workers and instruction set; it has no sequences yet. */
attn_status attni_plan_open(const attn_module *m, const attn_plan_config *c, attn_plan **out, attn_error *err);
/* Makes it for c's sequences, as often as wanted; given: NULL, or in place of c's attributes and inputs, with lengths that
 * need no check. Afterwards it needs its room. When it fails, it can only be made again. */
attn_status attni_plan_make(attn_plan *p, const attn_plan_config *c, const plan_given *given, drafts *d,
                            attn_error *err);
/* Bytes between the workspaces of two workers. */
size_t attni_workspace_stride(const attn_kernel_desc *k);

/* plan_check.c */
attn_status attni_plan_choose(attn_plan *p, const attn_plan_config *c, attn_error *err);
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
    int32_t row, rows, row_step, used; /* used: lanes that hold rows */
    int32_t segment0, segments;
    int32_t parts, cut0; /* parts > 1: drafts.cuts[cut0 ..] */
} tile;

/* Consecutive tiles of the same heads of one sequence. Heads of a KV head that see the same share their tiles. */
typedef struct strip {
    int32_t seq, group, head, heads;
    uint32_t sweep; /* 0: there are none */
    size_t tile0, tiles;
} strip;

/* The work of a sequence. */
typedef struct workload {
    weight w; /* key: the sequence */
    size_t strip0, strips, items; /* strips: of two sweeps those of the first, then as many of the second */
    int32_t copies; /* KV heads for which the strips stand, from the first on: they see the same, in the same pages */
} workload;

typedef struct part {
    int32_t segment0, segments;
} part;

struct drafts { /* serves one plan after the other */
    const attn_plan *plan;
    memory *mem;
    mask mask;
    int64_t group_n_q; /* what choose_group was last asked, and said */
    uint32_t group;
    size_t items; /* before tiles are cut */
    LIST(workload) loads;
    LIST(tile) tiles;
    LIST(strip) strips;
    LIST(attn_segment) segments;
    LIST(part) cuts;
    spans may, must, full, within, row_may, row_must, masked, open;
};

/* Which rows are a tile's: row_step apart, from each of the rows first .. end - 1 on; for which sweep. */
typedef struct spacing {
    int64_t row_step, first, end;
    uint32_t sweep; /* 0: the whole mask */
} spacing;

typedef struct row_layout {
    uint32_t sweeps, group; /* group: heads of a tile, as the caller wants or sweeps need; 0: any */
    spacing of[2];
} row_layout;

/* plan_rows.c: for the sequence that the mask is bound to. group: as the caller of attn_plan_create wants. */
row_layout attni_choose_rows(drafts *d, int32_t seq, uint32_t group);
/* plan_items.c: drafts the sequence's tiles of one sweep. */
workload attni_draft_load(drafts *d, int32_t seq, uint32_t group, spacing rows);

/* plan_stages.c: opens stage p->n_stages, counted from 1, for the items that are put into the plan from now on. */
void attni_open_stage(attn_plan *p, stage s);
void attni_close_stage(attn_plan *p, int64_t items);
void attni_forget_stages(attn_plan *p);
size_t attni_start_bytes(const attn_plan *p); /* of run_room.starts */
/* Waits until the item's stage may begin; the arguments that it runs with. */
attn_kernel_args attni_begin_staged(const attn_plan *p, const attn_item *item);
void attni_end_staged(const attn_plan *p, const attn_item *item);

/* plan_items.c; all of it comes from mem. */
void attni_drafts_open(drafts *d, memory *mem, const attn_module_desc *m);

/* plan_ranges.c: adds the segments of t (row, rows given) for `heads` heads from `head`, and its cost. The mask is
 * bound. */
void attni_tile_segments(drafts *d, tile *t, uint32_t head, uint32_t heads);
/* A segment's keys. */
static inline span attni_segment_span(const attn_segment *s) { return (span){s->k0, s->k1, s->step - 1}; }

/* plan_pairs.c: makes one segment of two vectors' where both see the same keys, for kernels that take such. */
void attni_pair_segments(drafts *d, tile *t);
/* plan_parts.c: cuts tiles. max_parts 0: as workers and keys ask for. */
void attni_cut_tiles(drafts *d, uint32_t max_parts);
/* The cost above which a tile may be cut when the whole call has the cost `total`; one of less is not. */
int64_t attni_uncut_cost(const drafts *d, int64_t total);
/* plan_again.c: moves the keys of the plan to its sequences' new ones. False: it needs other items, and is broken. */
bool attni_plan_again(attn_plan *p, const attn_plan_config *c, drafts *d);
/* Keeps what that needs, of a plan that was just made. */
void attni_plan_remember(attn_plan *p, const drafts *d);
/* plan_items.c: makes the plan's items and segments. */
attn_status attni_plan_items(attn_plan *p, const attn_plan_config *c, drafts *d, attn_error *err);

#endif
