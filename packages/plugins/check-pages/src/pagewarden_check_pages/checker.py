"""The checker: what the header and the file's size say, every page sum against the baseline, pages' own checksums.

Pages are gone through once, in chunks: what differs is read again, named and reported before the next chunk, so that a
run that is cut short has lost nothing and can go on from there, round to where it began.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from pagewarden.contracts import Baseline, CheckOutcome, LiveImage, PageImage, Subject
from pagewarden.errors import PagewardenError, RepositoryDamaged
from pagewarden.values import Finding, Level, Severity, Verdict
from pagewarden_check_pages.sanity import judge_header, judge_size

if TYPE_CHECKING:
    from pagewarden_check_pages.report import Reporter
    from pagewarden_check_pages.reserved import ReservedSums

FINDINGS = 1000
"""How many differing pages become findings; the others are counted."""

_CHUNK = 32768  # pages whose sums are compared at once: 256 KiB of sums
_CKSUMVFS = 8  # reserved bytes of each page, where SQLite's cksumvfs extension keeps a checksum of it
_TOLD_EVERY = 256  # pages read between two calls of progress


class PagesChecker:
    """Compares every page with what it was.

    Only this finds a flipped bit in a column without an index, and a write that never reached the disk.
    """

    name = "check-pages"
    level = Level.QUICK
    in_process = True  # it parses little, and only pages that differ: the page reader does the rest

    def check(self, subject: Subject) -> Generator[Finding, None, CheckOutcome]:
        """Yield what is wrong with header and size and, against a current baseline, with each page that differs."""
        image = subject.image
        yield from judge_size(image, subject.facts)
        first = image.page(1) if image.pages else b""
        yield from judge_header(image, first)
        notes: list[str] = []
        baseline, verdict = None, None
        try:
            baseline = subject.baseline
        except PagewardenError as error:
            verdict, why = Verdict.UNKNOWN, f"no baseline: {error}"
            notes.append(why)
        else:
            if baseline is None:
                notes.append("there is no baseline: no page sum was compared")
        if baseline is not None and image.pages and baseline.page_size != image.page_size:
            what = f"pages have {image.page_size} bytes, in the baseline {baseline.page_size}"
            if baseline.current:
                yield Finding(kind="other-page-size", severity=Severity.DAMAGE, message=what)
            else:
                verdict = Verdict.UNKNOWN
                notes.append(what)
                subject.reached("")  # what cannot be compared is unknown, whatever else is judged
            baseline = None
        walk = _Walk(subject, image, baseline, reserved=first[20] if first else 0)
        try:
            yield from walk.pages()
        except _BaselineUnusable as error:
            verdict = Verdict.UNKNOWN
            notes.append(f"no baseline: {error}")
        notes += walk.notes()
        return CheckOutcome(verdict=verdict or walk.verdict, why="; ".join(notes))


class _BaselineUnusable(Exception):
    """The baseline's sums cannot be read."""


class _Told:
    """Calls progress once in a while: for the deadline's sake."""

    def __init__(self, subject: Subject) -> None:
        """Nothing was done yet."""
        self._subject = subject
        self._calls = 0

    def __call__(self) -> None:
        """One more step was done."""
        self._calls += 1
        if self._calls % _TOLD_EVERY == 0:
            self._subject.progress(self._calls, 0)


