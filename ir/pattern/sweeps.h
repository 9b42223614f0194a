/* sweeps.h - a mask in two halves, for tiles of two shapes (docs/analysis.md, sweeps).
 *
 * `window(256) or stride(64)`: a window wants the rows of a tile side by side, a stride wants them 64 apart, and no tile suits both. So
 * such a mask is cut into its first half A, for rows side by side, and B but not A, for rows apart: what one half sees the other does not. */
#ifndef ATTNC_IR_SWEEPS_H
#define ATTNC_IR_SWEEPS_H

#include "ir/pattern/ranges.h"

/* The mask as a formula that also reads `sweep`: 1: the first half, 2: the second, 0: both. 0 where the mask has no such halves. whole: what
 * ranges_compute() says of the mask with this max_len. */
expr sweeps_of(expr_pool *p, expr mask, const ranges *whole, int64_t max_len);

#endif
