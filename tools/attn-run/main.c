/* main.c - attn-run: one layer of a compiled model on tensors from files, and the oracle beside it. */
#include "tools/attn-run/oracle.h"
#include "tools/common/npy.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct run {
    const run_options *o;
    tool_error *err;
    attn_module *module;
    attn_plan *plan;
    attn_pool *pool;
    problem problem;
    float *out, *lse;
} run;

static bool check(run *r, attn_status status, const attn_error *e)
{
    return status == ATTN_OK || tool_fail(r->err, "%s", e->text[0] ? e->text : attn_status_text(status));
}

/* ---- the call ------------------------------------------------------------------------------------------------------------------- */

typedef struct described_inputs {
    DLTensor *tensors;
    const DLTensor **list;
    int64_t (*shapes)[4];
} described_inputs;

static bool describe_inputs(run *r, described_inputs *d)
{
    const attn_module_desc *m = r->problem.module;
    d->tensors = calloc(m->n_inputs + 1u, sizeof *d->tensors);
    d->list = calloc(m->n_inputs + 1u, sizeof *d->list);
    d->shapes = calloc(m->n_inputs + 1u, sizeof *d->shapes);
    if (!d->tensors || !d->list || !d->shapes) return tool_fail(r->err, "out of memory");
    for (uint32_t i = 0; i < m->n_inputs; i++) {
        const tensor *t = &r->problem.inputs[i];
        d->tensors[i] = tensor_describe(t, t->stored, ATTN_F32, m->inputs[i]->is_int, d->shapes[i]);
        d->list[i] = &d->tensors[i];
    }
    return true;
}

static bool make_plan(run *r, const described_inputs *inputs)
{
    const problem *p = &r->problem;
    attn_error e = {""};
    attn_plan_config c = {.size = sizeof c,
                          .layer = p->layer,
                          .n_seqs = p->n_seqs,
                          .q_lens = p->q_lens,
                          .k_lens = p->k_lens,
                          .q_attrs = p->module->n_attrs ? (const int32_t *const *)p->q_attrs : NULL,
                          .k_attrs = p->module->n_attrs ? (const int32_t *const *)p->k_attrs : NULL,
                          .inputs = p->module->n_inputs ? inputs->list : NULL,
                          .workers = (uint32_t)r->o->threads,
                          .isa = r->o->isa};
    return check(r, attn_plan_create(r->module, &c, &r->plan, &e), &e) &&
           check(r, attn_pool_create((uint32_t)r->o->threads, NULL, &r->pool, &e), &e);
}

/* Results start as NaN, so that what nobody wrote is seen. */
static bool make_outputs(run *r)
{
    const problem *p = &r->problem;
    size_t n_lse = (size_t)(p->total_q * p->kind->q_heads), n = n_lse * p->kind->dim_v;
    r->out = malloc((n + 1) * sizeof(float));
    r->lse = malloc((n_lse + 1) * sizeof(float));
    if (!r->out || !r->lse) return tool_fail(r->err, "out of memory");
    for (size_t i = 0; i < n; i++)
        r->out[i] = NAN;
    for (size_t i = 0; i < n_lse; i++)
        r->lse[i] = NAN;
    return true;
}

static tensor result_like(const tensor *q, int64_t dim_v)
{
    tensor t = *q;
    t.extent[t.rank - 1] = dim_v;
    return t;
}

static bool forward(run *r, const described_inputs *inputs)
{
    const problem *p = &r->problem;
    int64_t shapes[5][4];
    attn_error e = {""};
    tensor like_o = result_like(&p->q, p->kind->dim_v), like_lse = p->q;
    like_lse.rank--;
    DLTensor q = tensor_describe(&p->q, p->q.stored, p->kind->dtype, false, shapes[0]);
    DLTensor k = tensor_describe(&p->k, p->k.stored, p->kind->dtype, false, shapes[1]);
    DLTensor v = tensor_describe(&p->v, p->v.stored, p->kind->dtype, false, shapes[2]);
    DLTensor o = tensor_describe(&like_o, r->out, ATTN_F32, false, shapes[3]);
    DLTensor lse = tensor_describe(&like_lse, r->lse, ATTN_F32, false, shapes[4]);
    attn_tensors t = {.size = sizeof t,
                      .q = &q,
                      .k = &k,
                      .v = &v,
                      .o = &o,
                      .lse = &lse,
                      .inputs = p->module->n_inputs ? inputs->list : NULL,
                      .layer = p->layer};
    return check(r, attn_forward(r->plan, &t, r->pool, &e), &e);
}

