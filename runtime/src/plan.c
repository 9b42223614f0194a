/* plan.c - the life of a plan. All memory of its runs is taken here, so that running allocates nothing. */
#include "plan.h"

#include "error.h"

#include <stddef.h>

size_t attni_workspace_stride(const attn_kernel_desc *k)
{
    return (k->workspace + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
}

attn_status attni_plan_open(const attn_module *m, const attn_plan_config *c, attn_plan **out, attn_error *err)
{
    memory *mem;
    attn_status s;
    attn_plan *p = attni_new_owner(sizeof *p, c->allocator, &mem, offsetof(attn_plan, mem), &s, err);
    if (!p) return s;
    p->module = m;
    p->n_groups = 1;
    s = attni_plan_choose(p, c, err);
    if (!s && m->desc.n_inputs) {
        p->inputs = attni_alloc(mem, m->desc.n_inputs, sizeof *p->inputs);
        p->call_inputs = attni_alloc(mem, m->desc.n_inputs, sizeof *p->call_inputs);
        if (mem->failed) s = attni_no_memory(err);
    }
    if (s)
        attn_plan_destroy(p);
    else
        *out = p;
    return s;
}

attn_status attni_plan_make(attn_plan *p, const attn_plan_config *c, const plan_given *given, drafts *d,
                            attn_error *err)
{
    p->mem.failed = false;
    p->seen.q.known = p->seen.k.known = p->seen.v.known = p->seen.o.known = p->seen.lse.known = false;
    p->past = given ? given->past : NULL;
    p->n_groups = given ? given->n_groups : 1;
    p->head_group = given ? given->head_group : NULL;
    attn_status s = attni_plan_check(p, c, given, err);
    return s ? s : attni_plan_items(p, c, d, err);
}

/* Of a plan that has its room for itself. */
static attn_status take_room(attn_plan *p, attn_error *err)
{
    memory *m = &p->mem;
    p->room.workspace_stride = attni_workspace_stride(p->kernel);
    p->room.workspaces = attni_alloc(m, p->workers, p->room.workspace_stride);
    p->room.parts = attni_alloc(m, (size_t)p->n_slots, p->kernel->part_bytes);
    p->room.finished = attni_alloc(m, (size_t)p->n_slots, sizeof *p->room.finished);
    p->room.starts = attni_alloc(m, attni_start_bytes(p), 1);
    p->room.staged = attni_alloc(m, p->n_stages, sizeof *p->room.staged);
    p->pages = attni_alloc(m, p->n_seqs, 2 * sizeof *p->pages);
    p->head_at = attni_alloc(m, p->kind->kv_heads, 2 * sizeof *p->head_at);
    return m->failed ? attni_no_memory(err) : ATTN_OK;
}

static attn_status make_once(attn_plan *p, const attn_plan_config *c, attn_error *err)
{
    memory scratch;
    drafts d;
    attn_status s = attni_memory_open(&scratch, &p->mem.a, err);
    if (s) return s;
    attni_drafts_open(&d, &scratch, &p->module->desc);
    s = scratch.failed ? attni_no_memory(err) : attni_plan_make(p, c, NULL, &d, err);
    attni_memory_close(&scratch);
    return s ? s : take_room(p, err);
}

attn_status attn_plan_create(const attn_module *m, const attn_plan_config *config, attn_plan **out, attn_error *err)
{
    if (!m || !out) return attni_fail(err, ATTN_E_ARGUMENT, "attn_plan_create: %s is NULL", m ? "out" : "the module");
    attn_plan_config c;
    attn_plan *p;
    attn_status s = attni_read_struct(&c, sizeof c, config, "attn_plan_config", err);
    if (!s) s = attni_plan_open(m, &c, &p, err);
    if (s) return s;
    s = make_once(p, &c, err);
    if (s)
        attn_plan_destroy(p);
    else
        *out = p;
    return s;
}

void attn_plan_destroy(attn_plan *p)
{
    if (p) attni_delete_owner(p, sizeof *p, offsetof(attn_plan, mem));
}
