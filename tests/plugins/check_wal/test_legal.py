"""Whatever SQLite may legally do to a log, nothing is found; and what is found, a recovery would really have cost."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.processes.reader import PageReader
from pagewarden.values import Severity
from tests.plugins.check_wal.histories import History
from tests.plugins.check_wal.judging import judge

STEPS = 30


def state(path: Path) -> tuple[object, ...]:
    """Return what a database holds, and what SQLite's own check says of it; or that it cannot be read."""
    questions = (
        "SELECT id, data FROM t",
        "SELECT name, sql FROM sqlite_master ORDER BY name",
        "PRAGMA integrity_check",
    )
    with closing(sqlite3.connect(path)) as connection:
        try:
            return tuple(connection.execute(question).fetchall() for question in questions)
        except sqlite3.DatabaseError as error:
            return (str(error),)


@pytest.mark.parametrize("seed", [*range(2), 1009])
def test_nothing_is_found_that_a_recovery_would_not_cost(seed: int, tmp_path: Path) -> None:
    """Two processes insert, spill, roll back, vacuum, back up into it, checkpoint in part, die and come back; after
    each step the log is judged.

    SQLite 3.40 itself can break a log: after ROLLBACK TO of a transaction that has spilled pages, a frame without salts
    may stay in the midst of the next commit, as in the last of these histories. That is damage: what a crash would
    leave of the database is not what it held.
    """
    path = tmp_path / "a.db"
    history = History(path, seed)
    judged = 0
    with PageReader() as reader:
        for _ in range(40 if seed == 1009 else STEPS):
            history.step()
            damage = [finding for finding in judge(path, reader) if finding.severity is Severity.DAMAGE]
            judged += Path(f"{path}-wal").exists()
            if damage:
                crashed = tmp_path / "crashed.db"
                for suffix in ("", "-wal"):
                    shutil.copy(f"{path}{suffix}", f"{crashed}{suffix}")
                assert state(crashed) != state(path), (history.steps, damage)
                crashed.unlink()
    history.close()
    assert judged > STEPS // 2
