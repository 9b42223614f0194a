/* few_body.c - what a block of keys does to a few rows: the phases of body.c, with the dims of K and V as lanes where they are multiplied.
 *
 *     S = Q K^T    rows x keys of sums in registers, each over the dims of its lanes; then added up across the lanes, all of a tile at once
 *     softmax      lanes are rows, of one key or of several (few_weights.c); maps and masks as in body.c
 *     O += P V     rows x vectors of dims in registers, for some keys at a time, so that V is read nearly in the order in which it lies
 *
 * Rows of K and V are read in place, once for `few_rows` query rows. A block is read in runs, the keys of a page, whose rows are reached by
 * counting: what streams through the first-level cache pushes out whatever else is read once per key, such as a table of addresses, and
 * then an address waits behind all the rows that are on their way. What is asked for ahead does come from such a table, where it costs
 * nothing to wait. (Where int8 is multiplied as integers all come from the table, after what fetches has just read it.) Each row is asked for
 * twice, `fetch_keys` rows ahead and half as far: a machine that has no room for a request drops it.
 *
 * few_write_*() are the bodies of functions (shared.c); few_attend() is written into the kernel, and calls them. */
#include "backends/cpu/kernel_gen.h"

/* Bytes of a word of K, of an element of V, as they are stored. */
static unsigned key_size(const kgen *x) { return x->quant ? 1 : rows_word_size(x); }
static unsigned value_size(const kgen *x) { return x->quant ? 1 : x->half ? 2 : 4; }

uint32_t few_sums(const kgen *x) { return x->k->schedule.few_rows * x->k->schedule.few_keys; }

static uint32_t vectors_of(const kgen *x, int64_t words) { return (uint32_t)((words + x->vector - 1) / x->vector); }

uint32_t few_row(const kgen *x, int64_t words) { return vectors_of(x, words) * x->vector; }

/* ---- rows as vectors -------------------------------------------------------------------------------------------------------------- */

/* Words first .. first + vector - 1 of a row. The tail of a row that is no multiple of a vector is its last vector, which begins earlier;
 * a row shorter than a vector is read word by word. */
Val few_load(kgen *x, Val row, Val first, bool tail, int64_t words, Val (*load_some)(kgen *, Val, uint32_t), unsigned size)
{
    gen *g = x->g;
    if (!tail) return load_some(x, byte_at(g, row, mul(g, first, c64(g, size))), x->vector);
    if (words >= x->vector) return load_some(x, byte_at(g, row, c64(g, (words - x->vector) * size)), x->vector);
    Val v = LLVMConstNull(x->vf);
    for (int64_t i = 0; i < words; i++)
        v = LLVMBuildInsertElement(g->b, v, load_some(x, byte_at(g, row, c64(g, i * size)), 1), c32(g, i), "");
    return v;
}

Val few_only_new(kgen *x, Val v, int64_t words)
{
    gen *g = x->g;
    Val mask[16];
    uint32_t W = x->vector, old = words < W ? 0 : W - (uint32_t)(words % W);
    Type bits = vector_of(g->i32, W);
    for (uint32_t i = 0; i < W; i++) mask[i] = c32(g, i < old ? 0 : -1);
    return LLVMBuildBitCast(g->b, LLVMBuildAnd(g->b, LLVMBuildBitCast(g->b, v, bits, ""), LLVMConstVector(mask, W), ""), x->vf, "");
}

/* Where groups of elements have a scale each, elements take it at once. */
static Val scaled(kgen *x, Val v, Val row, Val d, bool values)
{
    if (!x->quant || keys_fold_scales(x)) return v;
    return LLVMBuildFMul(x->g->b, v, splat(x->g, keys_row_scale(x, row, d, values), x->vector), "");
}

/* Vector d of a row of V. */
static Val load_value(kgen *x, Val row, Val d, bool tail)
{
    return scaled(x, few_load(x, row, d, tail, x->dim_v, keys_row_elements, value_size(x)), row, d, true);
}

/* Vector d of a row of K, in words as queries have them. */
static Val load_key(kgen *x, Val row, Val d, bool tail)
{
    Val v = few_load(x, row, d, tail, x->words, x->quant ? keys_row_elements : rows_load_words, key_size(x));
    if (tail) v = few_only_new(x, v, x->words);
    return scaled(x, v, row, d, false);
}

/* ---- runs of keys --------------------------------------------------------------------------------------------------------------------- */

typedef struct run {
    Val slot;             /* place of its first key in the block */
    Val field[RUN_WORDS];
} run;

typedef void run_fn(kgen *x, const few_piece *p, const run *r, void *ctx);

