"""What was taken of a database and is not in the repository yet: batches on this machine's disk, in order, bounded.

A batch is its page sets, which are sealed and durable already, and one document, which is put last: without it they are
nobody's. It goes when its manifest stands in the repository. So whatever is cut in between, a batch is here, there or
both, and `recover` finds what is here.

    <number>.segment     what the batch changed: an ordinary segment
    <number>.commits     each commit of it by itself, where it has one
    <number>.json        what they are; encoded, and proved, as the documents of a repository are
    ….broken             what did not prove itself or did not continue what is stored, and what came after it: nothing
                         uses it; the oldest goes where all of it is more than the spool may hold
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden import durable
from pagewarden.errors import RepositoryDamaged
from pagewarden.repository.manifest import FORMAT, decode_document, encode_document
from pagewarden.repository.stream import Batch

if TYPE_CHECKING:
    from pagewarden.processes.reader import PageReader

_NAME = re.compile(r"(\d{16})\.json")
_ASIDE = re.compile(r"(\d{16})\.(?:json|segment|commits)\.broken")
_BROKEN = ".broken"
_NEARLY = 0.75  # of the room that is there, from which on a batch should be as small as it can be


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """The document of a batch."""

    format: int = FORMAT
    number: int
    commits: bool  # whether there is a page set of its commits
    batch: Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One batch that waits for the repository."""

    number: int  # in the order of what was taken
    batch: Batch
    segment: Path
    commits: Path | None
    bytes: int  # of both


Prove = Callable[[Waiting], str]
"""Reads the page sets of a batch; returns why they are not what its document says, as a clause; empty if they are."""


def prove(waiting: Waiting, reader: PageReader) -> str:
    """Return why the files of a batch are not what its document says, as a clause; empty if they are.

    Raises what the page reader raises where it cannot tell.
    """
    batch = waiting.batch
    try:
        segment = reader.verify_pageset(waiting.segment, read_data=True)
        if segment.sha256 != batch.segment.sha256:
            return "its segment is another one than was written"
        if waiting.commits is not None:
            commits = reader.verify_commits(waiting.commits, read_data=True)
            if not batch.commits or commits.sha256 != batch.commits.sha256:
                return "its commits are others than were written"
    except RepositoryDamaged as error:
        return error.message
    return ""


