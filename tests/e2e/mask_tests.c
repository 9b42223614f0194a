/* mask_tests.c - E: masks combined, with documents, flags, groups and tables given when the kernel runs. */
#include "tests/e2e/cached.h"
#include "tests/e2e/e2e_test.h"

#include <stdio.h>
#include <string.h>

/* Fills attributes and inputs of a call. */
typedef void prepare_fn(e2e_call *c);

static bool probe_with(const char *head, const char *body, prepare_fn *prepare, e2e_visible *see, size_t n,
                       const int64_t *lens)
{
    e2e_module m;
    e2e_call c;
    unsigned long long seed = 21;
    if (!compile_body(&m, head, body)) return false;
    e2e_call_init(&c, &m, 0, (uint32_t)n, lens, NULL, NULL);
    if (prepare) prepare(&c);
    bool ok = e2e_probe_all(&c, see, &c, &seed);
    e2e_call_free(&c);
    e2e_module_free(&m);
    return ok;
}

static void set_attr(e2e_call *c, int attr, int64_t token, int32_t value)
{
    c->q_attrs[attr][token] = c->k_attrs[attr][token] = value;
}

/* ---- documents, flags, prefixes, groups ---- */

/* Documents of 3, 5, 1 and 7 tokens: attribute 0 is the document, 1 the position in it. */
static void set_documents(e2e_call *c)
{
    static const int32_t lens[] = {3, 5, 1, 7};
    int64_t token = 0;
    for (int32_t d = 0; d < 4; d++)
        for (int32_t i = 0; i < lens[d]; i++) {
            set_attr(c, 0, token, d);
            set_attr(c, 1, token++, i);
        }
}

static bool sees_chunk_of_document(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->q_attr[0] == x->k_attr[0] && x->k <= x->q && x->q_attr[1] / 4 == x->k_attr[1] / 4;
}

bool test_E1(void)
{
    int64_t c = 4;
    return probe_body("mask causal and chunk(4);", sees_chunk, &c, LENS(3, 5, 1, 7)) &&
           probe_with("attr doc : int; attr p : int;", "mask same(doc) and p.k <= p.q and p.q / 4 == p.k / 4;",
                      set_documents, sees_chunk_of_document, LENS(16));
}

static void set_flags(e2e_call *c)
{
    for (int64_t t = 0; t < c->total_q; t++) {
        set_attr(c, 0, t, t < 30 ? 0 : 1);
        set_attr(c, 1, t, t == 0 || t == 17 || t == 44);
    }
}

static bool sees_longformer(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    int64_t d = x->q - x->k;
    return x->q_attr[0] == x->k_attr[0] && ((-3 <= d && d <= 3) || x->q_attr[1] || x->k_attr[1]);
}

bool test_E2(void)
{
    return probe_with("attr doc : int; attr flag : int;", "mask same(doc) and longformer(3, flag);", set_flags,
                      sees_longformer, LENS(60));
}

/* Three sequences of 20: prefixes of 0, 1 and all tokens. */
static void set_prefixes(e2e_call *c)
{
    for (int64_t t = 0; t < c->total_q; t++) set_attr(c, 0, t, t / 20 == 1 ? t % 20 < 1 : t / 20 == 2);
}

static bool sees_prefix(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q || x->k_attr[0] == 1;
}

bool test_E3(void)
{
    return probe_with("attr intro : int;", "mask prefixlm(intro);", set_prefixes, sees_prefix, LENS(20, 20, 20));
}

static void set_images(e2e_call *c)
{
    for (int64_t t = 0; t < c->total_q; t++) set_attr(c, 0, t, t >= 5 && t < 25 ? 0 : t >= 30 && t < 34 ? 1 : -1);
}

static bool same_image(const e2e_pair *x) { return x->q_attr[0] == x->k_attr[0] && x->q_attr[0] >= 0; }

static bool sees_image_outside(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return (x->k <= x->q && x->q - x->k < 8) || same_image(x);
}

static bool sees_image_inside(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return (x->k <= x->q || same_image(x)) && x->q - x->k < 8;
}

