/* group_tests.c - KV heads of one layer that live differently: each group has pages of its own. */
#include "tests/e2e/cached.h"
#include "tests/e2e/e2e_test.h"

#include <stdio.h>

/* Sees query q of this layer and query head the key? */
typedef bool head_sees(uint32_t layer, uint32_t h, int64_t q, int64_t k);

enum { FAR = 200 }; /* queries that brute force looks ahead; no window here is as long */

static bool lives(const attn_kind_desc *d, head_sees *sees, uint32_t layer, uint32_t g, int64_t n, int64_t k)
{
    const uint32_t per = d->q_heads / d->kv_heads;
    for (uint32_t h = g * per; h < (g + 1) * per; h++)
        for (int64_t q = n; q < n + FAR; q++)
            if (sees(layer, h, q, k)) return true;
    return false;
}

static bool keeps_like(const cached *x, const cached_text *t, head_sees *sees)
{
    for (uint32_t i = 0; i < x->n_layers; i++)
        for (uint32_t g = 0; g < t->call[i].kind->kv_heads; g++) {
            int64_t at[16][2];
            const uint32_t layer = x->layers[i];
            const int64_t n = attn_cache_kept_by_head(x->cache, t->id, layer, g, at, 16);
            EXPECT(0 <= n && n <= 16);
            for (int64_t k = 0, j = 0; k < t->n; k++) {
                while (j < n && at[j][1] < k) j++;
                const bool kept = j < n && at[j][0] <= k;
                if (kept == lives(t->call[i].kind, sees, layer, g, t->n, k)) continue;
                return e2e_fail("after %lld tokens layer %u, KV head %u: key %lld is %s", (long long)t->n, layer, g,
                                (long long)k, kept ? "kept" : "lost");
            }
        }
    return true;
}

typedef struct play {
    head_sees *sees;
    uint64_t (*bytes)(int64_t n); /* with pages of one token */
} play;

/* A text in pieces, looked at on the way: what is kept, for how many bytes, and the results. */
static bool play_text(const e2e_module *m, int32_t isa, uint32_t page, const play *p)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = page, .rollback = 0, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 90, 5);
    for (int i = 0; t->n < 88; i++) {
        EXPECT(cached_feed(&x, t, 1 + i % 5 * 3 > 88 - t->n ? 88 - t->n : 1 + i % 5 * 3));
        EXPECT(keeps_like(&x, t, p->sees));
        if (page == 1) EXPECT(cached_stats(&x).bytes == p->bytes(t->n));
    }
    cached_text *u = cached_fork(&x, t, 77);
    EXPECT(u && cached_matches(&x, t) && cached_feed(&x, u, 2) && cached_feed(&x, t, 1) && cached_matches(&x, u));
    EXPECT(cached_end(&x, t) && cached_matches(&x, u));
    cached_close(&x);
    return true;
}

static bool play_model(const char *source, const play *p)
{
    e2e_module m;
    int32_t isa[E2E_MAX_ISAS];
    const size_t n = e2e_isas(isa);
    EXPECT(e2e_compile(&m, source, NULL));
    for (size_t i = 0; i < n; i++) {
        e2e_note("%s on %s", source, attn_isa_name((uint32_t)isa[i]));
        EXPECT(play_text(&m, isa[i], 1, p) && play_text(&m, isa[i], 8, p));
    }
    e2e_module_free(&m);
    return true;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- DuoAttention: examples/duo_attention.attn, scaled down ---- */

static bool duo_sees(uint32_t layer, uint32_t h, int64_t q, int64_t k)
{
    const uint32_t g = h / 2;
    const bool retrieves = layer < 2 ? g == 0 || g == 2 : g == 3;
    return k <= q && (retrieves || k < 3 || q - k < 16);
}

/* 2 * 2 + 2 * 1 heads retrieve, 2 * 2 + 2 * 3 stream: 3 + 15 tokens. */
static uint64_t duo_bytes(int64_t n)
{
    const int64_t streamed = n < 18 ? n : 18;
    return (uint64_t)(6 * n + 10 * streamed) * (16 + 16) * 4;
}

bool test_DUO(void)
{
    return play_model("mask streams = (sink(3) or window(16)) and causal;"
                      "model duo { layers 4; heads 8 / 4; dim 16; dtype f32;"
                      " pattern early { mask if g == 0 or g == 2 then causal else streams; }"
                      " pattern late { mask if g == 3 then causal else streams; }"
                      " schedule early * 2, late * 2; }",
                      &(play){duo_sees, duo_bytes});
}

/* ---- MoA: a window for each head, then for each layer and head ---- */

static const int64_t moa_windows[3][4] = {{4, 9, 4, 30}, {17, 17, 4, 9}, {4, 9, 30, 30}};

static bool by_head_sees(uint32_t layer, uint32_t h, int64_t q, int64_t k)
{
    (void)layer;
    return k <= q && q - k < moa_windows[0][h];
}

static uint64_t by_head_bytes(int64_t n)
{
    uint64_t tokens = 0;
    for (int h = 0; h < 4; h++) tokens += 2 * (uint64_t)least(n, moa_windows[0][h] - 1);
    return tokens * 32 * 4;
}

static bool by_layer_sees(uint32_t layer, uint32_t h, int64_t q, int64_t k)
{
    return k <= q && q - k < moa_windows[layer][h];
}

static uint64_t by_layer_bytes(int64_t n)
{
    uint64_t tokens = 0;
    for (int l = 0; l < 3; l++)
        for (int h = 0; h < 4; h++) tokens += (uint64_t)least(n, moa_windows[l][h] - 1);
    return tokens * 32 * 4;
}

bool test_MOA(void)
{
    EXPECT(play_model("param win : int[4] = [4, 9, 4, 30];"
                      "model moa { layers 2; heads 4; dim 16; dtype f32;"
                      " pattern p { mask causal and window(win[h]); } schedule p * 2; }",
                      &(play){by_head_sees, by_head_bytes}));
    return play_model("param win : int[3, 4] = [[4, 9, 4, 30], [17, 17, 4, 9], [4, 9, 30, 30]];"
                      "model moa { layers 3; heads 4; dim 16; dtype f32;"
                      " pattern p { mask causal and window(win[layer, h]); } schedule p * 3; }",
                      &(play){by_layer_sees, by_layer_bytes});
}