class Spool:
    """The batches of one database and one place. One thread adds, another one removes."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` is in bytes. The folder is made if it is not there. Raises OSError."""
        durable.make_directories(folder)
        self.folder = folder
        self.limit = limit
        self._lock = threading.Lock()
        self._waiting: dict[int, Waiting] = {}
        self._unsettled: set[int] = set()  # numbers of documents that a loss of power could take
        self._next = 1

    @property
    def bytes(self) -> int:
        """Bytes of the page sets that wait."""
        with self._lock:
            return sum(each.bytes for each in self._waiting.values())

    @property
    def count(self) -> int:
        """How many batches wait."""
        return len(self._waiting)

    @property
    def nearly_full(self) -> bool:
        """Whether what is added from now on should be as little as possible."""
        return self.bytes >= _NEARLY * self.limit

    @property
    def full(self) -> bool:
        """Whether nothing should be added until something was stored."""
        return self.bytes >= self.limit

    def recover(self, prove: Prove) -> tuple[tuple[Waiting, ...], str]:
        """Return the batches that were left here, oldest first, proved, and what was wrong with those after them.

        They follow one another; what is broken, and what comes after it, is put aside, and what no document names is
        removed. Raises OSError, and what `prove` raises, where it cannot be told: then everything is as it was.
        """
        found: list[Waiting] = []
        problem = ""
        numbers = sorted(int(match[1]) for file in self.folder.iterdir() if (match := _NAME.fullmatch(file.name)))
        for number in numbers:
            try:
                waiting = self._read(number)
                problem = prove(waiting)
            except (FileNotFoundError, RepositoryDamaged, ValueError) as error:
                problem = str(error)
            else:
                if not problem and found and waiting.batch.parent != found[-1].batch.position:
                    problem = f"it does not continue {found[-1].batch.position}"
            if problem:
                problem = f"batch {number} in {self.folder}: {problem}"
                break
            found.append(waiting)
        aside = {int(match[1]) for file in self.folder.iterdir() if (match := _ASIDE.fullmatch(file.name))}
        self._put_aside(numbers[len(found) :])
        with self._lock:
            self._waiting = {each.number: each for each in found}
            self._next = max((*numbers, *aside, 0)) + 1
        kept = {f"{each.number:016}" for each in found}
        for file in tuple(self.folder.iterdir()):
            if file.name.partition(".")[0] not in kept and file.suffix != _BROKEN:
                file.unlink()
        return tuple(found), problem

    def _put_aside(self, numbers: Sequence[int]) -> None:
        """Keep the batches from where they are broken on out of the way: they may be the only copy of something."""
        for number in reversed(numbers):  # the first one last: until then the next one finds the same to do
            for path in (*self._paths(number), self._document(number)):
                with suppress(FileNotFoundError):
                    path.rename(path.with_name(path.name + _BROKEN))
        aside = sorted(file for file in self.folder.iterdir() if numbers and _ASIDE.fullmatch(file.name))
        size = sum(file.stat().st_size for file in aside)
        for file in aside:  # of the lowest number first: a guard that is superseded again and again fills no disk
            if size <= self.limit:
                break
            size -= file.stat().st_size
            file.unlink()

    def begin(self) -> tuple[Path, Path]:
        """Return where the page sets of the next batch are to be written: the segment, and the commits."""
        paths = self._paths(self._next)
        for path in paths:
            path.unlink(missing_ok=True)  # left by an attempt that failed
        return paths

    def add(self, batch: Batch, *, commits: bool) -> Waiting:
        """Keep the batch whose page sets stand where `begin` said. A kill takes it no more; see `settle`.

        Raises OSError; then it is not kept.
        """
        number = self._next
        segment, other = self._paths(number)
        sizes = segment.stat().st_size + (other.stat().st_size if commits else 0)
        waiting = Waiting(number=number, batch=batch, segment=segment, commits=other if commits else None, bytes=sizes)
        path = self._document(number)
        half = path.with_suffix(".half")
        half.write_bytes(encode_document("batch", _Kept(number=number, commits=commits, batch=batch)))
        half.chmod(durable.FILE_MODE)
        half.replace(path)
        with self._lock:
            self._waiting[number] = waiting
            self._unsettled.add(number)
            self._next = number + 1
        return waiting

    def settle(self) -> None:
        """Let no loss of power take what was added, or stored meanwhile. Raises OSError."""
        with self._lock:
            numbers, self._unsettled = self._unsettled, set()
        synced = False
        for number in sorted(numbers):
            with suppress(FileNotFoundError):  # it is stored
                durable.sync_file(self._document(number))
                synced = True
        if synced:
            durable.sync_directory(self.folder)

    def stored(self, waiting: Waiting) -> None:
        """Remove a batch: its manifest stands in the repository. Raises OSError."""
        with self._lock:
            self._waiting.pop(waiting.number, None)
            self._unsettled.discard(waiting.number)
        self._document(waiting.number).unlink(missing_ok=True)  # first: page sets alone are nobody's
        waiting.segment.unlink(missing_ok=True)
        if waiting.commits is not None:
            waiting.commits.unlink(missing_ok=True)

    def discard(self) -> int:
        """Put everything aside: it does not continue what is stored. Return how many batches that were. Raises OSError.

        It may hold what nobody else has: the commits between two restore points of which only the second was stored.
        """
        with self._lock:
            numbers = sorted(self._waiting)
            self._waiting.clear()
            self._unsettled.clear()
        self._put_aside(numbers)
        return len(numbers)

    def _read(self, number: int) -> Waiting:
        path = self._document(number)
        kept = decode_document("batch", path.read_bytes(), _Kept, str(path))
        segment, commits = self._paths(number)
        if kept.number != number:
            raise ValueError(f"it says that it is number {kept.number}")
        sizes = segment.stat().st_size + (commits.stat().st_size if kept.commits else 0)
        return Waiting(
            number=number, batch=kept.batch, segment=segment, commits=commits if kept.commits else None, bytes=sizes
        )

    def _paths(self, number: int) -> tuple[Path, Path]:
        return self.folder / f"{number:016}.segment", self.folder / f"{number:016}.commits"

    def _document(self, number: int) -> Path:
        return self.folder / f"{number:016}.json"
