/* workspace.c - how a kernel being written reaches its scratch memory, its arguments and its item. */
#include "backends/cpu/kernel_gen.h"

#include <math.h>

uint64_t ws_take(kgen *x, uint64_t bytes)
{
    uint64_t at_offset = x->size;
    x->size += (bytes + 63) / 64 * 64;
    return at_offset;
}

Val ws_at(kgen *x, uint64_t offset) { return byte_at(x->g, x->ws, c64(x->g, (int64_t)offset)); }
Val ws_float(kgen *x, uint64_t offset, Val index) { return at(x->g, x->g->f32, ws_at(x, offset), index); }
Val row_of_lanes(kgen *x, Val row, Val lane) { return add(x->g, mul(x->g, row, c64(x->g, x->lanes)), lane); }
Val load_lanes(kgen *x, uint64_t offset, Val lane) { return load(x->g, x->vf, ws_float(x, offset, lane), x->vector * 4); }
void store_lanes(kgen *x, Val v, uint64_t offset, Val lane) { store(x->g, v, ws_float(x, offset, lane), x->vector * 4); }
Val item_field(kgen *x, unsigned index) { return field(x->g, x->g->item_type, x->item, index); }
Val arg_field(kgen *x, unsigned index) { return field(x->g, x->g->args_type, x->args, index); }

Val safe_max(kgen *x, Val m)
{
    Val none = constant_like(x->vf, -INFINITY);
    return select_of(x->g, LLVMBuildFCmp(x->g->b, LLVMRealOEQ, m, none, ""), LLVMConstNull(x->vf), m);
}

/* Not in a sweep: few.c begins with nothing. */
Val kernel_is_few(kgen *x)
{
    gen *g = x->g;
    Val whole = LLVMBuildICmp(g->b, LLVMIntEQ, arg_field(x, ARG_sweep), c64(g, 0), "");
    return LLVMBuildAnd(g->b, whole, LLVMBuildNot(g->b, less(g, c64(g, x->k->schedule.few_lanes), x->in_use), ""), "");
}

/* Lanes in whole vectors; from three quarters on, where a plan has segments that all lanes compute, all of them: what idle ones hold is
 * computed, too. */
static Val vectors_used(kgen *x)
{
    gen *g = x->g;
    Val used = round_up(g, x->in_use, x->vector), part = less(g, mul(g, used, c64(g, 4)), c64(g, 3 * (int64_t)x->lanes));
    return select_of(g, LLVMBuildOr(g->b, kernel_is_few(x), part, ""), used, c64(g, x->lanes));
}

Val kernel_begin(kgen *x, const char *name, Type result, Type *params, unsigned n)
{
    gen *g = x->g;
    Val f = add_function(g, name, result, params, n);
    x->args = LLVMGetParam(f, 0);
    x->item = LLVMGetParam(f, 1);
    x->ws = LLVMGetParam(f, 2);
    x->seq = at(g, g->seq_type, arg_field(x, ARG_seqs), item_field(x, ITEM_seq));
    x->in_use = mul(g, item_field(x, ITEM_heads), item_field(x, ITEM_rows));
    x->used = vectors_used(x);
    return f;
}
