"""Taking hold of the database that is about to leave its path, so that its state is one file that nobody writes (H25).

In this order, because each step destroys what the one before it needs:

1. Processes that have it open are named and refused; `force` goes on.
2. A read-only connection looks at it. A hot journal is not played back on the original, which would be to write to the
   evidence: SQLite does that on a copy.
3. An exclusive lock is taken and kept until the exchange is over; the write-ahead log is brought into the file.
4. With `force`, where others hold it: the write lock, which stops every commit, and a copy through SQLite's backup API.
   Nothing is checkpointed, because a checkpoint beside other writers may lose to the WAL-reset race.
5. What SQLite cannot open at all is put aside as it is.

Everything on the live path goes through SQLite or names files without opening them (H1).
"""

from __future__ import annotations

import errno
import os
import shlex
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from pagewarden import durable
from pagewarden.errors import DatabaseBusy, OutOfSpace, RestoreRefused
from pagewarden.holders import COMPANIONS, find_holders
from pagewarden.live.connection import json_is_taken_for_unsafe
from pagewarden.regular import odd_kind

LOCK_SECONDS = 3.0
"""How long an exclusive lock is waited for."""

Copy = Callable[[Path, Path], None]
"""Copies a file that nobody writes to a new one and makes it durable, in the page-reader process."""


class Standing(StrEnum):
    """What stands at the path while it is held."""

    NOTHING = "nothing"
    ALONE = "alone"  # the file is whole without its companions
    SETTLED = "settled"  # a copy was made that is whole, and equals what SQLite sees at the path
    RAW = "raw"  # SQLite cannot make one file of it: whatever is there belongs together


@dataclass(slots=True, kw_only=True)
class Hold:
    """A database that is held. A context manager: leaving it lets go."""

    path: Path
    standing: Standing
    settled: Path | None = None  # the whole copy of SETTLED, beside the path
    dropped: bool = False  # the -wal has frames that SQLite does not count as committed: evidence, perhaps
    why: str = ""  # why the file could not be brought together
    warnings: tuple[str, ...] = ()
    _connections: list[sqlite3.Connection] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # SQLite sees that its file is no longer at the path and leaves a new -wal there alone (pager.c,
        # databaseIsUnmoved). If the exchange did not happen, the -wal that it removes is in the file already.
        for connection in self._connections:
            connection.close()


def take_hold(path: Path, *, settled: Path, copy: Copy, force: bool, doing: str, also: tuple[str, ...] = ()) -> Hold:
    """Hold the database at the real path `path` for an exchange; `settled` is where a whole copy may be made.

    `also` names files put aside earlier that must not be open either. Raises DatabaseBusy where somebody has it open
    and `force` is false, or where it cannot be kept whole even so; RestoreRefused where its -wal or -journal is not a
    file; OutOfSpace; OSError. What was begun of the copy is the caller's to remove, whatever becomes of the hold.
    """
    for suffix in ("-wal", "-journal"):
        if kind := odd_kind(f"{path}{suffix}"):  # SQLite would wait for ever for a FIFO to be written to
            raise RestoreRefused(
                f"cannot {doing} {path}: {path}{suffix} is {kind}, not a regular file",
                hint=f"look what it is, and move it away: ls -ld {shlex.quote(f'{path}{suffix}')}",
            )
    holders = find_holders(str(path), also=also)
    if not force:
        holders.refuse(doing, forcible=True)
    warnings = [f"{holder}, and goes on using the old file: restart it" for holder in holders.holders]
    if not os.path.lexists(path):
        return Hold(path=path, standing=Standing.NOTHING, warnings=tuple(warnings))
    if not holders.complete and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        warnings.append(f"{holders.why}, and others may write to {path}: whoever has it open goes on with the old file")
    hold = _hold(path, settled, copy, force=force, doing=doing)
    if hold.why:
        warnings.append(f"{path}: {hold.why}")
    hold.warnings = tuple(warnings)
    return hold


def filled_companions(path: Path) -> tuple[Path, ...]:
    """Return the -wal and -journal that hold anything; a -shm is an index that SQLite builds anew."""
    files = [Path(f"{path}{suffix}") for suffix in COMPANIONS if suffix in ("-wal", "-journal")]
    return tuple(file for file in files if _size(file) > 0)


def give_ownership(model: Path, file: Path) -> None:
    """Give `file` the permissions and the owner of `model`. Raises RestoreRefused where this user may not."""
    wanted = model.stat()
    file.chmod(stat.S_IMODE(wanted.st_mode))
    found = file.stat()
    if (found.st_uid, found.st_gid) == (wanted.st_uid, wanted.st_gid):
        return
    try:
        os.chown(file, wanted.st_uid, wanted.st_gid)
        file.chmod(stat.S_IMODE(wanted.st_mode))  # a change of owner may take set-id bits away
    except PermissionError as error:
        owner = f"{wanted.st_uid}:{wanted.st_gid}"
        raise RestoreRefused(
            f"{model} belongs to user and group {owner}, and a new file cannot be given to them",
            hint="run as the owner or as root",
        ) from error


