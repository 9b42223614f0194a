/* few_int8_values.c - O += P V of few rows with int8 values, in integers (docs/quant.md, "Steps of weights").
 *
 * The weights of a row and a block of keys, each times the scale of its value, become whole steps of the largest of them / 32767. Values
 * become words by adding 128, which the sum of the steps takes away again. Two keys at a time, whose rows are shuffled so that a dword
 * holds a dim of each:
 *
 *     O += largest / 32767 * (<steps, v + 128> - 128 * sum of steps)
 *
 * The sums of a block are exact and fit 32 bits. Within each 64 dims O lies as the shuffles leave it, until its item ends. */
#include "backends/cpu/kernel_gen.h"

enum { STEPS = 32767, CHUNK = 64, KEYS = 4, MOST_ROWS = 4 }; /* CHUNK: bytes of a vector; KEYS: taken at a time, in two pairs */

void int8_lay_out_values(kgen *x)
{
    x->value_steps = x->digits && x->dim_v % CHUNK == 0;
    if (!x->value_steps) return;
    x->weight_steps = ws_take(x, (FEW_BLOCK + x->vector) * x->vector * 2);
    x->weight_sum = ws_take(x, x->vector * 4);
    x->weight_most = ws_take(x, x->vector * 4);
}

static Type ints(const kgen *x) { return vector_of(x->g->i32, x->vector); }
static Val bits_of(kgen *x, Val v, Type t) { return LLVMBuildBitCast(x->g->b, v, t, ""); }

static Val row_at(kgen *x, const few_piece *p, Val slot, uint32_t i)
{
    gen *g = x->g;
    Val entry = at(g, g->ptr, ws_at(x, x->few_order), add(g, few_values_place(x, p->n), slot));
    return load(g, g->ptr, at(g, g->ptr, entry, c64(g, i)), 8);
}

/* ---- weights ---------------------------------------------------------------------------------------------------------------------------- */

/* Of `keys` keys from slot on, each for vector / keys lanes. */
static Val scales_of(kgen *x, const few_piece *p, Val slot, uint32_t keys)
{
    gen *g = x->g;
    uint32_t lane[16];
    Val some = LLVMGetPoison(x->vf);
    for (uint32_t i = 0; i < keys; i++)
        some = LLVMBuildInsertElement(g->b, some, keys_row_scale(x, row_at(x, p, slot, i), c64(g, 0), true), c32(g, i), "");
    for (uint32_t i = 0; i < x->vector; i++) lane[i] = i / (x->vector / keys);
    return permuted(x->g, some, NULL, lane, x->vector);
}

/* No sign: what is NaN is the largest of all. */
static Val larger_bits(gen *g, Val a, Val b) { return select_of(g, LLVMBuildICmp(g->b, LLVMIntUGT, a, b, ""), a, b); }

/* Weights take the scales of their values. Who does not see a key keeps 0, whatever its scale is. Returns the largest, as bits, of each
 * lane; slots behind the last key are 0. */
static Val fold_scales(kgen *x, const few_piece *p, uint32_t lanes, bool masked)
{
    gen *g = x->g;
    loop l;
    uint32_t keys = x->vector / lanes;
    Val most = LLVMConstNull(ints(x)), zero = c64(g, 0);
    for (uint32_t i = 0; i < KEYS; i += keys) store(g, LLVMConstNull(x->vf), few_score_at(x, p, add(g, p->n, c64(g, i)), zero), 4);
    Val slot = loop_begin(g, &l, zero, &most, 1), to = few_score_at(x, p, slot, zero);
    Val w = LLVMBuildFMul(g->b, load(g, x->vf, to, x->vector * 4), scales_of(x, p, slot, keys), "");
    Val bits = bits_of(x, w, ints(x));
    if (masked) bits = LLVMBuildAnd(g->b, bits, load(g, ints(x), few_seen_at(x, slot, zero), x->vector * 4), "");
    store(g, bits, to, x->vector * 4);
    most = larger_bits(g, bits, most);
    loop_end(g, &l, c64(g, keys), p->n);
    return most;
}

