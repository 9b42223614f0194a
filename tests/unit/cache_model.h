/* cache_model.h - a KV cache beside a plain list of tokens: what a cache must answer, from the definition.
 *
 * A token is a number; its query, keys and values in each layer are hashed from it. So a sequence is a list of numbers,
 * a fork a copy of it, and attention of the new tokens is computed over all tokens, in double, and compared with what
 * the cache gave. */
#ifndef ATTNC_TEST_CACHE_MODEL_H
#define ATTNC_TEST_CACHE_MODEL_H

#include "check.h"
#include "fake_module.h"

#include <attn/cache.h>

enum { MODEL_LAYERS = 3, MODEL_Q_HEADS = 4, MODEL_KV_HEADS = 2, MODEL_MAX_SEQS = 12, MODEL_MAX_STEP = 1024 };

typedef struct model_seq {
    attn_seq_id id; /* 0: none */
    int64_t n, furthest, cap;
    int32_t *token, *attr;
} model_seq;

typedef struct model {
    unsigned long long seed;
    attn_module *module;
    attn_cache *cache;
    attn_pool *pool; /* NULL: in this thread */
    attn_cache_config config;
    model_seq seqs[MODEL_MAX_SEQS];
    int32_t next_token;
    int32_t table[64];
    int64_t table_shape[2];
    DLTensor input;
    const DLTensor *inputs[1];
} model;

static inline int64_t model_below(model *m, int64_t n) { return (int64_t)(check_random(&m->seed) % (uint64_t)n); }

/* In [-1, 1), the same for the same arguments. */
static inline float model_value(int32_t token, int64_t layer, int64_t part, int64_t head, int64_t i)
{
    unsigned long long x =
        (unsigned long long)token * 1000003u + (unsigned long long)(((layer * 3 + part) * 8 + head) * 8 + i);
    return (float)(check_random(&x) >> 40) / (float)(1 << 23) - 1;
}

/* ---- life
 * ------------------------------------------------------------------------------------------------------------------ */

static inline const fake_mask *model_mask(const char *name)
{
    for (size_t i = 0; i < FAKE_MASKS; i++)
        if (!strcmp(fake_masks[i].name, name)) return &fake_masks[i];
    abort();
}

/* c.size, inputs and poison are set here. */
static inline attn_status model_open(model *m, const fake_mask *mask, fake_shape shape, attn_cache_config c,
                                     unsigned long long seed)
{
    *m = (model){.seed = seed, .next_token = 1, .table_shape = {8, 8}};
    for (int i = 0; i < 64; i++) m->table[i] = model_below(m, 3) > 0;
    for (int i = 0; i < 8; i++)
        for (int j = i; j < 8; j++)
            m->table[8 * i + j] = 0; /* keys of its own and later blocks, so that many steps are legal */
    m->input = (DLTensor){
        .data = m->table, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLInt, 32, 1}, .shape = m->table_shape};
    m->inputs[0] = &m->input;
    if (attn_module_open(fake_make(mask, shape), NULL, &m->module, NULL)) return ATTN_E_VERSION;
    c.size = sizeof c;
    c.inputs = m->inputs;
    c.poison = 1;
    c.isa = -1;
    m->config = c;
    return attn_cache_create(m->module, &c, &m->cache, NULL);
}

static inline void model_close(model *m)
{
    CHECK(atomic_load(&fake.errors) == 0);
    attn_cache_destroy(m->cache);
    attn_module_destroy(m->module);
    for (int i = 0; i < MODEL_MAX_SEQS; i++) free(m->seqs[i].token), free(m->seqs[i].attr);
    *m = (model){0};
}

static inline void model_grow(model_seq *s, int64_t n)
{
    if (n <= s->cap) return;
    s->cap = 2 * n;
    s->token = realloc(s->token, (size_t)s->cap * sizeof *s->token);
    s->attr = realloc(s->attr, (size_t)s->cap * sizeof *s->attr);
    if (!s->token || !s->attr) abort();
}

/* ---- the definition
 * -------------------------------------------------------------------------------------------------------- */

