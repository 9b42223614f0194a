/* few_weights.c - softmax of a block of keys for a few rows: the new maxima, O and sums brought to them, weights.
 *
 * A vector holds the scores of one key for as many rows as it has lanes; or, where there are at most few_rows rows and no map or mask has
 * to see them so, of several keys for few_rows rows: then lane i is row i % few_rows. */
#include "backends/cpu/kernel_gen.h"

#include <math.h>

/* ---- O to the new maxima ------------------------------------------------------------------------------------------------------------- */

static Val row_factor(kgen *x, Val row) { return splat(x->g, load(x->g, x->g->f32, ws_float(x, x->few_factor, row), 4), x->vector); }

static void rescale_rows(kgen *x, const few_piece *p)
{
    gen *g = x->g;
    loop lr, ld;
    Val row = loop_begin(g, &lr, c64(g, 0), NULL, 0), by = row_factor(x, row);
    Val d = loop_begin(g, &ld, c64(g, 0), NULL, 0), o = few_panel_at(x, x->few_out, add(g, p->lane, row), x->dim_v, d);
    store(g, LLVMBuildFMul(g->b, load(g, x->vf, o, x->vector * 4), by, ""), o, x->vector * 4);
    loop_end(g, &ld, c64(g, x->vector), c64(g, few_row(x, x->dim_v)));
    loop_end(g, &lr, c64(g, 1), p->rows);
}

static Val any_lane(kgen *x, Val lanes)
{
    gen *g = x->g;
    return LLVMBuildIsNotNull(g->b, LLVMBuildBitCast(g->b, lanes, LLVMIntTypeInContext(g->context, x->vector), ""), "");
}

/* What the sums so far are multiplied with: ones where no maximum grew. m, grown: lanes as the scores have them. */
static Val rescale(kgen *x, const few_piece *p, Val m, Val grown)
{
    gen *g = x->g;
    Block same = here(g), grow = block(g), done = block(g);
    branch(g, any_lane(x, LLVMBuildFCmp(g->b, LLVMRealOGT, grown, m, "")), grow, done);
    go(g, grow);
    Val decay = math_exp2_falling(g, LLVMBuildFSub(g->b, m, safe_max(x, grown), ""));
    store_lanes(x, decay, x->few_factor, c64(g, 0));
    rescale_rows(x, p);
    Block grew = here(g);
    jump(g, done);
    go(g, done);
    Val by = LLVMBuildPhi(g->b, x->vf, "");
    LLVMAddIncoming(by, (Val[]){constant_like(x->vf, 1), decay}, (Block[]){same, grew}, 2);
    return by;
}

/* Scores to weights, n keys of which a vector holds some; returns `sum` and all of them. */
static Val exponentials(kgen *x, const few_piece *p, Val m, Val sum, uint32_t keys)
{
    gen *g = x->g;
    loop l;
    m = safe_max(x, m);
    Val slot = loop_begin(g, &l, c64(g, 0), &sum, 1), s = few_score_at(x, p, slot, c64(g, 0));
    Val e = math_exp2_falling(g, LLVMBuildFSub(g->b, load(g, x->vf, s, x->vector * 4), m, ""));
    store(g, e, s, x->vector * 4);
    sum = LLVMBuildFAdd(g->b, sum, e, "");
    loop_end(g, &l, c64(g, keys), p->n);
    return sum;
}

static Val largest(kgen *x, const few_piece *p, Val m, uint32_t keys)
{
    gen *g = x->g;
    loop l;
    Val slot = loop_begin(g, &l, c64(g, 0), &m, 1);
    m = fmax_of(g, load(g, x->vf, few_score_at(x, p, slot, c64(g, 0)), x->vector * 4), m);
    loop_end(g, &l, c64(g, keys), p->n);
    return m;
}

/* ---- one key a vector ------------------------------------------------------------------------------------------------------------------ */

void few_write_peaks(kgen *x)
{
    few_piece p = shared_block(x);
    p.step = c64(x->g, x->vector);
    store_lanes(x, largest(x, &p, load_lanes(x, x->new_max, p.lane), 1), x->new_max, p.lane);
}

void few_write_weights(kgen *x)
{
    gen *g = x->g;
    few_piece p = shared_block(x);
    p.step = c64(g, x->vector);
    Val m = load_lanes(x, x->max, p.lane), grown = load_lanes(x, x->new_max, p.lane), by = rescale(x, &p, m, grown);
    Val sum = LLVMBuildFMul(g->b, load_lanes(x, x->sum, p.lane), by, "");
    store_lanes(x, grown, x->max, p.lane);
    store_lanes(x, exponentials(x, &p, grown, sum, 1), x->sum, p.lane);
}

/* ---- packed ---------------------------------------------------------------------------------------------------------------------------- */

static Val shuffled(kgen *x, Val v, uint32_t n, uint32_t from_lane(uint32_t, uint32_t), uint32_t unit)
{
    gen *g = x->g;
    Val pick[16];
    for (uint32_t i = 0; i < n; i++) pick[i] = c32(g, from_lane(i, unit));
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(pick, n), "");
}

