/* group_tests.c - KV heads that live differently, each group in pages of its own; layers that read the keys of others;
 * keys that are values. */
#include "tests/e2e/cached.h"
#include "tests/e2e/e2e_test.h"

#include <stdio.h>
#include <string.h>

/* Sees query q of this layer and query head the key? */
typedef bool head_sees(uint32_t layer, uint32_t h, int64_t q, int64_t k);

enum { FAR = 200 }; /* queries that brute force looks ahead; no window here is as long */

static uint32_t owner_of(const attn_module_desc *d, uint32_t layer)
{
    const attn_kind_desc *kind = d->kinds[d->schedule[layer]];
    return kind->flags & ATTN_KIND_KV_SHARED ? kind->kv_layer : layer;
}

/* Some query to come of some layer that reads these keys sees the key. */
static bool lives(const attn_module_desc *d, head_sees *sees, uint32_t layer, uint32_t g, int64_t n, int64_t k)
{
    for (uint32_t l = 0; l < d->n_layers; l++) {
        const attn_kind_desc *kind = d->kinds[d->schedule[l]];
        const uint32_t per = kind->q_heads / kind->kv_heads;
        if (owner_of(d, l) != owner_of(d, layer)) continue;
        for (uint32_t h = g * per; h < (g + 1) * per; h++)
            for (int64_t q = n; q < n + FAR; q++)
                if (sees(l, h, q, k)) return true;
    }
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
                if (kept == lives(attn_module_describe(x->m->loaded), sees, layer, g, t->n, k)) continue;
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

/* ---- C16: layers that read the keys of others through wider and narrower windows ---- */

static const char shared_model[] =
    "model shared { layers 8; heads 4 / 2; dim 16; dtype f32;"
    " pattern local { mask causal and window(5); }"
    " pattern full { mask causal; }"
    " pattern wide { mask causal and window(9); kv shared(0); }"
    " pattern narrow { mask causal and window(3); kv shared(0); }"
    " pattern streams { heads 8 / 2; mask causal and (window(4) or g == 1 and sink(3)); kv shared(1); }"
    " pattern again { mask causal and chunk(8); kv shared(3); }"
    " schedule local * 3, full, wide, narrow, streams, again; }";

static bool shared_sees(uint32_t layer, uint32_t h, int64_t q, int64_t k)
{
    static const int64_t windows[8] = {5, 5, 5, 1000, 9, 3, 4, 8};
    const bool inside = layer == 7 ? q / 8 == k / 8 : q - k < windows[layer];
    return k <= q && (inside || (layer == 6 && h >= 4 && k < 3));
}

/* Layer 0: 8 tokens in 2 heads. Layer 1: 4, and 3 more in one of them. Layer 2: 4. Layer 3: all. */
static uint64_t shared_bytes(int64_t n)
{
    return (uint64_t)(2 * least(n, 8) + least(n, 4) + least(n, 7) + 2 * least(n, 4) + 2 * n) * 32 * 4;
}

static bool play_back_and_forth(const e2e_module *m, int32_t isa)
{
    for (uint32_t page = 1; page <= 16; page *= 4) {
        cached x;
        EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = page, .rollback = 6, .isa = isa}, 1));
        cached_text *t = cached_begin(&x, 90, 5);
        EXPECT(cached_feed(&x, t, 21) && cached_rollback(&x, t, 6) && cached_feed(&x, t, 3));
        cached_text *u = cached_fork(&x, t, 77);
        EXPECT(u && cached_feed(&x, u, 5) && cached_feed(&x, t, 9) && cached_rollback(&x, u, 4) &&
               cached_feed(&x, u, 13));
        EXPECT(cached_rollback(&x, t, 2) && cached_feed(&x, t, 1) && cached_matches(&x, t) && cached_matches(&x, u));
        EXPECT(cached_end(&x, t) && cached_feed(&x, u, 1) && cached_matches(&x, u));
        cached_close(&x);
    }
    return true;
}

