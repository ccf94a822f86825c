"""The checker: what the header and the file's size say, and every page sum against the baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pagewarden.contracts import Baseline, CheckOutcome, PageImage, Subject
from pagewarden.errors import PagewardenError, RepositoryDamaged
from pagewarden.values import Finding, Level, Severity, Verdict
from pagewarden_check_pages.sanity import judge_header, judge_size

FINDINGS = 1000
"""How many differing pages become findings; the others are counted."""

_CHUNK = 16384  # pages whose sums are compared at once: 128 KiB of sums
_TOLD_EVERY = 256  # pages read between two calls of progress


class PagesChecker:
    """Compares every page with what it was.

    Only this finds a flipped bit in a column without an index, and a write that never reached the disk.
    """

    name = "check-pages"
    level = Level.QUICK

    def check(self, subject: Subject) -> CheckOutcome:
        """Return what is wrong with header and size and, against a current baseline, a finding for each page."""
        image = subject.image
        findings = [*judge_size(image, subject.facts), *judge_header(image)]
        try:
            baseline = subject.baseline
            if baseline is None:
                return CheckOutcome(findings=tuple(findings), why="there is no baseline: no page sum was compared")
            verdict, why = _compare(subject, image, baseline, findings)
        except PagewardenError as error:
            return CheckOutcome(findings=tuple(findings), verdict=Verdict.UNKNOWN, why=f"no baseline: {error}")
        return CheckOutcome(findings=tuple(findings), verdict=verdict, why=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """Which pages differ, of those that both have."""

    count: int
    pgnos: tuple[int, ...]  # the first ones
    free: int  # pages that differ, too, but hold nothing in both


def _compare(
    subject: Subject, image: PageImage, baseline: Baseline, findings: list[Finding]
) -> tuple[Verdict | None, str]:
    """Compare all pages; add to `findings`. Return the verdict, where the findings do not say it, and why."""
    if baseline.page_size != image.page_size:
        what = f"pages have {image.page_size} bytes, in the baseline {baseline.page_size}"
        if not baseline.current:
            return Verdict.UNKNOWN, what
        findings.append(Finding(kind="other-page-size", severity=Severity.DAMAGE, message=what))
        return None, ""
    difference = _differing(subject, image, baseline)
    if not baseline.current:
        return _not_current(difference, image, baseline)
    findings += _sizes(image, baseline)
    pgnos = difference.pgnos
    told = _Told(subject)
    if pgnos:
        # Imported here, because a sound database needs nothing that reads trees, and its check is to be quick.
        from pagewarden_check_pages.differences import draw_atlas, name_difference, rightful_places

        atlas, places = draw_atlas(baseline, pgnos, told), rightful_places(baseline, pgnos)
        for number, pgno in enumerate(pgnos):
            subject.progress(number, len(pgnos))
            findings.append(name_difference(pgno, image, baseline, baseline.older, atlas, places))
    notes = []
    if difference.count > len(pgnos):
        notes.append(f"{difference.count - len(pgnos)} more differing pages were left out")
    if difference.free:
        notes.append(f"{difference.free} free pages differ, which a transaction that was rolled back may do")
    if pgnos and (since := _commits_since(image, baseline)):
        notes.append(since)
    return None, "; ".join(notes)


class _Told:
    """Calls progress once in a while: for the deadline's sake."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._calls = 0

    def __call__(self) -> None:
        self._calls += 1
        if self._calls % _TOLD_EVERY == 0:
            self._subject.progress(self._calls, 0)


def _differing(subject: Subject, image: PageImage, baseline: PageImage) -> _Difference:
    """Compare the pages that both have and that lie in the file: what was cut off is one finding, not thousands."""
    common = min(image.pages, baseline.pages)
    if not subject.facts.wal_in_use:
        common = min(common, -(-subject.facts.file_size // image.page_size))
    count = free = 0
    leaves: frozenset[int] | None = None
    pgnos: list[int] = []
    subject.progress(0, common)
    for first in range(1, common + 1, _CHUNK):
        size = min(_CHUNK, common - first + 1)
        seen, expected = image.sums(first, size), baseline.sums(first, size)
        if seen != expected:
            leaves = _free_in_both(subject, image, baseline) if leaves is None else leaves
            for index in range(size):
                if seen[8 * index : 8 * index + 8] == expected[8 * index : 8 * index + 8]:
                    continue
                if first + index in leaves:
                    free += 1
                    continue
                count += 1
                if len(pgnos) < FINDINGS:
                    pgnos.append(first + index)
        subject.progress(first - 1 + size, common)
    return _Difference(count=count, pgnos=tuple(pgnos), free=free)


def _not_current(difference: _Difference, image: PageImage, baseline: Baseline) -> tuple[Verdict | None, str]:
    """A difference is no damage where commits may have been made since; equality still proves that there is none."""
    if not difference.count and image.pages == baseline.pages:
        return None, ""
    sizes = "" if image.pages == baseline.pages else f" and the size ({baseline.pages} pages, now {image.pages})"
    since = "the baseline" if baseline.position is None else f"the backup at {baseline.position}"
    return Verdict.UNKNOWN, (
        f"{difference.count} of {image.pages} pages{sizes} differ from {since}, and commits may have been made since"
    )


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


def _commits_since(image: PageImage, baseline: Baseline) -> str:
    """Say so where the change counter shows that the baseline, declared current, is not (section 1.3.7)."""
    try:
        now, then = (int.from_bytes(pages.page(1)[24:28], "big") for pages in (image, baseline))
    except RepositoryDamaged:
        return ""
    valid_for = int.from_bytes(image.page(1)[92:96], "big")
    if now == then or now != valid_for:
        return ""
    return f"the change counter is {now}, in the baseline {then}: if commits were made since, it is not current"
