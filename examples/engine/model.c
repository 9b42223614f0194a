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

static float inverse_rms(const float *x, int64_t n, float eps)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return 1.0f / sqrtf(sum / (float)n + eps);
}

static void rms_norm(const model *m, const float *x, const float *weight, int64_t rows, float *y)
{
    const int64_t n = m->hidden;
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        const float scale = inverse_rms(x, n, m->eps);
        for (int64_t i = 0; i < n; i++) y[i] = x[i] * scale * weight[i];
    }
}

static void add(float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

/* ---- positions -----------------------------------------------------------------------------------------------------
 */

/* Cosine and sine of every pair's angle: the same for all layers and heads. */
static void prepare_turns(model *m, const int64_t *positions, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < m->dim / 2; i++) {
            const float angle = (float)positions[r] * m->turns_per_row[i];
            m->turns[r * m->dim + 2 * i] = cosf(angle);
            m->turns[r * m->dim + 2 * i + 1] = sinf(angle);
        }
}

/* Llama 4 turns neighbours (0, 1), (2, 3), ..; gpt-oss turns an element of the first half with one of the second. */
static void rope(const model *m, float *head, const float *turns)
{
    const bool neighbours = m->family == FAMILY_LLAMA4;
    for (int64_t i = 0; i < m->dim / 2; i++) {
        float *a = &head[neighbours ? 2 * i : i], *b = &head[neighbours ? 2 * i + 1 : i + m->dim / 2];
        const float c = turns[2 * i], s = turns[2 * i + 1], x = *a, y = *b;
        *a = x * c - y * s;
        *b = x * s + y * c;
    }
}

/* Llama 4 brings the heads of its RoPE layers to length sqrt(dim); it does so behind RoPE. */
static void qk_norm(const model *m, float *head)
{
    const float scale = inverse_rms(head, m->dim, m->eps);
    for (int64_t i = 0; i < m->dim; i++) head[i] *= scale;
}

static void place(const model *m, float *x, int64_t heads, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < heads; h++, x += m->dim) {
            rope(m, x, m->turns + r * m->dim);
            if (m->family == FAMILY_LLAMA4) qk_norm(m, x);
        }
}

/* ---- layers --------------------------------------------------------------------------------------------------------
 */

static bool attention_block(model *m, attention *a, uint32_t index, int64_t rows, failure *f)
{
    const model_layer *l = &m->layers[index];
    rms_norm(m, m->x, l->attention_norm, rows, m->normed);
    matrix_apply(&l->q, m->normed, rows, m->queries);
    matrix_apply(&l->k, m->normed, rows, m->keys);
    matrix_apply(&l->v, m->normed, rows, m->values);
    if (l->rope) {
        place(m, m->queries, m->heads, rows);
        place(m, m->keys, m->kv_heads, rows);
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
    rms_norm(m, m->x, l->mlp_norm, rows, m->normed);
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
    prepare_turns(m, positions, rows);
    for (uint32_t i = 0; i < m->n_layers; i++) {
        if (!attention_block(m, a, i, rows, f)) return false;
        mlp_block(m, &m->layers[i], rows);
    }
    rms_norm(m, m->x, m->norm, rows, m->normed);
    matrix_apply(&m->head, m->normed, rows, m->logits);
    *logits = m->logits;
    return true;
}