static uint32_t repeated(uint32_t i, uint32_t unit) { return i % unit; }
static uint32_t exchanged(uint32_t i, uint32_t unit) { return i ^ unit; }

static Val load_rows(kgen *x, uint64_t lanes, const few_piece *p)
{
    uint32_t R = x->k->schedule.few_rows;
    if (R == 1) return splat(x->g, load(x->g, x->g->f32, ws_float(x, lanes, p->lane), 4), x->vector);
    return shuffled(x, load(x->g, vector_of(x->g->f32, R), ws_float(x, lanes, p->lane), 4), x->vector, repeated, R);
}

static void store_rows(kgen *x, Val v, uint64_t lanes, const few_piece *p)
{
    uint32_t R = x->k->schedule.few_rows;
    v = R == 1 ? LLVMBuildExtractElement(x->g->b, v, c32(x->g, 0), "") : shuffled(x, v, R, repeated, R);
    store(x->g, v, ws_float(x, lanes, p->lane), 4);
}

static Val add_floats(gen *g, Val a, Val b) { return LLVMBuildFAdd(g->b, a, b, ""); }

/* Over the keys of a vector: each lane gets its row's. */
static Val over_keys(kgen *x, Val v, Val combine(gen *, Val, Val))
{
    for (uint32_t unit = x->vector / 2; unit >= x->k->schedule.few_rows; unit /= 2)
        v = combine(x->g, shuffled(x, v, x->vector, exchanged, unit), v);
    return v;
}

/* The last vector is filled up with keys that nobody sees. */
void few_write_packed(kgen *x)
{
    gen *g = x->g;
    few_piece p = shared_block(x);
    uint32_t keys = x->vector / x->k->schedule.few_rows;
    p.step = c64(g, x->k->schedule.few_rows);
    store(g, constant_like(x->vf, -INFINITY), few_score_at(x, &p, p.n, c64(g, 0)), 4);
    Val m = load_rows(x, x->max, &p), grown = over_keys(x, largest(x, &p, m, keys), fmax_of), by = rescale(x, &p, m, grown);
    Val sum = LLVMBuildFMul(g->b, load_rows(x, x->sum, &p), by, "");
    store_rows(x, grown, x->max, &p);
    store_rows(x, grown, x->new_max, &p);
    Val weights = over_keys(x, exponentials(x, &p, grown, LLVMConstNull(x->vf), keys), add_floats);
    store_rows(x, add_floats(g, sum, weights), x->sum, &p);
}

/* ---- pairs of bf16 --------------------------------------------------------------------------------------------------------------------- */

/* Of the keys of a vector, every second one. */
static Val every_second(kgen *x, Val v, uint32_t first)
{
    gen *g = x->g;
    Val pick[16];
    uint32_t R = x->k->schedule.few_rows, n = x->vector / 2;
    for (uint32_t i = 0; i < n; i++) pick[i] = c32(g, (i / R * 2 + first) * R + i % R);
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(x->vf), LLVMConstVector(pick, n), "");
}

static void pair_packed(kgen *x, const few_piece *given)
{
    gen *g = x->g;
    loop l;
    few_piece p = *given;
    p.step = c64(g, x->k->schedule.few_rows);
    Val slot = loop_begin(g, &l, c64(g, 0), NULL, 0), v = load(g, x->vf, few_score_at(x, &p, slot, c64(g, 0)), 4);
    Val to = few_score_at(x, &p, LLVMBuildUDiv(g->b, slot, c64(g, 2), ""), c64(g, 0));
    store(g, pairs_of_weights(x, every_second(x, v, 0), every_second(x, v, 1)), to, 4);
    loop_end(g, &l, c64(g, x->vector / x->k->schedule.few_rows), p.n);
}

/* An odd last key goes with one that nobody sees. */
static void pair_spread(kgen *x, const few_piece *given)
{
    gen *g = x->g;
    loop l;
    few_piece p = *given;
    Val zero = c64(g, 0), one = c64(g, 1);
    p.step = c64(g, x->vector);
    store(g, LLVMConstNull(x->vf), few_score_at(x, &p, p.n, zero), x->vector * 4);
    Val slot = loop_begin(g, &l, zero, NULL, 0), even = load(g, x->vf, few_score_at(x, &p, slot, zero), x->vector * 4);
    Val odd = load(g, x->vf, few_score_at(x, &p, add(g, slot, one), zero), x->vector * 4);
    store(g, pairs_of_weights(x, even, odd), few_score_at(x, &p, LLVMBuildUDiv(g->b, slot, c64(g, 2), ""), zero), x->vector * 4);
    loop_end(g, &l, c64(g, 2), p.n);
}

void few_pair_weights(kgen *x, const few_piece *p)
{
    gen *g = x->g;
    if (!few_packs(x)) {
        pair_spread(x, p);
        return;
    }
    Block packed = block(g), spread = block(g), done = block(g);
    branch(g, few_is_packed(x, p), packed, spread);
    go(g, packed);
    pair_packed(x, p);
    jump(g, done);
    go(g, spread);
    pair_spread(x, p);
    jump(g, done);
    go(g, done);
}
