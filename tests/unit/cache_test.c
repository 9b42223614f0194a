/* cache_test.c - the KV cache with a kernel written in C: random walks beside a list of tokens, failures, the rules of
 * its calls.
 *
 *     cache_test [WALKS [SEED]] */
#include "cache_model.h"
#include "fake_models.h"

static const fake_shape small_shape = {16, 8, 4, 2, MODEL_Q_HEADS, MODEL_KV_HEADS};

/* ---- random walks
 * ---------------------------------------------------------------------------------------------------------- */

static model_seq *pick(model *m)
{
    const int first = (int)model_below(m, MODEL_MAX_SEQS);
    for (int i = 0; i < MODEL_MAX_SEQS; i++)
        if (m->seqs[(first + i) % MODEL_MAX_SEQS].id) return &m->seqs[(first + i) % MODEL_MAX_SEQS];
    return model_begin(m);
}

static int count_seqs(const model *m)
{
    int n = 0;
    for (int i = 0; i < MODEL_MAX_SEQS; i++) n += m->seqs[i].id != 0;
    return n;
}

/* Prefill, decode and idle sequences together. */
static bool random_step(model *m)
{
    static const int64_t sizes[] = {0, 1, 1, 1, 2, 3, 5, 9, 17, 40};
    model_step x = {0};
    m->named = m->alphabet && model_below(m, 16);
    for (int i = 0; i < MODEL_MAX_SEQS; i++)
        if (m->seqs[i].id && model_below(m, 3)) {
            x.seqs[x.n] = &m->seqs[i];
            x.counts[x.n++] = sizes[model_below(m, 10)];
        }
    return model_run(m, &x);
}

/* A step given up half way: what comes after must not notice. */
static void cancelled_step(model *m)
{
    model_step x = {.n = 1, .seqs = {pick(m)}, .counts = {1 + model_below(m, 20)}};
    const int32_t before = m->next_token;
    m->named = m->alphabet && model_below(m, 2);
    model_new_tokens(m, x.seqs[0], x.counts[0]);
    const attn_cache_stats old = model_stats(m);
    if (model_step_begin(m, &x, NULL)) return;
    if (model_owner(1) == 1) model_layer(m, &x, x.counts[0], 1);
    attn_step_cancel(m->cache);
    model_check(m);
    model_check_bytes(m);
    const attn_cache_stats now = model_stats(m);
    CHECK(now.bytes - now.bytes_prefix == old.bytes - old.bytes_prefix &&
          now.pages - now.pages_prefix == old.pages - old.pages_prefix && now.pages_shared == old.pages_shared &&
          now.pages_evicted == old.pages_evicted);
    m->next_token = before + 1000;
    x.seqs[0]->ready = x.seqs[0]->n;
}

static int64_t tokens_alike(const model *m, const model_seq *a, const model_seq *b, int64_t most)
{
    int64_t n = 0;
    while (n < most && n < b->known && a->id_of[n] == b->id_of[n] && (!model_has_attrs(m) || a->attr[n] == b->attr[n]))
        n++;
    return n;
}

/* Causal masks whose pages stay until they are full: what a living sequence has is found, to the token. */
static bool finds_all(const model *m)
{
    static bool (*const others[])(const fake_pair *p) = {see_all, see_images, see_blocks, see_chunk};
    bool all = m->config.prefix_bytes == UINT64_MAX && !m->config.budget;
    for (uint32_t l = 0; l < model_layers_of(m); l++)
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) all &= fake_mask_of(l)->see != others[i];
    return all;
}

static int64_t tokens_found;

/* A text that begins like the script or like another one; what is not found is fed. */
static void begin_with(model *m)
{
    const model_seq *like = model_below(m, 2) ? pick(m) : NULL;
    const int64_t n = model_below(m, 90), most = model_below(m, 2) ? 0 : 1 + model_below(m, n + 1);
    const int64_t alike = like ? model_below(m, (like->known < n ? like->known : n) + 1) : 0;
    model_seq *s = model_begin_with(m, n, most, like, alike);
    tokens_found += s->n;
    for (int i = 0; i < MODEL_MAX_SEQS && finds_all(m); i++) {
        const model_seq *o = &m->seqs[i];
        if (o->id && o != s && o->known == o->n) CHECK(s->n >= tokens_alike(m, s, o, most && most < n ? most : n));
    }
    m->named = true;
    if (s->n < n && !model_feed(m, s, n - s->n)) model_end(m, s);
}

static void random_operation(model *m)
{
    model_seq *s = pick(m);
    switch (model_below(m, m->alphabet ? 10 : 8)) {
    case 8:
    case 9:
        if (count_seqs(m) < MODEL_MAX_SEQS) begin_with(m);
        return;
    case 0:
        if (count_seqs(m) < MODEL_MAX_SEQS / 2) model_begin(m);
        return;
    case 1:
        if (count_seqs(m) < MODEL_MAX_SEQS) model_fork(m, s);
        return;
    case 2:
        model_rollback(m, s, model_below(m, m->config.rollback + 2));
        return;
    case 3:
        if (!model_below(m, 3)) model_end(m, s);
        return;
    case 4:
        cancelled_step(m);
        return;
    default:
        if (!random_step(m)) model_end(m, s); /* the budget, or tokens that cannot be parted: somebody has to go */
    }
}

/* Every key that some query to come may see, from R tokens back on, is kept, and no other: by head, and by layer. */
static void check_kept(const model *m, const model_seq *s)
{
    for (uint32_t l = 0; l < model_layers_of(m); l++)
        for (int64_t k = 0; k < s->n; k++) {
            bool any = false;
            for (int64_t g = 0; g < MODEL_KV_HEADS; g++) {
                const bool alive = model_alive(m, s, model_pool(l, g), k, 130);
                CHECK_MSG(model_keeps(m, s, l, g, k) == alive, "layer %u, KV head %d, key %d of %d", l, (int)g, (int)k,
                          (int)s->n);
                any |= alive;
            }
            CHECK(model_keeps(m, s, l, -1, k) == any);
        }
}

