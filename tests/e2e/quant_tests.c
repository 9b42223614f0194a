/* quant_tests.c - named tests of quantised keys and values (docs/quant.md).
 *
 * `cached_matches` compares with the oracle, which rounds as the format says. What is compared here with attention that
 * rounds nothing is the format's bound, worked out from the raw rows. */
#include "tests/e2e/cached.h"
#include "tests/e2e/e2e_test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- attention that rounds nothing, and how far off rounded rows may take it ---- */

typedef struct exact {
    const e2e_call *c;
    int64_t n, group; /* tokens; elements that share a scale, 0: a row */
    double scale;
    bool (*sees)(int64_t q, int64_t k);
    double slack;   /* what f32 kernels may be off */
    double reached; /* largest share of the bound that an output's error was */
} exact;

static double largest_of(const float *x, int64_t n)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)x[i]));
    return largest;
}

static const float *row_of(const float *rows, const exact *x, int64_t k, int64_t h, int64_t dim)
{
    const attn_kind_desc *d = x->c->kind;
    return rows + (k * d->kv_heads + h * d->kv_heads / d->q_heads) * dim;
}

/* Queries of 16 bits as 16 bits of their largest element; a stored key may be larger than the raw one by half a step. */
static double digit_bound(const float *q, const float *key, int64_t dim)
{
    double norm = 0;
    for (int64_t i = 0; i < dim; i++) norm += fabs((double)key[i]) + largest_of(key, dim) / 254;
    return largest_of(q, dim) * norm / 65024;
}

/* |scale| times the sum over groups of the query's absolute values times half a step of the key. */
static double score_bound(const exact *x, const float *q, const float *key)
{
    const int64_t dim = x->c->kind->dim, group = x->group ? x->group : dim;
    double sum = 0;
    for (int64_t i = 0; i < dim; i += group) {
        double norm = 0;
        for (int64_t j = i; j < i + group; j++) norm += fabs((double)q[j]);
        sum += norm * largest_of(key + i, group) / 254;
    }
    if (x->c->kind->dtype != ATTN_F32 && !x->group && dim % 64 == 0) sum += digit_bound(q, key, dim);
    return fabs(x->scale) * sum;
}

/* Some kernels take weights as whole steps of the largest of a row in 64 keys, each times the scale of its value: what that may do to an
 * element, as a share of the largest value stored. */
static double steps_bound(const exact *x)
{
    const attn_kind_desc *d = x->c->kind;
    return d->dtype != ATTN_F32 && !x->group && d->dim % 64 == 0 && d->dim_v % 64 == 0 ? 1e-3 : 0;
}

static bool check_output(exact *x, int64_t q, int64_t h, const double *weight, double sum, double delta)
{
    const attn_kind_desc *d = x->c->kind;
    const int64_t group = x->group ? x->group : d->dim_v;
    for (int64_t e = 0; e < d->dim_v; e++) {
        double want = 0, low = INFINITY, high = -INFINITY, most = 0;
        for (int64_t k = 0; k < x->n; k++) {
            if (!x->sees(q, k)) continue;
            const float *v = row_of(x->c->v, x, k, h, d->dim_v);
            want += weight[k] / sum * v[e];
            low = fmin(low, v[e]), high = fmax(high, v[e]);
            most = fmax(most, largest_of(v + e / group * group, group));
        }
        const double bound = tanh(delta / 2) * (high - low) + most * (1.0 / 254 + steps_bound(x));
        const double error = fabs(want - x->c->o[(q * d->q_heads + h) * d->dim_v + e]);
        x->reached = fmax(x->reached, error / bound);
        if (!(error <= bound * (1 + 0x1p-14) + x->slack))
            return e2e_fail("query %d, head %d, element %d: off by %g, the bound is %g", (int)q, (int)h, (int)e, error, bound);
    }
    return true;
}

static bool check_row(exact *x, int64_t q, int64_t h)
{
    const attn_kind_desc *d = x->c->kind;
    const float *query = x->c->q + (q * d->q_heads + h) * d->dim;
    double weight[512], sum = 0, delta = 0;
    ATTNC_CHECK(x->n <= 512);
    for (int64_t k = 0; k < x->n; k++) {
        if (!x->sees(q, k)) continue;
        const float *key = row_of(x->c->k, x, k, h, d->dim);
        double dot = 0;
        for (int64_t i = 0; i < d->dim; i++) dot += (double)query[i] * key[i];
        sum += weight[k] = exp(x->scale * dot);
        delta = fmax(delta, score_bound(x, query, key));
    }
    const double lse = x->c->lse[q * d->q_heads + h];
    if (!(fabs(lse - log(sum)) <= delta * (1 + 0x1p-14) + x->slack))
        return e2e_fail("query %d, head %d: lse %g for %g, the bound is %g", (int)q, (int)h, lse, log(sum), delta);
    return check_output(x, q, h, weight, sum, delta);
}

