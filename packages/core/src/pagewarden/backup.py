"""The `backup` verb: hot and compressed, what changed in a live database or every page of it.

`backup` never counts until it was read back and verified.

1. The source is judged, because a copy of damage is damage (H18): a damaged database is backed up all the same, as
   evidence, and its manifest says so.
2. The repository is told what is coming, and what dead backups left there is removed.
3. The page reader compares one commit with the newest restore point, by page sums, and copies what differs into the
   repository's staging place; where nothing does, nothing is stored, unless the judgement is news. Without a restore
   point that the database continues, or where more than half differs, it copies every page. What it copied is made
   durable.
4. The page reader reads it back from the disk: every page has its sum, the whole its SHA-256.
5. The object is stored, then its manifest. That is the commit point; whatever fails before it leaves nothing.
"""

from __future__ import annotations

import shlex
import socket
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from msgspec import UNSET

from pagewarden import lineage, maps, standing
from pagewarden.errors import (
    ConfigurationInvalid,
    DatabaseUnreadable,
    NotADatabase,
    PagewardenError,
    RepositoryDamaged,
    VerificationFailed,
)
from pagewarden.increment import Base, LocalMap, NoBase
from pagewarden.judgement import (
    as_the_base,
    judge,
    judged_at,
    judgement_level,
    tells_more,
    with_changes,
    with_faults_of_files,
    with_rot,
)
from pagewarden.rot import SINCE, Rot, coming_path, keep_rot, read_rot, rot_path, unchanged
from pagewarden.values import BackupReport, Level, Position, SourceVerdict, Verdict

if TYPE_CHECKING:
    from pagewarden.live import ChangesTaken, CommitTaken, Place, SnapshotTaken
    from pagewarden.repository import Intent, Manifest, PageSetInfo, Repository
    from pagewarden.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRequest:
    """What to back up, and where to."""

    database: str
    repository: str  # URL; made where there is none
    name: str | None = None  # of the database in the repository; None: its file name
    full: bool = False  # every page, whatever is stored already
    compression: int = 1  # zstd's level, 1 to 22
    check: str = Level.QUICK.value  # how the source is judged: "none", or a level of `check`
    gap: str = ""  # why commits since the newest backup were not followed; for whoever follows them


_TURNS = 20  # in which a history that goes on meanwhile is looked at

BESIDE_GUARD = "backup"
"""The cause of a gap that a backup leaves in what a guard follows: commits just before it are in it together."""


def run_backup(request: BackupRequest, runtime: Runtime) -> BackupReport:
    """Back a live database up; see `back_up`, which is not for whom a guard may follow the database.

    What a guard has taken is stored first, by that guard or, where it is dead, here. Where one follows the database
    into this repository, that is all, unless every page is asked for, or there is damage to be told of.
    """
    job = _Job.open(request, runtime)
    if not (runtime.state / "guards").is_dir():  # no guard has ever run, as mostly
        return job.run()[0]
    from pagewarden.guard.beside import store_first

    if store_first(job.place.path, job.name, job.repository, runtime) is None:
        return replace(job, began=runtime.monotonic()).run()[0]
    if not request.full:
        source = judge(job.place, job.level, runtime)
        if source.verdict is not Verdict.DAMAGED:
            point = job.repository.newest(job.name)  # that position, or a later one
            if point is None:
                raise RepositoryDamaged(
                    f"what the guard stored of {job.place.path} in {request.repository} is not there"
                )
            done = _Done(kind="unchanged", position=point.position, database_sum=point.database_sum, source=source)
            warning = "a guard follows it, and stored all that was committed; nothing else was compared"
            return job.report(done, None, "", (warning,))
    return replace(job, request=replace(request, gap=BESIDE_GUARD), began=runtime.monotonic()).run()[0]


