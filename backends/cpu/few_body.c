/* few_body.c - what a block of keys does to a few rows: the phases of body.c, with the dims of K and V as lanes where they are multiplied.
 *
 *     S = Q K^T    rows x keys of sums in registers, each over the dims of its lanes; then added up across the lanes, all of a tile at once
 *     softmax      a vector per key, lanes are rows: maps, masks and maxima as in body.c
 *     O += P V     rows x vectors of dims in registers, for a few keys at a time, so that V is read in the order in which it lies
 *
 * Rows of K and V are read in place, once for `few_rows` query rows, and those `fetch_keys` rows further on asked for meanwhile. A block is
 * read in runs, the keys of a page, whose rows are reached by counting: what streams through the first-level cache pushes out whatever else is
 * read once per key, such as a table of addresses, and then an address waits behind all the rows that are on their way. */
#include "backends/cpu/kernel_gen.h"

#include <math.h>

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
    Val v = x->quant ? few_load(x, row, d, tail, x->words, keys_row_elements, 1)
                     : few_load(x, row, d, tail, x->words, rows_load_words, rows_word_size(x));
    if (tail) v = few_only_new(x, v, x->words);
    return scaled(x, v, row, d, false);
}

/* ---- runs of keys --------------------------------------------------------------------------------------------------------------------- */

typedef struct run {
    Val slot;                /* place of its first key in the block */
    Val field[2][RUN_WORDS]; /* of this run and of the one that is read next */
} run;

typedef void run_fn(kgen *x, const few_piece *p, const run *r, void *ctx);

static void load_run(kgen *x, Val index, Val *field)
{
    gen *g = x->g;
    Val from = at(g, g->i64, ws_at(x, x->few_runs), mul(g, index, c64(g, RUN_WORDS)));
    for (int i = 0; i < RUN_WORDS; i++) field[i] = load(g, i == RUN_row ? g->ptr : g->i64, at(g, g->i64, from, c64(g, i)), 8);
}

/* Runs first .. first + p->runs - 1 of the list, those of K or those of V. */
static void each_run(kgen *x, const few_piece *p, Val first, run_fn *f, void *ctx)
{
    gen *g = x->g;
    loop l;
    run r;
    Val slot = c64(g, 0), i = loop_begin(g, &l, first, &slot, 1);
    r.slot = slot;
    load_run(x, i, r.field[0]);
    load_run(x, add(g, i, c64(g, 1)), r.field[1]);
    f(x, p, &r, ctx);
    slot = add(g, r.slot, r.field[0][RUN_keys]);
    loop_end(g, &l, c64(g, 1), add(g, first, p->runs));
}

static Val row_of(kgen *x, const Val *field, Val key) { return byte_at(x->g, field[RUN_row], mul(x->g, key, field[RUN_stride])); }

/* The row that is read fetch_keys rows after `key`, where this run or the next has it. */
static Val row_ahead(kgen *x, const run *r, Val key)
{
    gen *g = x->g;
    Val ahead = add(g, key, c64(g, x->fetch_keys)), over = sub(g, ahead, r->field[0][RUN_keys]);
    Val there = smin(g, over, sub(g, r->field[1][RUN_keys], c64(g, 1)));
    return select_of(g, less(g, over, c64(g, 0)), row_of(x, r->field[0], ahead), row_of(x, r->field[1], there));
}

/* Short rows of a cache, which lie one behind the other: all their lines, each twice, since of many at once some are not answered. */
static void fetch_dense(kgen *x, Val first, int64_t bytes)
{
    for (int64_t at_byte = 0; at_byte < bytes; at_byte += 32) prefetch(x->g, byte_at(x->g, first, c64(x->g, at_byte)), 1);
}

/* Asks for the rows that are read fetch_keys rows after these n, line by line in order: memory answers that faster than the same lines in
 * the order in which register tiles want them. */
static void fetch(kgen *x, const run *r, Val key, uint32_t n, int64_t bytes)
{
    gen *g = x->g;
    if (x->quant) {
        fetch_dense(x, row_ahead(x, r, key), n * bytes);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        Val row = row_ahead(x, r, add(g, key, c64(g, i)));
        for (int64_t line = 0; line < bytes; line += 64) prefetch(g, byte_at(g, row, c64(g, line)), 1);
    }
}

/* ---- tiles of rows ------------------------------------------------------------------------------------------------------------------ */

typedef struct tile { /* `rows` rows from `row` of the vector of lanes */
    Val row;
    uint32_t rows;
} tile;

typedef void tile_fn(kgen *x, const few_piece *p, const tile *t, void *ctx);

