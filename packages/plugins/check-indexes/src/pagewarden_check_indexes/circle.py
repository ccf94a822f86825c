"""The order in which indexes are judged: a round that may begin anywhere, and how far along it a place is.

An index is judged by its table's rows, in the order of their rowids, and then as a whole: its entries are counted.
Both are told in units of a rowid, so that the parts that several runs judge can be added up.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from pagewarden.sqlite.index import IndexName, rowid_range

ROWS_DONE = (1 << 63) - 1
"""The place in an index whose rows were looked up and whose entries were not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An index, or the rows of its table between two rowids."""

    name: IndexName
    number: int  # of the index
    after: int | None = None
    until: int | None = None
    totals: bool = True  # whether its entries are counted, too


class Round:
    """All indexes, from the place that an earlier run reached, and round to it."""

    def __init__(self, connection: sqlite3.Connection, names: Sequence[IndexName], resume: str) -> None:
        """`resume` is a place, or anything else to begin with the first index."""
        self._ranges = [rowid_range(connection, name) for name in names]
        self._before = [0]  # units of the indexes before each
        for first, last in self._ranges:
            self._before.append(self._before[-1] + 2 * (last - first + 1))
        self.total = self._before[-1]
        self.parts = _parts(names, resume)
        self._begin = self._position(self.parts[0], self.parts[0].after) if self.parts else 0

    def done(self, part: Part, after: int | None) -> int:
        """Return the units between the beginning and a place in `part`."""
        at = self._position(part, after) - self._begin
        again = part is self.parts[-1] and part.until is not None  # the first one's beginning
        return min(at + self.total, self.total) if again else at % self.total

    def _position(self, part: Part, after: int | None) -> int:
        before, (first, last) = self._before[part.number], self._ranges[part.number]
        return before if after is None else before + min(max(after - first + 1, 0), last - first + 1)


def _parts(names: Sequence[IndexName], resume: str) -> list[Part]:
    parts = [Part(name=name, number=number) for number, name in enumerate(names)]
    place = _read_place(resume)
    if place is None:
        return parts
    # Where an index is gone, the one that follows it in their order is next.
    at = next((number for number, name in enumerate(names) if name.name >= place[0]), 0)
    rest = parts[at + 1 :] + parts[:at]
    if place[1] is None or not parts or names[at].name != place[0]:
        return [*parts[at : at + 1], *rest]
    later = Part(name=names[at], number=at, after=place[1])
    return [later, *rest, Part(name=names[at], number=at, until=place[1], totals=False)]


def write_place(name: str, after: int | None) -> str:
    """Return the place of an index whose rows up to the rowid `after` were looked up."""
    return json.dumps([name, after])


def _read_place(text: str) -> tuple[str, int | None] | None:
    """Understand what `write_place` wrote; None for anything else, as another version may have written it."""
    try:
        name, after = json.loads(text)
    except (ValueError, TypeError):
        return None
    return (name, after) if isinstance(name, str) and (after is None or type(after) is int) else None
