/* few_int8.c - Q K^T of few rows with int8 keys, in integers, where the machine multiplies and adds bytes (docs/quant.md, "Digits").
 *
 * A query becomes whole steps of its largest element / 32512, 16 bits, in two digits of 8 bits: q = step * (256 hi + lo). Keys are made
 * unsigned by adding 128, which the sum of the query's steps takes away again:
 *
 *     <q, k> = step * scale * (256 <hi, k + 128> + <lo, k + 128> - 128 * sum(256 hi + lo))
 *
 * All of it is exact in 32 bits, also where it wraps on the way, as long as the result fits: up to 512 dims.
 *
 * Four keys share a vector: 16 bytes of it are four dims of each. So two steps of a reduction across lanes are shuffles of keys, of which
 * there are fewer than sums. Queries are kept as such vectors want them, each four dims four times. */
#include "backends/cpu/kernel_gen.h"

#include <math.h>

enum { STEPS = 32512, MOST_DIMS = 512, CHUNK = 64, UNROLLED = 256, KEYS = 4, MOST_SUMS = 16 }; /* CHUNK: bytes of a vector; KEYS: that share one */
enum { NEAR = 16 }; /* rows ahead that are asked for once more */

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
    for (int i = 0; i < 2; i++) x->digit[i] = ws_take(x, lanes * (uint64_t)x->dim * KEYS);
    x->digit_step = ws_take(x, lanes * 4);
    x->digit_bias = ws_take(x, lanes * 4);
}

static Type ints(const kgen *x) { return vector_of(x->g->i32, x->vector); }
static Val bits_of(kgen *x, Val v, Type t) { return LLVMBuildBitCast(x->g->b, v, t, ""); }

static Val digit_at(kgen *x, int digit, Val row, Val byte)
{
    return byte_at(x->g, ws_at(x, x->digit[digit]), add(x->g, mul(x->g, row, c64(x->g, x->dim * KEYS)), byte));
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
    *step = select_of(g, finite, LLVMBuildFMul(g->b, largest, constant_like(g->f32, 1.0 / (double)STEPS), ""), constant_like(g->f32, NAN));
    return select_of(g, usable, LLVMBuildFDiv(g->b, constant_like(g->f32, STEPS), largest, ""), LLVMConstNull(g->f32));
}

/* Four dims at a time, four times each, as add_chunk() wants them. */
static void put_digit(kgen *x, int digit, Val row, Val d, Val v)
{
    gen *g = x->g;
    Val bytes = LLVMBuildTrunc(g->b, v, vector_of(g->i8, x->vector), ""), pick[16];
    Val within = LLVMBuildURem(g->b, d, c64(g, CHUNK), ""), chunk = mul(g, sub(g, d, within), c64(g, KEYS));
    for (uint32_t j = 0; j < KEYS; j++) {
        for (uint32_t i = 0; i < x->vector; i++) pick[i] = c32(g, 4 * j + i % 4);
        Val some = LLVMBuildShuffleVector(g->b, bytes, LLVMGetPoison(LLVMTypeOf(bytes)), LLVMConstVector(pick, x->vector), "");
        store(g, some, digit_at(x, digit, row, add(g, add(g, chunk, within), c64(g, j * CHUNK))), x->vector);
    }
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
    Type bytes = vector_of(g->i8, CHUNK);
    Val args[] = {sum, bits_of(x, key, bytes), bits_of(x, q, bytes)};
    return intrinsic(g, "llvm.x86.avx512.vpdpbusd.512", NULL, 0, args, 3);
}

/* 64 dims of four keys: in 16 bytes of v[j] stand dims 4 j .. 4 j + 3 of 16, of each key. */
static void dims_of_keys(kgen *x, const Val *key, Val d, Val *v)
{
    gen *g = x->g;
    Type t = ints(x);
    Val line[KEYS];
    for (uint32_t i = 0; i < KEYS; i++) {
        line[i] = load(g, t, byte_at(g, key[i], d), 1);
        line[i] = LLVMBuildXor(g->b, line[i], int_like(t, (int64_t)0x80808080), ""); /* adds 128 to each */
    }
    for (uint32_t upper = 0; upper < 2; upper++) {
        Val two[] = {interleave_within(g, line[0], line[1], 4, upper), interleave_within(g, line[2], line[3], 4, upper)};
        for (uint32_t i = 0; i < 2; i++) v[2 * upper + i] = bits_of(x, interleave_within(g, two[0], two[1], 8, i), t);
    }
}

/* Keys come by the block and values too: what is asked for is K of the next block, V of this one again, and again K that is read soon,
 * which may have left the first-level cache meanwhile. In equal shares over the steps of a tile: in one go most of it would be dropped. */
static void fetch_share(kgen *x, Val slot, uint32_t keys, uint32_t step)
{
    static const uint32_t ahead[] = {NEAR, FEW_BLOCK, 2 * FEW_BLOCK};
    gen *g = x->g;
    const int64_t row = keys_row_bytes(x, false), all = keys * row, steps = x->dim * KEYS / CHUNK;
    const int64_t from = all * step / steps, to = all * (step + 1) / steps;
    for (size_t i = 0; i < ATTNC_COUNT(ahead); i++)
        few_fetch_dense(x, add(g, slot, c64(g, ahead[i] + from / row)), c64(g, from % row), to - from);
}

