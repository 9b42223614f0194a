/* cache_check.c - walks every invariant of a cache, and says the first that does not hold. */
#include "cache.h"

#include <string.h>

/* ---- pages ------------------------------------------------------------------------------------------------------ */

static void forget_counts(const attn_cache *c)
{
    for (uint32_t k = 0; k < c->n_pools; k++)
        for (page *p = c->pools[k].all; p; p = p->next) p->seen = 0;
}

static bool knows_page(const page_pool *pool, const char *data)
{
    for (const page *p = pool->all; p; p = p->next)
        if (p == attni_page_of(data)) return true;
    return false;
}

static const char *check_pool(const attn_cache *c, uint32_t index, uint64_t *bytes, uint64_t *reserved,
                              uint64_t *prefix_bytes)
{
    const page_pool *pool = &c->pools[index];
    int64_t used = 0, shared = 0, idle = 0, listed = 0, prefix = 0;
    for (const page *p = pool->all; p; p = p->next) {
        if (p->next && p->next->prev != p) return "the list of all pages is broken";
        if (p->seen != p->refs) return "a page's reference count is not the number of tables that have it";
        const uint32_t sequences = p->refs - (p->slot != NULL);
        used += p->refs > 0, shared += sequences > 1, idle += p->refs == 0, prefix += p->refs && !sequences;
    }
    for (const page *p = pool->free; p; p = p->next_free, listed++) {
        if (p->refs) return "a page in use is in the free list";
        if (listed >= idle) return "the free list is longer than there are free pages";
    }
    if (listed != idle || idle != pool->n_free) return "a free page is not in the free list";
    if (used != pool->pages || shared != pool->shared || prefix != pool->idle)
        return "the counts of pages in use or shared are wrong";
    *bytes += (uint64_t)used * pool->page_bytes;
    *prefix_bytes += (uint64_t)prefix * pool->page_bytes;
    *reserved += (uint64_t)(used + idle) * pool->page_bytes;
    return NULL;
}