/* Runs first .. first + p->runs - 1 of the list, those of K or those of V. */
static void each_run(kgen *x, const few_piece *p, Val first, run_fn *f, void *ctx)
{
    gen *g = x->g;
    loop l;
    run r;
    Val slot = c64(g, 0), i = loop_begin(g, &l, first, &slot, 1);
    Val from = at(g, g->i64, ws_at(x, x->few_runs), mul(g, i, c64(g, RUN_WORDS)));
    r.slot = slot;
    for (int w = 0; w < RUN_WORDS; w++) r.field[w] = load(g, w == RUN_row ? g->ptr : g->i64, at(g, g->i64, from, c64(g, w)), 8);
    f(x, p, &r, ctx);
    slot = add(g, r.slot, r.field[RUN_keys]);
    loop_end(g, &l, c64(g, 1), add(g, first, p->runs));
}

static Val row_of(kgen *x, const run *r, Val key) { return byte_at(x->g, r->field[RUN_row], mul(x->g, key, r->field[RUN_stride])); }

/* They lie one behind the other and share lines. Where a page ends in between, other lines are asked for; that costs no more than time. */
void few_fetch_dense(kgen *x, Val place, Val offset, int64_t bytes)
{
    gen *g = x->g;
    Val row = load(g, g->ptr, at(g, g->ptr, ws_at(x, x->few_order), place), 8);
    prefetch_bytes(g, byte_at(g, row, offset), bytes, 1);
}

/* Asks for `bytes` of each of the n rows that are read some rows after those from `place` of the order on. The nearer ones first: they are
 * those that were dropped when they were the farther ones. Written out: as a loop over rows it loses a tenth. */
static void fetch(kgen *x, Val place, uint32_t n, Val offset, int64_t bytes)
{
    gen *g = x->g;
    for (uint32_t part = 2; part; part--)
        for (uint32_t i = 0; i < n; i++) {
            Val entry = at(g, g->ptr, ws_at(x, x->few_order), add(g, place, c64(g, x->fetch_keys / part + i)));
            Val row = byte_at(g, load(g, g->ptr, entry, 8), offset);
            prefetch_bytes(g, row, bytes, 1);
        }
}

/* Rows of int8 share lines where they lie side by side, as the keys of a step of 1 do. */
static void fetch_keys(kgen *x, const run *r, Val slot, uint32_t n)
{
    gen *g = x->g;
    const int64_t bytes = keys_row_bytes(x, false);
    if (!x->quant) {
        fetch(x, slot, n, c64(g, 0), bytes);
        return;
    }
    Block dense = block(g), sparse = block(g), done = block(g);
    branch(g, less(g, r->field[RUN_stride], c64(g, 2 * bytes)), dense, sparse);
    go(g, dense);
    for (uint32_t part = 2; part; part--) few_fetch_dense(x, add(g, slot, c64(g, x->fetch_keys / part)), c64(g, 0), n * bytes);
    jump(g, done);
    go(g, sparse);
    fetch(x, slot, n, c64(g, 0), bytes);
    jump(g, done);
    go(g, done);
}

/* ---- tiles of rows ------------------------------------------------------------------------------------------------------------------ */

/* Rows come in heads of the group times new tokens: smaller tiles than what divides all such numbers are not needed. */
static uint32_t least_rows(const kgen *x)
{
    uint32_t n = x->k->schedule.few_rows;
    while (x->k->shape.q_heads / x->k->shape.kv_heads % n) n /= 2;
    return n;
}

/* Tiles of few_rows rows; the last one of the smallest power of two that holds the rest. Rows behind the last repeat it. */
void few_each_tile(kgen *x, const few_piece *p, few_tile_fn *f, void *ctx)
{
    gen *g = x->g;
    loop l;
    uint32_t most = x->k->schedule.few_rows, least = least_rows(x);
    Val row = loop_begin(g, &l, c64(g, 0), NULL, 0), left = sub(g, p->rows, row);
    Block done = block(g);
    for (uint32_t n = most; n >= least; n /= 2) {
        Block this = block(g), smaller = n > least ? block(g) : this;
        if (n > least) branch(g, less(g, c64(g, n / 2), left), this, smaller);
        else jump(g, this);
        go(g, this);
        f(x, p, &(few_tile){row, n}, ctx);
        jump(g, done);
        go(g, smaller);
        if (n == least) break;
    }
    go(g, done);
    loop_end(g, &l, c64(g, most), p->rows);
}

static Val lane_row(kgen *x, const few_piece *p, const few_tile *t, uint32_t i) { return add(x->g, add(x->g, p->lane, t->row), c64(x->g, i)); }

