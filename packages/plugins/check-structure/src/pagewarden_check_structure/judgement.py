"""One check: describes the trees of the schema, lets the page reader walk them, and says what it saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence

from pagewarden.contracts import CheckOutcome, PageImage, Subject
from pagewarden.sqlite.describe import Description, describe_trees
from pagewarden.sqlite.schema import Layout
from pagewarden.structure import Collation, Flaw, FlawKind, StructureStep, Tree
from pagewarden.values import Finding, Verdict
from pagewarden_check_structure.header import judge_pointer_map
from pagewarden_check_structure.place import UNITS, position
from pagewarden_check_structure.words import KINDS, finding_of

FINDINGS = 1000
"""How many flaws become findings; the others are counted."""

_SHOWN = 50  # findings that show the bytes of their page
_NAMED = 5  # names in one sentence

Findings = Generator[Finding, None, CheckOutcome]


class Judgement:
    """One check of one commit."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._image = subject.image
        self._told = 0
        self._left_out: Counter[str] = Counter()

    def findings(self) -> Findings:
        """Yield a finding for each flaw, in the order in which they are seen."""
        image = self._image
        if not image.pages:
            return CheckOutcome()
        self._subject.progress(0, image.pages)
        first = image.page(1)
        layout = Layout.of(first, page_size=image.page_size, pages=image.pages)
        schema = describe_trees(image.page, layout)
        yield from judge_pointer_map(first, schema.trees if schema.whole else ())
        begin = position(image.page, schema.trees, image.pages, self._subject.resume)
        if (begin is None and self._subject.resume) or not schema.whole:
            self._subject.reached("")  # its tree is gone, or some are not known: no part of a whole
        step = None
        for step in image.structure(schema.trees, resume=self._subject.resume):
            flaws = [flaw for flaw in step.flaws if schema.whole or flaw.kind is not FlawKind.UNUSED]
            yield from self._step(flaws, schema.trees, layout)
            if not step.done:
                self._subject.progress(self._walked(step, schema.trees, begin or 0), image.pages)
                self._subject.reached(step.reached)
        self._subject.progress(image.pages, image.pages)
        return self._outcome(schema, step)

    def _walked(self, step: StructureStep, trees: Sequence[Tree], begin: int) -> int:
        """Return how much lies between the beginning and the place that was reached: a share of the pages."""
        image = self._image
        if step.walked:
            return image.pages
        whole = len(trees) * UNITS
        at = position(image.page, trees, image.pages, step.reached)
        return 0 if at is None or not whole else (at - begin) % whole * image.pages // whole

    def _step(self, flaws: Sequence[Flaw], trees: Sequence[Tree], layout: Layout) -> Generator[Finding, None, None]:
        kept = flaws[: FINDINGS - self._told]
        self._left_out.update(KINDS[flaw.kind] for flaw in flaws[len(kept) :])
        for flaw in kept:
            if flaw.kind is not FlawKind.TWICE:
                yield self._finding(flaw, trees)
        twice = [flaw for flaw in kept if flaw.kind is FlawKind.TWICE]
        if not twice:
            return
        # Imported here, because a sound database has no use for it, and its check is to be quick.
        from pagewarden_check_structure.users import other_users

        users: dict[int, str] = {}
        try:
            users = other_users(self._image, layout, trees, twice)
        finally:  # also where time is over: what is known by then is said
            for flaw in twice:
                user = users.get(flaw.pgno)
                yield self._finding(flaw, trees, () if user is None else (user,))

    def _finding(self, flaw: Flaw, trees: Sequence[Tree], users: Sequence[str] = ()) -> Finding:
        self._told += 1
        more = _bytes_of(self._image, flaw) if self._told <= _SHOWN else ""
        return finding_of(flaw, trees, self._image.pages, users=users, more=more)

    def _outcome(self, schema: Description, step: StructureStep | None) -> CheckOutcome:
        notes = []
        if not schema.whole:
            notes.append("the schema is too large: pages that nothing uses were not judged")
        if self._left_out:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._left_out.items()))
            notes.append(f"{self._left_out.total()} more flaws were left out: {kinds}")
        if step is not None and step.left_out:
            notes.append(f"{step.left_out} more flaws of pages with very many were only counted")
        if schema.unknown:
            notes.append(
                f"sqlite cannot parse the schema's entries for {_names(schema.unknown)}: only their pages were judged"
            )
        foreign = [tree.name for tree in schema.trees if _unknown_collation(tree)]
        if foreign:
            notes.append(
                f"the order of {_names(foreign)} was not judged where a collation of the application's decides"
            )
        if step is not None and step.unordered:
            notes.append(f"the order of {step.unordered} keys of more than 64 KiB was not judged")
        return CheckOutcome(verdict=None if schema.whole else Verdict.UNKNOWN, why="; ".join(notes))


def _unknown_collation(tree: Tree) -> bool:
    return any(column.collation is Collation.UNKNOWN for column in tree.columns[: tree.keys])


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _bytes_of(image: PageImage, flaw: Flaw) -> str:
    """Return the bytes that a flaw is about: those of the cell or free block, else of the page's header."""
    if flaw.kind in _NO_BYTES or not 1 <= flaw.pgno <= image.pages:
        return ""
    page = image.page(flaw.pgno)
    header = 100 if flaw.pgno == 1 else 0
    at, length = header, 12
    if flaw.cell is not None:
        pointer = header + (8 if page[header] & 8 else 12) + 2 * flaw.cell
        at, length = int.from_bytes(page[pointer : pointer + 2], "big"), 16
    elif flaw.kind is FlawKind.FREE_BLOCK and flaw.seen is not None:
        at, length = flaw.seen, 4
    shown = page[at : at + length]
    return f"byte {at} of page {flaw.pgno}: {shown.hex()}" if shown else ""


_NO_BYTES = (
    FlawKind.TWICE,
    FlawKind.UNUSED,
    FlawKind.UNREADABLE,
    FlawKind.POINTER_MAP,
    FlawKind.FREELIST_COUNT,
    FlawKind.PAGE_NUMBER,
)
