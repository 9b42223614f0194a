"""ours.py - the runtime and the bursts by ctypes: our kernels on NumPy's memory, in the process of the peers."""
import ctypes as c
import subprocess

import numpy as np

import cases

P = c.c_void_p
KDL_INT, KDL_FLOAT, KDL_BFLOAT = 0, 2, 4  # dlpack.h
F32_BURST = ((3, 2), (2, 2), (1, 1), (0, 0))  # instruction set (attn_isa): burst_kind of f32; bf16 has its own where there is one
BF16_ISA, BF16_BURST = 3, 3


class DLTensor(c.Structure):
    _fields_ = [("data", P), ("device_type", c.c_int32), ("device_id", c.c_int32), ("ndim", c.c_int32), ("code", c.c_uint8),
                ("bits", c.c_uint8), ("lanes", c.c_uint16), ("shape", P), ("strides", P), ("byte_offset", c.c_uint64)]


class PlanConfig(c.Structure):
    _fields_ = [("size", c.c_size_t), ("layer", c.c_uint32), ("n_seqs", c.c_uint32), ("q_lens", P), ("k_lens", P), ("positions", P),
                ("q_attrs", P), ("k_attrs", P), ("inputs", P), ("workers", c.c_uint32), ("isa", c.c_int32), ("allocator", P),
                ("max_parts", c.c_uint32), ("group", c.c_uint32)]


class Tensors(c.Structure):
    _fields_ = [("size", c.c_size_t), ("q", P), ("k", P), ("v", P), ("o", P), ("lse", P), ("inputs", P), ("layer", c.c_uint32)]


class Stats(c.Structure):
    _fields_ = [("size", c.c_size_t), ("items", c.c_int64), ("segments", c.c_int64), ("pairs_computed", c.c_int64),
                ("pairs_visible", c.c_int64), ("bytes", c.c_uint64), ("kernel", c.c_char_p)]


class Error(c.Structure):
    _fields_ = [("text", c.c_char * 256)]


class OursError(RuntimeError):
    """attnc or the runtime refused."""


def stored(x, dtype):
    """The numbers as the type stores them; bf16 as 16-bit integers, since NumPy has no such type."""
    if dtype == "f32":
        return x
    return cases.aligned(cases.to_bf16(x) if dtype == "bf16" else x.astype(np.float16))


