"""make_tensors.py FOLDER: small inputs for run.test, from a fixed seed."""
import os
import sys

import numpy as np

random = np.random.default_rng(1)


def save(name, array):
    np.save(os.path.join(sys.argv[1], name + ".npy"), array)


q = random.standard_normal((2, 40, 4, 16)).astype(np.float32)
k = random.standard_normal((2, 40, 2, 16)).astype(np.float32)
v = random.standard_normal((2, 40, 2, 16)).astype(np.float32)
save("q", q), save("k", k), save("v", v)
save("packed_q", q[0].astype(np.float16)), save("packed_k", k[0].astype(np.float64)), save("packed_v", v[0])
save("tail_q", q[:, 27:]), save("tail_k", k[:, :39])


def attention(q, k, v, visible):
    """[tokens, heads, dim] each, in float64"""
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, 1).astype(np.float64), np.repeat(v, group, 1).astype(np.float64)
    s = np.einsum("qhd,khd->hqk", q.astype(np.float64), k) / 4
    s = np.where(visible, s, -np.inf)
    w = np.exp(s - s.max(-1, keepdims=True))
    w /= w.sum(-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", w, v)


p = np.arange(40)
chunk = (p[None, :] <= p[:, None]) & (p[None, :] // 8 == p[:, None] // 8)
o = np.stack([attention(q[b], k[b], v[b], chunk) for b in range(2)]).astype(np.float32)
save("want_o", o), save("tail_o", o[:, 27:])
save("doc", np.repeat([[0, 0, 1, -1], [2, 3, 3, 3]], 10, axis=1).astype(np.int32))
save("doc1", np.repeat([5, 6], 20).astype(np.int64))
save("sinks", random.standard_normal((2, 4)).astype(np.float32))
save("table", random.integers(0, 2, (4, 8, 8)).astype(np.float32))
