/* cache_model.h - a KV cache beside a plain list of tokens: what a cache must answer, from the definition.
 *
 * A token is a number; its query, keys and values in each layer are hashed from it. So a sequence is a list of numbers,
 * a fork a copy of it, and attention of the new tokens is computed over all tokens, in double, and compared with what
 * the cache gave. Which pages it holds, and how many bytes they have, is counted the same way.
 *
 * With an alphabet, tokens have ids that the cache gets to know, and their numbers are hashed from all that they see
 * when they come: so a page is right for no other text than one in which its tokens see the same. */
#ifndef ATTNC_TEST_CACHE_MODEL_H
#define ATTNC_TEST_CACHE_MODEL_H

#include "check.h"
#include "fake_module.h"

#include <attn/cache.h>

enum { MODEL_Q_HEADS = 4, MODEL_KV_HEADS = 2, MODEL_PER_KV = MODEL_Q_HEADS / MODEL_KV_HEADS };
enum { MODEL_MAX_SEQS = 12, MODEL_MAX_STEP = 1024, MODEL_MAX_POOLS = 8, MODEL_SCRIPT = 2048 };

typedef struct model_seq {
    attn_seq_id id; /* 0: none */
    int64_t n, furthest, cap;
    int32_t *token, *attr, *id_of;
    int64_t known, ready;           /* whose ids the cache knows; whose ids and attributes are settled already */
    int64_t *page[MODEL_MAX_POOLS]; /* numbers of pages, by position / page_tokens: what is shared has the same */
} model_seq;

typedef struct model {
    unsigned long long seed;
    attn_module *module;
    attn_cache *cache;
    attn_pool *pool; /* NULL: in this thread */
    attn_cache_config config;
    model_seq seqs[MODEL_MAX_SEQS];
    int32_t next_token;
    float *record; /* NULL, or where results are written one behind the other */
    size_t recorded;
    int alphabet;                                            /* 0: no ids, and pages are counted */
    bool named;                                              /* the next step brings ids */
    int32_t script[MODEL_SCRIPT], script_attr[MODEL_SCRIPT]; /* what most texts say */
    bool keys_only; /* steps bring keys and values, and ask nothing */
    int64_t next_page;
    uint32_t n_pools; /* a kind has one for each of its groups of heads */
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

/* c.size, inputs and poison are set here. */
static inline attn_status model_open_kinds(model *m, const fake_model *kinds, fake_shape shape, attn_cache_config c,
                                           unsigned long long seed)
{
    *m = (model){.seed = seed, .next_token = 1, .next_page = 1, .table_shape = {8, 8}};
    for (uint32_t k = 0; k < kinds->n_kinds; k++) m->n_pools += kinds->kinds[k].n_groups ? kinds->kinds[k].n_groups : 1;
    if (m->n_pools > MODEL_MAX_POOLS) abort();
    for (int i = 0; i < 64; i++) m->table[i] = model_below(m, 3) > 0;
    for (int i = 0; i < 8; i++)
        for (int j = i; j < 8; j++)
            m->table[8 * i + j] = 0; /* keys of its own and later blocks, so that many steps are legal */
    m->input = (DLTensor){
        .data = m->table, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLInt, 32, 1}, .shape = m->table_shape};
    m->inputs[0] = &m->input;
    if (attn_module_open(fake_make_model(kinds, shape), NULL, &m->module, NULL)) return ATTN_E_VERSION;
    c.size = sizeof c;
    c.inputs = m->inputs;
    c.poison = 1;
    c.isa = -1;
    m->config = c;
    return attn_cache_create(m->module, &c, &m->cache, NULL);
}

static inline attn_status model_open(model *m, const char *mask, fake_shape shape, attn_cache_config c,
                                     unsigned long long seed)
{
    const fake_model plain = fake_plain(fake_mask_named(mask));
    return model_open_kinds(m, &plain, shape, c, seed);
}

static inline void model_close(model *m)
{
    CHECK(atomic_load(&fake.errors) == 0);
    attn_cache_destroy(m->cache);
    attn_module_destroy(m->module);
    for (int i = 0; i < MODEL_MAX_SEQS; i++) {
        free(m->seqs[i].token), free(m->seqs[i].attr), free(m->seqs[i].id_of);
        for (uint32_t p = 0; p < m->n_pools; p++) free(m->seqs[i].page[p]);
    }
    *m = (model){0};
}