bool test_E4(void)
{
    return probe_with("attr image : int;", "mask (causal and window(8)) or same(image);", set_images,
                      sees_image_outside, LENS(40)) &&
           probe_with("attr image : int;", "mask (causal or same(image)) and window(8);", set_images, sees_image_inside,
                      LENS(40)) &&
           e2e_is_refused(
               "attr image : int; pattern p { heads 1; dim 16; dtype f32; mask causal and window(8) or same(image); }",
               "ambiguous", "");
}

/* ---- blocks ---- */

static void set_table(e2e_call *c)
{
    unsigned long long seed = 5;
    for (int64_t i = 0; i < e2e_input_count(c, 0); i++) c->inputs[0][i] = e2e_uniform(&seed) < -0.3;
}

static bool marked(const e2e_call *c, const e2e_pair *x, int64_t block, int64_t blocks)
{
    return c->inputs[0][(x->h * blocks + x->q / block) * blocks + x->k / block] > 0.5;
}

static bool sees_marked(const e2e_pair *x, const void *ctx) { return marked(ctx, x, 16, 4); }

bool test_E5(void)
{
    return probe_with("input table : f32[heads, 4, 4];", "mask block(16, table);", set_table, sees_marked,
                      LENS(55, 16, 64, 3));
}

static bool sees_block_stride(const e2e_pair *x, const void *ctx)
{
    static const bool seventh[4][8] = {
        {[3] = true, [6] = true, [7] = true},
        {[2] = true, [6] = true, [7] = true},
        {[1] = true, [5] = true, [6] = true, [7] = true},
        {[0] = true, [4] = true, [6] = true, [7] = true},
    };
    (void)ctx;
    if (x->k > x->q) return false;
    if (x->q / 8 == 7) return seventh[x->h][x->k / 8];
    return x->q / 8 - x->k / 8 < 2 || (x->k / 8 + x->h + 1) % 4 == 0;
}

bool test_E6(void)
{
    return probe_with("", "mask causal and (q / 8 - k / 8 < 2 or (k / 8 + h + 1) % 4 == 0);", NULL, sees_block_stride,
                      LENS(64)) &&
           probe_with("", "mask causal and (lastblock(8, 2) or (k / 8 + h + 1) % 4 == 0);", NULL, sees_block_stride,
                      LENS(64));
}

static bool sees_bigbird(const e2e_pair *x, const void *ctx)
{
    int64_t a = x->q / 8, b = x->k / 8;
    return (a - b <= 1 && b - a <= 1) || a == 0 || a == 7 || b == 0 || b == 7 || marked(ctx, x, 8, 8);
}

bool test_E9(void)
{
    return probe_with("input table : f32[heads, 8, 8]; mask near = abs(q / 8 - k / 8) <= 1;"
                      "mask edge = q / 8 == 0 or q / 8 == 7 or k / 8 == 0 or k / 8 == 7;",
                      "mask near or edge or table[h, q / 8, k / 8] > 0.5;", set_table, sees_bigbird, LENS(64, 61));
}

/* ---- pictures, lines ---- */

/* A picture of 8 x 8, windows of 4 x 4 after a roll by 2; the attribute numbers window and region as Swin's image mask
 * does. */
static void set_regions(e2e_call *c)
{
    static const int32_t slice[] = {0, 0, 0, 0, 1, 1, 2, 2};
    for (int64_t t = 0; t < 64; t++) {
        int64_t y = (t / 8 + 6) % 8, x = (t % 8 + 6) % 8;
        set_attr(c, 0, t, (int32_t)(y / 4 * 2 + x / 4) * 9 + 3 * slice[y] + slice[x]);
    }
}

static bool sees_region(const e2e_pair *x, const void *ctx)
{
    int64_t place[2][2] = {{x->q / 8, x->q % 8}, {x->k / 8, x->k % 8}};
    (void)ctx;
    for (int axis = 0; axis < 2; axis++) {
        int64_t a = place[0][axis], b = place[1][axis];
        bool a_wraps = a < 2, b_wraps = b < 2;
        if ((a + 6) % 8 / 4 != (b + 6) % 8 / 4 || a_wraps != b_wraps) return false;
    }
    return true;
}

