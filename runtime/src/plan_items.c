/* plan_items.c - tiles of query rows in the order in which they are run.
 *
 * Order: sequences by falling work, in each the heads one after the other (their K and V stay in cache: worth up
 * to 1.45 times), of each head the last rows first: neighbours see much the same keys (one chunk, document or window),
 * under causal masks the longest tile comes first, and so the first to see a key is seldom one of the rim. Where a
 * tile is much of what a worker has to do, the longest go first instead, so that short ones fill the end. */
#include "plan.h"

#include "error.h"

#include <string.h>

enum { FINE_TILES = 8 }; /* a tile is little beside this many of a worker */

#define MAX_SEGMENTS ((size_t)1 << 29) /* indices of segments are int32_t; cutting doubles their number */

/* How many of `per_kv` query heads share a tile. A tile reads its keys once, so the fewest tiles win; then the fewest
 * heads, whose lanes lie together. Long prefills fill tiles with the rows of one head: little is lost at their end. */
static uint32_t choose_group_anew(const attn_plan *p, int64_t n_q, uint32_t forced)
{
    const uint32_t per_kv = p->kind->q_heads / p->kind->kv_heads, lanes = p->kernel->lanes;
    uint32_t most = per_kv < p->kernel->max_group ? per_kv : p->kernel->max_group;
    if (forced) return forced < most ? forced : most;
    if (n_q > 4 * (int64_t)lanes) return 1;
    uint32_t best = 1;
    int64_t fewest = INT64_MAX;
    for (uint32_t g = 1; g <= most; g++) {
        int64_t rows = lanes / g, tiles = (per_kv + g - 1) / g * ((n_q + rows - 1) / rows);
        if (tiles < fewest) fewest = tiles, best = g;
    }
    return best;
}

static int32_t choose_group(drafts *d, int64_t n_q, uint32_t forced)
{
    if (forced) return (int32_t)choose_group_anew(d->plan, n_q, forced);
    if (d->group_n_q != n_q) d->group = choose_group_anew(d->plan, n_q, forced);
    d->group_n_q = n_q;
    return (int32_t)d->group;
}

/* ---- drafts --------------------------------------------------------------------------------------------------- */

/* Heap sort of elements that begin with a `weight`: in place, and the order is total, so it is the same everywhere. */
static bool lighter(const char *a, const char *b)
{
    weight x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x.cost != y.cost ? x.cost < y.cost : x.key > y.key;
}

static void swap_elements(char *a, char *b, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char c = a[i];
        a[i] = b[i];
        b[i] = c;
    }
}

static void sift(char *base, size_t i, size_t n, size_t size)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && lighter(base + (child + 1) * size, base + child * size)) child++;
        if (!lighter(base + child * size, base + i * size)) return;
        swap_elements(base + i * size, base + child * size, size);
    }
}

static void sort_heaviest_first(void *elements, size_t n, size_t size)
{
    char *base = elements;
    for (size_t i = n / 2; i-- > 0;) sift(base, i, n, size);
    for (size_t end = n; end-- > 1;) {
        swap_elements(base, base + end * size, size);
        sift(base, 0, end, size);
    }
}

static void reverse_tiles(tile *at, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        const tile t = at[i];
        at[i] = at[n - 1 - i];
        at[n - 1 - i] = t;
    }
}

static void order_tiles(const drafts *d, const strip *s)
{
    tile *at = &d->tiles.at[s->tile0];
    int64_t most = 0, all = 0, workers = d->plan->workers;
    for (size_t i = 0; i < s->tiles; i++) {
        all += at[i].w.cost;
        if (at[i].w.cost > most) most = at[i].w.cost;
    }
    if (workers > 1 && most > all / (workers * FINE_TILES))
        sort_heaviest_first(at, s->tiles, sizeof *at);
    else
        reverse_tiles(at, s->tiles);
}

/* Rows from `first` on, `step` apart. */
static void draft_rows(drafts *d, const strip *s, int64_t first, int64_t step)
{
    const int64_t all = (d->mask.seq->n_q - first + step - 1) / step,
                  most = d->plan->kernel->lanes / (uint32_t)s->heads;
    for (int64_t row = 0; row < all && !d->mem->failed; row += most) {
        const int64_t n = all - row < most ? all - row : most, at = first + row * step;
        tile t = {.w.key = at, .row = (int32_t)at, .rows = (int32_t)n, .row_step = (int32_t)step, .parts = 1};
        attni_tile_segments(d, &t, (uint32_t)s->head, (uint32_t)s->heads);
        LIST_ADD(d->mem, &d->tiles, t);
        if (d->segments.n > MAX_SEGMENTS) d->mem->failed = true;
    }
}

