"""What a repair does itself with the private copies, in a process of its own because it opens hostile files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec

from pagewarden import durable
from pagewarden.errors import DatabaseUnreadable, NotADatabase, PagewardenError
from pagewarden.holders import COMPANIONS
from pagewarden.live.connection import failure, open_copy
from pagewarden.processes.channel import Value
from pagewarden.repair.compare import Before, compare
from pagewarden.repair.cutouts import Cutouts
from pagewarden.repair.sealing import seal_changes
from pagewarden.restore.hold import filled_companions
from pagewarden.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE

Progress = Callable[[int, int], None]


def do_job(name: str, task: Mapping[str, Any], progress: Progress) -> Value:
    """Do the job `name`; return what it found out, as plain values. Raises PagewardenError."""
    if name == "settle":
        return settle(Path(task["database"]), stamp=task["stamp"])
    if name == "compare":
        return compare_copies(task, progress)
    raise ValueError(f"there is no job {name!r}")


def settle(database: Path, *, stamp: bool = False) -> str:
    """Make one file of a private copy and its -wal or -journal; return what SQLite says where it refuses it.

    SQLite does it, as it would at the database's own path: it plays a hot journal back, or recovers the log. Where it
    refuses the file, which may have lost no more than its header, the commits that the log itself proves are laid over
    it. With `stamp` the change counter moves: whoever knew the database's pages then sees that a commit was made.

    Raises OutOfSpace, TargetFailed, DatabaseUnreadable.
    """
    refused = ""
    try:
        _through_sqlite(database, stamp=stamp)
    except (NotADatabase, DatabaseUnreadable) as error:
        if isinstance(error, DatabaseUnreadable) and not _says_damage(error):
            raise
        refused = error.message
    except UnicodeDecodeError as error:  # SQLite quotes what stands in a damaged schema
        refused = f"{database} cannot be read by SQLite: {error}"
    try:
        if refused:
            _lay_over(database)
        for suffix in COMPANIONS[1:]:
            durable.remove(Path(f"{database}{suffix}"))
    except OSError as error:
        raise durable.failure(error, f"cannot bring {database} and its log into one file") from error
    return refused


def compare_copies(task: Mapping[str, Any], progress: Progress) -> Value:
    """Compare the database as it was with the copy as it is; what is gone goes into the quarantine, durably.

    Returns the tables, and whether SQLite made one file of a copy of the database as it was.
    """
    before = Path(task["before"])
    with Cutouts(Path(task["entry"])) as cutouts:
        tables = compare(
            Before(path=before, still=task["still"], proven=task["proven"], replaced=task["replaced"]),
            Path(task["after"]),
            cutouts,
            notes=task["notes"],
            progress=progress,
        )
    try:
        seal_changes(before, Path(task["after"]))
    except OSError as error:
        raise durable.failure(error, f"cannot seal the pages of {task['after']}") from error
    plain = cast("Any", [msgspec.to_builtins(table) for table in tables])
    return {"tables": plain, "whole": not task["still"] and _is_whole(before)}


def _is_whole(database: Path) -> bool:
    """Whether SQLite reads the schema of a private copy, and needs nothing beside it."""
    if filled_companions(database):
        return False
    try:
        with closing(open_copy(str(database))) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except (PagewardenError, sqlite3.Error, UnicodeDecodeError):
        return False
    finally:
        for suffix in COMPANIONS[1:]:
            durable.remove(Path(f"{database}{suffix}"))
    return True


def _through_sqlite(database: Path, *, stamp: bool) -> None:
    try:
        with closing(open_copy(str(database))) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.execute("PRAGMA synchronous=OFF")  # the copy is made durable before it takes the path
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if stamp:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute(f"PRAGMA user_version={int(version)}")  # page 1 is written, and nothing else
            if mode == "wal":
                busy, frames, done = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if busy or frames != done:
                    raise DatabaseUnreadable(f"the log of {database} could not be brought into it")
    except sqlite3.Error as error:
        raise failure(error, str(database)) from error


def _says_damage(error: DatabaseUnreadable) -> bool:
    return str(error.fields.get("sqlite", "")).startswith(("SQLITE_CORRUPT", "SQLITE_ERROR", "SQLITE_READONLY"))


def _lay_over(database: Path) -> None:
    """Write what the log's own chain of checksums proves to be committed into the bare file. Raises OSError."""
    from pagewarden.pages import backend

    log = Path(f"{database}-wal")
    if not log.exists() or not log.stat().st_size:
        return
    with log.open("rb", buffering=0) as wal, database.open("r+b", buffering=0) as file:
        scan = backend().wal_scan(wal.fileno(), page_size=0)
        if not scan.last_commit:
            return
        size, present = scan.page_size, -(-database.stat().st_size // scan.page_size)
        if scan.pages > present + len(scan.map) // 8:
            return  # a commit holds every page that it adds: this log is no honest one, and would fill any disk
        for at in range(0, len(scan.map), 8):
            pgno = int.from_bytes(scan.map[at : at + 4], "little")
            frame = int.from_bytes(scan.map[at + 4 : at + 8], "little")
            if pgno > scan.pages:
                continue
            offset = WAL_HEADER_SIZE + (frame - 1) * (FRAME_HEADER_SIZE + size) + FRAME_HEADER_SIZE
            durable.write_at(file.fileno(), os.pread(wal.fileno(), size, offset), (pgno - 1) * size)
        os.ftruncate(file.fileno(), scan.pages * size)
