"""What the quarantine of a database keeps: every restore and repair of it, and what each put aside. Reads only.

What is read here was written by this program for its owner alone, but of a database that anybody may have made: names
and values are data, and whoever shows them escapes them (H29).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from pagewarden.errors import DatabaseNotFound, DatabaseUnreadable, PagewardenError, RestoreRefused
from pagewarden.regular import read_regular_file
from pagewarden.repair.cutouts import CUT, CutSummary, summarize
from pagewarden.repair.reports import PAGE, REPORT
from pagewarden.restore.quarantine import FOLDER, Entry, Phase, Quarantine, Verb
from pagewarden.values import Position, Verdict

_MOST_REPORT = 64 << 20  # bytes of a report that are read


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file in the folder of an entry."""

    name: str  # from the folder on
    what: str  # "original", "taken back", "evidence", "cut out", "report" or "other"
    size: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEntry:
    """One restore or repair of a database, and what is kept of it."""

    database: str  # real path
    number: int
    kind: str  # "restore" or "repair"
    phase: str  # "done", "undone", "abandoned", "under way"; of a repair that changed nothing: "not applied"
    begun: datetime  # UTC
    folder: str
    bytes: int  # of all files
    files: tuple[KeptFile, ...]
    cut: CutSummary | None  # None where nothing was cut out, or it cannot be read
    repository: str = ""  # that was restored from
    position: Position | None = None  # that was restored
    verdict_before: Verdict | None = None  # of a repair
    verdict_after: Verdict | None = None
    undo: str = ""  # the command that takes it back, if it is what `undo` would take back
    why: str = ""  # what of it could not be read


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReport:
    """What quarantines keep, oldest first."""

    entries: tuple[KeptEntry, ...]
    bytes: int  # of all of them
    warnings: tuple[str, ...] = ()  # what stands in a quarantine and is passed over, one sentence each


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRequest:
    """Of which databases to tell: paths of databases, which need not be there any more, or of folders of such."""

    databases: tuple[str, ...]


class _Told(msgspec.Struct, frozen=True):
    """What of a repair's report is told here; versions may differ in the rest."""

    verdict_before: Verdict | None = None
    verdict_after: Verdict | None = None


def run_kept(request: KeptRequest) -> KeptReport:
    """Tell what is kept of databases, changing nothing.

    Raises DatabaseNotFound where a path is neither there nor has a quarantine, RestoreRefused for an entry that cannot
    be understood, DatabaseUnreadable where the system does not let it be looked at.
    """
    entries: list[KeptEntry] = []
    warnings: list[str] = []
    for name in request.databases:
        path = Path(os.path.realpath(name))
        with _looking(path):
            for database in _databases_at(path):
                entries += entries_of(database)
                warnings += Quarantine(path=database).strays()
    return KeptReport(entries=tuple(entries), bytes=sum(entry.bytes for entry in entries), warnings=tuple(warnings))


@contextmanager
def _looking(path: Path) -> Iterator[None]:
    """Name what the system refuses."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise DatabaseUnreadable(
            f"what is kept of {path} cannot be looked at: {reason}", hint=f"ls -la {shlex.quote(str(path.parent))}"
        ) from error


def _databases_at(path: Path) -> Iterator[Path]:
    """Yield the databases that a path names: itself, or all in a folder that anything is kept of."""
    if path.is_dir():
        for folder in sorted((path / FOLDER).glob("*")):
            if folder.is_dir():
                yield path / folder.name
        return
    if not path.exists() and not Quarantine(path=path).folder.is_dir():
        raise DatabaseNotFound(
            f"there is no file {path}, and nothing of it is kept", hint=f"ls -la {shlex.quote(str(path.parent))}"
        )
    yield path


def entries_of(path: Path) -> tuple[KeptEntry, ...]:
    """Return what is kept of the database at the real path `path`, oldest first."""
    quarantine = Quarantine(path=path)
    entries = quarantine.entries() if quarantine.folder.is_dir() else ()
    undoable = max((entry.number for entry in entries if entry.phase is Phase.DONE), default=0)
    return tuple(_kept(quarantine, entry, undoable=entry.number == undoable) for entry in entries)


def entry_of(path: Path, number: int | None) -> KeptEntry:
    """Return one entry of the database at the real path `path`, the newest where `number` is None.

    Raises RestoreRefused where there is none, DatabaseUnreadable where the system does not let it be looked at.
    """
    with _looking(path):
        entries = entries_of(path)
    chosen = entries[-1:] if number is None else [entry for entry in entries if entry.number == number]
    if not chosen:
        which = "" if number is None else f" numbered {number}"
        raise RestoreRefused(
            f"nothing{which} is kept of {path}",
            hint=shlex.join(["pagewarden", "quarantine", "list", str(path if entries else path.parent)]),
        )
    return chosen[0]


def _kept(quarantine: Quarantine, entry: Entry, *, undoable: bool) -> KeptEntry:
    folder, path = quarantine.folder_of(entry), str(quarantine.path)
    files = tuple(_files(folder))
    told = _told(folder / REPORT)
    cut, why = None, ""
    if os.path.lexists(folder / CUT) and not entry.pending:  # else the repair is writing to it
        try:
            cut = summarize(folder, path, entry.number)
        except PagewardenError as error:
            why = error.message
    return KeptEntry(
        database=path,
        number=entry.number,
        kind=entry.verb.value,
        phase=_phase(entry),
        begun=entry.begun,
        folder=str(folder),
        bytes=sum(file.size for file in files),
        files=files,
        cut=cut,
        repository="" if entry.origin is None else entry.origin.repository,
        position=None if entry.origin is None else entry.origin.position,
        verdict_before=told.verdict_before,
        verdict_after=told.verdict_after,
        undo=shlex.join(["pagewarden", "undo", path]) if undoable else "",
        why=why,
    )


def _phase(entry: Entry) -> str:
    if entry.pending:
        return "under way"
    failed = entry.verb is Verb.REPAIR and entry.phase is Phase.ABANDONED
    return "not applied" if failed else entry.phase.value


def _told(report: Path) -> _Told:
    """Return what a repair said of itself; nothing where there is no report, or none that can be read."""
    try:
        return msgspec.json.decode(read_regular_file(report, _MOST_REPORT), type=_Told)
    except (OSError, msgspec.DecodeError):
        # What is kept is there all the same, and is told of file by file.
        return _Told()


def _files(folder: Path) -> Iterator[KeptFile]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_symlink():
            name = str(file.relative_to(folder))
            with suppress(FileNotFoundError):  # a repair that is under way moves its files about
                yield KeptFile(name=name, what=_what(name), size=file.stat().st_size)


def _what(name: str) -> str:
    stem, _, rest = name.partition(".")
    if name in (REPORT, PAGE):
        return "report"
    if name == CUT or name.startswith("files/"):
        return "cut out"
    if rest == "dropped":
        return "evidence"
    if stem.partition("-")[0] == "restored":
        return "taken back"
    return "original" if stem.partition("-")[0] == "previous" else "other"