static inline void *model_widen(void *p, int64_t n, size_t size)
{
    p = realloc(p, (size_t)n * size);
    if (!p) abort();
    return p;
}

static inline void model_grow(const model *m, model_seq *s, int64_t n)
{
    if (n <= s->cap) return;
    s->cap = 2 * n;
    s->token = model_widen(s->token, s->cap, sizeof *s->token);
    s->attr = model_widen(s->attr, s->cap, sizeof *s->attr);
    s->id_of = model_widen(s->id_of, s->cap, sizeof *s->id_of);
    for (uint32_t p = 0; p < m->n_pools; p++) s->page[p] = model_widen(s->page[p], s->cap, sizeof *s->page[p]);
}

/* ---- the definition
 * -------------------------------------------------------------------------------------------------------- */

static inline uint32_t model_layers_of(const model *m) { return attn_module_describe(m->module)->n_layers; }

/* The layer whose keys this one reads. */
static inline int64_t model_owner(int64_t layer)
{
    const attn_kind_desc *k = fake_kind_of(layer);
    return k->flags & ATTN_KIND_KV_SHARED ? k->kv_layer : layer;
}

static inline bool model_sees(const model *m, const model_seq *s, int64_t layer, int64_t h, int64_t q, int64_t k)
{
    const fake_pair p = {
        .q = q, .k = k, .h = h, .layer = layer, .q_attr = s->attr[q], .k_attr = s->attr[k], .table = m->table};
    return fake_mask_of(layer)->see(&p);
}

/* One row: o and lse. Where a key is its own value, there is no third part. */
static inline void model_row(const model *m, const model_seq *s, int64_t total, int64_t layer, int64_t h, int64_t q,
                             double *o, double *lse)
{
    const attn_kind_desc *kind = fake_kind_of(layer);
    const int64_t g = h / MODEL_PER_KV, owner = model_owner(layer), part = kind->flags & ATTN_KIND_K_IS_V ? 1 : 2;
    double sum = 0;
    for (uint32_t i = 0; i < kind->dim_v; i++) o[i] = 0;
    for (int64_t k = 0; k < total; k++) {
        if (!model_sees(m, s, layer, h, q, k)) continue;
        double dot = 0;
        for (uint32_t i = 0; i < kind->dim; i++)
            dot += (double)model_value(s->token[q], layer, 0, h, i) * (double)model_value(s->token[k], owner, 1, g, i);
        const double w = exp(dot);
        sum += w;
        for (uint32_t i = 0; i < kind->dim_v; i++) o[i] += w * (double)model_value(s->token[k], owner, part, g, i);
    }
    for (uint32_t i = 0; i < kind->dim_v && sum > 0; i++) o[i] /= sum;
    *lse = log(sum);
}

/* ---- what is kept, from the definition ------------------------------------------------------------------------- */

/* Where this layer's keys of this KV head lie: a number for all that live together. */
static inline uint32_t model_pool(int64_t layer, int64_t g)
{
    const int64_t owner = model_owner(layer);
    uint32_t pool = 0;
    for (uint32_t k = 0; k < fake.schedule[owner]; k++) pool += fake.kind[k].n_groups > 1 ? fake.kind[k].n_groups : 1;
    const attn_kind_desc *kind = fake_kind_of(owner);
    return pool + (kind->n_groups > 1 ? kind->groups[owner * MODEL_KV_HEADS + g] : 0u);
}

/* Can nobody say, because it depends on data? Then everything is kept. */
static inline bool model_pool_reads_data(const model *m, uint32_t pool)
{
    for (uint32_t l = 0; l < model_layers_of(m); l++)
        for (int64_t g = 0; g < MODEL_KV_HEADS; g++)
            if (model_pool(l, g) == pool && (fake_mask_of(l)->attr || fake_mask_of(l)->table)) return true;
    return false;
}

