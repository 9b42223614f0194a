/* pairs.c - O += P V by products of pairs of bf16 (vdpbf16ps): weights are rounded to bf16 and lie as pairs of keys, values likewise.
 *
 * A product of a pair takes both keys, so a value that one lane does not see meets the weight 0 there: which is nothing, unless the value is NaN or
 * infinite. Values are looked at while they are paired, all of a block's at once; the rare block that has such a one is mended before its products: rows
 * with one are added by themselves, in f32, to the lanes that see them, and become 0. */
#include "backends/cpu/kernel_gen.h"

Val pairs_product(kgen *x, Val a, Val b, Val sum)
{
    gen *g = x->g;
    Type pairs = LLVMVectorType(LLVMBFloatTypeInContext(g->context), 2 * x->vector);
    Val args[] = {sum, LLVMBuildBitCast(g->b, a, pairs, ""), LLVMBuildBitCast(g->b, b, pairs, "")};
    return intrinsic(g, "llvm.x86.avx512bf16.dpbf16ps.512", NULL, 0, args, 3);
}

Val pairs_of_weights(kgen *x, Val even, Val odd)
{
    gen *g = x->g;
    Val args[] = {odd, even}, pick[32];
    const uint32_t n = LLVMGetVectorSize(LLVMTypeOf(even));
    const char *name = arena_printf(g->arena, "llvm.x86.avx512bf16.cvtne2ps2bf16.%u", n * 32);
    Val both = intrinsic(g, name, NULL, 0, args, 2); /* even's lanes, then odd's */
    for (uint32_t i = 0; i < 2 * n; i++) pick[i] = c32(g, i / 2 + (i % 2 ? n : 0));
    both = LLVMBuildShuffleVector(g->b, both, LLVMGetPoison(LLVMTypeOf(both)), LLVMConstVector(pick, 2 * n), "");
    return LLVMBuildBitCast(g->b, both, vector_of(g->f32, n), "");
}

/* ---- values ------------------------------------------------------------------------------------------------------------------- */

Val pairs_at(kgen *x, Val pair, Val d)
{
    return at(x->g, x->g->i32, ws_at(x, x->value_panel), add(x->g, mul(x->g, pair, c64(x->g, x->value_stride)), d));
}

Val pairs_partner(kgen *x, Val row, Val slot, Val end)
{
    gen *g = x->g;
    const char *name = arena_printf(g->arena, "no_value_d%lld", (long long)x->dim_v);
    Type t = LLVMArrayType2(g->i16, (uint64_t)x->dim_v);
    Val none = LLVMGetNamedGlobal(g->module, name);
    if (!none) {
        none = LLVMAddGlobal(g->module, t, name);
        LLVMSetInitializer(none, LLVMConstNull(t));
        LLVMSetGlobalConstant(none, true);
        LLVMSetLinkage(none, LLVMInternalLinkage);
    }
    return select_of(g, less(g, slot, end), row, none);
}

static Val stored_row(kgen *x, Val slot) { return keys_stored_row(x, x->stored_values, slot); }

/* Elements that are loaded at a time. The last ones of a row may be some of those before them as well. */
static uint32_t width(const kgen *x)
{
    uint32_t n = 2 * x->vector;
    while (n > x->dim_v) n /= 2;
    return n;
}

static int64_t place(const kgen *x, int64_t d) { return d + width(x) > x->dim_v ? x->dim_v - width(x) : d; }

static Type values_type(const kgen *x) { return vector_of(x->g->i16, width(x)); }

static Val load_values(kgen *x, Val row, int64_t d) { return load(x->g, values_type(x), at(x->g, x->g->i16, row, c64(x->g, d)), 2); }

Val pairs_none_extreme(kgen *x) { return LLVMConstNull(values_type(x)); }

/* Magnitudes, twice: what is not finite is 0xff00 or more. */
static Val more_extreme(kgen *x, Val v, Val most)
{
    Type t = values_type(x);
    return intrinsic(x->g, "llvm.umax", &t, 1, (Val[]){LLVMBuildShl(x->g->b, v, int_like(t, 1), ""), most}, 2);
}

static Val is_extreme(kgen *x, Val most)
{
    gen *g = x->g;
    Val lanes = LLVMBuildICmp(g->b, LLVMIntUGE, most, int_like(values_type(x), 0xff00), "");
    return LLVMBuildIsNotNull(g->b, LLVMBuildBitCast(g->b, lanes, LLVMIntTypeInContext(g->context, width(x)), ""), "");
}

