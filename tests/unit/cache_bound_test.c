/* cache_bound_test.c - the most bytes that a cache can ever hold, against counting, against caches driven to every
 * place, and against random operations.
 *
 *     cache_bound_test [OPERATIONS [SEED]] */
#include "cache_model.h"
#include "fake_models.h"

static const fake_shape small_shape = {16, 8, 4, 2, MODEL_Q_HEADS, MODEL_KV_HEADS};

/* ---- models without data, whose live sets can be counted --------------------------------------------------------- */

static const char *const plain[] = {"causal", "streaming", "chunk", "stride", "heads", "layers", "duo"};
enum { PLAIN = sizeof plain / sizeof *plain };

static bool model_at(size_t i, fake_model *out)
{
    if (i < PLAIN) {
        *out = fake_plain(fake_mask_named(plain[i]));
        return true;
    }
    if (i - PLAIN < MODELS) *out = models[i - PLAIN];
    return i - PLAIN < MODELS;
}

static uint64_t ask(attn_cache *c, uint32_t n_seqs, int64_t tokens, int64_t step)
{
    uint64_t bytes = 0;
    attn_error err = {""};
    const attn_cache_limits l = {.size = sizeof l, .n_seqs = n_seqs, .max_tokens = tokens, .max_step = step};
    CHECK_MSG(!attn_cache_bound(c, &l, &bytes, &err), "%s", err.text);
    return bytes;
}

/* ---- counting ---------------------------------------------------------------------------------------------------- */

enum { MOST_TOKENS = 60 };

/* alive[f][pool][k]: key k is kept when f tokens have been reached. */
static bool alive[MOST_TOKENS + 1][MODEL_MAX_POOLS][MOST_TOKENS];

static void count_alive(const model *m)
{
    for (int64_t f = 0; f <= MOST_TOKENS; f++)
        for (uint32_t pool = 0; pool < m->n_pools; pool++)
            for (int64_t k = 0; k < MOST_TOKENS; k++) {
                const model_seq s = {.n = f, .furthest = f};
                alive[f][pool][k] = model_alive(m, &s, pool, k, 32);
            }
}

typedef struct place { /* pages of one pool, n tokens of f reached */
    int64_t held;
    bool last; /* the page that the next token goes to is one of them */
} place;

static place count_place(const model *m, uint32_t pool, int64_t f, int64_t n)
{
    const int64_t p = model_page_tokens(m);
    place at = {0};
    for (int64_t page = 0; page * p < n; page++) {
        bool any = false;
        for (int64_t k = page * p; k < (page + 1) * p && k < n; k++) any |= alive[f][pool][k];
        at.held += any;
        at.last |= any && page == n / p;
    }
    return at;
}

/* While a step of m tokens runs: of one sequence, and of two forks that both have it. */
static void count_step(const model *m, const place *at, int64_t n, int64_t count, uint64_t *alone, uint64_t *pair)
{
    const int64_t p = model_page_tokens(m), written = count ? (n + count - 1) / p - n / p + 1 : 0;
    uint64_t one = 0, two = 0;
    for (uint32_t pool = 0; pool < m->n_pools; pool++) {
        const uint64_t bytes = model_page_bytes(m, pool);
        one += bytes * (uint64_t)(at[pool].held + written - (count && at[pool].last));
        two += bytes * (uint64_t)(at[pool].held + 2 * written);
    }
    if (one > *alone) *alone = one;
    if (two > *pair) *pair = two;
}

static void count_all(const model *m, int64_t tokens, int64_t step, uint64_t *alone, uint64_t *pair)
{
    const int64_t r = m->config.rollback;
    *alone = *pair = 0;
    for (int64_t f = 0; f <= tokens; f++)
        for (int64_t n = f > r ? f - r : 0; n <= f; n++) {
            place at[MODEL_MAX_POOLS];
            for (uint32_t pool = 0; pool < m->n_pools; pool++) at[pool] = count_place(m, pool, f, n);
            for (int64_t count = 0; count <= step && n + count <= tokens; count++)
                count_step(m, at, n, count, alone, pair);
        }
}

