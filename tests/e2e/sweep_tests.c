/* sweep_tests.c - masks with two halves, swept one after the other where texts are long enough (docs/analysis.md): the second sweep goes
 * on from the first one's results, which pass through memory. */
#include "tests/e2e/cached.h"
#include "tests/e2e/e2e_test.h"

#include <string.h>

#define RUNGS "mask causal and (window(60) or stride(16));"
#define LATE_RUNGS "mask k + 40 <= q and (q - k < 99 or (q - k) % 16 == 0);"

enum { LONG = 1024, SHORT = 330 }; /* that are swept twice, and once */

/* Odd dims, heads that differ, scores, sinks, rows that see nothing in the first half or in both. */
static const char *const patterns[] = {
    "pattern p { heads 4 / 2; dim 24; dim_v 20; dtype f32; " RUNGS " score alibi; }",
    "pattern p { heads 2 / 2; dim 32; dtype bf16; " RUNGS " score softcap(20.0); }",
    "pattern p { heads 4 / 1; dim 16; dim_v 36; dtype f16; " RUNGS " }",
    "pattern p { heads 4 / 2; dim 16; dtype f32; mask causal and (window(60) or h < 2 and stride(16)); }",
    "pattern p { heads 2 / 1; dim 16; dtype f32; " LATE_RUNGS " }",
    "input sinks : f32[heads]; pattern p { heads 2 / 1; dim 16; dtype f32; " LATE_RUNGS " row softmax(sink: sinks[h]); }",
    "attr doc : int; pattern p { heads 2 / 2; dim 16; dtype f32; mask causal and (window(60) or stride(16)) and same(doc); }",
    "pattern p { heads 2 / 2; dim 16; dtype f32; mask causal and (window(60) or band(0, 20) or dilated(600, 16) or sink(2)); }",
};

static void set_data(e2e_call *c)
{
    for (int64_t t = 0; c->q_attrs[0] && t < c->total_q; t++) c->q_attrs[0][t] = c->k_attrs[0][t] = t < 500;
    for (int64_t h = 0; c->inputs[0] && h < c->kind->q_heads; h++) c->inputs[0][h] = 1.5 - (double)h;
}

/* Also with tiles cut into parts, of which the first alone goes on from something; and o of 16 bits. */
static bool is_right(const char *source, unsigned long long seed)
{
    e2e_module m;
    e2e_call c;
    int32_t isa[E2E_MAX_ISAS];
    bool ok = e2e_compile(&m, source, NULL);
    if (!ok) return false;
    e2e_call_init(&c, &m, 0, 2, (int64_t[]){LONG, SHORT}, NULL, NULL);
    set_data(&c);
    e2e_fill(&c, &seed, 1);
    e2e_note("%s", source);
    ok = e2e_matches_all(&c);
    c.isa = isa[e2e_isas(isa) - 1];
    for (c.threads = 1; ok && c.threads < 5; c.threads++)
        for (c.parts = 0; ok && c.parts < 4; c.parts += 3) {
            c.half_output = c.threads % 2;
            e2e_note("%u threads, %u parts: %s", c.threads, c.parts, source);
            ok = e2e_run(&c) && e2e_matches(&c);
        }
    e2e_call_free(&c);
    e2e_module_free(&m);
    return ok;
}

/* Long steps through a cache, between short ones. */
static bool is_right_in_a_cache(const char *kv)
{
    char source[256];
    e2e_module m;
    cached x;
    snprintf(source, sizeof source, "pattern p { heads 2 / 2; dim 32; dtype f32; " RUNGS " %s }", kv);
    bool ok = e2e_compile(&m, source, NULL) && cached_open(&x, &m, (attn_cache_config){.page_tokens = 16, .rollback = 2}, 7);
    if (!ok) return false;
    e2e_note("%s", source);
    cached_text *a = cached_begin(&x, 2 * LONG, 8), *b = cached_begin(&x, 2 * LONG, 9);
    const cached_move both[] = {{a, LONG}, {b, 1}}, turned[] = {{a, 1}, {b, LONG}};
    ok = cached_step(&x, both, 2) && cached_step(&x, turned, 2) && cached_feed(&x, a, 900) && cached_feed(&x, b, 3) && cached_matches(&x, a) &&
         cached_matches(&x, b);
    cached_close(&x);
    e2e_module_free(&m);
    return ok;
}

bool test_E16(void)
{
    for (size_t i = 0; i < ATTNC_COUNT(patterns); i++)
        if (!is_right(patterns[i], i + 1)) return false;
    return is_right_in_a_cache("") && is_right_in_a_cache("kv quant(int8);");
}
