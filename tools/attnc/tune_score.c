/* tune_score.c - what repeated measurements of two schedules say: medians, noise, and which is better. */
#include "tools/attnc/tune_score.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double least_gain = 0.01, noises = 3; /* what counts as better */

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double score_median(double *list, size_t n)
{
    qsort(list, n, sizeof *list, by_size);
    return n % 2 ? list[n / 2] : (list[n / 2 - 1] + list[n / 2]) / 2;
}

/* 1.4826: from the median deviation to the standard one; 1.2533: from the error of a mean to that of a median. */
double score_noise(const double *list, size_t n)
{
    double *copy = malloc(n * sizeof *copy);
    if (!copy) return INFINITY; /* nothing is better than that */
    memcpy(copy, list, n * sizeof *copy);
    const double middle = score_median(copy, n);
    for (size_t i = 0; i < n; i++)
        copy[i] = fabs(list[i] - middle);
    const double deviation = score_median(copy, n);
    free(copy);
    return 1.4826 * 1.2533 * deviation / sqrt((double)n);
}

score score_rounds(const double *log_ratios, size_t n)
{
    double *copy = malloc(n * sizeof *copy);
    if (!copy) return (score){0, INFINITY};
    memcpy(copy, log_ratios, n * sizeof *copy);
    const score s = {score_median(copy, n), score_noise(log_ratios, n)};
    free(copy);
    return s;
}

score score_mean(const score *shapes, size_t n)
{
    score s = {0, 0};
    for (size_t i = 0; i < n; i++) {
        s.gain += shapes[i].gain / (double)n;
        s.noise += shapes[i].noise * shapes[i].noise;
    }
    s.noise = sqrt(s.noise) / (double)n;
    return s;
}

static double threshold(score s) { return fmax(least_gain, noises * s.noise); }

bool score_is_better(const score *shapes, size_t n)
{
    const score all = score_mean(shapes, n);
    bool better = all.gain > threshold(all);
    for (size_t i = 0; i < n; i++)
        better = better && shapes[i].gain > -threshold(shapes[i]);
    return better;
}

bool results_agree(const float *a, const float *b, int64_t n, int64_t *where)
{
    float largest = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(a[i])) largest = fmaxf(largest, fabsf(a[i]));
    const float allowed = 0x1p-13f * largest + 1e-5f;
    for (int64_t i = 0; i < n; i++) {
        const bool same = isnan(a[i]) ? isnan(b[i]) : a[i] == b[i] || fabsf(a[i] - b[i]) <= allowed;
        if (!same) return *where = i, false;
    }
    return true;
}
