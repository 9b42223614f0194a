/* steps.c - a problem fed through a KV cache piece by piece: new tokens are gathered, results scattered. Keys that have no queries come
 * first, in a step of their own. */
#include "tools/common/steps.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct steps {
    call *call;
    const problem *p;
    attn_cache *cache;
    tool_error *err;
    attn_seq_id *ids;
    int64_t *first_q, *first_k;     /* per sequence: where its queries, its keys begin among those of all */
    int64_t *done, *counts;         /* per sequence: tokens that are in; that come */
    int64_t rows;                   /* new tokens of all sequences */
    bool history;                   /* the step has no queries */
    tensor q, k, v, o, lse;         /* of the new tokens, packed */
    int32_t **attrs;
} steps;

static bool check_problem(const problem *p, const steps_options *o, tool_error *err)
{
    int64_t sum = 0;
    for (size_t i = 0; i < o->n_pieces; i++) sum += o->pieces[i];
    for (uint32_t s = 0; s < p->n_seqs; s++) {
        if (p->packed ? sum < p->q_lens[s] : sum != p->q_lens[s])
            return tool_fail(err, "--steps adds up to %" PRId64 " tokens; sequence %u has %" PRId64, sum, s,
                             p->q_lens[s]);
    }
    return true;
}

static int64_t history_of(const problem *p, uint32_t s) { return p->k_lens[s] - p->q_lens[s]; }

static bool is_shared(const problem *p) { return p->kind->flags & ATTN_KIND_KV_SHARED; }

static bool open_cache(steps *x, attn_module *m, const steps_options *o, int32_t isa)
{
    attn_error e = {""};
    const uint32_t layers[] = {x->p->layer, x->p->kind->kv_layer};
    const attn_cache_config config = {.size = sizeof config,
                                      .budget = (uint64_t)o->budget,
                                      .page_tokens = (uint32_t)o->page_tokens,
                                      .rollback = (uint32_t)o->rollback,
                                      .workers = attn_pool_threads(x->call->pool),
                                      .isa = isa,
                                      .inputs = x->p->module->n_inputs ? x->call->input_list : NULL,
                                      .n_layers = is_shared(x->p) ? 2 : 1,
                                      .layers = layers};
    return call_check(attn_cache_create(m, &config, &x->cache, &e), &e, x->err);
}

static bool begin_sequences(steps *x)
{
    const uint32_t n = x->p->n_seqs;
    x->ids = calloc(n + 1u, sizeof *x->ids);
    x->first_q = calloc(4 * (n + 1u), sizeof *x->first_q);
    x->attrs = calloc(x->p->module->n_attrs + 1u, sizeof *x->attrs);
    if (!x->ids || !x->first_q || !x->attrs) return tool_fail(x->err, "out of memory");
    x->first_k = x->first_q + n + 1;
    x->done = x->first_k + n + 1;
    x->counts = x->done + n + 1;
    int64_t q = 0, k = 0;
    for (uint32_t s = 0; s < n; s++) {
        attn_error e = {""};
        x->first_q[s] = q, x->first_k[s] = k;
        q += x->p->q_lens[s], k += x->p->k_lens[s];
        if (!call_check(attn_seq_begin(x->cache, &x->ids[s], &e), &e, x->err)) return false;
    }
    return true;
}

/* ---- one step
 * -----------------------------------------------------------------------------------------------------------------------
 */

static void free_tensor(tensor *t)
{
    if (t->stored != t->values) free(t->stored);
    free(t->values);
    *t = (tensor){0};
}

static void free_step(steps *x)
{
    tensor *const all[] = {&x->q, &x->k, &x->v, &x->o, &x->lse};
    for (size_t i = 0; i < ATTNC_COUNT(all); i++) free_tensor(all[i]);
    for (uint32_t a = 0; x->attrs && a < x->p->module->n_attrs; a++) free(x->attrs[a]), x->attrs[a] = NULL;
}

