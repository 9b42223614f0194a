/* forward.c - a call: binds tensors to a plan, hands out its items to workers, merges what was cut.
 *
 * Items are handed out by one counter, so a slow worker takes fewer. Parts of a tile are computed apart and merged in
 * their order by whoever finishes last: the result does not depend on who computed what. */
#include "plan.h"

#include "error.h"
#include "pool.h"
#include "tensor.h"

/* ---- tensors -------------------------------------------------------------------------------------------------- */

typedef struct view { /* [sequence or packed, tokens, heads, ..] of a call */
    char *base;
    int64_t batch_stride, token_stride, head_stride;
    bool packed, f32;
} view;

typedef struct binding {
    view q, k, v, o, lse;
} binding;

typedef struct view_want {
    tensor_want tensor;
    bool keys;     /* tokens are keys, else queries */
    int64_t heads; /* and */
    int64_t dim;   /* of the last dimension; 0: there is none */
} view_want;

static int64_t tokens_of(const attn_seq *s, bool keys) { return keys ? s->n_keys : s->n_q; }

static attn_status check_extent(const char *name, int dim, int64_t is, int64_t want, const char *of, attn_error *err)
{
    if (is == want) return ATTN_OK;
    return attni_fail(err, ATTN_E_SHAPE, "%s: shape[%d] is %lld, not %lld (%s)", name, dim, (long long)is,
                      (long long)want, of);
}

/* In a batch, sequences may be shorter than the tensor: what lies behind them is neither read nor written. */
static attn_status check_tokens(const attn_plan *p, const tensor *t, bool packed, const view_want *want,
                                attn_error *err)
{
    const char *name = want->tensor.name;
    if (packed)
        return check_extent(name, 0, t->shape[0], want->keys ? p->k_total : p->q_total, "tokens of all sequences", err);
    attn_status s = check_extent(name, 0, t->shape[0], p->n_seqs, "sequences of the plan", err);
    for (uint32_t i = 0; !s && i < p->n_seqs; i++)
        if (tokens_of(&p->seqs[i], want->keys) > t->shape[1])
            s = attni_fail(err, ATTN_E_SHAPE, "%s: shape[1] is %lld, but sequence %u of the plan has %lld tokens", name,
                           (long long)t->shape[1], i, (long long)tokens_of(&p->seqs[i], want->keys));
    return s;
}

static attn_status read_view(const attn_plan *p, const DLTensor *dl, const view_want *want, view *out, attn_error *err)
{
    tensor t;
    attn_status s = attni_tensor_read(dl, &want->tensor, &t, err);
    if (s) return s;
    const bool packed = t.rank == want->tensor.rank0;
    const int token = packed ? 0 : 1, head = token + 1;
    s = check_tokens(p, &t, packed, want, err);
    if (!s)
        s = check_extent(want->tensor.name, head, t.shape[head], want->heads, want->keys ? "KV heads" : "query heads",
                         err);
    if (!s && want->dim)
        s = check_extent(want->tensor.name, head + 1, t.shape[head + 1], want->dim, "elements a head", err);
    *out = (view){.base = t.base,
                  .batch_stride = packed ? 0 : t.stride[0],
                  .token_stride = t.stride[token],
                  .head_stride = t.stride[head],
                  .packed = packed,
                  .f32 = t.f32};
    return s;
}

static attn_status bind(const attn_plan *p, const attn_tensors *t, binding *b, attn_error *err)
{
    const attn_kind_desc *k = p->kind;
    const DLDataType type = attni_dl_type(k->dtype), f32 = attni_dl_type(ATTN_F32);
    const view_want q = {{"q", 3, 4, type, false, true, false}, false, k->q_heads, k->dim};
    const view_want keys = {{"k", 3, 4, type, false, true, false}, true, k->kv_heads, k->dim};
    const view_want v = {{"v", 3, 4, type, false, true, false}, true, k->kv_heads, k->dim_v};
    const view_want o = {{"o", 3, 4, type, true, true, true}, false, k->q_heads, k->dim_v};
    const view_want lse = {{"lse", 2, 3, f32, false, false, true}, false, k->q_heads, 0};
    *b = (binding){0};
    attn_status s = read_view(p, t->q, &q, &b->q, err);
    if (!s) s = read_view(p, t->k, &keys, &b->k, err);
    if (!s) s = read_view(p, t->v, &v, &b->v, err);
    if (!s) s = read_view(p, t->o, &o, &b->o, err);
    if (!s && t->lse) s = read_view(p, t->lse, &lse, &b->lse, err);
    return s;
}

/* ---- begin ---------------------------------------------------------------------------------------------------- */

static attn_status check_layer(const attn_plan *p, const attn_tensors *t, attn_error *err)
{
    const attn_module_desc *d = &p->module->desc;
    if (t->layer >= d->n_layers)
        return attni_fail(err, ATTN_E_ARGUMENT, "layer %u: module '%s' has %u layers", t->layer, d->name, d->n_layers);
    if (attni_module_kind(p->module, t->layer) != p->kind)
        return attni_fail(err, ATTN_E_ARGUMENT, "layer %u is of kind '%s'; the plan is for '%s'", t->layer,
                          attni_module_kind(p->module, t->layer)->name, p->kind->name);
    if (p->kind->flags & ATTN_KIND_LAYERS_DIFFER && t->layer != p->layer)
        return attni_fail(err, ATTN_E_ARGUMENT,
                          "the mask of '%s' differs between layers; the plan is for layer %u, not %u", p->kind->name,
                          p->layer, t->layer);
    return ATTN_OK;
}

