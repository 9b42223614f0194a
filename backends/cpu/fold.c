/* fold.c - from the scores of a block to O: O rescaled where a maximum has grown, weights and their sums, O^T += V^T P^T.
 *
 * It knows no expression: functions that the kinds of one shape share (shared.c), for all lanes, for a pair of vectors, for one; the narrow ones once
 * more for keys that not every lane sees. */
#include "backends/cpu/kernel_gen.h"

#include <math.h>

/* ---- decay, rescale ----------------------------------------------------------------------------------------------------------------- */

static void scale(kgen *x, const piece *p, uint64_t what, Val rows, const Val *factor)
{
    gen *g = x->g;
    guarded l;
    Val i = guarded_begin(g, &l, c64(g, 0), rows);
    for (uint32_t j = 0; j < p->nv; j++) {
        Val index = row_of_lanes(x, i, body_lane(x, p, c64(g, 0), j));
        store_lanes(x, LLVMBuildFMul(g->b, load_lanes(x, what, index), factor[j], ""), what, index);
    }
    guarded_end(g, &l, c64(g, 1));
}

void fold_rescale(kgen *x, const piece *p, Val weighed)
{
    gen *g = x->g;
    Val any = NULL, m[16], grown[16], decay[16];
    ATTNC_CHECK(p->nv <= 16);
    for (uint32_t j = 0; j < p->nv; j++) {
        Val lane = body_lane(x, p, c64(g, 0), j);
        m[j] = load_lanes(x, x->max, lane);
        grown[j] = load_lanes(x, x->new_max, lane);
        Val more = LLVMBuildFCmp(g->b, LLVMRealOGT, grown[j], m[j], "");
        any = any ? LLVMBuildOr(g->b, any, more, "") : more;
    }
    Val bits = LLVMBuildBitCast(g->b, any, LLVMIntTypeInContext(g->context, x->vector), "");
    Block grow = block(g), done = block(g);
    branch(g, LLVMBuildIsNotNull(g->b, bits, ""), grow, done);
    go(g, grow);
    for (uint32_t j = 0; j < p->nv; j++) {
        Val lane = body_lane(x, p, c64(g, 0), j);
        decay[j] = math_exp2_falling(g, LLVMBuildFSub(g->b, m[j], safe_max(x, grown[j]), ""));
        store_lanes(x, LLVMBuildFMul(g->b, load_lanes(x, x->sum, lane), decay[j], ""), x->sum, lane);
        store_lanes(x, grown[j], x->max, lane);
    }
    scale(x, p, x->out, c64(g, x->dim_v), decay);
    if (weighed) scale(x, p, x->scores, weighed, decay);
    jump(g, done);
    go(g, done);
}

/* ---- exp, rowsum ---------------------------------------------------------------------------------------------------------------------- */

static Val weight_of(kgen *x, Val key, Val lane, Val m, bool rounded)
{
    gen *g = x->g;
    Val s = LLVMBuildFSub(g->b, load_lanes(x, x->scores, row_of_lanes(x, key, lane)), m, "");
    return rounded ? math_exp2_falling_short(g, s) : math_exp2_falling(g, s);
}

