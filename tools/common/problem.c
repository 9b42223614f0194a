/* problem.c - everything a run reads: from files, or made at random from a seed. */
#define _POSIX_C_SOURCE 200809L
#include "tools/common/problem.h"
#include "tools/common/half.h"
#include "tools/common/npy.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors ------------------------------------------------------------------------------------------------------------------ */

/* Aligned to a line of the cache, as what makes tensors for others does it: else each vector of a row lies in two. free() frees. */
static void *zeros(size_t n, size_t size)
{
    enum { LINE = 64 };
    void *p;
    return posix_memalign(&p, LINE, n * size) ? NULL : memset(p, 0, n * size);
}

bool tensor_create(tensor *t, const int64_t *extent, uint32_t rank, uint32_t dtype, tool_error *err)
{
    *t = (tensor){.rank = rank, .count = 1};
    for (uint32_t i = 0; i < rank; i++) {
        t->extent[i] = extent[i];
        if (extent[i] && t->count > ((int64_t)1 << 40) / extent[i]) return tool_fail(err, "a tensor is too large");
        t->count *= extent[i];
    }
    t->values = zeros((size_t)t->count + 1, sizeof(float));
    t->stored = dtype == ATTN_F32 ? t->values : zeros((size_t)t->count + 1, sizeof(uint16_t));
    return (t->values && t->stored) || tool_fail(err, "out of memory");
}

static void tensor_free(tensor *t)
{
    if (t->stored != t->values) free(t->stored);
    free(t->values);
    *t = (tensor){0};
}

/* Rounds the values to the storage type, and keeps both forms. */
static void tensor_round(tensor *t, uint32_t dtype)
{
    uint16_t *half = t->stored;
    for (int64_t i = 0; i < t->count && dtype != ATTN_F32; i++) {
        half[i] = dtype == ATTN_F16 ? half_to_f16(t->values[i]) : half_to_bf16(t->values[i]);
        t->values[i] = dtype == ATTN_F16 ? half_from_f16(half[i]) : half_from_bf16(half[i]);
    }
}

DLTensor tensor_describe(const tensor *t, void *data, uint32_t dtype, bool is_int, int64_t *shape)
{
    memcpy(shape, t->extent, sizeof t->extent);
    DLDataType type = {is_int ? kDLInt : dtype == ATTN_BF16 ? kDLBfloat : kDLFloat, dtype == ATTN_F32 ? 32 : 16, 1};
    return (DLTensor){.data = data, .device = {kDLCPU, 0}, .ndim = (int32_t)t->rank, .dtype = type, .shape = shape};
}

void tensor_store_by_head(DLTensor *d, int64_t *strides)
{
    enum { TOKENS = 1, HEADS = 2 };
    int64_t row = d->ndim > HEADS + 1 ? d->shape[HEADS + 1] : 1; /* the log-sum-exp has no dim */
    strides[HEADS + 1] = 1;
    strides[TOKENS] = row;
    strides[HEADS] = row * d->shape[TOKENS];
    strides[0] = strides[HEADS] * d->shape[HEADS];
    d->strides = strides;
}

/* ---- random ------------------------------------------------------------------------------------------------------------------- */

