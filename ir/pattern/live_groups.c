/* live_groups.c - heads and layers put into `live`, and what comes out compared. */
#include "ir/pattern/live_groups.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_HEADS = 1 << 20, /* layers x KV heads */
    MAX_WORK = 1 << 24,  /* nodes that are written anew */
    MAX_COMPARED = 48    /* intervals of one set that are looked at for one that holds another */
};

typedef struct kind_facts {
    bool by_head, by_layer;
    live_group *known; /* per query head, where layers do not differ; n_live UINT32_MAX: not yet */
} kind_facts;

typedef struct grouping {
    const ir_module *m;
    expr_pool *pool;
    arena *arena;
    const ranges *const *by_kind;
    kind_facts *facts;      /* per kind */
    uint32_t *first, *next; /* per layer: the layers that read it, in a chain; UINT32_MAX ends it */
    VEC(live_group) groups;
    VEC(interval) set; /* being made */
} grouping;

/* ---- intervals --------------------------------------------------------------------------------------------------- */

static bool range_of(const grouping *x, expr e, int_range *r) { return expr_range(x->pool, e, EXPR_MAX_POSITION, r); }

static bool difference(const grouping *x, expr a, expr b, int_range *r)
{
    return range_of(x, expr_binary(x->pool, EXPR_SUB, a, b), r);
}

/* In its simplest form, cut to the keys there can be; false: it is empty for every q0. */
static bool tidy(const grouping *x, interval *i)
{
    int_range lo, hi, d;
    i->lo = expr_simplify_by_range(x->pool, i->lo);
    i->hi = expr_simplify_by_range(x->pool, i->hi);
    if (!range_of(x, i->lo, &lo) || !range_of(x, i->hi, &hi)) return true;
    if (hi.hi < 0 || lo.lo > EXPR_MAX_POSITION) return false;
    if (difference(x, i->hi, i->lo, &d) && d.hi < 0) return false;
    if (lo.hi <= 0) i->lo = expr_int(x->pool, 0);
    if (hi.lo >= EXPR_MAX_POSITION) i->hi = expr_int(x->pool, RANGES_INFINITY);
    return true;
}

static bool holds(const grouping *x, const interval *a, const interval *b)
{
    int_range r;
    const bool from = a->lo == b->lo || a->lo == expr_int(x->pool, 0) || (difference(x, b->lo, a->lo, &r) && r.lo >= 0);
    if (!from) return false;
    if (a->hi == b->hi || a->hi == expr_int(x->pool, RANGES_INFINITY)) return true;
    return difference(x, a->hi, b->hi, &r) && r.lo >= 0;
}

static void add_interval(grouping *x, interval i)
{
    size_t n = 0;
    for (size_t j = 0; j < x->set.n; j++) {
        const interval *old = &x->set.at[j];
        const bool same = old->lo == i.lo && old->hi == i.hi;
        if (same || (x->set.n <= MAX_COMPARED && holds(x, old, &i))) return;
    }
    for (size_t j = 0; j < x->set.n && x->set.n <= MAX_COMPARED; j++)
        if (!holds(x, &i, &x->set.at[j])) x->set.at[n++] = x->set.at[j];
    if (x->set.n <= MAX_COMPARED) x->set.n = n;
    VEC_PUSH(x->arena, &x->set, i);
}

/* ---- one query head of one layer --------------------------------------------------------------------------------- */

static expr put_in(const grouping *x, expr e, const shape *s, uint32_t layer, uint32_t h)
{
    e = expr_substitute(x->pool, e, VAR_LAYER, expr_int(x->pool, layer));
    e = expr_substitute(x->pool, e, VAR_H, expr_int(x->pool, h));
    return expr_substitute(x->pool, e, VAR_G, expr_int(x->pool, h * s->kv_heads / s->q_heads));
}

