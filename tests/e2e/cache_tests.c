/* cache_tests.c - named tests of the KV cache: chunks and windows in steps, sharing, rollback, batches of any mixture.
 */
#include "tests/e2e/cached.h"
#include "tests/e2e/e2e_test.h"

#include <stdio.h>
#include <string.h>

/* ---- shared ---- */

bool on_each_isa(const e2e_module *m, scene *play)
{
    int32_t isa[E2E_MAX_ISAS];
    const size_t n = e2e_isas(isa);
    for (size_t i = 0; i < n; i++) {
        e2e_note("a cache on %s", attn_isa_name((uint32_t)isa[i]));
        EXPECT(play(m, isa[i]));
    }
    return true;
}

bool play_body(const char *head, const char *body, scene *play)
{
    e2e_module m;
    EXPECT(compile_body(&m, head, body));
    const bool ok = on_each_isa(&m, play);
    e2e_module_free(&m);
    return ok;
}

bool in_pieces(const e2e_module *m, int32_t isa, size_t n, const int64_t *pieces)
{
    static const uint32_t page_sizes[] = {1, 4, 16, 64};
    for (size_t p = 0; p < ATTNC_COUNT(page_sizes); p++) {
        cached x;
        int64_t total = 0;
        for (size_t i = 0; i < n; i++) total += pieces[i];
        EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = page_sizes[p], .isa = isa}, 1));
        cached_text *t = cached_begin(&x, total, 5);
        for (size_t i = 0; i < n; i++) EXPECT(cached_feed(&x, t, pieces[i]));
        EXPECT(cached_matches(&x, t));
        cached_close(&x);
    }
    return true;
}

bool keeps_after(const e2e_module *m, int32_t isa, size_t n, const int64_t *pieces, const char *const *kept)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 64, 5);
    for (size_t i = 0; i < n; i++) EXPECT(cached_feed(&x, t, pieces[i]) && cached_keeps(&x, t, 0, kept[i]));
    EXPECT(cached_matches(&x, t));
    cached_close(&x);
    return true;
}

bool side_by_side(const e2e_module *m, int32_t isa, size_t n, const int64_t *past, const int64_t *more, int singles)
{
    cached x;
    cached_move moves[CACHED_TEXTS];
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
    for (size_t i = 0; i < n; i++) moves[i] = (cached_move){cached_begin(&x, past[i] + more[i] + singles, i), past[i]};
    EXPECT(cached_step(&x, moves, (uint32_t)n));
    for (size_t i = 0; i < n; i++) moves[i].m = more[i];
    EXPECT(cached_step(&x, moves, (uint32_t)n));
    for (size_t i = 0; i < n; i++) moves[i].m = 1;
    for (int s = 0; s < singles; s++) EXPECT(cached_step(&x, moves, (uint32_t)n));
    for (size_t i = 0; i < n; i++) EXPECT(cached_matches(&x, moves[i].text));
    cached_close(&x);
    return true;
}

/* ---- A: chunks ---- */

static bool play_A5(const e2e_module *m, int32_t isa)
{
    return side_by_side(m, isa, LENS(3, 6, 13), (int64_t[]){0, 0, 0}, 6);
}
bool test_A5(void) { return play_body("", "mask causal and chunk(4);", play_A5); }

static bool play_A6(const e2e_module *m, int32_t isa) { return in_pieces(m, isa, LENS(6, 1, 1, 1)); }
bool test_A6(void) { return play_body("", "mask causal and chunk(4);", play_A6); }

static bool play_A7(const e2e_module *m, int32_t isa) { return in_pieces(m, isa, LENS(3, 3, 3)); }
bool test_A7(void) { return play_body("", "mask causal and chunk(4);", play_A7); }

static bool play_A8(const e2e_module *m, int32_t isa)
{
    return keeps_after(m, isa, LENS(4, 1), (const char *const[]){"none", "4"});
}
bool test_A8(void) { return play_body("", "mask causal and chunk(4);", play_A8); }

static bool play_A9(const e2e_module *m, int32_t isa)
{
    return keeps_after(m, isa, LENS(5, 1, 1, 1), (const char *const[]){"4", "4-5", "4-6", "none"});
}
bool test_A9(void) { return play_body("", "mask causal and chunk(4);", play_A9); }

static bool play_A14(const e2e_module *m, int32_t isa)
{
    return side_by_side(m, isa, LENS(2, 7, 4), (int64_t[]){4, 10, 5}, 0);
}
bool test_A14(void) { return play_body("", "mask causal and chunk(4);", play_A14); }

