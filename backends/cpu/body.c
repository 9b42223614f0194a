/* body.c - what a block of keys does to a tile: S^T = K Q^T, the maps and the mask on its way to memory, the running maximum, weights,
 * O^T += V^T P^T.
 *
 * Lanes are query rows: every element of K and V is read in place, once for a register tile, and broadcast; maxima and sums are
 * vertical. A wide piece covers all lanes and knows no mask; a narrow one is a vector of lanes with keys of its own.
 *
 * The phases are those of the IR's body, in its order:
 *     dot.qk, then map*, mask?, rowmax     one pass over register tiles, the maps on the sums before they are stored
 *     decay, rescale                       only when some maximum grew
 *     exp, rowsum                          one pass over S
 *     accum.pv                             register tiles over S and V */
#include "backends/cpu/kernel_gen.h"

#include <math.h>

/* The order in which a body's ops must come; maps and masks between dot.qk and rowmax. */
const char *body_check(const kblock *b)
{
    static const kop_code order[] = {OP_LOAD_K, OP_DOT_QK, OP_MAP,     OP_MASK,     OP_ROWMAX,   OP_DECAY,
                                     OP_EXP,    OP_ROWSUM, OP_LOAD_V, OP_RESCALE,  OP_ACCUM_PV, OP_YIELD};
    size_t place = 0;
    for (size_t i = 0; i < b->ops.n; i++) {
        kop_code c = b->ops.at[i]->code;
        if ((c == OP_MAP || c == OP_MASK) && (place == 2 || place == 3 || place == 4)) {
            place = 4;
            continue;
        }
        size_t at_place = 0;
        while (at_place < ATTNC_COUNT(order) && order[at_place] != c) at_place++;
        if (at_place == ATTNC_COUNT(order) || at_place < place || c == OP_MAP || c == OP_MASK)
            return "the body of a key loop is not one online softmax";
        place = at_place + 1;
    }
    return place == ATTNC_COUNT(order) ? NULL : "the body of a key loop is not one online softmax";
}

static Val lane_of(kgen *x, const piece *p, Val part, uint32_t j) { return add(x->g, add(x->g, p->s, part), c64(x->g, j * x->vector)); }

/* Walks over the piece's vectors from `first` on, `step` at a time; a single step makes no loop. */
typedef struct parts {
    loop l;
    bool looped;
} parts;

static Val parts_begin(kgen *x, parts *w, const piece *p, uint32_t first, uint32_t step)
{
    Val lane = c64(x->g, first * x->vector);
    w->looped = p->nv > first + step;
    return w->looped ? loop_begin(x->g, &w->l, lane, NULL, 0) : lane;
}

static void parts_end(kgen *x, parts *w, const piece *p, uint32_t step)
{
    if (w->looped) loop_end(x->g, &w->l, c64(x->g, step * x->vector), c64(x->g, p->nv * x->vector));
}

static Val broadcast(kgen *x, Val p, Val index, unsigned align)
{
    return splat(x->g, load(x->g, x->g->f32, at(x->g, x->g->f32, p, index), align), x->vector);
}

/* ---- S = Q K^T ------------------------------------------------------------------------------------------------------------------ */

/* As many dims a step as divide dim: 4, 2 or 1. */
static uint32_t unroll_of(int64_t dim) { return dim % 4 == 0 ? 4 : dim % 2 == 0 ? 2 : 1; }

Val body_product(kgen *x, Val k, Val q, Val sum) { return x->dot ? pairs_product(x, k, q, sum) : fmadd(x->g, k, q, sum); }

/* Rows of V are read a few dims at a time, key after key, where no prefetcher of the machine follows: at each step of the products lines of
 * the group's rows are asked for. Wide pieces whose lanes take one pass ask for two rows that are read later, too (ahead.c). */
