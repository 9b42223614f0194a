/* quant.c - the meaning of quantised keys and values: what a row is after a KV cache has stored it (docs/quant.md).
 *
 * Part of the oracle: the runtime and the backends have code of their own for the same rule. */
#include "ir/kernel/interp.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* In f32, whose rounding is part of the format: 0 where no element is a normal number of steps away from 0. */
static float scale_of(const double *from, int64_t n)
{
    float largest = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite((float)from[i])) return NAN;
        largest = fmaxf(largest, fabsf((float)from[i]));
    }
    const float scale = largest / 127;
    return scale < FLT_MIN ? 0 : scale;
}

static void store_group(const double *from, int64_t n, double *to)
{
    const float scale = scale_of(from, n);
    for (int64_t i = 0; i < n; i++) {
        const float steps = scale > 0 ? rintf((float)from[i] / scale) : 0; /* to nearest, ties to even */
        to[i] = (double)steps * (double)scale;
    }
}

void interp_store_rows(const shape *s, const double *from, int64_t rows, int64_t dim, double *to)
{
    switch (s->kv) {
    case KV_AS_GIVEN:
        memcpy(to, from, (size_t)(rows * dim) * sizeof *to);
        return;
    case KV_INT8: {
        const int64_t group = kv_group_of(s, dim);
        for (int64_t i = 0; i < rows * dim; i += group) store_group(from + i, group, to + i);
        return;
    }
    }
    ATTNC_UNREACHABLE();
}
