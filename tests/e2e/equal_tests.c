/* equal_tests.c - M: ways to ask the same question, which must have the same answer. */
#include "tests/e2e/e2e_test.h"

#include <math.h>
#include <stdio.h>

static const char *const bodies[] = {
    "mask causal;",
    "mask causal and window(9); score softcap(4.0);",
    "mask (sink(2) or chunk(16)) and causal; score alibi;",
    "mask all;",
    "mask band(-7, 40);",
};

typedef bool module_check(const e2e_module *m, int32_t isa);

/* Each body on each instruction set. */
static bool for_each(module_check *check)
{
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    for (size_t b = 0; b < ATTNC_COUNT(bodies); b++) {
        e2e_module m;
        EXPECT(compile_body(&m, "", bodies[b]));
        for (size_t i = 0; i < n; i++) EXPECT(check(&m, isa[i]));
        e2e_module_free(&m);
    }
    return true;
}

static void copy(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] = from[i];
}

/* Sequence s of `from`, at token at_q of its queries and at_k of its keys, becomes all of `to`. */
static void take_sequence(e2e_call *to, const e2e_call *from, int64_t at_q, int64_t at_k)
{
    const attn_kind_desc *d = from->kind;
    int64_t q = d->q_heads * d->dim, k = d->kv_heads * d->dim, v = d->kv_heads * d->dim_v;
    copy(to->q, from->q + at_q * q, to->total_q * q);
    copy(to->k, from->k + at_k * k, to->total_k * k);
    copy(to->v, from->v + at_k * v, to->total_k * v);
    e2e_values_changed(to);
    to->isa = from->isa;
}

/* ---- layouts, batches, heads ---- */

static bool layouts_agree(const e2e_module *m, int32_t isa)
{
    e2e_call packed, other;
    e2e_call_init(&packed, m, 0, LENS(5, 17, 130, 1), NULL, NULL);
    e2e_call_init(&other, m, 0, LENS(5, 17, 130, 1), NULL, NULL);
    EXPECT(run_random(&packed, 1, isa) && e2e_matches(&packed));
    for (e2e_layout l = E2E_PACKED; l < E2E_LAYOUT_COUNT; l++) {
        other.layout = l;
        EXPECT(run_random(&other, 1, isa));
        EXPECT(difference(packed.o, other.o, packed.n_o) == 0);
        EXPECT(difference(packed.lse, other.lse, packed.total_q * packed.kind->q_heads) == 0);
    }
    e2e_call_free(&packed);
    e2e_call_free(&other);
    return true;
}

bool test_M1(void) { return for_each(layouts_agree); }

static bool company_does_not_matter(const e2e_module *m, int32_t isa)
{
    static const int64_t lens[] = {40, 1, 130, 7};
    e2e_call all, alone;
    e2e_call_init(&all, m, 0, 4, lens, NULL, NULL);
    EXPECT(run_random(&all, 3, isa));
    for (int64_t i = 0, at = 0; i < 4; at += lens[i++]) {
        e2e_call_init(&alone, m, 0, 1, &lens[i], NULL, NULL);
        take_sequence(&alone, &all, at, at);
        EXPECT(e2e_run(&alone));
        EXPECT(difference(alone.o, all.o + at * all.kind->q_heads * all.kind->dim_v, alone.n_o) == 0);
        e2e_call_free(&alone);
    }
    e2e_call_free(&all);
    return true;
}

bool test_M3(void) { return for_each(company_does_not_matter); }

/* KV heads 0 and 1 change places, with their query heads. */
bool test_M6(void)
{
    e2e_module m;
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    EXPECT(compile_body(&m, "", "mask causal and window(20);"));
    for (size_t i = 0; i < n; i++) {
        e2e_call a, b;
        e2e_call_init(&a, &m, 0, LENS(70), NULL, NULL);
        e2e_call_init(&b, &m, 0, LENS(70), NULL, NULL);
        EXPECT(run_random(&a, 6, isa[i]));
        for (int64_t t = 0; t < 70; t++) {
            for (int64_t h = 0; h < 4; h++) copy(b.q + (t * 4 + (h + 2) % 4) * 16, a.q + (t * 4 + h) * 16, 16);
            for (int64_t g = 0; g < 2; g++) {
                copy(b.k + (t * 2 + 1 - g) * 16, a.k + (t * 2 + g) * 16, 16);
                copy(b.v + (t * 2 + 1 - g) * 16, a.v + (t * 2 + g) * 16, 16);
            }
        }
        e2e_values_changed(&b);
        b.isa = isa[i];
        EXPECT(e2e_run(&b));
        for (int64_t t = 0; t < 70; t++)
            for (int64_t h = 0; h < 4; h++)
                EXPECT(difference(b.o + (t * 4 + (h + 2) % 4) * 16, a.o + (t * 4 + h) * 16, 16) == 0);
        e2e_call_free(&a);
        e2e_call_free(&b);
    }
    e2e_module_free(&m);
    return true;
}

