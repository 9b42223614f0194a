/* tune_score.h - what repeated measurements of two schedules say: medians, noise, and which is better (docs/tuning.md). */
#ifndef ATTNC_TOOLS_TUNE_SCORE_H
#define ATTNC_TOOLS_TUNE_SCORE_H

#include "ir/base/compiler.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

double score_median(double *list, size_t n); /* sorts; n > 0 */
/* Standard error of the median of `list`, by the median deviation from it. */
double score_noise(const double *list, size_t n);

/* log of (time of the old one / time of the new one) on one shape, from n rounds: positive is better. */
typedef struct score {
    double gain, noise;
} score;
score score_rounds(const double *log_ratios, size_t n);

/* All shapes together; every shape weighs the same. */
score score_mean(const score *shapes, size_t n);
/* Better by more than the noise, and on no shape worse by more than it. */
bool score_is_better(const score *shapes, size_t n);

/* Results of two schedules, row by row: false, and where, when they are further apart than `unit` of a row's largest element (or of a
 * 32nd of the largest of all: rows may cancel out). */
bool results_agree(const float *a, const float *b, int64_t rows, int64_t width, double unit, int64_t *where);

#endif