def back_up(request: BackupRequest, runtime: Runtime) -> tuple[BackupReport, CommitTaken]:
    """Back a live database up: copy what changed, or every page, prove it, and store it.

    Return the report, and what is known of the commit that was copied, or that was found to be stored already.
    Raises what `examine` and `snapshot_commit` raise for the source, but DatabaseUnreadable where SQLite refuses what
    was a database; ConfigurationInvalid; RepositoryDamaged, RepositoryBusy, OutOfSpace, TargetFailed;
    VerificationFailed where it did not read back as it was written. Whatever it raises, the repository holds what it
    held; or the backup too, if it was cut off after its commit.
    """
    return _Job.open(request, runtime).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What came of a backup."""

    kind: str
    position: Position
    database_sum: str
    source: SourceVerdict
    pages: int = 0  # copied
    bytes_stored: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What is to be backed up, looked at, and where to, opened."""

    request: BackupRequest
    runtime: Runtime
    began: float  # by the runtime's monotonic clock
    level: Level | None  # at which the source is judged
    place: Place
    name: str  # of the database in the repository
    repository: Repository

    @classmethod
    def open(cls, request: BackupRequest, runtime: Runtime) -> Self:
        """Prove the request, look at the database, and open or make the repository. Raises as `back_up` says."""
        from pagewarden.live import examine

        began = runtime.monotonic()
        if not 1 <= request.compression <= 22:
            raise ConfigurationInvalid(f"zstd has no level {request.compression}", hint="choose 1 to 22")
        level = judgement_level(request.check)
        place = examine(request.database)
        name = Path(place.path).name if request.name is None else request.name
        to = runtime.repository(request.repository, create=True)
        return cls(request=request, runtime=runtime, began=began, level=level, place=place, name=name, repository=to)

    def run(self) -> tuple[BackupReport, CommitTaken]:
        runtime, place, to = self.runtime, self.place, self.repository
        runtime.emit("backup.started", place.path, repository=self.request.repository, kept_as=self.name)
        source = judge(place, self.level, runtime)
        where = lineage.place_of(to.url, self.name)
        intent = _begin(to, self.name, place.path, where, runtime)
        run = _Run(request=self.request, runtime=runtime, place=place, repository=to, intent=intent, where=where)
        runtime.sleep(standing.seconds_to_settle(place.path))  # so that it can be told later whether it was written to
        done = run.take(source)
        report = self.report(done, run.taken, run.why_full, (*run.warnings, *_warnings(place, run.taken)))
        runtime.emit(
            "backup.finished",
            place.path,
            seconds=report.seconds,
            position=str(report.position),
            kind=report.kind,
            bytes=report.bytes_stored,
        )
        return report, run.taken

    def report(self, done: _Done, taken: CommitTaken | None, why: str, warnings: tuple[str, ...]) -> BackupReport:
        """Return what is told of it. `taken` is the commit that was read, if one was; `why` it was copied whole."""
        return BackupReport(
            database=self.place.path,
            name=self.name,
            repository=self.request.repository,
            kind=done.kind,
            position=done.position,
            pages_copied=done.pages,
            bytes_read=0 if taken is None else taken.attachment.pages * taken.attachment.page_size,
            bytes_stored=done.bytes_stored,
            seconds=self.runtime.monotonic() - self.began,
            database_sum=done.database_sum,
            verified=True,
            source=done.source,
            attempts=0 if taken is None else taken.attempts,
            lock_seconds=0.0 if taken is None else taken.lock_seconds,
            why_full=why,
            warnings=warnings,
        )


def _begin(repository: Repository, name: str, path: str, where: str, runtime: Runtime) -> Intent:
    """Begin a backup of the database at the real path `path`, of which is remembered where it comes from.

    A guard notes what it is about to store, and stores it, many times a second: where a new timeline would begin, what
    is remembered may be older than what was listed, and both are looked at again.
    """
    turn = 1
    while True:
        known = lineage.read_lineage(runtime.state, path)
        intent = repository.begin(name, known.origin(where), coming=known.coming.get(where))
        forks = intent.parent is not None and intent.parent.timeline != intent.timeline
        if not forks or turn == _TURNS or lineage.read_lineage(runtime.state, path) == known:
            return intent
        repository.abandon(intent)
        turn += 1


