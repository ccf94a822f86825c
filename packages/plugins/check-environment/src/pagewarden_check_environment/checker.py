"""The checker: processes, files and the file system around a database, as `stat` and /proc show them."""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.doctor.libraries import sqlite_libraries
from pagewarden.holders import Holder, Holders, find_holders, is_ours
from pagewarden.live import NETWORK_FILE_SYSTEMS, file_system
from pagewarden.strays import Stray, find_strays
from pagewarden.values import Finding, Level, Severity
from pagewarden.versions import LinkedSQLite, linked_sqlite

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class EnvironmentChecker:
    """Judges what `pagewarden doctor` knows of a database's surroundings, as far as it endangers the data.

    A process that has lost its locks, or writes to a deleted file, damages the database or loses what it writes, and no
    check of the file can see it (H1, H5). Nothing of the database is opened here.
    """

    name = "check-environment"
    level = Level.QUICK
    in_process = True
    surroundings = True

    def __init__(self, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """`sleep` waits between two looks at a process."""
        self._sleep = sleep

    def check(self, subject: Subject) -> CheckOutcome:
        """Return what was seen; `why` says what could not be."""
        path = subject.path
        files = {suffix: _stat(path + suffix) for suffix in ("", "-wal", "-shm", "-journal")}
        holders = find_holders(path)
        findings = [*map(_of_stray, find_strays(holders, sleep=self._sleep))]
        others = [holder for holder in holders.holders if not is_ours(holder.pid)]
        findings += _of_libraries(path, others, {lock.pid for lock in holders.locks if lock.file.endswith("-shm")})
        findings += _of_files(path, files)
        return CheckOutcome(findings=tuple(findings), why=_unseen(holders, files[""]))


def _unseen(holders: Holders, database: os.stat_result | None) -> str:
    """Say what could not be seen, where somebody else may write to the database; else that would be said every time."""
    alone = database is not None and database.st_uid == os.geteuid() and not database.st_mode & _OTHERS
    unseen_lock = any(not holder.descriptors for holder in holders.holders)
    if not holders.why or (alone and holders.visible and not unseen_lock):
        return ""
    return f"who may have lost its locks was not all seen: {holders.why}"


def _notice(kind: str, message: str, hint: str, evidence: str = "") -> Finding:
    return Finding(kind=kind, severity=Severity.NOTICE, message=message, evidence=evidence, hint=hint)


def _of_stray(stray: Stray) -> Finding:
    return Finding(
        kind=stray.kind,
        severity=Severity.DAMAGE if stray.harmful else Severity.NOTICE,
        message=f"{stray} {stray.why}",
        evidence=stray.evidence,
        hint=stray.saving,
    )


def _of_libraries(path: str, others: list[Holder], in_wal_mode: set[int]) -> Iterator[Finding]:
    """Yield what is known of the SQLite libraries that the holders use; some have connections in WAL mode."""
    ours = set(_libraries(os.getpid())) if others else set()
    same = 0
    for holder in others:
        loaded = _libraries(holder.pid)
        same += holder.pid in in_wal_mode and bool(loaded) and set(loaded) <= ours
        if len(loaded) > 1:
            what = f"{holder.command} (pid {holder.pid}) has more than one SQLite library loaded"
            hint = f"let all of it use one of them: grep -E 'sqlite|apsw' /proc/{holder.pid}/maps"
            yield _notice("two-libraries", f"{what}, which break each other's locks", hint, ", ".join(loaded))
    if same > 1:
        yield from _known_bugs(path, same, linked_sqlite())


def _known_bugs(path: str, processes: int, linked: LinkedSQLite) -> Iterator[Finding]:
    """Yield the bugs that can strike where several processes use the linked library on one database in WAL mode."""
    for bug in linked.bugs():
        if bug.name.startswith("wal-"):
            message = f"{processes} processes use SQLite {linked.version} on it, in which {bug.what}"
            hint = f"{bug.advice}: pagewarden doctor {shlex.quote(path)}"
            yield _notice("known-bug", message, hint, f"mended in {bug.fixed}; source id {linked.source_id}")


def _of_files(path: str, files: dict[str, os.stat_result | None]) -> Iterator[Finding]:
    """Yield what is odd about the files and where they stand."""
    shown = f"ls -l {shlex.quote(path)}*"
    kind = file_system(path)
    if kind in NETWORK_FILE_SYSTEMS:
        message = f"the database lies on a network file system ({kind}), whose locks other machines may not see"
        yield _notice("network-file-system", message, f"df -T {shlex.quote(path)}")
    database, journal = files[""], files["-journal"]
    if files["-shm"] is not None and journal is not None and journal.st_size:
        message = f"a -journal of {journal.st_size} bytes lies beside a database in WAL mode, which uses none: SQLite "
        yield _notice("leftover-journal", f"{message}plays it back if it is whole", shown)
    for suffix, found in files.items():
        if not suffix or found is None or database is None:
            continue
        if not stat.S_ISREG(found.st_mode):
            yield _notice("odd-companion", f"the {suffix} is no regular file: SQLite does not open it", shown)
        elif found.st_nlink > 1:
            message = f"the {suffix} has {found.st_nlink} names (hard links): it may be another database's, too"
            yield _notice("odd-companion", message, f"find / -xdev -inum {found.st_ino}")
        elif _shuts_out(database, found):
            modes = " and ".join(
                f"{stat.filemode(each.st_mode)} {each.st_uid}:{each.st_gid}" for each in (database, found)
            )
            message = f"not everybody who may write to the database may write to its {suffix}"
            yield _notice("odd-companion", message, shown, modes)


def _shuts_out(database: os.stat_result, companion: os.stat_result) -> bool:
    """Whether some user may write to the database and not to a file beside it. The superuser may do everything."""

    def may_write(found: os.stat_result, *, user: int, group: int) -> bool:
        shift = 6 if user == found.st_uid else 3 if group == found.st_gid else 0
        return bool(found.st_mode >> shift & 2)

    nobody = -1
    who = ((database.st_uid, database.st_gid), (nobody, database.st_gid), (nobody, nobody))
    return any(
        user != 0 and may_write(database, user=user, group=group) and not may_write(companion, user=user, group=group)
        for user, group in who
    )


def _libraries(pid: int) -> tuple[str, ...]:
    try:
        return sqlite_libraries(pid)
    except OSError:  # it ended, belongs to another user, or there is no /proc: what cannot be seen is said in `why`
        return ()


def _stat(path: str) -> os.stat_result | None:
    try:
        return Path(path).lstat()
    except OSError:  # not there, or out of reach
        return None