static inline bool model_sees(const model *m, const model_seq *s, int64_t layer, int64_t h, int64_t q, int64_t k)
{
    const fake_pair p = {
        .q = q, .k = k, .h = h, .layer = layer, .q_attr = s->attr[q], .k_attr = s->attr[k], .table = m->table};
    return fake.mask->see(&p);
}

/* One row: o and lse. */
static inline void model_row(const model *m, const model_seq *s, int64_t total, int64_t layer, int64_t h, int64_t q,
                             double o[FAKE_DIM_V], double *lse)
{
    const int64_t g = h / (MODEL_Q_HEADS / MODEL_KV_HEADS);
    double sum = 0;
    for (int i = 0; i < FAKE_DIM_V; i++) o[i] = 0;
    for (int64_t k = 0; k < total; k++) {
        if (!model_sees(m, s, layer, h, q, k)) continue;
        double dot = 0;
        for (int i = 0; i < FAKE_DIM; i++)
            dot += (double)model_value(s->token[q], layer, 0, h, i) * (double)model_value(s->token[k], layer, 1, g, i);
        const double w = exp(dot);
        sum += w;
        for (int i = 0; i < FAKE_DIM_V; i++) o[i] += w * (double)model_value(s->token[k], layer, 2, g, i);
    }
    for (int i = 0; i < FAKE_DIM_V && sum > 0; i++) o[i] /= sum;
    *lse = log(sum);
}

/* ---- steps
 * ------------------------------------------------------------------------------------------------------------------ */

typedef struct model_tensor {
    DLTensor dl;
    int64_t shape[3], stride[3];
    float *at;
} model_tensor;

/* Packed [rows, heads, dim] (dim 0: none) with strides of [heads, rows, dim], or with gaps, or plain. */
static inline void model_tensor_make(model_tensor *t, int64_t rows, int64_t heads, int64_t dim, int layout)
{
    const int64_t width = dim ? dim : 1, head = layout == 1 ? width + 1 : layout == 2 ? rows * width : width;
    const int64_t row = layout == 2 ? width : heads * head + (layout == 1);
    *t = (model_tensor){.shape = {rows, heads, dim}, .stride = {row, head, 1}};
    t->at = malloc(sizeof(float) * (size_t)(rows * heads * (width + 2) + rows + 1));
    if (!t->at) abort();
    t->dl = (DLTensor){.data = t->at,
                       .device = {kDLCPU, 0},
                       .ndim = dim ? 3 : 2,
                       .dtype = {kDLFloat, 32, 1},
                       .shape = t->shape,
                       .strides = t->stride};
}

static inline float *model_element(const model_tensor *t, int64_t row, int64_t head)
{
    return t->at + row * t->stride[0] + head * t->stride[1];
}

static inline void model_fill(const model_tensor *t, int64_t row, int64_t layer, int64_t part, int32_t token,
                              int64_t heads, int64_t dim)
{
    for (int64_t h = 0; h < heads; h++)
        for (int64_t i = 0; i < dim; i++) model_element(t, row, h)[i] = model_value(token, layer, part, h, i);
}

typedef struct model_step {
    int n;
    model_seq *seqs[MODEL_MAX_SEQS];
    int64_t counts[MODEL_MAX_SEQS];
} model_step;

/* Groups of a few tokens with one number. */
static inline void model_new_tokens(model *m, model_seq *s, int64_t count)
{
    model_grow(s, s->n + count);
    for (int64_t i = s->n; i < s->n + count; i++) {
        s->token[i] = m->next_token++;
        const bool joins = i == s->n ? i && !model_below(m, 8) : model_below(m, 4) > 0;
        s->attr[i] = joins                          ? s->attr[i - 1]
                     : fake.mask->see == see_images ? (model_below(m, 3) ? m->next_token : -1)
                                                    : (int32_t)model_below(m, 3);
    }
}