def describe(x, dtype="f32", axes=None):
    """A DLTensor of an array; `axes` orders them as the runtime wants. Keeps what it points to."""
    x_axes = x.transpose(axes) if axes else x
    shape = (c.c_int64 * x.ndim)(*x_axes.shape)
    strides = (c.c_int64 * x.ndim)(*(s // x.itemsize for s in x_axes.strides))
    code = KDL_INT if x.dtype == np.int32 else KDL_BFLOAT if dtype == "bf16" else KDL_FLOAT
    t = DLTensor(x.ctypes.data, 1, 0, x.ndim, code, x.itemsize * 8, 1, c.cast(shape, P), c.cast(strides, P), 0)
    t.keep = x, shape, strides
    return t


def pointers(list_of_structs):
    return (P * max(1, len(list_of_structs)))(*(c.addressof(t) for t in list_of_structs))


class Library:
    """libattn, attnc and the bursts of a build folder."""

    def __init__(self, build):
        self.build = build
        self.attn = c.CDLL(str(build / "runtime" / "libattn.so"))
        self.burst = c.CDLL(str(build / "bench" / "libattn_burst.so"))
        self.burst.burst_flops.restype = self.burst.burst_read.restype = c.c_double
        self.burst.burst_read.argtypes = P, c.c_size_t, P, c.c_size_t, c.c_uint32
        for name in ("module", "plan", "pool"):
            getattr(self.attn, f"attn_{name}_destroy").argtypes = (P,)

    def check(self, name, *args):
        error = Error()
        if getattr(self.attn, name)(*args, c.byref(error)):
            raise OursError(error.text.decode())

    def compile(self, case, folder):
        source, kernel = folder / "case.attn", folder / f"{case.file}.{case.name}.so"
        source.write_text(case.text)
        done = subprocess.run([self.build / "tools" / "attnc", source, "-o", kernel], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise OursError(f"attnc refuses {case.name}:\n{done.stderr}")
        return kernel

    def flops_burst(self, dtype, threads):
        """FLOP/s of multiply-adds in the widest registers, for bf16 of pairs where this machine has them."""
        if dtype == "bf16" and self.attn.attn_isa_available(BF16_ISA):
            return self.burst.burst_flops(BF16_BURST, threads)
        kind = next(kind for isa, kind in F32_BURST if self.attn.attn_isa_available(isa))
        return self.burst.burst_flops(kind, threads)

    def read_burst(self, a, b, threads):
        return self.burst.burst_read(a.ctypes.data, a.nbytes, b.ctypes.data, b.nbytes, threads)


class Kernel:
    """A case compiled, planned and bound to tensors: run() writes `out` [batch, heads, tokens, dim]."""

    TOKENS_FIRST = (0, 2, 1, 3)

    def __init__(self, library, path, case, data, tensors, threads):
        self.library, self.parts, self.plan, self.pool = library, [], P(), P()
        self.module = P()
        self.out = cases.aligned(np.full((case.batch, case.q_heads, case.q, case.dim), np.nan, np.float32))
        library.check("attn_module_load", str(path).encode(), None, c.byref(self.module))
        library.check("attn_pool_create", c.c_uint32(threads), None, c.byref(self.pool))
        self._inputs = [describe(x) for x in data.inputs.values()]
        self._make_plan(case, data, threads)
        q, k, v = (describe(x, case.dtype, self.TOKENS_FIRST) for x in tensors)
        o = describe(self.out, "f32", self.TOKENS_FIRST)
        inputs = pointers(self._inputs)
        self.tensors = Tensors(c.sizeof(Tensors), *(c.addressof(t) for t in (q, k, v, o)), None, c.cast(inputs, P) if self._inputs else None, 0)
        self.parts += [q, k, v, o, inputs]

    def _make_plan(self, case, data, threads):
        if len(data.attrs) > 1 or len(data.inputs) > 1:
            raise OursError(f"{case.name}: one attribute and one input at most")  # their order in the module is the compiler's
        longs = lambda n: (c.c_int64 * case.batch)(*[n] * case.batch)
        q_lens, k_lens = longs(case.q), longs(case.k)
        k_attrs = [np.ascontiguousarray(a, np.int32) for a in data.attrs.values()]
        q_attrs = [np.ascontiguousarray(a[:, case.k - case.q:]) for a in k_attrs]
        lists = [(P * max(1, len(a)))(*(x.ctypes.data for x in a)) for a in (q_attrs, k_attrs)]
        inputs = pointers(self._inputs)
        at = lambda x, there: c.cast(x, P) if there else None
        config = PlanConfig(c.sizeof(PlanConfig), 0, case.batch, c.cast(q_lens, P), c.cast(k_lens, P), None, at(lists[0], k_attrs),
                            at(lists[1], k_attrs), at(inputs, self._inputs), threads, -1, None, 0, 0)
        self.parts += [q_lens, k_lens, k_attrs, q_attrs, lists, inputs]
        self.library.check("attn_plan_create", self.module, c.byref(config), c.byref(self.plan))

    def run(self):
        self.library.check("attn_forward", self.plan, c.byref(self.tensors), self.pool)

    def stats(self):
        s = Stats(c.sizeof(Stats))
        if self.library.attn.attn_plan_get_stats(self.plan, c.byref(s)):
            raise OursError("no statistics")
        return s

    def close(self):
        attn = self.library.attn
        attn.attn_pool_destroy(self.pool), attn.attn_plan_destroy(self.plan), attn.attn_module_destroy(self.module)
