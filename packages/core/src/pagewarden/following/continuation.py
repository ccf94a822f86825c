"""Whether the log beside a database goes on from a commit that is known, and what was committed since. In the reader.

A restore point says where the log was: salts, frame and running checksum. Each checksum is over all frames before it,
so frames that continue that one were written behind that commit, whatever became of those before it.

1. The frame at that place bears the salts and the checksum. Or it is damaged: then the one behind it continues the
   checksum, or the one before leads to it, with the page that is known to have stood there. Else other frames do.
2. SQLite's recovery takes the log up to the first bad frame, drops the rest, and writes what comes next over it. So
   where the chain breaks *before* that place, a commit may stand there that was made since, on what was left. None was
   if the chain holds no commit at all; if another restore point, at or behind its last commit, bears witness; or if the
   frame that breaks it proves to be the one that was written there, behind that very chain (`_genuine`).
   Where all of the log was in the database file, which was not written to since, the next generation of the log, from
   its beginning, holds what was committed behind the restore point (`known.frame` is 0 then). It is that one if its
   first salt counts on: each generation adds 1.
3. Frames behind that place are taken as far as they continue the checksum. Behind their end nothing may look like a
   commit that was lost: then what was committed last is not known.
4. Every page by which the database grew must be there (H21).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pagewarden.pages import WalPoint, WalScan, backend, lock_page
from pagewarden.sqlite.wal import (
    FRAME_HEADER_SIZE,
    WAL_HEADER_SIZE,
    frame_offset,
    wal_checksum,
    wal_checksum_before,
)

MOST_FRAMES = 1 << 20
"""Frames behind a restore point that are laid over it; a log of more proves nothing."""

_GENERATIONS = 1 << 20  # by which the first salt of a frame that was left over may be older
_SUCCESSORS = 16  # generations that may have followed without a frame: TRUNCATE begins one, each time
_M32 = (1 << 32) - 1

Checksum = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """Where the log was at a commit that is stored."""

    frame: int
    checksum: Checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What was committed behind a restore point."""

    pages: int  # size of the database, in pages, as it was committed last; 0 where nothing was committed
    numbers: array[int]  # pages that were written, ascending
    frames: array[int]  # the last frame of each
    sums: bytes  # its page sum: 8 bytes each, little-endian


class NotProved(Exception):
    """The log does not prove what was committed last; the message is the clause that says why."""


def continuation(
    wal: int,
    *,
    page_size: int,
    pages: int,
    salts: bytes,
    known: Witness,
    others: Sequence[Witness] = (),
    versions: Callable[[int], Iterable[bytes]],
    last_frame: int | None = None,
) -> Continuation:
    """Return what the log at the descriptor `wal` holds behind the commit of `known`.

    The database had `pages` pages of `page_size` bytes then. `others` are further commits of the generation `salts`;
    `versions` returns what a page is known to have held, at `known` and before. With `last_frame`, a commit that is
    known to be served now, what stands behind it does not count. Raises NotProved.
    """
    log = _Log(wal, page_size, pages, salts, known, others, versions)
    if known.frame:
        log.prove()
    else:
        salts, known = log.succeed()
    whole = log.whole if last_frame is None else min(last_frame, log.whole)
    if last_frame is not None and last_frame < known.frame:
        raise NotProved("the log is served up to a commit before the restore point")
    point = WalPoint(
        page_size=page_size, big_endian=log.big_endian, salts=salts, frame=known.frame, checksum=known.checksum
    )
    if whole - known.frame > MOST_FRAMES:
        raise NotProved(f"the log has more than {MOST_FRAMES} frames since")
    tail = backend().wal_take(wal, point, last_frame=whole)
    if last_frame is None:
        log.look_behind(known.frame + len(tail.numbers))
    elif len(tail.numbers) < whole - known.frame:
        raise NotProved("a frame that is served now does not continue the log")
    last = max((place for place, size in enumerate(tail.sizes, 1) if size), default=0)
    newest = {pgno: place for place, pgno in enumerate(tail.numbers[:last])}
    size = tail.sizes[last - 1] if last else pages
    numbers = array("I", sorted(pgno for pgno in newest if pgno <= size))
    lacking = size - pages - sum(pgno > pages for pgno in numbers) - (pages < lock_page(page_size) <= size)
    if lacking > 0:
        raise NotProved(f"the log lacks {lacking} of the pages by which the database grew")
    return Continuation(
        pages=size,
        numbers=numbers,
        frames=array("I", (known.frame + 1 + newest[pgno] for pgno in numbers)),
        sums=b"".join(tail.sums[8 * newest[pgno] : 8 * newest[pgno] + 8] for pgno in numbers),
    )