Val few_panel_at(kgen *x, uint64_t panel, Val row, int64_t words, Val word)
{
    return ws_float(x, panel, add(x->g, mul(x->g, row, c64(x->g, few_row(x, words))), word));
}

Val few_score_at(kgen *x, const few_piece *p, Val slot, Val lane)
{
    return ws_float(x, x->few_scores, add(x->g, mul(x->g, slot, p->step), lane));
}

Val few_seen_at(kgen *x, Val slot, Val lane)
{
    return at(x->g, x->g->i32, ws_at(x, x->few_seen), add(x->g, mul(x->g, slot, c64(x->g, x->vector)), lane));
}

bool few_packs(const kgen *x) { return x->vector > x->k->schedule.few_rows; }

Val few_is_packed(kgen *x, const few_piece *p) { return LLVMBuildICmp(x->g->b, LLVMIntEQ, p->step, c64(x->g, x->k->schedule.few_rows), ""); }

/* ---- S = Q K^T ---------------------------------------------------------------------------------------------------------------------- */

/* Adds the even and the odd ones of units of `unit` lanes within each `reach` lanes: those of a, then those of b. */
static Val add_pairs(kgen *x, Val a, Val b, uint32_t unit, uint32_t reach)
{
    gen *g = x->g;
    Val even[16], odd[16];
    uint32_t W = x->vector, half = reach / unit / 2;
    for (uint32_t e = 0; e < W; e++) {
        uint32_t u = e % reach / unit, from = (u < half ? 0 : W) + e / reach * reach + u % half * 2 * unit + e % unit;
        even[e] = c32(g, from);
        odd[e] = c32(g, from + unit);
    }
    Val right = LLVMBuildShuffleVector(g->b, a, b, LLVMConstVector(odd, W), "");
    Val left = LLVMBuildShuffleVector(g->b, a, b, LLVMConstVector(even, W), "");
    return LLVMTypeOf(a) == x->vf ? LLVMBuildFAdd(g->b, left, right, "") : LLVMBuildAdd(g->b, left, right, "");
}

/* A vector whose lane i is the sum of v[i]'s lanes, for n sums, 4 or more. */
static Val add_across(kgen *x, Val *v, uint32_t n)
{
    for (int i = 0; i < 2; i++, n /= 2)
        for (uint32_t j = 0; j < n / 2; j++) v[j] = add_pairs(x, v[2 * j], v[2 * j + 1], 1, 4);
    for (uint32_t units = x->vector / 4; units > 1; units /= 2, n = (n + 1) / 2)
        for (uint32_t j = 0; j < (n + 1) / 2; j++) v[j] = add_pairs(x, v[n > 1 ? 2 * j : 0], v[n > 1 ? 2 * j + 1 : 0], 4, x->vector);
    return v[0];
}

typedef struct keys_at { /* of a tile of S */
    Val row[16];
    uint32_t n;
} keys_at;

static void add_products(kgen *x, const few_piece *p, const few_tile *t, const keys_at *k, Val d, bool tail, Val *sum)
{
    gen *g = x->g;
    Val key[16];
    for (uint32_t j = 0; j < k->n; j++) key[j] = load_key(x, k->row[j], d, tail);
    for (uint32_t i = 0; i < t->rows; i++) {
        Val q = load(g, x->vf, few_panel_at(x, x->few_queries, lane_row(x, p, t, i), x->words, d), x->vector * 4);
        for (uint32_t j = 0; j < k->n; j++) sum[j * t->rows + i] = body_product(x, key[j], q, sum[j * t->rows + i]);
    }
}

static void products(kgen *x, const few_piece *p, const few_tile *t, const keys_at *k, Val *sum)
{
    gen *g = x->g;
    loop l;
    uint32_t W = x->vector, size = key_size(x), step = W * size < 64 ? 64 / size : W; /* a line */
    int64_t lines = x->words / step * step, whole = x->words / W * W;
    for (uint32_t i = 0; i < t->rows * k->n; i++) sum[i] = LLVMConstNull(x->vf);
    if (lines) {
        Val d = loop_begin(g, &l, c64(g, 0), sum, t->rows * k->n);
        for (uint32_t u = 0; u < step; u += W) add_products(x, p, t, k, add(g, d, c64(g, u)), false, sum);
        loop_end(g, &l, c64(g, step), c64(g, lines));
    }
    for (int64_t d = lines; d < whole; d += W) add_products(x, p, t, k, c64(g, d), false, sum);
    if (whole < x->words) add_products(x, p, t, k, c64(g, whole), true, sum);
}

