/* runtime_plan_test.c - plans against brute force: for many masks, lengths, positions, groups, parts, workers and
 * tensor layouts, every visible pair is visited once, nothing else is computed without its mask, and the outputs are
 * those of plain attention in f64. With an argument, that many random cases instead of the usual number. */
#include "check.h"
#include "fake_module.h"

enum { MAX_SEQS = 4, MAX_LENGTH = 110, MAX_LONG = 900, MAX_HEADS = 8 };

static unsigned long long state;
static int64_t below(int64_t n) { return (int64_t)(check_random(&state) % (unsigned long long)n); }
static float real(void) { return (float)below(2001) / 1000 - 1; }

/* ---- a random tensor layout ----------------------------------------------------------------------------------- */

typedef struct box { /* a tensor in a buffer with gaps */
    DLTensor dl;
    int64_t shape[4], strides[4];
    float *buffer;
    int64_t elements;
    bool batch;
} box;

/* Token-major or head-major, gaps between rows, an offset. Gaps hold NaN. last 0: there is no last dimension (lse). */
static void make_box(box *b, bool batch, int64_t n_seqs, int64_t tokens, int64_t heads, int64_t last)
{
    const bool head_major = below(2);
    const int64_t gap = below(3), row = last ? last + gap : 1, first = below(4);
    int n = 0;
    *b = (box){.batch = batch};
    if (batch) b->shape[n] = n_seqs, b->strides[n++] = (tokens * heads * row + gap) + below(2);
    b->shape[n] = tokens, b->strides[n++] = head_major ? row : heads * row;
    b->shape[n] = heads, b->strides[n++] = head_major ? tokens * row : row;
    if (last) b->shape[n] = last, b->strides[n++] = 1;
    b->elements = first + (batch ? n_seqs * b->strides[0] : tokens * heads * row) + 8;
    b->buffer = malloc((size_t)b->elements * sizeof *b->buffer);
    for (int64_t i = 0; i < b->elements; i++) b->buffer[i] = NAN;
    b->dl = (DLTensor){.data = b->buffer,
                       .device = {kDLCPU, 0},
                       .ndim = n,
                       .dtype = {kDLFloat, 32, 1},
                       .shape = b->shape,
                       .strides = b->strides,
                       .byte_offset = (uint64_t)first * 4};
}

/* The element of a sequence's row: sequences start at `start` when packed. */
static float *at(const box *b, int64_t seq, int64_t start, int64_t row, int64_t head, int64_t i)
{
    const int64_t *s = b->strides + b->batch;
    return b->buffer + b->dl.byte_offset / 4 + (b->batch ? seq * b->strides[0] + row * s[0] : (start + row) * s[0]) +
           head * s[1] + i;
}

/* ---- one case ------------------------------------------------------------------------------------------------- */

typedef struct test_case {
    const fake_mask *mask;
    fake_shape shape;
    attn_plan_config config;
    int64_t q_lens[MAX_SEQS], k_lens[MAX_SEQS], positions[MAX_SEQS];
    int64_t q_start[MAX_SEQS], k_start[MAX_SEQS], q_total, k_total, q_most, k_most;
    int32_t q_attr[MAX_SEQS * MAX_LONG], k_attr[MAX_SEQS * MAX_LONG], table[64];
    const int32_t *q_attrs[1], *k_attrs[1];
    int64_t table_shape[2];
    DLTensor table_dl;
    const DLTensor *inputs[1];
    box q, k, v, o, lse;
    uint8_t *visits[MAX_SEQS];
    unsigned long long seed;
} test_case;

static const fake_shape shapes[] = {
    {64, 16, 32, 8, 2, 2}, {64, 16, 48, 8, 8, 2}, {64, 16, 32, 4, 5, 1}, {16, 16, 8, 8, 4, 1},
    {16, 4, 8, 4, 6, 2},   {8, 8, 1, 8, 8, 1},    {12, 4, 5, 3, 4, 2},
};

