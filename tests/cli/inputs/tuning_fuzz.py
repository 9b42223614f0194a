"""tuning_fuzz.py --attnc A --run R --pattern P.attn --target T --count N [--seed S] - any numbers in a tuning database's entries.

Half of the cases are garbage of every type, half are drawn so that the verifier lets many through. attnc must end with 0, or with 1 where the backend
refuses by a diagnostic; what it compiles must compute what the oracle computes."""
import argparse
import os
import random
import sqlite3
import subprocess
import sys

FIELDS = ["lanes", "key_block", "qk_keys", "qk_vectors", "pv_dims", "pv_vectors", "narrow_keys", "narrow_dims", "few_lanes", "few_rows", "few_keys", "fetch"]
VECTOR = {"cpu:baseline": 4, "cpu:avx2": 8, "cpu:avx512": 16, "cpu:avx512bf16": 16}


def garbage(r):
    return r.choice([0, 1, -1, 3, 63, 4096, 4097, 2**31, 2**32, 2**32 + 64, 2**63 - 1, -2**63, 0.5, 64.0, float("inf"), "64", "x", "", b"\x00\x01", r.randrange(4097)])


def fits(sums, vectors, registers):
    return sums + vectors + 1 <= registers


def tile(r, vectors, registers):
    """keys or dims, and vectors of lanes, of a register tile"""
    b = r.choice([x for x in (1, 2, 4, 8) if vectors % x == 0 and fits(x, x, registers)])
    return r.choice([x for x in range(1, registers) if fits(x * b, b, registers)]), b


def likely(r, vector, pairs):
    registers, vectors = 32 if vector == 16 else 16, r.choice([1, 2, 4, 8, 16])
    qk, pv = tile(r, vectors, registers), tile(r, vectors, registers)
    few = r.choice([(x, y) for x in (1, 2, 4, 8) for y in (1, 2, 4, 8) if x * y % vector == 0 and x <= vector and fits(x * y, y, registers)])
    narrow_keys = r.randrange(1, 15)
    while pairs and qk[0] % 2:
        qk = tile(r, vectors, registers)
    return dict(lanes=vector * vectors, key_block=qk[0] * narrow_keys * r.randrange(1, 9), qk_keys=qk[0], qk_vectors=qk[1], pv_dims=pv[0], pv_vectors=pv[1],
                narrow_keys=narrow_keys, narrow_dims=r.randrange(1, registers - 1), few_lanes=r.randrange(1, vector * vectors + 1), few_rows=few[0],
                few_keys=few[1], fetch=r.choice([1, 7, 64, 4096]))


def command(*words):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)


def main():
    p = argparse.ArgumentParser()
    for name in ("attnc", "run", "pattern", "target"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--count", type=int, default=10)
    p.add_argument("--seed", type=int, default=1)
    o = p.parse_args()
    path, library = "fuzz.db", "fuzz.so"
    if os.path.exists(path):
        os.remove(path)
    made = command(o.attnc, o.pattern, "--tune", "--tuning-db=" + path, "--target=" + o.target, "--tune-seconds=1", "--tune-shapes=prefill:8")
    if made.returncode:
        sys.exit("cannot make a database:\n" + made.stdout)
    taken = refused = 0
    for seed in range(o.seed, o.seed + o.count):
        r = random.Random(seed)
        row = dict(likely(r, VECTOR[o.target], o.target == "cpu:avx512bf16")) if seed % 2 else {f: garbage(r) for f in FIELDS}
        db = sqlite3.connect(path)
        db.execute("UPDATE entry SET " + ", ".join(f + " = ?" for f in FIELDS), [row[f] for f in FIELDS])
        db.commit()
        db.close()
        compiled = command(o.attnc, o.pattern, "-o", library, "--tuning-db=" + path, "--target=" + o.target, "--verify-each")
        if compiled.returncode not in (0, 1) or (compiled.returncode and "[attn-" not in compiled.stdout):
            sys.exit("seed %d, %s: exit status %d\n%s" % (seed, row, compiled.returncode, compiled.stdout))
        refused += "is not used" in compiled.stdout
        if compiled.returncode or "is not used" in compiled.stdout:
            continue
        taken += 1
        for case in (("1,9,%d" % seed, "150"), ("1,77,%d" % seed, "77"), ("1,1,%d" % seed, "200")):
            checked = command(o.run, library, "--random", case[0], "--kv-len", case[1], "--check", "--layer", "0")
            if checked.returncode:
                sys.exit("seed %d, %s: wrong\n%s" % (seed, row, checked.stdout))
    print("%d schedules: %d computed what the oracle does, %d were refused by the verifier" % (o.count, taken, refused))


if __name__ == "__main__":
    main()
