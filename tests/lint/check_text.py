"""check_text.py ROOT - what every text file of the project keeps to. One line for each break; exit status 1 when there is one."""
import os
import re
import sys

TEXT = (".c", ".h", ".def", ".y", ".l", ".py", ".sh", ".md", ".attn", ".air", ".test", ".txt", ".cmake", ".in", ".json")
CODE = (".c", ".h", ".def", ".y", ".l")
MACHINE = re.compile(r"(?<![A-Za-z0-9_.}/-])/(?:work|root|home|tmp|mnt|farm)/")


def breaks(path, lines):
    for number, line in enumerate(lines, 1):
        if MACHINE.search(line):
            yield number, "a path of one machine"
        if "\t" in line:
            yield number, "a tab"
        if line != line.rstrip() and not path.endswith(".md"):
            yield number, "a blank at the end"
    if path.endswith(CODE) and lines and not re.match(r"/\* ([a-z]+/)?%s\b.* - \S" % re.escape(path), lines[0]):
        yield 1, "does not begin with /* %s - its purpose" % path


def main():
    root, wrong, looked = sys.argv[1], 0, 0
    for where, folders, files in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith("build") and f not in (".git", "cases", "__pycache__")]
        for file in sorted(files):
            if not file.endswith(TEXT):
                continue
            with open(os.path.join(where, file), encoding="utf-8") as f:
                lines = f.read().splitlines()
            looked += 1
            for number, what in breaks(file, lines):
                wrong += 1
                print("%s:%d: %s" % (os.path.relpath(os.path.join(where, file), root), number, what))
    print("%d files, %d breaks" % (looked, wrong))
    return 1 if wrong or not looked else 0


if __name__ == "__main__":
    sys.exit(main())