/* sum: of each four keys, row and digit. Held after each step: a queue of factors that are loaded early would not fit the registers. */
static void add_chunk(kgen *x, const int8_tile *t, uint32_t step, Val d, Val *sum)
{
    gen *g = x->g;
    const uint32_t rows = t->rows, n = t->keys;
    Val k[2][KEYS], first = mul(g, d, c64(g, KEYS));
    for (uint32_t j = 0; j < n / KEYS; j++) dims_of_keys(x, t->key + j * KEYS, d, k[j]);
    for (uint32_t u = 0; u < KEYS; u++) {
        fetch_share(x, t->slot, n, step + u);
        for (uint32_t i = 0; i < 2 * rows; i++) {
            Val q = load(g, ints(x), digit_at(x, i % 2, add(g, t->lane, c64(g, i / 2)), add(g, first, c64(g, u * CHUNK))), CHUNK);
            for (uint32_t j = 0; j < n / KEYS; j++) sum[j * 2 * rows + i] = dot_bytes(x, sum[j * 2 * rows + i], k[j][u], q);
        }
        hold(g, sum, n / KEYS * rows * 2);
    }
}

/* Vectors of four rows, of four keys each, of sums that lie apart by 16 bytes. */
static void add_across(kgen *x, Val *v, uint32_t n)
{
    gen *g = x->g;
    for (uint32_t pass = 0; pass < 2; pass++, n = (n + 1) / 2)
        for (uint32_t j = 0; j < (n + 1) / 2; j++) {
            uint32_t even[16], odd[16];
            Val a = v[2 * j], b = n > 1 ? v[2 * j + 1] : a;
            for (uint32_t i = 0; i < x->vector; i++) even[i] = i / 4 * 8 + i % 4, odd[i] = even[i] + 4;
            v[j] = LLVMBuildAdd(g->b, permuted(g, a, b, even, x->vector), permuted(g, a, b, odd, x->vector), "");
        }
}

/* In the order of sums: rows of a key side by side. */
static Val in_order(kgen *x, const Val *v, uint32_t rows, uint32_t first, uint32_t n)
{
    uint32_t lane[16], vectors = (rows + 3) / 4;
    Val of[2] = {NULL, NULL};
    for (uint32_t i = 0; i < x->vector; i++) {
        uint32_t sum = (first + i) % n, key = sum / rows, row = sum % rows;
        Val from = v[key / KEYS * vectors + row / 4];
        if (!of[0]) of[0] = from;
        if (from != of[0]) of[1] = from;
        lane[i] = row % 4 * 4 + key % KEYS + (from != of[0] ? x->vector : 0);
    }
    return permuted(x->g, of[0], of[1], lane, x->vector);
}

void int8_products(kgen *x, const int8_tile *tile, Val *to)
{
    gen *g = x->g;
    loop l;
    Type t = ints(x);
    const uint32_t rows = tile->rows, n = tile->keys;
    uint32_t sums = n / KEYS * rows * 2, vectors = (rows + 3) / 4;
    Val sum[MOST_SUMS], v[4];
    ATTNC_CHECK(sums <= MOST_SUMS);
    for (uint32_t i = 0; i < sums; i++) sum[i] = LLVMConstNull(t);
    if (x->dim <= UNROLLED) {
        for (int64_t d = 0; d < x->dim; d += CHUNK) add_chunk(x, tile, (uint32_t)(d * KEYS / CHUNK), c64(g, d), sum);
    } else {
        Val d = loop_begin(g, &l, c64(g, 0), sum, sums);
        add_chunk(x, tile, 0, d, sum);
        loop_end(g, &l, c64(g, CHUNK), c64(g, x->dim));
    }
    for (uint32_t i = 0; i < sums / 2; i++)
        sum[i] = LLVMBuildAdd(g->b, LLVMBuildShl(g->b, sum[2 * i], int_like(t, 8), ""), sum[2 * i + 1], "");
    for (uint32_t j = 0; j < n / KEYS; j++) {
        add_across(x, sum + j * rows, rows);
        for (uint32_t i = 0; i < vectors; i++) v[j * vectors + i] = sum[j * rows + i];
    }
    for (uint32_t first = 0; first < n * rows; first += x->vector) to[first / x->vector] = in_order(x, v, rows, first, n * rows);
}

uint32_t int8_keys(uint32_t rows) { return MOST_SUMS * KEYS / 2 / rows < 2 * KEYS ? MOST_SUMS * KEYS / 2 / rows : 2 * KEYS; }

Val int8_scores(kgen *x, Val lane, uint32_t rows, Val sums)
{
    gen *g = x->g;
    Val bias = few_repeated(x, at(g, g->i32, ws_at(x, x->digit_bias), lane), rows, g->i32);
    Val step = few_repeated(x, ws_float(x, x->digit_step, lane), rows, g->f32);
    Val s = LLVMBuildSIToFP(g->b, LLVMBuildSub(g->b, sums, bias, ""), x->vf, "");
    return LLVMBuildFMul(g->b, s, step, "");
}
