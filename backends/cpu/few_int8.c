/* few_int8.c - Q K^T of few rows with int8 keys, in integers, where the machine multiplies and adds bytes (docs/quant.md, "Digits").
 *
 * A query becomes whole steps of its largest element / 32512, 16 bits, in two digits of 8 bits: q = step * (256 hi + lo). Keys are made
 * unsigned by adding 128, which the sum of the query's steps takes away again:
 *
 *     <q, k> = step * scale * (256 <hi, k + 128> + <lo, k + 128> - 128 * sum(256 hi + lo))
 *
 * All of it is exact in 32 bits, also where it wraps on the way, as long as the result fits: up to 512 dims. */
#include "backends/cpu/kernel_gen.h"

#include <math.h>

enum { STEPS = 32512, MOST_DIMS = 512, CHUNK = 64, UNROLLED = 256 }; /* CHUNK: bytes of a vector */

/* Queries of f32 keep their digits: they may ask for more than 16 bits. */
static bool is_wanted(const kgen *x)
{
    return x->g->target->dot_int8 && keys_fold_scales(x) && x->half && x->vector == CHUNK / 4 && x->dim % CHUNK == 0 && x->dim <= MOST_DIMS;
}

void int8_lay_out(kgen *x)
{
    uint64_t lanes = x->k->schedule.few_lanes + x->vector;
    x->digits = is_wanted(x);
    if (!x->digits) return;
    for (int i = 0; i < 2; i++) x->digit[i] = ws_take(x, lanes * (uint64_t)x->dim);
    x->digit_step = ws_take(x, lanes * 4);
    x->digit_bias = ws_take(x, lanes * 4);
}

static Type ints(const kgen *x) { return vector_of(x->g->i32, x->vector); }
static Val bits_of(kgen *x, Val v, Type t) { return LLVMBuildBitCast(x->g->b, v, t, ""); }

static Val digit_at(kgen *x, int digit, Val row, Val d)
{
    return byte_at(x->g, ws_at(x, x->digit[digit]), add(x->g, mul(x->g, row, c64(x->g, x->dim)), d));
}

/* ---- queries -------------------------------------------------------------------------------------------------------------------------- */

static Val load_panel(kgen *x, Val row, Val d)
{
    return load(x->g, x->vf, few_panel_at(x, x->few_queries, row, x->words, d), x->vector * 4);
}

/* Of a row's magnitudes, as bits: their order is that of numbers, NaN above all. */
static Val largest_bits(kgen *x, Val row)
{
    gen *g = x->g;
    loop l;
    Type t = ints(x);
    Val most = LLVMConstNull(t), d = loop_begin(g, &l, c64(g, 0), &most, 1);
    Val v = LLVMBuildAnd(g->b, bits_of(x, load_panel(x, row, d), t), int_like(t, 0x7fffffff), "");
    most = smax(g, most, v);
    loop_end(g, &l, c64(g, x->vector), c64(g, x->dim));
    return intrinsic(g, "llvm.vector.reduce.smax", &t, 1, &most, 1);
}

/* 1 / step; *step: NaN where an element is no finite number. What is too small to be divided by is 0. */
static Val find_step(kgen *x, Val row, Val *step)
{
    gen *g = x->g;
    Val bits = largest_bits(x, row), largest = bits_of(x, bits, g->f32);
    Val finite = LLVMBuildICmp(g->b, LLVMIntSLT, bits, c32(g, 0x7f800000), "");
    Val usable = LLVMBuildAnd(g->b, finite, LLVMBuildFCmp(g->b, LLVMRealOGT, largest, constant_like(g->f32, 0x1p-112), ""), "");
    *step = select_of(g, finite, LLVMBuildFMul(g->b, largest, constant_like(g->f32, 1.0 / STEPS), ""), constant_like(g->f32, NAN));
    return select_of(g, usable, LLVMBuildFDiv(g->b, constant_like(g->f32, STEPS), largest, ""), LLVMConstNull(g->f32));
}

static void put_digit(kgen *x, int digit, Val row, Val d, Val v)
{
    store(x->g, LLVMBuildTrunc(x->g->b, v, vector_of(x->g->i8, x->vector), ""), digit_at(x, digit, row, d), x->vector);
}