class _Walk:
    """All pages, once."""

    def __init__(self, subject: Subject, image: LiveImage, baseline: Baseline | None, *, reserved: int) -> None:
        self._subject = subject
        self._image = image
        self._baseline = baseline
        self._told = _Told(subject)
        self._differing = 0
        self._free = 0  # pages that differ, too, but hold nothing in both
        self._leaves: frozenset[int] | None = None
        self._reporter: Reporter | None = None
        self._unused = ""  # why the reserved bytes are no checksums
        self._reserved = self._own_sums() if reserved == _CKSUMVFS else None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict where the findings do not say it."""
        stale = self._reserved is not None and self._reserved.stale and not self._current
        return Verdict.UNKNOWN if stale or self._unlike() else None

    @property
    def _current(self) -> bool:
        return self._baseline is not None and self._baseline.current

    def pages(self) -> Iterator[Finding]:
        """Yield what is wrong with pages, and tell how far this is."""
        image, baseline = self._image, self._baseline
        # No commit leaves a database without any page, once it had some.
        if baseline is not None and (baseline.current or not image.pages):
            yield from _sizes(image, baseline)
        last = self._last()
        if baseline is None and self._reserved is None:
            return
        self._subject.progress(0, last)
        done = 0
        for first, count in _round(self._subject.resume, last):
            differing = [] if baseline is None else self._compare(baseline, first, count)
            if baseline is not None and baseline.current and (differing or self._reporter is not None):
                yield from self._report(baseline).chunk(differing, first + count - 1)
            if self._reserved is not None:
                found = {pgno for pgno, _, _ in differing} if self._current else set()
                yield from self._reserved.judge(first, count, found.__contains__, FINDINGS)
            done += count
            following = first + count if first + count <= last else 1
            place = self._place(following)
            self._subject.progress(done - (following - place) % last, last)
            if self.verdict is Verdict.UNKNOWN:
                self._subject.reached("")  # no part of a whole that could be sound
            self._subject.reached(str(place))
        if self._reporter is not None:
            yield from self._reporter.flush()
        if self._reserved is not None:
            yield from self._reserved.summary()

    def _place(self, following: int) -> int:
        """Return where a later run goes on: at the run of zeros that was not reported, if there is one."""
        waiting = None if self._reporter is None else self._reporter.open
        return following if waiting is None else waiting

    def notes(self) -> Iterator[str]:
        """Yield what is to be said beside the findings."""
        if self._unlike():
            yield self._unlike()
        if self._reporter is not None and self._reporter.left_out:
            yield f"{self._reporter.left_out} more differing pages were left out"
        if self._current and self._free:
            yield f"{self._free} free pages differ, which a transaction that was rolled back may do"
        if self._baseline is not None and self._reporter is not None:
            yield from _commits_since(self._image, self._baseline)
        if self._unused:
            yield self._unused
        if self._reserved is not None and self._reserved.stale:
            yield f"{self._reserved.stale} pages do not have the checksum that cksumvfs gave them"

    def _own_sums(self) -> ReservedSums | None:
        from pagewarden_check_pages.reserved import ReservedSums

        sums = ReservedSums(self._image, rollback=self._subject.facts.journal_mode == "rollback", told=self._told)
        self._unused = sums.why
        return sums if sums.used else None

    def _last(self) -> int:
        """Return the last page that both have and that lies whole in the file: what was cut off is one finding."""
        pages = self._image.pages if self._baseline is None else min(self._image.pages, self._baseline.pages)
        facts = self._subject.facts
        return pages if facts.wal_in_use else min(pages, facts.file_size // self._image.page_size)

    def _compare(self, baseline: PageImage, first: int, count: int) -> list[tuple[int, bytes, bytes]]:
        """Return each page of a chunk that differs, with its expected and its seen sum."""
        seen = self._image.sums(first, count)
        try:
            expected = baseline.sums(first, count)
        except PagewardenError as error:
            self._baseline = None
            raise _BaselineUnusable(str(error)) from error
        if seen == expected:
            return []
        from pagewarden.pages import differing_runs

        if self._leaves is None:
            self._leaves = _free_in_both(self._subject, self._image, baseline)
        indexes = [index for place, run in differing_runs(seen, expected) for index in range(place, place + run)]
        used = [index for index in indexes if first + index not in self._leaves]
        self._differing += len(used)
        self._free += len(indexes) - len(used)
        places = ((first + index, slice(8 * index, 8 * index + 8)) for index in used)
        return [(pgno, expected[place], seen[place]) for pgno, place in places]

    def _report(self, baseline: Baseline) -> Reporter:
        if self._reporter is None:
            # Imported here, because a sound database needs nothing that reads trees, and its check is to be quick.
            from pagewarden_check_pages.report import Reporter

            self._reporter = Reporter(self._subject, baseline, self._told, last=self._last(), most=FINDINGS)
        return self._reporter

    def _unlike(self) -> str:
        """Say that a difference is no damage, because commits may have been made since; "" if there is none."""
        image, baseline = self._image, self._baseline
        if baseline is None or baseline.current or (not self._differing and image.pages == baseline.pages):
            return ""
        if not image.pages:
            return ""  # that is damage
        sizes = "" if image.pages == baseline.pages else f" and the size ({baseline.pages} pages, now {image.pages})"
        since = "the baseline" if baseline.position is None else f"the backup at {baseline.position}"
        return (
            f"{self._differing} of {image.pages} pages{sizes} differ from {since}, and commits may have been made since"
        )


def _round(resume: str, last: int) -> Iterator[tuple[int, int]]:
    """Yield (first page, count) of chunks from where an earlier run was cut short, and round to there."""
    begin = int(resume) if resume.isdecimal() and 1 <= int(resume) <= last else 1
    for first, end in ((begin, last + 1), (1, begin)):
        for start in range(first, end, _CHUNK):
            yield start, min(_CHUNK, end - start)


def _sizes(image: PageImage, baseline: Baseline) -> Iterator[Finding]:
    if image.pages < baseline.pages:
        yield Finding(
            kind="truncated",
            severity=Severity.DAMAGE,
            pgno=image.pages + 1,
            message=f"pages {image.pages + 1} to {baseline.pages} of the baseline are missing",
            evidence=f"{image.pages} pages, in the baseline {baseline.pages}",
        )
    elif image.pages > baseline.pages:
        yield Finding(
            kind="extra-pages",
            severity=Severity.DAMAGE,
            pgno=baseline.pages + 1,
            message=f"pages {baseline.pages + 1} to {image.pages} are not in the baseline",
            evidence=f"{image.pages} pages, in the baseline {baseline.pages}",
        )


def _free_in_both(subject: Subject, image: PageImage, baseline: PageImage) -> frozenset[int]:
    """Return the freelist leaves of both: with a rollback journal their bytes may change without a commit (H34)."""
    if subject.facts.journal_mode == "wal":
        return frozenset()
    from pagewarden.sqlite.freelist import walk_freelist
    from pagewarden.sqlite.schema import Layout

    leaves = []
    for pages in (image, baseline):
        try:
            layout = Layout.of(pages.page(1), page_size=pages.page_size, pages=pages.pages)
            freelist = walk_freelist(pages.page, first=layout.freelist, pages=pages.pages, usable=layout.usable)
        except RepositoryDamaged:  # the baseline's pages; its sums still tell which differ
            return frozenset()
        leaves.append(freelist.leaves)
    return leaves[0] & leaves[1]


def _commits_since(image: PageImage, baseline: Baseline) -> Iterator[str]:
    """Say so where the change counter shows that the baseline, declared current, is not (section 1.3.7)."""
    try:
        now, then = (int.from_bytes(pages.page(1)[24:28], "big") for pages in (image, baseline))
    except RepositoryDamaged:
        return
    valid_for = int.from_bytes(image.page(1)[92:96], "big")
    if now != then and now == valid_for:
        yield f"the change counter is {now}, in the baseline {then}: if commits were made since, it is not current"