void pairs_of_values(kgen *x, const piece *p, Val slot, Val *most)
{
    gen *g = x->g;
    Val next = add(g, slot, c64(g, 1)), even = stored_row(x, slot), odd = stored_row(x, next), pair = LLVMBuildUDiv(g->b, slot, c64(g, 2), "");
    if (p->narrow) odd = pairs_partner(x, odd, next, p->n);
    for (int64_t i = 0, d; i < x->dim_v; i += width(x)) {
        Val a = load_values(x, even, d = place(x, i)), b = load_values(x, odd, d);
        for (uint32_t half = 0; half < 2; half++) store(g, interleave(g, a, b, half), pairs_at(x, pair, c64(g, d + half * width(x) / 2)), 4);
        if (most) *most = more_extreme(x, b, more_extreme(x, a, *most));
    }
}

/* ---- mending ------------------------------------------------------------------------------------------------------------------- */

void pairs_mend(kgen *x, const piece *p, Val most)
{
    gen *g = x->g;
    Block some = block(g), done = block(g);
    branch(g, is_extreme(x, most), some, done);
    go(g, some);
    shared_call_block(x, SHARED_mend, &(few_piece){.lane = p->s, .rows = c64(g, p->nv * x->vector), .step = c64(g, 0), .runs = c64(g, 0), .n = p->n});
    jump(g, done);
    go(g, done);
}

static Val row_is_extreme(kgen *x, Val row)
{
    Val most = pairs_none_extreme(x);
    for (int64_t d = 0; d < x->dim_v; d += width(x)) most = more_extreme(x, load_values(x, row, place(x, d)), most);
    return is_extreme(x, most);
}

/* The slot's half of words. */
static Val half_of(kgen *x, Val words, Val is_odd)
{
    gen *g = x->g;
    Type t = LLVMTypeOf(words);
    Val upper = LLVMBuildAnd(g->b, words, int_like(t, 0xffff0000), "");
    return LLVMBuildBitCast(g->b, select_of(g, is_odd, upper, LLVMBuildShl(g->b, words, int_like(t, 16), "")), x->vf, "");
}

static void add_row(kgen *x, const few_piece *p, Val slot, Val row, Val is_odd)
{
    gen *g = x->g;
    loop l, ld;
    Val pair = LLVMBuildUDiv(g->b, slot, c64(g, 2), ""), from = loop_begin(g, &l, c64(g, 0), NULL, 0), lane = add(g, p->lane, from);
    Val word = LLVMBuildBitCast(g->b, load_lanes(x, x->scores, row_of_lanes(x, pair, lane)), vector_of(g->i32, x->vector), "");
    Val weight = half_of(x, word, is_odd), seen = body_load_seen(x, slot, LLVMBuildUDiv(g->b, from, c64(g, x->vector), ""));
    Val d = loop_begin(g, &ld, c64(g, 0), NULL, 0), at_out = row_of_lanes(x, d, lane), o = load_lanes(x, x->out, at_out);
    Val v = splat(g, half_to_float(g, load(g, g->i16, at(g, g->i16, row, d), 2), DTYPE_BF16), x->vector);
    store_lanes(x, select_of(g, seen, fmadd(g, v, weight, o), o), x->out, at_out);
    loop_end(g, &ld, c64(g, 1), c64(g, x->dim_v));
    loop_end(g, &l, c64(g, x->vector), p->rows);
}

static void clear_values(kgen *x, Val slot, Val is_odd)
{
    gen *g = x->g;
    loop l;
    Val pair = LLVMBuildUDiv(g->b, slot, c64(g, 2), ""), upper = select_of(g, is_odd, c64(g, 2), c64(g, 0)), d = loop_begin(g, &l, c64(g, 0), NULL, 0);
    store(g, LLVMConstNull(g->i16), byte_at(g, pairs_at(x, pair, d), upper), 2);
    loop_end(g, &l, c64(g, 1), c64(g, x->dim_v));
}

void pairs_write_mend(kgen *x)
{
    gen *g = x->g;
    loop l;
    const few_piece p = shared_block(x);
    Val slot = loop_begin(g, &l, c64(g, 0), NULL, 0), row = stored_row(x, slot);
    Val is_odd = LLVMBuildTrunc(g->b, slot, g->i1, "");
    Block mend = block(g), next = block(g);
    branch(g, row_is_extreme(x, row), mend, next);
    go(g, mend);
    add_row(x, &p, slot, row, is_odd);
    clear_values(x, slot, is_odd);
    jump(g, next);
    go(g, next);
    loop_end(g, &l, c64(g, 1), p.n);
}
