"""Pages that differ from a baseline which is the database's present commit: each is damage, and gets a name.

What a page should hold is known, so what happened to it can be told: all zeros, a few bits, what it held earlier, what
belongs to another page, a tear, a shift. Whose page it is and which row and column a byte belongs to is read from the
baseline, which is intact, never from the database under judgement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pagewarden.contracts import Baseline, PageImage
from pagewarden.errors import PagewardenError
from pagewarden.sqlite.place import find_place
from pagewarden.values import Finding, Severity
from pagewarden_check_pages import patterns
from pagewarden_check_pages.atlas import Atlas, Told, differing_rows, say_place
from pagewarden_check_pages.elsewhere import Elsewhere, outwards
from pagewarden_check_pages.sanity import only_counters

_KEPT = 32 << 20  # bytes of the baseline's pages that are kept: its trees are walked again for every few pages
_SWAPPED = 64  # differing pages among which a misplaced one is looked for first
_SHOWN = 16  # bytes of a difference in the evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One page that differs, read twice."""

    pgno: int
    expected: bytes  # page sums, 8 bytes each
    first: bytes
    again: bytes
    seen: bytes  # the second reading

    @property
    def sums(self) -> str:
        """The sums, as evidence."""
        text = f"expected page sum {hex_sum(self.expected)}, seen {hex_sum(self.first)}"
        return text if self.again == self.first else f"{text}, read again {hex_sum(self.again)}"


