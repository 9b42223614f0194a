/* random_module.h - random well-formed modules and inputs, built through the expression API, for tests of the IR. */
#ifndef ATTNC_TEST_RANDOM_MODULE_H
#define ATTNC_TEST_RANDOM_MODULE_H

#include "ir/kernel/interp.h"

#include <math.h>

enum { RM_LAYERS = 3, RM_BUCKETS = 5, RM_MAX_TOKENS = 40 };
enum { RM_SINKS, RM_BIAS, RM_WIN, RM_BLOCK, RM_TABLES }; /* tables of the module, in this order */

typedef struct random_module {
    unsigned long long *seed;
    ir_module *m;
    expr_pool *p;
    shape shape;
    double *tables[RM_TABLES]; /* run-time values; NULL: constant table */
} random_module;

typedef struct random_input {
    interp_sequence seq;
    double *k, *v; /* as in seq, to poison */
    int32_t *q_attr, *k_attr;
    const int32_t *q_attrs[1], *k_attrs[1];
    size_t n_out, n_lse;
} random_input;

static int rm_below(random_module *r, int n) { return (int)(check_random(r->seed) % (unsigned long long)n); }
static double rm_real(random_module *r) { return (double)(check_random(r->seed) >> 11) / 9007199254740992.0 * 2 - 1; }

static expr rm_int(random_module *r, int lo, int hi) { return expr_int(r->p, lo + rm_below(r, hi - lo + 1)); }
static expr rm_float(random_module *r) { return expr_float(r->p, rm_real(r) * 2); }
static expr rm_var(random_module *r, expr_var v) { return expr_variable(r->p, v); }
static expr rm_bin(random_module *r, expr_op op, expr a, expr b) { return expr_binary(r->p, op, a, b); }
static expr rm_distance(random_module *r) { return rm_bin(r, EXPR_SUB, rm_var(r, VAR_Q), rm_var(r, VAR_K)); }

/* ---- masks ----------------------------------------------------------------------------------------------- */

static expr rm_chunk(random_module *r)
{
    expr c = rm_int(r, 1, 9);
    return rm_bin(r, EXPR_EQ, rm_bin(r, EXPR_DIV, rm_var(r, VAR_Q), c), rm_bin(r, EXPR_DIV, rm_var(r, VAR_K), c));
}

static expr rm_same_doc(random_module *r)
{
    return rm_bin(r, EXPR_EQ, expr_attr(r->p, 0, ATTR_Q), expr_attr(r->p, 0, ATTR_K));
}

static expr rm_block(random_module *r)
{
    expr at[2] = {rm_bin(r, EXPR_DIV, rm_var(r, VAR_Q), expr_int(r->p, 4)),
                  rm_bin(r, EXPR_DIV, rm_var(r, VAR_K), expr_int(r->p, 4))};
    return rm_bin(r, EXPR_FLT, expr_float(r->p, 0.25), expr_elem(r->p, RM_BLOCK, at, 2));
}

static expr rm_head_window(random_module *r)
{
    expr h = rm_var(r, VAR_H);
    return rm_bin(r, EXPR_LT, rm_distance(r), expr_elem(r->p, RM_WIN, &h, 1));
}

static expr rm_stride(random_module *r)
{
    return rm_bin(r, EXPR_EQ, rm_bin(r, EXPR_MOD, rm_distance(r), rm_int(r, 1, 4)), expr_int(r->p, 0));
}

static expr rm_atom(random_module *r)
{
    switch (rm_below(r, 12)) {
    case 0:
        return rm_bin(r, EXPR_LT, rm_distance(r), rm_int(r, 1, 12));
    case 1:
        return rm_chunk(r);
    case 2:
        return rm_bin(r, EXPR_LT, rm_var(r, VAR_K), rm_int(r, 0, 6));
    case 3:
        return rm_same_doc(r);
    case 4:
        return rm_block(r);
    case 5:
        return rm_head_window(r);
    case 6:
        return rm_stride(r);
    case 7:
        return rm_bin(r, EXPR_EQ, rm_var(r, VAR_LAYER), rm_int(r, 0, RM_LAYERS - 1));
    case 8:
        return rm_bin(r, EXPR_LE, expr_unary(r->p, EXPR_ABS, rm_distance(r)), rm_int(r, 0, 8));
    case 9:
        return expr_bool(r->p, rm_below(r, 2));
    default:
        return rm_bin(r, EXPR_LE, rm_var(r, VAR_K), rm_var(r, VAR_Q));
    }
}

static expr rm_mask(random_module *r, int depth)
{
    int kind = depth ? rm_below(r, 9) : 0;
    if (kind < 4) return rm_atom(r);
    expr a = rm_mask(r, depth - 1), b = rm_mask(r, depth - 1);
    if (kind < 7) return rm_bin(r, EXPR_AND, a, b);
    if (kind == 7) return rm_bin(r, EXPR_OR, a, b);
    return rm_below(r, 2) ? expr_unary(r->p, EXPR_NOT, a) : expr_if(r->p, rm_atom(r), a, b);
}

