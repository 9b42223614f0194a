/* cached.c - texts through a KV cache. */
#include "tests/e2e/cached.h"
#include "tools/common/half.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool fail(const char *what, const char *why)
{
    printf("%s: %s\n  in: %s\n", what, why, e2e_get_note());
    return false;
}

static bool check(const cached *x, const char *what)
{
    const char *wrong = attn_cache_check(x->cache);
    return !wrong || fail(what, wrong);
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static const attn_module_desc *describe(const cached *x) { return attn_module_describe(x->m->loaded); }

static void make_input(cached *x, uint32_t i, unsigned long long *seed)
{
    const attn_input_desc *d = describe(x)->inputs[i];
    int64_t n = 1;
    for (uint32_t r = 0; r < d->rank; r++) n *= d->extent[r];
    x->inputs[i] = calloc((size_t)n + 1, sizeof(double));
    float *values = calloc((size_t)n + 1, sizeof(float));
    for (int64_t j = 0; j < n; j++) {
        x->inputs[i][j] = d->is_int ? (double)e2e_below(seed, 40) : (double)(float)e2e_uniform(seed);
        if (d->is_int)
            ((int32_t *)(void *)values)[j] = (int32_t)x->inputs[i][j];
        else
            values[j] = (float)x->inputs[i][j];
    }
    x->input_data[i] = values;
    x->input_dl[i] = (DLTensor){.data = values,
                                .device = {kDLCPU, 0},
                                .ndim = (int32_t)d->rank,
                                .dtype = {d->is_int ? kDLInt : kDLFloat, 32, 1},
                                .shape = (int64_t *)(uintptr_t)d->extent};
    x->input_list[i] = &x->input_dl[i];
}

bool cached_open(cached *x, const e2e_module *m, attn_cache_config config, unsigned long long seed)
{
    *x = (cached){.m = m, .n_layers = config.n_layers};
    const attn_module_desc *d = describe(x);
    attn_error err;
    if (!x->n_layers) x->n_layers = d->n_layers;
    ATTNC_CHECK(x->n_layers <= CACHED_LAYERS && d->n_inputs <= E2E_MAX_NAMED);
    for (uint32_t i = 0; i < x->n_layers; i++) x->layers[i] = config.n_layers ? config.layers[i] : i;
    for (uint32_t i = 0; i < d->n_inputs; i++) make_input(x, i, &seed);
    config.size = sizeof config;
    config.poison = config.page_tokens <= 1024; /* larger ones are not touched for nothing */
    config.inputs = d->n_inputs ? x->input_list : NULL;
    if (attn_cache_create(m->loaded, &config, &x->cache, &err)) return fail("attn_cache_create", err.text);
    if (config.workers > 1 && attn_pool_create(config.workers, NULL, &x->pool, &err))
        return fail("attn_pool_create", err.text);
    return true;
}

static void free_calls(const cached *x, cached_text *t)
{
    for (uint32_t i = 0; i < x->n_layers; i++)
        if (t->call[i].arena) e2e_call_free(&t->call[i]);
}

void cached_close(cached *x)
{
    for (size_t i = 0; i < CACHED_TEXTS; i++) free_calls(x, &x->texts[i]);
    for (size_t i = 0; i < E2E_MAX_NAMED; i++) free(x->inputs[i]), free(x->input_data[i]);
    attn_cache_destroy(x->cache);
    attn_pool_destroy(x->pool);
    *x = (cached){0};
}

/* ---- texts ----------------------------------------------------------------------------------------------------- */

/* Numbers of groups in runs; every layer sees the same. */
static void fill_attrs(const cached *x, e2e_call *c, unsigned long long seed)
{
    for (uint32_t a = 0; a < describe(x)->n_attrs; a++) {
        int32_t value = (int32_t)e2e_below(&seed, 3) - 1;
        for (int64_t t = 0; t < c->total_q; t++) {
            if (!e2e_below(&seed, 4)) value = (int32_t)e2e_below(&seed, 4) - 1;
            c->q_attrs[a][t] = c->k_attrs[a][t] = value;
        }
    }
}

static bool is_shared(const attn_kind_desc *d) { return d->flags & ATTN_KIND_KV_SHARED; }

/* A layer that reads another's keys and values has the same. */
static void share_keys(const cached *x, cached_text *t)
{
    for (uint32_t i = 0; i < x->n_layers; i++) {
        e2e_call *c = &t->call[i];
        if (!is_shared(c->kind)) continue;
        uint32_t owner = 0;
        while (x->layers[owner] != c->kind->kv_layer) owner++;
        memcpy(c->k, t->call[owner].k, (size_t)c->n_k * sizeof *c->k);
        memcpy(c->v, t->call[owner].v, (size_t)c->n_v * sizeof *c->v);
    }
}

static cached_text *make_text(cached *x, int64_t most, unsigned long long seed)
{
    cached_text *t = x->texts;
    while (t < x->texts + CACHED_TEXTS && t->id) t++;
    ATTNC_CHECK(t < x->texts + CACHED_TEXTS);
    free_calls(x, t);
    for (uint32_t i = 0; i < x->n_layers; i++) {
        unsigned long long values = seed + i;
        e2e_call *c = &t->call[i];
        e2e_call_init(c, x->m, x->layers[i], 1, &most, NULL, NULL);
        e2e_fill(c, &values, 1);
        c->lens = ARENA_ARRAY(c->arena, int64_t, (size_t)most + 1);
        fill_attrs(x, c, seed);
        for (uint32_t j = 0; j < describe(x)->n_inputs; j++)
            memcpy(c->inputs[j], x->inputs[j], (size_t)e2e_input_count(c, j) * sizeof(double));
    }
    share_keys(x, t);
    t->n = 0;
    return t;
}

cached_text *cached_begin(cached *x, int64_t most, unsigned long long seed)
{
    cached_text *t = make_text(x, most, seed);
    ATTNC_CHECK(!attn_seq_begin(x->cache, &t->id, NULL));
    return t;
}

static void copy(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = from[i];
}

/* The first n tokens, and their results. */
static void copy_tokens(e2e_call *to, const e2e_call *from, int64_t n)
{
    const attn_kind_desc *d = from->kind;
    copy(to->q, from->q, n * d->q_heads * d->dim);
    copy(to->k, from->k, n * d->kv_heads * d->dim);
    copy(to->v, from->v, n * d->kv_heads * d->dim_v);
    copy(to->o, from->o, n * d->q_heads * d->dim_v);
    copy(to->lse, from->lse, n * d->q_heads);
    for (int64_t t = 0; t < n; t++) to->lens[t] = from->lens[t];
    for (size_t a = 0; a < E2E_MAX_NAMED; a++)
        for (int64_t t = 0; t < n && to->q_attrs[a]; t++) to->q_attrs[a][t] = to->k_attrs[a][t] = from->q_attrs[a][t];
}

cached_text *cached_fork(cached *x, const cached_text *from, unsigned long long seed)
{
    attn_error err;
    cached_text *t = make_text(x, from->call[0].total_q, seed);
    for (uint32_t i = 0; i < x->n_layers; i++) copy_tokens(&t->call[i], &from->call[i], from->n);
    if (attn_seq_fork(x->cache, from->id, &t->id, &err)) printf("attn_seq_fork: %s\n", err.text), abort();
    t->n = from->n;
    return check(x, "fork") ? t : NULL;
}

/* The same keys, the same id. */
static int32_t id_of(const cached_text *t, int64_t token)
{
    const e2e_call *c = &t->call[0];
    const int64_t n = (int64_t)c->kind->kv_heads * c->kind->dim;
    uint32_t id = 1, bits;
    for (int64_t i = 0; i < n; i++) {
        memcpy(&bits, &c->k[token * n + i], sizeof bits);
        id = (id ^ bits) * 16777619u;
    }
    return (int32_t)id;
}

cached_text *cached_share(cached *x, const cached_text *like, int64_t alike, int64_t n, int64_t most,
                          unsigned long long seed)
{
    attn_error err;
    ATTNC_CHECK(alike <= like->n);
    cached_text *t = make_text(x, like->call[0].total_q, seed);
    for (uint32_t i = 0; i < x->n_layers; i++) copy_tokens(&t->call[i], &like->call[i], alike);
    int32_t *ids = calloc((size_t)n + 1, sizeof *ids);
    for (int64_t i = 0; i < n; i++) ids[i] = id_of(t, i);
    const attn_prefix p = {.size = sizeof p,
                           .n_tokens = n,
                           .most = most,
                           .tokens = ids,
                           .attrs = (const int32_t *const *)t->call[0].q_attrs};
    const attn_status s = attn_seq_begin_with(x->cache, &p, &t->id, &t->n, &err);
    free(ids);
    if (s) return fail("attn_seq_begin_with", err.text), NULL;
    if (t->n > alike) return fail("attn_seq_begin_with", "more was found than is known"), NULL;
    return check(x, "share") ? t : NULL;
}

bool cached_end(cached *x, cached_text *t)
{
    if (!cached_leave(x, t)) return false;
    t->id = 0;
    return true;
}

bool cached_leave(cached *x, cached_text *t)
{
    attn_error err;
    if (attn_seq_end(x->cache, t->id, &err)) return fail("attn_seq_end", err.text);
    t->id = UINT64_MAX; /* of no sequence */
    return check(x, "end");
}

bool cached_rollback(cached *x, cached_text *t, int64_t r)
{
    attn_error err;
    if (attn_seq_rollback(x->cache, t->id, r, &err)) return fail("attn_seq_rollback", err.text);
    t->n -= r;
    return check(x, "rollback");
}

/* ---- steps ----------------------------------------------------------------------------------------------------- */

typedef struct rows { /* of the new tokens, [rows, heads, dim] or [rows, heads], in guarded memory */
    guarded memory;
    int64_t shape[3], width;
    dtype type;
    DLTensor dl;
} rows;

static bool make_rows(rows *r, int64_t n, int64_t heads, int64_t dim, dtype type)
{
    *r = (rows){.shape = {n, heads, dim}, .width = heads * (dim ? dim : 1), .type = type};
    if (!guarded_create(&r->memory, (size_t)(n * r->width) * (type == DTYPE_F32 ? 4 : 2)))
        return fail("rows", "no memory");
    const DLDataType t = {type == DTYPE_BF16 ? kDLBfloat : kDLFloat, type == DTYPE_F32 ? 32 : 16, 1};
    r->dl = (DLTensor){.data = r->memory.at, .device = {kDLCPU, 0}, .ndim = dim ? 3 : 2, .dtype = t, .shape = r->shape};
    return true;
}

static void store(const rows *r, int64_t row, const float *from, int64_t count)
{
    for (int64_t i = 0; i < count * r->width; i++) {
        const int64_t at = row * r->width + i;
        if (r->type == DTYPE_F32)
            ((float *)r->memory.at)[at] = from[i];
        else
            ((uint16_t *)r->memory.at)[at] = r->type == DTYPE_F16 ? half_to_f16(from[i]) : half_to_bf16(from[i]);
    }
}

/* junk: other tokens' values, for a step that will not be. */
static bool run_rows(cached *x, uint32_t i, const cached_move *moves, uint32_t n, bool junk, rows r[5])
{
    int64_t at = 0;
    attn_error err;
    for (uint32_t j = 0; j < n; at += moves[j++].m) {
        const e2e_call *c = &moves[j].text->call[i];
        const int64_t from = junk ? c->total_q - moves[j].text->n - moves[j].m : moves[j].text->n;
        store(&r[0], at, c->q + from * r[0].width, moves[j].m);
        store(&r[1], at, c->k + from * r[1].width, moves[j].m);
        store(&r[2], at, c->v + from * r[2].width, moves[j].m);
    }
    const attn_kind_desc *d = describe(x)->kinds[describe(x)->schedule[x->layers[i]]];
    const bool keys = !is_shared(d), values = keys && !(d->flags & ATTN_KIND_K_IS_V);
    const attn_tensors t = {.size = sizeof t,
                            .q = &r[0].dl,
                            .k = keys ? &r[1].dl : NULL,
                            .v = values ? &r[2].dl : NULL,
                            .o = &r[3].dl,
                            .lse = &r[4].dl};
    if (attn_step_layer(x->cache, x->layers[i], &t, x->pool, &err)) return fail("attn_step_layer", err.text);
    at = 0;
    for (uint32_t j = 0; j < n && !junk; at += moves[j++].m) {
        const e2e_call *c = &moves[j].text->call[i];
        const int64_t to = moves[j].text->n;
        copy(c->o + to * r[3].width, (float *)r[3].memory.at + at * r[3].width, moves[j].m * r[3].width);
        copy(c->lse + to * r[4].width, (float *)r[4].memory.at + at * r[4].width, moves[j].m * r[4].width);
        for (int64_t row = 0; row < moves[j].m; row++) c->lens[to + row] = to + moves[j].m;
    }
    return true;
}

static bool run_layer(cached *x, uint32_t i, const cached_move *moves, uint32_t n, bool junk)
{
    const uint32_t kind = describe(x)->schedule[x->layers[i]];
    const attn_kind_desc *d = describe(x)->kinds[kind];
    const dtype type = x->m->ir->patterns.at[kind]->shape.type;
    rows r[5] = {0};
    int64_t total = 0;
    for (uint32_t j = 0; j < n; j++) total += moves[j].m;
    const bool ok = make_rows(&r[0], total, d->q_heads, d->dim, type) &&
                    make_rows(&r[1], total, d->kv_heads, d->dim, type) &&
                    make_rows(&r[2], total, d->kv_heads, d->dim_v, type) &&
                    make_rows(&r[3], total, d->q_heads, d->dim_v, DTYPE_F32) &&
                    make_rows(&r[4], total, d->q_heads, 0, DTYPE_F32) && run_rows(x, i, moves, n, junk, r);
    for (int k = 0; k < 5; k++) guarded_destroy(&r[k].memory);
    return ok;
}

/* Attributes of the new tokens, sequence after sequence. */
static attn_status begin(cached *x, const cached_move *moves, uint32_t n, attn_error *err)
{
    arena *a = arena_create(0, NULL, NULL);
    attn_seq_id *ids = ARENA_ARRAY(a, attn_seq_id, n + 1u);
    int64_t *counts = ARENA_ARRAY(a, int64_t, n + 1u), total = 0;
    const int32_t *attrs[E2E_MAX_NAMED] = {0};
    for (uint32_t j = 0; j < n; j++) ids[j] = moves[j].text->id, counts[j] = moves[j].m, total += moves[j].m;
    for (uint32_t k = 0; k < describe(x)->n_attrs; k++) {
        int32_t *values = ARENA_ARRAY(a, int32_t, (size_t)total + 1);
        attrs[k] = values;
        for (uint32_t j = 0; j < n; values += moves[j++].m)
            for (int64_t i = 0; i < moves[j].m; i++)
                values[i] = moves[j].text->call[0].q_attrs[k][moves[j].text->n + i];
    }
    int32_t *tokens = ARENA_ARRAY(a, int32_t, (size_t)total + 1), *next = tokens;
    for (uint32_t j = 0; x->named && j < n; j++)
        for (int64_t i = 0; i < moves[j].m; i++) *next++ = id_of(moves[j].text, moves[j].text->n + i);
    const attn_step_config config = {.size = sizeof config,
                                     .n_seqs = n,
                                     .seqs = ids,
                                     .counts = counts,
                                     .attrs = attrs,
                                     .tokens = x->named ? tokens : NULL};
    const attn_status s = attn_step_begin(x->cache, &config, err);
    arena_destroy(a);
    return s;
}

static bool begin_checked(cached *x, const cached_move *moves, uint32_t n)
{
    attn_error err = {""};
    x->last = begin(x, moves, n, &err);
    if (!x->last) return true;
    if (x->last != ATTN_E_SPLIT && x->last != ATTN_E_BUDGET) fail("attn_step_begin", err.text);
    return check(x, "a step that was refused") && false;
}

bool cached_step(cached *x, const cached_move *moves, uint32_t n)
{
    attn_error err = {""};
    if (!begin_checked(x, moves, n)) return false;
    for (uint32_t i = 0; i < x->n_layers; i++)
        if (!run_layer(x, i, moves, n, false)) return false;
    if (attn_step_end(x->cache, &err)) return fail("attn_step_end", err.text);
    for (uint32_t j = 0; j < n; j++) moves[j].text->n += moves[j].m;
    return check(x, "step");
}

bool cached_cancel(cached *x, const cached_move *moves, uint32_t n, uint32_t layers)
{
    const attn_cache_stats before = cached_stats(x);
    if (!begin_checked(x, moves, n)) return false;
    for (uint32_t i = 0; i < x->n_layers && i < layers; i++)
        if (!run_layer(x, i, moves, n, true)) return false;
    if (!check(x, "an open step")) return false;
    attn_step_cancel(x->cache);
    const attn_cache_stats now = cached_stats(x);
    /* pages that only prefixes held may have made room for the step */
    if (now.bytes - now.bytes_prefix != before.bytes - before.bytes_prefix ||
        now.pages - now.pages_prefix != before.pages - before.pages_prefix || now.pages_shared > before.pages_shared)
        return fail("attn_step_cancel", "the pages are not those from before");
    return check(x, "cancel");
}

bool cached_feed(cached *x, cached_text *t, int64_t m) { return cached_step(x, &(cached_move){t, m}, 1); }

/* ---- looking --------------------------------------------------------------------------------------------------- */

bool cached_matches(const cached *x, const cached_text *t)
{
    bool ok = true;
    for (uint32_t i = 0; i < x->n_layers && ok; i++) {
        e2e_call c;
        const e2e_call *from = &t->call[i];
        e2e_call_init(&c, x->m, x->layers[i], 1, &t->n, NULL, NULL);
        c.lens = ARENA_ARRAY(c.arena, int64_t, (size_t)t->n + 1);
        copy_tokens(&c, from, t->n);
        for (uint32_t j = 0; j < describe(x)->n_inputs; j++)
            memcpy(c.inputs[j], x->inputs[j], (size_t)e2e_input_count(&c, j) * sizeof(double));
        ok = e2e_matches(&c);
        if (!ok) printf("  layer %u, after %lld tokens\n", x->layers[i], (long long)t->n);
        e2e_call_free(&c);
    }
    return ok;
}

bool cached_keeps(const cached *x, const cached_text *t, uint32_t layer, const char *want)
{
    int64_t at[32][2];
    char is[512] = "";
    const int64_t n = attn_cache_kept(x->cache, t->id, layer, at, 32);
    for (int64_t i = 0; i < n && i < 32; i++) {
        const size_t used = strlen(is);
        if (at[i][0] == at[i][1])
            snprintf(is + used, sizeof is - used, "%s%lld", i ? " " : "", (long long)at[i][0]);
        else
            snprintf(is + used, sizeof is - used, "%s%lld-%lld", i ? " " : "", (long long)at[i][0],
                     (long long)at[i][1]);
    }
    if (!n) snprintf(is, sizeof is, "none");
    if (!strcmp(is, want)) return true;
    printf("after %lld tokens: keeps %s, not %s\n", (long long)t->n, is, want);
    return false;
}

attn_cache_stats cached_stats(const cached *x)
{
    attn_cache_stats s = {.size = sizeof s};
    ATTNC_CHECK(!attn_cache_get_stats(x->cache, &s));
    return s;
}
