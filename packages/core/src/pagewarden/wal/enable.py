"""`wal enable`: switch a database to WAL mode, or back, or tell the honest reasons not to.

1. Reasons against it are looked for before anything is opened: a network file system and a medium that cannot be
   written to are refused; a file system that may reach other machines wants --force; a SQLite with a known bug in WAL
   mode is told of, with what keeps it from striking: most of those in use have it, and a guarded database is safe.
2. The database is read once, read-only: a journal that waits to be rolled back is the application's (H33).
3. `PRAGMA journal_mode` is SQLite's own, and atomic. Where others have the database open in a way that does not let it
   (H35), they are named.
4. The mode is read back from bytes 18 and 19 of the file, which is where it is kept.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.errors import DatabaseBusy, VerificationFailed, WalRefused
from pagewarden.holders import find_holders, is_ours
from pagewarden.live import Place, examine, failure, open_readonly
from pagewarden.live.connection import open_writable
from pagewarden.versions import LinkedSQLite, linked_sqlite
from pagewarden.wal.reports import WalEnableReport, WalReason
from pagewarden.wal.run import prove_log, refuse_endless
from pagewarden.wal.status import guard_of, known_bugs

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime
    from pagewarden.wal.look import WalLook

MAX_TIME = 5.0
"""Seconds that others are waited for, unless something else is asked for."""

SAFE_ALTERNATIVE = (
    "let one connection alone checkpoint, with the write lock: `pagewarden run` does, and the applications set "
    "PRAGMA wal_autocheckpoint=0 (pagewarden wal tune --guarded prints the lines); or link SQLite 3.51.3 or later; "
    "or stay with a rollback journal"
)
"""What to do where the linked SQLite has the WAL-reset bug."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalEnableRequest:
    """Which database to switch, and where to."""

    database: str  # path
    off: bool = False  # back to a rollback journal
    force: bool = False  # go past reasons that are warnings
    max_time: float = MAX_TIME  # seconds


def run_wal_enable(request: WalEnableRequest, runtime: Runtime) -> WalEnableReport:
    """Switch the journal mode, and read back that it is what was asked for.

    Raises ConfigurationInvalid; WalRefused, with each reason; DatabaseBusy, naming who is in the way;
    VerificationFailed; what `examine` and `failure` raise.
    """
    began = runtime.monotonic()
    refuse_endless(request.max_time)
    place = examine(request.database)
    before = runtime.reader.wal_look(place.path, live=False)
    wanted = "rollback" if request.off else "wal"
    reasons: tuple[WalReason, ...] = ()
    if _mode(before) != wanted:
        _refuse(place, before)
        if request.off:
            prove_log(place, runtime)
        else:
            reasons = _weigh(tuple(reasons_against(place, linked_sqlite())), request, place)
        _switch(place, request, runtime)
    after = runtime.reader.wal_look(place.path, live=False)
    if _mode(after) != wanted:
        raise VerificationFailed(
            f"SQLite said that {place.path} is in {wanted} mode, but the file says {_mode(after)}",
            hint=f"pagewarden wal status {shlex.quote(place.path)}",
        )
    changed = _mode(before) != _mode(after)
    report = WalEnableReport(
        database=place.path,
        before=_mode(before),
        after=_mode(after),
        changed=changed,
        forced=tuple(reason for reason in reasons if reason.severity == "warning"),
        warnings=()
        if request.off
        else (*_of_the_place(place, forced=changed), *(_of_others(place) if changed else ())),
        seconds=runtime.monotonic() - began,
    )
    runtime.emit("wal.enabled", place.path, seconds=report.seconds, before=report.before, after=report.after)
    return report


def reasons_against(place: Place, linked: LinkedSQLite) -> Iterator[WalReason]:
    """Yield the reasons not to switch a database to WAL mode."""
    folder = str(Path(place.path).parent)
    if place.on_network:
        yield WalReason(
            name="network-file-system",
            severity="refused",
            message=f"it lies on a network file system ({place.file_system}), where the shared memory of WAL mode "
            "does not reach other machines",
            instead="keep it on a disk of the machine that uses it, or stay with a rollback journal",
        )
    if place.frozen or os.statvfs(place.path).f_flag & os.ST_RDONLY:
        yield WalReason(
            name="read-only-medium",
            severity="refused",
            message="it lies on a medium that is mounted read-only, where no -wal and -shm can be made",
            instead="switch it where it can be written to, before it is put there in rollback mode",
        )
    elif not (os.access(place.path, os.W_OK) and os.access(folder, os.W_OK | os.X_OK)):
        yield WalReason(
            name="not-writable",
            severity="refused",
            message=f"this user may not write to it and its folder {folder}, where -wal and -shm have to be made",
            instead=f"ls -ld {shlex.quote(folder)} {shlex.quote(place.path)}",
        )
    if place.file_system.startswith("fuse") and not place.on_network:
        yield WalReason(
            name="foreign-file-system",
            severity="warning",
            message=f"it lies on a file system of another program's ({place.file_system}): whether its locks and "
            "shared memory are as a disk's cannot be told",
            instead="keep it on a disk of the machine that uses it",
        )
    for bug in known_bugs(linked):
        unsure = "; it was built from changed sources, so the fix may have been brought in" if linked.patched else ""
        yield WalReason(
            name=f"sqlite-{bug.name}",
            severity="known",
            message=f"the SQLite of this Python, {linked.version}, has a known bug: {bug.what} (mended in {bug.fixed})"
            f"{unsure}; that of each application counts as well",
            instead=SAFE_ALTERNATIVE if bug.name == "wal-reset" else bug.advice,
        )


