/* parts.c - partial results: what a part of the keys gives its rows, kept in a slot until all parts are there, and their sum.
 *
 * A slot is laid out as the workspace is: maxima, sums, O by dims; of few rows O by rows (few_out), those in use only: parts of a text that
 * is read once are written to memory and read back, and should be little beside it. */
#include "backends/cpu/kernel_gen.h"

#include <math.h>

uint64_t parts_bytes(const kgen *x)
{
    const uint64_t tile = (uint64_t)x->dim_v * x->lanes, rows = (uint64_t)x->k->schedule.few_lanes * few_row(x, x->dim_v);
    return x->out - x->max + (tile > rows ? tile : rows) * 4;
}

static Val part_address(kgen *x, Val part)
{
    gen *g = x->g;
    Val slot = add(g, item_field(x, ITEM_part_slot), part);
    return byte_at(g, arg_field(x, ARG_parts), mul(g, slot, c64(g, (int64_t)parts_bytes(x))));
}

static Val part_float(kgen *x, Val part, uint64_t offset, Val index)
{
    return at(x->g, x->g->f32, byte_at(x->g, part, c64(x->g, (int64_t)(offset - x->max))), index);
}

static Val part_lanes(kgen *x, Val from, uint64_t offset, Val index) { return load(x->g, x->vf, part_float(x, from, offset, index), 4); }

static Val out_index(kgen *x, Val d, Val lane) { return add(x->g, mul(x->g, d, c64(x->g, x->lanes)), lane); }

/* ---- a part's result into its slot ---------------------------------------------------------------------------------------------------- */

static void store_sums(kgen *x, Val to, Val lane)
{
    gen *g = x->g;
    store(g, load_lanes(x, x->max, lane), part_float(x, to, x->max, lane), 4);
    store(g, load_lanes(x, x->sum, lane), part_float(x, to, x->sum, lane), 4);
}

/* Lanes that are not in use stay unwritten. */
void parts_store(kgen *x)
{
    gen *g = x->g;
    loop lm, ld;
    Val to = part_address(x, item_field(x, ITEM_part)), lane = loop_begin(g, &lm, c64(g, 0), NULL, 0);
    store_sums(x, to, lane);
    Val d = loop_begin(g, &ld, c64(g, 0), NULL, 0), index = out_index(x, d, lane);
    store(g, load_lanes(x, x->out, index), part_float(x, to, x->out, index), 4);
    loop_end(g, &ld, c64(g, 1), c64(g, x->dim_v));
    loop_end(g, &lm, c64(g, x->vector), x->used);
}

void parts_store_rows(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val to = part_address(x, item_field(x, ITEM_part)), lane = loop_begin(g, &l, c64(g, 0), NULL, 0);
    store_sums(x, to, lane);
    loop_end(g, &l, c64(g, x->vector), x->used);
    Val i = loop_begin(g, &l, c64(g, 0), NULL, 0);
    store(g, load_lanes(x, x->few_out, i), part_float(x, to, x->out, i), 4);
    loop_end(g, &l, c64(g, x->vector), mul(g, x->in_use, c64(g, few_row(x, x->dim_v))));
}

/* ---- the sum of all ------------------------------------------------------------------------------------------------------------------ */

typedef struct share { /* what O of the workspace, of the part is multiplied by */
    Val own, part;
} share;

/* (m, l) of the workspace and of a part: both to the larger maximum, then added. */
static share add_sums(kgen *x, Val from, Val lane)
{
    gen *g = x->g;
    Val m = load_lanes(x, x->max, lane), pm = part_lanes(x, from, x->max, lane), top = fmax_of(g, pm, m), safe = safe_max(x, top);
    const share s = {math_exp2_falling(g, LLVMBuildFSub(g->b, m, safe, "")), math_exp2_falling(g, LLVMBuildFSub(g->b, pm, safe, ""))};
    Val l = LLVMBuildFMul(g->b, load_lanes(x, x->sum, lane), s.own, "");
    store_lanes(x, fmadd(g, part_lanes(x, from, x->sum, lane), s.part, l), x->sum, lane);
    store_lanes(x, top, x->max, lane);
    return s;
}

static void add_part(kgen *x, Val part)
{
    gen *g = x->g;
    loop lm, ld;
    Val from = part_address(x, part), lane = loop_begin(g, &lm, c64(g, 0), NULL, 0);
    const share s = add_sums(x, from, lane);
    Val d = loop_begin(g, &ld, c64(g, 0), NULL, 0), index = out_index(x, d, lane);
    Val o = LLVMBuildFMul(g->b, load_lanes(x, x->out, index), s.own, "");
    store_lanes(x, fmadd(g, part_lanes(x, from, x->out, index), s.part, o), x->out, index);
    loop_end(g, &ld, c64(g, 1), c64(g, x->dim_v));
    loop_end(g, &lm, c64(g, x->vector), x->used);
}

/* Shares are worked out for whole vectors of rows, then used row by row. */
static void add_rows(kgen *x, Val part)
{
    gen *g = x->g;
    loop lm, lr, ld;
    Val from = part_address(x, part), lane = loop_begin(g, &lm, c64(g, 0), NULL, 0);
    const share s = add_sums(x, from, lane);
    store_lanes(x, s.own, x->few_factor, lane);
    store_lanes(x, s.part, x->new_max, lane);
    loop_end(g, &lm, c64(g, x->vector), x->used);
    Val row = loop_begin(g, &lr, c64(g, 0), NULL, 0), first = mul(g, row, c64(g, few_row(x, x->dim_v)));
    Val own = splat(g, load(g, g->f32, ws_float(x, x->few_factor, row), 4), x->vector);
    Val other = splat(g, load(g, g->f32, ws_float(x, x->new_max, row), 4), x->vector);
    Val d = loop_begin(g, &ld, c64(g, 0), NULL, 0), i = add(g, first, d);
    Val o = LLVMBuildFMul(g->b, load_lanes(x, x->few_out, i), own, "");
    store_lanes(x, fmadd(g, part_lanes(x, from, x->out, i), other, o), x->few_out, i);
    loop_end(g, &ld, c64(g, x->vector), c64(g, few_row(x, x->dim_v)));
    loop_end(g, &lr, c64(g, 1), x->in_use);
}

static void each_part(kgen *x, void (*add_one)(kgen *, Val))
{
    gen *g = x->g;
    loop l;
    Val part = loop_begin(g, &l, c64(g, 0), NULL, 0);
    add_one(x, part);
    loop_end(g, &l, c64(g, 1), item_field(x, ITEM_parts));
}

static void clear_sums(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val i = loop_begin(g, &l, c64(g, 0), NULL, 0);
    store_lanes(x, constant_like(x->vf, -INFINITY), x->max, i);
    store_lanes(x, LLVMConstNull(x->vf), x->sum, i);
    loop_end(g, &l, c64(g, x->vector), x->used);
}

void parts_merge(kgen *x)
{
    gen *g = x->g;
    Block few = block(g), many = block(g), done = block(g);
    shared_call(x, SHARED_setup);
    clear_sums(x);
    branch(g, kernel_is_few(x), few, many);
    go(g, few);
    few_clear_out(x);
    each_part(x, add_rows);
    few_finish(x);
    jump(g, done);
    go(g, many);
    rows_clear_out(x);
    each_part(x, add_part);
    shared_call(x, SHARED_finish);
    jump(g, done);
    go(g, done);
}