static inline void model_compare(model *m, const model_seq *s, int64_t count, int64_t row0, int64_t layer,
                                 const model_tensor *o, const model_tensor *lse)
{
    for (int64_t i = 0; i < count; i++)
        for (int64_t h = 0; h < MODEL_Q_HEADS; h++) {
            double want[FAKE_DIM_V], want_lse;
            model_row(m, s, s->n + count, layer, h, s->n + i, want, &want_lse);
            for (int d = 0; d < FAKE_DIM_V; d++)
                CHECK_MSG(fabs((double)model_element(o, row0 + i, h)[d] - want[d]) < 1e-5,
                          "layer %d, position %d of %d, head %d: %g is not %g", (int)layer, (int)(s->n + i),
                          (int)(s->n + count), (int)h, (double)model_element(o, row0 + i, h)[d], want[d]);
            const double got = (double)*model_element(lse, row0 + i, h);
            CHECK(want_lse == got || fabs(want_lse - got) < 1e-5);
        }
}

static inline void model_layer(model *m, const model_step *x, int64_t rows, uint32_t layer)
{
    model_tensor q, k, v, o, lse;
    const int layout = (int)model_below(m, 3);
    model_tensor_make(&q, rows, MODEL_Q_HEADS, FAKE_DIM, layout);
    model_tensor_make(&k, rows, MODEL_KV_HEADS, FAKE_DIM, layout);
    model_tensor_make(&v, rows, MODEL_KV_HEADS, FAKE_DIM_V, (layout + 1) % 3);
    model_tensor_make(&o, rows, MODEL_Q_HEADS, FAKE_DIM_V, layout);
    model_tensor_make(&lse, rows, MODEL_Q_HEADS, 0, layout);
    int64_t row = 0;
    for (int i = 0; i < x->n; i++)
        for (int64_t j = 0; j < x->counts[i]; j++, row++) {
            const int32_t token = x->seqs[i]->token[x->seqs[i]->n + j];
            model_fill(&q, row, layer, 0, token, MODEL_Q_HEADS, FAKE_DIM);
            model_fill(&k, row, layer, 1, token, MODEL_KV_HEADS, FAKE_DIM);
            model_fill(&v, row, layer, 2, token, MODEL_KV_HEADS, FAKE_DIM_V);
        }
    const attn_tensors t = {.size = sizeof t, .q = &q.dl, .k = &k.dl, .v = &v.dl, .o = &o.dl, .lse = &lse.dl};
    attn_error err = {""};
    CHECK_MSG(!attn_step_layer(m->cache, layer, &t, m->pool, &err), "%s", err.text);
    row = 0;
    for (int i = 0; i < x->n && !check_current; i++) {
        model_compare(m, x->seqs[i], x->counts[i], row, layer, &o, &lse);
        row += x->counts[i];
    }
    free(q.at), free(k.at), free(v.at), free(o.at), free(lse.at);
}

/* Of the model's new tokens, which must be there. */
static inline attn_status model_step_begin(model *m, const model_step *x, attn_error *err)
{
    attn_seq_id ids[MODEL_MAX_SEQS];
    int32_t attrs[MODEL_MAX_STEP];
    const int32_t *lists[1] = {attrs};
    int64_t row = 0;
    for (int i = 0; i < x->n; i++) {
        ids[i] = x->seqs[i]->id;
        for (int64_t j = 0; j < x->counts[i]; j++) attrs[row++] = x->seqs[i]->attr[x->seqs[i]->n + j];
    }
    const attn_step_config c = {
        .size = sizeof c, .n_seqs = (uint32_t)x->n, .seqs = ids, .counts = x->counts, .attrs = lists};
    return attn_step_begin(m->cache, &c, err);
}

static inline void model_check(const model *m)
{
    const char *wrong = attn_cache_check(m->cache);
    CHECK_MSG(!wrong, "attn_cache_check: %s", wrong ? wrong : "");
}

static inline void model_layers(model *m, const model_step *x)
{
    int64_t rows = 0;
    for (int i = 0; i < x->n; i++) rows += x->counts[i];
    for (uint32_t l = 0; l < MODEL_LAYERS; l++) model_layer(m, x, rows, (l + 1) % MODEL_LAYERS);
}

