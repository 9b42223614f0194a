"""check_bench.py BENCH - the parts of bench/ that need neither a build nor a peer: shapes, meanings, goals, tables, pictures, missing packages."""
import fnmatch
import math
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree as tree

import numpy as np

for missing in ("torch", "onnxruntime", "onnx", "llama_cpp"):
    sys.modules[missing] = None  # whatever this machine has: importing them fails
sys.path.insert(0, sys.argv[1])
import cases
import charts
import measure
import peers
import plot
import report

SVG = "{http://www.w3.org/2000/svg}"


def one(line):
    return next(cases.read_line(line, "f"))


class Shapes(unittest.TestCase):
    def test_line(self):
        c = one("name heads=8/2 dim=64 q=16 k=32 dtype=bf16 batch=3 threads=1,2 without=flex | attr doc : int; mask causal and same(doc); score alibi;")
        self.assertEqual((c.q_heads, c.kv_heads, c.dim, c.dtype, c.batch, c.q, c.k, c.threads), (8, 2, 64, "bf16", 3, 16, 32, (1, 2)))
        self.assertEqual((c.mask, c.score, c.sink, c.without), ("causal and same(doc)", "alibi", False, ("flex",)))
        self.assertIn("heads 8 / 2;", c.text)
        self.assertIn("mask causal and same(doc);", c.text)

    def test_lists(self):
        names = [c.name for c in cases.read_line("n heads=2 dim=16,32 q=8 dtype=f32,bf16 | mask all", "f")]
        self.assertEqual(names, ["n_d16_f32", "n_d16_bf16", "n_d32_f32", "n_d32_bf16"])

    def test_mistakes(self):
        for line, says in (("n heads=2 dim=16 | mask all", "needs NAME"), ("n heads=2 dim=16 q=4 color=red | mask all", "color=red"),
                           ("n heads=2 dim=16 q=8 k=4 | mask all", "fewer keys"), ("n heads=3/2 dim=16 q=8 | mask all", "do not divide"),
                           ("n heads=2 dim=x q=8 | mask all", "invalid literal"), ("n heads=2 dim=16 q=8 dtype=f8 | mask all", "unknown type"),
                           ("n heads=2 dim=16 q=8 | score alibi", "no mask"), ("n heads=2 dim=16 q=8", "needs NAME")):
            with self.assertRaisesRegex(cases.CaseError, says):
                one(line)

    def test_all_files(self):
        known = cases.all_cases()
        self.assertGreater(len(known), 50)
        for name, case in known.items():
            names = {w: np.zeros((8, 8)) for c in case.clauses for w in [c.split()[1]] if c.startswith(("attr", "input"))}
            self.assertTrue(cases.mask_expression(case), name)
            cases.visible(case, 0, 0, np.int64(5), np.arange(8), {n: x.astype(int) if n == "doc" else np.zeros((99, 99, 99)) for n, x in names.items()})

    def test_goals_have_cases(self):
        known = cases.all_cases()
        for g in report.read_goals():
            hits = [c for n, c in known.items() if fnmatch.fnmatch(n, g.case) and g.threads in c.threads]
            self.assertTrue(hits, g)
            for what in g.what.split("|"):
                self.assertIn(what, [*measure.PEERS, "peak", "read", "compile", "pair"])
                self.assertFalse(any(what.startswith(c.without) for c in hits), g)


