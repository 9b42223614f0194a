/* oracle.c - what the pattern means, computed by the interpreter from the text in the module. */
#include "tools/attn-run/oracle.h"
#include "ir/pass/pass.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the module's text ---------------------------------------------------------------------------------------------------------- */

static bool read_module(oracle *o, const problem *p, tool_error *err)
{
    diags d = {.arena = o->arena};
    const char *air = p->module->air;
    if (!air) return tool_fail(err, "--check: the module carries no definition to compare with");
    o->module = ir_module_read(o->arena, &d, diags_add_source(&d, "module", air, strlen(air)));
    if (!o->module) {
        diags_print(&d, stderr, DIAG_TEXT, false);
        return tool_fail(err, "--check: the module's definition cannot be read");
    }
    const char *wrong = passes_run(o->module, &(pass_options){.target = TARGET_NONE, .stop_after = pass_name(PASS_lower_pattern)});
    if (wrong) return tool_fail(err, "--check: %s", wrong);
    uint32_t kind = p->module->schedule[p->layer];
    if (kind >= o->module->patterns.n) return tool_fail(err, "--check: the module's definition lacks a pattern");
    o->pattern = o->module->patterns.at[kind];
    for (size_t i = 0; i < o->module->kernels.n; i++)
        if (o->module->kernels.at[i]->pattern == kind) o->kernel = o->module->kernels.at[i];
    return o->kernel || tool_fail(err, "--check: the module's definition lacks a kernel");
}

/* ---- its inputs ------------------------------------------------------------------------------------------------------------------- */

static double *doubles(oracle *o, const float *from, int64_t n)
{
    double *out = ARENA_ARRAY(o->arena, double, (size_t)n + 1);
    for (int64_t i = 0; i < n; i++)
        out[i] = from[i];
    return out;
}

static void fill_tables(oracle *o, const problem *p)
{
    const symbols *s = &o->module->symbols;
    o->tables = ARENA_ARRAY(o->arena, const double *, s->tables.n + 1);
    for (size_t i = 0; i < s->tables.n; i++)
        for (uint32_t j = 0; j < p->module->n_inputs; j++)
            if (!s->tables.at[i].value && !strcmp(s->tables.at[i].name, p->module->inputs[j]->name))
                o->tables[i] = doubles(o, p->inputs[j].values, p->inputs[j].count);
}

static const int32_t *const *attrs_at(oracle *o, const problem *p, int32_t *const *all, int64_t offset)
{
    const symbols *s = &o->module->symbols;
    const int32_t **out = ARENA_ARRAY(o->arena, const int32_t *, s->attrs.n + 1);
    for (size_t i = 0; i < s->attrs.n; i++)
        for (uint32_t j = 0; j < p->module->n_attrs; j++)
            if (!strcmp(s->attrs.at[i], p->module->attrs[j])) out[i] = all[j] + offset;
    return out;
}

static void fill_sequences(oracle *o, const problem *p, const int64_t *lens)
{
    const attn_kind_desc *d = p->kind;
    const double *q = doubles(o, p->q.values, p->q.count), *k = doubles(o, p->k.values, p->k.count);
    const double *v = doubles(o, p->v.values, p->v.count);
    double *out = ARENA_ARRAY(o->arena, double, (size_t)(p->total_q * d->q_heads * d->dim_v) + 1);
    double *lse = ARENA_ARRAY(o->arena, double, (size_t)(p->total_q * d->q_heads) + 1);
    int64_t at_q = 0, at_k = 0;
    o->seqs = ARENA_ARRAY(o->arena, interp_sequence, p->n_seqs + 1u);
    for (uint32_t s = 0; s < p->n_seqs; s++) {
        int64_t n_q = p->q_lens[s], n_k = p->k_lens[s];
        o->seqs[s] = (interp_sequence){.n_q = n_q,
                                       .pos = n_k - n_q,
                                       .n_keys = n_k,
                                       .q = q + at_q * d->q_heads * d->dim,
                                       .k = k + at_k * d->kv_heads * d->dim,
                                       .v = v + at_k * d->kv_heads * d->dim_v,
                                       .len = lens ? lens + at_q : NULL,
                                       .q_attr = attrs_at(o, p, p->q_attrs, at_q),
                                       .k_attr = attrs_at(o, p, p->k_attrs, at_k),
                                       .o = out + at_q * d->q_heads * d->dim_v,
                                       .lse = lse + at_q * d->q_heads};
        at_q += n_q, at_k += n_k;
    }
}