/* To the nearest; what is no number becomes a word whose lower half is 0. */
static Val nearest(kgen *x, Val v)
{
    gen *g = x->g;
    Val args[] = {v, LLVMConstNull(ints(x)), LLVMConstInt(g->i16, 0xffff, 0), c32(g, 4)};
    return intrinsic(g, "llvm.x86.avx512.mask.cvtps2dq.512", NULL, 0, args, 4);
}

static Val joined(kgen *x, const Val *v, uint32_t n)
{
    uint32_t lane[64] = {0};
    if (n == 1) return v[0];
    Val a = joined(x, v, n / 2), b = joined(x, v + n / 2, n / 2);
    for (uint32_t i = 0; i < n * x->vector; i++) lane[i] = i;
    return permuted(x->g, a, b, lane, n * x->vector);
}

static Val steps_at(kgen *x, const few_piece *p, Val slot)
{
    return byte_at(x->g, ws_at(x, x->weight_steps), mul(x->g, slot, mul(x->g, p->step, c64(x->g, 2))));
}

/* Weights to steps, for each pair of keys a dword for each row; returns their sums in lanes as the weights have them. by: two factors that
 * make steps of a weight; one alone might not be a number. */
static Val put_steps(kgen *x, const few_piece *p, uint32_t lanes, const Val by[2])
{
    gen *g = x->g;
    loop l;
    Val sum = LLVMConstNull(ints(x)), slot = loop_begin(g, &l, c64(g, 0), &sum, 1), v[4];
    uint32_t n = lanes > KEYS ? lanes / KEYS : 1, keys = n > 1 ? KEYS : x->vector / lanes, lane[64];
    for (uint32_t i = 0; i < n; i++) {
        Val w = load(g, x->vf, few_score_at(x, p, slot, c64(g, i * x->vector)), 4);
        w = nearest(x, LLVMBuildFMul(g->b, LLVMBuildFMul(g->b, w, by[0], ""), by[1], ""));
        sum = LLVMBuildAdd(g->b, sum, w, "");
        v[i] = LLVMBuildTrunc(g->b, w, vector_of(g->i16, x->vector), "");
    }
    for (uint32_t i = 0; i < keys * lanes; i++) lane[i] = (i / (2 * lanes) * 2 + i % 2) * lanes + i / 2 % lanes;
    store(g, permuted(x->g, joined(x, v, n), NULL, lane, keys * lanes), steps_at(x, p, slot), 4);
    loop_end(g, &l, c64(g, keys), p->n);
    return sum;
}

static Val added(gen *g, Val a, Val b) { return LLVMBuildAdd(g->b, a, b, ""); }

/* Over the keys that lie side by side: each lane gets its row's. */
static Val over_keys(kgen *x, Val v, uint32_t lanes, Val combine(gen *, Val, Val))
{
    uint32_t lane[16];
    for (uint32_t unit = x->vector / 2; unit >= lanes; unit /= 2) {
        for (uint32_t i = 0; i < x->vector; i++) lane[i] = i ^ unit;
        v = combine(x->g, permuted(x->g, v, NULL, lane, x->vector), v);
    }
    return v;
}

/* lanes: of a key. A largest weight of 0 makes steps of 0 out of what is no number. */
static void steps_of_weights(kgen *x, const few_piece *given, uint32_t lanes, bool masked)
{
    gen *g = x->g;
    few_piece p = *given;
    p.step = c64(g, lanes);
    Val most = bits_of(x, over_keys(x, fold_scales(x, &p, lanes, masked), lanes, larger_bits), x->vf), by[2];
    Val tiny = LLVMBuildFCmp(g->b, LLVMRealOLT, most, constant_like(x->vf, 0x1p-64), "");
    by[0] = select_of(g, tiny, constant_like(x->vf, 0x1p64), constant_like(x->vf, 1));
    by[1] = LLVMBuildFDiv(g->b, constant_like(x->vf, STEPS), LLVMBuildFMul(g->b, most, by[0], ""), "");
    store_lanes(x, most, x->weight_most, c64(g, 0));
    store(g, over_keys(x, put_steps(x, &p, lanes, by), lanes, added), ws_at(x, x->weight_sum), x->vector * 4);
}

