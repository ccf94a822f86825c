"""The measurement behind the table of docs/checking.md runs, and tells what can be seen from what cannot."""

from __future__ import annotations

import pytest

from tests.benchmarks.detection import main


def test_a_flipped_bit_is_seen_with_a_baseline_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by SQLite nor at any level without one; and nothing is found where nothing was done."""
    main(["--seeds", "1", "--kind", "flipped-bit", "--shape", "plain"])
    head, _, flipped, everything, none = capsys.readouterr().out.splitlines()[:5]
    columns = [column.strip() for column in head.strip("|").split("|")]
    assert columns[:4] == ["injury", "n", "quick_check", "integrity_check"]
    rows = {row.split(" | ")[0]: row.strip("| ").split(" | ")[1:] for row in (flipped, everything, none)}
    assert rows["| `flipped-bit`"] == ["1", *["0 %"] * 5, *["100 %"] * 3] == rows["| **all**"]
    assert rows["| no injury"] == ["1", *["0 %"] * 8]