bool body_fetches(const kgen *x)
{
    const schedule *c = &x->k->schedule;
    return x->vectors <= c->qk_vectors && !(c->qk_keys & (c->qk_keys - 1)) && c->qk_keys * unroll_of(x->words) <= 16;
}

typedef struct fetched {
    Val next, own; /* addresses of rows: of twice a group's that are read later; the group's own of V. NULL: none */
} fetched;

static fetched fetch_from(kgen *x, const piece *p, Val group)
{
    gen *g = x->g;
    fetched f = {.own = at(g, g->ptr, ws_at(x, x->convert ? x->stored_values : x->value_ptr), group)};
    if (!p->narrow) f.next = ahead_group(x, p, group);
    return f;
}

/* The turn-th time in a group, at dim d; every `step` dims. */
static void fetch(kgen *x, const piece *p, const fetched *f, Val turn, Val d, uint32_t step)
{
    gen *g = x->g;
    const uint32_t times = p->keys * step <= 16 ? 1 : p->keys * step / 16, keys = p->keys / times;
    Val key = LLVMBuildAnd(g->b, turn, c64(g, keys - 1), "");
    Val line = LLVMBuildAnd(g->b, mul(g, d, c64(g, x->quant ? 1 : rows_word_size(x))), c64(g, -64), "");
    for (uint32_t i = 0; i < times; i++)
        prefetch(g, byte_at(g, load(g, g->ptr, at(g, g->ptr, f->own, add(g, key, c64(g, i * keys))), 8), line), 2);
    for (uint32_t i = 0; f->next && i < 2; i++)
        prefetch(g, byte_at(g, load(g, g->ptr, at(g, g->ptr, f->next, add(g, key, c64(g, i * p->keys))), 8), line), 2);
}

void body_products(kgen *x, const piece *p, Val group, Val part, const Val *key, Val *sum, const due_weights *due)
{
    gen *g = x->g;
    loop l;
    const uint32_t R = p->keys, Q = p->qk_vectors, U = due ? (uint32_t)x->words / (R * Q) : unroll_of(x->words);
    const uint32_t turns = U > 4 ? 2 : 1, F = U / turns, sets = p->narrow && U > 1 && Q == 1 ? 2 : 1;
    for (uint32_t i = 0; i < sets * R * Q; i++) sum[i] = LLVMConstNull(x->vf);
    fetched rows = {0};
    if (p->narrow || body_fetches(x)) rows = fetch_from(x, p, group);
    Val d = loop_begin(g, &l, c64(g, 0), sum, sets * R * Q);
    Val step = LLVMBuildUDiv(g->b, d, c64(g, U), "");
    if (due) lagged_weigh(x, due, step);
    for (uint32_t u = 0; u < U; u++) {
        Val q[8], du = add(g, d, c64(g, u));
        if (rows.own && u % F == 0 && u / F < turns) fetch(x, p, &rows, add(g, mul(g, step, c64(g, turns)), c64(g, u / F)), du, F);
        for (uint32_t j = 0; j < Q; j++) q[j] = load_lanes(x, x->queries, row_of_lanes(x, du, lane_of(x, p, part, j)));
        for (uint32_t r = 0; r < R; r++) {
            Val k = broadcast(x, key[r], du, x->dot ? 2 : 4);
            for (uint32_t j = 0; j < Q; j++) {
                Val *s = &sum[(u % sets * R + r) * Q + j];
                *s = body_product(x, k, q[j], *s);
            }
        }
    }
    loop_end(g, &l, c64(g, U), c64(g, x->words));
    for (uint32_t i = 0; sets > 1 && i < R * Q; i++) sum[i] = LLVMBuildFAdd(g->b, sum[i], sum[R * Q + i], "");
}

/* ---- who sees a key ------------------------------------------------------------------------------------------------------------- */

/* A narrow piece with a mask remembers for each key which lanes see it: a weight says too little, for one that underflowed to 0 is seen. */
uint64_t body_seen_bytes(const kgen *x) { return x->g->target->masked ? x->vector / 8 : x->vector * 4; }

