"""peers.py - PyTorch and ONNX Runtime as peers: each takes a case and its tensors, and gives a call to be timed.

A peer says Absent when its package is not installed and Unsupported when it has no such pattern; neither is a mistake.
"""
import time

import numpy as np

import cases


class Absent(Exception):
    """Not installed."""


class Unsupported(Exception):
    """The peer has no such pattern, or not in this type."""


class Call:
    """What is timed, and what it gives."""

    def __init__(self, run, result, note="", setup_s=0.0, keep=None):
        self.run = run        # no arguments
        self.result = result  # its last result as float32 [batch, heads, tokens, dim]
        self.note, self.setup_s, self.keep = note, setup_s, keep


def package(name):
    try:
        return __import__(name)
    except ImportError as e:
        raise Absent(f"{name} is not installed ({e})" if name not in str(e) else f"{name} is not installed") from None


# ---- PyTorch ----------------------------------------------------------------------------------------------------------------------------

def torch_tensors(case, tensors, threads):
    """PyTorch's view of the same memory."""
    torch = package("torch")
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    views = [torch.from_numpy(x) for x in tensors]
    if case.dtype == "bf16":
        views = [x.view(torch.bfloat16) for x in views]
    return torch, views


def torch_tables(torch, data):
    return {name: torch.from_numpy(x) for name, x in {**data.attrs, **data.inputs}.items()}


def to_numpy(out):
    return out.float().numpy()


def holder(f):
    """A call that remembers its result."""
    last = []

    def run():
        last[:] = [f()]
    return run, last


def dense_mask(case, data, torch):
    """What SDPA must be given for other masks than causal: a tensor of all pairs, bool or, with ALiBi, float."""
    index = lambda n, at: torch.arange(n).reshape([-1 if i == at else 1 for i in range(4)])
    b, h, q, k = index(case.batch, 0), index(case.q_heads, 1), index(case.q, 2) + case.k - case.q, index(case.k, 3)
    mask = cases.visible(case, b, h, q, k, torch_tables(torch, data))
    if case.score != "alibi":
        return mask
    slopes = torch.from_numpy(cases.alibi_slopes(case.q_heads)).float().reshape(1, -1, 1, 1)
    bias = -slopes * (q - k).abs()
    return bias.masked_fill(~mask, float("-inf"))


def sdpa(case, data, tensors, threads):
    if case.sink or case.score not in ("", "alibi"):
        raise Unsupported("no softcap, temperature or sink")
    torch, (q, k, v) = torch_tensors(case, tensors, threads)
    mask, start = None, time.perf_counter()
    causal = case.mask == "causal" and case.q == case.k and not case.score
    if not causal and not (case.sees_all and not case.score):
        mask = dense_mask(case, data, torch)
        mask = mask.to(q.dtype) if mask.dtype != torch.bool else mask
    setup = time.perf_counter() - start
    attend = torch.nn.functional.scaled_dot_product_attention
    run, last = holder(lambda: attend(q, k, v, mask, is_causal=causal, enable_gqa=case.q_heads != case.kv_heads))
    return Call(run, lambda: to_numpy(last[0]), "" if mask is None else "mask tensor", setup, (q, k, v, mask))


def flex_score(case, torch):
    """The score as FlexAttention's score_mod, positions counted from the first query."""
    first = case.k - case.q
    cap = case.score_number("softcap")
    if cap:
        return lambda x, b, h, i, j: cap * torch.tanh(x / cap)
    if case.score == "alibi":
        slopes = torch.from_numpy(cases.alibi_slopes(case.q_heads)).float()
        return lambda x, b, h, i, j: x - slopes[h] * (i + first - j).abs()
    if case.score:
        raise Unsupported(f"no score '{case.score}' written for it")
    return None


def flex_mask(case, data, torch):
    names = {"__builtins__": {}, "FIRST": case.k - case.q, **torch_tables(torch, data)}
    return eval(f"lambda b, h, i, k: (lambda q: {cases.mask_expression(case)})(i + FIRST)", names)


def flex(block):
    """FlexAttention compiled; 128 is its default block, not its best on a CPU."""
    def build(case, data, tensors, threads):
        if case.sink:
            raise Unsupported("no sink on a CPU (no log-sum-exp is returned)")
        torch, (q, k, v) = torch_tensors(case, tensors, threads)
        if block != 128 and case.sees_all:
            raise Unsupported("no mask, so no blocks")
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        torch._dynamo.reset()
        torch._inductor.config.force_disable_caches = True  # the first call then is a true compilation
        mask, start = None, time.perf_counter()
        if not case.sees_all:
            by_head = case.q_heads if "block(" in case.mask else None
            mask = create_block_mask(flex_mask(case, data, torch), case.batch if data.attrs else None, by_head, case.q, case.k, device="cpu",
                                     BLOCK_SIZE=block)
        setup = time.perf_counter() - start
        compiled, score = torch.compile(flex_attention, dynamic=False), flex_score(case, torch)
        run, last = holder(lambda: compiled(q, k, v, score_mod=score, block_mask=mask, enable_gqa=case.q_heads != case.kv_heads))
        return Call(run, lambda: to_numpy(last[0]), f"block {block}" if mask is not None else "", setup, (q, k, v, mask))
    return build