static void draft_tiles(drafts *d, strip *s, spacing rows)
{
    s->tile0 = d->tiles.n;
    for (int64_t first = rows.first; first < rows.end; first++) draft_rows(d, s, first, rows.row_step);
    s->tiles = d->tiles.n - s->tile0;
    if (!d->mem->failed && s->tiles > 1) order_tiles(d, s);
}

/* A strip of the same sequence and pages with as many heads, when heads see the same. */
static const strip *find_twin(const drafts *d, const strip *s)
{
    if (d->plan->kind->flags & ATTN_KIND_HEADS_DIFFER) return NULL;
    for (size_t i = d->strips.n; i-- > 0 && d->strips.at[i].seq == s->seq;)
        if (d->strips.at[i].heads == s->heads && d->strips.at[i].group == s->group && d->strips.at[i].sweep == s->sweep)
            return &d->strips.at[i];
    return NULL;
}

/* The heads of one KV head. */
static void draft_strips(drafts *d, int32_t seq, int32_t g, int32_t group, spacing rows)
{
    const attn_plan *p = d->plan;
    const int32_t per_kv = (int32_t)d->mask.per_kv, pages = p->head_group ? p->head_group[g] : 0;
    if (p->past) {
        d->mask.past = p->past[(size_t)seq * p->n_groups + (size_t)pages].alive;
        d->mask.old = d->mask.seq->pos;
    }
    for (int32_t h = 0; h < per_kv && !d->mem->failed; h += group) {
        strip s = {
            .seq = seq, .group = pages, .head = g * per_kv + h, .heads = per_kv - h < group ? per_kv - h : group, .sweep = rows.sweep};
        const strip *twin = find_twin(d, &s);
        if (twin)
            s.tile0 = twin->tile0, s.tiles = twin->tiles;
        else
            draft_tiles(d, &s, rows);
        LIST_ADD(d->mem, &d->strips, s);
    }
}

/* Sums over the load's tiles, as often as they run. */
static void sum_up(const drafts *d, workload *l)
{
    for (size_t i = l->strip0; i < l->strip0 + l->strips; i++) {
        const strip *s = &d->strips.at[i];
        for (size_t j = 0; j < s->tiles; j++) l->w.cost += l->copies * d->tiles.at[s->tile0 + j].w.cost;
        l->items += (size_t)l->copies * s->tiles;
    }
}

workload attni_draft_load(drafts *d, int32_t seq, uint32_t forced_group, spacing rows)
{
    const attn_plan *p = d->plan;
    const int64_t rows_alike = (d->mask.seq->n_q + rows.row_step - 1) / rows.row_step;
    const bool alike = !(p->kind->flags & ATTN_KIND_HEADS_DIFFER) && !p->head_group;
    const int32_t kv_heads = (int32_t)p->kind->kv_heads, group = choose_group(d, rows_alike, forced_group);
    workload l = {.w.key = seq, .strip0 = d->strips.n, .copies = alike ? kv_heads : 1};
    d->mask.args.sweep = rows.sweep;
    for (int32_t g = 0; g < (alike ? 1 : kv_heads); g++) draft_strips(d, seq, g, group, rows);
    l.strips = d->strips.n - l.strip0;
    sum_up(d, &l);
    return l;
}

static bool is_swept(const drafts *d, const workload *l) { return d->strips.at[l->strip0].sweep != 0; }

static void join_loads(workload *to, const workload *l)
{
    to->w.cost += l->w.cost;
    to->strips += l->strips;
    to->items += l->items;
}

static void draft_sequence(drafts *d, int32_t seq, uint32_t forced_group)
{
    attni_mask_bind(&d->mask, attni_plan_seq(d->plan, (uint32_t)seq), d->plan->key_bounds[seq]);
    const row_layout rows = attni_choose_rows(d, seq, forced_group);
    workload all = attni_draft_load(d, seq, rows.group, rows.of[0]);
    for (uint32_t i = 1; i < rows.sweeps && !d->mem->failed; i++) {
        const workload l = attni_draft_load(d, seq, rows.group, rows.of[i]);
        join_loads(&all, &l);
    }
    d->items += all.items;
    LIST_ADD(d->mem, &d->loads, all);
}

/* ---- items ---------------------------------------------------------------------------------------------------- */

static attn_item item_of(const attn_plan *p, const strip *s, const tile *t)
{
    return (attn_item){.stage = s->sweep ? (int32_t)p->n_stages : 0,
                       .seq = s->seq * (int32_t)p->n_groups + s->group,
                       .head = s->head,
                       .heads = s->heads,
                       .row = t->row,
                       .rows = t->rows,
                       .row_step = t->row_step,
                       .parts = t->parts,
                       .segment0 = t->segment0,
                       .segments = t->segments};
}