static void compare_bounds(const model *m, const fake_model *what)
{
    static const int64_t tokens[] = {1, 13, MOST_TOKENS}, steps[] = {1, 3, 17, MOST_TOKENS};
    for (int t = 0; t < 3; t++)
        for (int s = 0; s < 4; s++) {
            uint64_t alone, pair;
            count_all(m, tokens[t], steps[s], &alone, &pair);
            const uint64_t two = pair > 2 * alone ? pair : 2 * alone;
            const uint64_t want[] = {0, alone, two, two + alone, 2 * two, 2 * two + alone};
            for (uint32_t n = 0; n < 6; n++) {
                const uint64_t got = ask(m->cache, n, tokens[t], steps[s]);
                CHECK_MSG(got == want[n], "%s, pages of %u, R %u: %u texts of %d by %d: %llu is not %llu", what->name,
                          m->config.page_tokens, m->config.rollback, n, (int)tokens[t], (int)steps[s],
                          (unsigned long long)got, (unsigned long long)want[n]);
            }
        }
}

static void test_counted(void)
{
    static const uint32_t page_sizes[] = {1, 4, 16, 64}, rollbacks[] = {0, 1, 5, 24};
    fake_model what;
    for (size_t i = 0; model_at(i, &what) && !check_current; i++)
        for (int r = 0; r < 4; r++)
            for (int p = 0; p < 4; p++) {
                model m;
                const attn_cache_config c = {.page_tokens = page_sizes[p], .rollback = rollbacks[r]};
                CHECK(!model_open_kinds(&m, &what, small_shape, c, 1));
                if (!p) count_alive(&m);
                compare_bounds(&m, &what);
                model_close(&m);
            }
}

/* The numbers of the books: W - 1 + m, at most C - 1 + m, everything; R more with rollback. */
static void test_known(void)
{
    static const struct {
        const char *mask;
        uint32_t rollback;
        int64_t tokens, step, keys;
    } known[] = {
        {"causal", 0, 1000, 7, 1000},        {"causal", 9, 1000, 1, 1000},
        {"chunk", 0, 1000, 1, 24},           {"chunk", 0, 1000, 10, 23 + 10},
        {"chunk", 3, 1000, 10, 26 + 10},     {"streaming", 0, 1000, 1, 23 + 1},
        {"streaming", 0, 1000, 16, 23 + 16}, {"streaming", 5, 1000, 16, 28 + 16},
        {"streaming", 0, 10, 16, 10},        {"streaming", 0, 1 << 20, 512, 23 + 512},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        model m;
        const attn_cache_config c = {.page_tokens = 1, .rollback = known[i].rollback};
        CHECK(!model_open(&m, known[i].mask, small_shape, c, 1));
        const uint64_t token = 3 * 2 * 64; /* 3 layers, 2 heads, 5 floats */
        const uint64_t got = ask(m.cache, 1, known[i].tokens, known[i].step);
        CHECK_MSG(got == token * (uint64_t)known[i].keys, "%s: %llu keys, not %d", known[i].mask,
                  (unsigned long long)(got / token), (int)known[i].keys);
        model_close(&m);
    }
}

/* ---- a cache without arithmetic ---------------------------------------------------------------------------------- */

static void idle_run(const attn_kernel_args *a, const attn_item *item, void *workspace)
{
    (void)a, (void)item, (void)workspace;
}

enum { MOST_SEQS = 6, MOST_ROWS = 512 };

typedef struct machine {
    attn_module *module;
    attn_cache *cache;
    int64_t tokens, step; /* limits */
    uint32_t n_seqs, rollback;
    attn_seq_id id[MOST_SEQS];
    int64_t n[MOST_SEQS], furthest[MOST_SEQS];
    uint64_t bound, most; /* bytes */
} machine;

static void machine_open(machine *x, const fake_model *what, attn_cache_config c)
{
    static int32_t blocks[64];
    static int64_t shape[] = {8, 8};
    static DLTensor input = {
        .data = blocks, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLInt, 32, 1}, .shape = shape};
    static const DLTensor *const inputs[] = {&input};
    fake_make_model(what, small_shape);
    fake.kernel.run = fake.kernel.merge = idle_run;
    CHECK(!attn_module_open(&fake.module, NULL, &x->module, NULL));
    c.size = sizeof c;
    c.inputs = inputs;
    c.isa = -1;
    attn_cache *unlimited;
    CHECK(!attn_cache_create(x->module, &c, &unlimited, NULL));
    c.budget = x->bound = ask(unlimited, x->n_seqs, x->tokens, x->step);
    attn_cache_destroy(unlimited);
    CHECK(!attn_cache_create(x->module, &c, &x->cache, NULL));
    x->rollback = c.rollback;
}

