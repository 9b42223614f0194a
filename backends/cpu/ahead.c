/* ahead.c - rows that are needed later, asked for by a tile's wide pieces at the steps of their products.
 *
 * First a list made once per item. Where a tile is short (windows, chunks, short sequences), what it touches first comes from memory, in its
 * slowest part. So:
 *     rows of O                                              this tile's: a store that misses waits for memory like a load
 *     keys that the next tile reads and this one does not    of another head all of them
 *     its queries
 *     of a second sweep the first one's results of its rows
 * Tiles of a narrow rim only (strides of long texts, short documents) have no wide pieces: narrow ones ask for some rows at a time.
 * What is left of the list when the pieces are done is asked for at once. attn_item.next says that the next tile is the item behind this one;
 * where another worker takes it, it finds the rows in the shared cache. Behind the list's end come the rows of the block behind a piece,
 * which lie anywhere under a mask of blocks. */
#include "backends/cpu/kernel_gen.h"

enum { SOME_ROWS = 16 }; /* that a narrow piece asks for at a group of keys */

/* K and V of as many keys as a tile has lanes, its queries, where it goes on from, O: twice as long where it is f32 and the rest is not. */
uint32_t ahead_rows(const kgen *x) { return 6 * x->lanes; }

static Val entry(kgen *x, Val index) { return at(x->g, x->g->ptr, ws_at(x, x->ahead), index); }
static Val counter(kgen *x) { return ws_at(x, x->ahead_next); }

/* The list stands at the end of its room, so that its end is known to the pieces; it is written from there. */
static Val end_of_list(kgen *x) { return c64(x->g, ahead_rows(x)); }

/* ---- which keys ---------------------------------------------------------------------------------------------------------------------- */

typedef struct key_range {
    Val lo, hi; /* hi not included */
} key_range;

static Val next_item(kgen *x) { return at(x->g, x->g->item_type, x->item, item_field(x, ITEM_next)); }

static Val segment_at(kgen *x, Val index) { return at(x->g, x->g->segment_type, arg_field(x, ARG_segments), index); }

static Val seq_of(kgen *x, Val item) { return at(x->g, x->g->seq_type, arg_field(x, ARG_seqs), field(x->g, x->g->item_type, item, ITEM_seq)); }

static key_range range_of_segment(kgen *x, Val index)
{
    gen *g = x->g;
    Val s = segment_at(x, index);
    return (key_range){field(g, g->segment_type, s, SEG_k0), field(g, g->segment_type, s, SEG_k1)};
}

/* From the first key that this tile reads to the last. */
static key_range keys_of_item(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val first = item_field(x, ITEM_segment0), seen[] = {c64(g, INT64_MAX), c64(g, INT64_MIN)};
    Val i = loop_begin(g, &l, first, seen, 2);
    const key_range s = range_of_segment(x, i);
    seen[0] = smin(g, seen[0], s.lo);
    seen[1] = smax(g, seen[1], s.hi);
    loop_end(g, &l, c64(g, 1), add(g, first, item_field(x, ITEM_segments)));
    return (key_range){seen[0], seen[1]};
}

/* What a segment has outside of `known`, on one side of it, and behind `taken`; `most` keys at the most. */
static key_walk unknown_keys(kgen *x, Val index, key_range known, Val taken, Val most)
{
    gen *g = x->g;
    const key_range s = range_of_segment(x, index);
    Val step = field(g, g->segment_type, segment_at(x, index), SEG_step), before = less(g, s.lo, known.lo);
    Val lo = select_of(g, before, s.lo, smax(g, s.lo, known.hi)), hi = select_of(g, before, smin(g, s.hi, known.lo), s.hi);
    Val first = keys_position(x, s.lo, keys_divided_up(x, sub(g, smax(g, lo, taken), s.lo), step), step);
    return (key_walk){first, smin(g, keys_divided_up(x, smax(g, sub(g, hi, first), c64(g, 0)), step), most), step};
}

/* ---- the list: rows of O, of K, of V, of results, of Q --------------------------------------------------------------------------------------------------- */

static void place_keys(kgen *x, segment *s, key_walk k, Val slot)
{
    gen *g = x->g;
    Block some = block(g), done = block(g);
    keys_set_step(x, s, k.step);
    branch(g, less(g, c64(g, 0), k.n), some, done);
    go(g, some);
    keys_place(x, s, k.k0, k.n, slot);
    jump(g, done);
    go(g, done);
}