/* Of Q vectors from `part` on, keys from `first` on. convert: V meanwhile; returns the magnitudes that pairs_of_values() gathers, where somebody may not see a key. */
static Val weights_of(kgen *x, const piece *p, Val first, Val part, uint32_t Q, bool convert)
{
    gen *g = x->g;
    loop l;
    const bool pairs = x->dot, gathers = convert && pairs && p->masked;
    Val m[4], sum[5], *most = gathers ? &sum[Q] : NULL;
    if (gathers) *most = pairs_none_extreme(x);
    for (uint32_t j = 0; j < Q; j++) {
        Val lane = body_lane(x, p, part, j);
        m[j] = safe_max(x, load_lanes(x, x->max, lane));
        sum[j] = load_lanes(x, x->sum, lane);
        /* an odd number of keys: the last one's partner */
        if (pairs && p->narrow) store_lanes(x, constant_like(x->vf, -INFINITY), x->scores, row_of_lanes(x, p->n, lane));
    }
    Val i = loop_begin(g, &l, first, sum, gathers ? Q + 1 : Q);
    for (uint32_t j = 0; j < Q; j++) {
        Val lane = body_lane(x, p, part, j), e = weight_of(x, i, lane, m[j], pairs), odd = NULL;
        if (pairs) odd = weight_of(x, add(g, i, c64(g, 1)), lane, m[j], true);
        sum[j] = LLVMBuildFAdd(g->b, sum[j], pairs ? LLVMBuildFAdd(g->b, e, odd, "") : e, "");
        Val to = pairs ? LLVMBuildUDiv(g->b, i, c64(g, 2), "") : i; /* a pair takes the place of a score that is not needed any more */
        store_lanes(x, pairs ? pairs_of_weights(x, e, odd) : e, x->scores, row_of_lanes(x, to, lane));
    }
    if (convert && pairs) pairs_of_values(x, p, i, most);
    if (convert && !pairs) keys_convert_value(x, i);
    loop_end(g, &l, c64(g, pairs ? 2 : 1), p->n);
    for (uint32_t j = 0; j < Q; j++) store_lanes(x, sum[j], x->sum, body_lane(x, p, part, j));
    return gathers ? *most : NULL;
}

/* Converting waits for rows that come into the first-level cache, and stores; products and exponentials wait for arithmetic. So K is converted before
 * the products of its group, V beside the first exponentials, and not in loops of their own. (Measured, 4096 tokens, D 64 / 128, shares of
 * the burst: bf16 in pairs .77 -> .80 and .82 -> .85, f16 .845 -> .865 and .87 -> .885; V beside the products .855 and .875.) */
static void weights(kgen *x, const piece *p, Val first)
{
    passes w;
    const uint32_t most = target_get(x->k->schedule.target)->registers < 32 ? 2 : 4, Q = p->nv < most ? p->nv : most;
    Val magnitudes = x->convert ? weights_of(x, p, first, c64(x->g, 0), Q, true) : NULL;
    if (magnitudes) pairs_mend(x, p, magnitudes);
    if (x->convert && p->nv == Q) return;
    weights_of(x, p, first, passes_begin(x, &w, p, x->convert ? Q : 0, Q), Q, false);
    passes_end(x, &w, p, Q);
}

/* ---- O += P V --------------------------------------------------------------------------------------------------------------------------- */

/* o + weight * v for the lanes that see the key; used: of body_load_seen(), NULL: all. What v holds for the others may be NaN; their
 * weight is 0. */
static Val accumulate(kgen *x, Val weight, Val used, Val v, Val o)
{
    gen *g = x->g;
    if (!used) return fmadd(g, v, weight, o);
    if (g->target->masked) return select_of(g, used, fmadd(g, v, weight, o), o);
    Type bits = vector_of(g->i32, x->vector);
    v = LLVMBuildBitCast(g->b, LLVMBuildAnd(g->b, LLVMBuildBitCast(g->b, v, bits, ""), used, ""), x->vf, "");
    return fmadd(g, v, weight, o);
}

/* R dims from d, of a key or a pair. */
static void add_values(kgen *x, const piece *p, Val part, Val slot, Val d, uint32_t R, Val *sum)
{
    gen *g = x->g;
    const bool pairs = x->dot;
    uint32_t Q = p->pv_vectors;
    Val weight[8], used[8] = {0}, row = NULL;
    if (!pairs) row = load(g, g->ptr, at(g, g->ptr, ws_at(x, x->value_ptr), slot), 8);
    for (uint32_t j = 0; j < Q; j++) {
        weight[j] = load_lanes(x, x->scores, row_of_lanes(x, slot, body_lane(x, p, part, j)));
        if (p->masked && !pairs) used[j] = body_load_seen(x, slot, c64(g, j));
    }
    for (uint32_t r = 0; r < R; r++) {
        Val dim = add(g, d, c64(g, r));
        Val v = pairs ? body_broadcast(x, pairs_at(x, slot, dim), c64(g, 0), 4) : body_broadcast(x, row, dim, 4);
        for (uint32_t j = 0; j < Q; j++) {
            Val *o = &sum[r * Q + j];
            *o = pairs ? pairs_product(x, v, weight[j], *o) : accumulate(x, weight[j], used[j], v, *o);
        }
    }
}