/* Would a past token see a new one? */
static inline bool model_splits(const model *m, const model_step *x)
{
    for (int i = 0; i < x->n; i++)
        for (int64_t q = 0; q < x->seqs[i]->n; q++)
            for (int64_t k = x->seqs[i]->n; k < x->seqs[i]->n + x->counts[i]; k++)
                for (int64_t h = 0; h < MODEL_Q_HEADS; h++)
                    for (int64_t l = 0; l < MODEL_LAYERS; l++)
                        if (model_sees(m, x->seqs[i], l, h, q, k)) return true;
    return false;
}

/* Brings new tokens, checks every layer's results. False: the cache refused the step, as it must, and nothing changed.
 */
static inline bool model_run(model *m, model_step *x)
{
    attn_error err = {""};
    for (int i = 0; i < x->n; i++) model_new_tokens(m, x->seqs[i], x->counts[i]);
    const attn_status s = model_step_begin(m, x, &err);
    model_check(m);
    if (s) {
        CHECK_MSG(s == ATTN_E_BUDGET || (s == ATTN_E_SPLIT && model_splits(m, x)), "attn_step_begin: %s", err.text);
        return false;
    }
    CHECK(!model_splits(m, x));
    model_layers(m, x);
    model_check(m);
    CHECK(!attn_step_end(m->cache, &err));
    for (int i = 0; i < x->n; i++) {
        model_seq *q = x->seqs[i];
        q->n += x->counts[i];
        if (q->n > q->furthest) q->furthest = q->n;
    }
    model_check(m);
    return true;
}

/* ---- single operations
 * ------------------------------------------------------------------------------------------------------ */

static inline model_seq *model_begin(model *m)
{
    for (int i = 0; i < MODEL_MAX_SEQS; i++)
        if (!m->seqs[i].id) {
            m->seqs[i].n = m->seqs[i].furthest = 0;
            CHECK(!attn_seq_begin(m->cache, &m->seqs[i].id, NULL));
            return &m->seqs[i];
        }
    abort();
}

static inline bool model_feed(model *m, model_seq *s, int64_t count)
{
    model_step x = {.n = 1, .seqs = {s}, .counts = {count}};
    return model_run(m, &x);
}

static inline void model_end(model *m, model_seq *s)
{
    CHECK(!attn_seq_end(m->cache, s->id, NULL));
    s->id = 0;
    model_check(m);
}

static inline model_seq *model_fork(model *m, const model_seq *s)
{
    model_seq *to = m->seqs;
    while (to < m->seqs + MODEL_MAX_SEQS && to->id) to++;
    if (to == m->seqs + MODEL_MAX_SEQS) abort();
    CHECK(!attn_seq_fork(m->cache, s->id, &to->id, NULL));
    model_grow(to, s->n + 1);
    for (int64_t i = 0; i < s->n; i++) to->token[i] = s->token[i], to->attr[i] = s->attr[i];
    to->n = s->n, to->furthest = s->furthest;
    model_check(m);
    return to;
}

static inline void model_rollback(model *m, model_seq *s, int64_t r)
{
    attn_error err = {""};
    const int64_t deepest = s->furthest - m->config.rollback;
    const attn_status want = s->n - r < 0 || s->n - r < deepest ? ATTN_E_ROLLBACK : ATTN_OK;
    const attn_status got = attn_seq_rollback(m->cache, s->id, r, &err);
    CHECK_MSG(got == want, "rollback of %d at %d (furthest %d): %s", (int)r, (int)s->n, (int)s->furthest, err.text);
    if (!got) s->n -= r;
    model_check(m);
}

/* Is position k kept in this layer? */
static inline bool model_keeps(const model *m, const model_seq *s, uint32_t layer, int64_t k)
{
    int64_t at[64][2];
    const int64_t n = attn_cache_kept(m->cache, s->id, layer, at, 64);
    CHECK(n >= 0 && n <= 64);
    for (int64_t i = 0; i < n; i++)
        if (k >= at[i][0] && k <= at[i][1]) return true;
    return false;
}

static inline attn_cache_stats model_stats(const model *m)
{
    attn_cache_stats s = {.size = sizeof s};
    CHECK(!attn_cache_get_stats(m->cache, &s));
    return s;
}

#endif