static Val lanes_from(kgen *x, Val v, uint32_t first, uint32_t n)
{
    gen *g = x->g;
    Val pick[16];
    if (n == x->vector) return v;
    if (n == 1) return LLVMBuildExtractElement(g->b, v, c32(g, first), "");
    for (uint32_t i = 0; i < n; i++) pick[i] = c32(g, first + i);
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(x->vf), LLVMConstVector(pick, n), "");
}

/* Scores of the tile's rows for some keys, n in all: few_rows rows a key, rows that are none repeat one. */
static void store_packed(kgen *x, const few_piece *p, const few_tile *t, Val v, uint32_t n, Val slot)
{
    gen *g = x->g;
    Val pick[16];
    uint32_t W = x->vector, R = x->k->schedule.few_rows;
    for (uint32_t first = 0; first < n / t->rows; first += W / R) {
        uint32_t most = n / t->rows - first < W / R ? (n / t->rows - first) * R : W;
        for (uint32_t i = 0; i < most; i++) pick[i] = c32(g, (first + i / R) * t->rows + i % t->rows);
        Val some = LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(x->vf), LLVMConstVector(pick, most), "");
        store(g, some, few_score_at(x, p, add(g, slot, c64(g, first)), c64(g, 0)), 4);
    }
}

static void store_rows_of_keys(kgen *x, const few_piece *p, const few_tile *t, Val v, uint32_t n, Val slot)
{
    for (uint32_t i = 0; i < n; i += t->rows)
        store(x->g, lanes_from(x, v, i, t->rows), few_score_at(x, p, add(x->g, slot, c64(x->g, i / t->rows)), t->row), 4);
}

static void store_scores(kgen *x, const few_piece *p, const few_tile *t, Val v, uint32_t n, Val slot)
{
    gen *g = x->g;
    if (!few_packs(x)) {
        store_rows_of_keys(x, p, t, v, n, slot);
        return;
    }
    Block packed = block(g), spread = block(g), done = block(g);
    branch(g, few_is_packed(x, p), packed, spread);
    go(g, packed);
    store_packed(x, p, t, v, n, slot);
    jump(g, done);
    go(g, spread);
    store_rows_of_keys(x, p, t, v, n, slot);
    jump(g, done);
    go(g, done);
}

Val few_repeated(kgen *x, Val list, uint32_t rows, Type element)
{
    gen *g = x->g;
    Val some = load(g, vector_of(element, rows), list, 4), pick[16];
    if (rows == 1) return splat(g, some, x->vector);
    for (uint32_t i = 0; i < x->vector; i++) pick[i] = c32(g, i % rows);
    return LLVMBuildShuffleVector(g->b, some, LLVMGetPoison(LLVMTypeOf(some)), LLVMConstVector(pick, x->vector), "");
}

/* The factor that queries of pairs of bf16 could not take; NULL: one. */
static Val score_factor(kgen *x, const few_piece *p, const few_tile *t)
{
    if (!x->dot || !x->load_q->e) return NULL;
    return few_repeated(x, ws_float(x, x->few_scale, lane_row(x, p, t, 0)), t->rows, x->g->f32);
}

/* The scales of the keys that a vector of sums belongs to, from sum `first` of the tile on. */
static Val scales_of(kgen *x, const few_tile *t, const keys_at *k, uint32_t first)
{
    gen *g = x->g;
    Val some = LLVMGetPoison(x->vf), pick[16];
    uint32_t from = first / t->rows, n = k->n - from < x->vector / t->rows ? k->n - from : x->vector / t->rows;
    for (uint32_t i = 0; i < n; i++)
        some = LLVMBuildInsertElement(g->b, some, keys_row_scale(x, k->row[from + i], c64(g, 0), false), c32(g, i), "");
    for (uint32_t i = 0; i < x->vector; i++) pick[i] = c32(g, i / t->rows % n);
    return LLVMBuildShuffleVector(g->b, some, LLVMGetPoison(x->vf), LLVMConstVector(pick, x->vector), "");
}

/* Sums from `first` of the tile on, added up, as scores. */
static Val scores_of(kgen *x, const few_piece *p, const few_tile *t, const keys_at *k, uint32_t first, Val v)
{
    if (x->digits) v = int8_scores(x, lane_row(x, p, t, 0), t->rows, v);
    return keys_fold_scales(x) ? LLVMBuildFMul(x->g->b, v, scales_of(x, t, k, first), "") : v;
}

