"""The `restore` verb: bring back a whole database.

`restore` never touches the live file until the new one is verified and durable, and can be undone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden import durable, lineage
from pagewarden.errors import ConfigurationInvalid, RepositoryNotFound
from pagewarden.holders import find_holders
from pagewarden.ledger.store import note_restore
from pagewarden.lineage import Lineage
from pagewarden.repository.locate import Located, locate
from pagewarden.restore.hold import Copy, give_ownership, take_hold
from pagewarden.restore.plan import RestorePlan, check_place, make_plan
from pagewarden.restore.quarantine import Origin, Phase, Quarantine
from pagewarden.restore.speed import read_speed, remember_speed
from pagewarden.restore.swap import exchange, give_up, go_back, pending_intents, recover
from pagewarden.restore.write import write_chain
from pagewarden.times import parse_moment
from pagewarden.values import RestoreReport

if TYPE_CHECKING:
    from pagewarden.repository import Repository
    from pagewarden.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """What to bring back, and where to."""

    repository: str  # URL
    to: str
    name: str | None = None  # of the database in the repository; None where it holds one
    at: str | None = None  # the last moment at or before it: RFC 3339, or "-15m"; or the name of a moment
    txid: int | None = None
    mark: str | None = None  # the name of a moment, whatever it looks like
    dry_run: bool = False  # only tell what would be done
    read_back: bool = False  # compare every page again, from the disk, before the new file takes the path
    force: bool = False  # go on although other processes have the file open


def run_restore(request: RestoreRequest, runtime: Runtime) -> RestoreReport:
    """Bring a database back; the file that stands there is kept, and `undo` brings it back.

    Raises RepositoryNotFound, RepositoryDamaged, RestoreRefused, DatabaseBusy where a process has the file open,
    VerificationFailed, OutOfSpace, TargetFailed. Whatever it raises, the path is as it was.
    """
    began = runtime.monotonic()
    repository = runtime.repository(request.repository)
    located = _locate(request, repository, runtime)
    chain = located.chain
    plan = make_plan(
        chain,
        request.to,
        force=request.force,
        read_back=request.read_back,
        speed=read_speed(runtime.state, repository.url),
        before=located.before,
        after=located.after,
    )
    point = plan.point
    warnings = located.warnings
    if not request.dry_run:
        runtime.emit("restore.started", str(plan.path), repository=request.repository, position=str(point.position))
        warnings = (*warnings, *_execute(plan, repository, runtime))
    report = RestoreReport(
        to=str(plan.path),
        position=point.position,
        time=point.position.time,
        pages=point.pages,
        bytes=point.bytes,
        seconds=runtime.monotonic() - began,
        database_sum=point.database_sum,
        verified=not request.dry_run,
        undo="" if request.dry_run else plan.undo,
        dry_run=request.dry_run,
        before=plan.before,
        after=plan.after,
        objects=len(chain.links) + (chain.inner is not None),
        bytes_fetched=chain.bytes,
        expected_seconds=plan.seconds,
        steps=plan.steps,
        warnings=warnings,
    )
    if not request.dry_run:
        runtime.emit("restore.finished", report.to, seconds=report.seconds, position=str(point.position))
    return report


def _locate(request: RestoreRequest, repository: Repository, runtime: Runtime) -> Located:
    """Find the moment that was asked for. Raises ConfigurationInvalid for what is no time, and no moment's name."""
    find = partial(locate, repository, runtime.reader, request.name, txid=request.txid)
    if request.mark is not None or request.at is None:
        return find(mark=request.mark)
    try:
        at = parse_moment(request.at, now=runtime.clock(), local=False).time
    except ConfigurationInvalid as error:
        try:
            return find(mark=request.at)
        except RepositoryNotFound as second:
            error.message = f"{error.message}; {second.message}"
            raise error from second
    return find(at=at)


def put_in_place(
    path: Path,
    write: Callable[[Path], None],
    *,
    copy: Copy,
    force: bool,
    begun: datetime,
    origin: Origin,
    lineage_before: Lineage,
) -> tuple[str, ...]:
    """Let a new file take the real path `path`; return what a person should know.

    `write` is given the new file's name, beside the path; it must write it, prove it and make it durable. `copy` copies
    a closed file in another process. Raises what `write` and `exchange` raise, with the path as it was.
    """
    with Quarantine(path=path).lock() as quarantine:
        recover(quarantine)
        check_place(path)
        if not force:
            find_holders(str(path)).refuse("replace", forcible=True)  # sooner than after a long copy
        try:
            entry = quarantine.begin(begun=begun, origin=origin, lineage_before=lineage_before)
        except OSError as error:
            raise durable.failure(error, f"cannot begin to replace {path}") from error
        new = quarantine.new
        try:
            write(new)
            if path.exists():
                give_ownership(path, new)
            hold = take_hold(path, settled=quarantine.settled, copy=copy, force=force, doing="replace")
        except BaseException as error:
            give_up(error, f"cannot replace {path}", partial(go_back, quarantine, entry))
            raise
        with hold:
            _, late = exchange(quarantine, entry, new, hold, phase=Phase.SWAPPING, force=force)
        return (*hold.warnings, *late)


def copy_file(runtime: Runtime, source: Path, destination: Path) -> None:
    """Copy a file that nobody writes, durably, in the page-reader process."""
    runtime.reader.copy_file(str(source), str(destination))


def _execute(plan: RestorePlan, repository: Repository, runtime: Runtime) -> tuple[str, ...]:
    path, point = plan.path, plan.point
    origin = Origin(
        repository=lineage.readable(repository.url),
        database=point.database,
        position=point.position,
        database_sum=point.database_sum,
    )
    before = lineage.read_lineage(runtime.state, str(path))
    forgot: list[str] = []
    measured: list[str] = []

    def write(new: Path) -> None:
        measured.append(_write(plan, new, repository, runtime))
        # Already now: cut after the exchange, the memory is right; cut before it, the next backup begins a timeline
        # that it need not begin. The other way round it would carry on a history that the file is not part of.
        try:
            lineage.after_restore(runtime.state, str(path), point.position)
        except OSError as error:
            forgot.append(f"the next backup of {path} goes on as if nothing had been restored, because {error}")

    try:
        warnings = put_in_place(
            path,
            write,
            copy=partial(copy_file, runtime),
            force=plan.force,
            begun=runtime.clock(),
            origin=origin,
            lineage_before=before,
        )
    except BaseException as error:
        # While it is pending, nobody knows yet which file will stand there.
        if lineage.read_lineage(runtime.state, str(path)) != before and not pending_intents(path):
            try:
                lineage.write_lineage(runtime.state, str(path), before)
            except OSError as second:
                error.add_note(f"the next backup of {path} begins a new timeline, because {second}")
        raise
    forgot.append(note_restore(runtime.state, str(path), runtime.clock()))
    forgot += measured
    return (*warnings, *filter(None, forgot))


def _write(plan: RestorePlan, new: Path, repository: Repository, runtime: Runtime) -> str:
    """Write the restored database to the new file `new`, durably, every page of it proved.

    Returns what a person should know.
    """
    began = runtime.monotonic()
    fetched = write_chain(
        plan.chain,
        new,
        repository=repository,
        reader=runtime.reader,
        read_back=plan.read_back,
        progress=partial(runtime.progress, "restoring pages"),
    )
    took = runtime.monotonic() - began
    return remember_speed(runtime.state, repository.url, fetched + plan.point.bytes, took, runtime.clock())