/* The nth part of a tile, for heads that lie `shift` behind those that it was drafted for. */
static void emit_part(attn_plan *p, const drafts *d, const strip *s, int32_t shift, const tile *t, int32_t nth)
{
    attn_item item = item_of(p, s, t);
    item.head += shift;
    if (t->parts > 1) {
        item.part = nth;
        item.part_slot = (int32_t)p->n_slots;
        item.segment0 = d->cuts.at[t->cut0 + nth].segment0;
        item.segments = d->cuts.at[t->cut0 + nth].segments;
    }
    p->n_segments += item.segments;
    p->items[p->n_items++] = item;
    if (!nth) p->pairs_computed += t->pairs;
}

/* One tile for the heads of each KV head: what a decoding sequence is. */
static void emit_row(attn_plan *p, const strip *s, const tile *t, int32_t copies, int32_t per_kv)
{
    const attn_item item = item_of(p, s, t);
    attn_item *to = &p->items[p->n_items];
    for (int32_t copy = 0; copy < copies; copy++) {
        to[copy] = item;
        to[copy].head = item.head + copy * per_kv;
    }
    p->n_items += copies;
    p->n_segments += (int64_t)copies * item.segments;
    p->pairs_computed += copies * t->pairs;
}

/* The nth part of all tiles of all heads; returns the most parts that a tile has. Passes over the slots of all parts.
 */
static int32_t emit_parts(attn_plan *p, const drafts *d, const workload *l, int32_t nth)
{
    const int32_t per_kv = (int32_t)d->mask.per_kv;
    int32_t most = 1;
    for (int32_t copy = 0; copy < l->copies; copy++)
        for (size_t i = l->strip0; i < l->strip0 + l->strips; i++) {
            const strip *s = &d->strips.at[i];
            for (size_t j = 0; j < s->tiles; j++) {
                const tile *t = &d->tiles.at[s->tile0 + j];
                if (nth < t->parts) emit_part(p, d, s, copy * per_kv, t, nth);
                if (t->parts > 1) p->n_slots += t->parts;
                if (t->parts > most) most = t->parts;
            }
        }
    return most;
}

/* All tiles of a strip, as the stage that the plan has just opened. */
static void emit_stage(attn_plan *p, const drafts *d, const strip *s, int32_t shift)
{
    for (size_t j = 0; j < s->tiles; j++) {
        const tile *t = &d->tiles.at[s->tile0 + j];
        for (int32_t nth = 0; nth < t->parts; nth++) emit_part(p, d, s, shift, t, nth);
        if (t->parts > 1) p->n_slots += t->parts;
    }
}

static void emit_sweep(attn_plan *p, const drafts *d, const workload *l, size_t run, uint32_t sweep)
{
    const size_t strips = l->strips / 2;
    const strip *s = &d->strips.at[l->strip0 + (sweep - 1) * strips + run % strips];
    const int64_t before = p->n_items;
    attni_open_stage(p, (stage){.sweep = sweep, .rows = attni_plan_seq(p, (uint32_t)s->seq)->n_q});
    emit_stage(p, d, s, (int32_t)(run / strips) * (int32_t)d->mask.per_kv);
    attni_close_stage(p, p->n_items - before);
}

/* Head after head. With several workers the second sweep of a head comes behind the first of the next one, so that whoever
 * begins it seldom waits. */
static void emit_sweeps(attn_plan *p, const drafts *d, const workload *l)
{
    const size_t runs = (size_t)l->copies * l->strips / 2, lag = p->workers > 1;
    for (size_t run = 0; run < runs + lag; run++) {
        if (run < runs) emit_sweep(p, d, l, run, 1);
        if (run >= lag) emit_sweep(p, d, l, run - lag, 2);
    }
}

static void emit_load(attn_plan *p, const drafts *d, const workload *l)
{
    if (is_swept(d, l)) {
        emit_sweeps(p, d, l);
        return;
    }
    const strip *first = &d->strips.at[l->strip0];
    if (l->strips == 1 && first->tiles == 1 && d->tiles.at[first->tile0].parts == 1) {
        emit_row(p, first, &d->tiles.at[first->tile0], l->copies, (int32_t)d->mask.per_kv);
        return;
    }
    const int64_t slots = p->n_slots;
    for (int32_t nth = 0, most = 1; nth < most; nth++) {
        p->n_slots = slots;
        most = emit_parts(p, d, l, nth);
    }
}

