/* paged.c - a step over a KV cache. The history is put there without attending, in pieces; its rows are those of the problem's tensors. */
#include "tools/common/paged.h"
#include <stdlib.h>
#include <string.h>

enum { PIECE = 4096 };

/* ---- steps ------------------------------------------------------------------------------------------------------------------------ */

/* The new tokens' values, sequence after sequence: `n` of each from its token `first`. */
static bool gather_attrs(paged *x, int64_t first, int64_t n, tool_error *err)
{
    const problem *p = x->call->problem;
    for (uint32_t a = 0; a < p->module->n_attrs; a++) {
        free(x->attrs[a]);
        x->attrs[a] = calloc((size_t)(n * p->n_seqs) + 1, sizeof **x->attrs);
        if (!x->attrs[a]) return tool_fail(err, "out of memory");
        for (uint32_t s = 0; s < p->n_seqs; s++)
            memcpy(x->attrs[a] + s * n, p->k_attrs[a] + s * p->k_lens[s] + first, (size_t)n * sizeof **x->attrs);
    }
    return true;
}

static bool begin(paged *x, int64_t first, int64_t n, tool_error *err)
{
    const problem *p = x->call->problem;
    attn_error e = {""};
    if (!gather_attrs(x, first, n, err)) return false;
    for (uint32_t s = 0; s < p->n_seqs; s++)
        x->counts[s] = n;
    const attn_step_config config = {.size = sizeof config,
                                     .n_seqs = p->n_seqs,
                                     .seqs = x->ids,
                                     .counts = x->counts,
                                     .attrs = (const int32_t *const *)x->attrs};
    return call_check(attn_step_begin(x->cache, &config, &e), &e, err);
}

/* Tokens first .. first + n - 1 of each sequence of a tensor [batch, tokens, heads, dim]. */
static DLTensor tokens_of(const problem *p, const tensor *t, int64_t first, int64_t n, int64_t *shape, int64_t *strides)
{
    DLTensor d = tensor_describe(t, t->stored, p->kind->dtype, false, shape);
    strides[3] = 1;
    for (int i = 2; i >= 0; i--)
        strides[i] = strides[i + 1] * t->extent[i + 1];
    shape[1] = n;
    d.strides = strides;
    d.byte_offset = (uint64_t)(first * strides[1]) * (p->kind->dtype == ATTN_F32 ? 4 : 2);
    return d;
}

static bool keep_keys(paged *x, int64_t first, int64_t n, tool_error *err)
{
    const problem *p = x->call->problem;
    int64_t shapes[2][4], strides[2][4];
    attn_error e = {""};
    DLTensor k = tokens_of(p, &p->k, first, n, shapes[0], strides[0]), v = tokens_of(p, &p->v, first, n, shapes[1], strides[1]);
    const attn_tensors t = {.size = sizeof t, .k = &k, .v = p->kind->flags & ATTN_KIND_K_IS_V ? NULL : &v};
    return call_check(attn_step_layer(x->cache, p->layer, &t, x->call->pool, &e), &e, err);
}

static int64_t history_of(const problem *p) { return p->k_lens[0] - p->q_lens[0]; }

static bool fill(paged *x, tool_error *err)
{
    const int64_t history = history_of(x->call->problem);
    attn_error e = {""};
    for (int64_t first = 0, n; first < history; first += n) {
        n = history - first < PIECE ? history - first : PIECE;
        if (!begin(x, first, n, err) || !keep_keys(x, first, n, err)) return false;
        if (!call_check(attn_step_end(x->cache, &e), &e, err)) return false;
    }
    return true;
}

bool paged_open(paged *x, attn_module *m, call *c, uint32_t page_tokens, int32_t isa, tool_error *err)
{
    const problem *p = c->problem;
    attn_error e = {""};
    *x = (paged){.call = c};
    const attn_cache_config config = {.size = sizeof config,
                                      .page_tokens = page_tokens,
                                      .workers = attn_pool_threads(c->pool),
                                      .isa = isa,
                                      .inputs = p->module->n_inputs ? c->input_list : NULL,
                                      .n_layers = 1,
                                      .layers = &p->layer};
    x->ids = calloc(p->n_seqs + 1u, sizeof *x->ids);
    x->counts = calloc(p->n_seqs + 1u, sizeof *x->counts);
    x->attrs = calloc(p->module->n_attrs + 1u, sizeof *x->attrs);
    if (!x->ids || !x->counts || !x->attrs) return tool_fail(err, "out of memory");
    if (!call_check(attn_cache_create(m, &config, &x->cache, &e), &e, err)) return false;
    for (uint32_t s = 0; s < p->n_seqs; s++)
        if (!call_check(attn_seq_begin(x->cache, &x->ids[s], &e), &e, err)) return false;
    return fill(x, err);
}