static bool play_A15(const e2e_module *m, int32_t isa)
{
    int64_t past[64], more[64];
    for (int i = 0; i < 64; i++) past[i] = 3 + 4 * (i % 3), more[i] = 2;
    return side_by_side(m, isa, 64, past, more, 0);
}
bool test_A15(void) { return play_body("", "mask causal and chunk(4);", play_A15); }

static bool play_A16(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 2, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 40, 9);
    EXPECT(cached_feed(&x, t, 11));
    for (int i = 0; i < 8; i++) EXPECT(cached_feed(&x, t, 1 + i % 3));
    EXPECT(cached_matches(&x, t));
    EXPECT(t->n == 26 && cached_keeps(&x, t, 0, "24-25") && cached_keeps(&x, t, 3, "0-25") &&
           cached_keeps(&x, t, 7, "0-25"));
    /* a page: 2 KV heads, 2 tokens, 16 + 16 floats, by the kind's layers: 6 local ones, 2 full ones */
    const uint64_t page = 2 * 2 * 32 * 4;
    EXPECT(cached_stats(&x).bytes == 1 * 6 * page + 13 * 2 * page && cached_stats(&x).bytes_full == 13 * 8 * page);
    cached_close(&x);
    return true;
}

bool test_A16(void)
{
    e2e_module m;
    EXPECT(e2e_compile(&m,
                       "model l { layers 8; heads 4 / 2; dim 16; dtype f32;"
                       " pattern local { mask causal and chunk(4); }"
                       " pattern full { mask causal; score qtemp(0.1, 4, 1); }"
                       " schedule (local * 3, full) * 2; }",
                       NULL));
    const bool ok = on_each_isa(&m, play_A16);
    e2e_module_free(&m);
    return ok;
}

/* ---- B: windows ---- */

static bool play_B5(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 2, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 9, 5);
    EXPECT(cached_feed(&x, t, 7) && cached_feed(&x, t, 2) && cached_matches(&x, t));
    cached_close(&x);
    return true;
}
bool test_B5(void) { return play_body("", "mask causal and window(4);", play_B5); }

static bool play_B6(const e2e_module *m, int32_t isa)
{
    return keeps_after(m, isa, LENS(6, 1, 1, 1, 1, 1, 1),
                       (const char *const[]){"0-5", "0-6", "1-7", "2-8", "3-9", "4-10", "5-11"});
}
bool test_B6(void) { return play_body("", "mask causal and window(8);", play_B6); }

static bool play_B7(const e2e_module *m, int32_t isa) { return in_pieces(m, isa, LENS(16, 16)); }
bool test_B7(void) { return play_body("", "mask causal and window(8);", play_B7); }

static bool play_B8(const e2e_module *m, int32_t isa)
{
    for (int64_t piece = 1; piece <= 11; piece++) EXPECT(in_pieces(m, isa, LENS(13, piece, 1)));
    return true;
}
bool test_B8(void) { return play_body("", "mask causal and window(5);", play_B8); }

/* ---- C: what is kept, and how much ---- */

static const char *const policies[] = {
    "mask causal;",
    "mask causal and window(8);",
    "mask causal and chunk(8);",
    "mask (sink(3) or window(8)) and causal;",
};
enum { POLICIES = ATTNC_COUNT(policies) };

static bool policy_keeps(size_t policy, int64_t n, int64_t k)
{
    return policy == 0 ? true : policy == 1 ? k > n - 8 : policy == 2 ? k >= n / 8 * 8 : k < 3 || k > n - 8;
}

static bool keeps_position(const cached *x, const cached_text *t, int64_t k)
{
    int64_t at[8][2];
    const int64_t n = attn_cache_kept(x->cache, t->id, 0, at, 8);
    for (int64_t i = 0; i < n; i++)
        if (at[i][0] <= k && k <= at[i][1]) return true;
    return false;
}

bool test_C1(void)
{
    for (size_t p = 0; p < POLICIES; p++) {
        e2e_module m;
        cached x;
        EXPECT(compile_body(&m, "", policies[p]));
        EXPECT(cached_open(&x, &m, (attn_cache_config){.page_tokens = 1, .isa = -1}, 1));
        cached_text *t = cached_begin(&x, 33, 1);
        for (int64_t n = 0; n <= 32; n++) {
            int64_t kept = 0;
            for (int64_t k = 0; k < n; k++) {
                EXPECT(keeps_position(&x, t, k) == policy_keeps(p, n, k));
                kept += policy_keeps(p, n, k);
            }
            EXPECT(cached_stats(&x).pages == kept);
            EXPECT(cached_feed(&x, t, 1));
        }
        EXPECT(cached_matches(&x, t));
        cached_close(&x);
        e2e_module_free(&m);
    }
    return true;
}

