"""bad_files.py ENGINE MODEL FOLDER N SEED [random] - weights that are broken on purpose, and N that are broken at random (with `random`:
only these). The engine must say why in one line and exit with 2; a random change may also be harmless. Standard library only."""
import json
import os
import random
import struct
import subprocess
import sys


def unpack(data):
    n, = struct.unpack("<Q", data[:8])
    return data[8:8 + n], data[8 + n:]


def pack(header, weights):
    if isinstance(header, dict):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + weights


def changed(header, change):
    """the header after change(header, config); a configuration is put back where metadata are left"""
    h = json.loads(header)
    config = json.loads(h["__metadata__"]["config"])
    change(h, config)
    if "__metadata__" in h:
        h["__metadata__"]["config"] = json.dumps(config)
    return h


def tensor_changes():
    name = "model.norm.weight"

    def put(key, value):
        return lambda h, c: h[name].__setitem__(key, value)

    return [("missing", lambda h, c: h.pop(name)),  # leaves a hole: refused for that
            ("control characters", lambda h, c: h.__setitem__("a\n\x1b[2J", 1)),
            ("renamed", lambda h, c: h.__setitem__("other", h.pop(name))),
            ("dtype", put("dtype", "BF16")), ("no dtype", lambda h, c: h[name].pop("dtype")), ("dtype 7", put("dtype", 7)),
            ("size", put("dtype", "F32")), ("shape", put("shape", [64, 2])), ("negative", put("shape", [-128])),
            ("huge", put("shape", [2 ** 40, 2 ** 40])), ("fraction", put("shape", [127.5])), ("rank", put("shape", [1] * 9 + [128])),
            ("outside", put("data_offsets", [2 ** 52, 2 ** 52 + 256])), ("backwards", put("data_offsets", [256, 0])),
            ("one offset", put("data_offsets", [0])), ("overlap", put("data_offsets", [0, 256])), ("not an object", lambda h, c: h.__setitem__(name, 1)),
            ("no metadata", lambda h, c: h.pop("__metadata__")), ("no kind", lambda h, c: h["__metadata__"].pop("kind")),
            ("unknown kind", lambda h, c: h["__metadata__"].__setitem__("kind", "mamba"))]


def config_changes():
    def put(key, value):
        return lambda h, c: c.__setitem__(key, value)

    return [("layers", put("num_hidden_layers", 4)), ("heads", put("num_attention_heads", 8)), ("dim", put("head_dim", 64)),
            ("chunk", put("attention_chunk_size", 128)), ("temperature", put("floor_scale", 64)), ("types", put("layer_types", ["full_attention"] * 8)),
            ("few types", put("layer_types", [])), ("types 1", put("layer_types", [1] * 8)), ("hidden", put("hidden_size", 64)),
            ("no hidden", put("hidden_size", 0)), ("huge", put("hidden_size", 2 ** 50)), ("mlp", put("intermediate_size_mlp", 100)),
            ("words", put("vocab_size", 32000)), ("eps", put("rms_norm_eps", "small")), ("theta", put("rope_parameters", {"rope_type": "default"})),
            ("rope", put("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4})), ("no rope", put("no_rope_layers", [1]))]


def broken(data):
    header, weights = unpack(data)
    yield "empty", b""
    yield "short", data[:7]
    yield "header cut", data[:1000]
    yield "weights cut", data[:-1]
    yield "too long", data + b"\0"
    yield "endless header", struct.pack("<Q", 2 ** 64 - 1) + header
    yield "long header", struct.pack("<Q", len(data)) + data[8:]
    yield "list", pack(b"[]", weights)
    yield "deep", pack(b"[" * 100000, weights)
    yield "twice", pack(header[:-1].rstrip() + b',"model.norm.weight":{"dtype":"F16","shape":[0],"data_offsets":[0,0]}}', weights)
    for text in (b"", b"{", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,}', b"{} {}", b'"\\u12"', b'"\\ud800"', b'"\\q"', b'"\n"', b'"', b"1e999", b"01",
                 b"-", b"1.", b"1e", b"nul", b"9" * 100, b'{"\\u0000":1}'):
        yield "json %r" % text, pack(text, b"")
    for what, change in tensor_changes() + config_changes():
        yield what, pack(changed(header, change), weights)


def mutated(data, n, seed):
    """a few bytes of the header are others"""
    print("seed %d" % seed)
    draw = random.Random(seed)
    header, weights = unpack(data)
    for i in range(n):
        h = bytearray(header)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(h))
            how = draw.randrange(4)
            if how == 0:
                h[at] = draw.randrange(256)
            elif how == 1:
                h[at] = ord(draw.choice('{}[]",:0123456789\\'))
            elif how == 2:
                del h[at:at + draw.randint(1, 40)]
            else:
                h[at:at] = h[at - draw.randint(1, 40):at]
        yield "mutation %d" % i, pack(bytes(h), weights)


def complaint(done, may_work):
    if done.returncode == 0 and may_work:
        return None
    if done.returncode != 2:
        return "exit status %d" % done.returncode
    if done.stdout:
        return "something on standard output"
    if not done.stderr.startswith(b"attn-engine: ") or done.stderr.count(b"\n") != 1:
        return "not one line: %r" % done.stderr
    return None


def main():
    engine, model, folder = sys.argv[1:4]
    n, seed = int(sys.argv[4]), int(sys.argv[5])
    with open(model, "rb") as f:
        data = f.read()
    path, wrong, count = os.path.join(folder, "bad.safetensors"), 0, 0
    for may_work, cases in ((False, () if sys.argv[6:] else broken(data)), (True, mutated(data, n, seed))):
        for what, content in cases:
            with open(path, "wb") as f:
                f.write(content)
            done = subprocess.run([engine, path, "--prompt", "In", "--count", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            bad, count = complaint(done, may_work), count + 1
            if not may_work or bad:
                print("%s: %s" % (what, bad or done.stderr.decode(errors="replace").strip()))
            wrong += bad is not None
    os.remove(path)
    print("%d files, %d wrong" % (count, wrong))
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main())
