/* coverage.c - what a pattern's ranges say about a text of n tokens.
 *
 * Heads and layers whose ranges are the same expressions, once h, g and layer are put in, are counted once and multiplied. Pairs
 * are summed row by row, tiles from the intervals of each row of tiles: O(n) evaluations, never O(n^2). */
#include "tools/attnc/coverage.h"
#include "ir/pattern/live_groups.h"
#include <stdlib.h>
#include <string.h>

/* Bounds on work: a second or so, whatever the file says. */
enum { MAX_HEADS = 1 << 13, MAX_EVALUATIONS = 1 << 22 };

/* One way heads see: the lists for some (layer, head). */
typedef struct variety {
    expr *ends; /* lo, hi, step of may, then must */
    int64_t weight;
    expr_program *program[2]; /* by ranges_list */
} variety;

/* KV heads that live together. */
typedef struct group {
    expr_program *program;
    uint32_t n_live;
    int64_t heads;
} group;

typedef struct counter {
    arena *arena;
    const ir_module *m;
    const pattern *p;
    const ranges *r;
    uint32_t n_list[2]; /* intervals of may, must */
    VEC(variety) varieties;
    VEC(group) groups;
    bool (*data)[2];
    expr_value *values, *results;
    key_interval *list;
    uint32_t n_items, n_whole; /* of list; of them without a step, which come first */
    uint8_t *tiles;            /* per key tile: touched */
    coverage_options o;
    coverage out;
} counter;

static const interval *list_of(const ranges *r, int which)
{
    return which == RANGES_MAY ? r->may : r->must;
}

enum { ENDS = 3 }; /* of an interval */

static uint32_t n_ends(const counter *c) { return ENDS * (c->n_list[0] + c->n_list[1]); }

/* ---- varieties of heads ------------------------------------------------------------------------------------------------------- */

static bool reads(const counter *c, expr_var v)
{
    for (int which = 0; which < 2; which++)
        for (uint32_t i = 0; i < c->n_list[which]; i++) {
            const interval *x = &list_of(c->r, which)[i];
            if (expr_reads_var(c->m->pool, x->lo, v) || expr_reads_var(c->m->pool, x->hi, v)) return true;
            if (x->step && expr_reads_var(c->m->pool, x->step, v)) return true;
        }
    return false;
}

/* A table whose values are only there at run time, or NULL. */
static const table *runtime_table(const counter *c, expr e, bool *seen)
{
    if (!e || seen[e]) return NULL;
    seen[e] = true;
    const expr_node node = *expr_get(c->m->pool, e);
    if (node.op == EXPR_ELEM || node.op == EXPR_ELEM_MIN || node.op == EXPR_ELEM_MAX) {
        const table *t = &c->m->symbols.tables.at[node.index];
        if (!t->value) return t;
    }
    for (uint32_t i = 0; i < node.nargs; i++) {
        const table *t = runtime_table(c, node.arg[i], seen);
        if (t) return t;
    }
    return NULL;
}

static const table *find_runtime_table(const counter *c, const expr *list, uint32_t n)
{
    bool *seen = ARENA_ARRAY(c->arena, bool, expr_count(c->m->pool));
    const table *t = NULL;
    for (uint32_t i = 0; i < n && !t; i++)
        t = runtime_table(c, list[i], seen);
    return t;
}

static const table *mask_table(const counter *c)
{
    const table *t = NULL;
    for (int which = 0; which < 2; which++)
        for (uint32_t i = 0; i < c->n_list[which] && !t; i++) {
            const interval *x = &list_of(c->r, which)[i];
            t = find_runtime_table(c, (const expr[]){x->lo, x->hi, x->step}, ENDS);
        }
    return t;
}

static expr put_in(const counter *c, expr e, int64_t layer, int64_t h)
{
    const shape *s = &c->p->shape;
    expr_pool *p = c->m->pool;
    e = expr_substitute(p, e, VAR_LAYER, expr_int(p, layer));
    e = expr_substitute(p, e, VAR_H, expr_int(p, h));
    return expr_substitute(p, e, VAR_G, expr_int(p, h * s->kv_heads / s->q_heads));
}

