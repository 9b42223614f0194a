/* issue_tests.c - what failed elsewhere, in small numbers, against the oracle; issues.def says what it was.
 *
 * Where a fault has a mask of its own, `differs` shows that the case can tell it from the right one. */
#include "tests/e2e/cached.h"
#include "tests/e2e/e2e_test.h"

#include <stdio.h>
#include <string.h>

/* ---- shared ---- */

/* Do the two bodies give different results on these lengths? A case in which they do not shows nothing. */
static bool differs(const char *right, const char *wrong, size_t n, const int64_t *lens)
{
    e2e_module m[2];
    e2e_call c[2];
    const char *const bodies[] = {right, wrong};
    for (int i = 0; i < 2; i++) {
        char all[512];
        snprintf(all, sizeof all, "pattern p { heads 4 / 2; dim 16; dtype f32; %s }", bodies[i]);
        EXPECT(e2e_compile(&m[i], all, e2e_target_name(ATTN_ISA_BASELINE)));
        e2e_call_init(&c[i], &m[i], 0, (uint32_t)n, lens, NULL, NULL);
        EXPECT(run_random(&c[i], 5, ATTN_ISA_BASELINE));
    }
    EXPECT(e2e_matches(&c[0]));
    EXPECT(difference(c[0].o, c[1].o, c[0].n_o) > 1e-2);
    for (int i = 0; i < 2; i++) {
        e2e_call_free(&c[i]);
        e2e_module_free(&m[i]);
    }
    return true;
}

/* A text through the cache in these pieces. */
static bool pieces_match(const char *body, size_t n, const int64_t *pieces)
{
    e2e_module m;
    int32_t isa[E2E_MAX_ISAS];
    const size_t isas = e2e_isas(isa);
    EXPECT(compile_body(&m, "", body));
    for (size_t i = 0; i < isas; i++) {
        e2e_note("%s, %s", body, attn_isa_name((uint32_t)isa[i]));
        EXPECT(in_pieces(&m, isa[i], n, pieces));
    }
    e2e_module_free(&m);
    return true;
}

/* The same; and what is kept after each piece. */
static bool pieces_keep(const char *body, size_t n, const int64_t *pieces, const char *const *kept)
{
    e2e_module m;
    EXPECT(compile_body(&m, "", body));
    EXPECT(keeps_after(&m, -1, n, pieces, kept));
    e2e_module_free(&m);
    return pieces_match(body, n, pieces);
}

/* Queries that are the last tokens of longer sequences. */
static bool probe_past(const char *body, e2e_visible *see, const void *ctx, size_t n, const int64_t *q,
                       const int64_t *k)
{
    e2e_module m;
    e2e_call c;
    unsigned long long seed = 3;
    EXPECT(compile_body(&m, "", body));
    e2e_call_init(&c, &m, 0, (uint32_t)n, q, k, NULL);
    EXPECT(e2e_probe_all(&c, see, ctx, &seed));
    e2e_call_free(&c);
    e2e_module_free(&m);
    return true;
}

static bool play_whole(const char *source, scene *play)
{
    e2e_module m;
    EXPECT(e2e_compile(&m, source, NULL));
    EXPECT(on_each_isa(&m, play));
    e2e_module_free(&m);
    return true;
}

/* The layers of Llama 4 in small: three in chunks, one full with a temperature. */
static const char llama4[] = "model l { layers 4; heads 4 / 2; dim 16; dtype f32;"
                             " pattern local { mask causal and chunk(4); }"
                             " pattern full { mask causal; score qtemp(0.1, 4, 1); }"
                             " schedule local * 3, full; }";

/* ---- A: chunks ---- */

bool test_hf_37351(void) { return test_A1() && test_A2(); }

bool test_hf_37352(void)
{
    return pieces_match("mask causal and chunk(8192);", LENS(8)) &&
           pieces_match("mask causal and chunk(8192);", LENS(5, 1, 1, 1));
}

/* Rows of 3, 6 and 13 tokens, left-padded to 13: the 6-token row begins in column 7, so a grid of columns has other
 * edges. */
bool test_hf_40214(void)
{
    return differs("mask causal and chunk(4);", "mask causal and (q + 7) / 4 == (k + 7) / 4;", LENS(6)) && test_A4() &&
           test_A5();
}

