/* plain.c - attention by plain f32 loops straight from the definition, without tiles: how exact the precision allows to be. */
#include "tools/attn-run/oracle.h"
#include "tools/common/half.h"
#include <math.h>

typedef struct plain {
    const oracle *o;
    const problem *p;
    const interp_sequence *seq;
    expr_program *scale;
    expr_program **scores;
    expr_program *mask, *sink;
    expr_value *values;
    int64_t (*attr)[ATTR_SIDE_COUNT];
    float *weights;
    expr_env env;
} plain;

static expr_program *program(plain *x, expr e)
{
    return expr_program_create(x->o->arena, x->o->module->pool, &e, 1);
}

static expr_value value(plain *x, const expr_program *code)
{
    expr_value result;
    expr_program_run(code, &x->env, x->values, &result);
    return result;
}

static void prepare(plain *x)
{
    const pattern *m = x->o->pattern;
    arena *a = x->o->arena;
    x->mask = program(x, m->mask);
    x->scale = program(x, m->scale);
    x->sink = m->sink ? program(x, m->sink) : NULL;
    x->scores = ARENA_ARRAY(a, expr_program *, m->n_scores + 1u);
    size_t size = expr_program_size(x->mask) + expr_program_size(x->scale) + (x->sink ? expr_program_size(x->sink) : 0);
    for (uint32_t i = 0; i < m->n_scores; i++) {
        x->scores[i] = program(x, m->scores[i]);
        size += expr_program_size(x->scores[i]);
    }
    x->values = ARENA_ARRAY(a, expr_value, size + 1);
    x->attr = (int64_t(*)[ATTR_SIDE_COUNT])arena_array(a, x->o->module->symbols.attrs.n + 1, sizeof *x->attr);
    int64_t longest = 0;
    for (uint32_t s = 0; s < x->p->n_seqs; s++)
        longest = x->p->k_lens[s] > longest ? x->p->k_lens[s] : longest;
    x->weights = ARENA_ARRAY(a, float, (size_t)longest + 1);
    x->env.attr = (const int64_t(*)[ATTR_SIDE_COUNT])x->attr;
    x->env.tables = x->o->tables;
    x->env.single = true;
    x->env.var[VAR_LAYER] = x->p->layer;
}

static void set_attrs(plain *x, const int32_t *const *from, int64_t token, attr_side side)
{
    for (size_t i = 0; i < x->o->module->symbols.attrs.n; i++)
        x->attr[i][side] = from[i] ? from[i][token] : 0;
}

static float logit(plain *x, int64_t row, int64_t h, int64_t key)
{
    const attn_kind_desc *d = x->p->kind;
    const double *q = x->seq->q + (row * d->q_heads + h) * d->dim;
    const double *k = x->seq->k + (key * d->kv_heads + x->env.var[VAR_G]) * d->dim;
    float s = 0;
    for (uint32_t i = 0; i < d->dim; i++)
        s += (float)q[i] * (float)k[i];
    s *= (float)value(x, x->scale).f;
    for (uint32_t i = 0; i < x->o->pattern->n_scores; i++) {
        x->env.s = s;
        s = (float)value(x, x->scores[i]).f;
    }
    return s;
}

static float round_weight(const problem *p, float w)
{
    if (p->kind->dtype == ATTN_F16) return half_from_f16(half_to_f16(w));
    return p->kind->dtype == ATTN_BF16 ? half_from_bf16(half_to_bf16(w)) : w;
}

/* Logits into weights, -inf where masked; returns the largest (the sink's included). */
static float fill_logits(plain *x, int64_t row, int64_t h)
{
    float largest = x->sink ? (float)value(x, x->sink).f : -INFINITY;
    for (int64_t key = 0; key < x->seq->n_keys; key++) {
        x->env.var[VAR_K] = key;
        set_attrs(x, x->seq->k_attr, key, ATTR_K);
        x->weights[key] = value(x, x->mask).i ? logit(x, row, h, key) : -INFINITY;
        if (x->weights[key] > largest || isnan(x->weights[key])) largest = x->weights[key];
    }
    return largest;
}

static void run_row(plain *x, int64_t row, int64_t h, float *out, float *lse)
{
    const attn_kind_desc *d = x->p->kind;
    float m = fill_logits(x, row, h), base = m == -INFINITY ? 0 : m;
    float sum = x->sink ? expf((float)value(x, x->sink).f - base) : 0;
    for (int64_t key = 0; key < x->seq->n_keys; key++)
        sum += x->weights[key] = expf(x->weights[key] - base);
    for (int64_t key = 0; key < x->seq->n_keys; key++) {
        float w = sum > 0 || isnan(sum) ? round_weight(x->p, x->weights[key] / sum) : 0;
        const double *v = x->seq->v + (key * d->kv_heads + x->env.var[VAR_G]) * d->dim_v;
        for (uint32_t i = 0; w != 0 && i < d->dim_v; i++)
            out[i] += w * (float)v[i];
    }
    *lse = sum == 0 ? -INFINITY : base + logf(sum);
}

static void run_sequence(plain *x, float *o, float *lse)
{
    const attn_kind_desc *d = x->p->kind;
    for (int64_t row = 0; row < x->seq->n_q; row++)
        for (int64_t h = 0; h < d->q_heads; h++) {
            int64_t at = row * d->q_heads + h;
            x->env.var[VAR_Q] = x->seq->pos + row;
            x->env.var[VAR_H] = h;
            x->env.var[VAR_G] = h * d->kv_heads / d->q_heads;
            set_attrs(x, x->seq->q_attr, row, ATTR_Q);
            run_row(x, row, h, o + at * d->dim_v, lse + at);
        }
}

void plain_compute(oracle *o, const problem *p)
{
    plain x = {.o = o, .p = p};
    const attn_kind_desc *d = p->kind;
    o->plain_o = ARENA_ARRAY(o->arena, float, (size_t)(p->total_q * d->q_heads * d->dim_v) + 1);
    o->plain_lse = ARENA_ARRAY(o->arena, float, (size_t)(p->total_q * d->q_heads) + 1);
    prepare(&x);
    for (int64_t s = 0, at = 0; s < p->n_seqs; at += p->q_lens[s++]) {
        x.seq = &o->seqs[s];
        run_sequence(&x, o->plain_o + at * d->q_heads * d->dim_v, o->plain_lse + at * d->q_heads);
    }
}
