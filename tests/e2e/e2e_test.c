/* e2e_test.c - end-to-end tests by name: pattern text in, numbers out.   e2e_test [--list | NAME ...] */
#include "tests/e2e/e2e_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *what;
    bool (*run)(void);
} tests[] = {
#define NAMED(name, what) {#name, what, test_##name},
#include "tests/e2e/names.def"
#include "tests/e2e/issues.def"
#undef NAMED
};

/* ---- shared ---- */

bool expect_failed(const char *file, int line, const char *what)
{
    printf("%s:%d: failed: %s\n  last run: %s\n", file, line, what, e2e_get_note());
    return false;
}

bool compile_body(e2e_module *m, const char *head, const char *body)
{
    char all[4096];
    snprintf(all, sizeof all, "%s pattern p { heads 4 / 2; dim 16; dtype f32; %s }", head, body);
    return e2e_compile(m, all, NULL);
}

bool probe_body(const char *body, e2e_visible *see, const void *ctx, size_t n, const int64_t *lens)
{
    e2e_module m;
    e2e_call c;
    unsigned long long seed = 1;
    if (!compile_body(&m, "", body)) return false;
    e2e_call_init(&c, &m, 0, (uint32_t)n, lens, NULL, NULL);
    bool ok = e2e_probe_all(&c, see, ctx, &seed);
    e2e_call_free(&c);
    e2e_module_free(&m);
    return ok;
}

bool match_body(const char *body, size_t n, const int64_t *lens)
{
    e2e_module m;
    e2e_call c;
    unsigned long long seed = 2;
    if (!compile_body(&m, "", body)) return false;
    e2e_call_init(&c, &m, 0, (uint32_t)n, lens, NULL, NULL);
    e2e_fill(&c, &seed, 1);
    bool ok = e2e_matches_all(&c);
    e2e_call_free(&c);
    e2e_module_free(&m);
    return ok;
}

bool refused_body(const char *body, const char *words)
{
    char all[1024];
    snprintf(all, sizeof all, "pattern p { heads 1; dim 16; dtype f32; %s }", body);
    return e2e_is_refused(all, "range", words);
}

bool run_random(e2e_call *c, unsigned long long seed, int32_t isa)
{
    c->isa = isa;
    e2e_fill(c, &seed, 1);
    e2e_note("%s, %s, %lld queries", c->pattern->name, attn_isa_name((uint32_t)isa), (long long)c->total_q);
    return e2e_run(c);
}

double difference(const float *a, const float *b, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = a[i] == b[i] ? 0 : fabs((double)a[i] - b[i]);
        if (!(d <= worst)) worst = isnan(d) ? INFINITY : d;
    }
    return worst;
}

bool live_is(const e2e_module *m, uint32_t layer, int64_t n, alive_fn *alive)
{
    const attn_module_desc *d = attn_module_describe(m->loaded);
    const attn_kind_desc *kind = d->kinds[d->schedule[layer]];
    int64_t out[128];
    ATTNC_CHECK(kind->n_live <= 64);
    kind->live(&(attn_range_args){.size = sizeof(attn_range_args), .q0 = n, .q1 = n, .layer = layer}, out);
    for (int64_t k = 0; k < n; k++) {
        bool kept = false;
        for (uint32_t i = 0; i < kind->n_live; i++) kept |= out[2 * i] <= k && k <= out[2 * i + 1];
        if (kept == alive(n, k)) continue;
        printf("after %lld tokens, key %lld is %s\n", (long long)n, (long long)k, kept ? "kept" : "dropped");
        return false;
    }
    return true;
}

bool sees_causal(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q;
}

bool sees_chunk(const e2e_pair *x, const void *ctx)
{
    const int64_t *c = ctx;
    return x->k <= x->q && x->k / *c == x->q / *c;
}

bool sees_window(const e2e_pair *x, const void *ctx)
{
    const int64_t *w = ctx;
    return x->k <= x->q && x->q - x->k < *w;
}

/* ---- main ---- */

static bool wanted(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], name)) return true;
    return argc == 1;
}

int main(int argc, char **argv)
{
    int ran = 0, failed = 0;
    bool list = argc == 2 && !strcmp(argv[1], "--list");
    for (size_t i = 0; i < ATTNC_COUNT(tests); i++) {
        if (list) puts(tests[i].name);
        if (list || !wanted(argc, argv, tests[i].name)) continue;
        bool ok = tests[i].run();
        printf("%s %s: %s\n", ok ? "pass" : "FAIL", tests[i].name, tests[i].what);
        ran++, failed += !ok;
    }
    if (!list && !ran) puts("there is no such test; --list lists them");
    return list || (ran && !failed) ? EXIT_SUCCESS : EXIT_FAILURE;
}
