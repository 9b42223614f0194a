/* main.c - attn-bench: how fast one layer of a compiled model runs, against what the machine does at the same moment. */
#define _POSIX_C_SOURCE 200809L
#include "tools/common/burst.h"
#include "tools/attn-bench/options.h"
#include "tools/common/paged.h"
#include "tools/common/call.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BENCH_USAGE = 2, QUANTISED_PAGE = 64 };

typedef struct bench {
    const bench_options *o;
    tool_error *err;
    attn_module *module;
    problem problem;
    call call;
    paged paged;        /* where keys lie in pages */
    int64_t page_size;  /* 0: contiguous tensors */
    int64_t read_keys;  /* rows of K, as many of V: those that some query sees */
    uint32_t isa;       /* of the kernel that runs */
    double first;       /* seconds of the first run */
    double *seconds, *peak, *read; /* per repeat */
} bench;

static bool load(bench *b)
{
    const bench_options *o = b->o;
    attn_error e = {""};
    problem_source source = o->files;
    source.layer = o->layer;
    source.random = true;
    source.by_head = !strcmp(o->layout, "heads");
    source.batch = o->batch, source.q_tokens = o->q_len, source.k_tokens = o->kv_len, source.seed = 1;
    if (!call_check(attn_module_load(o->module, NULL, &b->module, &e), &e, b->err) ||
        !problem_load(&b->problem, attn_module_describe(b->module), &source, b->err))
        return false;
    b->page_size = o->page_size ? o->page_size : b->problem.kind->kv_format ? QUANTISED_PAGE : 0;
    return call_create(&b->call, b->module, &b->problem, (uint32_t)o->threads, o->isa, b->err) &&
           (!b->page_size || paged_open(&b->paged, b->module, &b->call, (uint32_t)b->page_size, o->isa, b->err)) &&
           paged_count_keys(&b->problem, &b->read_keys, b->err);
}

/* The instruction set of the kernel that the plan chose. */
static bool find_isa(bench *b, attn_plan_stats *s)
{
    attn_error e = {""};
    if (!call_check(attn_plan_get_stats(b->call.plan, s), &e, b->err)) return false;
    for (uint32_t i = 0; i < b->problem.kind->n_kernels; i++)
        if (b->problem.kind->kernels[i]->name == s->kernel) b->isa = b->problem.kind->kernels[i]->isa;
    return true;
}

static burst_kind burst_of(const bench *b)
{
    bool wide = attn_isa_available(ATTN_ISA_AVX512), bf16 = b->problem.kind->dtype == ATTN_BF16;
    switch (b->isa) {
    case ATTN_ISA_BASELINE: return BURST_SSE;
    case ATTN_ISA_AVX2: return BURST_AVX2;
    case ATTN_ISA_AVX512: return BURST_AVX512;
    case ATTN_ISA_AVX512BF16: return bf16 ? BURST_BF16 : BURST_AVX512;
    }
    if (bf16 && attn_isa_available(ATTN_ISA_AVX512BF16)) return BURST_BF16; /* native */
    return wide ? BURST_AVX512 : attn_isa_available(ATTN_ISA_AVX2) ? BURST_AVX2 : BURST_SSE;
}

/* Of the rows that are read. */
static size_t bytes_of_keys(const bench *b) { return (size_t)b->read_keys * problem_row_bytes(b->problem.kind, b->problem.kind->dim); }
static size_t bytes_of_values(const bench *b)
{
    const attn_kind_desc *d = b->problem.kind;
    return d->flags & ATTN_KIND_K_IS_V ? 0 : (size_t)b->read_keys * problem_row_bytes(d, d->dim_v);
}

/* Seconds of one run. */
static bool run_once(bench *b, double *seconds)
{
    uint32_t threads = (uint32_t)b->o->threads;
    if (b->page_size && !paged_begin(&b->paged, b->err)) return false;
    double start = burst_now(threads);
    bool ok = b->page_size ? paged_run(&b->paged, b->err) : call_run(&b->call, b->err);
    *seconds = burst_now(threads) - start;
    if (b->page_size) paged_cancel(&b->paged);
    return ok;
}

/* Seconds. A call shorter than SHORT is timed right behind others, as a layer comes behind a layer: bursts leave its data out of the near caches,
 * and the pool asleep. One call is not enough to bring back 4 MB that two cores read by turns: they run for WARM. */
#define SHORT 10e-3
#define WARM 1.5e-3

static bool warm_up(bench *b)
{
    double all = 0, once;
    while (b->first < SHORT && all < WARM) {
        if (!run_once(b, &once)) return false;
        all += once;
    }
    return true;
}

static bool time_once(bench *b, int64_t i)
{
    const problem *p = &b->problem;
    uint32_t threads = (uint32_t)b->o->threads;
    b->peak[i] = burst_flops(burst_of(b), threads);
    b->read[i] = burst_read(p->k.stored, bytes_of_keys(b), p->v.stored, bytes_of_values(b), threads);
    return warm_up(b) && run_once(b, &b->seconds[i]);
}

