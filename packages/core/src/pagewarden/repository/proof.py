"""Proving many page sets of one database, each read once. Runs in the page reader, because stored files may be hostile.

1. Files are opened, which proves their structure, and read side by side in threads: their SHA-256 and, where that is
   asked for, every page against its recorded sum.
2. In chain order the recorded sums then go through a running map, 8 bytes for each page of the database: a snapshot
   begins it, a segment changes it. After each the sums in the map must make the database sum that is recorded. So the
   database sum of every restore point is proved, and no object is read twice.
3. A page set of commits is proved at the position that it starts from: the map goes from commit to commit, each of
   which must make its database sum, and back again. So whatever is wrong with it, the chain goes on.
4. What is wrong with one file ends nothing but the map: the files after it are proved by themselves. Nor does a file
   for which there is no memory; and none is asked for because of a size that a file says and does not hold.
"""

from __future__ import annotations

import hashlib
import os
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import xor

from pagewarden.errors import PagewardenError, RepositoryDamaged
from pagewarden.pages import Behind, Stretch, spread_in
from pagewarden.pages.behind import read_from_disk
from pagewarden.repository.commits import CommitsFile
from pagewarden.repository.format import PageSetInfo, grown
from pagewarden.repository.pageset import PageSetFile

_AT_ONCE = 1 << 16  # entries that go through the map at once
_AHEAD = 1 << 20  # bytes at either end of a file that are read ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One page set that is to be proved."""

    path: str
    chained: bool  # whether it goes through the map: a snapshot begins it, a segment continues it
    read: bool = True  # whether its bytes are read; else its structure alone is proved, to have its recorded sums
    data: bool = False  # whether its pages are decoded
    commits: bool = False  # whether it is one of commits: the map stays where it is, and every commit in it is proved


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """What became of one page set."""

    info: PageSetInfo | None  # None where it is not whole, or cannot be read
    summed: bool = False  # whether the database sum was proved
    error: PagewardenError | None = None


class SumsMap:
    """All page sums of a database, as page sets bring it from one position to the next."""

    def __init__(self) -> None:
        self._sums = array("Q")  # of pages 1, 2, …; 0 for the page of the lock bytes
        self._page_size = 0
        self.database_sum: int | None = None  # None before a snapshot began it, and since something went wrong

    def take(self, file: PageSetFile) -> None:
        """Bring the map to the position of `file`. Raises RepositoryDamaged, and is of no position then."""
        before, self.database_sum = self.database_sum, None
        if file.is_segment:
            database_sum = self._change(file, before)
        else:
            self._page_size, database_sum = file.page_size, self._begin(file)
        if database_sum != file.info.database_sum:
            raise RepositoryDamaged(
                f"the page sums of {file.path} and of what it continues make the database sum {database_sum:016x}, "
                f"not {file.info.database_sum:016x}"
            )
        self.database_sum = database_sum

    def forget(self) -> None:
        """Give the memory back; the map is of no position then."""
        self._sums, self.database_sum = array("Q"), None

    def prove(self, file: CommitsFile) -> None:
        """Prove the database sums of all commits of `file`, which starts from where the map is, and stays.

        Raises RepositoryDamaged at the first that is another.
        """
        database_sum, size, undo = self.database_sum, len(self._sums), _Undo()
        if database_sum is None or database_sum != file.info.database_sum_from or file.page_size != self._page_size:
            raise RepositoryDamaged(f"{file.path} does not continue what was proved before it")
        try:
            place = 0
            for commit in file.commits:
                database_sum = self._go(file, place, commit.entries, commit.pages, database_sum, undo)
                if database_sum != commit.database_sum:
                    raise RepositoryDamaged(
                        f"the page sums of commit {commit.txid} in {file.path} make the database sum "
                        f"{database_sum:016x}, not {commit.database_sum:016x}"
                    )
                place += commit.entries
        finally:
            self._resize(size)
            undo.restore(self._sums)

    def _begin(self, file: PageSetFile) -> int:
        self._sums = array("Q")
        for place in range(0, file.info.held, _AT_ONCE):
            self._sums.extend(_sums(file, place, min(_AT_ONCE, file.info.held - place)))
        return reduce(xor, self._sums, 0)

    def _change(self, file: PageSetFile, before: int | None) -> int:
        if before is None or before != file.info.database_sum_from or file.page_size != self._page_size:
            raise RepositoryDamaged(f"{file.path} does not continue what was proved before it")
        return self._go(file, 0, file.info.held, file.pages, before)

    def _go(
        self, file: PageSetFile, first: int, entries: int, new: int, database_sum: int, undo: _Undo | None = None
    ) -> int:
        """Bring the map to a database of `new` pages by entries of `file`; return its database sum."""
        old = len(self._sums)
        if entries < grown(self._page_size, old, new):
            raise RepositoryDamaged(f"{file.path} lacks pages by which the database grew")
        if new < old:  # H21
            database_sum = reduce(xor, self._sums[new:], database_sum)
            if undo is not None:
                undo.keep(range(new + 1, old + 1), self._sums[new:])
        self._resize(new)
        came = 0
        for place in range(first, first + entries, _AT_ONCE):
            count = min(_AT_ONCE, first + entries - place)
            numbers, sums = file.numbers(place, count), _sums(file, place, count)
            if undo is not None:
                undo.keep(numbers, [self._sums[pgno - 1] for pgno in numbers])
            for pgno, after in zip(numbers, sums, strict=True):
                database_sum ^= self._sums[pgno - 1] ^ after
                self._sums[pgno - 1] = after
                came += pgno > old
        if came < grown(self._page_size, old, new):
            raise RepositoryDamaged(f"{file.path} lacks pages by which the database grew")
        return database_sum

    def _resize(self, pages: int) -> None:
        del self._sums[pages:]
        self._sums.frombytes(bytes(8 * (pages - len(self._sums))))


