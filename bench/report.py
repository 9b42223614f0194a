"""report.py - rows of measurements as tables: CSV with everything, Markdown for reading, and the goals beside what was reached."""
import csv
import dataclasses
import fnmatch
import pathlib

import measure

GOALS = pathlib.Path(__file__).resolve().parent / "goals.txt"
FIELDS = [f.name for f in dataclasses.fields(measure.Row)]
COLUMNS = (("sdpa", "SDPA"), ("flex", "Flex, best block"), ("flex128", "Flex, block 128"), ("ort", "ONNX Runtime"), ("llamacpp", "llama.cpp"))
LESS = ("compile", "pair")  # figures that are better when they are smaller
BUSY = 0.05  # of the cores
FLEX, ORT = ("flex32", "flex64", "flex128"), ("ortgqa", "ortmha")


@dataclasses.dataclass
class Goal:
    case: str
    threads: int
    what: str
    floor: float
    aim: float


def read_goals(path=GOALS):
    goals = []
    for line in path.read_text().splitlines():
        words = line.split()
        if words and not line.startswith("#"):
            case, threads, what, floor, aim = words
            goals.append(Goal(case, int(threads), what, float(floor), float(aim)))
    return goals


def write_csv(rows, path):
    with open(path, "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(FIELDS)
        out.writerows([repr(float(v)) if isinstance(v, float) else v for v in dataclasses.astuple(r)] for r in rows)  # a table drawn again is the same


def read_csv(path):
    kinds = {f.name: f.type for f in dataclasses.fields(measure.Row)}
    with open(path, newline="", encoding="utf-8") as f:
        return [measure.Row(**{k: kinds[k](v) for k, v in line.items()}) for line in csv.DictReader(f)]


class Case:
    """The rows of one case and number of threads."""

    def __init__(self, rows):
        self.name, self.threads = rows[0].case, rows[0].threads
        self.rows = {r.runner: r for r in rows}
        self.ours = self.rows["ours"]

    @property
    def spoilt(self):
        """Several threads are timed by the clock, so other programs' work would be in the times."""
        return self.threads > 1 and self.ours.busy > BUSY

    def best(self, runners):
        """The fastest of them, or None."""
        fit = [self.rows[n] for n in runners if n in self.rows and self.rows[n].status == "ok"]
        return min(fit, key=lambda r: r.ratio, default=None)

    def column(self, key):
        return self.best({"flex": FLEX, "ort": ORT}.get(key, (key,)))

    def reached(self, what):
        """The figure that a goal is about, or None where it was not measured."""
        if self.ours.status != "ok":
            return None
        if what in ("peak", "read"):
            return self.ours.share
        if what == "compile":
            return self.ours.first_s
        best = self.best(what.split("|"))
        return best.ratio if best else None


def group(rows):
    keys = {}
    for r in rows:
        keys.setdefault((r.case, r.threads), []).append(r)
    return [Case(v) for v in keys.values()]


def judge(goal, value):
    if value is None:
        return "not measured"
    value = round(value, 2)  # as it is shown
    better = (lambda limit: value <= limit) if goal.what in LESS else (lambda limit: value >= limit)
    return "aim" if better(goal.aim) else "floor" if better(goal.floor) else "**below**"


def goal_lines(cases, goals):
    """(case, goal, value) in the order of the cases."""
    return [(c, g, c.reached(g.what)) for c in cases for g in goals if c.threads == g.threads and fnmatch.fnmatch(c.name, g.case)]


# ---- Markdown ---------------------------------------------------------------------------------------------------------------------------

def table(head, lines):
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head)] + lines) + "\n"


def short(name):
    return name.removeprefix("protocol/")


def time_text(ms):
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def ratio_table(cases):
    """Ours, and how many times longer each peer takes."""
    lines, columns = [], [(key, title) for key, title in COLUMNS if any(c.column(key) for c in cases)]
    for c in cases:
        o = c.ours
        cells = [short(c.name) + " *" * c.spoilt, str(c.threads), time_text(o.ms) if o.status == "ok" else o.status, f"{100 * o.share:.0f} %"]
        for key, _ in columns:
            r = c.column(key)
            cells.append(f"{r.ratio:.2f} ({time_text(r.ms)} ms)" if r else "-")
        lines.append(cells)
    return table(["case", "threads", "ours, ms", "of the burst"] + [title for _, title in columns], lines)


def number(goal, value):
    if value is None:
        return "-"
    return f"{100 * value:.0f} %" if goal.what in ("peak", "read") else f"{value:.2f} s" if goal.what == "compile" else f"{value:.2f}"


def goal_table(cases, goals):
    lines = [[short(c.name), str(c.threads), g.what.replace("|", ", "), number(g, v), number(g, g.floor), number(g, g.aim), "busy" if c.spoilt else judge(g, v)]
             for c, g, v in goal_lines(cases, goals)]
    return table(["case", "threads", "against", "reached", "floor", "aim", ""], lines)


def left_out(rows):
    """Which peers gave no figure, and why: one line a reason."""
    reasons = {}
    for r in rows:
        if r.status != "ok":
            reasons.setdefault((r.runner, r.status), []).append(short(r.case))
    return [f"{runner}: {status} ({len(of)} cases)" if len(of) > 3 else f"{runner}: {status} ({', '.join(of)})" for (runner, status), of in reasons.items()]


def put_into(page, name, text):
    """Replaces what stands between the comments `name` and `/name` of a Markdown page."""
    old = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if begin not in old or end not in old.split(begin)[1]:
        raise ValueError(f"{page} has no place for {name}: {begin.strip()} .. {end}")
    before, rest = old.split(begin, 1)
    page.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")


def busy_line(cases):
    """What to think of the times of several threads."""
    spoilt = [c.ours.busy for c in cases if c.spoilt]
    if not spoilt:
        return ""
    return f"Lines marked * say nothing: other programs had up to {100 * max(spoilt):.0f} % of the cores while several threads were timed.\n\n"


def markdown(rows, goals, where):
    cases = group(rows)
    notes = "".join(f"- {line}\n" for line in left_out(rows))
    lines = goal_lines(cases, goals)
    aimed = f"Goals:\n\n{goal_table(cases, goals)}\n" if lines else ""
    left = f"Without a figure:\n\n{notes}" if notes else ""
    return (f"{where}\n\nTimes of peers over ours, each against the bursts beside it (and in brackets their own time). `of the burst`: our share of multiply-adds, "
            f"for decoding of a plain read.\n\n{busy_line(cases)}{ratio_table(cases)}\n{aimed}{left}")
