/* cache_seq.c - sequences: begin, end, fork, rollback, and room for what a step brings. */
#include "cache.h"

#include "error.h"

#include <string.h>

/* ---- finding ---------------------------------------------------------------------------------------------------- */

/* Where a sequence is in the list, or would be. */
static size_t place_of(const attn_cache *c, attn_seq_id id)
{
    size_t lo = 0, hi = c->seqs.n;
    while (lo < hi) {
        const size_t middle = lo + (hi - lo) / 2;
        if (c->seqs.at[middle]->id < id)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo;
}

sequence *attni_seq_find(const attn_cache *c, attn_seq_id id)
{
    const size_t i = place_of(c, id);
    return i < c->seqs.n && c->seqs.at[i]->id == id ? c->seqs.at[i] : NULL;
}

attn_status attni_seq_get(const attn_cache *c, attn_seq_id id, sequence **out, attn_error *err)
{
    *out = attni_seq_find(c, id);
    if (*out) return ATTN_OK;
    return attni_fail(err, ATTN_E_STATE, "sequence %llu %s", (unsigned long long)id,
                      id && id <= c->last_id ? "has ended" : "is not of this cache");
}

/* ---- room ------------------------------------------------------------------------------------------------------- */

/* A larger block with the same beginning; the old one when there is no memory. */
static void *widen(memory *m, void *old, size_t used, size_t size)
{
    void *wide = attni_alloc(m, 1, size);
    if (!wide) return old;
    if (used) memcpy(wide, old, used);
    attni_free(m, old);
    return wide;
}

static void widen_table(attn_cache *c, table *t, size_t pages)
{
    if (pages <= t->cap) return;
    const size_t cap = pages < 2 * t->cap ? 2 * t->cap : pages < 4 ? 4 : pages;
    t->pages = widen(&c->mem, t->pages, t->cap * sizeof *t->pages, cap * sizeof *t->pages);
    if (!c->mem.failed) t->cap = cap;
}

static size_t bounds_bytes(int64_t n, uint32_t n_attrs)
{
    return (size_t)((n + MASK_BLOCK - 1) / MASK_BLOCK) * n_attrs * 2 * sizeof(int32_t);
}

static void widen_attrs(attn_cache *c, sequence *s, int64_t n)
{
    if (n <= s->attr_cap) return;
    const int64_t cap = n < 2 * s->attr_cap ? 2 * s->attr_cap : n < 64 ? 64 : n;
    const uint32_t n_attrs = c->module->desc.n_attrs;
    if (c->keep_bounds)
        s->bounds = widen(&c->mem, s->bounds, bounds_bytes(s->attr_cap, n_attrs), bounds_bytes(cap, n_attrs));
    for (uint32_t a = 0; a < n_attrs && !c->mem.failed; a++)
        s->attrs[a] =
            widen(&c->mem, s->attrs[a], (size_t)s->attr_cap * sizeof **s->attrs, (size_t)cap * sizeof **s->attrs);
    if (!c->mem.failed) s->attr_cap = cap;
}

attn_status attni_seq_reserve(attn_cache *c, sequence *s, int64_t n, attn_error *err)
{
    const size_t pages = (size_t)attni_page_index(c, n + c->page_tokens - 1);
    for (uint32_t k = 0; k < c->n_pools && !c->mem.failed; k++)
        if (c->pools[k].n_blocks) widen_table(c, &s->tables[k], pages);
    if (!c->mem.failed) widen_attrs(c, s, n);
    return c->mem.failed ? attni_no_memory(err) : ATTN_OK;
}

attn_status attni_seq_reserve_ids(attn_cache *c, sequence *s, int64_t n, attn_error *err)
{
    if (n <= s->token_cap) return ATTN_OK;
    const int64_t cap = n < 2 * s->token_cap ? 2 * s->token_cap : n < 64 ? 64 : n;
    s->tokens = widen(&c->mem, s->tokens, (size_t)s->token_cap * sizeof *s->tokens, (size_t)cap * sizeof *s->tokens);
    if (c->mem.failed) return attni_no_memory(err);
    s->token_cap = cap;
    return ATTN_OK;
}

/* ---- pages ------------------------------------------------------------------------------------------------------ */

void attni_seq_drop_pages(attn_cache *c, sequence *s, uint32_t pool, const spans *pages)
{
    table *t = &s->tables[pool];
    for (size_t i = 0; i < pages->n; i++)
        for (int64_t p = pages->at[i].lo; p < pages->at[i].hi; p++) {
            attni_page_drop(c, pool, t->pages[p]);
            t->pages[p] = NULL;
        }
}

/* Keys lo .. hi - 1 of the page; what the tree of prefixes does not have yet and may get is spared. */
static void poison_keys(attn_cache *c, const sequence *s, uint32_t pool, int64_t index, int64_t lo, int64_t hi)
{
    const int64_t first = index * c->page_tokens, spared = attni_prefix_end(s->node);
    const char *data = s->tables[pool].pages[index];
    page *p = attni_page_of(data);
    if (lo < s->known && hi > spared) {
        if (lo < spared) poison_keys(c, s, pool, index, lo, spared);
        if (hi > s->known) poison_keys(c, s, pool, index, s->known, hi);
        return;
    }
    attni_page_poison(c, pool, data, lo - first, hi - first);
    if (lo < s->known && !attni_page_is_shared(data) && hi - first > p->from) p->from = (uint32_t)(hi - first);
}

/* Poisons the slots of the page that no span of keys covers. */
static void poison_page(attn_cache *c, sequence *s, uint32_t pool, int64_t index, const spans *alive)
{
    const int64_t end = (index + 1) * c->page_tokens;
    int64_t from = index * c->page_tokens;
    for (size_t i = 0; i < alive->n && from < end; i++) {
        if (alive->at[i].hi <= from) continue;
        const int64_t to = alive->at[i].lo < end ? alive->at[i].lo : end;
        if (from < to) poison_keys(c, s, pool, index, from, to);
        from = alive->at[i].hi;
    }
    if (from < end) poison_keys(c, s, pool, index, from, end);
}

void attni_seq_poison(attn_cache *c, sequence *s, uint32_t pool, const spans *alive)
{
    const spans *held = &s->tables[pool].held;
    for (size_t i = 0; c->poison && i < held->n; i++)
        for (int64_t p = held->at[i].lo; p < held->at[i].hi; p++) poison_page(c, s, pool, p, alive);
}

/* ---- begin and end ---------------------------------------------------------------------------------------------- */

sequence *attni_seq_make(attn_cache *c)
{
    const attn_module_desc *d = &c->module->desc;
    if (c->seqs.n == c->seqs.cap)
        c->seqs.at = attni_grow(&c->mem, c->seqs.at, c->seqs.n, &c->seqs.cap, sizeof *c->seqs.at);
    sequence *s = attni_alloc(&c->mem, 1, sizeof *s);
    if (!s) return NULL;
    attni_prefix_stand(s, &c->prefixes.root);
    s->tables = attni_alloc(&c->mem, c->n_pools, sizeof *s->tables);
    s->attrs = attni_alloc(&c->mem, d->n_attrs, sizeof *s->attrs);
    for (uint32_t k = 0; s->tables && k < c->n_pools; k++) s->tables[k].held.mem = s->tables[k].alive.mem = &c->mem;
    if (!c->mem.failed) return s;
    attni_seq_delete(c, s);
    return NULL;
}

attn_seq_id attni_seq_enlist(attn_cache *c, sequence *s)
{
    s->id = ++c->last_id;
    c->seqs.at[c->seqs.n++] = s;
    return s->id;
}

static attn_status begin(attn_cache *c, attn_seq_id *out, attn_error *err)
{
    sequence *s = attni_seq_make(c);
    if (!s) return attni_no_memory(err);
    *out = attni_seq_enlist(c, s);
    return ATTN_OK;
}

/* The last ones first: so prefixes become older from their ends on. */
static void drop_all_pages(attn_cache *c, sequence *s)
{
    size_t most = 0;
    for (uint32_t k = 0; k < c->n_pools; k++)
        if (s->tables[k].cap > most) most = s->tables[k].cap;
    for (size_t p = most; p-- > 0;)
        for (uint32_t k = 0; k < c->n_pools; k++)
            if (p < s->tables[k].cap && s->tables[k].pages[p]) attni_page_drop(c, k, s->tables[k].pages[p]);
}

void attni_seq_delete(attn_cache *c, sequence *s)
{
    const attn_module_desc *d = &c->module->desc;
    if (s->tables) drop_all_pages(c, s);
    attni_prefix_leave(c, s);
    for (uint32_t k = 0; s->tables && k < c->n_pools; k++) {
        attni_spans_free(&s->tables[k].held);
        attni_spans_free(&s->tables[k].alive);
        attni_free(&c->mem, s->tables[k].pages);
    }
    for (uint32_t a = 0; s->attrs && a < d->n_attrs; a++) attni_free(&c->mem, s->attrs[a]);
    attni_free(&c->mem, s->tables);
    attni_free(&c->mem, s->attrs);
    attni_free(&c->mem, s->tokens);
    attni_free(&c->mem, s->bounds);
    attni_free(&c->mem, s);
}

attn_status attn_seq_begin(attn_cache *c, attn_seq_id *out, attn_error *err)
{
    if (!out) return attni_fail(err, ATTN_E_ARGUMENT, "attn_seq_begin: out is NULL");
    attn_status s = attni_cache_enter_idle(c, err);
    return s ? s : attni_cache_leave(c, begin(c, out, err));
}

static attn_status end(attn_cache *c, attn_seq_id id, attn_error *err)
{
    sequence *seq;
    attn_status s = attni_seq_get(c, id, &seq, err);
    if (s) return s;
    const size_t i = place_of(c, id);
    memmove(c->seqs.at + i, c->seqs.at + i + 1, (c->seqs.n - i - 1) * sizeof *c->seqs.at);
    c->seqs.n--;
    attni_prefix_keep_rest(c, seq);
    attni_seq_delete(c, seq);
    attni_prefix_trim(c);
    return ATTN_OK;
}

attn_status attn_seq_end(attn_cache *c, attn_seq_id id, attn_error *err)
{
    attn_status s = attni_cache_enter_idle(c, err);
    return s ? s : attni_cache_leave(c, end(c, id, err));
}

/* ---- fork ------------------------------------------------------------------------------------------------------- */

/* Everything that needs memory. */
static sequence *make_like(attn_cache *c, const sequence *from, attn_error *err)
{
    sequence *to = attni_seq_make(c);
    if (!to) return NULL;
    attn_status s = attni_seq_reserve(c, to, from->n, err);
    if (!s) s = attni_seq_reserve_ids(c, to, from->known, err);
    for (uint32_t k = 0; !s && k < c->n_pools; k++) attni_spans_copy(&to->tables[k].held, &from->tables[k].held);
    if (!c->mem.failed) return to;
    attni_seq_delete(c, to);
    return NULL;
}

static void share_pages(attn_cache *c, const sequence *from, sequence *to)
{
    for (uint32_t k = 0; k < c->n_pools; k++) {
        const table *old = &from->tables[k];
        for (size_t i = 0; i < old->held.n; i++)
            for (int64_t p = old->held.at[i].lo; p < old->held.at[i].hi; p++) {
                to->tables[k].pages[p] = old->pages[p];
                attni_page_share(c, k, old->pages[p]);
            }
    }
}

static attn_status fork_sequence(attn_cache *c, attn_seq_id id, attn_seq_id *out, attn_error *err)
{
    sequence *from;
    attn_status s = attni_seq_get(c, id, &from, err);
    if (s) return s;
    sequence *to = make_like(c, from, err);
    if (!to) return attni_no_memory(err);
    share_pages(c, from, to);
    for (uint32_t a = 0; from->n && a < c->module->desc.n_attrs; a++)
        memcpy(to->attrs[a], from->attrs[a], (size_t)from->n * sizeof *to->attrs[a]);
    if (from->known) memcpy(to->tokens, from->tokens, (size_t)from->known * sizeof *to->tokens);
    if (from->n && from->bounds) memcpy(to->bounds, from->bounds, bounds_bytes(from->n, c->module->desc.n_attrs));
    to->n = from->n;
    to->furthest = from->furthest;
    to->known = from->known;
    attni_prefix_leave(c, to);
    attni_prefix_stand(to, from->node);
    *out = attni_seq_enlist(c, to);
    return ATTN_OK;
}

attn_status attn_seq_fork(attn_cache *c, attn_seq_id id, attn_seq_id *out, attn_error *err)
{
    if (!out) return attni_fail(err, ATTN_E_ARGUMENT, "attn_seq_fork: out is NULL");
    attn_status s = attni_cache_enter_idle(c, err);
    return s ? s : attni_cache_leave(c, fork_sequence(c, id, out, err));
}

/* ---- rollback --------------------------------------------------------------------------------------------------- */

typedef struct shrink { /* one pool */
    spans alive, keep, drop;
} shrink;

static shrink *plan_shrink(attn_cache *c, const sequence *s, int64_t n, memory *scratch)
{
    shrink *to = attni_alloc(scratch, c->n_pools, sizeof *to);
    for (uint32_t k = 0; to && k < c->n_pools; k++) {
        spans pages = {.mem = scratch};
        to[k].alive.mem = to[k].drop.mem = scratch;
        to[k].keep.mem = &c->mem;
        attni_live(c, k, attni_live_from(c, s->furthest), n, &to[k].alive);
        attni_to_pages(c, &to[k].alive, &pages);
        attni_spans_intersect(&pages, &s->tables[k].held, &to[k].keep);
        attni_spans_subtract(&s->tables[k].held, &to[k].keep, &to[k].drop);
    }
    return to;
}

static attn_status shrink_to(attn_cache *c, sequence *s, int64_t n, memory *scratch, attn_error *err)
{
    shrink *to = plan_shrink(c, s, n, scratch);
    const bool failed = scratch->failed || c->mem.failed;
    if (!failed) attni_prefix_back(c, s, n);
    for (uint32_t k = 0; to && k < c->n_pools; k++) {
        if (failed) {
            attni_spans_free(&to[k].keep);
            continue;
        }
        attni_seq_drop_pages(c, s, k, &to[k].drop);
        attni_spans_free(&s->tables[k].held);
        s->tables[k].held = to[k].keep;
        attni_seq_poison(c, s, k, &to[k].alive);
    }
    if (failed) return attni_no_memory(err);
    s->n = n;
    attni_prefix_trim(c);
    return ATTN_OK;
}

static attn_status check_rollback(const attn_cache *c, const sequence *s, int64_t r, attn_error *err)
{
    if (r < 0) return attni_fail(err, ATTN_E_ARGUMENT, "a rollback by %lld tokens", (long long)r);
    if (r > s->n)
        return attni_fail(err, ATTN_E_ROLLBACK, "a rollback by %lld tokens; there are %lld", (long long)r,
                          (long long)s->n);
    if (s->n - r >= attni_live_from(c, s->furthest)) return ATTN_OK;
    return attni_fail(
        err, ATTN_E_ROLLBACK,
        "a rollback from %lld to %lld tokens; the sequence has reached %lld, and the cache keeps the state %u "
        "tokens back",
        (long long)s->n, (long long)(s->n - r), (long long)s->furthest, c->rollback);
}

static attn_status roll_back(attn_cache *c, attn_seq_id id, int64_t r, attn_error *err)
{
    sequence *seq;
    memory scratch;
    attn_status s = attni_seq_get(c, id, &seq, err);
    if (!s) s = check_rollback(c, seq, r, err);
    if (!s) s = attni_memory_open(&scratch, &c->mem.a, err);
    if (s) return s;
    s = shrink_to(c, seq, seq->n - r, &scratch, err);
    attni_memory_close(&scratch);
    return s;
}

attn_status attn_seq_rollback(attn_cache *c, attn_seq_id id, int64_t r, attn_error *err)
{
    attn_status s = attni_cache_enter_idle(c, err);
    return s ? s : attni_cache_leave(c, roll_back(c, id, r, err));
}

attn_status attn_seq_length(const attn_cache *c, attn_seq_id id, int64_t *tokens, attn_error *err)
{
    if (!tokens) return attni_fail(err, ATTN_E_ARGUMENT, "attn_seq_length: tokens is NULL");
    sequence *seq;
    attn_status s = attni_cache_enter(c, err);
    if (s) return s;
    s = attni_seq_get(c, id, &seq, err);
    if (!s) *tokens = seq->n;
    return attni_cache_leave(c, s);
}
