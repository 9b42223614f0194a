/* plan_again.c - a plan for the step after the one that it was made for.
 *
 * Sequences that decode have as many rows as before, all in one tile; then items and their order are those of the last
 * step, and only keys move. Whatever does not fit is left to plan_items.c, which gives the same plan. */
#include "plan.h"

/* ---- what is remembered ----------------------------------------------------------------------------------------- */

/* Each sequence one tile for the heads of each KV head, none of them cut. */
static bool are_rows(const attn_plan *p, const drafts *d)
{
    if (d->cuts.n || d->loads.n != p->n_seqs || d->strips.n != p->n_seqs || d->tiles.n != p->n_seqs) return false;
    return !p->n_seqs || d->loads.at[0].copies == (int32_t)p->kind->kv_heads;
}

/* One vector that sees one interval, in a kernel that has no wide segments for it. */
static bool is_interval(const attn_plan *p, const drafts *d, const tile *t)
{
    const attn_kernel_desc *k = p->kernel;
    if (t->segments != 1 || k->lanes < 2 * k->vector || t->rows * d->mask.per_kv > k->vector) return false;
    const attn_segment *s = &p->segments[t->segment0];
    return d->mask.plain && !s->masked && s->lanes == (int32_t)k->vector;
}

void attni_plan_remember(attn_plan *p, const drafts *d)
{
    p->n_rows = 0;
    if (!are_rows(p, d)) return;
    p->rows = attni_widen(&p->mem, p->rows, p->n_seqs, &p->cap.rows, sizeof *p->rows);
    if (p->mem.failed) return;
    for (uint32_t i = 0; i < p->n_seqs; i++) {
        const tile *t = &d->tiles.at[i];
        p->rows[i] = (plan_row){
            .n_q = t->rows, .segment0 = t->segment0, .segments = t->segments, .short_way = is_interval(p, d, t)};
    }
    p->n_rows = p->n_seqs;
}

/* ---- again ------------------------------------------------------------------------------------------------------ */

/* The segments of a sequence, in the places of those that it had; false: it needs others. */
static bool move_segments(attn_plan *p, drafts *d, plan_row *r)
{
    tile t = {.rows = r->n_q, .row_step = 1};
    d->segments.n = 0;
    attni_tile_segments(d, &t, 0, d->mask.per_kv);
    if (t.segments != r->segments || d->mem->failed) return false;
    for (int32_t j = 0; j < t.segments; j++) {
        const attn_segment *from = &d->segments.at[j];
        attn_segment *to = &p->segments[r->segment0 + j];
        if (from->lane0 != to->lane0 || from->lanes != to->lanes || from->masked != to->masked) return false;
        to->k0 = from->k0;
        to->k1 = from->k1;
        to->step = from->step;
    }
    r->cost = t.w.cost;
    r->pairs = t.pairs;
    return true;
}

/* What attni_tile_segments says of such a row; false: not this time. */
static bool move_interval(attn_plan *p, drafts *d, plan_row *r)
{
    span keys;
    attn_segment *to = &p->segments[r->segment0];
    if (!attni_mask_interval(&d->mask, (mask_rows){0, r->n_q - 1, 0, d->mask.per_kv, 1}, &keys)) return false;
    to->k0 = keys.lo;
    to->k1 = keys.hi;
    to->step = (int32_t)attni_span_step(&keys);
    r->cost = attni_span_keys(&keys) * to->lanes;
    r->pairs = attni_span_keys(&keys) * r->n_q * d->mask.per_kv;
    return true;
}

static bool move_keys(attn_plan *p, drafts *d, uint32_t i)
{
    const attn_seq *seq = attni_plan_seq(p, i);
    plan_row *r = &p->rows[i];
    if (seq->n_q != r->n_q) return false;
    attni_mask_bind(&d->mask, seq, p->key_bounds[i]);
    d->mask.past = p->past[i].alive;
    d->mask.old = seq->pos;
    return (r->short_way && move_interval(p, d, r)) || move_segments(p, d, r);
}

/* Sequences by falling work, as attni_plan_items orders them. */
static bool is_order_right(const attn_plan *p)
{
    for (size_t i = 1; i < p->n_rows; i++) {
        const int32_t a = p->order[i - 1], b = p->order[i];
        if (p->rows[a].cost < p->rows[b].cost || (p->rows[a].cost == p->rows[b].cost && a > b)) return false;
    }
    return true;
}

static bool is_nothing_cut(const attn_plan *p, const drafts *d, int64_t total)
{
    const int64_t most = attni_uncut_cost(d, total);
    for (size_t i = 0; i < p->n_rows; i++)
        if (p->rows[i].cost > most) return false;
    return true;
}

bool attni_plan_again(attn_plan *p, const attn_plan_config *c, drafts *d)
{
    const int64_t copies = p->kind->kv_heads;
    if (!p->past || !p->n_rows || p->n_rows != p->n_seqs || p->n_groups > 1 || c->max_parts || c->group) return false;
    int64_t cost = 0, pairs = 0;
    for (uint32_t i = 0; i < p->n_seqs; i++) {
        if (!move_keys(p, d, i)) return false;
        cost += copies * p->rows[i].cost;
        pairs += copies * p->rows[i].pairs;
    }
    if (!is_order_right(p) || !is_nothing_cut(p, d, cost)) return false;
    p->pairs_computed = pairs;
    return true;
}
