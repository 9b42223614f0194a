#!/usr/bin/env python3
"""compile_fuzz.py --attnc PATH --run PATH --source DIR [--count N] [--seed S] [--seconds S] [--only grammar|mutation] [--show]

Strange but legal programs, written by a small grammar, and broken ones, made from the repository's own by changing tokens, go
through the real compiler: it must end with 0, or with 1 and a diagnostic; never in a signal, with 70, after a minute or beyond 1 GiB.
What compiles is run on random tokens and must agree with the oracle on the instruction sets of this machine.

Program i is made from the seed S + i alone: `--count 1 --seed THAT` repeats it; --show prints it. Failing programs are kept in the
current folder as compile_fuzz-SEED.attn."""
import argparse
import glob
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time

COMPILE_SECONDS, RUN_SECONDS = 60, 120  # of the clock: they find what hangs, on any machine
COMPILE_BYTES = 1 << 30
TOKENS = 37
TARGETS = ("baseline", "avx2", "avx512", "avx512bf16")


# ---- programs by a grammar ---------------------------------------------------------------------------------------------------


class Value:
    """an expression's text and bounds of what it can be; the bounds need not be tight"""

    def __init__(self, text, lo, hi):
        self.text, self.lo, self.hi = text, lo, hi


class Grammar:
    """Positions are at most 2^30, and an integer that may leave 64 bits is an error: so bounds are kept. Floats are sums and products of few bits
    wherever their comparison decides who sees whom, so that f32 and f64 agree."""

    POSITION = 1 << 30
    MOST = (1 << 63) - 1
    SIZES = (1, 2, 3, 5, 7, 8, 16, 17, 33, 64, 100, 128)

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.tables = []  # name, type, extents
        self.attrs = []
        self.layers = 1

    def chance(self, p):
        return self.r.random() < p

    # -- integers

    def constant(self):
        kind = self.r.randrange(10)
        if kind < 5:
            c = self.r.randint(0, 40)
        elif kind < 7:
            c = self.r.choice((100, 127, 128, 1000, 4096, 65535, 65536))
        else:
            c = self.r.choice(((1 << 30) - 1, 1 << 30, (1 << 31) - 1, 1 << 31, (1 << 32) + 1, 1 << 40, 1 << 62, self.MOST))
        return Value(str(c), c, c) if self.chance(0.8) else Value("(-%d)" % c, -c, -c)

    def leaf(self, where):
        names = {"q": (0, self.POSITION), "k": (0, self.POSITION), "h": (0, self.q_heads - 1), "g": (0, self.kv_heads - 1),
                 "layer": (0, self.layers - 1)}
        kinds = [n for n in names if n in where for _ in range(4 if n in "qk" else 1)]
        if self.chance(0.25) or not kinds:
            return self.constant()
        if self.attrs and self.chance(0.15) and "k" in where:
            return Value(self.r.choice(self.attrs) + self.r.choice((".q", ".k")), -(1 << 31), (1 << 31) - 1)
        if self.chance(0.15):
            found = [t for t in self.tables if t[1] in ("i32", "int")]
            if found:
                t = self.r.choice(found)
                return Value(self.element(t, where, 0), *((-(1 << 31), (1 << 31) - 1) if t[1] == "i32" else t[3]))
        name = self.r.choice(kinds)
        return Value(name, *names[name])

    def index(self, extent, where, depth):
        """inside more often than not"""
        kind = self.r.randrange(6)
        if kind == 0:
            return self.integer(where, depth - 1).text
        name = self.r.choice([n for n in ("q", "k", "h", "g", "layer") if n in where] or ["0"])
        if kind == 1:
            return name
        if kind == 2:
            return "%s - %d" % (name, self.r.randint(0, 5))
        if kind == 3 and "q" in where and "k" in where:
            return "clamp(q - k, %d, %d)" % (self.r.randint(-2, 1), max(extent - 1, 2))
        return "%s %s %d" % (name, self.r.choice("%/"), max(extent, 1))

    def element(self, t, where, depth):
        return "%s[%s]" % (t[0], ", ".join(self.index(e, where, depth) for e in t[2]))

    def fits(self, text, corners):
        lo, hi = min(corners), max(corners)
        return Value(text, lo, hi) if -self.MOST <= lo and hi <= self.MOST else None

    def integer(self, where, depth):
        for _ in range(4):
            v = self.try_integer(where, depth)
            if v:
                return v
        return self.leaf(where)

    def try_integer(self, where, depth):
        if depth <= 0 or self.chance(0.25):
            return self.leaf(where)
        kind = self.r.randrange(12)
        a = self.integer(where, depth - 1)
        if kind == 0:
            return self.fits("abs(%s)" % a.text, (0, abs(a.lo), abs(a.hi)))
        if kind == 1:
            return self.fits("(-%s)" % a.text, (-a.lo, -a.hi))
        if kind == 2:
            b = self.integer(where, depth - 1)
            return self.fits("(if %s then %s else %s)" % (self.condition(where, depth - 1), a.text, b.text), (a.lo, a.hi, b.lo, b.hi))
        b = self.integer(where, depth - 1)
        corners = [(x, y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
        if kind in (3, 4):
            name = "min" if kind == 3 else "max"
            return self.fits("%s(%s, %s)" % (name, a.text, b.text), (a.lo, a.hi, b.lo, b.hi))
        if kind in (5, 6):
            return self.fits("(%s + %s)" % (a.text, b.text), (a.lo + b.lo, a.hi + b.hi))
        if kind in (7, 8):
            return self.fits("(%s - %s)" % (a.text, b.text), (a.lo - b.hi, a.hi - b.lo))
        if kind == 9:
            return self.fits("(%s * %s)" % (a.text, b.text), [x * y for x, y in corners])
        if b.lo == b.hi == 0:
            return None
        most = max(abs(a.lo), abs(a.hi)) + 1
        if kind == 10:
            return self.fits("(%s / %s)" % (a.text, b.text), (-most, most))
        most = max(abs(b.lo), abs(b.hi))
        return self.fits("(%s %% %s)" % (a.text, b.text), (-most, most))

    # -- exact floats, for masks and conditions: no positions in them

    def exact(self, where):
        found = [t for t in self.tables if t[1] in ("f32", "float")]
        kind = self.r.randrange(6)
        if found and kind < 4:
            text = self.element(self.r.choice(found), where, 1)
            return text if kind < 2 else "%s(%s)" % (self.r.choice(("abs", "0.5 * ", "2.0 - ", "0.0 - ")), text)
        if kind == 4:
            return "float(%s)" % self.r.choice(("h", "g", "layer", "h % 3", "h * 2 - layer"))
        return self.r.choice(("0.5", "0.0", "-0.25", "1.0", "3.0", "1e30", "1e-30", "-1.0"))

    # -- bools

    def condition(self, where, depth):
        kind = self.r.randrange(9)
        if kind == 0 and depth > 0:
            return "(not %s)" % self.condition(where, depth - 1)
        if kind == 1 and depth > 0:
            return "(%s %s %s)" % (self.condition(where, depth - 1), self.r.choice(("and", "or")), self.condition(where, depth - 1))
        if kind == 2 and any(t[1] in ("f32", "float") for t in self.tables):
            return "(%s %s %s)" % (self.exact(where), self.r.choice(("<", "<=", ">", ">=", "==", "!=")), self.exact(where))
        flags = [t for t in self.tables if t[1] == "bool"]
        if kind == 3 and flags:
            return self.element(self.r.choice(flags), where, depth)
        if kind == 4:
            lo = self.r.randint(-3, 30)
            return "(%s in [%d, %d..%d])" % (self.integer(where, depth - 1).text, self.r.randint(-3, 9), lo, lo + self.r.randint(0, 9))
        a, b = self.integer(where, depth - 1), self.integer(where, depth - 1)
        return "(%s %s %s)" % (a.text, self.r.choice(("<", "<=", ">", ">=", "==", "!=")), b.text)

    def known_mask(self):
        n = lambda: self.r.choice((1, 2, 3, 5, 7, 8, 16, 33, 1000, 1 << 20, 2147483647, 1 << 40))
        forms = ["causal", "all", "window(%d)" % n(), "chunk(%d)" % n(), "chunk(%d, %d)" % (n(), self.r.randint(-40, 40)), "sink(%d)" % n(),
                 "every(%d, h)" % n(), "stride(%d)" % n(), "band(%d, %d)" % (-n(), n()), "ahead(%d)" % n(),
                 "lastblock(%d, %d)" % (self.r.randint(1, 20), self.r.randint(1, 5)), "streaming(%d, %d)" % (self.r.randint(0, 9), n()),
                 "dilated(%d, %d)" % (self.r.randint(1, 9), self.r.randint(1, 9)), "window(1 + h * %d)" % self.r.randint(0, 99),
                 "chunk(max(1, h * %d - 3))" % self.r.randint(0, 20)]
        forms += ["same(%s)" % a for a in self.attrs] + ["chunk(%d, %s.q)" % (self.r.randint(1, 99), a) for a in self.attrs]
        return self.r.choice(forms)

    def mask(self, depth):
        kind = self.r.randrange(8)
        if depth <= 0 or kind < 2:
            return "(%s)" % self.known_mask() if self.chance(0.5) else self.condition("qkhglayer", 2)
        if kind == 2:
            return "(not %s)" % self.mask(depth - 1)
        if kind == 3:
            return "(if %s then %s else %s)" % (self.condition(self.r.choice(("hlayer", "qh", "kg", "qkh")), 1), self.mask(depth - 1), self.mask(depth - 1))
        return "(%s %s %s)" % (self.mask(depth - 1), self.r.choice(("and", "and", "or")), self.mask(depth - 1))

    # -- floats of scores: of moderate size

    def real(self, where, depth):
        kind = self.r.randrange(14 if depth > 0 else 4)
        if kind == 0:
            return "%.3f" % self.r.uniform(-2, 2)
        if kind == 1:
            return "float(%s)" % self.r.choice(("h % 4", "g % 3", "layer % 5", "h") + (("q % 5", "k % 7", "(q - k) % 4", "min(abs(q - k), 9)") if "k" in where else ()))
        if kind == 2:
            found = [t for t in self.tables if t[1] in ("f32", "float")]
            if found:
                return self.element(self.r.choice(found), where, depth)
        if kind <= 3:
            return "s" if "s" in where.split() else "0.75"
        a = self.real(where, depth - 1)
        if kind == 4:
            return "tanh(%s)" % a
        if kind == 5:
            return "exp(min(%s, 1.5))" % a
        if kind == 6:
            return "%s(1.0 + abs(%s))" % (self.r.choice(("log2", "ln", "sqrt")), a)
        if kind == 7:
            return "abs(%s)" % a
        if kind == 8:
            return "exp2(max(-9.0, min(%s, 2.0)))" % a
        b = self.real(where, depth - 1)
        if kind == 9:
            return "%s(%s, %s)" % (self.r.choice(("min", "max")), a, b)
        if kind == 10:
            return "(if %s then %s else %s)" % (self.condition("qkhlayer" if "k" in where else "hlayer", 1), a, b)
        if kind == 11:
            return "(%s / (1.0 + abs(%s)))" % (a, b)
        if kind == 12 and depth == 1:
            return "(%s * %s)" % (a, b)
        return "(%s %s %s)" % (a, self.r.choice("+-"), b)

    def score(self):
        known = ["softcap(%.2f)" % self.r.uniform(0.1, 50), "alibi", "qtemp(0.1, %d, %d)" % (self.r.randint(1, 9000), self.r.randint(0, 1)),
                 "s * %.3f" % self.r.uniform(-2, 2), "min(s, 1.5)", "-s", "s"]
        if self.chance(0.5):
            return self.r.choice(known)
        return "0.5 * s + %s" % self.real("qkhglayer s", 3)

    # -- declarations

    def nested(self, extents, one):
        if not extents:
            return one()
        return "[%s]" % ", ".join(self.nested(extents[1:], one) for _ in range(extents[0]))

    def declarations(self):
        out = []
        for name in ("doc", "flag", "img")[: self.r.choice((0, 0, 1, 2, 3))]:
            self.attrs.append(name)
            out.append("attr %s : int;" % name)
        for i in range(self.r.choice((0, 0, 1, 2, 3))):
            kind = self.r.choice(("f32", "f32", "i32", "int", "float", "bool"))
            extents = [self.r.choice((1, 2, 3, 5, 8, 40)) for _ in range(self.r.randint(1, 2 if kind[0] != "f" or kind == "float" else 4))]
            name = "t%d" % i
            if kind in ("f32", "i32"):
                out.append("input %s : %s[%s];" % (name, kind, ", ".join(map(str, extents))))
                self.tables.append((name, kind, extents))
                continue
            bounds = [0, 0]

            def one():
                if kind == "bool":
                    return self.r.choice(("true", "false"))
                if kind == "float":
                    return self.r.choice(("0.5", "-0.25", "1.0", "0.0", "3.0"))
                c = self.constant()
                c = c if abs(c.lo) < 1 << 31 else Value("2147483647", (1 << 31) - 1, (1 << 31) - 1)
                bounds[0], bounds[1] = min(bounds[0], c.lo), max(bounds[1], c.hi)
                return c.text
            out.append("param %s : %s[%s] = %s;" % (name, kind, ", ".join(map(str, extents)), self.nested(extents, one)))
            self.tables.append((name, kind, extents, bounds))
        if self.chance(0.2):
            out.append("param on : bool = %s;" % self.r.choice(("true", "false")))
            self.flag_param = True
        return out

    def many_atoms(self):
        """more data atoms than one mask may have"""
        a = self.attrs[0] if self.attrs else None
        if not a:
            return self.mask(2)
        n = self.r.choice((5, 63, 64, 65, 90))
        return "causal and (%s)" % " or ".join("%s.k - %s.q == %d" % (a, a, i * 3 - 40) for i in range(n))

    def pattern(self, name):
        self.flag_param = getattr(self, "flag_param", False)
        m = self.many_atoms() if self.chance(0.03) else self.mask(self.r.randint(0, 4))
        if self.flag_param:
            m = "(on or %s)" % m if self.chance(0.5) else "(if on then %s else %s)" % (m, self.mask(1))
        if self.chance(0.4):
            m = "causal and " + m
        clauses = ["mask %s;" % m]
        if self.chance(0.4):
            clauses.append("score %s;" % ", ".join(self.score() for _ in range(self.r.randint(1, 3))))
        if self.chance(0.15):
            clauses.append("scale %s;" % self.r.choice(("1.0", "0.05", "-0.5", "0.0", "0.1 * (1 + h % 3)", self.real("hglayer", 2))))
        if self.chance(0.2):
            clauses.append("row softmax(sink: %s);" % self.real("hglayer", 2))
        return "  pattern %s { %s }" % (name, " ".join(clauses))

    def program(self):
        self.kv_heads = self.r.choice((1, 1, 1, 2, 3, 4, 8))
        self.q_heads = self.kv_heads * self.r.choice((1, 1, 1, 2, 3, 4, 5, 7, 8))
        dim, dim_v = self.r.choice(self.SIZES), self.r.choice(self.SIZES)
        if self.chance(0.03):
            self.kv_heads = self.r.choice((1, 2, 4, 8, 16, 32, 64))
            self.q_heads = 64
            dim = 8
        if self.chance(0.02):
            dim, dim_v, self.kv_heads, self.q_heads = self.r.choice((1000, 1024, 999)), self.r.choice((3, 1000, 1024)), 1, self.r.randint(1, 2)
        n_patterns = self.r.choice((1, 1, 1, 1, 2, 3))
        if self.chance(0.01):
            n_patterns = 40
        self.layers = n_patterns + self.r.randrange(3)
        head = ["layers %d;" % self.layers, "heads %d / %d;" % (self.q_heads, self.kv_heads), "dim %d;" % dim, "dtype %s;" % self.r.choice(("f32", "f32", "f16", "bf16"))]
        if self.chance(0.4):
            head.append("dim_v %d;" % dim_v)
        body = self.declarations()
        names = ["p%d" % i for i in range(n_patterns)]
        patterns = [self.pattern(n) for n in names]
        plan = names + [self.r.choice(names) for _ in range(self.layers - n_patterns)]
        return "model fuzz {\n  %s\n  %s\n%s\n  schedule %s;\n}\n" % ("  ".join(head), "\n  ".join(body), "\n".join(patterns), ", ".join(plan))


# ---- programs by changing others -----------------------------------------------------------------------------------------------


WORDS = """pattern model mask score let param input attr schedule layers heads dim dim_v dtype scale row kv derived shared k_is_v quant int8 max_len softmax sink if then else and or not in
true false none q k h g layer len s causal window chunk same alibi softcap t5 block ( ) [ ] { } ; , : . .. + - * / % < <= == != > >= = 0 1 -1 2 3 7 8 64
1024 2147483647 2147483648 1073741824 9223372036854775807 0.5 1e308 1e999 0.0 int bool f32 i32 bf16 f16 float floor exp exp2 ln log2 sqrt tanh min max abs
q.doc""".split()
TOKEN = re.compile(r"//[^\n]*|/\*.*?\*/|[A-Za-z_][A-Za-z_0-9.]*|[0-9][0-9.e]*|[<>=!]=|\.\.|\s+|.", re.S)


def originals(source):
    found = sorted(glob.glob(os.path.join(source, "examples", "*.attn")) + glob.glob(os.path.join(source, "tests", "golden", "cases", "*", "pattern.attn")))
    texts = []
    for path in found:
        with open(path) as f:
            texts.append(f.read())
    with open(os.path.join(source, "dsl", "SPEC.md")) as f:
        texts += re.findall(r"^```attn[^\n]*\n(.*?)^```", f.read(), re.S | re.M)
    return texts


def smaller(text):
    """real models with fewer heads and smaller dims: the point is not to wait for the oracle"""
    text = re.sub(r"\bheads(\s+)(\d+)\s*/\s*(\d+)", lambda m: "heads%s%d / %d" % (m[1], 2 * max(1, int(m[2]) // max(1, int(m[3]))), 2), text)
    return re.sub(r"\bdim(\s+)(\d\d\d)", r"dim\g<1>32", text)


def mutant(seed, texts):
    r = random.Random(seed)
    tokens = TOKEN.findall(smaller(r.choice(texts)))
    places = [i for i, t in enumerate(tokens) if not t.isspace()]
    for _ in range(r.choice((0, 1, 1, 1, 2, 3, 6))):
        i = r.choice(places)
        kind = r.randrange(6)
        if kind == 0:
            tokens[i] = r.choice(WORDS)
        elif kind == 1:
            tokens[i] = ""
        elif kind == 2:
            tokens[i] += " " + r.choice(WORDS)
        elif kind == 3:
            j = r.choice(places)
            tokens[i], tokens[j] = tokens[j], tokens[i]
        elif kind == 4:
            numbers = [j for j in places if tokens[j][:1].isdigit()]
            if numbers:
                tokens[r.choice(numbers)] = r.choice(("0", "1", "2", "3", "5", "7", "17", "33", "100", "1000", "1024", "4096", "65536", "2147483647", "4294967296"))
        else:
            operators = [j for j in places if tokens[j] in ("+", "-", "*", "/", "%", "<", "<=", ">", ">=", "==", "and", "or")]
            if operators:
                tokens[r.choice(operators)] = r.choice(("+", "-", "*", "/", "%", "<", "<=", ">", "and", "or", "=="))
    return "".join(tokens)


# ---- running ---------------------------------------------------------------------------------------------------------------------


class Ended:
    def __init__(self, status, text, seconds, peak):
        self.status, self.text, self.seconds, self.peak = status, text, seconds, peak


def call(argv, seconds, cwd):
    """status: as subprocess has it, or None after the time is up; peak: bytes of memory"""
    start = time.monotonic()
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
        signal.alarm(seconds)
        late = False
        while True:
            try:
                _, status, usage = os.wait4(child.pid, 0)
                break
            except TimeoutError:
                late = True
                child.kill()
        signal.alarm(0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode(errors="replace")
    return Ended(None if late else child.returncode, text, time.monotonic() - start, usage.ru_maxrss * 1024)


def on_alarm(*_):
    raise TimeoutError


def machine_targets():
    with open("/proc/cpuinfo") as f:
        flags = set(next((line for line in f if line.startswith("flags")), "").split())
    have = [True, {"avx2", "fma", "f16c"} <= flags, {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags,
            {"avx512_bf16", "avx512vl"} <= flags]
    return [t for t, h in zip(TARGETS, have) if h]


class Fuzzer:
    def __init__(self, options, tmp):
        self.o, self.tmp = options, tmp
        self.texts = originals(options.source)
        self.isas = machine_targets()
        self.refused = self.agreed = self.runs = 0
        self.slowest = self.largest = 0
        self.reasons = {}

    def compile(self, targets):
        e = call([self.o.attnc, "x.attn", "-o", "x.so", "--target=" + targets], 2 * COMPILE_SECONDS, self.tmp)
        self.slowest, self.largest = max(self.slowest, e.seconds), max(self.largest, e.peak)
        if e.status is None or e.seconds > COMPILE_SECONDS * self.o.slack:
            return e, "the compiler takes more than %d s" % COMPILE_SECONDS
        if e.status not in (0, 1):
            return e, "the compiler ends with %s" % e.status
        if e.peak > COMPILE_BYTES * self.o.slack:
            return e, "the compiler takes %d MiB" % (e.peak >> 20)
        if e.status == 1 and "error" not in e.text:
            return e, "no diagnostic"
        return e, None

    def check(self, isas, layer):
        for isa in isas:
            self.runs += 1
            e = call([self.o.run, "x.so", "--random", "1,%d,%d" % (TOKENS, 1 + layer), "--check", "--isa=" + isa, "--layer", str(layer)], RUN_SECONDS, self.tmp)
            if e.status == 2 and "out of memory" in e.text:
                return None  # huge inputs
            if e.status != 0:
                return "attn-run --isa=%s --layer %d ends with %s: %s" % (isa, layer, "no end" if e.status is None else e.status, e.text)
        return None

    def one(self, seed):
        r = random.Random(seed ^ 0x5EED)
        by_grammar = self.o.only == "grammar" or (self.o.only is None and r.random() < 0.7)
        text, layers = mutant(seed, self.texts), 1
        if by_grammar:
            g = Grammar(seed)
            text, layers = g.program(), g.layers
        if self.o.show:
            print(text)
        with open(os.path.join(self.tmp, "x.attn"), "w") as f:
            f.write(text)
        every = r.random() < self.o.every
        isas = self.isas if every else [r.choice(self.isas)]
        e, wrong = self.compile("cpu" if every else "cpu:" + isas[0])
        if not wrong and e.status == 1:
            self.refused += 1
            if by_grammar:
                self.note(e.text)
            return True
        if not wrong:
            wrong = self.check(isas, r.randrange(layers))
            self.agreed += not wrong
        if wrong:
            name = "compile_fuzz-%d.attn" % seed
            with open(name, "w") as f:
                f.write(text)
            print("seed %d: %s\n%s\n  kept as %s" % (seed, wrong, "\n".join(e.text.splitlines()[:8]), name), flush=True)
        return not wrong

    def note(self, text):
        for line in text.splitlines():
            m = re.search(r"error\[?([a-z-]*)", line)
            if m:
                reason = re.sub(r"\d+|'[^']*'", "#", line.split("error", 1)[1])[:90]
                self.reasons[reason] = self.reasons.get(reason, 0) + 1
                return


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--attnc", required=True)
    p.add_argument("--run", required=True)
    p.add_argument("--source", required=True)
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--seconds", type=float, default=0, help="stop after this time; 0: never")
    p.add_argument("--slack", type=float, default=1, help="a factor of the limits of time and memory, for builds with sanitizers")
    p.add_argument("--every", type=float, default=0.15, help="share of programs that are compiled and run for all instruction sets")
    p.add_argument("--only", choices=("grammar", "mutation"))
    p.add_argument("--show", action="store_true")
    o = p.parse_args()
    o.attnc, o.run = os.path.abspath(o.attnc), os.path.abspath(o.run)
    signal.signal(signal.SIGALRM, on_alarm)
    print("compile_fuzz: %d programs from seed %d" % (o.count, o.seed), flush=True)
    start, failed, done = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as tmp:
        f = Fuzzer(o, tmp)
        for i in range(o.count):
            if failed >= 10 or (o.seconds and time.monotonic() - start > o.seconds):
                break
            failed += not f.one(o.seed + i)
            done += 1
    print("%d programs: %d compiled and agreed in %d runs, %d refused, %d failed; slowest %.2f s, largest %d MiB" % (
        done, f.agreed, f.runs, f.refused, failed, f.slowest, f.largest >> 20))
    if o.show or o.count >= 1000:
        for reason, n in sorted(f.reasons.items(), key=lambda x: -x[1])[:25]:
            print("%6d  %s" % (n, reason))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
