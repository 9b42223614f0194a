/* step_test.c - steps that are like the last one: what they give, what they plan, what they allocate.
 *
 *     step_test [WALKS [SEED]] */
#include "cache_model.h"
#include "fake_models.h"

static const fake_shape shapes[] = {{16, 8, 4, 2, MODEL_Q_HEADS, MODEL_KV_HEADS},
                                    {8, 8, 4, 2, MODEL_Q_HEADS, MODEL_KV_HEADS},
                                    {32, 8, 1, 1, MODEL_Q_HEADS, MODEL_KV_HEADS}};
enum { LAYERS = 3 }; /* of a plain model */
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Tokens can be parted anywhere. */
static bool is_parted(const fake_mask *m) { return m->see != see_all && m->see != see_blocks && m->see != see_images; }

static bool decode(model *m, model_seq **seqs, int n, int64_t count)
{
    model_step x = {.n = n};
    for (int i = 0; i < n; i++) x.seqs[i] = seqs[i], x.counts[i] = count;
    return model_run(m, &x);
}

/* ---- results ---------------------------------------------------------------------------------------------------- */

static int open_seqs(model *m, model_seq **seqs)
{
    int n = 0;
    for (int i = 0; i < MODEL_MAX_SEQS; i++)
        if (m->seqs[i].id) seqs[n++] = &m->seqs[i];
    return n;
}

/* Something that makes the next step unlike the last one. */
static void change(model *m, model_seq **seqs, int n)
{
    model_seq *s = seqs[model_below(m, n)];
    switch (model_below(m, 5)) {
    case 0:
        if (n < MODEL_MAX_SEQS) model_fork(m, s);
        break;
    case 1:
        if (n > 1) model_end(m, s);
        break;
    case 2:
        model_feed(m, s, model_below(m, 40));
        break;
    case 3:
        if (n < MODEL_MAX_SEQS) model_begin(m);
        break;
    default:
        CHECK(!attn_seq_rollback(m->cache, s->id, 0, NULL));
    }
}

static void walk(unsigned long long seed)
{
    static const uint32_t page_sizes[] = {1, 4, 7, 64};
    unsigned long long r = seed * 977 + 5;
    const uint64_t which = check_random(&r) % (FAKE_MASKS + MODELS);
    const fake_model what = which < FAKE_MASKS ? fake_plain(&fake_masks[which]) : models[which - FAKE_MASKS];
    const attn_cache_config c = {.page_tokens = page_sizes[check_random(&r) % 4],
                                 .rollback = (uint32_t)(check_random(&r) % 6),
                                 .workers = 1 + (uint32_t)(check_random(&r) % 3)};
    model m;
    CHECK(!model_open_kinds(&m, &what, shapes[check_random(&r) % SHAPES], c, seed));
    model_feed(&m, model_begin(&m), model_below(&m, 90));
    model_begin(&m);
    for (int i = 0; i < 6 && !check_current; i++) {
        model_seq *seqs[MODEL_MAX_SEQS];
        const int n = open_seqs(&m, seqs), steps = 1 + (int)model_below(&m, 9);
        const int64_t count = 1 + model_below(&m, 3) / 2;
        bool ok = true;
        for (int j = 0; j < steps && ok && !check_current; j++) ok = decode(&m, seqs, n, count);
        change(&m, seqs, n);
    }
    if (check_current) printf("walk %llu: %s, pages of %u\n", seed, what.name, c.page_tokens);
    model_close(&m);
}

static int walks = 300;
static unsigned long long first_seed = 1;

static void test_decode_walks(void)
{
    for (int i = 0; i < walks && !check_current; i++) walk(first_seed + (unsigned long long)i);
    printf("seeds %llu .. %llu\n", first_seed, first_seed + (unsigned long long)walks - 1);
}

/* ---- plans ------------------------------------------------------------------------------------------------------ */

enum { LENGTHS = 5, LOG = 2000 };
static const int64_t lengths[LENGTHS] = {70, 3, 41, 495, 22}; /* one grows so long that it is cut */

/* Sequences of these lengths after `steps` steps of one token each, and the items of one more. */
static int items_after(const fake_mask *mask, fake_shape shape, int64_t steps, uint32_t workers, attn_item *items,
                       int64_t *costs)
{
    model m;
    CHECK(!model_open(&m, mask->name, shape, (attn_cache_config){.page_tokens = 16, .workers = workers}, 5));
    model_seq *seqs[LENGTHS];
    for (int i = 0; i < LENGTHS; i++) {
        seqs[i] = model_begin(&m);
        CHECK(model_feed(&m, seqs[i], lengths[i] + 30 - steps));
    }
    for (int64_t s = 0; s < steps; s++) CHECK(decode(&m, seqs, LENGTHS, 1));
    atomic_store(&fake.items, 0);
    CHECK(decode(&m, seqs, LENGTHS, 1));
    const int n = atomic_load(&fake.items);
    CHECK(n > 0 && n < LOG);
    memcpy(items, fake.log, (size_t)n * sizeof *items);
    memcpy(costs, fake.cost, (size_t)n * sizeof *costs);
    model_close(&m);
    return n;
}

