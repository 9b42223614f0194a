/* rotary.c - positions as angles, and the norms beside them. */
#include "rotary.h"

#include <math.h>
#include <stdlib.h>

/* ---- RoPE ----------------------------------------------------------------------------------------------------------
 */

bool rotary_open(rotary *r, rotary_pairs pairs, int64_t n, double theta, failure *f)
{
    *r = (rotary){.pairs = pairs, .n = n, .speed = malloc((size_t)(n / 2 + 1) * sizeof *r->speed)};
    if (!r->speed) return fail(f, "out of memory");
    for (int64_t i = 0; i < n / 2; i++) r->speed[i] = pow(theta, -(double)(2 * i) / (double)n);
    return true;
}

void rotary_close(rotary *r)
{
    free(r->speed);
    *r = (rotary){0};
}

/* In double: at position 10^6 the rounding of a float's speed alone would turn by hundredths. */
void rotary_prepare(const rotary *r, int64_t position, float *turns)
{
    for (int64_t i = 0; i < r->n / 2; i++) {
        const double angle = (double)position * r->speed[i];
        turns[2 * i] = (float)cos(angle);
        turns[2 * i + 1] = (float)sin(angle);
    }
}

void rotary_turn(const rotary *r, const float *turns, float *head)
{
    const bool neighbours = r->pairs == ROTARY_NEIGHBOURS;
    for (int64_t i = 0; i < r->n / 2; i++) {
        float *a = &head[neighbours ? 2 * i : i], *b = &head[neighbours ? 2 * i + 1 : i + r->n / 2];
        const float c = turns[2 * i], s = turns[2 * i + 1], x = *a, y = *b;
        *a = x * c - y * s;
        *b = x * s + y * c;
    }
}

/* ---- norms ---------------------------------------------------------------------------------------------------------
 */

void rms_norm(const float *x, int64_t n, float eps, const float *weight, float *y)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    const float scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (int64_t i = 0; i < n; i++) y[i] = weight ? x[i] * scale * weight[i] : x[i] * scale;
}

/* ---- both ----------------------------------------------------------------------------------------------------------
 */

static void place_head(const heads *h, const rotary *r, const float *turns, float *head)
{
    if (h->norm == QK_NORM_HEAD_THEN_ROPE) rms_norm(head, h->dim, h->eps, h->weight, head);
    rotary_turn(r, turns, head);
    if (h->norm == QK_NORM_ROPE_THEN_HEAD) rms_norm(head, h->dim, h->eps, h->weight, head);
}

void heads_place(const heads *h, const rotary *r, const float *turns, int64_t rows, float *x)
{
    for (int64_t row = 0; row < rows; row++, turns += r->n, x += h->n * h->dim) {
        if (h->norm == QK_NORM_ALL_THEN_ROPE) rms_norm(x, h->n * h->dim, h->eps, h->weight, x);
        for (int64_t i = 0; i < h->n; i++) place_head(h, r, turns, x + i * h->dim);
    }
}
