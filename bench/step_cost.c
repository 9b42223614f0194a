/* step_cost.c - what a step costs outside its kernels: attn_step_begin, attn_step_layer without moving rows of K and V
 * and without running items, attn_step_end.
 *
 *     step_cost KERNEL.so [SEQUENCES [NEW [STEPS [WORKERS [LENGTH]]]]]
 *
 * The module is real, with its masks, live rules and tiles, but its kernels return at once and its heads have one
 * element, so that many long sequences fit into memory. Sequence i of n begins with LENGTH * (1 + 8 * i / n) tokens;
 * a step brings NEW to each. Beside it: what handing out the items costs (with kernels that do nothing), and a loop of
 * fixed work, to tell a slow moment from a slow step. Microseconds, least and median over the steps. */
#define _POSIX_C_SOURCE 200809L
#include "runtime/src/forward.h"

#include <attn/cache.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_KINDS = 64, MAX_KERNELS = 256, MAX_STEPS = 100000, PREFILL = 4096 };

typedef enum figure { BEGIN, LAYERS, END, STEP, HAND_OUT, FIXED, FIGURES } figure;
static const char *const figure_names[FIGURES] = {"begin",           "layers", "end", "begin + layers + end",
                                              "handing out items", "fixed work"};

typedef struct bench {
    attn_module *file, *module;
    attn_module_desc desc;
    attn_kind_desc kinds[MAX_KINDS];
    const attn_kind_desc *kind_list[MAX_KINDS];
    attn_kernel_desc kernels[MAX_KERNELS];
    const attn_kernel_desc *kernel_list[MAX_KERNELS];
    attn_cache *cache;
    attn_pool *pool;
    uint32_t n_seqs, n_kernels, workers;
    int64_t new_tokens, steps, length;
    attn_seq_id *seqs;
    int64_t *counts;
    float *data; /* of every tensor */
    double *us[FIGURES];
} bench;

static attn_error err;

static void must(attn_status s)
{
    if (!s) return;
    fprintf(stderr, "step_cost: %s\n", err.text);
    exit(EXIT_FAILURE);
}

static void *take(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);
    if (!p) must(ATTN_E_MEMORY);
    return p;
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

/* ---- what is not counted ---------------------------------------------------------------------------------------- */

static bool run_items;

void __wrap_attni_append(attn_cache *c, uint32_t layer, const view *k, const view *v);
void __wrap_attni_append(attn_cache *c, uint32_t layer, const view *k, const view *v)
{
    (void)c, (void)layer, (void)k, (void)v;
}

attn_status __real_attni_run_begun(attn_plan *p, attn_pool *pool, attn_error *e);
attn_status __wrap_attni_run_begun(attn_plan *p, attn_pool *pool, attn_error *e);
attn_status __wrap_attni_run_begun(attn_plan *p, attn_pool *pool, attn_error *e)
{
    if (run_items) return __real_attni_run_begun(p, pool, e);
    attn_end(p);
    return ATTN_OK;
}

static void run_nothing(const attn_kernel_args *args, const attn_item *item, void *workspace)
{
    (void)args, (void)item, (void)workspace;
}

/* ---- the module -------------------------------------------------------------------------------------------------- */

static void copy_kind(bench *b, uint32_t k, const attn_kind_desc *from)
{
    attn_kind_desc *to = &b->kinds[k];
    *to = *from;
    to->dim = to->dim_v = 1;
    to->kernels = &b->kernel_list[b->n_kernels];
    for (uint32_t i = 0; i < from->n_kernels && b->n_kernels < MAX_KERNELS; i++) {
        attn_kernel_desc *kernel = &b->kernels[b->n_kernels];
        *kernel = *from->kernels[i];
        kernel->run = run_nothing;
        if (kernel->merge) kernel->merge = run_nothing;
        b->kernel_list[b->n_kernels++] = kernel;
    }
    b->kind_list[k] = to;
}

static void open_module(bench *b, const char *path)
{
    must(attn_module_load(path, NULL, &b->file, &err));
    b->desc = *attn_module_describe(b->file);
    if (b->desc.n_kinds > MAX_KINDS || b->desc.n_attrs || b->desc.n_inputs) {
        fprintf(stderr, "step_cost: '%s' has attributes, inputs, or too many kinds\n", path);
        exit(EXIT_FAILURE);
    }
    for (uint32_t k = 0; k < b->desc.n_kinds; k++) copy_kind(b, k, b->desc.kinds[k]);
    b->desc.kinds = b->kind_list;
    must(attn_module_open(&b->desc, NULL, &b->module, &err));
}

/* ---- a step ------------------------------------------------------------------------------------------------------ */

static uint32_t query_heads(const bench *b)
{
    uint32_t most = 0;
    for (uint32_t k = 0; k < b->desc.n_kinds; k++)
        if (b->kinds[k].q_heads > most) most = b->kinds[k].q_heads;
    return most;
}

static void run_layers(bench *b, int64_t rows)
{
    for (uint32_t l = 0; l < b->desc.n_layers; l++) {
        const attn_kind_desc *kind = &b->kinds[b->desc.schedule[l]];
        const bool own = !(kind->flags & ATTN_KIND_KV_SHARED), values = own && !(kind->flags & ATTN_KIND_K_IS_V);
        const uint8_t bits = kind->dtype == ATTN_F32 ? 32 : 16;
        const DLDataType type = {kind->dtype == ATTN_BF16 ? kDLBfloat : kDLFloat, bits, 1};
        int64_t q_shape[] = {rows, kind->q_heads, 1}, k_shape[] = {rows, kind->kv_heads, 1};
        DLTensor q = {.data = b->data, .device = {kDLCPU, 0}, .ndim = 3, .dtype = type, .shape = q_shape}, k = q;
        k.shape = k_shape;
        const attn_tensors t = {
            .size = sizeof t, .q = &q, .k = own ? &k : NULL, .v = values ? &k : NULL, .o = &q};
        must(attn_step_layer(b->cache, l, &t, b->pool, &err));
    }
}

