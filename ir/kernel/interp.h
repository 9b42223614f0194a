/* interp.h - the oracle: runs a kernel at any stage of the pipeline in f64, by plain loops.
 *
 * Shares no code with passes or backends. Tensors are doubles (already rounded to the dtype by the caller when that
 * matters; what a cache rounds is rounded here). Not fast: O(rows x keys x dim). */
#ifndef ATTNC_IR_INTERP_H
#define ATTNC_IR_INTERP_H

#include "ir/kernel/kernel.h"

typedef struct interp_sequence {
    int64_t n_q, pos, n_keys; /* queries stand at positions pos .. pos + n_q - 1; keys at 0 .. n_keys - 1 */
    const double *q;          /* [n_q, q_heads, dim] */
    const double *k;          /* [n_keys, kv_heads, dim] */
    const double *v;          /* [n_keys, kv_heads, dim_v]; not read where K is V */
    const int64_t *len;       /* [n_q] what `len` is for each query, for kernels without ranges; NULL: n_keys */
    const int32_t *const *q_attr, *const *k_attr; /* per attribute: n_q, n_keys values */
    double *o;                /* [n_q, q_heads, dim_v] */
    double *lse;              /* [n_q, q_heads]; may be NULL */
} interp_sequence;

typedef struct interp_options {
    int64_t layer;
    const double *const *tables; /* per table of the module; NULL entries for constant tables */
    uint32_t row_tile;           /* rows of a tile where the kernel leaves it open; 0: 1 */
    uint32_t key_tile;           /* keys of a step; 0: all */
    uint32_t parts;              /* pieces the keys are cut into where the kernel is split; 0: 1 */
} interp_options;

/* What a KV cache gives back of rows of dim elements (docs/quant.md): rounded in f32, as the format says. */
void interp_store_rows(const shape *s, const double *from, int64_t rows, int64_t dim, double *to);

/* NULL, or a sentence in the module's arena. Scratch memory is malloc'ed and freed inside. */
const char *interp_run(const kernel *k, interp_sequence *seqs, size_t n, const interp_options *options);

#endif
