"""What a page that a finding names is used for, told from little: its bytes, a backup's, or the name that was found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from pagewarden.repair.wholes import header_is_sane
from pagewarden.sqlite.btree import PageKind, page_kind
from pagewarden.sqlite.header import HEADER_SIZE
from pagewarden.sqlite.schema import Layout, SchemaEntry, read_schema

if TYPE_CHECKING:
    from pagewarden.contracts import PageImage, RepairCase
    from pagewarden.repair.sight import Sight
    from pagewarden.values import Finding

MOST_LOOKUPS = 100
"""Pages of a backup that are looked at: each costs that some of its neighbours are decompressed."""

COUNTERS = (range(24, 28), range(28, 32), range(32, 40), range(40, 44), range(92, 100))
"""Bytes of page 1 that commits change: counters, sizes and the freelist's beginning."""

_HOLDER = re.compile(r"\(on page (\d+)\)")
_NAMED = re.compile(r"\((?:.*, )?(overflow|freelist leaf|freelist trunk|ptrmap) page(?:, rowid -?\d+)?\)$")


class Role(StrEnum):
    """What a page is used for."""

    HEADER = "header"  # page 1, its first 100 bytes
    SCHEMA = "schema"  # page 1, the rest
    INDEX = "index"
    TABLE_INTERIOR = "table interior"  # of tables WITHOUT ROWID, too
    TABLE_LEAF = "table leaf"
    OVERFLOW = "overflow"
    FREELIST = "freelist"
    POINTER_MAP = "ptrmap"
    UNKNOWN = "unknown"


_BY_WORD: Mapping[str, Role] = {
    "overflow": Role.OVERFLOW,
    "freelist leaf": Role.FREELIST,
    "freelist trunk": Role.FREELIST,
    "ptrmap": Role.POINTER_MAP,
}


class Roles:
    """The roles of pages in one case."""

    def __init__(self, case: RepairCase, sight: Sight) -> None:
        self._case = case
        self._sight = sight
        self._lookups = 0  # pages that a backup was asked for

    def of(self, finding: Finding) -> Role:
        """Return what the page of a finding is used for, or was before it was damaged."""
        pgno = finding.pgno
        if pgno is None:
            return Role.UNKNOWN
        if pgno == 1:
            return Role.HEADER if self._header_differs else Role.SCHEMA
        named = _NAMED.search(finding.message)
        if named is not None:
            return _BY_WORD[named[1]]
        if finding.object is not None and self.is_index(finding.object):
            return Role.INDEX
        kind = _kind(self._sight, pgno)
        if kind is None and self._lookups < MOST_LOOKUPS:
            self._lookups += 1
            kind = _kind(self._past, pgno)
        if kind is not None:
            return self._role(kind, finding.object)
        return Role.TABLE_LEAF if finding.object in self._kinds else Role.UNKNOWN

    def of_holder(self, finding: Finding) -> Role:
        """Return what was damaged where a page is used twice: what the page is used for that holds the second pointer.

        A cell of a leaf points at overflow pages, an interior page at its children.
        """
        if "by the freelist" in finding.message:
            return Role.FREELIST
        named = _HOLDER.search(finding.message)
        kind = None if named is None else _kind(self._sight, int(named[1]))
        if kind is None:
            return Role.UNKNOWN
        role = self._role(kind, finding.object)
        return Role.OVERFLOW if role is Role.TABLE_LEAF else role

    def is_index(self, name: str) -> bool:
        """Return whether the schema knows an index of that name."""
        return self._kinds.get(name) == "index"

    def table_of(self, name: str) -> str | None:
        """Return the table that an index belongs to; the name itself of a table, None for what is not known."""
        return self._tables.get(name)

    def _role(self, kind: PageKind, name: str | None) -> Role:
        """Return what a b-tree page is used for; tables WITHOUT ROWID are kept as indexes are."""
        if kind.is_table or (name is not None and self._kinds.get(name) == "table"):
            return Role.TABLE_LEAF if kind.is_leaf else Role.TABLE_INTERIOR
        return Role.INDEX

    @cached_property
    def _kinds(self) -> Mapping[str, str]:
        """Tables and indexes: "table" or "index" by name."""
        return {entry.name: entry.kind for entry in self._schema}

    @cached_property
    def _tables(self) -> Mapping[str, str]:
        """Which table each table and index belongs to."""
        return {entry.name: entry.table for entry in self._schema}

    @cached_property
    def _schema(self) -> Sequence[SchemaEntry]:
        """The schema's entries; of a backup, where the database has none that can be read."""
        for image in (self._sight, self._past):
            if image is not None and image.pages:
                layout = Layout.of(image.page(1), page_size=image.page_size, pages=image.pages)
                entries = read_schema(image.page, layout)
                if len(entries) > 1:
                    return entries
        return ()

    @cached_property
    def _past(self) -> PageImage | None:
        return None if self._case.history is None else self._case.history.newest

    @cached_property
    def _header_differs(self) -> bool:
        """Whether the header is none that SQLite writes, or not a backup's but for what commits change."""
        first = self._case.file(0, HEADER_SIZE)
        if not header_is_sane(first):
            return True
        if self._past is None or not self._sight.pages or not self._past.pages:
            return False
        return steady(self._sight.page(1)) != steady(self._past.page(1))


def steady(first: bytes) -> bytes:
    """Return the database header of page 1 without what commits change."""
    header = bytearray(first[:HEADER_SIZE])
    for part in COUNTERS:
        header[part.start : part.stop] = bytes(len(part))
    return bytes(header)


def _kind(image: Sight | PageImage | None, pgno: int) -> PageKind | None:
    return None if image is None or not 1 < pgno <= image.pages else page_kind(image.page(pgno), pgno)
