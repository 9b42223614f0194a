/* tensor.h - DLPack tensors, checked and turned into addresses and byte strides. */
#ifndef ATTN_SRC_TENSOR_H
#define ATTN_SRC_TENSOR_H

#include <attn/attn.h>
#include <stdbool.h>

enum { TENSOR_MAX_RANK = 4 };

typedef struct tensor {
    char *base; /* of the first element; NULL only without elements */
    int64_t shape[TENSOR_MAX_RANK];
    int64_t stride[TENSOR_MAX_RANK]; /* bytes */
    int rank;
    bool f32;
} tensor;

typedef struct tensor_want {
    const char *name;
    int rank0, rank1; /* allowed ranks */
    DLDataType type;  /* ... or f32 when or_f32 */
    bool or_f32;
    bool contiguous_last; /* the last dimension */
    bool written;         /* no two elements may share memory */
} tensor_want;

DLDataType attni_dl_type(uint32_t dtype); /* of an attn_dtype */

/* Checks everything but the shape. */
attn_status attni_tensor_read(const DLTensor *t, const tensor_want *want, tensor *out, attn_error *err);
bool attni_tensor_compact(const tensor *t, int64_t element);

#endif