static void make_programs(counter *c, variety *v)
{
    const expr *at = v->ends;
    for (int which = 0; which < 2; which++) {
        v->program[which] = expr_program_create(c->arena, c->m->pool, at, ENDS * c->n_list[which]);
        at += ENDS * c->n_list[which];
    }
}

/* Index of the variety of this head, made when it is new. */
static uint32_t find_variety(counter *c, int64_t layer, int64_t h)
{
    uint32_t n = n_ends(c), at = 0;
    expr *ends = ARENA_ARRAY(c->arena, expr, n + 1);
    for (int which = 0; which < 2; which++)
        for (uint32_t i = 0; i < c->n_list[which]; i++) {
            const interval *x = &list_of(c->r, which)[i];
            ends[at++] = put_in(c, x->lo, layer, h);
            ends[at++] = put_in(c, x->hi, layer, h);
            ends[at++] = x->step ? put_in(c, x->step, layer, h) : expr_int(c->m->pool, 1);
        }
    for (uint32_t i = 0; i < c->varieties.n; i++)
        if (!memcmp(c->varieties.at[i].ends, ends, n * sizeof *ends)) return i;
    variety v = {.ends = ends};
    make_programs(c, &v);
    VEC_PUSH(c->arena, &c->varieties, v);
    return (uint32_t)c->varieties.n - 1;
}

/* Keys and values live by group of KV heads, over all that read them. */
static void add_groups(counter *c, uint32_t index)
{
    const ranges **by_kind = ARENA_ARRAY(c->arena, const ranges *, c->m->patterns.n);
    if (c->p->kv_shared) return;
    for (size_t i = 0; i < c->m->patterns.n; i++)
        by_kind[i] = c->m->patterns.at[i]->ranges;
    const live_groups x = live_groups_compute(c->m, by_kind, index);
    c->out.known = x.n > 0;
    if (!x.n) c->out.unknown = "too many heads that may differ";
    for (uint32_t i = 0; i < x.n; i++) {
        expr *ends = ARENA_ARRAY(c->arena, expr, ENDS * x.at[i].n_live + 1), one = expr_int(c->m->pool, 1);
        for (uint32_t j = 0; j < x.at[i].n_live; j++)
            ends[ENDS * j] = x.at[i].live[j].lo, ends[ENDS * j + 1] = x.at[i].live[j].hi, ends[ENDS * j + 2] = one;
        const table *t = find_runtime_table(c, ends, ENDS * x.at[i].n_live);
        if (t) {
            c->out.known = false, c->out.unknown = arena_printf(c->arena, "depends on the input %s", t->name);
            return;
        }
        const group g = {expr_program_create(c->arena, c->m->pool, ends, ENDS * x.at[i].n_live), x.at[i].n_live, x.at[i].kv_heads};
        VEC_PUSH(c->arena, &c->groups, g);
    }
}

static void add_kv_head(counter *c, int64_t layer, int64_t g, int64_t weight)
{
    const shape *s = &c->p->shape;
    int64_t size = s->q_heads / s->kv_heads;
    for (int64_t h = g * size; h < (g + 1) * size; h++) {
        uint32_t v = find_variety(c, layer, h);
        c->varieties.at[v].weight += weight;
    }
}

/* Which (layer, KV head) pairs to look at: all, or one for all that cannot differ. */
static void collect(counter *c, uint32_t index)
{
    const shape *s = &c->p->shape;
    bool by_layer = reads(c, VAR_LAYER), by_head = reads(c, VAR_H) || reads(c, VAR_G);
    int64_t layers = 0;
    for (uint32_t l = 0; l < c->m->layers; l++)
        layers += c->m->schedule[l] == index;
    if ((by_layer ? layers : 1) * (by_head ? s->q_heads : 1) > MAX_HEADS) {
        c->out.unknown = "too many heads that may differ";
        return;
    }
    for (uint32_t l = 0, seen = 0; l < c->m->layers; l++) {
        if (c->m->schedule[l] != index || (seen++ && !by_layer)) continue;
        int64_t same_layers = by_layer ? 1 : layers;
        for (int64_t g = 0; g < (by_head ? s->kv_heads : 1); g++)
            add_kv_head(c, l, g, same_layers * (by_head ? 1 : s->kv_heads));
    }
    c->out.known = true;
    add_groups(c, index);
}

