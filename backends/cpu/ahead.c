/* ahead.c - rows that are read later, asked for by a tile's wide pieces at the steps of their products.
 *
 * First a list made once per item. With windows and chunks a tile is short, and what it reads first (its rim, in narrow pieces) comes from
 * memory; the plan runs the tiles of a head one after the other, by falling rows. So:
 *     keys before this tile's lowest one    where that is of its rim, as under a window: the next tile's rim
 *     queries before this tile's            the next tile's
 *     rows of O                             this tile's: a store that misses waits for memory like a load
 * Behind the list's end the rows of the block behind this one, which lie anywhere under a mask of blocks. A wrong guess costs nothing. */
#include "backends/cpu/kernel_gen.h"

static Val entry(kgen *x, Val index) { return at(x->g, x->g->ptr, ws_at(x, x->ahead), index); }
static Val counter(kgen *x) { return ws_at(x, x->ahead_next); }

uint32_t ahead_rows(const kgen *x) { return 4 * x->lanes; }

/* The lowest key of the item's segments. */
static Val lowest_key(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val first = item_field(x, ITEM_segment0), end = add(g, first, item_field(x, ITEM_segments)), lowest = c64(g, INT64_MAX);
    Val i = loop_begin(g, &l, first, &lowest, 1);
    lowest = smin(g, lowest, field(g, g->segment_type, at(g, g->segment_type, arg_field(x, ARG_segments), i), SEG_k0));
    loop_end(g, &l, c64(g, 1), end);
    return lowest;
}

/* `lanes` rows of K, as many of V: those before the tile's lowest key; where these are fewer, the last one again. Nothing where a wide
 * segment, which comes first, has the lowest key. */
static void list_keys(kgen *x, const segment *s)
{
    gen *g = x->g;
    Block some = block(g), none = block(g), done = block(g);
    Val at_first = at(g, g->segment_type, arg_field(x, ARG_segments), item_field(x, ITEM_segment0));
    Val end = lowest_key(x), first = smax(g, sub(g, end, c64(g, x->lanes)), c64(g, 0)), n = sub(g, end, first);
    Val is_rim = less(g, end, field(g, g->segment_type, at_first, SEG_k0));
    branch(g, LLVMBuildAnd(g->b, is_rim, less(g, c64(g, 0), end), ""), some, none);
    go(g, some);
    segment ahead = *s;
    ahead.k.convert = ahead.v.convert = false;
    ahead.k.table = x->ahead, ahead.v.table = x->ahead + (uint64_t)x->lanes * 8;
    keys_place(x, &ahead, first, n);
    keys_repeat_last(x, &ahead, first, n, c64(g, x->lanes));
    store(g, c64(g, 0), counter(x), 8);
    jump(g, done);
    go(g, none);
    store(g, c64(g, 2 * x->lanes), counter(x), 8);
    jump(g, done);
    go(g, done);
}

/* Queries before the tile's, which may lie outside of the tensor, and the tile's rows of O. */
static void list_rows(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val bytes = mul(g, arg_field(x, ARG_q_row_stride), item_field(x, ITEM_rows));
    Val i = loop_begin(g, &l, c64(g, 0), NULL, 0);
    store(g, byte_at(g, rows_pointer(x, x->q_ptr, i), sub(g, c64(g, 0), bytes)), entry(x, add(g, i, c64(g, 2 * x->lanes))), 8);
    store(g, rows_pointer(x, x->o_ptr, i), entry(x, add(g, i, c64(g, 3 * x->lanes))), 8);
    loop_end(g, &l, c64(g, 1), c64(g, x->lanes));
}

/* Rows that see nothing have no segments, of which the first says where the next keys are, and no wide piece that would ask. */
void ahead_open(kgen *x, const segment *s)
{
    gen *g = x->g;
    Block some = block(g), done = block(g);
    branch(g, less(g, c64(g, 0), item_field(x, ITEM_segments)), some, done);
    go(g, some);
    list_keys(x, s);
    list_rows(x);
    jump(g, done);
    go(g, done);
}

void ahead_block(kgen *x, const segment *s, piece *p)
{
    gen *g = x->g;
    Val after = add(g, p->n0, c64(g, x->block_keys)), first = select_of(g, less(g, after, s->k1), after, s->next);
    Val page = LLVMBuildUDiv(g->b, first, s->page, ""), offset = LLVMBuildURem(g->b, first, s->page, "");
    p->next[0] = keys_row(x, &s->k, page, offset), p->next[1] = keys_row(x, &s->v, page, offset);
    p->stride[0] = s->k.stride, p->stride[1] = s->v.stride;
}

Val ahead_group(kgen *x, const piece *p, Val group)
{
    gen *g = x->g;
    const uint32_t rows = 2 * p->keys;
    Val next = load(g, g->i64, counter(x), 8), end = c64(g, ahead_rows(x));
    store(g, smin(g, add(g, next, c64(g, rows)), end), counter(x), 8);
    for (uint32_t i = 0; i < 2; i++) {
        Val row = byte_at(g, p->next[i], mul(g, group, p->stride[i]));
        for (uint32_t r = 0; r < p->keys; r++, row = byte_at(g, row, p->stride[i])) store(g, row, entry(x, c64(g, ahead_rows(x) + i * p->keys + r)), 8);
    }
    return entry(x, next);
}
