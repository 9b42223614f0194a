#!/usr/bin/env python3
"""check_includes.py [ROOT] - who may include whom (docs/design.md): one line for each include that breaks the direction of the layers.

A folder may include itself and what its row names; a file belongs to the longest folder that fits. Only quoted includes of the project
and <attn/...> are looked at, and LLVM's headers, which belong to the backends alone."""
import os
import re
import sys

MAY_INCLUDE = {
    "ir/base": [],
    "ir/pattern": ["ir/base"],
    "ir/kernel": ["ir/base", "ir/pattern"],
    "ir/pass": ["ir/base", "ir/pattern", "ir/kernel"],
    "dsl": ["ir/base", "ir/pattern", "frontend"],
    "frontend": ["ir/base", "ir/pattern", "dsl"],
    "backends": ["ir/base", "ir/pattern", "ir/kernel", "runtime/include/attn/abi.h", "runtime/include/attn/kernel_args.def"],
    "runtime/include": [],
    "runtime/src": ["runtime/include"],
    "tools": ["ir", "frontend/frontend.h", "backends/backend.h", "runtime/include"],
    "bench": ["runtime/include", "runtime/src/forward.h", "tools/common"],
    "examples": ["runtime/include"],
    "tests/engine": ["examples/engine/rotary.h", "tests/unit/check.h"],
    "tests": ["ir", "frontend/frontend.h", "backends", "runtime", "tools/common", "tools/attnc/coverage.h", "tools/attnc/tuning_db.h",
              "tools/attnc/tune_score.h", "tools/attnc/tune_shape.h", "tools/attnc/tune_space.h"],
}
GENERATED = {"attn.tab.h", "attn.lex.h", "tiny.h", "llama4.h", "gpt_oss.h"}  # made in the build folder
LLVM = re.compile(r"llvm-c/|llvm/")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.M)


def layer_of(path):
    fits = [f for f in MAY_INCLUDE if path.startswith(f + "/")]
    return max(fits, key=len) if fits else None


def target_of(root, path, bracket, name):
    """the file of the project that an include names, or None"""
    if bracket == "<":
        return "runtime/include/" + name if name.startswith("attn/") else None
    for place in (os.path.dirname(path), ""):
        found = os.path.normpath(os.path.join(place, name))
        if os.path.exists(os.path.join(root, found)):
            return found
    return None if name in GENERATED else name


def complaint(root, path, bracket, name):
    layer = layer_of(path)
    if LLVM.match(name):
        return None if layer == "backends" else "LLVM belongs to the backends"
    if bracket == '"' and name.endswith(".c"):
        return "source files are not included"
    target = target_of(root, path, bracket, name)
    if target is None:
        return None
    if any(target == a or target.startswith(a + "/") for a in [layer] + MAY_INCLUDE[layer]):
        return None
    return "%s may not know %s" % (layer, layer_of(target) or target)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    wrong = looked = 0
    for folder in sorted({f.split("/")[0] for f in MAY_INCLUDE}):
        for where, folders, files in os.walk(os.path.join(root, folder)):
            folders[:] = [f for f in folders if not f.startswith((".", "build")) and f != "consumer"]
            for file in sorted(files):
                if not file.endswith((".c", ".h", ".def", ".y", ".l")):
                    continue
                path = os.path.relpath(os.path.join(where, file), root)
                with open(os.path.join(where, file), encoding="utf-8") as f:
                    for bracket, name in INCLUDE.findall(f.read()):
                        looked += 1
                        what = complaint(root, path, bracket, name)
                        if what:
                            wrong += 1
                            print('%s: includes %s: %s' % (path, name, what))
    print("%d includes, %d wrong" % (looked, wrong))
    return 1 if wrong or not looked else 0


if __name__ == "__main__":
    sys.exit(main())
