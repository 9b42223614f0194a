/* report_test.c - what `attnc --report --context=N` says of the KV cache, against a cache that has N tokens, in pages
 * of one token. */
#include "tests/e2e/cached.h"
#include "tools/attnc/coverage.h"

#include <stdio.h>
#include <stdlib.h>

/* Blocks of 16 floats fill whole lines, so that no byte of a page is there for alignment. */
static const struct {
    const char *name, *text;
} models[] = {
    {"full", "pattern p { heads 4 / 2; dim 16; dtype f32; mask causal; }"},
    {"window", "pattern p { heads 4 / 2; dim 16; dtype f32; mask causal and window(7); }"},
    {"chunk", "pattern p { heads 2 / 1; dim 32; dtype bf16; mask causal and chunk(8); }"},
    {"sink", "pattern p { heads 4 / 2; dim 16; dtype f32; mask streaming(3, 9); }"},
    {"dilated", "pattern p { heads 2 / 2; dim 16; dtype f32; mask causal and window(20) and every(4, 0); }"},
    {"two kinds", "model m { layers 4; heads 4 / 2; dim 16; dtype f32; pattern a { mask causal and chunk(8); } "
                  "pattern b { mask causal; } schedule a, a, b, a; }"},
    {"by layer",
     "model m { layers 3; heads 4 / 2; dim 16; dtype f32; pattern a { mask causal and window(3 + 4 * layer); } "
     "schedule (a) * 3; }"},
    {"by layer and head", "model m { layers 2; heads 8 / 4; dim 16; dtype f32; param w : int[4] = [3, 9, 3, 40]; "
                          "pattern a { mask causal and (window(w[g]) or layer == 1 and sink(2)); } schedule a * 2; }"},
    {"shared",
     "model m { layers 5; heads 4 / 2; dim 16; dtype f32; pattern a { mask causal and window(5); } pattern b { "
     "heads 8 / 2; mask causal and (window(9) or g == 1 and sink(1)); kv shared(1); } schedule a * 3, b * 2; }"},
    {"K is V", "pattern p { heads 4 / 2; dim 32; dim_v 16; dtype f32; mask causal and chunk(8); kv k_is_v; }"},
    {"int8", "pattern p { heads 4 / 2; dim 60; dtype f32; mask causal and window(7); kv quant(int8); }"},
    {"int8 in groups", "pattern p { heads 4 / 2; dim 96; dim_v 160; dtype f16; mask causal and chunk(8); kv quant(int8, 16); }"},
    {"growing", "pattern p { heads 4 / 2; dim 16; dtype f32; mask causal and window(2 + len / 4); max_len 64; }"},
    {"by head", "pattern p { heads 4 / 2; dim 16; dtype f32; mask causal and window(if g == 0 then 4 else 30); }"},
};

typedef struct said {           /* sums over all kinds */
    uint64_t live, peak, token; /* token: bytes of one token everywhere */
} said;

static said ask_report(const e2e_module *m, int64_t n)
{
    said s = {0};
    for (uint32_t k = 0; k < m->ir->patterns.n; k++) {
        const coverage_options o = {.n = n, .tile_rows = 16, .tile_keys = 16};
        const coverage c = coverage_compute(m->arena, m->ir, k, &o);
        ATTNC_CHECK(c.known);
        s.live += (uint64_t)c.live_bytes, s.peak += (uint64_t)c.live_peak_bytes;
        s.token += (uint64_t)(c.full_bytes / n);
    }
    return s;
}

/* Heads differ and lie in the same pages: these keep what any of them needs. */
static bool is_joined(const e2e_module *m)
{
    const attn_module_desc *d = attn_module_describe(m->loaded);
    bool joined = false;
    for (uint32_t k = 0; k < d->n_kinds; k++)
        joined |= d->kinds[k]->flags & (ATTN_KIND_HEADS_DIFFER | ATTN_KIND_LAYERS_DIFFER) && d->kinds[k]->n_groups <= 1;
    return joined;
}

/* step 0: all at once. The most that it had between steps comes back. */
static bool feed(const e2e_module *m, int64_t n, int64_t step, uint64_t want, uint64_t *most)
{
    cached x;
    if (!cached_open(&x, m, (attn_cache_config){.page_tokens = 1, .isa = -1}, 1)) return false;
    cached_text *t = cached_begin(&x, n, 3);
    *most = 0;
    while (t->n < n) {
        if (!cached_feed(&x, t, !step || t->n + step > n ? n - t->n : step)) return false;
        if (cached_stats(&x).bytes > *most) *most = cached_stats(&x).bytes;
    }
    const uint64_t bytes = cached_stats(&x).bytes;
    const bool ok = is_joined(m) ? bytes >= want : bytes == want;
    if (!ok)
        e2e_fail("%lld tokens, %lld at a time: the cache has %llu bytes, the report says %llu", (long long)n,
                 (long long)step, (unsigned long long)bytes, (unsigned long long)want);
    cached_close(&x);
    return ok;
}

/* One token at a time: what lives on the way, and the token. Kinds may have their most at different lengths. */
static bool check_bound(const e2e_module *m, int64_t n, const said *s)
{
    cached x;
    uint64_t bound = 0;
    const attn_cache_limits l = {.size = sizeof l, .n_seqs = 1, .max_tokens = n, .max_step = 1};
    if (!cached_open(&x, m, (attn_cache_config){.page_tokens = 1, .isa = -1}, 1)) return false;
    const bool asked = !attn_cache_bound(x.cache, &l, &bound, NULL);
    cached_close(&x);
    return (asked && bound >= (m->ir->patterns.n == 1 ? s->peak : s->live) &&
            (is_joined(m) || bound <= s->peak + s->token)) ||
           e2e_fail("%lld tokens: a bound of %llu bytes; the report has %llu on the way", (long long)n,
                    (unsigned long long)bound, (unsigned long long)s->peak);
}

static bool compare(const e2e_module *m, int64_t n)
{
    uint64_t most;
    const said s = ask_report(m, n);
    if (!feed(m, n, 0, s.live, &most) || !feed(m, n, 5, s.live, &most) || !feed(m, n, 1, s.live, &most)) return false;
    if (m->ir->patterns.n == 1 && !is_joined(m) && most != s.peak)
        return e2e_fail("%lld tokens: at most %llu bytes on the way, the report says %llu", (long long)n,
                        (unsigned long long)most, (unsigned long long)s.peak);
    return check_bound(m, n, &s);
}

int main(void)
{
    static const int64_t lengths[] = {1, 8, 29, 64};
    int failed = 0;
    for (size_t i = 0; i < ATTNC_COUNT(models); i++) {
        e2e_module m;
        e2e_note("%s", models[i].name);
        bool ok = e2e_compile(&m, models[i].text, "cpu:baseline");
        for (size_t n = 0; n < ATTNC_COUNT(lengths) && ok; n++) ok = compare(&m, lengths[n]);
        e2e_module_free(&m);
        printf("%s %s\n", ok ? "pass" : "FAIL", models[i].name);
        failed += !ok;
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