/* ---- scores ---------------------------------------------------------------------------------------------- */

/* A float of the row: no key, no logit. */
static expr rm_row_float(random_module *r)
{
    expr h[2] = {rm_var(r, VAR_LAYER), rm_var(r, VAR_H)};
    switch (rm_below(r, 4)) {
    case 0:
        return rm_float(r);
    case 1:
        return expr_unary(r->p, EXPR_LN,
                          expr_unary(r->p, EXPR_FLOAT, rm_bin(r, EXPR_ADD, rm_var(r, VAR_Q), expr_int(r->p, 2))));
    case 2:
        return expr_unary(r->p, EXPR_EXP2,
                          rm_bin(r, EXPR_FDIV, expr_unary(r->p, EXPR_FLOAT, rm_var(r, VAR_G)), expr_float(r->p, -2)));
    default:
        return expr_elem(r->p, RM_SINKS, h, 2);
    }
}

static expr rm_bias(random_module *r)
{
    expr at[2] = {rm_var(r, VAR_H),
                  rm_bin(r, EXPR_MIN, expr_unary(r->p, EXPR_ABS, rm_distance(r)), expr_int(r->p, RM_BUCKETS - 1))};
    return expr_elem(r->p, RM_BIAS, at, 2);
}

static expr rm_softcap(random_module *r, expr s)
{
    expr c = expr_float(r->p, 1 + rm_below(r, 20));
    return rm_bin(r, EXPR_FMUL, c, expr_unary(r->p, EXPR_TANH, rm_bin(r, EXPR_FDIV, s, c)));
}

/* last: no other score follows; then it may say -inf, which must not be multiplied any more. */
static expr rm_score(random_module *r, expr s, bool last)
{
    expr far = expr_unary(r->p, EXPR_FLOAT, rm_distance(r));
    expr eight = expr_float(r->p, 8), low = expr_float(r->p, -8);
    switch (rm_below(r, 14)) {
    case 10:
        return rm_bin(r, EXPR_FMAX, low, rm_bin(r, EXPR_FMIN, eight, rm_bin(r, EXPR_FDIV, rm_float(r), s)));
    case 11:
        return rm_bin(r, EXPR_FSUB, rm_float(r), s);
    case 12:
        return rm_bin(r, EXPR_FMAX, expr_unary(r->p, EXPR_FABS, s), rm_row_float(r));
    case 13:
        return rm_bin(r, EXPR_FMAX, low, rm_bin(r, EXPR_FMIN, eight, rm_bin(r, EXPR_FMUL, s, s)));
    case 0:
        return rm_bin(r, EXPR_FSUB, s, rm_bin(r, EXPR_FMUL, rm_row_float(r), far));
    case 1:
        return rm_softcap(r, s);
    case 2:
        return rm_bin(r, EXPR_FMUL, s, rm_row_float(r));
    case 3:
        return expr_if(r->p, rm_atom(r), rm_bin(r, EXPR_FMUL, s, rm_float(r)), s);
    case 4:
        return rm_bin(r, EXPR_FADD, s, rm_bias(r));
    case 5:
        return rm_bin(r, EXPR_FMIN, s, rm_float(r));
    case 6:
        return rm_bin(r, EXPR_FDIV, rm_bin(r, EXPR_FADD, rm_float(r), s), expr_float(r->p, 1.5));
    case 7:
        return expr_if(
            r->p,
            rm_bin(r, rm_below(r, 2) ? EXPR_AND : EXPR_OR, rm_atom(r), rm_bin(r, EXPR_FLT, s, expr_float(r->p, 0.4))),
            rm_bin(r, EXPR_FMUL, s, expr_float(r->p, 0.1)), s);
    case 8:
        return rm_bin(r, EXPR_FADD, s, expr_if(r->p, rm_atom(r), expr_float(r->p, last ? -INFINITY : -3), rm_float(r)));
    default:
        return rm_bin(r, EXPR_FMUL, rm_bin(r, EXPR_FADD, s, rm_row_float(r)),
                      expr_if(r->p, rm_atom(r), rm_row_float(r), rm_float(r)));
    }
}

/* ---- modules --------------------------------------------------------------------------------------------- */

static void rm_add_table(random_module *r, arena *a, const char *name, expr_type type, int64_t rows, int64_t columns,
                         bool constant)
{
    table t = {.name = name, .type = type, .rank = columns ? 2 : 1, .extent = {rows, columns}};
    int64_t n = rows * (columns ? columns : 1);
    double *v = ARENA_ARRAY(a, double, (size_t)n);
    for (int64_t i = 0; i < n; i++) v[i] = type == TYPE_INT ? rm_below(r, 12) : (double)(float)rm_real(r);
    if (constant) t.value = v;
    r->tables[r->m->symbols.tables.n] = constant ? NULL : v;
    VEC_PUSH(a, &r->m->symbols.tables, t);
}

