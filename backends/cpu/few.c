/* few.c - items with few rows, as in decoding: each key is read for a handful of rows, so what counts is that K and V are read once, in the
 * order in which they lie, and asked for in time. Queries and O are kept row by row; few_body.c and few_weights.c do the blocks of keys.
 *
 * All but what expressions decide is in functions that layer kinds of one shape share (shared.c): few_write_*() are their bodies. */
#include "backends/cpu/kernel_gen.h"

static uint32_t order_vector(const kgen *x) { return x->vector / 2; } /* addresses in a vector */

/* As far as a block, where the first-level cache has room for that: then V is asked for while K of the same tokens is read, and in small
 * pages they lie side by side. Else as far as the schedule says. */
static uint32_t rows_ahead(const kgen *x, uint64_t row)
{
    uint64_t rows = (x->k->schedule.fetch * 64 + row - 1) / row;
    return rows > FEW_BLOCK || FEW_BLOCK * row <= FEW_ROOM ? FEW_BLOCK : (uint32_t)rows;
}

void few_lay_out(kgen *x)
{
    const schedule *c = &x->k->schedule;
    uint64_t lanes = c->few_lanes + x->vector, keys = FEW_BLOCK + FEW_TILE_KEYS + x->vector;
    x->few_queries = ws_take(x, lanes * few_row(x, x->words) * 4);
    x->few_out = ws_take(x, lanes * few_row(x, x->dim_v) * 4);
    x->few_scale = ws_take(x, lanes * 4);
    x->few_scores = ws_take(x, keys * x->vector * 4);
    x->few_seen = ws_take(x, keys * x->vector * 4);
    x->few_factor = ws_take(x, lanes * 4);
    int8_lay_out(x);
    int8_lay_out_values(x);
    x->fetch_keys = x->digits ? FEW_BLOCK : rows_ahead(x, (uint64_t)keys_row_bytes(x, false));
    x->few_runs = ws_take(x, 2 * FEW_BLOCK * RUN_WORDS * 8);
    x->few_listed = ws_take(x, 8);
    x->few_order = ws_take(x, (4 * FEW_BLOCK + x->vector + x->fetch_keys + FEW_TILE_KEYS + 2 * order_vector(x)) * 8);
}

/* ---- queries -------------------------------------------------------------------------------------------------------------------------- */

static Val panel_row(kgen *x, uint64_t panel, Val row, int64_t words)
{
    return ws_float(x, panel, mul(x->g, row, c64(x->g, few_row(x, words))));
}

/* Factors are worked out for whole vectors of rows, then used row by row: by queries, or by the scores of pairs of bf16. */
static void place_factors(kgen *x)
{
    gen *g = x->g;
    loop l;
    if (!x->load_q->e) return;
    Val lane = loop_begin(g, &l, c64(g, 0), NULL, 0);
    values_load_lanes(x, lane);
    store_lanes(x, rows_query_factor(x), x->few_scale, lane);
    loop_end(g, &l, c64(g, x->vector), x->used);
}

static void load_query(kgen *x, Val from, Val to, Val d, bool tail, Val factor)
{
    gen *g = x->g;
    Val v = few_load(x, from, d, tail, x->words, rows_load_words, rows_word_size(x));
    if (tail) v = few_only_new(x, v, x->words);
    if (factor) v = LLVMBuildFMul(g->b, v, factor, "");
    store(g, v, at(g, g->f32, to, d), x->vector * 4);
}

/* Rows behind the last, which a register tile may read, repeat it. */
static void load_queries(kgen *x)
{
    gen *g = x->g;
    loop lr, ld;
    bool scaled = x->load_q->e && !x->dot;
    int64_t whole = x->words / x->vector * x->vector;
    Val row = loop_begin(g, &lr, c64(g, 0), NULL, 0), from = rows_pointer(x, x->q_ptr, row);
    Val to = panel_row(x, x->few_queries, row, x->words);
    Val factor = scaled ? splat(g, load(g, g->f32, ws_float(x, x->few_scale, row), 4), x->vector) : NULL;
    if (whole) {
        Val d = loop_begin(g, &ld, c64(g, 0), NULL, 0);
        load_query(x, from, to, d, false, factor);
        loop_end(g, &ld, c64(g, x->vector), c64(g, whole));
    }
    if (whole < x->words) load_query(x, from, to, c64(g, whole), true, factor);
    loop_end(g, &lr, c64(g, 1), round_up(g, x->in_use, x->k->schedule.few_rows));
    if (x->digits) int8_load_queries(x);
}

