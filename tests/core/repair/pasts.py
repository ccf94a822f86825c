"""Databases with a past in a repository, and what may become of them afterwards."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.contracts import PastImage, RepairPolicy
from pagewarden.repair.history import History, open_history
from pagewarden.repair.request import RepairRequest
from pagewarden.runtime import Runtime
from pagewarden.standing import TICK_NS
from pagewarden.values import BackupReport

Rows = list[tuple[object, ...]]


@dataclass
class Past:
    """One database that is backed up into a repository of its own."""

    folder: Path
    runtime: Runtime

    def __post_init__(self) -> None:
        self.path = self.folder / "app.db"
        self.repository = str(self.folder / "repository")

    def make(self, mode: str, *, rows: int = 200, page_size: int = 1024) -> Self:
        """Make the database, closed."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size={page_size}")
            connection.execute(f"PRAGMA journal_mode={mode}")
            connection.execute("CREATE TABLE letters(id INTEGER PRIMARY KEY, body TEXT)")
            connection.execute("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)")
            fill(connection, rows)
        return self

    def connect(self) -> sqlite3.Connection:
        """Open it, in autocommit mode; no checkpoint comes by itself."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA wal_autocheckpoint=0")
        return connection

    def rows(self) -> Rows:
        """What SQLite reads."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            return rows_of(connection)

    def back_up(self, *, full: bool = False) -> BackupReport:
        """Back it up, when the file was not just written to."""
        self.rest()
        request = BackupRequest(database=str(self.path), repository=self.repository, full=full, check="none")
        return run_backup(request, self.runtime)

    def rest(self) -> None:
        """Wait until the next write leaves another time."""
        while self.runtime.clock().timestamp() * 1e9 - self.path.stat().st_mtime_ns < 1.5 * TICK_NS:
            self.runtime.sleep(TICK_NS / 4e9)

    def history(self, *, assume_current: bool = False, log_set_aside: bool = False) -> History:
        """What the repository knows of it now."""
        policy = RepairPolicy(assume_current=assume_current)
        request = RepairRequest(database=str(self.path), repository=self.repository, policy=policy)
        history = open_history(request, self.runtime, str(self.path), log_set_aside=log_set_aside)
        assert history is not None
        return history

    def held_by(self, history: History, image: PastImage) -> Rows:
        """The rows of an image."""
        to = self.folder / f"fetched-{len(list(self.folder.glob('fetched-*')))}.db"
        history.fetch(image, to)
        assert to.stat().st_size == image.pages * image.page_size
        with closing(sqlite3.connect(f"file:{to}?immutable=1", uri=True)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return rows_of(connection)

    def leave_log(self, connection: sqlite3.Connection) -> None:
        """Close the application's connection so that its log stays, as a crash would."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as reader:
            reader.execute("SELECT count(*) FROM letters").fetchall()
            connection.close()
        Path(f"{self.path}-shm").unlink()

    def damage(self, *, suffix: str = "", at: int, data: bytes) -> None:
        """Let bytes rot: the time of the last write stays."""
        path = f"{self.path}{suffix}"
        found = os.stat(path)
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(data)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def fill(connection: sqlite3.Connection, rows: int) -> None:
    """Insert rows, in one transaction."""
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO letters(body) VALUES(?)", ((f"letter {n} " * 9,) for n in range(rows)))
    connection.execute("COMMIT")


def rows_of(connection: sqlite3.Connection) -> Rows:
    """All rows, read without an index."""
    return [
        row for table in ("letters", "notes") for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid")
    ]


def write(connection: sqlite3.Connection, text: str = "seen") -> None:
    """Commit a change of one page."""
    connection.execute("UPDATE notes SET body = ? WHERE id = 1", (text,))


def expect_present(past: Past, why: str) -> History:
    """The present state is proved, and is what SQLite reads."""
    history = past.history()
    assert history.present is not None, history.why
    assert why in history.why
    assert past.held_by(history, history.present) == past.rows()
    return history


def expect_nothing(past: Past, why: str) -> None:
    """The present state is not proved; the owner may declare it all the same."""
    history = past.history()
    assert history.present is None, history.why
    assert why in history.why and "--assume-current" in history.why
    declared = past.history(assume_current=True)
    assert declared.present is declared.newest
    assert "declares" in declared.why


def followed(past: Past) -> sqlite3.Connection:
    """A database in WAL mode whose log has a commit that is backed up; the application still has it open."""
    connection = past.make("wal").connect()
    connection.execute("INSERT INTO notes VALUES(1, 'first')")
    past.back_up()
    return connection
