"""What tests of copies of rollback-journal databases share: databases, commits in between, judges of the result."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pagewarden.live import Pin, SnapshotTaken, settle
from pagewarden.processes.reader import PageReader
from pagewarden.repository.format import FRAME_BYTES, PageSetHeader
from tests.support.databases import backup
from tests.support.session import Session

EARLY = datetime(2000, 1, 1, tzinfo=UTC)
HEADER = PageSetHeader(page_size=512, pages=3, pages_per_frame=1, timeline="0a" * 16, txid=7, time=EARLY)

Take = Callable[..., tuple[SnapshotTaken, bytes]]
"""Takes a snapshot of a database and restores it."""


def oracle(path: Path, folder: Path) -> bytes:
    """Return what the backup API makes of the database now, through another process's files."""
    with closing(sqlite3.connect(path)) as connection:
        return backup(connection, folder / "oracle")


def sound(image: bytes, folder: Path) -> None:
    """Fail unless SQLite finds an image sound."""
    (folder / "image.db").write_bytes(image)
    with closing(sqlite3.connect(folder / "image.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class Between:
    """Does something in between, a given number of times: when the lock was let go, and after each read without it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, work: Callable[[int], object]) -> None:
        self.chances = 0
        self._times = times
        self._work = work
        self._held = False
        begin, release = Pin.begin, Pin.release
        copy, again = PageReader.copy, PageReader.recopy_changed

        def begun(pin: Pin) -> None:
            begin(pin)
            self._held = True

        def released(pin: Pin) -> None:
            was_held, self._held = self._held, False
            release(pin)
            if was_held:
                self._chance()

        def copied(*arguments: Any) -> None:
            copy(*arguments)
            self._chance()

        def copied_again(*arguments: Any, **options: Any) -> int:
            pages = again(*arguments, **options)
            self._chance()
            return pages

        monkeypatch.setattr(Pin, "begin", begun)
        monkeypatch.setattr(Pin, "release", released)
        monkeypatch.setattr(PageReader, "copy", copied)
        monkeypatch.setattr(PageReader, "recopy_changed", copied_again)
        monkeypatch.setattr(settle, "_AT_ONCE", FRAME_BYTES)

    def _chance(self) -> None:
        if not self._held:
            self.chances += 1
            if self.chances <= self._times:
                self._work(self.chances)


def big(path: Path, mode: str = "delete") -> Path:
    """Make a database of some frames, four numbered tables far apart in it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("BEGIN")
        for table in "abcd":
            connection.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, number INTEGER, body BLOB)")
            connection.executemany(
                f"INSERT INTO {table}(number, body) VALUES(0, ?)", ((bytes([i % 256]) * 2000,) for i in range(400))
            )
        connection.execute("COMMIT")
    return path


def number(image: bytes, folder: Path) -> int:
    """Return the one number that all rows of all tables hold; fail if there are two, or the image is not sound."""
    sound(image, folder)
    with closing(sqlite3.connect(folder / "image.db")) as connection:
        rows = [connection.execute(f"SELECT min(number), max(number) FROM {table}").fetchone() for table in "abcd"]
    assert len({value for row in rows for value in row}) == 1, rows
    return int(rows[0][0])


def commit(session: Session, value: int) -> None:
    """Write `value` into every row of every table, in one transaction."""
    session.run("BEGIN IMMEDIATE")
    for table in "abcd":
        session.run(f"UPDATE {table} SET number = ?", value)
    session.run("COMMIT")
