/* plan_pairs.c - narrow segments of two neighbouring vectors made one where both see the same keys.
 *
 *     vector 0   keys  0 .. 16              pair   keys  0 .. 16
 *     vector 1   keys  0 .. 32      ->      1      keys 16 .. 32
 *
 * A pair takes an element of K or V once for two products: of a key it costs a fifth less than two vectors one after the other.
 * Pieces that touch become one, masked where either is: masked or not, the kernel's narrow body is the same. Of keys some steps apart
 * the same holds in steps. Where a tile has several steps, or keys between those of another segment, all stays as it is: a pair that takes
 * a short piece of one vector would see keys of the other's a second time. */
#include "plan.h"
#include "numbers.h"

#include <string.h>

enum { SHORT_SINGLE = 8 }; /* fewer keys of one vector beside those of the pair are taken by the pair: a segment costs as much */

/* The segments of one vector: the next of them that touch, as one; behind those at[i .. end) of the drafts' list. */
typedef struct run {
    bool some, masked;
    int64_t k0, k1;
    int32_t i, end;
} run;

static void advance(const drafts *d, run *r)
{
    r->some = r->i < r->end;
    if (!r->some) return;
    const attn_segment *s = &d->segments.at[r->i++];
    r->k0 = s->k0, r->k1 = s->k1, r->masked = s->masked;
    for (; r->i < r->end && d->segments.at[r->i].k0 == r->k1; r->i++) {
        r->k1 = d->segments.at[r->i].k1;
        r->masked |= d->segments.at[r->i].masked;
    }
}

/* The tile's segments that begin at lane0, from the ith one on. */
static run run_from(const drafts *d, const tile *t, int32_t i, int32_t lane0)
{
    const int32_t end = t->segment0 + t->segments;
    run r = {.i = i, .end = i};
    while (r.end < end && d->segments.at[r.end].lane0 == lane0) r.end++;
    advance(d, &r);
    return r;
}

/* The key at which the next segments begin or end, behind `at`. */
static int64_t turn_behind(const run *r, int64_t at) { return !r->some ? INT64_MAX : r->k0 > at ? r->k0 : r->k1; }

/* The last piece takes the new one: when both are of the same lanes, or when one is a short piece beside the other's pair. */
static bool joins(attn_segment *last, const attn_segment *s)
{
    if (last->k1 != s->k0) return false;
    if (last->lanes != s->lanes) {
        const attn_segment *single = last->lanes < s->lanes ? last : s, *both = single == s ? last : s;
        if (single->k1 - single->k0 >= SHORT_SINGLE) return false;
        *last = (attn_segment){.k0 = last->k0, .k1 = s->k1, .lane0 = both->lane0, .lanes = both->lanes, .masked = 1, .step = 1};
        return true;
    }
    if (last->lane0 != s->lane0) return false;
    last->k1 = s->k1;
    last->masked |= s->masked;
    return true;
}

/* Behind those of the list that are of this pair, which begin at `first`. */
static void put(drafts *d, size_t first, attn_segment s)
{
    if (d->segments.n > first && joins(&d->segments.at[d->segments.n - 1], &s)) return;
    LIST_ADD(d->mem, &d->segments, s);
}

static void pair_up(drafts *d, int32_t lane0, run a, run b)
{
    const int32_t vector = (int32_t)d->plan->kernel->vector;
    const size_t first = d->segments.n;
    int64_t at = INT64_MIN;
    while ((a.some || b.some) && !d->mem->failed) {
        at = max64(at, min64(a.some ? a.k0 : INT64_MAX, b.some ? b.k0 : INT64_MAX));
        const bool low = a.some && a.k0 <= at, high = b.some && b.k0 <= at;
        const int64_t end = min64(turn_behind(&a, at), turn_behind(&b, at));
        put(d, first, (attn_segment){.k0 = at,
                                     .k1 = end,
                                     .lane0 = low ? lane0 : lane0 + vector,
                                     .lanes = low && high ? 2 * vector : vector,
                                     .masked = (low && a.masked) || (high && b.masked),
                                     .step = 1});
        if (low && a.k1 == end) advance(d, &a);
        if (high && b.k1 == end) advance(d, &b);
        at = end;
    }
}

static void count(tile *t, const attn_segment *s, int sign)
{
    const int64_t keys = sign * (s->k1 - s->k0);
    t->w.cost += keys * s->lanes;
    t->pairs += keys * min64(s->lanes, t->used - s->lane0);
}

/* The keys base + i * step. */
typedef struct grid {
    int64_t base, step;
} grid;

/* Whether the narrow segments' keys all lie on one. */
static bool find_grid(const drafts *d, int32_t from, int32_t end, grid *out)
{
    *out = (grid){INT64_MAX, 1};
    for (int32_t i = from; i < end; i++) {
        out->base = min64(out->base, d->segments.at[i].k0);
        out->step = max64(out->step, d->segments.at[i].step);
    }
    for (int32_t i = from; i < end; i++) {
        const span keys = attni_segment_span(&d->segments.at[i]);
        if ((keys.lo - out->base) % out->step) return false;
        if (attni_span_step(&keys) != out->step && attni_span_keys(&keys) > 1) return false;
    }
    return true;
}

/* Keys as numbers in the grid, and back. */
static void to_numbers(drafts *d, int32_t from, int32_t end, grid g)
{
    for (int32_t i = from; i < end; i++) {
        attn_segment *s = &d->segments.at[i];
        const span keys = attni_segment_span(s);
        s->k0 = (s->k0 - g.base) / g.step;
        s->k1 = s->k0 + attni_span_keys(&keys);
        s->step = 1;
    }
}

static void to_keys(drafts *d, int32_t from, int32_t end, grid g)
{
    for (int32_t i = from; i < end; i++) {
        attn_segment *s = &d->segments.at[i];
        s->k0 = g.base + s->k0 * g.step;
        s->k1 = g.base + (s->k1 - 1) * g.step + 1;
        s->step = (int32_t)g.step;
    }
}

void attni_pair_segments(drafts *d, tile *t)
{
    const attn_kernel_desc *k = d->plan->kernel;
    const int32_t vector = (int32_t)k->vector, n = t->segments;
    int32_t narrow = t->segment0;
    if (!k->pair || t->used <= vector || d->mem->failed) return;
    while (narrow < t->segment0 + n && d->segments.at[narrow].lanes != vector) narrow++;
    const int32_t old = t->segment0 + n - narrow;
    grid g;
    if (!old || !find_grid(d, narrow, narrow + old, &g)) return;
    to_numbers(d, narrow, narrow + old, g);
    for (int32_t i = narrow, lane = 0; lane < t->used && !d->mem->failed; lane += 2 * vector) {
        const run a = run_from(d, t, i, lane), b = run_from(d, t, a.end, lane + vector);
        pair_up(d, lane, a, b);
        i = b.end;
    }
    if (d->mem->failed) return;
    attn_segment *at = d->segments.at + narrow;
    for (int32_t i = 0; i < old; i++) count(t, &at[i], -1);
    d->segments.n -= (size_t)old;
    memmove(at, at + old, (d->segments.n - (size_t)narrow) * sizeof *at);
    t->segments = (int32_t)d->segments.n - t->segment0;
    for (int32_t i = narrow; i < t->segment0 + t->segments; i++) count(t, &d->segments.at[i], 1);
    to_keys(d, narrow, t->segment0 + t->segments, g);
}
