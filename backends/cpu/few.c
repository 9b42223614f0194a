/* few.c - items with few rows, as in decoding: each key is read for a handful of rows, so what counts is that K and V are read once, in the
 * order in which they lie, and asked for in time. Queries and O are kept row by row; few_body.c does the blocks of keys. */
#include "backends/cpu/kernel_gen.h"

/* Rows of K behind the block that may be asked for. */
static uint32_t fetched(const kgen *x) { return x->fetch_keys + FEW_OUTPUT_KEYS - 1; }

void few_lay_out(kgen *x)
{
    const schedule *c = &x->k->schedule;
    uint64_t lanes = c->few_lanes + x->vector, keys = x->block_keys + few_sums(x);
    uint64_t row = (uint64_t)x->words * rows_word_size(x);
    x->fetch_keys = (uint32_t)((c->fetch * 64 + row - 1) / row);
    x->few_queries = ws_take(x, lanes * few_row(x, x->words) * 4);
    x->few_out = ws_take(x, lanes * few_row(x, x->dim_v) * 4);
    x->few_scores = ws_take(x, keys * x->vector * 4);
    x->few_seen = ws_take(x, keys * x->vector * 4);
    x->few_factor = ws_take(x, lanes * 4);
    x->few_rows = ws_take(x, (2 * keys + fetched(x)) * 8);
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

static void put_row(kgen *x, Val row, Val slot) { store(x->g, row, at(x->g, x->g->ptr, ws_at(x, x->few_rows), slot), 8); }

/* Moves on by one token, over page borders. place: page, token in it. */
static void next_token(kgen *x, const segment *s, Val *place)
{
    gen *g = x->g;
    Val next = add(g, place[1], c64(g, 1)), wraps = LLVMBuildICmp(g->b, LLVMIntEQ, next, s->page, "");
    place[0] = select_of(g, wraps, add(g, place[0], c64(g, 1)), place[0]);
    place[1] = select_of(g, wraps, c64(g, 0), next);
}

/* The order in which rows are read: K of the block, up to `padded` the last one again, V of the block, then K of the keys behind it, which
 * are fetched ahead (at the end of the segment the last one again). */
static void place_rows(kgen *x, const segment *s, const few_piece *p)
{
    gen *g = x->g;
    loop l;
    guarded lg;
    Val place[2] = {LLVMBuildUDiv(g->b, p->n0, s->page, ""), LLVMBuildURem(g->b, p->n0, s->page, "")};
    Val i = loop_begin(g, &l, c64(g, 0), place, 2);
    put_row(x, keys_row(x, &s->k, place[0], place[1]), i);
    put_row(x, keys_row(x, &s->v, place[0], place[1]), add(g, p->padded, i));
    Val is_last = LLVMBuildICmp(g->b, LLVMIntEQ, add(g, add(g, p->n0, i), c64(g, 1)), s->k1, ""), here_at[] = {place[0], place[1]};
    next_token(x, s, place);
    for (int j = 0; j < 2; j++) place[j] = select_of(g, is_last, here_at[j], place[j]);
    loop_end(g, &l, c64(g, 1), p->n);

    Val last = load(g, g->ptr, at(g, g->ptr, ws_at(x, x->few_rows), sub(g, p->n, c64(g, 1))), 8);
    i = guarded_begin(g, &lg, p->n, p->padded);
    put_row(x, last, i);
    guarded_end(g, &lg, c64(g, 1));

    i = loop_begin(g, &l, c64(g, 0), place, 2);
    put_row(x, keys_row(x, &s->k, place[0], place[1]), add(g, add(g, p->padded, p->n), i));
    Val key = add(g, add(g, p->n0, p->n), i), ends = LLVMBuildNot(g->b, less(g, add(g, key, c64(g, 1)), s->k1), "");
    Val at_key[] = {place[0], place[1]};
    next_token(x, s, place);
    for (int j = 0; j < 2; j++) place[j] = select_of(g, ends, at_key[j], place[j]);
    loop_end(g, &l, c64(g, 1), c64(g, fetched(x)));
}

static void attend_block(kgen *x, const segment *s, few_piece p, Val lane0, Val lane1)
{
    gen *g = x->g;
    guarded l;
    p.padded = round_up(g, p.n, few_sums(x));
    place_rows(x, s, &p);
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
