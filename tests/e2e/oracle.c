/* oracle.c - what a call should have given, by the f64 interpreter, and how far off it may be. */
#include "tests/e2e/harness.h"
#include "tools/common/plain.h"

#include <math.h>
#include <string.h>

static const double *doubles(arena *a, const float *from, int64_t n)
{
    double *out = ARENA_ARRAY(a, double, (size_t)n + 1);
    for (int64_t i = 0; i < n; i++) out[i] = from[i];
    return out;
}

static const double *const *oracle_tables(const e2e_call *c)
{
    const attn_module_desc *d = attn_module_describe(c->m->loaded);
    const symbols *s = &c->m->ir->symbols;
    const double **out = ARENA_ARRAY(c->arena, const double *, s->tables.n + 1);
    for (size_t i = 0; i < s->tables.n; i++)
        for (uint32_t j = 0; j < d->n_inputs; j++)
            if (!s->tables.at[i].value && !strcmp(s->tables.at[i].name, d->inputs[j]->name)) out[i] = c->inputs[j];
    return out;
}

static const int32_t *const *oracle_attrs(const e2e_call *c, int32_t *const *all, int64_t token)
{
    const attn_module_desc *d = attn_module_describe(c->m->loaded);
    const symbols *s = &c->m->ir->symbols;
    const int32_t **out = ARENA_ARRAY(c->arena, const int32_t *, s->attrs.n + 1);
    for (size_t i = 0; i < s->attrs.n; i++)
        for (uint32_t j = 0; j < d->n_attrs; j++)
            if (!strcmp(s->attrs.at[i], d->attrs[j])) out[i] = all[j] + token;
    return out;
}

static interp_sequence *oracle_sequences(const e2e_call *c)
{
    const attn_kind_desc *d = c->kind;
    arena *a = c->arena;
    const double *q = doubles(a, c->q, c->n_q), *k = doubles(a, c->k, c->n_k), *v = doubles(a, c->v, c->n_v);
    interp_sequence *seqs = ARENA_ARRAY(a, interp_sequence, c->n_seqs + 1u);
    int64_t at_q = 0, at_k = 0;
    for (uint32_t i = 0; i < c->n_seqs; i++) {
        seqs[i] = (interp_sequence){.n_q = c->q_lens[i],
                                    .pos = c->positions[i],
                                    .n_keys = c->k_lens[i],
                                    .q = q + at_q * d->q_heads * d->dim,
                                    .k = k + at_k * d->kv_heads * d->dim,
                                    .v = v + at_k * d->kv_heads * d->dim_v,
                                    .len = c->lens ? c->lens + at_q : NULL,
                                    .q_attr = oracle_attrs(c, c->q_attrs, at_q),
                                    .k_attr = oracle_attrs(c, c->k_attrs, at_k),
                                    .o = c->want_o + at_q * d->q_heads * d->dim_v,
                                    .lse = c->want_lse + at_q * d->q_heads};
        at_q += c->q_lens[i], at_k += c->k_lens[i];
    }
    return seqs;
}

/* Infinities and NaN only equal themselves. */
static double distance(double a, double b)
{
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b) ? 0 : INFINITY;
    return a == b ? 0 : fabs(a - b);
}

static double largest_error(const double *want, const float *got, int64_t n, int64_t *where)
{
    double worst = -1;
    for (int64_t i = 0; i < n; i++) {
        double e = distance(want[i], got[i]);
        if (e > worst) worst = e, *where = i;
    }
    return worst < 0 ? 0 : worst;
}

static bool run_oracle(e2e_call *c)
{
    c->want_o = ARENA_ARRAY(c->arena, double, (size_t)c->n_o + 1);
    c->want_lse = ARENA_ARRAY(c->arena, double, (size_t)c->n_lse + 1);
    interp_sequence *seqs = oracle_sequences(c);
    const double *const *tables = oracle_tables(c);
    const interp_options o = {.layer = c->layer, .tables = tables};
    const char *wrong = interp_run(c->m->definition[c->m->ir->schedule[c->layer]], seqs, c->n_seqs, &o);
    if (wrong) return e2e_fail("the oracle: %s", wrong);
    float *plain_o = ARENA_ARRAY(c->arena, float, (size_t)c->n_o + 1),
          *plain_lse = ARENA_ARRAY(c->arena, float, (size_t)c->n_lse + 1);
    double error_o = 0, error_lse = 0;
    const plain_call plain = {.arena = c->arena, .module = c->m->ir, .pattern = c->pattern, .tables = tables, .layer = c->layer,
                              .n_seqs = c->n_seqs, .half_output = c->half_output};
    for (int way = 0; way < PLAIN_WAYS; way++) {
        int64_t where;
        plain_attention(&plain, (plain_way)way, seqs, plain_o, plain_lse);
        error_o = fmax(error_o, largest_error(c->want_o, plain_o, c->n_o, &where));
        error_lse = fmax(error_lse, largest_error(c->want_lse, plain_lse, c->n_lse, &where));
    }
    if (isinf(error_o) || isinf(error_lse)) return e2e_fail("the plain computation overflows: this case says nothing");
    c->allowed_o = 2 * error_o + 1e-5;
    /* Kernels scale the queries before the product, which rounds once more: 4 units of the last place of the largest
     * lse. */
    double largest = 0;
    for (int64_t i = 0; i < c->n_lse; i++)
        if (isfinite(c->want_lse[i])) largest = fmax(largest, fabs(c->want_lse[i]));
    c->allowed_lse = 2 * error_lse + 1e-5 + largest * 0x1p-21;
    return true;
}

static bool compare(const e2e_call *c, const char *what, const double *want, const float *got, int64_t width,
                    double allowed)
{
    int64_t at = 0;
    double error = largest_error(want, got, c->n_lse * width, &at);
    if (error <= allowed) return true;
    int64_t row = at / width / c->kind->q_heads, head = at / width % c->kind->q_heads;
    uint32_t s = 0;
    while (row >= c->q_lens[s]) row -= c->q_lens[s++];
    return e2e_fail("%s: error %.3g, allowed %.3g: sequence %u, query %lld, head %lld, element %lld is %.9g, not %.9g",
                    what, error, allowed, s, (long long)row, (long long)head, (long long)(at % width), got[at],
                    want[at]);
}

bool e2e_matches(e2e_call *c)
{
    if (!c->want_o && !run_oracle(c)) return false;
    bool same = compare(c, "o", c->want_o, c->o, c->kind->dim_v, c->allowed_o);
    return compare(c, "lse", c->want_lse, c->lse, 1, c->allowed_lse) && same;
}
