"""What a flaw is called, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pagewarden.structure import Flaw, FlawKind, Tree
from pagewarden.values import Finding, Severity

KINDS: Mapping[FlawKind, str] = {
    FlawKind.PAGE_TYPE: "bad-page",
    FlawKind.PAGE_NUMBER: "bad-pointer",
    FlawKind.PAGE_HEADER: "bad-page",
    FlawKind.CELL_POINTER: "bad-cell",
    FlawKind.CELL_SIZE: "bad-cell",
    FlawKind.CELL_OVERLAP: "bad-cell",
    FlawKind.FREE_BLOCK: "bad-cell",
    FlawKind.FRAGMENTS: "bad-cell",
    FlawKind.ROWID_ORDER: "out-of-order",
    FlawKind.KEY_ORDER: "out-of-order",
    FlawKind.DEPTH: "out-of-order",
    FlawKind.OVERFLOW_LENGTH: "bad-overflow",
    FlawKind.TWICE: "double-reference",
    FlawKind.UNUSED: "unused-page",
    FlawKind.FREELIST_COUNT: "bad-freelist",
    FlawKind.FREELIST_TRUNK: "bad-freelist",
    FlawKind.POINTER_MAP: "bad-pointer-map",
    FlawKind.RECORD_HEADER: "bad-record",
    FlawKind.SERIAL_TYPE: "bad-record",
    FlawKind.NOT_NULL: "not-null",
    FlawKind.STRICT_TYPE: "wrong-type",
    FlawKind.EMPTY_PAGE: "bad-page",
    FlawKind.UNREADABLE: "unreadable-page",
}
"""The kinds of docs/damage.md."""

_FREELIST = "the freelist"
_MAP_TYPES = {
    1: "a root page",
    2: "a free page",
    3: "the first overflow page of a cell on page {}",
    4: "the overflow page behind page {}",
    5: "a child of page {}",
}


def finding_of(flaw: Flaw, trees: Sequence[Tree], pages: int, *, users: Sequence[str] = (), more: str = "") -> Finding:
    """Return what a flaw is to people.

    `users` are others who use a page that is used twice, as far as they are known; `more` is further evidence.
    """
    tree = None if flaw.tree is None else trees[flaw.tree]
    column = "" if tree is None or flaw.column is None else _column(tree, flaw.column)
    kind = KINDS[flaw.kind]
    if tree is None and flaw.kind is FlawKind.PAGE_NUMBER:
        kind = "bad-freelist"
    return Finding(
        kind=kind,
        severity=Severity.VIOLATION if flaw.kind is FlawKind.NOT_NULL else Severity.DAMAGE,
        pgno=flaw.pgno if 1 <= flaw.pgno <= pages else None,
        object=None if tree is None else tree.name,
        rowid=flaw.rowid,
        message=_sentence(flaw, _FREELIST if tree is None else tree.name, column, users),
        evidence="; ".join(filter(None, (_numbers(flaw), more))),
    )


def _column(tree: Tree, column: int) -> str:
    named = tree.columns[column].name if column < len(tree.columns) else ""
    return named or f"number {column}"


def _numbers(flaw: Flaw) -> str:
    """Return what was expected and seen; entries of a ptrmap page as their two numbers."""
    if flaw.kind is FlawKind.POINTER_MAP:
        expected, seen = ((value >> 32, value & 0xFFFFFFFF) for value in (flaw.expected or 0, flaw.seen or 0))
        return f"expected type {expected[0]} and page {expected[1]}, seen type {seen[0]} and page {seen[1]}"
    numbers = (("expected", flaw.expected), ("seen", flaw.seen))
    return ", ".join(f"{word} {number}" for word, number in numbers if number is not None)


def _sentence(flaw: Flaw, owner: str, column: str, users: Sequence[str]) -> str:
    match flaw.kind:
        case FlawKind.UNUSED:
            last = flaw.pgno + (flaw.seen or 1) - 1
            which = f"page {flaw.pgno} is" if last == flaw.pgno else f"pages {flaw.pgno} to {last} are"
            return f"{which} in no table, no index and not in the freelist"
        case FlawKind.TWICE:
            return _twice(flaw, owner, users)
        case FlawKind.FREELIST_COUNT:
            return f"the header counts {flaw.expected} free pages, and the freelist has {flaw.seen}"
        case FlawKind.POINTER_MAP:
            expected, seen = (_map_entry(value or 0) for value in (flaw.expected, flaw.seen))
            return f"page {flaw.pgno} of {owner} is {expected}, but its ptrmap entry says that it is {seen}"
        case FlawKind.UNREADABLE:
            return f"page {flaw.pgno} of {owner} cannot be read: the disk refuses it"
        case FlawKind.PAGE_NUMBER:
            return _wrong_pointer(flaw, owner)
        case _:
            row = "" if flaw.rowid is None else f", rowid {flaw.rowid}"
            cell = "" if flaw.cell is None else f", cell {flaw.cell}"
            return f"page {flaw.pgno} of {owner}{cell}{row}: {_clause(flaw, column)}"


def _clause(flaw: Flaw, column: str) -> str:
    """Return what is wrong, where the place was named already."""
    expected, seen = flaw.expected, flaw.seen
    match flaw.kind:
        case FlawKind.PAGE_TYPE:
            return f"its first byte is {seen}, which is no b-tree page of this kind"
        case FlawKind.PAGE_HEADER:
            return f"its header says {seen} where {expected} is the bound"
        case FlawKind.EMPTY_PAGE:
            return "it has no cells, which only the root page of an empty tree may"
        case FlawKind.CELL_POINTER:
            return f"the cell begins at byte {seen}, where none can"
        case FlawKind.CELL_SIZE:
            return f"the cell ends at byte {seen}, behind the page's last byte"
        case FlawKind.CELL_OVERLAP:
            return f"byte {seen} is used twice"
        case FlawKind.FREE_BLOCK:
            return f"the chain of free blocks breaks at byte {seen}"
        case FlawKind.FRAGMENTS:
            return f"{seen} bytes are in no cell and no free block, and its header counts {expected}"
        case FlawKind.ROWID_ORDER:
            return f"the rowid is out of order: it should be on the other side of {expected}"
        case FlawKind.KEY_ORDER:
            other = "the key before it" if flaw.other is None else f"what page {flaw.other} allows"
            return f"the key is out of order: it contradicts {other}"
        case FlawKind.DEPTH:
            return f"it is on level {seen} of the tree, where {expected} is right"
        case FlawKind.OVERFLOW_LENGTH:
            return f"the overflow chain has {_pages(flaw)}, and the payload needs {expected}"
        case FlawKind.FREELIST_TRUNK:
            return f"it counts {seen} leaves, and has room for {expected}"
        case FlawKind.RECORD_HEADER if column:
            return f"the record has {seen} columns, and {expected} are its key"
        case FlawKind.RECORD_HEADER:
            claims = "claims to take more than there is" if seen is None else f"adds up to {seen} bytes"
            return f"the record {claims}, and its payload has {expected}"
        case FlawKind.SERIAL_TYPE:
            return f"column {column} has the reserved serial type {seen}"
        case FlawKind.NOT_NULL:
            return f"column {column} is NULL, and declared NOT NULL"
        case _:
            return f"column {column} of this STRICT table may not hold a value of serial type {seen}"


def _pages(flaw: Flaw) -> str:
    longer = flaw.seen is not None and flaw.expected is not None and flaw.seen > flaw.expected
    return f"{flaw.expected} pages and goes on" if longer else f"{flaw.seen} pages"


def _map_entry(value: int) -> str:
    kind, parent = value >> 32, value & 0xFFFFFFFF
    return _MAP_TYPES.get(kind, f"of type {kind}").format(parent)


def _twice(flaw: Flaw, owner: str, users: Sequence[str]) -> str:
    here = owner if flaw.other is None else f"{owner} (on page {flaw.other})"
    if not users:
        return f"page {flaw.pgno} is used twice, once by {here}"
    return f"page {flaw.pgno} is used twice: by {' and by '.join((*users, here))}"


def _wrong_pointer(flaw: Flaw, owner: str) -> str:
    if flaw.pgno == flaw.seen:
        return f"the root page of {owner} is said to be page {flaw.seen}, which can be none"
    cell = "" if flaw.cell is None else f", cell {flaw.cell}"
    row = "" if flaw.rowid is None else f", rowid {flaw.rowid}"
    return f"page {flaw.pgno} of {owner}{cell}{row}: it points to page {flaw.seen}, which it cannot"