static int64_t count_kept(const cached *x, const cached_text *t)
{
    int64_t at[8][2], count = 0;
    const int64_t n = attn_cache_kept(x->cache, t->id, 0, at, 8);
    for (int64_t i = 0; i < n; i++) count += at[i][1] - at[i][0] + 1;
    return count;
}

static bool every_past_and_step(const char *body, int64_t window)
{
    e2e_module m;
    EXPECT(compile_body(&m, "", body));
    for (int64_t n = 0; n < 10; n++)
        for (int64_t step = 1; step < 10; step++) {
            cached x;
            EXPECT(cached_open(&x, &m, (attn_cache_config){.page_tokens = 1, .isa = -1}, 1));
            cached_text *t = cached_begin(&x, 20, 5);
            EXPECT(cached_feed(&x, t, n) && cached_feed(&x, t, step) && cached_matches(&x, t));
            const int64_t total = n + step, most = window < 0 ? total % -window : window - 1;
            EXPECT(count_kept(&x, t) == (total < most ? total : most) && cached_stats(&x).pages == count_kept(&x, t));
            cached_close(&x);
        }
    e2e_module_free(&m);
    return true;
}

bool test_hf_37972(void)
{
    return every_past_and_step("mask causal and chunk(4);", -4) && every_past_and_step("mask causal and window(4);", 4);
}

bool test_hf_37574(void)
{
    return pieces_keep("mask causal and window(8);", LENS(6, 1, 1, 1, 3, 9),
                       (const char *const[]){"0-5", "0-6", "1-7", "2-8", "5-11", "14-20"}) &&
           pieces_keep("mask causal and chunk(8);", LENS(6, 1, 1, 1, 3, 9),
                       (const char *const[]){"0-5", "0-6", "none", "8", "8-11", "16-20"});
}

static bool play_paddleformers_4536(const e2e_module *m, int32_t isa)
{
    return side_by_side(m, isa, LENS(3, 9, 14, 8), (int64_t[]){6, 1, 7, 4}, 3);
}
bool test_paddleformers_4536(void) { return play_body("", "mask causal and chunk(4);", play_paddleformers_4536); }

bool test_vllm_16274(void)
{
    return test_A10() && pieces_match("mask causal and chunk(8);", LENS(1, 1, 2)) &&
           pieces_match("mask causal and chunk(8192);", LENS(30, 1));
}

static bool play_vllm_21707(const e2e_module *m, int32_t isa)
{
    cached hybrid, plain;
    EXPECT(cached_open(&hybrid, m, (attn_cache_config){.page_tokens = 2, .isa = isa}, 1));
    EXPECT(cached_open(&plain, m, (attn_cache_config){.page_tokens = 2, .rollback = UINT32_MAX, .isa = isa}, 1));
    cached_text *a = cached_begin(&hybrid, 30, 5), *b = cached_begin(&plain, 30, 5);
    for (int64_t i = 0; a->n < 24; i++) EXPECT(cached_feed(&hybrid, a, 1 + i % 4) && cached_feed(&plain, b, 1 + i % 4));
    EXPECT(cached_stats(&hybrid).bytes < cached_stats(&plain).bytes / 2);
    for (int i = 0; i < 4; i++) EXPECT(difference(a->call[i].o, b->call[i].o, a->n * 4 * 16) < 1e-6);
    EXPECT(cached_matches(&hybrid, a));
    cached_close(&hybrid);
    cached_close(&plain);
    return true;
}
bool test_vllm_21707(void) { return play_whole(llama4, play_vllm_21707); }

/* 64 sequences with two chunks each, and one with nine. */
static bool play_vllm_49980(const e2e_module *m, int32_t isa)
{
    int64_t past[65], more[65];
    for (int i = 0; i < 64; i++) past[i] = 3 + 4 * (i % 3), more[i] = 2;
    past[64] = 2, more[64] = 33;
    return side_by_side(m, isa, 65, past, more, 0);
}
bool test_vllm_49980(void) { return play_body("", "mask causal and chunk(4);", play_vllm_49980); }

/* Drafts of four, of which one is accepted: over every edge, and back behind it. */
static bool play_vllm_20591(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 1, .rollback = 3, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 24, 5);
    EXPECT(cached_feed(&x, t, 5));
    while (t->n < 18) EXPECT(cached_feed(&x, t, 4) && cached_rollback(&x, t, 3));
    EXPECT(cached_matches(&x, t));
    cached_close(&x);
    return true;
}
bool test_vllm_20591(void) { return play_whole(llama4, play_vllm_20591); }