static bool measure(bench *b)
{
    size_t n = (size_t)b->o->repeat;
    b->seconds = calloc(n, sizeof(double));
    b->peak = calloc(n, sizeof(double));
    b->read = calloc(n, sizeof(double));
    if (!b->seconds || !b->peak || !b->read) return tool_fail(b->err, "out of memory");
    if (!run_once(b, &b->first)) return false; /* warm */
    for (int64_t i = 0; i < b->o->repeat; i++)
        if (!time_once(b, i)) return false;
    return true;
}

/* ---- results ---------------------------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *list, int64_t n)
{
    qsort(list, (size_t)n, sizeof *list, by_size);
    return n % 2 ? list[n / 2] : (list[n / 2 - 1] + list[n / 2]) / 2;
}

typedef struct result {
    double median_ms, min_ms, max_ms, gflops, gbytes_s, peak_fraction, read_fraction;
} result;

/* Shares come from each repeat's own burst: the machine's speed changes from moment to moment. */
static result evaluate(bench *b, const attn_plan_stats *s)
{
    const attn_kind_desc *d = b->problem.kind;
    int64_t n = b->o->repeat;
    double flops = 2.0 * (double)s->pairs_visible * (d->dim + d->dim_v);
    double bytes = (double)(bytes_of_keys(b) + bytes_of_values(b));
    for (int64_t i = 0; i < n; i++) {
        b->peak[i] = flops / b->seconds[i] / b->peak[i];
        b->read[i] = bytes / b->seconds[i] / b->read[i];
    }
    double m = median(b->seconds, n);
    return (result){.median_ms = 1e3 * m,
                    .min_ms = 1e3 * b->seconds[0],
                    .max_ms = 1e3 * b->seconds[n - 1],
                    .gflops = 1e-9 * flops / m,
                    .gbytes_s = 1e-9 * bytes / m,
                    .peak_fraction = median(b->peak, n),
                    .read_fraction = median(b->read, n)};
}

static const char *dtype_text(uint32_t dtype) { return dtype == ATTN_F32 ? "f32" : dtype == ATTN_F16 ? "f16" : "bf16"; }

static void print_csv(const bench *b, const result *r)
{
    const attn_kind_desc *d = b->problem.kind;
    const bench_options *o = b->o;
    puts("op,pattern,layer,dtype,batch,q_len,kv_len,q_heads,kv_heads,dim,threads,device,median_ms,min_ms,max_ms,gflops,gbytes_s,"
         "peak_fraction,read_fraction,repeat");
    printf("%s,%s,%lld,%s,%lld,%lld,%lld,%u,%u,%u,%lld,cpu,%.4f,%.4f,%.4f,%.2f,%.3f,%.4f,%.4f,%lld\n", o->op, d->name, (long long)o->layer,
           dtype_text(d->dtype), (long long)o->batch, (long long)o->q_len, (long long)o->kv_len, d->q_heads, d->kv_heads, d->dim,
           (long long)o->threads, r->median_ms, r->min_ms, r->max_ms, r->gflops, r->gbytes_s, r->peak_fraction, r->read_fraction,
           (long long)o->repeat);
}

static void print_text(const bench *b, const result *r, const attn_plan_stats *s)
{
    const bench_options *o = b->o;
    printf("%s: batch %lld, %lld queries, %lld keys, %lld thread%s\n", s->kernel, (long long)o->batch, (long long)o->q_len,
           (long long)o->kv_len, (long long)o->threads, o->threads == 1 ? "" : "s");
    if (!o->page_size) printf("  layout     %s\n", !strcmp(o->layout, "heads") ? "heads: [batch, heads, tokens, dim]" : "tokens: [batch, tokens, heads, dim]");
    printf("  time       %.3f ms (%.3f to %.3f, %lld repeats)\n", r->median_ms, r->min_ms, r->max_ms, (long long)o->repeat);
    printf("  arithmetic %.1f GFLOP/s, %.1f %% of a multiply-add burst\n", r->gflops, 100 * r->peak_fraction);
    printf("  K and V    %.2f GB/s, %.1f %% of a plain read\n", r->gbytes_s, 100 * r->read_fraction);
    printf("  pairs      %lld visible, %.1f %% more computed\n", (long long)s->pairs_visible,
           s->pairs_visible ? 100 * ((double)s->pairs_computed / (double)s->pairs_visible - 1) : 0);
}

static bool run_all(bench *b)
{
    attn_plan_stats s = {.size = sizeof s};
    if (!load(b) || !find_isa(b, &s) || !measure(b)) return false;
    result r = evaluate(b, &s);
    if (b->o->csv)
        print_csv(b, &r);
    else
        print_text(b, &r, &s);
    return true;
}

int main(int argc, char **argv)
{
    bench_options o;
    tool_error err = {""};
    bench b = {.o = &o, .err = &err};
    bool ok = bench_options_parse(argc, argv, &o, &err);
    if (ok && o.help)
        bench_options_help();
    else if (ok)
        ok = run_all(&b);
    if (!ok) fprintf(stderr, "attn-bench: error: %s\n", err.text);
    free(b.seconds), free(b.peak), free(b.read);
    paged_close(&b.paged);
    call_destroy(&b.call);
    problem_free(&b.problem);
    attn_module_destroy(b.module);
    return ok ? EXIT_SUCCESS : BENCH_USAGE;
}
