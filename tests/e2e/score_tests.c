/* score_tests.c - D: from the dot product to the weights, and the heads and sizes that they stand on. */
#include "tests/e2e/e2e_test.h"

#include <math.h>
#include <stdio.h>

typedef bool check_fn(e2e_call *c);

/* Compiles, prepares a call of n tokens on each instruction set, and lets `check` fill, run and look. */
static bool on_every_isa(const char *source, size_t n, const int64_t *lens, check_fn *check)
{
    e2e_module m;
    int32_t isa[E2E_MAX_ISAS];
    size_t n_isas = e2e_isas(isa);
    bool ok = e2e_compile(&m, source, NULL);
    for (size_t i = 0; i < n_isas && ok; i++) {
        e2e_call c;
        e2e_call_init(&c, &m, 0, (uint32_t)n, lens, NULL, NULL);
        c.isa = isa[i];
        e2e_note("%s: %s", attn_isa_name((uint32_t)isa[i]), source);
        ok = check(&c);
        e2e_call_free(&c);
    }
    e2e_module_free(&m);
    return ok;
}

/* ---- rows that see nothing ---- */

static bool row_is(const e2e_call *c, int64_t token, int64_t h, double o, double lse)
{
    int64_t at = token * c->kind->q_heads + h;
    for (uint32_t i = 0; i < c->kind->dim_v; i++) EXPECT(c->o[at * c->kind->dim_v + i] == o);
    EXPECT(c->lse[at] == lse);
    return true;
}

static bool foreign_rows_are_empty(e2e_call *c)
{
    unsigned long long seed = 1;
    for (int64_t t = 0; t < c->total_q; t++) c->q_attrs[0][t] = c->k_attrs[0][t] = t % 5 == 2 ? -1 : (int32_t)(t / 7);
    if (c->inputs[0])
        for (int64_t h = 0; h < 4; h++) c->inputs[0][h] = (double)h - 1.5;
    e2e_fill(c, &seed, 1);
    EXPECT(e2e_run(c) && e2e_matches(c));
    for (int64_t t = 2; t < c->total_q; t += 5)
        for (int64_t h = 0; h < 4; h++) EXPECT(row_is(c, t, h, 0, c->inputs[0] ? (double)h - 1.5 : -INFINITY));
    return true;
}

/* Then there is no segment in the whole call. */
static bool all_rows_are_empty(e2e_call *c)
{
    unsigned long long seed = 2;
    e2e_fill(c, &seed, 1);
    EXPECT(e2e_run(c));
    for (int64_t t = 0; t < c->total_q; t++)
        for (int64_t h = 0; h < 4; h++) EXPECT(row_is(c, t, h, 0, -INFINITY));
    return true;
}

bool test_D1(void)
{
    return on_every_isa("pattern p { heads 4 / 2; dim 16; dtype f32; mask k + 200 <= q; }", LENS(150, 3), all_rows_are_empty) &&
           on_every_isa("attr doc : int; pattern p { heads 4 / 2; dim 16; dtype f32; mask causal and same(doc); }",
                        LENS(150, 3), foreign_rows_are_empty) &&
           on_every_isa("attr doc : int; input sinks : f32[heads]; pattern p { heads 4 / 2; dim 16; dtype f32; mask "
                        "causal and same(doc);"
                        " row softmax(sink: sinks[h]); }",
                        LENS(150, 3), foreign_rows_are_empty);
}

/* ---- sinks ---- */

/* Logits 1, 2, 0.5 for a query; values one-hot, so that the output is the weights. */
static bool sink_weights(e2e_call *c)
{
    static const double logits[] = {1, 2, 0.5}, sinks[] = {-INFINITY, 0, 1.5, 20};
    for (int64_t h = 0; h < 4; h++) c->inputs[0][h] = sinks[h];
    for (int64_t t = 0; t < 3; t++)
        for (int64_t h = 0; h < 4; h++) {
            c->q[(t * 4 + h) * 16] = 1;
            c->k[(t * 2 + h / 2) * 16] = (float)logits[t];
            c->v[(t * 2 + h / 2) * 16 + t] = 1;
        }
    e2e_values_changed(c);
    EXPECT(e2e_run(c) && e2e_matches(c));
    for (int64_t h = 0; h < 4; h++) {
        double sum = exp(sinks[h]);
        for (int64_t k = 0; k < 3; k++) sum += exp(logits[k]);
        for (int64_t k = 0; k < 3; k++) EXPECT(fabs(c->o[h * 16 + k] - exp(logits[k]) / sum) < 1e-6);
        EXPECT(fabs(c->lse[h] - log(sum)) < 1e-5);
    }
    static const double published[] = {0.167405, 0.455054, 0.101536};
    for (int64_t k = 0; k < 3; k++) EXPECT(fabs(c->o[2 * 16 + k] - published[k]) < 1e-6);
    return true;
}