/* Does some query from R tokens before the furthest point on see position k? `far` queries are asked. */
static inline bool model_alive(const model *m, const model_seq *s, uint32_t pool, int64_t k, int64_t far)
{
    const int64_t from = s->furthest > m->config.rollback ? s->furthest - m->config.rollback : 0;
    if (k >= s->n) return false;
    if (model_pool_reads_data(m, pool)) return true;
    for (int64_t q = from; q < from + far; q++)
        for (uint32_t l = 0; l < model_layers_of(m); l++)
            for (int64_t h = 0; h < MODEL_Q_HEADS; h++)
                if (model_pool(l, h / MODEL_PER_KV) == pool &&
                    fake_keeps(fake_mask_of(l))(&(fake_pair){.q = q, .k = k, .h = h, .layer = l}))
                    return true;
    return false;
}

static inline int64_t model_page_tokens(const model *m) { return m->config.page_tokens ? m->config.page_tokens : 64; }

static inline bool model_holds(const model *m, const model_seq *s, uint32_t pool, int64_t page)
{
    const int64_t p = model_page_tokens(m);
    bool alive = false;
    for (int64_t k = page * p; k < (page + 1) * p && !alive; k++) alive = model_alive(m, s, pool, k, 32);
    return alive;
}

/* Keys and values of all heads and layers of the pool, each block of them rounded up to 64 bytes. */
static inline uint64_t model_page_bytes(const model *m, uint32_t pool)
{
    uint64_t bytes = 0;
    for (uint32_t l = 0; l < model_layers_of(m); l++)
        for (int64_t g = 0; g < MODEL_KV_HEADS; g++) {
            const attn_kind_desc *k = fake_kind_of(l);
            const uint64_t floats = k->dim + (k->flags & ATTN_KIND_K_IS_V ? 0 : k->dim_v);
            if (model_owner(l) != l || model_pool(l, g) != pool) continue;
            bytes += ((uint64_t)model_page_tokens(m) * floats * sizeof(float) + 63) / 64 * 64;
        }
    return bytes;
}

/* Does another sequence hold the same page? */
static inline bool model_shares(const model *m, const model_seq *s, uint32_t pool, int64_t page)
{
    for (int i = 0; i < MODEL_MAX_SEQS; i++) {
        const model_seq *x = &m->seqs[i];
        if (x->id && x != s && page * model_page_tokens(m) < x->n && x->page[pool][page] == s->page[pool][page] &&
            model_holds(m, x, pool, page))
            return true;
    }
    return false;
}

/* Pages that a step of these counts writes: the first may be there already, and is replaced when others hold it. */
static inline void model_write_pages(model *m, model_seq *const *seqs, const int64_t *counts, int n)
{
    const int64_t p = model_page_tokens(m);
    bool shared[MODEL_MAX_SEQS][MODEL_MAX_POOLS] = {{false}};
    for (int i = 0; i < n; i++)
        for (uint32_t pool = 0; pool < m->n_pools && counts[i]; pool++) {
            const int64_t first = seqs[i]->n / p;
            shared[i][pool] = !model_holds(m, seqs[i], pool, first) || model_shares(m, seqs[i], pool, first);
        }
    for (int i = 0; i < n; i++)
        for (uint32_t pool = 0; pool < m->n_pools; pool++)
            for (int64_t j = seqs[i]->n / p; counts[i] && j <= (seqs[i]->n + counts[i] - 1) / p; j++)
                if (j > seqs[i]->n / p || shared[i][pool]) seqs[i]->page[pool][j] = m->next_page++;
}

