#!/usr/bin/env python3
"""sparse.py - what masks and scores cost: time per visible pair of each case of a shapes file, over that of the file's first case.

  sparse.py [--shapes FILE] [--out DIR] [--page docs/performance.md] [--rounds N] [--build DIR]

One thread, all cases in turn. Cases are compared with the first one of the same head size and type, round by round and without bursts: kernels of
one kind within seconds of each other are nearer to each other (1 %) than to a burst (2 %).
Prints the table; sparse.svg goes to DIR, or with --page the table into the page and the picture into the folder of its name.
"""
import argparse
import pathlib
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import compare  # first: it sets what NumPy reads when it is loaded
import cases
import measure
import ours
import plot
import report

FAR = 4  # times causal: too far for the picture
HEAD = ["case", "over causal", "rounds", "ms", "of the burst", "computed / visible", "floor", "aim", ""]


class Result:
    """A case's seconds per useful operation, round by round."""

    def __init__(self, case, call, seconds, bursts):
        self.case, self.ms = case, 1e3 * statistics.median(seconds)
        stats = call.keep.stats()
        self.work = measure.work_of(case, stats.pairs_visible)
        self.more = stats.pairs_computed / stats.pairs_visible
        self.units = [s / self.work for s in seconds]
        self.share = self.work / (statistics.median(seconds) * statistics.median(bursts))

    def over(self, base):
        """Median, least and most over the rounds."""
        ratios = [a / b for a, b in zip(self.units, base.units)]
        return statistics.median(ratios), min(ratios), max(ratios)


def build(library, folder, case):
    data = cases.make_data(case)
    call = measure.Ours(library, folder).build(case, data, [ours.stored(x, case.dtype) for x in (data.q, data.k, data.v)], 1)
    call.run()
    error = cases.error_of(case, data, call.result())
    if not error <= cases.tolerance(case):
        raise ours.OursError(f"{case.name} differs by {error:.2g} from float64")
    return call


def measure_all(library, chosen, rounds):
    with tempfile.TemporaryDirectory() as folder:
        calls = {c: build(library, pathlib.Path(folder), c) for c in chosen}
    dtype = chosen[0].dtype
    times, bursts, _ = measure.take_turns(calls, lambda: library.flops_burst(dtype, 1), 1, rounds)
    return [Result(c, call, times[c], bursts[c]) for c, call in calls.items()]


def line(result, base, goals):
    median, least, most = result.over(base)
    goal = next((g for g in goals if g.what == "pair" and compare.fnmatch.fnmatch(f"{result.case.file}/{result.case.name}", g.case)), None)
    limits = [f"{goal.floor:.2f}", f"{goal.aim:.2f}", report.judge(goal, median)] if goal else ["", "", ""]
    cells = [result.case.name, f"{median:.3f}", f"{least:.2f} to {most:.2f}", f"{result.ms:.3g}", f"{100 * result.share:.0f} %", f"{result.more:.2f}"]
    return cells + limits, plot.Bar(0, median, *((goal.floor, goal.aim) if goal else ()))


def main(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shapes", type=pathlib.Path, default=cases.FOLDER / "sparse.txt")
    p.add_argument("--build", type=pathlib.Path, default=compare.HERE.parent / "build")
    p.add_argument("--rounds", type=int, default=11)
    p.add_argument("--out", type=pathlib.Path)
    p.add_argument("--page", type=pathlib.Path)
    args = p.parse_args(argv)
    args.out = args.out or (args.page and args.page.with_suffix(""))
    results = measure_all(ours.Library(args.build), cases.read(args.shapes), args.rounds)
    goals, lines, groups, first = report.read_goals(), [], [], {}
    for r in results:
        cells, bar = line(r, first.setdefault((r.case.dim, r.case.dtype), r), goals)
        lines.append(cells), groups.append((r.case.name, [bar]))
    where = compare.where()
    text = f"{where}\n\n{report.table(HEAD, lines)}"
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        if args.page:
            report.put_into(args.page, "sparse", text)
        far = [name for name, (bar,) in groups if bar.value > FAR]
        subtitle = f"{where}. 1 thread. Less is better." + (f" Not drawn: {len(far)} cases above {FAR}x, in the table." if far else "")
        chart = plot.Chart("Time per visible pair, over plain causal", subtitle, ["ours"], [g for g in groups if g[0] not in far], log=False)
        (args.out / "sparse.svg").write_text(plot.draw(chart), encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (cases.CaseError, ours.OursError, OSError, ValueError) as e:
        sys.exit(f"sparse.py: error: {e}")