static live_group live_of(const grouping *x, uint32_t kind, uint32_t layer, uint32_t h)
{
    const ranges *r = x->by_kind[kind];
    const shape *s = &x->m->patterns.at[kind]->shape;
    live_group out = {.live = ARENA_ARRAY(x->arena, interval, r->n_live + 1u)};
    for (uint32_t i = 0; i < r->n_live; i++) {
        interval one = {put_in(x, r->live[i].lo, s, layer, h), put_in(x, r->live[i].hi, s, layer, h), 0};
        if (tidy(x, &one)) out.live[out.n_live++] = one;
    }
    return out;
}

static void add_head(grouping *x, uint32_t layer, uint32_t h)
{
    const uint32_t kind = x->m->schedule[layer];
    kind_facts *f = &x->facts[kind];
    live_group fresh, *l = f->by_layer ? &fresh : &f->known[f->by_head ? h : 0];
    if (f->by_layer || l->n_live == UINT32_MAX) *l = live_of(x, kind, layer, h);
    for (uint32_t i = 0; i < l->n_live; i++) add_interval(x, l->live[i]);
}

static void add_layer(grouping *x, uint32_t layer, uint32_t g)
{
    const uint32_t kind = x->m->schedule[layer];
    const shape *s = &x->m->patterns.at[kind]->shape;
    const uint32_t heads = (uint32_t)(s->q_heads / s->kv_heads);
    for (uint32_t h = g * heads; h < (x->facts[kind].by_head ? (g + 1) * heads : g * heads + 1); h++)
        add_head(x, layer, h);
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */

static int by_expression(const void *a, const void *b)
{
    const interval *x = a, *y = b;
    if (x->lo != y->lo) return x->lo < y->lo ? -1 : 1;
    return (x->hi > y->hi) - (x->hi < y->hi);
}

static uint32_t find_group(grouping *x)
{
    const size_t bytes = x->set.n * sizeof(interval);
    if (x->set.n) qsort(x->set.at, x->set.n, sizeof(interval), by_expression);
    for (size_t i = 0; i < x->groups.n; i++) {
        const live_group *g = &x->groups.at[i];
        if (g->n_live == x->set.n && (!bytes || !memcmp(g->live, x->set.at, bytes))) return (uint32_t)i;
    }
    live_group g = {.live = ARENA_ARRAY(x->arena, interval, x->set.n + 1), .n_live = (uint32_t)x->set.n};
    if (bytes) memcpy(g.live, x->set.at, bytes);
    VEC_PUSH(x->arena, &x->groups, g);
    return (uint32_t)x->groups.n - 1;
}

static uint32_t group_of(grouping *x, uint32_t layer, uint32_t g)
{
    x->set.n = 0;
    add_layer(x, layer, g);
    for (uint32_t l = x->first[layer]; l != UINT32_MAX; l = x->next[l]) add_layer(x, l, g);
    return find_group(x);
}

/* ---- what differs ------------------------------------------------------------------------------------------------ */

static kind_facts facts_of(const grouping *x, uint32_t kind)
{
    const ranges *r = x->by_kind[kind];
    const shape *s = &x->m->patterns.at[kind]->shape;
    kind_facts f = {.known = ARENA_ARRAY(x->arena, live_group, (size_t)s->q_heads)};
    for (int64_t h = 0; h < s->q_heads; h++) f.known[h].n_live = UINT32_MAX;
    for (uint32_t i = 0; i < 2 * r->n_live; i++) {
        const expr e = i % 2 ? r->live[i / 2].hi : r->live[i / 2].lo;
        f.by_head |= expr_reads_var(x->pool, e, VAR_H) || expr_reads_var(x->pool, e, VAR_G);
        f.by_layer |= expr_reads_var(x->pool, e, VAR_LAYER);
    }
    return f;
}

static uint64_t work_of(const grouping *x, uint32_t kind, uint64_t layers)
{
    const ranges *r = x->by_kind[kind];
    const kind_facts *f = &x->facts[kind];
    uint64_t nodes = 0;
    for (uint32_t i = 0; i < r->n_live; i++)
        nodes += expr_tree_size(x->pool, r->live[i].lo) + (uint64_t)expr_tree_size(x->pool, r->live[i].hi);
    const uint64_t heads = f->by_head ? (uint64_t)x->m->patterns.at[kind]->shape.q_heads : 1;
    return nodes * heads * (f->by_layer ? layers : 1);
}

static bool too_much(const grouping *x, uint32_t kind)
{
    if ((uint64_t)x->m->layers * (uint64_t)x->m->patterns.at[kind]->shape.kv_heads > MAX_HEADS) return true;
    uint64_t *layers = ARENA_ARRAY(x->arena, uint64_t, x->m->patterns.n + 1), work = 0;
    for (uint32_t l = 0; l < x->m->layers; l++) layers[x->m->schedule[l]]++;
    for (uint32_t k = 0; k < x->m->patterns.n; k++) work += work_of(x, k, layers[k]);
    return work > MAX_WORK;
}

static void chain_readers(grouping *x)
{
    const ir_module *m = x->m;
    x->first = ARENA_ARRAY(x->arena, uint32_t, m->layers + 1u);
    x->next = ARENA_ARRAY(x->arena, uint32_t, m->layers + 1u);
    memset(x->first, 0xff, m->layers * sizeof *x->first);
    for (uint32_t l = m->layers; l-- > 0;) {
        const pattern *p = m->patterns.at[m->schedule[l]];
        if (!p->kv_shared) continue;
        x->next[l] = x->first[p->kv_layer];
        x->first[p->kv_layer] = l;
    }
}

/* No layer of the kind differs from another, nor its heads. */
static bool all_alike(const grouping *x, uint32_t kind)
{
    bool alike = !x->facts[kind].by_head && !x->facts[kind].by_layer;
    for (uint32_t l = 0; l < x->m->layers && alike; l++) alike = x->m->schedule[l] != kind || x->first[l] == UINT32_MAX;
    return alike;
}

static live_groups one_group(grouping *x, uint32_t kind)
{
    const uint32_t kv_heads = (uint32_t)x->m->patterns.at[kind]->shape.kv_heads;
    uint32_t layer = 0, layers = 0;
    for (uint32_t l = x->m->layers; l-- > 0;)
        if (x->m->schedule[l] == kind) layer = l, layers++;
    if (layers) group_of(x, layer, 0);
    if (layers) x->groups.at[0].kv_heads = layers * kv_heads;
    return (live_groups){x->groups.at, (uint32_t)x->groups.n, NULL};
}

static live_groups tell_apart(grouping *x, uint32_t kind)
{
    const uint32_t kv_heads = (uint32_t)x->m->patterns.at[kind]->shape.kv_heads;
    uint16_t *of = ARENA_ARRAY(x->arena, uint16_t, (size_t)x->m->layers * kv_heads + 1);
    for (uint32_t l = 0; l < x->m->layers; l++)
        for (uint32_t g = 0; x->m->schedule[l] == kind && g < kv_heads; g++) {
            const uint32_t i = group_of(x, l, g);
            if (i == LIVE_MAX_GROUPS) return (live_groups){.n = 0};
            of[(size_t)l * kv_heads + g] = (uint16_t)i;
            x->groups.at[i].kv_heads++;
        }
    return (live_groups){x->groups.at, (uint32_t)x->groups.n, x->groups.n > 1 ? of : NULL};
}

live_groups live_groups_compute(const ir_module *m, const ranges *const *by_kind, uint32_t kind)
{
    grouping x = {.m = m, .pool = m->pool, .arena = m->arena, .by_kind = by_kind};
    x.facts = ARENA_ARRAY(m->arena, kind_facts, m->patterns.n + 1);
    for (uint32_t k = 0; k < m->patterns.n; k++) x.facts[k] = facts_of(&x, k);
    chain_readers(&x);
    if (all_alike(&x, kind)) return one_group(&x, kind);
    return too_much(&x, kind) ? (live_groups){.n = 0} : tell_apart(&x, kind);
}
