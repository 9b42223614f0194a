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

static attn_status look_at(const attn_plan *p, const DLTensor *dl, const view_want *want, view *out, attn_error *err)
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

static void remember(seen_tensor *s, const DLTensor *t, const view *v)
{
    s->known = true;
    s->strided = t->strides != NULL;
    s->type = t->dtype;
    s->ndim = t->ndim;
    s->view = *v;
    for (int i = 0; i < t->ndim; i++) {
        s->shape[i] = t->shape[i];
        s->strides[i] = t->strides ? t->strides[i] : 0;
    }
}

attn_status attni_view_read(const attn_plan *p, const DLTensor *dl, const view_want *want, seen_tensor *seen, view *out,
                            attn_error *err)
{
    seen->known = false;
    attn_status s = look_at(p, dl, want, out, err);
    if (!s) remember(seen, dl, out);
    return s;
}

bool attni_view_again(const seen_tensor *s, const DLTensor *t, view *out)
{
    if (!s->known || !t || !t->data || !t->shape || t->ndim != s->ndim || t->device.device_type != kDLCPU) return false;
    if (t->dtype.code != s->type.code || t->dtype.bits != s->type.bits || t->dtype.lanes != s->type.lanes) return false;
    if ((t->strides != NULL) != s->strided) return false;
    const uint64_t address = (uintptr_t)t->data + t->byte_offset;
    bool same = !(address & (s->type.bits / 8u - 1)); /* elements have 2 or 4 bytes */
    for (int i = 0; i < s->ndim; i++) same &= t->shape[i] == s->shape[i];
    for (int i = 0; s->strided && i < s->ndim; i++) same &= t->strides[i] == s->strides[i];
    *out = s->view;
    out->base = (char *)t->data + t->byte_offset;
    return same;
}