static bool compute(run *r)
{
    described_inputs d = {0};
    bool ok = describe_inputs(r, &d) && make_plan(r, &d) && make_outputs(r) && forward(r, &d);
    free(d.tensors), free(d.list), free(d.shapes);
    return ok;
}

/* ---- results -------------------------------------------------------------------------------------------------------------------- */

static bool write_results(run *r)
{
    const problem *p = &r->problem;
    tensor o = result_like(&p->q, p->kind->dim_v);
    if (r->o->out && !npy_write_f32(r->o->out, r->out, o.extent, o.rank, r->err)) return false;
    return !r->o->lse || npy_write_f32(r->o->lse, r->lse, p->q.extent, p->q.rank - 1, r->err);
}

static void print_comparison(const char *name, const comparison *c)
{
    printf("check %s: %s: max error %.2e, allowed %.2e, at %s\n", name, c->ok ? "ok" : "WRONG", c->error, c->allowed, c->where);
}

static int check_results(run *r)
{
    oracle o;
    if (!r->problem.total_q) return puts("check: ok: no tokens"), RUN_DONE;
    if (!oracle_compute(&o, &r->problem, r->err)) {
        oracle_free(&o);
        return RUN_USAGE;
    }
    comparison of_o = oracle_compare_o(&o, &r->problem, r->out), of_lse = oracle_compare_lse(&o, &r->problem, r->lse);
    print_comparison("o", &of_o);
    print_comparison("lse", &of_lse);
    oracle_free(&o);
    return of_o.ok && of_lse.ok ? RUN_DONE : RUN_MISMATCH;
}

/* What ran, for a call that neither writes nor checks anything. */
static void print_summary(const run *r)
{
    attn_plan_stats s = {.size = sizeof s};
    if (attn_plan_get_stats(r->plan, &s) != ATTN_OK) return;
    printf("%s: %lld items, %lld pairs computed, %lld visible\n", s.kernel, (long long)s.items, (long long)s.pairs_computed,
           (long long)s.pairs_visible);
}

static int run_all(run *r)
{
    attn_error e = {""};
    if (!check(r, attn_module_load(r->o->module, NULL, &r->module, &e), &e)) return RUN_USAGE;
    if (!problem_load(&r->problem, attn_module_describe(r->module), r->o, r->err)) return RUN_USAGE;
    if (!compute(r) || !write_results(r)) return RUN_USAGE;
    if (r->o->random)
        printf("random input: %lld x %lld tokens, seed %lld\n", (long long)r->o->batch, (long long)r->o->tokens,
               (long long)r->o->seed);
    if (r->o->check) return check_results(r);
    if (!r->o->out && !r->o->lse) print_summary(r);
    return RUN_DONE;
}

int main(int argc, char **argv)
{
    run_options o;
    tool_error err = {""};
    run r = {.o = &o, .err = &err};
    int status = RUN_USAGE;
    if (run_options_parse(argc, argv, &o, &err)) {
        if (o.help)
            run_options_help(), status = RUN_DONE;
        else
            status = run_all(&r);
    }
    if (err.text[0]) fprintf(stderr, "attn-run: error: %s\n", err.text);
    free(r.out), free(r.lse);
    problem_free(&r.problem);
    attn_pool_destroy(r.pool);
    attn_plan_destroy(r.plan);
    attn_module_destroy(r.module);
    run_options_free(&o);
    return status;
}