static bool within_bound(exact *x)
{
    for (int64_t q = 0; q < x->n; q++)
        for (int64_t h = 0; h < x->c->kind->q_heads; h++)
            if (!check_row(x, q, h)) return false;
    return true;
}

static bool sees_past(int64_t q, int64_t k) { return k <= q; }
static bool sees_near(int64_t q, int64_t k) { return k <= q && q - k < 40; }
static bool sees_piece(int64_t q, int64_t k) { return k <= q && q / 48 == k / 48; }

/* ---- C19 ---- */

static const struct {
    const char *shape, *mask;
    int64_t group;
    bool (*sees)(int64_t q, int64_t k);
} formats[] = {
    {"heads 4 / 2; dim 16; kv quant(int8);", "causal", 0, sees_past},
    {"heads 4 / 1; dim 64; dim_v 32; kv quant(int8, 16);", "causal and window(40)", 16, sees_near},
    {"heads 2; dim 33; dim_v 5; kv quant(int8);", "causal and chunk(48)", 0, sees_piece},
    {"heads 4 / 1; dim 64; dtype bf16; kv quant(int8);", "causal", 0, sees_past},
};

static bool ends_around(const e2e_module *m, int32_t isa, size_t format, int64_t first)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 128, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, first + 4, (unsigned long long)first);
    EXPECT(cached_feed(&x, t, first));
    for (int i = 0; i < 4; i++) EXPECT(cached_feed(&x, t, 1));
    EXPECT(cached_matches(&x, t));
    exact e = {.c = &t->call[0], .n = t->n, .group = formats[format].group, .scale = 0.25, .sees = formats[format].sees, .slack = 2e-5};
    EXPECT(within_bound(&e));
    cached_close(&x);
    return true;
}

static size_t now; /* index of the format that is played */

static bool play_C19(const e2e_module *m, int32_t isa)
{
    for (int64_t first = 126; first <= 129; first++) EXPECT(ends_around(m, isa, now, first));
    return in_pieces(m, isa, LENS(63, 1, 1, 1, 62));
}

static bool on_each_format(bool (*play)(const e2e_module *m, int32_t isa))
{
    for (now = 0; now < ATTNC_COUNT(formats); now++) {
        e2e_module m;
        char all[512];
        snprintf(all, sizeof all, "pattern p { %s scale 0.25; mask %s; }", formats[now].shape, formats[now].mask);
        EXPECT(e2e_compile(&m, all, NULL) && on_each_isa(&m, play));
        e2e_module_free(&m);
    }
    return true;
}

bool test_C19(void) { return on_each_format(play_C19); }

/* ---- C20 ---- */

/* Other tokens from n on, so small that a scale that stayed would show. */
static void write_on(cached_text *t)
{
    unsigned long long seed = 99;
    e2e_call *c = &t->call[0];
    const int64_t k = t->n * c->kind->kv_heads * c->kind->dim, v = t->n * c->kind->kv_heads * c->kind->dim_v;
    for (int64_t i = k; i < c->n_k; i++) c->k[i] = (float)(e2e_uniform(&seed) * 1e-3);
    for (int64_t i = v; i < c->n_v; i++) c->v[i] = (float)(e2e_uniform(&seed) * 1e-3);
    e2e_values_changed(c);
}

static bool play_C20(const e2e_module *m, int32_t isa)
{
    for (int64_t back = 1; back <= 9; back++) {
        cached x;
        EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 8, .rollback = 9, .isa = isa}, 1));
        cached_text *t = cached_begin(&x, 60, 3), *plain = cached_begin(&x, 60, 3);
        EXPECT(cached_feed(&x, t, 30) && cached_rollback(&x, t, back) && cached_feed(&x, plain, 30 - back));
        write_on(t), write_on(plain);
        for (int64_t i = 0; i < 15; i++) EXPECT(cached_feed(&x, t, 1 + i % 3) && cached_feed(&x, plain, 1 + i % 3));
        EXPECT(cached_matches(&x, t) && cached_matches(&x, plain));
        const e2e_call *a = &t->call[0], *b = &plain->call[0];
        const int64_t from = (30 - back) * a->kind->q_heads, n = (t->n - (30 - back)) * a->kind->q_heads;
        EXPECT(!memcmp(a->o + from * a->kind->dim_v, b->o + from * a->kind->dim_v, (size_t)(n * a->kind->dim_v) * sizeof(float)));
        EXPECT(!memcmp(a->lse + from, b->lse + from, (size_t)n * sizeof(float)));
        cached_close(&x);
    }
    return true;
}
bool test_C20(void) { return play_body("", "mask causal; kv quant(int8);", play_C20); }

/* ---- the bound ---- */

