/* cache_threads_test.c - the thread rule of attn/cache.h: one thread at a time uses a cache, and a call that meets
 * another one is refused and changes nothing; different caches do not meet.
 *
 * Results are compared to the bit with those of the same steps in one thread, and those with the definition. Under
 * ThreadSanitizer (scripts/test.sh --tsan) this is the proof that refusing is enough. */
#define _POSIX_C_SOURCE 200809L
#include "cache_model.h"

#include <pthread.h>
#include <sched.h>

static const fake_shape small_shape = {16, 8, 4, 2, MODEL_Q_HEADS, MODEL_KV_HEADS};

enum {
    LAYERS = 3,
    SEQS = 5,
    STEPS = 40,
    LONGEST = 7 + STEPS * 3 + 1,
    ROLLBACK = 6,
    ROOM = SEQS * LONGEST * LAYERS * MODEL_Q_HEADS * (FAKE_DIM_V + 1)
};

/* ---- one thread's steps ---------------------------------------------------------------------------------------- */

typedef struct stepper {
    attn_cache *cache;
    attn_pool *pool;
    int32_t first_token;
    unsigned long long seed;
    attn_seq_id id[SEQS];
    int64_t n[SEQS], counts[SEQS];
    float out[ROOM]; /* o and lse of every layer of every step */
    size_t used;
    long refused;       /* calls that met another one */
    atomic_int *others; /* calls of another thread between two steps; NULL: nobody else is there */
    atomic_int done;
    attn_status status; /* the first that is neither OK nor BUSY */
    attn_error err;
} stepper;

/* Notes what went wrong. True: the call met another one, and is to be repeated. */
static bool again(stepper *x, attn_status s)
{
    if (s == ATTN_E_BUSY) {
        x->refused++;
        sched_yield();
        return true;
    }
    if (s && !x->status) x->status = s;
    return false;
}
#define INSIST(x, call)                                                                                                \
    do {                                                                                                               \
    } while (again((x), (call)))

/* Tokens are numbered by sequence and position. */
static int32_t token_at(const stepper *x, int seq, int64_t position)
{
    return x->first_token + 1000 * seq + (int32_t)position;
}

static void run_layer(stepper *x, uint32_t layer, int64_t rows)
{
    model_tensor q, k, v, o, lse;
    model_tensor_make(&q, rows, MODEL_Q_HEADS, FAKE_DIM, 0);
    model_tensor_make(&k, rows, MODEL_KV_HEADS, FAKE_DIM, 0);
    model_tensor_make(&v, rows, MODEL_KV_HEADS, FAKE_DIM_V, 0);
    model_tensor_make(&o, rows, MODEL_Q_HEADS, FAKE_DIM_V, 0);
    model_tensor_make(&lse, rows, MODEL_Q_HEADS, 0, 0);
    int64_t row = 0;
    for (int i = 0; i < SEQS; i++)
        for (int64_t j = 0; j < x->counts[i]; j++, row++) {
            const int32_t token = token_at(x, i, x->n[i] + j);
            model_fill(&q, row, layer, 0, token, MODEL_Q_HEADS, FAKE_DIM);
            model_fill(&k, row, layer, 1, token, MODEL_KV_HEADS, FAKE_DIM);
            model_fill(&v, row, layer, 2, token, MODEL_KV_HEADS, FAKE_DIM_V);
        }
    const attn_tensors t = {.size = sizeof t, .q = &q.dl, .k = &k.dl, .v = &v.dl, .o = &o.dl, .lse = &lse.dl};
    INSIST(x, attn_step_layer(x->cache, layer, &t, x->pool, &x->err));
    const size_t outs = (size_t)rows * MODEL_Q_HEADS * FAKE_DIM_V, sums = (size_t)rows * MODEL_Q_HEADS;
    memcpy(x->out + x->used, o.at, outs * sizeof(float));
    memcpy(x->out + x->used + outs, lse.at, sums * sizeof(float));
    x->used += outs + sums;
    free(q.at), free(k.at), free(v.at), free(o.at), free(lse.at);
}

static void wait_for_others(const stepper *x, int before)
{
    while (x->others && atomic_load(x->others) == before) sched_yield();
}

static void *run_steps(void *arg)
{
    stepper *x = arg;
    for (int s = 0; s < STEPS && !x->status; s++) {
        int64_t rows = 0;
        const int before = x->others ? atomic_load(x->others) : 0;
        for (int i = 0; i < SEQS; i++) {
            x->counts[i] = s ? (int64_t)(check_random(&x->seed) % 4) : 7;
            rows += x->counts[i];
        }
        const attn_step_config c = {.size = sizeof c, .n_seqs = SEQS, .seqs = x->id, .counts = x->counts};
        INSIST(x, attn_step_begin(x->cache, &c, &x->err));
        for (uint32_t l = 0; l < LAYERS && !x->status; l++) run_layer(x, l, rows);
        INSIST(x, attn_step_end(x->cache, &x->err));
        for (int i = 0; i < SEQS; i++) x->n[i] += x->counts[i];
        wait_for_others(x, before);
    }
    atomic_store(&x->done, 1);
    return NULL;
}

