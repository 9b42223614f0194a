/* problem.h - everything a run reads: q, k, v in the pattern's type, lengths, attributes, inputs; from files or at random. */
#ifndef ATTNC_TOOLS_PROBLEM_H
#define ATTNC_TOOLS_PROBLEM_H

#include "tools/common/file.h"
#include <attn/attn.h>

enum { PROBLEM_MAX_NAMED = 64 };

typedef struct named_file { /* NAME=FILE */
    const char *name, *file;
} named_file;

/* Where a problem comes from. */
typedef struct problem_source {
    int64_t layer;
    const char *q, *k, *v;  /* .npy files; v NULL where K is V */
    const int64_t *lengths; /* packed; NULL: [batch, tokens, heads, dim] */
    size_t n_lengths;
    named_file attrs[PROBLEM_MAX_NAMED], inputs[PROBLEM_MAX_NAMED];
    size_t n_attrs, n_inputs;
    bool random; /* what no file gives is made from the seed */
    bool by_head; /* calls see the numbers as [batch, heads, tokens, dim]; for random ones, which no oracle reads */
    int64_t batch, q_tokens, k_tokens, seed;
} problem_source;

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
    bool packed, by_head;
    uint32_t n_seqs;
    int64_t *q_lens, *k_lens, total_q, total_k; /* per sequence; tokens of all sequences */
    tensor q, k, v; /* where K is V, v is what the keys say */
    int32_t **q_attrs, **k_attrs; /* per attribute: all queries', all keys' values */
    tensor *inputs;               /* f32 inputs: stored and values; int inputs: stored is int32, values floats */
} problem;

/* One more `NAME=FILE.npy` of an option; cuts `text` at the `=`. */
bool problem_name_file(const char *option, char *text, named_file *list, size_t *n, tool_error *err);

bool problem_load(problem *p, const attn_module_desc *m, const problem_source *o, tool_error *err);
void problem_free(problem *p);
/* Bytes of a stored row of K (dim) or V (dim_v), as kernels read it. */
size_t problem_row_bytes(const attn_kind_desc *d, uint32_t dim);

bool tensor_create(tensor *t, const int64_t *extent, uint32_t rank, uint32_t dtype, tool_error *err); /* zeros */
/* Describes memory of this tensor's shape; `shape` needs 4 entries and must live as long. */
DLTensor tensor_describe(const tensor *t, void *data, uint32_t dtype, bool is_int, int64_t *shape);
/* The same shape [batch, tokens, heads, ..] in memory that is laid out [batch, heads, tokens, ..]. `strides` must live as long. */
void tensor_store_by_head(DLTensor *d, int64_t *strides);

#endif