static void walk(unsigned long long seed)
{
    static const uint32_t page_sizes[] = {1, 4, 16, 64}, rollbacks[] = {0, 1, 5, 21}, key_steps[] = {1, 4, 12};
    static const uint64_t limits[] = {0, 5000, UINT64_MAX, UINT64_MAX};
    unsigned long long r = seed * 977 + 5;
    const uint64_t which = check_random(&r) % (FAKE_MASKS + MODELS);
    const fake_model what = which < FAKE_MASKS ? fake_plain(&fake_masks[which]) : models[which - FAKE_MASKS];
    const fake_shape shape = {16, 8, key_steps[check_random(&r) % 3], 2, MODEL_Q_HEADS, MODEL_KV_HEADS};
    const attn_cache_config c = {.page_tokens = page_sizes[check_random(&r) % 4],
                                 .rollback = rollbacks[check_random(&r) % 4],
                                 .workers = 1 + (uint32_t)(check_random(&r) % 3),
                                 .budget = check_random(&r) % 3 ? 0 : 60000,
                                 .prefix_bytes = limits[check_random(&r) % 4]};
    model m;
    CHECK(!model_open_kinds(&m, &what, shape, c, seed));
    if (seed % 2) model_set_alphabet(&m, 2);
    for (int i = 0; i < 30 && !check_current; i++) {
        random_operation(&m);
        if (i % 6 == 5) model_check_bytes(&m);
    }
    if (!check_current) check_kept(&m, pick(&m));
    if (check_current)
        printf("walk %llu: %s, pages of %u, R %u, budget %d\n", seed, what.name, c.page_tokens, c.rollback,
               (int)c.budget);
    model_close(&m);
}

static int walks = 200;
static unsigned long long first_seed = 1;

static void test_random_walks(void)
{
    for (int i = 0; i < walks && !check_current; i++) walk(first_seed + (unsigned long long)i);
    printf("seeds %llu .. %llu, %lld tokens found\n", first_seed, first_seed + (unsigned long long)walks - 1,
           (long long)tokens_found);
    CHECK(walks < 50 || tokens_found > 5 * walks);
}

static void expect(attn_status got, attn_status want, const attn_error *err, const char *words)
{
    CHECK_MSG(got == want && strstr(err->text, words), "status %d, '%s' instead of %d, '%s'", (int)got, err->text,
              (int)want, words);
}

/* ---- failures
 * -------------------------------------------------------------------------------------------------------------- */

typedef struct meter { /* an allocator that fails once, and one that fills with NaN */
    long until, live;
} meter;

static void *meter_alloc(void *ctx, size_t size, size_t align)
{
    meter *m = ctx;
    if (m->until > 0 && !--m->until) return NULL;
    void *p = aligned_alloc(align, (size + align - 1) / align * align);
    if (p) memset(p, 0xff, size), m->live++;
    return p;
}

static void meter_free(void *ctx, void *p, size_t size)
{
    ((meter *)ctx)->live--;
    memset(p, 0xff, size);
    free(p);
}

typedef attn_status operation(model *m, model_step *x);

static attn_status do_begin(model *m, model_step *x)
{
    attn_seq_id id;
    (void)x;
    attn_status s = attn_seq_begin(m->cache, &id, NULL);
    return s ? s : attn_seq_end(m->cache, id, NULL);
}
static attn_status do_fork(model *m, model_step *x)
{
    attn_seq_id id;
    attn_status s = attn_seq_fork(m->cache, x->seqs[0]->id, &id, NULL);
    return s ? s : attn_seq_end(m->cache, id, NULL);
}
static attn_status do_begin_with(model *m, model_step *x)
{
    attn_seq_id id;
    int64_t hit;
    const int32_t *attrs[1] = {x->seqs[0]->attr};
    const attn_prefix p = {.size = sizeof p, .n_tokens = 50, .tokens = x->seqs[0]->id_of, .attrs = attrs};
    attn_status s = attn_seq_begin_with(m->cache, &p, &id, &hit, NULL);
    if (!s) CHECK(hit == (m->alphabet ? 50 : 0));
    return s ? s : attn_seq_end(m->cache, id, NULL);
}
static attn_status do_step(model *m, model_step *x)
{
    attn_status s = model_step_begin(m, x, NULL);
    if (!s) attn_step_cancel(m->cache);
    return s;
}
static attn_status do_rollback(model *m, model_step *x) { return attn_seq_rollback(m->cache, x->seqs[1]->id, 0, NULL); }

static bool same_state(const attn_cache_stats *a, const attn_cache_stats *b)
{
    return a->bytes == b->bytes && a->bytes_reserved == b->bytes_reserved && a->bytes_full == b->bytes_full &&
           a->pages == b->pages && a->pages_free == b->pages_free && a->pages_shared == b->pages_shared &&
           a->pages_evicted == b->pages_evicted;
}

/* Fails the 1st, 2nd, 3rd .. allocation of the operation until it gets through: each time nothing has changed. */
static void fail_each(model *m, meter *count, operation *what, model_step *x)
{
    const attn_cache_stats before = model_stats(m);
    for (long n = 1;; n++) {
        count->until = n;
        const long live = count->live;
        const attn_status s = what(m, x);
        const bool through = count->until > 0;
        count->until = 0;
        model_check(m);
        if (through) {
            CHECK(!s);
            return;
        }
        const attn_cache_stats now = model_stats(m);
        CHECK_MSG(s == ATTN_E_MEMORY && same_state(&before, &now), "allocation %ld: status %d", n, (int)s);
        CHECK(count->live >= live && n < 10000); /* room for tables and attributes may stay */
    }
}

