/* plan_items.c - tiles of query rows in the order in which they are run.
 *
 * Order: sequences by falling work, in each the heads one after the other (their K and V stay in cache: worth up
 * to 1.45 times), of each head the longest tile first, so that short ones fill the end. */
#include "plan.h"

#include "error.h"

#include <string.h>

#define MAX_SEGMENTS ((size_t)1 << 29) /* indices of segments are int32_t; cutting doubles their number */

/* How many of `per_kv` query heads share a tile. A tile reads its keys once, so the fewest tiles win; then the fewest
 * heads, whose lanes lie together. Long prefills fill tiles with the rows of one head: little is lost at their end. */
static uint32_t choose_group(const attn_plan *p, int64_t n_q, uint32_t forced)
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

static void draft_tiles(drafts *d, strip *s)
{
    const attn_seq *seq = attni_plan_seq(d->plan, (uint32_t)s->seq);
    const int64_t rows = d->plan->kernel->lanes / (uint32_t)s->heads;
    s->tile0 = d->tiles.n;
    for (int64_t row = 0; row < seq->n_q && !d->mem->failed; row += rows) {
        int64_t n = seq->n_q - row < rows ? seq->n_q - row : rows;
        tile t = {.w.key = row, .row = (int32_t)row, .rows = (int32_t)n, .parts = 1};
        attni_tile_segments(d, &t, (uint32_t)s->head, (uint32_t)s->heads);
        LIST_ADD(d->mem, &d->tiles, t);
        if (d->segments.n > MAX_SEGMENTS) d->mem->failed = true;
    }
    s->tiles = d->tiles.n - s->tile0;
    if (!d->mem->failed) sort_heaviest_first(d->tiles.at + s->tile0, s->tiles, sizeof *d->tiles.at);
}

/* A strip of the same sequence and pages with as many heads, when heads see the same. */
static const strip *find_twin(const drafts *d, const strip *s)
{
    if (d->plan->kind->flags & ATTN_KIND_HEADS_DIFFER) return NULL;
    for (size_t i = d->strips.n; i-- > 0 && d->strips.at[i].seq == s->seq;)
        if (d->strips.at[i].heads == s->heads && d->strips.at[i].group == s->group) return &d->strips.at[i];
    return NULL;
}

static void draft_sequence(drafts *d, int32_t seq, uint32_t forced_group)
{
    const attn_plan *p = d->plan;
    const attn_seq *at = attni_plan_seq(p, (uint32_t)seq);
    const int32_t per_kv = (int32_t)(p->kind->q_heads / p->kind->kv_heads);
    const int32_t group = (int32_t)choose_group(p, at->n_q, forced_group);
    attni_mask_bind(&d->mask, at, p->key_bounds[seq]);
    for (int32_t g = 0; g < (int32_t)p->kind->kv_heads && at->n_q; g++) {
        const int32_t pages = p->head_group ? p->head_group[g] : 0;
        if (p->past) d->mask.present = p->past[(size_t)seq * p->n_groups + (size_t)pages].present;
        for (int32_t h = 0; h < per_kv && !d->mem->failed; h += group) {
            strip s = {
                .seq = seq, .group = pages, .head = g * per_kv + h, .heads = per_kv - h < group ? per_kv - h : group};
            const strip *twin = find_twin(d, &s);
            if (twin)
                s.tile0 = twin->tile0, s.tiles = twin->tiles;
            else
                draft_tiles(d, &s);
            LIST_ADD(d->mem, &d->strips, s);
        }
    }
}

/* ---- items ---------------------------------------------------------------------------------------------------- */

