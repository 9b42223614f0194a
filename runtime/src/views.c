/* views.c - checks the tensors of a call against the lengths of its plan. */
#include "views.h"

#include "error.h"

static int64_t tokens_of(const attn_seq *s, bool keys) { return keys ? s->n_keys : s->n_q; }

static attn_status check_extent(const char *name, int dim, int64_t is, int64_t want, const char *of, attn_error *err)
{
    if (is == want) return ATTN_OK;
    return attni_fail(err, ATTN_E_SHAPE, "%s: shape[%d] is %lld, not %lld (%s)", name, dim, (long long)is,
                      (long long)want, of);
}

static attn_status check_tokens(const attn_plan *p, const tensor *t, bool packed, const view_want *want,
                                attn_error *err)
{
    const char *name = want->tensor.name;
    if (packed)
        return check_extent(name, 0, t->shape[0], want->keys ? p->k_total : p->q_total, "tokens of all sequences", err);
    attn_status s = check_extent(name, 0, t->shape[0], p->n_seqs, "sequences of the plan", err);
    for (uint32_t i = 0; !s && i < p->n_seqs; i++)
        if (tokens_of(attni_plan_seq(p, i), want->keys) > t->shape[1])
            s = attni_fail(err, ATTN_E_SHAPE, "%s: shape[1] is %lld, but sequence %u of the plan has %lld tokens", name,
                           (long long)t->shape[1], i, (long long)tokens_of(attni_plan_seq(p, i), want->keys));
    return s;
}

attn_status attni_view_read(const attn_plan *p, const DLTensor *dl, const view_want *want, view *out, attn_error *err)
{
    tensor t;
    attn_status s = attni_tensor_read(dl, &want->tensor, &t, err);
    if (s) return s;
    const bool packed = t.rank == want->tensor.rank0;
    const int token = packed ? 0 : 1, head = token + 1;
    s = check_tokens(p, &t, packed, want, err);
    if (!s) s = check_extent(want->tensor.name, head, t.shape[head], want->heads, want->heads_of, err);
    if (!s && want->dim)
        s = check_extent(want->tensor.name, head + 1, t.shape[head + 1], want->dim, "elements a head", err);
    *out = (view){.base = t.base,
                  .batch_stride = packed ? 0 : t.stride[0],
                  .token_stride = t.stride[token],
                  .head_stride = t.stride[head],
                  .packed = packed,
                  .f32 = t.f32};
    return s;
}