class _Undo:
    """What was in a map before it changed: as large as the records of the pages that changed."""

    def __init__(self) -> None:
        self._numbers, self._sums = array("I"), array("Q")

    def keep(self, numbers: Sequence[int], sums: Sequence[int]) -> None:
        """Keep the sums of pages that are about to change."""
        self._numbers.extend(numbers)
        self._sums.extend(sums)

    def restore(self, to: array[int]) -> None:
        """Put everything back, the last change first."""
        size = len(to)
        for pgno, old in zip(reversed(self._numbers), reversed(self._sums), strict=True):
            if pgno <= size:
                to[pgno - 1] = old


def prove_links(
    links: Sequence[Link],
    chain: SumsMap,
    *,
    threads: int,
    drop_cache: bool,
    progress: Callable[[int], None],
) -> list[Proved]:
    """Prove page sets, the chained ones in the order of their chain; `progress` is told each number of bytes read.

    Of a chained one that cannot be proved, the next ones find the map broken, and are proved by themselves. With
    `drop_cache` it is the disk that is read, where the system allows.
    """
    found: list[Proved | None] = [None] * len(links)
    with ExitStack() as stack:
        files: dict[int, PageSetFile] = {}
        if drop_cache:
            for link in links:
                if link.read:
                    _fetch_anew(link.path)
        for number, link in enumerate(links):
            try:
                files[number] = stack.enter_context(CommitsFile(link.path) if link.commits else PageSetFile(link.path))
            except PagewardenError as error:
                found[number] = Proved(info=None, error=error)
            except MemoryError as error:
                found[number] = Proved(info=None, error=_no_memory(link.path, error))
        waiting = [number for number, link in enumerate(links) if link.read and found[number] is None]
        while waiting:
            try:
                _read(waiting, files, links, threads, drop_cache=drop_cache, progress=progress)
                waiting = []
            except _Failed as failed:
                found[failed.number] = Proved(info=None, error=failed.error)
                waiting = [number for number in failed.left if number != failed.number]
        return [
            _chain(files[number], link, chain) if proved is None else _broken(link, chain, proved)
            for number, (link, proved) in enumerate(zip(links, found, strict=True))
        ]


def _fetch_anew(path: str) -> None:
    """Drop what is cached of a file, and let the system begin to read its ends, with which its proof begins.

    So the disk is at many small files at once. What cannot be opened is told of by whoever opens it in earnest.
    """
    with suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            read_from_disk(file)
            if hasattr(os, "posix_fadvise"):
                size = os.fstat(file).st_size
                os.posix_fadvise(file, 0, min(size, _AHEAD), os.POSIX_FADV_WILLNEED)
                os.posix_fadvise(file, max(0, size - _AHEAD), _AHEAD, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)


