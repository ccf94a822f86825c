"""What of a write-ahead log is proven behind the end of its chain: the commits that SQLite's recovery drops (H14).

A frame's checksum goes on from that of the frame before it, so each frame is judged between two checksums.

1. It is intact where it leads from the checksum before it to its own; where its own is damaged, to the one from which
   the next frame goes on. Salts are under no checksum: damaged ones are put right.
2. Where the next frame goes on from its stored checksum, that one is intact, and the frame's content is not. If a
   single word of four bytes is damaged, or its page number and commit mark, both checksums leave one way to put it
   right. The sum is linear: an error in a word reaches the end by a known way, and is followed back. But it repeats
   itself soon in its high bits: errors that leave the low byte of every word alone are never put right.
3. Otherwise its content is lost. Which page it held is known where its salts stand and the frame before it is intact:
   what lies between its page number and its content is whole, so the damage is not in both; and it is not in the page
   number where no number that a database can have would explain the checksums.
4. Nothing is known of any other frame.

Everything up to a commit can be replayed if each page whose content is lost is overwritten until then, or cut off; and
after a frame of which nothing is known, every page of the database.

What was written over a tail that an earlier recovery dropped looks like 3: only 1 and 2 exclude it. Therefore whoever
replays leaves it to the owner, and looks at the structure of the result.

Hostile input: memory grows with the file by 8 bytes a frame, and at most MOST_BAD frames are judged one by one.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from pagewarden.pages.backend import backend
from pagewarden.pages.source import (
    MAX_PAGES,
    WAL_FRAME_HEADER,
    WAL_HEADER,
    WalEnd,
    WalPoint,
    WalScan,
    is_page_size,
    lock_page,
)
from pagewarden.sqlite.wal import FORMAT, frame_offset, wal_checksum, wal_checksum_before

MOST_FRAMES = 1 << 22
"""Frames that are looked at: 16 GiB in pages of 4 KiB."""

MOST_BAD = 64
"""Frames out of the chain after which nobody looks further."""

_AT_ONCE = 1 << 16  # frames that the backend follows in one call
_TRIES = 256  # commits for which it is tried whether everything up to them can be replayed
_COVERED = 1 << 20  # pages of a database that may have been written anew behind a frame of which nothing is known
_MAGIC = 0x377F0682
_M32 = (1 << 32) - 1
_LOW_BITS = 0xFF  # of a word: an error in them leaves one place by chance once in 32,000 times at the most

Checksum = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHead:
    """What the header of a log says, or must have said."""

    page_size: int  # bytes
    sequence: int
    salts: bytes  # 8 bytes
    big_endian: bool
    checksum: Checksum  # from which the first frame goes on
    rebuilt: bool = False  # whether the header itself is damaged

    def encode(self) -> bytes:
        """Return the 32 bytes of a whole header."""
        begin = struct.pack(">4I", _MAGIC | self.big_endian, FORMAT, self.page_size, self.sequence) + self.salts
        return begin + struct.pack(">2I", *wal_checksum(begin, big_endian=self.big_endian))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProof:
    """What is proven of a log. Frames are counted from 1."""

    head: LogHead
    committed: int  # the last commit that SQLite serves, 0 for none
    numbers: array[int]  # page number of each frame that was looked at; 0 where it is not known
    sizes: array[int]  # its commit field
    lost: Mapping[int, int]  # frames whose content is lost, with the page that they held; 0 where that is not known
    restored: Mapping[int, bytes]  # frames that were put right: page number, commit field and page
    worn: frozenset[int]  # frames whose salts or checksum are damaged, and nothing else
    target: int  # the last commit to which everything can be replayed; `committed` where SQLite serves all of it
    commits: int  # those behind `committed` up to `target`

    def overwritten(self, frame: int) -> int:
        """Return the frame that writes the page of the lost `frame` next, and is not lost; 0 for none."""
        pgno, place = self.lost[frame], frame
        while pgno:
            try:
                place = self.numbers.index(pgno, place) + 1
            except ValueError:
                return 0
            if place not in self.lost:
                return place
        return 0


def prove_log(wal_fd: int, scan: WalScan, *, page_size: int, pages: int) -> LogProof | None:
    """Return what is proven of the log at `wal_fd`; None where not even its generation is.

    `scan` is one of the same log. `page_size` and `pages` are the database file's, 0 where they are not known.
    """
    head = _stated_head(wal_fd, scan) if scan.page_size else find_head(wal_fd, page_size)
    return None if head is None else _Judge(wal_fd, head, scan.last_commit, pages).judge()


def find_head(wal_fd: int, page_size: int) -> LogHead | None:
    """Return the header that a log whose header is damaged must have had; None where its first frame proves none.

    The first frame says from which checksum it goes on. That must be the one that stands in the header, or that of
    what stands in the header, or that of a header with this frame's salts: then it gives the missing sequence number.
    """
    header = os.pread(wal_fd, WAL_HEADER, 0)
    if len(header) < WAL_HEADER:
        return None
    stated = int.from_bytes(header[8:12], "big")
    for size in dict.fromkeys((page_size, stated)):
        frame = os.pread(wal_fd, WAL_FRAME_HEADER + size, WAL_HEADER) if is_page_size(size) else b""
        if len(frame) < WAL_FRAME_HEADER + size or not is_page_size(size):
            continue
        salts = frame[8:16]
        stored = struct.unpack_from(">2I", frame, 16)
        for big_endian in (False, True):
            before = wal_checksum_before(frame[:8] + frame[24:], big_endian=big_endian, after=stored)
            sequence = _sequence(before, size, salts, big_endian=big_endian)
            known = (struct.unpack_from(">2I", header, 24), wal_checksum(header[:24], big_endian=big_endian))
            if sequence is not None or before in known:
                return LogHead(
                    page_size=size,
                    sequence=int.from_bytes(header[12:16], "big") if sequence is None else sequence,
                    salts=salts,
                    big_endian=big_endian,
                    checksum=before,
                    rebuilt=True,
                )
    return None


def _sequence(checksum: Checksum, page_size: int, salts: bytes, *, big_endian: bool) -> int | None:
    """Return the sequence number of the header with these salts and this checksum; None where there is no such."""
    order = _order(big_endian)
    first, second = wal_checksum(struct.pack(">2I", _MAGIC | big_endian, FORMAT), big_endian=big_endian)
    after_first, after_second = wal_checksum_before(salts, big_endian=big_endian, after=checksum)
    size = int.from_bytes(page_size.to_bytes(4, "big"), order)
    if (first + size + second) & _M32 != after_first:
        return None
    word = (after_second - second - after_first) & _M32
    return int.from_bytes(word.to_bytes(4, order), "big")


def _stated_head(wal_fd: int, scan: WalScan) -> LogHead:
    stored = struct.unpack(">2I", os.pread(wal_fd, 8, WAL_HEADER - 8))
    return LogHead(
        page_size=scan.page_size,
        sequence=scan.sequence,
        salts=scan.salts,
        big_endian=scan.big_endian_cksum,
        checksum=stored,
    )


class _Judge:
    """Goes through a log, frame by frame where the chain is broken."""

    def __init__(self, wal_fd: int, head: LogHead, committed: int, pages: int) -> None:
        self._wal = wal_fd
        self._head = head
        self._committed = committed
        self._pages = pages
        size = os.fstat(wal_fd).st_size - WAL_HEADER
        self._frames = min(size // (WAL_FRAME_HEADER + head.page_size), MOST_FRAMES)
        self._numbers = array("I")
        self._sizes = array("I")
        self._lost: dict[int, int] = {}
        self._restored: dict[int, bytes] = {}
        self._worn: set[int] = set()

    def judge(self) -> LogProof:
        head = self._head
        running: Checksum | None = head.checksum
        bad = 0
        while (at := len(self._numbers)) < self._frames:
            if running is not None:
                point = WalPoint(
                    page_size=head.page_size,
                    big_endian=head.big_endian,
                    salts=head.salts,
                    frame=at,
                    checksum=running,
                )
                tail = backend().wal_take(self._wal, point, last_frame=min(at + _AT_ONCE, self._frames))
                self._numbers.extend(tail.numbers)
                self._sizes.extend(tail.sizes)
                running = tail.checksum
                if tail.end is WalEnd.LIMIT:
                    continue
            bad += 1
            if bad > MOST_BAD:
                break
            running = self._look(len(self._numbers) + 1, running)
        return self._proof()

    def _look(self, number: int, running: Checksum | None) -> Checksum | None:
        """Judge a frame out of the chain; return the checksum from which the next frame goes on, if it is known."""
        frame, following = self._read(number), self._read(number + 1)
        stored = struct.unpack_from(">2I", frame, 16)
        if running is not None and any(frame[:4]):
            computed = self._checksum(frame, running)
            if computed == stored or self._goes_on(following, computed):
                self._worn.add(number)
                self._take(frame[:8])
                return computed
        if not self._goes_on(following, stored):
            self._lose(number, 0, 0)
            return None
        if running is None:
            self._lose(number, 0, 0)
            return stored
        right, doubtful = self._put_right(frame, running, stored)
        if right is not None:
            self._restored[number] = right
            self._take(right)
        else:
            pgno, size = struct.unpack_from(">2I", frame)
            known = frame[8:16] == self._head.salts and 1 <= pgno <= MAX_PAGES and not doubtful
            self._lose(number, pgno if known else 0, size if known else 0)
        return stored

    def _put_right(self, frame: bytes, running: Checksum, stored: Checksum) -> tuple[bytes | None, bool]:
        """Return what a frame held, if one way alone leads from one checksum to the other; else None.

        And whether its page number can be what is damaged.
        """
        order = _order(self._head.big_endian)
        content = frame[:8] + frame[24:]
        difference = tuple(
            (there - here) & _M32 for here, there in zip(self._checksum(frame, running), stored, strict=True)
        )
        first, second = wal_checksum_before(content[8:], big_endian=self._head.big_endian, after=stored)
        words = (first - running[0] - running[1]) & _M32, (second - running[1] - first) & _M32
        start = b"".join(word.to_bytes(4, order) for word in words)
        plausible = self._plausible(start)
        if not (difference[0] | difference[1]) & _LOW_BITS:
            return None, plausible
        found = []
        for place, error in _single_words(difference[0], difference[1], len(content)):
            word = int.from_bytes(content[place : place + 4], order)
            found.append(content[:place] + ((word + error) & _M32).to_bytes(4, order) + content[place + 4 :])
        if not found and plausible:
            found.append(start + content[8:])
        if len(found) == 1 and any(found[0][:4]):
            return found[0], False
        return None, plausible or bool(found)

    def _plausible(self, start: bytes) -> bool:
        """Whether these can be a page number and a commit mark: two words by chance hardly are."""
        pgno, size = struct.unpack(">2I", start)
        limit = 2 * max(max(self._sizes, default=0), self._pages) + 1024
        return bool(1 <= pgno <= limit and size <= limit)

    def _checksum(self, frame: bytes, running: Checksum) -> Checksum:
        return wal_checksum(frame[:8] + frame[24:], big_endian=self._head.big_endian, before=running)

    def _goes_on(self, frame: bytes, running: Checksum) -> bool:
        """Whether a frame is whole, of this generation, and goes on from a checksum."""
        if not frame or frame[8:16] != self._head.salts or not any(frame[:4]):
            return False
        stored: tuple[int, ...] = struct.unpack_from(">2I", frame, 16)
        return self._checksum(frame, running) == stored

    def _read(self, number: int) -> bytes:
        """Return a frame; none behind the last one."""
        if number > self._frames:
            return b""
        size = WAL_FRAME_HEADER + self._head.page_size
        frame = os.pread(self._wal, size, frame_offset(number, self._head.page_size))
        return frame if len(frame) == size else b""

    def _take(self, start: bytes) -> None:
        pgno, size = struct.unpack_from(">2I", start)
        self._numbers.append(pgno)
        self._sizes.append(size)

    def _lose(self, number: int, pgno: int, size: int) -> None:
        self._lost[number] = pgno
        self._numbers.append(pgno)
        self._sizes.append(size)

    def _proof(self, target: int | None = None) -> LogProof:
        committed = self._committed
        proof = LogProof(
            head=self._head,
            committed=committed,
            numbers=self._numbers,
            sizes=self._sizes,
            lost=self._lost,
            restored=self._restored,
            worn=frozenset(self._worn),
            target=committed if target is None else target,
            commits=0 if target is None else sum(map(bool, islice(self._sizes, committed, target))),
        )
        return self._proof(_target(proof)) if target is None else proof


def _order(big_endian: bool) -> Literal["big", "little"]:
    return "big" if big_endian else "little"


def _single_words(first: int, second: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where one wrong word of `size` bytes would explain a difference of the sums, and what to add to it.

    An error e in the first word of a pair adds (e, e) to the sum after that pair, one in the second (0, e); each pair
    behind it turns (a, b) into (a + b, a + 2 b).
    """
    for place in range(size - 8, -8, -8):
        if first == second:
            yield place, first
        elif not first:
            yield place + 4, second
        second = (second - first) & _M32
        first = (first - second) & _M32