void few_clear_out(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val rows = round_up(g, x->in_use, x->k->schedule.few_rows), i = loop_begin(g, &l, c64(g, 0), NULL, 0);
    store(g, LLVMConstNull(x->vf), ws_float(x, x->few_out, i), x->vector * 4);
    loop_end(g, &l, c64(g, x->vector), mul(g, rows, c64(g, few_row(x, x->dim_v))));
}

void few_write_begin(kgen *x)
{
    load_queries(x);
    few_clear_out(x);
    if (x->value_steps) store(x->g, c64(x->g, -1), ws_at(x, x->few_listed), 8);
}

/* ---- keys ------------------------------------------------------------------------------------------------------------------------------- */

static void put_run(kgen *x, Val run, Val row, Val n, Val stride)
{
    gen *g = x->g;
    Val to = at(g, g->i64, ws_at(x, x->few_runs), mul(g, run, c64(g, RUN_WORDS)));
    store(g, row, at(g, g->i64, to, c64(g, RUN_row)), 8);
    store(g, n, at(g, g->i64, to, c64(g, RUN_keys)), 8);
    store(g, stride, at(g, g->i64, to, c64(g, RUN_stride)), 8);
}

/* The addresses of n rows into the order, from `place` on; in whole vectors, so that some behind them are written too. */
static void put_rows(kgen *x, Val place, Val row, Val stride, Val n)
{
    gen *g = x->g;
    loop l;
    uint32_t L = order_vector(x);
    Val count[8];
    for (uint32_t i = 0; i < L; i++) count[i] = c64(g, i);
    Val steps = mul(g, splat(g, stride, L), LLVMConstVector(count, L)), first = splat(g, LLVMBuildPtrToInt(g->b, row, g->i64, ""), L);
    Val rows = LLVMBuildAdd(g->b, first, steps, ""), i = loop_begin(g, &l, c64(g, 0), &rows, 1);
    store(g, rows, at(g, g->i64, ws_at(x, x->few_order), add(g, place, i)), 8);
    rows = LLVMBuildAdd(g->b, rows, splat(g, mul(g, stride, c64(g, L)), L), "");
    loop_end(g, &l, c64(g, L), n);
}

/* The rows of n keys, page by page from token `offset` of `page`: into the order, and as runs from `run` on (NULL: not). Returns the run
 * behind the last. */
static Val put_pages(kgen *x, const segment *of, const source *s, const Val from[2], Val n, Val place, Val run)
{
    gen *g = x->g;
    loop l;
    Val carried[3] = {from[0], from[1], run ? run : c64(g, 0)}, i = loop_begin(g, &l, c64(g, 0), carried, 3);
    Val keys = keys_of_page(x, of, carried[1], sub(g, n, i)), row = keys_row(x, s, carried[0], carried[1]);
    if (run) put_run(x, carried[2], row, keys, s->pace);
    put_rows(x, add(g, place, i), row, s->pace, keys);
    keys_next_page(x, of, keys, &carried[0], &carried[1]);
    carried[2] = add(g, carried[2], c64(g, 1));
    loop_end(g, &l, keys, n);
    return carried[2];
}

/* The row before `place` stands behind it up to the end of a block, and as often as a vector of keys may want. */
static void repeat_last(kgen *x, Val place, Val n)
{
    gen *g = x->g;
    Val last = load(g, g->ptr, at(g, g->ptr, ws_at(x, x->few_order), sub(g, place, c64(g, 1))), 8);
    put_rows(x, place, last, c64(g, 0), sub(g, c64(g, FEW_BLOCK + x->vector), n));
}

/* n rows, and the first of them again where as many as are fetched ahead are no more there. */
static void put_next(kgen *x, const segment *of, const source *s, const Val from[2], Val n, Val place)
{
    gen *g = x->g;
    put_pages(x, of, s, from, n, place, NULL);
    put_rows(x, add(g, place, n), keys_row(x, s, from[0], from[1]), c64(g, 0), add(g, sub(g, c64(g, x->fetch_keys), n), c64(g, FEW_TILE_KEYS)));
}

