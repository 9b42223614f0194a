/* prefix_tests.c - sequences that begin with a prefix that the cache knows: how long it may be, and that nobody can
 * tell.
 */
#include "tests/e2e/cached.h"
#include "tests/e2e/e2e_test.h"

#include <stdio.h>
#include <string.h>

/* ---- shared ---- */

typedef bool prefix_scene(const e2e_module *m, int32_t isa);

static bool play_module(const char *source, prefix_scene *play)
{
    e2e_module m;
    int32_t isa[E2E_MAX_ISAS];
    bool ok = true;
    EXPECT(e2e_compile(&m, source, NULL));
    for (size_t i = 0, n = e2e_isas(isa); i < n && ok; i++) {
        e2e_note("prefixes on %s", attn_isa_name((uint32_t)isa[i]));
        ok = play(&m, isa[i]);
    }
    e2e_module_free(&m);
    return ok;
}

static bool play_prefixes(const char *head, const char *body, prefix_scene *play)
{
    char all[512];
    snprintf(all, sizeof all, "%s pattern p { heads 4 / 2; dim 16; dtype f32; %s }", head, body);
    return play_module(all, play);
}

static bool open_named(cached *x, const e2e_module *m, int32_t isa, attn_cache_config c)
{
    c.isa = isa;
    if (!cached_open(x, m, c, 1)) return false;
    x->named = true;
    return true;
}

/* Layer 0 sees a window, layer 1 all. */
#define HYBRID(window)                                                                                                 \
    "model l { layers 2; heads 4 / 2; dim 16; dtype f32; pattern local { mask causal and window(" #window "); }"       \
    " pattern full { mask causal; } schedule local, full; }"

enum { PAGE_1 = 2 * 32 * 4 }; /* bytes of a page of one token, in a kind of one layer */

/* ---- C ---- */

static bool play_C9(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 1}));
    cached_text *a = cached_begin(&x, 40, 1);
    EXPECT(cached_feed(&x, a, 10) && cached_stats(&x).pages == 13);
    cached_text *b = cached_share(&x, a, 10, 12, 0, 2);
    EXPECT(b && b->n == 10 && cached_keeps(&x, b, 0, "7-9") && cached_keeps(&x, b, 1, "0-9"));
    EXPECT(cached_stats(&x).pages == 13 && cached_stats(&x).pages_shared == 13);
    EXPECT(cached_stats(&x).prefix_hits == 1 && cached_stats(&x).prefix_tokens == 10);
    for (int i = 1; i < 5; i++) EXPECT(cached_step(&x, (cached_move[]){{a, i}, {b, 5 - i}}, 2));
    EXPECT(cached_matches(&x, a) && cached_matches(&x, b));
    EXPECT(cached_end(&x, a) && cached_feed(&x, b, 3) && cached_matches(&x, b));
    cached_close(&x);
    return true;
}
bool test_C9(void) { return play_module(HYBRID(4), play_C9); }

static bool play_C10(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 1}));
    cached_text *a = cached_begin(&x, 40, 1);
    EXPECT(cached_feed(&x, a, 20) && cached_keeps(&x, a, 0, "17-19"));
    cached_text *b = cached_share(&x, a, 12, 14, 0, 2); /* the window has let 9, 10 and 11 go */
    EXPECT(b && b->n == 0 && cached_feed(&x, b, 8));
    cached_text *c = cached_share(&x, a, 12, 14, 0, 3); /* b has the window as of 8 */
    EXPECT(c && c->n == 8 && cached_keeps(&x, c, 0, "5-7") && cached_keeps(&x, c, 1, "0-7"));
    cached_text *d = cached_share(&x, a, 20, 20, 18, 4); /* a has it as of 20 only */
    EXPECT(d && d->n == 8);
    cached_text *e = cached_share(&x, a, 20, 22, 0, 5);
    EXPECT(e && e->n == 20);
    EXPECT(cached_step(&x, (cached_move[]){{b, 5}, {c, 7}, {d, 12}, {e, 1}, {a, 2}}, 5));
    EXPECT(cached_matches(&x, a) && cached_matches(&x, b) && cached_matches(&x, c) && cached_matches(&x, d) &&
           cached_matches(&x, e));
    cached_close(&x);
    return true;
}