static void fail_allocations(const fake_model *what, bool named)
{
    meter count = {0};
    const attn_allocator a = {&count, meter_alloc, meter_free};
    model m;
    CHECK(!model_open_kinds(&m, what, small_shape,
                            (attn_cache_config){.page_tokens = 4, .rollback = 3, .workers = 2, .allocator = &a}, 7));
    if (named) model_set_alphabet(&m, 2);
    if (fake.mask[0]->see == see_images) /* steps are legal anywhere */
        for (int i = 0; i < MODEL_SCRIPT; i++) m.script_attr[i] = -1;
    model_seq *s = model_begin(&m), *other = model_begin(&m);
    model_feed(&m, s, 50);
    model_feed(&m, other, 9);
    model_seq *fork = model_fork(&m, s); /* pages to be copied */
    model_step x = {.n = 3, .seqs = {s, other, fork}, .counts = {70, 1, 2}};
    for (int j = 0; j < 3; j++) model_new_tokens(&m, x.seqs[j], x.counts[j]);
    fail_each(&m, &count, do_step, &x);
    fail_each(&m, &count, do_fork, &x);
    fail_each(&m, &count, do_begin, &x);
    fail_each(&m, &count, do_begin_with, &x);
    fail_each(&m, &count, do_rollback, &x);
    CHECK(model_run(&m, &x));
    model_check_bytes(&m);
    model_close(&m);
    CHECK(count.live == 0);
}

static void test_failing_allocations(void)
{
    for (size_t i = 0; i < FAKE_MASKS; i++) {
        if (fake_masks[i].see == see_all || fake_masks[i].see == see_blocks)
            continue; /* steps are not legal anywhere */
        const fake_model plain = fake_plain(&fake_masks[i]);
        fail_allocations(&plain, false);
        fail_allocations(&plain, true);
    }
    for (size_t i = 0; i < MODELS; i++) fail_allocations(&models[i], false), fail_allocations(&models[i], true);
}

static void fail_create(const fake_model *what)
{
    meter count = {0};
    const attn_allocator a = {&count, meter_alloc, meter_free};
    model m;
    CHECK(!model_open_kinds(&m, what, small_shape, (attn_cache_config){0}, 1));
    attn_cache_config c = m.config;
    c.allocator = &a;
    attn_status s = ATTN_E_MEMORY;
    for (long n = 1; s == ATTN_E_MEMORY && n < 200; n++) {
        attn_cache *cache;
        count.until = n;
        s = attn_cache_create(m.module, &c, &cache, NULL);
        if (!s) attn_cache_destroy(cache);
        CHECK(count.live == 0);
    }
    CHECK(!s);
    model_close(&m);
}

static void test_failing_create(void)
{
    const fake_model plain = fake_plain(fake_mask_named("blocks"));
    fail_create(&plain);
    for (size_t i = 0; i < MODELS; i++) fail_create(&models[i]);
}

/* ---- budget
 * ---------------------------------------------------------------------------------------------------------------- */

static void test_budget(void)
{
    model m;
    /* a page: 3 layers, 2 heads, for each 4 tokens of 5 floats: 80 bytes, 128 with alignment */
    const uint64_t page = 3 * 2 * 128;
    CHECK(!model_open(&m, "causal", small_shape, (attn_cache_config){.page_tokens = 4, .budget = 10 * page + 5}, 1));
    model_seq *a = model_begin(&m), *b = model_begin(&m);
    CHECK(model_feed(&m, a, 20));
    CHECK(model_stats(&m).bytes == 5 * page && model_stats(&m).pages == 5);
    CHECK(model_feed(&m, b, 20));
    CHECK(!model_feed(&m, a, 1));
    const attn_cache_stats full = model_stats(&m);
    CHECK(full.bytes == 10 * page && full.bytes_reserved == 10 * page && full.bytes_full == 10 * page);
    model_step x = {.n = 2, .seqs = {b, a}, .counts = {0, 1}};
    CHECK(!model_run(&m, &x));
    model_end(&m, b);
    CHECK(model_stats(&m).pages_free == 5 && model_stats(&m).bytes_reserved == 10 * page);
    CHECK(model_feed(&m, a, 1));
    /* shared pages count once, and the copy of the last one counts */
    model_seq *forks[3];
    for (int i = 0; i < 3; i++) forks[i] = model_fork(&m, a);
    CHECK(model_stats(&m).bytes == 6 * page && model_stats(&m).pages_shared == 6 &&
          model_stats(&m).bytes_full == 24 * page);
    for (int i = 0; i < 3; i++) CHECK(model_feed(&m, forks[i], 1));
    CHECK(model_stats(&m).bytes == 9 * page && model_stats(&m).pages_shared == 5);
    CHECK(model_stats(&m).bytes_most <= 10 * page);
    model_close(&m);
}

/* ---- prefixes
 * -------------------------------------------------------------------------------------------------------------- */

enum { PREFIX_PAGE = 3 * 2 * 128 }; /* bytes, as above */

static void open_prefixes(model *m, const char *mask, uint64_t budget, uint64_t prefix_bytes, const attn_allocator *a)
{
    CHECK(!model_open(m, mask, small_shape,
                      (attn_cache_config){.page_tokens = 4,
                                          .rollback = 8,
                                          .budget = budget * PREFIX_PAGE,
                                          .prefix_bytes = prefix_bytes * PREFIX_PAGE,
                                          .allocator = a},
                      1));
    model_set_alphabet(m, 1 << 20);
    memset(m->script_attr, 0, sizeof m->script_attr);
}

/* Settled tokens, all as in `like`, or all its own. */
static model_seq *begin_like(model *m, const model_seq *like, int64_t n, int64_t hit)
{
    if (!like)
        for (int i = 0; i < MODEL_SCRIPT; i++) m->script[i] += 1 << 20;
    model_seq *s = model_begin_with(m, n, 0, like, like ? n : 0);
    CHECK_MSG(s->n == hit, "a hit of %d tokens, not %d", (int)s->n, (int)hit);
    return s;
}

/* What it says, for when it has ended. */
static model_seq copy_text(const model_seq *s)
{
    model_seq to = {.known = s->known, .ready = s->ready};
    to.id_of = model_widen(NULL, s->ready, sizeof *to.id_of);
    to.attr = model_widen(NULL, s->ready, sizeof *to.attr);
    memcpy(to.id_of, s->id_of, (size_t)s->ready * sizeof *to.id_of);
    memcpy(to.attr, s->attr, (size_t)s->ready * sizeof *to.attr);
    return to;
}