bool test_ik_llama_335(void)
{
    return differs("mask causal and chunk(4);", "mask causal;", LENS(17)) && test_A18() &&
           pieces_match("mask causal and chunk(4);", LENS(17, 1, 2, 4, 1));
}

bool test_purplellama_119(void)
{
    return test_A11() &&
           pieces_keep("mask causal and chunk(none);", LENS(5, 9, 1), (const char *const[]){"0-4", "0-13", "0-14"});
}

/* ---- B: windows ---- */

bool test_hf_39408(void)
{
    return differs("mask causal and window(4);", "mask causal and window(5);", LENS(10)) && test_B1() &&
           pieces_keep("mask causal and window(4);", LENS(10, 1), (const char *const[]){"7-9", "8-10"});
}

bool test_hf_35681(void)
{
    static const char gemma2[] = "mask causal and window(4); score softcap(50.0);";
    return differs(gemma2, "mask causal; score softcap(50.0);", LENS(20)) && match_body(gemma2, LENS(20, 70, 3)) &&
           pieces_match(gemma2, LENS(20, 1, 5));
}

static void set_attr(cached *x, cached_text *t, int64_t from, int64_t to, int32_t value)
{
    for (uint32_t i = 0; i < x->n_layers; i++)
        for (int64_t p = from; p < to; p++) t->call[i].q_attrs[0][p] = t->call[i].k_attrs[0][p] = value;
}

/* An image of 20 tokens behind 5 words, under windows of 8. */
static bool play_hf_46711(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 40, 5);
    set_attr(&x, t, 0, 40, -1);
    set_attr(&x, t, 5, 25, 2);
    EXPECT(cached_feed(&x, t, 5) && cached_feed(&x, t, 20) && cached_feed(&x, t, 1) && cached_feed(&x, t, 9));
    EXPECT(cached_matches(&x, t));
    cached_close(&x);
    return true;
}
bool test_hf_46711(void)
{
    return test_E4() && play_body("attr image : int;", "mask (causal and window(8)) or same(image);", play_hf_46711) &&
           play_body("attr image : int;", "mask (causal or same(image)) and window(8);", play_hf_46711);
}

/* Three prompts in pieces of 5, while a fourth text already writes; pages of one token go the moment they may. */
static bool play_sgl_8649(const e2e_module *m, int32_t isa)
{
    cached x;
    cached_move moves[4];
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 1, .isa = isa}, 1));
    for (unsigned i = 0; i < 4; i++) moves[i] = (cached_move){cached_begin(&x, 40, i), i < 3 ? 5 : 1};
    EXPECT(cached_feed(&x, moves[3].text, 12));
    for (int s = 0; s < 7; s++) EXPECT(cached_step(&x, moves, 4));
    for (int i = 0; i < 4; i++) EXPECT(cached_matches(&x, moves[i].text));
    EXPECT(cached_stats(&x).pages == 4 * 7);
    cached_close(&x);
    return true;
}
bool test_sgl_8649(void) { return play_body("", "mask causal and window(8);", play_sgl_8649); }

/* Full and sliding layers; pieces that do not divide the window. */
static bool play_imp_117(const e2e_module *m, int32_t isa) { return in_pieces(m, isa, LENS(7, 7, 7, 1, 7)); }
bool test_imp_117(void)
{
    return differs("mask causal;", "mask causal and q / 7 == k / 7;", LENS(21)) &&
           play_whole("model g { layers 2; heads 4 / 2; dim 16; dtype f32; pattern full { mask causal; }"
                      " pattern near { mask causal and window(10); } schedule near, full; }",
                      play_imp_117);
}

bool test_executorch_21749(void)
{
    return test_B7() && pieces_match("mask causal and window(8);", LENS(16, 16, 1, 16));
}

bool test_lalamo_200(void)
{
    int64_t w = 4;
    return probe_past("mask causal and window(4);", sees_window, &w, LENS(3, 1, 4, 5), (int64_t[]){9, 7, 4, 33});
}

bool test_mistralrs_2333(void) { return test_B5(); }