Val few_values_place(kgen *x, Val n) { return x->digits ? c64(x->g, FEW_BLOCK) : n; }

/* K and V of a block, page by page. Returns its runs, which are for rows that are read page by page: integers go by the order. */
static Val list_block(kgen *x, const segment *s, Val n0, Val n)
{
    const bool listed = x->value_steps;
    Val page[2], values = few_values_place(x, n);
    keys_find_page(x, s, n0, page);
    Val runs = put_pages(x, s, &s->k, page, n, c64(x->g, 0), listed ? NULL : c64(x->g, 0));
    if (x->digits) repeat_last(x, n, n);
    put_pages(x, s, &s->v, page, n, values, listed ? NULL : runs);
    if (x->digits) repeat_last(x, add(x->g, values, n), n);
    return runs;
}

/* A whole block that the one before it has listed as what comes next: K and V lie two blocks further. */
static void move_block(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val i = loop_begin(g, &l, c64(g, 0), NULL, 0), list = ws_at(x, x->few_order);
    Type t = vector_of(g->i64, order_vector(x));
    for (int64_t j = 0; j < 2; j++)
        store(g, load(g, t, at(g, g->i64, list, add(g, i, c64(g, 2 * FEW_BLOCK + j * x->fetch_keys))), 8),
              at(g, g->i64, list, add(g, i, c64(g, j * FEW_BLOCK))), 8);
    loop_end(g, &l, c64(g, order_vector(x)), c64(g, FEW_BLOCK));
}

/* Both are whole blocks, one behind the other in a segment: then fetch_keys rows of each were listed. */
static Val list_or_move(kgen *x, const segment *s, Val n0, Val n)
{
    gen *g = x->g;
    ATTNC_CHECK(x->fetch_keys == FEW_BLOCK);
    Block listed = block(g), other = block(g), done = block(g);
    Val same = LLVMBuildICmp(g->b, LLVMIntEQ, load(g, g->i64, ws_at(x, x->few_listed), 8), n0, "");
    branch(g, LLVMBuildAnd(g->b, same, LLVMBuildICmp(g->b, LLVMIntEQ, n, c64(g, FEW_BLOCK), ""), ""), listed, other);
    go(g, listed);
    move_block(x);
    jump(g, done);
    go(g, other);
    list_block(x, s, n0, n);
    jump(g, done);
    go(g, done);
    return c64(g, 0);
}

/* The order in which rows are read: K of the block, V of the block, and K of what comes next (at the end of the segment one row again), so
 * that what is fetched ahead is always what stands behind. Where integers are multiplied V of what comes next too, and all at fixed places. */
void few_write_runs(kgen *x)
{
    gen *g = x->g;
    segment s = keys_open(x, x->seq, item_field(x, ITEM_head));
    Val n0 = LLVMGetParam(g->fn, 3), left = LLVMGetParam(g->fn, 4), n = LLVMGetParam(g->fn, 6), page[2], ahead = c64(g, x->fetch_keys);
    keys_set_step(x, &s, LLVMGetParam(g->fn, 5));
    Val runs = x->value_steps ? list_or_move(x, &s, n0, n) : list_block(x, &s, n0, n);
    Val values = few_values_place(x, n), place = add(g, values, few_values_place(x, n));
    Val next = smin(g, n, sub(g, left, c64(g, 1))), more = smin(g, sub(g, left, next), ahead), first = keys_position(x, n0, next, s.step);
    keys_find_page(x, &s, first, page);
    put_next(x, &s, &s.k, page, more, place);
    if (x->digits) put_next(x, &s, &s.v, page, more, add(g, place, ahead));
    if (x->value_steps) store(g, first, ws_at(x, x->few_listed), 8);
    LLVMBuildRet(g->b, runs);
}

