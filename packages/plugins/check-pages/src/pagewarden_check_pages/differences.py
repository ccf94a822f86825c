"""Pages that differ from a baseline which is the database's present commit: each is damage, and gets a name.

What a page should hold is known, so what happened to it can be told: all zeros, one bit, what it held earlier, what
belongs to another page. Whose page it is and which row and column a byte belongs to is read from the baseline, which is
intact, never from the database under judgement.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pagewarden.contracts import Baseline, PageImage
from pagewarden.errors import PagewardenError
from pagewarden.sqlite.btree import BTreePage, PageKind, parse_page
from pagewarden.sqlite.columns import stored_columns
from pagewarden.sqlite.owner import Owner, find_owners
from pagewarden.sqlite.place import Place, find_place
from pagewarden.sqlite.record import Malformed
from pagewarden.sqlite.schema import Layout, SchemaEntry, read_schema
from pagewarden.values import Finding, Severity
from pagewarden_check_pages.sanity import only_counters

_SWAPPED = 64  # differing pages among which a misplaced one is looked for
_ROWS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Atlas:
    """What the baseline knows of the pages that differ."""

    layout: Layout | None = None  # None where the baseline's own pages could not be read
    schema: tuple[SchemaEntry, ...] = ()
    owners: dict[int, Owner] = field(default_factory=dict)

    def object_of(self, pgno: int) -> str | None:
        """Return the table or index that a page belongs to, if that is known."""
        owner = self.owners.get(pgno)
        return owner.object if owner else None

    def describe(self, pgno: int) -> str:
        """Return a page's number and what it is used for."""
        owner = self.owners.get(pgno)
        return f"page {pgno} ({owner})" if owner else f"page {pgno}"


def draw_atlas(baseline: Baseline, pgnos: Collection[int], told: Callable[[], None]) -> Atlas:
    """Find out whose the pages `pgnos` are. `told` is called for every page that is read."""

    def read(pgno: int) -> bytes:
        told()
        return baseline.page(pgno)

    try:
        layout = Layout.of(read(1), page_size=baseline.page_size, pages=baseline.pages)
        schema = read_schema(read, layout)
        return Atlas(layout=layout, schema=schema, owners=find_owners(read, pgnos, layout, schema=schema))
    except PagewardenError:  # the baseline itself is damaged there: its sums still tell which pages differ
        return Atlas()


def rightful_places(baseline: Baseline, pgnos: Collection[int]) -> dict[bytes, int]:
    """Return where the content of the first differing pages belongs: what is looked for on the others."""
    places: dict[bytes, int] = {}
    for pgno in sorted(pgnos)[:_SWAPPED]:
        try:
            places.setdefault(baseline.page(pgno), pgno)
        except PagewardenError:  # the baseline itself is damaged there, and its page cannot be found elsewhere
            continue
    return places


def name_difference(
    pgno: int,
    image: PageImage,
    baseline: Baseline,
    older: Sequence[PageImage],
    atlas: Atlas,
    places: Mapping[bytes, int],
) -> Finding:
    """Return the finding for one page that differs; `places` says where content belongs that may have gone astray."""
    seen = image.page(pgno)
    sums = (baseline.sums(pgno, 1), image.sums(pgno, 1))
    evidence = f"expected page sum {_hex(sums[0])}, seen {_hex(sums[1])}"
    where = atlas.describe(pgno)
    try:
        expected = baseline.page(pgno)
    except PagewardenError as error:
        message = f"{where} differs, and the baseline's own cannot be read: {error}"
        return _damage("changed-page", pgno, atlas, message, evidence)
    if not any(seen):
        return _damage("zeroed-page", pgno, atlas, f"{where} is all zeros", evidence)
    if pgno == 1 and only_counters(expected, seen):
        message = "page 1 differs in the header's counters alone: another program copied the database, or wrote nothing"
        return Finding(kind="other-counters", severity=Severity.NOTICE, pgno=1, message=message, evidence=evidence)
    difference = int.from_bytes(expected, "big") ^ int.from_bytes(seen, "big")
    if difference.bit_count() == 1:
        return _flipped(pgno, len(seen), difference, seen, baseline, atlas, evidence)
    rows = _rows(pgno, expected, seen, atlas)
    for number, image_then in enumerate(older, 1):
        if _held(image_then, pgno, image.page_size, sums[1]):
            position = getattr(image_then, "position", None)
            when = f"at {position}" if position is not None else f"{number} images ago"
            message = f"{where} went back to what it held {when}: a write was lost{rows.text}"
            return _damage("lost-write", pgno, atlas, message, evidence, rows.only)
    other = places.get(seen)
    if other is not None:
        message = f"{where} holds what belongs to {atlas.describe(other)}: a write went to the wrong place"
        return _damage("misplaced-page", pgno, atlas, message, evidence)
    changed = [index for index in range(len(seen)) if seen[index] != expected[index]]
    message = f"{len(changed)} bytes of {where} differ, from byte {changed[0]} to byte {changed[-1]}{rows.text}"
    return _damage("changed-page", pgno, atlas, message, evidence, rows.only)


