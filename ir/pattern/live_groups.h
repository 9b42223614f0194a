/* live_groups.h - which KV heads of a kind are live together, so that they can share pages (docs/kv-cache.md).
 *
 * What a KV head of a layer must keep is the union over its query heads, and over those of all layers that read it (`kv shared`). With
 * h, g and layer put into the ranges' `live`, that is a set of intervals over q0 alone (and run-time tables); heads with equal sets are
 * one group. Equal means equal expressions: heads that happen to agree may be told apart, heads that differ are never put together. */
#ifndef ATTNC_IR_LIVE_GROUPS_H
#define ATTNC_IR_LIVE_GROUPS_H

#include "ir/pattern/module.h"

enum { LIVE_MAX_GROUPS = 4096 }; /* of a kind; each costs the runtime a pool and a table per sequence */

typedef struct live_group {
    interval *live; /* over q0, sorted by expression */
    uint32_t n_live;
    uint32_t kv_heads; /* (layer, KV head) pairs of the group */
} live_group;

typedef struct live_groups {
    live_group *at;
    uint32_t n;         /* 0: they are too many, or too much work, to be told apart: all are one */
    const uint16_t *of; /* [layers of the module][kv_heads] of the kind, below n; 0 for layers of other kinds. NULL: one group */
} live_groups;

/* by_kind: the ranges of each pattern's mask. The kind has keys of its own. Lives in the module's arena. */
live_groups live_groups_compute(const ir_module *m, const ranges *const *by_kind, uint32_t kind);

#endif
