"""Print branch coverage per distribution and fail below the bar: `python tests/support/coverage_gate.py 95`."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import coverage


def analysed(data: coverage.Coverage) -> Mapping[str, Any]:
    """Return what coverage says of each file, by path. It takes seconds, so it is asked once."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "coverage.json")
        data.json_report(outfile=str(out))
        files: Mapping[str, Any] = json.loads(out.read_text())["files"]
    return files


def missing(files: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each file that was not run whole: the lines that were not, and the branches."""
    for name, entry in sorted(files.items()):
        lines = [str(number) for number in entry["missing_lines"]]
        branches = [f"{begin}->{'exit' if end < 0 else end}" for begin, end in entry["missing_branches"]]
        if lines or branches:
            yield f"{entry['summary']['percent_covered']:6.2f} % {name}: {', '.join(lines + branches)}"


def measure(files: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return covered and possible lines plus branches for each import package measured."""
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
    """Print what is missing, and the table; return 1 if a distribution is below `bar` per cent."""
    data = coverage.Coverage()
    data.load()
    files = analysed(data)
    print(*missing(files), sep="\n")
    measured = measure(files)
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
