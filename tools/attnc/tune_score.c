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

static float largest(const float *list, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(list[i])) most = fmaxf(most, fabsf(list[i]));
    return most;
}

static bool same(float a, float b, double allowed) { return isnan(a) ? isnan(b) : a == b || fabs((double)a - b) <= allowed; }

bool results_agree(const float *a, const float *b, int64_t rows, int64_t width, double unit, int64_t *where)
{
    const float floor_of_all = largest(a, rows * width) / 32;
    for (int64_t r = 0; r < rows; r++) {
        const double allowed = unit * fmaxf(largest(a + r * width, width), floor_of_all) + 1e-5;
        for (int64_t i = r * width; i < (r + 1) * width; i++)
            if (!same(a[i], b[i], allowed)) return *where = i, false;
    }
    return true;
}
