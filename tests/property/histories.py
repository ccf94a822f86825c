"""Random histories of a database: what applications do to one, a restore point after each step, an oracle of each."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import BackupReport, Position

_COUNTERS = (range(24, 28), range(40, 44), range(92, 100))
"""Bytes of page 1 that SQLite's backup writes for itself: change counter, schema cookie, version-valid-for, version."""


def oracle(path: Path) -> bytes:
    """Return the database at its present commit, copied by SQLite's own backup, without the counters of page 1."""
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        source.backup(copy)
        return plain(copy.serialize())


def plain(data: bytes) -> bytes:
    """Return a database without the counters of its header, and without its journal mode."""
    result = bytearray(data)
    for place in (*_COUNTERS, range(18, 20)):
        for at in place:
            if at < len(result):
                result[at] = 0
    return bytes(result)


@dataclass
class History:
    """One database, its repository, and what it was at each restore point."""

    folder: Path
    runtime: Runtime
    chance: random.Random
    wal: bool = False
    moments: dict[tuple[str, int], bytes] = field(default_factory=dict)  # by timeline and txid
    kinds: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)  # what was done, for messages

    @property
    def database(self) -> Path:
        """The database."""
        return self.folder / "app.db"

    @property
    def url(self) -> str:
        """The repository."""
        return str(self.folder / "repository")

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            yield connection

    def create(self, *, page_size: int, auto_vacuum: int) -> None:
        """Make the database, with enough rows that most steps change less than half of its pages."""
        with self.connected() as connection:
            connection.execute(f"PRAGMA page_size={page_size}")
            connection.execute(f"PRAGMA auto_vacuum={auto_vacuum}")
            connection.execute(f"PRAGMA journal_mode={'wal' if self.wal else 'delete'}")
            connection.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body BLOB)")
            connection.execute("CREATE INDEX item_name ON item(name)")
            self.insert(connection, 250)

    def insert(self, connection: sqlite3.Connection, rows: int) -> None:
        """Insert rows, some with overflow pages."""
        sizes = [self.chance.choice((20, 300, 300, 3000)) for _ in range(rows)]
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO item(name, body) VALUES(?, ?)",
            [(f"name {self.chance.randrange(10**6)}", self.chance.randbytes(size)) for size in sizes],
        )
        connection.execute("COMMIT")

    def step(self) -> None:
        """Do something to the database."""
        name, act = self.chance.choice(STEPS)
        self.done.append(name)
        with self.connected() as connection:
            act(self, connection)

    def back_up(self, *, full: bool = False) -> BackupReport:
        """Take a restore point, and note what the database is."""
        request = BackupRequest(database=str(self.database), repository=self.url, check="none", full=full)
        report = run_backup(request, self.runtime)
        self.kinds.append(report.kind)
        self.done.append(f"{report.kind} {report.position}")
        self.moments[report.position.timeline, report.position.txid] = oracle(self.database)
        return report

    def go_back(self) -> None:
        """Restore an older point over the database: the next backup starts a timeline."""
        points, _ = self.runtime.repository(self.url).restore_points()
        point = self.chance.choice(points).position
        newest = [each.position for each in points if each.position.txid == point.txid][-1]  # the one that is meant
        self.done.append(f"back to {newest}")
        run_restore(RestoreRequest(repository=self.url, to=str(self.database), txid=newest.txid), self.runtime)
        assert oracle(self.database) == self.moment(newest), self.done

    def moment(self, position: Position) -> bytes:
        """Return what the database was."""
        return self.moments[position.timeline, position.txid]

    def prove(self) -> int:
        """Assert that every listed restore point comes back as the database was; return how many those are."""
        from tests.support.restoring import bring_back_chain

        repository = self.runtime.repository(self.url)
        points, problems = repository.restore_points()
        assert problems == (), self.done
        for point in points:
            data = bring_back_chain(self.runtime.reader, repository, repository.chain(point), self.folder / "back")
            assert plain(data) == self.moment(point.position), (point, self.done)
            with closing(sqlite3.connect(f"file:{self.folder / 'back'}?mode=ro&immutable=1", uri=True)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], (point, self.done)
        return len(points)


Act = Callable[[History, sqlite3.Connection], object]


def _update(history: History, connection: sqlite3.Connection) -> None:
    ids = [row for (row,) in connection.execute("SELECT id FROM item")]
    connection.execute("BEGIN")
    for each in history.chance.sample(ids, min(len(ids), history.chance.randrange(1, 12))):
        size = history.chance.choice((20, 300, 5000))
        connection.execute("UPDATE item SET body = ? WHERE id = ?", (history.chance.randbytes(size), each))
    connection.execute("COMMIT")


def _roll_back(history: History, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("DELETE FROM item")
    connection.execute("ROLLBACK")


def _schema(history: History, connection: sqlite3.Connection) -> None:
    name = f"t{history.chance.randrange(10**6)}"
    connection.execute(f"CREATE TABLE {name}(a, b)")
    connection.execute(f"INSERT INTO {name} SELECT id, name FROM item LIMIT 40")
    connection.execute(f"CREATE INDEX {name}_b ON {name}(b)")


def _drop(history: History, connection: sqlite3.Connection) -> None:
    found = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 't%' AND type = 'table'").fetchall()
    for (name,) in found[:1]:
        connection.execute(f"DROP TABLE {name}")


def _page_size(history: History, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode=delete")
    connection.execute(f"PRAGMA page_size={history.chance.choice((512, 1024, 4096))}")
    connection.execute("VACUUM")
    connection.execute(f"PRAGMA journal_mode={'wal' if history.wal else 'delete'}")


def _mode(history: History, connection: sqlite3.Connection) -> None:
    history.wal = not history.wal
    connection.execute(f"PRAGMA journal_mode={'wal' if history.wal else 'delete'}")


STEPS: tuple[tuple[str, Act], ...] = (
    ("insert", lambda history, connection: history.insert(connection, history.chance.randrange(1, 25))),
    ("update", _update),
    ("update", _update),
    ("delete", lambda history, connection: connection.execute("DELETE FROM item WHERE id % 11 = abs(random()) % 11")),
    ("delete much", lambda history, connection: connection.execute("DELETE FROM item WHERE id % 3 = 0")),
    ("vacuum", lambda history, connection: connection.execute("VACUUM")),
    ("shrink", lambda history, connection: connection.execute("PRAGMA incremental_vacuum(9)").fetchall()),
    ("checkpoint", lambda history, connection: connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()),
    ("roll back", _roll_back),
    ("schema", _schema),
    ("drop", _drop),
    ("page size", _page_size),
    ("journal mode", _mode),
    ("nothing", lambda history, connection: None),
)
"""What is done between two restore points."""