/* A plan that was moved along for 30 steps is the one that is made for their end. */
static void test_plans_are_the_same(void)
{
    static attn_item moved[LOG], made[LOG];
    static int64_t moved_cost[LOG], made_cost[LOG];
    for (size_t i = 0; i < FAKE_MASKS * SHAPES; i++) {
        const fake_mask *mask = &fake_masks[i / SHAPES];
        if (!is_parted(mask) || mask->attr) continue; /* attributes would be others */
        for (uint32_t workers = 1; workers <= 2; workers++) {
            const int n = items_after(mask, shapes[i % SHAPES], 30, workers, moved, moved_cost);
            const int want = items_after(mask, shapes[i % SHAPES], 0, workers, made, made_cost);
            CHECK_MSG(n == want, "%s: %d items instead of %d", mask->name, n, want);
            for (int j = 0; j < n && !check_current; j++)
                CHECK_MSG(!memcmp(&moved[j], &made[j], sizeof *made) && moved_cost[j] == made_cost[j],
                          "%s, %u workers: item %d", mask->name, workers, j);
        }
    }
}

/* ---- what is there ---------------------------------------------------------------------------------------------- */

/* A module whose `ranges` say more than its live rule keeps: kernels are not sent to what is gone. */
static void check_cut(attn_live_fn *live, uint32_t n_live, int64_t n, int64_t keys)
{
    model m;
    CHECK(!model_open(&m, "causal", shapes[0], (attn_cache_config){.page_tokens = 4}, 1));
    fake.kind[0].live = live;
    fake.kind[0].n_live = n_live;
    attn_module *module;
    attn_cache *cache;
    attn_seq_id id;
    CHECK(!attn_module_open(&fake.module, NULL, &module, NULL));
    CHECK(!attn_cache_create(module, &m.config, &cache, NULL) && !attn_seq_begin(cache, &id, NULL));
    model_tensor q, k, v, o;
    model_tensor_make(&q, n, MODEL_Q_HEADS, FAKE_DIM, 0);
    model_tensor_make(&k, n, MODEL_KV_HEADS, FAKE_DIM, 0);
    model_tensor_make(&v, n, MODEL_KV_HEADS, FAKE_DIM_V, 0);
    model_tensor_make(&o, n, MODEL_Q_HEADS, FAKE_DIM_V, 0);
    const attn_tensors t = {.size = sizeof t, .q = &q.dl, .k = &k.dl, .v = &v.dl, .o = &o.dl};
    for (int step = 0; step < 3; step++) { /* all but two, then one, then one */
        const int64_t count = step ? 1 : n - 2;
        q.shape[0] = k.shape[0] = v.shape[0] = o.shape[0] = count;
        atomic_store(&fake.pairs, 0);
        CHECK(!attn_step_begin(
            cache, &(attn_step_config){.size = sizeof(attn_step_config), .n_seqs = 1, .seqs = &id, .counts = &count},
            NULL));
        for (uint32_t l = 0; l < LAYERS; l++) CHECK(!attn_step_layer(cache, l, &t, NULL, NULL));
        CHECK(!attn_step_end(cache, NULL));
    }
    const int64_t per_pair = (int64_t)LAYERS * MODEL_Q_HEADS;
    CHECK_MSG(atomic_load(&fake.pairs) == per_pair * keys, "%lld pairs", (long long)atomic_load(&fake.pairs));
    free(q.at), free(k.at), free(v.at), free(o.at);
    attn_cache_destroy(cache);
    attn_module_destroy(module);
    model_close(&m);
}

static void test_what_is_gone(void)
{
    check_cut(live_all, 1, 100, 100);
    check_cut(live_chunk, 1, 100, 100 - 96); /* 99 is the last position; its chunk begins at 96 */
    check_cut(live_streaming, 2, 100, 3 + 21);
    check_cut(live_streaming, 2, 20, 20);
}

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

