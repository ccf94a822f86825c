"""What must have happened to damaged pages, and between which restore points: concluded from what stands in them.

A damaged page is held against what should stand there (the present commit, where that is proved, else the newest
restore point), against older restore points, and against the other damaged pages. What most of the pages of a pattern
bear is what happened; the kinds of their findings count, too, where a checker has compared more than this does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from pagewarden.contracts import Damage
from pagewarden.times import format_moment
from pagewarden.values import Verdict

if TYPE_CHECKING:
    from pagewarden.contracts import PastImage, RepairCase
    from pagewarden.repair.sight import Sight
    from pagewarden.repository import Manifest
    from pagewarden.values import Finding, Position

MOST_PAGES = 48
"""Pages of one pattern that are looked at."""

_SECTOR = 512
_FURTHEST = 64  # bytes by which content is looked for further back and forward
_START = 12  # bytes of a page's header that are looked for
_RUN = 128  # bytes of content in the middle that must stand as much further
_DISTINCT = 8  # different bytes that they must have, to tell anything


class Trace(StrEnum):
    """What a damaged page bears."""

    ZEROED = "zeroed"  # all of it
    ZEROED_SECTORS = "zeroed-sectors"
    OLDER = "older"  # what an older restore point has there
    TORN = "torn"  # some sectors of an older one, the others as they should be
    ELSEWHERE = "elsewhere"  # what belongs on another page
    BITS = "bits"  # one bit, or a few of one word
    BYTES = "bytes"  # a short run of others
    SHIFTED = "shifted"  # as it should be, some bytes further
    CHANGED = "changed"  # in some other way
    WHOLE = "whole"  # as it should be: it is only named by what another page's damage led to


_KINDS: Mapping[str, Trace] = {
    "flipped-bit": Trace.BITS,
    "flipped-bits": Trace.BITS,
    "zeroed-page": Trace.ZEROED,
    "zeroed-run": Trace.ZEROED,
    "zeroed-sector": Trace.ZEROED_SECTORS,
    "lost-write": Trace.OLDER,
    "torn-page": Trace.TORN,
    "misplaced-page": Trace.ELSEWHERE,
    "misplaced-sector": Trace.ELSEWHERE,
    "shifted-bytes": Trace.SHIFTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happened to the pages of one pattern."""

    happened: str = ""
    between: tuple[Position, Position] | None = None
    prevent: str = ""