/* ---- intervals ------------------------------------------------------------------------------------------------------------------ */

static int by_lo(const void *a, const void *b)
{
    const key_interval *x = a, *y = b;
    if ((x->step == 1) != (y->step == 1)) return x->step == 1 ? -1 : 1;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Adds the n intervals, cut to [0, n_keys), to c->list. */
static void evaluate(counter *c, const expr_program *x, uint32_t n, int64_t q0, int64_t q1, int64_t n_keys)
{
    expr_env env = {.var[VAR_Q0] = q0, .var[VAR_Q1] = q1, .var[VAR_LEN] = c->o.n, .data = (const bool(*)[2])c->data};
    expr_program_run(x, &env, c->values, c->results);
    for (uint32_t i = 0; i < n; i++) {
        int64_t lo = c->results[ENDS * i].i, hi = c->results[ENDS * i + 1].i, step = c->results[ENDS * i + 2].i;
        if (lo < 0) lo = lo % step + (lo % step < 0 ? step : 0);
        if (hi > n_keys - 1) hi = n_keys - 1;
        if (lo > hi) continue;
        hi -= (hi - lo) % step;
        c->list[c->n_items++] = (key_interval){lo, hi, lo == hi ? 1 : step};
    }
}

/* Sorts c->list and joins what touches: first those without a step, n_whole of them, then the others. */
static void merge(counter *c)
{
    uint32_t n = 0;
    if (c->n_items > 1) qsort(c->list, c->n_items, sizeof *c->list, by_lo);
    for (uint32_t i = 0; i < c->n_items && c->list[i].step == 1; i++) {
        key_interval x = c->list[i];
        if (n && x.lo <= c->list[n - 1].hi + 1)
            c->list[n - 1].hi = x.hi > c->list[n - 1].hi ? x.hi : c->list[n - 1].hi;
        else
            c->list[n++] = x;
        c->n_whole = n;
    }
    if (!n) c->n_whole = 0;
    for (uint32_t i = 0; i < c->n_items; i++)
        if (c->list[i].step != 1) c->list[n++] = c->list[i];
    c->n_items = n;
}

static void keys_of(counter *c, const variety *v, ranges_list which, int64_t q0, int64_t q1, int64_t n_keys)
{
    c->n_items = 0;
    evaluate(c, v->program[which], c->n_list[which], q0, q1, n_keys);
    merge(c);
}

static int64_t keys_in(const key_interval *x) { return (x->hi - x->lo) / x->step + 1; }

/* Keys of x from lo to hi. */
static int64_t keys_between(const key_interval *x, int64_t lo, int64_t hi)
{
    if (lo < x->lo) lo = x->lo;
    if (hi > x->hi) hi = x->hi;
    lo += (x->step - 1 - (lo - x->lo) % x->step + (lo > x->lo)) % x->step;
    return lo > hi ? 0 : (hi - lo) / x->step + 1;
}

/* Keys of the item, which has a step, that none before it has. Against others with a step they are looked at one by one. */
static int64_t new_keys(const counter *c, uint32_t item)
{
    const key_interval *x = &c->list[item];
    int64_t n = keys_in(x);
    for (uint32_t i = 0; i < c->n_whole; i++) n -= keys_between(x, c->list[i].lo, c->list[i].hi);
    for (int64_t k = x->lo; item > c->n_whole && k <= x->hi; k += x->step)
        n -= ranges_hold(c->list + c->n_whole, item - c->n_whole, k) && !ranges_hold(c->list, c->n_whole, k);
    return n;
}

static int64_t count_keys(const counter *c)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < c->n_items; i++) n += i < c->n_whole ? keys_in(&c->list[i]) : new_keys(c, i);
    return n;
}

