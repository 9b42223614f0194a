/* cache_hit.c - a sequence that begins with the longest known prefix of its tokens.
 *
 * First down the tree, as long as nodes say what the text says. Then what the text shares with a part of one more node,
 * or with the rest of a living sequence that stands there. Of all those tokens, the most are taken after which a
 * sequence could go on: every pool has the pages of its live set, and no token before the end sees one behind it,
 * neither in this text nor in the one that the pages come from. */
#include "cache.h"

#include "error.h"
#include "numbers.h"

#include <string.h>

typedef struct look {
    attn_cache *c;
    memory mem;
    named_text text;
    int64_t most;
    prefix_node *at;     /* down to which all tokens are the text's */
    const char ***pages; /* per pool: what was found, by index */
    spans alive;
    uint32_t asked_first; /* the pool that said no last */
    int32_t **attrs;      /* of the text that pages come from */
} look;

/* Somebody's tokens behind look.at, as far as they are the text's. */
typedef struct rest {
    const prefix_node *node; /* or */
    const sequence *seq;
    int64_t common, end; /* positions: the text's end there, its own end */
} rest;

/* ---- what is there ------------------------------------------------------------------------------------------------
 */

static attn_status open_look(look *x, attn_cache *c, const attn_prefix *p, attn_error *err)
{
    const int64_t n = min64(p->n_tokens, c->max_tokens);
    *x = (look){.c = c, .text = {.tokens = p->tokens, .attrs = p->attrs, .n = n}, .at = &c->prefixes.root};
    x->most = p->most ? min64(p->most, n) : n;
    attn_status s = attni_memory_open(&x->mem, &c->mem.a, err);
    if (s) return s;
    x->alive.mem = &x->mem;
    x->pages = attni_alloc(&x->mem, c->n_pools, sizeof *x->pages);
    x->attrs = attni_alloc(&x->mem, c->module->desc.n_attrs, sizeof *x->attrs);
    for (uint32_t k = 0; x->pages && k < c->n_pools; k++)
        x->pages[k] = attni_alloc(&x->mem, (size_t)(n / c->page_tokens) + 1, sizeof **x->pages);
    if (!x->mem.failed) return ATTN_OK;
    attni_memory_close(&x->mem);
    return attni_no_memory(err);
}

static void note_node(look *x, const prefix_node *n, int64_t end)
{
    const int64_t p = x->c->page_tokens, first = n->begin / p;
    for (uint32_t k = 0; k < x->c->n_pools; k++)
        for (int64_t i = 0; n->begin + i * p < end; i++) x->pages[k][first + i] = n->slots[k].pages[i];
}

static void note_sequence(look *x, const sequence *s, int64_t begin, int64_t end)
{
    const int64_t p = x->c->page_tokens;
    for (uint32_t k = 0; k < x->c->n_pools; k++)
        for (int64_t i = begin / p; i * p < end; i++)
            x->pages[k][i] = i < (int64_t)s->tables[k].cap ? s->tables[k].pages[i] : NULL;
}

/* Are all keys there that a sequence of n tokens keeps in this pool? The last pages are missed most. */
static bool has_live_set(look *x, uint32_t pool, int64_t n)
{
    const int64_t p = x->c->page_tokens;
    attni_live(x->c, pool, attni_live_from(x->c, n), n, &x->alive);
    for (size_t i = x->alive.n; i-- > 0;) {
        const span *s = &x->alive.at[i];
        for (int64_t at = (s->hi - 1) / p; at >= s->lo / p; at--) {
            const char *data = x->pages[pool][at];
            const int64_t first = s->lo > at * p ? s->lo - at * p : 0;
            if (!data || first < attni_page_of(data)->from) return false;
        }
    }
    return true;
}

static bool can_go_on(look *x, int64_t n)
{
    const uint32_t n_pools = x->c->n_pools, first = x->asked_first;
    for (uint32_t i = 0; i < n_pools && !x->mem.failed; i++) {
        const uint32_t k = (first + i) % n_pools;
        if (!x->c->pools[k].n_blocks || has_live_set(x, k, n)) continue;
        x->asked_first = k;
        return false;
    }
    return !x->mem.failed;
}

/* ---- where the text may be parted ----------------------------------------------------------------------------------
 */

static bool is_closed(look *x, const int32_t *const *attrs, int64_t n, int64_t total)
{
    return attni_prefix_is_closed(x->c, attrs, n, total, &x->mem.failed);
}

