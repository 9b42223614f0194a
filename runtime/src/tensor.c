/* tensor.c - what of a DLTensor kernels can use, and a sentence about what they cannot. */
#include "tensor.h"

#include "error.h"

DLDataType attni_dl_type(uint32_t dtype)
{
    switch ((attn_dtype)dtype) {
    case ATTN_F32:
        return (DLDataType){kDLFloat, 32, 1};
    case ATTN_F16:
        return (DLDataType){kDLFloat, 16, 1};
    case ATTN_BF16:
        return (DLDataType){kDLBfloat, 16, 1};
    }
    return (DLDataType){0};
}

static bool same_type(DLDataType a, DLDataType b) { return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes; }

static const char *type_name(DLDataType t)
{
    static const struct {
        DLDataType type;
        const char *name;
    } names[] = {
        {{kDLFloat, 32, 1}, "f32"}, {{kDLFloat, 16, 1}, "f16"}, {{kDLBfloat, 16, 1}, "bf16"},
        {{kDLFloat, 64, 1}, "f64"}, {{kDLInt, 32, 1}, "int32"}, {{kDLInt, 64, 1}, "int64"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (same_type(t, names[i].type)) return names[i].name;
    return "of a type that attn does not know";
}

/* Byte strides; checks that addresses stay within 64 bits. */
static attn_status read_strides(const DLTensor *t, const tensor_want *want, tensor *out, attn_error *err)
{
    const int64_t element = t->dtype.bits / 8;
    int64_t compact = element, reach = 0, span;
    for (int i = t->ndim - 1; i >= 0; i--) {
        const int64_t n = t->shape[i];
        int64_t stride = compact;
        if (t->strides && n > 1 && __builtin_mul_overflow(t->strides[i], element, &stride)) stride = -1;
        if (stride < 0)
            return attni_fail(err, ATTN_E_STRIDE, "%s: strides[%d] is %lld; strides must not be negative or huge",
                              want->name, i, (long long)t->strides[i]);
        if (__builtin_mul_overflow(compact, n > 0 ? n : 1, &compact) ||
            __builtin_mul_overflow(stride, n > 0 ? n - 1 : 0, &span) || __builtin_add_overflow(reach, span, &reach))
            return attni_fail(err, ATTN_E_SHAPE, "%s: is larger than memory", want->name);
        out->shape[i] = n;
        out->stride[i] = stride;
    }
    return ATTN_OK;
}

/* Sufficient: by rising stride, each dimension steps over all that lies inside it. */
static bool overlaps(const tensor *t, int64_t element)
{
    bool used[TENSOR_MAX_RANK] = {false};
    int64_t inner = element;
    for (int round = 0; round < t->rank; round++) {
        int least = -1;
        for (int i = 0; i < t->rank; i++)
            if (!used[i] && t->shape[i] > 1 && (least < 0 || t->stride[i] < t->stride[least])) least = i;
        if (least < 0) return false;
        if (t->stride[least] < inner) return true;
        used[least] = true;
        inner += (t->shape[least] - 1) * t->stride[least];
    }
    return false;
}

static attn_status check_layout(const tensor *t, const tensor_want *want, int64_t element, attn_error *err)
{
    const int last = t->rank - 1;
    if (want->contiguous_last && t->rank && t->shape[last] > 1 && t->stride[last] != element)
        return attni_fail(err, ATTN_E_STRIDE, "%s: the last dimension must be contiguous; its stride is %lld elements",
                          want->name, (long long)(t->stride[last] / element));
    if ((uintptr_t)t->base % (uint64_t)element)
        return attni_fail(err, ATTN_E_STRIDE, "%s: its address is not a multiple of its element's size", want->name);
    if (want->written && overlaps(t, element))
        return attni_fail(err, ATTN_E_STRIDE, "%s: is written to, but some of its elements share memory", want->name);
    return ATTN_OK;
}

static attn_status check_header(const DLTensor *t, const tensor_want *want, attn_error *err)
{
    if (t->device.device_type != kDLCPU)
        return attni_fail(err, ATTN_E_DEVICE, "%s: is on device type %d; attn computes in CPU memory", want->name,
                          (int)t->device.device_type);
    const DLDataType f32 = attni_dl_type(ATTN_F32);
    if (!same_type(t->dtype, want->type) && !(want->or_f32 && same_type(t->dtype, f32)))
        return attni_fail(err, ATTN_E_DTYPE, "%s: is %s (code %d, %d bits, %d lanes), not %s%s", want->name,
                          type_name(t->dtype), t->dtype.code, t->dtype.bits, t->dtype.lanes, type_name(want->type),
                          want->or_f32 && !same_type(want->type, f32) ? " or f32" : "");
    if (t->ndim < want->rank0 || t->ndim > want->rank1)
        return attni_fail(err, ATTN_E_SHAPE, "%s: has %d dimensions, not %d%s", want->name, t->ndim, want->rank0,
                          want->rank1 > want->rank0 ? " (packed) or one more (batch)" : "");
    if (t->ndim && !t->shape) return attni_fail(err, ATTN_E_ARGUMENT, "%s: its shape is NULL", want->name);
    return ATTN_OK;
}

attn_status attni_tensor_read(const DLTensor *t, const tensor_want *want, tensor *out, attn_error *err)
{
    if (!t) return attni_fail(err, ATTN_E_ARGUMENT, "%s is NULL", want->name);
    attn_status s = check_header(t, want, err);
    if (s) return s;
    bool empty = false;
    for (int i = 0; i < t->ndim; i++) {
        if (t->shape[i] < 0)
            return attni_fail(err, ATTN_E_SHAPE, "%s: shape[%d] is %lld", want->name, i, (long long)t->shape[i]);
        empty |= t->shape[i] == 0;
    }
    if (!t->data && !empty) return attni_fail(err, ATTN_E_ARGUMENT, "%s: its data is NULL", want->name);
    *out = (tensor){.base = t->data ? (char *)t->data + t->byte_offset : NULL,
                    .rank = t->ndim,
                    .f32 = same_type(t->dtype, attni_dl_type(ATTN_F32))};
    s = read_strides(t, want, out, err);
    return s || empty ? s : check_layout(out, want, t->dtype.bits / 8, err);
}

bool attni_tensor_compact(const tensor *t, int64_t element)
{
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->shape[i] > 1 && t->stride[i] != element) return false;
        element *= t->shape[i];
    }
    return true;
}