/* The window's pages stay where they may, and then a hit ends anywhere. */
static bool play_C10_kept(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 4, .prefix_bytes = 1 << 20}));
    cached_text *a = cached_begin(&x, 40, 1);
    EXPECT(cached_feed(&x, a, 20) && cached_stats(&x).pages_prefix == 4);
    for (int64_t n = 1; n <= 20; n++) {
        cached_text *b = cached_share(&x, a, n, 22, 0, 2);
        EXPECT(b && b->n == n && cached_feed(&x, b, 1) && cached_feed(&x, b, 9) && cached_matches(&x, b));
        EXPECT(cached_end(&x, b));
    }
    EXPECT(cached_feed(&x, a, 1) && cached_matches(&x, a));
    cached_close(&x);
    return true;
}
bool test_C10(void) { return play_module(HYBRID(4), play_C10) && play_module(HYBRID(4), play_C10_kept); }

/* What a cold start gives, to the bit. */
static bool starts_cold(const cached *x, const cached_text *t, int64_t hit, int32_t isa)
{
    cached y;
    EXPECT(open_named(&y, x->m, isa, (attn_cache_config){.page_tokens = 4}));
    cached_text *u = cached_begin(&y, 40, 1);
    for (uint32_t l = 0; l < y.n_layers; l++) {
        e2e_call *to = &u->call[l];
        const e2e_call *from = &t->call[l];
        memcpy(to->q, from->q, (size_t)to->n_q * sizeof *to->q);
        memcpy(to->k, from->k, (size_t)to->n_k * sizeof *to->k);
        memcpy(to->v, from->v, (size_t)to->n_v * sizeof *to->v);
    }
    EXPECT(cached_feed(&y, u, hit) && cached_feed(&y, u, t->n - hit));
    const int64_t from = hit * 4 * 16;
    for (uint32_t l = 0; l < y.n_layers; l++)
        EXPECT(difference(t->call[l].o + from, u->call[l].o + from, (t->n - hit) * 4 * 16) == 0);
    cached_close(&y);
    return true;
}

static bool play_C11(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 4}));
    cached_text *a = cached_begin(&x, 40, 1);
    EXPECT(cached_feed(&x, a, 15));
    cached_text *b = cached_share(&x, a, 15, 20, 0, 2); /* [none, none, b2, a part of b3] */
    EXPECT(b && b->n == 15 && cached_keeps(&x, b, 0, "8-14") && cached_stats(&x).pages == 2);
    EXPECT(cached_feed(&x, b, 4) && cached_matches(&x, b) && starts_cold(&x, b, 15, isa));
    EXPECT(cached_feed(&x, a, 1) && cached_stats(&x).pages == 1);
    cached_text *c = cached_share(&x, a, 16, 20, 0, 3); /* four times none */
    EXPECT(c && c->n == 16 && cached_keeps(&x, c, 0, "none") && cached_stats(&x).pages == 1);
    EXPECT(cached_feed(&x, c, 4) && cached_matches(&x, c) && starts_cold(&x, c, 16, isa));
    cached_text *d = cached_share(&x, a, 15, 20, 0, 4); /* the chunk of 8 is gone: from its beginning on */
    EXPECT(d && d->n == 8 && cached_keeps(&x, d, 0, "none"));
    EXPECT(cached_feed(&x, d, 12) && cached_matches(&x, d) && starts_cold(&x, d, 8, isa));
    cached_close(&x);
    return true;
}

/* A chunk that ends in the middle of a page: the page goes, and begins anew with the next chunk, without the first
 * half.
 */
static bool play_half_page(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 16, .prefix_bytes = UINT64_MAX}));
    cached_text *a = cached_begin(&x, 40, 1);
    EXPECT(cached_feed(&x, a, 8) && cached_stats(&x).pages == 0 && cached_feed(&x, a, 12));
    static const int64_t want[] = {5, 0, 7, 0, 8, 8, 11, 11, 15, 15, 16, 16, 20, 20};
    for (size_t i = 0; i < ATTNC_COUNT(want); i += 2) {
        cached_text *b = cached_share(&x, a, want[i], 22, 0, 2);
        EXPECT(b && b->n == want[i + 1]);
        if (b->n) EXPECT(cached_feed(&x, b, 22 - b->n) && cached_matches(&x, b));
        EXPECT(cached_end(&x, b));
    }
    cached_close(&x);
    return true;
}
bool test_C11(void)
{
    return play_prefixes("", "mask causal and chunk(8);", play_C11) &&
           play_prefixes("", "mask causal and chunk(8);", play_half_page);
}