/* The most that a step of m tokens may hold: what was kept and what comes, in whole pages at both ends. */
bool test_C2(void)
{
    for (size_t p = 1; p < 3; p++) {
        e2e_module m;
        EXPECT(compile_body(&m, "", policies[p]));
        for (int64_t page = 1; page <= 16; page *= 4)
            for (int64_t piece = 1; piece <= 21; piece += 5) {
                cached x;
                EXPECT(cached_open(&x, &m, (attn_cache_config){.page_tokens = (uint32_t)page, .isa = -1}, 1));
                cached_text *t = cached_begin(&x, 200, 1);
                while (t->n + piece <= 200) EXPECT(cached_feed(&x, t, piece));
                const int64_t most = (int64_t)(cached_stats(&x).bytes_most / (uint64_t)(2 * page * 32 * 4));
                EXPECT(most <= (7 + piece + page - 1) / page + 1);
                cached_close(&x);
            }
        e2e_module_free(&m);
    }
    return true;
}

/* ---- C: rollback ---- */

static bool play_C3(const e2e_module *m, int32_t isa)
{
    for (int64_t r = 1; r <= 8; r++) {
        cached x;
        char want[32];
        EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 1, .rollback = (uint32_t)r, .isa = isa}, 1));
        cached_text *t = cached_begin(&x, 40, 3);
        EXPECT(cached_feed(&x, t, 20));
        snprintf(want, sizeof want, "%d-19", (int)(13 - r));
        EXPECT(cached_keeps(&x, t, 0, want) && cached_stats(&x).pages == 7 + r);
        EXPECT(cached_rollback(&x, t, r) && cached_feed(&x, t, r) && cached_feed(&x, t, 3) && cached_matches(&x, t));
        cached_close(&x);
    }
    return true;
}
bool test_C3(void) { return play_body("", "mask causal and window(8);", play_C3); }

static bool play_C4(const e2e_module *m, int32_t isa)
{
    cached x;
    attn_error err;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .rollback = 2, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 40, 3);
    EXPECT(cached_feed(&x, t, 20));
    const attn_cache_stats before = cached_stats(&x);
    EXPECT(attn_seq_rollback(x.cache, t->id, 3, &err) == ATTN_E_ROLLBACK);
    const attn_cache_stats after = cached_stats(&x);
    EXPECT(!memcmp(&before, &after, sizeof before) && !attn_cache_check(x.cache));
    EXPECT(cached_rollback(&x, t, 1) && cached_rollback(&x, t, 1));
    EXPECT(attn_seq_rollback(x.cache, t->id, 1, &err) == ATTN_E_ROLLBACK);
    EXPECT(cached_feed(&x, t, 10) && cached_matches(&x, t));
    cached_close(&x);
    return true;
}
bool test_C4(void) { return play_body("", "mask causal and window(8);", play_C4); }

static bool play_C5(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 1, .rollback = 3, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 12, 3);
    EXPECT(cached_feed(&x, t, 9) && cached_keeps(&x, t, 0, "4-8"));
    EXPECT(cached_rollback(&x, t, 2) && cached_feed(&x, t, 1) && cached_matches(&x, t));
    cached_close(&x);
    return true;
}
bool test_C5(void) { return play_body("", "mask causal and chunk(4);", play_C5); }

/* Draft five, accept two, twenty times. */
static bool play_drafts(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .rollback = 3, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 60, 3);
    EXPECT(cached_feed(&x, t, 6));
    for (int i = 0; i < 20; i++) EXPECT(cached_feed(&x, t, 5) && cached_rollback(&x, t, 3));
    EXPECT(t->n == 46 && cached_matches(&x, t));
    cached_close(&x);
    return true;
}
bool test_C6(void)
{
    return play_body("", "mask causal and window(8);", play_drafts) &&
           play_body("", "mask causal and chunk(8);", play_drafts);
}

/* ---- C: sharing, pages that come back ---- */