/* Tiles of few_rows rows; the last one of the smallest power of two that holds the rest. Rows behind the last repeat it. */
static void each_tile(kgen *x, const few_piece *p, tile_fn *f, void *ctx)
{
    gen *g = x->g;
    loop l;
    uint32_t most = x->k->schedule.few_rows;
    Val row = loop_begin(g, &l, c64(g, 0), NULL, 0), left = sub(g, p->rows, row);
    Block done = block(g);
    for (uint32_t n = most; n; n /= 2) {
        Block this = block(g), smaller = n > 1 ? block(g) : this;
        if (n > 1) branch(g, less(g, c64(g, n / 2), left), this, smaller);
        else jump(g, this);
        go(g, this);
        f(x, p, &(tile){row, n}, ctx);
        jump(g, done);
        go(g, smaller);
        if (n == 1) break;
    }
    go(g, done);
    loop_end(g, &l, c64(g, most), p->rows);
}

static Val lane_row(kgen *x, const few_piece *p, const tile *t, uint32_t i) { return add(x->g, add(x->g, p->lane, t->row), c64(x->g, i)); }

static Val panel_at(kgen *x, uint64_t panel, Val row, int64_t words, Val word)
{
    return ws_float(x, panel, add(x->g, mul(x->g, row, c64(x->g, few_row(x, words))), word));
}

static Val score_at(kgen *x, Val slot, Val lane) { return ws_float(x, x->few_scores, add(x->g, mul(x->g, slot, c64(x->g, x->vector)), lane)); }

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
    Val left = LLVMBuildShuffleVector(g->b, a, b, LLVMConstVector(even, W), "");
    Val right = LLVMBuildShuffleVector(g->b, a, b, LLVMConstVector(odd, W), "");
    return LLVMTypeOf(a) == x->vf ? LLVMBuildFAdd(g->b, left, right, "") : LLVMBuildAdd(g->b, left, right, "");
}

/* A vector of W sums whose lane i is the sum of v[i]'s lanes. */
static Val add_across(kgen *x, Val *v)
{
    uint32_t n = x->vector;
    for (int i = 0; i < 2; i++, n /= 2)
        for (uint32_t j = 0; j < n / 2; j++) v[j] = add_pairs(x, v[2 * j], v[2 * j + 1], 1, 4);
    for (; n > 1; n /= 2)
        for (uint32_t j = 0; j < n / 2; j++) v[j] = add_pairs(x, v[2 * j], v[2 * j + 1], 4, x->vector);
    return v[0];
}

typedef struct keys_at { /* of a tile of S */
    Val row[16];
    uint32_t n;
} keys_at;

static void add_products(kgen *x, const few_piece *p, const tile *t, const keys_at *k, Val d, bool tail, Val *sum)
{
    gen *g = x->g;
    Val key[16];
    for (uint32_t j = 0; j < k->n; j++) key[j] = load_key(x, k->row[j], d, tail);
    for (uint32_t i = 0; i < t->rows; i++) {
        Val q = load(g, x->vf, panel_at(x, x->few_queries, lane_row(x, p, t, i), x->words, d), x->vector * 4);
        for (uint32_t j = 0; j < k->n; j++) sum[j * t->rows + i] = body_product(x, key[j], q, sum[j * t->rows + i]);
    }
}