bool test_E8(void)
{
    return probe_with("attr region : int;", "mask same(region);", set_regions, sees_region, LENS(64));
}

static bool on_slash(const e2e_pair *x, int64_t s)
{
    int64_t end = (x->q / 64 + 1) * 64, from = end - s > 64 ? end - s : 64;
    return s < end && from - 64 <= x->k && x->k < from;
}

static bool sees_lines(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q && (x->k == 0 || x->k == 5 || on_slash(x, 0) || on_slash(x, 64));
}

bool test_E10(void)
{
    return probe_with(
        "let end = (q / 64 + 1) * 64; mask slash(s) = s < end and max(end - s, 64) - 64 <= k and k < max(end - s, 64);",
        "mask causal and (k == 0 or k == 5 or slash(0) or slash(64));", NULL, sees_lines, LENS(200));
}

static bool sees_far(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q && x->q - x->k >= 8;
}

bool test_E11(void) { return probe_with("", "mask not window(8) and causal;", NULL, sees_far, LENS(70, 5, 9)); }

/* ---- remainders ---- */

static bool sees_every(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q && (x->k + 3) % 5 == 0;
}

static bool sees_window_or_every(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q && (x->q - x->k < 9 || x->k % 4 == 0);
}

static bool sees_either(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k % 6 == 1 || x->k % 4 == 2 || x->k == 9;
}

static bool sees_every_by_head(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q && x->k % (x->h + 1) == x->h;
}

static bool sees_every_of_document(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q && x->k % 3 == 1 && x->q_attr[0] == x->k_attr[0];
}

static bool sees_stride(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q && (x->q - x->k) % 6 == 0;
}

static bool sees_slashes(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    return x->k <= x->q && (x->q - x->k < 9 || (x->q - x->k) % 12 == 0);
}

static bool sees_dilated(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    const int64_t d = x->q - x->k;
    return d >= 0 && d <= 5 * 3 && d % 3 == 0;
}

static bool sees_rungs(const e2e_pair *x, const void *ctx)
{
    (void)ctx;
    const int64_t d = x->q - x->k;
    return d >= 0 && (d < 30 || d % 8 == 0);
}

static bool sees_rungs_of_half(const e2e_pair *x, const void *ctx) { return sees_rungs(x, ctx) && (x->q >= 70) == (x->k >= 70); }

static void set_halves(e2e_call *c)
{
    for (int64_t t = 0; t < c->total_q; t++) set_attr(c, 0, t, t >= 70);
}

bool test_E15(void)
{
    return probe_with("", "mask causal and every(5, 3);", NULL, sees_every, LENS(130, 1, 3, 68)) &&
           probe_with("", "mask causal and (window(9) or every(4));", NULL, sees_window_or_every, LENS(140, 5, 64)) &&
           probe_with("", "mask k % 6 == 1 or k % 4 == 2 or k == 9;", NULL, sees_either, LENS(80, 9, 10)) &&
           probe_with("", "mask causal and k % (h + 1) == h;", NULL, sees_every_by_head, LENS(90, 6)) &&
           probe_with("attr doc : int;", "mask causal and every(3, 2) and same(doc);", set_halves,
                      sees_every_of_document, LENS(150)) &&
           probe_with("", "mask causal and stride(6);", NULL, sees_stride, LENS(400, 130, 70, 6, 1)) &&
           probe_with("", "mask causal and (window(9) or stride(12));", NULL, sees_slashes, LENS(260, 14, 2)) &&
           probe_with("", "mask causal and (window(30) or stride(8));", NULL, sees_rungs, LENS(900, 3, 600)) && /* two sweeps */
           probe_with("attr doc : int;", "mask causal and (window(30) or stride(8)) and same(doc);", set_halves, sees_rungs_of_half,
                      LENS(800)) &&
           probe_with("", "mask dilated(6, 3);", NULL, sees_dilated, LENS(210, 64, 2));
}

/* ---- the module's own ranges ---- */

static bool in_list(const int64_t *at, uint32_t n, int64_t k)
{
    for (uint32_t i = 0; i < n; i++, at += 3)
        if (at[0] <= k && k <= at[1] && (k - at[0]) % at[2] == 0) return true;
    return false;
}

