/* plain.c - the yardstick: attention by plain f32 loops straight from the pattern, a whole row at a time. */
#include "tools/common/plain.h"
#include "tools/common/half.h"

#include <math.h>

float plain_round(float x, dtype type)
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
    const plain_call *c;
    const interp_sequence *seq;
    const double *keys, *values; /* of seq, as they are stored */
    bool base2, back;
    expr_program *mask, *score, *sink; /* score: of a scaled logit */
    expr_program *scale;
    expr_value *room; /* of expr_program_run */
    int64_t (*attr)[ATTR_SIDE_COUNT];
    double *query; /* the row's, as it is multiplied */
    float *weight; /* of the row's visible keys */
    bool *visible;
    expr_env env;
} plain;

static expr_program *program(const plain *x, arena *a, expr e, size_t *size)
{
    if (!e) return NULL;
    expr_program *p = expr_program_create(a, x->c->module->pool, &e, 1);
    if (expr_program_size(p) > *size) *size = expr_program_size(p);
    return p;
}

static expr_value value(plain *x, const expr_program *p)
{
    expr_value result;
    expr_program_run(p, &x->env, x->room, &result);
    return result;
}

/* All score maps as one expression: s in the second is the first. */
static expr composed(const plain_call *c)
{
    expr_pool *pool = c->module->pool;
    expr all = 0;
    for (uint32_t i = 0; i < c->pattern->n_scores; i++)
        all = all ? expr_substitute(pool, c->pattern->scores[i], VAR_S, all) : c->pattern->scores[i];
    return all;
}

static void set_attrs(plain *x, const int32_t *const *from, int64_t token, attr_side side)
{
    for (size_t i = 0; i < x->c->module->symbols.attrs.n; i++) x->attr[i][side] = from[i][token];
}

static int64_t in_order(const plain *x, int64_t i, int64_t n) { return x->back ? n - 1 - i : i; }
static float in_base(const plain *x, float s) { return x->base2 ? s * 1.44269504f : s; }
static float power(const plain *x, float s) { return x->base2 ? exp2f(s) : expf(s); }

static float logit(plain *x, const double *q, const double *k)
{
    float s = 0, scale = (float)value(x, x->scale).f, before = x->base2 ? (x->score ? scale : in_base(x, scale)) : 1;
    for (int64_t i = 0; i < x->c->pattern->shape.dim; i++) {
        int64_t d = in_order(x, i, x->c->pattern->shape.dim);
        s += (float)q[d] * before * (float)k[d];
    }
    x->env.s = x->base2 ? s : s * scale;
    if (x->score) return in_base(x, (float)value(x, x->score).f);
    return (float)x->env.s;
}

/* Logits of the visible keys; returns the largest, the sink's included. */
static float find_logits(plain *x, const double *q)
{
    const shape *d = &x->c->pattern->shape;
    float largest = x->sink ? in_base(x, (float)value(x, x->sink).f) : -INFINITY;
    for (int64_t key = 0; key < x->seq->n_keys; key++) {
        x->env.var[VAR_K] = key;
        set_attrs(x, x->seq->k_attr, key, ATTR_K);
        x->visible[key] = value(x, x->mask).i;
        if (!x->visible[key]) continue;
        x->weight[key] = logit(x, q, x->keys + (key * d->kv_heads + x->env.var[VAR_G]) * d->dim);
        if (!(x->weight[key] <= largest)) largest = x->weight[key];
    }
    return largest;
}

/* Where keys are int8, queries of 16 bits are multiplied as 16 bits of their largest element (docs/quant.md, "Digits"). */
static const double *round_query(const plain *x, const double *q)
{
    const shape *d = &x->c->pattern->shape;
    double largest = 0;
    if (d->kv != KV_INT8 || d->type == DTYPE_F32) return q;
    for (int64_t i = 0; i < d->dim; i++) largest = fmax(largest, fabs(q[i]));
    for (int64_t i = 0; i < d->dim; i++) x->query[i] = largest > 0 ? nearbyint(q[i] / largest * 32512) * largest / 32512 : q[i];
    return x->query;
}

static const double *value_row(const plain *x, int64_t key)
{
    const shape *d = &x->c->pattern->shape;
    const bool k_is_v = x->c->pattern->k_is_v;
    return (k_is_v ? x->keys : x->values) + (key * d->kv_heads + x->env.var[VAR_G]) * (k_is_v ? d->dim : d->dim_v);
}

/* Where values are int8 too, weights times the scale of a value are whole steps of the largest of 64 keys ("Steps of weights"). */
static void round_weights(plain *x, int64_t n)
{
    const shape *d = &x->c->pattern->shape;
    if (d->kv != KV_INT8 || d->type == DTYPE_F32 || d->kv_group || d->dim % 64 || d->dim > 512 || d->dim_v % 64) return;
    for (int64_t first = 0; first < n; first += 64) {
        double scale[64], largest = 0;
        const int64_t keys = n - first < 64 ? n - first : 64;
        for (int64_t i = 0; i < keys; i++) {
            scale[i] = 0;
            for (int64_t e = 0; e < d->dim_v && x->visible[first + i]; e++) scale[i] = fmax(scale[i], fabs(value_row(x, first + i)[e]));
            if (x->visible[first + i]) largest = fmax(largest, x->weight[first + i] * scale[i]);
        }
        for (int64_t i = 0; i < keys && largest > 0 && isfinite(largest); i++)
            if (scale[i] > 0) x->weight[first + i] = (float)(nearbyint(x->weight[first + i] * scale[i] / largest * 32767) * largest / 32767 / scale[i]);
    }
}

