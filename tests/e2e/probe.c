/* probe.c - the visibility probe: which keys does each row of a compiled kernel really see? */
#include "tests/e2e/harness.h"

#include <math.h>
#include <stdio.h>

static bool sees(const e2e_call *c, uint32_t s, int64_t q0, int64_t k0, int64_t row, int64_t key, int64_t h,
                 e2e_visible *see, const void *ctx)
{
    e2e_pair x = {.q = c->positions[s] + row, .k = key, .h = h, .layer = c->layer};
    for (size_t i = 0; i < c->m->ir->symbols.attrs.n; i++) {
        x.q_attr[i] = c->q_attrs[i][q0 + row];
        x.k_attr[i] = c->k_attrs[i][k0 + key];
    }
    return see(&x, ctx);
}

/* One row of one head; q0, k0: the sequence's first tokens. */
static bool check_row(const e2e_call *c, uint32_t s, int64_t q0, int64_t k0, int64_t row, int64_t h, e2e_visible *see,
                      const void *ctx)
{
    const attn_kind_desc *d = c->kind;
    double sum[MODULE_MAX_DIM] = {0};
    int64_t n = 0, at = (q0 + row) * d->q_heads + h, g = h * d->kv_heads / d->q_heads;
    for (int64_t key = 0; key < c->k_lens[s]; key++) {
        if (!sees(c, s, q0, k0, row, key, h, see, ctx)) continue;
        n++;
        for (uint32_t i = 0; i < d->dim_v; i++) sum[i] += c->v[((k0 + key) * d->kv_heads + g) * d->dim_v + i];
    }
    bool right = n ? fabs(c->lse[at] - log((double)n)) < 1e-5 : c->lse[at] == -INFINITY;
    for (uint32_t i = 0; i < d->dim_v && right; i++)
        right = fabs(c->o[at * d->dim_v + i] - (n ? sum[i] / (double)n : 0)) < 1e-6;
    if (right) return true;
    printf("sequence %u, query %lld (position %lld), head %lld sees about %.2f keys, not just its own %lld\n  in: %s\n",
           s, (long long)row, (long long)(c->positions[s] + row), (long long)h, exp(c->lse[at]), (long long)n,
           e2e_get_note());
    return false;
}

static bool check_all(const e2e_call *c, e2e_visible *see, const void *ctx)
{
    int64_t q0 = 0, k0 = 0;
    for (uint32_t s = 0; s < c->n_seqs; s++) {
        for (int64_t row = 0; row < c->q_lens[s]; row++)
            for (int64_t h = 0; h < c->kind->q_heads; h++)
                if (!check_row(c, s, q0, k0, row, h, see, ctx)) return false;
        q0 += c->q_lens[s], k0 += c->k_lens[s];
    }
    return true;
}

static void write_codes(e2e_call *c, unsigned long long *seed)
{
    const attn_kind_desc *d = c->kind;
    for (int64_t i = 0; i < c->total_q * d->q_heads * d->dim; i++) c->q[i] = (float)e2e_uniform(seed);
    for (int64_t i = 0; i < c->total_k * d->kv_heads * d->dim; i++) c->k[i] = 0;
    for (int64_t i = 0; i < c->total_k * d->kv_heads * d->dim_v; i++) c->v[i] = e2e_uniform(seed) < 0 ? -1 : 1;
    e2e_values_changed(c);
}

/* NaN in every query but one, and in all keys and values of other sequences and of those that no head of that query's
 * group sees. */
static void poison(e2e_call *c, uint32_t chosen, int64_t q0, int64_t k0, int64_t row, e2e_visible *see, const void *ctx)
{
    const attn_kind_desc *d = c->kind;
    int64_t group = d->q_heads / d->kv_heads;
    for (int64_t t = 0; t < c->total_q; t++)
        for (int64_t i = 0; i < d->q_heads * d->dim && t != q0 + row; i++) c->q[t * d->q_heads * d->dim + i] = NAN;
    for (int64_t t = 0; t < c->total_k; t++)
        for (int64_t g = 0; g < d->kv_heads; g++) {
            bool seen = false;
            for (int64_t h = g * group; h < (g + 1) * group && t >= k0 && t < k0 + c->k_lens[chosen]; h++)
                seen |= sees(c, chosen, q0, k0, row, t - k0, h, see, ctx);
            if (seen) continue;
            for (uint32_t i = 0; i < d->dim; i++) c->k[(t * d->kv_heads + g) * d->dim + i] = NAN;
            for (uint32_t i = 0; i < d->dim_v; i++) c->v[(t * d->kv_heads + g) * d->dim_v + i] = NAN;
        }
}

static bool check_poisoned(e2e_call *c, e2e_visible *see, const void *ctx, unsigned long long *seed)
{
    if (!c->total_q) return true;
    int64_t row = e2e_below(seed, c->total_q), q0 = 0, k0 = 0;
    uint32_t s = 0;
    while (row >= c->q_lens[s]) {
        row -= c->q_lens[s];
        q0 += c->q_lens[s], k0 += c->k_lens[s++];
    }
    poison(c, s, q0, k0, row, see, ctx);
    e2e_values_changed(c);
    bool ok = e2e_run(c);
    for (int64_t h = 0; h < c->kind->q_heads && ok; h++) ok = check_row(c, s, q0, k0, row, h, see, ctx);
    if (!ok) printf("  with NaN in all that this query does not see\n");
    return ok;
}

bool e2e_probe(e2e_call *c, e2e_visible *see, const void *ctx, unsigned long long *seed)
{
    write_codes(c, seed);
    return e2e_run(c) && check_all(c, see, ctx) && check_poisoned(c, see, ctx, seed);
}

bool e2e_probe_all(e2e_call *c, e2e_visible *see, const void *ctx, unsigned long long *seed)
{
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    for (size_t i = 0; i < n; i++) {
        c->isa = isa[i];
        e2e_note("%s, %s, layer %u, %lld queries, %lld keys", c->pattern->name, attn_isa_name((uint32_t)isa[i]),
                 c->layer, (long long)c->total_q, (long long)c->total_k);
        if (!e2e_probe(c, see, ctx, seed)) return false;
    }
    return true;
}

bool e2e_matches_all(e2e_call *c)
{
    int32_t isa[E2E_MAX_ISAS];
    size_t n = e2e_isas(isa);
    for (size_t i = 0; i < n; i++)
        for (int way = 0; way < 3; way++) {
            c->isa = isa[i];
            c->layout = (e2e_layout)((i + (size_t)way) % E2E_LAYOUT_COUNT);
            c->threads = way ? 3 : 1;
            c->own_threads = way == 2;
            e2e_note("%s, %s, layer %u, layout %d, %u threads", c->pattern->name, attn_isa_name((uint32_t)isa[i]),
                     c->layer, c->layout, c->threads);
            if (!e2e_run(c) || !e2e_matches(c)) return false;
        }
    c->layout = E2E_PACKED, c->threads = 1, c->own_threads = false;
    return true;
}
