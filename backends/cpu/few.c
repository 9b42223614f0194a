/* few.c - items with few rows, as in decoding: each key is read for a handful of rows, so what counts is that K and V are read once, in the
 * order in which they lie, and asked for in time. Queries and O are kept row by row; few_body.c does the blocks of keys. */
#include "backends/cpu/kernel_gen.h"

void few_lay_out(kgen *x)
{
    const schedule *c = &x->k->schedule;
    uint64_t lanes = c->few_lanes + x->vector, keys = x->block_keys + few_sums(x);
    uint64_t row = (uint64_t)keys_row_bytes(x, false);
    x->fetch_keys = (uint32_t)((c->fetch * 64 + row - 1) / row);
    if (x->quant) x->fetch_keys = (x->fetch_keys + FEW_OUTPUT_INT8 - 1) / FEW_OUTPUT_INT8 * FEW_OUTPUT_INT8; /* in whole steps */
    x->few_queries = ws_take(x, lanes * few_row(x, x->words) * 4);
    x->few_out = ws_take(x, lanes * few_row(x, x->dim_v) * 4);
    x->few_scores = ws_take(x, keys * x->vector * 4);
    x->few_seen = ws_take(x, keys * x->vector * 4);
    x->few_factor = ws_take(x, lanes * 4);
    int8_lay_out(x);
    x->few_runs = ws_take(x, (2 * x->block_keys + 1) * RUN_WORDS * 8);
}

/* ---- queries -------------------------------------------------------------------------------------------------------------------------- */

static Val panel_row(kgen *x, uint64_t panel, Val row, int64_t words)
{
    return ws_float(x, panel, mul(x->g, row, c64(x->g, few_row(x, words))));
}

/* Factors are worked out for whole vectors of rows, then used row by row. */
static void place_factors(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val lane = loop_begin(g, &l, c64(g, 0), NULL, 0);
    values_load_lanes(x, lane);
    store_lanes(x, rows_query_factor(x), x->few_factor, lane);
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
    if (scaled) place_factors(x);
    Val row = loop_begin(g, &lr, c64(g, 0), NULL, 0), from = rows_pointer(x, x->q_ptr, row);
    Val to = panel_row(x, x->few_queries, row, x->words);
    Val factor = scaled ? splat(g, load(g, g->f32, ws_float(x, x->few_factor, row), 4), x->vector) : NULL;
    if (whole) {
        Val d = loop_begin(g, &ld, c64(g, 0), NULL, 0);
        load_query(x, from, to, d, false, factor);
        loop_end(g, &ld, c64(g, x->vector), c64(g, whole));
    }
    if (whole < x->words) load_query(x, from, to, c64(g, whole), true, factor);
    loop_end(g, &lr, c64(g, 1), round_up(g, x->in_use, x->k->schedule.few_rows));
    if (x->digits) int8_load_queries(x);
}

static void clear_out(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val rows = round_up(g, x->in_use, x->k->schedule.few_rows), i = loop_begin(g, &l, c64(g, 0), NULL, 0);
    store(g, LLVMConstNull(x->vf), ws_float(x, x->few_out, i), x->vector * 4);
    loop_end(g, &l, c64(g, x->vector), mul(g, rows, c64(g, few_row(x, x->dim_v))));
}

/* ---- keys ------------------------------------------------------------------------------------------------------------------------------- */

/* What a page holds of a source from token `offset` on, at most n keys. */
static void put_run(kgen *x, Val run, const segment *at_seg, const source *s, Val page, Val offset, Val n)
{
    gen *g = x->g;
    Val to = at(g, g->i64, ws_at(x, x->few_runs), mul(g, run, c64(g, RUN_WORDS)));
    store(g, keys_row(x, s, page, offset), at(g, g->i64, to, c64(g, RUN_row)), 8);
    store(g, smin(g, sub(g, at_seg->page, offset), n), at(g, g->i64, to, c64(g, RUN_keys)), 8);
    store(g, s->stride, at(g, g->i64, to, c64(g, RUN_stride)), 8);
}

static Val page_of(kgen *x, const segment *s, Val key) { return LLVMBuildUDiv(x->g->b, key, s->page, ""); }
static Val offset_of(kgen *x, const segment *s, Val key) { return LLVMBuildURem(x->g->b, key, s->page, ""); }

/* The order in which a block is read: K of its pages, V of its pages, and K of what comes next (at the end of the segment the last key once
 * more), so that what is fetched ahead is always the run that stands behind. */