bool test_D2(void)
{
    return on_every_isa("input sinks : f32[heads]; pattern p { heads 4 / 2; dim 16; dtype f32; scale 1.0; mask all; "
                        "row softmax(sink: sinks[h]); }",
                        LENS(3), sink_weights);
}

/* ---- powers ---- */

/* The queries read the keys' first element as it is: log2 e and the scale cancel. Values are one-hot, so that the output is the weights. */
static bool weights_are_powers(e2e_call *c)
{
    unsigned long long seed = 9;
    for (int round = 0; round < 40; round++) {
        e2e_fill(c, &seed, 12);
        for (int64_t t = 0; t < 64; t++)
            for (int64_t d = 0; d < 64; d++) {
                c->q[t * 64 + d] = d == 0;
                c->k[t * 64 + d] = d || !t ? 0 : round ? -fabsf(c->k[t * 64]) * (float)(round % 10) / 5 : -ldexpf(150, (int)t);
                c->v[t * 64 + d] = d == t;
            }
        e2e_values_changed(c);
        EXPECT(e2e_run(c));
        for (int64_t t = 0; t < 64; t++)
            for (int64_t d = 0; d < 64; d++) {
                double weight = (double)c->o[t * 64 + d] / c->o[t * 64], want = exp2(c->k[d * 64]);
                EXPECT(round || !d ? fabs(weight / want - 1) < 1.2e-7 : weight == 0);
            }
    }
    return true;
}

bool test_powers(void)
{
    return on_every_isa("pattern p { heads 1; dim 64; dtype f32; scale 0.6931471805599453; mask all; }", LENS(64), weights_are_powers);
}

/* ---- soft caps and ALiBi ---- */

bool test_D4(void)
{
    int64_t w = 4;
    return probe_body("mask causal and window(4); score softcap(50.0);", sees_window, &w, LENS(40)) &&
           probe_body("mask causal and window(4); score softcap(0.5);", sees_window, &w, LENS(40)) &&
           match_body("mask causal and window(4); score softcap(0.5);", LENS(70, 2)) &&
           match_body("mask causal; score softcap(50.0);", LENS(70, 2));
}

bool test_D5(void)
{
    static const char *const orders[] = {"mask causal; score alibi, softcap(3.0);",
                                         "mask causal; score softcap(3.0), alibi;"};
    e2e_module m[2];
    e2e_call c[2];
    for (int i = 0; i < 2; i++) {
        EXPECT(match_body(orders[i], LENS(70, 2)));
        EXPECT(compile_body(&m[i], "", orders[i]));
        e2e_call_init(&c[i], &m[i], 0, LENS(70), NULL, NULL);
        EXPECT(run_random(&c[i], 5, ATTN_ISA_BASELINE));
    }
    EXPECT(difference(c[0].o, c[1].o, 70 * 4 * 16) > 1e-2);
    for (int i = 0; i < 2; i++) e2e_call_free(&c[i]), e2e_module_free(&m[i]);
    return true;
}

/* All keys 0: the logits are the penalties alone. */
static bool distances_with_sink(e2e_call *c)
{
    for (int64_t h = 0; h < 4; h++) c->inputs[0][h] = -1.0 - (double)h;
    unsigned long long seed = 6;
    e2e_fill(c, &seed, 1);
    EXPECT(e2e_run(c) && e2e_matches(c));
    for (int64_t i = 0; i < c->total_k * 2 * 16; i++) c->k[i] = 0;
    e2e_values_changed(c);
    EXPECT(e2e_run(c));
    for (int64_t q = 0; q < c->total_q; q++)
        for (int64_t h = 0; h < 4; h++) {
            double sum = exp(-1.0 - (double)h), slope = exp2(-2.0 * (double)(h + 1));
            for (int64_t k = 0; k <= q; k++) sum += exp(-slope * (double)(q - k));
            EXPECT(fabs(c->lse[q * 4 + h] - log(sum)) < 1e-5);
        }
    return true;
}

bool test_D6(void)
{
    return on_every_isa("input sinks : f32[heads]; pattern p { heads 4 / 2; dim 16; dtype f32; mask causal; score "
                        "alibi; row softmax(sink: sinks[h]); }",
                        LENS(70), distances_with_sink);
}

static const double *slope_exponents; /* of the test below, per head */

/* One key at distance 1 and the query's own: lse = ln(1 + e^-slope). */
static bool slopes_are_published(e2e_call *c)
{
    EXPECT(e2e_run(c));
    for (uint32_t h = 0; h < c->kind->q_heads; h++)
        EXPECT(fabs(c->lse[c->kind->q_heads + h] - log1p(exp(-exp2(slope_exponents[h])))) < 1e-6);
    return true;
}