static void compute_plain(oracle *o, const problem *p)
{
    const attn_kind_desc *d = p->kind;
    const plain_call c = {.arena = o->arena, .module = o->module, .pattern = o->pattern, .tables = o->tables, .layer = p->layer,
                          .n_seqs = p->n_seqs};
    for (int way = 0; way < PLAIN_WAYS; way++) {
        o->plain_o[way] = ARENA_ARRAY(o->arena, float, (size_t)(p->total_q * d->q_heads * d->dim_v) + 1);
        o->plain_lse[way] = ARENA_ARRAY(o->arena, float, (size_t)(p->total_q * d->q_heads) + 1);
        plain_attention(&c, (plain_way)way, o->seqs, o->plain_o[way], o->plain_lse[way]);
    }
}

bool oracle_compute(oracle *o, const problem *p, const int64_t *lens, tool_error *err)
{
    *o = (oracle){.arena = arena_create(0, NULL, NULL)};
    if (!read_module(o, p, err)) return false;
    fill_tables(o, p);
    fill_sequences(o, p, lens);
    const char *wrong = interp_run(o->kernel, o->seqs, p->n_seqs, &(interp_options){.layer = p->layer, .tables = o->tables});
    if (wrong) return tool_fail(err, "--check: %s", wrong);
    compute_plain(o, p);
    return true;
}

void oracle_free(oracle *o)
{
    if (o->arena) arena_destroy(o->arena);
    *o = (oracle){0};
}

/* ---- comparison -------------------------------------------------------------------------------------------------------------------- */

/* How far apart: infinities and NaN only equal themselves. */
static double distance(double a, double b)
{
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b) ? 0 : INFINITY;
    return a == b ? 0 : fabs(a - b);
}

static void note_place(comparison *c, const problem *p, int64_t index, int64_t width)
{
    int64_t row = index / width / p->kind->q_heads, head = index / width % p->kind->q_heads;
    uint32_t s = 0;
    while (row >= p->q_lens[s])
        row -= p->q_lens[s++];
    snprintf(c->where, sizeof c->where, "sequence %u, query %lld, head %lld, dim %lld", s, (long long)row, (long long)head,
             (long long)(index % width));
}

/* The largest error of a plain computation; where it overflows it says nothing. */
static double plain_error(const double *want, float *const *plain, int64_t n)
{
    double largest = 0;
    for (int way = 0; way < PLAIN_WAYS; way++)
        for (int64_t i = 0; i < n; i++) {
            double e = distance(want[i], plain[way][i]);
            if (isfinite(e) && e > largest) largest = e;
        }
    return largest;
}

/* The largest error of `got` against 2 x the largest of the plain computations, plus 1e-5 (semantics: test method). */
static comparison compare(const problem *p, const double *want, float *const *plain, const float *got, int64_t width)
{
    comparison c = {.where = "nowhere"};
    int64_t n = p->total_q * p->kind->q_heads * width;
    for (int64_t i = 0; i < n; i++) {
        double e = distance(want[i], got[i]);
        if (e > c.error) {
            c.error = e;
            note_place(&c, p, i, width);
        }
    }
    c.allowed = 2 * plain_error(want, plain, n) + 1e-5;
    c.ok = c.error <= c.allowed;
    return c;
}

comparison oracle_compare_o(const oracle *o, const problem *p, const float *got)
{
    return compare(p, o->seqs[0].o, o->plain_o, got, p->kind->dim_v);
}

comparison oracle_compare_lse(const oracle *o, const problem *p, const float *got)
{
    return compare(p, o->seqs[0].lse, o->plain_lse, got, 1);
}
