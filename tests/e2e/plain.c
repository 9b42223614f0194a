/* plain.c - the yardstick: attention by plain f32 loops straight from the pattern, a whole row at a time. A kernel's
 * error may be twice the error of this, plus 1e-5.
 *
 * There are two, and the worse one counts: products first and powers of e, with sums from the front; scaled queries and
 * powers of 2, with sums from the back. One alone is lucky too often: where logits are large and rows few, the order of
 * a sum decides. */
#include "tests/e2e/harness.h"
#include "tools/common/half.h"

#include <math.h>

float e2e_round(float x, dtype type)
{
    switch (type) {
    case DTYPE_F32:
        return x;
    case DTYPE_F16:
        return half_from_f16(half_to_f16(x));
    case DTYPE_BF16:
        return half_from_bf16(half_to_bf16(x));
    }
    ATTNC_UNREACHABLE();
}

typedef struct plain {
    const e2e_call *c;
    const interp_sequence *seq;
    bool other;                        /* scaled queries, powers of 2, sums from the back */
    expr_program *mask, *score, *sink; /* score: of a scaled logit */
    expr_program *scale;
    expr_value *values;
    int64_t (*attr)[ATTR_SIDE_COUNT];
    float *weight; /* of the row's visible keys */
    bool *visible;
    expr_env env;
} plain;

static expr_program *program(const plain *x, arena *a, expr e, size_t *size)
{
    if (!e) return NULL;
    expr_program *p = expr_program_create(a, x->c->m->ir->pool, &e, 1);
    if (expr_program_size(p) > *size) *size = expr_program_size(p);
    return p;
}

static expr_value value(plain *x, const expr_program *p)
{
    expr_value result;
    expr_program_run(p, &x->env, x->values, &result);
    return result;
}

/* All score maps as one expression: s in the second is the first. */
static expr composed(const e2e_call *c)
{
    expr_pool *pool = c->m->ir->pool;
    expr all = 0;
    for (uint32_t i = 0; i < c->pattern->n_scores; i++)
        all = all ? expr_substitute(pool, c->pattern->scores[i], VAR_S, all) : c->pattern->scores[i];
    return all;
}

static void set_attrs(plain *x, const int32_t *const *from, int64_t token, attr_side side)
{
    for (size_t i = 0; i < x->c->m->ir->symbols.attrs.n; i++) x->attr[i][side] = from[i][token];
}

static int64_t in_order(const plain *x, int64_t i, int64_t n) { return x->other ? n - 1 - i : i; }
static float in_base(const plain *x, float s) { return x->other ? s * 1.44269504f : s; }
static float power(const plain *x, float s) { return x->other ? exp2f(s) : expf(s); }

static float logit(plain *x, const double *q, const double *k)
{
    float s = 0, scale = (float)value(x, x->scale).f, before = x->other ? (x->score ? scale : in_base(x, scale)) : 1;
    for (int64_t i = 0; i < x->c->kind->dim; i++) {
        int64_t d = in_order(x, i, x->c->kind->dim);
        s += (float)q[d] * before * (float)k[d];
    }
    x->env.s = x->other ? s : s * scale;
    if (x->score) return in_base(x, (float)value(x, x->score).f);
    return (float)x->env.s;
}

/* Logits of the visible keys; returns the largest, the sink's included. */
static float find_logits(plain *x, const double *q)
{
    const attn_kind_desc *d = x->c->kind;
    float largest = x->sink ? in_base(x, (float)value(x, x->sink).f) : -INFINITY;
    for (int64_t key = 0; key < x->seq->n_keys; key++) {
        x->env.var[VAR_K] = key;
        set_attrs(x, x->seq->k_attr, key, ATTR_K);
        x->visible[key] = value(x, x->mask).i;
        if (!x->visible[key]) continue;
        x->weight[key] = logit(x, q, x->seq->k + (key * d->kv_heads + x->env.var[VAR_G]) * d->dim);
        if (!(x->weight[key] <= largest)) largest = x->weight[key];
    }
    return largest;
}

static void run_row(plain *x, const double *q, float *o, float *lse)
{
    const attn_kind_desc *d = x->c->kind;
    float largest = find_logits(x, q), base = largest == -INFINITY ? 0 : largest;
    int64_t n = x->seq->n_keys;
    float sum = x->sink ? power(x, in_base(x, (float)value(x, x->sink).f) - base) : 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t key = in_order(x, i, n);
        if (x->visible[key]) sum += x->weight[key] = power(x, x->weight[key] - base);
    }
    for (uint32_t i = 0; i < d->dim_v; i++) o[i] = 0;
    for (int64_t j = 0; j < n && sum != 0; j++) {
        int64_t key = in_order(x, j, n);
        if (!x->visible[key]) continue;
        float w = e2e_round(x->weight[key] / sum, x->c->pattern->shape.type);
        const double *v = x->seq->v + (key * d->kv_heads + x->env.var[VAR_G]) * d->dim_v;
        for (uint32_t i = 0; i < d->dim_v; i++) o[i] += w * (float)v[i];
    }
    if (x->c->half_output)
        for (uint32_t i = 0; i < d->dim_v; i++) o[i] = e2e_round(o[i], x->c->pattern->shape.type);
    *lse = sum == 0 ? -INFINITY : x->other ? (base + log2f(sum)) * 0.693147181f : base + logf(sum);
}

static void run_sequence(plain *x, float *o, float *lse)
{
    const attn_kind_desc *d = x->c->kind;
    for (int64_t row = 0; row < x->seq->n_q; row++)
        for (int64_t h = 0; h < d->q_heads; h++) {
            int64_t at = row * d->q_heads + h;
            x->env.var[VAR_Q] = x->seq->pos + row;
            x->env.var[VAR_H] = h;
            x->env.var[VAR_G] = h * d->kv_heads / d->q_heads;
            set_attrs(x, x->seq->q_attr, row, ATTR_Q);
            run_row(x, x->seq->q + at * d->dim, o + at * d->dim_v, lse + at);
        }
}

void e2e_plain(const e2e_call *c, bool other, const interp_sequence *seqs, const double *const *tables, float *o,
               float *lse)
{
    plain x = {.c = c, .other = other};
    arena *a = c->arena;
    size_t size = 0;
    int64_t longest = 0;
    x.mask = program(&x, a, c->pattern->mask, &size);
    x.scale = program(&x, a, c->pattern->scale, &size);
    x.score = program(&x, a, composed(c), &size);
    x.sink = program(&x, a, c->pattern->sink, &size);
    x.values = ARENA_ARRAY(a, expr_value, size + 1);
    x.attr = (int64_t(*)[ATTR_SIDE_COUNT])arena_array(a, c->m->ir->symbols.attrs.n + 1, sizeof *x.attr);
    for (uint32_t s = 0; s < c->n_seqs; s++)
        if (c->k_lens[s] > longest) longest = c->k_lens[s];
    x.weight = ARENA_ARRAY(a, float, (size_t)longest + 1);
    x.visible = ARENA_ARRAY(a, bool, (size_t)longest + 1);
    x.env = (expr_env){.attr = (const int64_t(*)[ATTR_SIDE_COUNT])x.attr, .tables = tables, .single = true};
    x.env.var[VAR_LAYER] = c->layer;
    for (uint32_t s = 0; s < c->n_seqs; s++) {
        x.seq = &seqs[s];
        run_sequence(&x, o, lse);
        o += seqs[s].n_q * c->kind->q_heads * c->kind->dim_v;
        lse += seqs[s].n_q * c->kind->q_heads;
    }
}