/* Scores of keys from `slot` on. */
static void score_rows(kgen *x, const few_piece *p, const few_tile *t, const keys_at *k, Val slot)
{
    gen *g = x->g;
    Val sum[MAX_CARRIED], factor = score_factor(x, p, t);
    uint32_t sums = k->n * t->rows, W = x->vector;
    if (x->digits) int8_products(x, &(int8_tile){slot, lane_row(x, p, t, 0), k->row, k->n, t->rows}, sum);
    else products(x, p, t, k, sum);
    for (uint32_t first = 0; first < sums; first += W) {
        Val whole = x->digits ? sum[first / W] : add_across(x, sum + first, sums < W ? sums : W), v = scores_of(x, p, t, k, first, whole);
        if (factor) v = LLVMBuildFMul(g->b, v, factor, "");
        store_scores(x, p, t, v, sums < W ? sums : W, add(g, slot, c64(g, first / t->rows)));
    }
}

/* Rows behind the run's last repeat it: their scores are overwritten by the next run's, or are not read. */
static void score_keys(kgen *x, const few_piece *p, const few_tile *t, const run *r, Val key, uint32_t n)
{
    gen *g = x->g;
    Val last = sub(g, r->field[RUN_keys], c64(g, 1)), slot = add(g, r->slot, key);
    keys_at k = {.n = n};
    fetch_keys(x, r, slot, n);
    for (uint32_t j = 0; j < n; j++) k.row[j] = row_of(x, r, j ? smin(g, add(g, key, c64(g, j)), last) : key);
    score_rows(x, p, t, &k, slot);
}

typedef struct group { /* keys of a run, that all tiles of rows take before the next */
    const run *r; /* NULL: of the block */
    Val begin, end;
} group;

enum { GROUP_KEYS = 16 };

/* By the list of addresses: no tile ends where a page does. What stands behind the last repeats it. */
static void score_listed(kgen *x, const few_piece *p, const few_tile *t, Val slot, uint32_t n)
{
    gen *g = x->g;
    keys_at k = {.n = n};
    Val rows = at(g, g->ptr, ws_at(x, x->few_order), slot);
    for (uint32_t j = 0; j < n; j++) k.row[j] = load(g, g->ptr, at(g, g->ptr, rows, c64(g, j)), 8);
    score_rows(x, p, t, &k, slot);
}

static void score_tile(kgen *x, const few_piece *p, const few_tile *t, void *ctx)
{
    gen *g = x->g;
    loop l;
    const group *k = ctx;
    uint32_t n = few_sums(x) / t->rows < FEW_TILE_KEYS ? few_sums(x) / t->rows : FEW_TILE_KEYS;
    if (!k->r) n = int8_keys(t->rows);
    Val key = loop_begin(g, &l, k->begin, NULL, 0);
    if (k->r) score_keys(x, p, t, k->r, key, n);
    else score_listed(x, p, t, key, n);
    loop_end(g, &l, c64(g, n), k->end);
}

/* Of a run, or of the block (NULL). */
static void score_groups(kgen *x, const few_piece *p, const run *r, Val keys)
{
    gen *g = x->g;
    loop l;
    group k = {.r = r, .begin = loop_begin(g, &l, c64(g, 0), NULL, 0)};
    k.end = smin(g, add(g, k.begin, c64(g, GROUP_KEYS)), keys);
    few_each_tile(x, p, score_tile, &k);
    loop_end(g, &l, c64(g, GROUP_KEYS), keys);
}

static void score_run(kgen *x, const few_piece *p, const run *r, void *ctx)
{
    (void)ctx;
    score_groups(x, p, r, r->field[RUN_keys]);
}

void few_write_scores(kgen *x)
{
    few_piece p = shared_block(x);
    if (x->digits) score_groups(x, &p, NULL, p.n);
    else each_run(x, &p, c64(x->g, 0), score_run, NULL);
}

/* ---- maps and masks: lanes are rows ------------------------------------------------------------------------------------------------- */

static bool is_masked(const kblock *b) { return body_has(b, OP_MASK); }

static bool is_changed(const kblock *b) { return body_has(b, OP_MAP) || is_masked(b); }

/* Maps, masks, the new maximum. */
static void change_scores(kgen *x, const few_piece *p, const kblock *body)
{
    gen *g = x->g;
    loop l;
    piece of = {.body = body, .n0 = p->n0, .n = p->n, .step = p->pace, .s = p->lane, .nv = 1, .narrow = true};
    Val m = load_lanes(x, x->new_max, p->lane), zero = c64(g, 0);
    values_load_lanes(x, p->lane);
    Val slot = loop_begin(g, &l, zero, &m, 1), visible = NULL, to = few_score_at(x, p, slot, zero);
    Val s = body_mapped(x, &of, load(g, x->vf, to, x->vector * 4), slot, &visible);
    if (visible) store(g, LLVMBuildSExt(g->b, visible, vector_of(g->i32, x->vector), ""), few_seen_at(x, slot, zero), x->vector * 4);
    store(g, s, to, x->vector * 4);
    m = fmax_of(g, s, m);
    loop_end(g, &l, c64(g, 1), p->n);
    store_lanes(x, m, x->new_max, p->lane);
}