static bool play_random(const e2e_module *m, int32_t isa)
{
    static const double sizes[] = {0.1, 1, 6};
    for (size_t i = 0; i < ATTNC_COUNT(sizes); i++) {
        cached x;
        EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 16, .isa = isa}, 1));
        cached_text *t = cached_begin(&x, 70, 5 + i);
        unsigned long long seed = i;
        e2e_fill(&t->call[0], &seed, sizes[i]);
        EXPECT(cached_feed(&x, t, 50));
        while (t->n < 70) EXPECT(cached_feed(&x, t, 1));
        exact e = {.c = &t->call[0], .n = t->n, .group = formats[now].group, .scale = 0.25, .sees = formats[now].sees, .slack = 1e-4};
        EXPECT(within_bound(&e));
        cached_close(&x);
    }
    return true;
}

/* Two keys that are told apart by nothing but their rounding: in one all elements are just below half a step and fall, in the other just
 * above and rise; the query adds all of it up. Their values are the ends of a range. */
static bool play_adverse(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 16, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 2, 5);
    e2e_call *c = &t->call[0];
    const int64_t dim = c->kind->dim;
    for (int64_t i = 0; i < c->n_q; i++) c->q[i] = 1;
    for (int64_t i = 0; i < c->n_k; i++) c->k[i] = i % dim ? (float)(20 + (i < dim ? 0.499 : 0.501)) / 16 : 127.0f / 16;
    for (int64_t i = 0; i < c->n_v; i++) c->v[i] = i < c->kind->dim_v ? -1 : 1;
    e2e_values_changed(c);
    EXPECT(cached_feed(&x, t, 1) && cached_feed(&x, t, 1) && cached_matches(&x, t));
    exact e = {.c = c, .n = 2, .scale = 0.25, .sees = sees_past, .slack = 1e-5};
    EXPECT(within_bound(&e));
    if (e.reached < 0.9) return e2e_fail("the bound is never reached: %g of it", e.reached);
    cached_close(&x);
    return true;
}

bool test_int8_bound(void)
{
    EXPECT(on_each_format(play_random));
    e2e_module m;
    EXPECT(e2e_compile(&m, "pattern p { heads 1; dim 64; dim_v 16; dtype f32; scale 0.25; mask causal; kv quant(int8); }", NULL));
    EXPECT(on_each_isa(&m, play_adverse));
    e2e_module_free(&m);
    return true;
}

/* ---- pages, forks, prefixes ---- */

static bool fed(cached *x, cached_text *t)
{
    return cached_feed(x, t, 37) && cached_feed(x, t, 1) && cached_feed(x, t, 3) && cached_feed(x, t, 1);
}

static bool play_pages(const e2e_module *m, int32_t isa)
{
    static const uint32_t sizes[] = {1, 4, 16, 64, 4096};
    float o[2][42 * 4 * 64];
    const size_t bytes = 42 * 4 * (size_t)attn_module_describe(m->loaded)->kinds[0]->dim_v * sizeof(float);
    for (size_t i = 0; i < ATTNC_COUNT(sizes); i++) {
        cached x;
        EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = sizes[i], .isa = isa, .prefix_bytes = 1 << 20}, 1));
        x.named = true;
        cached_text *t = cached_begin(&x, 60, 7);
        EXPECT(fed(&x, t) && cached_matches(&x, t));
        memcpy(o[i > 0], t->call[0].o, bytes);
        EXPECT(!memcmp(o[0], o[i > 0], bytes));
        cached_text *fork = cached_fork(&x, t, 8), *share = cached_share(&x, t, 40, 60, 0, 9);
        EXPECT(fork && share && cached_feed(&x, fork, 9) && cached_feed(&x, t, 5) && cached_feed(&x, share, 60 - share->n));
        EXPECT(cached_matches(&x, t) && cached_matches(&x, fork) && cached_matches(&x, share));
        cached_close(&x);
    }
    return true;
}

static bool play_kind(const char *definition, scene *play)
{
    e2e_module m;
    EXPECT(e2e_compile(&m, definition, NULL) && on_each_isa(&m, play));
    e2e_module_free(&m);
    return true;
}

/* The second kind's decoding multiplies integers. */
bool test_int8_pages(void)
{
    return play_body("", "mask causal; kv quant(int8);", play_pages) &&
           play_kind("pattern p { heads 4 / 2; dim 64; dtype f16; mask causal; kv quant(int8); }", play_pages);
}

/* ---- kinds that differ in what a row of V is ---- */

static bool play_kinds(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 16, .isa = isa}, 3));
    cached_text *t = cached_begin(&x, 90, 3);
    EXPECT(cached_feed(&x, t, 37));
    while (t->n < 42) EXPECT(cached_feed(&x, t, 1));
    EXPECT(cached_feed(&x, t, 90 - t->n) && cached_matches(&x, t));
    cached_close(&x);
    return true;
}

