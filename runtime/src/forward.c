/* forward.c - a call: binds tensors to a plan, hands out its items to workers, merges what was cut.
 *
 * Items are handed out by one counter, so a slow worker takes fewer. Parts of a tile are computed apart and merged in
 * their order by whoever finishes last: the result does not depend on who computed what. */
#include "forward.h"

#include "error.h"
#include "pool.h"

/* ---- tensors -------------------------------------------------------------------------------------------------- */

typedef struct binding {
    view q, k, v, o, lse;
} binding;

/* Tensors that a call must leave out: V where it is K, both where another layer's stand in the cache. */
static attn_status check_left_out(const attn_plan *p, const attn_tensors *t, bool shared, attn_error *err)
{
    const attn_kind_desc *d = p->kind;
    if (d->flags & ATTN_KIND_K_IS_V && t->v)
        return attni_fail(err, ATTN_E_ARGUMENT, "'%s' takes its values from k; v must be NULL", d->name);
    if (shared && (t->k || t->v))
        return attni_fail(err, ATTN_E_ARGUMENT, "'%s' reads the keys and values of layer %u; k and v must be NULL",
                          d->name, d->kv_layer);
    return ATTN_OK;
}

static attn_status bind_keys(attn_plan *p, const attn_tensors *t, bool keys, binding *b, attn_error *err)
{
    const attn_kind_desc *d = p->kind;
    const DLDataType type = attni_dl_type(d->dtype);
    const view_want k = {{"k", 3, 4, type, false, true, false}, keys, d->kv_heads, "KV heads", d->dim};
    const view_want v = {{"v", 3, 4, type, false, true, false}, keys, d->kv_heads, "KV heads", d->dim_v};
    attn_status s = attni_view_read(p, t->k, &k, &p->seen.k, &b->k, err);
    if (!s && d->flags & ATTN_KIND_K_IS_V)
        b->v = b->k;
    else if (!s)
        s = attni_view_read(p, t->v, &v, &p->seen.v, &b->v, err);
    return s;
}

/* The tensors are like those of the call before. */
static bool bind_again(const attn_plan *p, const attn_tensors *t, bool shared, binding *b)
{
    const bool k_is_v = p->kind->flags & ATTN_KIND_K_IS_V;
    if (!attni_view_again(&p->seen.q, t->q, &b->q) || !attni_view_again(&p->seen.o, t->o, &b->o)) return false;
    if (t->lse && !attni_view_again(&p->seen.lse, t->lse, &b->lse)) return false;
    if (shared) return true;
    if (!attni_view_again(&p->seen.k, t->k, &b->k)) return false;
    if (!k_is_v) return attni_view_again(&p->seen.v, t->v, &b->v);
    b->v = b->k;
    return true;
}

/* keys: k and v hold all keys, else the new tokens only; then q, o and lse may be missing together: nobody asks. */
static attn_status bind(attn_plan *p, const attn_tensors *t, bool keys, binding *b, attn_error *err)
{
    const attn_kind_desc *d = p->kind;
    const bool shared = !keys && d->flags & ATTN_KIND_KV_SHARED;
    *b = (binding){0};
    attn_status s = check_left_out(p, t, shared, err);
    if (s || bind_again(p, t, shared, b)) return s;
    p->seen.placed = p->seen.lse.known = false;
    const DLDataType type = attni_dl_type(d->dtype), f32 = attni_dl_type(ATTN_F32);
    const view_want q = {{"q", 3, 4, type, false, true, false}, false, d->q_heads, "query heads", d->dim};
    const view_want o = {{"o", 3, 4, type, true, true, true}, false, d->q_heads, "query heads", d->dim_v};
    const view_want lse = {{"lse", 2, 3, f32, false, false, true}, false, d->q_heads, "query heads", 0};
    const bool asked = keys || t->q || t->o || t->lse || (!shared && !t->k);
    if (!asked) p->seen.q.known = false; /* nothing is placed for the next call */
    if (asked) s = attni_view_read(p, t->q, &q, &p->seen.q, &b->q, err);
    if (!s && !shared) s = bind_keys(p, t, keys, b, err);
    if (!s && asked) s = attni_view_read(p, t->o, &o, &p->seen.o, &b->o, err);
    if (!s && t->lse) s = attni_view_read(p, t->lse, &lse, &p->seen.lse, &b->lse, err);
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
    return v->base ? v->base + attni_view_offset(v, batch, row) : NULL;
}

static void place_queries(attn_plan *p, const binding *b)
{
    if (p->seen.placed) return;
    int64_t row = 0;
    for (uint32_t i = 0; i < p->n_seqs; i++) {
        attn_seq *s = attni_plan_seq(p, i);
        for (uint32_t g = 0; g < p->n_groups; g++) {
            s[g].q_offset = attni_view_offset(&b->q, i, row);
            s[g].o_offset = attni_view_offset(&b->o, i, row);
            s[g].lse_offset = attni_view_offset(&b->lse, i, row);
        }
        row += s->n_q;
    }
    p->seen.placed = true;
}

/* A contiguous tensor is one page. Its plan has no groups of heads. */
static paged_keys place_keys(attn_plan *p, const binding *b)
{
    int64_t row = 0;
    for (uint32_t i = 0; i < p->n_seqs; i++) {
        p->pages[2 * i] = advance(&b->k, i, row);
        p->pages[2 * i + 1] = advance(&b->v, i, row);
        p->seqs[i].k_pages = &p->pages[2 * i];
        p->seqs[i].v_pages = &p->pages[2 * i + 1];
        row += p->seqs[i].n_keys;
    }
    const uint32_t heads = p->kind->kv_heads;
    for (uint32_t g = 0; g < heads; g++) {
        p->head_at[g] = g * b->k.head_stride;
        p->head_at[heads + g] = g * b->v.head_stride;
    }
    return (paged_keys){.page_tokens = PLAN_PAGE_TOKENS,
                        .k_token_stride = b->k.token_stride,
                        .v_token_stride = b->v.token_stride,
                        .k_heads = p->head_at,
                        .v_heads = p->head_at + heads};
}

