"""check_report.py REPORT.json: the numbers of small.attn at 64 tokens, counted by brute force."""
import json
import sys

N, C, HEADS, KV_HEADS, DIM = 64, 8, 4, 2, 16
masks = {"local": lambda q, k: k <= q and q // C == k // C, "global": lambda q, k: k <= q}
layers = {"local": [0, 1, 2], "global": [3]}


def live(mask, n):
    """keys that a query at n or later can still see (one chunk further is far enough)"""
    return sum(any(mask(q, k) for q in range(n, n + 2 * C)) for k in range(n))


with open(sys.argv[1]) as f:
    report = json.load(f)
assert report["model"] == "small" and report["context"] == N and report["layers"] == 4
for kind in report["kinds"]:
    mask, n_layers = masks[kind["name"]], len(layers[kind["name"]])
    pairs = sum(mask(q, k) for q in range(N) for k in range(N))
    token = n_layers * KV_HEADS * 2 * DIM * 4
    want = {
        "layers": layers[kind["name"]],
        "known": True,
        "pairs_exact": True,
        "pairs_visible": pairs * n_layers * HEADS,
        "pairs_all": N * N * n_layers * HEADS,
        "kv_bytes": live(mask, N) * token,
        "kv_bytes_peak": max(live(mask, n) for n in range(1, N + 1)) * token,
        "kv_bytes_full": N * token,
        "step_boundaries": N - 1,
    }
    for name, value in want.items():
        assert kind[name] == value, (kind["name"], name, kind[name], value)
    rows, keys = kind["schedules"][-1]["lanes"], kind["schedules"][-1]["key_block"]
    tiles = {"full": 0, "partial": 0}
    for q0 in range(0, N, rows):
        for k0 in range(0, N, keys):
            seen = [mask(q, k) for q in range(q0, min(q0 + rows, N)) for k in range(k0, min(k0 + keys, N))]
            tiles["full" if all(seen) else "partial"] += any(seen)
    assert kind["tiles_full"] == tiles["full"] * n_layers * HEADS, kind
    assert kind["tiles_partial"] == tiles["partial"] * n_layers * HEADS, kind
