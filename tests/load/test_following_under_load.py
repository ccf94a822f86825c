"""Following under load: every commit exact whatever is killed, and rot in the file told from what is written to it.

PAGEWARDEN_FULL makes the load an hour; `nox -s soak` is the long form of the first test.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.guard.guard import Guard
from pagewarden.guard.values import GuardRequest
from pagewarden.runtime import Runtime
from tests.soak.run import Choice, Soak
from tests.support import load
from tests.support.flipper import Flipper

pytestmark = pytest.mark.xdist_group("busy")  # never beside other tests that keep both cores busy

FULL = bool(os.environ.get("PAGEWARDEN_FULL"))
CALM_SECONDS = 3600.0 if FULL else 1.5
"""How long nothing may be reported under load."""

FLIPS = 100
PAGE = 4096


def test_no_commit_is_lost_or_invented_whatever_is_killed(tmp_path: Path) -> None:
    """Guard and application are killed, the target goes and comes back; the history is the application's record."""
    soak, chance = Soak(tmp_path / "soak", Choice(seed=6)), random.Random(6)
    soak.begin()
    try:
        soak.sync()
        soak.await_commits(40)
        soak.guard.kill()
        soak.await_commits(20)
        soak.guard.start()
        soak.sync()
        soak.target.cut("an empty folder")
        soak.await_commits(30)
        soak.application.kill(everyone=True)
        soak.target.bring_back()
        soak.await_commits(20)
        soak.bring_one_back(soak.stage.repository, chance)
        soak.settle()
    finally:
        soak.end()
    found = soak.report.audit
    print("\n" + "\n".join(soak.report.lines()))
    assert found.states > 80 and found.matched, found
    assert found.gaps.total() <= 1, "commits were missed while the target was away"


def test_every_flipped_bit_is_reported_as_rot_and_no_write_is(tmp_path: Path) -> None:
    """Scrubbing beside writers and checkpoints of every mode: nothing at first, then each page that was flipped."""
    database = tmp_path / "busy.db"
    load.make(database, mode="wal", rows=3000)
    cold = _add_cold_pages(database, FLIPS)
    chance = random.Random(6)
    request = GuardRequest(database=str(database), repository=str(tmp_path / "repository"), scrub=64.0)
    with (
        Runtime(state=tmp_path / "state") as runtime,
        load.running(database, ["writer", "writer", "checkpointer", "visitor"], tmp_path / "reports"),
        Flipper(database) as flipper,
    ):
        guard = Guard(request, runtime)
        try:
            guard.flush(60.0)
            _wait(lambda: guard.status().scrubbed > 1.0, 60.0)
            end = time.monotonic() + CALM_SECONDS
            while time.monotonic() < end:
                assert guard.rot == (), "what was written is called rot"
                time.sleep(0.05)
            for number, pgno in enumerate(cold, start=1):
                flipper.flip((pgno - 1) * PAGE + chance.randrange(PAGE), chance.randrange(8))
                if number % 10 == 0:
                    time.sleep(chance.random() * 0.2)
            before = guard.status().scrubbed
            _wait(lambda: len(guard.rot) >= len(cold) or guard.status().scrubbed > before + 2.0, 120.0)
            guard.flush(60.0)
            status = guard.status()
        finally:
            guard.close()
        assert guard.error is None
    assert guard.rot == tuple(cold), f"{len(set(cold) & set(guard.rot))} of {len(cold)} found"
    assert status.gaps == 0 and status.commits > 20, status


def _add_cold_pages(database: Path, count: int) -> list[int]:
    """Fill pages of the file that the load never touches, each with a row of its own; return some of them."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE cold(id INTEGER PRIMARY KEY, body BLOB)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO cold(body) VALUES(?)", ((os.urandom(3000),) for _ in range(2 * count)))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (last,) = connection.execute("PRAGMA page_count").fetchone()
    # The newest pages are leaves of that table; the last ones may share a parent that was written after them.
    return sorted(random.Random(1).sample(range(last - 2 * count + 20, last - 10), count))


def _wait(until: object, seconds: float) -> None:
    assert callable(until)
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "too slow"
        time.sleep(0.02)