static bool play_mlx_swift_lm_505(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 2, .rollback = 5, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 80, 5);
    EXPECT(cached_feed(&x, t, 20));
    for (int i = 0; i < 8; i++) {
        EXPECT(cached_rollback(&x, t, 2) && cached_rollback(&x, t, 3));
        EXPECT(cached_feed(&x, t, 2) && cached_feed(&x, t, 9));
    }
    EXPECT(cached_matches(&x, t));
    cached_close(&x);
    return true;
}
bool test_mlx_swift_lm_505(void) { return play_body("", "mask causal and window(8);", play_mlx_swift_lm_505); }

bool test_sgl_30050(void)
{
    static const int64_t windows[] = {1, 2, 3, 4, 5, 8};
    for (size_t i = 0; i < ATTNC_COUNT(windows); i++) {
        const int64_t w = windows[i];
        char body[64];
        snprintf(body, sizeof body, "mask causal and window(%d);", (int)w);
        EXPECT(differs(body, "mask causal;", LENS(3 * w)) && pieces_match(body, LENS(2 * w + 1, 1, w, 1)));
    }
    return true;
}

bool test_unsloth_8253(void)
{
    return test_B4() && probe_body("mask causal and window(none);", sees_causal, NULL, LENS(20)) &&
           pieces_keep("mask causal and window(none);", LENS(5, 9), (const char *const[]){"0-4", "0-13"});
}

static bool play_lcpp_14157(const e2e_module *m, int32_t isa)
{
    cached x;
    attn_error err = {""};
    int64_t n = -1;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 30, 5);
    const attn_seq_id old = t->id;
    EXPECT(cached_feed(&x, t, 20) && cached_end(&x, t));
    const attn_step_config again = {
        .size = sizeof again, .n_seqs = 1, .seqs = &old, .counts = (int64_t[]){1}, .attrs = NULL};
    EXPECT(attn_step_begin(x.cache, &again, &err) == ATTN_E_STATE && strstr(err.text, "has ended"));
    EXPECT(attn_seq_length(x.cache, old, &n, &err) == ATTN_E_STATE && n == -1);
    cached_text *next = cached_begin(&x, 30, 6); /* in the same pages */
    EXPECT(next->id != old && cached_feed(&x, next, 3) && cached_feed(&x, next, 1) && cached_matches(&x, next));
    cached_close(&x);
    return true;
}
bool test_lcpp_14157(void) { return play_body("", "mask causal and window(8);", play_lcpp_14157); }

/* ---- C: padding, positions, rows that see nothing ---- */

bool test_hf_30378(void) { return test_M1() && test_D1(); }

bool test_pt_110213(void)
{
    return test_D1() && test_E11() && pieces_match("mask causal and not window(3);", LENS(1, 1, 1, 1, 5));
}

static bool play_pt_108108(const e2e_module *m, int32_t isa)
{
    static const int64_t first[] = {0};
    e2e_call c;
    unsigned long long seed = 4;
    e2e_call_init(&c, m, 0, 1, (int64_t[]){3}, (int64_t[]){9}, first); /* who wants the top says so */
    c.isa = isa;
    EXPECT(e2e_probe(&c, sees_causal, NULL, &seed));
    e2e_call_free(&c);
    return true;
}
bool test_pt_108108(void)
{
    return probe_past("mask causal;", sees_causal, NULL, LENS(3, 1, 9), (int64_t[]){9, 40, 9}) &&
           play_body("", "mask causal;", play_pt_108108);
}

bool test_fla_431(void)
{
    return pieces_match("mask causal;", LENS(7, 1, 1, 2, 1)) && pieces_match("mask causal;", LENS(1, 1, 1, 1, 9));
}

bool test_onnx_8054(void)
{
    return probe_past("mask causal;", sees_causal, NULL, LENS(2, 5, 1), (int64_t[]){7, 5, 70}) &&
           pieces_match("mask causal;", LENS(5, 2));
}

/* An image behind a beginning that two texts share; the number 7 again would be the first image, of which a step has
 * ended: refused. */