/* ---- how the work is cut ---- */

static bool cuts_agree(const e2e_module *m, int32_t isa)
{
    static const uint32_t parts[] = {1, 2, 3, 7}, groups[] = {1, 2};
    e2e_call c, again;
    int64_t q[] = {1, 3, 70}, k[] = {300, 61, 70};
    e2e_call_init(&c, m, 0, 3, q, k, NULL);
    e2e_call_init(&again, m, 0, 3, q, k, NULL);
    for (size_t p = 0; p < ATTNC_COUNT(parts); p++)
        for (size_t g = 0; g < ATTNC_COUNT(groups); g++) {
            c.parts = again.parts = parts[p], c.group = again.group = groups[g];
            c.threads = 1;
            EXPECT(run_random(&c, 9, isa) && e2e_matches(&c));
            for (uint32_t threads = 2; threads <= 4; threads++) {
                again.threads = threads;
                again.own_threads = threads == 3;
                EXPECT(run_random(&again, 9, isa) && e2e_matches(&again));
            }
        }
    e2e_call_free(&c);
    e2e_call_free(&again);
    return true;
}

bool test_M9(void) { return for_each(cuts_agree); }

/* ---- laws ---- */

static bool same_mask(const char *left, const char *right, int64_t length)
{
    const char *const masks[] = {left, right};
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    e2e_module m[2];
    e2e_call c[2];
    for (int i = 0; i < 2; i++) {
        char body[256];
        snprintf(body, sizeof body, "mask %s;", masks[i]);
        EXPECT(compile_body(&m[i], "", body));
        e2e_call_init(&c[i], &m[i], 0, 1, &length, NULL, NULL);
    }
    for (size_t i = 0; i < n; i++) {
        EXPECT(run_random(&c[0], 11, isa[i]) && run_random(&c[1], 11, isa[i]));
        EXPECT(difference(c[0].o, c[1].o, c[0].n_o) < 1e-6);
    }
    for (int i = 0; i < 2; i++) e2e_call_free(&c[i]), e2e_module_free(&m[i]);
    return true;
}

bool test_M11(void)
{
    return same_mask("not not causal", "causal", 70) &&
           same_mask("not (causal and window(5))", "not causal or not window(5)", 70) &&
           same_mask("not (sink(3) or causal)", "not sink(3) and not causal", 70) &&
           same_mask("causal and window(70)", "causal", 70) && same_mask("causal and chunk(70)", "causal", 70) &&
           same_mask("chunk(1)", "causal and window(1)", 70) &&
           same_mask("q == k", "causal and ahead(0) and not (q > k)", 70) &&
           same_mask("if h < 2 then causal else all", "causal or h >= 2", 70);
}

/* Adds a vector to every key: a shift of each row's logits. */
static double shifted_difference(const e2e_module *m, bool sink, int32_t isa)
{
    e2e_call a, b;
    e2e_call_init(&a, m, 0, LENS(70), NULL, NULL);
    e2e_call_init(&b, m, 0, LENS(70), NULL, NULL);
    bool ok = run_random(&a, 12, isa) && run_random(&b, 12, isa);
    for (int64_t i = 0; i < b.total_k * 2 * 16; i++) b.k[i] += 0.25f * (float)(i % 16 % 3);
    e2e_values_changed(&b);
    ok = ok && e2e_run(&b) && e2e_matches(&b);
    double d = ok ? difference(a.o, b.o, a.n_o) : (sink ? 0 : INFINITY);
    e2e_call_free(&a);
    e2e_call_free(&b);
    return d;
}

bool test_M12(void)
{
    e2e_module without, with;
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    EXPECT(compile_body(&without, "", "mask causal;") &&
           compile_body(&with, "", "mask causal; row softmax(sink: 1.0);"));
    for (size_t i = 0; i < n; i++) {
        EXPECT(shifted_difference(&without, false, isa[i]) < 1e-5);
        EXPECT(shifted_difference(&with, true, isa[i]) > 1e-2);
    }
    e2e_module_free(&without);
    e2e_module_free(&with);
    return true;
}

/* ---- steps, pages, kinds, nothing ---- */