bool test_D7(void)
{
    static const struct {
        int heads;
        double exponents[12];
    } published[] = {
        {1, {-8}},
        {2, {-4, -8}},
        {3, {-4, -8, -2}},
        {5, {-2, -4, -6, -8, -1}},
        {6, {-2, -4, -6, -8, -1, -3}},
        {8, {-1, -2, -3, -4, -5, -6, -7, -8}},
        {12, {-1, -2, -3, -4, -5, -6, -7, -8, -0.5, -1.5, -2.5, -3.5}},
    };
    for (size_t i = 0; i < ATTNC_COUNT(published); i++) {
        char source[256];
        snprintf(source, sizeof source, "pattern p { heads %d; dim 16; dtype f32; mask causal; score alibi; }",
                 published[i].heads);
        slope_exponents = published[i].exponents;
        EXPECT(on_every_isa(source, LENS(2), slopes_are_published));
    }
    return true;
}

/* ---- heads and sizes ---- */

static bool reads_its_kv_head(e2e_call *c)
{
    const attn_kind_desc *d = c->kind;
    unsigned long long seed = 10;
    e2e_fill(c, &seed, 1);
    EXPECT(e2e_run(c) && e2e_matches(c));
    for (int64_t t = 0; t < c->total_k; t++)
        for (uint32_t g = 0; g < d->kv_heads; g++)
            for (uint32_t i = 0; i < d->dim_v; i++) c->v[(t * d->kv_heads + g) * d->dim_v + i] = (float)(g + 1);
    e2e_values_changed(c);
    EXPECT(e2e_run(c));
    for (int64_t t = 0; t < c->total_q; t++)
        for (uint32_t h = 0; h < d->q_heads; h++)
            for (uint32_t i = 0; i < d->dim_v; i++)
                EXPECT(fabs(c->o[(t * d->q_heads + h) * d->dim_v + i] - (double)(h * d->kv_heads / d->q_heads + 1)) <
                       1e-5);
    return true;
}

bool test_D10(void)
{
    static const char *const heads[] = {"6 / 2", "8 / 1", "5 / 5", "4 / 2", "1 / 1"};
    for (size_t i = 0; i < ATTNC_COUNT(heads); i++) {
        char source[256];
        snprintf(source, sizeof source,
                 "pattern p { heads %s; dim 16; dtype f32; mask causal; score if g == 0 then s * 2.0 else s; }",
                 heads[i]);
        EXPECT(on_every_isa(source, LENS(37, 1, 5), reads_its_kv_head));
    }
    return true;
}

static bool matches_random(e2e_call *c)
{
    unsigned long long seed = 11;
    e2e_fill(c, &seed, 1);
    return e2e_run(c) && e2e_matches(c);
}

bool test_D11(void)
{
    static const struct {
        int dim, dim_v;
        const char *type, *scale;
    } shapes[] = {{24, 80, "f32", "1.0"},    {80, 24, "f32", "0.0625"}, {16, 64, "bf16", "1.0 / 16"},
                  {192, 128, "f16", "0.07"}, {7, 5, "f32", "0.5"},      {1, 1, "f32", "1.0"},
                  {33, 1, "bf16", "0.2"},    {5, 130, "f16", "0.3"}};
    for (size_t i = 0; i < ATTNC_COUNT(shapes); i++) {
        char source[256];
        snprintf(source, sizeof source,
                 "pattern p { heads 4 / 2; dim %d; dim_v %d; dtype %s; scale %s; mask causal and window(30); }",
                 shapes[i].dim, shapes[i].dim_v, shapes[i].type, shapes[i].scale);
        EXPECT(on_every_isa(source, LENS(70, 3), matches_random));
    }
    return true;
}

static bool huge_is_finite(e2e_call *c)
{
    unsigned long long seed = 12;
    const attn_kind_desc *d = c->kind;
    e2e_fill(c, &seed, 40); /* logits up to about 1e4 */
    EXPECT(e2e_run(c) && e2e_matches(c));
    e2e_fill(c, &seed, 1);
    for (int64_t i = 0; i < d->kv_heads * d->dim; i++) c->k[5 * d->kv_heads * d->dim + i] *= 1000; /* one outlier */
    e2e_values_changed(c);
    EXPECT(e2e_run(c) && e2e_matches(c));
    for (int64_t i = 0; i < c->total_q * d->q_heads * d->dim_v; i++) EXPECT(isfinite(c->o[i]));
    return true;
}

bool test_D12(void)
{
    static const char *const types[] = {"f32", "f16", "bf16"};
    for (size_t i = 0; i < ATTNC_COUNT(types); i++) {
        char source[256];
        snprintf(source, sizeof source, "pattern p { heads 4 / 2; dim 64; dtype %s; mask causal; }", types[i]);
        EXPECT(on_every_isa(source, LENS(70), huge_is_finite));
    }
    return true;
}