static void machine_close(machine *x)
{
    attn_cache_destroy(x->cache);
    attn_module_destroy(x->module);
}

/* No step is refused, since the bound is the budget. */
static void machine_begin(machine *x, const uint32_t *seqs, const int64_t *counts, uint32_t n)
{
    static const int32_t attrs[MOST_ROWS];
    static const int32_t *const lists[] = {attrs};
    attn_seq_id ids[MOST_SEQS];
    attn_error err = {""};
    for (uint32_t i = 0; i < n; i++) ids[i] = x->id[seqs[i]];
    const attn_step_config c = {.size = sizeof c, .n_seqs = n, .seqs = ids, .counts = counts, .attrs = lists};
    CHECK_MSG(!attn_step_begin(x->cache, &c, &err), "%s", err.text);
    attn_cache_stats s = {.size = sizeof s};
    CHECK(!attn_cache_get_stats(x->cache, &s) && s.bytes <= x->bound);
    if (s.bytes > x->most) x->most = s.bytes;
}

static DLTensor tensor(float *data, int64_t *shape)
{
    return (DLTensor){.data = data, .device = {kDLCPU, 0}, .ndim = 3, .dtype = {kDLFloat, 32, 1}, .shape = shape};
}

static void machine_layers(machine *x, int64_t rows)
{
    static float in[MOST_ROWS * MODEL_Q_HEADS * FAKE_MAX_DIM], out[MOST_ROWS * MODEL_Q_HEADS * FAKE_MAX_DIM];
    for (uint32_t l = 0; l < fake.module.n_layers; l++) {
        const attn_kind_desc *d = fake_kind_of(l);
        int64_t q_shape[] = {rows, MODEL_Q_HEADS, d->dim}, k_shape[] = {rows, MODEL_KV_HEADS, d->dim};
        int64_t v_shape[] = {rows, MODEL_KV_HEADS, d->dim_v}, o_shape[] = {rows, MODEL_Q_HEADS, d->dim_v};
        const DLTensor q = tensor(in, q_shape), k = tensor(in, k_shape), v = tensor(in, v_shape),
                       o = tensor(out, o_shape);
        const bool own = model_owner(l) == l;
        const attn_tensors t = {.size = sizeof t,
                                .q = &q,
                                .k = own ? &k : NULL,
                                .v = own && !(d->flags & ATTN_KIND_K_IS_V) ? &v : NULL,
                                .o = &o};
        attn_error err = {""};
        CHECK_MSG(!attn_step_layer(x->cache, l, &t, NULL, &err), "%s", err.text);
    }
}

static void machine_step(machine *x, const uint32_t *seqs, const int64_t *counts, uint32_t n)
{
    int64_t rows = 0;
    machine_begin(x, seqs, counts, n);
    for (uint32_t i = 0; i < n; i++) rows += counts[i];
    machine_layers(x, rows);
    CHECK(!attn_step_end(x->cache, NULL));
    for (uint32_t i = 0; i < n; i++) {
        x->n[seqs[i]] += counts[i];
        if (x->n[seqs[i]] > x->furthest[seqs[i]]) x->furthest[seqs[i]] = x->n[seqs[i]];
    }
}

static void machine_new(machine *x, uint32_t i)
{
    x->n[i] = x->furthest[i] = 0;
    CHECK(!attn_seq_begin(x->cache, &x->id[i], NULL));
}

static void machine_fork(machine *x, uint32_t from, uint32_t to)
{
    x->n[to] = x->n[from], x->furthest[to] = x->furthest[from];
    CHECK(!attn_seq_fork(x->cache, x->id[from], &x->id[to], NULL));
}

static void machine_rollback(machine *x, uint32_t i, int64_t r)
{
    CHECK(!attn_seq_rollback(x->cache, x->id[i], r, NULL));
    x->n[i] -= r;
}

static void machine_end(machine *x, uint32_t i)
{
    CHECK(!attn_seq_end(x->cache, x->id[i], NULL));
    x->id[i] = 0;
}

/* ---- every place ------------------------------------------------------------------------------------------------- */

static int64_t room(const machine *x, uint32_t i)
{
    return x->n[i] + x->step < x->tokens ? x->step : x->tokens - x->n[i];
}

