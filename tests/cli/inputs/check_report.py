"""check_report.py REPORT.json: every number of the report of small.attn or kinds.attn, counted by brute force."""
import json
import sys

HEADS, KV_HEADS, DIM, HORIZON = 4, 2, 16, 64
masks = {
    "local": lambda q, k, h, l: k <= q and q // 8 == k // 8,
    "global": lambda q, k, h, l: k <= q,
    "near": lambda q, k, h, l: k <= q and q - k < 5,
    "stream": lambda q, k, h, l: k <= q and (k < 2 or q - k < 3),
    "around": lambda q, k, h, l: -3 <= q - k <= 4,
    "by_head": lambda q, k, h, l: k <= q and (q - k < 3 if h < 2 else q // 8 == k // 8),
    "far": lambda q, k, h, l: k <= q and q - k >= 4,
    "by_layer": lambda q, k, h, l: k <= q and q - k < 3 + l,
    "sampled": lambda q, k, h, l: k <= q and (k + 2) % 5 == 0,
    "mixed": lambda q, k, h, l: k <= q and (q - k < 4 or k % 6 == 1 or k % 4 == 2),
    "apart": lambda q, k, h, l: k <= q and (q - k) % 7 == 0,
    "rungs": lambda q, k, h, l: k <= q and (q - k < 4 or (q - k) % 6 == 0),
}
kept = {name: masks["global"] for name in ("sampled", "mixed")}  # what lives has no steps
schedules = {
    "small": ["local"] * 3 + ["global"],
    "kinds": ["near", "stream", "around", "by_head", "far", "by_layer", "by_layer", "sampled", "mixed", "apart", "rungs"],
}


def live(mask, n, layer):
    """keys that some head of a group can still see at n or later, over all groups"""
    size = HEADS // KV_HEADS
    return sum(any(mask(q, k, h, layer) for q in range(n, n + HORIZON) for h in range(g * size, (g + 1) * size))
               for g in range(KV_HEADS) for k in range(n))


def check(kind, schedule, n):
    name = kind["name"]
    mask, layers = masks[name], [i for i, x in enumerate(schedule) if x == name]
    token = 2 * DIM * 4
    alive = [sum(live(kept.get(name, mask), m, l) for l in layers) for m in range(n + 1)]
    want = {
        "layers": layers,
        "known": True,
        "pairs_exact": True,
        "kv_exact": True,
        "pairs_visible": sum(mask(q, k, h, l) for q in range(n) for k in range(n) for h in range(HEADS) for l in layers),
        "pairs_all": n * n * len(layers) * HEADS,
        "kv_bytes": alive[n] * token,
        "kv_bytes_peak": max(alive[1:]) * token,
        "kv_bytes_full": n * token * len(layers) * KV_HEADS,
        "step_boundaries": sum(not any(mask(q, k, h, l) for q in range(b) for k in range(b, n + HORIZON) for h in (0, 3) for l in layers)
                               for b in range(1, n)),
    }
    assert kind.get("row_step") == {"apart": 7, "rungs": 6}.get(name), (name, kind.get("row_step"))
    assert kind.get("two_sweeps") == {"apart": False, "rungs": True}.get(name), (name, kind.get("two_sweeps"))
    for key, value in want.items():
        assert kind[key] == value, (name, key, kind[key], value)
    rows, keys = kind["schedules"][-1]["lanes"], kind["schedules"][-1]["key_block"]
    full = partial = 0
    for l in layers:
        for h in range(HEADS):
            for q0 in range(0, n, rows):
                for k0 in range(0, n, keys):
                    seen = [mask(q, k, h, l) for q in range(q0, min(q0 + rows, n)) for k in range(k0, min(k0 + keys, n))]
                    full += all(seen)
                    partial += any(seen) and not all(seen)
    assert (kind["tiles_full"], kind["tiles_partial"]) == (full, partial), (name, kind["tiles_full"], kind["tiles_partial"], full, partial)


with open(sys.argv[1]) as f:
    report = json.load(f)
schedule = schedules[report["model"]]
assert report["layers"] == len(schedule) and {k["name"] for k in report["kinds"]} == set(schedule)
for kind in report["kinds"]:
    check(kind, schedule, report["context"])
