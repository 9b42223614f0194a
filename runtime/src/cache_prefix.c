/* cache_prefix.c - the tree of known prefixes: pages found by the tokens that are in them.
 *
 * A node is some tokens, with their attributes, behind those of its parent, and per pool the pages in which their keys
 * and values lie, as far as they are still there. Tokens are compared, not their hashes. Siblings are sorted by what
 * they say, so that the longest common beginning with any text is found next to the text's place.
 *
 * What may enter: tokens [0, e) of a sequence, when no token before e has seen one behind it, for their keys and values
 * then depend on nothing else. Steps can only end at such places; within a step the mask is asked. So a node is one
 * page where masks are causal, and some pages where groups of tokens see each other. */
#include "cache.h"

#include "error.h"
#include "split.h"

#include <string.h>

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* Layers of other stages count, too: what they see is in the keys and values of ours. */
attn_status attni_prefix_open(attn_cache *c, uint64_t limit, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    prefixes *p = &c->prefixes;
    p->limit = limit;
    for (uint32_t l = 0; l < d->n_layers; l++) {
        const attn_kind_desc *kind = d->kinds[d->schedule[l]];
        bool known = false;
        for (size_t i = 0; i < p->layers.n; i++) known |= d->schedule[p->layers.at[i]] == d->schedule[l];
        if (!known || kind->flags & ATTN_KIND_LAYERS_DIFFER) LIST_ADD(&c->mem, &p->layers, l);
        if (kind->flags & ATTN_KIND_LEN) p->off = true;
    }
    return c->mem.failed ? attni_no_memory(err) : ATTN_OK;
}

static size_t columns(const attn_cache *c) { return (size_t)c->module->desc.n_attrs + 1; }
static int64_t pages_of(const attn_cache *c, int64_t tokens) { return (tokens + c->page_tokens - 1) / c->page_tokens; }

static const int32_t *column_of(const named_text *t, size_t i) { return i ? t->attrs[i - 1] : t->tokens; }

/* A node for the text's tokens behind the parent's, without pages. NULL: no memory. */
static prefix_node *make_node(attn_cache *c, prefix_node *parent, const named_text *text)
{
    const int64_t begin = attni_prefix_end(parent), run = text->n - begin;
    const size_t pages = (size_t)pages_of(c, run), slots = c->n_pools;
    const size_t size = sizeof(prefix_node) + slots * (sizeof(prefix_slot) + pages * sizeof(char *)) +
                        columns(c) * (size_t)run * sizeof(int32_t);
    prefix_node *n = attni_alloc(&c->mem, 1, size);
    if (!n) return NULL;
    n->parent = parent;
    n->begin = begin;
    n->run = run;
    n->slots = (prefix_slot *)(void *)(n + 1);
    const char **at = (const char **)(void *)(n->slots + slots);
    for (size_t k = 0; k < slots; k++) n->slots[k] = (prefix_slot){.node = n, .pages = at + k * pages};
    n->words = (int32_t *)(void *)(at + slots * pages);
    for (size_t i = 0; i < columns(c); i++)
        memcpy(n->words + i * (size_t)run, column_of(text, i) + begin, (size_t)run * sizeof *n->words);
    return n;
}

/* Nodes that serve nothing any more go, from this one upwards. */
static void tidy(attn_cache *c, prefix_node *n)
{
    while (n->parent && !n->held && !n->users && !n->children.n) {
        prefix_node *parent = n->parent;
        size_t i = 0;
        while (parent->children.at[i] != n) i++;
        parent->children.n--;
        memmove(parent->children.at + i, parent->children.at + i + 1,
                (parent->children.n - i) * sizeof *parent->children.at);
        attni_free(&c->mem, n->children.at);
        attni_free(&c->mem, n);
        n = parent;
    }
}

/* ---- finding ----------------------------------------------------------------------------------------------------- */

int64_t attni_prefix_compare(const attn_cache *c, const prefix_node *n, const named_text *text, int *order)
{
    const int64_t rest = text->n - n->begin, both = n->run < rest ? n->run : rest;
    for (int64_t i = 0; i < both; i++)
        for (size_t j = 0; j < columns(c); j++) {
            const int32_t ours = n->words[j * (size_t)n->run + (size_t)i], theirs = column_of(text, j)[n->begin + i];
            if (ours == theirs) continue;
            *order = ours < theirs ? -1 : 1;
            return i;
        }
    *order = (n->run > rest) - (n->run < rest);
    return both;
}