/* A layer whose o and lse need not lie as q does. */
static void run_layer(model *m, const model_step *x, uint32_t layer, int o_layout, int lse_layout, bool wrong)
{
    model_tensor q, k, v, o, lse;
    const int64_t rows = x->n;
    model_tensor_make(&q, rows, MODEL_Q_HEADS, FAKE_DIM, 0);
    model_tensor_make(&k, rows, MODEL_KV_HEADS, FAKE_DIM, 0);
    model_tensor_make(&v, rows, MODEL_KV_HEADS, FAKE_DIM_V, 0);
    model_tensor_make(&o, rows, MODEL_Q_HEADS, FAKE_DIM_V, o_layout);
    model_tensor_make(&lse, rows, MODEL_Q_HEADS, 0, lse_layout < 0 ? 0 : lse_layout);
    for (int i = 0; i < x->n; i++) {
        const int32_t token = x->seqs[i]->token[x->seqs[i]->n];
        model_fill(&q, i, layer, 0, token, MODEL_Q_HEADS, FAKE_DIM);
        model_fill(&k, i, layer, 1, token, MODEL_KV_HEADS, FAKE_DIM);
        model_fill(&v, i, layer, 2, token, MODEL_KV_HEADS, FAKE_DIM_V);
    }
    attn_tensors t = {.size = sizeof t, .q = &q.dl, .k = &k.dl, .v = &v.dl, .o = &o.dl};
    if (lse_layout >= 0) t.lse = &lse.dl;
    attn_error err = {""};
    if (wrong && layer == 1) { /* what is wrong is seen also behind a good one */
        o.dl.byte_offset = 2;
        CHECK(attn_step_layer(m->cache, layer, &t, NULL, &err) == ATTN_E_STRIDE);
        o.dl.byte_offset = 0;
    }
    if (wrong && layer == 2) {
        const int64_t stride = o.stride[1];
        k.shape[1]++;
        CHECK(attn_step_layer(m->cache, layer, &t, NULL, &err) == ATTN_E_SHAPE && strstr(err.text, "k: shape[1]"));
        k.shape[1]--;
        o.stride[1] = 1;
        CHECK(attn_step_layer(m->cache, layer, &t, NULL, &err) == ATTN_E_STRIDE && strstr(err.text, "share memory"));
        o.stride[1] = stride;
        t.v = NULL;
        CHECK(attn_step_layer(m->cache, layer, &t, NULL, &err) == ATTN_E_ARGUMENT && strstr(err.text, "v is NULL"));
        t.v = &v.dl;
    }
    CHECK(!attn_step_layer(m->cache, layer, &t, NULL, NULL));
    for (int i = 0; i < x->n; i++) {
        for (int64_t h = 0; h < MODEL_Q_HEADS && lse_layout < 0; h++) { /* compare wants one */
            double row[FAKE_MAX_DIM], want;
            model_row(m, x->seqs[i], x->seqs[i]->n + 1, layer, h, x->seqs[i]->n, row, &want);
            *model_element(&lse, i, h) = (float)want;
        }
        model_compare(m, x->seqs[i], 1, i, layer, &o, &lse);
    }
    free(q.at), free(k.at), free(v.at), free(o.at), free(lse.at);
}

