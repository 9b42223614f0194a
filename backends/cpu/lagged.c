/* lagged.c - wide pieces of f32: the exponentials of a group of keys beside the products of the next one.
 *
 * Both are arithmetic, but an exponential is a chain of ten instructions that wait for each other. In a pass of its own it costs 5.5 cycles, where its
 * multiply-adds take 3; among products it costs little more than those. A weight is then worked out before the maximum of its block is known. It
 * refers to the greatest score so far, and may be as large as 2^LOOSE, which costs no digit (FlashAttention-4 rescales as seldom). A score that exceeds
 * that ends it for the block: from its group on scores are kept, maxima taken, what is there is rescaled, as in every other piece. */
#include "backends/cpu/kernel_gen.h"

#include <math.h>

/* LONGEST: dims. A step of the products has LONGEST / 16 of them written out. */
enum { LOOSE = 8, LONGEST = 128 };

static uint32_t sums(const piece *p) { return p->keys * p->qk_vectors; }

/* Maps may raise scores from key to key (ALiBi), so that every block would be late. */
static bool may_rise(const kgen *x, const piece *p)
{
    for (size_t i = 0; i < p->body->ops.n; i++) {
        const kop *o = p->body->ops.at[i];
        if (o->code == OP_MAP && expr_depends(x->pool, o->e) & DEPENDS_KEY) return true;
    }
    return false;
}

/* One exponential at each step of the products. */
bool lagged_fits(const kgen *x)
{
    const piece p = body_wide_piece(x);
    const uint32_t Q = p.qk_vectors, registers = target_get(x->k->schedule.target)->registers;
    return !x->convert && registers >= 32 && Q == p.nv && !(Q & (Q - 1)) && x->words <= LONGEST && x->words % sums(&p) == 0;
}

bool lagged_applies(const kgen *x, const piece *p) { return !p->narrow && lagged_fits(x) && !may_rise(x, p); }

static Val idle_at(kgen *x, const piece *p, uint32_t half) { return ws_float(x, x->idle, c64(x->g, half * sums(p) * x->vector)); }

uint64_t lagged_idle_bytes(const kgen *x) { return lagged_fits(x) ? 2 * (uint64_t)x->k->schedule.qk_keys * x->lanes * 4 : 0; }

/* Scores of which nothing comes, and where their weights may go. */
static due_weights nothing_due(kgen *x, const piece *p)
{
    for (uint32_t i = 0; i < sums(p); i++) store_lanes(x, constant_like(x->vf, -INFINITY), x->idle, c64(x->g, i * x->vector));
    return (due_weights){idle_at(x, p, 0), idle_at(x, p, 1)};
}

void lagged_weigh(kgen *x, const due_weights *due, Val step)
{
    gen *g = x->g;
    Val lane = mul(g, LLVMBuildAnd(g->b, step, c64(g, x->vectors - 1), ""), c64(g, x->vector)), place = mul(g, step, c64(g, x->vector));
    Val s = load(g, x->vf, at(g, g->f32, due->from, place), x->vector * 4), m = safe_max(x, load_lanes(x, x->max, lane));
    Val e = math_exp2_beside(g, LLVMBuildFSub(g->b, s, m, ""));
    store_lanes(x, LLVMBuildFAdd(g->b, load_lanes(x, x->sum, lane), e, ""), x->sum, lane);
    store(g, e, at(g, g->f32, due->to, place), x->vector * 4);
}

static void map_sums(kgen *x, const piece *p, Val group, Val *sum)
{
    for (uint32_t j = 0; j < p->nv; j++) {
        values_load_lanes(x, c64(x->g, j * x->vector));
        for (uint32_t r = 0; r < p->keys; r++) {
            Val *s = &sum[r * p->nv + j], visible = NULL;
            *s = body_mapped(x, p, *s, add(x->g, group, c64(x->g, r)), &visible);
            ATTNC_CHECK(!visible);
        }
    }
}

