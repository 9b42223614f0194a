/* run.c - one call of a compiled layer on guarded memory. */
#define _DEFAULT_SOURCE
#include "tests/e2e/harness.h"
#include "tools/common/plain.h"
#include "tools/common/half.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- what is being run ---- */

static char note[2048];

static void report_crash(int signal_number)
{
    static const char head[] = "\ncrashed while running: ";
    ssize_t ignored = write(STDOUT_FILENO, head, sizeof head - 1);
    ignored += write(STDOUT_FILENO, note, strlen(note));
    ignored += write(STDOUT_FILENO, "\n", 1);
    (void)ignored;
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

void e2e_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(note, sizeof note, format, args);
    va_end(args);
    signal(SIGSEGV, report_crash);
    signal(SIGBUS, report_crash);
    signal(SIGILL, report_crash);
    fflush(stdout);
}

const char *e2e_get_note(void) { return note; }

bool e2e_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n  in: %s\n", note);
    return false;
}

/* ---- values ---- */

double e2e_uniform(unsigned long long *state)
{
    unsigned long long x = *state += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return (double)((x ^ (x >> 31)) >> 11) * 0x1p-52 - 1;
}

int64_t e2e_below(unsigned long long *state, int64_t n) { return (int64_t)((e2e_uniform(state) + 1) / 2 * (double)n); }

static int64_t *copy_lengths(arena *a, const int64_t *from, uint32_t n)
{
    int64_t *out = ARENA_ARRAY(a, int64_t, n + 1u);
    for (uint32_t i = 0; i < n; i++) out[i] = from[i];
    return out;
}

int64_t e2e_input_count(const e2e_call *c, uint32_t input)
{
    const attn_input_desc *d = attn_module_describe(c->m->loaded)->inputs[input];
    int64_t n = 1;
    for (uint32_t i = 0; i < d->rank; i++) n *= d->extent[i];
    return n;
}

static void count_elements(e2e_call *c)
{
    const attn_kind_desc *d = c->kind;
    c->n_q = c->total_q * d->q_heads * d->dim;
    c->n_k = c->total_k * d->kv_heads * d->dim;
    c->n_v = c->total_k * d->kv_heads * d->dim_v;
    c->n_o = c->total_q * d->q_heads * d->dim_v;
    c->n_lse = c->total_q * d->q_heads;
}

void e2e_call_init(e2e_call *c, const e2e_module *m, uint32_t layer, uint32_t n_seqs, const int64_t *q_lens,
                   const int64_t *k_lens, const int64_t *positions)
{
    const attn_module_desc *d = attn_module_describe(m->loaded);
    arena *a = arena_create(0, NULL, NULL);
    *c = (e2e_call){.m = m, .arena = a, .layer = layer, .n_seqs = n_seqs, .kind = d->kinds[d->schedule[layer]]};
    c->pattern = m->ir->patterns.at[m->ir->schedule[layer]];
    c->q_lens = copy_lengths(a, q_lens, n_seqs);
    c->k_lens = copy_lengths(a, k_lens ? k_lens : q_lens, n_seqs);
    c->positions = ARENA_ARRAY(a, int64_t, n_seqs + 1u);
    for (uint32_t i = 0; i < n_seqs; i++) {
        c->positions[i] = positions ? positions[i] : c->k_lens[i] - c->q_lens[i];
        c->total_q += c->q_lens[i], c->total_k += c->k_lens[i];
    }
    count_elements(c);
    ATTNC_CHECK(d->n_attrs <= E2E_MAX_NAMED && d->n_inputs <= E2E_MAX_NAMED);
    c->q = ARENA_ARRAY(a, float, (size_t)c->n_q + 1);
    c->k = ARENA_ARRAY(a, float, (size_t)c->n_k + 1);
    c->v = ARENA_ARRAY(a, float, (size_t)c->n_v + 1);
    c->o = ARENA_ARRAY(a, float, (size_t)c->n_o + 1);
    c->lse = ARENA_ARRAY(a, float, (size_t)c->n_lse + 1);
    for (uint32_t i = 0; i < d->n_attrs; i++) {
        c->q_attrs[i] = ARENA_ARRAY(a, int32_t, (size_t)c->total_q + 1);
        c->k_attrs[i] = ARENA_ARRAY(a, int32_t, (size_t)c->total_k + 1);
    }
    for (uint32_t i = 0; i < d->n_inputs; i++) c->inputs[i] = ARENA_ARRAY(a, double, (size_t)e2e_input_count(c, i) + 1);
}