static Type seen_type(const kgen *x)
{
    if (x->g->target->masked) return LLVMIntTypeInContext(x->g->context, x->vector);
    return vector_of(x->g->i32, x->vector);
}

/* Of vector j of the piece. */
static Val seen_at(kgen *x, Val slot, Val j)
{
    return at(x->g, seen_type(x), ws_at(x, x->seen), add(x->g, mul(x->g, slot, c64(x->g, x->narrow_vectors)), j));
}

static void store_seen(kgen *x, Val visible, Val slot, uint32_t j)
{
    gen *g = x->g;
    Type t = seen_type(x);
    Val v = g->target->masked ? LLVMBuildBitCast(g->b, visible, t, "") : LLVMBuildSExt(g->b, visible, t, "");
    store(g, v, seen_at(x, slot, c64(g, j)), (unsigned)body_seen_bytes(x));
}

/* Lanes as bits, or as words of ones and zeros. */
Val body_load_seen(kgen *x, Val slot, Val j)
{
    gen *g = x->g;
    Val v = load(g, seen_type(x), seen_at(x, slot, j), (unsigned)body_seen_bytes(x));
    return g->target->masked ? LLVMBuildBitCast(g->b, v, vector_of(g->i1, x->vector), "") : v;
}

bool body_has(const kblock *b, kop_code c)
{
    for (size_t i = 0; i < b->ops.n; i++)
        if (b->ops.at[i]->code == c) return true;
    return false;
}

/* *visible comes as the lanes of a key that is one (narrow pieces end anywhere), or NULL: all. */
Val body_mapped(kgen *x, const piece *p, Val s, Val slot, Val *visible)
{
    gen *g = x->g;
    Val key = keys_position(x, p->n0, slot, p->step);
    for (size_t i = 0; i < p->body->ops.n; i++) {
        const kop *o = p->body->ops.at[i];
        if (o->code == OP_MAP) s = values_of_key(x, o->e, key, slot, s);
        if (o->code != OP_MASK) continue;
        Val m = values_of_key(x, o->e, key, slot, s);
        *visible = *visible ? LLVMBuildAnd(g->b, *visible, m, "") : m;
    }
    return *visible ? select_of(g, *visible, s, constant_like(x->vf, -INFINITY)) : s;
}

static bool reads_rows(const kgen *x, const piece *p) { return x->dot || body_has(p->body, OP_MAP) || body_has(p->body, OP_MASK); }

void body_keys_of_group(kgen *x, Val group, uint32_t n, Val *key)
{
    gen *g = x->g;
    for (uint32_t r = 0; r < n; r++) {
        Val slot = add(g, group, c64(g, r));
        if (keys_are_converted(x)) keys_convert_key(x, slot);
        key[r] = load(g, g->ptr, at(g, g->ptr, ws_at(x, x->key_ptr), slot), 8);
    }
}

static void score(kgen *x, const piece *p)
{
    gen *g = x->g;
    loop l;
    parts w;
    uint32_t R = p->keys, Q = p->qk_vectors;
    Val key[MAX_CARRIED], of[MAX_CARRIED], sum[MAX_CARRIED], last = sub(g, p->n, c64(g, 1)), group = loop_begin(g, &l, c64(g, 0), NULL, 0);
    if (p->narrow) shared_call(x, SHARED_ahead_some);
    body_keys_of_group(x, group, R, key);
    for (uint32_t r = 0; r < R; r++) {
        Val slot = add(g, group, c64(g, r));
        of[r] = p->narrow ? smin(g, slot, last) : slot;
    }
    Val part = parts_begin(x, &w, p, 0, Q);
    body_products(x, p, group, part, key, sum, NULL);
    for (uint32_t j = 0; j < Q; j++) {
        Val lane = lane_of(x, p, part, j), m = load_lanes(x, x->new_max, lane);
        if (reads_rows(x, p)) values_load_lanes(x, lane);
        Val factor = x->dot ? rows_query_factor(x) : NULL;
        for (uint32_t r = 0; r < R; r++) {
            Val s = sum[r * Q + j], slot = add(g, group, c64(g, r)), visible = NULL;
            s = body_mapped(x, p, factor ? LLVMBuildFMul(g->b, s, factor, "") : s, of[r], &visible);
            if (p->masked) store_seen(x, visible, slot, j);
            m = fmax_of(g, s, m);
            store_lanes(x, s, x->scores, row_of_lanes(x, slot, lane));
        }
        store_lanes(x, m, x->new_max, lane);
    }
    parts_end(x, &w, p, Q);
    loop_end(g, &l, c64(g, R), p->n);
}

