"""From pages that differ to findings: each page is read again; runs of zeros and mangled newlines are one finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pagewarden.contracts import Baseline, LiveImage, Subject
from pagewarden.pages import backend
from pagewarden.values import Finding, Severity
from pagewarden_check_pages.atlas import Told
from pagewarden_check_pages.differences import Namer, Reading
from pagewarden_check_pages.newlines import find_mangled
from pagewarden_check_pages.reserved import transient

_OBJECTS_OF = 64  # first pages of a run of zeros whose tables and indexes are named


class Reporter:
    """What is known of the pages that differ so far."""

    def __init__(self, subject: Subject, baseline: Baseline, told: Told, *, last: int, most: int) -> None:
        """`last` is the last page that is compared, `most` how many become findings of their own."""
        self.left_out = 0  # pages that differ and were not named
        self._subject = subject
        self._image: LiveImage = subject.image
        self._baseline = baseline
        self._namer = Namer(baseline, told)
        self._zeros = bytes(baseline.page_size)
        self._last = last
        self._most = most
        self._named = 0
        self._read_again = 0
        self._run: list[Reading] = []  # the first pages of the run of zeros that is not at its end yet
        self._run_end = 0
        self._mangled = range(0)  # pages that mangled newlines explain
        self._looked = False  # for mangled newlines

    def chunk(self, differing: Sequence[tuple[int, bytes, bytes]], end: int) -> Iterator[Finding]:
        """Yield findings for pages that differ, up to page `end`: page, expected and seen sum of each, in order."""
        room = max(0, self._most - self._named)
        self._namer.look_up([pgno for pgno, _, _ in differing[:room]])
        for number, (pgno, expected, first) in enumerate(differing):
            if number < room:
                self._subject.progress(number, min(room, len(differing)))
            yield from self._page(pgno, expected, first)
        if self._run_end != end:
            yield from self.flush()

    @property
    def open(self) -> int | None:
        """The first page of a run of zeros that has not come to its end, and was not reported."""
        return self._run[0].pgno if self._run else None

    def flush(self) -> Iterator[Finding]:
        """Yield the finding for the run of zeros that has come to its end."""
        if self._run:
            self._namer.look_up([reading.pgno for reading in self._run])
            yield self._namer.zeros(self._run[0].pgno, self._run_end, self._run)
            self._named += 1
            self._run = []

    def _page(self, pgno: int, expected: bytes, first: bytes) -> Iterator[Finding]:
        if pgno != self._run_end + 1:
            yield from self.flush()
        if pgno in self._mangled:
            return
        zero = first == self._sum(pgno, self._zeros)
        if zero and self._run and self._read_again >= self._most:  # a long run: its first pages were read again
            self._run_end = pgno
            return
        if self._named >= self._most and not (zero and self._run):
            self.left_out += 1
            return
        reading = self._again(pgno, expected, first)
        if not any(reading.seen) and reading.again != expected:
            if len(self._run) < _OBJECTS_OF:
                self._run.append(reading)
            self._run_end = pgno
            return
        yield from self.flush()
        if reading.again == expected:
            yield transient(pgno, "read again, it is what it should be", reading.sums)
        else:
            yield from self._newlines(reading)
            if pgno not in self._mangled:
                yield self._namer.name(reading)
        self._named += 1
        self._subject.reached(str(pgno + 1))

    def _again(self, pgno: int, expected: bytes, first: bytes) -> Reading:
        self._read_again += 1
        seen = self._image.reread(pgno)
        return Reading(pgno=pgno, expected=expected, first=first, again=self._sum(pgno, seen), seen=seen)

    def _newlines(self, reading: Reading) -> Iterator[Finding]:
        """Look once, at the first page that differs, whether the file was transferred as text."""
        if self._looked:
            return
        self._looked = True
        end = min(self._last, reading.pgno + self._most - 1)
        found = find_mangled(reading.pgno, self._image.page, self._namer.read, last=end, pages=self._baseline.pages)
        if found is None:
            return
        self._mangled = range(reading.pgno, found.last + 1)
        where = f"pages {reading.pgno} to {found.last}" if found.last > reading.pgno else f"page {reading.pgno}"
        yield Finding(
            kind="mangled-newlines",
            severity=Severity.DAMAGE,
            pgno=reading.pgno,
            message=f"from page {reading.pgno} on {found.what}, as in a transfer as text: it explains {where}",
            evidence=reading.sums,
        )

    def _sum(self, pgno: int, page: bytes) -> bytes:
        return backend().page_sum(pgno, page).to_bytes(8, "little")