void e2e_call_free(e2e_call *c)
{
    if (c->arena) arena_destroy(c->arena);
    *c = (e2e_call){0};
}

static void fill(float *to, int64_t n, unsigned long long *seed, double size)
{
    for (int64_t i = 0; i < n; i++) to[i] = (float)((e2e_uniform(seed) + e2e_uniform(seed) + e2e_uniform(seed)) * size);
}

static void round_values(float *at, int64_t n, dtype type)
{
    for (int64_t i = 0; i < n && type != DTYPE_F32; i++) at[i] = plain_round(at[i], type);
}

void e2e_values_changed(e2e_call *c)
{
    dtype type = c->pattern->shape.type;
    round_values(c->q, c->n_q, type);
    round_values(c->k, c->n_k, type);
    round_values(c->v, c->n_v, type);
    c->want_o = c->want_lse = NULL;
}

void e2e_fill(e2e_call *c, unsigned long long *seed, double size)
{
    fill(c->q, c->n_q, seed, size);
    fill(c->k, c->n_k, seed, size);
    fill(c->v, c->n_v, seed, size);
    e2e_values_changed(c);
}

/* ---- tensors in guarded memory ---- */

/* One tensor of the call: [tokens, heads, dim] or [sequences, tokens, heads, dim]; dim 0: none (lse). */
typedef struct view {
    guarded memory;
    dtype type;
    int64_t shape[4], stride[4]; /* elements */
    int rank;
    bool batch;
    const int64_t *lens;
    uint32_t n_seqs;
    int64_t heads, dim;
    DLTensor dl;
} view;

static size_t element_size(dtype type) { return type == DTYPE_F32 ? 4 : 2; }

/* Strides of (batch,) token, head; the element's is 1. */
static void lay_out(view *x, e2e_layout layout, int64_t tokens)
{
    int64_t width = x->dim ? x->dim : 1, gap = layout == E2E_GAPS ? 3 : 0;
    int64_t head = width + gap, token = x->heads * head + 2 * gap;
    if (layout == E2E_HEADS_FIRST) token = width, head = tokens * width;
    int64_t *extent = x->shape, *stride = x->stride;
    if (x->batch) *extent++ = x->n_seqs, *stride++ = tokens * token + 7;
    *extent++ = tokens, *stride++ = token;
    *extent++ = x->heads, *stride++ = head;
    if (x->dim) *extent++ = x->dim, *stride++ = 1;
    x->rank = (int)(extent - x->shape);
}

static bool view_create(view *x, const e2e_call *c, bool keys, int64_t heads, int64_t dim, dtype type)
{
    int64_t tokens = keys ? c->total_k : c->total_q;
    *x = (view){.type = type,
                .batch = c->layout == E2E_BATCH,
                .lens = keys ? c->k_lens : c->q_lens,
                .n_seqs = c->n_seqs,
                .heads = heads,
                .dim = dim};
    if (x->batch) {
        tokens = 0;
        for (uint32_t i = 0; i < c->n_seqs; i++)
            if (x->lens[i] >= tokens) tokens = x->lens[i] + 1;
    }
    lay_out(x, c->layout, tokens);
    int64_t last = 0, count = 1;
    for (int i = 0; i < x->rank; i++) last += (x->shape[i] - 1) * x->stride[i], count *= x->shape[i];
    if (!guarded_create(&x->memory, count ? (size_t)(last + 1) * element_size(type) : 0)) return e2e_fail("no memory");
    DLDataType dl_type = {type == DTYPE_BF16 ? kDLBfloat : kDLFloat, type == DTYPE_F32 ? 32 : 16, 1};
    x->dl = (DLTensor){.data = x->memory.at,
                       .device = {kDLCPU, 0},
                       .ndim = x->rank,
                       .dtype = dl_type,
                       .shape = x->shape,
                       .strides = x->stride};
    return true;
}

