"""What people read of a verification: what is not whole, what depends on it, and what can still be restored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pagewarden.values import Verdict, VerifiedPoint, VerifyReport
from tests.cli.test_render import POSITION, block, text

GOOD = VerifiedPoint(database="app.db", position=POSITION, key="k", state="ok", data=True)
VERIFY = VerifyReport(
    repository="/backup", verdict=Verdict.SOUND, read_data=True, bytes_read=2 << 20, seconds=0.25, points=(GOOD,)
)


def test_a_sound_repository() -> None:
    """What was proved, and how much was read for it."""
    assert text(VERIFY) == block(
        """
        /backup is sound
          1 restore point, 2.0 MiB read in 0.25 s: data read, page sums and database sums proved
          database  position    time                  state
          app.db    2b1f93aa:3  2026-11-22 08:15:00Z  ok
        """
    )
    assert text(VERIFY, quiet=True) == ""
    assert "--read-data proves the pages" in text(replace(VERIFY, read_data=False))


def at(txid: int, **named: Any) -> VerifiedPoint:
    """Return what was found of one restore point of a chain."""
    return replace(GOOD, position=replace(POSITION, txid=txid), key=f"k{txid}", **named)


def test_a_damaged_repository() -> None:
    """Quiet leaves the points that are not ok; leftovers are named to those who ask."""
    missing = VerifiedPoint(database="app.db", position=None, key="k", state="missing", why="the object is gone")
    report = replace(VERIFY, verdict=Verdict.DAMAGED, points=(GOOD, missing), leftovers=("x/y",), warnings=("w",))
    assert text(report, quiet=True) == block(
        """
        /backup is damaged
          missing: app.db: the object is gone
        warning: w
        """
    )
    assert "  1 object of backups that never finished; the next backup removes them\n" in text(report)
    assert "    x/y\n" in text(report, verbose=True)


def test_a_damaged_chain_says_what_can_still_be_restored() -> None:
    """One row for what is damaged, with all that need it and the last whole one before it; --verbose has all rows."""
    damaged = at(2, state="damaged", why="rot", instead=POSITION)
    above = [at(txid, state="damaged", why="it needs k2", needs="k2", instead=POSITION) for txid in (3, 4)]
    report = replace(VERIFY, verdict=Verdict.DAMAGED, points=(at(1), damaged, *above))
    assert text(report, quiet=True) == block(
        """
        /backup is damaged
          damaged: app.db 2b1f93aa:2: rot
            2 restore points after it, up to 2b1f93aa:4, need it, too
            the last whole one before it is 2b1f93aa:3 of 2026-11-22 08:15:00Z
        """
    )
    assert "    2b1f93aa:3 needs it, too\n" in text(replace(report, points=report.points[:3]))
    assert text(report, quiet=True, verbose=True).count("damaged: app.db") == 3
    first = replace(damaged, instead=None)
    assert "rot\n    no one before it is whole\n" in text(replace(report, points=(first,)))
    # Where the object has no row of its own, because its manifest is gone, one of those that need it is told of.
    assert text(replace(report, points=tuple(above)), quiet=True).count("it needs k2") == 1


def test_many_sound_points_have_no_rows() -> None:
    """And a run for a part says how much it read."""
    report = replace(VERIFY, points=tuple(at(txid) for txid in range(1, 31)), objects=30, objects_read=2)
    assert "position" not in text(report)
    assert "  2 of 30 objects read; the next run for a part goes on from there\n" in text(report)
    assert text(report, verbose=True).count("  ok") == 30


def test_a_stray_object_is_no_restore_point() -> None:
    """It is counted by itself."""
    stray = VerifiedPoint(database="app.db", position=None, key="k", state="missing", why="no manifest names it")
    broken = replace(stray, state="damaged")
    shown = text(replace(VERIFY, verdict=Verdict.DAMAGED, points=(GOOD, broken, stray)))
    assert "  2 restore points, 1 object without a manifest, 2.0 MiB read" in shown


def test_an_empty_repository_has_no_table() -> None:
    """There was nothing to judge."""
    shown = text(replace(VERIFY, verdict=Verdict.UNKNOWN, points=()))
    assert shown.startswith("/backup is unknown\n  0 restore points")
    assert "position" not in shown
