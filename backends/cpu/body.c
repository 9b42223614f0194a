/* body.c - what a block of keys does to a tile: S^T = K Q^T, the maps and the mask on its way to memory, the running maximum; then weights and
 * O^T += V^T P^T (fold.c).
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

piece body_wide_piece(const kgen *x)
{
    const schedule *c = &x->k->schedule;
    return (piece){.body = x->full, .s = c64(x->g, 0), .nv = x->vectors, .qk_vectors = c->qk_vectors, .pv_vectors = c->pv_vectors,
                   .keys = c->qk_keys, .dims = c->pv_dims};
}

piece body_narrow_piece(const kgen *x, Val lane, uint32_t vectors)
{
    const schedule *c = &x->k->schedule;
    const kblock *body = x->partial ? x->partial : x->full;
    return (piece){.body = body, .s = lane, .nv = vectors, .qk_vectors = vectors, .pv_vectors = vectors, .keys = c->narrow_keys,
                   .dims = (c->narrow_dims + vectors - 1) / vectors, .narrow = true, .masked = body_has(body, OP_MASK)};
}

Val body_lane(kgen *x, const piece *p, Val part, uint32_t j) { return add(x->g, add(x->g, p->s, part), c64(x->g, j * x->vector)); }

Val passes_begin(kgen *x, passes *w, const piece *p, uint32_t first, uint32_t step)
{
    Val lane = c64(x->g, first * x->vector);
    w->looped = p->nv > first + step;
    return w->looped ? loop_begin(x->g, &w->l, lane, NULL, 0) : lane;
}

void passes_end(kgen *x, passes *w, const piece *p, uint32_t step)
{
    if (w->looped) loop_end(x->g, &w->l, c64(x->g, step * x->vector), c64(x->g, p->nv * x->vector));
}

Val body_broadcast(kgen *x, Val p, Val index, unsigned align)
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
        for (uint32_t j = 0; j < Q; j++) q[j] = load_lanes(x, x->queries, row_of_lanes(x, du, body_lane(x, p, part, j)));
        for (uint32_t r = 0; r < R; r++) {
            Val k = body_broadcast(x, key[r], du, x->dot ? 2 : 4);
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
    passes w;
    uint32_t R = p->keys, Q = p->qk_vectors;
    Val key[MAX_CARRIED], of[MAX_CARRIED], sum[MAX_CARRIED], last = sub(g, p->n, c64(g, 1)), group = loop_begin(g, &l, c64(g, 0), NULL, 0);
    if (p->narrow) shared_call(x, SHARED_ahead_some);
    body_keys_of_group(x, group, R, key);
    for (uint32_t r = 0; r < R; r++) {
        Val slot = add(g, group, c64(g, r));
        of[r] = p->narrow ? smin(g, slot, last) : slot;
    }
    Val part = passes_begin(x, &w, p, 0, Q);
    body_products(x, p, group, part, key, sum, NULL);
    for (uint32_t j = 0; j < Q; j++) {
        Val lane = body_lane(x, p, part, j), m = load_lanes(x, x->new_max, lane);
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
    passes_end(x, &w, p, Q);
    loop_end(g, &l, c64(g, R), p->n);
}

/* Rows so far apart (bytes) meet in few sets of every cache, and each has a page of its own. Those of V are read again for each tile of dims, and where the lanes take
 * several passes for each of them: then they are first copied together. (Measured, f32, shares of peak: avx512 in one pass, 32 heads by tokens, 8 and 16 KiB apart
 * .73 -> .77 and .72 -> .78, 4 KiB apart + .01, 2 KiB apart - .02; avx2 in two passes, 4 KiB apart .63 -> .76, 2 KiB apart nothing. Rows of K are read once.) */
static int64_t far_rows(const piece *p) { return p->nv > p->pv_vectors ? 2049 : 4096; }

void body_attend(kgen *x, const piece *p)
{
    Val late = c64(x->g, 0);
    if (lagged_applies(x, p)) late = lagged_scores(x, p);
    else score(x, p);
    keys_gather_values(x, (key_walk){p->n0, p->n, p->step}, far_rows(p));
    fold_block(x, p, late);
}