/* Four beams, found again in every step by what they say. Called by C15. */
static bool play_beams(const e2e_module *m, int32_t isa)
{
    static const int parents[][4] = {{3, 3, 0, 1}, {1, 0, 3, 2}, {2, 2, 2, 2}, {0, 3, 1, 1}};
    cached x;
    cached_text *beam[4], *next[4];
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 4}));
    for (unsigned i = 0; i < 4; i++)
        EXPECT((beam[i] = i ? cached_share(&x, beam[0], 10, 10, 0, i) : cached_begin(&x, 40, 1)) &&
               (i || cached_feed(&x, beam[0], 10)) && beam[i]->n == 10);
    for (unsigned s = 0; s < 12; s++) {
        for (unsigned i = 0; i < 4; i++) {
            const cached_text *from = beam[parents[s % 4][i]];
            EXPECT((next[i] = cached_share(&x, from, from->n, from->n, 0, 100 * s + i)) && next[i]->n == from->n);
        }
        for (int i = 0; i < 4; i++) EXPECT(cached_end(&x, beam[i]));
        EXPECT(cached_step(&x, (cached_move[]){{next[0], 1}, {next[1], 1}, {next[2], 1}, {next[3], 1}}, 4));
        for (int i = 0; i < 4; i++) beam[i] = next[i];
    }
    for (int i = 0; i < 4; i++) EXPECT(beam[i]->n == 22 && cached_matches(&x, beam[i]));
    cached_close(&x);
    return true;
}
bool test_share_beams(void)
{
    return play_prefixes("", "mask causal;", play_beams) &&
           play_prefixes("", "mask (sink(2) or chunk(8)) and causal;", play_beams);
}

/* ---- M8 ---- */

static bool play_M8(const e2e_module *m, int32_t isa)
{
    static const uint32_t page_sizes[] = {1, 4, 16, 64};
    for (size_t p = 0; p < ATTNC_COUNT(page_sizes); p++)
        for (int64_t alike = 1; alike <= 37; alike += 9) {
            cached x;
            EXPECT(open_named(
                &x, m, isa,
                (attn_cache_config){.page_tokens = page_sizes[p], .rollback = 2, .prefix_bytes = UINT64_MAX}));
            cached_text *a = cached_begin(&x, 40, 1);
            EXPECT(cached_feed(&x, a, 37) && cached_leave(&x, a));
            cached_text *b = cached_share(&x, a, alike, 39, 0, 2);
            EXPECT(b && b->n == alike && cached_feed(&x, b, 39 - alike) && cached_matches(&x, b));
            EXPECT(starts_cold(&x, b, alike, isa));
            EXPECT(cached_rollback(&x, b, 2) && cached_feed(&x, b, 3) && cached_matches(&x, b));
            cached_close(&x);
        }
    return true;
}
bool test_M8(void)
{
    return play_prefixes("", "mask causal;", play_M8) && play_prefixes("", "mask causal and window(8);", play_M8) &&
           play_prefixes("", "mask causal and chunk(8);", play_M8) &&
           play_prefixes("", "mask (sink(3) or window(8)) and causal;", play_M8) && play_module(HYBRID(5), play_M8);
}

/* ---- groups of tokens that see each other ---- */

static void set_attr(cached_text *t, int64_t from, int64_t to, int32_t value)
{
    for (int64_t i = from; i < to; i++) t->call[0].q_attrs[0][i] = t->call[0].k_attrs[0][i] = value;
}

/* Images at 5 .. 9 and 14 .. 21; pages of 4, so the second one begins and ends in the middle of pages. */
static bool play_images(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 4, .prefix_bytes = UINT64_MAX}));
    cached_text *a = cached_begin(&x, 40, 1);
    set_attr(a, 0, 40, -1), set_attr(a, 5, 10, 3), set_attr(a, 14, 22, 4);
    EXPECT(cached_feed(&x, a, 30));
    for (int64_t n = 1; n <= 30; n++) {
        const int64_t want = n > 5 && n < 10 ? 5 : n > 14 && n < 22 ? 14 : n;
        cached_text *b = cached_share(&x, a, 30, 32, n, 2); /* the text goes on, the hit must not */
        EXPECT(b && b->n == want);
        EXPECT(cached_end(&x, b));
    }
    cached_text *c =
        cached_share(&x, a, 30, 30, 16, 3); /* an image that stops where a's goes on: its keys are others */
    EXPECT(c && c->n == 14 && cached_end(&x, c));
    cached_text *d = cached_begin(&x, 40, 9);
    set_attr(d, 0, 40, -1), set_attr(d, 4, 8, 7);
    EXPECT(cached_feed(&x, d, 8)); /* whole pages, and an image to their end */
    cached_text *e = cached_share(&x, d, 8, 8, 0, 10);
    EXPECT(e && e->n == 8 && cached_end(&x, e));
    cached_close(&x);
    return true;
}

