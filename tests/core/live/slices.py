"""What tests of copies in slices share: databases, commits between two slices, and judges of the result."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.live import Pin, SnapshotTaken, settle
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
    """Does something whenever the lock was let go, a given number of times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, work: Callable[[int], object]) -> None:
        self.releases = 0
        real = Pin.release

        def release(pin: Pin) -> None:
            held = any(connection.in_transaction for connection in pin._all)
            real(pin)
            if held:
                self.releases += 1
                if self.releases <= times:
                    work(self.releases)

        monkeypatch.setattr(Pin, "release", release)
        monkeypatch.setattr(settle, "_FIRST_SLICE", FRAME_BYTES)
        monkeypatch.setattr(settle, "_AGAIN", FRAME_BYTES)
        monkeypatch.setattr(settle, "_AIM", 1e-9)  # every slice is one frame


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
