"""What `doctor` says of the processes that have a database open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pagewarden.doctor.facts import ok, problem, warning
from pagewarden.doctor.libraries import sqlite_libraries
from pagewarden.holders import Holder, Holders
from pagewarden.values import DoctorFact

_READER = b"pagewarden.processes.reader_main"


def holder_facts(holders: Holders, reader: int | None) -> Iterator[DoctorFact]:
    """Yield what is to be said of `holders`; the process `reader`, which reads pages for us, is left out."""
    others = tuple(holder for holder in holders.holders if holder.pid != reader)
    unseen = holders.why
    if others:
        yield ok("holders", "; ".join(map(str, others)), unseen)
    elif unseen:
        yield ok("holders", "none that can be seen", unseen)
    else:
        yield ok("holders", "none")
    yield from (fact for holder in others for fact in _about(holder, holders))


def _about(holder: Holder, holders: Holders) -> Iterator[DoctorFact]:
    who = f"{holder.command} (pid {holder.pid})"
    if deleted := [file for file in holder.files if file.endswith(" (deleted)")]:
        why = f"it reads and writes {', '.join(deleted)}, which nobody else will ever see"
        yield problem(
            "deleted-files", who, why, f"save what it wrote through it, then restart it (ps -fp {holder.pid})"
        )
    elif _lost_its_locks(holder, holders):
        why = "it has the database open in WAL mode and holds no lock on it: a close() in that process dropped them"
        yield problem("lost-locks", who, why, "restart it; let it open the database's files through SQLite alone")
    try:
        libraries = sqlite_libraries(holder.pid)
    except OSError:  # it ended, or belongs to another user; `holders` says so
        return
    if len(libraries) > 1:
        why = f"it has more than one SQLite library loaded, which break each other's locks: {', '.join(libraries)}"
        yield warning("two-libraries", who, why, "let all of it use one of them")


def _lost_its_locks(holder: Holder, holders: Holders) -> bool:
    """Whether a connection in WAL mode has no lock: each holds a SHARED lock on the database file until it is closed.

    A page reader opens the files without one, and is no connection.
    """
    name = Path(holders.path).name
    if not {name, f"{name}-wal", f"{name}-shm"} <= set(holder.files) or not os.access("/proc/locks", os.R_OK):
        return False
    if any(lock.pid in (0, holder.pid) for lock in holders.locks if lock.file == name):
        return False
    try:
        return _READER not in Path(f"/proc/{holder.pid}/cmdline").read_bytes()
    except OSError:  # it ended
        return False
