"""The ledger's file: opened, made where there is none, and set aside where it is damaged.

1. WAL mode, so that a reader waits for nobody, and rollback-journal mode on network file systems, where WAL cannot be
   trusted (H4). With synchronous=NORMAL a loss of power may take the last commits, and never a part of one.
2. No connection checkpoints but the last one to close, which SQLite lets do so alone: a checkpoint beside a writer can
   lose to the bug of 3.7.0 to 3.51.2 that skips committed pages.
3. Connections are short: a check's, or a report's. This process opens the file through SQLite alone (H1).
4. A ledger of a newer version is left alone. A damaged one is renamed, never removed, by one process at a time.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from pagewarden.errors import LedgerUnusable
from pagewarden.live.place import NETWORK_FILE_SYSTEMS, file_system

NAME = "ledger.db"

VERSION = 2
"""Of the schema, kept as `PRAGMA user_version`."""

APPLICATION = 0x50574C31
"""`PRAGMA application_id`: "PWL1"."""

BUSY_SECONDS = 2.0
"""How long one process waits for another one's commit."""

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600  # evidence may hold what the database holds
_LOCK = "ledger.lock"
_COMPANIONS = ("", "-wal", "-shm", "-journal")

_SCHEMA = """
CREATE TABLE suspects(
    id INTEGER PRIMARY KEY,
    database TEXT NOT NULL, -- real path; bytes that are no UTF-8 are escaped
    pgno INTEGER NOT NULL,
    kind TEXT NOT NULL, -- of the finding
    object TEXT,
    checker TEXT NOT NULL,
    evidence TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('seen', 'transient', 'confirmed', 'repaired', 'gone')),
    first_seen TEXT NOT NULL, -- RFC 3339, UTC, as all times here
    last_seen TEXT NOT NULL,
    settled TEXT, -- when it was found to be transient, repaired or gone
    page_sum BLOB, -- of the page when it was last seen, 8 bytes; NULL where it could not be read
    moment TEXT NOT NULL -- of the database when it was last seen: another one means that a commit was made
);
CREATE INDEX suspects_of ON suspects(database, state, pgno);
CREATE TABLE runs(
    id INTEGER PRIMARY KEY,
    database TEXT NOT NULL,
    started TEXT NOT NULL,
    level TEXT NOT NULL,
    verdict TEXT NOT NULL,
    seconds REAL NOT NULL,
    findings INTEGER NOT NULL
);
CREATE INDEX runs_of ON runs(database, id);
CREATE TABLE checkers(
    run INTEGER NOT NULL REFERENCES runs(id),
    place INTEGER NOT NULL, -- in the run's report, from 0
    name TEXT NOT NULL,
    verdict TEXT NOT NULL,
    seconds REAL NOT NULL,
    findings INTEGER NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (run, place)
) WITHOUT ROWID;
CREATE TABLE resumes(
    database TEXT NOT NULL,
    checker TEXT NOT NULL,
    place TEXT NOT NULL, -- what the checker told `reached` last, before its time was over
    noted TEXT NOT NULL,
    PRIMARY KEY (database, checker)
) WITHOUT ROWID;
CREATE TABLE restores(
    database TEXT PRIMARY KEY,
    time TEXT NOT NULL -- when a restore or repair of ours last replaced it
) WITHOUT ROWID;
"""

_CIRCLES = """
CREATE TABLE circles( -- what runs of a checker that were cut short judged together; goes with a row of resumes
    database TEXT NOT NULL,
    checker TEXT NOT NULL,
    judged TEXT NOT NULL, -- which file, and how
    begun TEXT NOT NULL,
    runs INTEGER NOT NULL,
    covered INTEGER NOT NULL, -- in billionths
    total REAL NOT NULL,
    verdict TEXT NOT NULL,
    findings INTEGER NOT NULL,
    PRIMARY KEY (database, checker)
) WITHOUT ROWID
"""  # since version 2

T = TypeVar("T")


class Damaged(Exception):
    """The ledger's file is damaged, or is no ledger."""


