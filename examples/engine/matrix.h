/* matrix.h - y = W x + b for many rows x at a time: the one operation that costs time beside attention. */
#ifndef ENGINE_MATRIX_H
#define ENGINE_MATRIX_H

#include "safetensors.h"

typedef struct matrix {
    int64_t in, out;
    float *panels; /* 16 outputs side by side, one input below the other; the last panel is filled up with zeros */
    float *bias;   /* [out rounded up to 16]; zeros when there is none */
} matrix;

/* Where a weight lies in its tensor: element (input i, output o) at first + i * in_stride + o * out_stride. Files store
 * [out, in] or [in, out], or two matrices interleaved. */
typedef struct matrix_layout {
    int64_t in, out;
    uint64_t first, in_stride, out_stride;
} matrix_layout;

/* bias may be NULL; of it, output o is element first + o * bias_stride. */
bool matrix_load(matrix *m, const tensor *weights, const matrix_layout *l, const tensor *bias, uint64_t bias_stride,
                 failure *f);
void matrix_free(matrix *m);

/* y[r][o] = bias[o] + sum of W[o][i] * x[r][i], for `rows` rows without gaps. A row's numbers do not depend on the rows
 * beside it. */
void matrix_apply(const matrix *m, const float *x, int64_t rows, float *y);

#endif
