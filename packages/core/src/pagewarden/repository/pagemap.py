"""Page maps: all page sums of a database at one position, kept locally so that a backup can tell what changed since.

A map is a cache. It is whole or it is not used: every byte is under a checksum, and its sums add up to the database sum
of the manifest that it claims, or it is made again of what the repository recorded. docs/formats/pagemap-1.md has the
bytes. Maps are written and read in the page reader, which has the sums.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from pagewarden import durable
from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import backend
from pagewarden.repository import blocks
from pagewarden.repository.mapfacts import MapFacts
from pagewarden.repository.pageset import PageSetFile
from pagewarden.repository.spools import Table

HEADER_SIZE = 72
"""Bytes before the first block of sums."""

_MAGIC = b"pagewmap"
_VERSION = 1
_HEADER = struct.Struct("<8sIIII16sQQ")
_CHECK = struct.Struct("<Q")


class MapUnusable(Exception):
    """Why a map cannot be used, one sentence; `damaged` where it is not merely missing or of another position."""

    def __init__(self, message: str, *, damaged: bool) -> None:
        super().__init__(message)
        self.damaged = damaged


class PageMap:
    """An open page map, proved to be whole and of the position that was asked for. A context manager."""

    def __init__(self, path: str | Path, facts: MapFacts) -> None:
        """Open the map at `path` and prove it. Raises MapUnusable."""
        self.facts = facts
        self._where = str(path)
        self._block: tuple[int, memoryview] = (-1, memoryview(b""))  # number and entries of the last one
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise MapUnusable(f"there is no page map {path}", damaged=False) from error
        except OSError as error:
            raise MapUnusable(f"the page map {path} cannot be opened: {error.strerror}", damaged=True) from error
        try:
            self._prove()
        except (RepositoryDamaged, OSError) as error:
            self.close()
            raise MapUnusable(f"the page map {path} cannot be used: {error}", damaged=True) from error
        except BaseException:
            self.close()
            raise

    @property
    def pages(self) -> int:
        """Size of the database, in pages."""
        return self.facts.pages

    def sums(self, first: int, count: int) -> bytes:
        """Return the sums of pages from `first` on, 8 bytes each: `count`, or fewer where the database ended before."""
        parts = []
        place, end = first - 1, min(first - 1 + count, self.facts.pages)
        while place < end:
            number, inside = divmod(place, blocks.BLOCK_ENTRIES)
            some = min(end - place, blocks.BLOCK_ENTRIES - inside)
            entries = self._entries(number)
            parts.append(entries[inside * blocks.SUMS_ENTRY : (inside + some) * blocks.SUMS_ENTRY])
            place += some
        return b"".join(parts)

    def close(self) -> None:
        """Close the file; safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _prove(self) -> None:
        size = os.fstat(self._fd).st_size
        head = os.pread(self._fd, HEADER_SIZE, 0)
        if len(head) < HEADER_SIZE or head[-8:] != _CHECK.pack(blocks.hash64(head[:-8])):
            raise RepositoryDamaged("its header does not match its checksum")
        # A header that proves itself was written so: of another version or position, the map is none of ours.
        if head[:-16] != _begin(self.facts):
            raise MapUnusable(f"the page map {self._where} is of another position", damaged=False)
        if size != HEADER_SIZE + blocks.blocks_size(self.facts.pages, blocks.SUMS_ENTRY):
            raise RepositoryDamaged(f"it has {size} bytes")
        checks, database_sum = bytearray(), 0
        for number in range(-(-self.facts.pages // blocks.BLOCK_ENTRIES)):
            entries, check = self._read(number)
            checks += check
            database_sum ^= backend().fold(entries)
        if head[-16:-8] != _CHECK.pack(blocks.hash64(checks)) or database_sum != self.facts.database_sum:
            raise RepositoryDamaged("its sums are not those of its header")

    def _entries(self, number: int) -> memoryview:
        if self._block[0] != number:
            self._block = (number, self._read(number)[0])
        return self._block[1]

    def _read(self, number: int) -> tuple[memoryview, bytes]:
        offset, length = blocks.block_place(number, self.facts.pages, blocks.SUMS_ENTRY)
        data = os.pread(self._fd, length, HEADER_SIZE + offset)
        if len(data) != length:
            raise RepositoryDamaged("it was cut off")
        return blocks.decode_block(blocks.SUMS_TAG, number, data, self._where)


def write_map(path: Path, facts: MapFacts, sums: Callable[[int, int], bytes]) -> None:
    """Write a map to the new file `path`, its contents durable; nothing is left there if that fails.

    `sums(first, count)` returns page sums, which must add up to `facts.database_sum`: else ValueError. Raises OSError.
    """
    descriptor = durable.create(path)
    try:
        try:
            offset, checks, database_sum = HEADER_SIZE, bytearray(), 0
            for number, place in enumerate(range(0, facts.pages, blocks.BLOCK_ENTRIES)):
                entries = sums(place + 1, min(blocks.BLOCK_ENTRIES, facts.pages - place))
                database_sum ^= backend().fold(entries)
                block = blocks.encode_block(blocks.SUMS_TAG, number, entries, blocks.SUMS_ENTRY)
                durable.write_at(descriptor, block, offset)
                offset += len(block)
                checks += block[-8:]
            if database_sum != facts.database_sum:
                raise ValueError(f"sums that add up to {database_sum:016x}, not {facts.database_sum:016x}")
            head = _begin(facts) + _CHECK.pack(blocks.hash64(checks))
            durable.write_at(descriptor, head + _CHECK.pack(blocks.hash64(head)), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def build_map(path: Path, facts: MapFacts, page_sets: Iterable[PageSetFile], base: PageMap | None = None) -> None:
    """Write a map to the new file `path`, from what page sets record; see `write_map`.

    `page_sets` are those of a chain, from the lowest up: a snapshot first, or those that continue `base`. Raises
    RepositoryDamaged where they do not make what `facts` says, and OSError.
    """
    with closing(Table(path.parent, blocks.SUMS_ENTRY, sparse=True)) as table:
        if base is not None:
            for first in range(1, base.pages + 1, blocks.BLOCK_ENTRIES):
                table.put(first - 1, base.sums(first, blocks.BLOCK_ENTRIES))
        newest = path
        for page_set in page_sets:
            newest = page_set.path
            _lay_over(table, page_set)
        table.cut(facts.pages)
        try:
            write_map(path, facts, lambda first, count: table.get(first - 1, count))
        except ValueError as error:
            raise RepositoryDamaged(f"{newest} and what it continues record {error}") from error


def _lay_over(table: Table, page_set: PageSetFile) -> None:
    """Put the sums that a page set records at the places of their pages."""
    for place in range(0, page_set.info.held, blocks.BLOCK_ENTRIES):
        count = min(blocks.BLOCK_ENTRIES, page_set.info.held - place)
        runs = ((first - 1, some) for first, some in page_set.runs(place, count))
        table.put_runs(runs, page_set.entry_sums(place, count))


def _begin(facts: MapFacts) -> bytes:
    """Return the header up to its two checksums."""
    return _HEADER.pack(
        _MAGIC,
        _VERSION,
        facts.page_size,
        facts.pages,
        0,
        bytes.fromhex(facts.timeline),
        facts.txid,
        facts.database_sum,
    )
