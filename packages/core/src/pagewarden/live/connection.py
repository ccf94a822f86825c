"""Read-only connections through the standard library's sqlite3, and what their errors mean."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import sys
from contextlib import closing
from functools import cache
from pathlib import Path
from urllib.parse import quote

from pagewarden.errors import (
    DatabaseBusy,
    DatabaseUnreadable,
    DatabaseUnsettled,
    NotADatabase,
    OutOfSpace,
    PagewardenError,
)
from pagewarden.live.place import frozen

BUSY_SECONDS = 5.0
"""How long a connection waits for a lock before it gives up."""

_QUERY_ONLY = "PRAGMA query_only=1"
# No writes, even to what mode=ro leaves open, such as temporary tables of a hostile schema.

_SETTINGS = (
    "PRAGMA trusted_schema=0",  # views and triggers of a hostile file call no function with side effects (H29)
    "PRAGMA mmap_size=0",  # a mapping of a file that shrinks is a SIGBUS (H36)
)


def open_readonly(path: str, *, timeout: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Open the database at the real path `path` for reading only, with what SQLite has against hostile files (H29).

    No transaction is begun, and autocommit is SQLite's own. The connection may be used, and interrupted, by any thread.
    Raises as `failure` says.
    """
    return _guarded(connect(path, timeout=timeout), path)


def open_copy(path: str, *, timeout: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Open a private copy at the real path `path` for reading and writing; otherwise as `open_readonly` does."""
    return _guarded(_connect(path, "mode=rw", timeout), path)


def open_still(path: str) -> sqlite3.Connection:
    """Open a database at the real path `path` that nobody writes to, and that has no log or journal, for reading only.

    SQLite takes no lock, and makes nothing beside it. Raises as `failure` says.
    """
    return _guarded(_connect(path, "mode=ro&immutable=1", BUSY_SECONDS), path)


def open_writable(path: str, *, timeout: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Open the live database at the real path `path` for reading and writing: only for what is asked to change it.

    The last such connection that is closed checkpoints the log and removes it (H33), unless another one is open, be it
    for reading only. Raises as `failure` says.
    """
    connection = _connect(path, "mode=rw", timeout)
    connection.execute("PRAGMA writable_schema=1")  # a schema that it cannot parse is no matter: no table is used
    return connection


def connect(path: str, *, timeout: float) -> sqlite3.Connection:
    """Open the database for reading only, without the settings that a damaged schema does not survive."""
    # Without `immutable`, SQLite could not read a database in WAL mode there: no -shm can be made.
    connection = _connect(path, "mode=ro&immutable=1" if frozen(path) else "mode=ro", timeout)
    connection.execute(_QUERY_ONLY)
    return connection


def _connect(path: str, parameters: str, timeout: float) -> sqlite3.Connection:
    # The bytes of the name are quoted: it may hold '?', '#' and '%', and need not be UTF-8.
    uri = f"file://{quote(os.fsencode(path))}?{parameters}"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise failure(error, path) from error
    for setting in _SETTINGS:
        connection.execute(setting)
    return connection


def _guarded(connection: sqlite3.Connection, path: str) -> sqlite3.Connection:
    """Return a connection with what SQLite has against hostile files, as far as the schema survives it."""
    connection.execute("PRAGMA cell_size_check=1")
    try:
        _let_json_be_used(connection)
    except sqlite3.Error as error:
        connection.close()
        raise failure(error, path) from error
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
    return connection


def _let_json_be_used(connection: sqlite3.Connection) -> None:
    """Trust the schema of a connection where SQLite would otherwise refuse the whole database for its JSON functions.

    Some releases, 3.40 among them, take their own JSON functions for unsafe, and call a schema malformed that uses them
    in an index or a generated column. They have no side effects, and functions that have are refused all the same.
    """
    if not json_is_taken_for_unsafe():
        return
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 0").fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:  # anything else is met by whoever reads, and told there
        if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
            raise
        if re.search(r"unsafe use of (?:json|->)", str(error)):
            connection.execute("PRAGMA trusted_schema=1")


@cache
def json_is_taken_for_unsafe() -> bool:
    """Whether the linked SQLite refuses its own JSON functions in a schema that is not trusted."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA trusted_schema=0")
        try:
            connection.execute("CREATE TABLE t(a, b AS (json_valid(a)))")
        except sqlite3.OperationalError as error:
            return "unsafe use of" in str(error)
    return False


def failure(error: sqlite3.Error, path: str) -> PagewardenError:
    """Return the error that a caller meets for what SQLite raised while it opened or read the database at `path`."""
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_NOTADB":
        return NotADatabase(
            f"{path} is not a SQLite database, or it is encrypted",
            hint=f"look at its first bytes: head -c 16 {shlex.quote(path)} | xxd",
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
        return _busy(path)
    if name in ("SQLITE_READONLY", "SQLITE_READONLY_ROLLBACK"):
        # Reading needs a write first: a journal is to be rolled back. That would destroy evidence, and is the
        # application's to do (H33).
        return DatabaseUnsettled(
            f"{path} waits for a journal to be rolled back: an application died in the midst of a write",
            hint=f"start the application, or look at a copy of it and its journal: {_copied(path, '-journal')}",
            sqlite=name,
        )
    if name == "SQLITE_FULL":
        return OutOfSpace(f"the disk of {path} is full", hint=shlex.join(["df", "-h", _mount_point(path)]))
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return DatabaseUnreadable(
            f"{path} cannot be opened by SQLite; in WAL mode it needs a -shm file beside it, or the right to make one",
            hint=f"copy it to a folder that can be written to, and name the copy: {_copied(path, '-wal')}",
            sqlite=name,
        )
    return DatabaseUnreadable(
        f"{path} cannot be read by SQLite: {error}", hint=f"ls -l {shlex.quote(path)}*", sqlite=name
    )


def _mount_point(path: str) -> str:
    """Return where the file system of `path` is mounted; that is there still when `path`, a private copy, is gone."""
    point = Path(path).resolve()
    while not point.is_mount():
        point = point.parent
    return str(point)


def lacks_companion(error: PagewardenError) -> bool:
    """Whether `failure` made `error` because SQLite can make no -shm beside the database, not because of the database.

    It can be read elsewhere, or later: it is not damaged (step 8 of docs/live-read.md).
    """
    return str(error.fields.get("sqlite", "")).startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))


def _copied(path: str, companion: str) -> str:
    """Return the command that copies a database, with its log or journal where there is one."""
    files = [path, *([path + companion] if os.path.lexists(path + companion) else [])]
    return shlex.join(["cp", *files, "DIR"])


def _busy(path: str) -> DatabaseBusy:
    from pagewarden.holders import find_holders

    holders = [holder for holder in find_holders(path).holders if holder.pid != os.getpid()]
    who = "; ".join(str(holder) for holder in holders) or "who it is cannot be seen"
    return DatabaseBusy(
        f"{path} is locked: {who}",
        hint="wait for it to finish, or close it; with locking_mode=EXCLUSIVE nobody else can read",
        pids=[holder.pid for holder in holders],
    )