class _Log:
    """A log that is held against what is known of it."""

    def __init__(
        self,
        wal: int,
        page_size: int,
        pages: int,
        salts: bytes,
        known: Witness,
        others: Sequence[Witness],
        versions: Callable[[int], Iterable[bytes]],
    ) -> None:
        self._wal = wal
        self._page_size = page_size
        self._salts = salts
        self._known = known
        self._others = others
        self._versions = versions
        self._pages = pages
        size = os.fstat(wal).st_size
        self.whole = max(0, size - WAL_HEADER_SIZE) // (FRAME_HEADER_SIZE + page_size)  # frames
        self._scan: WalScan = backend().wal_scan(wal, page_size=0, most=0)
        self.big_endian = self._scan.big_endian_cksum

    def prove(self) -> None:
        """Do steps 1 and 2."""
        scan, known = self._scan, self._known
        if known.frame > self.whole:
            raise NotProved(f"the log ends before frame {known.frame}, where the restore point was")
        if not scan.page_size:
            self._without_header()
            return
        if scan.salts != self._salts:
            raise NotProved("the log began anew since")
        if scan.page_size != self._page_size:
            raise NotProved("the log has pages of another size")
        if not self._is_there():
            raise NotProved(f"frame {known.frame} of the log is not the one of the restore point")
        if scan.frames_valid < known.frame and not self._unbranched():
            raise NotProved(
                f"frame {scan.frames_valid + 1} of the log is damaged, and something may have been committed after that"
            )

    def succeed(self) -> tuple[bytes, Witness]:
        """Return the salts of a generation that followed the one of the restore point, and where it begins."""
        scan = self._scan
        if scan.page_size != self._page_size:
            raise NotProved("the header of the log is damaged")
        if not 0 < (_first(scan.salts) - _first(self._salts)) & _M32 <= _SUCCESSORS:
            raise NotProved("the log is not the one that followed")
        self._salts = scan.salts
        return scan.salts, Witness(frame=0, checksum=_stored(os.pread(self._wal, 8, 24).rjust(24, b"\0")))

    def look_behind(self, frame: int) -> None:
        """Raise NotProved where something behind `frame`, the last that continues, may have been a commit (step 3)."""
        ours = _first(self._salts)
        header = FRAME_HEADER_SIZE
        for number in range(frame + 1, self.whole + 1):
            data = os.pread(self._wal, header, frame_offset(number, self._page_size))
            # SQLite leaves frames without salts and checksum until it commits a transaction that wrote a page twice.
            bare = any(data[:4]) and not any(data[8:24])
            if bare or data[8:16] == self._salts:
                if any(data[4:8]):
                    raise NotProved(f"frame {number} of the log bears a commit, but does not continue the one before")
                continue
            # What is left of an earlier generation bears salts of its own, the first of which counts up.
            if not 0 < (ours - _first(data[8:])) & _M32 <= _GENERATIONS:
                raise NotProved(f"frame {number} of the log is damaged, and may have been a commit")

    def _without_header(self) -> None:
        """Do both steps for a log whose header is damaged, so that it does not say how checksums are made.

        SQLite takes none of its frames, and begins another generation with other salts. It is unbroken where every
        frame up to the restore point's continues the one before.
        """
        known, first = self._known, self._header(1)
        for big_endian in (False, True):
            self.big_endian = big_endian
            point = WalPoint(
                page_size=self._page_size,
                big_endian=big_endian,
                salts=self._salts,
                frame=1,
                checksum=_stored(first),
            )
            if first[8:16] != self._salts:
                break
            tail = backend().wal_take(self._wal, point, last_frame=known.frame)
            if (1 + len(tail.numbers), tail.checksum) == (known.frame, known.checksum):
                return
        raise NotProved("the header of the log is damaged, and its frames do not lead to the restore point")

    def _is_there(self) -> bool:
        """Whether the frame of the restore point stands where it was (step 1)."""
        known = self._known
        header = self._header(known.frame)
        if header[8:16] == self._salts and _stored(header) == known.checksum:
            return True
        if self._scan.frames_valid >= known.frame:  # what stands there was written behind what is before it
            return False
        if known.frame < self.whole and self._leads(known.frame + 1, known.checksum):
            return True
        before = self._checksum_before(known.frame)
        return before is not None and self._genuine(known.frame, before)

    def _unbranched(self) -> bool:
        """Whether nothing was committed on the chain that ends before the restore point's frame (step 2)."""
        scan = self._scan
        if not scan.last_commit:
            return True
        for witness in self._others:
            there = scan.last_commit <= witness.frame <= scan.frames_valid
            if there and _stored(self._header(witness.frame)) == witness.checksum:
                return True
        before = self._checksum_before(scan.frames_valid + 1)
        return before is not None and self._genuine(scan.frames_valid + 1, before)

    def _genuine(self, frame: int, before: Checksum) -> bool:
        """Whether a bad frame is the one that was written behind the running checksum `before`, with bytes damaged.

        Its page may be what is damaged: then one that is known to have stood there leads to its checksum. Or its first
        8 bytes, page number and commit mark: then those that would lead to it make sense. Or its checksum or salts:
        then what it holds leads to a checksum that the next frame continues, or that is the restore point's.
        """
        header, page = self._header(frame), self._page(frame)
        at_point = frame == self._known.frame
        stored = self._known.checksum if at_point else _stored(header)
        if self._makes_sense(page, before, stored):
            return True
        for content in (page, *self._versions(int.from_bytes(header[:4], "big"))):
            after = self._run(header[:8] + content, before)
            if after == stored or (not at_point and frame < self.whole and self._leads(frame + 1, after)):
                return True
        return False

    def _makes_sense(self, page: bytes, before: Checksum, after: Checksum) -> bool:
        """Whether the 8 bytes that lead from one checksum, with a page behind them, to another name a page."""
        first, second = wal_checksum_before(page, big_endian=self.big_endian, after=after)
        order: Literal["big", "little"] = "big" if self.big_endian else "little"
        words = (first - before[0] - before[1]) & _M32, (second - before[1] - first) & _M32
        number, size = (int.from_bytes(word.to_bytes(4, order), "big") for word in words)
        most = max(self._pages, self._scan.pages) + self.whole
        return 0 < number <= most and size <= most

    def _leads(self, frame: int, before: Checksum) -> bool:
        """Whether a frame continues a running checksum."""
        header = self._header(frame)
        return header[8:16] == self._salts and self._run(header[:8] + self._page(frame), before) == _stored(header)

    def _checksum_before(self, frame: int) -> Checksum | None:
        """Return the running checksum before a frame: as the frame before it has it, or the header."""
        if frame > 1:
            header = self._header(frame - 1)
            return _stored(header) if header[8:16] == self._salts else None
        if not self._scan.page_size:
            return None
        return _stored(os.pread(self._wal, 8, 24).rjust(24, b"\0"))

    def _run(self, data: bytes, before: Checksum) -> Checksum:
        return wal_checksum(data, big_endian=self.big_endian, before=before)

    def _header(self, frame: int) -> bytes:
        return os.pread(self._wal, FRAME_HEADER_SIZE, frame_offset(frame, self._page_size)).ljust(24, b"\0")

    def _page(self, frame: int) -> bytes:
        offset = frame_offset(frame, self._page_size) + FRAME_HEADER_SIZE
        return os.pread(self._wal, self._page_size, offset).ljust(self._page_size, b"\0")


def _first(salts: bytes) -> int:
    """Return the first of two salts."""
    return int.from_bytes(salts[:4], "big")


def _stored(header: bytes) -> Checksum:
    """Return the running checksum that a frame's header has."""
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