/* Of the first child that does not lie before the text. */
size_t attni_prefix_place(const attn_cache *c, const prefix_node *parent, const named_text *text)
{
    size_t lo = 0, hi = parent->children.n;
    while (lo < hi) {
        const size_t middle = lo + (hi - lo) / 2;
        int order;
        attni_prefix_compare(c, parent->children.at[middle], text, &order);
        if (order < 0)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo;
}

bool attni_prefix_is_closed(const attn_cache *c, const int32_t *const *attrs, int64_t n, int64_t total, bool *no_memory)
{
    for (size_t i = 0; i < c->prefixes.layers.n; i++) {
        const uint32_t layer = c->prefixes.layers.at[i];
        split at = attni_split_at(layer, c->inputs);
        at.n = n, at.total = total, at.attrs = attrs;
        if (attni_split_is_clear(attni_module_kind(c->module, layer), &at, c->pairs)) continue;
        const attn_status s = attni_split_ask(c->module, &at, &c->mem.a, NULL);
        if (s && s != ATTN_E_SPLIT) *no_memory = true;
        if (s) return false;
    }
    return true;
}

/* ---- pages that only the tree has -------------------------------------------------------------------------------- */

static void link_slot(prefixes *p, prefix_slot *slot)
{
    slot->older = p->newest;
    slot->newer = NULL;
    *(p->newest ? &p->newest->newer : &p->oldest) = slot;
    p->newest = slot;
}

static void unlink_slot(prefixes *p, prefix_slot *slot)
{
    *(slot->older ? &slot->older->newer : &p->oldest) = slot->newer;
    *(slot->newer ? &slot->newer->older : &p->newest) = slot->older;
}

void attni_prefix_count(attn_cache *c, prefix_slot *slot, int by)
{
    if (slot->idle) unlink_slot(&c->prefixes, slot);
    slot->idle += by;
    if (slot->idle) link_slot(&c->prefixes, slot);
}

static void let_go(attn_cache *c, prefix_slot *slot, int64_t i)
{
    const char *data = slot->pages[i];
    slot->pages[i] = NULL;
    slot->node->held--;
    attni_page_let_go(c, (uint32_t)(slot - slot->node->slots), data);
}

/* The idle pages of the slot that has waited longest. */
static void let_oldest_go(attn_cache *c)
{
    prefix_slot *slot = c->prefixes.oldest;
    for (int64_t i = 0; slot->idle; i++)
        if (slot->pages[i] && !attni_page_is_shared(slot->pages[i])) let_go(c, slot, i);
    tidy(c, slot->node);
}

void attni_prefix_trim(attn_cache *c)
{
    while (c->prefixes.idle_bytes > c->prefixes.limit) let_oldest_go(c);
}

void attni_prefix_make_room(attn_cache *c, uint64_t bytes)
{
    while (c->prefixes.oldest && c->bytes > c->budget - bytes) let_oldest_go(c);
}

/* ---- sequences --------------------------------------------------------------------------------------------------- */

void attni_prefix_stand(sequence *s, prefix_node *n)
{
    s->node = n;
    n->users++;
}

void attni_prefix_leave(attn_cache *c, sequence *s)
{
    prefix_node *n = s->node;
    n->users--;
    s->node = NULL;
    tidy(c, n);
}

static named_text text_of(const sequence *s, int64_t n)
{
    return (named_text){.tokens = s->tokens, .attrs = (const int32_t *const *)s->attrs, .n = n};
}

/* What the sequence has and the node lacks. */
static void give_pages(attn_cache *c, prefix_node *n, const sequence *s)
{
    for (uint32_t k = 0; k < c->n_pools; k++)
        for (int64_t i = 0; i < pages_of(c, n->run); i++) {
            const size_t at = (size_t)(n->begin / c->page_tokens + i);
            const char *data = at < s->tables[k].cap ? s->tables[k].pages[at] : NULL;
            if (!data || n->slots[k].pages[i] || attni_page_of(data)->slot) continue;
            attni_page_keep(c, k, data, &n->slots[k]);
            n->slots[k].pages[i] = data;
            n->held++;
        }
}

/* The child of the sequence's node that says what the sequence says up to n; it may be new. */
static prefix_node *put_node(attn_cache *c, const sequence *s, int64_t n)
{
    prefix_node *parent = s->node;
    const named_text text = text_of(s, n);
    const size_t at = attni_prefix_place(c, parent, &text);
    int order = 1;
    if (at < parent->children.n) attni_prefix_compare(c, parent->children.at[at], &text, &order);
    if (!order) return parent->children.at[at];
    if (parent->children.n == parent->children.cap)
        parent->children.at = attni_grow(&c->mem, parent->children.at, parent->children.n, &parent->children.cap,
                                         sizeof *parent->children.at);
    prefix_node *made = parent->children.n < parent->children.cap ? make_node(c, parent, &text) : NULL;
    c->mem.failed = false; /* then it is not known */
    if (!made) return NULL;
    memmove(parent->children.at + at + 1, parent->children.at + at,
            (parent->children.n - at) * sizeof *parent->children.at);
    parent->children.at[at] = made;
    parent->children.n++;
    return made;
}

/* Its tokens up to `end` have come, those from `from` on in one step. */
static void add_pages(attn_cache *c, sequence *s, int64_t from, int64_t end)
{
    const int64_t p = c->page_tokens;
    bool no_memory = false;
    for (int64_t e = (from / p + 1) * p; e <= end; e += p) {
        if (!attni_prefix_is_closed(c, (const int32_t *const *)s->attrs, e, end, &no_memory)) continue;
        prefix_node *n = put_node(c, s, e);
        if (!n) continue;
        give_pages(c, n, s);
        s->node->users--; /* it has a child */
        attni_prefix_stand(s, n);
    }
}

/* What only the step decides: the first page that it writes into. */
static bool yield_page(attn_cache *c, uint32_t pool, const step_seq *x)
{
    const table *t = &x->seq->tables[pool];
    if (x->first > x->last || (size_t)x->first >= t->cap || !t->pages[x->first]) return false;
    const page *p = attni_page_of(t->pages[x->first]);
    if (!p->slot || p->refs != 2) return false;
    prefix_node *n = p->slot->node;
    let_go(c, p->slot, x->first - n->begin / c->page_tokens);
    c->step.need[pool]--;
    tidy(c, n);
    return true;
}

bool attni_prefix_yield(attn_cache *c)
{
    bool any = false;
    for (uint32_t i = 0; i < c->step.n_seqs; i++)
        for (uint32_t k = 0; k < c->n_pools; k++) any |= yield_page(c, k, &c->step.seqs.at[i]);
    return any;
}

/* ---- what happens to them -----------------------------------------------------------------------------------------
 */

static bool is_known(const sequence *s) { return s->known == s->n; }

attn_status attni_prefix_read(attn_cache *c, const int32_t *tokens, attn_error *err)
{
    if (!tokens || c->prefixes.off) return ATTN_OK;
    for (uint32_t i = 0; i < c->step.n_seqs; i++) {
        const step_seq *x = &c->step.seqs.at[i];
        if (is_known(x->seq) && x->m) {
            attn_status s = attni_seq_reserve_ids(c, x->seq, x->seq->n + x->m, err);
            if (s) return s;
            memcpy(x->seq->tokens + x->seq->n, tokens, (size_t)x->m * sizeof *tokens);
        }
        tokens += x->m;
    }
    c->step.named = true;
    return ATTN_OK;
}

void attni_prefix_add(attn_cache *c)
{
    for (uint32_t i = 0; c->step.named && i < c->step.n_seqs; i++) {
        sequence *s = c->step.seqs.at[i].seq;
        const int64_t m = c->step.seqs.at[i].m;
        if (!m || !is_known(s)) continue;
        s->known += m;
        add_pages(c, s, s->n, s->known);
    }
}

/* Tokens that stay may have seen tokens that go: then it is not known any more what they are. */
void attni_prefix_back(attn_cache *c, sequence *s, int64_t n)
{
    bool no_memory = false;
    if (s->known <= n) return;
    const bool closed = attni_prefix_is_closed(c, (const int32_t *const *)s->attrs, n, s->n, &no_memory);
    prefix_node *old = s->node, *to = old;
    while (attni_prefix_end(to) > n) to = to->parent;
    attni_prefix_stand(s, to);
    old->users--;
    tidy(c, old);
    s->known = closed ? n : attni_prefix_end(to);
}

void attni_prefix_keep_rest(attn_cache *c, sequence *s)
{
    if (!c->prefixes.limit || s->known == attni_prefix_end(s->node)) return;
    const named_text text = text_of(s, s->known);
    const size_t at = attni_prefix_place(c, s->node, &text);
    int order;
    if (at < s->node->children.n &&
        attni_prefix_compare(c, s->node->children.at[at], &text, &order) == s->known - attni_prefix_end(s->node))
        return; /* somebody has said all of it */
    prefix_node *n = put_node(c, s, s->known);
    if (!n) return;
    give_pages(c, n, s);
    tidy(c, n);
}