static uint64_t random_bits(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static double random_unit(uint64_t *state) { return (double)(random_bits(state) >> 11) * 0x1p-53; }

static float random_normal(uint64_t *state)
{
    double radius = sqrt(-2 * log(1 - random_unit(state)));
    return (float)(radius * cos(6.283185307179586 * random_unit(state)));
}

static void random_tensor(tensor *t, uint64_t *state)
{
    for (int64_t i = 0; i < t->count; i++)
        t->values[i] = random_normal(state);
}

/* Groups of tokens with rising numbers, as documents or images have them, and tokens without a group between them. */
static void random_attr(int32_t *out, int64_t n, uint64_t *state)
{
    int32_t id = 0;
    for (int64_t i = 0; i < n;) {
        int64_t length = 1 + (int64_t)(random_bits(state) % (uint64_t)(n / 4 + 2));
        bool none = random_bits(state) % 4 == 0;
        for (int64_t j = 0; j < length && i < n; j++)
            out[i++] = none ? -1 : id;
        id += !none;
    }
}

/* ---- q, k, v ------------------------------------------------------------------------------------------------------------------- */

static bool expect(const char *name, const npy_array *a, uint32_t rank, int64_t heads, int64_t dim, tool_error *err)
{
    if (a->rank != rank)
        return tool_fail(err, "'%s' has %u dimensions instead of %u: %s", name, a->rank, rank,
                         rank == 3 ? "[all tokens, heads, dim] with --lengths" : "[batch, tokens, heads, dim] without --lengths");
    if (a->extent[rank - 2] == heads && a->extent[rank - 1] == dim) return true;
    return tool_fail(err, "'%s' has heads x dim %" PRId64 " x %" PRId64 "; the layer has %" PRId64 " x %" PRId64, name,
                     a->extent[rank - 2], a->extent[rank - 1], heads, dim);
}

static bool load_tensor(problem *p, tensor *t, const char *path, int64_t heads, int64_t dim, tool_error *err)
{
    npy_array a;
    if (!npy_read(path, &a, err)) return false;
    bool ok = npy_make_f32(path, &a, err) && expect(path, &a, p->packed ? 3 : 4, heads, dim, err) &&
              tensor_create(t, a.extent, a.rank, p->kind->dtype, err);
    if (ok) memcpy(t->values, a.f32, (size_t)a.count * sizeof(float));
    if (ok) tensor_round(t, p->kind->dtype);
    npy_free(&a);
    return ok;
}

static bool values_are_keys(const problem *p) { return p->kind->flags & ATTN_KIND_K_IS_V; }

/* The first dim_v elements of each key. */
static bool take_values(problem *p, tool_error *err)
{
    const attn_kind_desc *d = p->kind;
    int64_t extent[4];
    memcpy(extent, p->k.extent, sizeof extent);
    extent[p->k.rank - 1] = d->dim_v;
    if (!tensor_create(&p->v, extent, p->k.rank, d->dtype, err)) return false;
    for (int64_t i = 0; i < p->v.count; i++)
        p->v.values[i] = p->k.values[i / d->dim_v * d->dim + i % d->dim_v];
    tensor_round(&p->v, d->dtype);
    return true;
}

static bool load_values(problem *p, const problem_source *o, tool_error *err)
{
    if (values_are_keys(p)) return o->v ? tool_fail(err, "--v: the values of '%s' are its keys (kv k_is_v)", p->kind->name) : take_values(p, err);
    return o->v ? load_tensor(p, &p->v, o->v, p->kind->kv_heads, p->kind->dim_v, err) : tool_fail(err, "--v is needed");
}

static bool load_tensors(problem *p, const problem_source *o, tool_error *err)
{
    const attn_kind_desc *d = p->kind;
    return load_tensor(p, &p->q, o->q, d->q_heads, d->dim, err) && load_tensor(p, &p->k, o->k, d->kv_heads, d->dim, err) &&
           load_values(p, o, err);
}

static bool make_tensors(problem *p, const problem_source *o, uint64_t *state, tool_error *err)
{
    const attn_kind_desc *d = p->kind;
    tensor *const list[3] = {&p->q, &p->k, &p->v};
    const int64_t heads[3] = {d->q_heads, d->kv_heads, d->kv_heads}, dim[3] = {d->dim, d->dim, d->dim_v};
    for (int i = 0; i < (values_are_keys(p) ? 2 : 3); i++) {
        int64_t extent[4] = {o->batch, i ? o->k_tokens : o->q_tokens, heads[i], dim[i]};
        if (!tensor_create(list[i], extent, 4, d->dtype, err)) return false;
        random_tensor(list[i], state);
        tensor_round(list[i], d->dtype);
    }
    return !values_are_keys(p) || take_values(p, err);
}

/* ---- lengths ------------------------------------------------------------------------------------------------------------------- */

static bool find_lengths(problem *p, const problem_source *o, tool_error *err)
{
    p->n_seqs = p->packed ? (uint32_t)o->n_lengths : (uint32_t)p->q.extent[0];
    p->q_lens = calloc(p->n_seqs + 1u, sizeof(int64_t));
    p->k_lens = calloc(p->n_seqs + 1u, sizeof(int64_t));
    if (!p->q_lens || !p->k_lens) return tool_fail(err, "out of memory");
    for (uint32_t i = 0; i < p->n_seqs; i++) {
        p->q_lens[i] = p->packed ? o->lengths[i] : p->q.extent[1];
        p->k_lens[i] = p->packed ? o->lengths[i] : p->k.extent[1];
        p->total_q += p->q_lens[i];
        p->total_k += p->k_lens[i];
    }
    return true;
}

static bool check_lengths(const problem *p, tool_error *err)
{
    const int64_t *q = p->q.extent, *k = p->k.extent, *v = p->v.extent;
    if (p->packed && (q[0] != p->total_q || k[0] != p->total_k || v[0] != p->total_k))
        return tool_fail(err, "--lengths adds up to %" PRId64 " tokens; q, k, v have %" PRId64 ", %" PRId64 ", %" PRId64, p->total_q,
                         q[0], k[0], v[0]);
    if (p->packed) return true;
    if (k[0] != q[0] || v[0] != q[0])
        return tool_fail(err, "q, k, v have batches of %" PRId64 ", %" PRId64 ", %" PRId64, q[0], k[0], v[0]);
    if (k[1] != v[1]) return tool_fail(err, "k has %" PRId64 " tokens, v %" PRId64, k[1], v[1]);
    if (k[1] < q[1])
        return tool_fail(err, "q has %" PRId64 " tokens, k only %" PRId64 "; queries are the last tokens of a sequence", q[1], k[1]);
    return true;
}

/* ---- attributes ------------------------------------------------------------------------------------------------------------------ */

static const char *find_file(const named_file *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i].name, name)) return list[i].file;
    return NULL;
}

