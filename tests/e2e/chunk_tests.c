/* chunk_tests.c - A: chunked attention, its edges, and what it degenerates to. */
#include "tests/e2e/e2e_test.h"

#include <math.h>
#include <stdio.h>

/* A batch of 8 and 5 tokens under chunk(8192), in a layout, against each alone under causal: equal to the bit on each
 * instruction set. */
static bool batch_is_singles(const e2e_module *chunked, const e2e_module *causal, e2e_layout layout, int32_t isa)
{
    static const int64_t lens[] = {8, 5};
    e2e_call both, single;
    e2e_call_init(&both, chunked, 0, 2, lens, NULL, NULL);
    both.layout = layout;
    bool ok = run_random(&both, 3, isa) && e2e_matches(&both);
    int64_t q_width = both.kind->q_heads * both.kind->dim, k_width = both.kind->kv_heads * both.kind->dim;
    for (int64_t i = 0, at = 0; i < 2 && ok; at += lens[i++]) {
        e2e_call_init(&single, causal, 0, 1, &lens[i], NULL, NULL);
        for (int64_t j = 0; j < lens[i] * q_width; j++) single.q[j] = both.q[at * q_width + j];
        for (int64_t j = 0; j < lens[i] * k_width; j++)
            single.k[j] = both.k[at * k_width + j], single.v[j] = both.v[at * k_width + j];
        e2e_values_changed(&single);
        single.isa = isa;
        ok = e2e_run(&single) && e2e_matches(&single) &&
             difference(single.o, both.o + at * q_width, lens[i] * q_width) < 1e-6;
        e2e_call_free(&single);
    }
    e2e_call_free(&both);
    return ok;
}

static bool batch_in_layouts(e2e_layout first, e2e_layout last)
{
    e2e_module chunked, causal;
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    if (!compile_body(&chunked, "", "mask causal and chunk(8192);") || !compile_body(&causal, "", "mask causal;"))
        return false;
    bool ok = true;
    for (size_t i = 0; i < n; i++)
        for (e2e_layout l = first; l <= last && ok; l++) ok = batch_is_singles(&chunked, &causal, l, isa[i]);
    e2e_module_free(&chunked);
    e2e_module_free(&causal);
    return ok;
}

bool test_A1(void) { return batch_in_layouts(E2E_PACKED, E2E_PACKED); }
bool test_A2(void) { return batch_in_layouts(E2E_BATCH, E2E_BATCH); }

bool test_A3(void)
{
    int64_t c = 4;
    return probe_body("mask causal and chunk(4);", sees_chunk, &c, LENS(1, 3, 4, 5, 7, 8, 9, 17));
}

bool test_A4(void)
{
    int64_t c = 4;
    return probe_body("mask causal and chunk(4);", sees_chunk, &c, LENS(3, 6, 13));
}

bool test_A10(void) { return probe_body("mask causal and chunk(8);", sees_causal, NULL, LENS(4)); }

bool test_A11(void)
{
    return probe_body("mask causal;", sees_causal, NULL, LENS(33)) &&
           probe_body("mask causal and chunk(none);", sees_causal, NULL, LENS(33));
}

bool test_A12(void)
{
    return refused_body("mask causal and chunk(0);", "a chunk holds at least one token") &&
           refused_body("mask causal and chunk(-4);", "a chunk holds at least one token");
}

bool test_A13(void)
{
    e2e_module m;
    e2e_call c;
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    unsigned long long seed = 13;
    if (!compile_body(&m, "", "mask causal and chunk(6);")) return false;
    e2e_call_init(&c, &m, 0, LENS(25, 6, 1), NULL, NULL);
    e2e_fill(&c, &seed, 1);
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        c.isa = isa[i];
        e2e_note("chunk(6), pages of 4, %s", attn_isa_name((uint32_t)isa[i]));
        ok = e2e_run_paged(&c, 4, &seed) && e2e_matches(&c);
    }
    e2e_call_free(&c);
    e2e_module_free(&m);
    return ok;
}

/* The factor at a position: the logit of one key, scaled by 1 and with q = k = 1 in one dim, is the factor itself: lse
 * of one key. */
