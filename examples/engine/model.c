/* model.c - one step through the layers: from tokens to logits. */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- working memory ------------------------------------------------------------------------------------------------
 */

static bool reserve(model *m, int64_t rows, failure *f)
{
    if (rows <= m->room) return true;
    const struct {
        float **array;
        int64_t width;
    } arrays[] = {{&m->x, m->hidden},
                  {&m->normed, m->hidden},
                  {&m->queries, m->heads * m->dim},
                  {&m->keys, m->kv_heads * m->dim},
                  {&m->values, m->kv_heads * m->dim},
                  {&m->mixed, m->heads * m->dim},
                  {&m->gates, m->mlp},
                  {&m->ups, m->mlp},
                  {&m->turns, m->dim},
                  {&m->logits, VOCABULARY}};
    int64_t width = 0;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) width += arrays[i].width;
    free(m->scratch);
    m->room = 0;
    m->scratch = malloc((size_t)(rows * width) * sizeof *m->scratch);
    if (!m->scratch) return fail(f, "out of memory for a step of %lld tokens", (long long)rows);
    m->room = rows;
    float *at = m->scratch;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i].array = at;
        at += rows * arrays[i].width;
    }
    return true;
}

/* ---- small pieces --------------------------------------------------------------------------------------------------
 */

static void norm_rows(const model *m, const float *x, const float *weight, int64_t rows, float *y)
{
    for (int64_t r = 0; r < rows; r++) rms_norm(x + r * m->hidden, m->hidden, m->eps, weight, y + r * m->hidden);
}

static void add(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

/* ---- layers --------------------------------------------------------------------------------------------------------
 */

static bool attention_block(model *m, attention *a, uint32_t index, int64_t rows, failure *f)
{
    const model_layer *l = &m->layers[index];
    norm_rows(m, m->x, l->attention_norm, rows, m->normed);
    matrix_apply(&l->q, m->normed, rows, m->queries);
    matrix_apply(&l->k, m->normed, rows, m->keys);
    matrix_apply(&l->v, m->normed, rows, m->values);
    if (l->rope) {
        const heads q = {.n = m->heads, .dim = m->dim, .norm = m->qk_norm, .eps = m->eps};
        const heads k = {.n = m->kv_heads, .dim = m->dim, .norm = m->qk_norm, .eps = m->eps};
        heads_place(&q, &m->rotary, m->turns, rows, m->queries);
        heads_place(&k, &m->rotary, m->turns, rows, m->keys);
    }
    if (!attention_layer(a, index, m->queries, m->keys, m->values, m->mixed, f)) return false;
    matrix_apply(&l->o, m->mixed, rows, m->normed);
    add(m->x, m->normed, rows * m->hidden);
    return true;
}

static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

static float activate(model_family family, float gate, float up)
{
    if (family == FAMILY_LLAMA4) return gate * sigmoid(gate) * up;
    gate = fminf(gate, 7.0f);
    up = fmaxf(-7.0f, fminf(up, 7.0f));
    return (up + 1.0f) * gate * sigmoid(1.702f * gate);
}

static void mlp_block(model *m, const model_layer *l, int64_t rows)
{
    norm_rows(m, m->x, l->mlp_norm, rows, m->normed);
    matrix_apply(&l->gate, m->normed, rows, m->gates);
    matrix_apply(&l->up, m->normed, rows, m->ups);
    for (int64_t i = 0; i < rows * m->mlp; i++) m->gates[i] = activate(m->family, m->gates[i], m->ups[i]);
    matrix_apply(&l->down, m->gates, rows, m->normed);
    add(m->x, m->normed, rows * m->hidden);
}

bool model_run(model *m, attention *a, const uint8_t *tokens, const int64_t *positions, int64_t rows,
               const float **logits, failure *f)
{
    if (!reserve(m, rows, f)) return false;
    for (int64_t r = 0; r < rows; r++)
        memcpy(m->x + r * m->hidden, m->embedding + tokens[r] * m->hidden, (size_t)m->hidden * sizeof *m->x);
    for (int64_t r = 0; r < rows; r++) rotary_prepare(&m->rotary, positions[r], m->turns + r * m->rotary.n);
    for (uint32_t i = 0; i < m->n_layers; i++) {
        if (!attention_block(m, a, i, rows, f)) return false;
        mlp_block(m, &m->layers[i], rows);
    }
    norm_rows(m, m->x, m->norm, rows, m->normed);
    matrix_apply(&m->head, m->normed, rows, m->logits);
    *logits = m->logits;
    return true;
}