static void move(view *x, int64_t element, float *value, bool out)
{
    uint16_t *half = (uint16_t *)x->memory.at + element;
    float *single = (float *)x->memory.at + element;
    if (x->type == DTYPE_F32) {
        if (out)
            *value = *single, memset(single, 0xff, sizeof *single);
        else
            *single = *value;
        return;
    }
    bool f16 = x->type == DTYPE_F16;
    if (out)
        *value = f16 ? half_from_f16(*half) : half_from_bf16(*half), *half = 0xffff;
    else
        *half = f16 ? half_to_f16(*value) : half_to_bf16(*value);
}

/* Between packed values and the tensor. What is taken out is overwritten: behind it all bytes must be 0xff again. */
static void move_all(view *x, float *values, bool out)
{
    int64_t width = x->dim ? x->dim : 1, at = 0;
    const int64_t *stride = x->stride + x->batch;
    int64_t token0 = 0;
    for (uint32_t s = 0; s < x->n_seqs; s++) {
        int64_t base = x->batch ? s * x->stride[0] : token0 * stride[0];
        for (int64_t t = 0; t < x->lens[s]; t++)
            for (int64_t h = 0; h < x->heads; h++)
                for (int64_t i = 0; i < width; i++)
                    move(x, base + t * stride[0] + h * stride[1] + i, &values[at++], out);
        token0 += x->lens[s];
    }
}

/* ---- running ---- */

typedef struct tensors {
    view q, k, v, o, lse;
    guarded input[E2E_MAX_NAMED];
    DLTensor input_dl[E2E_MAX_NAMED];
    const DLTensor *inputs[E2E_MAX_NAMED];
    attn_plan *plan;
    attn_pool *pool;
} tensors;

static bool make_inputs(e2e_call *c, tensors *t)
{
    const attn_module_desc *d = attn_module_describe(c->m->loaded);
    for (uint32_t i = 0; i < d->n_inputs; i++) {
        int64_t n = e2e_input_count(c, i);
        if (!guarded_create(&t->input[i], (size_t)n * 4)) return e2e_fail("no memory");
        for (int64_t j = 0; j < n; j++)
            if (d->inputs[i]->is_int)
                ((int32_t *)t->input[i].at)[j] = (int32_t)c->inputs[i][j];
            else
                ((float *)t->input[i].at)[j] = (float)c->inputs[i][j];
        t->input_dl[i] = (DLTensor){.data = t->input[i].at,
                                    .device = {kDLCPU, 0},
                                    .ndim = (int32_t)d->inputs[i]->rank,
                                    .dtype = {d->inputs[i]->is_int ? kDLInt : kDLFloat, 32, 1},
                                    .shape = (int64_t *)d->inputs[i]->extent};
        t->inputs[i] = &t->input_dl[i];
    }
    return true;
}

static bool make_tensors(e2e_call *c, tensors *t)
{
    const attn_kind_desc *d = c->kind;
    dtype type = c->pattern->shape.type;
    bool ok = view_create(&t->q, c, false, d->q_heads, d->dim, type) &&
              view_create(&t->k, c, true, d->kv_heads, d->dim, type) &&
              view_create(&t->v, c, true, d->kv_heads, d->dim_v, type) &&
              view_create(&t->o, c, false, d->q_heads, d->dim_v, c->half_output ? type : DTYPE_F32) &&
              view_create(&t->lse, c, false, d->q_heads, 0, DTYPE_F32) && make_inputs(c, t);
    if (!ok) return false;
    move_all(&t->q, c->q, false);
    move_all(&t->k, c->k, false);
    move_all(&t->v, c->v, false);
    return true;
}

