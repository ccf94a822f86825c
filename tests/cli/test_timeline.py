"""The time line of `backups`: readable however many restore points there are."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from pagewarden.values import BackupsReport, RestorePoint, SourceVerdict, Verdict, Verification
from pagewarden_cli.blocks import paint_plain, paint_rich
from pagewarden_cli.render import Manner, render
from pagewarden_cli.timeline import SHOWN_DAYS, SHOWN_POINTS, show_backups
from tests.cli.test_render import NOW, POINT

HALF_HOUR = timedelta(minutes=30)


def points(count: int, every: timedelta = HALF_HOUR) -> list[RestorePoint]:
    """Return a history that ends now: a snapshot each day, segments between."""
    return [
        replace(
            POINT,
            position=replace(POINT.position, txid=number, time=NOW - every * (count - number)),
            kind="segment" if number % 48 else "snapshot",
            chain=1 + number % 48,
        )
        for number in range(1, count + 1)
    ]


def text(found: list[RestorePoint], *, everything: bool = False) -> str:
    """Return what a pipe gets."""
    out = io.StringIO()
    report = BackupsReport(repository="/backup", backups=tuple(found))
    paint_plain(tuple(show_backups(report, Manner(now=NOW), everything=everything)), out)
    return out.getvalue()


def test_ten_thousand_points_are_readable() -> None:
    """The newest in full and last, 14 days before them by day, the rest by month; every one is counted once."""
    shown = text(points(10_000)).splitlines()
    assert len(shown) < 60
    assert shown[0] == "app.db: 10,000 restore points, 2026-04-28 to 2026-11-22, 19.5 GiB stored"
    counted = [line.split() for line in shown if line.startswith("  2026-")]
    assert sum(int(row[1].replace(",", "")) for row in counted) == 10_000 - SHOWN_POINTS
    assert [row[0] for row in counted] == sorted(row[0] for row in counted)
    assert len([row for row in counted if len(row[0]) == 10]) == SHOWN_DAYS
    full = [line for line in shown if line.startswith("  2b1f93aa:")]
    assert len(full) == SHOWN_POINTS
    assert full[-1].split()[:7] == ["2b1f93aa:10000", "2026-11-22", "10:15:00Z", "0", "s", "ago", "segment"]
    assert "--all" in shown[-1]
    assert len(text(points(10_000), everything=True).splitlines()) == 10_002


def test_few_points_are_all_in_full() -> None:
    """A summary of a handful would be longer than the handful."""
    shown = text(points(SHOWN_POINTS + 5))
    assert "earlier" not in shown and "--all" not in shown
    assert shown.count("2b1f93aa:") == SHOWN_POINTS + 5


def test_pins_and_deletions_are_seen() -> None:
    """A pinned one has its row wherever it stands; deleted ones are counted, and say since when."""
    found = points(500)
    found[3] = replace(found[3], pin="before the migration")
    found[4] = replace(found[4], pin="")
    found[5] = replace(found[5], deleted=NOW)
    found[-1] = replace(found[-1], deleted=NOW, pin="x")
    shown = text(found)
    assert "2b1f93aa:4 " in shown and "pinned: before the migration\n" in shown
    assert "2b1f93aa:5 " in shown and "pinned\n" in shown
    assert "  1 deleted\n" in shown
    assert "deleted 2026-11-22; pinned: x\n" in shown


def test_verdicts_of_source_and_verification() -> None:
    """Each in a word, and in groups with their counts."""
    found = points(100)
    proved = Verification(state="ok", data=True, time=NOW)
    found[:30] = [replace(each, verification=proved) for each in found[:30]]
    found[30] = replace(found[30], verification=replace(proved, state="damaged"))
    found[31] = replace(found[31], source=SourceVerdict(verdict=Verdict.DAMAGED, level="quick"))
    for at, state in ((-3, replace(proved, data=False)), (-2, replace(proved, state="missing")), (-1, proved)):
        found[at] = replace(found[at], verification=state)
    shown = text(found)
    assert [line.split()[-1] for line in shown.splitlines()[-4:-1]] == ["bytes", "missing", "data"]
    assert "damaged" in shown
    day = next(line for line in shown.splitlines() if "  2026-11-20 " in line)
    assert "sound" in day and "data" in day


def test_several_databases() -> None:
    """Each has its line and its table."""
    other = [replace(each, database="other.db") for each in points(2)]
    shown = text([*points(2), *other])
    assert shown.count("restore points, ") == 2
    assert "\n\nother.db: 2 restore points" in shown


def test_a_clock_that_stepped_back_counts_each_once() -> None:
    """H23: the order is that of the commits, and a day's row counts what belongs to the day."""
    found = points(200)
    found[120] = replace(found[120], position=replace(found[120].position, time=NOW - timedelta(days=400)))
    shown = text(found)
    counted = [line.split() for line in shown.splitlines() if line.startswith("  202")]
    assert sum(int(row[1]) for row in counted) == 200 - SHOWN_POINTS
    assert counted[0][0] == "2025-10"


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_it_fits_the_terminal(width: int) -> None:
    """A narrow one does without age, size or share, and no row is folded; at 120 columns all are there."""
    out = io.StringIO()
    report = BackupsReport(repository="/backup", backups=tuple(points(1000)))
    paint_rich(render(report, Manner(now=NOW)), Console(file=out, width=width, force_terminal=False))
    lines = out.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    header = next(line for line in lines if "kind" in line)
    assert ("age" in header, "of size" in header) == (width >= 120, width >= 100)
    if width > 60:
        assert len(lines) < 45