static void check_prefix(const model *m, int64_t pages, int64_t prefix)
{
    const attn_cache_stats s = model_stats(m);
    CHECK_MSG(s.pages == pages && s.pages_prefix == prefix && s.bytes_prefix == (uint64_t)prefix * PREFIX_PAGE,
              "%d pages, %d of them prefixes", (int)s.pages, (int)s.pages_prefix);
}

/* What nobody holds stays as long as there is room, the end of the oldest goes first. */
static void test_prefix_limit(void)
{
    model m;
    open_prefixes(&m, "causal", 0, 8, NULL);
    model_seq *a = begin_like(&m, NULL, 18, 0);
    CHECK(model_feed(&m, a, 18));
    check_prefix(&m, 5, 0);
    const model_seq first = copy_text(a);
    model_end(&m, a);
    check_prefix(&m, 5, 5);
    model_seq *again = begin_like(&m, &first, 18, 18);
    check_prefix(&m, 5, 0);
    model_end(&m, again);
    again = begin_like(&m, &first, 17, 17); /* in the middle of the last page */
    CHECK(model_feed(&m, again, 1));
    check_prefix(&m, 6, 1); /* the page before it was written into */
    model_end(&m, again);
    check_prefix(&m, 5, 5); /* and says the same now */
    model_seq *b = begin_like(&m, NULL, 24, 0);
    CHECK(model_feed(&m, b, 24));
    check_prefix(&m, 11, 5);
    model_seq *keep = begin_like(&m, &first, 8, 8);
    check_prefix(&m, 11, 3);
    model_end(&m, b);
    check_prefix(&m, 10, 8); /* the oldest is gone: the end of the first text */
    const model_seq second = copy_text(b);
    CHECK(begin_like(&m, &first, 18, 16)->id && begin_like(&m, &second, 24, 24)->id);
    model_end(&m, keep);
    free(first.id_of), free(first.attr), free(second.id_of), free(second.attr);
    model_close(&m);
    open_prefixes(&m, "causal", 0, 0, NULL);
    a = begin_like(&m, NULL, 18, 0);
    CHECK(model_feed(&m, a, 18));
    CHECK(begin_like(&m, a, 18, 18)->id);
    model_end(&m, &m.seqs[1]);
    model_end(&m, a);
    check_prefix(&m, 0, 0);
    CHECK(begin_like(&m, a, 18, 0)->id);
    model_close(&m);
}

/* A step that fits without prefixes fits with them. */
static void test_prefix_budget(void)
{
    model m;
    open_prefixes(&m, "causal", 6, 100, NULL);
    model_seq *a = begin_like(&m, NULL, 20, 0);
    CHECK(model_feed(&m, a, 20));
    model_end(&m, a);
    check_prefix(&m, 5, 5);
    model_seq *b = begin_like(&m, NULL, 24, 0);
    CHECK(model_feed(&m, b, 24)); /* all of a goes */
    check_prefix(&m, 6, 0);
    CHECK(!model_feed(&m, b, 1)); /* and more there is not */
    b->ready = b->n;
    model_rollback(&m, b, 3);
    CHECK(model_feed(&m, b, 3)); /* into a page that the tree has, too: no copy */
    check_prefix(&m, 6, 0);
    model_end(&m, b);
    model_seq *c = begin_like(&m, b, 22, 22); /* in b's place, which says the same */
    check_prefix(&m, 6, 0);
    CHECK(model_feed(&m, c, 2)); /* the same: its end is in a page of the tree */
    check_prefix(&m, 6, 0);
    CHECK(!model_feed(&m, c, 1));
    model_close(&m);
}

static attn_status ask_prefix(model *m, const attn_prefix *p, attn_error *err)
{
    attn_seq_id id;
    int64_t hit;
    return attn_seq_begin_with(m->cache, p, &id, &hit, err);
}

static void test_prefix_calls(void)
{
    model m;
    attn_error err = {""};
    attn_seq_id id;
    int64_t hit = -1;
    open_prefixes(&m, "documents", 0, 100, NULL);
    const int32_t tokens[3] = {1, 2, 3}, doc[3] = {0}, other[3] = {0, 0, 5}, *attrs[1] = {doc}, *others[1] = {other};
    attn_prefix p = {.size = sizeof p, .n_tokens = 3, .tokens = tokens, .attrs = attrs};
    expect(attn_seq_begin_with(m.cache, &p, NULL, &hit, &err), ATTN_E_ARGUMENT, &err, "out is NULL");
    expect(attn_seq_begin_with(m.cache, &p, &id, NULL, &err), ATTN_E_ARGUMENT, &err, "hit is NULL");
    expect(ask_prefix(&m, NULL, &err), ATTN_E_ARGUMENT, &err, "attn_prefix is NULL");
    expect(ask_prefix(&m, &(attn_prefix){.size = sizeof p, .n_tokens = -1}, &err), ATTN_E_ARGUMENT, &err, "-1 tokens");
    expect(ask_prefix(&m, &(attn_prefix){.size = sizeof p, .most = -2}, &err), ATTN_E_ARGUMENT, &err, "at most -2");
    expect(ask_prefix(&m, &(attn_prefix){.size = sizeof p, .n_tokens = 1}, &err), ATTN_E_ARGUMENT, &err,
           "tokens is NULL");
    p.attrs = NULL;
    expect(ask_prefix(&m, &p, &err), ATTN_E_MISSING, &err, "attribute 'doc' of the prefix");
    p.n_tokens = 0;
    CHECK(!attn_seq_begin_with(m.cache, &p, &id, &hit, NULL) && hit == 0 && !attn_seq_end(m.cache, id, NULL));
    p.n_tokens = 3, p.attrs = attrs;
    CHECK(!attn_seq_begin_with(m.cache, &p, &id, &hit, NULL) && hit == 0 && !attn_seq_end(m.cache, id, NULL));
    /* the same ids with another attribute are another text */
    model_seq *s = model_begin(&m);
    model_settle(&m, s, 3);
    for (int i = 0; i < 3; i++) s->id_of[i] = tokens[i], s->attr[i] = doc[i];
    CHECK(model_feed(&m, s, 3));
    CHECK(!attn_seq_begin_with(m.cache, &p, &id, &hit, NULL) && hit == 3);
    p.attrs = others;
    CHECK(!attn_seq_begin_with(m.cache, &p, &id, &hit, NULL) && hit == 2);
    model_step x = {.n = 1, .seqs = {s}, .counts = {1}};
    model_new_tokens(&m, s, 1);
    CHECK(!model_step_begin(&m, &x, NULL));
    expect(ask_prefix(&m, &p, &err), ATTN_E_STATE, &err, "a step is open");
    attn_step_cancel(m.cache);
    model_close(&m);
}