/* Bytes of all pages that are held, shared ones once; *shared: how many those are. */
static inline uint64_t model_bytes(const model *m, int64_t *pages, int64_t *shared)
{
    uint64_t bytes = 0;
    uint8_t *seen = calloc((size_t)m->next_page, 1);
    if (!seen) abort();
    *pages = *shared = 0;
    for (int i = 0; i < MODEL_MAX_SEQS; i++)
        for (uint32_t pool = 0; pool < m->n_pools && m->seqs[i].id; pool++) {
            const model_seq *s = &m->seqs[i];
            const uint64_t size = model_page_bytes(m, pool);
            for (int64_t j = 0; size && j * model_page_tokens(m) < s->n; j++) {
                uint8_t *count = &seen[s->page[pool][j]];
                if (!model_holds(m, s, pool, j) || ++*count > 2) continue;
                if (*count == 1) bytes += size, ++*pages;
                *shared += *count == 2;
            }
        }
    free(seen);
    return bytes;
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
static inline int32_t model_new_attr(model *m, const int32_t *attr, int64_t i, bool first)
{
    const bool joins = first ? i && !model_below(m, 8) : model_below(m, 4) > 0;
    return joins                             ? attr[i - 1]
           : fake.mask[0]->see == see_images ? (model_below(m, 3) ? m->next_token : -1)
                                             : (int32_t)model_below(m, 3);
}

static inline void model_set_alphabet(model *m, int size)
{
    m->alphabet = size;
    m->named = true;
    for (int64_t i = 0; i < MODEL_SCRIPT; i++) {
        m->script[i] = (int32_t)model_below(m, size);
        m->script_attr[i] = model_new_attr(m, m->script_attr, i, i == 0);
        m->next_token++;
    }
}

/* The script goes on, but for a token here and there. */
static inline void model_settle(model *m, model_seq *s, int64_t n)
{
    model_grow(m, s, n);
    for (; s->ready < n; s->ready++) {
        const bool other = !model_below(m, 40);
        s->id_of[s->ready] = other ? (int32_t)model_below(m, m->alphabet) : m->script[s->ready];
        s->attr[s->ready] = other ? model_new_attr(m, s->attr, s->ready, !s->ready) : m->script_attr[s->ready];
    }
}

static inline bool model_has_attrs(const model *m) { return attn_module_describe(m->module)->n_attrs > 0; }

/* The number of a token that comes when there are `total`: of all that it sees, in any layer. */
static inline int32_t model_number(const model *m, const model_seq *s, int64_t total, int64_t q)
{
    unsigned long long x = (unsigned long long)s->id_of[q] + 1;
    for (int64_t k = 0; k < total; k++) {
        bool sees = false;
        for (int64_t i = 0; i < model_layers_of(m) * MODEL_Q_HEADS && !sees; i++)
            sees = model_sees(m, s, i / MODEL_Q_HEADS, i % MODEL_Q_HEADS, q, k);
        if (!sees) continue;
        x = x * 31 + (unsigned long long)(1000 * k + s->id_of[k] * 10);
        if (model_has_attrs(m)) x += (uint32_t)s->attr[k];
        check_random(&x);
    }
    return (int32_t)(x & 0x7fffffff);
}

static inline void model_new_tokens(model *m, model_seq *s, int64_t count)
{
    model_grow(m, s, s->n + count);
    if (m->alphabet) model_settle(m, s, s->n + count);
    for (int64_t i = s->n; i < s->n + count; i++) {
        if (m->alphabet) {
            s->token[i] = model_number(m, s, s->n + count, i);
            continue;
        }
        s->token[i] = m->next_token++;
        s->attr[i] = model_new_attr(m, s->attr, i, i == s->n);
    }
}

static inline void model_compare(model *m, const model_seq *s, int64_t count, int64_t row0, int64_t layer,
                                 const model_tensor *o, const model_tensor *lse)
{
    const int dim_v = (int)fake_kind_of(layer)->dim_v;
    for (int64_t i = 0; i < count; i++)
        for (int64_t h = 0; h < MODEL_Q_HEADS; h++) {
            double want[FAKE_MAX_DIM], want_lse;
            model_row(m, s, s->n + count, layer, h, s->n + i, want, &want_lse);
            for (int d = 0; d < dim_v; d++)
                CHECK_MSG(fabs((double)model_element(o, row0 + i, h)[d] - want[d]) < 1e-5,
                          "layer %d, position %d of %d, head %d: %g is not %g", (int)layer, (int)(s->n + i),
                          (int)(s->n + count), (int)h, (double)model_element(o, row0 + i, h)[d], want[d]);
            const double got = (double)*model_element(lse, row0 + i, h);
            CHECK(want_lse == got || fabs(want_lse - got) < 1e-5);
        }
}

typedef struct model_tensors {
    model_tensor q, k, v, o, lse;
    attn_tensors call;
} model_tensors;

/* What a step gives to a layer: no v where it is k, neither where another layer has them. */
static inline void model_make_tensors(model *m, const model_step *x, int64_t rows, uint32_t layer, model_tensors *t)
{
    const attn_kind_desc *kind = fake_kind_of(layer);
    const bool own = model_owner(layer) == layer;
    const int layout = (int)model_below(m, 3);
    model_tensor_make(&t->q, rows, MODEL_Q_HEADS, kind->dim, layout);
    model_tensor_make(&t->k, rows, MODEL_KV_HEADS, kind->dim, layout);
    model_tensor_make(&t->v, rows, MODEL_KV_HEADS, kind->dim_v, (layout + 1) % 3);
    model_tensor_make(&t->o, rows, MODEL_Q_HEADS, kind->dim_v, layout);
    model_tensor_make(&t->lse, rows, MODEL_Q_HEADS, 0, layout);
    int64_t row = 0;
    for (int i = 0; i < x->n; i++)
        for (int64_t j = 0; j < x->counts[i]; j++, row++) {
            const int32_t token = x->seqs[i]->token[x->seqs[i]->n + j];
            model_fill(&t->q, row, layer, 0, token, MODEL_Q_HEADS, kind->dim);
            model_fill(&t->k, row, layer, 1, token, MODEL_KV_HEADS, kind->dim);
            model_fill(&t->v, row, layer, 2, token, MODEL_KV_HEADS, kind->dim_v);
        }
    t->call = (attn_tensors){.size = sizeof t->call,
                             .q = &t->q.dl,
                             .k = own ? &t->k.dl : NULL,
                             .v = own && !(kind->flags & ATTN_KIND_K_IS_V) ? &t->v.dl : NULL,
                             .o = &t->o.dl,
                             .lse = &t->lse.dl};
}

static inline void model_free_tensors(model_tensors *t)
{
    free(t->q.at), free(t->k.at), free(t->v.at), free(t->o.at), free(t->lse.at);
}

static inline void model_note(model *m, const model_tensor *t, int64_t rows, int64_t width)
{
    for (int64_t row = 0; row < rows && m->record; row++)
        for (int64_t h = 0; h < MODEL_Q_HEADS; h++)
            for (int64_t i = 0; i < width; i++) m->record[m->recorded++] = model_element(t, row, h)[i];
}

static inline void model_layer(model *m, const model_step *x, int64_t rows, uint32_t layer)
{
    model_tensors t;
    attn_error err = {""};
    model_make_tensors(m, x, rows, layer, &t);
    if (m->keys_only) t.call.q = t.call.o = t.call.lse = NULL;
    CHECK_MSG(!attn_step_layer(m->cache, layer, &t.call, m->pool, &err), "layer %u: %s", layer, err.text);
    int64_t row = 0;
    for (int i = 0; i < x->n && !check_current && !m->keys_only; i++) {
        model_compare(m, x->seqs[i], x->counts[i], row, layer, &t.o, &t.lse);
        row += x->counts[i];
    }
    model_note(m, &t.o, rows, fake_kind_of(layer)->dim_v);
    model_note(m, &t.lse, rows, 1);
    model_free_tensors(&t);
}

/* Of the model's new tokens, which must be there. */
static inline attn_status model_step_begin(model *m, const model_step *x, attn_error *err)
{
    attn_seq_id ids[MODEL_MAX_SEQS];
    int32_t attrs[MODEL_MAX_STEP], tokens[MODEL_MAX_STEP];
    const int32_t *lists[1] = {attrs};
    int64_t row = 0;
    for (int i = 0; i < x->n; i++) {
        ids[i] = x->seqs[i]->id;
        for (int64_t j = 0; j < x->counts[i]; j++, row++) {
            attrs[row] = x->seqs[i]->attr[x->seqs[i]->n + j];
            tokens[row] = m->alphabet ? x->seqs[i]->id_of[x->seqs[i]->n + j] : 0;
        }
    }
    const attn_step_config c = {.size = sizeof c,
                                .n_seqs = (uint32_t)x->n,
                                .seqs = ids,
                                .counts = x->counts,
                                .attrs = lists,
                                .tokens = m->named ? tokens : NULL};
    return attn_step_begin(m->cache, &c, err);
}

static inline void model_check(const model *m)
{
    const char *wrong = attn_cache_check(m->cache);
    CHECK_MSG(!wrong, "attn_cache_check: %s", wrong ? wrong : "");
}

/* All layers, in no order but that a layer comes before those that read its keys. */
static inline void model_layers(model *m, const model_step *x)
{
    int64_t rows = 0;
    for (int i = 0; i < x->n; i++) rows += x->counts[i];
    const uint32_t n = model_layers_of(m);
    for (uint32_t l = 0; l < n; l++)
        if (model_owner((l + 1) % n) == (l + 1) % n) model_layer(m, x, rows, (l + 1) % n);
    for (uint32_t l = n; l-- > 0;)
        if (model_owner(l) != l) model_layer(m, x, rows, l);
}

/* Would a past token see a new one? */
static inline bool model_splits(const model *m, const model_step *x)
{
    for (int i = 0; i < x->n; i++)
        for (int64_t q = 0; q < x->seqs[i]->n; q++)
            for (int64_t k = x->seqs[i]->n; k < x->seqs[i]->n + x->counts[i]; k++)
                for (int64_t h = 0; h < MODEL_Q_HEADS; h++)
                    for (int64_t l = 0; l < model_layers_of(m); l++)
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
    if (!m->alphabet) model_write_pages(m, x->seqs, x->counts, x->n);
    for (int i = 0; i < x->n; i++) {
        model_seq *q = x->seqs[i];
        if (m->named && q->known == q->n) q->known += x->counts[i];
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
            m->seqs[i].n = m->seqs[i].furthest = m->seqs[i].known = m->seqs[i].ready = 0;
            CHECK(!attn_seq_begin(m->cache, &m->seqs[i].id, NULL));
            return &m->seqs[i];
        }
    abort();
}

/* A sequence of n settled tokens, of which the cache finds some. The first `alike` are those of `like`. */
static inline model_seq *model_begin_with(model *m, int64_t n, int64_t most, const model_seq *like, int64_t alike)
{
    attn_error err = {""};
    model_seq *s = m->seqs;
    while (s->id) s++;
    s->ready = 0;
    model_grow(m, s, n + 1);
    for (; like && s->ready < alike; s->ready++)
        s->id_of[s->ready] = like->id_of[s->ready], s->attr[s->ready] = like->attr[s->ready];
    model_settle(m, s, n);
    const int32_t *attrs[1] = {s->attr};
    const attn_prefix p = {.size = sizeof p, .n_tokens = n, .most = most, .tokens = s->id_of, .attrs = attrs};
    int64_t hit = -1;
    CHECK_MSG(!attn_seq_begin_with(m->cache, &p, &s->id, &hit, &err), "attn_seq_begin_with: %s", err.text);
    CHECK(hit >= 0 && hit <= (most ? most : n));
    s->n = s->furthest = s->known = hit;
    for (int64_t i = 0; i < hit; i++) s->token[i] = model_number(m, s, n, i);
    model_check(m);
    return s;
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
    model_grow(m, to, s->n + 1);
    for (int64_t i = 0; i < s->n; i++) {
        to->token[i] = s->token[i], to->attr[i] = s->attr[i], to->id_of[i] = m->alphabet ? s->id_of[i] : 0;
        for (uint32_t p = 0; p < m->n_pools; p++) to->page[p][i] = s->page[p][i]; /* more than there are */
    }
    to->n = to->ready = s->n, to->furthest = s->furthest, to->known = s->known;
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
    if (!got) s->n -= r, s->ready = s->n;
    if (s->known > s->n) s->known = s->n;
    model_check(m);
}

/* Is position k kept in this layer, for this KV head or (-1) any? */
static inline bool model_keeps(const model *m, const model_seq *s, uint32_t layer, int64_t g, int64_t k)
{
    int64_t at[64][2];
    const int64_t n = g < 0 ? attn_cache_kept(m->cache, s->id, layer, at, 64)
                            : attn_cache_kept_by_head(m->cache, s->id, layer, (uint32_t)g, at, 64);
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

/* Pages and bytes of the cache against those counted here. */
static inline void model_check_bytes(const model *m)
{
    int64_t pages, shared;
    if (m->alphabet) return;
    const uint64_t bytes = model_bytes(m, &pages, &shared);
    const attn_cache_stats s = model_stats(m);
    CHECK_MSG(s.bytes == bytes && s.pages == pages && s.pages_shared == shared,
              "%llu bytes in %lld pages, %lld shared; not %llu in %lld, %lld", (unsigned long long)s.bytes,
              (long long)s.pages, (long long)s.pages_shared, (unsigned long long)bytes, (long long)pages,
              (long long)shared);
}

#endif