/* R dims from d. Wide pieces take whole key steps: two keys, or pairs of them, at a time when that fits. Sums begin with nothing: multiply-adds that
 * wait for O would hold up those behind them. (A loop like this in L2: 1.046 of the time of its multiply-adds, 1.013 where O is added at the end.) */
static void output_tile(kgen *x, const piece *p, Val d, uint32_t R)
{
    gen *g = x->g;
    passes w;
    loop l;
    const bool pairs = x->dot;
    uint32_t Q = p->pv_vectors, U = p->narrow || p->keys % (pairs ? 4 : 2) ? 1 : 2;
    Val sum[MAX_CARRIED], part = passes_begin(x, &w, p, 0, Q);
    for (uint32_t i = 0; i < R * Q; i++) sum[i] = LLVMConstNull(x->vf);
    Val key = loop_begin(g, &l, c64(g, 0), sum, R * Q);
    for (uint32_t u = 0; u < U; u++) add_values(x, p, part, add(g, key, c64(g, u)), d, R, sum);
    loop_end(g, &l, c64(g, U), pairs ? LLVMBuildUDiv(g->b, add(g, p->n, c64(g, 1)), c64(g, 2), "") : p->n);
    for (uint32_t i = 0; i < R * Q; i++) {
        Val index = row_of_lanes(x, add(g, d, c64(g, i / Q)), body_lane(x, p, part, i % Q));
        store_lanes(x, LLVMBuildFAdd(g->b, load_lanes(x, x->out, index), sum[i], ""), x->out, index);
    }
    passes_end(x, &w, p, Q);
}

static void output(kgen *x, const piece *p)
{
    gen *g = x->g;
    loop l;
    int64_t tail = x->dim_v % p->dims, whole = x->dim_v - tail;
    if (whole) {
        Val d = loop_begin(g, &l, c64(g, 0), NULL, 0);
        output_tile(x, p, d, p->dims);
        loop_end(g, &l, c64(g, p->dims), c64(g, whole));
    }
    if (tail) output_tile(x, p, c64(g, whole), (uint32_t)tail);
}

/* ---- the functions ---------------------------------------------------------------------------------------------------------------------- */

void fold_block(kgen *x, const piece *p, Val late)
{
    static const shared_id narrow[2][2] = {{SHARED_fold_single, SHARED_fold_pair}, {SHARED_fold_seen_single, SHARED_fold_seen_pair}};
    shared_call_fold(x, p->narrow ? narrow[p->masked][p->nv > 1] : SHARED_fold_wide, p->s, late, p->n);
}

/* Masked where the kind's narrow pieces are: then the function has the name for it. */
static void write_narrow(kgen *x, uint32_t vectors)
{
    const fold_piece f = shared_fold(x);
    piece p = body_narrow_piece(x, f.lane, vectors);
    p.n = f.n;
    fold_rescale(x, &p, NULL);
    weights(x, &p, c64(x->g, 0));
    output(x, &p);
}

void fold_write_single(kgen *x) { write_narrow(x, 1); }
void fold_write_pair(kgen *x) { write_narrow(x, x->narrow_vectors); }

/* Behind lagged scores. */
static void weigh_late(kgen *x, const piece *p, Val late)
{
    gen *g = x->g;
    Block some = block(g), done = block(g);
    branch(g, less(g, late, p->n), some, done);
    go(g, some);
    fold_rescale(x, p, late);
    jump(g, done);
    go(g, done);
    weights(x, p, smin(g, late, sub(g, p->n, c64(g, p->keys))));
}

void fold_write_wide(kgen *x)
{
    const fold_piece f = shared_fold(x);
    piece p = body_wide_piece(x);
    p.n = f.n;
    if (lagged_fits(x)) weigh_late(x, &p, f.late);
    else fold_rescale(x, &p, NULL), weights(x, &p, c64(x->g, 0));
    output(x, &p);
}
