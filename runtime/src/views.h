/* views.h - the tensors of a call, as rows of sequences: packed one behind the other, or a batch with a row of tokens
 * each. */
#ifndef ATTN_SRC_VIEWS_H
#define ATTN_SRC_VIEWS_H

#include "plan.h"
#include "tensor.h"

typedef struct view_want {
    tensor_want tensor;
    bool keys; /* its tokens are all keys of a sequence, else those of the queries */
    int64_t heads;
    const char *heads_of;
    int64_t dim; /* of the last dimension; 0: there is none */
} view_want;

/* Reads a tensor for the sequences of the plan. In a batch, sequences may be shorter than the tensor: what lies behind
 * them is neither read nor written. What was read is kept in `seen`. */
attn_status attni_view_read(const attn_plan *p, const DLTensor *dl, const view_want *want, seen_tensor *seen, view *out,
                            attn_error *err);
/* Layers of a step are alike: a tensor that differs from the one seen before in its address only is as good. False: it
 * must be read. */
bool attni_view_again(const seen_tensor *seen, const DLTensor *dl, view *out);

/* Where the tokens of sequence `batch` begin, of which `row` is the first of all; in bytes from the base. */
static inline int64_t attni_view_offset(const view *v, int64_t batch, int64_t row)
{
    return v->packed ? row * v->token_stride : batch * v->batch_stride;
}

#endif
