"""Databases that SQLite's cksumvfs extension writes: each page keeps a checksum of itself in 8 reserved bytes (H10).

The checksum goes stale when a plain SQLite writes the page, so one that does not hold means rot or a foreign writer.
What tells them apart:

1. The sums are linear, so one flipped bit can be solved for. A plain SQLite that changes a page changes more of it than
   one bit, but for a value that differs in one (0 and 1 do). So one bit is rot where no value stands, on page 1, whose
   counters change with it, and with a rollback journal while the checksum of page 1 holds: every writer renews page 1.
2. A page of a b-tree that is none any more is damage.
3. Anything else is one or the other: a notice, and `unknown`.

Leaves of the freelist hold nothing, and a page of zeros has the checksum 0, which holds: neither is judged here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

from pagewarden.contracts import LiveImage
from pagewarden.sqlite.btree import parse_page
from pagewarden.sqlite.freelist import walk_freelist
from pagewarden.sqlite.place import Place, find_place
from pagewarden.sqlite.record import Malformed
from pagewarden.sqlite.schema import Layout
from pagewarden.values import Finding, Severity
from pagewarden_check_pages.atlas import Atlas, Told, say_place

RESERVED = 8
"""Reserved bytes of each page in a database of cksumvfs's."""

_SAMPLE = 16384  # pages that show whether it is one
_SHOWN = 20  # stale pages that are named
_M32 = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bit:
    """One bit that, if it was the other way, would make a page's checksum hold."""

    offset: int  # byte of the page
    bit: int


def checksum(page: bytes) -> tuple[int, int]:
    """Return the two words that belong at the end of a page. https://sqlite.org/cksumvfs.html"""
    words = iter(struct.unpack(f"<{len(page) // 4 - 2}I", page[:-RESERVED]))
    s1 = s2 = 0
    for word in words:
        s1 = (s1 + word + s2) & _M32
        s2 = (s2 + next(words) + s1) & _M32
    return s1, s2


def holds(page: bytes) -> bool:
    """Return whether the checksum of a page holds."""
    return checksum(page) == struct.unpack("<2I", page[-RESERVED:])


def flipped(page: bytes) -> tuple[Bit, ...]:
    """Return each single bit whose flipping explains why the checksum of `page` does not hold.

    A change of word n from the end (from 0) by d changes the sums by d times the Fibonacci numbers n and n + 1, so that
    going back through them turns the difference of the sums into (0, d) where the word was changed. High bits lose what
    tells their words apart, and give several answers.
    """
    words = struct.unpack(f"<{len(page) // 4}I", page)
    computed, stored = checksum(page), words[-2:]
    found = []
    one, two = ((computed[i] - stored[i]) & _M32 for i in (0, 1))
    for place, (first, second) in enumerate(zip(computed, stored, strict=True)):
        difference = first ^ second
        other = 1 - place
        if difference.bit_count() == 1 and computed[other] == stored[other]:
            found.append(_bit(len(words) - 2 + place, difference))
    for number in range(len(words) - 3, -1, -1):
        if not one and (bit := _single(words[number], two)):
            found.append(_bit(number, bit))
        one, two = (two - one) & _M32, one
    return tuple(found)


def _single(word: int, change: int) -> int:
    """Return the bit of `word` that `change` is the flipping of, 0 if it is none."""
    for bit, is_set in ((change, True), (-change & _M32, False)):
        if bit.bit_count() == 1 and bool(word & bit) is is_set:
            return bit
    return 0