/* left: the keys of the segment from the block's first on. */
static void attend_block(kgen *x, few_piece p, key_walk left, Val lane0, Val lane1)
{
    gen *g = x->g;
    guarded l;
    p.n0 = left.k0;
    p.n = smin(g, left.n, c64(g, FEW_BLOCK));
    p.pace = left.step;
    p.runs = shared_call_runs(x, left, p.n);
    values_emit_keys(x, false, (key_walk){p.n0, p.n, p.pace}, p.n);
    p.lane = guarded_begin(g, &l, lane0, lane1);
    p.rows = smin(g, sub(g, x->in_use, p.lane), c64(g, x->vector));
    few_attend(x, &p);
    guarded_end(g, &l, c64(g, x->vector));
}

static void attend_segments(kgen *x)
{
    gen *g = x->g;
    guarded ls, lk;
    Val first = item_field(x, ITEM_segment0), list = arg_field(x, ARG_segments);
    Val i = guarded_begin(g, &ls, first, add(g, first, item_field(x, ITEM_segments))), at_seg = at(g, g->segment_type, list, i);
    Val lane0 = field(g, g->segment_type, at_seg, SEG_lane0);
    Val lane1 = smin(g, add(g, lane0, field(g, g->segment_type, at_seg, SEG_lanes)), x->in_use);
    few_piece p = {.open = LLVMBuildICmp(g->b, LLVMIntEQ, field(g, g->segment_type, at_seg, SEG_masked), c64(g, 0), "")};
    key_walk of = keys_of_segment(x, at_seg);
    Val done = guarded_begin(g, &lk, c64(g, 0), of.n);
    attend_block(x, p, (key_walk){keys_position(x, of.k0, done, of.step), sub(g, of.n, done), of.step}, lane0, lane1);
    guarded_end(g, &lk, c64(g, FEW_BLOCK));
    guarded_end(g, &ls, c64(g, 1));
}

/* ---- end -------------------------------------------------------------------------------------------------------------------------------- */

/* Where vector d of a panel's row begins in the row itself: the tail is the row's last vector. */
static Val first_dim(kgen *x, Val d)
{
    gen *g = x->g;
    if (x->dim_v % x->vector == 0 || x->dim_v < x->vector) return d;
    return smin(g, d, c64(g, x->dim_v - x->vector));
}

static void store_vector(kgen *x, Val o, Val d, Val v, bool f32)
{
    gen *g = x->g;
    unsigned size = f32 ? 4 : 2;
    if (x->dim_v >= x->vector) {
        rows_store_output(x, byte_at(g, o, mul(g, first_dim(x, d), c64(g, size))), v, f32);
        return;
    }
    for (int64_t i = 0; i < x->dim_v; i++)
        rows_store_output(x, byte_at(g, o, c64(g, i * size)), LLVMBuildExtractElement(g->b, v, c32(g, i), ""), f32);
}

static void store_rows(kgen *x, Val lane, Val inverse, bool f32)
{
    gen *g = x->g;
    loop lr, ld;
    store_lanes(x, inverse, x->few_factor, lane);
    Val row = loop_begin(g, &lr, lane, NULL, 0), o = rows_pointer(x, x->o_ptr, row), from = panel_row(x, x->few_out, row, x->dim_v);
    Val by = splat(g, load(g, g->f32, ws_float(x, x->few_factor, row), 4), x->vector), d = loop_begin(g, &ld, c64(g, 0), NULL, 0);
    store_vector(x, o, d, LLVMBuildFMul(g->b, load(g, x->vf, at(g, g->f32, from, d), x->vector * 4), by, ""), f32);
    loop_end(g, &ld, c64(g, x->vector), c64(g, few_row(x, x->dim_v)));
    loop_end(g, &lr, c64(g, 1), smin(g, add(g, lane, c64(g, x->vector)), x->in_use));
}

void few_finish(kgen *x) { rows_finish(x, store_rows); }

void few_write_end(kgen *x)
{
    gen *g = x->g;
    if (x->value_steps) int8_end_values(x);
    Block whole = block(g), cut = block(g), done = block(g);
    branch(g, less(g, c64(g, 1), item_field(x, ITEM_parts)), cut, whole);
    go(g, whole);
    few_finish(x);
    jump(g, done);
    go(g, cut);
    parts_store_rows(x);
    jump(g, done);
    go(g, done);
}

void few_run(kgen *x)
{
    place_factors(x);
    shared_call(x, SHARED_few_begin);
    rows_init(x);
    attend_segments(x);
    shared_call(x, SHARED_few_end);
}
