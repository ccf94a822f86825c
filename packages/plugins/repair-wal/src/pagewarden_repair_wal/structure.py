"""The structure of a private copy with a log over it, compared with what it was without the replayed commits."""

from __future__ import annotations

import os
from pathlib import Path

from pagewarden.pages import PageSource, backend
from pagewarden.pages.structure import StructureWalk
from pagewarden.pages.walk import plan_walk
from pagewarden.sqlite.describe import describe_trees
from pagewarden.sqlite.header import page_size_of
from pagewarden.sqlite.schema import Layout
from pagewarden.structure import Flaw, FlawKind

_SECONDS = 3600.0  # of one step: the walk is bounded by the number of pages


def new_flaws(database: Path, wal: Path, served: int) -> str:
    """Say which flaw the database has with all of its log that it had not up to frame `served`; "" for none."""
    files = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (database, wal)]
    try:
        after = _flaws(files[0], files[1], None)
        before = _flaws(files[0], files[1], served) if after else {}
    finally:
        for file in files:
            os.close(file)
    added = [flaw for place, flaw in after.items() if place not in before]
    if not added:
        return ""
    more = f", and {len(added) - 1} more flaws" if len(added) > 1 else ""
    return f"page {added[0].pgno} would be wrong ({added[0].kind.name.lower().replace('_', ' ')}){more}"


def _flaws(database: int, wal: int, last_frame: int | None) -> dict[tuple[FlawKind, int, int | None], Flaw]:
    """Walk all trees of the commit that stands in the log up to a frame, or of the file alone where none does."""
    size = os.fstat(database).st_size
    scan = backend().wal_scan(wal, page_size=0, last_frame=last_frame)
    page_size = scan.page_size or page_size_of(os.pread(database, 100, 0))
    source = PageSource(
        database=database,
        page_size=page_size,
        pages=scan.pages or -(-size // page_size),
        file_size=size,
        wal=wal,
        frames=scan.map,
    )

    def read(pgno: int) -> bytes:
        page = bytearray(page_size)
        backend().read(source, pgno, 1, page)
        return bytes(page)

    first = read(1)
    schema = describe_trees(read, Layout.of(first, page_size=page_size, pages=source.pages))
    walk = StructureWalk(plan_walk(first, page_size=page_size, pages=source.pages, trees=schema.trees))
    found = {}
    done = False
    while not done:
        step = walk.step(source, _SECONDS)
        done = step.done
        found.update({(flaw.kind, flaw.pgno, flaw.cell): flaw for flaw in step.flaws})
    return found
