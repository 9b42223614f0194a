"""plot.py - bar charts as SVG text: groups of bars on a logarithmic or plain axis, with marks for floors and aims."""
import dataclasses
import math
from xml.sax.saxutils import escape

LEFT, RIGHT, TOP, ROW, GAP, WIDTH = 165, 70, 92, 15, 11, 840
FONT = 'font-family="Helvetica, Arial, sans-serif"'
COLOURS = ("#3b6ea8", "#d9822b", "#8a8f98", "#4c9a6a", "#a8558f", "#20323f")


@dataclasses.dataclass
class Bar:
    series: int          # index into the chart's series
    value: float
    floor: float = 0.0   # 0: none
    aim: float = 0.0


@dataclasses.dataclass
class Chart:
    title: str
    subtitle: str
    series: list         # names
    groups: list         # (name, [Bar])
    log: bool = True
    unit: str = "x"      # behind a value; % shows it a hundredfold


def ticks(lo, hi, log):
    if not log:
        step = 10 ** math.floor(math.log10(hi)) / 2
        while hi / step > 10:
            step *= 2
        return [i * step for i in range(int(hi / step + 1e-9) + 1)]
    return [m * 10.0 ** e for e in range(-3, 5) for m in (1, 2, 5) if lo <= m * 10.0 ** e <= hi]


def shown(value, unit):
    return f"{100 * value:.0f} %" if unit == "%" else f"{value:.2f}".rstrip("0").rstrip(".") + unit if value < 10 else f"{value:.0f}{unit}"


class Axis:
    def __init__(self, chart):
        values = [x for _, bars in chart.groups for b in bars for x in (b.value, b.floor, b.aim) if x > 0]
        top = max(values, default=1.0)
        self.log = chart.log
        self.lo = min([0.8] + [0.9 * v for v in values]) if chart.log else 0.0
        self.hi = top * (1.15 if chart.log else 1.05)

    def x(self, value):
        part = math.log(value / self.lo) / math.log(self.hi / self.lo) if self.log else value / self.hi
        return LEFT + (WIDTH - LEFT - RIGHT) * max(0.0, min(1.0, part))


def text(x, y, what, size=11, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" {FONT} {extra}>{escape(what)}</text>'


def legend(chart):
    out, x = [], LEFT
    for i, name in enumerate(chart.series):
        out.append(f'<rect x="{x}" y="54" width="11" height="11" fill="{COLOURS[i]}"/>' + text(x + 15, 64, name))
        x += 34 + 6.3 * len(name)
    if any(b.floor for _, bars in chart.groups for b in bars):
        out.append(f'<path d="M{x} 52v15" stroke="#000" stroke-width="2"/>' + text(x + 6, 64, "floor"))
        out.append(f'<path d="M{x + 44} 52v15" stroke="#000" stroke-width="1.2" stroke-dasharray="2 2"/>' + text(x + 50, 64, "aim"))
    return out


def draw(chart):
    """The chart as the text of an SVG file."""
    axis = Axis(chart)
    bottom = TOP + sum(len(bars) * ROW + GAP for _, bars in chart.groups)
    out = [text(16, 22, chart.title, 15, 'font-weight="bold"'), text(16, 40, chart.subtitle, 11, 'fill="#555"'), *legend(chart)]
    for t in ticks(axis.lo, axis.hi, chart.log):
        x = axis.x(t)
        one = abs(t - 1) < 1e-9 and chart.unit == "x"
        out.append(f'<path d="M{x:.1f} {TOP - 8}V{bottom}" stroke="{"#000" if one else "#ddd"}" stroke-width="1"/>')
        out.append(text(x, TOP - 12, shown(t, chart.unit), 10, 'text-anchor="middle" fill="#555"'))
    y = TOP
    for name, bars in chart.groups:
        out.append(text(LEFT - 8, y + len(bars) * ROW / 2 + 4, name, 11, 'text-anchor="end"'))
        for b in bars:
            out += bar(axis, chart, b, y)
            y += ROW
        y += GAP
    body = "\n".join(out)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + 12}" viewBox="0 0 {WIDTH} {bottom + 12}">\n'
            f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n')


def bar(axis, chart, b, y):
    start, end = axis.x(max(axis.lo, 1.0) if chart.log else 0.0), axis.x(b.value)
    left, width = min(start, end), max(abs(end - start), 0.8)
    out = [f'<rect x="{left:.1f}" y="{y + 1.5}" width="{width:.1f}" height="{ROW - 3}" fill="{COLOURS[b.series]}"/>']
    room = 8 + 6 * len(shown(b.value, chart.unit))  # of the label, which stands behind the marks it would meet
    label = max(start, end)
    for limit, style in ((b.floor, 'stroke-width="2"'), (b.aim, 'stroke-width="1.2" stroke-dasharray="2 2"')):
        if limit:
            x = axis.x(limit)
            out.append(f'<path d="M{x:.1f} {y - 0.5}v{ROW + 1}" stroke="#000" {style}/>')
            label = x if label <= x < label + room else label
    out.append(text(label + 5, y + ROW - 3.5, shown(b.value, chart.unit), 10))
    return out
