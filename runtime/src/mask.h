/* mask.h - questions to a kind's compiled mask, for the rows of one sequence.
 *
 * The module answers in closed form for a tile (ranges), bounds data atoms on a block of keys (bounds), and decides one
 * pair (visible). Here the answers are joined: over heads where heads differ, over blocks of keys where data speaks. */
#ifndef ATTN_SRC_MASK_H
#define ATTN_SRC_MASK_H

#include "spans.h"

enum {
    MASK_BLOCK = 64, /* keys for which attribute bounds are kept */
    MASK_RANGE = 3,  /* words of an answer: lo, hi, step */
    MASK_FINE = 16   /* keys of a block when a block of MASK_BLOCK stays undecided */
};

typedef struct mask_rows {
    int64_t row0, row1; /* of the sequence, both included */
    uint32_t head, heads, step; /* from row to row, at least 1 */
} mask_rows;

typedef struct mask {
    memory *mem;
    const attn_kind_desc *kind;
    uint32_t n_attrs, per_kv;
    bool plain; /* one interval of each, the same for all heads, without data */
    const attn_seq *seq;
    const int32_t *key_bounds; /* attni_mask_key_bounds of the sequence; NULL when no data atoms or no attributes */
    const spans *past;         /* keys below `old` outside of it are dead: no answer names them. NULL: all are there */
    int64_t old;
    mask_rows rows;            /* that are asked about */
    attn_range_args args;
    int64_t *attr;  /* 4 per attribute: what args.attr points to */
    int64_t *ranges; /* what ranges writes */
    uint8_t *data;
    spans head_may, head_must, rest, block_may, block_must, piece_may, piece_must, joined, present, one;
} mask;

/* All lists come from mem, whose `failed` is the only error. Serves every layer of the module, one after the other. */
void attni_mask_open(mask *m, memory *mem, const attn_module_desc *d);
/* Asks about this layer from now on. inputs: per input of the module, or NULL. */
void attni_mask_turn(mask *m, const attn_kind_desc *kind, uint32_t layer, const void *const *inputs);
void attni_mask_close(mask *m);
/* All keys are present then. */
void attni_mask_bind(mask *m, const attn_seq *seq, const int32_t *key_bounds);

/* Minimum and maximum of each attribute over each block of MASK_BLOCK keys: [block][attribute][2]. */
int32_t *attni_mask_key_bounds(memory *mem, const attn_seq *seq, uint32_t n_attrs);
/* Those of the blocks in which the values [from, to) lie, into their places. values: per attribute, by position. */
void attni_mask_bound_blocks(int32_t *bounds, const int32_t *const *values, uint32_t n_attrs, int64_t from, int64_t to);

/* may: the keys that some row might see; must: those that all rows see. Cut to the sequence's keys and to `within`
 * (NULL: all). fine: what blocks leave undecided is asked again in smaller blocks. */
void attni_mask_ask(mask *m, mask_rows rows, const spans *within, bool fine, spans *may, spans *must);

/* attni_mask_ask in short: true when some row sees what all rows see, and that is one span. False: ask. */
bool attni_mask_interval(mask *m, mask_rows rows, span *keys);

bool attni_mask_visible(mask *m, int64_t row, uint32_t head, int64_t key); /* the pair itself */
/* How many keys this row sees, exactly. */
int64_t attni_mask_count(mask *m, int64_t row, uint32_t head, spans *may, spans *must);

/* Heads for which the mask must be asked one by one: all where heads differ, else one stands for all. */
uint32_t attni_mask_heads(const attn_kind_desc *kind);

#endif
