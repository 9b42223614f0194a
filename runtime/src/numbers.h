/* numbers.h - the smaller and the larger of two. */
#ifndef ATTN_SRC_NUMBERS_H
#define ATTN_SRC_NUMBERS_H

#include <stdint.h>

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