def _hold(path: Path, settled: Path, copy: Copy, *, force: bool, doing: str) -> Hold:
    if not _size(path) and (logs := filled_companions(path)):
        # pagerOpenWalIfPresent() in SQLite's pager.c removes the log of an empty file, even from a reader.
        return Hold(path=path, standing=Standing.RAW, why=f"it is empty, and kept with its {logs[0].name}")
    try:
        _look(path)
        return _exclusive(path)
    except sqlite3.Error as error:
        name = _name_of(error)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            if not force:
                raise _busy(path, doing, "a process that cannot be seen has it locked") from error
        elif name.startswith("SQLITE_FULL"):
            raise _full(path) from error
        elif name == "SQLITE_READONLY_ROLLBACK":
            return _rolled_back(path, settled, copy)
        else:
            return _raw(path, error)
    return _among_others(path, settled, doing)


def _look(path: Path) -> None:
    """Read the schema version through a connection that cannot write: a hot journal is told by its error."""
    connection = _connect(path, "ro")
    try:
        connection.execute("PRAGMA query_only=1")
        connection.execute("PRAGMA schema_version").fetchall()
    finally:
        connection.close()


def _exclusive(path: Path) -> Hold:
    """Lock everyone out, and bring a write-ahead log into the file. The log stays as it is, for its unread tail."""
    connection = _connect(path, "rw")
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        dropped = False
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            # FULL, not TRUNCATE: the exchange removes the log, and what SQLite left out of it can still be kept.
            busy, frames, done = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
            if busy or frames != done:
                raise DatabaseBusy(f"{path}: its log could not be brought into the file", hint="try again")
            page_size = connection.execute("PRAGMA page_size").fetchone()[0]
            # https://www.sqlite.org/fileformat2.html#walformat: a header of 32 bytes, then 24 before each page
            dropped = _size(Path(f"{path}-wal")) > 32 + max(frames, 0) * (24 + page_size)
    except BaseException:
        connection.close()
        raise
    return Hold(path=path, standing=Standing.ALONE, dropped=dropped, _connections=[connection])


def _among_others(path: Path, settled: Path, doing: str) -> Hold:
    """Stop all commits, and copy what was committed: what can be done while others keep the database open."""
    connection = _connect(path, "rw")
    try:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            return Hold(path=path, standing=Standing.ALONE, _connections=[connection])
        _backup(path, settled)
    except sqlite3.Error as error:
        connection.close()
        if _name_of(error).startswith("SQLITE_FULL"):
            raise _full(path) from error
        raise _busy(path, doing, f"it is in use in a way that --force cannot override ({error})") from error
    except BaseException:
        connection.close()
        raise
    why = "other processes have it open; what they had committed was copied"
    return Hold(path=path, standing=Standing.SETTLED, settled=settled, why=why, _connections=[connection])


def _backup(path: Path, settled: Path) -> None:
    source, destination = _connect(path, "ro"), sqlite3.connect(settled, isolation_level=None)
    try:
        source.backup(destination)
    finally:
        destination.close()
        source.close()
    give_ownership(path, settled)
    durable.sync_file(settled)


def _rolled_back(path: Path, settled: Path, copy: Copy) -> Hold:
    """Let SQLite play the hot journal back on a copy of both files."""
    copy(path, settled)
    copy(Path(f"{path}-journal"), Path(f"{settled}-journal"))
    try:
        connection = _connect(settled, "rw")
        try:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.Error as error:
        if _name_of(error).startswith("SQLITE_FULL"):
            raise _full(path) from error
        return _raw(path, error)
    give_ownership(path, settled)
    durable.sync_file(settled)
    why = "a transaction was cut; it was rolled back on a copy"
    return Hold(path=path, standing=Standing.SETTLED, settled=settled, why=why)


def _raw(path: Path, error: sqlite3.Error) -> Hold:
    why = f"SQLite says of it: {error}; it is kept as it was"
    return Hold(path=path, standing=Standing.RAW if filled_companions(path) else Standing.ALONE, why=why)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file://{quote(os.fsencode(path))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=LOCK_SECONDS)
    # Nothing of the schema is run here, but SQLite reads it, and must not call it malformed for its JSON functions.
    connection.execute(f"PRAGMA trusted_schema={'ON' if json_is_taken_for_unsafe() else 'OFF'}")
    connection.execute("PRAGMA mmap_size=0")  # a mapping of a file that shrinks is a SIGBUS (H36)
    return connection


def _name_of(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "")


def _busy(path: Path, doing: str, why: str) -> DatabaseBusy:
    return DatabaseBusy(f"cannot {doing} {path}: {why}", hint="end the programs that use it, then try again")


def _full(path: Path) -> OutOfSpace:
    return OutOfSpace(
        f"no space to bring {path} into one file", hint=f"df -h {shlex.quote(str(path.parent))}", errno=errno.ENOSPC
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