static void make_lengths(test_case *c)
{
    static const int64_t edges[] = {0, 1, 2, 15, 16, 17, 63, 64, 65, 96};
    for (uint32_t i = 0; i < c->config.n_seqs; i++) {
        c->q_lens[i] = below(3) ? below(MAX_LENGTH) : edges[below(10)];
        c->k_lens[i] = c->q_lens[i];
        c->positions[i] = 0;
        if (c->config.k_lens)
            c->k_lens[i] = c->config.positions ? below(MAX_LENGTH) : c->q_lens[i] + below(MAX_LENGTH - c->q_lens[i]);
        if (c->config.k_lens && !below(8)) { /* few rows, whose vectors take turns over many keys */
            c->q_lens[i] = below(8);
            c->k_lens[i] = MAX_LENGTH + below(MAX_LONG - MAX_LENGTH);
        }
        c->positions[i] = c->config.positions ? below(150) : c->k_lens[i] - c->q_lens[i];
        c->q_start[i] = c->q_total, c->k_start[i] = c->k_total;
        c->q_total += c->q_lens[i], c->k_total += c->k_lens[i];
        if (c->q_lens[i] > c->q_most) c->q_most = c->q_lens[i];
        if (c->k_lens[i] > c->k_most) c->k_most = c->k_lens[i];
    }
}

/* Runs of equal values, as documents and images are; sometimes noise. */
static void make_attr(int32_t *values, int64_t n)
{
    const int64_t run = below(4) ? 20 : 1;
    int32_t value = -1;
    for (int64_t i = 0; i < n; i++) {
        if (!below(run)) value = (int32_t)below(5) - 1;
        values[i] = value;
    }
}

static void make_data(test_case *c)
{
    make_attr(c->q_attr, c->q_total);
    make_attr(c->k_attr, c->k_total);
    if (!c->config.k_attrs) memcpy(c->k_attr, c->q_attr, sizeof c->k_attr);
    for (int i = 0; i < 64; i++) c->table[i] = below(3) == 0;
    c->q_attrs[0] = c->q_attr, c->k_attrs[0] = c->k_attr;
    c->table_shape[0] = c->table_shape[1] = 8;
    c->table_dl = (DLTensor){
        .data = c->table, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLInt, 32, 1}, .shape = c->table_shape};
    c->inputs[0] = &c->table_dl;
    const int64_t hq = c->shape.q_heads, hk = c->shape.kv_heads, n = c->config.n_seqs;
    bool batch[5];
    for (int i = 0; i < 5; i++) batch[i] = below(2);
    const int64_t more = below(3);
    make_box(&c->q, batch[0], n, batch[0] ? c->q_most + more : c->q_total, hq, FAKE_DIM);
    make_box(&c->k, batch[1], n, batch[1] ? c->k_most + more : c->k_total, hk, FAKE_DIM);
    make_box(&c->v, batch[2], n, batch[2] ? c->k_most + more : c->k_total, hk, FAKE_DIM_V);
    make_box(&c->o, batch[3], n, batch[3] ? c->q_most + more : c->q_total, hq, FAKE_DIM_V);
    make_box(&c->lse, batch[4], n, batch[4] ? c->q_most + more : c->q_total, hq, 0);
    for (uint32_t i = 0; i < n; i++) {
        for (int64_t r = 0; r < c->q_lens[i]; r++)
            for (int64_t h = 0; h < hq; h++)
                for (int d = 0; d < FAKE_DIM; d++) *at(&c->q, i, c->q_start[i], r, h, d) = real();
        for (int64_t r = 0; r < c->k_lens[i]; r++)
            for (int64_t h = 0; h < hk; h++) {
                for (int d = 0; d < FAKE_DIM; d++) *at(&c->k, i, c->k_start[i], r, h, d) = real();
                for (int d = 0; d < FAKE_DIM_V; d++) *at(&c->v, i, c->k_start[i], r, h, d) = real();
            }
        c->visits[i] = calloc((size_t)(c->q_lens[i] * hq * c->k_lens[i] + 1), 1);
    }
}