class Meaning(unittest.TestCase):
    def test_rounding(self):
        x = np.array([1.0, 1.00390625, 1.01171875, -3.3e-5, 65280.0], np.float32)  # 1.0039 lies between two: to the even one
        self.assertEqual(cases.rounded(x, "bf16").tolist()[:3], [1.0, 1.0, 1.015625])
        self.assertEqual(cases.rounded(x, "f16")[4], 65280.0)

    def test_row_by_hand(self):
        case = one("n heads=4/2 dim=8 q=5 k=12 | mask causal and window(4); score alibi")
        data = cases.make_data(case)
        for h, row in ((0, 0), (3, 4)):
            q = row + 7
            x = {k: sum(float(a) * float(b) for a, b in zip(data.q[0, h, row], data.k[0, h // 2, k])) / math.sqrt(8) - 2.0 ** (-2 * (h + 1)) * (q - k)
                 for k in range(q - 3, q + 1)}
            total = sum(math.exp(v) for v in x.values())
            out = [sum(math.exp(v) * float(data.v[0, h // 2, k, d]) for k, v in x.items()) / total for d in range(8)]
            np.testing.assert_allclose(cases.one_row(case, data, 0, h, row), out, rtol=1e-12)

    def test_unknown_words(self):
        with self.assertRaisesRegex(cases.CaseError, "not by 'near'"):
            cases.mask_expression(one("n heads=2 dim=16 q=8 | mask causal and near(3)"))

    def test_alignment(self):
        data = cases.make_data(one("n heads=2 dim=16 q=8 | mask all"))
        self.assertEqual([x.ctypes.data % 64 for x in (data.q, data.k, data.v)], [0, 0, 0])


class Peers(unittest.TestCase):
    def setUp(self):
        self.case = one("n heads=2 dim=16 q=8 | mask all")
        self.data = cases.make_data(self.case)
        self.tensors = [self.data.q, self.data.k, self.data.v]

    def prepare(self, build):
        row = measure.Row("f/n", 1, "x")
        return measure.prepare(build, self.case, self.data, self.tensors, 1, row), row

    def test_absent(self):
        for name, (_, build) in measure.PEERS.items():
            call, row = self.prepare(build)
            self.assertIsNone(call, name)
            self.assertRegex(row.status, r"^absent: \w+ is not installed$", name)

    def test_results_are_checked(self):
        right = np.array([[[cases.one_row(self.case, self.data, 0, h, r) for r in range(8)] for h in range(2)]])
        call, row = self.prepare(lambda *a: peers.Call(lambda: None, lambda: right))
        self.assertTrue(call and row.status == "ok" and row.error < 1e-12)
        for wrong in (right + 1e-3, np.full_like(right, np.nan)):
            call, row = self.prepare(lambda *a: peers.Call(lambda: None, lambda: wrong))
            self.assertIsNone(call)
            self.assertRegex(row.status, "^wrong: differs by")

    def test_failure_is_a_result(self):
        def build(*_):
            raise ValueError("no room\nsecond line")
        self.assertEqual(self.prepare(build)[1].status, "failed: ValueError: no room")


def some_rows():
    make = lambda runner, ms, share, ratio, **more: measure.Row("protocol/window256_d128", 1, runner, ms=ms, share=share, ratio=ratio, burst=250.0, calls=7, **more)
    return [make("ours", 20.0, 0.6, 1.0), make("flex32", 50.0, 0.24, 2.5), make("flex128", 60.0, 0.2, 3.0), make("ortgqa", 240.0, 0.05, 12.0),
            make("sdpa", 0.0, 0.0, 0.0, status="absent: torch is not installed")]


class Report(unittest.TestCase):
    def setUp(self):
        self.cases = report.group(some_rows())
        self.goals = report.read_goals()

    def test_ratios(self):
        self.assertEqual(measure_fill(), (0.5, 4.0))
        lines = report.ratio_table(self.cases).splitlines()
        self.assertEqual(lines[2], "| window256_d128 | 1 | 20 | 60 % | 2.50 (50 ms) | 3.00 (60 ms) | 12.00 (240 ms) |")  # nobody else has a figure

    def test_goals(self):
        lines = report.goal_table(self.cases, self.goals).splitlines()
        self.assertIn("| window256_d128 | 1 | flex32, flex64, flex128, ortgqa | 2.50 | 2.20 | 3.00 | floor |", lines)
        self.assertIn("| window256_d128 | 1 | ortgqa | 12.00 | 8.00 | 11.00 | aim |", lines)
        self.assertIn("| window256_d128 | 1 | sdpa | - | 28.00 | 35.00 | not measured |", lines)
        self.assertEqual(report.judge(report.Goal("", 1, "peak", 0.8, 0.9), 0.79), "**below**")
        self.assertEqual(report.judge(report.Goal("", 1, "pair", 1.01, 1.0), 1.0149), "floor")
        self.assertEqual(report.judge(report.Goal("", 1, "compile", 0.5, 0.15), 0.3), "floor")

    def test_busy(self):
        rows = [measure.Row("f/n", 2, "ours", busy=b) for b in (0.02, 0.4)]
        self.assertEqual(report.busy_line(report.group(rows[:1])), "")
        spoilt = report.group(rows[1:])
        self.assertIn("up to 40 % of the cores", report.busy_line(spoilt))
        self.assertIn("| f/n * | 2 |", report.ratio_table(spoilt))
        self.assertEqual(report.goal_table(spoilt, [report.Goal("f/*", 2, "peak", 0.5, 0.6)]).splitlines()[2].split(" | ")[-1], "busy |")
        machine = measure.Others()
        self.assertTrue(0 <= machine.share())

    def test_left_out(self):
        self.assertEqual(report.left_out(some_rows()), ["sdpa: absent: torch is not installed (window256_d128)"])

    def test_csv(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "t.csv"
            report.write_csv(some_rows(), path)
            self.assertEqual(report.read_csv(path), some_rows())

    def test_pictures(self):
        with tempfile.TemporaryDirectory() as folder:
            names = charts.write_all(some_rows(), self.goals, "a <day> & a machine", pathlib.Path(folder))
            self.assertEqual(names, ["shares.svg", "patterns.svg"])
            root = tree.parse(pathlib.Path(folder) / "patterns.svg").getroot()
        words = [t.text for t in root.iter(SVG + "text")]
        for word in ("window256_d128", "2.5x", "3x", "12x", "Flex, best block", "floor", "aim", "1x"):
            self.assertIn(word, words)
        self.assertTrue(any("a <day> & a machine" in w for w in words))
        bars = [r for r in root.iter(SVG + "rect") if r.get("height") == str(plot.ROW - 3)]
        widths = [float(r.get("width")) for r in bars]
        self.assertEqual(len(widths), 3)
        self.assertEqual(widths, sorted(widths))
        self.assertAlmostEqual(widths[2] / widths[0], math.log(12) / math.log(2.5), places=2)  # a logarithmic axis from 1
        for r in bars:
            self.assertLess(float(r.get("x")) + float(r.get("width")), plot.WIDTH)


def measure_fill():
    rows = {"ours": measure.Row("c", 1, "ours"), "x": measure.Row("c", 1, "x")}
    # ours: 1 s at a burst of 200; x: 2 s while the machine gave 400, so four times the work's time
    measure.fill(rows, {"ours": [1.0, 9.0, 1.0], "x": [2.0]}, {"ours": [200.0] * 3, "x": [400.0]}, 100.0)
    return rows["ours"].share, rows["x"].ratio


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
