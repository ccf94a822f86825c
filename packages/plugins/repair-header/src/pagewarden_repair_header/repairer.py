"""The repairer: what is derived from the pages, against what stands there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagewarden.contracts import Loss, RepairBench, RepairCase, RepairStep, Stage
from pagewarden.values import Finding, Severity

if TYPE_CHECKING:
    from pagewarden.repair.inferred import Inference

_DECIDING = frozenset(
    ("magic", "page size", "journal mode", "reserved bytes", "payload fractions", "page count", "schema format")
) | {"text encoding"}
"""Fields of the header without which nothing else of the file can be judged."""

_KINDS = frozenset(
    (
        "bad-header", "bad-freelist", "bad-pointer-map", "unused-page", "double-reference", "bad-pointer", "truncated",
        "structure", "malformed", "unopenable", "unreadable-page",
    )
)  # fmt: skip
"""Kinds of findings that header, freelist or pointer map give rise to."""

_OF_PAGES = frozenset(
    (
        "flipped-bit", "flipped-bits", "zeroed-page", "zeroed-run", "zeroed-sector", "lost-write", "torn-page",
        "misplaced-page", "misplaced-sector", "changed-page", "bad-checksum", "bad-page", "shifted-bytes",
    )
)  # fmt: skip
"""Kinds that say of one page that its content is wrong."""

_LOG = frozenset(("bad-wal", "bad-wal-header", "stranded-commits", "foreign-wal"))


class HeaderRepairer:
    """Derives header, freelist and pointer map from the pages: no row is read, none is lost.

    Which shape of pages it is, is proven by a walk over all trees without a single flaw. Where there is none, nothing
    is planned: then a page that no tree knows of may hold rows.
    """

    name = "repair-header"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Return one step; none where all is as it must be, or where nothing can be derived."""
        if not _concerned(case):
            return ()
        inferred = case.inferred()
        mends = _mended(case, inferred)
        if inferred.why or not inferred.differs or mends is None:
            return ()
        return (
            RepairStep(
                text=_text(inferred),
                why=_why(inferred),
                loses=_loses(inferred),
                loss=Loss.ROWS if inferred.orphans else Loss.NOTHING,
                stage=Stage.PAGES,
                mends=mends,
                task={"newlines": inferred.newlines},
            ),
        )

    def why_not(self, case: RepairCase) -> str:
        """Return why nothing is planned though the damage is of a kind that this mends; empty where it is not."""
        if not case.refused and not any(finding.kind in _KINDS for finding in case.findings):
            return ""
        return case.inferred().why

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Derive all from the copy as it is now, and write what differs."""
        from pagewarden_repair_header.mending import mend

        for step in steps[:1]:  # one is all
            mend(bench, str(step.task.get("newlines", "")))


def _concerned(case: RepairCase) -> bool:
    if case.refused:
        return True
    damage = [finding for finding in case.findings if finding.severity is Severity.DAMAGE]
    kinds = {finding.kind for finding in damage}
    if kinds & _LOG:  # it goes first: with it everything looks different
        return False
    if kinds & (_KINDS | {"mangled-newlines"}):
        return True
    # A walk over all trees is not worth while for pages of these alone: nothing on them is derived.
    names = {tree.name for tree in case.trees}
    return any(each.kind in _OF_PAGES and (each.pgno == 1 or each.object not in names) for each in damage)


def _mended(case: RepairCase, inferred: Inference) -> tuple[int, ...] | None:
    """Return the findings that would be mended, () for all, None for none of them."""
    if case.refused or inferred.newlines or _DECIDING & set(inferred.fields):
        return ()
    touched = frozenset(inferred.touched)
    mended = tuple(place for place, finding in enumerate(case.findings) if _mends(finding, touched))
    return mended or None


def _mends(finding: Finding, touched: frozenset[int]) -> bool:
    return finding.kind in _KINDS or (finding.kind in _OF_PAGES and finding.pgno in touched)


def _text(inferred: Inference) -> str:
    parts = []
    if inferred.newlines:
        parts.append(f"undo that {inferred.newlines}")
    if inferred.folded:
        parts.append("fold the -wal into the file")
    if inferred.fields:
        fields = [field for field in inferred.fields if field != "freelist" or not inferred.freelist]
        parts += [f"write the database header anew ({', '.join(fields)})"] if fields else []
    if inferred.freelist:
        pages = f"{inferred.free} pages that nothing uses" if inferred.free != 1 else "1 page that nothing uses"
        parts.append(f"make the freelist anew of {pages}" if inferred.free else "empty the freelist")
    if inferred.maps:
        count = len(inferred.maps)
        parts.append(f"derive {count} page{'s' * (count != 1)} of the pointer map from the b-trees")
    if inferred.cut:
        parts.append(f"cut {inferred.cut} bytes off the end, which no page of the database holds")
    return ", ".join(parts)


def _loses(inferred: Inference) -> str:
    if not inferred.orphans:
        return "nothing"
    pages = f"{inferred.orphans} pages look" if inferred.orphans != 1 else "1 page looks"
    return f"rows that no table leads to: {pages} like pages of a tree, which sqlite cannot reach now either"


def _why(inferred: Inference) -> str:
    reserved = f", {inferred.reserved} of which are reserved" if inferred.reserved else ""
    parts = [f"with {inferred.pages} pages of {inferred.page_size} bytes{reserved} every b-tree holds"]
    if inferred.fields:
        parts.append("user version and application id, which no page tells, stay as they are")
    if inferred.orphans:
        parts.append("header and freelist agree with each other, so that something else must have broken")
    return "; ".join(parts)