/* Pieces of random sizes: the queries of each at their positions, with all keys up to its end. */
static bool pieces_are_whole(const e2e_module *m, int32_t isa)
{
    unsigned long long seed = 40;
    int64_t total = 150;
    e2e_call whole, piece;
    e2e_call_init(&whole, m, 0, 1, &total, NULL, NULL);
    EXPECT(run_random(&whole, 4, isa) && e2e_matches(&whole));
    for (int64_t at = 0; at < total;) {
        int64_t n = 1 + e2e_below(&seed, 30), keys = total; /* later keys are there; causal masks do not see them */
        if (n > total - at) n = total - at;
        e2e_call_init(&piece, m, 0, 1, &n, &keys, &at);
        take_sequence(&piece, &whole, at, 0);
        EXPECT(e2e_run(&piece));
        EXPECT(difference(piece.o, whole.o + at * 4 * 16, n * 4 * 16) < 1e-5);
        e2e_call_free(&piece);
        at += n;
    }
    e2e_call_free(&whole);
    return true;
}

bool test_steps(void) { return for_each(pieces_are_whole); }

bool test_pages(void)
{
    static const char *const types[] = {"f32", "f16", "bf16"};
    static const int64_t sizes[] = {1, 4, 7, 16, 256};
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    unsigned long long seed = 4;
    for (size_t t = 0; t < ATTNC_COUNT(types); t++) {
        char source[256];
        e2e_module m;
        e2e_call c;
        snprintf(source, sizeof source,
                 "pattern p { heads 4 / 2; dim 24; dim_v 40; dtype %s; mask (sink(2) or window(20)) and causal; score "
                 "softcap(9.0); }",
                 types[t]);
        EXPECT(e2e_compile(&m, source, NULL));
        e2e_call_init(&c, &m, 0, 3, (int64_t[]){70, 1, 9}, (int64_t[]){70, 120, 50}, NULL);
        e2e_fill(&c, &seed, 1);
        for (size_t i = 0; i < n; i++)
            for (size_t p = 0; p < ATTNC_COUNT(sizes); p++) {
                c.isa = isa[i];
                e2e_note("pages of %lld, %s, %s", (long long)sizes[p], types[t], attn_isa_name((uint32_t)isa[i]));
                EXPECT(e2e_run_paged(&c, sizes[p], &seed) && e2e_matches(&c));
            }
        e2e_call_free(&c);
        e2e_module_free(&m);
    }
    return true;
}

bool test_kinds(void)
{
    e2e_module m;
    e2e_call c;
    unsigned long long seed = 16;
    EXPECT(e2e_compile(
        &m,
        "model llama4 { layers 8; heads 5 / 1; dim 16; dtype f32; pattern local { mask causal and chunk(4); }"
        "  pattern global { mask causal; score qtemp(0.1, 4, 1); } schedule (local * 3, global) * 2; }",
        NULL));
    for (uint32_t layer = 0; layer < 8; layer++) {
        e2e_call_init(&c, &m, layer, LENS(30, 3), NULL, NULL);
        e2e_fill(&c, &seed, 1);
        EXPECT(e2e_matches_all(&c));
        e2e_call_free(&c);
    }
    e2e_module_free(&m);
    EXPECT(e2e_compile(&m,
                       "model m { layers 3; heads 4 / 2; dim 16; dtype f32; input t : f32[layers, heads];"
                       "  pattern p { mask causal and window(if layer == 0 then 3 else 4 * layer + h); row "
                       "softmax(sink: t[layer, h]); } schedule p * 3; }",
                       NULL));
    for (uint32_t layer = 0; layer < 3; layer++) {
        e2e_call_init(&c, &m, layer, LENS(30, 3), NULL, NULL);
        for (int64_t i = 0; i < 12; i++) c.inputs[0][i] = (double)i / 4 - 1;
        e2e_fill(&c, &seed, 1);
        EXPECT(e2e_matches_all(&c));
        e2e_call_free(&c);
    }
    e2e_module_free(&m);
    return true;
}

bool test_empty(void)
{
    static const struct {
        uint32_t n;
        int64_t q[3], k[3], pos[3];
    } calls[] = {{0, {0}, {0}, {0}},
                 {1, {0}, {0}, {0}},
                 {1, {5}, {0}, {0}},
                 {1, {0}, {5}, {5}},
                 {3, {0, 4, 0}, {0, 4, 9}, {0}},
                 {2, {3, 1}, {0, 1}, {7, 0}}};
    e2e_module m;
    e2e_call c;
    unsigned long long seed = 8;
    EXPECT(compile_body(&m, "", "mask causal;"));
    for (size_t i = 0; i < ATTNC_COUNT(calls); i++) {
        e2e_call_init(&c, &m, 0, calls[i].n, calls[i].q, calls[i].k, calls[i].pos);
        e2e_fill(&c, &seed, 1);
        EXPECT(e2e_matches_all(&c));
        e2e_call_free(&c);
    }
    e2e_module_free(&m);
    return true;
}