/* What depends on how tokens are cut into steps is nobody else's. */
static void test_prefix_len(void)
{
    model m;
    open_prefixes(&m, "causal", 0, 100, NULL);
    attn_module *module;
    attn_cache *cache;
    attn_cache_config c = m.config;
    fake.kind[0].flags |= ATTN_KIND_LEN;
    CHECK(!attn_module_open(&fake.module, NULL, &module, NULL));
    CHECK(!attn_cache_create(module, &c, &cache, NULL));
    attn_cache *old = m.cache;
    m.cache = cache;
    model_seq *s = model_begin(&m);
    CHECK(model_feed(&m, s, 20));
    CHECK(begin_like(&m, s, 20, 0)->id);
    model_end(&m, s);
    CHECK(model_stats(&m).pages == 0);
    m.cache = old;
    attn_cache_destroy(cache);
    attn_module_destroy(module);
    model_close(&m);
}

/* A step ends, whether there is memory for the tree or not. */
static void test_prefix_without_memory(void)
{
    meter count = {0};
    const attn_allocator a = {&count, meter_alloc, meter_free};
    model m;
    open_prefixes(&m, "images", 0, 100, &a);
    for (int i = 0; i < MODEL_SCRIPT; i++) m.script_attr[i] = i % 4 == 1 || i % 4 == 2 ? i / 4 : -1;
    model_seq *s = model_begin(&m);
    for (long n = 1; n < 12; n++) {
        model_step x = {.n = 1, .seqs = {s}, .counts = {8}};
        model_new_tokens(&m, s, 8);
        CHECK(!model_step_begin(&m, &x, NULL));
        model_layers(&m, &x);
        count.until = n;
        CHECK(!attn_step_end(m.cache, NULL));
        count.until = 0;
        s->n = s->furthest = s->known = s->n + 8;
        model_check(&m);
    }
    CHECK(model_feed(&m, s, 8));
    CHECK(begin_like(&m, s, 96, 96)->id);
    count.until = 1;
    CHECK(!attn_seq_end(m.cache, s->id, NULL));
    s->id = 0;
    count.until = 0;
    model_check(&m);
    model_close(&m);
    CHECK(count.live == 0);
}

/* ---- rules
 * ----------------------------------------------------------------------------------------------------------------- */

static attn_status begin_raw(model *m, uint32_t n, const attn_seq_id *ids, const int64_t *counts, attn_error *err)
{
    const attn_step_config c = {.size = sizeof c, .n_seqs = n, .seqs = ids, .counts = counts};
    return attn_step_begin(m->cache, &c, err);
}

/* A history that was computed elsewhere: its keys come without queries, then a step asks. */
static void test_keys_without_queries(void)
{
    model m;
    CHECK(!model_open(&m, "documents", small_shape, (attn_cache_config){.page_tokens = 4}, 1));
    model_seq *s = model_begin(&m);
    m.keys_only = true;
    CHECK(model_feed(&m, s, 6));
    m.keys_only = false;
    CHECK(model_feed(&m, s, 3));
    m.keys_only = true;
    CHECK(model_feed(&m, s, 1));
    m.keys_only = false;
    CHECK(model_feed(&m, s, 2));
    model_close(&m);
}

