/* plan_check.c - the caller's lengths, positions, attributes and inputs, checked and copied into the plan. */
#include "plan.h"

#include "error.h"
#include "tensor.h"

#include <string.h>

/* ---- lengths -------------------------------------------------------------------------------------------------- */

static attn_status check_length(const char *what, uint32_t seq, int64_t n, attn_error *err)
{
    if (n < 0 || n > PLAN_MAX_TOKENS)
        return attni_fail(err, ATTN_E_ARGUMENT, "%s[%u] is %lld; 0 to %lld are possible", what, seq, (long long)n,
                          (long long)PLAN_MAX_TOKENS);
    return ATTN_OK;
}

static attn_status read_sequence(const attn_plan *p, const attn_plan_config *c, uint32_t i, attn_seq *seq,
                                 attn_error *err)
{
    seq->n_q = c->q_lens[i];
    seq->n_keys = c->k_lens ? c->k_lens[i] : seq->n_q;
    attn_status s = check_length("q_lens", i, seq->n_q, err);
    if (!s) s = check_length("k_lens", i, seq->n_keys, err);
    if (s) return s;
    if (p->kind->max_len > 0 && seq->n_keys > p->kind->max_len)
        return attni_fail(err, ATTN_E_ARGUMENT, "sequence %u has %lld tokens; '%s' says max_len %lld", i,
                          (long long)seq->n_keys, p->kind->name, (long long)p->kind->max_len);
    seq->pos = c->positions ? c->positions[i] : seq->n_keys - seq->n_q;
    if (seq->pos < 0 && !c->positions)
        return attni_fail(err, ATTN_E_ARGUMENT,
                          "sequence %u has %lld queries but %lld keys; say at which positions they stand", i,
                          (long long)seq->n_q, (long long)seq->n_keys);
    if (seq->pos < 0 || seq->pos > PLAN_MAX_TOKENS - seq->n_q)
        return attni_fail(err, ATTN_E_ARGUMENT, "positions[%u] is %lld; with %lld queries 0 to %lld are possible", i,
                          (long long)seq->pos, (long long)seq->n_q, (long long)(PLAN_MAX_TOKENS - seq->n_q));
    return ATTN_OK;
}

static void *widen(attn_plan *p, void *at, size_t *cap, size_t want, size_t size)
{
    return attni_widen(&p->mem, at, want, cap, size);
}

static attn_status take_sequences(attn_plan *p, uint32_t n)
{
    const uint32_t n_attrs = p->module->desc.n_attrs;
    p->n_seqs = n;
    p->q_total = p->k_total = 0;
    p->seqs = widen(p, p->seqs, &p->cap.seqs, (size_t)n * p->n_groups, sizeof *p->seqs);
    p->key_bounds = widen(p, p->key_bounds, &p->cap.key_bounds, n, sizeof *p->key_bounds);
    p->attr_at = widen(p, p->attr_at, &p->cap.attr_at, (p->past ? 1 : 2) * (size_t)n * n_attrs, sizeof *p->attr_at);
    return p->mem.failed ? ATTN_E_MEMORY : ATTN_OK;
}

static attn_status read_sequences(attn_plan *p, const attn_plan_config *c, attn_error *err)
{
    if (c->n_seqs > INT32_MAX) return attni_fail(err, ATTN_E_ARGUMENT, "n_seqs is %u", c->n_seqs);
    if (c->n_seqs && !c->q_lens) return attni_fail(err, ATTN_E_ARGUMENT, "q_lens is NULL");
    if (take_sequences(p, c->n_seqs)) return attni_no_memory(err);
    for (uint32_t i = 0; i < c->n_seqs; i++) {
        attn_seq *seq = attni_plan_seq(p, i);
        attn_status s = read_sequence(p, c, i, seq, err);
        if (s) return s;
        p->q_total += seq->n_q;
        p->k_total += seq->n_keys;
    }
    return ATTN_OK;
}

/* ---- attributes ----------------------------------------------------------------------------------------------- */