def _bit(word: int, mask: int) -> Bit:
    number = mask.bit_length() - 1
    return Bit(offset=4 * word + number // 8, bit=number % 8)


class ReservedSums:
    """The judgement of pages by their own checksums."""

    def __init__(self, image: LiveImage, *, rollback: bool, told: Told) -> None:
        """`told` is called for every page that is read."""
        self.stale = 0  # pages of which it cannot be said what they are
        self.why = ""  # why nothing is judged
        self._image = image
        self._rollback = rollback
        self._told = told
        self._atlas = Atlas()
        self._named: list[int] = []
        self._first_holds = False
        self.used = self._look()

    def _look(self) -> bool:
        """Whether these are checksums: most of the pages that hold something have one."""
        image, count = self._image, min(self._image.pages, _SAMPLE)
        seen = image.reserved_sums(1, count)
        self._first_holds = bool(seen[0])
        self._layout = Layout.of(image.page(1), page_size=image.page_size, pages=image.pages)
        self.free: Collection[int] = frozenset()
        if seen.count(0):
            layout = self._layout
            freelist = walk_freelist(image.page, first=layout.freelist, pages=layout.pages, usable=layout.usable)
            self.free = freelist.leaves
        kept = [mark for pgno, mark in enumerate(seen, 1) if pgno not in self.free] if self.free else seen
        if 2 * sum(kept) > len(kept):
            return True
        self.why = f"the {RESERVED} reserved bytes of each page are no checksums of cksumvfs, or not for long any more"
        return False

    def judge(self, first: int, count: int, known: Callable[[int], bool], most: int) -> Iterator[Finding]:
        """Yield what is wrong with pages; `known` says which a baseline has judged already, `most` bounds findings."""
        seen = self._image.reserved_sums(first, count)
        if not seen.count(0):
            return
        wrong = [first + index for index, mark in enumerate(seen) if not mark]
        pgnos = [pgno for pgno in wrong if pgno not in self.free and not known(pgno)]
        self._atlas = self._atlas.enlarged(self._read, pgnos[:most], self._image)
        for pgno in pgnos[:most]:
            self._told()
            page = self._image.reread(pgno)
            if holds(page):
                yield transient(pgno, "its own checksum holds now, and did not before")
            elif (finding := self._rot(pgno, page)) is not None:
                yield finding
            else:
                self.stale += 1
                self._named.append(pgno)
        self.stale += len(pgnos[most:])

    def summary(self) -> Iterator[Finding]:
        """Yield one notice for all pages that are stale or rotten."""
        if self.stale:
            named = self._named[:_SHOWN]
            more = f" and {self.stale - len(named)} more" if self.stale > len(named) else ""
            yield Finding(
                kind="stale-checksum",
                severity=Severity.NOTICE,
                pgno=named[0] if named else None,
                message=f"{self.stale} pages do not have the checksum that cksumvfs gave them: "
                "a SQLite without it wrote them, or they changed on the disk",
                evidence=f"pages {', '.join(map(str, named))}{more}",
            )

    def _read(self, pgno: int) -> bytes:
        self._told()
        return self._image.page(pgno)

    def _rot(self, pgno: int, page: bytes) -> Finding | None:
        """Return the finding for a page that no writer can have left so; None where one can have."""
        computed, stored = checksum(page), struct.unpack("<2I", page[-RESERVED:])
        evidence = f"checksum {stored[0]:08x} {stored[1]:08x}, of what stands there {computed[0]:08x} {computed[1]:08x}"
        where, owner = self._atlas.describe(pgno), self._atlas.owners.get(pgno)
        in_tree = owner is not None and owner.object is not None and owner.role != "overflow"
        broken = in_tree and not _is_sound(pgno, page, self._layout)
        bits = flipped(page)
        if broken and len(bits) > 1:  # of several the one that makes it whole, if there is one
            bits = tuple(bit for bit in bits if _is_sound(pgno, _mended(page, bit), self._layout)) or bits
        place = self._place_of(pgno, page, bits[0]) if len(bits) == 1 else None
        renewed = pgno == 1 or (self._rollback and self._first_holds)
        if bits and (renewed or broken or (place is not None and place.part in _NO_VALUE)):
            named = f"bit {bits[0].bit} of byte {bits[0].offset} of {where} flipped"
            if len(bits) > 1:
                named = (
                    f"one bit of {where} flipped, at one of {len(bits)} places, the last of them byte {bits[0].offset}"
                )
            elif place is not None and owner is not None:
                named = f"{named}: {say_place(place, owner, self._atlas)}"
            message = f"{named}; with it, its checksum would hold"
            return self._damage("flipped-bit", pgno, message, evidence, None if place is None else place.rowid)
        if broken:
            message = f"{where} does not have its checksum, and is no whole page of a b-tree"
            return self._damage("bad-checksum", pgno, message, evidence)
        return None

    def _place_of(self, pgno: int, page: bytes, bit: Bit) -> Place | None:
        """Return what stands at a bit of a page, read as the page was before it flipped; None if that is not known."""
        owner, layout = self._atlas.owners.get(pgno), self._atlas.layout
        if owner is None or layout is None:
            return None
        mended = _mended(page, bit)
        return find_place(lambda each: mended if each == pgno else self._read(each), owner, bit.offset, layout)

    def _damage(self, kind: str, pgno: int, message: str, evidence: str, rowid: int | None = None) -> Finding:
        return Finding(
            kind=kind,
            severity=Severity.DAMAGE,
            pgno=pgno,
            object=self._atlas.object_of(pgno),
            rowid=rowid,
            message=message,
            evidence=evidence,
        )


_NO_VALUE = frozenset({"page header", "cell pointer", "reserved bytes"})
"""Parts of a page in which no writer changes one bit and nothing else."""


def transient(pgno: int, what: str, evidence: str = "") -> Finding:
    """Return the notice that a page was read wrong once."""
    return Finding(
        kind="transient-read",
        severity=Severity.NOTICE,
        pgno=pgno,
        message=f"page {pgno} was read wrong once: {what}; the medium, a cable or the memory gave other bytes",
        evidence=evidence,
    )


def _mended(page: bytes, bit: Bit) -> bytes:
    data = bytearray(page)
    data[bit.offset] ^= 1 << bit.bit
    return bytes(data)


def _is_sound(pgno: int, data: bytes, layout: Layout) -> bool:
    """Whether a page is a b-tree page whose cells all stand where they can, and apart."""
    try:
        page = parse_page(data, pgno=pgno, usable=layout.usable)
    except Malformed:
        return False
    spans = sorted((cell.offset, cell.end) for cell in page.cells)
    apart = all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    return not page.bad and apart and all(begin >= page.content for begin, _ in spans)
