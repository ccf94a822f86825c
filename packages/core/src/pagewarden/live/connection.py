"""Read-only connections through the standard library's sqlite3, and what their errors mean."""

from __future__ import annotations

import os
import sqlite3
import sys
from urllib.parse import quote

from pagewarden.errors import DatabaseBusy, DatabaseUnreadable, DatabaseUnsettled, NotADatabase, PagewardenError

BUSY_SECONDS = 5.0
"""How long a connection waits for a lock before it gives up."""

_SETTINGS = (
    "PRAGMA query_only=1",  # no writes, even to what mode=ro leaves open, such as temporary tables of a hostile schema
    "PRAGMA trusted_schema=0",  # views and triggers of a hostile file call no function with side effects (H29)
    "PRAGMA mmap_size=0",  # a mapping of a file that shrinks is a SIGBUS (H36)
)


def open_readonly(path: str, *, timeout: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Open the database at the real path `path` for reading only, with what SQLite has against hostile files (H29).

    No transaction is begun, and autocommit is SQLite's own. The connection may be used, and interrupted, by any thread.
    Raises as `failure` says.
    """
    connection = connect(path, timeout=timeout)
    connection.execute("PRAGMA cell_size_check=1")
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
    return connection


def connect(path: str, *, timeout: float) -> sqlite3.Connection:
    """Open the database for reading only, without the settings that a damaged schema does not survive."""
    # The bytes of the name are quoted: it may hold '?', '#' and '%', and need not be UTF-8.
    uri = f"file://{quote(os.fsencode(path))}?mode=ro"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise failure(error, path) from error
    for setting in _SETTINGS:
        connection.execute(setting)
    return connection


def failure(error: sqlite3.Error, path: str) -> PagewardenError:
    """Return the error that a caller meets for what SQLite raised while it opened or read the database at `path`."""
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_NOTADB":
        return NotADatabase(
            f"{path} is not a SQLite database, or it is encrypted",
            hint=f"look at its first bytes: head -c 16 {path} | xxd",
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
        return _busy(path)
    if name in ("SQLITE_READONLY", "SQLITE_READONLY_ROLLBACK"):
        # Reading needs a write first: a journal is to be rolled back. That would destroy evidence, and is the
        # application's to do (H33).
        return DatabaseUnsettled(
            f"{path} waits for a journal to be rolled back: an application died in the midst of a write",
            hint=f"start the application, or look at a copy of it and its journal: cp {path} {path}-journal DIR",
            sqlite=name,
        )
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return DatabaseUnreadable(
            f"{path} cannot be opened by SQLite; in WAL mode it needs a -shm file beside it, or the right to make one",
            hint="copy the database and its -wal to a folder that can be written to, and name the copy",
            sqlite=name,
        )
    return DatabaseUnreadable(f"{path} cannot be read by SQLite: {error}", hint=f"ls -l {path}*", sqlite=name)


def _busy(path: str) -> DatabaseBusy:
    from pagewarden.holders import find_holders

    holders = [holder for holder in find_holders(path).holders if holder.pid != os.getpid()]
    who = "; ".join(str(holder) for holder in holders) or "who it is cannot be seen"
    return DatabaseBusy(
        f"{path} is locked: {who}",
        hint="wait for it to finish, or close it; with locking_mode=EXCLUSIVE nobody else can read",
        pids=[holder.pid for holder in holders],
    )