/* Values that are keys end where keys end: there are their scales. */
bool test_int8_kinds(void)
{
    e2e_module m;
    EXPECT(e2e_compile(&m, "model kinds { layers 3; heads 4 / 1; dim 128; dim_v 64; dtype f16; mask causal;"
                           " pattern apart { kv quant(int8); }"
                           " pattern both { kv k_is_v, quant(int8); }"
                           " pattern groups { kv k_is_v, quant(int8, 32); }"
                           " schedule apart, both, groups; }", NULL));
    EXPECT(on_each_isa(&m, play_kinds));
    e2e_module_free(&m);
    return true;
}

/* ---- values ---- */

static void set_row(e2e_call *c, int64_t token, double k, double v)
{
    const int64_t n_k = c->kind->kv_heads * c->kind->dim, n_v = c->kind->kv_heads * c->kind->dim_v;
    for (int64_t i = 0; i < n_k; i++) c->k[token * n_k + i] = (float)k;
    for (int64_t i = 0; i < n_v; i++) c->v[token * n_v + i] = (float)v;
}

/* A window moves over rows of every kind: rows that see what is not finite are NaN, and no others. */
static bool play_values(const e2e_module *m, int32_t isa)
{
    for (int64_t pieces = 1; pieces <= 3; pieces++) {
        cached x;
        EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
        cached_text *t = cached_begin(&x, 60, 5);
        e2e_call *c = &t->call[0];
        set_row(c, 8, 0, 0);                  /* nothing */
        set_row(c, 13, 1e-44, 1e-38);         /* subnormal: 0 */
        set_row(c, 15, 1e-30, 1e-30);         /* tiny, and kept */
        c->k[20 * c->kind->kv_heads * c->kind->dim + 3] = NAN;
        c->v[30 * c->kind->kv_heads * c->kind->dim_v + 1] = INFINITY;
        set_row(c, 40, -0.0, 3e38);           /* huge values are finite */
        e2e_values_changed(c);
        while (t->n < 60) EXPECT(cached_feed(&x, t, pieces == 1 ? 1 : pieces == 2 ? 60 : t->n + 7 < 60 ? 7 : 60 - t->n));
        EXPECT(cached_matches(&x, t));
        for (int64_t q = 0; q < 60; q++) {
            const bool bad = (20 <= q && q < 25) || (30 <= q && q < 35);
            if (isnan(c->o[q * c->kind->q_heads * c->kind->dim_v]) != bad)
                return e2e_fail("query %d is %g", (int)q, c->o[q * c->kind->q_heads * c->kind->dim_v]);
        }
        cached_close(&x);
    }
    return true;
}

/* Values far below what a step of a weight could be told from 0 by: results are as exact as of others. */
static bool play_tiny(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 16, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 80, 5);
    e2e_call *c = &t->call[0];
    unsigned long long seed = 8;
    for (int64_t i = 0; i < c->n_v; i++) c->v[i] = (float)((1 + e2e_uniform(&seed) / 2) * 2e-35);
    e2e_values_changed(c);
    EXPECT(cached_feed(&x, t, 70));
    while (t->n < 80) EXPECT(cached_feed(&x, t, 1));
    for (int64_t i = 0; i < 80 * c->kind->q_heads * c->kind->dim_v; i++)
        if (!(c->o[i] > 0.45 * 2e-35 && c->o[i] < 1.55 * 2e-35)) return e2e_fail("element %d is %g", (int)i, c->o[i]);
    cached_close(&x);
    return true;
}

bool test_int8_values(void)
{
    return play_body("", "mask causal and window(5); kv quant(int8);", play_values) &&
           play_kind("pattern p { heads 4 / 2; dim 64; dtype bf16; mask causal and window(5); kv quant(int8); }", play_values) &&
           play_kind("pattern p { heads 4 / 2; dim 64; dtype bf16; mask causal; kv quant(int8); }", play_tiny);
}

/* ---- calls ---- */

bool test_int8_call(void)
{
    e2e_module m;
    attn_error err = {""};
    const int64_t n = 3;
    attn_plan *p;
    EXPECT(compile_body(&m, "", "mask causal; kv quant(int8);"));
    const attn_plan_config config = {.size = sizeof config, .n_seqs = 1, .q_lens = &n, .isa = -1};
    EXPECT(!attn_plan_create(m.loaded, &config, &p, &err));
    const attn_tensors t = {.size = sizeof t};
    EXPECT(attn_forward(p, &t, NULL, &err) == ATTN_E_ARGUMENT && strstr(err.text, "quantised in a KV cache: use attn_step_layer"));
    EXPECT(attn_begin(p, &t, &err) == ATTN_E_ARGUMENT);
    attn_plan_destroy(p);
    e2e_module_free(&m);
    return true;
}
