/* tensors.h - everything a run reads: q, k, v in the pattern's type, lengths, attributes, inputs; from files or at random. */
#ifndef ATTN_RUN_TENSORS_H
#define ATTN_RUN_TENSORS_H

#include "tools/attn-run/options.h"
#include <attn/attn.h>

/* A tensor in the storage type, and its values as floats (rounded to that type already). */
typedef struct tensor {
    float *values;
    void *stored; /* == values for f32 */
    int64_t count, extent[4];
    uint32_t rank;
} tensor;

typedef struct problem {
    const attn_module_desc *module;
    const attn_kind_desc *kind;
    uint32_t layer;
    bool packed;
    uint32_t n_seqs;
    int64_t *q_lens, *k_lens, total_q, total_k; /* per sequence; tokens of all sequences */
    tensor q, k, v;
    int32_t **q_attrs, **k_attrs; /* per attribute: all queries', all keys' values */
    tensor *inputs;               /* f32 inputs: stored and values; int inputs: stored is int32, values floats */
} problem;

bool problem_load(problem *p, const attn_module_desc *m, const run_options *o, tool_error *err);
void problem_free(problem *p);

bool tensor_create(tensor *t, const int64_t *extent, uint32_t rank, uint32_t dtype, tool_error *err); /* zeros */
/* Describes memory of this tensor's shape; `shape` needs 4 entries and must live as long. */
DLTensor tensor_describe(const tensor *t, void *data, uint32_t dtype, bool is_int, int64_t *shape);

#endif
