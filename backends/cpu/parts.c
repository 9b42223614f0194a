/* parts.c - partial results: what a part of the keys gives its rows, kept in a slot until all parts are there, and their sum. */
#include "backends/cpu/kernel_gen.h"

#include <math.h>

uint64_t parts_bytes(const kgen *x) { return x->out - x->max + (uint64_t)x->dim_v * x->lanes * 4; }

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

/* The slot is laid out as the workspace is; lanes that are not in use stay unwritten. */
void parts_store(kgen *x)
{
    gen *g = x->g;
    loop lm, ld;
    Val to = part_address(x, item_field(x, ITEM_part)), lane = loop_begin(g, &lm, c64(g, 0), NULL, 0);
    store(g, load_lanes(x, x->max, lane), part_float(x, to, x->max, lane), 4);
    store(g, load_lanes(x, x->sum, lane), part_float(x, to, x->sum, lane), 4);
    Val d = loop_begin(g, &ld, c64(g, 0), NULL, 0), index = out_index(x, d, lane);
    store(g, load_lanes(x, x->out, index), part_float(x, to, x->out, index), 4);
    loop_end(g, &ld, c64(g, 1), c64(g, x->dim_v));
    loop_end(g, &lm, c64(g, x->vector), x->used);
}

/* (m, l, O) of the workspace and of a part: both to the larger maximum, then added. */
static void add_part(kgen *x, Val part)
{
    gen *g = x->g;
    loop lm, ld;
    Val from = part_address(x, part), lane = loop_begin(g, &lm, c64(g, 0), NULL, 0);
    Val m = load_lanes(x, x->max, lane), pm = part_lanes(x, from, x->max, lane), top = fmax_of(g, pm, m), safe = safe_max(x, top);
    Val a = math_exp2_falling(g, LLVMBuildFSub(g->b, m, safe, "")), b = math_exp2_falling(g, LLVMBuildFSub(g->b, pm, safe, ""));
    Val l = LLVMBuildFMul(g->b, load_lanes(x, x->sum, lane), a, "");
    store_lanes(x, fmadd(g, part_lanes(x, from, x->sum, lane), b, l), x->sum, lane);
    store_lanes(x, top, x->max, lane);
    Val d = loop_begin(g, &ld, c64(g, 0), NULL, 0), index = out_index(x, d, lane);
    Val o = LLVMBuildFMul(g->b, load_lanes(x, x->out, index), a, "");
    store_lanes(x, fmadd(g, part_lanes(x, from, x->out, index), b, o), x->out, index);
    loop_end(g, &ld, c64(g, 1), c64(g, x->dim_v));
    loop_end(g, &lm, c64(g, x->vector), x->used);
}

static void clear(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val i = loop_begin(g, &l, c64(g, 0), NULL, 0);
    store_lanes(x, constant_like(x->vf, -INFINITY), x->max, i);
    store_lanes(x, LLVMConstNull(x->vf), x->sum, i);
    loop_end(g, &l, c64(g, x->vector), x->used);
    rows_clear_out(x);
}

void parts_merge(kgen *x)
{
    gen *g = x->g;
    loop l;
    shared_call(x, SHARED_setup);
    clear(x);
    Val part = loop_begin(g, &l, c64(g, 0), NULL, 0);
    add_part(x, part);
    loop_end(g, &l, c64(g, 1), item_field(x, ITEM_parts));
    shared_call(x, SHARED_finish);
}