static void make_steps(kgen *x, const few_piece *p, bool masked)
{
    gen *g = x->g;
    if (!few_packs(x) || masked) {
        steps_of_weights(x, p, x->vector, masked);
        return;
    }
    Block packed = block(g), spread = block(g), done = block(g);
    branch(g, few_is_packed(x, p), packed, spread);
    go(g, packed);
    steps_of_weights(x, p, x->k->schedule.few_rows, false);
    jump(g, done);
    go(g, spread);
    steps_of_weights(x, p, x->vector, false);
    jump(g, done);
    go(g, done);
}

/* ---- products --------------------------------------------------------------------------------------------------------------------------- */

/* 64 dims of two keys: v[j] holds four of each 16, as words, of both. */
static void dims_of_pair(kgen *x, const Val line[2], Val *v)
{
    for (uint32_t j = 0; j < 2; j++) {
        Val both = interleave_within(x->g, line[0], line[1], 1, j);
        for (uint32_t i = 0; i < 2; i++) v[2 * j + i] = bits_of(x, interleave_within(x->g, both, LLVMConstNull(LLVMTypeOf(both)), 1, i), ints(x));
    }
}

typedef struct part { /* 64 dims from d on, for some rows */
    Val d, row;
    uint32_t rows;
} part;

/* All parts together ask for V of the next block, in the order in which it lies, and for K of it once more. */
static void fetch_share(kgen *x, const few_piece *p, const part *t, Val slot)
{
    static const uint32_t ahead[] = {FEW_BLOCK, 2 * FEW_BLOCK};
    gen *g = x->g;
    uint32_t parts = (uint32_t)(x->dim_v / CHUNK), rows = KEYS > parts ? KEYS / parts : 1;
    Val first = mul(g, LLVMBuildUDiv(g->b, t->d, c64(g, CHUNK), ""), c64(g, FEW_BLOCK / parts));
    Val place = add(g, few_values_place(x, p->n), add(g, first, LLVMBuildUDiv(g->b, slot, c64(g, parts), "")));
    for (size_t i = 0; i < ATTNC_COUNT(ahead); i++)
        few_fetch_dense(x, add(g, place, c64(g, ahead[i])), c64(g, 0), rows * keys_row_bytes(x, true));
}

static Val row_word(kgen *x, uint64_t of, const part *t, uint32_t row, Type word)
{
    gen *g = x->g;
    return splat(g, load(g, word, at(g, word, ws_at(x, of), add(g, t->row, c64(g, row))), 4), x->vector);
}

static void add_to_out(kgen *x, const few_piece *p, const part *t, Val *sum)
{
    gen *g = x->g;
    for (uint32_t i = 0; i < t->rows; i++) {
        Val most = row_word(x, x->weight_most, t, i, g->f32), lane = add(g, add(g, p->lane, t->row), c64(g, i));
        for (uint32_t j = 0; j < 4; j++) {
            Val o = few_panel_at(x, x->few_out, lane, x->dim_v, add(g, t->d, c64(g, j * x->vector)));
            Val steps = LLVMBuildFMul(g->b, LLVMBuildSIToFP(g->b, sum[i * 4 + j], x->vf, ""), constant_like(x->vf, 1.0 / (double)STEPS), "");
            store(g, fmadd(g, steps, most, load(g, x->vf, o, x->vector * 4)), o, x->vector * 4);
        }
    }
}