bool paged_begin(paged *x, tool_error *err)
{
    const problem *p = x->call->problem;
    return begin(x, history_of(p), p->q_lens[0], err);
}

bool paged_run(paged *x, tool_error *err)
{
    const problem *p = x->call->problem;
    int64_t shapes[5][4], strides[2][4];
    attn_error e = {""};
    tensor like_o = call_result_like(&p->q, p->kind->dim_v), like_lse = p->q;
    like_lse.rank--;
    DLTensor q = tensor_describe(&p->q, p->q.stored, p->kind->dtype, false, shapes[0]);
    DLTensor k = tokens_of(p, &p->k, history_of(p), p->q_lens[0], shapes[1], strides[0]);
    DLTensor v = tokens_of(p, &p->v, history_of(p), p->q_lens[0], shapes[2], strides[1]);
    DLTensor o = tensor_describe(&like_o, x->call->out, ATTN_F32, false, shapes[3]);
    DLTensor lse = tensor_describe(&like_lse, x->call->lse, ATTN_F32, false, shapes[4]);
    const attn_tensors t = {.size = sizeof t,
                            .q = &q,
                            .k = &k,
                            .v = p->kind->flags & ATTN_KIND_K_IS_V ? NULL : &v,
                            .o = &o,
                            .lse = &lse,
                            .inputs = p->module->n_inputs ? x->call->input_list : NULL};
    return call_check(attn_step_layer(x->cache, p->layer, &t, x->call->pool, &e), &e, err);
}

void paged_cancel(paged *x) { attn_step_cancel(x->cache); }

void paged_close(paged *x)
{
    attn_cache_destroy(x->cache);
    for (uint32_t a = 0; x->attrs && a < x->call->problem->module->n_attrs; a++)
        free(x->attrs[a]);
    free(x->ids), free(x->counts), free(x->attrs);
    *x = (paged){0};
}

/* ---- what is read ------------------------------------------------------------------------------------------------------------------ */

/* Marks the keys that the queries of a sequence may see by the closed form of the mask; comparisons of data may hold anywhere. */
static bool mark(const problem *p, uint32_t head, const void **inputs, uint8_t *marks, tool_error *err)
{
    const attn_kind_desc *d = p->kind;
    const int64_t n = p->k_lens[0];
    attn_range_args a = {.size = sizeof a, .q0 = n - p->q_lens[0], .q1 = n - 1, .h = head, .layer = p->layer, .inputs = inputs};
    a.g = head / (d->q_heads / d->kv_heads);
    int64_t *ranges = calloc(3 * ((size_t)d->n_may + d->n_must) + 1, sizeof *ranges);
    if (!ranges) return tool_fail(err, "out of memory");
    d->ranges(&a, ranges);
    for (uint32_t i = 0; i < d->n_may; i++) {
        const int64_t *r = ranges + 3 * (size_t)i, step = r[2];
        for (int64_t k = r[0] < 0 ? r[0] % step + (r[0] % step < 0 ? step : 0) : r[0]; k <= r[1] && k < n; k += step)
            marks[k] = 1;
    }
    free(ranges);
    return true;
}

bool paged_count_keys(const problem *p, int64_t *keys, tool_error *err)
{
    const attn_kind_desc *d = p->kind;
    const uint32_t group = d->q_heads / d->kv_heads;
    uint8_t *marks = calloc((size_t)p->k_lens[0] + 1, 1);
    const void **inputs = calloc(p->module->n_inputs + 1u, sizeof *inputs);
    bool ok = marks && inputs ? true : tool_fail(err, "out of memory");
    *keys = 0;
    for (uint32_t i = 0; ok && i < p->module->n_inputs; i++)
        inputs[i] = p->inputs[i].stored;
    for (uint32_t g = 0; ok && g < d->kv_heads; g++) {
        memset(marks, 0, (size_t)p->k_lens[0]);
        for (uint32_t h = g * group; ok && h < (g + 1) * group; h++)
            ok = mark(p, h, inputs, marks, err);
        for (int64_t k = 0; ok && k < p->k_lens[0]; k++)
            *keys += marks[k] * (int64_t)p->n_seqs;
    }
    free(marks), free(inputs);
    return ok;
}