class Stories:
    """Concludes what happened, for the patterns of one case."""

    def __init__(self, case: RepairCase, sight: Sight) -> None:
        self._case = case
        self._sight = sight

    def of(self, damage: Damage, findings: Sequence[Finding], pages: Sequence[int]) -> Story:
        """Return what happened to `pages`, which `findings` of a pattern name."""
        known = _KNOWN.get(damage) or next((_BY_KIND[each.kind] for each in findings if each.kind in _BY_KIND), None)
        if known is not None:
            return Story(happened=known[0], prevent=known[1])
        traces = self._traces(pages, findings)
        marked = Counter(trace for trace in traces.values() if trace is not Trace.WHOLE)
        if not marked:
            return self._stale() if damage is Damage.INDEX and self._compared(pages) else Story()
        trace = marked.most_common(1)[0][0]
        hurt = [pgno for pgno, each in traces.items() if each is trace]
        happened, prevent = self._words(trace, hurt)
        between, when = self._between(hurt)
        return Story(happened=f"{happened}{when}", between=between, prevent=prevent)

    def unhurt(self, pages: Sequence[int]) -> bool:
        """Whether there are pages, all of them as they are proved to have been committed."""
        image, history = self._sight, self._case.history
        present = None if history is None else history.present
        if present is None or present.page_size != image.page_size or len(pages) > MOST_PAGES:
            return False
        shared = min(image.pages, present.pages)
        return bool(pages) and all(1 <= pgno <= shared and image.sum(pgno) == present.sums(pgno, 1) for pgno in pages)

    # What pages bear

    def _traces(self, pages: Sequence[int], findings: Iterable[Finding]) -> dict[int, Trace]:
        told = {each.pgno: _KINDS[each.kind] for each in findings if each.kind in _KINDS and each.pgno is not None}
        image, right = self._sight, self._right
        looked = [pgno for pgno in pages if 1 <= pgno <= image.pages][:MOST_PAGES]
        wanted: dict[int, bytes] = {}
        if right is not None and right.page_size == image.page_size:
            wanted = {pgno: right.page(pgno) for pgno in looked if pgno <= right.pages}
        seen = {pgno: self._trace(pgno, image.page(pgno), wanted) for pgno in looked if pgno not in told}
        return {**told, **seen}

    def _trace(self, pgno: int, page: bytes, wanted: Mapping[int, bytes]) -> Trace:
        if not any(page):
            return Trace.ZEROED
        right = wanted.get(pgno)
        if right is None:
            return Trace.WHOLE  # nothing tells that it is this one
        if page == right:
            return Trace.WHOLE
        if any(page == other for number, other in wanted.items() if number != pgno):
            return Trace.ELSEWHERE
        differing = [at for at in range(0, len(page), _SECTOR) if page[at : at + _SECTOR] != right[at : at + _SECTOR]]
        if all(not any(page[at : at + _SECTOR]) for at in differing):
            return Trace.ZEROED_SECTORS
        older = self._older_trace(pgno, page, differing)
        small = _small(page, right)
        return older or (Trace.SHIFTED if small is Trace.CHANGED and self._is_shifted(pgno, page, right) else small)

    def _is_shifted(self, pgno: int, page: bytes, right: bytes) -> bool:
        """Whether what should stand on a page stands in the file some bytes further back or forward, from its start.

        A row that grew moves others within a page, but not the page's header.
        """
        begin = (pgno - 1) * len(page)
        before = min(_FURTHEST, begin)
        around = self._case.file(begin - before, len(page) + before + _FURTHEST)
        half = len(right) // 2
        middle = right[half : half + _RUN]
        at = around.find(right[:_START])
        while at >= 0 and len(set(middle)) >= _DISTINCT:
            if at != before and around[at + half : at + half + len(middle)] == middle:
                return True
            at = around.find(right[:_START], at + 1, 2 * _FURTHEST + _START)
        return False

    def _older_trace(self, pgno: int, page: bytes, differing: Sequence[int]) -> Trace | None:
        for past in self._older:
            if pgno > past.pages or past.page_size != len(page):
                continue
            there = past.page(pgno)
            if page == there:
                return Trace.OLDER
            if all(page[at : at + _SECTOR] == there[at : at + _SECTOR] for at in differing):
                return Trace.TORN
        return None

    # What that means

    def _words(self, trace: Trace, pages: Sequence[int]) -> tuple[str, str]:
        if trace is Trace.OLDER:
            return self._went_back(pages)
        return _MEANING[trace]

    def _went_back(self, pages: Sequence[int]) -> tuple[str, str]:
        """Say why pages hold an older state: writes that were lost, or all that stood in a log that is gone."""
        journal = "" if self._manifest is None else self._manifest.facts.journal_mode
        if len(pages) > 1 and journal == "wal" and not self._case.facts.wal_in_use:
            return (
                "pages hold an older state, and there is no log beside the file: it was copied, moved or restored "
                "without its -wal, or a process cancelled the locks of others, so that the log was deleted under them",
                "copy a database with `pagewarden backup`, never the file alone; let no process open its files beside "
                "SQLite (`pagewarden doctor` finds those that do)",
            )
        bug = self._bug("wal-reset") if journal == "wal" else ""
        return (
            "the disk acknowledged a write and dropped it: the page holds an older state" + bug,
            "replace the disk, or switch its write cache off; link a SQLite without known bugs (`pagewarden doctor`)",
        )

    def _stale(self) -> Story:
        """Say what leaves an index at odds with its table though no page is damaged."""
        bug = self._bug("expression-index-conversion") or self._bug("replace-rowid")
        return Story(
            happened="every page is as it was written: the index was written so, by an application that changed a "
            f"collation or a function, or wrote to the file beside SQLite{bug}",
            prevent="REINDEX after a collation or a function of the application has changed",
        )

    def _bug(self, name: str) -> str:
        from pagewarden.versions import KNOWN_BUGS

        facts = None if self._manifest is None else self._manifest.facts
        release = _release("" if facts is None else facts.sqlite_version)
        for bug in KNOWN_BUGS:
            if bug.name == name and facts is not None and release is not None and bug.affects(release):
                return f"; or SQLite {facts.sqlite_version} did it, which is known for that: {bug.what}"
        return ""

    # When

    def _between(self, pages: Sequence[int]) -> tuple[tuple[Position, Position] | None, str]:
        """Return the last restore point where a page was right and the first where it was not, and a clause of it."""
        image, newest = self._sight, self._newest
        if newest is None or newest.page_size != image.page_size:
            return None, ""
        for pgno in pages:
            if not 1 <= pgno <= min(image.pages, newest.pages):
                continue
            held = image.sum(pgno)
            if newest.sums(pgno, 1) != held:
                later = self._found_damaged
                if later is not None:
                    return (newest.position, later), ""
                return None, f"; it happened after the newest restore point, of {format_moment(newest.position.time)}"
            first = newest.position
            for past in self._older:
                if pgno > past.pages or past.sums(pgno, 1) != held:
                    return (past.position, first), ""
                first = past.position
        return None, ""

    @cached_property
    def _found_damaged(self) -> Position | None:
        """The first restore point after the newest whole one, at which the database was found damaged."""
        for manifest in self._manifests:
            if self._newest is not None and manifest.position.txid <= self._newest.position.txid:
                continue
            if manifest.source.verdict is Verdict.DAMAGED:
                return manifest.position
        return None

    # What there is to compare with

    def _compared(self, pages: Sequence[int]) -> bool:
        """Whether pages could be compared at all."""
        return bool(self._sight.pages) and self._right is not None and bool(pages or self._case.history)

    @cached_property
    def _right(self) -> PastImage | None:
        history = self._case.history
        return None if history is None else history.present or history.newest

    @cached_property
    def _newest(self) -> PastImage | None:
        return None if self._case.history is None else self._case.history.newest

    @cached_property
    def _older(self) -> Sequence[PastImage]:
        return () if self._case.history is None else self._case.history.older

    @cached_property
    def _manifests(self) -> Sequence[Manifest]:
        return tuple(getattr(self._case.history, "manifests", ()))

    @cached_property
    def _manifest(self) -> Manifest | None:
        """That of the newest whole restore point."""
        newest = self._newest
        return next((each for each in self._manifests if newest is not None and each.position == newest.position), None)


