"""Where a database's earlier files are kept, and the journal that tells what a restore or repair did when it was cut.

Beside the database, in the same directory and so on the same file system:

    .pagewarden-….new, .new.commit, .settled   files that are being made; gone when no restore is under way
    .pagewarden/                      owner only
      app.db/                         all that was ever put aside for app.db
        lock                          held (flock) by the restore, repair or undo that is under way
        000001/                       one restore or repair
          entry.json                  what it is and how far it came: the journal of the exchange (H25, H30)
          previous                    the file that stood there before, whole by itself
          previous.raw, -wal, -journal    the files as they were, where they were not one file or could not be made one
          previous.dropped            a WAL whose tail SQLite would have dropped: evidence (H14)
          restored, …                 the same for what `undo` took away
          cut.db, files/, report.*    what a repair cut out of the database, and what it says of itself
          work/                       where a repair works; gone when none is under way

Entries are ordered by their number, never by their time (H23). Nothing here is ever removed but what going back from a
cut exchange makes superfluous.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path
from typing import Self

import msgspec

from pagewarden import durable
from pagewarden.errors import DatabaseBusy, RestoreRefused
from pagewarden.holders import COMPANIONS
from pagewarden.lineage import Lineage
from pagewarden.regular import odd_kind, read_regular_file
from pagewarden.values import Position

FOLDER = ".pagewarden"
FORMAT = 1
_ENTRY = "entry.json"
_LOCK = "lock"
_WORK = "work"
_NUMBER = "[0-9]" * 6
_LAST = 10**6 - 1  # number of an entry, as far as its folder's name has room for it
_MOST_ENTRY = 64 << 20  # bytes of an entry.json that are read

Inode = tuple[int, int]  # st_dev, st_ino
State = tuple[int, int]  # st_size, st_mtime_ns


class Verb(StrEnum):
    """What put a new file at the path."""

    RESTORE = "restore"
    REPAIR = "repair"


class Phase(StrEnum):
    """How far an entry came. In the first three a process is at work, or was cut."""

    WRITING = "writing"  # the new file is being written, at the path nothing has changed
    SWAPPING = "swapping"  # the new file takes the path
    UNDOING = "undoing"  # the previous file takes the path again
    DONE = "done"
    UNDONE = "undone"
    ABANDONED = "abandoned"  # cut and gone back from, or a repair that did not succeed; what it put aside is kept


class Kept(StrEnum):
    """How what stood at the path before is kept."""

    NOTHING = "nothing"  # nothing stood there
    FILE = "file"  # one file that is whole by itself
    RAW = "raw"  # a file that needs its -wal or -journal, which SQLite could not bring together


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which restore point was restored."""

    repository: str  # URL, readable
    database: str  # name in the repository
    position: Position
    database_sum: str  # 16 hexadecimal digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A file that is to be known again, such as one that stands at the path for a moment."""

    inode: Inode
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One restore or repair, as its entry.json holds it."""

    format: int
    number: int
    phase: Phase
    begun: datetime  # UTC
    verb: Verb = Verb.RESTORE
    origin: Origin | None  # what was restored; None for a repair
    lineage_before: Lineage  # of the previous file
    incoming: Inode | None = None  # of the file that takes the path; None: nothing is to stand there
    # Of that file when a restore put it there, unchanged while nobody writes to it; an earlier version wrote none.
    incoming_state: State | msgspec.UnsetType = msgspec.UNSET
    incoming_name: str = ""  # its name until then, beside the path or (when undoing) in the entry's folder
    displaced: Inode | None = None  # of the file that leaves the path; None: nothing stood there
    displaced_name: str = ""  # what the files put aside are called: "previous", "restored"
    previous: Kept = Kept.NOTHING
    restored: Kept = Kept.NOTHING  # how `undo` kept what it took away
    # Of the file that `undo` lets take the path again; None: nothing, or an earlier version wrote the entry.
    previous_file: Bridge | None = None
    # A copy that is whole, and shows what the displaced files (undoing: those that come back) show with their log. It
    # stands at the path while those change places one by one.
    bridge: Bridge | None = None

    @property
    def pending(self) -> bool:
        """Whether a process is at work on it, or was cut."""
        return self.phase in (Phase.WRITING, Phase.SWAPPING, Phase.UNDOING)


def extracted_beside(new: Path) -> Path:
    """Return where what leads to a commit between two restore points waits, while the file `new` is made of it."""
    return new.with_name(f"{new.name}.commit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """The quarantine of one database. `path` is its real path; a file need not stand there."""

    path: Path

    @property
    def folder(self) -> Path:
        """The folder of all entries."""
        return self.path.parent / FOLDER / self.path.name

    def folder_of(self, entry: Entry) -> Path:
        """The folder of one entry."""
        return self.folder / f"{entry.number:06}"

    @property
    def new(self) -> Path:
        """The file beside the path that a restore writes."""
        return self._temporary("new")

    @property
    def settled(self) -> Path:
        """The file beside the path that brings a database and its log together."""
        return self._temporary("settled")

    def _temporary(self, what: str) -> Path:
        # The name of the database may be as long as a name can be, and so may not be part of it.
        digest = hashlib.sha256(os.fsencode(self.path.name)).hexdigest()[:16]
        return self.path.parent / f"{FOLDER}-{digest}.{what}"

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries, oldest first. Raises RestoreRefused where one cannot be understood."""
        return tuple(self._read(number) for number in self._numbers())

    def work_of(self, entry: Entry) -> Path:
        """The folder in which the repair of an entry works."""
        return self.folder_of(entry) / _WORK

    def begin(self, *, begun: datetime, origin: Origin | None, lineage_before: Lineage) -> Entry:
        """Write a new entry in phase `writing`: of a restore, or without an `origin` of a repair. Needs the lock.

        Raises RestoreRefused where there is no number left for it, OSError.
        """
        number = self._free_number()
        entry = Entry(
            format=FORMAT,
            number=number,
            phase=Phase.WRITING,
            begun=begun,
            verb=Verb.REPAIR if origin is None else Verb.RESTORE,
            origin=origin,
            lineage_before=lineage_before,
        )
        self.folder_of(entry).mkdir(durable.DIRECTORY_MODE)
        try:
            durable.sync_directory(self.folder)
            return self.record(entry)
        except OSError:
            _discard(self.folder_of(entry))
            raise

    def record(self, entry: Entry) -> Entry:
        """Make `entry` durable as it is now, and return it."""
        durable.write(self.folder_of(entry) / _ENTRY, msgspec.json.format(msgspec.json.encode(entry), indent=1))
        return entry

    def advance(self, entry: Entry, phase: Phase) -> Entry:
        """Make it durable that `entry` is in `phase`."""
        return self.record(replace(entry, phase=phase))

    def remove(self, entry: Entry) -> None:
        """Remove an entry that was gone back from. Its entry.json goes last, so that a cut removal is seen."""
        _discard(self.folder_of(entry))
        durable.sync_directory(self.folder)

    def sweep(self) -> None:
        """Remove what nobody needs once no exchange is pending. Needs the lock.

        That are the files beside the path, where a repair worked, and what a cut write of an entry.json left: its
        temporary file, a folder that never got one. What was never this program's stays as it is.
        """
        self.remove_temporaries()
        for folder in sorted(self.folder.glob(_NUMBER)):
            if folder.is_symlink() or not folder.is_dir():
                continue
            if os.path.lexists(folder / _ENTRY):
                self._clean(folder)
            for file in folder.glob(f".{_ENTRY}.*"):
                if file.is_file():
                    file.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()

    def strays(self) -> tuple[str, ...]:
        """Return a sentence of each name in the folder that is none of this program's making; they are passed over."""
        if not self.folder.is_dir():
            return ()
        kind = odd_kind(self.folder / _LOCK)
        told = [_odd_lock(self.folder / _LOCK, kind)] if kind else []
        told += [
            f"{file} is no entry of the quarantine, and is passed over"
            for file in sorted(self.folder.iterdir())
            if file.name != _LOCK and not _is_entry(file)
        ]
        return tuple(told)

    def clean(self, entry: Entry) -> None:
        """Remove the folder in which the repair of an entry worked."""
        self._clean(self.folder_of(entry))

    def _clean(self, folder: Path) -> None:
        if (folder / _WORK).is_dir() and not (folder / _WORK).is_symlink():
            _discard(folder / _WORK)

    def remove_temporaries(self) -> None:
        """Remove the files beside the path, and what SQLite put beside them."""
        for temporary in (self.new, extracted_beside(self.new), self.settled):
            for suffix in COMPANIONS:
                Path(f"{temporary}{suffix}").unlink(missing_ok=True)

    def free_name(self, entry: Entry, stem: str) -> str:
        """Return `stem`, or `stem-2`…: a name under which nothing has been put aside in the entry's folder."""
        taken = {file.name.partition(".")[0] for file in self.folder_of(entry).iterdir()}
        number, name = 1, stem
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        return name

    @contextlib.contextmanager
    def lock(self) -> Iterator[Self]:
        """Hold the quarantine, which is made where it is missing and removed again where it stays empty.

        Raises DatabaseBusy while another restore, repair or undo of this path is under way, RestoreRefused where the
        directory does not let it be made, or something else than a file stands for its lock.
        """
        if not self.path.parent.is_dir():
            raise RestoreRefused(
                f"there is no directory {self.path.parent}", hint=f"mkdir -p {shlex.quote(str(self.path.parent))}"
            )
        if (self.path.parent / FOLDER).is_symlink() or self.folder.is_symlink():
            raise RestoreRefused(f"{self.folder} is, or goes through, a symbolic link", hint="put a directory there")
        try:
            descriptor = self._locked()
        except OSError as error:
            raise durable.failure(error, f"cannot keep earlier files in {self.folder}") from error
        try:
            yield self
        finally:
            self._clear()
            os.close(descriptor)

    def _locked(self) -> int:
        while True:
            durable.make_directories(self.folder)
            if kind := odd_kind(self.folder / _LOCK):
                raise RestoreRefused(
                    _odd_lock(self.folder / _LOCK, kind),
                    hint=f"look what it is, and move it away: ls -ld {shlex.quote(str(self.folder / _LOCK))}",
                )
            try:
                descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:  # the last holder has just removed the empty folder
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (self.folder / _LOCK).stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
                os.close(descriptor)
            except FileNotFoundError:
                os.close(descriptor)
            except BlockingIOError as error:
                os.close(descriptor)
                raise DatabaseBusy(
                    f"another restore, repair or undo of {self.path} is under way", hint="wait until it has ended"
                ) from error

    def _clear(self) -> None:
        """Remove the lock and the folders, if nothing else is in them."""
        # Other databases' entries or a new holder's lock may be in them. What stays is found again by the next lock.
        with contextlib.suppress(OSError):
            if [file.name for file in self.folder.iterdir()] == [_LOCK]:
                (self.folder / _LOCK).unlink()
                self.folder.rmdir()
                self.folder.parent.rmdir()

    def _numbers(self) -> list[int]:
        # A folder without its entry.json was cut before anything was done, or after all was taken back.
        return sorted(int(folder.name) for folder in self.folder.glob(_NUMBER) if os.path.lexists(folder / _ENTRY))

    def _free_number(self) -> int:
        """Return the number after the last entry's under which nothing stands."""
        number = max(self._numbers(), default=0) + 1
        while os.path.lexists(self.folder / f"{number:06}"):
            number += 1
        if number > _LAST:
            raise RestoreRefused(
                f"{self.folder} has an entry {_LAST}, and none can be numbered after it",
                hint=f"move what is there away: ls {shlex.quote(str(self.folder))}",
            )
        return number

    def _read(self, number: int) -> Entry:
        file = self.folder / f"{number:06}" / _ENTRY
        try:
            entry = msgspec.json.decode(read_regular_file(file, _MOST_ENTRY), type=Entry)
        except (msgspec.DecodeError, OSError) as error:
            raise RestoreRefused(
                f"{file} cannot be understood: {error}", hint=f"move its folder away: {shlex.quote(str(file.parent))}"
            ) from error
        if entry.format != FORMAT or entry.number != number:
            raise RestoreRefused(f"{file} is not of this version's making", hint="use the version that made it")
        return entry


def _odd_lock(lock: Path, kind: str) -> str:
    return f"{lock} is {kind}, not the file that restores, repairs and undos lock"


def _is_entry(folder: Path) -> bool:
    """Whether a name in a quarantine is an entry, or was to be one: `begin` was cut, or is at work just now."""
    if not fnmatch(folder.name, _NUMBER) or not folder.is_dir():
        return False
    names = [file.name for file in folder.iterdir()]
    return _ENTRY in names or all(fnmatch(name, f".{_ENTRY}.*") for name in names)


def _discard(folder: Path) -> None:
    for file in sorted(folder.iterdir(), key=lambda file: file.name == _ENTRY):
        if file.is_dir() and not file.is_symlink():
            _discard(file)
        else:
            file.unlink()
    folder.rmdir()
