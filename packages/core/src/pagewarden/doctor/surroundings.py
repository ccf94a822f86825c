"""What `doctor` finds out around one database: place, permissions, journal, log, and who has it open.

Nothing is written, and in WAL mode SQLite opens nothing: that could leave a -wal and a -shm behind (H33). Headers are
read by the page reader (H1).
"""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.doctor.facts import ok, problem, size, warning
from pagewarden.doctor.holding import holder_facts
from pagewarden.errors import DatabaseBusy, DatabaseNotFound, DatabaseUnreadable, PagewardenError
from pagewarden.holders import SHM_READ_LOCKS, Holders, find_holders
from pagewarden.live import NETWORK_FILE_SYSTEMS, failure, file_system, open_readonly
from pagewarden.restore.quarantine import Quarantine
from pagewarden.restore.swap import pending_intents
from pagewarden.sqlite.wal import LARGE_WAL
from pagewarden.values import DoctorFact

if TYPE_CHECKING:
    from pagewarden.processes.reader import Attachment
    from pagewarden.runtime import Runtime


class Surroundings:
    """One database and what is around it, at one moment."""

    def __init__(self, database: str, runtime: Runtime) -> None:
        """Raises DatabaseNotFound where nothing stands at the path `database`, DatabaseUnreadable out of reach."""
        self.path = os.path.realpath(database)
        self._asked = database
        self._runtime = runtime
        try:
            self._stat = Path(self.path).stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            folder = shlex.quote(str(Path(self.path).parent))
            raise DatabaseNotFound(f"{database} is not there", hint=f"ls -ld {folder}") from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            hint = f"ls -ld {shlex.quote(self.path)}"
            raise DatabaseUnreadable(f"{database} cannot be reached: {reason}", hint=hint) from error
        self._quoted = shlex.quote(self.path)

    def facts(self) -> Iterator[DoctorFact]:
        """Yield what is to be said; where one thing cannot be found out, the others still are."""
        yield self._links()
        yield self._file_system()
        yield self._space()
        yield self._permissions()
        yield self._pending()
        holders = find_holders(self.path)
        try:
            header, attachment = self._read()
        except PagewardenError as error:
            yield problem("journal-mode", "unknown", error.message, error.hint)
        else:
            yield from self._journal(header, attachment, holders)
        yield from holder_facts(holders, self._runtime.reader.pid)

    def _links(self) -> DoctorFact:
        links = self._stat.st_nlink
        if links > 1 and not pending_intents(Path(self.path)):
            why = "SQLite looks for its journal beside each of them; one program would not see another's transaction"
            return problem("links", f"{links} names", why, f"find / -xdev -samefile {self._quoted}")
        if Path(self._asked).is_symlink():
            return ok("links", f"a symbolic link to {self.path}", "everything is done to the file it points to")
        return ok("links", "one name")

    def _file_system(self) -> DoctorFact:
        kind = file_system(self.path)
        if kind in NETWORK_FILE_SYSTEMS:
            why = (
                "locks and shared memory of other machines do not reach this one: WAL mode is damage waiting to happen"
            )
            return problem("file-system", kind, why, "keep the database on a disk of the machine that uses it")
        return ok("file-system", kind or "not told by this system")

    def _space(self) -> DoctorFact:
        disk = os.statvfs(self.path)
        free = disk.f_bavail * disk.f_frsize
        value = f"{size(free)} free, the database has {size(self._stat.st_size)}"
        if free < self._stat.st_size:
            why = "a restore writes the new file before the old one goes"
            return warning("space", value, why, f"df -h {shlex.quote(str(Path(self.path).parent))}")
        return ok("space", value)

    def _permissions(self) -> DoctorFact:
        folder = Path(self.path).parent
        value = f"{stat.filemode(self._stat.st_mode)} {self._stat.st_uid}:{self._stat.st_gid}"
        hint = f"ls -ld {shlex.quote(str(folder))} {self._quoted}"
        if not os.access(self.path, os.R_OK):
            return problem("permissions", value, "this user may not read the database", hint)
        if not os.access(folder, os.W_OK | os.X_OK):
            why = f"this user may not write to {folder}: SQLite cannot make a journal or log there, nor can a restore"
            return warning("permissions", value, why, hint)
        if self._stat.st_mode & stat.S_IWOTH or folder.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            return warning(
                "permissions", value, "every user may write to the database or put another in its place", hint
            )
        return ok("permissions", value)

    def _pending(self) -> DoctorFact:
        path = Path(self.path)
        try:
            pending = pending_intents(path)
        except PagewardenError as error:
            return problem("restores", "unknown", error.message, error.hint)
        if pending:
            value = ", ".join(f"{entry.phase} since {entry.begun:%Y-%m-%d %H:%M:%S} UTC" for entry in pending)
            why = "a restore or undo is under way, or was cut: the next one finishes it or takes it back"
            return warning("restores", value, why, f"pagewarden undo {self._quoted}, once none is under way")
        return ok("restores", f"{len(Quarantine(path=path).entries())} in the quarantine, none cut")

    def _read(self) -> tuple[bytes, Attachment]:
        """Return the file's own first bytes, and what it holds together with its log."""
        reader = self._runtime.reader
        attachment = reader.attach(self.path)
        reader.release(attachment.handle)
        return reader.file_header(self.path), attachment

    def _journal(self, header: bytes, attachment: Attachment, holders: Holders) -> Iterator[DoctorFact]:
        versions = tuple(header[18:20])
        says_wal = 2 in versions
        wal, journal = (_length(f"{self.path}{suffix}") for suffix in ("-wal", "-journal"))
        value = "wal" if says_wal else "rollback journal"
        if not versions:
            yield ok("journal-mode", "an empty database")
        elif versions[0] != versions[1]:
            why = f"bytes 18 and 19 of the header are {versions[0]} and {versions[1]}, and no database has both"
            yield warning("journal-mode", value, why, f"pagewarden check {self._quoted}")
        else:
            yield ok("journal-mode", value, "bytes 18 and 19 of the header")
        if says_wal or wal:
            yield self._log(attachment, wal, holders, says_wal)
        if journal or not (says_wal or wal):
            yield self._rollback(journal, says_wal)
        # Without a connection to it, SQLite would recover the log when it opens it, and could drop what is in it (H14).
        if (says_wal or wal) and not any(lock.file.endswith("-shm") for lock in holders.locks):
            yield ok("expression-indexes", "not looked for", "nobody has the database open, and to open it is to write")
        else:
            yield self._expression_indexes()

    def _log(self, attachment: Attachment, wal: int, holders: Holders, says_wal: bool) -> DoctorFact:
        frames, done = attachment.wal_frames, attachment.backfilled
        value = f"{size(wal)}, {frames} frames, {done} of them in the database"
        if wal and not says_wal:
            why = "the database is not in WAL mode, and SQLite lays this log over it: is it another database's?"
            return problem("wal", value, why, f"ls -l {self._quoted}*; pagewarden check {self._quoted}")
        if attachment.wal_fault:
            why = f"{attachment.wal_fault}: transactions after that are lost when the log is next recovered"
            return problem(
                "wal", value, why, f"cp {self._quoted}* to a safe place, before anything closes the database"
            )
        if wal > LARGE_WAL:
            back = sorted({lock.pid for lock in holders.locks if lock.file.endswith("-shm") and _reads(lock.first)})
            who = f"readers hold it back: pid {', '.join(map(str, back))}" if back and done < frames else "nobody now"
            why = f"a log this large slows every read ({who})"
            return warning("wal", value, why, f"pagewarden wal status {self._quoted}")
        return ok("wal", value)

    def _rollback(self, journal: int, says_wal: bool) -> DoctorFact:
        value = f"{size(journal)}" if journal else "none"
        if says_wal:
            why = "a database in WAL mode uses no -journal; SQLite would still play this one back if it is complete"
            return warning("journal", value, why, f"ls -l {self._quoted}-journal")
        try:
            with closing(open_readonly(self.path, timeout=0.5)) as connection:
                connection.execute("PRAGMA schema_version").fetchall()
        except (sqlite3.Error, DatabaseBusy) as error:
            found = failure(error, self.path) if isinstance(error, sqlite3.Error) else error
            if isinstance(found, DatabaseBusy):
                return warning("journal", value, found.message, found.hint)
            return problem("journal", value, found.message, found.hint)
        return ok("journal", value, "no transaction waits to be rolled back")

    def _expression_indexes(self) -> DoctorFact:
        """Look for indexes that SQLite cannot keep right across machines and versions."""
        try:
            with closing(open_readonly(self.path, timeout=0.5)) as connection:
                names = connection.execute(
                    "SELECT DISTINCT i.name FROM sqlite_schema AS i, pragma_index_xinfo(i.name) AS c "
                    "WHERE i.type = 'index' AND c.cid = -2 ORDER BY i.name"
                ).fetchall()
        except (sqlite3.Error, DatabaseBusy) as error:
            return warning("expression-indexes", "unknown", f"the schema cannot be read: {error}")
        if names:
            why = "values of floating-point expressions can differ after a move to another processor, system or SQLite"
            listed = ", ".join(str(name) for (name,) in names)
            return warning("expression-indexes", listed, why, "REINDEX after a move; REINDEX EXPRESSIONS from 3.53")
        return ok("expression-indexes", "none")


def _reads(byte: int) -> bool:
    return byte in SHM_READ_LOCKS


def _length(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:  # none, or out of reach
        return 0
