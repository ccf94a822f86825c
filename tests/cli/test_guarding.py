"""What `run`, `sync` and `mark` show."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pagewarden.events import Event
from pagewarden.guard.reports import MarkReport, RunReport, SyncReport
from pagewarden.guard.values import GuardState, GuardStatus
from pagewarden.values import Position
from pagewarden_cli.blocks import Block, paint_plain
from pagewarden_cli.guarding import Display, is_notable, show_mark, show_run, show_sync
from pagewarden_cli.render import Manner

NOW = datetime(2026, 11, 23, tzinfo=UTC)
HERE = Position(timeline="ab" * 16, txid=7, time=NOW)
STATUS = GuardStatus(
    database="/srv/app.db",
    name="app.db",
    repository="/backup",
    pid=1,
    since=NOW,
    state=GuardState.FOLLOWING,
    stored=HERE,
    commits=6,
)
BUSY = replace(
    STATUS,
    state=GuardState.WAITING,
    why="the repository is gone",
    spooled=2,
    spool_bytes=2048,
    held_back="app (pid 7)",
    rot=tuple(range(2, 30)),
    gaps=1,
    merged=3,
    lag=2.5,
)


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def painted(blocks: Sequence[Block]) -> str:
    """Return blocks as plain text."""
    out = io.StringIO()
    paint_plain(tuple(blocks), out)
    return out.getvalue()


def test_how_guards_stand_is_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each, with what matters now; nothing elsewhere, and nothing when quiet."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Display(quiet=False, verbose=False, color=False) as display:
        display.refresh([STATUS, BUSY])
    shown = terminal.getvalue()
    for text in ("following", "stored abababab:7", "2 batches wait", "held back by app (pid 7)"):
        assert text in shown
    for quiet, stderr in ((True, Terminal()), (False, io.StringIO())):
        monkeypatch.setattr(sys, "stderr", stderr)
        with Display(quiet=quiet, verbose=False, color=False) as display:
            display.refresh([STATUS])
        assert stderr.getvalue() == ""


def test_notable_events_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person should see as it comes; with --verbose somebody else shows everything."""
    gap = Event(name="guard.gap", time=NOW, database="/srv/app.db", fields={"cause": "log-restarted"})
    usual = Event(name="commits.stored", time=NOW, database="/srv/app.db")
    assert is_notable(gap)
    assert is_notable(replace(usual, name="wal.over-bound"))
    for verbose, expected in ((False, "00:00:00 guard.gap /srv/app.db cause=log-restarted\n"), (True, "")):
        stderr = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stderr)
        with Display(quiet=False, verbose=verbose, color=False) as display:
            display.observe(gap)
            display.observe(usual)
        assert stderr.getvalue() == expected


def test_what_became_of_guards() -> None:
    """What is stored, what was merged and healed, what waits, and which pages are damaged, also when quiet."""
    manner = Manner(now=NOW)
    sound = RunReport(guards=(STATUS,), seconds=1.0)
    assert sound.exit_code == 0
    assert painted(show_run(sound, manner)) == "/srv/app.db: stored up to abababab:7, 6 commits\n"
    damaged = RunReport(guards=(BUSY,), seconds=1.0)
    assert damaged.exit_code == 1
    shown = painted(show_run(damaged, manner))
    assert "no commit changed pages 2, 3, 4" in shown
    assert "21 …" in shown
    assert "3 of them merged, 1 gap healed" in shown
    assert "2.0 KiB wait for /backup; the next guard stores them" in shown
    assert painted(show_run(damaged, replace(manner, quiet=True))).count("\n") == 1
    nothing = RunReport(guards=(replace(STATUS, stored=None),), seconds=1.0)
    assert "nothing is stored" in painted(show_run(nothing, manner))


def test_sync_and_mark_say_where() -> None:
    """And whether a guard did it."""
    manner, quiet = Manner(now=NOW), Manner(now=NOW, quiet=True)
    synced = SyncReport(database="/srv/app.db", position=HERE, guarded=True, seconds=0.02)
    assert painted(show_sync(synced, manner)) == "/srv/app.db is stored up to abababab:7 (20 ms)\n"
    marked = MarkReport(database="/srv/app.db", text="now", position=HERE, guarded=False, seconds=0.02)
    assert painted(show_mark(marked, manner)) == (
        '/srv/app.db at abababab:7 is "now", by a backup: nothing guards it\n'
    )
    assert show_sync(synced, quiet) == show_mark(marked, quiet) == []
