/* plan_ranges.c - the keys of one tile of query rows, as segments.
 *
 *     rows of the tile        must                    -> wide segments, no mask, all lanes, whole key steps
 *     rows of each vector     must without those      -> narrow segments, no mask
 *                             may without must        -> narrow segments, masked
 *     pairs of vectors        what both see           -> one narrow segment for both (plan_pairs.c)
 *
 * So a diagonal costs what its vectors of lanes see, not what the tile's corner rows see. A tile with few lanes in use
 * has no wide segments: they would compute for idle lanes. Its vectors take turns, a stretch of keys each, so that keys
 * come from memory once and not once per vector. */
#include "plan.h"

#include <string.h>

enum {
    SHORT_OPEN = 16,  /* unmasked keys beside masked ones that are not worth a segment of their own */
    TURN_KEYS = 256,  /* their K and V stay in a second-level cache */
    TURN_SEGMENTS = 4 /* a vector: with more of them keys are far apart, and looking for turns costs more than it gives */
};

static void add_segment(drafts *d, tile *t, span keys, int32_t lane0, int32_t lanes, int32_t used, bool masked)
{
    const int64_t n = attni_span_keys(&keys);
    attn_segment s = {.k0 = keys.lo,
                      .k1 = keys.hi,
                      .lane0 = lane0,
                      .lanes = lanes,
                      .masked = masked,
                      .step = (int32_t)attni_span_step(&keys)};
    LIST_ADD(d->mem, &d->segments, s);
    t->segments++;
    t->w.cost += n * lanes;
    t->pairs += n * used;
}

/* Wide segments take whole key steps of what all rows see; d->full is what they took. */
static void add_wide(drafts *d, tile *t, int32_t used)
{
    const attn_kernel_desc *k = d->plan->kernel;
    d->full.n = 0;
    for (size_t i = 0; i < d->must.n; i++) {
        span keys = d->must.at[i];
        const int64_t n = attni_span_keys(&keys), step = attni_span_step(&keys);
        if (n < k->key_step) continue;
        keys = attni_span_cut(keys, keys.lo, keys.lo + (n - n % k->key_step) * step);
        attni_spans_put(&d->full, keys);
        add_segment(d, t, keys, 0, (int32_t)k->lanes, used, false);
    }
}

/* Whether one of the masked spans continues s or is continued by it; they are sorted, *j is the first one behind s. */
static bool touches(const spans *masked, size_t *j, const span *s)
{
    while (*j < masked->n && masked->at[*j].lo < s->lo) ++*j;
    return (*j > 0 && attni_span_continues(&masked->at[*j - 1], s)) ||
           (*j < masked->n && attni_span_continues(s, &masked->at[*j]));
}

/* Moves short unmasked pieces that touch masked ones to those; both lists stay sorted. */
static void join_short(drafts *d)
{
    spans *open = &d->open, *masked = &d->masked;
    size_t kept = 0;
    for (size_t i = 0, j = 0; i < open->n; i++) {
        const span s = open->at[i];
        if (attni_span_keys(&s) < SHORT_OPEN && touches(masked, &j, &s)) {
            attni_spans_put(masked, s);
            j = j ? j - 1 : 0;
        } else {
            open->at[kept++] = s;
        }
    }
    open->n = kept;
}

/* The rows and heads in lanes lane0 .. lane1 of the tile. */
static mask_rows rows_of_lanes(const tile *t, uint32_t head, int32_t heads, int32_t lane0, int32_t lane1)
{
    const int64_t r0 = lane0 / heads, r1 = lane1 / heads, step = t->row_step;
    mask_rows rows = {.row0 = t->row + r0 * step,
                      .row1 = t->row + r1 * step,
                      .head = head,
                      .heads = (uint32_t)heads,
                      .step = (uint32_t)step};
    if (lane1 + 1 - lane0 == t->rows * heads) return rows;
    if (r0 == r1) {
        rows.head = head + (uint32_t)(lane0 % heads);
        rows.heads = (uint32_t)(lane1 - lane0 + 1);
    }
    return rows;
}