bool test_A17(void)
{
    static const struct {
        int64_t position;
        double llama4, ministral3;
    } golden[] = {{0, 1, 1},
                  {8190, 1, 1},
                  {8191, 1.0693147, 1},
                  {16382, 1.0693147, 1},
                  {16383, 1.1098612, 1},
                  {16384, 1.1098612, 1.0693147},
                  {40959, 1.1791759, 1.1098612}};
    e2e_module m;
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    EXPECT(e2e_compile(
        &m,
        "model t { layers 2; heads 1; dim 16; dtype f32; scale 1.0; mask q - k < 1 and causal;"
        "  pattern a { score qtemp(0.1, 8192, 1); } pattern b { score qtemp(0.1, 16384, 0); } schedule a, b; }",
        NULL));
    for (size_t i = 0; i < n; i++)
        for (size_t g = 0; g < ATTNC_COUNT(golden); g++)
            for (uint32_t layer = 0; layer < 2; layer++) {
                e2e_call c;
                /* 5 tokens of another sequence stand before it in the tensor: positions count, not columns */
                e2e_call_init(&c, &m, layer, LENS(5, 1), (int64_t[]){5, golden[g].position + 1}, NULL);
                for (int64_t t = 0; t < c.total_k; t++) c.k[t * 16] = 1;
                c.q[5 * 16] = 1;
                c.isa = isa[i];
                e2e_note("position %lld, layer %u, %s", (long long)golden[g].position, layer,
                         attn_isa_name((uint32_t)isa[i]));
                EXPECT(e2e_run(&c));
                EXPECT(fabs(c.lse[5] - (layer ? golden[g].ministral3 : golden[g].llama4)) < 1e-6);
                e2e_call_free(&c);
            }
    e2e_module_free(&m);
    return true;
}

bool test_A18(void)
{
    e2e_module with, without;
    e2e_call a, b;
    EXPECT(compile_body(&with, "", "mask causal and chunk(8);") && compile_body(&without, "", "mask causal;"));
    e2e_call_init(&a, &with, 0, LENS(25), NULL, NULL);
    e2e_call_init(&b, &without, 0, LENS(25), NULL, NULL);
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    for (size_t i = 0; i < n; i++) {
        EXPECT(run_random(&a, 18, isa[i]) && run_random(&b, 18, isa[i]));
        EXPECT(e2e_matches(&a) && e2e_matches(&b));
        int64_t row = a.kind->q_heads * a.kind->dim_v;
        EXPECT(difference(a.o, b.o, 8 * row) < 1e-5);
        for (int64_t q = 8; q < 25; q++) EXPECT(difference(a.o + q * row, b.o + q * row, row) > 1e-3);
    }
    e2e_call_free(&a);
    e2e_call_free(&b);
    e2e_module_free(&with);
    e2e_module_free(&without);
    return true;
}

static bool sees_block(const e2e_pair *x, const void *ctx)
{
    const int64_t *c = ctx;
    return x->k / *c == x->q / *c;
}

bool test_A19(void)
{
    int64_t c = 8;
    return probe_body("mask chunk(8);", sees_block, &c, LENS(29, 8, 1, 16, 130));
}

static bool sees_sink_or_chunk(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q && (x->k < 2 || x->k / 4 == x->q / 4);
}

static bool kept_sink_or_chunk(int64_t n, int64_t k) { return k < 2 || k >= n / 4 * 4; }
static bool kept_chunk(int64_t n, int64_t k) { return k >= n / 4 * 4; }

bool test_A20(void)
{
    e2e_module m;
    EXPECT(probe_body("mask (sink(2) or chunk(4)) and causal;", sees_sink_or_chunk, NULL, LENS(10, 1, 33)));
    EXPECT(compile_body(&m, "", "mask (sink(2) or chunk(4)) and causal;"));
    for (int64_t n = 0; n < 40; n++) EXPECT(live_is(&m, 0, n, kept_sink_or_chunk));
    e2e_module_free(&m);
    EXPECT(compile_body(&m, "", "mask causal and chunk(4);"));
    for (int64_t n = 0; n < 40; n++) EXPECT(live_is(&m, 0, n, kept_chunk));
    e2e_module_free(&m);
    return true;
}
