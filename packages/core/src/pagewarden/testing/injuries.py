"""Named injuries: what disks, cables and bugs do to a database, done on purpose to a closed copy.

An injury opens and writes the file itself, without SQLite: the file must be a private copy that nobody has open (H1),
with nothing left in a -wal or -journal. The same file, kind and seed give the same injury.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from pagewarden.errors import DatabaseNotFound, NotADatabase, RestoreRefused
from pagewarden.sqlite.btree import BTreePage, PageKind, child_pages, page_kind, parse_page
from pagewarden.sqlite.columns import TableShape, table_shape
from pagewarden.sqlite.header import HEADER_SIZE, DatabaseHeader, HeaderInvalid
from pagewarden.sqlite.owner import find_owners, leaf_pages
from pagewarden.sqlite.record import Malformed, parse_record
from pagewarden.sqlite.schema import Layout, SchemaEntry, read_schema
from pagewarden.values import InjuryReport

_TRIES = 64  # random targets looked at before all are
_SHOWN = 32  # bytes of before and after in a report


class _Copy:
    """The closed copy that is injured."""

    def __init__(self, path: Path, *, write: bool = True) -> None:
        for suffix in ("-wal", "-journal"):
            journal = path.with_name(path.name + suffix)
            if journal.exists() and journal.stat().st_size:
                raise RestoreRefused(
                    f"{journal} is not empty: SQLite would lay it over the injury",
                    hint=f"close every program that uses {path}, or injure a restored copy",
                )
        try:
            self._descriptor = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DatabaseNotFound(f"there is no file {path}") from None
        self.path = path
        self.older: _Copy | None = None
        try:
            header = DatabaseHeader.parse(os.pread(self._descriptor, HEADER_SIZE, 0))
        except HeaderInvalid as error:
            os.close(self._descriptor)
            raise NotADatabase(f"{path} cannot be injured: {error}") from error
        self.page_size = header.page_size
        self.pages = os.fstat(self._descriptor).st_size // header.page_size
        self.layout = Layout.of(self.read(1), page_size=self.page_size, pages=self.pages)
        self.schema = read_schema(self.read, self.layout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def read(self, pgno: int) -> bytes:
        data = os.pread(self._descriptor, self.page_size, (pgno - 1) * self.page_size)
        return data.ljust(self.page_size, b"\0")

    def replace(self, pgno: int, old: bytes, new: bytes, *, kind: str, seed: int, message: str) -> InjuryReport:
        """Write `new` in place of `old`, durably, and report it."""
        changed = [index for index in range(self.page_size) if old[index] != new[index]]
        first, last = changed[0], changed[-1]
        os.pwrite(self._descriptor, new, (pgno - 1) * self.page_size)
        os.fsync(self._descriptor)
        shown = slice(first, min(last + 1, first + _SHOWN))
        return InjuryReport(
            path=str(self.path),
            kind=kind,
            seed=seed,
            pgno=pgno,
            offset=first,
            length=last - first + 1,
            message=message,
            before=old[shown].hex(),
            after=new[shown].hex(),
        )

    def owner(self, pgno: int) -> str:
        """Return whose page `pgno` is, for a message."""
        owner = find_owners(self.read, [pgno], self.layout, schema=self.schema).get(pgno)
        return f" ({owner})" if owner is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Injury:
    """One kind of damage."""

    name: str
    summary: str  # one sentence: what it stands for
    needs_older: bool = False  # whether it takes an older image of the same database to work from
    inflict: Callable[[_Copy, random.Random, int], InjuryReport]

    def apply(self, path: Path, seed: int, *, older: Path | None = None) -> InjuryReport:
        """Injure the file `path`; `older` is an older, closed image of the same database.

        Raises RestoreRefused where the file is in use by a journal or offers no target, NotADatabase, DatabaseNotFound.
        """
        if self.needs_older and older is None:
            raise RestoreRefused(
                f"a {self.name} needs an older image of {path} to take the old page from",
                hint=f"pagewarden injure {path} --kind {self.name} --seed {seed} --older OLDER",
            )
        with _Copy(path) as copy:
            if not self.needs_older or older is None:
                return self.inflict(copy, random.Random(seed), seed)
            with _Copy(older, write=False) as copy.older:
                return self.inflict(copy, random.Random(seed), seed)


def _flip_bit(copy: _Copy, chance: random.Random, seed: int) -> InjuryReport:
    pgno, offset, bits, what = _text_target(copy, chance) or _payload_target(copy, chance)
    old = copy.read(pgno)
    bit = chance.choice(bits)
    new = bytearray(old)
    new[offset] ^= 1 << bit
    message = f"flipped bit {bit} of byte {offset} of page {pgno}{what}"
    return copy.replace(pgno, old, bytes(new), kind="flipped-bit", seed=seed, message=message)


def _text_target(copy: _Copy, chance: random.Random) -> tuple[int, int, range, str] | None:
    """Return a byte of text that no index, constraint or full-text search knows: SQLite's checks cannot see it change.

    Bits 0 to 4 of a byte from 0x20 on leave a byte of text: never a NUL, never a control character.
    """
    virtual = tuple(f"{entry.name}_" for entry in copy.schema if entry.kind == "table" and not entry.root)
    tables = [
        entry
        for entry in copy.schema
        if entry.kind == "table" and entry.root > 1 and not entry.name.startswith((*virtual, "sqlite_"))
    ]
    chance.shuffle(tables)
    for entry in tables:
        shape = table_shape(copy.schema, entry.name)
        if not shape.plain or set(shape.columns) <= shape.indexed:
            continue
        pages = [page for _ in range(_TRIES) if (page := _random_leaf(copy, entry, chance)) is not None]
        for page in (*pages, *leaf_pages(copy.read, entry, copy.layout)):
            targets = _text_bytes(copy, page, shape)
            if targets:
                offset, rowid, column = chance.choice(targets)
                return page.pgno, offset, range(5), f": table {entry.name}, rowid {rowid}, column {column}"
    return None


def _random_leaf(copy: _Copy, entry: SchemaEntry, chance: random.Random) -> BTreePage | None:
    """Go down from the root by chance; None where the tree does not hold together."""
    pgno = entry.root
    for _ in range(20):
        data = copy.read(pgno)
        children = [child for child in child_pages(data, pgno, copy.layout.usable) if 1 < child <= copy.pages]
        if not children:
            break
        pgno = chance.choice(children)
    try:
        page = parse_page(copy.read(pgno), pgno=pgno, usable=copy.layout.usable)
    except Malformed:
        return None
    return page if page.kind.is_leaf else None


def _text_bytes(copy: _Copy, page: BTreePage, shape: TableShape) -> list[tuple[int, int, str]]:
    """Return the bytes of text on a table leaf that nothing else depends on, as (offset, rowid, column)."""
    found: list[tuple[int, int, str]] = []
    data = copy.read(page.pgno)
    for cell in page.cells if page.kind is PageKind.TABLE_LEAF else ():
        try:
            record = parse_record(data[cell.payload : cell.payload + cell.local], cell.payload_size)
        except Malformed:
            continue
        for column, field in zip(shape.columns, record.fields, strict=False):
            if column in shape.indexed or not field.is_text or cell.rowid is None:
                continue
            begin = cell.payload + field.offset
            for offset in range(begin, min(begin + field.size, cell.payload + cell.local)):
                if data[offset] >= 0x20:
                    found.append((offset, cell.rowid, column))
    return found


def _payload_target(copy: _Copy, chance: random.Random) -> tuple[int, int, range, str]:
    """Return any byte of a row; where the database has no rows, any byte behind the header."""
    for entry in copy.schema[1:]:
        for page in leaf_pages(copy.read, entry, copy.layout) if entry.root else ():
            cells = [cell for cell in page.cells if cell.local]
            if cells:
                cell = chance.choice(cells)
                offset = chance.randrange(cell.payload, cell.payload + cell.local)
                row = "" if cell.rowid is None else f", rowid {cell.rowid}"
                return page.pgno, offset, range(8), f": {entry.kind} {entry.name}{row}"
    offset = chance.randrange(HEADER_SIZE, copy.page_size * copy.pages)
    pgno = offset // copy.page_size + 1
    return pgno, offset % copy.page_size, range(8), ": no table has a row"


def _zero_page(copy: _Copy, chance: random.Random, seed: int) -> InjuryReport:
    """Zero a page of a b-tree, as a write of an unmapped block or a sparse copy does."""
    everything = list(range(2, copy.pages + 1))
    some = chance.sample(everything, min(_TRIES, len(everything)))
    rest = chance.sample(everything, len(everything))
    skipped: list[int] = []
    for candidates in (some, rest):
        owners = find_owners(copy.read, candidates, copy.layout, schema=copy.schema, overflow=False)
        for pgno in candidates:
            owner = owners.get(pgno)
            if owner is None or not owner.object or pgno in skipped:
                continue
            old = copy.read(pgno)
            if not any(old):
                skipped.append(pgno)
                continue
            before = f"; page {skipped[0]} was all zeros already" if skipped else ""
            message = f"zeroed page {pgno} ({owner}){before}"
            return copy.replace(pgno, old, bytes(copy.page_size), kind="zeroed-page", seed=seed, message=message)
    raise RestoreRefused(f"{copy.path} has no b-tree page but its first to zero", hint="take a database with more rows")


def _lose_write(copy: _Copy, chance: random.Random, seed: int) -> InjuryReport:
    """Put an older version of one page back, as a disk does that acknowledges a write and drops it."""
    older = copy.older
    if older is None or older.page_size != copy.page_size:
        raise RestoreRefused(f"the older image is no image of {copy.path}: its pages have another size")
    pages = range(2, min(copy.pages, older.pages) + 1)
    differing = [pgno for pgno in pages if copy.read(pgno) != older.read(pgno)]
    if not differing:
        raise RestoreRefused(
            f"no page of {copy.path} differs from {older.path}, page 1 aside",
            hint="take an older image from before the last commits",
        )
    chance.shuffle(differing)
    # Best are leaves that hold the same rows in both, then leaves of tables: what SQLite's checks cannot see.
    pgno = min(differing, key=lambda pgno: _visibility(copy, older, pgno))
    message = f"page {pgno}{copy.owner(pgno)} went back to what it holds in {older.path}"
    old, new = copy.read(pgno), older.read(pgno)
    return copy.replace(pgno, old, new, kind="lost-write", seed=seed, message=message)


def _visibility(copy: _Copy, older: _Copy, pgno: int) -> int:
    """Return 0 where both versions of a page are table leaves with the same rowids, 1 where both are leaves, else 2."""
    new, old = copy.read(pgno), older.read(pgno)
    if page_kind(new, pgno) is not PageKind.TABLE_LEAF or page_kind(old, pgno) is not PageKind.TABLE_LEAF:
        return 2
    try:
        rows = [
            [cell.rowid for cell in parse_page(page, pgno=pgno, usable=copy.layout.usable).cells] for page in (new, old)
        ]
    except Malformed:
        return 2
    return 0 if rows[0] == rows[1] else 1


INJURIES: Mapping[str, Injury] = MappingProxyType(
    {
        injury.name: injury
        for injury in (
            Injury(
                name="flipped-bit",
                summary="One bit of a text column changes; no index knows the column, so SQLite's checks stay silent.",
                inflict=_flip_bit,
            ),
            Injury(
                name="lost-write",
                summary="One page goes back to an older version of itself, as if a write had never reached the disk.",
                needs_older=True,
                inflict=_lose_write,
            ),
            Injury(
                name="zeroed-page",
                summary="One page of a table or index becomes all zeros.",
                inflict=_zero_page,
            ),
        )
    }
)
"""The injuries by name."""
