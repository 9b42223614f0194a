/* tune_bench.c - one kind for one target under measurement: candidates are compiled, loaded, compared and timed in turn. */
#define _POSIX_C_SOURCE 200809L
#include "tools/attnc/tune_bench.h"
#include "backends/backend.h"
#include "ir/pass/pass.h"
#include "tools/common/burst.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EARLY_ROUNDS = 3, LEAST_ROUNDS = 10, MOST_ROUNDS = 60, MOST_REPEATS = 4096, PAGE = 64 };
static const double timing_seconds = 2e-3, burst_seconds = 3e-3, hopeless = -0.02;

/* ---- one kind alone ------------------------------------------------------------------------------------------------------------- */

/* A module with this pattern for every layer: candidates need not compile the others. Whose keys it reads makes no difference to the
 * kernel, and the owner is not there. */
static ir_module *view_of(arena *a, const ir_module *m, uint32_t kind)
{
    ir_module *view = ARENA_NEW(a, ir_module);
    pattern *p = ARENA_NEW(a, pattern);
    *view = *m;
    view->arena = a;
    view->patterns.at = NULL, view->patterns.n = view->patterns.cap = 0;
    view->kernels.at = NULL, view->kernels.n = view->kernels.cap = 0;
    view->schedule = ARENA_ARRAY(a, uint32_t, m->layers + 1u);
    *p = *m->patterns.at[kind];
    p->kv_shared = false;
    VEC_PUSH(a, &view->patterns, p);
    return view;
}

static bool find_kernel(tune_bench *b, const ir_module *m, uint32_t kind)
{
    for (size_t i = 0; i < m->kernels.n; i++)
        if (m->kernels.at[i]->pattern == kind) {
            kernel *k = kernel_clone(b->view, m->kernels.at[i], m->kernels.at[i]->name);
            k->pattern = 0;
            b->kernel = k;
        }
    for (uint32_t l = m->layers; l-- > 0;)
        if (m->schedule[l] == kind) b->layer = l;
    return b->kernel != NULL;
}

/* ---- candidates ----------------------------------------------------------------------------------------------------------------- */

static bool compile(tune_bench *b, const schedule *sizes, const char *path, diags *d, tool_error *err)
{
    kernel *k = kernel_clone(b->view, b->kernel, b->kernel->name);
    const char *wrong = pass_run(PASS_schedule, k, &(pass_options){.target = b->target, .given = sizes});
    if (wrong) return tool_fail(err, "%s", wrong);
    const backend_variant variant = {b->target, &k};
    const backend_options o = {.emit = EMIT_SO, .output = path, .native = b->native, .source_hash = "", .air = ""};
    if (backend_cpu_emit(b->view, &variant, 1, &o, d)) return true;
    return tool_fail(err, "%s", d->list.n ? d->list.at[d->list.n - 1].text : "the backend refuses");
}

static bool is_paged(const tune_bench *b) { return b->view->patterns.at[0]->shape.kv != KV_AS_GIVEN; }

static bool make_calls(tune_bench *b, tune_trial *t, tool_error *err)
{
    for (size_t i = 0; i < b->n_shapes; i++) {
        if (!call_create(&t->calls[i], t->module, &b->problems[i], 1, -1, err)) return false;
        if (is_paged(b) && !paged_open(&t->paged[i], t->module, &t->calls[i], PAGE, -1, err)) return false;
    }
    return true;
}

/* One run, and its seconds. */
static bool run(tune_trial *t, size_t i, double *seconds, tool_error *err)
{
    const bool in_pages = t->paged[i].call;
    if (in_pages && !paged_begin(&t->paged[i], err)) return false;
    const double start = burst_now(1);
    const bool ok = in_pages ? paged_run(&t->paged[i], err) : call_run(&t->calls[i], err);
    *seconds = burst_now(1) - start;
    if (in_pages) paged_cancel(&t->paged[i]);
    return ok;
}

static bool load(tune_bench *b, const schedule *sizes, tune_trial *t, diags *d, tool_error *err)
{
    const char *path = arena_printf(b->arena, "%s/%u.so", b->folder, b->libraries++);
    attn_error e = {""};
    *t = (tune_trial){.sizes = *sizes};
    bool ok = compile(b, sizes, path, d, err) && call_check(attn_module_load(path, NULL, &t->module, &e), &e, err);
    unlink(path);
    ATTNC_CHECK(!ok || t == &b->reference || attn_module_describe(t->module) != attn_module_describe(b->reference.module));
    return ok;
}

bool tune_trial_open(tune_bench *b, const schedule *sizes, tune_trial *t, tool_error *err)
{
    diags d = {.arena = b->arena};
    if (load(b, sizes, t, &d, err) && make_calls(b, t, err)) return true;
    tune_trial_close(t);
    return false;
}

static void close_calls(tune_trial *t)
{
    for (size_t i = 0; i < TUNE_MAX_SHAPES; i++) {
        if (t->paged[i].call) paged_close(&t->paged[i]);
        if (t->calls[i].problem) call_destroy(&t->calls[i]);
        t->calls[i].problem = NULL;
    }
}