static bool play_C8(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .rollback = 4, .isa = isa}, 1));
    cached_text *a = cached_begin(&x, 60, 3);
    EXPECT(cached_feed(&x, a, 18));
    const int64_t pages = cached_stats(&x).pages;
    cached_text *b = cached_fork(&x, a, 77);
    EXPECT(b && cached_stats(&x).pages == pages && cached_stats(&x).pages_shared == pages);
    EXPECT(cached_feed(&x, a, 5) && cached_feed(&x, b, 3) && cached_matches(&x, a) && cached_matches(&x, b));
    EXPECT(cached_rollback(&x, b, 3) && cached_feed(&x, b, 6));
    EXPECT(cached_end(&x, a) && cached_stats(&x).pages_shared == 0);
    EXPECT(cached_feed(&x, b, 9) && cached_matches(&x, b));
    cached_close(&x);
    return true;
}
bool test_C8(void)
{
    for (size_t p = 0; p < POLICIES; p++) EXPECT(play_body("", policies[p], play_C8));
    return true;
}

/* The same text in a fresh cache, and in one whose free pages lie in disorder: equal to the bit, with pages of any
 * size. */
static bool play_pages(const e2e_module *m, int32_t isa)
{
    static const uint32_t page_sizes[] = {64, 16, 1};
    float *first = NULL;
    cached x[ATTNC_COUNT(page_sizes)];
    for (size_t p = 0; p < ATTNC_COUNT(page_sizes); p++) {
        EXPECT(cached_open(&x[p], m, (attn_cache_config){.page_tokens = page_sizes[p], .isa = isa}, 1));
        cached_text *other[5];
        for (int i = 0; i < 5; i++) other[i] = cached_begin(&x[p], 90, 10 + (unsigned long long)i);
        for (int i = 0; i < 5; i++)
            EXPECT(p == 0 || cached_step(&x[p], (cached_move[]){{other[i], 9 + 7 * i}, {other[(i + 2) % 5], 5}}, 2));
        for (int i = 0; i < 5; i += 2) EXPECT(cached_end(&x[p], other[(3 * i) % 5]));
        cached_text *t = cached_begin(&x[p], 90, 3);
        EXPECT(cached_feed(&x[p], t, 50) && cached_feed(&x[p], t, 1) && cached_feed(&x[p], other[3], 20) &&
               cached_feed(&x[p], t, 30));
        EXPECT(cached_matches(&x[p], t));
        if (!p) first = t->call[0].o;
        EXPECT(difference(first, t->call[0].o, 81 * 4 * 16) == 0);
    }
    for (size_t p = 0; p < ATTNC_COUNT(page_sizes); p++) cached_close(&x[p]);
    return true;
}
bool test_C12(void) { return play_body("", "mask causal and window(20);", play_pages); }
bool test_M4(void)
{
    return play_body("", "mask causal;", play_pages) &&
           play_body("", "mask (sink(2) or chunk(16)) and causal; score alibi;", play_pages);
}

static bool play_C13(const e2e_module *m, int32_t isa)
{
    cached x;
    const uint64_t page = 2 * 2 * 32 * 4;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 2, .isa = isa, .budget = 4 * page}, 1));
    cached_text *t = cached_begin(&x, 80, 3);
    for (int i = 0; i < 80; i++) EXPECT(cached_feed(&x, t, 1));
    EXPECT(cached_stats(&x).pages_evicted >= 37 && cached_stats(&x).bytes_reserved <= 4 * page &&
           cached_matches(&x, t));
    cached_close(&x);
    return true;
}
bool test_C13(void) { return play_body("", "mask causal and window(4);", play_C13); }

static bool play_C14(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
    cached_text *a = cached_begin(&x, 30, 1), *b = cached_begin(&x, 30, 2);
    EXPECT(cached_step(&x, (cached_move[]){{a, 10}, {b, 7}}, 2));
    const attn_seq_id old = b->id;
    EXPECT(cached_end(&x, b));
    cached_text *c = cached_begin(&x, 30, 3);
    EXPECT(c->id != old && cached_stats(&x).pages_free == 2);
    EXPECT(cached_step(&x, (cached_move[]){{c, 5}, {a, 1}}, 2) && cached_step(&x, (cached_move[]){{c, 1}, {a, 4}}, 2));
    EXPECT(cached_matches(&x, a) && cached_matches(&x, c));
    cached_close(&x);
    return true;
}
bool test_C14(void) { return play_body("", "mask causal;", play_C14); }