@dataclass(slots=True, kw_only=True)
class _Run:
    """One backup that the repository was told of."""

    request: BackupRequest
    runtime: Runtime
    place: Place
    repository: Repository
    intent: Intent
    where: str  # see lineage.place_of
    why_full: str = ""
    warnings: list[str] = field(default_factory=list)
    settled: bool = False  # whether to commit or to abandon it is the repository's business from now on
    taken: CommitTaken = field(init=False)  # what `take` read
    map: LocalMap = field(init=False)
    _rot: Path = field(init=False)  # where the pages that were proved damaged are kept
    _rotten: Rot = field(default_factory=Rot)  # those of the new position
    _last_whole: Manifest | None = None  # the last restore point before the first of them

    def __post_init__(self) -> None:
        path = maps.map_path(self.runtime.state, self.where, self.place.path)
        self._rot = rot_path(self.runtime.state, self.where, self.place.path)
        self.map = LocalMap(path=path, reader=self.runtime.reader, state=self.runtime.state, warnings=self.warnings)

    def take(self, source: SourceVerdict) -> _Done:
        """Copy, prove and store; see `run_backup` for what holds where it raises."""
        try:
            base = self._base()
            if base is None:
                return self._snapshot(source)
            known, _ = read_rot(self._rot, base.manifest.position, base.manifest.source.why)
            always = tells_more(with_rot(source, known), base, self.repository)
            changes = self._compare(base, always=always)
            if changes is None:
                return self._snapshot(source)
            if changes.info is None and not changes.changes.too_many:
                return self._unchanged(changes, source, base, known)
            staging = self.intent.staging
            try:
                judged, self._rotten = with_changes(
                    source, base, changes, self.place, staging, self.repository, self.runtime, known
                )
            except NoBase as error:
                self._refuse_base(error)
                staging.unlink(missing_ok=True)
                return self._snapshot(source)
            if SINCE in judged.why and SINCE not in base.manifest.source.why:
                self._last_whole = base.manifest
            if changes.info is not None:
                return self._store(changes, changes.info, judged, base)
            self.why_full = "more than half of the pages changed"
            return self._snapshot(judged)
        except BaseException as error:
            self.map.forget()
            if not self.settled:
                _abandon(self.repository, self.intent, error)
            raise

    def _base(self) -> Base | None:
        """Return what the backup can be relative to, None where it is to be a snapshot."""
        if self.request.full:
            return None
        try:
            return self.map.base(self.repository, self.intent)
        except NoBase as error:
            self._refuse_base(error)
            return None

    def _refuse_base(self, error: NoBase) -> None:
        self.why_full = str(error)
        if error.wrong:
            self.warnings.append(f"every page was copied: {error}")

    def _compare(self, base: Base, *, always: bool) -> ChangesTaken | None:
        """Compare a commit with the base, and copy what differs; None where that cannot be done.

        With `always` there is a segment where nothing differs, too.
        """
        from pagewarden.live import PageSizeChanged, changes_commit

        try:
            return changes_commit(
                self.place.path,
                self.runtime.reader,
                self.intent.staging,
                self.intent.segment_header(base.manifest, time=self.runtime.clock()),
                self.request.compression,
                base=base.map,
                facts=base.facts,
                always=always,
                progress=partial(self.runtime.progress, "comparing pages"),
                now=self.runtime.clock,
                clock=self.runtime.monotonic,
                sleep=self.runtime.sleep,
            )
        except PageSizeChanged as error:
            self.why_full = str(error)
            return None
        except NotADatabase as error:
            self._refuse_wreck(error)
            raise

    def _snapshot(self, source: SourceVerdict) -> _Done:
        taken = self._copy()
        if (parent := self.intent.parent) is not None:
            why = judged_at(self.repository, self.intent.database, parent)
            known, facts = read_rot(self._rot, parent, why)
            pages = taken.info.header.pages
            known = unchanged(known, facts, self.map.path, self.intent.staging, self.runtime.reader, pages)
            source, self._rotten = with_rot(source, known), self._rotten.beside(known)
        return self._store(taken, taken.info, source, None)

    def _copy(self) -> SnapshotTaken:
        from pagewarden.live import snapshot_commit

        try:
            return snapshot_commit(
                self.place.path,
                self.runtime.reader,
                self.intent.staging,
                # Sizes and time are the commit's, once it is read.
                self.intent.header(page_size=512, pages=0, time=self.runtime.clock()),
                self.request.compression,
                progress=partial(self.runtime.progress, "copying pages"),
                now=self.runtime.clock,
                clock=self.runtime.monotonic,
                sleep=self.runtime.sleep,
            )
        except NotADatabase as error:
            self._refuse_wreck(error)
            raise

    def _refuse_wreck(self, error: NotADatabase) -> None:
        """Raise DatabaseUnreadable if what SQLite refuses was a database."""
        from pagewarden.check.source import begins_as_database

        path = self.place.path
        if begins_as_database(path, self.runtime):
            raise DatabaseUnreadable(
                f"{path} was a database, and is so damaged that SQLite refuses it: there is no commit to back up",
                hint=shlex.join(["pagewarden", "check", path]),
            ) from error

    def _unchanged(self, taken: ChangesTaken, source: SourceVerdict, base: Base, known: Rot) -> _Done:
        """Store nothing: the database is, page for page, what the base is."""
        source = as_the_base(source, base)
        if source.verdict is not Verdict.DAMAGED:
            source = with_rot(source, known)
        self.repository.abandon(self.intent)
        maps.used(base.map)
        self._remember(base.manifest.position)
        self._note_standing(taken, base.manifest)
        self.taken = taken
        return _Done(
            kind="unchanged",
            position=base.manifest.position,
            database_sum=base.manifest.database_sum,
            source=with_faults_of_files(source, taken),
        )

    def _store(self, taken: CommitTaken, info: PageSetInfo, source: SourceVerdict, base: Base | None) -> _Done:
        """Read back what was sealed, and commit it."""
        from pagewarden import __version__
        from pagewarden.repository import SourceFacts

        _read_back(self.intent, info, self.runtime)
        self.map.prepare(info, self.intent.staging, base)
        source = with_faults_of_files(source, taken)
        facts = SourceFacts(
            path=lineage.readable(self.place.path),
            host=socket.gethostname(),
            change_counter=taken.change_counter,
            schema_cookie=taken.schema_cookie,
            journal_mode=taken.journal_mode,
            wal_salts=taken.salts.hex(),
            wal_frames=taken.wal_frames,
            sqlite_version=sqlite3.sqlite_version,
            wal_checksum=taken.wal_checksum or UNSET,
            gap=self.request.gap or UNSET,
            file_state=standing.state_of(taken.attachment) or UNSET,
        )
        with suppress(OSError):  # whoever remembers it afterwards is told
            keep_rot(coming_path(self._rot), self._rotten, info)
            lineage.before_backup(self.runtime.state, self.place.path, self.where, self.intent.parent, info.position)
        self.settled = True
        point = self.repository.commit(
            self.intent,
            info,
            source=source,
            facts=facts,
            compression=self.request.compression,
            verified_at=self.runtime.clock(),
            created_by=f"pagewarden {__version__}",
        )
        self.map.keep()
        try:
            keep_rot(self._rot, self._rotten, info)
            coming_path(self._rot).unlink(missing_ok=True)
        except OSError as error:
            self.warnings.append(f"which pages are damaged could not be remembered: {error}")
        self._pin_last_whole()
        self._remember(point.position)
        self.taken = taken
        return _Done(
            kind=point.kind,
            position=point.position,
            pages=info.held,
            bytes_stored=point.bytes_stored,
            database_sum=point.database_sum,
            source=source,
        )

    def _pin_last_whole(self) -> None:
        """Keep the last restore point before pages were found damaged: it may be all that has what stood in them.

        Who writes such a page again ends the damage, and not always what became of its rows, which no check can see.
        """
        from pagewarden.repository import marks

        if self._last_whole is None:
            return
        number = self._last_whole.sequence
        note = f"the last before pages were found to differ {SINCE}"
        try:
            marks.pin(self.repository.store, self.intent.database, number, note=note, now=self.runtime.clock())
        except PagewardenError as error:
            self.warnings.append(f"number {number}, {note}, could not be pinned: {error.message}")

    def _note_standing(self, taken: CommitTaken, at: Manifest) -> None:
        """Note that the file stands at a restore point now, whose manifest may know of an older state of it."""
        state = standing.state_of(taken.attachment)
        if state is None or state == at.facts.file_state:
            return
        note = standing.Note(
            place=self.where,
            timeline=at.position.timeline,
            txid=at.position.txid,
            database_sum=at.database_sum,
            state=state,
        )
        try:
            standing.leave_note(self.runtime.state, self.place.path, note)
        except OSError as error:
            self.warnings.append(f"that {self.place.path} stands at {at.position} could not be noted: {error}")

    def _remember(self, position: Position) -> None:
        try:
            lineage.after_backup(self.runtime.state, self.place.path, self.where, position)
        except OSError as error:
            self.warnings.append(f"that {self.place.path} stands at {position} could not be remembered: {error}")


def _read_back(intent: Intent, info: PageSetInfo, runtime: Runtime) -> None:
    try:
        proved = runtime.reader.verify_pageset(
            intent.staging,
            read_data=True,
            drop_cache=True,
            progress=partial(runtime.progress, "reading back"),
        )
    except RepositoryDamaged as error:
        raise _not_as_written(intent, error.message) from error
    if proved != info:
        raise _not_as_written(intent, f"the page set is {proved.sha256}, and {info.sha256} was written")


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


def _warnings(place: Place, taken: CommitTaken) -> list[str]:
    warnings = []
    if taken.created:
        files = " and ".join(f"{place.path}{suffix}" for suffix in taken.created)
        warnings.append(f"SQLite made {files} when the database was opened; they belong to it now")
    if taken.attachment.trailing_bytes:
        warnings.append(f"{taken.attachment.trailing_bytes:,} bytes behind the last page are not part of the backup")
    return warnings