static void products(kgen *x, const few_piece *p, const tile *t, const keys_at *k, Val *sum)
{
    gen *g = x->g;
    loop l;
    uint32_t W = x->vector, size = key_size(x), step = W * size < 64 ? 64 / size : W; /* a line */
    int64_t lines = x->words / step * step, whole = x->words / W * W;
    for (uint32_t i = 0; i < few_sums(x); i++) sum[i] = LLVMConstNull(x->vf);
    if (lines) {
        Val d = loop_begin(g, &l, c64(g, 0), sum, few_sums(x));
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

/* The first tile of rows asks for all of them. */
static void fetch_once(kgen *x, const tile *t, const run *r, Val key, uint32_t n)
{
    gen *g = x->g;
    Block first = block(g), done = block(g);
    branch(g, LLVMBuildICmp(g->b, LLVMIntEQ, t->row, c64(g, 0), ""), first, done);
    go(g, first);
    fetch(x, r, key, n, keys_row_bytes(x, false));
    jump(g, done);
    go(g, done);
}

typedef struct group { /* few_sums keys of a run from `key`, as far as there are so many */
    const run *r;
    Val key, keys;
} group;

/* The scales of the keys that `rows` sums each from `first` on belong to. */
static Val scales_of(kgen *x, const keys_at *k, uint32_t first, uint32_t rows)
{
    gen *g = x->g;
    Val some = LLVMGetPoison(x->vf), pick[16];
    for (uint32_t i = 0; i < x->vector / rows; i++) {
        Val scale = keys_row_scale(x, k->row[first / rows + i], c64(g, 0), false);
        some = LLVMBuildInsertElement(g->b, some, scale, c32(g, i), "");
    }
    for (uint32_t i = 0; i < x->vector; i++) pick[i] = c32(g, i / rows);
    return LLVMBuildShuffleVector(g->b, some, LLVMGetPoison(x->vf), LLVMConstVector(pick, x->vector), "");
}

/* Rows behind the run's last repeat it: their sums are overwritten by the next run's, or are not read. */
static void score_keys(kgen *x, const few_piece *p, const tile *t, const run *r, Val key)
{
    gen *g = x->g;
    Val sum[MAX_CARRIED], last = sub(g, r->field[0][RUN_keys], c64(g, 1)), slot = add(g, r->slot, key);
    keys_at k = {.n = few_sums(x) / t->rows};
    fetch_once(x, t, r, key, k.n);
    for (uint32_t j = 0; j < k.n; j++) k.row[j] = row_of(x, r->field[0], j ? smin(g, add(g, key, c64(g, j)), last) : key);
    Val lane = add(g, p->lane, t->row);
    if (x->digits) int8_products(x, lane, t->rows, k.row, k.n, sum);
    else products(x, p, t, &k, sum);
    for (uint32_t first = 0; first < few_sums(x); first += x->vector) {
        Val v = add_across(x, sum + first);
        if (x->digits) v = int8_scores(x, lane, t->rows, v);
        if (keys_fold_scales(x)) v = LLVMBuildFMul(g->b, v, scales_of(x, &k, first, t->rows), "");
        for (uint32_t i = 0; i < x->vector; i += t->rows)
            store(g, lanes_from(x, v, i, t->rows), score_at(x, add(g, slot, c64(g, (first + i) / t->rows)), t->row), 4);
    }
}

static void score_tile(kgen *x, const few_piece *p, const tile *t, void *ctx)
{
    gen *g = x->g;
    loop l;
    const group *k = ctx;
    uint32_t all = few_sums(x), keys = all / t->rows;
    Val i = keys < all ? loop_begin(g, &l, c64(g, 0), NULL, 0) : c64(g, 0);
    score_keys(x, p, t, k->r, add(g, k->key, i));
    if (keys < all) loop_end(g, &l, c64(g, keys), k->keys);
}

static void score_run(kgen *x, const few_piece *p, const run *r, void *ctx)
{
    gen *g = x->g;
    loop l;
    (void)ctx;
    group k = {.r = r, .key = loop_begin(g, &l, c64(g, 0), NULL, 0)};
    k.keys = smin(g, sub(g, r->field[0][RUN_keys], k.key), c64(g, few_sums(x)));
    each_tile(x, p, score_tile, &k);
    loop_end(g, &l, c64(g, few_sums(x)), r->field[0][RUN_keys]);
}

/* ---- softmax: lanes are rows -------------------------------------------------------------------------------------------------------- */

static Val seen_at(kgen *x, Val slot, Val lane)
{
    return at(x->g, x->g->i32, ws_at(x, x->few_seen), add(x->g, mul(x->g, slot, c64(x->g, x->vector)), lane));
}

static bool is_masked(const kblock *b) { return body_has(b, OP_MASK); }

/* Factor, maps, masks, the new maximum. */
static void finish_scores(kgen *x, const few_piece *p, const kblock *body)
{
    gen *g = x->g;
    loop l;
    piece of = {.body = body, .n0 = p->n0, .n = p->n, .s = p->lane, .nv = 1, .narrow = true};
    bool changes = x->dot || body_has(body, OP_MAP) || is_masked(body);
    Val m = load_lanes(x, x->new_max, p->lane), zero = c64(g, 0);
    if (changes) values_load_lanes(x, p->lane);
    Val factor = x->dot ? rows_query_factor(x) : NULL, slot = loop_begin(g, &l, zero, &m, 1), visible = NULL;
    Val s = load(g, x->vf, score_at(x, slot, zero), x->vector * 4);
    s = body_mapped(x, &of, factor ? LLVMBuildFMul(g->b, s, factor, "") : s, slot, &visible);
    if (visible) store(g, LLVMBuildSExt(g->b, visible, vector_of(g->i32, x->vector), ""), seen_at(x, slot, zero), x->vector * 4);
    if (changes) store(g, s, score_at(x, slot, zero), x->vector * 4);
    m = fmax_of(g, s, m);
    loop_end(g, &l, c64(g, 1), p->n);
    store_lanes(x, m, x->new_max, p->lane);
}

static Val row_factor(kgen *x, Val row) { return splat(x->g, load(x->g, x->g->f32, ws_float(x, x->few_factor, row), 4), x->vector); }

static void rescale_rows(kgen *x, const few_piece *p)
{
    gen *g = x->g;
    loop lr, ld;
    Val row = loop_begin(g, &lr, c64(g, 0), NULL, 0), by = row_factor(x, row);
    Val d = loop_begin(g, &ld, c64(g, 0), NULL, 0), o = panel_at(x, x->few_out, add(g, p->lane, row), x->dim_v, d);
    store(g, LLVMBuildFMul(g->b, load(g, x->vf, o, x->vector * 4), by, ""), o, x->vector * 4);
    loop_end(g, &ld, c64(g, x->vector), c64(g, few_row(x, x->dim_v)));
    loop_end(g, &lr, c64(g, 1), p->rows);
}

static void rescale(kgen *x, const few_piece *p)
{
    gen *g = x->g;
    Val m = load_lanes(x, x->max, p->lane), grown = load_lanes(x, x->new_max, p->lane);
    Val more = LLVMBuildFCmp(g->b, LLVMRealOGT, grown, m, "");
    Block grow = block(g), done = block(g);
    branch(g, LLVMBuildIsNotNull(g->b, LLVMBuildBitCast(g->b, more, LLVMIntTypeInContext(g->context, x->vector), ""), ""), grow, done);
    go(g, grow);
    Val decay = math_exp2_falling(g, LLVMBuildFSub(g->b, m, safe_max(x, grown), ""));
    store_lanes(x, LLVMBuildFMul(g->b, load_lanes(x, x->sum, p->lane), decay, ""), x->sum, p->lane);
    store_lanes(x, grown, x->max, p->lane);
    store_lanes(x, decay, x->few_factor, c64(g, 0));
    rescale_rows(x, p);
    jump(g, done);
    go(g, done);
}

static void weights(kgen *x, const few_piece *p)
{
    gen *g = x->g;
    loop l;
    Val m = safe_max(x, load_lanes(x, x->max, p->lane)), sum = load_lanes(x, x->sum, p->lane);
    Val slot = loop_begin(g, &l, c64(g, 0), &sum, 1), s = score_at(x, slot, c64(g, 0));
    Val e = math_exp2_falling(g, LLVMBuildFSub(g->b, load(g, x->vf, s, x->vector * 4), m, ""));
    store(g, e, s, x->vector * 4);
    sum = LLVMBuildFAdd(g->b, sum, e, "");
    loop_end(g, &l, c64(g, 1), p->n);
    store_lanes(x, sum, x->sum, p->lane);
}

/* ---- O += P V ------------------------------------------------------------------------------------------------------------------------- */

typedef struct output {
    const run *r;
    Val begin, end; /* keys of the run */
    bool masked;
} output;

/* What V holds for rows that do not see the key may be NaN. */
static Val seen_value(kgen *x, Val v, Val slot, Val row)
{
    gen *g = x->g;
    Type bits = vector_of(g->i32, x->vector);
    Val seen = splat(g, load(g, g->i32, seen_at(x, slot, row), 4), x->vector);
    return LLVMBuildBitCast(g->b, LLVMBuildAnd(g->b, LLVMBuildBitCast(g->b, v, bits, ""), seen, ""), x->vf, "");
}

/* The weights of keys begin .. end - 1 take the scales of their values. Who does not see a key keeps 0, whatever its scale is; elements
 * are numbers always, so that they need no mask any more. */
static void fold_scales(kgen *x, const output *o)
{
    gen *g = x->g;
    loop l;
    Type bits = vector_of(g->i32, x->vector);
    Val zero = c64(g, 0), key = loop_begin(g, &l, o->begin, NULL, 0), slot = add(g, o->r->slot, key), at_weight = score_at(x, slot, zero);
    Val scale = keys_row_scale(x, row_of(x, o->r->field[0], key), zero, true);
    Val w = LLVMBuildFMul(g->b, load(g, x->vf, at_weight, x->vector * 4), splat(g, scale, x->vector), "");
    if (o->masked) {
        Val seen = load(g, bits, seen_at(x, slot, zero), x->vector * 4);
        w = LLVMBuildBitCast(g->b, LLVMBuildAnd(g->b, LLVMBuildBitCast(g->b, w, bits, ""), seen, ""), x->vf, "");
    }
    store(g, w, at_weight, x->vector * 4);
    loop_end(g, &l, c64(g, 1), o->end);
}

/* `n` vectors of dims from d, the last of them the row's tail. */
static void output_dims(kgen *x, const few_piece *p, const tile *t, const output *o, Val d, uint32_t n, bool tail)
{
    gen *g = x->g;
    loop l;
    Val sum[MAX_CARRIED], v[16];
    uint32_t W = x->vector;
    for (uint32_t i = 0; i < t->rows * n; i++)
        sum[i] = load(g, x->vf, panel_at(x, x->few_out, lane_row(x, p, t, i / n), x->dim_v, add(g, d, c64(g, i % n * W))), W * 4);
    Val key = loop_begin(g, &l, o->begin, sum, t->rows * n), slot = add(g, o->r->slot, key), row = row_of(x, o->r->field[0], key);
    for (uint32_t j = 0; j < n; j++) {
        Val dj = add(g, d, c64(g, j * W));
        v[j] = load_value(x, row, dj, tail && j + 1 == n);
    }
    for (uint32_t i = 0; i < t->rows; i++) {
        Val lane = add(g, t->row, c64(g, i)), weight = splat(g, load(g, g->f32, score_at(x, slot, lane), 4), W);
        for (uint32_t j = 0; j < n; j++)
            sum[i * n + j] = fmadd(g, weight, o->masked && !keys_fold_scales(x) ? seen_value(x, v[j], slot, lane) : v[j], sum[i * n + j]);
    }
    loop_end(g, &l, c64(g, 1), o->end);
    for (uint32_t i = 0; i < t->rows * n; i++)
        store(g, sum[i], panel_at(x, x->few_out, lane_row(x, p, t, i / n), x->dim_v, add(g, d, c64(g, i % n * W))), W * 4);
}

static void output_tile(kgen *x, const few_piece *p, const tile *t, void *ctx)
{
    gen *g = x->g;
    loop l;
    uint32_t n = few_sums(x) / t->rows, W = x->vector;
    int64_t tiled = x->dim_v / W / n * n * W;
    if (tiled) {
        Val d = loop_begin(g, &l, c64(g, 0), NULL, 0);
        output_dims(x, p, t, ctx, d, n, false);
        loop_end(g, &l, c64(g, n * W), c64(g, tiled));
    }
    uint32_t rest = vectors_of(x, x->dim_v) - (uint32_t)(tiled / W);
    if (rest) output_dims(x, p, t, ctx, c64(g, tiled), rest, x->dim_v % W != 0);
}

static void add_run(kgen *x, const few_piece *p, const run *r, void *ctx)
{
    gen *g = x->g;
    loop l;
    const uint32_t step = x->quant ? FEW_OUTPUT_INT8 : FEW_OUTPUT_KEYS;
    output o = {.r = r, .masked = *(const bool *)ctx};
    o.begin = loop_begin(g, &l, c64(g, 0), NULL, 0);
    o.end = smin(g, add(g, o.begin, c64(g, step)), r->field[0][RUN_keys]);
    fetch(x, r, o.begin, step, keys_row_bytes(x, true));
    if (keys_fold_scales(x)) fold_scales(x, &o);
    each_tile(x, p, output_tile, &o);
    loop_end(g, &l, c64(g, step), r->field[0][RUN_keys]);
}

/* ---- a block -------------------------------------------------------------------------------------------------------------------------- */

/* Full keys take the full body where there is one. */
static void by_body(kgen *x, const few_piece *p, void (*f)(kgen *, const few_piece *, const kblock *))
{
    gen *g = x->g;
    if (!x->full || !x->partial) {
        f(x, p, x->full ? x->full : x->partial);
        return;
    }
    Block full = block(g), partial = block(g), done = block(g);
    branch(g, p->open, full, partial);
    go(g, full);
    f(x, p, x->full);
    jump(g, done);
    go(g, partial);
    f(x, p, x->partial);
    jump(g, done);
    go(g, done);
}

static void add_values(kgen *x, const few_piece *p, const kblock *body)
{
    bool masked = is_masked(body);
    each_run(x, p, p->runs, add_run, &masked);
}

void few_attend(kgen *x, const few_piece *p)
{
    each_run(x, p, c64(x->g, 0), score_run, NULL);
    by_body(x, p, finish_scores);
    rescale(x, p);
    weights(x, p);
    by_body(x, p, add_values);
}