static void add_vector(drafts *d, tile *t, uint32_t head, int32_t heads, int32_t lane0, const spans *within)
{
    const attn_kernel_desc *k = d->plan->kernel;
    int32_t vector = (int32_t)k->vector, used = t->rows * heads - lane0;
    if (used > vector) used = vector;
    const mask_rows rows = rows_of_lanes(t, head, heads, lane0, lane0 + used - 1);
    span keys;
    if (!within && attni_mask_interval(&d->mask, rows, &keys)) {
        add_segment(d, t, keys, lane0, vector, used, k->lanes == k->vector);
        return;
    }
    attni_mask_ask(&d->mask, rows, within, true, &d->row_may, &d->row_must);
    if (attni_spans_same(&d->row_may, &d->row_must)) { /* what single rows of most masks answer */
        for (size_t i = 0; i < d->row_may.n; i++)
            add_segment(d, t, d->row_may.at[i], lane0, vector, used, k->lanes == k->vector);
        return;
    }
    if (k->lanes == k->vector) { /* a kernel whose only vector is the whole tile takes unmasked keys in whole steps */
        attni_spans_copy(&d->masked, &d->row_may);
        d->open.n = 0;
    } else {
        attni_spans_copy(&d->open, &d->row_must);
        attni_spans_fit(&d->row_may, &d->open, &d->masked);
        attni_spans_subtract(&d->row_may, &d->open, &d->masked);
        join_short(d);
    }
    for (size_t i = 0, j = 0; i < d->open.n || j < d->masked.n;) { /* by rising keys */
        const bool open = j == d->masked.n || (i < d->open.n && d->open.at[i].lo < d->masked.at[j].lo);
        add_segment(d, t, open ? d->open.at[i++] : d->masked.at[j++], lane0, vector, used, !open);
    }
}

/* What the tile's segments have of keys lo .. hi - 1, vector after vector. */
static void add_turn(drafts *d, const tile *t, int32_t segments, int64_t lo, int64_t hi)
{
    for (int32_t i = 0; i < segments && !d->mem->failed; i++) {
        attn_segment s = d->segments.at[t->segment0 + i];
        const span keys = attni_span_cut(attni_segment_span(&s), lo, hi);
        if (keys.lo >= keys.hi) continue;
        s.k0 = keys.lo, s.k1 = keys.hi, s.step = (int32_t)attni_span_step(&keys);
        LIST_ADD(d->mem, &d->segments, s);
    }
}

/* Puts the turns in the segments' place: the same keys for the same lanes. */
static void take_turns(drafts *d, tile *t, int32_t vectors)
{
    const int32_t n = t->segments;
    if (vectors < 2 || n < 2 || n > TURN_SEGMENTS * vectors || d->mem->failed) return;
    span all = {INT64_MAX, 0, 0};
    int64_t turn = TURN_KEYS;
    for (int32_t i = 0; i < n; i++) {
        const attn_segment *s = &d->segments.at[t->segment0 + i];
        if (s->k0 < all.lo) all.lo = s->k0;
        if (s->k1 > all.hi) all.hi = s->k1;
        if (s->step * (int64_t)TURN_KEYS > turn) turn = s->step * (int64_t)TURN_KEYS;
    }
    if (all.hi - all.lo <= turn) return;
    for (int64_t lo = all.lo; lo < all.hi; lo += turn) add_turn(d, t, n, lo, lo + turn);
    if (d->mem->failed) return;
    attn_segment *at = &d->segments.at[t->segment0];
    t->segments = (int32_t)d->segments.n - t->segment0 - n;
    memmove(at, at + n, (size_t)t->segments * sizeof *at);
    d->segments.n -= (size_t)n;
}

void attni_tile_segments(drafts *d, tile *t, uint32_t head, uint32_t heads)
{
    const attn_kernel_desc *k = d->plan->kernel;
    int32_t used = t->rows * (int32_t)heads, vector = (int32_t)k->vector;
    int32_t vectors = (used + vector - 1) / vector, all = (int32_t)(k->lanes / k->vector);
    t->segment0 = (int32_t)d->segments.n;
    t->segments = 0;
    t->used = used;
    t->w.cost = t->pairs = 0;
    const spans *within = NULL;
    if (4 * vectors >= 3 * all) {
        attni_mask_ask(&d->mask, rows_of_lanes(t, head, (int32_t)heads, 0, used - 1), NULL, false, &d->may, &d->must);
        attni_spans_fit(&d->may, &d->must, &d->full);
        add_wide(d, t, used);
        attni_spans_subtract(&d->may, &d->full, &d->within);
        within = &d->within;
    }
    for (int32_t v = 0; v < vectors && !d->mem->failed; v++) add_vector(d, t, head, (int32_t)heads, v * vector, within);
    attni_pair_segments(d, t);
    if (!within) take_turns(d, t, vectors);
}
