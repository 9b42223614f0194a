#!/usr/bin/env python3
"""compare.py - our kernels beside PyTorch, ONNX Runtime and llama.cpp on the same tensors, in one process.

  compare.py --all --out DIR              the protocol's cases and all peers: table.md, table.csv, pictures
  compare.py 'protocol/causal*' llama3/8b_decode --peers sdpa,ortgqa
  compare.py --list                       the cases of bench/shapes
  compare.py --write DIR sparse/blocks_d64    a case as .attn and .npy files, for attn-bench
  compare.py --all --page docs/performance.md   the same, with the table put into a page and the rest into the folder of its name
  compare.py --redraw DIR                 table.md and the pictures of DIR/table.csv once more

A peer that is not installed (bench/requirements.txt) is left out, and said so. Every result, ours too, is compared with float64 on some rows;
a wrong one is an error. docs/performance.md explains the numbers. Exit status: 0 done, 1 a wrong result, 2 bad usage.
"""
import argparse
import datetime
import fnmatch
import os
import pathlib
import sys
import tempfile
import warnings

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's own threads, which the checks would wake, go on spinning into the bursts
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np

import cases
import charts
import measure
import ours
import report

ALL = ("protocol/*",)


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        lines = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines() if ":" in line)
    facts = {k.strip(): v.strip() for k, v in lines.items()}
    return f"{facts.get('model name', 'unknown')} (family {facts.get('cpu family')}, model {facts.get('model')}), {os.cpu_count()} cores"


def where():
    return f"{datetime.date.today()}, {processor()}"


def choose(patterns, folder):
    known = cases.all_cases(folder)
    chosen = [n for p in patterns for n in known if fnmatch.fnmatch(n, p)]
    for p in patterns:
        if not fnmatch.filter(known, p):
            raise cases.CaseError(f"no case is called {p}; --list names them")
    return [known[n] for n in dict.fromkeys(chosen)]


def print_row(row):
    if row.status != "ok":
        line = row.status
    elif not row.calls:
        line = "right"
    else:
        line = f"{row.ms:10.3f} ms  {100 * row.share:5.1f} %  {row.ratio:7.2f} x ours  error {row.error:.1e}  {row.note}"
    busy = f"  (others: {100 * row.busy:.0f} % of the cores)" if row.threads > 1 and row.busy > report.BUSY else ""
    print(f"{row.case:32} {row.threads}  {row.runner:9} {line}{busy}", flush=True)


def peers_for(names, threads, best_blocks, case):
    """With more threads only FlexAttention's best block of one thread is tried again: each costs a compilation."""
    best = best_blocks.get(case.clauses) if threads > 1 else None
    names = [n for n in names if not n.startswith(case.without)]
    return [n for n in names if not n.startswith("flex") or best in (None, n) or n == "flex128"]


def run(args, chosen):
    library, rows, best = ours.Library(args.build), [], {}
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            for threads in args.threads or case.threads:
                new = measure.measure(library, pathlib.Path(folder), case, threads, peers_for(args.peers, threads, best, case))
                for row in new:
                    print_row(row)
                rows += new
                if args.out:  # what is there stays there, should a peer end the process
                    args.out.mkdir(parents=True, exist_ok=True)
                    report.write_csv(rows, args.out / "table.csv")
                flex = report.group(new)[0].column("flex")
                if flex:
                    best[case.clauses] = flex.runner
    return rows


def write_results(rows, folder, text, page, place):
    folder.mkdir(parents=True, exist_ok=True)
    goals = report.read_goals()
    report.write_csv(rows, folder / "table.csv")
    (folder / "where.txt").write_text(text + "\n", encoding="utf-8")
    if page:
        report.put_into(page, place, report.markdown(rows, goals, text))
    else:
        (folder / "table.md").write_text(report.markdown(rows, goals, text), encoding="utf-8")
    print(f"{page or folder / 'table.md'}, {folder}: table.csv, {', '.join(charts.write_all(rows, goals, text, folder))}")


def write_case(case, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{case.name}.attn").write_text(case.text, encoding="utf-8")
    data, words = cases.make_data(case), []
    for option, arrays in (("--attr", data.attrs), ("--input", data.inputs)):
        for name, x in arrays.items():
            np.save(folder / f"{case.name}.{name}.npy", x)
            words.append(f" {option} {name}={folder}/{case.name}.{name}.npy")
    op = "decode" if case.decode else "prefill"
    print(f"attnc {folder}/{case.name}.attn -o {folder}/{case.name}.so && attn-bench {folder}/{case.name}.so --op={op} "
          f"--batch {case.batch} --q-len {case.q} --kv-len {case.k}{''.join(words)}")


def parse(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("case", nargs="*", help="names of cases, * stands for anything")
    p.add_argument("--all", action="store_true", help="the protocol's cases")
    p.add_argument("--peers", default=",".join(measure.PEERS), help="which, by commas; 'none': only ours")
    p.add_argument("--threads", type=lambda s: tuple(map(int, s.split(","))), help="instead of what the case says")
    p.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build", help="the build folder")
    p.add_argument("--shapes", type=pathlib.Path, default=cases.FOLDER, metavar="DIR", help="where the shapes are")
    p.add_argument("--out", type=pathlib.Path, help="where the tables and pictures go")
    p.add_argument("--page", type=pathlib.Path, help="a Markdown page that takes the table; --out is then its name without .md")
    p.add_argument("--place", default="compare", help="which table of the page; others than 'compare' have a folder of this name in --out")
    p.add_argument("--list", action="store_true"), p.add_argument("--write", type=pathlib.Path, metavar="DIR")
    p.add_argument("--redraw", type=pathlib.Path, metavar="DIR")
    args = p.parse_args(argv)
    args.out = args.out or (args.page and args.page.with_suffix("") / ("" if args.place == "compare" else args.place))
    args.peers = [] if args.peers == "none" else args.peers.split(",")
    unknown = [n for n in args.peers if n not in measure.PEERS]
    if unknown:
        p.error(f"no peer is called {unknown[0]}; there are {', '.join(measure.PEERS)}")
    return args


def main(argv):
    args = parse(argv)
    if args.redraw:
        write_results(report.read_csv(args.redraw / "table.csv"), args.redraw, (args.redraw / "where.txt").read_text().strip(), args.page, args.place)
        return 0
    chosen = choose(args.case + (list(ALL) if args.all else []), args.shapes)
    if args.list or not chosen:
        print("\n".join(cases.all_cases(args.shapes)))
        return 0
    if args.write:
        for case in chosen:
            write_case(case, args.write)
        return 0
    warnings.filterwarnings("ignore")
    rows = run(args, chosen)
    if args.out:
        write_results(rows, args.out, where(), args.page, args.place)
    wrong = [r for r in rows if r.status.startswith("wrong")]
    for r in wrong:
        print(f"error: {r.case}: {r.runner} {r.status}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (cases.CaseError, ours.OursError, OSError, ValueError) as e:
        sys.exit(f"compare.py: error: {e}")
