/* matrix.c - weights in panels of 16 outputs, so that the innermost loop is over neighbours in memory and compilers
 * make vectors of it.
 *
 * Four rows share each weight that is read. Sums run over the inputs in order, whatever the number of rows: a token
 * gets the same numbers alone, in a batch and in a prompt. */
#include "matrix.h"

#include <stdlib.h>
#include <string.h>

enum { PANEL = 16, HALF = 8, ROWS = 4 };

/* Four floats in a register; gcc and clang know the type, and what it can do, on every processor. */
typedef float vec4 __attribute__((vector_size(16)));

static vec4 load(const float *from)
{
    vec4 v;
    memcpy(&v, from, sizeof v);
    return v;
}

static int64_t panels_of(const matrix *m) { return (m->out + PANEL - 1) / PANEL; }

bool matrix_load(matrix *m, const tensor *weights, const matrix_layout *l, const tensor *bias, uint64_t bias_stride,
                 failure *f)
{
    *m = (matrix){.in = l->in, .out = l->out};
    m->panels = calloc((size_t)(panels_of(m) * PANEL * l->in), sizeof *m->panels);
    m->bias = calloc((size_t)(panels_of(m) * PANEL), sizeof *m->bias);
    if (!m->panels || !m->bias) return fail(f, "out of memory");
    for (int64_t o = 0; o < l->out; o++) {
        float *column = m->panels + o / PANEL * PANEL * l->in + o % PANEL;
        for (int64_t i = 0; i < l->in; i++)
            column[i * PANEL] =
                tensor_get(weights, l->first + (uint64_t)i * l->in_stride + (uint64_t)o * l->out_stride);
        if (bias) m->bias[o] = tensor_get(bias, l->first + (uint64_t)o * bias_stride);
    }
    return true;
}

void matrix_free(matrix *m)
{
    free(m->panels);
    free(m->bias);
    *m = (matrix){0};
}

/* Half a panel for four rows: eight sums of four numbers each, which fit into the registers of every x86-64. */
static void apply_four(const float *w, int64_t in, const float *x, float (*y)[HALF])
{
    vec4 a0 = load(y[0]), a1 = load(y[0] + 4), b0 = load(y[1]), b1 = load(y[1] + 4);
    vec4 c0 = load(y[2]), c1 = load(y[2] + 4), d0 = load(y[3]), d1 = load(y[3] + 4);
    for (int64_t i = 0; i < in; i++, w += PANEL, x++) {
        const vec4 w0 = load(w), w1 = load(w + 4);
        a0 += w0 * x[0];
        a1 += w1 * x[0];
        b0 += w0 * x[in];
        b1 += w1 * x[in];
        c0 += w0 * x[2 * in];
        c1 += w1 * x[2 * in];
        d0 += w0 * x[3 * in];
        d1 += w1 * x[3 * in];
    }
    const vec4 sums[ROWS][2] = {{a0, a1}, {b0, b1}, {c0, c1}, {d0, d1}};
    memcpy(y, sums, sizeof sums);
}

/* A whole panel for one row. */
static void apply_one(const float *w, int64_t in, const float *x, float *y)
{
    vec4 a = load(y), b = load(y + 4), c = load(y + 8), d = load(y + 12);
    for (int64_t i = 0; i < in; i++, w += PANEL) {
        a += load(w) * x[i];
        b += load(w + 4) * x[i];
        c += load(w + 8) * x[i];
        d += load(w + 12) * x[i];
    }
    const vec4 sums[] = {a, b, c, d};
    memcpy(y, sums, sizeof sums);
}

static void four_rows(const matrix *m, const float *w, const float *x, int64_t o, int64_t n, float *y)
{
    for (int64_t half = 0; half < n; half += HALF) {
        float sum[ROWS][HALF];
        const int64_t width = n - half < HALF ? n - half : HALF;
        for (int r = 0; r < ROWS; r++) memcpy(sum[r], m->bias + o + half, sizeof sum[r]);
        apply_four(w + half, m->in, x, sum);
        for (int r = 0; r < ROWS; r++) memcpy(y + r * m->out + o + half, sum[r], (size_t)width * sizeof *y);
    }
}

static void one_row(const matrix *m, const float *w, const float *x, int64_t o, int64_t n, float *y)
{
    float sum[PANEL];
    memcpy(sum, m->bias + o, sizeof sum);
    apply_one(w, m->in, x, sum);
    memcpy(y + o, sum, (size_t)n * sizeof *y);
}

void matrix_apply(const matrix *m, const float *x, int64_t rows, float *y)
{
    for (int64_t p = 0; p < panels_of(m); p++) {
        const float *w = m->panels + p * PANEL * m->in;
        const int64_t o = p * PANEL, n = m->out - o < PANEL ? m->out - o : PANEL;
        int64_t r = 0;
        for (; r + ROWS <= rows; r += ROWS) four_rows(m, w, x + r * m->in, o, n, y + r * m->out);
        for (; r < rows; r++) one_row(m, w, x + r * m->in, o, n, y + r * m->out);
    }
}