static void run_row(plain *x, const double *given, float *o, float *lse)
{
    const shape *d = &x->c->pattern->shape;
    const double *q = round_query(x, given);
    float largest = find_logits(x, q), base = largest == -INFINITY ? 0 : largest;
    int64_t n = x->seq->n_keys;
    float sum = x->sink ? power(x, in_base(x, (float)value(x, x->sink).f) - base) : 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t key = in_order(x, i, n);
        if (x->visible[key]) sum += x->weight[key] = power(x, x->weight[key] - base);
    }
    round_weights(x, n);
    for (int64_t i = 0; i < d->dim_v; i++) o[i] = 0;
    for (int64_t j = 0; j < n && sum != 0; j++) {
        int64_t key = in_order(x, j, n);
        if (!x->visible[key]) continue;
        float w = plain_round(x->base2 ? x->weight[key] : x->weight[key] / sum, x->c->pattern->shape.type);
        const double *v = value_row(x, key);
        for (int64_t i = 0; i < d->dim_v; i++) o[i] += w * (float)v[i];
    }
    for (int64_t i = 0; i < d->dim_v && x->base2 && sum != 0; i++) o[i] /= sum;
    if (x->c->half_output)
        for (int64_t i = 0; i < d->dim_v; i++) o[i] = plain_round(o[i], x->c->pattern->shape.type);
    *lse = sum == 0 ? -INFINITY : x->base2 ? (base + log2f(sum)) * 0.693147181f : base + logf(sum);
}

static void run_sequence(plain *x, float *o, float *lse)
{
    const shape *d = &x->c->pattern->shape;
    for (int64_t row = 0; row < x->seq->n_q; row++)
        for (int64_t h = 0; h < d->q_heads; h++) {
            int64_t at = row * d->q_heads + h;
            x->env.var[VAR_Q] = x->seq->pos + row;
            x->env.var[VAR_H] = h;
            x->env.var[VAR_G] = h * d->kv_heads / d->q_heads;
            x->env.var[VAR_LEN] = x->seq->len ? x->seq->len[row] : x->seq->n_keys;
            set_attrs(x, x->seq->q_attr, row, ATTR_Q);
            run_row(x, x->seq->q + at * d->dim, o + at * d->dim_v, lse + at);
        }
}

/* Memory for one row of the longest sequence, and the formulas as code. */
static void prepare(plain *x, const interp_sequence *seqs)
{
    arena *a = x->c->arena;
    size_t size = 0;
    int64_t longest = 0;
    x->mask = program(x, a, x->c->pattern->mask, &size);
    x->scale = program(x, a, x->c->pattern->scale, &size);
    x->score = program(x, a, composed(x->c), &size);
    x->sink = program(x, a, x->c->pattern->sink, &size);
    x->room = ARENA_ARRAY(a, expr_value, size + 1);
    x->attr = (int64_t(*)[ATTR_SIDE_COUNT])arena_array(a, x->c->module->symbols.attrs.n + 1, sizeof *x->attr);
    for (uint32_t s = 0; s < x->c->n_seqs; s++)
        if (seqs[s].n_keys > longest) longest = seqs[s].n_keys;
    x->query = ARENA_ARRAY(a, double, (size_t)x->c->pattern->shape.dim);
    x->weight = ARENA_ARRAY(a, float, (size_t)longest + 1);
    x->visible = ARENA_ARRAY(a, bool, (size_t)longest + 1);
    x->env = (expr_env){.attr = (const int64_t(*)[ATTR_SIDE_COUNT])x->attr, .tables = x->c->tables, .single = true};
    x->env.var[VAR_LAYER] = x->c->layer;
}

static const double *stored(const plain *x, const double *rows, int64_t dim)
{
    const shape *d = &x->c->pattern->shape;
    const int64_t n = x->seq->n_keys * d->kv_heads;
    if (d->kv == KV_AS_GIVEN || !rows) return rows;
    double *to = ARENA_ARRAY(x->c->arena, double, (size_t)(n * dim) + 1);
    interp_store_rows(d, rows, n, dim, to);
    return to;
}

void plain_attention(const plain_call *c, plain_way way, const interp_sequence *seqs, float *o, float *lse)
{
    plain x = {.c = c, .base2 = way & PLAIN_BASE2, .back = way & PLAIN_BACK};
    prepare(&x, seqs);
    for (uint32_t s = 0; s < c->n_seqs; s++) {
        x.seq = &seqs[s];
        x.keys = stored(&x, seqs[s].k, c->pattern->shape.dim);
        x.values = c->pattern->k_is_v ? NULL : stored(&x, seqs[s].v, c->pattern->shape.dim_v);
        run_sequence(&x, o, lse);
        o += seqs[s].n_q * c->pattern->shape.q_heads * c->pattern->shape.dim_v;
        lse += seqs[s].n_q * c->pattern->shape.q_heads;
    }
}