static void make_case(test_case *c, unsigned long long seed)
{
    memset(c, 0, sizeof *c);
    c->seed = state = seed;
    c->mask = &fake_masks[seed % FAKE_MASKS];
    c->shape = shapes[below((int64_t)(sizeof shapes / sizeof *shapes))];
    static const uint32_t parts[] = {0, 0, 1, 2, 3, 7};
    c->config = (attn_plan_config){.size = sizeof c->config,
                                   .layer = (uint32_t)below(3),
                                   .n_seqs = 1 + (uint32_t)below(MAX_SEQS),
                                   .isa = -1,
                                   .workers = (uint32_t)below(4),
                                   .max_parts = parts[below(6)],
                                   .group = below(2) ? 0 : (uint32_t)below(4)};
    c->config.q_lens = c->q_lens;
    if (below(2)) c->config.k_lens = c->k_lens;
    if (below(3) == 0) c->config.positions = c->positions;
    if (c->mask->attr) c->config.q_attrs = c->q_attrs;
    if (c->mask->attr && (c->config.k_lens || below(2))) c->config.k_attrs = c->k_attrs;
    make_lengths(c);
    make_data(c);
    if (c->mask->table) c->config.inputs = c->inputs;
}

static void free_case(test_case *c)
{
    box *const boxes[] = {&c->q, &c->k, &c->v, &c->o, &c->lse};
    for (int i = 0; i < 5; i++) free(boxes[i]->buffer);
    for (uint32_t i = 0; i < c->config.n_seqs; i++) free(c->visits[i]);
}

static bool sees(const test_case *c, uint32_t i, int64_t row, int64_t h, int64_t key)
{
    fake_pair p = {.q = c->positions[i] + row,
                   .k = key,
                   .h = h,
                   .layer = c->config.layer,
                   .q_attr = c->q_attr[c->q_start[i] + row],
                   .k_attr = c->k_attr[c->k_start[i] + key],
                   .table = c->table};
    return c->mask->see(&p);
}

/* Plain attention of one row in f64. Returns how many keys it sees. */
static int64_t oracle(const test_case *c, uint32_t i, int64_t row, int64_t h, double *o, double *lse)
{
    const int64_t g = h / (c->shape.q_heads / c->shape.kv_heads);
    double sum = 0;
    int64_t n = 0;
    for (int d = 0; d < FAKE_DIM_V; d++) o[d] = 0;
    for (int64_t key = 0; key < c->k_lens[i]; key++) {
        if (!sees(c, i, row, h, key)) continue;
        double s = 0;
        for (int d = 0; d < FAKE_DIM; d++)
            s += (double)*at(&c->q, i, c->q_start[i], row, h, d) * (double)*at(&c->k, i, c->k_start[i], key, g, d);
        sum += exp(s);
        n++;
        for (int d = 0; d < FAKE_DIM_V; d++) o[d] += exp(s) * (double)*at(&c->v, i, c->k_start[i], key, g, d);
    }
    for (int d = 0; d < FAKE_DIM_V && n; d++) o[d] /= sum;
    *lse = n ? log(sum) : -INFINITY;
    return n;
}

static int64_t check_row(const test_case *c, uint32_t i, int64_t row, int64_t h)
{
    double o[FAKE_DIM_V], lse;
    int64_t n = oracle(c, i, row, h, o, &lse);
    for (int d = 0; d < FAKE_DIM_V; d++) {
        float *got = at(&c->o, i, c->q_start[i], row, h, d);
        CHECK_MSG(fabs((double)*got - o[d]) < 1e-5, "seed %llu (%s): o[%u, %lld, %lld, %d] is %g, not %g", c->seed,
                  c->mask->name, i, (long long)row, (long long)h, d, (double)*got, o[d]);
        *got = NAN; /* what is left must be NaN everywhere */
    }
    float *got = at(&c->lse, i, c->q_start[i], row, h, 0);
    CHECK_MSG(n ? fabs((double)*got - lse) < 1e-5 : *got == -INFINITY, "seed %llu: lse is %g, not %g", c->seed,
              (double)*got, lse);
    *got = NAN;
    for (int64_t key = 0; key < c->k_lens[i]; key++)
        CHECK_MSG(c->visits[i][(row * c->shape.q_heads + h) * c->k_lens[i] + key] || !sees(c, i, row, h, key),
                  "seed %llu (%s): row %lld of sequence %u misses key %lld", c->seed, c->mask->name, (long long)row, i,
                  (long long)key);
    return n;
}

