/* half.h - 16-bit storage types: exact widening, and rounding to nearest even. */
#ifndef ATTNC_TOOLS_HALF_H
#define ATTNC_TOOLS_HALF_H

#include <stdint.h>

float half_from_f16(uint16_t x);
float half_from_bf16(uint16_t x);
uint16_t half_to_f16(float x);
uint16_t half_to_bf16(float x);

#endif
