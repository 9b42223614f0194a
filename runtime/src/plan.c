/* plan.c - the life of a plan. All memory of its runs is taken here, so that running allocates nothing. */
#include "plan.h"

#include "error.h"

#include <stddef.h>

static attn_status take_run_memory(attn_plan *p, attn_error *err)
{
    memory *m = &p->mem;
    p->workspace_stride = (p->kernel->workspace + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
    p->workspaces = attni_alloc(m, p->workers, p->workspace_stride);
    p->parts = attni_alloc(m, (size_t)p->n_slots, p->kernel->part_bytes);
    p->finished = attni_alloc(m, (size_t)p->n_slots, sizeof *p->finished);
    p->pages = attni_alloc(m, p->n_seqs, 2 * sizeof *p->pages);
    p->head_at = attni_alloc(m, p->kind->kv_heads, 2 * sizeof *p->head_at);
    return m->failed ? attni_fail(err, ATTN_E_MEMORY, "out of memory") : ATTN_OK;
}

attn_status attni_plan_create(const attn_module *m, const attn_plan_config *c, const plan_given *given, attn_plan **out,
                              attn_error *err)
{
    memory *mem;
    attn_status s;
    attn_plan *p = attni_new_owner(sizeof *p, c->allocator, &mem, offsetof(attn_plan, mem), &s, err);
    if (!p) return s;
    p->module = m;
    p->past = given ? given->past : NULL;
    p->n_groups = given ? given->n_groups : 1;
    p->head_group = given ? given->head_group : NULL;
    s = attni_plan_check(p, c, given, err);
    if (!s) s = attni_plan_items(p, c, err);
    if (!s) s = take_run_memory(p, err);
    if (s)
        attn_plan_destroy(p);
    else
        *out = p;
    return s;
}

attn_status attn_plan_create(const attn_module *m, const attn_plan_config *config, attn_plan **out, attn_error *err)
{
    if (!m || !out) return attni_fail(err, ATTN_E_ARGUMENT, "attn_plan_create: %s is NULL", m ? "out" : "the module");
    attn_plan_config c;
    attn_status s = attni_read_struct(&c, sizeof c, config, "attn_plan_config", err);
    return s ? s : attni_plan_create(m, &c, NULL, out, err);
}

void attn_plan_destroy(attn_plan *p)
{
    if (p) attni_delete_owner(p, sizeof *p, offsetof(attn_plan, mem));
}
