/* split.h - may a step boundary stand at a position. */
#ifndef ATTN_SRC_SPLIT_H
#define ATTN_SRC_SPLIT_H

#include <attn/attn.h>
#include <stdbool.h>

typedef struct split {
    uint32_t layer;
    int64_t n, total; /* the boundary, tokens of the sequence */
    const int32_t *const *attrs;
    const void *const *inputs; /* of the module, bound */
    attn_range_args args;      /* what `ranges` is asked with */
} split;

static inline split attni_split_at(uint32_t layer, const void *const *inputs)
{
    return (split){.layer = layer, .inputs = inputs, .args = {.size = sizeof(attn_range_args), .layer = layer, .inputs = inputs}};
}

/* No head's rows before n reach behind it, whatever the data says: what every causal mask answers. ranges: room for what
 * the kind's `ranges` writes. */
bool attni_split_is_clear(const attn_kind_desc *kind, split *at, int64_t *ranges);
/* ATTN_E_SPLIT when a query before n sees a key in [n, total). */
attn_status attni_split_ask(const attn_module *m, split *at, const attn_allocator *a, attn_error *err);

#endif
