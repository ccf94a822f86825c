"""Which schema format a database has, where its header does not say: only the order of its indexes tells."""

from __future__ import annotations

import struct

from pagewarden.pages.structure import StructureWalk
from pagewarden.pages.walk import plan_walk
from pagewarden.repair.derivation import Derivation, read_page
from pagewarden.sqlite.describe import describe_trees
from pagewarden.sqlite.header import HEADER_SIZE
from pagewarden.sqlite.schema import Layout
from pagewarden.structure import FlawKind

_FORMATS = (4, 1)  # from 4 on, DESC in an index means what it says
_STEP = 0.5  # seconds


def schema_format(derivation: Derivation) -> int:
    """Return 4 or 1; 0 where what stands in the header can be, or where the format makes no difference."""
    (stated,) = struct.unpack_from(">I", derivation.first, 44)
    if 1 <= stated <= 4 or not any("DESC" in entry.sql.upper() for entry in derivation.entries):
        return 0
    return min(_FORMATS, key=lambda number: _disorder(derivation, number))


def _disorder(derivation: Derivation, number: int) -> int:
    """Return how many keys are out of order if the format is `number`."""
    source = derivation.source
    header = derivation.header[:44] + struct.pack(">I", number) + derivation.header[48:HEADER_SIZE]
    first = header + derivation.first[HEADER_SIZE:]

    def read(pgno: int) -> bytes:
        return first if pgno == 1 else read_page(source, pgno)

    layout = Layout.of(first, page_size=source.page_size, pages=source.pages)
    trees = describe_trees(read, layout).trees
    walk = StructureWalk(plan_walk(first, page_size=source.page_size, pages=source.pages, trees=trees, users=True))
    found = 0
    done = False
    while not done:
        step = walk.step(source, _STEP)
        done = step.done
        found += sum(flaw.kind is FlawKind.KEY_ORDER for flaw in step.flaws)
    return found