/* Returns how many, K's rows at the beginning of the room, V's `lanes` entries further. */
static Val list_keys(kgen *x, Val item, key_range known)
{
    gen *g = x->g;
    loop l;
    Val seq = seq_of(x, item);
    segment s = keys_open(x, seq, field(g, g->item_type, item, ITEM_head));
    s.k.table = x->ahead, s.v.table = x->ahead + (uint64_t)x->lanes * 8;
    Val first = field(g, g->item_type, item, ITEM_segment0), carried[] = {c64(g, 0), c64(g, INT64_MIN)};
    Val i = loop_begin(g, &l, first, carried, 2), count = carried[0];
    const key_walk k = unknown_keys(x, i, known, carried[1], sub(g, c64(g, x->lanes), count));
    place_keys(x, &s, k, count);
    carried[0] = add(g, count, k.n);
    carried[1] = smax(g, carried[1], keys_position(x, k.k0, k.n, k.step));
    loop_end(g, &l, c64(g, 1), add(g, first, field(g, g->item_type, item, ITEM_segments)));
    return carried[0];
}

/* n entries from `from` on, to end before `end`, which does not lie before theirs. */
static void move_up(kgen *x, Val from, Val n, Val end)
{
    gen *g = x->g;
    guarded l;
    Val i = guarded_begin(g, &l, c64(g, 1), add(g, n, c64(g, 1)));
    store(g, load(g, g->ptr, entry(x, sub(g, add(g, from, n), i)), 8), entry(x, sub(g, end, i)), 8);
    guarded_end(g, &l, c64(g, 1));
}

/* Before `end`. Returns where they begin. */
static Val list_queries(kgen *x, Val item, Val end)
{
    gen *g = x->g;
    loop l;
    Val seq = seq_of(x, item);
    Val heads = field(g, g->item_type, item, ITEM_heads), n = mul(g, heads, field(g, g->item_type, item, ITEM_rows));
    Val place[] = {field(g, g->item_type, item, ITEM_row), c64(g, 0)}, begin = sub(g, end, n);
    Val first = field(g, g->item_type, item, ITEM_head), step = field(g, g->item_type, item, ITEM_row_step);
    const rows_of q = rows_queries(x, seq);
    Val i = loop_begin(g, &l, begin, place, 2);
    store(g, rows_address(x, &q, place[0], add(g, first, place[1])), entry(x, i), 8);
    Val in_row = add(g, place[1], c64(g, 1)), wraps = LLVMBuildICmp(g->b, LLVMIntEQ, in_row, heads, "");
    place[0] = select_of(g, wraps, add(g, place[0], step), place[0]);
    place[1] = select_of(g, wraps, c64(g, 0), in_row);
    loop_end(g, &l, c64(g, 1), end);
    return begin;
}

/* Before `end`. Returns where they begin. None where nothing is gone on from, or the next tile is another head's. */
static Val list_starts(kgen *x, Val item, Val end)
{
    gen *g = x->g;
    guarded l;
    Val given = LLVMBuildICmp(g->b, LLVMIntNE, arg_field(x, ARG_start), LLVMConstNull(g->ptr), "");
    Val same = LLVMBuildICmp(g->b, LLVMIntEQ, item_field(x, ITEM_stage), field(g, g->item_type, item, ITEM_stage), "");
    Val n = select_of(g, LLVMBuildAnd(g->b, given, same, ""), field(g, g->item_type, item, ITEM_rows), c64(g, 0)), begin = sub(g, end, n);
    Val row = field(g, g->item_type, item, ITEM_row), step = field(g, g->item_type, item, ITEM_row_step);
    Val i = guarded_begin(g, &l, c64(g, 0), n);
    store(g, rows_start(x, add(g, row, mul(g, i, step))), entry(x, add(g, begin, i)), 8);
    guarded_end(g, &l, c64(g, 1));
    return begin;
}

/* Rows some steps apart see keys as far apart: of other rows others, though from the first to the last they are much the same. */
static Val are_same_remainders(kgen *x, Val item)
{
    gen *g = x->g;
    Val step = item_field(x, ITEM_row_step), far = sub(g, field(g, g->item_type, item, ITEM_row), item_field(x, ITEM_row));
    Val alike = LLVMBuildICmp(g->b, LLVMIntEQ, field(g, g->item_type, item, ITEM_row_step), step, "");
    return LLVMBuildAnd(g->b, alike, LLVMBuildICmp(g->b, LLVMIntEQ, LLVMBuildSRem(g->b, far, step, ""), c64(g, 0), ""), "");
}

/* Is the next tile of the same keys? */
static Val is_same_head(kgen *x, Val item)
{
    gen *g = x->g;
    Val group = c64(g, x->k->shape.q_heads / x->k->shape.kv_heads), head = field(g, g->item_type, item, ITEM_head);
    Val kv = LLVMBuildUDiv(g->b, item_field(x, ITEM_head), group, ""), next_kv = LLVMBuildUDiv(g->b, head, group, "");
    return LLVMBuildAnd(g->b, LLVMBuildICmp(g->b, LLVMIntEQ, kv, next_kv, ""),
                        LLVMBuildICmp(g->b, LLVMIntEQ, item_field(x, ITEM_seq), field(g, g->item_type, item, ITEM_seq), ""), "");
}