/* The mask by the expression evaluator, which shares no code with what was emitted. */
static bool mask_says(const e2e_module *m, int64_t q, int64_t k, int64_t h)
{
    const pattern *p = m->ir->patterns.at[0];
    expr_env env = {0};
    env.var[VAR_Q] = q, env.var[VAR_K] = k, env.var[VAR_H] = h, env.var[VAR_G] = h / 2;
    return expr_eval(m->ir->pool, p->mask, &env).i;
}

static bool check_tile(const e2e_module *m, int64_t q0, int64_t q1, int64_t h)
{
    const attn_kind_desc *kind = attn_module_describe(m->loaded)->kinds[0];
    attn_range_args args = {.size = sizeof args, .q0 = q0, .q1 = q1, .h = h, .g = h / 2};
    int64_t list[3 * 128];
    ATTNC_CHECK(kind->n_may + kind->n_must <= 128);
    kind->ranges(&args, list);
    for (int64_t k = 0; k < 100; k++) {
        bool some = false, all = true;
        for (int64_t q = q0; q <= q1; q++) {
            bool seen = mask_says(m, q, k, h);
            attn_range_args pair = {.size = sizeof pair, .q0 = q, .q1 = q, .k0 = k, .k1 = k, .h = h, .g = h / 2};
            EXPECT(!!kind->visible(&pair) == seen);
            some |= seen, all &= seen;
        }
        EXPECT(!some || in_list(list, kind->n_may, k));
        EXPECT(all || !in_list(list + 3 * kind->n_may, kind->n_must, k));
    }
    return true;
}

bool test_E13(void)
{
    static const char *const masks[] = {
        "causal and chunk(7)",
        "streaming(3, 9)",
        "band(-5, 11) or sink(4)",
        "causal and (chunk(8) or window(5))",
        "not (causal and window(9))",
        "causal and stride(3)",
        "every(4, 1) or window(3) and causal",
        "dilated(4, 3)",
        "chunk(6, 4) and ahead(2)",
        "lastblock(5, 3) and not sink(6)",
        "if h < 2 then causal and window(4) else chunk(16)",
        "causal and window(4 + h * 3)",
        "abs(q / 4 - k / 4) <= 1 and k != 9",
        "max(q, 20) - k < 13 and causal",
        "q % 16 >= k % 16 and causal",
        "2 * k <= q",
        "q - 3 * k < 5 and causal",
        "min(q, k) < 3",
    };
    unsigned long long seed = 13;
    for (size_t i = 0; i < ATTNC_COUNT(masks); i++) {
        e2e_module m;
        char body[256];
        snprintf(body, sizeof body, "mask %s;", masks[i]);
        e2e_note("%s", body);
        EXPECT(compile_body(&m, "", body));
        for (int tile = 0; tile < 60; tile++) {
            int64_t q0 = e2e_below(&seed, 90), q1 = q0 + e2e_below(&seed, tile % 2 ? 4 : 40);
            EXPECT(check_tile(&m, q0, q1, e2e_below(&seed, 4)));
        }
        e2e_module_free(&m);
    }
    return true;
}

/* ---- steps and groups ---- */

static attn_status split(const e2e_module *m, int64_t n, const int32_t *attr, int64_t total, attn_error *err)
{
    return attn_split_check(m->loaded, 0, n, total, (const int32_t *const[]){attr}, NULL, err);
}