static stepper *make_stepper(attn_cache *cache, attn_pool *pool, int32_t first_token)
{
    stepper *x = calloc(1, sizeof *x);
    if (!x) abort();
    x->cache = cache, x->pool = pool, x->first_token = first_token;
    x->seed = (unsigned long long)first_token;
    for (int i = 0; i < SEQS; i++) CHECK(!attn_seq_begin(cache, &x->id[i], NULL));
    return x;
}

/* ---- what it must give ------------------------------------------------------------------------------------------- */

static void check_row(const model *m, const stepper *x, int seq, int64_t q, uint32_t layer, const float *o, float lse)
{
    int32_t token[LONGEST], attr[LONGEST] = {0};
    const model_seq s = {.n = q + 1, .token = token, .attr = attr};
    for (int64_t p = 0; p <= q; p++) token[p] = token_at(x, seq, p);
    for (int64_t h = 0; h < MODEL_Q_HEADS; h++) {
        double want[FAKE_DIM_V], want_lse;
        model_row(m, &s, q + 1, layer, h, q, want, &want_lse);
        for (int d = 0; d < FAKE_DIM_V; d++) CHECK(fabs((double)o[h * FAKE_DIM_V + d] - want[d]) < 1e-5);
        if (!h) CHECK(fabs((double)lse - want_lse) < 1e-5);
    }
}

/* The same steps in this thread alone, in a cache of their own: equal to the bit; the last token's rows by the
 * definition. */
static void check_stepper(const model *m, const stepper *x)
{
    attn_cache *cache = NULL;
    CHECK_MSG(!x->status, "status %d: %s", (int)x->status, x->err.text);
    CHECK(!attn_cache_create(m->module, &m->config, &cache, NULL));
    stepper *alone = make_stepper(cache, NULL, x->first_token);
    run_steps(alone);
    CHECK(!alone->status && alone->used == x->used && !memcmp(alone->out, x->out, x->used * sizeof(float)));
    int64_t rows = 0;
    for (int i = 0; i < SEQS; i++) rows += x->counts[i];
    const float *lse = x->out + x->used - rows * MODEL_Q_HEADS, *o = lse - rows * MODEL_Q_HEADS * FAKE_DIM_V;
    for (int i = 0, row = 0; i < SEQS; i++)
        for (int64_t j = 0; j < x->counts[i]; j++, row++)
            check_row(m, x, i, x->n[i] - x->counts[i] + j, LAYERS - 1, o + row * MODEL_Q_HEADS * FAKE_DIM_V,
                      lse[row * MODEL_Q_HEADS]);
    free(alone);
    attn_cache_destroy(cache);
}

/* ---- a cache that another thread uses as well ---------------------------------------------------------------------
 */

enum { BRANCHES = 6 };

typedef struct branch { /* a sequence of the other thread */
    attn_seq_id id;     /* 0: none */
    int parent;         /* whose tokens it has; -1: it is empty */
    int64_t n, furthest;
} branch;

typedef struct meddler {
    const stepper *steps;
    stepper calls; /* for INSIST, refused and status */
    unsigned long long seed;
    atomic_int operations;
    branch branches[BRANCHES];
    int wrong; /* answers that are not the rule's */
} meddler;

/* While a step is open these calls are not allowed: that too is an answer to be repeated. */
#define INSIST_IDLE(x, call)                                                                                           \
    do {                                                                                                               \
        attn_status insist_status;                                                                                     \
        do {                                                                                                           \
            insist_status = (call);                                                                                    \
            if (insist_status == ATTN_E_STATE) sched_yield();                                                          \
        } while (insist_status == ATTN_E_STATE || again(&(x)->calls, insist_status));                                  \
    } while (0)

static int64_t below(meddler *x, int64_t n) { return (int64_t)(check_random(&x->seed) % (uint64_t)n); }

static void begin_branch(meddler *x, branch *b)
{
    attn_cache *c = x->steps->cache;
    b->parent = (int)below(x, SEQS + 1) - 1;
    if (b->parent < 0)
        INSIST_IDLE(x, attn_seq_begin(c, &b->id, NULL));
    else
        INSIST_IDLE(x, attn_seq_fork(c, x->steps->id[b->parent], &b->id, NULL));
    INSIST(&x->calls, attn_seq_length(c, b->id, &b->n, NULL));
    b->furthest = b->n;
    x->wrong += b->parent < 0 ? b->n != 0 : b->n > LONGEST;
}

static attn_status try_rollback(meddler *x, branch *b, int64_t r)
{
    for (;;) {
        const attn_status s = attn_seq_rollback(x->steps->cache, b->id, r, NULL);
        if (s != ATTN_E_BUSY && s != ATTN_E_STATE) return s;
        x->calls.refused += s == ATTN_E_BUSY;
        sched_yield();
    }
}

static void roll_branch_back(meddler *x, branch *b)
{
    const int64_t r = below(x, ROLLBACK + 2);
    const bool may = b->n - r >= 0 && b->n - r >= b->furthest - ROLLBACK;
    const attn_status s = try_rollback(x, b, r);
    x->wrong += s != (may ? ATTN_OK : ATTN_E_ROLLBACK);
    if (!s) b->n -= r;
}

