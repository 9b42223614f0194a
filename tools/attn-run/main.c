/* main.c - attn-run: one layer of a compiled model on tensors from files, and the oracle beside it. */
#include "tools/attn-run/options.h"
#include "tools/attn-run/oracle.h"
#include "tools/common/call.h"
#include "tools/common/npy.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct run {
    const run_options *o;
    tool_error *err;
    attn_module *module;
    problem problem;
    call call;
} run;

/* ---- results -------------------------------------------------------------------------------------------------------------------- */

static bool write_results(run *r)
{
    const problem *p = &r->problem;
    tensor o = call_result_like(&p->q, p->kind->dim_v);
    if (r->o->out && !npy_write_f32(r->o->out, r->call.out, o.extent, o.rank, r->err)) return false;
    return !r->o->lse || npy_write_f32(r->o->lse, r->call.lse, p->q.extent, p->q.rank - 1, r->err);
}

static void print_comparison(const char *name, const comparison *c)
{
    printf("check %s: %s: max error %.2e, allowed %.2e, at %s\n", name, c->ok ? "ok" : "WRONG", c->error, c->allowed, c->where);
}

static int check_results(run *r)
{
    oracle o;
    if (!r->problem.total_q) return puts("check: ok: no tokens"), RUN_DONE;
    if (!oracle_compute(&o, &r->problem, r->call.lens, r->err)) {
        oracle_free(&o);
        return RUN_USAGE;
    }
    comparison of_o = oracle_compare_o(&o, &r->problem, r->call.out), of_lse = oracle_compare_lse(&o, &r->problem, r->call.lse);
    print_comparison("o", &of_o);
    print_comparison("lse", &of_lse);
    oracle_free(&o);
    return of_o.ok && of_lse.ok ? RUN_DONE : RUN_MISMATCH;
}

/* The result beside a recorded one. */
static int compare_file(run *r)
{
    npy_array want;
    tensor o = call_result_like(&r->problem.q, r->problem.kind->dim_v);
    if (!npy_read(r->o->expect, &want, r->err) || !npy_make_f32(r->o->expect, &want, r->err)) return RUN_USAGE;
    bool fits = want.rank == o.rank && !memcmp(want.extent, o.extent, o.rank * sizeof *o.extent);
    double worst = 0;
    for (int64_t i = 0; fits && i < want.count; i++) {
        double e = fabs((double)want.f32[i] - r->call.out[i]);
        if (!(e <= worst)) worst = e; /* NaN is worst of all */
    }
    npy_free(&want);
    if (!fits) return tool_fail(r->err, "'%s' has another shape than the result", r->o->expect), RUN_USAGE;
    bool ok = worst <= r->o->tolerance;
    printf("expect: %s: max error %.2e, allowed %.2e\n", ok ? "ok" : "WRONG", worst, r->o->tolerance);
    return ok ? RUN_DONE : RUN_MISMATCH;
}

/* What ran, for a call that neither writes nor checks anything. */
static void print_summary(const run *r)
{
    attn_plan_stats s = {.size = sizeof s};
    if (attn_plan_get_stats(r->call.plan, &s) != ATTN_OK) return;
    printf("%s: %lld items, %lld pairs computed, %lld visible\n", s.kernel, (long long)s.items, (long long)s.pairs_computed,
           (long long)s.pairs_visible);
}

/* What is quantised in a cache has to go through one: all queries in one step. */
static bool run_one_step(run *r)
{
    const problem *p = &r->problem;
    int64_t longest = 0;
    for (uint32_t s = 0; s < p->n_seqs; s++)
        longest = p->q_lens[s] > longest ? p->q_lens[s] : longest;
    return steps_run(&r->call, r->module, &(steps_options){.pieces = &longest, .n_pieces = 1}, r->o->isa, NULL, r->err);
}

static bool run_layer(run *r)
{
    attn_cache_stats s = {.size = sizeof s};
    if (!r->o->steps.n_pieces) return r->problem.kind->kv_format ? run_one_step(r) : call_run(&r->call, r->err);
    if (!steps_run(&r->call, r->module, &r->o->steps, r->o->isa, &s, r->err)) return false;
    printf("cache: %llu bytes in %lld pages, most %llu; every token kept: %llu\n", (unsigned long long)s.bytes, (long long)s.pages,
           (unsigned long long)s.bytes_most, (unsigned long long)s.bytes_full);
    return true;
}

static int run_all(run *r)
{
    const problem_source *s = &r->o->source;
    attn_error e = {""};
    if (!call_check(attn_module_load(r->o->module, NULL, &r->module, &e), &e, r->err)) return RUN_USAGE;
    if (!problem_load(&r->problem, attn_module_describe(r->module), s, r->err)) return RUN_USAGE;
    if (!call_create(&r->call, r->module, &r->problem, (uint32_t)r->o->threads, r->o->isa, r->err)) return RUN_USAGE;
    if (!run_layer(r) || !write_results(r)) return RUN_USAGE;
    if (s->random)
        printf("random input: %lld x %lld tokens, seed %lld\n", (long long)s->batch, (long long)s->q_tokens, (long long)s->seed);
    int checked = r->o->check ? check_results(r) : RUN_DONE, compared = r->o->expect ? compare_file(r) : RUN_DONE;
    if (checked || compared) return checked > compared ? checked : compared;
    if (!r->o->check && !r->o->expect && !r->o->out && !r->o->lse) print_summary(r);
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
    call_destroy(&r.call);
    problem_free(&r.problem);
    attn_module_destroy(r.module);
    run_options_free(&o);
    return status;
}