static void emit_tile(attn_plan *p, const drafts *d, const strip *s, const tile *t)
{
    attn_item item = {.seq = s->seq * (int32_t)p->n_groups + s->group,
                      .head = s->head,
                      .heads = s->heads,
                      .row = t->row,
                      .rows = t->rows,
                      .parts = t->parts,
                      .segment0 = t->segment0,
                      .segments = t->segments};
    if (t->parts > 1) item.part_slot = (int32_t)p->n_slots;
    for (int32_t i = 0; i < t->parts; i++) {
        if (t->parts > 1) {
            item.part = i;
            item.segment0 = d->cuts.at[t->cut0 + i].segment0;
            item.segments = d->cuts.at[t->cut0 + i].segments;
        }
        p->n_segments += item.segments;
        p->items[p->n_items++] = item;
    }
    if (t->parts > 1) p->n_slots += t->parts;
    p->pairs_computed += t->pairs;
}

/* The work of a sequence; its strips lie together. */
typedef struct load {
    weight w; /* key: the sequence */
    size_t strip0, strips;
} load;

static size_t weigh_sequences(const drafts *d, load *loads)
{
    size_t n = 0;
    for (size_t i = 0; i < d->strips.n; i++) {
        const strip *s = &d->strips.at[i];
        if (!i || s->seq != s[-1].seq) loads[n++] = (load){.w = {.key = s->seq}, .strip0 = i};
        loads[n - 1].strips++;
        for (size_t j = 0; j < s->tiles; j++) loads[n - 1].w.cost += d->tiles.at[s->tile0 + j].w.cost;
    }
    sort_heaviest_first(loads, n, sizeof *loads);
    return n;
}

static int64_t count_items(const drafts *d)
{
    int64_t n = 0;
    for (size_t i = 0; i < d->strips.n; i++)
        for (size_t j = 0; j < d->strips.at[i].tiles; j++) n += d->tiles.at[d->strips.at[i].tile0 + j].parts;
    return n;
}

static void emit_strip(attn_plan *p, const drafts *d, const strip *s)
{
    for (size_t j = 0; j < s->tiles; j++) emit_tile(p, d, s, &d->tiles.at[s->tile0 + j]);
}

static attn_status emit(attn_plan *p, const drafts *d, attn_error *err)
{
    load *loads = attni_alloc(d->mem, d->strips.n + 1, sizeof *loads);
    p->items = attni_alloc(&p->mem, (size_t)count_items(d), sizeof *p->items);
    p->segments = attni_alloc(&p->mem, d->segments.n, sizeof *p->segments);
    if (d->mem->failed || p->mem.failed) return attni_fail(err, ATTN_E_MEMORY, "out of memory");
    for (size_t i = 0; i < d->segments.n; i++) p->segments[i] = d->segments.at[i];
    const size_t n = weigh_sequences(d, loads);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < loads[i].strips; j++) emit_strip(p, d, &d->strips.at[loads[i].strip0 + j]);
    return p->n_slots > INT32_MAX ? attni_fail(err, ATTN_E_MEMORY, "the plan has too many parts") : ATTN_OK;
}

static void open_drafts(drafts *d, const attn_plan *p, memory *scratch)
{
    const spans none = {.mem = scratch};
    *d = (drafts){.plan = p, .mem = scratch};
    d->may = d->must = d->full = d->within = d->row_may = d->row_must = d->masked = d->open = none;
    attni_mask_open(&d->mask, scratch, p->kind, p->module->desc.n_attrs, p->layer, p->inputs);
}

attn_status attni_plan_items(attn_plan *p, const attn_plan_config *c, attn_error *err)
{
    memory scratch;
    drafts d;
    attn_status s = attni_memory_open(&scratch, &p->mem.a, err);
    if (s) return s;
    open_drafts(&d, p, &scratch);
    for (uint32_t i = 0; i < p->n_seqs && !scratch.failed; i++) draft_sequence(&d, (int32_t)i, c->group);
    if (!scratch.failed) attni_cut_tiles(&d, c->max_parts);
    s = scratch.failed ? attni_fail(err, ATTN_E_MEMORY, "out of memory") : emit(p, &d, err);
    attni_memory_close(&scratch);
    return s;
}
