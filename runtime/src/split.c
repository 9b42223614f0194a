/* split.c - may a step boundary stand at a position: does no query before it see a key at or behind it?
 *
 * Asks for the rows before the boundary at once; where the answer is not clear, for halves of them, down to single
 * pairs. */
#include "split.h"

#include "error.h"
#include "plan.h"

#include <string.h>

typedef struct question {
    mask mask;
    memory mem;
    spans behind;       /* the keys at or behind the boundary */
    int64_t query, key; /* the pair that was found */
} question;

/* A visible pair among these spans of one row. */
static bool look_at_pairs(question *x, int64_t row, uint32_t head, const spans *open)
{
    for (size_t i = 0; i < open->n; i++)
        for (int64_t k = open->at[i].lo; k < open->at[i].hi; k += attni_span_step(&open->at[i]))
            if (attni_mask_visible(&x->mask, row, head, k)) return x->query = row, x->key = k, true;
    return false;
}

static bool find_pair(question *x, uint32_t head, int64_t row0, int64_t row1)
{
    if (x->mem.failed) return false;
    spans may = {.mem = &x->mem}, must = {.mem = &x->mem};
    attni_mask_ask(&x->mask, (mask_rows){row0, row1, head, 1, 1}, &x->behind, row0 == row1, &may, &must);
    bool found = must.n > 0, open = may.n > 0;
    if (found)
        x->query = row0, x->key = must.at[0].lo;
    else if (open && row0 == row1)
        found = look_at_pairs(x, row0, head, &may);
    attni_spans_free(&may);
    attni_spans_free(&must);
    if (found || !open || row0 == row1) return found;
    const int64_t middle = row0 + (row1 - row0) / 2;
    return find_pair(x, head, row0, middle) || find_pair(x, head, middle + 1, row1);
}

static attn_status check_arguments(const attn_module *m, uint32_t layer, int64_t n, int64_t total,
                                   const int32_t *const *attrs, attn_error *err)
{
    if (!m) return attni_fail(err, ATTN_E_ARGUMENT, "the module is NULL");
    const attn_module_desc *d = &m->desc;
    if (layer >= d->n_layers)
        return attni_fail(err, ATTN_E_ARGUMENT, "layer %u: module '%s' has %u layers", layer, d->name, d->n_layers);
    if (n < 0 || n > total || total > PLAN_MAX_TOKENS)
        return attni_fail(err, ATTN_E_ARGUMENT, "position %lld of %lld tokens", (long long)n, (long long)total);
    for (uint32_t a = 0; a < d->n_attrs; a++)
        if (!attrs || (total && !attrs[a]))
            return attni_fail(err, ATTN_E_MISSING, "attribute '%s' was not given", d->attrs[a]);
    return ATTN_OK;
}

static attn_status read_inputs(const attn_module *m, const attn_kind_desc *kind, const DLTensor *const *inputs,
                               memory *mem, const void ***out, attn_error *err)
{
    *out = attni_alloc(mem, m->desc.n_inputs, sizeof **out);
    if (!*out) return attni_no_memory(err);
    if (inputs) return attni_bind_inputs(&m->desc, inputs, *out, err);
    if (!(kind->flags & ATTN_KIND_MASK_INPUTS)) return ATTN_OK;
    return attni_fail(err, ATTN_E_MISSING, "the mask of '%s' reads run-time inputs; they were not given", kind->name);
}

static attn_status look(question *x, const attn_kind_desc *kind, int64_t n, int64_t total, attn_error *err)
{
    bool found = false;
    attni_spans_append(&x->behind, n, total);
    for (uint32_t h = 0; h < attni_mask_heads(kind) && !found; h++) found = find_pair(x, h, 0, n - 1);
    if (x->mem.failed) return attni_no_memory(err);
    if (!found) return ATTN_OK;
    return attni_fail(err, ATTN_E_SPLIT, "the tokens cannot be parted at %lld: query %lld sees key %lld ('%s')",
                      (long long)n, (long long)x->query, (long long)x->key, kind->name);
}

bool attni_split_is_clear(const attn_kind_desc *kind, split *at, int64_t *ranges)
{
    const uint32_t heads = attni_mask_heads(kind);
    attn_range_args *a = &at->args;
    a->q1 = at->n - 1, a->len = at->total;
    for (uint32_t h = 0; h < heads; h++) {
        a->h = h, a->g = h ? h / (kind->q_heads / kind->kv_heads) : 0;
        kind->ranges(a, ranges);
        for (uint32_t i = 0; i < kind->n_may; i++) {
            const int64_t lo = ranges[MASK_RANGE * (size_t)i], hi = ranges[MASK_RANGE * (size_t)i + 1];
            if (lo <= hi && hi >= at->n && lo < at->total) return false;
        }
    }
    return true;
}

static attn_status ask(question *x, const attn_module *m, split *at, attn_error *err)
{
    const attn_kind_desc *kind = attni_module_kind(m, at->layer);
    const attn_seq seq = {.n_q = at->n, .n_keys = at->total, .q_attr = at->attrs, .k_attr = at->attrs};
    attni_mask_open(&x->mask, &x->mem, &m->desc);
    if (x->mem.failed) return attni_no_memory(err);
    attni_mask_turn(&x->mask, kind, at->layer, at->inputs);
    if (attni_split_is_clear(kind, at, x->mask.ranges)) return ATTN_OK;
    const bool by_block = kind->n_data && m->desc.n_attrs;
    const int32_t *bounds = by_block ? attni_mask_key_bounds(&x->mem, &seq, m->desc.n_attrs) : NULL;
    x->behind.mem = &x->mem;
    attni_mask_bind(&x->mask, &seq, bounds);
    return x->mem.failed ? attni_no_memory(err) : look(x, kind, at->n, at->total, err);
}

attn_status attni_split_ask(const attn_module *m, split *at, const attn_allocator *a, attn_error *err)
{
    if (at->n <= 0 || at->n >= at->total) return ATTN_OK;
    question x;
    memset(&x, 0, sizeof x);
    attn_status s = attni_memory_open(&x.mem, a, err);
    if (s) return s;
    s = ask(&x, m, at, err);
    attni_memory_close(&x.mem);
    return s;
}

attn_status attn_split_check(const attn_module *m, uint32_t layer, int64_t n, int64_t total,
                             const int32_t *const *attrs, const DLTensor *const *inputs, attn_error *err)
{
    attn_status s = check_arguments(m, layer, n, total, attrs, err);
    if (s) return s;
    memory mem;
    s = attni_memory_open(&mem, &m->mem.a, err);
    if (s) return s;
    const void **bound;
    s = read_inputs(m, attni_module_kind(m, layer), inputs, &mem, &bound, err);
    split at = attni_split_at(layer, bound);
    at.n = n, at.total = total, at.attrs = attrs;
    if (!s) s = attni_split_ask(m, &at, &m->mem.a, err);
    attni_memory_close(&mem);
    return s;
}