/* ---- decay, rescale ----------------------------------------------------------------------------------------------------------------- */

static void scale(kgen *x, const piece *p, uint64_t what, Val rows, const Val *factor)
{
    gen *g = x->g;
    guarded l;
    Val i = guarded_begin(g, &l, c64(g, 0), rows);
    for (uint32_t j = 0; j < p->nv; j++) {
        Val index = row_of_lanes(x, i, lane_of(x, p, c64(g, 0), j));
        store_lanes(x, LLVMBuildFMul(g->b, load_lanes(x, what, index), factor[j], ""), what, index);
    }
    guarded_end(g, &l, c64(g, 1));
}

void body_rescale(kgen *x, const piece *p, Val weighed)
{
    gen *g = x->g;
    Val any = NULL, m[16], grown[16], decay[16];
    ATTNC_CHECK(p->nv <= 16);
    for (uint32_t j = 0; j < p->nv; j++) {
        Val lane = lane_of(x, p, c64(g, 0), j);
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
        Val lane = lane_of(x, p, c64(g, 0), j);
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
        Val lane = lane_of(x, p, part, j);
        m[j] = safe_max(x, load_lanes(x, x->max, lane));
        sum[j] = load_lanes(x, x->sum, lane);
        /* an odd number of keys: the last one's partner */
        if (pairs && p->narrow) store_lanes(x, constant_like(x->vf, -INFINITY), x->scores, row_of_lanes(x, p->n, lane));
    }
    Val i = loop_begin(g, &l, first, sum, gathers ? Q + 1 : Q);
    for (uint32_t j = 0; j < Q; j++) {
        Val lane = lane_of(x, p, part, j), e = weight_of(x, i, lane, m[j], pairs), odd = NULL;
        if (pairs) odd = weight_of(x, add(g, i, c64(g, 1)), lane, m[j], true);
        sum[j] = LLVMBuildFAdd(g->b, sum[j], pairs ? LLVMBuildFAdd(g->b, e, odd, "") : e, "");
        Val to = pairs ? LLVMBuildUDiv(g->b, i, c64(g, 2), "") : i; /* a pair takes the place of a score that is not needed any more */
        store_lanes(x, pairs ? pairs_of_weights(x, e, odd) : e, x->scores, row_of_lanes(x, to, lane));
    }
    if (convert && pairs) pairs_of_values(x, p, i, most);
    if (convert && !pairs) keys_convert_value(x, i);
    loop_end(g, &l, c64(g, pairs ? 2 : 1), p->n);
    for (uint32_t j = 0; j < Q; j++) store_lanes(x, sum[j], x->sum, lane_of(x, p, part, j));
    return gathers ? *most : NULL;
}

/* Converting waits for rows that come into the first-level cache, and stores; products and exponentials wait for arithmetic. So K is converted before
 * the products of its group, V beside the first exponentials, and not in loops of their own. (Measured, 4096 tokens, D 64 / 128, shares of
 * the burst: bf16 in pairs .77 -> .80 and .82 -> .85, f16 .845 -> .865 and .87 -> .885; V beside the products .855 and .875.) */