/* Layer 4 reads layer 0, which has not been run. */
static bool refuses_before_owner(const e2e_module *m)
{
    float values[4 * 16] = {0}, out[4 * 16], lse[4];
    int64_t extent[3] = {1, 4, 16};
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = -1}, 1));
    cached_text *t = cached_begin(&x, 4, 1);
    DLTensor q = {.data = values, .device = {kDLCPU, 0}, .ndim = 3, .dtype = {kDLFloat, 32, 1}, .shape = extent}, o = q,
             l = q;
    o.data = out, l.data = lse, l.ndim = 2;
    const attn_tensors tensors = {.size = sizeof tensors, .q = &q, .o = &o, .lse = &l};
    const attn_step_config config = {.size = sizeof config, .n_seqs = 1, .seqs = &t->id, .counts = (int64_t[]){1}};
    attn_error err;
    EXPECT(!attn_step_begin(x.cache, &config, &err));
    EXPECT(attn_step_layer(x.cache, 4, &tensors, NULL, &err) == ATTN_E_STATE && strstr(err.text, "layer 0"));
    attn_step_cancel(x.cache);
    EXPECT(cached_feed(&x, t, 3) && cached_matches(&x, t));
    cached_close(&x);
    return true;
}

bool test_C16(void)
{
    e2e_module m;
    int32_t isa[E2E_MAX_ISAS];
    EXPECT(play_model(shared_model, &(play){shared_sees, shared_bytes}));
    EXPECT(e2e_compile(&m, shared_model, NULL));
    const size_t n = e2e_isas(isa);
    for (size_t i = 0; i < n; i++) EXPECT(play_back_and_forth(&m, isa[i]));
    EXPECT(refuses_before_owner(&m));
    e2e_module_free(&m);
    return true;
}

/* ---- C17: head sizes by kind, and keys that are values, as in Gemma 4 ---- */

static bool mixed_sees(uint32_t layer, uint32_t h, int64_t q, int64_t k)
{
    (void)h;
    return k <= q && (layer % 3 == 2 || q - k < 8);
}

/* 4 sliding layers of 4 heads, 2 full ones of 2 heads without values. */
static uint64_t mixed_bytes(int64_t n) { return (uint64_t)(16 * least(n, 7) * (16 + 16) + 4 * n * 32) * 4; }

/* Keys in a tensor, no cache. */
static bool matches_alone(const char *clauses)
{
    e2e_module m;
    e2e_call c;
    char source[256];
    unsigned long long seed = 2;
    snprintf(source, sizeof source, "pattern p { %s }", clauses);
    EXPECT(e2e_compile(&m, source, NULL));
    e2e_call_init(&c, &m, 0, 3, (int64_t[]){40, 1, 70}, NULL, NULL);
    e2e_fill(&c, &seed, 1);
    EXPECT(e2e_matches_all(&c));
    e2e_call_free(&c);
    e2e_module_free(&m);
    return true;
}

bool test_C17(void)
{
    EXPECT(play_model("model mixed { layers 6; heads 8 / 4; dim 16; dtype f32;"
                      " pattern sliding { mask causal and window(8); }"
                      " pattern full { heads 8 / 2; dim 32; mask causal; kv k_is_v; }"
                      " schedule (sliding * 2, full) * 2; }",
                      &(play){mixed_sees, mixed_bytes}));
    return matches_alone("heads 4 / 2; dim 16; kv k_is_v; mask causal and window(9);") &&
           matches_alone("heads 2 / 1; dim 40; dim_v 24; kv k_is_v; mask causal;") &&
           matches_alone("heads 2; dtype bf16; dim 64; dim_v 32; kv k_is_v; mask all; row softmax(sink: 0.5);") &&
           matches_alone("heads 3; dtype f16; dim 33; dim_v 5; kv k_is_v; mask causal;");
}