static bool play_openvino_36708(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
    cached_text *a = cached_begin(&x, 40, 5);
    set_attr(&x, a, 0, 40, -1);
    set_attr(&x, a, 5, 10, 7);
    EXPECT(cached_feed(&x, a, 12));
    cached_text *b = cached_fork(&x, a, 6);
    EXPECT(b != NULL);
    set_attr(&x, a, 12, 16, 8);
    set_attr(&x, b, 12, 40, -1);
    set_attr(&x, b, 13, 18, 9);
    EXPECT(cached_step(&x, (cached_move[]){{a, 4}, {b, 6}}, 2) && cached_step(&x, (cached_move[]){{a, 1}, {b, 3}}, 2));
    set_attr(&x, a, a->n, a->n + 2, 7);
    EXPECT(!cached_feed(&x, a, 2) && x.last == ATTN_E_SPLIT);
    set_attr(&x, a, a->n, a->n + 2, 10);
    EXPECT(cached_feed(&x, a, 2) && cached_matches(&x, a) && cached_matches(&x, b));
    cached_close(&x);
    return true;
}
bool test_openvino_36708(void)
{
    return play_body("attr image : int;", "mask causal or same(image);", play_openvino_36708);
}

bool test_gptfast_233(void)
{
    return pieces_match("mask causal;", LENS(3, 1, 1)) &&
           pieces_match("mask (sink(2) or window(4)) and causal;", LENS(1, 1, 9));
}

static bool play_hf_llama4_temperature(const e2e_module *m, int32_t isa)
{
    return side_by_side(m, isa, LENS(3, 6, 13), (int64_t[]){1, 1, 1}, 6);
}
bool test_hf_llama4_temperature(void)
{
    return test_A17() &&
           differs("mask causal; score qtemp(0.9, 4, 1);", "mask causal; score qtemp(0.9, 4, 8);", LENS(6)) &&
           play_body("", "mask causal; score qtemp(0.9, 4, 1);", play_hf_llama4_temperature);
}

/* ---- E: rollback ---- */

static bool play_hf_47447(const e2e_module *m, int32_t isa)
{
    for (int64_t r = 1; r <= 8; r++) {
        cached x;
        EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .rollback = (uint32_t)r, .isa = isa}, 1));
        cached_text *t = cached_begin(&x, 40, 3);
        EXPECT(cached_feed(&x, t, 20));
        for (int i = 0; i < 6; i++) EXPECT(cached_feed(&x, t, r + 1) && cached_rollback(&x, t, r));
        EXPECT(t->n == 26 && cached_matches(&x, t));
        cached_close(&x);
    }
    return true;
}
bool test_hf_47447(void) { return play_body("", "mask causal and window(8);", play_hf_47447); }

bool test_hf_48280(void)
{
    return pieces_keep("mask causal and window(7);", LENS(20, 7, 1), (const char *const[]){"14-19", "21-26", "22-27"});
}

/* Drafts of four in three texts, of which 1, 2 and all 4 are accepted. */
static bool play_sglang_jax_989(const e2e_module *m, int32_t isa)
{
    cached x;
    cached_move moves[3];
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .rollback = 3, .isa = isa}, 1));
    for (unsigned i = 0; i < 3; i++) moves[i] = (cached_move){cached_begin(&x, 60, i), 4};
    for (unsigned i = 0; i < 3; i++) EXPECT(cached_feed(&x, moves[i].text, 6 + i));
    for (int s = 0; s < 10; s++) {
        EXPECT(cached_step(&x, moves, 3));
        EXPECT(cached_rollback(&x, moves[0].text, 3) && cached_rollback(&x, moves[1].text, 2));
    }
    for (int i = 0; i < 3; i++) EXPECT(cached_matches(&x, moves[i].text));
    cached_close(&x);
    return true;
}
bool test_sglang_jax_989(void) { return play_body("", "mask causal and window(8);", play_sglang_jax_989); }

static bool play_lcpp_13833(const e2e_module *m, int32_t isa)
{
    cached x;
    attn_error err = {""};
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .rollback = 2, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 60, 3);
    EXPECT(cached_feed(&x, t, 30));
    for (int64_t r = 3; r <= 30; r += 9)
        EXPECT(attn_seq_rollback(x.cache, t->id, r, &err) == ATTN_E_ROLLBACK && strstr(err.text, "2 tokens back"));
    EXPECT(cached_rollback(&x, t, 2) && cached_feed(&x, t, 12) && cached_matches(&x, t));
    cached_close(&x);
    return true;
}
bool test_lcpp_13833(void)
{
    return play_body("", "mask causal and window(8);", play_lcpp_13833) &&
           play_body("", "mask (sink(2) or chunk(8)) and causal;", play_lcpp_13833);
}