def _small(page: bytes, right: bytes) -> Trace:
    """Tell a small difference from a large one."""
    first = next(at for at in range(len(page)) if page[at] != right[at])
    last = next(at for at in range(len(page) - 1, -1, -1) if page[at] != right[at])
    if last - first < 8:
        bits = sum((one ^ two).bit_count() for one, two in zip(page, right, strict=True))
        if bits <= 8:
            return Trace.BITS
    return Trace.BYTES if last - first < 64 else Trace.CHANGED


def _release(version: str) -> tuple[int, int, int] | None:
    parts = version.split(".")
    if len(parts) < 3 or not all(part.isdecimal() for part in parts[:3]):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2])


_DISK = "look at the disk: `smartctl -a`, `dmesg`; back up often (`pagewarden run`), and replace the disk"
_MEANING: Mapping[Trace, tuple[str, str]] = {
    Trace.ZEROED: (
        "whole pages are zeros: the disk or file system lost them, or a copy left holes there",
        f"{_DISK}; copy databases with `pagewarden backup`, not while they are written to",
    ),
    Trace.ZEROED_SECTORS: ("sectors of 512 bytes are zeros: the disk gave them up", _DISK),
    Trace.TORN: (
        "pages are part new, part old: a write was cut off, as by a power failure",
        "keep `PRAGMA synchronous` at FULL, or NORMAL in WAL mode; switch a write cache off that lies about fsync",
    ),
    Trace.ELSEWHERE: ("pages hold what belongs elsewhere: a write went to the wrong place", _DISK),
    Trace.BITS: (
        "a few bits flipped, in memory or on the disk",
        "test the memory, use ECC memory; a file system with checksums (ZFS, btrfs) tells of it",
    ),
    Trace.BYTES: (
        "a short run of bytes was overwritten: by a program that wrote to the file beside SQLite, or by bad memory",
        "let no program write to the file but SQLite; test the memory",
    ),
    Trace.SHIFTED: (
        "bytes were put in or taken out, so that all that follows is shifted: a transfer or an editor changed the file",
        "transfer databases as binary files, and compare them afterwards (`pagewarden verify`)",
    ),
    Trace.CHANGED: ("pages were overwritten with something else", _DISK),
}
_KNOWN: Mapping[Damage, tuple[str, str]] = {
    Damage.NEWLINES: (
        "the file was transferred as text, which made every LF a CRLF, or every CRLF an LF",
        "transfer databases as binary files: `binary` in ftp, `*.db binary` in .gitattributes",
    ),
    Damage.TRUNCATED: (
        "the end of the file was cut off: a copy or a download that was not complete, or a full disk",
        "compare the size after a transfer; `pagewarden backup` and `restore` prove what they wrote",
    ),
}
_BY_KIND: Mapping[str, tuple[str, str]] = {
    "foreign-wal": (
        "the -wal beside the file was not written for it: it was left when the file was replaced, or came with another",
        "replace a database with `pagewarden restore`, which takes a left-over -wal away",
    ),
    "bad-wal": ("frames of the log were damaged after they were written", _DISK),
    "bad-wal-header": ("the header of the log was damaged after it was written", _DISK),
    "stranded-commits": (
        "a frame of the log was damaged, and SQLite's recovery dropped it and all that was committed behind it",
        f"{_DISK}; `pagewarden run` stores what is committed before it can be lost",
    ),
    "lost-locks": (
        "a process opened and closed the database's files beside SQLite, which cancelled the locks of its connections",
        "let a process that has the database open never open, copy or back up its files itself",
    ),
    "deleted-files": (
        "the file was deleted or replaced while a process had it open, which writes to the deleted one",
        "end the programs that use a database before it is replaced; `pagewarden restore` refuses while there are any",
    ),
}
