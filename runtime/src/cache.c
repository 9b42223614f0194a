/* cache.c - the life of a KV cache. */
#include "cache.h"

#include "error.h"

#include <stddef.h>

enum { MAX_PAGE_TOKENS = 1 << 24 };

/* ---- entering ------------------------------------------------------------------------------------------------- */

attn_status attni_cache_enter(const attn_cache *c, attn_error *err)
{
    if (!c) return attni_fail(err, ATTN_E_ARGUMENT, "the cache is NULL");
    if (!atomic_exchange(c->busy, true)) return ATTN_OK;
    return attni_fail(err, ATTN_E_BUSY, "another call uses the cache");
}

attn_status attni_cache_enter_idle(attn_cache *c, attn_error *err)
{
    attn_status s = attni_cache_enter(c, err);
    if (s) return s;
    c->mem.failed = false;
    if (!c->step.open) return ATTN_OK;
    return attni_cache_leave(c,
                             attni_fail(err, ATTN_E_STATE, "a step is open; attn_step_end or attn_step_cancel first"));
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static attn_status read_config(attn_cache *c, const attn_cache_config *from, attn_error *err)
{
    if (from->page_tokens > MAX_PAGE_TOKENS)
        return attni_fail(err, ATTN_E_ARGUMENT, "page_tokens is %u; at most %d", from->page_tokens, MAX_PAGE_TOKENS);
    if (from->workers > PLAN_MAX_WORKERS)
        return attni_fail(err, ATTN_E_ARGUMENT, "workers is %u; at most %d", from->workers, PLAN_MAX_WORKERS);
    c->page_tokens = from->page_tokens ? from->page_tokens : CACHE_PAGE_TOKENS;
    c->page_shift = -1;
    for (int i = 0; i < 25; i++)
        if (c->page_tokens == (int64_t)1 << i) c->page_shift = i;
    c->budget = from->budget ? from->budget : UINT64_MAX;
    c->rollback = from->rollback;
    c->workers = from->workers;
    c->isa = from->isa;
    c->poison = from->poison != 0;
    c->max_tokens = PLAN_MAX_TOKENS;
    for (uint32_t k = 0; k < c->module->desc.n_kinds; k++) {
        const int64_t most = c->module->desc.kinds[k]->max_len;
        if (most > 0 && most < c->max_tokens) c->max_tokens = most;
        c->keep_bounds |= c->module->desc.n_attrs && c->module->desc.kinds[k]->n_data;
    }
    return ATTN_OK;
}

static attn_status take_memory(attn_cache *c, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    size_t most = 0;
    for (uint32_t k = 0; k < d->n_kinds; k++) {
        const size_t ranges = (size_t)d->kinds[k]->n_may + d->kinds[k]->n_must;
        if (ranges > most) most = ranges;
        if (d->kinds[k]->n_live > most) most = d->kinds[k]->n_live;
    }
    c->busy = attni_alloc(&c->mem, 1, sizeof *c->busy);
    c->inputs = attni_alloc(&c->mem, d->n_inputs, sizeof *c->inputs);
    c->pairs = attni_alloc(&c->mem, most + 1, MASK_RANGE * sizeof *c->pairs);
    c->step.done = attni_alloc(&c->mem, d->n_layers, 1);
    c->step.pages.mem = c->step.there.mem = &c->mem;
    return c->mem.failed ? attni_no_memory(err) : ATTN_OK;
}

static attn_status check_kinds(const attn_cache *c, const attn_cache_config *from, attn_error *err)
{
    const attn_module_desc *d = &c->module->desc;
    for (uint32_t k = 0; k < d->n_kinds; k++) {
        const attn_kind_desc *kind = d->kinds[k];
        if (!kind->live)
            return attni_fail(err, ATTN_E_VERSION, "kind '%s' does not say what it keeps; compile the pattern again",
                              kind->name);
        if (kind->flags & ATTN_KIND_MASK_INPUTS && !from->inputs)
            return attni_fail(err, ATTN_E_MISSING, "the mask of '%s' reads run-time inputs; the cache needs them",
                              kind->name);
        if (c->isa >= 0 && !attni_kind_kernel(kind, c->isa))
            return attni_fail(err, ATTN_E_ISA, "'%s' has no kernel of instruction set %d that runs here", kind->name,
                              c->isa);
    }
    return ATTN_OK;
}

attn_status attn_cache_create(const attn_module *m, const attn_cache_config *config, attn_cache **out, attn_error *err)
{
    if (!m || !out) return attni_fail(err, ATTN_E_ARGUMENT, "attn_cache_create: %s is NULL", m ? "out" : "the module");
    attn_cache_config from;
    attn_status s = attni_read_struct(&from, sizeof from, config, "attn_cache_config", err);
    if (s) return s;
    memory *mem;
    attn_cache *c = attni_new_owner(sizeof *c, from.allocator, &mem, offsetof(attn_cache, mem), &s, err);
    if (!c) return s;
    c->module = m;
    s = read_config(c, &from, err);
    if (!s) s = check_kinds(c, &from, err);
    if (!s) s = take_memory(c, err);
    if (!s) s = attni_cache_lay_out(c, &from, err);
    if (!s) s = attni_prefix_open(c, from.prefix_bytes, err);
    if (!s && from.inputs) s = attni_bind_inputs(&m->desc, from.inputs, c->inputs, err);
    if (!s) s = attni_plans_open(c, err);
    if (s)
        attn_cache_destroy(c);
    else
        *out = c;
    return s;
}

void attn_cache_destroy(attn_cache *c)
{
    if (!c) return;
    if (c->busy) attn_step_cancel(c); /* or it was never made */
    attni_plans_close(c);
    attni_delete_owner(c, sizeof *c, offsetof(attn_cache, mem));
}
