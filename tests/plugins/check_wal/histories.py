"""Legal histories of a database in WAL mode: whatever SQLite may do to a log, in an order that a seed decides."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.support.session import Session, SessionError


class History:
    """A database that two other processes write to, check out, leave and are killed in, step by step."""

    def __init__(self, path: Path, seed: int) -> None:
        """Make the database in WAL mode, with a page size, encoding and auto_vacuum that the seed decides."""
        self.path = path
        self.steps: list[str] = []
        self._chance = random.Random(seed)
        self._tables = 0
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size={self._chance.choice((512, 1024, 4096))}")
            connection.execute(f"PRAGMA encoding='{self._chance.choice(('UTF-8', 'UTF-16le'))}'")
            connection.execute(f"PRAGMA auto_vacuum={self._chance.randrange(3)}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
        self._sessions = [self._open(), self._open()]

    def step(self) -> None:
        """Let one of the processes do one thing."""
        deed = self._chance.choice(self._deeds())
        self.steps.append(deed.__name__)
        number = self._chance.randrange(2)
        try:
            deed(number)
        except SessionError as error:
            # Locked, or not possible within a transaction, or outside of one.
            assert str(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_ERROR")), error
            self.steps[-1] += f": {error}"

    def close(self) -> None:
        """End both processes."""
        for session in self._sessions:
            session.close()

    def _open(self) -> Session:
        session = Session(self.path)
        session.run(f"PRAGMA wal_autocheckpoint={self._chance.choice((0, 0, 20))}")
        session.run(f"PRAGMA cache_size={self._chance.choice((5, 2000))}")
        session.run(f"PRAGMA synchronous={self._chance.choice(('OFF', 'NORMAL', 'FULL'))}")
        return session

    def _deeds(self) -> list[Callable[[int], None]]:
        common: list[Callable[[int], None]] = [self.insert, self.update, self.delete, self.overwrite]
        rare: list[Callable[[int], None]] = [
            self.create,
            self.drop,
            self.vacuum,
            self.incremental_vacuum,
            self.back_up_into,
            self.checkpoint,
        ]
        rare += [self.spill, self.savepoint, self.read, self.end, self.kill, self.reopen, self.header]
        return common * 3 + rare

    def insert(self, number: int) -> None:
        """Add rows, some with overflow pages."""
        sizes = [self._chance.choice((5, 300, 9000)) for _ in range(self._chance.randrange(1, 30))]
        self._sessions[number].run("INSERT INTO t(data) SELECT randomblob(value) FROM json_each(?)", str(sizes))

    def update(self, number: int) -> None:
        """Change rows in length."""
        self._sessions[number].run(
            "UPDATE t SET data = randomblob(?) WHERE id % 7 = ?",
            self._chance.choice((5, 3000)),
            self._chance.randrange(7),
        )

    def overwrite(self, number: int) -> None:
        """Change a row, but not its length: no page is allocated or freed."""
        self._sessions[number].run("UPDATE t SET data = randomblob(length(data)) WHERE id = (SELECT max(id) FROM t)")

    def delete(self, number: int) -> None:
        """Remove rows."""
        self._sessions[number].run("DELETE FROM t WHERE id % 3 = ?", self._chance.randrange(3))

    def create(self, number: int) -> None:
        """Change the schema."""
        self._tables += 1
        self._sessions[number].run(f"CREATE TABLE t{self._tables}(a UNIQUE, b)")
        self._sessions[number].run(f"CREATE INDEX i{self._tables} ON t(data) WHERE id % {self._tables + 1} = 0")

    def drop(self, number: int) -> None:
        """Change it back."""
        self._sessions[number].run(f"DROP TABLE IF EXISTS t{self._chance.randrange(1, self._tables + 2)}")
        self._sessions[number].run(f"DROP INDEX IF EXISTS i{self._chance.randrange(1, self._tables + 2)}")

    def vacuum(self, number: int) -> None:
        """Write every page anew."""
        self._sessions[number].run("VACUUM")

    def incremental_vacuum(self, number: int) -> None:
        """Give pages back, where there is a ptrmap."""
        self._sessions[number].run("PRAGMA incremental_vacuum(3)")

    def header(self, number: int) -> None:
        """Change a field of page 1, and nothing else."""
        self._sessions[number].run(f"PRAGMA user_version={self._chance.randrange(100)}")

    def spill(self, number: int) -> None:
        """Write frames of a transaction that is rolled back."""
        session = self._sessions[number]
        session.run("PRAGMA cache_size=3")
        session.run("BEGIN IMMEDIATE")
        try:
            self.insert(number)
            self.update(number)
            self.update(number)
        finally:
            session.run("ROLLBACK")

    def savepoint(self, number: int) -> None:
        """Write frames, take some back, and commit."""
        session = self._sessions[number]
        session.run("BEGIN IMMEDIATE")
        for deed in (self.insert, self._mark, self.insert, self.update, self._back, self.update, self.end):
            deed(number)

    def _mark(self, number: int) -> None:
        self._sessions[number].run("SAVEPOINT s")

    def _back(self, number: int) -> None:
        self._sessions[number].run("ROLLBACK TO s")

    def read(self, number: int) -> None:
        """Begin a transaction that holds checkpoints back, if none is open."""
        self._sessions[number].run("BEGIN")
        self._sessions[number].run("SELECT count(*) FROM t")

    def end(self, number: int) -> None:
        """End it."""
        self._sessions[number].run("COMMIT")

    def checkpoint(self, number: int) -> None:
        """Bring frames into the file: all, or up to what a reader needs."""
        mode = self._chance.choice(("PASSIVE", "FULL", "RESTART", "TRUNCATE"))
        self._sessions[number].run(f"PRAGMA wal_checkpoint({mode})")

    def kill(self, number: int) -> None:
        """End a process as a crash would, perhaps in a transaction that has written frames."""
        if self._chance.random() < 0.5:
            self._sessions[number].run("PRAGMA cache_size=3")
            self._sessions[number].run("BEGIN IMMEDIATE")
            self.insert(number)
            self.update(number)
        self._sessions[number].kill()
        self._sessions[number] = self._open()

    def reopen(self, number: int) -> None:
        """Close a connection properly, both where it is the last one."""
        others = [number] if self._chance.random() < 0.5 else [0, 1]
        for each in others:
            self._sessions[each].close()
        for each in others:
            self._sessions[each] = self._open()

    def back_up_into(self, number: int) -> None:
        """Overwrite the database by the backup API, with one of the same page size, perhaps of another encoding."""
        (page_size,) = self._sessions[number].run("PRAGMA page_size")[0]
        with closing(sqlite3.connect(":memory:")) as source, closing(sqlite3.connect(self.path, timeout=0)) as target:
            source.execute(f"PRAGMA page_size={page_size}")
            source.execute(f"PRAGMA encoding='{self._chance.choice(('UTF-8', 'UTF-16be'))}'")
            source.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, data)")
            source.executemany("INSERT INTO t(data) VALUES(?)", ((number,) for number in range(40)))
            source.commit()
            source.backup(target, progress=_give_up)
        for each in range(2):  # a connection does not bear that the text encoding changes
            self._sessions[each].kill()
            self._sessions[each] = self._open()


def _give_up(status: int, _remaining: int, _total: int) -> None:
    """Do not try again for ever, as Python's backup does, where the database is locked."""
    if status not in (sqlite3.SQLITE_OK, sqlite3.SQLITE_DONE):
        raise SessionError("SQLITE_BUSY")