def _mode(look: WalLook) -> str:
    return "wal" if look.in_wal_mode else "rollback" if look.versions else "empty"


def _refuse(place: Place, look: WalLook) -> None:
    """Refuse what to open for writing would change beyond the journal mode."""
    quoted = shlex.quote(place.path)
    if not look.in_wal_mode and place.wal_size:
        raise WalRefused(
            f"{place.path} is not in WAL mode, and a -wal of {place.wal_size} bytes lies beside it, which SQLite would "
            "lay over it",
            hint=f"is it another database's? pagewarden check {quoted}",
        )
    try:
        with closing(open_readonly(place.path, timeout=0.5)) as connection:
            connection.execute("PRAGMA schema_version").fetchall()
    except sqlite3.Error as error:
        raise failure(error, place.path) from error


def _weigh(reasons: tuple[WalReason, ...], request: WalEnableRequest, place: Place) -> tuple[WalReason, ...]:
    """Return the reasons that do not keep it from being done. Raises WalRefused where one stands."""
    never = [reason for reason in reasons if reason.severity == "refused"]
    standing = never or ([] if request.force else [reason for reason in reasons if reason.severity == "warning"])
    if standing:
        force = "" if never else f"; pagewarden wal enable {shlex.quote(place.path)} --force does it all the same"
        raise WalRefused(
            f"{place.path} was left as it is: {'; '.join(reason.message for reason in standing)}",
            hint=f"{'; '.join(reason.instead for reason in standing)}{force}",
            reasons=[reason.name for reason in standing],
        )
    return reasons


def _switch(place: Place, request: WalEnableRequest, runtime: Runtime) -> None:
    mode = "delete" if request.off else "wal"
    until = runtime.monotonic() + request.max_time
    with closing(open_writable(place.path, timeout=0.0)) as connection:
        while True:
            try:
                now = str(connection.execute(f"PRAGMA journal_mode={mode}").fetchone()[0])
            except sqlite3.Error as error:
                if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                    raise failure(error, place.path) from error
                now = ""
            if now == mode:
                return
            if runtime.monotonic() >= until:
                raise _in_the_way(place, request, runtime)
            runtime.sleep(0.01)


def _in_the_way(place: Place, request: WalEnableRequest, runtime: Runtime) -> DatabaseBusy:
    """Return the error that names who has the database open."""
    others = [holder for holder in find_holders(place.path).holders if not is_ours(holder.pid)]
    who = "; ".join(map(str, others)) or "who it is cannot be seen"
    guard = guard_of(runtime, place.path)
    what = "back to a rollback journal" if request.off else "to WAL mode"
    why = "every other connection has to be closed" if request.off else "no other connection may hold a lock"
    hint = f"close it, or let it end its transaction, and try again (ps -fp {','.join(str(h.pid) for h in others)})"
    if not others:
        hint = "close all other connections, and try again"
    if guard:
        hint = f"a guard follows it; end it first: kill {guard}"
    return DatabaseBusy(
        f"cannot switch {place.path} {what}, for which {why}: {who}", hint=hint, pids=[each.pid for each in others]
    )


def _of_the_place(place: Place, *, forced: bool) -> Iterator[str]:
    """Yield what speaks against the mode that the database has, without what was `forced`, which is told apart."""
    for reason in reasons_against(place, linked_sqlite()):
        if not (forced and reason.severity == "warning"):
            yield f"{reason.message}; {reason.instead}"


def _of_others(place: Place) -> Iterator[str]:
    """Yield what a switch means to those who have the database open."""
    others = [holder for holder in find_holders(place.path).holders if not is_ours(holder.pid)]
    if others:
        yield (
            "connections that were open before use WAL mode from their next transaction on; what they set for the "
            f"rollback journal, such as synchronous, holds on: {'; '.join(map(str, others))}"
        )
