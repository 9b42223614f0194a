/* half.c - 16-bit storage types: exact widening, and rounding to nearest even. */
#include "tools/common/half.h"
#include <math.h>
#include <string.h>

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

float half_from_bf16(uint16_t x) { return float_of((uint32_t)x << 16); }

uint16_t half_to_bf16(float x)
{
    uint32_t u = bits_of(x);
    if (isnan(x)) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float half_from_f16(uint16_t x)
{
    uint32_t sign = (uint32_t)(x & 0x8000) << 16;
    int exponent = x >> 10 & 31, fraction = x & 0x3ff;
    if (exponent == 31) return float_of(sign | 0x7f800000 | (uint32_t)fraction << 13);
    float magnitude = exponent ? ldexpf((float)(fraction | 0x400), exponent - 25) : ldexpf((float)fraction, -24);
    return sign ? -magnitude : magnitude;
}

uint16_t half_to_f16(float x)
{
    uint32_t u = bits_of(x);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    if (isnan(x)) return (uint16_t)(sign | 0x7e00);
    float magnitude = fabsf(x);
    if (magnitude >= 65520.0f) return (uint16_t)(sign | 0x7c00); /* half way to 65536 and more: infinity */
    int exponent;
    frexpf(magnitude, &exponent);
    if (magnitude == 0 || exponent < -13) /* subnormal, or what rounds up to normal */
        return (uint16_t)(sign | (uint16_t)lrintf(ldexpf(magnitude, 24)));
    uint32_t fraction = (uint32_t)lrintf(ldexpf(magnitude, 11 - exponent)); /* 1024 .. 2048 */
    return (uint16_t)(sign | (((uint32_t)(exponent + 13) << 10) + fraction));
}
