"""check_picture.py PICTURE.svg N: the coloured area of the panels of small.attn is the number of visible pairs."""
import sys
import xml.etree.ElementTree as ET

N = int(sys.argv[2])
SVG = "{http://www.w3.org/2000/svg}"
VISIBLE = {"#3f7fc4", "#f08a24"}  # in full and in partial tiles
root = ET.parse(sys.argv[1]).getroot()
rects = [(float(r.get("x", 0)), float(r.get("y", 0)), float(r.get("width")), float(r.get("height")), r.get("fill"))
         for r in root.iter(SVG + "rect")]
frames = sorted({(x + 1, y + 1, w - 2) for x, y, w, h, fill in rects if fill == "#aab4be" and h == 1 and w > 100})
panels = {}
for x, y, side in frames:  # upper and lower edge of a frame: the upper one has cells below it
    area = sum(w * h for rx, ry, w, h, fill in rects if fill in VISIBLE and x <= rx < x + side and y <= ry < y + side)
    if area:
        panels[x] = area / (side / N) ** 2
masks = [lambda q, k: k <= q and q // 8 == k // 8, lambda q, k: k <= q]
want = [sum(m(q, k) for q in range(N) for k in range(N)) for m in masks]
got = [round(panels[x], 3) for x in sorted(panels)]
assert got == want, (got, want)