void tune_trial_close(tune_trial *t)
{
    close_calls(t);
    attn_module_destroy(t->module);
    *t = (tune_trial){.module = NULL};
}

/* Sums run in another order, in f32. Where pairs of bf16 are multiplied, weights of another maximum are rounded otherwise; few rows round
 * queries to 16 bits to multiply them by int8 keys, and how many are few is the schedule's to say. */
static double unit_of(const tune_bench *b, const tune_trial *t) { return t->sizes.dot_bf16 ? 0x1p-6 : is_paged(b) ? 0x1p-10 : 0x1p-13; }

static bool agree(tune_bench *b, tune_trial *t, size_t i, tool_error *err)
{
    const call *want = &b->reference.calls[i], *got = &t->calls[i];
    const attn_kind_desc *d = b->problems[i].kind;
    const int64_t rows = b->problems[i].total_q * d->q_heads;
    int64_t at;
    const char *name = tune_shape_text(b->arena, &b->shapes[i]);
    if (!results_agree(want->lse, got->lse, rows, 1, unit_of(b, t), &at))
        return tool_fail(err, "%s: log-sum-exp of row %lld is %.9g instead of %.9g", name, (long long)at, got->lse[at], want->lse[at]);
    if (!results_agree(want->out, got->out, rows, d->dim_v, unit_of(b, t), &at))
        return tool_fail(err, "%s: output %lld is %.9g instead of %.9g", name, (long long)at, got->out[at], want->out[at]);
    return true;
}

bool tune_trial_differs(tune_bench *b, tune_trial *t, tool_error *err)
{
    err->text[0] = 0;
    double seconds;
    for (size_t i = 0; i < b->n_shapes; i++)
        if (!run(t, i, &seconds, err) || !agree(b, t, i, err)) return true;
    return false;
}

/* ---- the reference -------------------------------------------------------------------------------------------------------------- */

/* A pattern may bound a text's length. */
static tune_shape fitted(const tune_shape *s, int64_t max_len)
{
    tune_shape out = *s;
    if (max_len && out.keys > max_len) out.keys = max_len;
    if (out.queries > out.keys) out.queries = out.keys;
    return out;
}

/* Bytes of a token's key as it is stored, and of its value where it has one of its own. */
static double bytes_of_key(const attn_kind_desc *d) { return (double)problem_row_bytes(d, d->dim); }
static double bytes_of_value(const attn_kind_desc *d)
{
    return d->flags & ATTN_KIND_K_IS_V ? 0 : (double)problem_row_bytes(d, d->dim_v);
}

/* Keys that some query sees, at most; of all KV heads. */
static double rows_read(const tune_bench *b, size_t i, const attn_plan_stats *s)
{
    const attn_kind_desc *d = b->problems[i].kind;
    return fmin((double)s->pairs_visible * d->kv_heads / d->q_heads, (double)b->problems[i].total_k * d->kv_heads);
}

static bool find_work(tune_bench *b, size_t i, tool_error *err)
{
    const attn_kind_desc *d = b->problems[i].kind;
    attn_plan_stats s = {.size = sizeof s};
    attn_error e = {""};
    if (!call_check(attn_plan_get_stats(b->reference.calls[i].plan, &s), &e, err)) return false;
    b->work[i] = b->shapes[i].op == TUNE_PREFILL ? 2.0 * (double)s.pairs_visible * (d->dim + d->dim_v)
                                                 : rows_read(b, i, &s) * (bytes_of_key(d) + bytes_of_value(d));
    return true;
}

static bool time_runs(tune_trial *t, size_t i, uint32_t repeats, double *seconds, tool_error *err)
{
    *seconds = 0;
    for (uint32_t n = 0; n < repeats; n++) {
        double one;
        if (!run(t, i, &one, err)) return false;
        *seconds += one / repeats;
    }
    return true;
}

/* The first run warms up, the second says how many make a timing, and how many timings there is time for: short ones are noisier, but
 * there can be more of them. */
static bool find_repeats(tune_bench *b, size_t i, double shape_seconds, tool_error *err)
{
    double seconds;
    if (!time_runs(&b->reference, i, 1, &seconds, err) || !time_runs(&b->reference, i, 1, &seconds, err)) return false;
    b->repeats[i] = (uint32_t)fmin(ceil(timing_seconds / fmax(seconds, 1e-7)), MOST_REPEATS);
    const double rounds = shape_seconds / (2 * (seconds * b->repeats[i] + burst_seconds));
    b->rounds[i] = (uint32_t)fmax(LEAST_ROUNDS, fmin(rounds, MOST_ROUNDS)) / 2 * 2;
    return true;
}

static bool open_problems(tune_bench *b, tool_error *err)
{
    for (size_t i = 0; i < b->n_shapes; i++) {
        const problem_source source = {.layer = b->layer,
                                       .random = true,
                                       .batch = 1,
                                       .q_tokens = b->shapes[i].queries,
                                       .k_tokens = b->shapes[i].keys,
                                       .seed = 1};
        if (!problem_load(&b->problems[i], attn_module_describe(b->reference.module), &source, err)) return false;
    }
    return true;
}

