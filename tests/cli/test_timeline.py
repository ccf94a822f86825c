"""The time line of `backups`: readable however many restore points there are."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from pagewarden.values import (
    BackupsReport,
    NamedPosition,
    PointCommits,
    RestorePoint,
    SourceVerdict,
    Verdict,
    Verification,
)
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


def batches(counts: list[int], *, merged: bool = False, after: int = 1) -> list[RestorePoint]:
    """Return a snapshot and batches of commits that were followed, one a minute."""
    found, txid = points(1), after
    for number, count in enumerate(counts, 1):
        time = NOW + timedelta(minutes=number)
        commits = PointCommits(count=count, earliest=time - timedelta(seconds=count), bytes=100, key="k")
        found.append(
            replace(
                found[0],
                position=replace(found[0].position, txid=txid + count, time=time),
                kind="segment",
                chain=1 + number,
                bytes_stored=1000,
                continues=txid,
                commits=None if merged or count == 1 else commits,
                merged=count if merged or count == 1 else 0,
            )
        )
        txid += count
    return found


def test_a_run_of_commits_has_one_row() -> None:
    """From where to where, from when to when, how many and how large; --all gives each batch its own."""
    found = batches([3, 1, 6])
    lines = text(found).splitlines()
    assert lines[0].startswith("app.db: 1 restore point and 10 commits, ")
    (row,) = [line for line in lines if "2b1f93aa:2-11" in line]
    assert "2026-11-22 10:15:57Z to 10:18:00Z" in row and " 10 commits " in row and " 2.9 KiB " in row
    assert len([line for line in lines if "2b1f93aa:" in line]) == 2 and "--all" in lines[-1]
    everything = text(found, everything=True).splitlines()
    assert [line.split()[0] for line in everything if "2b1f93aa:" in line] == [
        "2b1f93aa:1",
        "2b1f93aa:2-4",
        "2b1f93aa:5",
        "2b1f93aa:6-11",
    ]


def test_merged_commits_are_told_apart() -> None:
    """Of a run in which some cannot be had by themselves it says how many can."""
    assert " 2 of 7 commits " in text(batches([3, 4], merged=True))


def test_what_ends_a_run_of_commits() -> None:
    """A backup, a gap, a pin and a deletion stand by themselves; the gap says its cause."""
    found = batches([2] * 9)
    found[2] = replace(found[2], pin="")
    found[5] = replace(found[5], commits=None, gap="guard-was-down")
    found[8] = replace(found[8], deleted=NOW)
    shown = [line for line in text(found).splitlines() if "2b1f93aa:" in line]
    firsts = [line.split()[0].removeprefix("2b1f93aa:") for line in shown]
    assert firsts == ["1", "2-3", "4-5", "6-9", "11", "12-15", "16-17", "18-19"]
    assert "gap: guard-was-down" in shown[4]


def test_named_moments_stand_below() -> None:
    """The last ten of a database with what they name; the count of those before."""
    found = batches([20])
    marks = [
        NamedPosition(database="app.db", position=replace(found[1].position, txid=txid), text=f"mark {txid}", time=NOW)
        for txid in range(2, 16)
    ]
    other = NamedPosition(database="other.db", position=POINT.position, text="elsewhere", time=NOW)
    report = BackupsReport(repository="/backup", backups=tuple(found), marks=(*marks, other))
    for everything, shown in ((False, 10), (True, 14)):
        out = io.StringIO()
        paint_plain(tuple(show_backups(report, Manner(now=NOW), everything=everything)), out)
        lines = out.getvalue().splitlines()
        assert sum(line.startswith("  mark mark ") for line in lines) == shown
        assert "  mark mark 15: 2b1f93aa:15 of 2026-11-22 10:16:00Z" in lines and "elsewhere" not in out.getvalue()
        assert ("  4 earlier marks not shown" in lines) is not everything


def test_a_long_run_hides_nothing_before_it() -> None:
    """Thousands of batches are one row of the twenty that are shown in full."""
    found = batches([2] * 3000)
    shown = text(found)
    assert len(shown.splitlines()) == 5 and "2b1f93aa:2-6001" in shown and "6,000 commits" in shown
    assert "earlier" not in shown
