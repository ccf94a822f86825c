"""Print branch coverage per distribution and fail below the bar: `python tests/support/coverage_gate.py 95`."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

import coverage


def measure() -> dict[str, tuple[int, int]]:
    """Return covered and possible lines plus branches for each import package measured."""
    data = coverage.Coverage()
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "coverage.json")
        data.json_report(outfile=str(out))
        files = json.loads(out.read_text())["files"]
    packages: dict[str, tuple[int, int]] = {}
    for name, entry in files.items():
        package = next(part for part in Path(name).parts if part.startswith("pagewarden"))
        summary = entry["summary"]
        covered = summary["covered_lines"] + summary["covered_branches"]
        possible = summary["num_statements"] + summary["num_branches"]
        before = packages.get(package, (0, 0))
        packages[package] = (before[0] + covered, before[1] + possible)
    return packages


def main(bar: float) -> int:
    """Print the table, and what is missing; return 1 if a distribution is below `bar` per cent."""
    data = coverage.Coverage()
    data.load()
    text = io.StringIO()
    data.report(file=text, show_missing=True, skip_covered=True)
    print(text.getvalue())
    measured = measure()
    failed = 0
    wanted = data.get_option("run:source_pkgs")
    assert isinstance(wanted, list)
    for package in wanted:
        if package not in measured:
            failed += 1
            print(f"{package:32} was never imported")
    for package, (covered, possible) in sorted(measured.items()):
        percent = 100.0 * covered / possible if possible else 100.0
        failed += percent < bar
        print(f"{package:32} {percent:6.2f} % of {possible} lines and branches")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