/* Two keys by the rows: four vectors of sums for each. */
static void add_pair(kgen *x, const part *t, Val steps, const Val line[2], Val *sum)
{
    gen *g = x->g;
    Type words = vector_of(g->i16, 2 * x->vector);
    Val v[4];
    dims_of_pair(x, line, v);
    for (uint32_t i = 0; i < t->rows; i++) {
        Val w = splat(g, load(g, g->i32, at(g, g->i32, steps, add(g, t->row, c64(g, i))), 4), x->vector);
        for (uint32_t j = 0; j < 4; j++) {
            Val args[] = {sum[i * 4 + j], bits_of(x, v[j], words), bits_of(x, w, words)};
            sum[i * 4 + j] = intrinsic(g, "llvm.x86.avx512.vpdpwssd.512", NULL, 0, args, 3);
        }
    }
}

static void add_part(kgen *x, const few_piece *p, const part *t)
{
    gen *g = x->g;
    loop l;
    Type bytes = vector_of(g->i8, CHUNK);
    Val sum[MAX_CARRIED], line[KEYS];
    for (uint32_t i = 0; i < t->rows * 4; i++)
        sum[i] = i % 4 ? sum[i - 1] : LLVMBuildShl(g->b, LLVMBuildNeg(g->b, row_word(x, x->weight_sum, t, i / 4, g->i32), ""), int_like(ints(x), 7), "");
    Val slot = loop_begin(g, &l, c64(g, 0), sum, t->rows * 4);
    fetch_share(x, p, t, slot);
    for (uint32_t i = 0; i < KEYS; i++)
        line[i] = LLVMBuildXor(g->b, load(g, bytes, byte_at(g, row_at(x, p, slot, i), t->d), 1), int_like(bytes, -128), ""); /* adds 128 */
    for (uint32_t i = 0; i < KEYS; i += 2) add_pair(x, t, steps_at(x, p, add(g, slot, c64(g, i))), line + i, sum);
    loop_end(g, &l, c64(g, KEYS), p->n);
    add_to_out(x, p, t, sum);
}

static void add_tile(kgen *x, const few_piece *p, const few_tile *t, void *ctx)
{
    gen *g = x->g;
    loop l;
    (void)ctx;
    for (uint32_t row = 0; row < t->rows; row += MOST_ROWS) {
        Val d = loop_begin(g, &l, c64(g, 0), NULL, 0);
        add_part(x, p, &(part){d, add(g, t->row, c64(g, row)), t->rows < MOST_ROWS ? t->rows : MOST_ROWS});
        loop_end(g, &l, c64(g, CHUNK), c64(g, x->dim_v));
    }
}

void int8_add_values(kgen *x, const few_piece *p, bool masked)
{
    make_steps(x, p, masked);
    few_each_tile(x, p, add_tile, NULL);
}

/* ---- end -------------------------------------------------------------------------------------------------------------------------------- */

/* 16 bytes of each in turn: the dims in their order. */
static void put_right(kgen *x, Val o)
{
    gen *g = x->g;
    Val v[4], to[4];
    for (uint32_t i = 0; i < 4; i++) v[i] = load(g, x->vf, at(g, g->f32, o, c64(g, i * x->vector)), x->vector * 4);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t lane[32];
        for (uint32_t e = 0; e < 8; e++) lane[e] = e / 4 * x->vector + i * 4 + e % 4;
        Val half[2] = {permuted(x->g, v[0], v[1], lane, 8), permuted(x->g, v[2], v[3], lane, 8)};
        for (uint32_t e = 0; e < 16; e++) lane[e] = e;
        to[i] = permuted(x->g, half[0], half[1], lane, 16);
    }
    for (uint32_t i = 0; i < 4; i++) store(g, to[i], at(g, g->f32, o, c64(g, i * x->vector)), x->vector * 4);
}

void int8_end_values(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val d = loop_begin(g, &l, c64(g, 0), NULL, 0);
    put_right(x, ws_float(x, x->few_out, d));
    loop_end(g, &l, c64(g, CHUNK), mul(g, x->in_use, c64(g, x->dim_v)));
}