/* The text at once, and cut at `cut`: the second part's queries see all keys. */
static bool cut_is_whole(const e2e_module *m, const int32_t *attr, int64_t total, int64_t cut)
{
    e2e_call whole, part[2];
    int64_t lens[] = {cut, total - cut}, keys[] = {cut, total};
    e2e_call_init(&whole, m, 0, 1, &total, NULL, NULL);
    for (int64_t t = 0; t < total; t++) set_attr(&whole, 0, t, attr[t]);
    EXPECT(run_random(&whole, 14, ATTN_ISA_BASELINE) && e2e_matches(&whole));
    for (int p = 0; p < 2; p++) {
        e2e_call *c = &part[p];
        int64_t from = p ? cut : 0;
        e2e_call_init(c, m, 0, 1, &lens[p], &keys[p], NULL);
        for (int64_t t = 0; t < c->total_q; t++) c->q_attrs[0][t] = attr[from + t];
        for (int64_t t = 0; t < c->total_k; t++) c->k_attrs[0][t] = attr[t];
        for (int64_t i = 0; i < c->total_q * 4 * 16; i++) c->q[i] = whole.q[from * 4 * 16 + i];
        for (int64_t i = 0; i < c->total_k * 2 * 16; i++) c->k[i] = whole.k[i], c->v[i] = whole.v[i];
        e2e_values_changed(c);
        EXPECT(e2e_run(c));
        EXPECT(difference(c->o, whole.o + from * 4 * 16, c->total_q * 4 * 16) < 1e-5);
        e2e_call_free(c);
    }
    e2e_call_free(&whole);
    return true;
}

/* The text in steps that end where a group ends, and the same text at once; a step that ends inside is refused and
 * changes nothing. */
static bool steps_are_whole(const e2e_module *m, const int32_t *attr, int64_t inside, int64_t end)
{
    cached x[2];
    cached_text *t[2];
    for (int i = 0; i < 2; i++) {
        EXPECT(cached_open(&x[i], m, (attn_cache_config){.page_tokens = 4, .rollback = 9, .isa = -1}, 1));
        t[i] = cached_begin(&x[i], 20, 14);
        for (int64_t p = 0; p < 20; p++) t[i]->call[0].q_attrs[0][p] = t[i]->call[0].k_attrs[0][p] = attr[p];
    }
    EXPECT(cached_feed(&x[0], t[0], 20));
    /* What came too early: refused with the next token. Back in front of the group, it comes whole. */
    EXPECT(cached_feed(&x[1], t[1], inside));
    const attn_cache_stats before = cached_stats(&x[1]);
    EXPECT(!cached_feed(&x[1], t[1], 20 - inside) && x[1].last == ATTN_E_SPLIT);
    const attn_cache_stats after = cached_stats(&x[1]);
    EXPECT(!memcmp(&before, &after, sizeof before));
    while (t[1]->n && attr[t[1]->n - 1] == attr[end - 1]) EXPECT(cached_rollback(&x[1], t[1], 1));
    EXPECT(cached_feed(&x[1], t[1], end - t[1]->n) && cached_feed(&x[1], t[1], 1) &&
           cached_feed(&x[1], t[1], 19 - end));
    EXPECT(cached_matches(&x[0], t[0]) && cached_matches(&x[1], t[1]));
    EXPECT(difference(t[0]->call[0].o, t[1]->call[0].o, 20 * 4 * 16) < 1e-5);
    for (int i = 0; i < 2; i++) cached_close(&x[i]);
    return true;
}

bool test_E14(void)
{
    int32_t image[20], intro[20];
    attn_error err = {0};
    e2e_module m;
    for (int t = 0; t < 20; t++) image[t] = t >= 5 && t < 10 ? 3 : -1, intro[t] = t < 4;
    EXPECT(compile_body(&m, "attr image : int;", "mask causal or same(image);"));
    for (int64_t n = 0; n <= 20; n++)
        EXPECT(split(&m, n, image, 20, &err) == (n > 5 && n < 10 ? ATTN_E_SPLIT : ATTN_OK));
    EXPECT(err.text[0]);
    EXPECT(cut_is_whole(&m, image, 20, 10) && cut_is_whole(&m, image, 20, 5));
    for (int64_t n = 6; n < 10; n++) EXPECT(steps_are_whole(&m, image, n, 10));
    e2e_module_free(&m);
    EXPECT(compile_body(&m, "attr intro : int;", "mask prefixlm(intro);"));
    for (int64_t n = 0; n <= 20; n++)
        EXPECT(split(&m, n, intro, 20, &err) == (n > 0 && n < 4 ? ATTN_E_SPLIT : ATTN_OK));
    EXPECT(cut_is_whole(&m, intro, 20, 4));
    for (int64_t n = 1; n < 4; n++) EXPECT(steps_are_whole(&m, intro, n, 4));
    e2e_module_free(&m);
    return true;
}
