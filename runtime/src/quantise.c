/* quantise.c - rows of keys and values as int8 with scales: what a KV cache stores under `kv quant(int8)`.
 *
 * Of each group: scale = largest / 127 in f32, elements to the nearest step, ties to even. A group with a NaN or
 * an infinity in it is NaN as a whole (scale NaN, elements 0): what is no number stays visible. A group whose scale would
 * be subnormal is 0 (its elements are below 1.5e-36), whatever the processor does with subnormal numbers. Loops are written
 * for the compiler to make vectors of them: no branches on data, f32 as bits where NaN would disturb. */
#include "cache.h"

#include <string.h>

enum { PIECE = 256 }; /* elements that are widened at a time */

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* f16: subnormals are what is above 2^-14; infinity and NaN get the exponent of theirs. */
static float from_f16(uint16_t x)
{
    const int32_t rest = (x & 0x7fff) << 13;
    const uint32_t tiny = -(uint32_t)(rest < 0x00800000), large = -(uint32_t)(rest >= 0x0f800000);
    const uint32_t small = to_bits(from_bits((uint32_t)rest + 0x38800000u) - 0x1p-14f);
    const uint32_t number = (small & tiny) | (((uint32_t)rest + 0x38000000u) & ~tiny) | (large & 0x7f800000u);
    return from_bits(number | (uint32_t)(x & 0x8000) << 16);
}

static uint16_t half_at(const char *p, int64_t i)
{
    uint16_t x;
    memcpy(&x, p + 2 * i, sizeof x);
    return x;
}

static void widen(const char *from, uint32_t dtype, int64_t n, float *to)
{
    if (dtype == ATTN_F32)
        memcpy(to, from, (size_t)n * sizeof *to);
    else if (dtype == ATTN_BF16)
        for (int64_t i = 0; i < n; i++) to[i] = from_bits((uint32_t)half_at(from, i) << 16);
    else
        for (int64_t i = 0; i < n; i++) to[i] = from_f16(half_at(from, i));
}

/* The largest magnitude so far, as bits: their order is that of numbers, infinity and NaN above all. */
static int32_t largest_bits(const float *x, int64_t n, int32_t largest)
{
    for (int64_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

/* Adding 1.5 * 2^23 rounds to a whole number, ties to even. */
static void round_elements(const float *x, int64_t n, float scale, int8_t *to)
{
    for (int64_t i = 0; i < n; i++) to[i] = (int8_t)(int32_t)((x[i] / scale + 12582912.0f) - 12582912.0f);
}

static float scale_of(int32_t largest)
{
    const int32_t infinity = 0x7f800000, smallest = 0x00800000; /* a normal number */
    if (largest >= infinity) return from_bits(0x7fc00000);
    const float scale = from_bits((uint32_t)largest) / 127;
    return scale < from_bits((uint32_t)smallest) ? 0 : scale;
}

static float quantise_group(const char *from, uint32_t dtype, int64_t n, int8_t *to)
{
    const int64_t element = dtype == ATTN_F32 ? 4 : 2;
    float x[PIECE];
    int32_t largest = 0;
    for (int64_t i = 0, m; i < n; i += m) {
        m = n - i < PIECE ? n - i : PIECE;
        widen(from + i * element, dtype, m, x);
        largest = largest_bits(x, m, largest);
    }
    const float scale = scale_of(largest);
    if (!(scale > 0)) {
        memset(to, 0, (size_t)n);
        return scale;
    }
    for (int64_t i = 0, m; i < n; i += m) {
        m = n - i < PIECE ? n - i : PIECE;
        if (n > PIECE) widen(from + i * element, dtype, m, x);
        round_elements(x, m, scale, to + i);
    }
    return scale;
}

void attni_quantise_row(const char *from, uint32_t dtype, int64_t dim, int64_t group, char *to)
{
    const int64_t element = dtype == ATTN_F32 ? 4 : 2;
    for (int64_t i = 0; i < dim; i += group) {
        const float scale = quantise_group(from + i * element, dtype, group, (int8_t *)to + i);
        memcpy(to + dim + i / group * (int64_t)sizeof scale, &scale, sizeof scale);
    }
}