static void fill_args(attn_plan *p, const binding *b, const paged_keys *keys, uint32_t layer)
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
        .page_tokens = keys->page_tokens,
        .k_heads = keys->k_heads,
        .k_token_stride = keys->k_token_stride,
        .v_heads = keys->v_heads,
        .v_token_stride = keys->v_token_stride,
        .layer = layer,
        .o_f32 = b->o.f32,
        .inputs = p->call_inputs,
        .seqs = p->seqs,
        .segments = p->segments,
        .parts = p->room.parts,
    };
}

/* The plan is ours (busy is set); what fails here has changed nothing that a later call reads. */
static attn_status begin(attn_plan *p, const attn_tensors *t, const paged_keys *keys, binding *b, attn_error *err)
{
    attn_status s = check_layer(p, t, err);
    if (!s) s = bind(p, t, !keys, b, err);
    if (!s) s = choose_inputs(p, t, err);
    if (s) return s;
    place_queries(p, b);
    paged_keys whole;
    if (!keys) whole = place_keys(p, b);
    fill_args(p, b, keys ? keys : &whole, t->layer);
    for (int64_t i = 0; i < p->n_slots; i++) atomic_init(&p->room.finished[i], 0);
    for (size_t i = 0; i < p->n_stages; i++) atomic_init(&p->room.staged[i], 0);
    atomic_store_explicit(&p->next, 0, memory_order_relaxed); /* the pool's call, or the caller, tells the workers */
    return ATTN_OK;
}

static attn_status take_and_begin(attn_plan *p, const attn_tensors *t, const paged_keys *keys, binding *b,
                                  attn_error *err)
{
    if (atomic_exchange(&p->busy, true)) return attni_fail(err, ATTN_E_BUSY, "the plan runs another call");
    attn_status s = begin(p, t, keys, b, err);
    if (s) attn_end(p);
    return s;
}

attn_status attn_begin(attn_plan *p, const attn_tensors *tensors, attn_error *err)
{
    binding b;
    attn_tensors t;
    if (!p) return attni_fail(err, ATTN_E_ARGUMENT, "the plan is NULL");
    if (p->kind->kv_format)
        return attni_fail(err, ATTN_E_ARGUMENT, "the keys of '%s' are quantised in a KV cache: use attn_step_layer",
                          p->kind->name);
    attn_status s = attni_read_struct(&t, sizeof t, tensors, "attn_tensors", err);
    return s ? s : take_and_begin(p, &t, NULL, &b, err);
}

attn_status attni_begin_paged(attn_plan *p, const attn_tensors *t, const paged_keys *keys, view *k, view *v,
                              attn_error *err)
{
    binding b;
    attn_status s = take_and_begin(p, t, keys, &b, err);
    if (!s) *k = b.k, *v = b.v;
    return s;
}

void attn_end(attn_plan *p) { atomic_store_explicit(&p->busy, false, memory_order_release); }

/* ---- run ------------------------------------------------------------------------------------------------------ */

static void run_with(attn_plan *p, const attn_kernel_args *args, const attn_item *item, void *workspace)
{
    p->kernel->run(args, item, workspace);
    if (item->parts == 1) return;
    const unsigned before = atomic_fetch_add_explicit(&p->room.finished[item->part_slot], 1, memory_order_acq_rel);
    if (before + 1 != (unsigned)item->parts) return;
    attn_item first = *item; /* the first part stands elsewhere; they differ in keys only */
    first.part = 0;
    p->kernel->merge(args, &first, workspace);
}

static void run_item(attn_plan *p, const attn_item *item, void *workspace)
{
    if (!item->stage) {
        run_with(p, &p->args, item, workspace);
        return;
    }
    const attn_kernel_args args = attni_begin_staged(p, item);
    run_with(p, &args, item, workspace);
    attni_end_staged(p, item);
}

void attn_run_part(attn_plan *p, uint32_t worker, uint32_t workers)
{
    if (worker >= workers || worker >= p->workers || !atomic_load(&p->busy)) return;
    void *workspace = p->room.workspaces + worker * p->room.workspace_stride;
    if (workers == 1) { /* nobody else takes any */
        const long long first = atomic_exchange_explicit(&p->next, p->n_items, memory_order_relaxed);
        for (long long i = first; i < p->n_items; i++) run_item(p, &p->items[i], workspace);
        return;
    }
    for (;;) {
        const long long i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (i >= p->n_items) return;
        run_item(p, &p->items[i], workspace);
    }
}

static void run_job(void *ctx, uint32_t worker, uint32_t workers) { attn_run_part(ctx, worker, workers); }

attn_status attni_run_begun(attn_plan *p, attn_pool *pool, attn_error *err)
{
    attn_status s = ATTN_OK;
    uint32_t workers = pool ? attn_pool_threads(pool) : 1;
    if (workers > p->workers) workers = p->workers;
    if (!pool)
        attn_run_part(p, 0, 1);
    else if (!attni_pool_run(pool, workers, run_job, p))
        s = attni_fail(err, ATTN_E_BUSY, "the pool runs another call");
    attn_end(p);
    return s;
}

attn_status attn_forward(attn_plan *p, const attn_tensors *t, attn_pool *pool, attn_error *err)
{
    attn_status s = attn_begin(p, t, err);
    return s ? s : attni_run_begun(p, pool, err);
}