/* The same eight tokens, with and without more of the image behind them: neither is found for the other. */
static bool play_longer_image(const e2e_module *m, int32_t isa)
{
    for (int first = 0; first < 2; first++) {
        cached x;
        EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 4, .prefix_bytes = UINT64_MAX}));
        cached_text *a = cached_begin(&x, 40, 1);
        set_attr(a, 0, 40, -1), set_attr(a, 4, first ? 8 : 11, 7);
        EXPECT(cached_feed(&x, a, 16));
        cached_text *b = cached_begin(&x, 40, 1);
        set_attr(b, 0, 40, -1), set_attr(b, 4, first ? 11 : 8, 7);
        EXPECT(cached_feed(&x, b, 16));
        cached_text *c = cached_share(&x, a, 16, 16, 0, 3), *d = cached_share(&x, b, 16, 16, 0, 4);
        EXPECT(c && d && c->n == 16 && d->n == 16); /* both are known by now, as two */
        EXPECT(cached_stats(&x).pages == 8);
        cached_close(&x);
        EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 4, .prefix_bytes = UINT64_MAX}));
        a = cached_begin(&x, 40, 1);
        set_attr(a, 0, 40, -1), set_attr(a, 4, first ? 8 : 11, 7);
        EXPECT(cached_feed(&x, a, 16));
        b = cached_begin(&x, 40, 1); /* a's words so far; its image is another */
        set_attr(b, 0, 40, -1), set_attr(b, 4, first ? 11 : 8, 7);
        b->n = 16;
        c = cached_share(&x, b, 16, 16, 0, 5);
        EXPECT(c && c->n == 4);
        cached_close(&x);
    }
    return true;
}
bool test_share_images(void)
{
    return play_prefixes("attr image : int;", "mask causal or same(image);", play_images) &&
           play_prefixes("attr image : int;", "mask causal or same(image);", play_longer_image);
}

static bool play_intro(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 4, .prefix_bytes = UINT64_MAX}));
    cached_text *a = cached_begin(&x, 40, 1);
    set_attr(a, 0, 40, 0), set_attr(a, 0, 10, 1);
    EXPECT(cached_feed(&x, a, 30));
    for (int64_t n = 1; n <= 30; n++) {
        cached_text *b = cached_share(&x, a, n, 32, 0, 2);
        set_attr(b, n, 40, 0);
        EXPECT(b && b->n <= n && cached_end(&x, b));
        b = cached_share(&x, a, 30, 30, n, 2);
        EXPECT(b && b->n == (n < 10 ? 0 : n) && cached_end(&x, b));
    }
    cached_close(&x);
    return true;
}
bool test_share_intro(void) { return play_prefixes("attr intro : int;", "mask prefixlm(intro);", play_intro); }

/* Half of an image goes back, and something else comes: what the first half saw is nowhere any more. */
static bool play_back(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 4, .rollback = 16, .prefix_bytes = UINT64_MAX}));
    cached_text *a = cached_begin(&x, 40, 1);
    set_attr(a, 0, 40, -1), set_attr(a, 5, 12, 3);
    EXPECT(cached_feed(&x, a, 12) && cached_rollback(&x, a, 4));
    set_attr(a, 8, 40, -1);
    EXPECT(cached_feed(&x, a, 20));
    cached_text *b = cached_share(&x, a, 28, 28, 0, 2);
    EXPECT(b && b->n == 5);
    EXPECT(cached_rollback(&x, a, 16) && a->n == 12);
    cached_text *c = cached_share(&x, a, 12, 12, 0, 2);
    EXPECT(c && c->n == 5);
    cached_close(&x);
    return true;
}
bool test_share_back(void) { return play_prefixes("attr image : int;", "mask causal or same(image);", play_back); }

/* ---- by issue ---- */