bool tune_bench_open(tune_bench *b, const tune_bench_options *o, const schedule *reference, tool_error *err)
{
    *b = (tune_bench){
        .arena = arena_create(0, NULL, NULL), .target = o->target, .native = o->native, .folder = o->folder, .n_shapes = o->n_shapes};
    b->view = view_of(b->arena, o->module, o->kind);
    if (!find_kernel(b, o->module, o->kind)) return tool_fail(err, "the kind has no kernel");
    for (size_t i = 0; i < o->n_shapes; i++)
        b->shapes[i] = fitted(&o->shapes[i], o->module->patterns.at[o->kind]->max_len);
    if (!load(b, reference, &b->reference, o->diags, err) || !open_problems(b, err) || !make_calls(b, &b->reference, err)) return false;
    for (size_t i = 0; i < o->n_shapes; i++)
        if (!find_repeats(b, i, o->shape_seconds, err) || !find_work(b, i, err)) return false;
    return true;
}

void tune_bench_close(tune_bench *b)
{
    close_calls(&b->reference);
    for (size_t i = 0; i < b->n_shapes; i++)
        problem_free(&b->problems[i]); /* before the module that they were made for */
    tune_trial_close(&b->reference);
    if (b->arena) arena_destroy(b->arena);
    *b = (tune_bench){.arena = NULL};
}

/* ---- rounds ---------------------------------------------------------------------------------------------------------------------- */

static double burst(const tune_bench *b, size_t i)
{
    static const burst_kind units[TARGET_COUNT] = {
        [TARGET_CPU_BASELINE] = BURST_SSE,
        [TARGET_CPU_AVX2] = BURST_AVX2,
        [TARGET_CPU_AVX512] = BURST_AVX512,
        [TARGET_CPU_AVX512BF16] = BURST_AVX512,
    };
    const problem *p = &b->problems[i];
    const attn_kind_desc *d = p->kind;
    const bool pairs = b->target == TARGET_CPU_AVX512BF16 && d->dtype == ATTN_BF16;
    if (b->shapes[i].op == TUNE_PREFILL) return burst_flops(pairs ? BURST_BF16 : units[b->target], 1);
    const double rows = b->work[i] / (bytes_of_key(d) + bytes_of_value(d));
    return burst_read(p->k.stored, (size_t)(rows * bytes_of_key(d)), p->v.stored, (size_t)(rows * bytes_of_value(d)), 1);
}

typedef struct samples {
    double log_ratio[MOST_ROUNDS], share[2][MOST_ROUNDS];
} samples;

/* A burst before each side: both find the caches as it leaves them. The next round goes the other way round: drift of the machine's
 * speed takes neither side. Shares are of the round's bursts together, so that they differ as the times do. */
static bool run_round(tune_bench *b, tune_trial *const sides[2], size_t i, size_t round, samples *s, tool_error *err)
{
    double seconds[2], peak = 0;
    for (size_t n = 0; n < 2; n++) {
        const size_t side = (round + n) % 2;
        peak += burst(b, i) / 2;
        if (!time_runs(sides[side], i, b->repeats[i], &seconds[side], err)) return false;
    }
    for (size_t side = 0; side < 2; side++)
        s->share[side][round] = b->work[i] > 0 ? b->work[i] / seconds[side] / peak : 0;
    s->log_ratio[round] = log(seconds[0] / seconds[1]);
    return true;
}

static bool is_hopeless(const samples *s, size_t rounds)
{
    for (size_t r = 0; r < rounds; r++)
        if (s->log_ratio[r] > hopeless) return false;
    return true;
}

static void evaluate(samples *s, size_t rounds, tune_rounds *out)
{
    const size_t i = out->n_used - 1;
    out->scores[i] = score_rounds(s->log_ratio, rounds);
    for (int side = 0; side < 2; side++)
        out->share[i][side] = score_median(s->share[side], rounds);
}

/* One shape after the other: a long prefill between two decodings makes these four times as noisy. */
static bool compare_shape(tune_bench *b, tune_trial *const sides[2], size_t i, bool all, bool (*stop)(void), tune_rounds *out, tool_error *err)
{
    samples s;
    size_t done = 0;
    for (; done < b->rounds[i] && !out->hopeless; done++) {
        if (stop() || !run_round(b, sides, i, done, &s, err)) return false;
        out->hopeless = done + 1 == EARLY_ROUNDS && !all && is_hopeless(&s, EARLY_ROUNDS);
    }
    out->used[out->n_used++] = i;
    evaluate(&s, done, out);
    return true;
}

bool tune_compare(tune_bench *b, tune_trial *old, tune_trial *new, uint32_t ops, bool all, bool (*stop)(void), tune_rounds *out,
                  tool_error *err)
{
    tune_trial *const sides[2] = {old, new};
    *out = (tune_rounds){.n_used = 0};
    err->text[0] = 0;
    for (size_t i = 0; i < b->n_shapes && !out->hopeless; i++)
        if (b->shapes[i].op & ops && !compare_shape(b, sides, i, all, stop, out, err)) return false;
    return true;
}
