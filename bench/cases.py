"""cases.py - the shapes of bench/shapes as data: their pattern's text, their tensors, and what the result must be.

A line of a shapes file is `NAME key=value ... | clauses of a pattern`; shapes/README.md describes it. The mask's meaning is stated here a
second time, in NumPy, so that results are judged by something that attnc had no part in.
"""
import dataclasses
import itertools
import pathlib
import re

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent / "shapes"
KEYS = {"heads": "", "dim": "", "dtype": "f32", "batch": "1", "q": "", "k": "", "threads": "1", "without": ""}
LISTS = {"dim": "d", "dtype": "", "q": "s", "k": "k"}  # keys that may have several values, and how these are named
DOCUMENT = (64, 1024)  # tokens of a document, shortest and longest
BLOCK_SHARE = 0.1      # of the blocks of a table, besides those on the diagonal
LINE = 64              # bytes
MANTISSA = {"f32": 23, "f16": 10, "bf16": 7}


class CaseError(ValueError):
    """A shapes file says something that cannot be."""


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    file: str
    q_heads: int
    kv_heads: int
    dim: int
    dtype: str
    batch: int
    q: int  # queries: the last positions
    k: int  # keys
    threads: tuple  # how many to measure with
    without: tuple  # peers that are not asked, by how their names begin
    clauses: tuple

    @property
    def text(self):
        """The pattern as attnc reads it."""
        lines = "".join(f"    {c};\n" for c in self.clauses)
        return (f"pattern main {{\n    heads {self.q_heads} / {self.kv_heads};\n    dim {self.dim};\n    dtype {self.dtype};\n{lines}}}\n")

    def clause(self, word):
        """What follows `word` in its clause, or ''."""
        return next((c[len(word):].strip() for c in self.clauses if re.match(word + r"\b", c)), "")

    @property
    def mask(self):
        return self.clause("mask")

    @property
    def score(self):
        return self.clause("score")

    @property
    def sink(self):
        return bool(self.clause("row"))

    @property
    def scale(self):
        return self.dim ** -0.5

    @property
    def decode(self):
        return self.q == 1

    @property
    def sees_all(self):
        return self.mask == "all" or (self.mask == "causal" and self.q == 1)

    def number(self, name):
        """W of a mask `causal and name(W)`, or None."""
        m = re.fullmatch(rf"causal and {name}\((\d+)\)", self.mask)
        return int(m[1]) if m else None

    def score_number(self, name):
        """c of a score `name(c)`, or None."""
        m = re.fullmatch(rf"{name}\(([\d.]+)\)", self.score)
        return float(m[1]) if m else None


# ---- files ---------------------------------------------------------------------------------------------------------------------------

def read_line(line, file):
    """The cases of one line: a list of values (dim=64,128) makes one for each."""
    head, bar, tail = line.partition("|")
    words = head.split()
    values = dict(KEYS)
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS:
            raise CaseError(f"{file}: '{word}' is not one of {', '.join(KEYS)} with a value")
        values[key] = value
    missing = [k for k in ("heads", "dim", "q") if not values[k]]
    if not bar or not words or missing:
        raise CaseError(f"{file}: '{line.strip()}' needs NAME heads=.. dim=.. q=.. | mask ..")
    clauses = tuple(c.strip() for c in tail.split(";") if c.strip())
    lists = {key: values[key].split(",") for key in LISTS}
    for choice in itertools.product(*lists.values()):
        yield make(words[0], file, {**values, **dict(zip(LISTS, choice))}, clauses, [key for key in LISTS if len(lists[key]) > 1])


def make(name, file, values, clauses, marked):
    heads = values["heads"].split("/")
    try:
        q_heads, kv_heads, dim, batch, q = (int(x) for x in (heads[0], heads[-1], values["dim"], values["batch"], values["q"]))
        k, threads = int(values["k"] or q), tuple(int(t) for t in values["threads"].split(","))
    except ValueError as e:
        raise CaseError(f"{file}: {name}: {e}") from None
    marks = [LISTS[key] + values[key] for key in marked]
    case = Case("_".join([name] + marks), file, q_heads, kv_heads, dim, values["dtype"], batch, q, k, threads,
                tuple(w for w in values["without"].split(",") if w), clauses)
    if case.dtype not in MANTISSA or not case.mask or k < q or q_heads % kv_heads:
        raise CaseError(f"{file}: {case.name}: an unknown type, no mask, fewer keys than queries, or heads that do not divide")
    return case


def read(path):
    cases = []
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            cases += read_line(line, path.stem)
    return cases


def all_cases(folder=FOLDER):
    """Every case of every file, by `file/name`."""
    return {f"{c.file}/{c.name}": c for path in sorted(folder.glob("*.txt")) for c in read(path)}


# ---- tensors -------------------------------------------------------------------------------------------------------------------------