static bool make_plan(e2e_call *c, tensors *t)
{
    attn_error err;
    const attn_plan_config p = {.size = sizeof p,
                                .layer = c->layer,
                                .n_seqs = c->n_seqs,
                                .q_lens = c->q_lens,
                                .k_lens = c->k_lens,
                                .positions = c->positions,
                                .q_attrs = (const int32_t *const *)c->q_attrs,
                                .k_attrs = (const int32_t *const *)c->k_attrs,
                                .inputs = t->inputs,
                                .workers = c->threads ? c->threads : 1,
                                .isa = c->isa,
                                .max_parts = c->parts,
                                .group = c->group};
    if (attn_plan_create(c->m->loaded, &p, &t->plan, &err)) return e2e_fail("attn_plan_create: %s", err.text);
    if (c->threads > 1 && !c->own_threads && attn_pool_create(c->threads, NULL, &t->pool, &err))
        return e2e_fail("attn_pool_create: %s", err.text);
    return true;
}

typedef struct worker {
    pthread_t thread;
    attn_plan *plan;
    uint32_t index, count;
} worker;

static void *work(void *at)
{
    worker *w = at;
    attn_run_part(w->plan, w->index, w->count);
    return NULL;
}

static bool run_own_threads(attn_plan *p, const attn_tensors *t, uint32_t n)
{
    attn_error err;
    worker w[16];
    ATTNC_CHECK(n <= ATTNC_COUNT(w));
    if (attn_begin(p, t, &err)) return e2e_fail("attn_begin: %s", err.text);
    for (uint32_t i = 0; i < n; i++) {
        w[i] = (worker){.plan = p, .index = i, .count = n};
        if (pthread_create(&w[i].thread, NULL, work, &w[i])) return e2e_fail("no thread");
    }
    for (uint32_t i = 0; i < n; i++) pthread_join(w[i].thread, NULL);
    attn_end(p);
    return true;
}

static bool forward(e2e_call *c, tensors *t)
{
    const attn_tensors all = {.size = sizeof all,
                              .q = &t->q.dl,
                              .k = &t->k.dl,
                              .v = c->kind->flags & ATTN_KIND_K_IS_V ? NULL : &t->v.dl,
                              .o = &t->o.dl,
                              .lse = &t->lse.dl,
                              .inputs = t->inputs,
                              .layer = c->layer};
    attn_error err;
    if (c->own_threads) return run_own_threads(t->plan, &all, c->threads ? c->threads : 1);
    return !attn_forward(t->plan, &all, t->pool, &err) || e2e_fail("attn_forward: %s", err.text);
}

static bool take_results(e2e_call *c, tensors *t)
{
    move_all(&t->o, c->o, true);
    move_all(&t->lse, c->lse, true);
    if (!guarded_is_untouched(&t->o.memory)) return e2e_fail("something beside the elements of o was written");
    return guarded_is_untouched(&t->lse.memory) || e2e_fail("something beside the elements of lse was written");
}

static void free_tensors(tensors *t)
{
    attn_pool_destroy(t->pool);
    attn_plan_destroy(t->plan);
    view *all[] = {&t->q, &t->k, &t->v, &t->o, &t->lse};
    for (size_t i = 0; i < ATTNC_COUNT(all); i++) guarded_destroy(&all[i]->memory);
    for (size_t i = 0; i < E2E_MAX_NAMED; i++) guarded_destroy(&t->input[i]);
}

bool e2e_run(e2e_call *c)
{
    tensors t = {0};
    bool ok = make_tensors(c, &t) && make_plan(c, &t) && forward(c, &t) && take_results(c, &t);
    free_tensors(&t);
    return ok;
}