# ---- ONNX Runtime -----------------------------------------------------------------------------------------------------------------------

def ort_session(node, inputs, outputs, threads):
    """A model of one operator with everything bound; an output named present_x is the input past_x."""
    ort, onnx = package("onnxruntime"), package("onnx")
    from onnx import TensorProto, helper
    kinds = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int32": TensorProto.INT32}
    info = lambda n, a: helper.make_tensor_value_info(n, kinds[str(a.dtype)], list(a.shape))
    graph = helper.make_graph([node], "g", [info(n, a) for n, a in inputs.items()], [info(n, a) for n, a in outputs.items()])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # a pool that spins would halve the burst
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding, values = session.io_binding(), {}
    for n, a in inputs.items():
        values[n] = ort.OrtValue.ortvalue_from_numpy(a)
        binding.bind_ortvalue_input(n, values[n])
    for n, a in outputs.items():
        values[n] = values.get(n.replace("present", "past")) or ort.OrtValue.ortvalue_from_numpy(a)
        binding.bind_ortvalue_output(n, values[n])
    return (lambda: session.run_with_iobinding(binding)), values, (onnx, session, binding, inputs, outputs)


def packed(x):
    """[batch, heads, tokens, dim] -> [batch, tokens, heads * dim]"""
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(x.shape[0], x.shape[2], -1)


def unpacked(value, heads):
    x = value.numpy()
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(0, 2, 1, 3).astype(np.float32)


def ort_refuses(case, data, dtypes):
    if case.dtype not in dtypes:
        raise Unsupported(f"no {case.dtype}")
    if data.attrs or data.inputs and not case.sink:
        raise Unsupported("no such mask")


def ort_gqa(case, data, tensors, threads):
    """GroupQueryAttention: causal, with a window or a softcap or a sink per head; keys in its own cache format, which is ours."""
    package("onnxruntime"), package("onnx")
    ort_refuses(case, data, ("f32", "f16"))
    window, cap = case.number("window"), case.score_number("softcap")
    if case.mask != "causal" and not window or case.score and not cap:
        raise Unsupported("no such mask or score")
    from onnx import helper
    q, k, v = tensors
    inputs = {"q": packed(q), "k": packed(k[:, :, -case.q:]), "v": packed(v[:, :, -case.q:]), "past_k": k.copy(), "past_v": v.copy(),
              "last": np.full(case.batch, case.k - 1, np.int32), "total": np.array([case.k], np.int32)}
    names = list(inputs)
    if case.sink:
        names += ["", "", "", "", "sinks"]  # after the tables of RoPE, positions and an additive mask
        inputs["sinks"] = data.inputs["sinks"].astype(q.dtype)
    outputs = {"o": np.zeros_like(inputs["q"]), "present_k": k, "present_v": v}
    node = helper.make_node("GroupQueryAttention", names, list(outputs), domain="com.microsoft", num_heads=case.q_heads,
                            kv_num_heads=case.kv_heads, local_window_size=window or -1, softcap=cap or 0.0)
    run, values, keep = ort_session(node, inputs, outputs, threads)
    return Call(run, lambda: unpacked(values["o"], case.q_heads), "GroupQueryAttention", keep=keep)


def ort_mha(case, data, tensors, threads):
    """MultiHeadAttention: dense, its fastest kernel."""
    package("onnxruntime"), package("onnx")
    ort_refuses(case, data, ("f32",))
    if not case.sees_all or case.score or case.sink or case.q_heads != case.kv_heads:
        raise Unsupported("for dense masks, as many KV heads as query heads")
    from onnx import helper
    inputs = dict(zip("qkv", map(packed, tensors)))
    outputs = {"o": np.zeros_like(inputs["q"])}
    node = helper.make_node("MultiHeadAttention", list(inputs), ["o"], domain="com.microsoft", num_heads=case.q_heads)
    run, values, keep = ort_session(node, inputs, outputs, threads)
    return Call(run, lambda: unpacked(values["o"], case.q_heads), "MultiHeadAttention", keep=keep)