static void place_runs(kgen *x, const segment *s, few_piece *p)
{
    gen *g = x->g;
    loop l;
    Val end = add(g, p->n0, p->n), first = page_of(x, s, p->n0), last = page_of(x, s, sub(g, end, c64(g, 1)));
    p->runs = add(g, sub(g, last, first), c64(g, 1));
    Val carried[2] = {offset_of(x, s, p->n0), p->n}, i = loop_begin(g, &l, c64(g, 0), carried, 2);
    Val page = add(g, first, i), offset = carried[0], left = carried[1];
    put_run(x, i, s, &s->k, page, offset, left);
    put_run(x, add(g, p->runs, i), s, &s->v, page, offset, left);
    carried[0] = c64(g, 0);
    carried[1] = sub(g, left, sub(g, s->page, offset));
    loop_end(g, &l, c64(g, 1), p->runs);
    Val next = smin(g, end, sub(g, s->k1, c64(g, 1)));
    put_run(x, mul(g, p->runs, c64(g, 2)), s, &s->k, page_of(x, s, next), offset_of(x, s, next), sub(g, s->k1, next));
}

static void attend_block(kgen *x, const segment *s, few_piece p, Val lane0, Val lane1)
{
    gen *g = x->g;
    guarded l;
    place_runs(x, s, &p);
    values_emit_keys(x, p.n0, p.n, p.n);
    p.lane = guarded_begin(g, &l, lane0, lane1);
    p.rows = smin(g, sub(g, x->in_use, p.lane), c64(g, x->vector));
    few_attend(x, &p);
    guarded_end(g, &l, c64(g, x->vector));
}

static void attend_segments(kgen *x)
{
    gen *g = x->g;
    guarded ls, lk;
    segment s = keys_open(x);
    Val first = item_field(x, ITEM_segment0), list = arg_field(x, ARG_segments);
    Val i = guarded_begin(g, &ls, first, add(g, first, item_field(x, ITEM_segments))), at_seg = at(g, g->segment_type, list, i);
    Val k0 = field(g, g->segment_type, at_seg, SEG_k0), lane0 = field(g, g->segment_type, at_seg, SEG_lane0);
    Val lane1 = smin(g, add(g, lane0, field(g, g->segment_type, at_seg, SEG_lanes)), x->in_use);
    few_piece p = {.open = LLVMBuildICmp(g->b, LLVMIntEQ, field(g, g->segment_type, at_seg, SEG_masked), c64(g, 0), "")};
    s.k1 = field(g, g->segment_type, at_seg, SEG_k1);
    p.n0 = guarded_begin(g, &lk, k0, s.k1);
    p.n = smin(g, sub(g, s.k1, p.n0), c64(g, x->block_keys));
    attend_block(x, &s, p, lane0, lane1);
    guarded_end(g, &lk, c64(g, x->block_keys));
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

/* O to the workspace's layout, as parts have it. */
static void transpose_out(kgen *x)
{
    gen *g = x->g;
    loop lm, ld;
    uint32_t W = x->vector;
    Val v[16], lane = loop_begin(g, &lm, c64(g, 0), NULL, 0), d = loop_begin(g, &ld, c64(g, 0), NULL, 0), to = first_dim(x, d);
    for (uint32_t i = 0; i < W; i++)
        v[i] = load(g, x->vf, at(g, g->f32, panel_row(x, x->few_out, add(g, lane, c64(g, i)), x->dim_v), d), W * 4);
    rows_transpose(x, v);
    for (uint32_t i = 0; i < W && i < x->dim_v; i++)
        store_lanes(x, v[i], x->out, add(g, mul(g, add(g, to, c64(g, i)), c64(g, x->lanes)), lane));
    loop_end(g, &ld, c64(g, W), c64(g, few_row(x, x->dim_v)));
    loop_end(g, &lm, c64(g, W), x->used);
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

void few_run(kgen *x)
{
    gen *g = x->g;
    load_queries(x);
    rows_init(x);
    clear_out(x);
    attend_segments(x);
    Block whole = block(g), cut = block(g), done = block(g);
    branch(g, less(g, c64(g, 1), item_field(x, ITEM_parts)), cut, whole);
    go(g, whole);
    rows_finish(x, store_rows);
    jump(g, done);
    go(g, cut);
    transpose_out(x);
    parts_store(x);
    jump(g, done);
    go(g, done);
}
