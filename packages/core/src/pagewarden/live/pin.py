"""The SQLite side of a live read: a transaction that keeps one commit readable until the page reader is done."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pagewarden.errors import DatabaseUnreadable, DatabaseUnsettled, PagewardenError
from pagewarden.live.connection import BUSY_SECONDS, connect, failure, open_readonly
from pagewarden.live.place import Place

_READ = "PRAGMA schema_version"
# It reads page 1 and is run to its end, which begins a read transaction as any SELECT does; BEGIN alone pins nothing.
# A SELECT would first parse the schema, and so could not pin a database whose schema is damaged.

_POLL = 0.001  # seconds between two tries for a lock


class Pin:
    """Step 1 of docs/live-read.md: read transactions on one database, by `begin`, until `release`.

    In WAL mode no checkpoint gets past the pin, and the write lock is never taken. In rollback-journal mode it is a
    SHARED lock, which stops commits: hold it briefly. A context manager; leaving it closes every connection.
    """

    def __init__(
        self,
        place: Place,
        *,
        timeout: float = BUSY_SECONDS,
        connections: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the database. `connections` more connections are pinned with it, for those who read through SQLite.

        Raises DatabaseUnreadable, NotADatabase or DatabaseBusy.
        """
        if place.on_network and place.companions & {"-wal", "-shm"}:
            raise refused_on_network(place)
        self.place = place
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self._all: list[sqlite3.Connection] = []
        try:
            self._all.append(connect(place.path, timeout=0.0))
            # A header that claims more pages than there are, or a damaged schema, must not keep the file from being
            # read: lockBtree() in SQLite's btree.c lets such a file pass only with this. Nothing can be written.
            self._all[0].execute("PRAGMA writable_schema=1")
            for _ in range(connections):
                self._all.append(open_readonly(place.path, timeout=timeout))
        except BaseException:
            self.close()
            raise

    @property
    def connections(self) -> tuple[sqlite3.Connection, ...]:
        """The further connections: pinned with the pin, and closed with it."""
        return tuple(self._all[1:])

    @property
    def created(self) -> tuple[str, ...]:
        """Files that are there only because the database was opened: an empty -wal and a -shm (H33)."""
        return self.place.created_since()

    def begin(self) -> None:
        """Pin the newest commit. Raises DatabaseBusy, NotADatabase, DatabaseUnreadable or DatabaseUnsettled."""
        self._read("BEGIN", _READ)
        if not self.place.unchanged():
            self.release()
            raise DatabaseUnsettled(f"{self.place.path} was replaced while it was opened", hint="try again")

    def look(self) -> None:
        """Read once without a pin, so that SQLite has made what it needs: a wal-index, where there was none."""
        self._read(_READ)

    def journal_mode(self) -> str:
        """Return the journal mode as SQLite has it, such as "wal" or "delete". Raises as `begin` does."""
        self._read(_READ)  # what is locked is waited for
        try:
            row = self._all[0].execute("PRAGMA journal_mode").fetchone()
        except sqlite3.Error as error:
            raise failure(error, self.place.path) from error
        return str(row[0])

    def still_pinned(self) -> bool:
        """Return whether every transaction is still open, and the same file still stands at the path (step 6)."""
        return all(connection.in_transaction for connection in self._all) and self.place.unchanged()

    def _read(self, *statements: str) -> None:
        """Execute statements on every connection; what is locked is tried again, for as long as the pin was told to.

        Every millisecond, because SQLite's own busy handler soon sleeps for a tenth of a second: between writers that
        commit all the time, with a rollback journal, it hardly ever comes at the right moment.
        """
        until = self._clock() + self._timeout
        while True:
            try:
                for connection in self._all:
                    for statement in statements:
                        connection.execute(statement).fetchall()
                return
            except sqlite3.Error as error:
                self.release()
                busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
                if not busy or self._clock() >= until:
                    raise failure(error, self.place.path) from error
            self._sleep(_POLL)

    def release(self) -> None:
        """Let go of the commit. The connections stay open."""
        for connection in self._all:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connections, which lets go of the commit."""
        while self._all:
            self._all.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def patience(timeout: float, deadline: float | None, clock: Callable[[], float]) -> float:
    """Return the seconds to wait for a lock: `timeout`, but not beyond `deadline`, a reading of `clock`."""
    return timeout if deadline is None else min(timeout, max(0.0, deadline - clock()))


def refused_on_network(place: Place) -> PagewardenError:
    """Return the error for a database in WAL mode on a network file system (H4)."""
    return DatabaseUnreadable(
        f"{place.path} is in WAL mode on a network file system ({place.file_system}), where locks cannot be trusted",
        hint="run this on the machine that has the disk",
    )
