/* paged.c - a call by hand through the kernel ABI: keys in scattered pages, plain tiles, every pair put to the mask.
 *
 * A KV cache reaches kernels this way; forward calls only ever show them one page. */
#include "tests/e2e/harness.h"
#include "tools/common/half.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct pages {
    guarded *block;
    const char **at; /* by page of the sequence */
    int64_t n;
} pages;

typedef struct paged {
    e2e_call *c;
    const attn_kernel_desc *kernel;
    int64_t page_tokens;
    pages *k, *v; /* per sequence */
    attn_seq *seqs;
    const void **inputs;
    attn_segment *segments;
    void *q, *workspace, *parts;
} paged;

static size_t element_size(const e2e_call *c) { return c->pattern->shape.type == DTYPE_F32 ? 4 : 2; }

static void store(const e2e_call *c, void *to, int64_t index, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) switch (c->pattern->shape.type) {
        case DTYPE_F32:
            ((float *)to)[index + i] = from[i];
            break;
        case DTYPE_F16:
            ((uint16_t *)to)[index + i] = half_to_f16(from[i]);
            break;
        case DTYPE_BF16:
            ((uint16_t *)to)[index + i] = half_to_bf16(from[i]);
            break;
        }
}

/* Pages are made in a random order, so that neighbours in the sequence are not neighbours in memory. */
static bool make_pages(const paged *p, pages *out, uint32_t s, const float *values, int64_t width,
                       unsigned long long *seed)
{
    const e2e_call *c = p->c;
    out->n = (c->k_lens[s] + p->page_tokens - 1) / p->page_tokens;
    out->block = ARENA_ARRAY(c->arena, guarded, (size_t)out->n + 1);
    out->at = ARENA_ARRAY(c->arena, const char *, (size_t)out->n + 1);
    for (int64_t made = 0; made < out->n;) {
        int64_t page = e2e_below(seed, out->n);
        if (out->at[page]) continue;
        if (!guarded_create(&out->block[page], (size_t)(p->page_tokens * width) * element_size(c))) return false;
        int64_t first = page * p->page_tokens, n = c->k_lens[s] - first;
        store(c, out->block[page].at, 0, values + first * width, (n < p->page_tokens ? n : p->page_tokens) * width);
        out->at[page] = out->block[page].at;
        made++;
    }
    return true;
}

static const int32_t *const *attrs_at(const e2e_call *c, int32_t *const *all, int64_t token)
{
    const int32_t **out = ARENA_ARRAY(c->arena, const int32_t *, E2E_MAX_NAMED);
    for (size_t i = 0; i < E2E_MAX_NAMED; i++) out[i] = all[i] ? all[i] + token : NULL;
    return out;
}

static bool make_sequences(paged *p, unsigned long long *seed)
{
    e2e_call *c = p->c;
    const attn_kind_desc *d = c->kind;
    int64_t q0 = 0, k0 = 0;
    for (uint32_t s = 0; s < c->n_seqs; s++) {
        if (!make_pages(p, &p->k[s], s, c->k + k0 * d->kv_heads * d->dim, d->kv_heads * d->dim, seed)) return false;
        if (!make_pages(p, &p->v[s], s, c->v + k0 * d->kv_heads * d->dim_v, d->kv_heads * d->dim_v, seed)) return false;
        p->seqs[s] = (attn_seq){.n_q = c->q_lens[s],
                                .pos = c->positions[s],
                                .n_keys = c->k_lens[s],
                                .q_offset = q0 * d->q_heads * d->dim * (int64_t)element_size(c),
                                .o_offset = q0 * d->q_heads * d->dim_v * (int64_t)sizeof(float),
                                .lse_offset = q0 * d->q_heads * (int64_t)sizeof(float),
                                .k_pages = p->k[s].at,
                                .v_pages = p->v[s].at,
                                .q_attr = attrs_at(c, c->q_attrs, q0),
                                .k_attr = attrs_at(c, c->k_attrs, k0)};
        q0 += c->q_lens[s], k0 += c->k_lens[s];
    }
    return true;
}

static void make_inputs(paged *p)
{
    const attn_module_desc *d = attn_module_describe(p->c->m->loaded);
    for (uint32_t i = 0; i < d->n_inputs; i++) {
        int64_t n = e2e_input_count(p->c, i);
        float *values = ARENA_ARRAY(p->c->arena, float, (size_t)n + 1);
        for (int64_t j = 0; j < n; j++)
            if (d->inputs[i]->is_int)
                ((int32_t *)(void *)values)[j] = (int32_t)p->c->inputs[i][j];
            else
                values[j] = (float)p->c->inputs[i][j];
        p->inputs[i] = values;
    }
}