static void test_layers_unlike_the_first(void)
{
    static const int layouts[][LAYERS][2] = {
        {{0, -1}, {0, 0}, {0, 2}}, {{0, 0}, {1, 0}, {2, 0}}, {{2, 2}, {0, -1}, {2, 2}}, {{1, 2}, {1, -1}, {0, 2}},
        {{0, 0}, {1, -1}, {1, 0}}, {{0, 0}, {0, 0}, {0, 0}}};
    enum { LAYOUTS = sizeof layouts / sizeof *layouts };
    for (size_t i = 0; i < 2 * LAYOUTS; i++) {
        model m;
        CHECK(!model_open(&m, "causal", shapes[0], (attn_cache_config){.page_tokens = 16}, 9));
        model_step x = {.n = 3, .seqs = {model_begin(&m), model_begin(&m), model_begin(&m)}, .counts = {1, 1, 1}};
        for (int j = 0; j < 3; j++) CHECK(model_feed(&m, x.seqs[j], 5 + 20 * j));
        for (int j = 0; j < 3; j++) model_new_tokens(&m, x.seqs[j], 1);
        CHECK(!model_step_begin(&m, &x, NULL));
        for (uint32_t l = 0; l < LAYERS; l++) run_layer(&m, &x, l, layouts[i % LAYOUTS][l][0], layouts[i % LAYOUTS][l][1], l && i >= LAYOUTS);
        CHECK(!attn_step_end(m.cache, NULL));
        model_close(&m);
    }
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

typedef struct meter { /* counts, and gives nothing when it is shut, or once */
    long until, taken;
    bool shut;
} meter;

static void *meter_alloc(void *ctx, size_t size, size_t align)
{
    meter *m = ctx;
    m->taken++;
    if (m->shut || (m->until > 0 && !--m->until)) return NULL;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void meter_free(void *ctx, void *p, size_t size)
{
    (void)ctx, (void)size;
    free(p);
}

/* model_run with an allocator that is shut from the end of attn_step_begin on. Allocations of all of it. */
static long count_taken(model *m, meter *count, model_step *x)
{
    for (int i = 0; i < x->n; i++) model_new_tokens(m, x->seqs[i], x->counts[i]);
    const long before = count->taken;
    CHECK(!model_step_begin(m, x, NULL));
    const long in_begin = count->taken;
    count->shut = true;
    model_layers(m, x);
    CHECK(!attn_step_end(m->cache, NULL));
    count->shut = false;
    CHECK_MSG(count->taken == in_begin, "%ld allocations in layers and end", count->taken - in_begin);
    const long all = count->taken - before;
    for (int i = 0; i < x->n; i++) {
        x->seqs[i]->n += x->counts[i];
        if (x->seqs[i]->n > x->seqs[i]->furthest) x->seqs[i]->furthest = x->seqs[i]->n;
    }
    model_check(m);
    return all;
}

static void test_memory_is_taken_in_begin(void)
{
    for (size_t i = 0; i < FAKE_MASKS; i++) {
        if (!is_parted(&fake_masks[i])) continue;
        meter count = {0};
        const attn_allocator a = {&count, meter_alloc, meter_free};
        model m;
        CHECK(!model_open(&m, fake_masks[i].name, shapes[0],
                          (attn_cache_config){.page_tokens = 16, .workers = 2, .rollback = 3, .allocator = &a}, 3));
        model_seq *s = model_begin(&m), *other = model_begin(&m);
        CHECK(count_taken(&m, &count, &(model_step){.n = 2, .seqs = {s, other}, .counts = {200, 7}}) > 0);
        model_seq *fork = model_fork(&m, s);
        count_taken(&m, &count, &(model_step){.n = 3, .seqs = {fork, s, other}, .counts = {1, 90, 0}});
        /* one token each: when every list has its room, nothing is taken, but for pages, tables and attributes that grow */
        long most = 0;
        model_step x = {.n = 3, .seqs = {fork, s, other}, .counts = {1, 1, 1}};
        for (int j = 0; j < 50; j++) count_taken(&m, &count, &x);
        for (int j = 0; j < 40; j++) {
            const bool grows = s->n % 16 == 0 || fork->n % 16 == 0 || other->n % 16 == 0;
            const long taken = count_taken(&m, &count, &x);
            if (!grows && taken > most) most = taken;
        }
        CHECK_MSG(most <= (fake_masks[i].attr ? 2 : 0), "%s: %ld allocations", fake_masks[i].name, most);
        model_close(&m);
    }
}

/* Each allocation of a decoding step fails once: the step is refused, nothing has changed, the next one is right. */
static void test_failing_decode(void)
{
    for (size_t i = 0; i < FAKE_MASKS; i++) {
        if (!is_parted(&fake_masks[i])) continue;
        meter count = {0};
        const attn_allocator a = {&count, meter_alloc, meter_free};
        model m;
        CHECK(!model_open(&m, fake_masks[i].name, shapes[0],
                          (attn_cache_config){.page_tokens = 4, .workers = 2, .allocator = &a}, 3));
        model_seq *seqs[] = {model_begin(&m), model_begin(&m)};
        model_feed(&m, seqs[0], 60);
        for (int steps = 0; steps < 24 && !check_current; steps++) {
            for (long n = 1;; n++) {
                model_step x = {.n = 2, .seqs = {seqs[0], seqs[1]}, .counts = {1, 1}};
                for (int j = 0; j < 2; j++) model_new_tokens(&m, seqs[j], 1);
                count.until = n;
                const attn_status s = model_step_begin(&m, &x, NULL);
                const bool through = count.until > 0;
                count.until = 0;
                CHECK_MSG(s == (through ? ATTN_OK : ATTN_E_MEMORY), "allocation %ld: status %d", n, (int)s);
                if (!s) attn_step_cancel(m.cache);
                model_check(&m);
                if (through) break;
            }
            CHECK(decode(&m, seqs, 2, 1));
        }
        model_close(&m);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) walks = atoi(argv[1]);
    if (argc > 2) first_seed = strtoull(argv[2], NULL, 10);
    RUN(test_plans_are_the_same);
    RUN(test_what_is_gone);
    RUN(test_layers_unlike_the_first);
    RUN(test_memory_is_taken_in_begin);
    RUN(test_failing_decode);
    RUN(test_decode_walks);
    return CHECK_DONE();
}