/* More than were drafted when tiles have been cut. */
static size_t count_items(const drafts *d)
{
    size_t all = 0;
    if (!d->cuts.n) return d->items;
    for (size_t i = 0; i < d->loads.n; i++) {
        const workload *l = &d->loads.at[i];
        for (size_t k = l->strip0; k < l->strip0 + l->strips; k++)
            for (size_t j = 0; j < d->strips.at[k].tiles; j++)
                all += (size_t)(l->copies * d->tiles.at[d->strips.at[k].tile0 + j].parts);
    }
    return all;
}

static size_t count_stages(const drafts *d)
{
    size_t all = 0;
    for (size_t i = 0; i < d->loads.n; i++)
        if (is_swept(d, &d->loads.at[i])) all += (size_t)d->loads.at[i].copies * d->loads.at[i].strips;
    return all;
}

static bool in_order(const drafts *d, const int32_t *order, size_t gap)
{
    const char *loads = (const char *)d->loads.at;
    for (size_t i = gap; i < d->loads.n; i++)
        if (lighter(loads + (size_t)order[i - gap] * sizeof(workload), loads + (size_t)order[i] * sizeof(workload)))
            return false;
    return true;
}

/* The loads by falling work: shell sort, from the order of the last time. */
static void order_loads(attn_plan *p, const drafts *d)
{
    const size_t n = d->loads.n;
    const char *loads = (const char *)d->loads.at;
    if (p->n_order != n)
        for (size_t i = 0; i < n; i++) p->order[i] = (int32_t)i;
    p->n_order = n;
    if (in_order(d, p->order, 1)) return;
    for (size_t gap = n / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11)
        for (size_t i = gap; i < n; i++) {
            const int32_t moved = p->order[i];
            size_t j = i;
            for (; j >= gap && lighter(loads + (size_t)p->order[j - gap] * sizeof(workload),
                                       loads + (size_t)moved * sizeof(workload));
                 j -= gap)
                p->order[j] = p->order[j - gap];
            p->order[j] = moved;
        }
}

static attn_status emit(attn_plan *p, const drafts *d, attn_error *err)
{
    memory *m = &p->mem;
    p->items = attni_widen(m, p->items, count_items(d), &p->cap.items, sizeof *p->items);
    p->segments = attni_widen(m, p->segments, d->segments.n, &p->cap.segments, sizeof *p->segments);
    p->stages = attni_widen(m, p->stages, count_stages(d), &p->cap.stages, sizeof *p->stages);
    if (p->cap.order < d->loads.n) p->n_order = 0;
    p->order = attni_widen(m, p->order, d->loads.n, &p->cap.order, sizeof *p->order);
    if (m->failed) return attni_no_memory(err);
    for (size_t i = 0; i < d->segments.n; i++) p->segments[i] = d->segments.at[i];
    order_loads(p, d);
    p->n_items = p->n_segments = p->n_slots = p->pairs_computed = 0;
    attni_forget_stages(p);
    for (size_t i = 0; i < d->loads.n; i++) emit_load(p, d, &d->loads.at[p->order[i]]);
    for (int64_t i = 0; i + 1 < p->n_items; i++) p->items[i].next = 1;
    return p->n_slots > INT32_MAX ? attni_fail(err, ATTN_E_MEMORY, "the plan has too many parts") : ATTN_OK;
}

void attni_drafts_open(drafts *d, memory *mem, const attn_module_desc *m)
{
    const spans none = {.mem = mem};
    *d = (drafts){.mem = mem};
    d->may = d->must = d->full = d->within = d->row_may = d->row_must = d->masked = d->open = none;
    attni_mask_open(&d->mask, mem, m);
}

static void clear_drafts(drafts *d, const attn_plan *p)
{
    d->plan = p;
    d->group_n_q = -1;
    d->items = 0;
    d->loads.n = d->tiles.n = d->strips.n = d->segments.n = d->cuts.n = 0;
    attni_mask_turn(&d->mask, p->kind, p->layer, p->inputs);
}

attn_status attni_plan_items(attn_plan *p, const attn_plan_config *c, drafts *d, attn_error *err)
{
    clear_drafts(d, p);
    if (attni_plan_again(p, c, d)) return ATTN_OK;
    clear_drafts(d, p);
    for (uint32_t i = 0; i < p->n_seqs && !d->mem->failed; i++)
        if (attni_plan_seq(p, i)->n_q) draft_sequence(d, (int32_t)i, c->group);
    if (!d->mem->failed) attni_cut_tiles(d, c->max_parts);
    p->n_rows = 0;
    if (d->mem->failed) return attni_no_memory(err);
    attn_status s = emit(p, d, err);
    if (!s && p->past) attni_plan_remember(p, d);
    return s || !p->mem.failed ? s : attni_no_memory(err);
}