typedef enum row_kind { ROWS_OF_QUERIES, ROWS_OF_KEYS } row_kind;

/* The step's first token of a sequence among the rows of all. */
static int64_t first_row(const steps *x, uint32_t s, row_kind kind)
{
    return kind == ROWS_OF_KEYS ? x->first_k[s] + x->done[s] : x->first_q[s] + x->done[s] - history_of(x->p, s);
}

/* Copies the rows of the step's tokens between a tensor of all tokens and one of the new tokens. */
static void move_rows(const steps *x, row_kind kind, char *all, char *some, size_t row_bytes, bool gather)
{
    for (uint32_t s = 0; s < x->p->n_seqs; s++) {
        const size_t bytes = (size_t)x->counts[s] * row_bytes;
        if (!bytes) continue;
        char *at = all + (size_t)first_row(x, s, kind) * row_bytes;
        memcpy(gather ? some : at, gather ? at : some, bytes);
        some += bytes;
    }
}

static bool gather(steps *x, row_kind kind, const tensor *from, tensor *to, uint32_t heads, uint32_t dim)
{
    const uint32_t dtype = x->p->kind->dtype;
    if (!tensor_create(to, (int64_t[]){x->rows, heads, dim}, 3, dtype, x->err)) return false;
    move_rows(x, kind, from->stored, to->stored, (size_t)heads * dim * (dtype == ATTN_F32 ? 4 : 2), true);
    return true;
}

static bool gather_queries(steps *x)
{
    const attn_kind_desc *d = x->p->kind;
    return gather(x, ROWS_OF_QUERIES, &x->p->q, &x->q, d->q_heads, d->dim) &&
           tensor_create(&x->o, (int64_t[]){x->rows, d->q_heads, d->dim_v}, 3, ATTN_F32, x->err) &&
           tensor_create(&x->lse, (int64_t[]){x->rows, d->q_heads}, 2, ATTN_F32, x->err);
}

static bool gather_all(steps *x)
{
    const problem *p = x->p;
    const attn_kind_desc *d = p->kind;
    for (uint32_t a = 0; a < p->module->n_attrs; a++) {
        x->attrs[a] = calloc((size_t)x->rows + 1, sizeof **x->attrs);
        if (!x->attrs[a]) return tool_fail(x->err, "out of memory");
        move_rows(x, ROWS_OF_KEYS, (char *)p->k_attrs[a], (char *)x->attrs[a], sizeof **x->attrs, true);
    }
    return gather(x, ROWS_OF_KEYS, &p->k, &x->k, d->kv_heads, d->dim) && gather(x, ROWS_OF_KEYS, &p->v, &x->v, d->kv_heads, d->dim_v) &&
           (x->history || gather_queries(x));
}

/* The keys and values go to the layer that owns them. */
static bool run_owner(steps *x)
{
    const problem *p = x->p;
    const attn_kind_desc *d = p->module->kinds[p->module->schedule[p->kind->kv_layer]];
    int64_t shapes[2][4];
    attn_error e = {""};
    DLTensor k = tensor_describe(&x->k, x->k.stored, d->dtype, false, shapes[0]);
    DLTensor v = tensor_describe(&x->v, x->v.stored, d->dtype, false, shapes[1]);
    const attn_tensors t = {.size = sizeof t, .k = &k, .v = d->flags & ATTN_KIND_K_IS_V ? NULL : &v};
    return call_check(attn_step_layer(x->cache, p->kind->kv_layer, &t, x->call->pool, &e), &e, x->err);
}

