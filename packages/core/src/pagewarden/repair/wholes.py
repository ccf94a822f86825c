"""What explains all damage of a file at once, told from a few of its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagewarden.contracts import Damage
from pagewarden.sqlite.header import HEADER_SIZE, DatabaseHeader, HeaderInvalid

if TYPE_CHECKING:
    from pagewarden.contracts import RepairCase

_SAMPLE = 1 << 20  # bytes in which newlines are counted
_FEWEST = 24  # newlines that tell anything
_LOOKS = 64  # pages whose first byte is looked at
_KINDS = frozenset((0, 2, 5, 10, 13))  # of b-tree pages; overflow and trunk pages mostly begin with 0
_PAGE_SIZES = tuple(1 << power for power in range(12, 8, -1)) + tuple(1 << power for power in range(13, 17))


def explains_everything(case: RepairCase) -> Damage | None:
    """Return the one pattern that all damage comes from, None where none does."""
    if _is_mangled(case):
        return Damage.NEWLINES
    if not case.refused:
        return None
    first = case.file(0, HEADER_SIZE)
    if len(first) < HEADER_SIZE:
        return Damage.TRUNCATED
    if not _has_pages(case):
        return Damage.GARBAGE
    return Damage.SCHEMA if header_is_sane(first) else Damage.HEADER


def header_is_sane(first: bytes) -> bool:
    """Return whether the fields of a header that SQLite insists on are what it writes."""
    try:
        header = DatabaseHeader.parse(first)
    except HeaderInvalid:
        return False
    return (
        header.write_version in (1, 2)
        and header.read_version in (1, 2)
        and header.page_size - header.reserved >= 480
        and first[21:24] == b"\x40\x20\x20"
        and header.schema_format in (0, 1, 2, 3, 4)
        and header.text_encoding in (0, 1, 2, 3)
    )


def _is_mangled(case: RepairCase) -> bool:
    """Whether the file is known to be mangled, or every LF in it has a CR before it: of any other file few have."""
    if any(finding.kind == "mangled-newlines" for finding in case.findings):
        return True
    if case.history is not None and getattr(case.history, "mangled", False):
        return True
    size = case.facts.file_size
    page_size = int.from_bytes(case.file(16, 2), "big")
    if page_size >= 512 and size % page_size == 0:
        return False  # it would have grown, and hardly by whole pages
    sample = case.file(0, min(size, _SAMPLE))
    newlines = sample.count(b"\n")
    return newlines >= _FEWEST and sample.count(b"\r\n") == newlines


def _has_pages(case: RepairCase) -> bool:
    """Whether pages of b-trees stand in the file, of whatever size."""
    return any(_looks_like_pages(case, size) for size in _PAGE_SIZES)


def _looks_like_pages(case: RepairCase, page_size: int) -> bool:
    pages = case.facts.file_size // page_size
    if not pages:
        return False
    if pages == 1:
        return case.file(HEADER_SIZE, 1) in (b"\x05", b"\x0d")
    step = max(1, (pages - 1) // _LOOKS)
    kinds = [case.file(number * page_size, 1) for number in range(1, pages, step)]
    trees = sum(bool(kind) and kind[0] in _KINDS - {0} for kind in kinds)
    known = sum(bool(kind) and kind[0] in _KINDS for kind in kinds)
    return trees > 0 and known >= 0.75 * len(kinds)