/* ---- O += P V ------------------------------------------------------------------------------------------------------------------------- */

typedef struct output {
    const run *r;   /* NULL: of pairs */
    Val begin, end; /* keys of the run, of the block where they come in pairs */
    bool masked;
} output;

/* What V holds for rows that do not see the key may be NaN. */
static Val seen_value(kgen *x, Val v, Val slot, Val row)
{
    gen *g = x->g;
    Type bits = vector_of(g->i32, x->vector);
    Val seen = splat(g, load(g, g->i32, few_seen_at(x, slot, row), 4), x->vector);
    return LLVMBuildBitCast(g->b, LLVMBuildAnd(g->b, LLVMBuildBitCast(g->b, v, bits, ""), seen, ""), x->vf, "");
}

/* The weights of keys begin .. end - 1 of a step, n lanes of each, take the scales of their values. Who does not see a key keeps 0,
 * whatever its scale is; elements are numbers always, so that they need no mask any more. */
static void scale_weights(kgen *x, const few_piece *p, const output *o, uint32_t n)
{
    gen *g = x->g;
    loop l;
    Type floats = vector_of(g->f32, n), bits = vector_of(g->i32, n);
    Val zero = c64(g, 0), key = loop_begin(g, &l, o->begin, NULL, 0), slot = add(g, o->r->slot, key), to = few_score_at(x, p, slot, zero);
    Val scale = keys_row_scale(x, row_of(x, o->r, key), zero, true);
    Val w = LLVMBuildFMul(g->b, load(g, floats, to, n * 4), splat(g, scale, n), "");
    if (o->masked) {
        Val seen = load(g, bits, few_seen_at(x, slot, zero), n * 4);
        w = LLVMBuildBitCast(g->b, LLVMBuildAnd(g->b, LLVMBuildBitCast(g->b, w, bits, ""), seen, ""), floats, "");
    }
    store(g, w, to, n * 4);
    loop_end(g, &l, c64(g, 1), o->end);
}

static void fold_scales(kgen *x, const few_piece *p, const output *o)
{
    gen *g = x->g;
    if (!few_packs(x) || o->masked) {
        scale_weights(x, p, o, x->vector);
        return;
    }
    Block packed = block(g), spread = block(g), done = block(g);
    branch(g, few_is_packed(x, p), packed, spread);
    go(g, packed);
    scale_weights(x, p, o, x->k->schedule.few_rows);
    jump(g, done);
    go(g, spread);
    scale_weights(x, p, o, x->vector);
    jump(g, done);
    go(g, done);
}

/* What is asked for with dim d: the tiles of dims share out the row, and of int8 its scales too. */
static Val value_offset(kgen *x, Val d)
{
    gen *g = x->g;
    if (!x->quant) return mul(g, d, c64(g, value_size(x)));
    return LLVMBuildUDiv(g->b, mul(g, d, c64(g, keys_row_bytes(x, true))), c64(g, x->dim_v), "");
}

/* The values of a key, a vector for each of n from d. */
static void one_key(kgen *x, const few_piece *p, const output *o, Val key, Val d, uint32_t n, bool tail, Val *v)
{
    gen *g = x->g;
    uint32_t W = x->vector, size = value_size(x);
    Val row = row_of(x, o->r, key);
    fetch(x, add(g, few_values_place(x, p->n), add(g, o->r->slot, key)), 1, value_offset(x, d), n * W * size);
    for (uint32_t j = 0; j < n; j++) v[j] = load_value(x, row, add(g, d, c64(g, j * W)), tail && j + 1 == n);
}

/* bf16 in the lower half of words that pass for floats. */
static Val load_low(kgen *x, Val p, uint32_t n)
{
    gen *g = x->g;
    Val bits = LLVMBuildZExt(g->b, load(g, vector_of(g->i16, n), p, 2), vector_of(g->i32, n), "");
    return LLVMBuildBitCast(g->b, bits, vector_of(g->f32, n), "");
}