static void look(meddler *x, const branch *b)
{
    const attn_cache *c = x->steps->cache;
    attn_cache_stats stats = {.size = sizeof stats};
    int64_t n = -1;
    INSIST(&x->calls, attn_cache_get_stats(c, &stats));
    INSIST(&x->calls, attn_seq_length(c, b->id, &n, NULL));
    x->wrong += stats.pages < 0 || stats.bytes > stats.bytes_reserved || n != b->n;
    x->wrong += attn_cache_kept(c, b->id, 0, NULL, 0) > 2; /* -1 when it met another call */
    attn_cache_check(c);                                   /* so may this: it says a sentence then */
}

static void meddle_once(meddler *x)
{
    branch *b = &x->branches[below(x, BRANCHES)];
    if (!b->id) {
        begin_branch(x, b);
        return;
    }
    switch (below(x, 4)) {
    case 0:
        INSIST_IDLE(x, attn_seq_end(x->steps->cache, b->id, NULL));
        b->id = 0;
        return;
    case 1:
        look(x, b);
        return;
    default:
        roll_branch_back(x, b);
    }
}

static void *meddle(void *arg)
{
    meddler *x = arg;
    while (!atomic_load(&x->steps->done)) {
        meddle_once(x);
        atomic_fetch_add(&x->operations, 1);
    }
    return NULL;
}

/* The branches that are left go on by a token: their results are those of the tokens that they have. */
static void check_branch(const model *m, const stepper *x, const branch *b)
{
    model now = *m;
    model_seq s = {.id = b->id, .n = b->n, .furthest = b->furthest};
    model_grow(m, &s, b->n + 1);
    for (int64_t p = 0; p < b->n; p++) s.token[p] = token_at(x, b->parent, p), s.attr[p] = 0;
    now.next_token = 900000;
    CHECK(model_feed(&now, &s, 1));
    free(s.token), free(s.attr);
    for (uint32_t p = 0; p < m->n_pools; p++) free(s.page[p]);
}

static void test_one_cache(const char *mask, uint32_t threads)
{
    model m;
    attn_pool *pool = NULL;
    pthread_t thread[2];
    if (threads > 1) CHECK(!attn_pool_create(threads, NULL, &pool, NULL));
    CHECK(!model_open(&m, mask, small_shape,
                      (attn_cache_config){.page_tokens = 4, .rollback = ROLLBACK, .workers = threads}, 1));
    stepper *x = make_stepper(m.cache, pool, 1);
    meddler other = {.steps = x, .seed = 3};
    x->others = &other.operations;
    CHECK(!pthread_create(&thread[0], NULL, run_steps, x) && !pthread_create(&thread[1], NULL, meddle, &other));
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    printf("%s: %d operations, %ld and %ld calls met another\n", mask, other.operations, x->refused,
           other.calls.refused);
    CHECK(!other.calls.status && !other.wrong && other.operations >= STEPS);
    model_check(&m);
    check_stepper(&m, x);
    for (int i = 0; i < BRANCHES; i++)
        if (other.branches[i].id) check_branch(&m, x, &other.branches[i]);
    model_check(&m);
    free(x);
    model_close(&m);
    attn_pool_destroy(pool);
}

static void test_stepped_and_meddled_with(void)
{
    test_one_cache("causal", 1);
    test_one_cache("streaming", 1);
    test_one_cache("chunk", 3);
    test_one_cache("layers", 2);
}

/* ---- caches of one module -----------------------------------------------------------------------------------------
 */

enum { CACHES = 4 };

/* With `share`, all of them run on one pool, which does one call at a time. */
static void many_caches(const char *mask, bool share)
{
    model m;
    attn_pool *pool = NULL;
    attn_cache *cache[CACHES] = {0};
    stepper *x[CACHES];
    pthread_t thread[CACHES];
    if (share) CHECK(!attn_pool_create(2, NULL, &pool, NULL));
    CHECK(!model_open(&m, mask, small_shape, (attn_cache_config){.page_tokens = 4, .rollback = 2, .workers = 2}, 1));
    for (int i = 0; i < CACHES; i++) {
        CHECK(!attn_cache_create(m.module, &m.config, &cache[i], NULL));
        x[i] = make_stepper(cache[i], pool, 1 + 10000 * i);
    }
    for (int i = 0; i < CACHES; i++) CHECK(!pthread_create(&thread[i], NULL, run_steps, x[i]));
    for (int i = 0; i < CACHES; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < CACHES; i++) {
        CHECK(share || !x[i]->refused);
        CHECK(!attn_cache_check(cache[i]));
        check_stepper(&m, x[i]);
        free(x[i]);
        attn_cache_destroy(cache[i]);
    }
    model_close(&m);
    attn_pool_destroy(pool);
}

static void test_caches_of_one_module(void)
{
    many_caches("streaming", false);
    many_caches("layers", false);
    many_caches("chunk", true);
}

int main(void)
{
    RUN(test_stepped_and_meddled_with);
    RUN(test_caches_of_one_module);
    return CHECK_DONE();
}