static void check_untouched(const box *b)
{
    int64_t written = 0;
    for (int64_t i = 0; i < b->elements; i++) written += !isnan(b->buffer[i]);
    CHECK(written == 0);
}

static void check_result(const test_case *c, const attn_plan *p)
{
    int64_t visible = 0;
    for (uint32_t i = 0; i < c->config.n_seqs; i++)
        for (int64_t row = 0; row < c->q_lens[i]; row++)
            for (int64_t h = 0; h < c->shape.q_heads; h++) visible += check_row(c, i, row, h);
    check_untouched(&c->o);
    check_untouched(&c->lse);
    attn_plan_stats s = {.size = sizeof s};
    CHECK(attn_plan_get_stats(p, &s) == ATTN_OK);
    CHECK_MSG(s.pairs_visible == visible, "seed %llu (%s): %lld pairs counted, %lld visible", c->seed, c->mask->name,
              (long long)s.pairs_visible, (long long)visible);
    CHECK_MSG(s.pairs_computed == fake.pairs, "seed %llu: %lld pairs, kernels computed %lld", c->seed,
              (long long)s.pairs_computed, (long long)fake.pairs);
    CHECK(s.items == fake.items && s.segments == fake.segments && s.bytes > 0);
    CHECK(fake.announced == (fake.items ? fake.items - 1 : 0));
    CHECK_STR(s.kernel, "fake_f32");
}

static void run_case(unsigned long long seed, attn_pool *pool)
{
    static test_case c;
    make_case(&c, seed);
    attn_error err = {""};
    attn_module *m = NULL;
    attn_plan *p = NULL;
    const attn_module_desc *desc = fake_make(c.mask, c.shape);
    if (c.shape.lanes > 2 * c.shape.vector && c.shape.lanes % (2 * c.shape.vector) == 0 && seed % 2) fake.kernel.pair = 2 * c.shape.vector;
    CHECK_MSG(attn_module_open(desc, NULL, &m, &err) == ATTN_OK, "%s", err.text);
    CHECK_MSG(attn_plan_create(m, &c.config, &p, &err) == ATTN_OK, "seed %llu: %s", seed, err.text);
    fake.visits = c.visits;
    attn_tensors t = {.size = sizeof t,
                      .q = &c.q.dl,
                      .k = &c.k.dl,
                      .v = &c.v.dl,
                      .o = &c.o.dl,
                      .lse = &c.lse.dl,
                      .layer = c.config.layer};
    CHECK_MSG(p && attn_forward(p, &t, pool, &err) == ATTN_OK, "seed %llu: %s", seed, err.text);
    CHECK_MSG(!fake.errors, "seed %llu (%s)", seed, c.mask->name);
    if (p) check_result(&c, p);
    attn_plan_destroy(p);
    attn_module_destroy(m);
    free_case(&c);
}

static unsigned long long cases = 700;

static void random_plans(void)
{
    attn_pool *pool;
    attn_error err;
    if (attn_pool_create(3, NULL, &pool, &err)) exit(1);
    printf("seeds 0 .. %llu\n", cases - 1);
    for (unsigned long long seed = 0; seed < cases; seed++) run_case(seed, seed % 3 ? NULL : pool);
    attn_pool_destroy(pool);
}

/* ---- what a plan is for: little waste, good order ------------------------------------------------------------- */

static uint32_t pair; /* of the next plans' kernel */