static void rm_add_pattern(random_module *r, arena *a, const char *name)
{
    pattern *p = ARENA_NEW(a, pattern);
    expr s = rm_var(r, VAR_S);
    p->name = name;
    p->where = SPAN_NONE;
    p->shape = r->shape;
    p->mask = rm_mask(r, 3);
    p->scale = rm_below(r, 8) ? expr_float(r->p, 0.5) : expr_float(r->p, 1);
    p->n_scores = (uint32_t)rm_below(r, 4);
    p->scores = ARENA_ARRAY(a, expr, p->n_scores + 1);
    for (uint32_t i = 0; i < p->n_scores; i++) p->scores[i] = rm_score(r, s, i + 1 == p->n_scores);
    if (!rm_below(r, 3)) p->sink = rm_below(r, 5) ? rm_row_float(r) : expr_float(r->p, -INFINITY);
    p->k_is_v = r->shape.dim_v <= r->shape.dim && !rm_below(r, 4);
    if (!rm_below(r, 4)) p->max_len = 1 + rm_below(r, 1000);
    VEC_PUSH(a, &r->m->patterns, p);
}

static random_module random_module_create(arena *a, unsigned long long *seed)
{
    random_module r = {.seed = seed, .m = ir_module_create(a, "random \"\\ module")};
    r.p = r.m->pool;
    int kv = 1 + rm_below(&r, 3);
    r.shape = (shape){.q_heads = kv * (1 + rm_below(&r, 3)),
                      .kv_heads = kv,
                      .dim = 1 + rm_below(&r, 6),
                      .dim_v = 1 + rm_below(&r, 6),
                      .type = DTYPE_BF16,
                      .kv = rm_below(&r, 4) ? KV_AS_GIVEN : KV_INT8};
    if (!rm_below(&r, 8)) r.shape.kv = KV_INT8, r.shape.dim = r.shape.dim_v = 32, r.shape.kv_group = 16;
    rm_add_table(&r, a, "sinks", TYPE_FLOAT, RM_LAYERS, r.shape.q_heads, false);
    rm_add_table(&r, a, "bias", TYPE_FLOAT, r.shape.q_heads, RM_BUCKETS, true);
    rm_add_table(&r, a, "win", TYPE_INT, r.shape.q_heads, 0, true);
    rm_add_table(&r, a, "block", TYPE_FLOAT, RM_MAX_TOKENS / 4, RM_MAX_TOKENS / 4, false);
    VEC_PUSH(a, &r.m->symbols.attrs, "doc");
    rm_add_pattern(&r, a, "first");
    rm_add_pattern(&r, a, "second");
    r.m->layers = RM_LAYERS;
    r.m->schedule = ARENA_ARRAY(a, uint32_t, RM_LAYERS);
    for (int i = 0; i < RM_LAYERS; i++) r.m->schedule[i] = (uint32_t)rm_below(&r, 2);
    return r;
}

/* ---- inputs ---------------------------------------------------------------------------------------------- */

static double *rm_reals(random_module *r, arena *a, int64_t n)
{
    double *x = ARENA_ARRAY(a, double, (size_t)n + 1);
    for (int64_t i = 0; i < n; i++) x[i] = rm_real(r) * 2;
    return x;
}

static inline random_input *random_input_create(random_module *r, arena *a)
{
    random_input *in = ARENA_NEW(a, random_input);
    const shape *s = &r->shape;
    int64_t pos = rm_below(r, 2) ? 0 : rm_below(r, 16), n_q = rm_below(r, 14);
    int64_t n_keys = rm_below(r, 4) ? pos + n_q : rm_below(r, RM_MAX_TOKENS - 4);
    in->k = rm_reals(r, a, n_keys * s->kv_heads * s->dim);
    in->v = rm_reals(r, a, n_keys * s->kv_heads * s->dim_v);
    in->q_attr = ARENA_ARRAY(a, int32_t, (size_t)n_q + 1);
    in->k_attr = ARENA_ARRAY(a, int32_t, (size_t)n_keys + 1);
    for (int64_t i = 0; i < n_q; i++) in->q_attr[i] = rm_below(r, 3) - 1;
    for (int64_t i = 0; i < n_keys; i++) in->k_attr[i] = rm_below(r, 3) - 1;
    in->q_attrs[0] = in->q_attr;
    in->k_attrs[0] = in->k_attr;
    in->n_lse = (size_t)(n_q * s->q_heads);
    in->n_out = in->n_lse * (size_t)s->dim_v;
    in->seq = (interp_sequence){
        .n_q = n_q, .pos = pos, .n_keys = n_keys, .k = in->k, .v = in->v, .q_attr = in->q_attrs, .k_attr = in->k_attrs};
    in->seq.q = rm_reals(r, a, n_q * s->q_heads * s->dim);
    in->seq.o = ARENA_ARRAY(a, double, in->n_out + 1);
    in->seq.lse = ARENA_ARRAY(a, double, in->n_lse + 1);
    return in;
}

#endif