/* The greatest of each vector into most; whether one exceeds. */
static Val find_most(kgen *x, const piece *p, const Val *sum, Val *most)
{
    gen *g = x->g;
    Val any = NULL;
    for (uint32_t j = 0; j < p->nv; j++) {
        most[j] = sum[j];
        for (uint32_t r = 1; r < p->keys; r++) most[j] = fmax_of(g, sum[r * p->nv + j], most[j]);
        Val limit = LLVMBuildFAdd(g->b, load_lanes(x, x->max, c64(g, j * x->vector)), constant_like(x->vf, LOOSE), "");
        Val exceeds = LLVMBuildFCmp(g->b, LLVMRealOGT, most[j], limit, "");
        any = any ? LLVMBuildOr(g->b, any, exceeds, "") : exceeds;
    }
    return LLVMBuildIsNotNull(g->b, LLVMBuildBitCast(g->b, any, LLVMIntTypeInContext(g->context, x->vector), ""), "");
}

static void raise_maxima(kgen *x, const piece *p, const Val *most)
{
    for (uint32_t j = 0; j < p->nv; j++) {
        Val lane = c64(x->g, j * x->vector);
        store_lanes(x, fmax_of(x->g, most[j], load_lanes(x, x->new_max, lane)), x->new_max, lane);
    }
}

typedef struct lag {
    Val late; /* the first key whose scores are kept */
    due_weights due;
} lag;

/* Where a score exceeds: before the block's first weight O is rescaled, behind it the block becomes late. Branches, no choice: weights would wait for
 * what a choice waits for. */
static lag follow(kgen *x, const piece *p, Val group, Val is_late, const Val *most, lag usual, lag exceeded)
{
    gen *g = x->g;
    Block from[3] = {here(g), block(g), block(g)}, exceeding = block(g), next = block(g);
    branch(g, is_late, exceeding, next);
    go(g, exceeding);
    raise_maxima(x, p, most);
    branch(g, LLVMBuildICmp(g->b, LLVMIntEQ, group, c64(g, 0), ""), from[1], from[2]);
    go(g, from[1]);
    fold_rescale(x, p, NULL);
    from[1] = here(g);
    jump(g, next);
    go(g, from[2]);
    jump(g, next);
    go(g, next);
    Val a[] = {usual.late, usual.due.from, usual.due.to}, b[] = {exceeded.late, exceeded.due.from, exceeded.due.to};
    for (int i = 0; i < 3; i++) {
        Val phi = LLVMBuildPhi(g->b, LLVMTypeOf(a[i]), "");
        LLVMAddIncoming(phi, (Val[]){a[i], a[i], b[i]}, from, 3);
        a[i] = phi;
    }
    return (lag){a[0], {a[1], a[2]}};
}

/* All groups of the block but for the weights of the last. Returns the first key whose scores are kept, or the number of keys. */
Val lagged_scores(kgen *x, const piece *p)
{
    gen *g = x->g;
    loop l;
    const due_weights none = nothing_due(x, p);
    Val key[MAX_CARRIED], sum[MAX_CARRIED], most[MAX_CARRIED], carried[] = {p->n, none.from, none.to};
    Val group = loop_begin(g, &l, c64(g, 0), carried, 3), late = carried[0];
    body_keys_of_group(x, group, p->keys, key);
    body_products(x, p, group, c64(g, 0), key, sum, &(due_weights){carried[1], carried[2]});
    if (body_has(p->body, OP_MAP)) map_sums(x, p, group, sum);
    Val scores = ws_float(x, x->scores, mul(g, group, c64(g, x->lanes)));
    Val is_late = LLVMBuildOr(g->b, find_most(x, p, sum, most), less(g, late, p->n), "");
    for (uint32_t i = 0; i < sums(p); i++) store(g, sum[i], at(g, g->f32, scores, c64(g, i * x->vector)), x->vector * 4);
    const lag next = follow(x, p, group, is_late, most, (lag){late, {scores, scores}}, (lag){smin(g, late, group), none});
    carried[0] = next.late, carried[1] = next.due.from, carried[2] = next.due.to;
    loop_end(g, &l, c64(g, p->keys), p->n);
    return carried[0];
}