static attn_plan *plan_of(attn_module **m, const fake_mask *mask, fake_shape shape, int64_t n_q, int64_t n_keys,
                          uint32_t workers)
{
    attn_plan *p = NULL;
    attn_error err;
    attn_plan_config c = {
        .size = sizeof c, .n_seqs = 1, .q_lens = &n_q, .k_lens = &n_keys, .isa = -1, .workers = workers};
    const attn_module_desc *desc = fake_make(mask, shape);
    fake.kernel.pair = pair;
    if (attn_module_open(desc, NULL, m, &err) || attn_plan_create(*m, &c, &p, &err)) exit(1);
    return p;
}

static attn_plan_stats stats_of(const attn_plan *p)
{
    attn_plan_stats s = {.size = sizeof s};
    if (attn_plan_get_stats(p, &s)) exit(1);
    return s;
}

/* Causal, window, chunk, and keys some steps apart compute at most what a vector of 16 rows must: 2 x 15 keys a row too
 * many. */
static void computes_little_too_much(void)
{
    static const char *const names[] = {"causal", "streaming", "chunk", "every", "stride"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        attn_module *m;
        attn_plan *p = plan_of(&m, fake_mask_named(names[i]), (fake_shape){64, 16, 32, 8, 2, 2}, 1000, 1000, 1);
        attn_plan_stats s = stats_of(p);
        CHECK_MSG(s.pairs_computed - s.pairs_visible <= 2 * 1000 * 30, "%s: %lld computed, %lld visible", names[i],
                  (long long)s.pairs_computed, (long long)s.pairs_visible);
        attn_plan_destroy(p);
        attn_module_destroy(m);
    }
}

