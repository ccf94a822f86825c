"""Whether the restore points of a repository are of the database under repair: another one's rows must never get in.

| what shows that they are | |
|---|---|
| the restore point was taken of the file at this path, on this machine | certain |
| the state directory remembers a backup or restore of this path on a timeline that is there | certain |
| the file is what a transfer as text makes of the restore point | certain |
| a tenth of its pages, or of its rows, stand in the file, too | alike: the contents alone say so |

Databases of one application have the same schema, and may have some of their rows in common. So where nothing but the
contents speaks for a restore point, a repairer has to look at each table that it would put rows of it into.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pagewarden import lineage, standing
from pagewarden.errors import RepairRefused
from pagewarden.sqlite.btree import PageKind, child_pages, page_kind, parse_page
from pagewarden.sqlite.header import page_size_of
from pagewarden.sqlite.record import Malformed

if TYPE_CHECKING:
    from pagewarden.check.baseline import StoredImage
    from pagewarden.repair.history import History
    from pagewarden.repository import Repository
    from pagewarden.runtime import Runtime

_ALIKE = 0.1  # of the pages or rows of the smaller of both
_LOOKED_AT = 64  # equal pages whose contents are looked at: those of zeros, or of an empty table, are equal anywhere
_FEWEST_BYTES = 32  # of a page that are not zero; half as many of a row
_MOST_PAGES = 8192  # from the first on, whose rows are compared
_AT_ONCE = 256  # pages

Read = Callable[[range], list[bytes]]
"""Returns the bytes of pages that follow each other."""


def is_certain(history: History, runtime: Runtime, path: str, repository: Repository) -> bool:
    """Return whether the restore points of `history` are known to be of the database at the real path `path`.

    False where only the contents say so. Raises RepairRefused where these do not, either.
    """
    facts, name = history.manifest.facts, history.manifest.database
    if standing.here(facts, path):
        return True
    known, place = lineage.read_lineage(runtime.state, path), lineage.place_of(repository.url, name)
    remembered = {each.timeline for each in (known.backups.get(place), known.coming.get(place), known.restored) if each}
    if not remembered.isdisjoint(each.position.timeline for each in history.manifests):
        return True
    if history.mangled:
        return True
    if _is_alike(runtime, path, history.newest):
        return False
    raise RepairRefused(
        f"nothing shows that {name} in {repository.url} is a backup of {path}: it was taken of {facts.path} on "
        f"{facts.host}, and hardly a page or row of it stands in this file",
        hint=f"name the repository and the --db of this database; {repository.command('backups')} lists what is there",
    )


def _is_alike(runtime: Runtime, path: str, image: StoredImage) -> bool:
    """Return whether a tenth of the pages or rows of a restore point stand in the bare file, or of the file's in it."""
    reader = runtime.reader

    read_stored: Read = partial(reader.chain_pages, image.chain)
    schema = _schema_pages(read_stored, image.pages)
    there: set[int] | None = None
    for page_size in dict.fromkeys((image.page_size, page_size_of(reader.file_header(path)))):
        if not page_size:
            continue
        handle, pages = reader.open_file(path, page_size)
        try:
            if page_size == image.page_size:
                both = min(pages, image.pages)
                equal = _equal(reader.sums(handle, 1, both), image.sums(1, both), schema)
                if len(equal) * _share_that_tells(equal, read_stored) >= max(1, (both - len(schema)) * _ALIKE):
                    return True
            rows = _rows(partial(reader.pages, handle), pages, ())
        finally:
            reader.release(handle)
        there = _rows(read_stored, image.pages, schema) if there is None else there
        smaller = min(len(rows), len(there))
        if smaller and len(rows & there) >= smaller * _ALIKE:
            return True
    return False


def _equal(sums: bytes, known: bytes, without: Collection[int]) -> list[int]:
    """Return the numbers of the pages whose sums are the same."""
    return [
        pgno
        for pgno in range(1, len(sums) // 8 + 1)
        if pgno not in without and sums[pgno * 8 - 8 : pgno * 8] == known[pgno * 8 - 8 : pgno * 8]
    ]


def _share_that_tells(equal: Sequence[int], read: Read) -> float:
    """Return which part of equal pages have contents that another database hardly has."""
    some = equal[:: max(1, len(equal) // _LOOKED_AT)]
    telling = sum(len(data) - data.count(0) >= _FEWEST_BYTES for pgno in some for data in read(range(pgno, pgno + 1)))
    return telling / max(1, len(some))


def _schema_pages(read: Read, pages: int) -> set[int]:
    """Return the pages of the schema of a restore point: databases of one application have it in common."""
    found, stack = {1}, [1] if pages else []
    while stack and len(found) < _MOST_PAGES:
        pgno = stack.pop()
        (data,) = read(range(pgno, pgno + 1))
        below = [each for each in child_pages(data, pgno, len(data)) if 1 < each <= pages and each not in found]
        found.update(below)
        stack += below
    return found


def _rows(read: Read, pages: int, without: Collection[int]) -> set[int]:
    """Return what tells rows, and entries of indexes, from others: of those on the first pages."""
    found: set[int] = set()
    for first in range(1, min(pages, _MOST_PAGES) + 1, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, pages + 1))
        for pgno, data in zip(numbers, read(numbers), strict=True):
            if pgno not in without:
                found.update(_rows_of(data, pgno))
    return found


def _rows_of(data: bytes, pgno: int) -> Iterator[int]:
    if page_kind(data, pgno) not in (PageKind.TABLE_LEAF, PageKind.INDEX_LEAF):
        return
    try:
        page = parse_page(data, pgno=pgno, usable=len(data))
    except Malformed:
        return
    for cell in page.cells:
        if cell.local >= _FEWEST_BYTES // 2:
            yield hash((cell.rowid, bytes(data[cell.payload : cell.payload + cell.local])))