static const attn_kernel_desc *find_kernel(const e2e_call *c)
{
    for (uint32_t i = 0; i < c->kind->n_kernels; i++)
        if (c->kind->kernels[i]->isa == (uint32_t)c->isa) return c->kind->kernels[i];
    return NULL;
}

/* Every vector of lanes that holds a row sees all keys through the mask. */
static int32_t make_segments(const paged *p, int64_t rows, int64_t n_keys)
{
    int32_t n = 0;
    for (uint32_t lane = 0; lane < p->kernel->lanes && lane < rows && n_keys; lane += p->kernel->vector)
        p->segments[n++] =
            (attn_segment){.k1 = n_keys, .lane0 = (int32_t)lane, .lanes = (int32_t)p->kernel->vector, .masked = 1, .step = 1};
    return n;
}

static void run_items(const paged *p, const attn_kernel_args *args)
{
    const e2e_call *c = p->c;
    for (uint32_t s = 0; s < c->n_seqs; s++)
        for (uint32_t h = 0; h < c->kind->q_heads; h++)
            for (int64_t row = 0; row < c->q_lens[s]; row += p->kernel->lanes) {
                int64_t rows = c->q_lens[s] - row < p->kernel->lanes ? c->q_lens[s] - row : p->kernel->lanes;
                attn_item item = {.seq = (int32_t)s,
                                  .head = (int32_t)h,
                                  .heads = 1,
                                  .row = (int32_t)row,
                                  .rows = (int32_t)rows,
                                  .row_step = 1,
                                  .parts = 1};
                item.segments = make_segments(p, rows, c->k_lens[s]);
                p->kernel->run(args, &item, p->workspace);
            }
}

static void run(paged *p)
{
    e2e_call *c = p->c;
    const attn_kind_desc *d = c->kind;
    int64_t es = (int64_t)element_size(c);
    int64_t *heads = ARENA_ARRAY(c->arena, int64_t, 2 * d->kv_heads);
    for (uint32_t g = 0; g < d->kv_heads; g++) heads[g] = g * d->dim * es, heads[d->kv_heads + g] = g * d->dim_v * es;
    attn_kernel_args args = {.size = sizeof args,
                             .abi = ATTN_ABI_VERSION,
                             .q = p->q,
                             .o = (char *)c->o,
                             .lse = (char *)c->lse,
                             .q_row_stride = d->q_heads * d->dim * es,
                             .q_head_stride = d->dim * es,
                             .o_row_stride = d->q_heads * d->dim_v * 4,
                             .o_head_stride = d->dim_v * 4,
                             .lse_row_stride = d->q_heads * 4,
                             .lse_head_stride = 4,
                             .page_tokens = p->page_tokens,
                             .k_heads = heads,
                             .k_token_stride = d->kv_heads * d->dim * es,
                             .v_heads = heads + d->kv_heads,
                             .v_token_stride = d->kv_heads * d->dim_v * es,
                             .layer = c->layer,
                             .o_f32 = 1,
                             .inputs = p->inputs,
                             .seqs = p->seqs,
                             .segments = p->segments,
                             .parts = p->parts};
    run_items(p, &args);
}

static bool take_memory(paged *p)
{
    e2e_call *c = p->c;
    arena *a = c->arena;
    int64_t n = c->total_q * c->kind->q_heads * c->kind->dim;
    p->k = ARENA_ARRAY(a, pages, c->n_seqs + 1u);
    p->v = ARENA_ARRAY(a, pages, c->n_seqs + 1u);
    p->seqs = ARENA_ARRAY(a, attn_seq, c->n_seqs + 1u);
    p->inputs = ARENA_ARRAY(a, const void *, E2E_MAX_NAMED);
    p->segments = ARENA_ARRAY(a, attn_segment, p->kernel->lanes / p->kernel->vector + 1u);
    p->q = ARENA_ARRAY(a, float, (size_t)n + 1);
    store(c, p->q, 0, c->q, n);
    p->workspace = aligned_alloc(64, (p->kernel->workspace + 127) / 64 * 64);
    p->parts = aligned_alloc(64, (p->kernel->part_bytes + 127) / 64 * 64);
    return p->workspace && p->parts;
}

bool e2e_run_paged(e2e_call *c, int64_t page_tokens, unsigned long long *seed)
{
    paged p = {.c = c, .page_tokens = page_tokens, .kernel = find_kernel(c)};
    bool ok = p.kernel && take_memory(&p) && make_sequences(&p, seed);
    if (ok) {
        make_inputs(&p);
        run(&p);
    } else
        printf("no kernel or no memory for pages\n  in: %s\n", e2e_get_note());
    for (uint32_t s = 0; s < c->n_seqs && p.v; s++)
        for (int64_t i = 0; i < p.k[s].n; i++) guarded_destroy(&p.k[s].block[i]), guarded_destroy(&p.v[s].block[i]);
    free(p.workspace);
    free(p.parts);
    return ok;
}