/* Reads the values of all keys: [tokens] serves every sequence of a batch. */
static bool load_attr(const problem *p, const char *path, int32_t *out, tool_error *err)
{
    npy_array a;
    if (!npy_read(path, &a, err)) return false;
    int64_t each = p->packed ? p->total_k : p->k.extent[1];
    bool shared = a.rank == 1 && a.extent[0] == each, own = a.rank == 2 && a.extent[0] * a.extent[1] == p->total_k &&
                                                              (p->packed ? a.extent[0] == 1 : a.extent[1] == each);
    bool ok = npy_make_i32(path, &a, err);
    if (ok && !shared && !own)
        ok = tool_fail(err, "'%s' must hold a number per token: [%" PRId64 "]%s", path, each, p->packed ? "" : " or [batch, tokens]");
    for (int64_t i = 0; ok && i < p->total_k; i++)
        out[i] = a.i32[shared && each ? i % each : i];
    npy_free(&a);
    return ok;
}

/* Queries are the last tokens of their sequences. */
static void take_last(const problem *p, const int32_t *keys, int32_t *queries)
{
    for (uint32_t s = 0; s < p->n_seqs; s++) {
        memcpy(queries, keys + p->k_lens[s] - p->q_lens[s], (size_t)p->q_lens[s] * sizeof *queries);
        queries += p->q_lens[s];
        keys += p->k_lens[s];
    }
}

static bool fill_attr(problem *p, const problem_source *o, uint32_t i, uint64_t *state, tool_error *err)
{
    const char *name = p->module->attrs[i], *path = find_file(o->attrs, o->n_attrs, name);
    p->q_attrs[i] = calloc((size_t)p->total_q + 1, sizeof(int32_t));
    p->k_attrs[i] = calloc((size_t)p->total_k + 1, sizeof(int32_t));
    if (!p->q_attrs[i] || !p->k_attrs[i]) return tool_fail(err, "out of memory");
    if (path && !load_attr(p, path, p->k_attrs[i], err)) return false;
    if (!path && !o->random) return tool_fail(err, "the module reads the attribute %s: --attr %s=FILE.npy", name, name);
    for (int64_t s = 0, at = 0; !path && s < p->n_seqs; at += p->k_lens[s++])
        random_attr(p->k_attrs[i] + at, p->k_lens[s], state);
    take_last(p, p->k_attrs[i], p->q_attrs[i]);
    return true;
}

static bool has_name(const char *const *names, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(names[i], name)) return true;
    return false;
}

static bool fill_attrs(problem *p, const problem_source *o, uint64_t *state, tool_error *err)
{
    uint32_t n = p->module->n_attrs;
    for (size_t i = 0; i < o->n_attrs; i++)
        if (!has_name(p->module->attrs, n, o->attrs[i].name))
            return tool_fail(err, "--attr %s: the module has no such attribute", o->attrs[i].name);
    p->q_attrs = calloc(n + 1u, sizeof *p->q_attrs);
    p->k_attrs = calloc(n + 1u, sizeof *p->k_attrs);
    if (!p->q_attrs || !p->k_attrs) return tool_fail(err, "out of memory");
    for (uint32_t i = 0; i < n; i++)
        if (!fill_attr(p, o, i, state, err)) return false;
    return true;
}

/* ---- inputs ------------------------------------------------------------------------------------------------------------------------ */

static bool load_input(const attn_input_desc *d, const char *path, tensor *t, tool_error *err)
{
    npy_array a;
    if (!npy_read(path, &a, err)) return false;
    bool fits = a.rank == d->rank;
    for (uint32_t i = 0; fits && i < d->rank; i++)
        fits = a.extent[i] == d->extent[i];
    bool ok = fits || tool_fail(err, "'%s' has another shape than the input %s", path, d->name);
    ok = ok && (d->is_int ? npy_make_i32(path, &a, err) : npy_make_f32(path, &a, err));
    for (int64_t i = 0; ok && i < t->count; i++) {
        t->values[i] = d->is_int ? (float)a.i32[i] : a.f32[i];
        if (d->is_int) ((int32_t *)t->stored)[i] = a.i32[i];
    }
    npy_free(&a);
    return ok;
}