static Val pair_words(kgen *x, Val low, Val high)
{
    gen *g = x->g;
    Type bits = vector_of(g->i32, x->vector);
    Val up = LLVMBuildShl(g->b, LLVMBuildBitCast(g->b, high, bits, ""), int_like(bits, 16), "");
    return LLVMBuildBitCast(g->b, LLVMBuildOr(g->b, LLVMBuildBitCast(g->b, low, bits, ""), up, ""), x->vf, "");
}

/* Two vectors of pairs at once: a line of each row. */
static void two_vectors(kgen *x, const Val row[2], Val d, Val *v)
{
    gen *g = x->g;
    uint32_t n = 2 * x->vector;
    Val line[2];
    for (int i = 0; i < 2; i++) line[i] = load(g, vector_of(g->i16, n), at(g, g->i16, row[i], d), 2);
    for (uint32_t half = 0; half < 2; half++) v[half] = LLVMBuildBitCast(g->b, interleave(g, line[0], line[1], half), x->vf, "");
}

/* The same of two keys, as pairs. */
static void two_keys(kgen *x, const few_piece *p, Val slot, Val d, uint32_t n, bool tail, Val *v)
{
    gen *g = x->g;
    uint32_t W = x->vector;
    Val row[2], next = add(g, slot, c64(g, 1));
    for (int i = 0; i < 2; i++) row[i] = load(g, g->ptr, at(g, g->ptr, ws_at(x, x->few_order), add(g, p->n, i ? next : slot)), 8);
    row[1] = pairs_partner(x, row[1], next, p->n);
    fetch(x, add(g, p->n, slot), 2, mul(g, d, c64(g, 2)), n * W * 2);
    uint32_t whole = tail ? 0 : n / 2 * 2;
    for (uint32_t j = 0; j < whole; j += 2) two_vectors(x, row, add(g, d, c64(g, j * W)), &v[j]);
    for (uint32_t j = whole; j < n; j++) {
        Val two[2], dj = add(g, d, c64(g, j * W));
        for (int i = 0; i < 2; i++) two[i] = few_load(x, row[i], dj, tail && j + 1 == n, x->dim_v, load_low, 2);
        v[j] = pair_words(x, two[0], two[1]);
    }
}

/* `n` vectors of dims from d, the last of them the row's tail. */
static void output_dims(kgen *x, const few_piece *p, const few_tile *t, const output *o, Val d, uint32_t n, bool tail)
{
    gen *g = x->g;
    loop l;
    Val sum[MAX_CARRIED], v[16];
    uint32_t W = x->vector;
    for (uint32_t i = 0; i < t->rows * n; i++)
        sum[i] = load(g, x->vf, few_panel_at(x, x->few_out, lane_row(x, p, t, i / n), x->dim_v, add(g, d, c64(g, i % n * W))), W * 4);
    Val key = loop_begin(g, &l, o->begin, sum, t->rows * n), slot = o->r ? add(g, o->r->slot, key) : LLVMBuildUDiv(g->b, key, c64(g, 2), "");
    if (o->r) one_key(x, p, o, key, d, n, tail, v);
    else two_keys(x, p, key, d, n, tail, v);
    for (uint32_t i = 0; i < t->rows; i++) {
        Val lane = add(g, t->row, c64(g, i)), weight = splat(g, load(g, g->f32, few_score_at(x, p, slot, lane), 4), W);
        for (uint32_t j = 0; j < n; j++) {
            Val *to = &sum[i * n + j], vj = o->masked && !keys_fold_scales(x) ? seen_value(x, v[j], slot, lane) : v[j];
            *to = o->r ? fmadd(g, weight, vj, *to) : body_product(x, vj, weight, *to);
        }
    }
    loop_end(g, &l, c64(g, o->r ? 1 : 2), o->end);
    for (uint32_t i = 0; i < t->rows * n; i++)
        store(g, sum[i], few_panel_at(x, x->few_out, lane_row(x, p, t, i / n), x->dim_v, add(g, d, c64(g, i % n * W))), W * 4);
}

enum { TILE_DIMS = 8 }; /* the most vectors of dims in a tile: with one row they hide what an addition takes */

static void output_tile(kgen *x, const few_piece *p, const few_tile *t, void *ctx)
{
    gen *g = x->g;
    loop l;
    uint32_t n = few_sums(x) / t->rows < TILE_DIMS ? few_sums(x) / t->rows : TILE_DIMS, W = x->vector;
    int64_t tiled = x->dim_v / W / n * n * W;
    if (tiled) {
        Val d = loop_begin(g, &l, c64(g, 0), NULL, 0);
        output_dims(x, p, t, ctx, d, n, false);
        loop_end(g, &l, c64(g, n * W), c64(g, tiled));
    }
    uint32_t rest = vectors_of(x, x->dim_v) - (uint32_t)(tiled / W);
    if (rest) output_dims(x, p, t, ctx, c64(g, tiled), rest, x->dim_v % W != 0);
}