def _target(proof: LogProof) -> int:
    """Return the last commit up to which everything can be replayed."""
    unknown = [frame for frame, pgno in proof.lost.items() if not pgno]
    known = {frame: proof.overwritten(frame) for frame, pgno in proof.lost.items() if pgno}
    ends = [0, *unknown, len(proof.numbers) + 1]
    for after, end in zip(ends[-2::-1], ends[:0:-1], strict=True):
        commits = (
            frame
            for frame in range(end - 1, max(after, proof.committed), -1)
            if proof.sizes[frame - 1] and frame not in proof.lost
        )
        # Behind a frame of which nothing is known every page counts, which is a rare case: one try is enough.
        for commit in islice(commits, 1 if after else _TRIES):
            if all(
                frame > commit or frame < next_one <= commit or _cut_off(proof, frame, commit)
                for frame, next_one in known.items()
            ) and (not after or _writes_all(proof, after, commit)):
                return commit
    return proof.committed


def _cut_off(proof: LogProof, frame: int, commit: int) -> bool:
    """Whether the page of a lost frame is no part of the database any more at a commit."""
    return proof.lost[frame] > proof.sizes[commit - 1]


def _writes_all(proof: LogProof, after: int, commit: int) -> bool:
    """Whether the frames behind `after` up to a commit write every page of the database."""
    size, lock = proof.sizes[commit - 1], lock_page(proof.head.page_size)
    if size > _COVERED:
        return False
    written = {proof.numbers[frame - 1] for frame in range(after + 1, commit + 1) if frame not in proof.lost}
    return all(pgno in written for pgno in range(1, size + 1) if pgno != lock)