static attn_status check_attrs(const attn_plan *p, const attn_plan_config *c, attn_error *err)
{
    const attn_module_desc *d = &p->module->desc;
    if (!c->q_attrs)
        return attni_fail(err, ATTN_E_MISSING, "the module has attributes ('%s' ..); q_attrs is NULL", d->attrs[0]);
    for (uint32_t a = 0; a < d->n_attrs; a++) {
        if (p->q_total && !c->q_attrs[a])
            return attni_fail(err, ATTN_E_MISSING, "attribute '%s' of the queries was not given", d->attrs[a]);
        if (c->k_attrs && p->k_total && !c->k_attrs[a])
            return attni_fail(err, ATTN_E_MISSING, "attribute '%s' of the keys was not given", d->attrs[a]);
    }
    for (uint32_t i = 0; !c->k_attrs && i < p->n_seqs; i++)
        if (p->seqs[i].n_q != p->seqs[i].n_keys)
            return attni_fail(err, ATTN_E_MISSING, "sequence %u has other keys than queries; give k_attrs", i);
    return ATTN_OK;
}

/* One block: all values of all attributes, then the sequences point into it. */
static int32_t *copy_values(memory *m, const int32_t *const *from, uint32_t n_attrs, int64_t total)
{
    int32_t *values = attni_alloc(m, (size_t)total, n_attrs * sizeof *values);
    for (uint32_t a = 0; values && total && a < n_attrs; a++)
        memcpy(values + a * total, from[a], (size_t)total * sizeof *values);
    return values;
}

static attn_status read_attrs(attn_plan *p, const attn_plan_config *c, attn_error *err)
{
    const uint32_t n = p->module->desc.n_attrs;
    if (!n) return ATTN_OK;
    attn_status s = check_attrs(p, c, err);
    if (s) return s;
    int32_t *q = copy_values(&p->mem, c->q_attrs, n, p->q_total);
    int32_t *k = c->k_attrs ? copy_values(&p->mem, c->k_attrs, n, p->k_total) : q;
    const int32_t **at = p->attr_at;
    if (p->mem.failed) return attni_no_memory(err);
    int64_t q_row = 0, k_row = 0;
    for (uint32_t i = 0; i < p->n_seqs; i++, at += 2 * n) {
        for (uint32_t a = 0; a < n; a++) at[a] = q + a * p->q_total + q_row, at[n + a] = k + a * p->k_total + k_row;
        p->seqs[i].q_attr = at;
        p->seqs[i].k_attr = at + n;
        q_row += p->seqs[i].n_q;
        k_row += p->seqs[i].n_keys;
        if (p->kind->n_data) p->key_bounds[i] = attni_mask_key_bounds(&p->mem, &p->seqs[i], n);
    }
    return p->mem.failed ? attni_no_memory(err) : ATTN_OK;
}

/* ---- inputs --------------------------------------------------------------------------------------------------- */

static attn_status bind_input(const attn_input_desc *d, const DLTensor *t, const void **to, attn_error *err)
{
    if (!t) return attni_fail(err, ATTN_E_MISSING, "input '%s' was not given", d->name);
    const DLDataType type = d->is_int ? (DLDataType){kDLInt, 32, 1} : attni_dl_type(ATTN_F32);
    const tensor_want want = {.name = d->name, .rank0 = (int)d->rank, .rank1 = (int)d->rank, .type = type};
    tensor given;
    attn_status s = attni_tensor_read(t, &want, &given, err);
    if (s) return s;
    for (uint32_t i = 0; i < d->rank; i++)
        if (given.shape[i] != d->extent[i])
            return attni_fail(err, ATTN_E_SHAPE, "input '%s': shape[%u] is %lld, not %lld", d->name, i,
                              (long long)given.shape[i], (long long)d->extent[i]);
    if (!attni_tensor_compact(&given, 4))
        return attni_fail(err, ATTN_E_STRIDE, "input '%s' is not contiguous", d->name);
    *to = given.base;
    return ATTN_OK;
}