def aligned(x):
    """The same numbers, from a line of the cache on: NumPy's large arrays begin 16 bytes into one, which no peer should pay for."""
    room = np.empty(x.nbytes + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    out = room[start:start + x.nbytes].view(x.dtype).reshape(x.shape)
    out[...] = x
    return out


def rounded(x, dtype):
    """float32 values as the type stores them."""
    if dtype == "f32":
        return x
    if dtype == "f16":
        return x.astype(np.float16).astype(np.float32)
    return (to_bf16(x).astype(np.uint32) << 16).view(np.float32)


def to_bf16(x):
    """The upper halves, to nearest even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


@dataclasses.dataclass
class Data:
    q: np.ndarray  # [batch, heads, tokens, dim], float32, rounded to the type
    k: np.ndarray
    v: np.ndarray
    attrs: dict    # name: int32 [batch, tokens]
    inputs: dict   # name: float32


def documents(rng, batch, n):
    out = np.empty((batch, n), np.int32)
    for row in out:
        at = number = 0
        while at < n:
            length = int(rng.integers(*DOCUMENT))
            row[at:at + length] = number
            at, number = at + length, number + 1
    return out


def make_input(rng, case, declaration):
    name, extents = re.fullmatch(r"input\s+(\w+)\s*:\s*f32\[(.*)\]", declaration).groups()
    shape = [case.q_heads if e.strip() == "heads" else int(e) for e in extents.split(",")]
    if len(shape) < 3:
        return name, rng.standard_normal(shape).astype(np.float32)
    table = rng.random(shape) < BLOCK_SHARE
    return name, (table | np.eye(shape[1], shape[2], dtype=bool)).astype(np.float32)


def make_data(case, seed=1):
    rng = np.random.default_rng(seed)
    tensor = lambda h, n: rounded(rng.standard_normal((case.batch, h, n, case.dim), dtype=np.float32), case.dtype)
    q, k, v = tensor(case.q_heads, case.q), tensor(case.kv_heads, case.k), tensor(case.kv_heads, case.k)
    attrs = {re.match(r"attr\s+(\w+)", c)[1]: documents(rng, case.batch, case.k) for c in case.clauses if c.startswith("attr ")}
    inputs = dict(make_input(rng, case, c) for c in case.clauses if c.startswith("input "))
    return Data(*map(aligned, (q, k, v)), attrs, {name: aligned(x) for name, x in inputs.items()})


# ---- meaning -------------------------------------------------------------------------------------------------------------------------

MASKS = {  # the prelude once more: over position q and key k, sequence b, head h, by operators that NumPy and PyTorch share
    "all": "(k == k)", "causal": "(k <= q)", "window": "(q - k < {0})", "band": "(({0} <= q - k) & (q - k <= {1}))",
    "chunk": "(q // {0} == k // {0})", "sink": "(k < {0})", "streaming": "(((k < {0}) | (q - k < {1})) & (k <= q))",
    "stride": "((q - k) % {0} == 0)", "every": "(k % {0} == 0)", "same": "(({0}[b, q] == {0}[b, k]) & ({0}[b, q] >= 0))",
    "block": "({1}[h, q // {0}, k // {0}] > 0.5)", "and": "&", "or": "|",
}


def mask_expression(case):
    """The mask as a Python expression over b, h, q, k and the names of attributes and tables."""
    def replace(m):
        if m[1] not in MASKS:
            raise CaseError(f"{case.name}: shapes say masks by {', '.join(MASKS)} and brackets, not by '{m[1]}'")
        return MASKS[m[1]].format(*(a.strip() for a in (m[2] or "").split(",")))
    return re.sub(r"\b([a-z_]+)\b(?:\(([\w\s,-]*)\))?", replace, case.mask)


def visible(case, b, h, q, k, tables):
    """Who sees whom; tables: the arrays of attributes and inputs by name."""
    names = {"__builtins__": {}, **tables, "b": b, "h": h, "q": q, "k": k}
    return eval(mask_expression(case), names)  # made from the table above


def alibi_slopes(n):
    below = 2 ** int(np.log2(n))
    return np.array([2 ** (-8 * (i + 1) / below) if i < below else 2 ** (-4 * (2 * (i - below) + 1) / below) for i in range(n)])


def scored(case, x, q, k, h):
    """Logits of one row after the pattern's score."""
    if case.score == "alibi":
        return x - alibi_slopes(case.q_heads)[h] * np.abs(q - k)
    numbers = [float(n) for n in re.findall(r"[\d.]+", case.score)]
    if case.score.startswith("softcap"):
        return numbers[0] * np.tanh(x / numbers[0])
    if case.score.startswith("qtemp"):
        return x * (1 + numbers[0] * np.log(1 + np.floor((q + numbers[2]) / numbers[1])))
    if case.score:
        raise CaseError(f"{case.name}: the score '{case.score}' has no second definition here")
    return x


def one_row(case, data, b, h, row):
    """The result of a query in float64."""
    q, keys = case.k - case.q + row, np.arange(case.k)
    see = np.broadcast_to(visible(case, b, h, np.int64(q), keys, {**data.attrs, **data.inputs}), keys.shape)
    g = h * case.kv_heads // case.q_heads
    at = keys[see]
    if not at.size:
        return np.zeros(case.dim)
    x = scored(case, data.k[b, g, at].astype(np.float64) @ data.q[b, h, row].astype(np.float64) * case.scale, q, at, h)
    sink = float(data.inputs["sinks"][h]) if case.sink else -np.inf
    top = max(x.max(), sink)
    weights = np.exp(x - top)
    return weights @ data.v[b, g, at].astype(np.float64) / (weights.sum() + np.exp(sink - top))


def probe_rows(case):
    """(batch, head, row) that are compared: the rims, the middle, and rows near the edges of tiles."""
    rows = sorted({0, 1, 63, 64, case.q // 3, case.q // 2 + 5, case.q - 2, case.q - 1})
    rows = [r for r in rows if 0 <= r < case.q]
    return [(b, h, r) for b in {0, case.batch - 1} for h in {0, case.q_heads // 2, case.q_heads - 1} for r in rows]


def error_of(case, data, out):
    """Largest difference of `out` [batch, heads, tokens, dim] from float64 on the probe rows."""
    return max(float(np.abs(one_row(case, data, b, h, r) - out[b, h, r]).max()) for b, h, r in probe_rows(case))


def tolerance(case):
    """f32: sums of thousands of terms; narrow types: their weights and results may be rounded to the type."""
    return 2e-5 if case.dtype == "f32" else 2 * 2.0 ** -MANTISSA[case.dtype]
