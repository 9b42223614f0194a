/* window_tests.c - B: sliding windows. A window of w tokens holds its own query. */
#include "tests/e2e/e2e_test.h"

#include <stdio.h>

bool test_B1(void)
{
    int64_t w = 4;
    return probe_body("mask causal and window(4);", sees_window, &w, LENS(10));
}

static bool kept_nothing(int64_t n, int64_t k)
{
    (void)n, (void)k;
    return false;
}

bool test_B2(void)
{
    e2e_module m;
    e2e_call c;
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    EXPECT(compile_body(&m, "", "mask causal and window(1);"));
    for (size_t i = 0; i < n; i++) {
        e2e_call_init(&c, &m, 0, LENS(70, 3), NULL, NULL);
        EXPECT(run_random(&c, 2, isa[i]));
        for (int64_t t = 0; t < c.total_q; t++)
            for (int64_t h = 0; h < 4; h++)
                EXPECT(difference(c.o + (t * 4 + h) * 16, c.v + (t * 2 + h / 2) * 16, 16) == 0);
        e2e_call_free(&c);
    }
    for (int64_t tokens = 0; tokens < 10; tokens++) EXPECT(live_is(&m, 0, tokens, kept_nothing));
    e2e_module_free(&m);
    return true;
}

bool test_B3(void)
{
    int64_t w = 2, shorter = 32;
    return probe_body("mask causal and window(2);", sees_window, &w, LENS(33)) &&
           probe_body("mask causal and window(32);", sees_window, &shorter, LENS(33)) &&
           probe_body("mask causal and window(33);", sees_causal, NULL, LENS(33)) &&
           probe_body("mask causal and window(34);", sees_causal, NULL, LENS(33)) &&
           probe_body("mask causal and window(1099511627776);", sees_causal, NULL, LENS(33));
}

bool test_B4(void)
{
    return refused_body("mask causal and window(0);", "a window holds at least the query itself") &&
           refused_body("mask causal and window(-1);", "a window holds at least the query itself");
}

static bool sees_band(const e2e_pair *x, const void *ctx)
{
    const int64_t *lo_hi = ctx;
    return lo_hi[0] <= x->q - x->k && x->q - x->k <= lo_hi[1];
}

bool test_B9(void)
{
    return probe_body("mask band(-3, 5);", sees_band, (int64_t[]){-3, 5}, LENS(40, 1, 7)) &&
           probe_body("mask abs(q - k) <= 6;", sees_band, (int64_t[]){-6, 6}, LENS(40, 1, 7)) &&
           probe_body("mask q - k < 6 and ahead(2);", sees_band, (int64_t[]){-2, 5}, LENS(40, 1, 7)) &&
           probe_body("mask band(8, 16);", sees_band, (int64_t[]){8, 16}, LENS(40, 8));
}

bool test_B10(void)
{
    e2e_module m;
    e2e_call c;
    unsigned long long seed = 10;
    EXPECT(e2e_compile(&m,
                       "model modernbert { layers 22; heads 2 / 2; dim 64; dtype f32; pattern full { mask all; }"
                       "  pattern local { mask band(-64, 64); } schedule (full, local * 2) * 7, full; }",
                       NULL));
    for (uint32_t layer = 0; layer < 4; layer++) {
        e2e_call_init(&c, &m, layer, LENS(200), NULL, NULL);
        int64_t reach[] = {-64, 64}, everything[] = {-200, 200};
        EXPECT(e2e_probe_all(&c, sees_band, layer % 3 ? reach : everything, &seed));
        e2e_call_free(&c);
    }
    EXPECT(attn_module_describe(m.loaded)->schedule[21] == 0 && attn_module_describe(m.loaded)->schedule[20] == 1);
    e2e_module_free(&m);
    return true;
}

static bool sees_head_window(const e2e_pair *x, const void *ctx)
{
    static const int64_t w[] = {1, 4, 16, 1 << 30};
    (void)ctx;
    return x->k <= x->q && x->q - x->k < w[x->h];
}

bool test_B11(void)
{
    e2e_module m;
    e2e_call c;
    unsigned long long seed = 11;
    EXPECT(compile_body(&m, "param W : int[4] = [1, 4, 16, none];", "mask causal and window(W[h]);"));
    e2e_call_init(&c, &m, 0, LENS(70, 5), NULL, NULL);
    EXPECT(e2e_probe_all(&c, sees_head_window, NULL, &seed));
    e2e_call_free(&c);
    e2e_module_free(&m);
    return true;
}

static bool sees_streaming(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q && (x->k < 4 || x->q - x->k < 8);
}

static bool kept_streaming(int64_t n, int64_t k) { return k < 4 || k > n - 8; }
static bool kept_window(int64_t n, int64_t k) { return k > n - 8; }

bool test_B12(void)
{
    e2e_module m;
    EXPECT(probe_body("mask streaming(4, 8);", sees_streaming, NULL, LENS(40, 12, 3)));
    EXPECT(compile_body(&m, "", "mask (sink(4) or window(8)) and causal;"));
    for (int64_t n = 0; n < 40; n++) EXPECT(live_is(&m, 0, n, kept_streaming));
    e2e_module_free(&m);
    EXPECT(compile_body(&m, "", "mask causal and window(8);"));
    for (int64_t n = 0; n < 40; n++) EXPECT(live_is(&m, 0, n, kept_window));
    e2e_module_free(&m);
    return true;
}

static bool sees_document_window(const e2e_pair *x, const void *ctx)
{
    return sees_window(x, ctx) && x->q_attr[0] == x->k_attr[0] && x->q_attr[0] >= 0;
}

bool test_B13(void)
{
    static const int32_t document[] = {0, 0, 0, 1, 1, 1, 1, 1, 1, 1, -1, -1, 2, 3, 3, 3, 3, 3, 3};
    e2e_module m;
    e2e_call c;
    unsigned long long seed = 13;
    int64_t w = 4;
    EXPECT(compile_body(&m, "attr doc : int;", "mask causal and same(doc) and window(4);"));
    e2e_call_init(&c, &m, 0, LENS(ATTNC_COUNT(document)), NULL, NULL);
    for (size_t i = 0; i < ATTNC_COUNT(document); i++) c.q_attrs[0][i] = c.k_attrs[0][i] = document[i];
    EXPECT(e2e_probe_all(&c, sees_document_window, &w, &seed));
    e2e_call_free(&c);
    e2e_module_free(&m);
    return true;
}
