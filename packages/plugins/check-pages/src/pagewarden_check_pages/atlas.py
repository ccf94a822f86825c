"""Whose pages these are, and which rows and columns stand on them, as far as the trees of an image tell."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from pagewarden.contracts import PageImage
from pagewarden.errors import PagewardenError
from pagewarden.sqlite.btree import BTreePage, PageKind, parse_page
from pagewarden.sqlite.columns import stored_columns
from pagewarden.sqlite.owner import Owner, find_owners
from pagewarden.sqlite.place import Place
from pagewarden.sqlite.record import Malformed
from pagewarden.sqlite.schema import Layout, SchemaEntry, read_schema

_ROWS_SHOWN = 5

ReadPage = Callable[[int], bytes]
Told = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Atlas:
    """What is known of some pages."""

    layout: Layout | None = None  # None where the image's own pages could not be read
    schema: tuple[SchemaEntry, ...] = ()
    owners: dict[int, Owner] = field(default_factory=dict)

    def enlarged(self, read: ReadPage, pgnos: Collection[int], image: PageImage) -> Atlas:
        """Return this atlas with the pages `pgnos`, whose owners are found through the trees of `image`."""
        wanted = [pgno for pgno in pgnos if pgno not in self.owners]
        if not wanted:
            return self
        try:
            layout = self.layout or Layout.of(read(1), page_size=image.page_size, pages=image.pages)
            schema = self.schema or read_schema(read, layout)
            found = find_owners(read, wanted, layout, schema=schema)
        except PagewardenError:  # the image is damaged there: its sums still tell which pages differ
            return self
        return replace(self, layout=layout, schema=schema, owners={**self.owners, **found})

    def object_of(self, pgno: int) -> str | None:
        """Return the table or index that a page belongs to, if that is known."""
        owner = self.owners.get(pgno)
        return owner.object if owner else None

    def describe(self, pgno: int) -> str:
        """Return a page's number and what it is used for."""
        owner = self.owners.get(pgno)
        return f"page {pgno} ({owner})" if owner else f"page {pgno}"


def say_place(place: Place, owner: Owner, atlas: Atlas) -> str:
    """Return what stands at a place, in words."""
    row = f"rowid {place.rowid}, " if place.rowid is not None else ""
    if place.column is None:
        return f"{row}{place.part}"
    names = stored_columns(atlas.schema, owner.object) if owner.object else ()
    name = names[place.column] if place.column < len(names) else f"number {place.column + 1}"
    return f"{row}column {name}"


def differing_rows(pgno: int, expected: bytes, seen: bytes, atlas: Atlas) -> tuple[str, int | None]:
    """Return which rows two versions of a table leaf do not have in common, in words, and the row if it is just one.

    Nothing where they are not both whole leaves of a table.
    """
    versions = []
    for data in (expected, seen):
        try:
            page = parse_page(data, pgno=pgno, usable=atlas.layout.usable) if atlas.layout else None
        except Malformed:
            return "", None
        if page is None or page.kind is not PageKind.TABLE_LEAF or page.bad:
            return "", None
        versions.append(_contents(page, data))
    differing = sorted(
        row for row in versions[0].keys() | versions[1].keys() if versions[0].get(row) != versions[1].get(row)
    )
    if not differing:
        return "", None
    shown = ", ".join(map(str, differing[:_ROWS_SHOWN]))
    more = f" and {len(differing) - _ROWS_SHOWN} more" if len(differing) > _ROWS_SHOWN else ""
    word = "rowid" if len(differing) == 1 else "rowids"
    return f"; {word} {shown}{more}", differing[0] if len(differing) == 1 else None


def _contents(page: BTreePage, data: bytes) -> dict[int, bytes]:
    return {cell.rowid: data[cell.offset : cell.end] for cell in page.cells if cell.rowid is not None}