static void step(bench *b, double us[FIGURES])
{
    const attn_step_config c = {.size = sizeof c, .n_seqs = b->n_seqs, .seqs = b->seqs, .counts = b->counts};
    int64_t rows = 0;
    for (uint32_t i = 0; i < b->n_seqs; i++) rows += b->counts[i];
    const double t0 = now_us();
    must(attn_step_begin(b->cache, &c, &err));
    const double t1 = now_us();
    run_layers(b, rows);
    const double t2 = now_us();
    must(attn_step_end(b->cache, &err));
    const double t3 = now_us();
    us[BEGIN] = t1 - t0, us[LAYERS] = t2 - t1, us[END] = t3 - t2, us[STEP] = t3 - t0;
}

/* One more step whose items are run: what its layers cost more. */
static double hand_out(bench *b, double layers)
{
    double us[FIGURES];
    run_items = true;
    step(b, us);
    run_items = false;
    return us[LAYERS] - layers;
}

static double fixed_work(void)
{
    const double t0 = now_us();
    unsigned long long x = 1;
    for (int i = 0; i < 20000; i++) x = x * 6364136223846793005ull + 1442695040888963407ull;
    volatile unsigned long long keep = x;
    (void)keep;
    return now_us() - t0;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

/* Feeds each sequence as many tokens as `left` says. */
static void feed(bench *b, int64_t *left)
{
    double us[FIGURES];
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = 0; i < b->n_seqs; i++) {
            b->counts[i] = left[i] < PREFILL ? left[i] : PREFILL;
            left[i] -= b->counts[i];
            more |= left[i] > 0;
        }
        step(b, us);
    }
}

/* Sequences that come and go first leave their pages for the steps that are measured. */
static void fill(bench *b)
{
    int64_t *n = take(b->n_seqs, sizeof *n);
    for (int spare = 1; spare >= 0; spare--) {
        for (uint32_t i = 0; i < b->n_seqs; i++) {
            n[i] = b->length * (1 + 8 * (int64_t)i / b->n_seqs) + 37 * i % 64;
            if (spare) n[i] += 2 * b->steps * b->new_tokens + 64;
            must(attn_seq_begin(b->cache, &b->seqs[i], &err));
        }
        feed(b, n);
        for (uint32_t i = 0; spare && i < b->n_seqs; i++) must(attn_seq_end(b->cache, b->seqs[i], &err));
    }
    free(n);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(bench *b)
{
    for (uint32_t i = 0; i < b->n_seqs; i++) b->counts[i] = b->new_tokens;
    for (int64_t s = 0; s < b->steps; s++) {
        double us[FIGURES];
        step(b, us);
        us[HAND_OUT] = hand_out(b, us[LAYERS]);
        us[FIXED] = fixed_work();
        for (int p = 0; p < FIGURES; p++) b->us[p][s] = us[p];
    }
    printf("%u sequences, %lld new tokens each, %u layers of %u kinds, workers %u, %lld steps\n", b->n_seqs,
           (long long)b->new_tokens, b->desc.n_layers, b->desc.n_kinds, b->workers, (long long)b->steps);
    for (int p = 0; p < FIGURES; p++) {
        qsort(b->us[p], (size_t)b->steps, sizeof(double), by_size);
        printf("  %-22s least %9.2f us, median %9.2f us\n", figure_names[p], b->us[p][0], b->us[p][b->steps / 2]);
    }
}

static int64_t number(int argc, char **argv, int at, int64_t standard)
{
    if (at >= argc) return standard;
    char *end;
    const long long n = strtoll(argv[at], &end, 10);
    if (*end || n < 0 || n > MAX_STEPS) {
        fprintf(stderr, "step_cost: '%s' is not a number from 0 to %d\n", argv[at], MAX_STEPS);
        exit(EXIT_FAILURE);
    }
    return n;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: step_cost KERNEL.so [SEQUENCES [NEW [STEPS [WORKERS [LENGTH]]]]]\n");
        return EXIT_FAILURE;
    }
    static bench b;
    b.n_seqs = (uint32_t)number(argc, argv, 2, 64);
    b.new_tokens = number(argc, argv, 3, 1);
    b.steps = number(argc, argv, 4, 300);
    b.workers = (uint32_t)number(argc, argv, 5, 1);
    b.length = number(argc, argv, 6, 1000);
    open_module(&b, argv[1]);
    const attn_cache_config c = {.size = sizeof c, .isa = -1, .workers = b.workers};
    must(attn_cache_create(b.module, &c, &b.cache, &err));
    if (b.workers > 1) must(attn_pool_create(b.workers, NULL, &b.pool, &err));
    b.seqs = take(b.n_seqs, sizeof *b.seqs);
    b.counts = take(b.n_seqs, sizeof *b.counts);
    const size_t rows = b.n_seqs * (size_t)(b.new_tokens > PREFILL ? b.new_tokens : PREFILL);
    b.data = take(rows * query_heads(&b), sizeof *b.data);
    for (int p = 0; p < FIGURES; p++) b.us[p] = take((size_t)b.steps, sizeof(double));
    fill(&b);
    if (b.steps) measure(&b);
    for (int p = 0; p < FIGURES; p++) free(b.us[p]);
    free(b.data), free(b.counts), free(b.seqs);
    attn_cache_destroy(b.cache);
    attn_pool_destroy(b.pool);
    attn_module_destroy(b.module);
    attn_module_destroy(b.file);
    return EXIT_SUCCESS;
}