/* Four beams; each step some of them go on twice, others end. */
static bool play_C15(const e2e_module *m, int32_t isa)
{
    static const int parents[][4] = {{0, 1, 2, 3}, {3, 3, 0, 1}, {1, 0, 3, 2},
                                     {2, 2, 2, 2}, {0, 3, 1, 1}, {3, 2, 1, 0}};
    cached x;
    cached_text *beam[4], *next[4];
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
    beam[0] = cached_begin(&x, 40, 1);
    EXPECT(cached_feed(&x, beam[0], 10));
    for (unsigned i = 1; i < 4; i++) beam[i] = cached_fork(&x, beam[0], i);
    for (unsigned s = 0; s < 18; s++) {
        for (unsigned i = 0; i < 4; i++)
            EXPECT((next[i] = cached_fork(&x, beam[parents[s % 6][i]], 100 * s + i)) != NULL);
        for (int i = 0; i < 4; i++) EXPECT(cached_end(&x, beam[i]));
        EXPECT(cached_step(&x, (cached_move[]){{next[0], 1}, {next[1], 1}, {next[2], 1}, {next[3], 1}}, 4));
        for (int i = 0; i < 4; i++) beam[i] = next[i];
    }
    for (int i = 0; i < 4; i++) EXPECT(beam[i]->n == 28 && cached_matches(&x, beam[i]));
    cached_close(&x);
    return true;
}
bool test_C15(void)
{
    return play_body("", "mask causal;", play_C15) && play_body("", "mask (sink(2) or chunk(8)) and causal;", play_C15);
}

/* ---- C: steps of any kind ---- */

static bool play_C21(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
    cached_text *a = cached_begin(&x, 30, 1), *b = cached_begin(&x, 30, 2), *c = cached_begin(&x, 30, 3);
    EXPECT(cached_step(&x, NULL, 0) && cached_feed(&x, a, 0) && cached_stats(&x).pages == 0);
    EXPECT(cached_step(&x, (cached_move[]){{a, 10}, {b, 0}, {c, 6}}, 3));
    EXPECT(cached_step(&x, (cached_move[]){{a, 0}, {b, 0}, {c, 0}}, 3));
    EXPECT(cached_step(&x, (cached_move[]){{a, 0}, {b, 9}, {c, 1}}, 3));
    EXPECT(a->n == 10 && b->n == 9 && c->n == 7);
    EXPECT(cached_matches(&x, a) && cached_matches(&x, b) && cached_matches(&x, c));
    cached_close(&x);
    return true;
}
bool test_C21(void) { return play_body("", "mask causal and window(5);", play_C21); }

/* Values that begin more than 2^31 bytes into a page; only what is written is touched. */
static bool play_far_offsets(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = (1 << 22) + 64, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 20, 1);
    EXPECT(cached_feed(&x, t, 17) && cached_feed(&x, t, 1) && cached_matches(&x, t));
    EXPECT(cached_stats(&x).bytes > (uint64_t)1 << 32);
    cached_close(&x);
    return true;
}

bool test_C22(void)
{
    static const int64_t far[] = {((int64_t)1 << 24) + 1, ((int64_t)1 << 30) - 40};
    e2e_module m;
    EXPECT(compile_body(&m, "", "mask causal and (q - k) % 5 == 0; score qtemp(0.1, 8192, 1);"));
    for (size_t i = 0; i < ATTNC_COUNT(far); i++) {
        e2e_call c;
        unsigned long long seed = 1;
        e2e_call_init(&c, &m, 0, 1, (int64_t[]){33}, (int64_t[]){40}, &far[i]);
        e2e_fill(&c, &seed, 1);
        EXPECT(e2e_matches_all(&c));
        e2e_call_free(&c);
    }
    e2e_module_free(&m);
    EXPECT(e2e_compile(&m, "pattern p { heads 2 / 1; dim 128; dtype f32; mask causal; }", NULL));
    EXPECT(on_each_isa(&m, play_far_offsets));
    e2e_module_free(&m);
    return true;
}

static bool play_C23(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 120, 1);
    EXPECT(cached_feed(&x, t, 11));
    for (int turn = 0; turn < 9; turn++) {
        for (int i = 0; i < 5; i++) EXPECT(cached_feed(&x, t, 1));
        EXPECT(cached_feed(&x, t, 7));
    }
    EXPECT(t->n == 119 && cached_matches(&x, t));
    cached_close(&x);
    return true;
}
bool test_C23(void)
{
    for (size_t p = 0; p < POLICIES; p++) EXPECT(play_body("", policies[p], play_C23));
    return true;
}

