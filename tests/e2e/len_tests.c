/* len_tests.c - masks and scores that read `len`, the tokens of the sequence when the step ends. */
#include "tests/e2e/cached.h"
#include "tests/e2e/e2e_test.h"

#include <string.h>

/* Each token once, in steps of these sizes, over and over; what is kept by then, results at the end. */
static bool in_steps(const e2e_module *m, int32_t isa, uint32_t page, size_t n, const int64_t *sizes,
                     bool (*keeps)(int64_t n, int64_t k))
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = page, .rollback = 3, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 32, 5);
    EXPECT(cached_feed(&x, t, 8));
    for (size_t i = 0; t->n < 32; i++) {
        const int64_t left = 32 - t->n, size = sizes[i % n];
        EXPECT(cached_feed(&x, t, size < left ? size : left));
        if (left > 4) EXPECT(cached_rollback(&x, t, 1));
        int64_t at[8][2];
        const int64_t lists = attn_cache_kept(x.cache, t->id, 0, at, 8);
        for (int64_t k = 0, j = 0; k < t->n; k++) {
            while (j < lists && at[j][1] < k) j++;
            if (keeps(t->n, k)) EXPECT(j < lists && at[j][0] <= k);
        }
    }
    EXPECT(cached_matches(&x, t));
    attn_error err;
    const attn_step_config more = {.size = sizeof more, .n_seqs = 1, .seqs = &t->id, .counts = (int64_t[]){1}};
    EXPECT(attn_step_begin(x.cache, &more, &err) == ATTN_E_ARGUMENT && strstr(err.text, "32"));
    cached_close(&x);
    return true;
}

/* Some query to come, in a sequence of any length up to 32, sees the key. */
static bool grown_window_keeps(int64_t n, int64_t k)
{
    for (int64_t len = n + 1; len <= 32; len++)
        for (int64_t q = n; q < len; q++)
            if (q - k < 2 + len / 4) return true;
    return false;
}

static bool play_B14(const char *source, bool (*keeps)(int64_t n, int64_t k))
{
    e2e_module m;
    int32_t isa[E2E_MAX_ISAS];
    const size_t n = e2e_isas(isa);
    EXPECT(e2e_compile(&m, source, NULL));
    for (size_t i = 0; i < n; i++) {
        e2e_note("%s on %s", source, attn_isa_name((uint32_t)isa[i]));
        EXPECT(in_steps(&m, isa[i], 1, LENS(2), keeps) && in_steps(&m, isa[i], 4, LENS(5, 2, 9), keeps));
        EXPECT(in_steps(&m, isa[i], 4, LENS(24), keeps) && in_steps(&m, isa[i], 16, LENS(3), keeps));
    }
    e2e_module_free(&m);
    return true;
}

/* With room for rollbacks of 3 the cache keeps live(n - 3): all up to the window of the longest text, and no more. */
static bool forgets_the_rest(void)
{
    e2e_module m;
    cached x;
    EXPECT(compile_body(&m, "", "mask causal and window(2 + len / 4); max_len 32;"));
    EXPECT(cached_open(&x, &m, (attn_cache_config){.page_tokens = 1, .isa = -1}, 1));
    cached_text *t = cached_begin(&x, 32, 5);
    EXPECT(cached_feed(&x, t, 8) && cached_keeps(&x, t, 0, "0-7"));
    EXPECT(cached_feed(&x, t, 12) && cached_keeps(&x, t, 0, "11-19"));
    EXPECT(cached_feed(&x, t, 11) && cached_keeps(&x, t, 0, "22-30"));
    cached_close(&x);
    e2e_module_free(&m);
    return true;
}

bool test_B14(void)
{
    EXPECT(forgets_the_rest());
    EXPECT(play_B14("pattern p { heads 4 / 2; dim 16; mask causal and window(2 + len / 4); max_len 32; }",
                    grown_window_keeps));
    EXPECT(play_B14("pattern p { heads 4 / 2; dim 16; mask causal and (window(2 + len / 4) or q + 2 >= len);"
                    " score s * (1 + 0.03 * float(len)) + float(k) / float(len); max_len 32; }",
                    grown_window_keeps));
    EXPECT(match_body("mask causal and window(2 + len / 4);", LENS(8, 1, 61, 32)));
    EXPECT(match_body("mask k >= len / 2; score s * float(len % 5);", LENS(8, 70)));
    return e2e_is_refused("pattern p { heads 1; dim 16; mask causal and window(floor(2.0 + 0.25 * float(len))); }",
                          "type", "positions as floats");
}