def _damage(kind: str, pgno: int, atlas: Atlas, message: str, evidence: str, rowid: int | None = None) -> Finding:
    owner = atlas.owners.get(pgno)
    return Finding(
        kind=kind,
        severity=Severity.DAMAGE,
        pgno=pgno,
        object=atlas.object_of(pgno),
        rowid=rowid if rowid is not None or owner is None else owner.rowid,
        message=message,
        evidence=evidence,
    )


def _held(image: PageImage, pgno: int, page_size: int, page_sum: bytes) -> bool:
    """Whether an older image held the page whose sum is `page_sum`. One that cannot be read is no evidence."""
    try:
        return image.page_size == page_size and pgno <= image.pages and image.sums(pgno, 1) == page_sum
    except PagewardenError:
        return False


def _flipped(
    pgno: int, size: int, difference: int, seen: bytes, baseline: Baseline, atlas: Atlas, evidence: str
) -> Finding:
    bit = difference.bit_length() - 1
    offset, bit = size - 1 - bit // 8, bit % 8
    value = seen[offset]
    message = f"bit {bit} of byte {offset} of {atlas.describe(pgno)} flipped"
    evidence += f"; byte {offset} was 0x{value ^ (1 << bit):02x}, is 0x{value:02x}"
    owner = atlas.owners.get(pgno)
    if owner is None or atlas.layout is None:
        return _damage("flipped-bit", pgno, atlas, message, evidence)
    place = find_place(baseline.page, owner, offset, atlas.layout)
    return _damage("flipped-bit", pgno, atlas, f"{message}: {_say(place, owner, atlas)}", evidence, place.rowid)


def _say(place: Place, owner: Owner, atlas: Atlas) -> str:
    row = f"rowid {place.rowid}, " if place.rowid is not None else ""
    if place.column is None:
        return f"{row}{place.part}"
    names = stored_columns(atlas.schema, owner.object) if owner.object else ()
    name = names[place.column] if place.column < len(names) else f"number {place.column + 1}"
    return f"{row}column {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Which rows two versions of a table leaf do not have in common."""

    text: str = ""
    only: int | None = None  # the row, where it is just one


def _rows(pgno: int, expected: bytes, seen: bytes, atlas: Atlas) -> _Rows:
    """Compare two versions of a page row by row; nothing where they are not both whole leaves of a table."""
    versions = []
    for data in (expected, seen):
        try:
            page = parse_page(data, pgno=pgno, usable=atlas.layout.usable) if atlas.layout else None
        except Malformed:
            return _Rows()
        if page is None or page.kind is not PageKind.TABLE_LEAF or page.bad:
            return _Rows()
        versions.append(_contents(page, data))
    differing = sorted(
        row for row in versions[0].keys() | versions[1].keys() if versions[0].get(row) != versions[1].get(row)
    )
    if not differing:
        return _Rows()
    shown = ", ".join(map(str, differing[:_ROWS_SHOWN]))
    more = f" and {len(differing) - _ROWS_SHOWN} more" if len(differing) > _ROWS_SHOWN else ""
    word = "rowid" if len(differing) == 1 else "rowids"
    return _Rows(text=f"; {word} {shown}{more}", only=differing[0] if len(differing) == 1 else None)


def _contents(page: BTreePage, data: bytes) -> dict[int, bytes]:
    return {cell.rowid: data[cell.offset : cell.end] for cell in page.cells if cell.rowid is not None}


def _hex(page_sum: bytes) -> str:
    """Return a page sum as people compare it: the number, in hexadecimal."""
    return f"{int.from_bytes(page_sum, 'little'):016x}"
