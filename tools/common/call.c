/* call.c - one forward call of a compiled layer on a problem. */
#include "tools/common/call.h"
#include <math.h>
#include <stdlib.h>

bool call_check(attn_status status, const attn_error *e, tool_error *err)
{
    return status == ATTN_OK || tool_fail(err, "%s", e->text[0] ? e->text : attn_status_text(status));
}

tensor call_result_like(const tensor *q, int64_t dim_v)
{
    tensor t = *q;
    t.extent[t.rank - 1] = dim_v;
    return t;
}

static bool describe_inputs(call *c, tool_error *err)
{
    const attn_module_desc *m = c->problem->module;
    c->inputs = calloc(m->n_inputs + 1u, sizeof *c->inputs);
    c->input_list = calloc(m->n_inputs + 1u, sizeof *c->input_list);
    c->input_shapes = calloc(m->n_inputs + 1u, sizeof *c->input_shapes);
    if (!c->inputs || !c->input_list || !c->input_shapes) return tool_fail(err, "out of memory");
    for (uint32_t i = 0; i < m->n_inputs; i++) {
        const tensor *t = &c->problem->inputs[i];
        if (!t->stored) continue; /* not given: the runtime says so if this layer reads it */
        c->inputs[i] = tensor_describe(t, t->stored, ATTN_F32, m->inputs[i]->is_int, c->input_shapes[i]);
        c->input_list[i] = &c->inputs[i];
    }
    return true;
}

static bool make_plan(call *c, attn_module *m, uint32_t threads, int32_t isa, tool_error *err)
{
    const problem *p = c->problem;
    attn_error e = {""};
    attn_plan_config config = {.size = sizeof config,
                               .layer = p->layer,
                               .n_seqs = p->n_seqs,
                               .q_lens = p->q_lens,
                               .k_lens = p->k_lens,
                               .q_attrs = p->module->n_attrs ? (const int32_t *const *)p->q_attrs : NULL,
                               .k_attrs = p->module->n_attrs ? (const int32_t *const *)p->k_attrs : NULL,
                               .inputs = p->module->n_inputs ? c->input_list : NULL,
                               .workers = threads,
                               .isa = isa};
    return call_check(attn_plan_create(m, &config, &c->plan, &e), &e, err) &&
           call_check(attn_pool_create(threads, NULL, &c->pool, &e), &e, err);
}

/* Results start as NaN, so that what nobody wrote is seen. */
static bool make_outputs(call *c, tool_error *err)
{
    const problem *p = c->problem;
    size_t n_lse = (size_t)(p->total_q * p->kind->q_heads), n = n_lse * p->kind->dim_v;
    c->out = malloc((n + 1) * sizeof(float));
    c->lse = malloc((n_lse + 1) * sizeof(float));
    if (!c->out || !c->lse) return tool_fail(err, "out of memory");
    for (size_t i = 0; i < n; i++)
        c->out[i] = NAN;
    for (size_t i = 0; i < n_lse; i++)
        c->lse[i] = NAN;
    return true;
}

bool call_create(call *c, attn_module *m, const problem *p, uint32_t threads, int32_t isa, tool_error *err)
{
    *c = (call){.problem = p};
    return describe_inputs(c, err) && make_plan(c, m, threads, isa, err) && make_outputs(c, err);
}

bool call_run(call *c, tool_error *err)
{
    const problem *p = c->problem;
    int64_t shapes[5][4], strides[5][4];
    attn_error e = {""};
    tensor like_o = call_result_like(&p->q, p->kind->dim_v), like_lse = p->q;
    like_lse.rank--;
    DLTensor q = tensor_describe(&p->q, p->q.stored, p->kind->dtype, false, shapes[0]);
    DLTensor k = tensor_describe(&p->k, p->k.stored, p->kind->dtype, false, shapes[1]);
    DLTensor v = tensor_describe(&p->v, p->v.stored, p->kind->dtype, false, shapes[2]);
    DLTensor o = tensor_describe(&like_o, c->out, ATTN_F32, false, shapes[3]);
    DLTensor lse = tensor_describe(&like_lse, c->lse, ATTN_F32, false, shapes[4]);
    DLTensor *const all[5] = {&q, &k, &v, &o, &lse};
    for (int i = 0; p->by_head && i < 5; i++)
        tensor_store_by_head(all[i], strides[i]);
    attn_tensors t = {.size = sizeof t,
                      .q = &q,
                      .k = &k,
                      .v = p->kind->flags & ATTN_KIND_K_IS_V ? NULL : &v,
                      .o = &o,
                      .lse = &lse,
                      .inputs = p->module->n_inputs ? c->input_list : NULL,
                      .layer = p->layer};
    return call_check(attn_forward(c->plan, &t, c->pool, &e), &e, err);
}

void call_destroy(call *c)
{
    attn_pool_destroy(c->pool);
    attn_plan_destroy(c->plan);
    free(c->out), free(c->lse), free(c->inputs), free(c->input_list), free(c->input_shapes), free(c->lens);
    *c = (call){0};
}