/* Key tiles that intervals with and without a step touch. */
static int64_t count_touched(const counter *c)
{
    const int64_t size = c->o.tile_keys, columns = (c->o.n + size - 1) / size;
    int64_t n = 0;
    memset(c->tiles, 0, (size_t)columns);
    for (uint32_t i = 0; i < c->n_items; i++) {
        const int64_t step = c->list[i].step < size ? size : c->list[i].step; /* at smaller ones no tile is left out */
        for (int64_t k = c->list[i].lo; k <= c->list[i].hi; k += step) c->tiles[k / size] = 1;
        c->tiles[c->list[i].hi / size] = 1;
    }
    for (int64_t i = 0; i < columns; i++) n += c->tiles[i];
    return n;
}

/* Key tiles that the list touches, or fills, which no interval with a step does. The last tile may be short. */
static int64_t count_tiles(const counter *c, bool filled)
{
    int64_t size = c->o.tile_keys, n = 0, next = 0; /* next: first tile not counted yet */
    if (!filled && c->n_items > c->n_whole) return count_touched(c);
    for (uint32_t i = 0; i < c->n_whole; i++) {
        key_interval x = c->list[i];
        int64_t first = filled ? (x.lo + size - 1) / size : x.lo / size;
        int64_t last = filled && x.hi < c->o.n - 1 ? (x.hi + 1) / size - 1 : x.hi / size;
        if (first < next) first = next;
        if (last < first) continue;
        n += last - first + 1;
        next = last + 1;
    }
    return n;
}

/* ---- counts --------------------------------------------------------------------------------------------------------------------- */

static void count_tile_rows(counter *c, bool pairs_too)
{
    int64_t n = c->o.n, rows = c->o.tile_rows, columns = (n + c->o.tile_keys - 1) / c->o.tile_keys;
    for (size_t i = 0; i < c->varieties.n; i++) {
        const variety *v = &c->varieties.at[i];
        for (int64_t q0 = 0; q0 < n; q0 += rows) {
            int64_t q1 = q0 + rows < n ? q0 + rows - 1 : n - 1;
            keys_of(c, v, RANGES_MAY, q0, q1, n);
            int64_t touched = count_tiles(c, false);
            if (pairs_too) c->out.pairs_visible += v->weight * count_keys(c) * (q1 - q0 + 1);
            keys_of(c, v, RANGES_MUST, q0, q1, n);
            int64_t full = count_tiles(c, true);
            c->out.tiles_full += v->weight * full;
            c->out.tiles_partial += v->weight * (touched - full);
            c->out.tiles_all += v->weight * columns;
        }
        c->out.pairs_all += v->weight * n * n;
    }
}

static void count_pairs(counter *c)
{
    for (size_t i = 0; i < c->varieties.n; i++)
        for (int64_t q = 0; q < c->o.n; q++) {
            keys_of(c, &c->varieties.at[i], RANGES_MAY, q, q, c->o.n);
            c->out.pairs_visible += c->varieties.at[i].weight * count_keys(c);
        }
}

static int64_t live_keys(counter *c, const group *g, int64_t n)
{
    c->n_items = 0;
    evaluate(c, g->program, g->n_live, n, n, n);
    merge(c);
    return g->heads * count_keys(c);
}