/* This tile's from byte `from` of each on, before `end`. Returns where they begin. */
static Val list_output_from(kgen *x, Val end, int64_t from)
{
    gen *g = x->g;
    loop l;
    Val begin = sub(g, end, x->in_use), i = loop_begin(g, &l, c64(g, 0), NULL, 0);
    store(g, byte_at(g, rows_pointer(x, x->o_ptr, i), c64(g, from)), entry(x, add(g, begin, i)), 8);
    loop_end(g, &l, c64(g, 1), x->in_use);
    return begin;
}

static Val list_output(kgen *x, Val end)
{
    gen *g = x->g;
    if (!x->half) return list_output_from(x, end, 0);
    Block half = here(g), whole = block(g), done = block(g);
    branch(g, rows_output_is_f32(x), whole, done);
    go(g, whole);
    Val behind = list_output_from(x, end, 2 * x->dim_v);
    whole = here(g);
    jump(g, done);
    go(g, done);
    Val phi = LLVMBuildPhi(g->b, g->i64, "");
    LLVMAddIncoming(phi, (Val[]){end, behind}, (Block[]){half, whole}, 2);
    return list_output_from(x, phi, 0);
}

/* Before `end`. Returns where they begin. */
static Val list_next(kgen *x, Val item, Val end)
{
    gen *g = x->g;
    key_range known = keys_of_item(x);
    Val same = LLVMBuildAnd(g->b, is_same_head(x, item), are_same_remainders(x, item), "");
    known.lo = select_of(g, same, known.lo, c64(g, INT64_MAX));
    Val behind = list_starts(x, item, list_queries(x, item, end)), keys = list_keys(x, item, known), between = sub(g, behind, keys);
    move_up(x, c64(g, x->lanes), keys, behind);
    move_up(x, c64(g, 0), keys, between);
    return sub(g, between, keys);
}

/* Rows that see nothing have no segments, here or there. */
void ahead_write(kgen *x)
{
    gen *g = x->g;
    Block none = here(g), some = block(g), done = block(g);
    Val item = next_item(x), both = smin(g, item_field(x, ITEM_segments), field(g, g->item_type, item, ITEM_segments)), end = end_of_list(x);
    branch(g, less(g, c64(g, 0), smin(g, both, item_field(x, ITEM_next))), some, done);
    go(g, some);
    Val next = list_next(x, item, end);
    some = here(g);
    jump(g, done);
    go(g, done);
    Val begin = LLVMBuildPhi(g->b, g->i64, "");
    LLVMAddIncoming(begin, (Val[]){end, next}, (Block[]){none, some}, 2);
    store(g, list_output(x, begin), counter(x), 8);
}

/* ---- asking ---------------------------------------------------------------------------------------------------------------------------- */

void ahead_block(kgen *x, const segment *s, Val more, piece *p)
{
    gen *g = x->g;
    Val first = select_of(g, more, keys_position(x, p->n0, c64(g, x->block_keys), p->step), s->next), in[2];
    keys_find_page(x, s, first, in);
    p->next[0] = keys_row(x, &s->k, in[0], in[1]), p->next[1] = keys_row(x, &s->v, in[0], in[1]);
    p->stride[0] = s->k.pace, p->stride[1] = s->v.pace;
}

/* The rows of the next block are put behind the list, where a group that crosses its end finds them. */
Val ahead_group(kgen *x, const piece *p, Val group)
{
    gen *g = x->g;
    Val next = load(g, g->i64, counter(x), 8), end = end_of_list(x);
    store(g, smin(g, add(g, next, c64(g, 2 * p->keys)), end), counter(x), 8);
    for (uint32_t i = 0; i < 2; i++) {
        Val row = byte_at(g, p->next[i], mul(g, group, p->stride[i]));
        for (uint32_t r = 0; r < p->keys; r++, row = byte_at(g, row, p->stride[i])) store(g, row, entry(x, add(g, end, c64(g, i * p->keys + r))), 8);
    }
    return entry(x, next);
}

static void ask_rows(kgen *x, Val from, Val to)
{
    gen *g = x->g;
    guarded l;
    const int64_t dims = x->dim < x->dim_v ? x->dim_v : x->dim;
    Val i = guarded_begin(g, &l, from, to);
    prefetch_bytes(g, load(g, g->ptr, entry(x, i), 8), x->quant ? dims : dims * (x->half ? 2 : 4), 2);
    guarded_end(g, &l, c64(g, 1));
}

void ahead_rest(kgen *x) { ask_rows(x, load(x->g, x->g->i64, counter(x), 8), end_of_list(x)); }

void ahead_write_some(kgen *x)
{
    gen *g = x->g;
    Val from = load(g, g->i64, counter(x), 8), to = smin(g, add(g, from, c64(g, SOME_ROWS)), end_of_list(x));
    store(g, to, counter(x), 8);
    ask_rows(x, from, to);
}