static void load_query(kgen *x, Val row)
{
    gen *g = x->g;
    loop l;
    Type t = ints(x);
    Val step, inverse = splat(g, find_step(x, row, &step), x->vector), sum = LLVMConstNull(t);
    Val d = loop_begin(g, &l, c64(g, 0), &sum, 1), low = constant_like(x->vf, -STEPS);
    Val q = LLVMBuildFMul(g->b, load_panel(x, row, d), inverse, "");
    q = select_of(g, LLVMBuildFCmp(g->b, LLVMRealOGE, q, low, ""), q, low); /* NaN is no integer */
    q = LLVMBuildFPToSI(g->b, intrinsic(g, "llvm.roundeven", &x->vf, 1, &q, 1), t, "");
    sum = add(g, sum, q);
    put_digit(x, 0, row, d, LLVMBuildAShr(g->b, add(g, q, int_like(t, 128)), int_like(t, 8), ""));
    put_digit(x, 1, row, d, q);
    loop_end(g, &l, c64(g, x->vector), c64(g, x->dim));
    sum = intrinsic(g, "llvm.vector.reduce.add", &t, 1, &sum, 1);
    store(g, LLVMBuildShl(g->b, sum, c32(g, 7), ""), at(g, g->i32, ws_at(x, x->digit_bias), row), 4);
    store(g, step, ws_float(x, x->digit_step, row), 4);
}

void int8_load_queries(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val row = loop_begin(g, &l, c64(g, 0), NULL, 0);
    load_query(x, row);
    loop_end(g, &l, c64(g, 1), round_up(g, x->in_use, x->k->schedule.few_rows));
}

/* ---- products ------------------------------------------------------------------------------------------------------------------------- */

static Val dot_bytes(kgen *x, Val sum, Val key, Val q)
{
    gen *g = x->g;
    Val args[] = {sum, key, q};
    return intrinsic(g, "llvm.x86.avx512.vpdpbusd.512", NULL, 0, args, 3);
}

/* 64 dims of each key by those of each row; the type is the instruction's. */
static void add_chunk(kgen *x, int digit, Val d, Val lane, uint32_t rows, const Val *key, uint32_t n, Val *sum)
{
    gen *g = x->g;
    Type bytes = vector_of(g->i8, CHUNK);
    Val q[16];
    for (uint32_t i = 0; i < rows; i++) q[i] = load(g, bytes, digit_at(x, digit, add(g, lane, c64(g, i)), d), CHUNK);
    for (uint32_t j = 0; j < n; j++) {
        Val k = LLVMBuildXor(g->b, load(g, bytes, byte_at(g, key[j], d), 1), int_like(bytes, -128), ""); /* adds 128 */
        for (uint32_t i = 0; i < rows; i++) sum[j * rows + i] = dot_bytes(x, sum[j * rows + i], k, q[i]);
    }
}

static void add_digit(kgen *x, int digit, Val lane, uint32_t rows, const Val *key, uint32_t n, Val *sum)
{
    gen *g = x->g;
    loop l;
    if (x->dim <= UNROLLED) {
        for (int64_t d = 0; d < x->dim; d += CHUNK) add_chunk(x, digit, c64(g, d), lane, rows, key, n, sum);
        return;
    }
    Val d = loop_begin(g, &l, c64(g, 0), sum, n * rows);
    add_chunk(x, digit, d, lane, rows, key, n, sum);
    loop_end(g, &l, c64(g, CHUNK), c64(g, x->dim));
}

void int8_products(kgen *x, Val lane, uint32_t rows, const Val *key, uint32_t n, Val *sum)
{
    Type t = ints(x);
    for (uint32_t i = 0; i < n * rows; i++) sum[i] = LLVMConstNull(t);
    add_digit(x, 0, lane, rows, key, n, sum);
    for (uint32_t i = 0; i < n * rows; i++) sum[i] = LLVMBuildShl(x->g->b, sum[i], int_like(t, 8), "");
    add_digit(x, 1, lane, rows, key, n, sum);
}

Val int8_scores(kgen *x, Val lane, uint32_t rows, Val sums)
{
    gen *g = x->g;
    Val bias = few_repeated(x, at(g, g->i32, ws_at(x, x->digit_bias), lane), rows, g->i32);
    Val step = few_repeated(x, ws_float(x, x->digit_step, lane), rows, g->f32);
    Val s = LLVMBuildSIToFP(g->b, LLVMBuildSub(g->b, sums, bias, ""), x->vf, "");
    return LLVMBuildFMul(g->b, s, step, "");
}
