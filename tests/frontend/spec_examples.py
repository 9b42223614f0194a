"""Compiles every example of dsl/SPEC.md: spec_examples.py SPEC.md COMMAND...; the command is run with a file as its last argument.

```attn blocks must compile, ```attn-error SLUG blocks must be refused with that slug and the text of their line `// says: ...`."""
import os
import re
import subprocess
import sys
import tempfile

BLOCK = re.compile(r"^```(attn(?:-error)?)[ ]*(\S*)\n(.*?)^```$", re.M | re.S)


def examples(path):
    with open(path, encoding="utf-8") as f:
        spec = f.read()
    for m in BLOCK.finditer(spec):
        yield spec.count("\n", 0, m.start()) + 1, m.group(1), m.group(2), m.group(3)


def problem(kind, slug, source, result):
    said = result.stderr.decode("utf-8", "replace")
    if kind == "attn":
        return "" if result.returncode == 0 else "does not compile:\n" + said
    wanted = re.search(r"^// says: (.*)$", source, re.M)
    if result.returncode != 1:
        return "exit status %d, not 1\n%s" % (result.returncode, said)
    if not wanted or not slug:
        return "says neither its slug nor its message"
    return "" if "[attn-%s]" % slug in said and wanted.group(1) in said else "says something else:\n" + said


def main():
    spec, command = sys.argv[1], sys.argv[2:]
    count = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "example.attn")
        for line, kind, slug, source in examples(spec):
            with open(path, "w", encoding="utf-8") as f:
                f.write(source)
            why = problem(kind, slug, source, subprocess.run(command + [path], capture_output=True))
            count += 1
            if why:
                failed += 1
                print("%s:%d: example %s" % (spec, line, why))
    print("%d examples, %d failed" % (count, failed))
    sys.exit(1 if failed or count < 10 else 0)


main()
