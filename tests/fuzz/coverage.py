"""What llvm-cov says of the files that are named: for tests/fuzz/coverage."""

import json
import os
import re
import sys


def relative(path):
    return os.path.relpath(os.path.realpath(path))


def rows(report, wanted):
    lines = {
        relative(file["filename"]): file["summary"]["lines"]
        for file in json.loads(report)["data"][0]["files"]
    }
    print(f"{'file':<44}{'lines':>6}{'ran':>6}{'share':>8}")
    count = covered = 0
    for name in wanted:
        of = lines[name]  # One that is gone has to leave the list.
        count += of["count"]
        covered += of["covered"]
        print(f"{name:<44}{of['count']:>6}{of['covered']:>6}{of['percent']:>7.1f}%")
    print(f"{'all':<44}{count:>6}{covered:>6}{100 * covered / count:>7.1f}%")


def lines_that_did_not_run(report, wanted):
    named = False
    for line in report.splitlines():
        if line.startswith("/") and line.endswith(":"):
            named = relative(line[:-1]) in wanted
            if named:
                print(relative(line[:-1]))
        elif named and re.match(r" *\d+\| +0\|", line):
            print(line)


report = sys.stdin.read()
if report.startswith("{"):
    rows(report, sys.argv[1:])
else:
    lines_that_did_not_run(report, sys.argv[1:])
