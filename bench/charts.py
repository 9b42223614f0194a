"""charts.py - which pictures are drawn of a table of measurements."""
import report
from plot import Bar, Chart, draw

KINDS = (
    ("prefill", "Dense and causal attention", ("dense", "causal")),
    ("patterns", "Patterns", ("window", "chunk", "alibi", "softcap", "sink")),
    ("decode", "Decoding: one query", ("decode",)),
)


def limits(goals, case, key):
    """Floor and aim of a case against a column of the table."""
    names = {"flex": report.FLEX, "ort": report.ORT}.get(key, (key,))
    fit = [g for _, g, _ in report.goal_lines([case], goals) if set(g.what.split("|")) & set(names)]
    fit = [g for g in fit if ("|" in g.what) == (key == "flex")]  # the best of several is drawn at FlexAttention's best block
    return (fit[0].floor, fit[0].aim) if fit else ()


def ratios(cases, goals, title, where):
    groups = []
    for case in cases:
        bars = [Bar(i, case.column(key).ratio, *limits(goals, case, key)) for i, (key, _) in enumerate(report.COLUMNS) if case.column(key)]
        if bars:
            groups.append((report.short(case.name), bars))
    return Chart(f"{title}: time of the peer over ours", where + ". More than 1x: we are faster. Logarithmic.", [t for _, t in report.COLUMNS], groups)


def shares(cases, goals, where):
    groups = []
    for case in cases:
        if case.ours.status == "ok":
            near = [(g.floor, g.aim) for _, g, _ in report.goal_lines([case], goals) if g.what in ("peak", "read")]
            groups.append((report.short(case.name), [Bar(0, case.ours.share, *(near[0] if near else ()))]))
    return Chart("Our share of what the machine gives at that moment", where + ". Of multiply-adds in registers; decoding: of a plain read of K and V.",
                 ["ours"], groups, log=False, unit="%")


def write_all(rows, goals, where, folder):
    """Writes shares.svg and a picture for each kind of work that was measured; returns their names."""
    cases, written = [c for c in report.group(rows) if not c.spoilt], []
    charts = [("shares", shares(cases, goals, where))]
    for name, title, words in KINDS:
        charts.append((name, ratios([c for c in cases if report.short(c.name).startswith(words)], goals, title, where)))
    for name, chart in charts:
        if chart.groups:
            (folder / f"{name}.svg").write_text(draw(chart), encoding="utf-8")
            written.append(f"{name}.svg")
    return written