void body_weights(kgen *x, const piece *p, Val first)
{
    parts w;
    const uint32_t most = target_get(x->k->schedule.target)->registers < 32 ? 2 : 4, Q = p->nv < most ? p->nv : most;
    Val magnitudes = x->convert ? weights_of(x, p, first, c64(x->g, 0), Q, true) : NULL;
    if (magnitudes) pairs_mend(x, p, magnitudes);
    if (x->convert && p->nv == Q) return;
    weights_of(x, p, first, parts_begin(x, &w, p, x->convert ? Q : 0, Q), Q, false);
    parts_end(x, &w, p, Q);
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
        weight[j] = load_lanes(x, x->scores, row_of_lanes(x, slot, lane_of(x, p, part, j)));
        if (p->masked && !pairs) used[j] = body_load_seen(x, slot, c64(g, j));
    }
    for (uint32_t r = 0; r < R; r++) {
        Val dim = add(g, d, c64(g, r));
        Val v = pairs ? broadcast(x, pairs_at(x, slot, dim), c64(g, 0), 4) : broadcast(x, row, dim, 4);
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
    parts w;
    loop l;
    const bool pairs = x->dot;
    uint32_t Q = p->pv_vectors, U = p->narrow || p->keys % (pairs ? 4 : 2) ? 1 : 2;
    Val sum[MAX_CARRIED], part = parts_begin(x, &w, p, 0, Q);
    for (uint32_t i = 0; i < R * Q; i++) sum[i] = LLVMConstNull(x->vf);
    Val key = loop_begin(g, &l, c64(g, 0), sum, R * Q);
    for (uint32_t u = 0; u < U; u++) add_values(x, p, part, add(g, key, c64(g, u)), d, R, sum);
    loop_end(g, &l, c64(g, U), pairs ? LLVMBuildUDiv(g->b, add(g, p->n, c64(g, 1)), c64(g, 2), "") : p->n);
    for (uint32_t i = 0; i < R * Q; i++) {
        Val index = row_of_lanes(x, add(g, d, c64(g, i / Q)), lane_of(x, p, part, i % Q));
        store_lanes(x, LLVMBuildFAdd(g->b, load_lanes(x, x->out, index), sum[i], ""), x->out, index);
    }
    parts_end(x, &w, p, Q);
}

/* Rows so far apart (bytes) meet in few sets of every cache, and each has a page of its own. Those of V are read again for each tile of dims, and where the lanes take
 * several passes for each of them: then they are first copied together. (Measured, f32, shares of peak: avx512 in one pass, 32 heads by tokens, 8 and 16 KiB apart
 * .73 -> .77 and .72 -> .78, 4 KiB apart + .01, 2 KiB apart - .02; avx2 in two passes, 4 KiB apart .63 -> .76, 2 KiB apart nothing. Rows of K are read once.) */
static int64_t far_rows(const piece *p) { return p->nv > p->pv_vectors ? 2049 : 4096; }

static void output(kgen *x, const piece *p)
{
    gen *g = x->g;
    loop l;
    keys_gather_values(x, (key_walk){p->n0, p->n, p->step}, far_rows(p));
    int64_t tail = x->dim_v % p->dims, whole = x->dim_v - tail;
    if (whole) {
        Val d = loop_begin(g, &l, c64(g, 0), NULL, 0);
        output_tile(x, p, d, p->dims);
        loop_end(g, &l, c64(g, p->dims), c64(g, whole));
    }
    if (tail) output_tile(x, p, c64(g, whole), (uint32_t)tail);
}

void body_attend(kgen *x, const piece *given)
{
    piece p = *given;
    p.masked = p.narrow && body_has(p.body, OP_MASK);
    if (lagged_applies(x, &p)) lagged_attend(x, &p);
    else score(x, &p), body_rescale(x, &p, NULL), body_weights(x, &p, c64(x->g, 0));
    output(x, &p);
}