/* Whatever limit is set, the longest hit is the one that is found without. And it is right. */
static bool is_longest(cached *x, const cached_text *like, int64_t n)
{
    int64_t longest = 0;
    for (int64_t most = 1; most <= n; most++) {
        cached_text *t = cached_share(x, like, n, n, most, 7);
        EXPECT(t && t->n <= most);
        if (t->n > longest) longest = t->n;
        EXPECT(cached_end(x, t));
    }
    cached_text *t = cached_share(x, like, n, n, 0, 7);
    EXPECT(t && t->n == longest);
    return cached_feed(x, t, n + 2 - t->n) && cached_matches(x, t) && cached_end(x, t);
}

/* Little room for what only the tree has: pages of windows and of full layers go at different times. */
static bool play_SGL_7367(const e2e_module *m, int32_t isa)
{
    for (uint64_t room = 0; room <= 40; room += 4) {
        cached x;
        EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 1, .prefix_bytes = room * PAGE_1}));
        cached_text *a = cached_begin(&x, 40, 1), *b = cached_begin(&x, 40, 2);
        EXPECT(cached_feed(&x, a, 20) && cached_feed(&x, b, 9) && cached_leave(&x, a) && cached_feed(&x, b, 9));
        EXPECT(cached_stats(&x).bytes_prefix <= room * PAGE_1);
        for (int64_t n = 20; n > 0; n -= 3) EXPECT(is_longest(&x, a, n));
        for (int64_t n = 18; n > 0; n -= 3) EXPECT(is_longest(&x, b, n));
        EXPECT(cached_feed(&x, b, 9) && cached_matches(&x, b));
        cached_close(&x);
    }
    return true;
}
bool test_SGL_7367(void) { return play_module(HYBRID(4), play_SGL_7367); }

/* A prompt in pieces, others between; each piece can be found as soon as it is there. */
static bool play_SGL_8649(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 4, .prefix_bytes = 64 * PAGE_1}));
    cached_text *a = cached_begin(&x, 90, 1);
    for (int i = 0; i < 12; i++) {
        EXPECT(cached_feed(&x, a, 1 + i));
        cached_text *b = cached_share(&x, a, a->n, a->n, 0, 2);
        EXPECT(b && b->n == a->n && cached_feed(&x, b, 3) && cached_matches(&x, b) && cached_end(&x, b));
    }
    EXPECT(cached_matches(&x, a));
    cached_close(&x);
    return true;
}
bool test_SGL_8649(void) { return play_module(HYBRID(8), play_SGL_8649); }

/* Window pages of the beginning and of the end, none between. */
static bool play_VLLM_48435(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 1}));
    cached_text *a = cached_begin(&x, 60, 1);
    EXPECT(cached_feed(&x, a, 6));
    cached_text *b = cached_fork(&x, a, 2); /* holds 0 .. 5 */
    EXPECT(b && cached_feed(&x, a, 24));    /* 23 .. 29 */
    for (int64_t n = 1; n <= 30; n++) {
        cached_text *c = cached_share(&x, a, n, n, 0, 3);
        EXPECT(c && c->n == (n < 6 ? n : n < 30 ? 6 : 30));
        EXPECT(cached_feed(&x, c, 9) && cached_matches(&x, c) && cached_end(&x, c));
    }
    cached_close(&x);
    return true;
}
bool test_VLLM_48435(void) { return play_module(HYBRID(8), play_VLLM_48435); }

static bool play_VLLM_24358(const e2e_module *m, int32_t isa)
{
    cached x;
    EXPECT(open_named(&x, m, isa, (attn_cache_config){.page_tokens = 4, .prefix_bytes = UINT64_MAX}));
    cached_text *a = cached_begin(&x, 90, 1);
    EXPECT(cached_feed(&x, a, 61) && cached_leave(&x, a));
    for (int turn = 0; turn < 3; turn++) {
        cached_text *b = cached_share(&x, a, 61, 61, 60, 2); /* all but one: somebody has to say what comes next */
        EXPECT(b && b->n == 60 && cached_keeps(&x, b, 0, "53-59"));
        EXPECT(cached_feed(&x, b, 1) && cached_feed(&x, b, 20) && cached_matches(&x, b) && cached_end(&x, b));
    }
    EXPECT(cached_stats(&x).prefix_hits == 3 && cached_stats(&x).prefix_tokens == 180);
    cached_close(&x);
    return true;
}
bool test_VLLM_24358(void) { return play_module(HYBRID(8), play_VLLM_24358); }
