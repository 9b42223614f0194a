#!/usr/bin/env python3
"""Innermost loops of functions of an assembly file that contain products, a line each: what the loop is made of. stack: vectors there.

usage: inner_loops.py FUNCTION ... < FILE.s
"""
import re
import sys


def instructions(lines, function):
    inside = False
    for line in lines:
        line = line.split("#")[0].strip()
        if re.match(r"[A-Za-z_]\w*:$", line):
            inside = line == function + ":"
        elif inside and line and (not line.startswith(".") or line.startswith(".LBB")):
            yield line


def innermost(code):
    at = {line[:-1]: i for i, line in enumerate(code) if line.endswith(":")}
    loops = []
    for i, line in enumerate(code):
        jump = re.match(r"j\w+\s+(\.LBB\w+)$", line)
        if jump and at.get(jump[1], i + 1) <= i:
            loops.append((at[jump[1]], i))
    return [a for a in loops if not any(b != a and b[0] >= a[0] and b[1] <= a[1] for b in loops)]


def describe(body):
    count = lambda pattern: sum(bool(re.search(pattern, x)) for x in body)
    return "products %d, embedded %d, masked %d, prefetches %d, exponentials %d, stack %d, compares %d" % (
        count(r"^vfmadd|^mulps|^vdpbf16ps"), count(r"^vfmadd.*1to16"), count(r"^vfmadd.*\{%k"), count(r"^prefetch"),
        count(r"^vscalefps"), count(r"%[er]sp.*%[xyz]mm|%[xyz]mm.*%[er]sp"), count(r"^v?p?cmp\w+ps|^v?pcmp|^vpcmp"))


def main():
    lines = list(sys.stdin)
    for function in sys.argv[1:]:
        code = list(instructions(lines, function))
        for first, last in innermost(code):
            body = code[first:last + 1]
            if any(re.match(r"vfmadd|mulps|vdpbf16ps", x) for x in body):
                print(describe(body))


main()