/* Two texts reach f and go back to n, forked there or strangers; then a step of both. */
static void visit(machine *x, int64_t f, int64_t n, bool forked)
{
    const uint32_t both[] = {0, 1};
    for (uint32_t i = 0; i < (forked ? 1u : 2u); i++) {
        machine_new(x, i);
        while (x->n[i] < f) machine_step(x, &i, &(int64_t){f - x->n[i] < x->step ? f - x->n[i] : x->step}, 1);
        machine_rollback(x, i, f - n);
    }
    if (forked) machine_fork(x, 0, 1);
    machine_step(x, both, (int64_t[]){room(x, 0), room(x, 1)}, 2);
    CHECK(!attn_cache_check(x->cache));
    machine_end(x, 0);
    machine_end(x, 1);
}

static void reach(const fake_model *what, uint32_t page, uint32_t rollback, int64_t step)
{
    machine x = {.n_seqs = 2, .tokens = 30, .step = step};
    machine_open(&x, what, (attn_cache_config){.page_tokens = page, .rollback = rollback});
    for (int64_t f = 0; f <= x.tokens; f++)
        for (int64_t n = f > rollback ? f - rollback : 0; n <= f; n++) visit(&x, f, n, true), visit(&x, f, n, false);
    CHECK_MSG(x.most == x.bound, "%s, pages of %u, R %u, steps of %d: reached %llu of %llu", what->name, page, rollback,
              (int)step, (unsigned long long)x.most, (unsigned long long)x.bound);
    machine_close(&x);
}

static void test_reached(void)
{
    fake_model what;
    for (size_t i = 0; model_at(i, &what) && !check_current; i++) {
        if (what.name == model_named("shared, with data")->name || what.name == model_named("three kinds")->name)
            continue; /* nobody knows what they keep; all of it */
        reach(&what, 1, 0, 3);
        reach(&what, 4, 2, 1);
        reach(&what, 4, 5, 7);
        reach(&what, 16, 3, 5);
    }
}

/* ---- random operations ------------------------------------------------------------------------------------------- */

enum { EPISODE = 5000 };

static long operations = 1000000, reached;
static unsigned long long first_seed = 1;

static uint32_t below(unsigned long long *r, uint32_t n) { return (uint32_t)(check_random(r) % n); }

/* Some of them, or all; as many tokens as may be, or fewer. */
static void random_step(machine *x, unsigned long long *r, bool cancel)
{
    uint32_t seqs[MOST_SEQS] = {0}, n = 0;
    int64_t counts[MOST_SEQS] = {0}, rows = 0;
    const bool all = !below(r, 3);
    for (uint32_t i = 0; i < x->n_seqs; i++) {
        if (!x->id[i] || (!all && below(r, 2))) continue;
        const int64_t most = room(x, i);
        seqs[n] = i;
        counts[n] = all || below(r, 2) ? most : (int64_t)below(r, (uint32_t)most + 1);
        rows += counts[n++];
    }
    if (!cancel) {
        machine_step(x, seqs, counts, n);
        return;
    }
    machine_begin(x, seqs, counts, n);
    if (below(r, 2)) machine_layers(x, rows);
    attn_step_cancel(x->cache);
}

static void random_rollback(machine *x, uint32_t i, unsigned long long *r)
{
    const int64_t least = x->furthest[i] > x->rollback ? x->furthest[i] - x->rollback : 0;
    machine_rollback(x, i, (int64_t)below(r, (uint32_t)(x->n[i] - least) + 1));
}

static void random_operation(machine *x, unsigned long long *r)
{
    const uint32_t i = below(r, x->n_seqs), j = below(r, x->n_seqs);
    const uint32_t what = below(r, 16);
    if (!x->id[i])
        machine_new(x, i);
    else if (what < 9)
        random_step(x, r, what == 0);
    else if (what < 12)
        random_rollback(x, i, r);
    else if (what < 15 && !x->id[j])
        machine_fork(x, i, j);
    else if (x->n[i] == x->tokens || what == 15)
        machine_end(x, i);
    else
        random_step(x, r, false);
}