static void each_row(kgen *x, const few_piece *p, output *o)
{
    gen *g = x->g;
    loop l;
    Val row = loop_begin(g, &l, c64(g, 0), NULL, 0);
    output_tile(x, p, &(few_tile){row, 1}, o);
    loop_end(g, &l, c64(g, 1), p->rows);
}

static void add_run(kgen *x, const few_piece *p, const run *r, void *ctx)
{
    gen *g = x->g;
    loop l;
    output o = {.r = r, .masked = *(const bool *)ctx};
    o.begin = loop_begin(g, &l, c64(g, 0), NULL, 0);
    o.end = smin(g, add(g, o.begin, c64(g, FEW_OUTPUT_KEYS)), r->field[RUN_keys]);
    if (keys_fold_scales(x)) fold_scales(x, p, &o);
    if (o.masked && !keys_fold_scales(x)) each_row(x, p, &o); /* values are cut for each row: tiles of rows would share only the load */
    else few_each_tile(x, p, output_tile, &o);
    loop_end(g, &l, c64(g, FEW_OUTPUT_KEYS), r->field[RUN_keys]);
}

/* Where K Q^T is of pairs of bf16, P V is too: weights are rounded, as for many rows. */
static void add_pairs_of_keys(kgen *x, const few_piece *p)
{
    gen *g = x->g;
    loop l;
    output o = {.begin = loop_begin(g, &l, c64(g, 0), NULL, 0)};
    o.end = smin(g, add(g, o.begin, c64(g, FEW_OUTPUT_KEYS)), p->n);
    few_each_tile(x, p, output_tile, &o);
    loop_end(g, &l, c64(g, FEW_OUTPUT_KEYS), p->n);
}

void few_write_values(kgen *x)
{
    few_piece p = shared_block(x);
    bool masked = false;
    if (x->value_steps) int8_add_values(x, &p, masked);
    else if (x->dot) few_pair_weights(x, &p), add_pairs_of_keys(x, &p);
    else each_run(x, &p, p.runs, add_run, &masked);
}

void few_write_seen_values(kgen *x)
{
    few_piece p = shared_block(x);
    bool masked = true;
    if (x->value_steps) int8_add_values(x, &p, masked);
    else each_run(x, &p, p.runs, add_run, &masked);
}

/* ---- a block -------------------------------------------------------------------------------------------------------------------------- */

/* Scores that nothing changes are packed where they can be. */
static Val is_sparse(kgen *x, const few_piece *p) { return less(x->g, c64(x->g, x->k->schedule.few_rows), p->rows); }

static void weigh(kgen *x, const few_piece *p)
{
    gen *g = x->g;
    Block sparse = few_packs(x) ? block(g) : NULL, packed = few_packs(x) ? block(g) : NULL, done = few_packs(x) ? block(g) : NULL;
    if (few_packs(x)) branch(g, is_sparse(x, p), sparse, packed), go(g, sparse);
    shared_call_block(x, SHARED_few_peaks, p);
    shared_call_block(x, SHARED_few_weights, p);
    if (!few_packs(x)) return;
    jump(g, done);
    go(g, packed);
    shared_call_block(x, SHARED_few_packed, p);
    jump(g, done);
    go(g, done);
}

static void attend_body(kgen *x, const few_piece *given, const kblock *body)
{
    gen *g = x->g;
    few_piece p = *given;
    bool changed = is_changed(body);
    Val vector = c64(g, x->vector);
    p.step = changed || !few_packs(x) ? vector : select_of(g, is_sparse(x, &p), vector, c64(g, x->k->schedule.few_rows));
    shared_call_block(x, SHARED_few_scores, &p);
    if (changed) change_scores(x, &p, body);
    if (changed) shared_call_block(x, SHARED_few_weights, &p);
    else weigh(x, &p);
    shared_call_block(x, is_masked(body) ? SHARED_few_seen_values : SHARED_few_values, &p);
}

/* Full keys take the full body where there is one. */
void few_attend(kgen *x, const few_piece *p)
{
    gen *g = x->g;
    if (!x->full || !x->partial) {
        attend_body(x, p, x->full ? x->full : x->partial);
        return;
    }
    Block full = block(g), partial = block(g), done = block(g);
    branch(g, p->open, full, partial);
    go(g, full);
    attend_body(x, p, x->full);
    jump(g, done);
    go(g, partial);
    attend_body(x, p, x->partial);
    jump(g, done);
    go(g, done);
}