static void test_wrong_calls(void)
{
    model m;
    attn_error err = {""};
    CHECK(!model_open(&m, "documents", small_shape, (attn_cache_config){.page_tokens = 4}, 1));
    model_seq *s = model_begin(&m);
    const attn_seq_id id = s->id;
    attn_seq_id other;
    int64_t length = -1;
    model_feed(&m, s, 5);
    const attn_cache_stats before = model_stats(&m);
    const int64_t one = 1, minus = -1, huge = (int64_t)1 << 30;
    expect(begin_raw(&m, 1, (attn_seq_id[]){77}, &one, &err), ATTN_E_STATE, &err, "sequence 77 is not of this cache");
    expect(begin_raw(&m, 1, (attn_seq_id[]){0}, &one, &err), ATTN_E_STATE, &err, "not of this cache");
    expect(begin_raw(&m, 2, (attn_seq_id[]){id, id}, (int64_t[]){1, 1}, &err), ATTN_E_ARGUMENT, &err,
           "in the step twice");
    expect(begin_raw(&m, 1, &id, &minus, &err), ATTN_E_ARGUMENT, &err, "counts[0] is -1");
    expect(begin_raw(&m, 1, &id, &huge, &err), ATTN_E_ARGUMENT, &err, "may grow from 5 to 1073741824");
    expect(begin_raw(&m, 1, NULL, &one, &err), ATTN_E_ARGUMENT, &err, "NULL");
    expect(begin_raw(&m, 1, &id, &one, &err), ATTN_E_MISSING, &err, "attribute 'doc' of the new tokens");
    expect(attn_step_end(m.cache, &err), ATTN_E_STATE, &err, "no step is open");
    expect(attn_step_layer(m.cache, 0, NULL, NULL, &err), ATTN_E_STATE, &err, "no step is open");
    expect(attn_seq_rollback(m.cache, id, -1, &err), ATTN_E_ARGUMENT, &err, "by -1 tokens");
    expect(attn_seq_rollback(m.cache, id, 6, &err), ATTN_E_ROLLBACK, &err, "there are 5");
    expect(attn_seq_rollback(m.cache, id, 1, &err), ATTN_E_ROLLBACK, &err,
           "reached 5, and the cache keeps the state 0 tokens back");
    expect(attn_step_begin(m.cache, NULL, &err), ATTN_E_ARGUMENT, &err, "attn_step_config is NULL");
    attn_step_cancel(m.cache); /* none is open */
    attn_cache_stats now = model_stats(&m);
    CHECK(same_state(&before, &now));
    CHECK(!attn_seq_length(m.cache, id, &length, NULL) && length == 5);

    model_step x = {.n = 1, .seqs = {s}, .counts = {1}};
    model_new_tokens(&m, s, 1);
    CHECK(!model_step_begin(&m, &x, NULL));
    expect(model_step_begin(&m, &x, &err), ATTN_E_STATE, &err, "a step is open");
    expect(attn_seq_begin(m.cache, &other, &err), ATTN_E_STATE, &err, "a step is open");
    expect(attn_seq_fork(m.cache, id, &other, &err), ATTN_E_STATE, &err, "a step is open");
    expect(attn_seq_rollback(m.cache, id, 0, &err), ATTN_E_STATE, &err, "a step is open");
    expect(attn_seq_end(m.cache, id, &err), ATTN_E_STATE, &err, "a step is open");
    expect(attn_step_layer(m.cache, 3, NULL, NULL, &err), ATTN_E_ARGUMENT, &err, "layer 3: module 'fake' has 3 layers");
    expect(attn_step_layer(m.cache, 0, NULL, NULL, &err), ATTN_E_ARGUMENT, &err, "attn_tensors is NULL");
    expect(attn_step_layer(m.cache, 0, &(attn_tensors){.size = sizeof(attn_tensors)}, NULL, &err), ATTN_E_ARGUMENT,
           &err, "q is NULL");
    model_layer(&m, &x, 1, 0);
    expect(attn_step_layer(m.cache, 0, NULL, NULL, &err), ATTN_E_STATE, &err, "layer 0 has been run");
    expect(attn_step_end(m.cache, &err), ATTN_E_STATE, &err, "1 of 3 layers have been run; layer 1 has not");
    model_layer(&m, &x, 1, 1);
    model_layer(&m, &x, 1, 2);
    CHECK(!attn_step_end(m.cache, NULL));
    s->n = s->furthest = 6;
    CHECK(model_feed(&m, s, 3));
    model_end(&m, s);
    expect(attn_seq_end(m.cache, id, &err), ATTN_E_STATE, &err, "has ended");
    expect(attn_seq_length(m.cache, id, &length, &err), ATTN_E_STATE, &err, "has ended");
    CHECK(attn_cache_kept(m.cache, id, 0, NULL, 0) == -1);
    CHECK(model_begin(&m)->id > id);
    model_close(&m);
}

static void test_wrong_configs(void)
{
    model m;
    attn_error err = {""};
    attn_cache *cache = NULL;
    CHECK(!model_open(&m, "blocks", small_shape, (attn_cache_config){0}, 1));
    attn_cache_config c = m.config;
    c.inputs = NULL;
    expect(attn_cache_create(m.module, &c, &cache, &err), ATTN_E_MISSING, &err, "reads run-time inputs");
    c = m.config, c.page_tokens = 1 << 25;
    expect(attn_cache_create(m.module, &c, &cache, &err), ATTN_E_ARGUMENT, &err, "page_tokens is 33554432");
    c = m.config, c.workers = 5000;
    expect(attn_cache_create(m.module, &c, &cache, &err), ATTN_E_ARGUMENT, &err, "workers is 5000");
    c = m.config, c.isa = ATTN_ISA_AVX512;
    expect(attn_cache_create(m.module, &c, &cache, &err), ATTN_E_ISA, &err, "has no kernel");
    c = m.config, c.size = 0;
    expect(attn_cache_create(m.module, &c, &cache, &err), ATTN_E_VERSION, &err, "attn_cache_config.size is 0");
    c = m.config, c.n_layers = 2, c.layers = (uint32_t[]){1, 1};
    expect(attn_cache_create(m.module, &c, &cache, &err), ATTN_E_ARGUMENT, &err, "layer 1 is given twice");
    c.layers = (uint32_t[]){0, 3};
    expect(attn_cache_create(m.module, &c, &cache, &err), ATTN_E_ARGUMENT, &err, "layers[1] is 3");
    c.layers = NULL;
    expect(attn_cache_create(m.module, &c, &cache, &err), ATTN_E_ARGUMENT, &err, "layers is NULL");
    expect(attn_cache_create(NULL, &c, &cache, &err), ATTN_E_ARGUMENT, &err, "the module is NULL");
    expect(attn_seq_begin(NULL, &(attn_seq_id){0}, &err), ATTN_E_ARGUMENT, &err, "the cache is NULL");
    CHECK(!cache);
    attn_cache_destroy(NULL);
    model_close(&m);
    CHECK(!model_open(&m, "causal", small_shape, (attn_cache_config){0}, 1));
    fake.kind[0].live = NULL;
    attn_module *old;
    CHECK(!attn_module_open(&fake.module, NULL, &old, NULL));
    expect(attn_cache_create(old, &m.config, &cache, &err), ATTN_E_VERSION, &err, "compile the pattern again");
    attn_module_destroy(old);
    model_close(&m);
}