static attn_status choose_inputs(attn_plan *p, const attn_tensors *t, attn_error *err)
{
    const attn_module_desc *d = &p->module->desc;
    if (t->inputs) return attni_bind_inputs(d, t->inputs, p->call_inputs, err);
    for (uint32_t i = 0; i < d->n_inputs; i++) {
        if (!p->inputs[i])
            return attni_fail(err, ATTN_E_MISSING, "input '%s' was given neither to the plan nor to the call",
                              d->inputs[i]->name);
        p->call_inputs[i] = p->inputs[i];
    }
    return ATTN_OK;
}

static char *advance(const view *v, int64_t batch, int64_t row)
{
    return v->base ? v->base + (v->packed ? row * v->token_stride : batch * v->batch_stride) : NULL;
}

static int64_t offset(const view *v, int64_t batch, int64_t row)
{
    return v->packed ? row * v->token_stride : batch * v->batch_stride;
}

static void place_sequences(attn_plan *p, const binding *b)
{
    int64_t q_row = 0, k_row = 0;
    for (uint32_t i = 0; i < p->n_seqs; i++) {
        attn_seq *s = &p->seqs[i];
        s->q_offset = offset(&b->q, i, q_row);
        s->o_offset = offset(&b->o, i, q_row);
        s->lse_offset = offset(&b->lse, i, q_row);
        p->pages[2 * i] = advance(&b->k, i, k_row);
        p->pages[2 * i + 1] = advance(&b->v, i, k_row);
        q_row += s->n_q;
        k_row += s->n_keys;
    }
}

static void fill_args(attn_plan *p, const binding *b, uint32_t layer)
{
    p->args = (attn_kernel_args){
        .size = sizeof p->args,
        .abi = ATTN_ABI_VERSION,
        .q = b->q.base,
        .o = b->o.base,
        .lse = b->lse.base,
        .q_row_stride = b->q.token_stride,
        .q_head_stride = b->q.head_stride,
        .o_row_stride = b->o.token_stride,
        .o_head_stride = b->o.head_stride,
        .lse_row_stride = b->lse.token_stride,
        .lse_head_stride = b->lse.head_stride,
        .page_tokens = PLAN_PAGE_TOKENS,
        .k_token_stride = b->k.token_stride,
        .k_head_stride = b->k.head_stride,
        .v_token_stride = b->v.token_stride,
        .v_head_stride = b->v.head_stride,
        .layer = layer,
        .o_f32 = b->o.f32,
        .inputs = p->call_inputs,
        .seqs = p->seqs,
        .segments = p->segments,
        .parts = p->parts,
    };
}

/* The plan is ours (busy is set); what fails here has changed nothing that a later call reads. */
static attn_status begin(attn_plan *p, const attn_tensors *t, attn_error *err)
{
    binding b;
    attn_status s = check_layer(p, t, err);
    if (!s) s = bind(p, t, &b, err);
    if (!s) s = choose_inputs(p, t, err);
    if (s) return s;
    place_sequences(p, &b);
    fill_args(p, &b, t->layer);
    for (int64_t i = 0; i < p->n_slots; i++) atomic_init(&p->finished[i], 0);
    atomic_store(&p->next, 0);
    return ATTN_OK;
}

attn_status attn_begin(attn_plan *p, const attn_tensors *tensors, attn_error *err)
{
    if (!p) return attni_fail(err, ATTN_E_ARGUMENT, "the plan is NULL");
    attn_tensors t;
    attn_status s = attni_read_struct(&t, sizeof t, tensors, "attn_tensors", err);
    if (s) return s;
    if (atomic_exchange(&p->busy, true)) return attni_fail(err, ATTN_E_BUSY, "the plan runs another call");
    s = begin(p, &t, err);
    if (s) attn_end(p);
    return s;
}

void attn_end(attn_plan *p) { atomic_store(&p->busy, false); }

/* ---- run ------------------------------------------------------------------------------------------------------ */

static void run_item(attn_plan *p, const attn_item *item, void *workspace)
{
    p->kernel->run(&p->args, item, workspace);
    if (item->parts == 1) return;
    const unsigned before = atomic_fetch_add_explicit(&p->finished[item->part_slot], 1, memory_order_acq_rel);
    if (before + 1 == (unsigned)item->parts) p->kernel->merge(&p->args, item - item->part, workspace);
}

void attn_run_part(attn_plan *p, uint32_t worker, uint32_t workers)
{
    if (worker >= workers || worker >= p->workers || !atomic_load(&p->busy)) return;
    void *workspace = p->workspaces + worker * p->workspace_stride;
    for (;;) {
        const long long i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (i >= p->n_items) return;
        run_item(p, &p->items[i], workspace);
    }
}

static void run_job(void *ctx, uint32_t worker, uint32_t workers) { attn_run_part(ctx, worker, workers); }

attn_status attn_forward(attn_plan *p, const attn_tensors *t, attn_pool *pool, attn_error *err)
{
    attn_status s = attn_begin(p, t, err);
    if (s) return s;
    uint32_t workers = pool ? attn_pool_threads(pool) : 1;
    if (workers > p->workers) workers = p->workers;
    if (!pool)
        attn_run_part(p, 0, 1);
    else if (!attni_pool_run(pool, workers, run_job, p))
        s = attni_fail(err, ATTN_E_BUSY, "the pool runs another call");
    attn_end(p);
    return s;
}
