"""llamacpp.py - llama.cpp as a peer: its Python package brings ggml as libraries, whose C interface has flash attention as one operator.

The package's own Python interface runs whole models only; so the operator is called by ctypes, one node in a graph, on NumPy's memory.
"""
import ctypes as c
import importlib.util
import pathlib

import numpy as np

import cases
from peers import Absent, Call, Unsupported

P, I64, F = c.c_void_p, c.c_int64, c.c_float
TYPES = {"f32": 0, "f16": 1, "bf16": 30}  # ggml_type
PRECISION_F32 = 10                        # ggml_prec
ROWS_PAD = 64                             # rows of a mask come in so many
SOME_MIB = 16                             # for descriptions of tensors and the graph


class InitParams(c.Structure):
    _fields_ = [("mem_size", c.c_size_t), ("mem_buffer", P), ("no_alloc", c.c_bool)]


SIGNATURES = {
    "ggml_init": (P, InitParams), "ggml_free": (None, P), "ggml_new_tensor_4d": (P, P, c.c_int, I64, I64, I64, I64),
    "ggml_new_graph": (P, P), "ggml_build_forward_expand": (None, P, P), "ggml_nbytes": (c.c_size_t, P),
    "ggml_flash_attn_ext": (P, P, P, P, P, P, F, F, F), "ggml_flash_attn_ext_set_prec": (None, P, c.c_int),
    "ggml_flash_attn_ext_add_sinks": (None, P, P), "ggml_backend_cpu_buffer_from_ptr": (P, P, c.c_size_t),
    "ggml_backend_tensor_alloc": (None, P, P, P), "ggml_backend_cpu_init": (P,), "ggml_backend_cpu_set_n_threads": (None, P, c.c_int),
    "ggml_backend_graph_compute": (c.c_int, P, P),
}


class Ggml:
    """The functions that are needed, whichever library of the package has them."""

    def __init__(self, folder):
        libraries = [c.CDLL(str(p)) for name in ("libggml-base", "libggml-cpu", "libggml") for p in sorted(folder.glob(name + ".so"))]
        for name, (result, *args) in SIGNATURES.items():
            f = next((getattr(lib, name) for lib in libraries if hasattr(lib, name)), None)
            if f is None:
                raise Absent(f"{folder.parent.name} is installed, but its ggml has no {name}")
            f.restype, f.argtypes = result, args
            setattr(self, name[5:], f)


def find_package(module):
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # there is something of this name that was never a package
        spec = None
    if not spec or not spec.submodule_search_locations:
        raise Absent(f"{module} is not installed")
    return pathlib.Path(spec.submodule_search_locations[0]) / "lib"


def mask_of(case, data):
    """float16 [rows, keys]: 0, or minus the distance for ALiBi, whose slopes ggml multiplies; -inf where nothing is seen."""
    if case.sees_all and not case.score:
        return None
    if "block(" in case.mask or data.attrs and case.batch > 1:
        raise Unsupported("a mask for each head or sequence")
    q, k = np.arange(case.q)[:, None] + case.k - case.q, np.arange(case.k)[None]
    see = cases.visible(case, 0, 0, q, k, {**data.attrs, **data.inputs})
    rows = -(-case.q // ROWS_PAD) * ROWS_PAD
    mask = np.full((rows, case.k), -np.inf, np.float16)
    mask[:case.q] = np.where(see, -np.abs(q - k) if case.score == "alibi" else 0, -np.inf)
    return mask


class Graph:
    """One flash attention node over memory that is there already."""

    def __init__(self, ggml, case, arrays, sinks, threads):
        self.ggml, self.keep = ggml, [arrays, sinks]
        self.context = ggml.init(InitParams(SOME_MIB << 20, None, True))
        q, k, v, mask = (None if x is None else self.tensor(x, t) for x, t in arrays)
        cap = case.score_number("softcap") or 0.0
        node = ggml.flash_attn_ext(self.context, q, k, v, mask, case.scale, 8.0 if case.score == "alibi" else 0.0, cap)
        ggml.flash_attn_ext_set_prec(node, PRECISION_F32)
        if sinks is not None:
            ggml.flash_attn_ext_add_sinks(node, self.tensor(sinks, TYPES["f32"]))
        self.out = cases.aligned(np.full((case.batch, case.q, case.q_heads, case.dim), np.nan, np.float32))
        self.place(node, self.out)
        self.graph = ggml.new_graph(self.context)
        ggml.build_forward_expand(self.graph, node)
        self.backend = ggml.backend_cpu_init()
        ggml.backend_cpu_set_n_threads(self.backend, threads)

    def tensor(self, x, kind):
        extents = (list(x.shape[::-1]) + [1] * 4)[:4]
        t = self.ggml.new_tensor_4d(self.context, kind, *extents)
        self.place(t, x)
        return t

    def place(self, tensor, x):
        assert self.ggml.nbytes(tensor) == x.nbytes
        buffer = self.ggml.backend_cpu_buffer_from_ptr(x.ctypes.data, x.nbytes)
        self.ggml.backend_tensor_alloc(buffer, tensor, x.ctypes.data)

    def run(self):
        if self.ggml.backend_graph_compute(self.backend, self.graph):
            raise RuntimeError("ggml: the graph fails")


def flash_attention(case, data, tensors, threads):
    ggml = Ggml(find_package("llama_cpp"))
    if case.score and case.score != "alibi" and not case.score_number("softcap"):
        raise Unsupported(f"no score '{case.score}'")
    kind, mask = TYPES[case.dtype], mask_of(case, data)
    arrays = [(data.q, TYPES["f32"]), (tensors[1], kind), (tensors[2], kind), (None if mask is None else cases.aligned(mask), TYPES["f16"])]
    graph = Graph(ggml, case, arrays, data.inputs["sinks"] if case.sink else None, threads)
    return Call(graph.run, lambda: graph.out.transpose(0, 2, 1, 3), "" if mask is None else "mask tensor", keep=graph)