/* A stage of a pipeline: a cache of layer 1 alone holds, asks and wants nothing of the others. */
static void test_some_layers(void)
{
    model m;
    attn_error err = {""};
    CHECK(!model_open(&m, "layers", small_shape,
                      (attn_cache_config){.n_layers = 1, .layers = (uint32_t[]){1}, .page_tokens = 1}, 1));
    model_seq *s = model_begin(&m);
    model_step x = {.n = 1, .seqs = {s}, .counts = {90}};
    model_new_tokens(&m, s, 90);
    CHECK(!model_step_begin(&m, &x, NULL));
    expect(attn_step_layer(m.cache, 0, NULL, NULL, &err), ATTN_E_ARGUMENT, &err, "layer 0 is not of this cache");
    expect(attn_step_end(m.cache, &err), ATTN_E_STATE, &err, "0 of 1 layers have been run; layer 1 has not");
    model_layer(&m, &x, 90, 1);
    CHECK(!attn_step_end(m.cache, NULL));
    model_check(&m);
    CHECK(model_stats(&m).pages == 32); /* its window is 33 */
    CHECK(attn_cache_kept(m.cache, s->id, 0, NULL, 0) == -1 && attn_cache_kept(m.cache, s->id, 1, NULL, 0) == 1);
    model_close(&m);
}

/* ---- groups, shared keys, keys that are values
 * --------------------------------------------------------------------------------------------- */

static attn_status try_layer(model *m, uint32_t layer, const DLTensor *k, const DLTensor *v, attn_tensors t,
                             attn_error *err)
{
    t.k = k, t.v = v;
    return attn_step_layer(m->cache, layer, &t, NULL, err);
}

/* Layer 2 has no keys of its own. Everything that is refused leaves the step as it was. */
static void test_shared_calls(void)
{
    model m;
    model_tensors t;
    attn_error err = {""};
    CHECK(!model_open_kinds(&m, model_named("shared"), small_shape, (attn_cache_config){.page_tokens = 4}, 1));
    model_seq *s = model_begin(&m);
    model_step x = {.n = 1, .seqs = {s}, .counts = {5}};
    model_new_tokens(&m, s, 5);
    CHECK(!model_step_begin(&m, &x, NULL));
    model_make_tensors(&m, &x, 5, 2, &t);
    expect(try_layer(&m, 2, NULL, NULL, t.call, &err), ATTN_E_STATE, &err,
           "layer 2 reads the keys and values of layer 0, which has not been run");
    model_layer(&m, &x, 5, 1);
    expect(try_layer(&m, 2, NULL, NULL, t.call, &err), ATTN_E_STATE, &err, "layer 0, which has not been run");
    expect(try_layer(&m, 0, NULL, NULL, t.call, &err), ATTN_E_ARGUMENT, &err, "k is NULL");
    model_layer(&m, &x, 5, 0);
    expect(try_layer(&m, 2, &t.k.dl, NULL, t.call, &err), ATTN_E_ARGUMENT, &err, "k and v must be NULL");
    expect(try_layer(&m, 2, NULL, &t.v.dl, t.call, &err), ATTN_E_ARGUMENT, &err, "k and v must be NULL");
    expect(attn_step_end(m.cache, &err), ATTN_E_STATE, &err, "2 of 3 layers have been run; layer 2 has not");
    model_check(&m);
    model_layer(&m, &x, 5, 2);
    CHECK(!attn_step_end(m.cache, NULL));
    model_free_tensors(&t);
    model_close(&m);
}

static void test_latent_calls(void)
{
    model m;
    model_tensors t;
    attn_error err = {""};
    CHECK(!model_open_kinds(&m, model_named("latent"), small_shape, (attn_cache_config){.page_tokens = 4}, 1));
    model_seq *s = model_begin(&m);
    model_step x = {.n = 1, .seqs = {s}, .counts = {5}};
    model_new_tokens(&m, s, 5);
    CHECK(!model_step_begin(&m, &x, NULL));
    model_make_tensors(&m, &x, 5, 1, &t);
    expect(try_layer(&m, 1, &t.k.dl, &t.v.dl, t.call, &err), ATTN_E_ARGUMENT, &err, "v must be NULL");
    expect(try_layer(&m, 1, NULL, NULL, t.call, &err), ATTN_E_ARGUMENT, &err, "k is NULL");
    model_layers(&m, &x);
    CHECK(!attn_step_end(m.cache, NULL));
    CHECK(model_stats(&m).bytes == 2 * (4 * 128 + 2 * 128)); /* 4 tokens of 6 floats, of 5; no values */
    model_free_tensors(&t);
    model_close(&m);
}

/* A stage of a pipeline has the layers whose keys its layers read. */
static void test_some_shared_layers(void)
{
    model m;
    attn_error err = {""};
    attn_cache *cache = NULL;
    CHECK(!model_open_kinds(&m, model_named("shared"), small_shape,
                            (attn_cache_config){.n_layers = 2, .layers = (uint32_t[]){2, 0}, .page_tokens = 1}, 1));
    attn_cache_config c = m.config;
    c.layers = (uint32_t[]){1, 2};
    expect(attn_cache_create(m.module, &c, &cache, &err), ATTN_E_ARGUMENT, &err,
           "layer 2 reads the keys of layer 0, which is not of this cache");
    CHECK(!cache);
    model_seq *s = model_begin(&m);
    model_step x = {.n = 1, .seqs = {s}, .counts = {60}};
    model_new_tokens(&m, s, 60);
    CHECK(!model_step_begin(&m, &x, NULL));
    model_layer(&m, &x, 60, 0);
    model_layer(&m, &x, 60, 2);
    CHECK(!attn_step_end(m.cache, NULL));
    model_check(&m);
    CHECK(model_stats(&m).pages == 3 + 20); /* the chunk, 48 to 59, lies in the window */
    model_close(&m);
}

static void test_max_len(void)
{
    static const fake_model limited = {
        "limited", 3, 2, {0, 1, 0}, {{.mask = "streaming", .max_len = 40}, {.mask = "causal", .max_len = 50}}};
    model m;
    attn_error err = {""};
    CHECK(!model_open_kinds(&m, &limited, small_shape, (attn_cache_config){.rollback = 5}, 1));
    model_seq *s = model_begin(&m);
    const int64_t too_many[] = {41, 1}, one = 1;
    expect(begin_raw(&m, 1, &s->id, too_many, &err), ATTN_E_ARGUMENT, &err, "may grow from 0 to 40 tokens");
    CHECK(model_feed(&m, s, 39) && model_feed(&m, s, 1));
    expect(begin_raw(&m, 1, &s->id, &one, &err), ATTN_E_ARGUMENT, &err, "may grow from 40 to 40 tokens");
    model_rollback(&m, s, 1);
    CHECK(model_feed(&m, s, 1));
    model_close(&m);
}

