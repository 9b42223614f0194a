#!/usr/bin/env python3
"""summary.py RESULTS.json STATUS - the last lines of scripts/test.sh, from what lit wrote.

Skipped tests are listed with their reason, then `N passed, N failed[, N skipped]`. Ends with 1 when a test failed, when there
was none, or when lit itself ended with a STATUS other than 0."""
import json
import re
import sys

GOOD, SKIPPED = {"PASS", "XFAIL", "FLAKYPASS"}, {"UNSUPPORTED", "SKIPPED", "EXCLUDED"}


def reason(test):
    found = re.search(r"(?:requires the following unavailable features:|skipped:)\s*(.+)", test["output"])
    return found.group(1).strip() if found else test["output"].strip().splitlines()[0] if test["output"].strip() else "not run"


def main():
    try:
        with open(sys.argv[1]) as f:
            tests = json.load(f)["tests"]
    except (OSError, ValueError) as e:
        print("summary: no results: %s" % e)
        tests = []
    tests = [t for t in tests if t["code"] != "EXCLUDED"]
    passed = sum(t["code"] in GOOD for t in tests)
    skipped = [t for t in tests if t["code"] in SKIPPED]
    failed = len(tests) - passed - len(skipped)
    for t in skipped:
        print("skipped %s: %s" % (t["name"], reason(t)))
    print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % len(skipped) if skipped else ""))
    return 1 if failed or not tests or sys.argv[2] != "0" else 0


if __name__ == "__main__":
    sys.exit(main())