static void episode(unsigned long long seed)
{
    static const uint32_t page_sizes[] = {1, 4, 16, 64}, rollbacks[] = {0, 1, 3, 8};
    static const int64_t steps[] = {1, 3, 8, 20};
    unsigned long long r = seed * 7919 + 11;
    fake_model what;
    CHECK(model_at(below(&r, PLAIN + MODELS), &what));
    const attn_cache_config c = {.page_tokens = page_sizes[below(&r, 4)], .rollback = rollbacks[below(&r, 4)]};
    machine x = {.n_seqs = 1 + below(&r, 4), .tokens = 20 + below(&r, 60), .step = steps[below(&r, 4)]};
    machine_open(&x, &what, c);
    for (int i = 0; i < EPISODE && !check_current; i++) {
        random_operation(&x, &r);
        if (i % 1000 == 999) CHECK(!attn_cache_check(x.cache));
    }
    attn_cache_stats s = {.size = sizeof s};
    CHECK(!attn_cache_get_stats(x.cache, &s) && s.bytes_most == x.most && s.bytes_most <= x.bound);
    reached += s.bytes_most == x.bound;
    if (check_current)
        printf("seed %llu: %s, pages of %u, R %u, %u texts of %d by %d\n", seed, what.name, c.page_tokens, c.rollback,
               x.n_seqs, (int)x.tokens, (int)x.step);
    machine_close(&x);
}

/* The bound is the budget: it is never passed, no step is ever refused, and often it is reached. */
static void test_random_operations(void)
{
    const long episodes = (operations + EPISODE - 1) / EPISODE;
    reached = 0;
    for (long i = 0; i < episodes && !check_current; i++) episode(first_seed + (unsigned long long)i);
    CHECK(episodes < 50 || 2 * reached >= episodes);
    printf("%ld operations; the bound was reached in %ld of %ld caches\n", episodes * EPISODE, reached, episodes);
}

/* ---- rules ------------------------------------------------------------------------------------------------------- */

static void test_calls(void)
{
    model m;
    uint64_t bytes = 7;
    attn_error err = {""};
    CHECK(!model_open(&m, "streaming", small_shape, (attn_cache_config){.page_tokens = 4}, 1));
    attn_cache_limits l = {.size = sizeof l, .n_seqs = 2, .max_tokens = 0};
    CHECK(attn_cache_bound(m.cache, &l, &bytes, &err) == ATTN_E_ARGUMENT && strstr(err.text, "max_tokens is 0"));
    l.max_tokens = 50, l.max_step = -1;
    CHECK(attn_cache_bound(m.cache, &l, &bytes, &err) == ATTN_E_ARGUMENT && strstr(err.text, "max_step -1"));
    l.max_step = 0;
    CHECK(attn_cache_bound(m.cache, &l, NULL, &err) == ATTN_E_ARGUMENT && strstr(err.text, "bytes is NULL"));
    CHECK(attn_cache_bound(m.cache, NULL, &bytes, &err) == ATTN_E_ARGUMENT);
    CHECK(attn_cache_bound(NULL, &l, &bytes, &err) == ATTN_E_ARGUMENT);
    CHECK(bytes == 7 && !model_stats(&m).bytes_bound);
    /* 50 tokens lie in 13 pages; forks after the first token hold the page that both copy, too */
    CHECK(!attn_cache_bound(m.cache, &l, &bytes, &err) && bytes == (2 * 13 + 1) * 3 * 2 * 128);
    CHECK(model_stats(&m).bytes_bound == bytes);
    model_close(&m);

    /* no sequence is longer than the module says */
    const fake_model limited = {"limited", 3, 1, {0}, {{.mask = "causal", .max_len = 40}}};
    CHECK(!model_open_kinds(&m, &limited, small_shape, (attn_cache_config){.page_tokens = 4}, 1));
    CHECK(ask(m.cache, 1, 1000, 1) == ask(m.cache, 1, 40, 1));
    /* more than can be counted is that */
    CHECK(ask(m.cache, UINT32_MAX, 40, 1) == (uint64_t)UINT32_MAX * ask(m.cache, 1, 40, 1));
    model_close(&m);
}

int main(int argc, char **argv)
{
    if (argc > 1) operations = atol(argv[1]);
    if (argc > 2) first_seed = strtoull(argv[2], NULL, 10);
    RUN(test_calls);
    RUN(test_known);
    RUN(test_counted);
    RUN(test_reached);
    RUN(test_random_operations);
    return CHECK_DONE();
}