/* Groups by hand: the heads that see all hold everything, those with a window of 4 four tokens. */
static void test_group_bytes(void)
{
    model m;
    CHECK(!model_open_kinds(&m, model_named("groups by head"), small_shape, (attn_cache_config){.page_tokens = 16}, 1));
    model_seq *s = model_begin(&m);
    CHECK(model_feed(&m, s, 160));
    const uint64_t page = 3 * 16 * 20; /* 3 layers, one head of them, 5 floats */
    CHECK(model_stats(&m).pages == 10 + 1 && model_stats(&m).bytes == 11 * page &&
          model_stats(&m).bytes_full == 20 * page);
    int64_t at[2][2];
    CHECK(attn_cache_kept_by_head(m.cache, s->id, 1, 0, at, 2) == 1 && at[0][0] == 157 && at[0][1] == 159);
    CHECK(attn_cache_kept_by_head(m.cache, s->id, 1, 1, at, 2) == 1 && at[0][0] == 0 && at[0][1] == 159);
    CHECK(attn_cache_kept_by_head(m.cache, s->id, 1, 2, at, 2) == -1);
    CHECK(attn_cache_kept_by_head(m.cache, s->id, 1, UINT32_MAX, at, 2) == -1);
    CHECK(attn_cache_kept_by_head(m.cache, s->id, 3, 0, at, 2) == -1);
    CHECK(attn_cache_kept_by_head(m.cache, s->id + 1, 1, 0, at, 2) == -1);
    CHECK(attn_cache_kept_by_head(m.cache, s->id, 1, 0, NULL, 1) == -1);
    model_close(&m);
}

/* A past token would see a new one: images in both directions, cut in the middle. */
static void test_splits(void)
{
    model m;
    attn_error err = {""};
    CHECK(!model_open(&m, "images", small_shape, (attn_cache_config){.page_tokens = 4}, 1));
    model_seq *s = model_begin(&m);
    model_step x = {.n = 1, .seqs = {s}, .counts = {6}};
    model_new_tokens(&m, s, 20);
    for (int i = 0; i < 20; i++) s->attr[i] = i < 4 ? -1 : i < 8 ? 1 : -1;
    CHECK(!model_step_begin(&m, &x, NULL));
    model_layers(&m, &x);
    CHECK(!attn_step_end(m.cache, NULL));
    s->n = s->furthest = 6;
    const attn_cache_stats before = model_stats(&m);
    x.counts[0] = 3;
    expect(model_step_begin(&m, &x, &err), ATTN_E_SPLIT, &err, "query 4 sees key 6");
    const attn_cache_stats now = model_stats(&m);
    CHECK(same_state(&before, &now));
    s->attr[6] = 2;
    x.counts[0] = 1;
    CHECK(!model_step_begin(&m, &x, NULL));
    model_layers(&m, &x);
    CHECK(!attn_step_end(m.cache, NULL));
    model_close(&m);
}

/* ---- threads
 * --------------------------------------------------------------------------------------------------------------- */

static attn_cache *watched;
static atomic_int refused;

/* Called from within a kernel: while a layer runs, every other call is refused. */
static void meddle(void)
{
    attn_seq_id id;
    int64_t n;
    attn_cache_stats s = {.size = sizeof s};
    int busy = attn_seq_begin(watched, &id, NULL) == ATTN_E_BUSY;
    busy += attn_seq_length(watched, 1, &n, NULL) == ATTN_E_BUSY;
    busy += attn_cache_get_stats(watched, &s) == ATTN_E_BUSY;
    busy += attn_step_end(watched, NULL) == ATTN_E_BUSY;
    busy += attn_cache_kept(watched, 1, 0, NULL, 0) == -1;
    busy += attn_cache_check(watched) != NULL;
    attn_step_cancel(watched); /* nothing happens */
    if (busy == 6) atomic_store(&refused, 1);
}

static void run_in_pool(const fake_model *what, attn_pool *pool)
{
    model m;
    CHECK(!model_open_kinds(&m, what, small_shape, (attn_cache_config){.page_tokens = 16, .workers = 3, .rollback = 2},
                            3));
    m.pool = pool;
    model_seq *s = model_begin(&m);
    watched = m.cache;
    atomic_store(&refused, 0);
    fake.on_item = meddle;
    CHECK(model_feed(&m, s, 300));
    CHECK(atomic_load(&refused));
    fake.on_item = NULL;
    model_close(&m);
}

static void test_pool_and_busy(void)
{
    attn_pool *pool;
    CHECK(!attn_pool_create(3, NULL, &pool, NULL));
    for (size_t i = 1; i < FAKE_MASKS; i++) {
        const fake_model plain = fake_plain(&fake_masks[i]);
        run_in_pool(&plain, pool);
    }
    for (size_t i = 0; i < MODELS; i++) run_in_pool(&models[i], pool);
    attn_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    if (argc > 1) walks = atoi(argv[1]);
    if (argc > 2) first_seed = strtoull(argv[2], NULL, 10);
    RUN(test_wrong_configs);
    RUN(test_keys_without_queries);
    RUN(test_wrong_calls);
    RUN(test_budget);
    RUN(test_prefix_limit);
    RUN(test_prefix_budget);
    RUN(test_prefix_calls);
    RUN(test_prefix_len);
    RUN(test_prefix_without_memory);
    RUN(test_some_layers);
    RUN(test_group_bytes);
    RUN(test_shared_calls);
    RUN(test_latent_calls);
    RUN(test_some_shared_layers);
    RUN(test_max_len);
    RUN(test_splits);
    RUN(test_failing_create);
    RUN(test_failing_allocations);
    RUN(test_pool_and_busy);
    RUN(test_random_walks);
    return CHECK_DONE();
}
