"""The `backup` verb: a hot, compressed snapshot of a live database.

`backup` never counts until it was read back and verified.

1. The source is judged, because a copy of damage is damage (H18): a damaged database is backed up all the same, as
   evidence, and its manifest says so.
2. The repository is told what is coming, and what dead backups left there is removed.
3. The page reader copies one commit into the repository's staging place and makes it durable.
4. The page reader reads it back from the disk: every page has its sum, the whole its SHA-256.
5. The object is stored, then its manifest. That is the commit point; whatever fails before it leaves nothing.
"""

from __future__ import annotations

import shlex
import socket
import sqlite3
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden import lineage
from pagewarden.errors import (
    ConfigurationInvalid,
    DatabaseUnreadable,
    NotADatabase,
    PagewardenError,
    RepositoryDamaged,
    VerificationFailed,
)
from pagewarden.values import BackupReport, Level, RestorePoint, Severity, SourceVerdict, Verdict

if TYPE_CHECKING:
    from pagewarden.live import Place, SnapshotTaken
    from pagewarden.repository import Intent, Repository
    from pagewarden.runtime import Runtime

NOT_JUDGED = "none"
"""The level of a source that nobody judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRequest:
    """What to back up, and where to."""

    database: str
    repository: str  # URL; made where there is none
    name: str | None = None  # of the database in the repository; None: its file name
    compression: int = 1  # zstd's level, 1 to 22
    check: str = Level.QUICK.value  # how the source is judged: "none", or a level of `check`


def run_backup(request: BackupRequest, runtime: Runtime) -> BackupReport:
    """Take a snapshot of a live database, prove it, and store it.

    Raises what `examine` and `snapshot_commit` raise for the source, but DatabaseUnreadable where SQLite refuses what
    was a database; ConfigurationInvalid; RepositoryDamaged, RepositoryBusy, OutOfSpace,
    TargetFailed; VerificationFailed where it did not read back as it was written. Whatever it raises, the repository
    holds what it held.
    """
    from pagewarden.live import examine

    began = runtime.monotonic()
    if not 1 <= request.compression <= 22:
        raise ConfigurationInvalid(f"zstd has no level {request.compression}", hint="choose 1 to 22")
    level = None if request.check == NOT_JUDGED else _level(request.check)
    place = examine(request.database)
    name = Path(place.path).name if request.name is None else request.name
    repository = runtime.repository(request.repository, create=True)
    runtime.emit("backup.started", place.path, repository=request.repository, kept_as=name)
    source = _judge(place, level, runtime)
    where = lineage.place_of(repository.url, name)
    intent = repository.begin(name, lineage.read_lineage(runtime.state, place.path).origin(where))
    try:
        taken = _copy(place, intent, request.compression, runtime)
        _read_back(intent, taken, runtime)
    except BaseException as error:
        _abandon(repository, intent, error)
        raise
    source = _with_faults_of_files(source, taken)
    point = _commit(repository, intent, taken, source, place, request.compression, runtime)
    warnings = _warnings(place, taken, _remember(where, point, place, runtime))
    report = BackupReport(
        database=place.path,
        name=name,
        repository=request.repository,
        kind=point.kind,
        position=point.position,
        pages_copied=point.pages,
        bytes_read=point.bytes,
        bytes_stored=point.bytes_stored,
        seconds=runtime.monotonic() - began,
        database_sum=point.database_sum,
        verified=True,
        source=source,
        attempts=taken.attempts,
        lock_seconds=taken.lock_seconds,
        warnings=warnings,
    )
    runtime.emit(
        "backup.finished", place.path, seconds=report.seconds, position=str(point.position), bytes=point.bytes_stored
    )
    return report


def _level(text: str) -> Level:
    try:
        return Level(text)
    except ValueError as error:
        choice = ", ".join((NOT_JUDGED, *Level))
        raise ConfigurationInvalid(f'a source cannot be judged "{text}"', hint=f"choose one of {choice}") from error


def _judge(place: Place, level: Level | None, runtime: Runtime) -> SourceVerdict:
    """Return what is known of the source. That it could not be judged does not keep it from being backed up."""
    if level is None:
        return SourceVerdict(verdict=Verdict.UNKNOWN, level=NOT_JUDGED)
    from pagewarden.check import NOT_RUN, CheckRequest, run_check

    try:
        report = run_check(CheckRequest(database=place.path, level=level), runtime)
    except PagewardenError as error:
        return SourceVerdict(verdict=Verdict.UNKNOWN, level=level.value, why=error.message)
    notes = tuple(result.why for result in report.checkers if result.why)
    if report.verdict is Verdict.SOUND and level is Level.QUICK and notes:
        # Without page sums to compare with, a quick look judges next to nothing: that is no sound source (H18).
        return SourceVerdict(verdict=Verdict.UNKNOWN, level=level.value, why=lineage.readable("; ".join(notes)))
    damage = [finding for finding in report.findings if finding.severity is Severity.DAMAGE]
    reasons = [finding.message for finding in damage[:1]]
    reasons += [
        result.why
        for result in report.checkers
        if result.why not in ("", NOT_RUN) and result.verdict is not Verdict.SOUND
    ]
    return SourceVerdict(
        verdict=report.verdict, level=level.value, findings=len(damage), why=lineage.readable("; ".join(reasons[:3]))
    )


def _copy(place: Place, intent: Intent, compression: int, runtime: Runtime) -> SnapshotTaken:
    from pagewarden.live import snapshot_commit

    try:
        return snapshot_commit(
            place.path,
            runtime.reader,
            intent.staging,
            # Sizes and time are the commit's, once it is read.
            intent.header(page_size=512, pages=0, time=runtime.clock()),
            compression,
            progress=partial(runtime.progress, "copying pages"),
            now=runtime.clock,
            clock=runtime.monotonic,
            sleep=runtime.sleep,
        )
    except NotADatabase as error:
        from pagewarden.check.source import begins_as_database

        if not begins_as_database(place.path, runtime):
            raise
        raise DatabaseUnreadable(
            f"{place.path} was a database, and is so damaged that SQLite refuses it: there is no commit to back up",
            hint=shlex.join(["pagewarden", "check", place.path]),
        ) from error


def _read_back(intent: Intent, taken: SnapshotTaken, runtime: Runtime) -> None:
    try:
        proved = runtime.reader.verify_pageset(
            intent.staging,
            read_data=True,
            drop_cache=True,
            progress=partial(runtime.progress, "reading back"),
        )
    except RepositoryDamaged as error:
        raise _not_as_written(intent, error.message) from error
    if proved != taken.info:
        raise _not_as_written(intent, f"the page set is {proved.sha256}, and {taken.info.sha256} was written")


def _not_as_written(intent: Intent, why: str) -> VerificationFailed:
    return VerificationFailed(
        f"the backup of {intent.database} did not read back as it was written: {why}",
        hint=f"look at the disk of {intent.staging.parent}: dmesg | tail",
    )


def _abandon(repository: Repository, intent: Intent, error: BaseException) -> None:
    try:
        repository.abandon(intent)
    except (PagewardenError, OSError) as second:
        error.add_note(f"what it left could not be removed: {second}; the next backup will")


def _with_faults_of_files(source: SourceVerdict, taken: SnapshotTaken) -> SourceVerdict:
    """Return `source` with what only the reading of its files shows: a log that lies (H14), a file that was cut off."""
    attachment = taken.attachment
    faults = [attachment.wal_fault] if attachment.wal_fault else []
    if attachment.missing_bytes:
        faults.append(f"the file lacks {attachment.missing_bytes:,} bytes of its last pages")
    if not faults:
        return source
    why = lineage.readable("; ".join(filter(None, (source.why, *faults))))
    return SourceVerdict(verdict=Verdict.DAMAGED, level=source.level, findings=source.findings + len(faults), why=why)


def _commit(
    repository: Repository,
    intent: Intent,
    taken: SnapshotTaken,
    source: SourceVerdict,
    place: Place,
    compression: int,
    runtime: Runtime,
) -> RestorePoint:
    from pagewarden import __version__
    from pagewarden.repository import SourceFacts

    facts = SourceFacts(
        path=lineage.readable(place.path),
        host=socket.gethostname(),
        change_counter=taken.change_counter,
        schema_cookie=taken.schema_cookie,
        journal_mode=taken.journal_mode,
        wal_salts=taken.salts.hex(),
        wal_frames=taken.wal_frames,
        sqlite_version=sqlite3.sqlite_version,
    )
    return repository.commit(
        intent,
        taken.info,
        source=source,
        facts=facts,
        compression=compression,
        verified_at=runtime.clock(),
        created_by=f"pagewarden {__version__}",
    )


def _remember(where: str, point: RestorePoint, place: Place, runtime: Runtime) -> str:
    try:
        lineage.after_backup(runtime.state, place.path, where, point.position)
    except OSError as error:
        return f"that {place.path} stands at {point.position} could not be remembered: {error}"
    return ""


def _warnings(place: Place, taken: SnapshotTaken, forgot: str) -> tuple[str, ...]:
    warnings = [forgot] if forgot else []
    if taken.created:
        files = " and ".join(f"{place.path}{suffix}" for suffix in taken.created)
        warnings.append(f"SQLite made {files} when the database was opened; they belong to it now")
    if taken.attachment.trailing_bytes:
        warnings.append(f"{taken.attachment.trailing_bytes:,} bytes behind the last page are not part of the backup")
    return tuple(warnings)