attn_status attni_bind_inputs(const attn_module_desc *d, const DLTensor *const *inputs, const void **to,
                              attn_error *err)
{
    for (uint32_t i = 0; i < d->n_inputs; i++) {
        attn_status s = bind_input(d->inputs[i], inputs[i], &to[i], err);
        if (s) return s;
    }
    return ATTN_OK;
}

static attn_status read_inputs(attn_plan *p, const attn_plan_config *c, attn_error *err)
{
    const attn_module_desc *d = &p->module->desc;
    if (!d->n_inputs) return ATTN_OK;
    if (c->inputs) return attni_bind_inputs(d, c->inputs, p->inputs, err);
    if (p->kind->flags & ATTN_KIND_MASK_INPUTS)
        return attni_fail(err, ATTN_E_MISSING, "the mask of '%s' reads run-time inputs; the plan needs them",
                          p->kind->name);
    return ATTN_OK;
}

/* ---- from a cache ----------------------------------------------------------------------------------------------- */

/* The cache keeps attributes by position: nothing to copy. */
static void use_past(attn_plan *p, uint32_t i, attn_seq *seq)
{
    const uint32_t n_attrs = p->module->desc.n_attrs, groups = p->n_groups;
    const plan_past *past = &p->past[(size_t)i * groups];
    const int32_t **at = p->attr_at + (size_t)i * n_attrs;
    for (uint32_t a = 0; a < n_attrs; a++) at[a] = past->attrs[a] + seq->pos;
    seq->q_attr = n_attrs ? at : NULL;
    seq->k_attr = n_attrs ? past->attrs : NULL;
    p->key_bounds[i] = past->bounds;
    for (uint32_t g = 1; g < groups; g++) seq[g] = *seq;
    for (uint32_t g = 0; g < groups; g++) seq[g].k_pages = seq[g].v_pages = past[g].pages;
}

static attn_status read_past(attn_plan *p, const attn_plan_config *c, const plan_given *given, attn_error *err)
{
    if (take_sequences(p, c->n_seqs)) return attni_no_memory(err);
    for (uint32_t i = 0; i < c->n_seqs; i++) {
        attn_seq *seq = attni_plan_seq(p, i);
        seq->n_q = c->q_lens[i];
        seq->pos = c->positions[i];
        seq->n_keys = c->k_lens[i];
        p->q_total += seq->n_q;
        p->k_total += seq->n_keys;
        use_past(p, i, seq);
    }
    for (uint32_t i = 0; i < p->module->desc.n_inputs; i++) p->inputs[i] = given->inputs[i];
    return ATTN_OK;
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

attn_status attni_plan_choose(attn_plan *p, const attn_plan_config *c, attn_error *err)
{
    const attn_module_desc *d = &p->module->desc;
    if (c->workers > PLAN_MAX_WORKERS)
        return attni_fail(err, ATTN_E_ARGUMENT, "workers is %u; at most %d", c->workers, PLAN_MAX_WORKERS);
    if (c->layer >= d->n_layers)
        return attni_fail(err, ATTN_E_ARGUMENT, "layer %u: module '%s' has %u layers", c->layer, d->name, d->n_layers);
    p->layer = c->layer;
    p->workers = c->workers ? c->workers : 1;
    p->kind = attni_module_kind(p->module, c->layer);
    p->kernel = c->isa < 0 ? attn_module_kernel(p->module, c->layer) : attni_kind_kernel(p->kind, c->isa);
    if (p->kernel) return ATTN_OK;
    return attni_fail(err, ATTN_E_ISA, "'%s' has no kernel for %s that runs here", p->kind->name,
                      attn_isa_name((uint32_t)c->isa));
}

attn_status attni_plan_check(attn_plan *p, const attn_plan_config *c, const plan_given *given, attn_error *err)
{
    if (given) return read_past(p, c, given, err);
    attn_status s = read_sequences(p, c, err);
    if (!s) s = read_attrs(p, c, err);
    if (!s) s = read_inputs(p, c, err);
    return s;
}