static const char *check_sums(const attn_cache *c)
{
    uint64_t bytes = 0, reserved = 0, prefix_bytes = 0;
    for (uint32_t k = 0; k < c->n_pools; k++) {
        const char *wrong = check_pool(c, k, &bytes, &reserved, &prefix_bytes);
        if (wrong) return wrong;
    }
    if (bytes != c->bytes || reserved != c->bytes_reserved || prefix_bytes != c->prefixes.idle_bytes)
        return "the sums of bytes are wrong";
    if (prefix_bytes > c->prefixes.limit) return "more prefixes are kept than may be";
    if (c->bytes > c->bytes_most) return "the largest sum of bytes is not the largest";
    return reserved > c->budget ? "the pages are more than the budget" : NULL;
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */

static const char *count_page(const page_pool *pool, const char *data)
{
    if (!knows_page(pool, data)) return "a table names a page that is not of its pool";
    attni_page_of(data)->seen++;
    return NULL;
}

static bool is_in(const spans *s, int64_t x)
{
    for (size_t i = 0; i < s->n; i++)
        if (x >= s->at[i].lo && x < s->at[i].hi) return true;
    return false;
}

/* A step has pages beyond those that are held: [first, last]. */
static const char *check_table(const page_pool *pool, const table *t, const step_seq *s)
{
    for (size_t i = 0; i < t->cap; i++) {
        const bool taken = s && (int64_t)i >= s->first && (int64_t)i <= s->last;
        if ((is_in(&t->held, (int64_t)i) || taken) != (t->pages[i] != NULL))
            return "a table has a page that it does not hold, or lacks one";
        const char *wrong = t->pages[i] ? count_page(pool, t->pages[i]) : NULL;
        if (wrong) return wrong;
    }
    const size_t n = t->held.n;
    return n && (t->held.at[0].lo < 0 || t->held.at[n - 1].hi > (int64_t)t->cap) ? "a table is too short" : NULL;
}

/* The pages that are held are those in which something alive lies. */
static const char *check_live(const attn_cache *c, uint32_t pool, const sequence *s, memory *scratch)
{
    spans alive = {.mem = scratch}, pages = {.mem = scratch};
    const spans *held = &s->tables[pool].held;
    attni_live(c, pool, attni_live_from(c, s->furthest), s->n, &alive);
    attni_to_pages(c, &alive, &pages);
    if (scratch->failed) return "there is no memory to check live sets with";
    const bool same = pages.n == held->n && (!held->n || !memcmp(pages.at, held->at, held->n * sizeof *held->at));
    return same ? NULL : "the pages that are held are not those of the live set";
}

/* What is kept of an earlier answer is that answer. */
static const char *check_memory(const attn_cache *c, uint32_t pool, const sequence *s, memory *scratch)
{
    spans alive = {.mem = scratch};
    const table *t = &s->tables[pool];
    if (t->alive_n != s->n || t->alive_from != attni_live_from(c, s->furthest)) return NULL;
    attni_live(c, pool, t->alive_from, t->alive_n, &alive);
    if (scratch->failed) return "there is no memory to check live sets with";
    return attni_spans_same(&alive, &t->alive) ? NULL : "the live set that a table remembers is another one";
}

/* Extremes of attributes over whole blocks; the last block is made anew when tokens come. */
static const char *check_bounds(const attn_cache *c, const sequence *s)
{
    const uint32_t n_attrs = c->module->desc.n_attrs;
    for (int64_t i = 0; s->bounds && i < s->n / MASK_BLOCK * MASK_BLOCK; i++)
        for (uint32_t a = 0; a < n_attrs; a++) {
            const int32_t *bounds = s->bounds + 2 * (i / MASK_BLOCK * n_attrs + a);
            if (s->attrs[a][i] < bounds[0] || s->attrs[a][i] > bounds[1])
                return "an attribute is outside of its block's bounds";
        }
    return NULL;
}

static const step_seq *in_step(const attn_cache *c, const sequence *s)
{
    for (uint32_t i = 0; c->step.open && i < c->step.n_seqs; i++)
        if (c->step.seqs.at[i].seq == s) return &c->step.seqs.at[i];
    return NULL;
}

static const char *check_sequence(const attn_cache *c, const sequence *s, memory *scratch)
{
    const step_seq *at = in_step(c, s);
    if (s->n < 0 || s->n > s->furthest || s->n < attni_live_from(c, s->furthest)) return "a sequence's length is wrong";
    if (s->known < attni_prefix_end(s->node) || s->known > s->n)
        return "a sequence's known tokens are too many or too few";
    if (s->in_step != (at != NULL)) return "a sequence is marked wrongly as part of the step";
    for (uint32_t k = 0; k < c->n_pools; k++) {
        if (!c->pools[k].n_blocks) continue;
        const char *wrong = check_table(&c->pools[k], &s->tables[k], at);
        if (!wrong) wrong = check_live(c, k, s, scratch);
        if (!wrong) wrong = check_memory(c, k, s, scratch);
        if (!wrong && at && at->tables[k].copied) wrong = count_page(&c->pools[k], at->tables[k].copied);
        if (wrong) return wrong;
    }
    return check_bounds(c, s);
}

/* ---- prefixes ---------------------------------------------------------------------------------------------------- */

static const char *check_slot(const attn_cache *c, uint32_t pool, const prefix_node *n, int64_t *held)
{
    const prefix_slot *slot = &n->slots[pool];
    int64_t idle = 0;
    if (slot->node != n) return "a slot does not know its node";
    for (int64_t i = 0; i * c->page_tokens < n->run; i++) {
        if (!slot->pages[i]) continue;
        const char *wrong = count_page(&c->pools[pool], slot->pages[i]);
        if (wrong) return wrong;
        if (attni_page_of(slot->pages[i])->slot != slot) return "a page does not know its place in the tree";
        idle += attni_page_of(slot->pages[i])->refs == 1;
        ++*held;
    }
    if (slot->idle != idle) return "the count of a slot's idle pages is wrong";
    for (const prefix_slot *s = c->prefixes.oldest; s && idle; s = s->newer)
        if (s == slot) return NULL;
    return idle ? "a slot with idle pages is not listed" : NULL;
}

static const char *check_node(const attn_cache *c, const prefix_node *n, int64_t *slots)
{
    int64_t held = 0, users = 0;
    const char *wrong = NULL;
    for (uint32_t k = 0; n->parent && k < c->n_pools && !wrong; k++) {
        wrong = check_slot(c, k, n, &held);
        *slots += n->slots[k].idle > 0;
    }
    for (size_t i = 0; i < c->seqs.n; i++) users += c->seqs.at[i]->node == n;
    if (wrong) return wrong;
    if (held != n->held || users != n->users) return "the counts of a node's pages or users are wrong";
    if (n->parent && !held && !users && !n->children.n) return "a node is left over";
    if (n->children.n && n->run % c->page_tokens) return "something follows on a part of a page";
    return NULL;
}

static bool is_before(const attn_cache *c, const prefix_node *a, const prefix_node *b)
{
    for (int64_t i = 0; i < a->run && i < b->run; i++)
        for (uint32_t j = 0; j <= c->module->desc.n_attrs; j++) {
            const int32_t x = a->words[j * a->run + i], y = b->words[j * b->run + i];
            if (x != y) return x < y;
        }
    return a->run < b->run;
}

/* Down and up again without a stack: a tree may be as deep as texts are long. */
static const char *check_tree(const attn_cache *c)
{
    const prefix_node *n = &c->prefixes.root;
    const char *wrong = check_node(c, n, &(int64_t){0});
    int64_t slots = 0, listed = 0;
    size_t next = 0;
    while (!wrong && (n->parent || next < n->children.n)) {
        if (next < n->children.n) {
            const prefix_node *child = n->children.at[next];
            if (child->parent != n || child->begin != attni_prefix_end(n) || child->run <= 0)
                return "a node is misplaced";
            if (next && !is_before(c, n->children.at[next - 1], child))
                return "the children of a node are not in order";
            wrong = check_node(c, child, &slots);
            n = child, next = 0;
        } else {
            for (next = 0; n->parent->children.at[next] != n;) next++;
            n = n->parent, next++;
        }
    }
    for (const prefix_slot *s = c->prefixes.oldest; s; s = s->newer, listed++)
        if ((s->newer ? s->newer->older : c->prefixes.newest) != s) return "the list of idle slots is broken";
    return wrong ? wrong : listed == slots ? NULL : "the list of idle slots is too long";
}

static const char *check(const attn_cache *c, memory *scratch)
{
    forget_counts(c);
    for (size_t i = 0; i < c->seqs.n; i++) {
        if (i && c->seqs.at[i - 1]->id >= c->seqs.at[i]->id) return "the list of sequences is not in order";
        const char *wrong = check_sequence(c, c->seqs.at[i], scratch);
        if (wrong) return wrong;
    }
    const char *wrong = check_tree(c);
    return wrong ? wrong : check_sums(c);
}

const char *attn_cache_check(const attn_cache *c)
{
    memory scratch;
    if (attni_cache_enter(c, NULL)) return "there is no cache, or another call uses it";
    const char *wrong = "the allocator is gone";
    if (!attni_memory_open(&scratch, &c->mem.a, NULL)) {
        wrong = check(c, &scratch);
        attni_memory_close(&scratch);
    }
    attni_cache_leave(c, ATTN_OK);
    return wrong;
}
