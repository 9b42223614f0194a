/* plan_parts.c - cuts the keys of long tiles: so that few rows can keep many workers busy, and that heads read side by
 * side what lies side by side.
 *
 * A tile is cut when it alone is more than a fair share of the work: then its parts run as items of their own, each
 * writes its running sums into a slot, and the last to finish merges them in order (forward.c).
 *
 * It is also cut when it has few rows and many keys. Then reading K and V is all the work, and their rows lie head by
 * head in pages, or beside those of the other heads: one head after the other over all keys has translated each address
 * anew by the time that the next head comes to the same place. A part of all heads, then the next part of all heads,
 * has not. Where keys are few it would only cost; and page sizes are not asked, so that they change no bit. */
#include "plan.h"
#include "numbers.h"

enum {
    SHARES = 4,      /* pieces of work a worker should at least find */
    PART_KEYS = 256, /* fewer keys a part are not worth the merge */
    ROUND_KEYS = 16, /* long narrow segments are cut at multiples of this */
    FEW_LANES = 16,  /* rows that are worth it: more are compute */
    FAR_KEYS = 16384,
    NEAR_KEYS = 1024, /* more keys of few rows are cut into parts of this many */
    MAX_PARTS = 256
};

static int64_t keys_of(const attn_segment *s)
{
    const span keys = attni_segment_span(s);
    return attni_span_keys(&keys);
}

/* The first n keys of s, of which they are taken away. */
static attn_segment take_keys(attn_segment *s, int64_t n)
{
    attn_segment taken = *s;
    taken.k1 = s->k0 + (n - 1) * s->step + 1;
    s->k0 += n * s->step;
    return taken;
}

/* How many keys of s a part takes that still has room for `room` lanes times keys. */
static int64_t keys_that_fit(const attn_kernel_desc *k, const attn_segment *s, int64_t room)
{
    int64_t length = keys_of(s), keys = (room + s->lanes - 1) / s->lanes;
    int64_t step = s->lanes == (int32_t)k->lanes && !s->masked ? k->key_step : length >= PART_KEYS ? ROUND_KEYS : 1;
    return min64((keys + step - 1) / step * step, length);
}

/* Copies the tile's segments to the end of the list, cut so that each part has its share. */
static void cut_tile(drafts *d, tile *t, int32_t parts)
{
    const attn_kernel_desc *k = d->plan->kernel;
    const int32_t first = t->segment0, last = t->segment0 + t->segments;
    attn_segment s = d->segments.at[first];
    int64_t done = 0;
    t->cut0 = (int32_t)d->cuts.n;
    for (int32_t i = first, p = 0; i < last && p < parts; p++) {
        part piece = {.segment0 = (int32_t)d->segments.n};
        const int64_t until = t->w.cost * (p + 1) / parts;
        while (i < last && done < until) {
            const int64_t n = keys_that_fit(k, &s, until - done);
            const attn_segment taken = take_keys(&s, n);
            LIST_ADD(d->mem, &d->segments, taken);
            piece.segments++;
            done += n * s.lanes;
            if (s.k0 >= s.k1 && ++i < last) s = d->segments.at[i];
        }
        if (piece.segments) LIST_ADD(d->mem, &d->cuts, piece);
    }
    t->parts = (int32_t)((int64_t)d->cuts.n - t->cut0);
}

/* The work of the whole call: shared tiles count as often as they run. */
static int64_t total_cost(const drafts *d)
{
    int64_t cost = 0;
    for (size_t i = 0; i < d->loads.n; i++) cost += d->loads.at[i].w.cost;
    return cost;
}

static int64_t lanes_in_use(const drafts *d, const tile *t)
{
    int32_t lanes = (int32_t)d->plan->kernel->vector;
    for (int32_t i = 0; i < t->segments; i++) {
        const attn_segment *s = &d->segments.at[t->segment0 + i];
        if (s->lane0 + s->lanes > lanes) lanes = s->lane0 + s->lanes;
    }
    return lanes;
}

/* SHARES pieces a worker; all of it when nothing is to be cut. */
static int64_t fair_cost(const drafts *d, int64_t total)
{
    const attn_plan *p = d->plan;
    return p->workers <= 1 ? total : total / ((int64_t)p->workers * SHARES) + 1;
}

int64_t attni_uncut_cost(const drafts *d, int64_t total)
{
    const attn_kernel_desc *k = d->plan->kernel;
    return k->merge ? min64(fair_cost(d, total), FAR_KEYS * (int64_t)k->vector) : total;
}

static int64_t parts_of(const drafts *d, const tile *t, int64_t fair)
{
    const int64_t lanes = lanes_in_use(d, t), keys = t->w.cost / lanes;
    int64_t parts = 1;
    if (t->w.cost > fair) parts = min64((t->w.cost + fair - 1) / fair, keys / PART_KEYS);
    if (lanes <= FEW_LANES && keys > FAR_KEYS && keys / NEAR_KEYS > parts) parts = keys / NEAR_KEYS;
    return min64(parts, MAX_PARTS);
}

void attni_cut_tiles(drafts *d, uint32_t max_parts)
{
    if (max_parts == 1 || !d->plan->kernel->merge) return;
    const int64_t total = total_cost(d), fair = fair_cost(d, total), uncut = attni_uncut_cost(d, total);
    for (size_t i = 0; i < d->tiles.n && !d->mem->failed; i++) {
        tile *t = &d->tiles.at[i];
        if (!max_parts && t->w.cost <= uncut) continue;
        const int64_t parts = max_parts ? min64(max_parts, MAX_PARTS) : parts_of(d, t, fair);
        if (parts > 1 && t->segments) cut_tile(d, t, (int32_t)parts);
    }
}