class Namer:
    """Gives names to the differences of one check."""

    def __init__(self, baseline: Baseline, told: Told) -> None:
        """`told` is called for every page that is read."""
        self.atlas = Atlas()
        self._baseline = baseline
        self._told = told
        self._size = baseline.page_size
        self._places: dict[bytes, int] = {}
        self._page = lru_cache(maxsize=max(16, _KEPT // self._size))(baseline.page)
        self._usual: Elsewhere | None = None
        self._homes = 0  # of misplaced content, that were looked up

    def look_up(self, pgnos: Sequence[int]) -> None:
        """Find out whose pages these are, before any of them gets a name."""
        self.atlas = self.atlas.enlarged(self.read, pgnos, self._baseline)
        for pgno in pgnos[:_SWAPPED]:
            try:
                self._places.setdefault(self.read(pgno), pgno)
            except PagewardenError:  # the baseline itself is damaged there, and its page cannot be found elsewhere
                continue

    def read(self, pgno: int) -> bytes:
        """Return a page of the baseline. Raises PagewardenError."""
        self._told()
        return self._page(pgno)

    def zeros(self, first: int, last: int, readings: Sequence[Reading]) -> Finding:
        """Return the finding for pages that are all zeros, one or a run of them; `readings` are the first of them."""
        where, evidence = self.atlas.describe(first), readings[0].sums + self._hex_of(readings[0])
        if first == last:
            return self._damage("zeroed-page", first, f"{where} is all zeros", evidence)
        names = {self.atlas.object_of(reading.pgno): None for reading in readings}
        known = [name for name in names if name is not None]
        of = f" of {', '.join(known[:5])}{' and others' if len(known) > 5 else ''}" if known else ""
        count = last - first + 1
        return Finding(
            kind="zeroed-run",
            severity=Severity.DAMAGE,
            pgno=first,
            object=known[0] if len(names) == len(known) == 1 else None,
            message=f"pages {first} to {last}{of} are all zeros, {count * self._size} bytes: a lost extent",
            evidence=f"page {first}: {evidence}",
        )

    def name(self, reading: Reading) -> Finding:
        """Return the finding for one page that differs and is not all zeros."""
        pgno, seen, where = reading.pgno, reading.seen, self.atlas.describe(reading.pgno)
        try:
            expected = self.read(pgno)
        except PagewardenError as error:
            message = f"{where} differs, and the baseline's own cannot be read: {error}"
            return self._damage("changed-page", pgno, message, reading.sums)
        if pgno == 1 and only_counters(expected, seen):
            message = (
                "page 1 differs in the header's counters alone: another program copied the database, or wrote nothing"
            )
            return Finding(
                kind="other-counters", severity=Severity.NOTICE, pgno=1, message=message, evidence=reading.sums
            )
        evidence = reading.sums + _bytes_of(expected, seen)
        return (
            self._lost_write(reading, expected, evidence)
            or self._flipped(reading, expected)
            or self._misplaced(reading, expected, evidence)
            or self._in_sectors(reading, expected, evidence)
            or self._shifted(reading, expected, evidence)
            or self._changed(reading, expected, evidence)
        )

    def _lost_write(self, reading: Reading, expected: bytes, evidence: str) -> Finding | None:
        for number, image in enumerate(self._baseline.older, 1):
            if _held(image, reading.pgno, self._size) == reading.again:
                where, then = self.atlas.describe(reading.pgno), _when(image, number)
                text, row = differing_rows(reading.pgno, expected, reading.seen, self.atlas)
                message = f"{where} went back to what it held {then}: a write was lost{text}"
                return self._damage("lost-write", reading.pgno, message, evidence, row)
        return None

    def _flipped(self, reading: Reading, expected: bytes) -> Finding | None:
        bits = patterns.flipped_bits(expected, reading.seen)
        if not bits:
            return None
        pgno, where, row = reading.pgno, self.atlas.describe(reading.pgno), None
        named = ", ".join(f"bit {bit} of byte {offset}" for offset, bit in bits)
        message = f"{named} of {where} flipped"
        evidence = reading.sums
        for offset in dict.fromkeys(offset for offset, _ in bits):
            evidence += f"; byte {offset} was 0x{expected[offset]:02x}, is 0x{reading.seen[offset]:02x}"
        owner = self.atlas.owners.get(pgno)
        if owner is not None and self.atlas.layout is not None:
            place = find_place(self.read, owner, bits[0][0], self.atlas.layout)
            message, row = f"{message}: {say_place(place, owner, self.atlas)}", place.rowid
        if len(bits) == 1:
            return self._damage("flipped-bit", pgno, message, evidence, row)
        return self._damage("flipped-bits", pgno, message, evidence, row)

    def _misplaced(self, reading: Reading, expected: bytes, evidence: str) -> Finding | None:
        other, then = self._places.get(reading.seen), ""
        if other is None and self._all_differs(expected, reading.seen):
            home = self._elsewhere().page(reading.seen, reading.pgno)
            if home is not None:
                other = home.pgno
                then = f" {_when(self._baseline.older[home.image - 1], home.image)}" if home.image else ""
        if other is None:
            return None
        belongs = "what belonged" if then else "what belongs"
        message = f"{self.atlas.describe(reading.pgno)} holds {belongs} to {self._home(other)}{then}"
        return self._damage("misplaced-page", reading.pgno, f"{message}: a write went to the wrong place", evidence)

    def _in_sectors(self, reading: Reading, expected: bytes, evidence: str) -> Finding | None:
        pgno, seen, where = reading.pgno, reading.seen, self.atlas.describe(reading.pgno)
        sectors = patterns.differing_sectors(expected, seen)
        spans = patterns.spans(sectors, self._size)
        if patterns.zeroed(seen, sectors):
            return self._damage("zeroed-sector", pgno, f"{spans} of {where} are zeros", evidence)
        text, row = differing_rows(pgno, expected, seen, self.atlas)
        for number, image in enumerate(self._baseline.older, 1):
            if _held(image, pgno, self._size) in (b"", reading.expected):
                continue
            try:
                at = patterns.tear(expected, seen, image.page(pgno), sectors)
            except PagewardenError:  # an older image that cannot be read is no evidence
                continue
            if at is not None:
                then = _when(image, number)
                message = f"{where} is torn at byte {at}: one part is new, the other what it held {then}{text}"
                return self._damage("torn-page", pgno, message, evidence, row)
        home = self._elsewhere().sectors(seen, sectors, pgno, outwards(pgno, self._baseline.pages))
        if home is None:
            return None
        message = f"{spans} of {where} hold what belongs there on {self._home(home.pgno)}"
        if len(sectors) == self._size // patterns.SECTOR:
            return self._damage("misplaced-page", pgno, message, evidence)
        return self._damage("misplaced-sector", pgno, message, evidence)

    def _shifted(self, reading: Reading, expected: bytes, evidence: str) -> Finding | None:
        around = []
        for pgno in (reading.pgno - 1, reading.pgno + 1):
            try:
                around.append(self.read(pgno) if 1 <= pgno <= self._baseline.pages else b"")
            except PagewardenError:  # the baseline itself is damaged there
                around.append(b"")
        by = patterns.shift(around[0], expected, around[1], reading.seen)
        if by is None:
            return None
        count, where = abs(by), self.atlas.describe(reading.pgno)
        how = f"{count} byte{'s' if count > 1 else ''} {'further back' if by > 0 else 'further forward'}"
        why = "bytes were put in" if by > 0 else "bytes were taken out"
        message = f"the content of {where} stands {how} than it should: {why} there or before"
        return self._damage("shifted-bytes", reading.pgno, message, evidence)

    def _changed(self, reading: Reading, expected: bytes, evidence: str) -> Finding:
        changed = [index for index in range(self._size) if reading.seen[index] != expected[index]]
        text, row = differing_rows(reading.pgno, expected, reading.seen, self.atlas)
        where = self.atlas.describe(reading.pgno)
        message = f"{len(changed)} bytes of {where} differ, from byte {changed[0]} to byte {changed[-1]}{text}"
        return self._damage("changed-page", reading.pgno, message, evidence, row)

    def _elsewhere(self) -> Elsewhere:
        if self._usual is None:
            self._usual = Elsewhere([self._baseline, *self._baseline.older], self._size, self._told)
        return self._usual

    def _home(self, pgno: int) -> str:
        """Return the page to which misplaced content belongs, in words."""
        if self._homes < _SWAPPED:  # each costs a walk over the trees
            self._homes += 1
            self.atlas = self.atlas.enlarged(self.read, [pgno], self._baseline)
        return self.atlas.describe(pgno)

    def _all_differs(self, expected: bytes, seen: bytes) -> bool:
        """Whether no sector is as it should be that says anything: what holds part of its own page is not misplaced."""
        differing = set(patterns.differing_sectors(expected, seen))
        sectors = (place for place in range(0, self._size, patterns.SECTOR) if place not in differing)
        return not any(len(set(expected[place : place + patterns.SECTOR])) > 1 for place in sectors)

    def _hex_of(self, reading: Reading) -> str:
        try:
            return _bytes_of(self.read(reading.pgno), reading.seen)
        except PagewardenError:
            return ""

    def _damage(self, kind: str, pgno: int, message: str, evidence: str, rowid: int | None = None) -> Finding:
        owner = self.atlas.owners.get(pgno)
        return Finding(
            kind=kind,
            severity=Severity.DAMAGE,
            pgno=pgno,
            object=self.atlas.object_of(pgno),
            rowid=rowid if rowid is not None or owner is None else owner.rowid,
            message=message,
            evidence=evidence,
        )


def _held(image: PageImage, pgno: int, page_size: int) -> bytes:
    """Return the sum that a page had in an older image; nothing where it was not there or cannot be read."""
    try:
        return image.sums(pgno, 1) if image.page_size == page_size and pgno <= image.pages else b""
    except PagewardenError:  # an image that cannot be read is no evidence
        return b""


def _when(image: PageImage, number: int) -> str:
    position = getattr(image, "position", None)
    return f"at {position}" if position is not None else f"{number} images ago"


def _bytes_of(expected: bytes, seen: bytes) -> str:
    """Return the first bytes that differ, as evidence."""
    begin = patterns.common_prefix(expected, seen)
    shown = (page[begin : begin + _SHOWN].hex() for page in (expected, seen))
    return "; from byte {} expected {}, seen {}".format(begin, *shown)


def hex_sum(page_sum: bytes) -> str:
    """Return a page sum as people compare it: the number, in hexadecimal."""
    return f"{int.from_bytes(page_sum, 'little'):016x}"