/* Normal numbers; a table that a mask asks gets zeros and ones, so that some blocks are seen and some are not. */
static void random_input(const problem *p, const attn_input_desc *d, tensor *t, uint64_t *state)
{
    bool mask = d->rank > 1 && p->kind->flags & ATTN_KIND_MASK_INPUTS;
    for (int64_t i = 0; i < t->count; i++) {
        uint64_t bits = random_bits(state);
        if (d->is_int)
            ((int32_t *)t->stored)[i] = (int32_t)(bits % 8), t->values[i] = (float)(bits % 8);
        else
            t->values[i] = mask ? (float)(bits & 1) : random_normal(state);
    }
}

static bool fill_input(problem *p, const problem_source *o, uint32_t i, uint64_t *state, tool_error *err)
{
    const attn_input_desc *d = p->module->inputs[i];
    tensor *t = &p->inputs[i];
    const char *path = find_file(o->inputs, o->n_inputs, d->name);
    if (!tensor_create(t, d->extent, d->rank, ATTN_F32, err)) return false;
    if (d->is_int && !(t->stored = calloc((size_t)t->count + 1, sizeof(int32_t)))) return tool_fail(err, "out of memory");
    if (path) return load_input(d, path, t, err);
    if (!o->random) return tool_fail(err, "the module reads the input %s: --input %s=FILE.npy", d->name, d->name);
    random_input(p, d, t, state);
    return true;
}

static bool fill_inputs(problem *p, const problem_source *o, uint64_t *state, tool_error *err)
{
    uint32_t n = p->module->n_inputs;
    for (size_t i = 0; i < o->n_inputs; i++) {
        bool known = false;
        for (uint32_t j = 0; j < n; j++)
            known |= !strcmp(p->module->inputs[j]->name, o->inputs[i].name);
        if (!known) return tool_fail(err, "--input %s: the module has no such input", o->inputs[i].name);
    }
    p->inputs = calloc(n + 1u, sizeof *p->inputs);
    if (!p->inputs) return tool_fail(err, "out of memory");
    for (uint32_t i = 0; i < n; i++)
        if (!fill_input(p, o, i, state, err)) return false;
    return true;
}

/* ---- names -------------------------------------------------------------------------------------------------------------------------- */

bool problem_name_file(const char *option, char *text, named_file *list, size_t *n, tool_error *err)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1]) return tool_fail(err, "%s needs NAME=FILE.npy, not '%s'", option, text);
    if (*n == PROBLEM_MAX_NAMED) return tool_fail(err, "more than %d times %s", PROBLEM_MAX_NAMED, option);
    *equals = 0;
    for (size_t i = 0; i < *n; i++)
        if (!strcmp(list[i].name, text)) return tool_fail(err, "%s %s is given twice", option, text);
    list[(*n)++] = (named_file){text, equals + 1};
    return true;
}

/* ---- all of it ----------------------------------------------------------------------------------------------------------------------- */

bool problem_load(problem *p, const attn_module_desc *m, const problem_source *o, tool_error *err)
{
    *p = (problem){.module = m, .packed = o->lengths != NULL, .by_head = o->by_head};
    if (o->layer >= m->n_layers) return tool_fail(err, "--layer %" PRId64 ": the model has layers 0 to %u", o->layer, m->n_layers - 1);
    p->layer = (uint32_t)o->layer;
    p->kind = m->kinds[m->schedule[p->layer]];
    uint64_t state = (uint64_t)o->seed;
    return (o->random ? make_tensors(p, o, &state, err) : load_tensors(p, o, err)) && find_lengths(p, o, err) &&
           check_lengths(p, err) && fill_attrs(p, o, &state, err) && fill_inputs(p, o, &state, err);
}

void problem_free(problem *p)
{
    tensor_free(&p->q), tensor_free(&p->k), tensor_free(&p->v);
    for (uint32_t i = 0; p->module && i < p->module->n_attrs; i++) {
        if (p->q_attrs) free(p->q_attrs[i]);
        if (p->k_attrs) free(p->k_attrs[i]);
    }
    for (uint32_t i = 0; p->inputs && i < p->module->n_inputs; i++)
        tensor_free(&p->inputs[i]);
    free(p->q_attrs), free(p->k_attrs), free(p->inputs), free(p->q_lens), free(p->k_lens);
    *p = (problem){0};
}

size_t problem_row_bytes(const attn_kind_desc *d, uint32_t dim)
{
    if (d->kv_format == ATTN_KV_INT8) return dim + (d->kv_group ? dim / d->kv_group : 1) * sizeof(float);
    return dim * (size_t)(d->dtype == ATTN_F32 ? 4 : 2);
}