/* One step of decoding with 4 query heads a KV head: one tile a KV head, cut for the workers into like parts. */
static void decoding_is_cut(void)
{
    attn_module *m;
    attn_plan *p = plan_of(&m, &fake_masks[1], (fake_shape){64, 16, 32, 8, 8, 2}, 1, 16000, 4);
    attn_plan_stats s = stats_of(p);
    CHECK(s.items >= 8 && s.items <= 64);
    CHECK(s.pairs_computed == 8 * 16000);
    attn_plan_destroy(p);
    attn_module_destroy(m);
    p = plan_of(&m, &fake_masks[1], (fake_shape){64, 16, 32, 8, 8, 2}, 1, 16000, 1);
    CHECK(stats_of(p).items == 2);
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

static void run_plain(attn_plan *p, int64_t n_q, int64_t n_keys, int64_t heads, int64_t kv_heads)
{
    float *data = calloc((size_t)((n_q + n_keys) * heads * 16), sizeof *data);
    int64_t q[] = {n_q, heads, FAKE_DIM}, k[] = {n_keys, kv_heads, FAKE_DIM}, v[] = {n_keys, kv_heads, FAKE_DIM_V},
            out[] = {n_q, heads, FAKE_DIM_V};
    DLTensor dq = {.data = data, .device = {kDLCPU, 0}, .ndim = 3, .dtype = {kDLFloat, 32, 1}, .shape = q}, dk = dq,
             dv = dq, o = dq;
    dk.shape = k, dv.shape = v, o.shape = out;
    o.data = data + (n_q + n_keys) * heads * 8;
    attn_tensors t = {.size = sizeof t, .q = &dq, .k = &dk, .v = &dv, .o = &o};
    attn_error err;
    CHECK(attn_forward(p, &t, NULL, &err) == ATTN_OK);
    free(data);
}

/* Many keys of one row, for one worker: parts of both KV heads by turns, all keys of a part before the next. */
static void far_keys_side_by_side(void)
{
    attn_module *m;
    attn_plan *p = plan_of(&m, &fake_masks[1], (fake_shape){64, 16, 32, 8, 8, 2}, 1, 40000, 1);
    run_plain(p, 1, 40000, 8, 2);
    CHECK(fake.items == 2 * 39);
    for (int i = 0; i < fake.items; i++) CHECK(fake.log[i].head == 4 * (i % 2) && fake.log[i].part == i / 2);
    for (int i = 0; i < fake.items; i++) CHECK(fake.log[i].next == (i + 1 < fake.items));
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

/* The mask is asked on the diagonal only: 16 keys a vector of 16 rows, and short rests beside them. */
static void mask_is_rarely_asked(void)
{
    attn_module *m;
    attn_plan *p = plan_of(&m, &fake_masks[1], (fake_shape){64, 16, 32, 8, 2, 2}, 640, 640, 1);
    run_plain(p, 640, 640, 2, 2);
    CHECK_MSG(fake.masked > 0 && fake.masked <= 2 * 640 * 32, "%lld of %lld pairs", (long long)fake.masked,
              (long long)fake.pairs);
    attn_plan_destroy(p);
    attn_module_destroy(m);
    p = plan_of(&m, &fake_masks[0], (fake_shape){64, 16, 32, 8, 2, 2}, 640, 640, 1);
    run_plain(p, 640, 640, 2, 2);
    CHECK(fake.masked == 0 && fake.segments == fake.items);
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

/* What two vectors see is one segment, also where an unmasked piece touches a masked one: of a diagonal two a pair, and no key is
 * visited for a vector that sees none of it, but for short rests. A stride of 3 is three causal texts. */
static void neighbours_share_keys(void)
{
    attn_module *m;
    attn_plan *p;
    attn_plan_stats s;
    pair = 32;
    for (int64_t texts = 1; texts <= 3; texts += 2) {
        const int64_t n = texts * 640;
        p = plan_of(&m, texts == 1 ? &fake_masks[1] : fake_mask_named("stride"), (fake_shape){64, 16, 32, 8, 2, 2}, n, n, 1);
        s = stats_of(p);
        CHECK_MSG(s.items == texts * 20 && s.segments == texts * (20 * 5 - 2), "%lld items, %lld segments", (long long)s.items, (long long)s.segments);
        CHECK_MSG(s.pairs_computed - s.pairs_visible == texts * 2 * 40 * 16 * 15 / 2, "%lld computed, %lld visible",
                  (long long)s.pairs_computed, (long long)s.pairs_visible);
        attn_plan_destroy(p);
        attn_module_destroy(m);
    }
    p = plan_of(&m, &fake_masks[2], (fake_shape){64, 16, 32, 8, 2, 2}, 1000, 1000, 1);
    s = stats_of(p);
    CHECK_MSG(s.pairs_computed - s.pairs_visible <= 2 * 1000 * 38, "%lld computed, %lld visible",
              (long long)s.pairs_computed, (long long)s.pairs_visible);
    pair = 0;
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

/* Heads one after the other, in each the last rows first: neighbours see much the same keys. */
static void rows_in_order(void)
{
    attn_module *m;
    for (int i = 1; i <= 3; i++) {
        attn_plan *p = plan_of(&m, &fake_masks[i], (fake_shape){16, 4, 8, 4, 4, 4}, 300, 300, 1);
        run_plain(p, 300, 300, 4, 4);
        CHECK(fake.items == 4 * 19);
        for (int j = 1; j < fake.items; j++)
            CHECK(fake.log[j].head > fake.log[j - 1].head || fake.log[j].row < fake.log[j - 1].row);
        attn_plan_destroy(p);
        attn_module_destroy(m);
    }
}

/* Where a tile is much for a worker the longest go first, whatever their rows. */
static void long_tiles_first(void)
{
    attn_module *m;
    attn_plan *p = plan_of(&m, fake_mask_named("chunk"), (fake_shape){16, 4, 8, 4, 4, 4}, 300, 300, 4);
    run_plain(p, 300, 300, 4, 4);
    CHECK(fake.items >= 4 * 19);
    for (int i = 1; i < fake.items; i++) CHECK(fake.log[i].head > fake.log[i - 1].head || fake.cost[i] <= fake.cost[i - 1]);
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

/* Heads one after the other, in each the longest tile first. */
static void items_in_order(void)
{
    attn_module *m;
    attn_plan *p = plan_of(&m, &fake_masks[1], (fake_shape){16, 4, 8, 4, 4, 4}, 300, 300, 1);
    run_plain(p, 300, 300, 4, 4);
    CHECK(fake.items == 4 * 19);
    for (int i = 1; i < fake.items; i++) {
        CHECK(fake.log[i].head >= fake.log[i - 1].head);
        CHECK(fake.log[i].head > fake.log[i - 1].head || fake.cost[i] <= fake.cost[i - 1]);
    }
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

/* Remainders of the distance: rows apart where there are some of each, else side by side; single rows see what they
 * see. */
static void rows_apart_where_it_pays(void)
{
    static const struct {
        const char *mask;
        int64_t n_q, n_keys, most; /* pairs computed */
        bool apart;
    } tried[] = {{"stride", 300, 300, 2 * (300 * 151 / 3 + 300 * 16), true},
                 {"stride", 1, 3000, 2 * 1000, false},
                 {"stride", 3, 3000, 2 * 3 * 3000, false},
                 {"slashes", 300, 300, 2 * 300 * 100, true},
                 {"slashes", 2, 3000, 2 * 2 * (9 + 250), true},
                 {"every", 300, 300, 2 * (300 * 151 / 5 + 300 * 16), false}};
    for (size_t i = 0; i < sizeof tried / sizeof *tried; i++) {
        attn_module *m;
        attn_plan *p = plan_of(&m, fake_mask_named(tried[i].mask), (fake_shape){64, 16, 32, 8, 2, 2}, tried[i].n_q,
                               tried[i].n_keys, 1);
        run_plain(p, tried[i].n_q, tried[i].n_keys, 2, 2);
        CHECK_MSG(fake.pairs <= tried[i].most, "case %zu: %lld pairs", i, (long long)fake.pairs);
        for (int j = 0; j < fake.items; j++) CHECK((fake.log[j].row_step > 1) == tried[i].apart);
        attn_plan_destroy(p);
        attn_module_destroy(m);
    }
}

/* A window and a stride: the window's tiles have rows side by side, the stride's rows apart, of each head one behind the
 * other. */
static void two_sweeps(void)
{
    for (uint32_t workers = 1; workers < 4; workers++) {
        attn_module *m;
        attn_plan *p = plan_of(&m, fake_mask_named("ladder"), (fake_shape){64, 16, 32, 8, 4, 2}, 700, 700, workers);
        run_plain(p, 700, 700, 4, 2);
        int apart = 0;
        for (int j = 0; j < fake.items; j++) {
            CHECK(fake.log[j].stage > 0 && fake.log[j].heads == 1);
            apart += fake.log[j].row_step == 12;
        }
        CHECK(apart == 4 * 12 && fake.items == 4 * (11 + 12)); /* 58 or 59 rows of each remainder */
        CHECK_MSG(fake.pairs < 4 * 700 * (9 + 30 + 700 / 2 / 12 + 16), "%lld pairs", (long long)fake.pairs);
        attn_plan_destroy(p);
        attn_module_destroy(m);
    }
    attn_module *m;
    attn_plan *p = plan_of(&m, fake_mask_named("ladder"), (fake_shape){64, 16, 32, 8, 4, 2}, 40, 700, 1);
    run_plain(p, 40, 700, 4, 2);
    for (int j = 0; j < fake.items; j++) CHECK(!fake.log[j].stage); /* too few rows */
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

int main(int argc, char **argv)
{
    if (argc > 1) cases = strtoull(argv[1], NULL, 10);
    RUN(random_plans);
    RUN(computes_little_too_much);
    RUN(decoding_is_cut);
    RUN(far_keys_side_by_side);
    RUN(mask_is_rarely_asked);
    RUN(neighbours_share_keys);
    RUN(rows_in_order);
    RUN(long_tiles_first);
    RUN(items_in_order);
    RUN(rows_apart_where_it_pays);
    RUN(two_sweeps);
    return CHECK_DONE();
}