/* Sixty tokens cut at random, ten times. */
static bool play_cuts(const e2e_module *m, int32_t isa)
{
    unsigned long long seed = 24;
    for (int run = 0; run < 10; run++) {
        cached x;
        EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
        cached_text *t = cached_begin(&x, 60, 2);
        while (t->n < 60) {
            int64_t piece = 1 + e2e_below(&seed, 1 + 2 * run);
            EXPECT(cached_feed(&x, t, piece < 60 - t->n ? piece : 60 - t->n));
        }
        EXPECT(cached_matches(&x, t));
        cached_close(&x);
    }
    return true;
}
bool test_C24(void)
{
    for (size_t p = 0; p < POLICIES; p++) EXPECT(play_body("", policies[p], play_cuts));
    return true;
}

/* ---- M, D ---- */

static bool play_dtypes(const char *body)
{
    static const char *const types[] = {"f32", "f16", "bf16"};
    for (size_t i = 0; i < ATTNC_COUNT(types); i++) {
        e2e_module m;
        char all[512];
        snprintf(all, sizeof all, "pattern p { heads 6 / 2; dim 24; dim_v 16; dtype %s; %s }", types[i], body);
        EXPECT(e2e_compile(&m, all, NULL) && on_each_isa(&m, play_cuts));
        e2e_module_free(&m);
    }
    return true;
}
bool test_M2(void)
{
    return play_dtypes("mask causal and window(9); score softcap(4.0);") &&
           play_dtypes("mask (sink(2) or chunk(16)) and causal; score alibi;") &&
           play_dtypes("mask causal and window(9); score softcap(4.0); kv quant(int8);");
}

/* r tokens back and the same tokens again, at every point of a text. */
static bool play_M5(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .rollback = 9, .isa = isa}, 1));
    cached_text *t = cached_begin(&x, 70, 1);
    for (int64_t i = 1; t->n < 60; i++)
        EXPECT(cached_feed(&x, t, 1 + i % 10) && cached_rollback(&x, t, i % 10) && cached_feed(&x, t, i % 10));
    EXPECT(cached_matches(&x, t));
    cached_close(&x);
    return true;
}
bool test_M5(void)
{
    for (size_t p = 0; p < POLICIES; p++) EXPECT(play_body("", policies[p], play_M5));
    return true;
}

/* What a cache that never lets go of anything gives. */
static bool play_M7(const e2e_module *m, int32_t isa)
{
    cached x, full;
    EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 4, .isa = isa}, 1));
    EXPECT(cached_open(&full, m, (attn_cache_config){.page_tokens = 4, .rollback = UINT32_MAX, .isa = isa}, 1));
    cached_text *a = cached_begin(&x, 60, 1), *b = cached_begin(&full, 60, 1);
    for (int64_t i = 0; a->n < 50; i++) EXPECT(cached_feed(&x, a, 1 + i % 7) && cached_feed(&full, b, 1 + i % 7));
    EXPECT(cached_stats(&full).pages_evicted == 0 && cached_stats(&full).bytes == cached_stats(&full).bytes_full);
    EXPECT(difference(a->call[0].o, b->call[0].o, a->n * 4 * 16) < 1e-5);
    EXPECT(cached_matches(&x, a) && cached_matches(&full, b));
    cached_close(&x);
    cached_close(&full);
    return true;
}
bool test_M7(void)
{
    for (size_t p = 0; p < POLICIES; p++) EXPECT(play_body("", policies[p], play_M7));
    return true;
}

/* Keys cut over 1, 2 and 7 workers: a sink counts once. */
static bool play_D3(const e2e_module *m, int32_t isa)
{
    for (uint32_t workers = 1; workers <= 7; workers += workers == 1 ? 1 : 5) {
        cached x;
        EXPECT(cached_open(&x, m, (attn_cache_config){.page_tokens = 16, .workers = workers, .isa = isa}, 1));
        cached_text *t = cached_begin(&x, 1500, 1), *s = cached_begin(&x, 40, 2);
        EXPECT(cached_feed(&x, t, 1100));
        for (int i = 0; i < 4; i++) EXPECT(cached_step(&x, (cached_move[]){{t, 1 + i}, {s, 3}}, 2));
        EXPECT(cached_matches(&x, t) && cached_matches(&x, s));
        cached_close(&x);
    }
    return true;
}
bool test_D3(void)
{
    return play_body("input sinks : f32[heads];", "mask causal; row softmax(sink: sinks[h]);", play_D3) &&
           play_body("input sinks : f32[heads];", "mask causal and chunk(1101); row softmax(sink: sinks[h]);", play_D3);
}