static bool run_layer(steps *x)
{
    const problem *p = x->p;
    const bool keys = !is_shared(p), values = keys && !(p->kind->flags & ATTN_KIND_K_IS_V), asked = !x->history;
    int64_t shapes[5][4];
    attn_error e = {""};
    DLTensor q = tensor_describe(&x->q, x->q.stored, p->kind->dtype, false, shapes[0]);
    DLTensor k = tensor_describe(&x->k, x->k.stored, p->kind->dtype, false, shapes[1]);
    DLTensor v = tensor_describe(&x->v, x->v.stored, p->kind->dtype, false, shapes[2]);
    DLTensor o = tensor_describe(&x->o, x->o.stored, ATTN_F32, false, shapes[3]);
    DLTensor lse = tensor_describe(&x->lse, x->lse.stored, ATTN_F32, false, shapes[4]);
    const attn_tensors t = {.size = sizeof t,
                            .q = asked ? &q : NULL,
                            .k = keys ? &k : NULL,
                            .v = values ? &v : NULL,
                            .o = asked ? &o : NULL,
                            .lse = asked ? &lse : NULL};
    if (!keys && !run_owner(x)) return false;
    return call_check(attn_step_layer(x->cache, p->layer, &t, x->call->pool, &e), &e, x->err);
}

static bool run_step(steps *x)
{
    const attn_step_config config = {.size = sizeof config,
                                     .n_seqs = x->p->n_seqs,
                                     .seqs = x->ids,
                                     .counts = x->counts,
                                     .attrs = (const int32_t *const *)x->attrs};
    attn_error e = {""};
    if (!gather_all(x) || !call_check(attn_step_begin(x->cache, &config, &e), &e, x->err)) return false;
    if (!run_layer(x) || !call_check(attn_step_end(x->cache, &e), &e, x->err)) return false;
    if (x->history) return true;
    const size_t lse_row = x->p->kind->q_heads * sizeof(float);
    move_rows(x, ROWS_OF_QUERIES, (char *)x->call->out, x->o.stored, lse_row * x->p->kind->dim_v, false);
    move_rows(x, ROWS_OF_QUERIES, (char *)x->call->lse, x->lse.stored, lse_row, false);
    return true;
}

/* The step of `counts` tokens. */
static bool feed(steps *x)
{
    x->rows = 0;
    for (uint32_t s = 0; s < x->p->n_seqs; s++) x->rows += x->counts[s];
    const bool ok = run_step(x);
    free_step(x);
    for (uint32_t s = 0; s < x->p->n_seqs; s++) {
        for (int64_t i = 0; i < x->counts[s] && !x->history; i++)
            x->call->lens[first_row(x, s, ROWS_OF_QUERIES) + i] = x->done[s] + x->counts[s];
        x->done[s] += x->counts[s];
    }
    return ok;
}

static bool feed_history(steps *x)
{
    bool some = false;
    for (uint32_t s = 0; s < x->p->n_seqs; s++) {
        x->counts[s] = history_of(x->p, s);
        some |= x->counts[s] > 0;
    }
    x->history = true;
    const bool ok = !some || feed(x);
    x->history = false;
    return ok;
}

/* A sequence takes the piece, or what is left of it. */
static bool feed_piece(steps *x, int64_t piece)
{
    for (uint32_t s = 0; s < x->p->n_seqs; s++) {
        const int64_t left = x->p->k_lens[s] - x->done[s];
        x->counts[s] = piece < left ? piece : left;
    }
    return feed(x);
}

bool steps_run(call *c, attn_module *m, const steps_options *o, int32_t isa, attn_cache_stats *stats, tool_error *err)
{
    steps x = {.call = c, .p = c->problem, .err = err};
    c->lens = calloc((size_t)x.p->total_q + 1, sizeof *c->lens);
    bool ok = (c->lens || tool_fail(err, "out of memory")) && check_problem(x.p, o, err) && open_cache(&x, m, o, isa) &&
              begin_sequences(&x) && feed_history(&x);
    for (size_t i = 0; i < o->n_pieces && ok; i++) ok = feed_piece(&x, o->pieces[i]);
    if (ok && stats) ok = call_check(attn_cache_get_stats(x.cache, stats), &(attn_error){""}, err);
    attn_cache_destroy(x.cache);
    free(x.ids), free(x.first_q), free(x.attrs);
    return ok;
}
