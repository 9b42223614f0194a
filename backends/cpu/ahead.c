/* ahead.c - the rows that the next tile reads for the first time: keys behind this tile's last one, and the next queries.
 *
 * With windows and chunks a tile is short, and what it reads first (its rim, in narrow pieces) comes from memory. Tiles of a head are run one
 * after the other, so a tile's wide pieces ask for what the next one will miss, a line at each step of their products. The guess costs
 * nothing when it is wrong. */
#include "backends/cpu/kernel_gen.h"

static Val entry(kgen *x, Val index) { return at(x->g, x->g->ptr, ws_at(x, x->ahead), index); }
static Val counter(kgen *x) { return ws_at(x, x->ahead_next); }

uint32_t ahead_rows(const kgen *x) { return 3 * x->lanes; }

/* `lanes` rows of K, as many of V; at the end of the keys the last one again. */
static void list_keys(kgen *x, const segment *s)
{
    gen *g = x->g;
    Val last_segment = sub(g, add(g, item_field(x, ITEM_segment0), item_field(x, ITEM_segments)), c64(g, 1));
    Val end = field(g, g->segment_type, at(g, g->segment_type, arg_field(x, ARG_segments), last_segment), SEG_k1);
    Val n_keys = field(g, g->seq_type, x->seq, SEQ_n_keys), first = smin(g, end, sub(g, n_keys, c64(g, 1)));
    Val n = smin(g, sub(g, n_keys, first), c64(g, x->lanes));
    segment ahead = *s;
    ahead.k.convert = ahead.v.convert = false;
    ahead.k.table = x->ahead, ahead.v.table = x->ahead + (uint64_t)x->lanes * 8;
    keys_place(x, &ahead, first, n);
    keys_repeat_last(x, &ahead, first, n, c64(g, x->lanes));
}

/* Queries behind the tile's, which may lie outside of the tensor. */
static void list_queries(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val rows = mul(g, item_field(x, ITEM_rows), item_field(x, ITEM_row_step)), bytes = mul(g, arg_field(x, ARG_q_row_stride), rows);
    Val i = loop_begin(g, &l, c64(g, 0), NULL, 0);
    store(g, byte_at(g, rows_pointer(x, x->q_ptr, i), bytes), entry(x, add(g, i, c64(g, 2 * x->lanes))), 8);
    loop_end(g, &l, c64(g, 1), c64(g, x->lanes));
}

/* Rows that see nothing have no segments, of which the last one says where the next keys are, and no wide piece that would ask. */
void ahead_open(kgen *x, const segment *s)
{
    gen *g = x->g;
    Block some = block(g), done = block(g);
    branch(g, less(g, c64(g, 0), item_field(x, ITEM_segments)), some, done);
    go(g, some);
    list_keys(x, s);
    list_queries(x);
    store(g, c64(g, 0), counter(x), 8);
    jump(g, done);
    go(g, done);
}

Val ahead_group(kgen *x, uint32_t rows, Val otherwise)
{
    gen *g = x->g;
    Val next = load(g, g->i64, counter(x), 8), end = c64(g, ahead_rows(x)), some = less(g, next, end);
    store(g, smin(g, add(g, next, c64(g, rows)), end), counter(x), 8);
    Val from = entry(x, smin(g, next, c64(g, ahead_rows(x) - rows)));
    return otherwise ? select_of(g, some, from, otherwise) : from;
}
