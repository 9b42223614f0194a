/* attention.c - attention over the KV cache of attn/cache.h, which is derived from the kernels' own masks. */
#include "attention.h"

#include <attn/cache.h>
#include <stdlib.h>

enum { RANK = 3 }; /* [tokens, heads, dim] */

struct attention {
    const attn_module_desc *kernels;
    attn_module *module;
    attn_pool *pool; /* NULL with one thread */
    attn_cache *cache;
    int64_t tokens; /* of the open step */
    bool share;
    int32_t *ids; /* of tokens, as the cache wants them */
    int64_t ids_room;
    DLTensor sinks;
    int64_t sinks_shape[2];
    const DLTensor *inputs[1];
};

static bool check(attn_status status, const attn_error *err, failure *f)
{
    return status == ATTN_OK || fail(f, "%s: %s", attn_status_text(status), err->text);
}

static DLTensor describe(float *data, int64_t *shape, int rank)
{
    return (DLTensor){.data = data, .device = {kDLCPU, 0}, .ndim = rank, .dtype = {kDLFloat, 32, 1}, .shape = shape};
}

/* ---- opening and closing -------------------------------------------------------------------------------------------
 */

static bool open_cache(attention *a, const attention_options *o, failure *f)
{
    attn_error err = {""};
    attn_cache_config config = {.size = sizeof config,
                                .budget = o->budget,
                                .page_tokens = o->page_tokens,
                                .rollback = o->rollback,
                                .workers = o->threads,
                                .isa = -1,
                                .prefix_bytes = o->share ? UINT64_MAX : 0};
    if (o->sinks) {
        a->sinks_shape[0] = a->kernels->n_layers;
        a->sinks_shape[1] = a->kernels->kinds[0]->q_heads;
        a->sinks = describe(o->sinks, a->sinks_shape, 2);
        a->inputs[0] = &a->sinks;
        config.inputs = a->inputs;
    }
    return check(attn_cache_create(a->module, &config, &a->cache, &err), &err, f);
}

static bool open_all(attention *a, const attention_options *o, failure *f)
{
    attn_error err = {""};
    if (!check(attn_module_open(a->kernels, NULL, &a->module, &err), &err, f)) return false;
    if (o->threads > 1 && !check(attn_pool_create(o->threads, NULL, &a->pool, &err), &err, f)) return false;
    return open_cache(a, o, f);
}

bool attention_open(const attn_module_desc *kernels, const attention_options *o, attention **out, failure *f)
{
    attention *a = *out = calloc(1, sizeof *a);
    if (!a) return fail(f, "out of memory");
    a->kernels = kernels;
    a->share = o->share;
    if (open_all(a, o, f)) return true;
    attention_close(a);
    *out = NULL;
    return false;
}

void attention_close(attention *a)
{
    if (!a) return;
    free(a->ids);
    attn_cache_destroy(a->cache);
    attn_pool_destroy(a->pool);
    attn_module_destroy(a->module);
    free(a);
}

/* ---- sequences -----------------------------------------------------------------------------------------------------
 */

bool attention_begin(attention *a, attention_sequence *out, failure *f)
{
    attn_error err = {""};
    return check(attn_seq_begin(a->cache, out, &err), &err, f);
}

static bool name_tokens(attention *a, const uint8_t *tokens, int64_t n, failure *f)
{
    if (n > a->ids_room) {
        int32_t *ids = realloc(a->ids, (size_t)n * sizeof *ids);
        if (!ids) return fail(f, "out of memory");
        a->ids = ids;
        a->ids_room = n;
    }
    for (int64_t i = 0; i < n; i++) a->ids[i] = tokens[i];
    return true;
}

bool attention_begin_with(attention *a, const uint8_t *tokens, int64_t n, attention_sequence *out, int64_t *found,
                          failure *f)
{
    attn_error err = {""};
    if (!name_tokens(a, tokens, n, f)) return false;
    const attn_prefix prefix = {.size = sizeof prefix, .n_tokens = n - 1, .tokens = a->ids};
    return check(attn_seq_begin_with(a->cache, &prefix, out, found, &err), &err, f);
}

bool attention_fork(attention *a, attention_sequence from, attention_sequence *out, failure *f)
{
    attn_error err = {""};
    return check(attn_seq_fork(a->cache, from, out, &err), &err, f);
}

bool attention_rollback(attention *a, attention_sequence s, int64_t tokens, failure *f)
{
    attn_error err = {""};
    return check(attn_seq_rollback(a->cache, s, tokens, &err), &err, f);
}

bool attention_end(attention *a, attention_sequence s, failure *f)
{
    attn_error err = {""};
    return check(attn_seq_end(a->cache, s, &err), &err, f);
}

/* ---- steps ---------------------------------------------------------------------------------------------------------
 */

bool attention_step(attention *a, uint32_t n, const attention_sequence *sequences, const int64_t *counts,
                    const uint8_t *tokens, failure *f)
{
    attn_error err = {""};
    attn_step_config config = {.size = sizeof config, .n_seqs = n, .seqs = sequences, .counts = counts};
    a->tokens = 0;
    for (uint32_t i = 0; i < n; i++) a->tokens += counts[i];
    if (a->share && !name_tokens(a, tokens, a->tokens, f)) return false;
    if (a->share) config.tokens = a->ids;
    return check(attn_step_begin(a->cache, &config, &err), &err, f);
}

bool attention_layer(attention *a, uint32_t layer, float *q, float *k, float *v, float *o, failure *f)
{
    attn_error err = {""};
    const attn_kind_desc *kind = a->kernels->kinds[a->kernels->schedule[layer]];
    int64_t q_shape[RANK] = {a->tokens, kind->q_heads, kind->dim},
            k_shape[RANK] = {a->tokens, kind->kv_heads, kind->dim};
    DLTensor tq = describe(q, q_shape, RANK), tk = describe(k, k_shape, RANK);
    DLTensor tv = describe(v, k_shape, RANK), to = describe(o, q_shape, RANK);
    attn_tensors tensors = {.size = sizeof tensors, .q = &tq, .k = &tk, .v = &tv, .o = &to};
    return check(attn_step_layer(a->cache, layer, &tensors, a->pool, &err), &err, f);
}

bool attention_step_end(attention *a, failure *f)
{
    attn_error err = {""};
    return check(attn_step_end(a->cache, &err), &err, f);
}

void attention_step_cancel(attention *a) { attn_step_cancel(a->cache); }

bool attention_get_stats(const attention *a, attention_stats *out, failure *f)
{
    attn_cache_stats s = {.size = sizeof s};
    attn_status status = attn_cache_get_stats(a->cache, &s);
    *out = (attention_stats){.bytes = s.bytes, .bytes_full = s.bytes_full};
    return status == ATTN_OK || fail(f, "%s", attn_status_text(status));
}
