/* module.h - a model: its patterns (what attention means) and its kernels (how it is computed), over one expression pool. */
#ifndef ATTNC_IR_MODULE_H
#define ATTNC_IR_MODULE_H

#include "ir/base/diag.h"
#include "ir/pattern/expr.h"
#include "ir/pattern/ranges.h"

typedef enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16 } dtype;
const char *dtype_name(dtype t); /* "f32" ... */
bool dtype_parse(const char *name, size_t len, dtype *out);

/* How a KV cache stores rows of keys and values. */
typedef enum kv_format {
    KV_AS_GIVEN, /* in the dtype */
    KV_INT8      /* elements of 8 bits, then scales in f32 (docs/quant.md) */
} kv_format;

enum { MODULE_MAX_LAYERS = 65536, MODULE_MAX_HEADS = 4096, MODULE_MAX_DIM = 1024, KV_GROUP_STEP = 16 };

typedef struct shape {
    int64_t q_heads, kv_heads; /* q_heads is a multiple of kv_heads; KV head of h is h * kv_heads / q_heads */
    int64_t dim, dim_v;
    dtype type; /* of q, k, v as they are given; sums are f32 */
    kv_format kv;
    int64_t kv_group; /* KV_INT8: elements that share a scale, a multiple of KV_GROUP_STEP; 0: all of a row */
} shape;

/* Elements that share a scale in a row of so many. */
static inline int64_t kv_group_of(const shape *s, int64_t dim) { return s->kv_group ? s->kv_group : dim; }
int64_t kv_row_bytes(const shape *s, int64_t dim); /* of a stored row of dim elements */

/* Meaning (semantics.md 0.2): s = scale * <q, k>; s = scores[i](s) in order; visible iff mask; softmax, with `sink` (0: none) as one
 * more term of the denominator; a row that sees nothing is 0. */
typedef struct pattern {
    const char *name;
    span where;
    shape shape;
    expr mask;    /* bool */
    expr scale;   /* float over h, g, layer */
    expr *scores; /* float, over s, q, k, h, g, layer, attributes, tables */
    uint32_t n_scores;
    expr sink; /* float over h, g, layer, q; 0: none */
    ranges *ranges; /* of the mask; NULL until computed */
    bool kv_shared;    /* its layers read the keys and values of kv_layer, an earlier one that has its own */
    uint32_t kv_layer;
    bool k_is_v;       /* the first dim_v elements of a key are its value */
    int64_t max_len;   /* no sequence has more tokens; 0: no limit */
} pattern;

struct kernel;

typedef struct ir_module {
    arena *arena;
    symbols symbols; /* inputs, constant tables, attributes */
    expr_pool *pool;
    const char *name;
    uint32_t layers;
    uint32_t *schedule; /* per layer: index into patterns */
    VEC(pattern *) patterns;
    VEC(struct kernel *) kernels;
} ir_module;

ir_module *ir_module_create(arena *a, const char *name);

#endif
