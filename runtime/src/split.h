/* split.h - may a step boundary stand at a position. */
#ifndef ATTN_SRC_SPLIT_H
#define ATTN_SRC_SPLIT_H

#include <attn/attn.h>

typedef struct split {
    uint32_t layer;
    int64_t n, total; /* the boundary, tokens of the sequence */
    const int32_t *const *attrs;
    const void *const *inputs; /* of the module, bound */
    int64_t *pairs;            /* room for what the kind's `ranges` writes; NULL: taken here */
} split;

/* ATTN_E_SPLIT when a query before n sees a key in [n, total). Cheap where the mask's closed form says no. */
attn_status attni_split_ask(const attn_module *m, const split *at, const attn_allocator *a, attn_error *err);

#endif