class Store:
    """The ledger in one state directory."""

    def __init__(self, state: Path, told: Callable[[str], None]) -> None:
        """`told` is told what a person should know: that a damaged ledger was set aside."""
        self.path = state.absolute() / NAME
        self._told = told
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # device and inode of the file that is open

    def use(self, work: Callable[[sqlite3.Connection], T], *, make: bool) -> T | None:
        """Return `work(connection)`; with a new ledger once more, where the present one turns out to be damaged.

        None where there is none, and `make` is false. Raises LedgerUnusable.
        """
        for last in (False, True):
            try:
                connection = self._open(make)
                return None if connection is None else work(connection)
            except sqlite3.ProgrammingError:  # a mistake of ours
                raise
            except (Damaged, sqlite3.DatabaseError) as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if last or not (isinstance(error, Damaged) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)):
                    self.close()
                    raise self._unusable(str(error)) from error
                self._set_aside(str(error))
            except OSError as error:
                raise self._unusable(error.strerror or str(error)) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connection, if there is one. What it has committed is not lost if that fails."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                self._told(f"the ledger {self.path} was not closed cleanly: {error}")

    def _open(self, make: bool) -> sqlite3.Connection | None:
        """Return the connection, opened when it is first asked for. Raises Damaged, sqlite3.Error, OSError."""
        if self._connection is None:
            if not os.path.lexists(self.path):
                if not make:
                    return None
                self.path.parent.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
                _create(self.path)
            found = self.path.stat()
            self._opened = (found.st_dev, found.st_ino)
            self._connection = sqlite3.connect(
                f"file://{quote(os.fsencode(self.path))}?mode=rw",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._prepare(self._connection)
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        for setting in ("mmap_size=0", "trusted_schema=0", "synchronous=NORMAL", "wal_autocheckpoint=0"):
            connection.execute(f"PRAGMA {setting}")
        if _version(connection) == 0:
            self._make(connection)
        if _version(connection) == 1:
            self._upgrade(connection)
        version = _version(connection)
        if version > VERSION:
            self.close()
            raise LedgerUnusable(
                f"the ledger {self.path} was made by a newer version of Pagewarden (schema {version}, here {VERSION})",
                hint="pip install --upgrade pagewarden",
            )
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise Damaged("it is a database, and no ledger")

    def _make(self, connection: sqlite3.Connection) -> None:
        """Make the schema, unless another process was first. Raises Damaged where there is another one."""
        remote = file_system(os.path.realpath(self.path)) in NETWORK_FILE_SYSTEMS
        connection.execute(f"PRAGMA journal_mode={'DELETE' if remote else 'WAL'}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) == 0:
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise Damaged("it is a database, and no ledger")
                for statement in _SCHEMA.strip().split(";\n"):
                    connection.execute(statement)
                connection.execute(_CIRCLES)
                connection.execute(f"PRAGMA application_id={APPLICATION}")
                connection.execute(f"PRAGMA user_version={VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        """Make a ledger of version 1 one of this version, unless another process was first."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION
            if ours and _version(connection) == 1:
                connection.execute(_CIRCLES)
                connection.execute(f"PRAGMA user_version={VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _set_aside(self, why: str) -> None:
        """Rename the damaged ledger with what belongs to it, unless another process has done so meanwhile."""
        self.close()
        lock = os.open(self.path.parent / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = self.path.stat() if self.path.exists() else None
            if found is None or (found.st_dev, found.st_ino) != self._opened:
                return
            kept = self.path.with_name(f"{NAME}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
            for suffix in _COMPANIONS:
                companion = self.path.with_name(NAME + suffix)
                if companion.exists():
                    companion.rename(kept.with_name(kept.name + suffix))
        finally:
            os.close(lock)
        self._told(f"the ledger was damaged ({why}); it is kept as {kept}, and a new one begins")

    def _unusable(self, why: str) -> LedgerUnusable:
        return LedgerUnusable(
            f"the ledger {self.path} cannot be used: {why}", hint=f"ls -l {shlex.quote(str(self.path.parent))}"
        )


def _version(connection: sqlite3.Connection) -> int:
    """Return the schema's version. Raises sqlite3.DatabaseError where the file is no database."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _create(path: Path) -> None:
    """Make the file, for its owner alone. Nobody can have it open yet, so it may be closed again (H1)."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE))
    except FileExistsError:  # another process was first
        pass


def note_restore(state: Path, database: str, time: datetime) -> str:
    """Remember that the real path `database` was replaced by a restore or repair of ours; return a warning, or ""."""
    from pagewarden.ledger.words import moment, readable

    warnings: list[str] = []
    store = Store(state, warnings.append)
    try:
        with closing(store):
            store.use(
                lambda connection: connection.execute(
                    "INSERT INTO restores VALUES (?, ?) ON CONFLICT(database) DO UPDATE SET time = excluded.time",
                    (readable(database), moment(time)),
                ),
                make=False,
            )
    except LedgerUnusable as error:
        warnings.append(error.message)
    return "; ".join(warnings)