static void count_live(counter *c, bool row_by_row)
{
    const shape *s = &c->p->shape;
    const int64_t token = kv_row_bytes(s, s->dim) + (c->p->k_is_v ? 0 : kv_row_bytes(s, s->dim_v));
    c->out.groups = ARENA_ARRAY(c->arena, coverage_group, c->groups.n + 1);
    c->out.n_groups = (uint32_t)c->groups.n;
    for (size_t i = 0; i < c->groups.n; i++) {
        const group *g = &c->groups.at[i];
        c->out.groups[i] = (coverage_group){g->heads, live_keys(c, g, c->o.n) * token, g->heads * c->o.n * token};
        c->out.full_bytes += c->out.groups[i].full_bytes;
        c->out.live_bytes += c->out.groups[i].live_bytes;
    }
    c->out.live_peak_bytes = row_by_row ? 0 : -1;
    for (int64_t n = 1; row_by_row && n <= c->o.n; n++) {
        int64_t live = 0;
        for (size_t i = 0; i < c->groups.n; i++)
            live += live_keys(c, &c->groups.at[i], n) * token;
        if (live > c->out.live_peak_bytes) c->out.live_peak_bytes = live;
    }
}

/* May a step end before token n: nobody before it sees it or a later one. */
static bool can_split(counter *c, int64_t n)
{
    for (size_t i = 0; i < c->varieties.n; i++) {
        keys_of(c, &c->varieties.at[i], RANGES_MAY, 0, n - 1, RANGES_INFINITY);
        for (uint32_t j = 0; j < c->n_items; j++)
            if (c->list[j].hi >= n) return false;
    }
    return true;
}

static void prepare(counter *c)
{
    size_t values = 1, items = 1;
    for (size_t i = 0; i < c->varieties.n; i++)
        for (int which = 0; which < 2; which++) {
            size_t n = expr_program_size(c->varieties.at[i].program[which]);
            values = n > values ? n : values;
        }
    for (size_t i = 0; i < c->groups.n; i++) {
        size_t n = expr_program_size(c->groups.at[i].program);
        values = n > values ? n : values;
        items = ENDS * c->groups.at[i].n_live + 2 > items ? ENDS * c->groups.at[i].n_live + 2 : items;
    }
    for (int which = 0; which < 2; which++)
        items = ENDS * c->n_list[which] + 2 > items ? ENDS * c->n_list[which] + 2 : items;
    c->values = ARENA_ARRAY(c->arena, expr_value, values);
    c->results = ARENA_ARRAY(c->arena, expr_value, items);
    c->list = ARENA_ARRAY(c->arena, key_interval, items);
    c->tiles = ARENA_ARRAY(c->arena, uint8_t, (size_t)((c->o.n + c->o.tile_keys - 1) / c->o.tile_keys) + 1);
    c->data = (bool(*)[2])arena_array(c->arena, c->r->n_data + 1, sizeof *c->data);
    for (uint32_t i = 0; i < c->r->n_data; i++)
        c->data[i][0] = true; /* nothing is known of the data: may, not must */
}

coverage coverage_compute(arena *a, const ir_module *m, uint32_t index, const coverage_options *o)
{
    const pattern *p = m->patterns.at[index];
    counter c = {.arena = a, .m = m, .p = p, .r = p->ranges, .o = *o};
    c.n_list[RANGES_MAY] = p->ranges->n_may;
    c.n_list[RANGES_MUST] = p->ranges->n_must;
    const table *t = mask_table(&c);
    if (t) {
        c.out.unknown = arena_printf(a, "depends on the input %s", t->name);
        return c.out;
    }
    collect(&c, index);
    if (!c.out.known) return c.out;
    if ((int64_t)c.varieties.n * (o->n / o->tile_rows) > MAX_EVALUATIONS) {
        c.out = (coverage){.unknown = "too many different heads for a text this long"};
        return c.out;
    }
    prepare(&c);
    bool row_by_row = (int64_t)(c.varieties.n + c.groups.n) * o->n <= 2 * (int64_t)MAX_EVALUATIONS;
    c.out.exact_pairs = row_by_row && p->ranges->exact_rows;
    c.out.exact_live = !p->ranges->n_data && !p->ranges->n_undecided;
    count_tile_rows(&c, !row_by_row);
    if (row_by_row) count_pairs(&c);
    count_live(&c, row_by_row);
    for (int64_t n = 1; row_by_row && n < o->n; n++)
        c.out.boundaries += can_split(&c, n);
    return c.out;
}
