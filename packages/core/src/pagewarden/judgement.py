"""What is known of a database when it is backed up: a copy of damage is damage (H18).

A look at the files is one source, the comparison with the newest restore point another, which costs nothing: where
nothing differs, what was known of that one is true of the database; where pages differ though no commit was made since,
they are damaged, and stay so for as long as they are as they were then (rot.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pagewarden import lineage
from pagewarden.errors import ConfigurationInvalid, OutOfSpace, PagewardenError, RepositoryDamaged
from pagewarden.rot import MOST, SINCE, Rot
from pagewarden.values import Level, Severity, SourceVerdict, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from pagewarden.increment import Base
    from pagewarden.live import ChangesTaken, CommitTaken, Place
    from pagewarden.repository import Repository
    from pagewarden.runtime import Runtime
    from pagewarden.values import Position

NOT_JUDGED = "none"
"""The level of a source that nobody judged."""

_AT_ONCE = 1 << 16  # page numbers that are asked for at once
_NAMED = 5  # pages that are named


def judgement_level(text: str) -> Level | None:
    """Return the level of judgement that `text` asks for, None for none. Raises ConfigurationInvalid."""
    if text == NOT_JUDGED:
        return None
    try:
        return Level(text)
    except ValueError as error:
        choice = ", ".join((NOT_JUDGED, *Level))
        raise ConfigurationInvalid(f'a source cannot be judged "{text}"', hint=f"choose one of {choice}") from error


def judge(place: Place, level: Level | None, runtime: Runtime) -> SourceVerdict:
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


def with_faults_of_files(source: SourceVerdict, taken: CommitTaken) -> SourceVerdict:
    """Return `source` with what only the reading of its files shows: a log that lies (H14), a file that was cut off."""
    attachment = taken.attachment
    faults = [attachment.wal_fault] if attachment.wal_fault else []
    if attachment.missing_bytes:
        faults.append(f"the file lacks {attachment.missing_bytes:,} bytes of its last pages")
    return _damaged(source, faults, len(faults))


def as_the_base(source: SourceVerdict, base: Base) -> SourceVerdict:
    """Return `source` for a database of which every page is as it was at the base: what is known of that is known."""
    then = base.manifest.source
    if not _says_less(source, then):
        return source
    why = f"every page is as it was at {base.manifest.position}, which was judged so"
    return replace(then, why=lineage.readable("; ".join(filter(None, (then.why, why)))))


def tells_more(source: SourceVerdict, base: Base, repository: Repository) -> bool:
    """Return whether `source` says what prunes go by, and no backup said, if every page is as it was at the base.

    That is damage, or that a database is sound in which damage was found before.
    """
    from pagewarden.repository.pruning import is_sound, of_damage

    then = base.manifest.source
    if source.verdict is Verdict.DAMAGED:
        return then.verdict is not Verdict.DAMAGED
    if not is_sound(source) or is_sound(then) or _says_less(source, then):
        return False
    manifests = (entry.manifest for entry in repository.entries(base.manifest.database))
    return of_damage([each for each in manifests if each is not None]) is not None


def _says_less(source: SourceVerdict, then: SourceVerdict) -> bool:
    """Return whether of the very same pages more is known by `then`: damage that a check as deep did not deny."""
    if source.verdict is Verdict.UNKNOWN:
        return then.verdict is not Verdict.UNKNOWN
    levels = (*(level.value for level in Level),)
    shallow = source.level in levels and then.level in levels and levels.index(source.level) < levels.index(then.level)
    return source.verdict is Verdict.SOUND and then.verdict is Verdict.DAMAGED and shallow


def with_changes(
    source: SourceVerdict,
    base: Base,
    taken: ChangesTaken,
    place: Place,
    staging: Path,
    repository: Repository,
    runtime: Runtime,
    known: Rot,
) -> tuple[SourceVerdict, Rot]:
    """Return `source` with the pages that differ from the base though the files prove that no commit was made since.

    Beside it the list of them, and of those of the base's list `known` that are as they were. With a rollback journal
    the leaves of the freelist do not count: their bytes change without a commit (H34). Raises NoBase where the base is
    found damaged when they are read there.
    """
    from pagewarden.standing import no_commit_since

    since = str(base.manifest.position)
    proved = no_commit_since(base.manifest.facts, place.path, taken.attachment)
    if taken.info is None:  # more than half, and the snapshot that comes now shows what of `known` is as it was
        if not proved or taken.attachment.mode != "wal":
            return source, Rot()
        what = f"more than half of its pages differ {SINCE} {since}"
        return _damaged(source, [what], taken.changes.pages), Rot(since=since, more=True)
    leaves: frozenset[int] | None = None
    if proved and taken.changes.pages:
        leaves = frozenset[int]() if taken.attachment.mode == "wal" else _free_leaves(base, repository, runtime)
    if leaves is None and not known:
        return source, known
    named: list[int] = []
    count = 0
    for pgnos in _held(staging, taken.info.held, runtime):
        known = known.without(pgnos, pages=taken.info.header.pages)
        if leaves is not None:
            suspect = [pgno for pgno in pgnos if pgno not in leaves]
            named += suspect[: MOST - len(named)]
            count += len(suspect)
    known = known.without((), pages=taken.info.header.pages)
    source = with_rot(source, known)
    if not count:
        return source, known
    what = f"page {named[0]} differs" if count == 1 else f"{count:,} pages ({_few(named, count)}) differ"
    found = Rot(since=since, pages=tuple(named), more=count > len(named))
    return _damaged(source, [f"{what} {SINCE} {since}"], count), known.beside(found)


def judged_at(repository: Repository, name: str, position: Position) -> str:
    """Return why the source of a restore point was judged as it was, in words; empty where it is not there."""
    manifests = (entry.manifest for entry in repository.entries(name))
    return next((each.source.why for each in manifests if each is not None and each.position == position), "")


def with_rot(source: SourceVerdict, rot: Rot) -> SourceVerdict:
    """Return `source` with pages that were proved damaged before and are as they were then.

    Where it is not known which they are, a source that was judged sound is not known to be that.
    """
    if rot.pages:
        count = len(rot.pages)
        what = f"page {rot.pages[0]} is" if count == 1 else f"{count:,} pages ({_few(rot.pages, count)}) are"
        return _damaged(source, [f"{what} as when found to differ {SINCE} {rot.since}"], count)
    if not rot.more or SINCE in source.why:
        return source
    since = f"{SINCE} {rot.since}" if rot.since else f"{SINCE} an earlier backup"
    why = "; ".join(filter(None, (source.why, f"nobody knows whether pages are as when found to differ {since}")))
    verdict = Verdict.UNKNOWN if source.verdict is Verdict.SOUND else source.verdict
    return replace(source, verdict=verdict, why=lineage.readable(why))


def _few(named: Sequence[int], count: int) -> str:
    return ", ".join(map(str, named[:_NAMED])) + (", …" if count > _NAMED else "")


def _damaged(source: SourceVerdict, faults: Sequence[str], findings: int) -> SourceVerdict:
    if not faults:
        return source
    why = lineage.readable("; ".join(filter(None, (source.why, *faults))))
    return SourceVerdict(verdict=Verdict.DAMAGED, level=source.level, findings=source.findings + findings, why=why)


def _held(staging: Path, held: int, runtime: Runtime) -> Iterator[list[int]]:
    for start in range(0, held, _AT_ONCE):
        yield runtime.reader.segment_numbers(staging, start, min(_AT_ONCE, held - start))


def _free_leaves(base: Base, repository: Repository, runtime: Runtime) -> frozenset[int] | None:
    """Return the leaves of the freelist at the base, which is at the same commit; None where they cannot be had now.

    Raises NoBase where the base is damaged.
    """
    from pagewarden.check.baseline import StoredImage
    from pagewarden.increment import NoBase
    from pagewarden.sqlite.freelist import walk_freelist
    from pagewarden.sqlite.schema import Layout

    try:
        chain = [repository.object_path(link.key) for link in reversed(base.links)]
        image = StoredImage(runtime.reader, chain)
        layout = Layout.of(image.page(1), page_size=image.page_size, pages=image.pages)
        found = walk_freelist(image.page, first=layout.freelist, pages=image.pages, usable=layout.usable)
    except RepositoryDamaged as error:
        raise NoBase(error.message) from error
    except OutOfSpace:  # for a copy of what a remote target holds
        return None
    finally:
        for link in base.links:
            repository.store.release(link.key)
    return found.leaves