/* The attributes of the text that the rest belongs to: ours up to look.at, then its own. */
static void join_attrs(look *x, const rest *r)
{
    const int64_t begin = attni_prefix_end(x->at);
    for (uint32_t a = 0; a < x->c->module->desc.n_attrs; a++) {
        const int32_t *own = r->seq ? r->seq->attrs[a] + begin : r->node->words + (a + 1) * r->node->run;
        attni_free(&x->mem, x->attrs[a]);
        x->attrs[a] = attni_alloc(&x->mem, (size_t)r->end, sizeof *x->attrs[a]);
        if (!x->attrs[a]) return;
        if (begin) memcpy(x->attrs[a], x->text.attrs[a], (size_t)begin * sizeof *own);
        memcpy(x->attrs[a] + begin, own, (size_t)(r->end - begin) * sizeof *own);
    }
}

/* The most tokens, from lo to hi, after which a sequence could go on; 0: none. r NULL: on the way to look.at. */
static int64_t longest(look *x, int64_t lo, int64_t hi, const rest *r)
{
    for (int64_t n = hi; n >= lo && !x->mem.failed; n--)
        if (can_go_on(x, n) && is_closed(x, x->text.attrs, n, x->text.n) &&
            (!r || is_closed(x, (const int32_t *const *)x->attrs, n, r->end)))
            return n;
    return 0;
}

/* ---- down the tree --------------------------------------------------------------------------------------------------
 */

/* The child that says what comes next in the text, all of it. Where a group of tokens may end with a page or go on
 * behind it, there are two; the text can be parted behind one of them only. */
static prefix_node *next_node(look *x)
{
    const prefix_node *at = x->at;
    size_t i = attni_prefix_place(x->c, at, &x->text);
    if (i < at->children.n) i++; /* it may end with the text */
    while (i-- > 0 && !x->mem.failed) {
        prefix_node *n = at->children.at[i];
        int order;
        const int64_t common = attni_prefix_compare(x->c, n, &x->text, &order);
        if (common == n->run && n->run % x->c->page_tokens == 0 &&
            is_closed(x, x->text.attrs, attni_prefix_end(n), x->text.n))
            return n;
        if (order < 0 && common < x->c->page_tokens) return NULL;
    }
    return NULL;
}

static void descend(look *x)
{
    for (prefix_node *n = next_node(x); n && !x->mem.failed; n = next_node(x)) {
        note_node(x, n, attni_prefix_end(n));
        x->at = n;
    }
}

/* ---- the rest -------------------------------------------------------------------------------------------------------
 */

static void note_rest(look *x, const rest *r)
{
    if (r->seq)
        note_sequence(x, r->seq, attni_prefix_end(x->at), r->common);
    else
        note_node(x, r->node, r->common);
}

static void try_rest(look *x, const rest *r, rest *best, int64_t *hit)
{
    const int64_t hi = min64(r->common, x->most), lo = *hit ? *hit + 1 : attni_prefix_end(x->at) + 1;
    if (hi < lo) return;
    note_rest(x, r);
    join_attrs(x, r);
    const int64_t n = x->mem.failed ? 0 : longest(x, lo, hi, r);
    if (!n) return;
    *hit = n;
    *best = *r;
}

static rest rest_of_node(const look *x, const prefix_node *n)
{
    int order;
    return (rest){
        .node = n, .common = n->begin + attni_prefix_compare(x->c, n, &x->text, &order), .end = attni_prefix_end(n)};
}

static rest rest_of_sequence(const look *x, const sequence *s)
{
    const int64_t most = min64(s->known, x->text.n);
    int64_t n = attni_prefix_end(x->at);
    for (; n < most && s->tokens[n] == x->text.tokens[n]; n++) {
        bool same = true;
        for (uint32_t a = 0; a < x->c->module->desc.n_attrs; a++) same &= s->attrs[a][n] == x->text.attrs[a][n];
        if (!same) break;
    }
    return (rest){.seq = s, .common = n, .end = s->known};
}

/* Children, those first that share most: they lie next to the text's place, on both sides. */
static void try_children(look *x, rest *best, int64_t *hit)
{
    const prefix_node *at = x->at;
    size_t above = attni_prefix_place(x->c, at, &x->text), below = above;
    while ((below > 0 || above < at->children.n) && !x->mem.failed) {
        const rest none = {.common = -1};
        const rest a = below > 0 ? rest_of_node(x, at->children.at[below - 1]) : none;
        const rest b = above < at->children.n ? rest_of_node(x, at->children.at[above]) : none;
        const rest *r = a.common >= b.common ? &a : &b;
        if (r->common <= (*hit ? *hit : attni_prefix_end(at))) return;
        try_rest(x, r, best, hit);
        if (r == &a)
            below--;
        else
            above++;
    }
}

