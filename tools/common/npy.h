/* npy.h - NumPy's .npy files: reading tensors and attributes, writing results. */
#ifndef ATTNC_TOOLS_NPY_H
#define ATTNC_TOOLS_NPY_H

#include "tools/common/file.h"
#include <stdint.h>

enum { NPY_MAX_RANK = 8 };

typedef struct npy_array {
    uint32_t rank;
    int64_t extent[NPY_MAX_RANK];
    int64_t count; /* product of the extents */
    float *f32;    /* of a file of floats (f2, f4, f8), malloc'ed; else NULL */
    int32_t *i32;  /* of a file of integers (i4, i8; bool), malloc'ed; else NULL */
} npy_array;

/* Versions 1 to 3, C order, little-endian. On failure err says what, with the path, and out is empty. */
bool npy_read(const char *path, npy_array *out, tool_error *err);
bool npy_parse(const char *name, const char *data, size_t len, npy_array *out, tool_error *err);
void npy_free(npy_array *a);

/* Converts in place what the other kind of number holds; integers only from whole numbers. */
bool npy_make_f32(const char *name, npy_array *a, tool_error *err);
bool npy_make_i32(const char *name, npy_array *a, tool_error *err);

bool npy_write_f32(const char *path, const float *data, const int64_t *extent, uint32_t rank, tool_error *err);

#endif