def _broken(link: Link, chain: SumsMap, proved: Proved) -> Proved:
    """Return what became of a page set that is not whole; nothing continues what it was to bring the map to."""
    if link.chained and not link.commits:
        chain.database_sum = None
    return proved


def _chain(file: PageSetFile, link: Link, chain: SumsMap) -> Proved:
    """Take a page set that is whole through the map, if it is to go there and the map goes so far."""
    if not link.chained or (not file.is_snapshot and chain.database_sum is None):
        return Proved(info=file.info)
    try:
        if isinstance(file, CommitsFile):
            chain.prove(file)
        else:
            chain.take(file)
    except PagewardenError as error:
        return Proved(info=file.info, error=error)
    except MemoryError as error:
        chain.forget()
        return Proved(info=file.info, error=_no_memory(link.path, error))
    return Proved(info=file.info, summed=True)


class _Failed(Exception):
    """One file that is not whole, and those whose reading has to be done (again)."""

    def __init__(self, number: int, error: PagewardenError) -> None:
        super().__init__(number)
        self.number = number
        self.error = error
        self.left: list[int] = []


@contextmanager
def _of(number: int, file: PageSetFile) -> Iterator[None]:
    """Say of which file an error is."""
    try:
        with file.errors():
            yield
    except PagewardenError as error:
        raise _Failed(number, error) from error
    except MemoryError as error:
        raise _Failed(number, _no_memory(str(file.path), error)) from error


def _no_memory(path: str, error: MemoryError) -> PagewardenError:
    """Return what becomes of a file that there is no memory to prove: nothing is known of it."""
    return PagewardenError(f"there is not enough memory to prove {path}{f': {error}' if str(error) else ''}")


def _read(
    numbers: Sequence[int],
    files: dict[int, PageSetFile],
    links: Sequence[Link],
    threads: int,
    *,
    drop_cache: bool,
    progress: Callable[[int], None],
) -> None:
    """Read files whole. Raises _Failed at the first that is not; those before it are done then."""
    done = 0
    try:
        # Of one page size at a time, which those of one database mostly have.
        while done < len(numbers):
            size = files[numbers[done]].page_size
            some = [number for number in numbers[done:] if files[number].page_size == size]
            some = some[: next((at for at, one in enumerate(some) if one != numbers[done + at]), len(some))]
            for number in _read_some(some, files, links, size, threads, drop_cache=drop_cache, progress=progress):
                assert number == numbers[done]
                done += 1
    except _Failed as failed:
        failed.left = list(numbers[done:])
        raise


def _read_some(
    numbers: Sequence[int],
    files: dict[int, PageSetFile],
    links: Sequence[Link],
    page_size: int,
    threads: int,
    *,
    drop_cache: bool,
    progress: Callable[[int], None],
) -> Iterator[int]:
    """Read files of one page size, and yield each that is proved."""
    owners = {files[number].fileno(): number for number in numbers}

    def stretches() -> Iterator[Stretch]:
        for number in numbers:
            file = files[number]
            with _of(number, file):
                for stretch in file.stretches(None if links[number].data else _nothing):
                    yield replace(stretch, errors=partial(_of, number, file))

    left = list(numbers)
    digest = hashlib.sha256()
    behind: Behind | None = None

    def finish() -> int:
        nonlocal digest
        number = left.pop(0)
        with _of(number, files[number]):
            files[number].prove_digest(digest, files[number].info.numbers_offset)
        digest = hashlib.sha256()
        return number

    for stretch, data in spread_in(stretches(), fd_out=-1, page_size=page_size, threads=threads):
        while owners[stretch.file] != left[0]:
            yield finish()
            behind = None
        digest.update(data)
        progress(len(data))
        if drop_cache:
            behind = behind or Behind(stretch.file)
            behind.advance(stretch.offset + stretch.size)
    while left:
        yield finish()


def _nothing(_runs: object, _sums: object) -> tuple[()]:
    """Want no page of a frame."""
    return ()


def _sums(file: PageSetFile, place: int, count: int) -> array[int]:
    """Return recorded sums as numbers."""
    sums = array("Q")
    sums.frombytes(file.entry_sums(place, count))
    if sys.byteorder == "big":
        sums.byteswap()
    return sums