static int64_t find(look *x)
{
    rest best = {0};
    int64_t hit = 0;
    if (x->c->prefixes.off) return 0;
    descend(x);
    try_children(x, &best, &hit);
    for (size_t i = 0; i < x->c->seqs.n && !x->mem.failed; i++) {
        const sequence *s = x->c->seqs.at[i];
        if (s->node != x->at || s->known == attni_prefix_end(x->at)) continue;
        const rest r = rest_of_sequence(x, s);
        try_rest(x, &r, &best, &hit);
    }
    if (hit) note_rest(x, &best);
    return hit ? hit : longest(x, 1, min64(attni_prefix_end(x->at), x->most), NULL);
}

/* ---- the sequence ---------------------------------------------------------------------------------------------------
 */

/* Everything that needs memory. */
static sequence *make_sequence(look *x, int64_t n, attn_error *err)
{
    attn_cache *c = x->c;
    sequence *to = attni_seq_make(c);
    if (!to) return NULL;
    spans pages = {.mem = &x->mem};
    attn_status s = attni_seq_reserve(c, to, n, err);
    if (!s) s = attni_seq_reserve_ids(c, to, n, err);
    for (uint32_t k = 0; !s && k < c->n_pools; k++) {
        if (!c->pools[k].n_blocks) continue;
        attni_live(c, k, attni_live_from(c, n), n, &x->alive);
        attni_to_pages(c, &x->alive, &pages);
        attni_spans_copy(&to->tables[k].held, &pages);
    }
    if (!c->mem.failed && !x->mem.failed) return to;
    attni_seq_delete(c, to);
    return NULL;
}

static void fill_sequence(look *x, sequence *to, int64_t n)
{
    attn_cache *c = x->c;
    for (uint32_t k = 0; k < c->n_pools; k++) {
        const table *t = &to->tables[k];
        for (size_t i = 0; i < t->held.n; i++)
            for (int64_t p = t->held.at[i].lo; p < t->held.at[i].hi; p++) {
                t->pages[p] = x->pages[k][p];
                attni_page_share(c, k, t->pages[p]);
            }
    }
    if (n) memcpy(to->tokens, x->text.tokens, (size_t)n * sizeof *to->tokens);
    for (uint32_t a = 0; n && a < c->module->desc.n_attrs; a++)
        memcpy(to->attrs[a], x->text.attrs[a], (size_t)n * sizeof *to->attrs[a]);
    if (to->bounds)
        attni_mask_bound_blocks(to->bounds, (const int32_t *const *)to->attrs, c->module->desc.n_attrs, 0, n);
    to->n = to->furthest = to->known = n;
    prefix_node *node = x->at;
    while (attni_prefix_end(node) > n) node = node->parent;
    attni_prefix_leave(c, to);
    attni_prefix_stand(to, node);
    c->prefixes.hits += n > 0;
    c->prefixes.tokens += n;
}

static attn_status begin(attn_cache *c, const attn_prefix *p, attn_seq_id *out, int64_t *hit, attn_error *err)
{
    look x;
    attn_status s = open_look(&x, c, p, err);
    if (s) return s;
    const int64_t n = find(&x);
    sequence *to = x.mem.failed ? NULL : make_sequence(&x, n, err);
    if (to) {
        fill_sequence(&x, to, n);
        *out = attni_seq_enlist(c, to);
        *hit = n;
    }
    attni_memory_close(&x.mem);
    return to ? ATTN_OK : attni_no_memory(err);
}

static attn_status check_prefix(const attn_cache *c, const attn_prefix *p, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    if (p->n_tokens < 0 || p->most < 0)
        return attni_fail(err, ATTN_E_ARGUMENT, "a prefix of %lld tokens, of which at most %lld",
                          (long long)p->n_tokens, (long long)p->most);
    if (p->n_tokens && !p->tokens) return attni_fail(err, ATTN_E_ARGUMENT, "tokens is NULL");
    for (uint32_t a = 0; p->n_tokens && a < d->n_attrs; a++)
        if (!p->attrs || !p->attrs[a])
            return attni_fail(err, ATTN_E_MISSING, "attribute '%s' of the prefix was not given", d->attrs[a]);
    return ATTN_OK;
}

attn_status attn_seq_begin_with(attn_cache *c, const attn_prefix *p, attn_seq_id *out, int64_t *hit, attn_error *err)
{
    attn_prefix from;
    if (!out || !hit) return attni_fail(err, ATTN_E_ARGUMENT, "attn_seq_begin_with: %s is NULL", out ? "hit" : "out");
    attn_status s = attni_read_struct(&from, sizeof from, p, "attn_prefix", err);
    if (!s) s = attni_cache_enter_idle(c, err);
    if (s) return s;
    s = check_prefix(c, &from, err);
    return attni_cache_leave(c, s ? s : begin(c, &from, out, hit, err));
}
