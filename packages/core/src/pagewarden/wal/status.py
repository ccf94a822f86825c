"""`wal status`: mode, log, readers, locks, advice. It changes nothing, and leaves no file behind.

1. The header of the database, of the -wal and of the -shm are read by the page reader (H1).
2. What the -shm says counts only while SQLite has the database open. So where both -wal and -shm stand there, it is
   opened read-only for as long as the look takes, which makes neither (H33). Where one of them is missing, opening
   would make it: then the log itself is read, from its first to its last verified frame.
3. Who holds which lock is in /proc/locks; read-marks are lower bounds and never snapshots (H37).
"""

from __future__ import annotations

import os
import shlex
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pagewarden.config import WalSettings
from pagewarden.errors import PagewardenError
from pagewarden.holders import find_holders, is_ours
from pagewarden.live import Pin, Place, examine
from pagewarden.versions import LinkedSQLite, linked_sqlite
from pagewarden.wal.policy import Decision, WalState
from pagewarden.wal.presets import chosen
from pagewarden.wal.readers import find_readers, lowest_mark, name_locks
from pagewarden.wal.reports import WalAdvice, WalBug, WalReader, WalStatusReport

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime
    from pagewarden.wal.look import WalLook

WAL_BUGS = frozenset({"wal-reset", "wal-restart-sync"})
"""The known bugs of SQLite that only databases in WAL mode meet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalStatusRequest:
    """Whose log to look at."""

    database: str  # path
    settings: WalSettings = field(default_factory=WalSettings)


def run_wal_status(request: WalStatusRequest, runtime: Runtime) -> WalStatusReport:
    """Tell how the log of a database stands. Raises what `examine` raises, and DatabaseUnreadable."""
    began = runtime.monotonic()
    place = examine(request.database)
    warnings: list[str] = []
    seen, live = _look(place, runtime, warnings)
    if seen.in_wal_mode and seen.wal_bytes and not seen.index:
        seen = _read_log(place, seen, runtime, warnings)
    holders = find_holders(place.path)
    counted = seen.index or not seen.wal_bytes
    readers = find_readers(holders.locks, seen.read_marks, seen.frames)
    guard = guard_of(runtime, place.path)
    others = tuple(reader for reader in readers if not guard or reader.pid != guard)  # the guard's pin moves on
    settings = chosen(request.settings)
    state = WalState(
        page_size=seen.log_page_size or seen.page_size,
        frames=seen.frames,
        backfilled=seen.backfilled,
        wal_bytes=seen.wal_bytes,
        idle_seconds=0.0,  # a log that is short and at rest is no reason to bother a person
        reader_mark=lowest_mark(others, seen.frames, seen.backfilled),
    )
    decision = settings.policy.decide(state)
    linked = linked_sqlite()
    _warn(warnings, seen, place)
    if holders.why and (decision.over_bound or decision.held_back):
        warnings.append(f"who has it open is not known wholly: {holders.why}")
    return WalStatusReport(
        database=place.path,
        journal_mode="wal" if seen.in_wal_mode else "rollback" if seen.versions else "empty",
        page_size=seen.page_size,
        bytes=seen.database_bytes,
        wal_bytes=seen.wal_bytes,
        log_bytes=state.log_bytes,
        bound_bytes=settings.policy.bound_bytes,
        over_bound=decision.over_bound,
        live=live,
        frames=seen.frames if counted else None,
        backfilled=seen.backfilled if live or not seen.wal_bytes else None,
        salts=seen.salts or None,
        sequence=seen.sequence if seen.salts else None,
        read_marks=seen.read_marks,
        idle_seconds=_idle(seen, runtime),
        readers=readers,
        locks=name_locks(holders.locks),
        holders=tuple(str(holder) for holder in holders.holders if not is_ours(holder.pid)),
        guard=guard,
        advice=_advice(decision, place.path, seen, others, guard),
        sqlite=linked.version,
        bugs=known_bugs(linked),
        warnings=tuple(warnings),
        seconds=runtime.monotonic() - began,
    )


def known_bugs(linked: LinkedSQLite) -> tuple[WalBug, ...]:
    """Return the known bugs of a SQLite that only databases in WAL mode meet."""
    return tuple(
        WalBug(name=bug.name, what=bug.what, fixed=bug.fixed, advice=bug.advice)
        for bug in linked.bugs()
        if bug.name in WAL_BUGS
    )


def guard_of(runtime: Runtime, path: str) -> int | None:
    """Return the process id of the guard that follows a database, 0 where it does not say so; None: there is none."""
    from pagewarden.guard.control import ask
    from pagewarden.guard.only import guard_places

    try:
        reply = ask(guard_places(runtime.state, path, "").socket, {"verb": "status"}, seconds=1.0)
    except PagewardenError:  # it is there, and has other things to do
        return 0
    if reply is None:
        return None
    status = reply.get("status")
    pid = status.get("pid") if isinstance(status, dict) else None
    return pid if isinstance(pid, int) else 0


def _look(place: Place, runtime: Runtime, warnings: list[str]) -> tuple[WalLook, bool]:
    """Return what is seen, and whether SQLite has the database open, so that its wal-index is true."""
    if not {"-wal", "-shm"} <= place.companions:
        return runtime.reader.wal_look(place.path, live=False), False
    try:
        with closing(Pin(place)) as pin:
            pin.look()
            seen = runtime.reader.wal_look(place.path, live=True)
            return seen, seen.index
    except PagewardenError as error:
        warnings.append(f"what the wal-index says cannot be believed: {error.message}")
        return runtime.reader.wal_look(place.path, live=False), False


def _read_log(place: Place, seen: WalLook, runtime: Runtime, warnings: list[str]) -> WalLook:
    """Return what is seen with the frames that the log itself proves: those that SQLite would recover."""
    try:
        survey = runtime.reader.wal_survey(place.path)
    except PagewardenError as error:
        warnings.append(f"the log cannot be read: {error.message}")
        return seen
    if survey is None:  # removed since
        return replace(seen, wal_bytes=0)
    if survey.stranded_commits or survey.header_fault:
        why = survey.header_fault or survey.end
        warnings.append(f"SQLite would leave a part of the log out: {why}; pagewarden check {shlex.quote(place.path)}")
    return replace(seen, index=True, frames=survey.committed, backfilled=0)


def _idle(seen: WalLook, runtime: Runtime) -> float | None:
    if seen.wal_modified is None or not seen.wal_bytes:
        return None
    return max(0.0, runtime.clock().timestamp() - seen.wal_modified)


def _warn(warnings: list[str], seen: WalLook, place: Place) -> None:
    if place.on_network and seen.in_wal_mode:
        warnings.append(
            f"it is in WAL mode on a network file system ({place.file_system}), where locks cannot be trusted: "
            "use it from one machine only, or switch back with pagewarden wal enable --off"
        )
    if not seen.in_wal_mode and seen.wal_bytes:
        warnings.append(
            f"a -wal of {seen.wal_bytes} bytes lies beside a database that is not in WAL mode: "
            f"pagewarden check {shlex.quote(place.path)}"
        )
    if seen.in_wal_mode and not os.access("/proc/locks", os.R_OK):
        warnings.append("this system does not show locks: who holds the log back cannot be told")


def _advice(
    decision: Decision, path: str, seen: WalLook, readers: tuple[WalReader, ...], guard: int | None
) -> WalAdvice:
    """Return what to do about the log, for a person: the policy speaks of now, a person may wait."""
    command, why = "", decision.why if seen.in_wal_mode else "it is not in WAL mode: there is no log"
    if guard is not None and decision.action != "none":
        why = f"the guard sees to it: {why}"
    elif decision.action != "none":
        command = shlex.join(["pagewarden", "wal", "checkpoint", path, "--mode", decision.action])
    elif decision.over_bound and readers:
        command = shlex.join(["ps", "-fp", ",".join(sorted({str(reader.pid) for reader in readers if reader.pid}))])
    return WalAdvice(action=decision.action, why=why, command=command, held_back=decision.held_back)
