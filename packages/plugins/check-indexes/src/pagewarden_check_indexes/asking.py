"""Compares an index with its table by asking SQLite; the native module will take this module's place.

1. `compare_rows`: some rows of the table, each looked up in the index with all that its entry must hold. A look-up that
   names the rowid, too, takes one descent, however many rows share a key. What is not found is missing, or wrong.
2. `compare_totals`: the entries of the index are counted, and so are the rows. If every row was found and the numbers
   are equal, there is no entry beside those of the rows. Entries of one unique key follow each other, so doubles are
   found in one pass. Rows with a NULL in their key have no place of their own in a unique index, where SQLite does not
   descend by rowid; they are compared as a set.

Each is a statement of its own that begins and ends a read transaction: rows are taken in portions, so that a table of
any size holds up no checkpoint for long (H8).

| for four indexes of a million rows, seconds | |
|---|---|
| PRAGMA integrity_check(table): stops at 100 messages (H6), names no rowids, one transaction for the table | 11.7 |
| this | 10.1 |
| EXCEPT of table and index: sorts the table for each index, in temporary files; blind within a collation | 7.0 |
| sums of hashes, taken in Python: blind where SQLite computes an indexed expression from the table | 6.1 |
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from pagewarden.sqlite.index import Index
from pagewarden.sqlite.names import quote

PORTION = 5_000
"""Rows that one statement looks up."""

SHOWN = 100
"""Characters of a key that are shown."""

_SHOWN_AT_MOST = 1000  # characters of all columns together

_FIRST, _LAST = -(1 << 63), (1 << 63) - 1  # rowids


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A row or an entry that index and table disagree about."""

    rowid: int | None  # None in a table WITHOUT ROWID
    key: str  # as SQL quotes it, at most SHOWN characters of each column, and the first ones of many columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What some rows of a table showed."""

    missing: tuple[Place, ...]  # rows of which the index has no entry, or another one
    reached: int | None  # the last rowid that was looked up; None once there are no more rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the index as a whole showed."""

    rows: int  # that must have an entry
    entries: int
    missing: tuple[Place, ...]  # rows with a NULL in the key of a unique index, of which it has no entry
    strange: tuple[Place, ...]  # entries of no row, or with another key than their row
    doubles: tuple[Place, ...]  # keys of a unique index that have several entries; the first one's rowid


def compare_rows(
    connection: sqlite3.Connection, index: Index, *, after: int | None, until: int | None, most: int
) -> Rows:
    """Look rows up in the index: those with a rowid above `after` and up to `until`, PORTION of them at a time.

    At most `most` missing ones are named. A table WITHOUT ROWID is looked through at once.
    Raises sqlite3.DatabaseError.
    """
    bounds: tuple[int, ...] = ()
    reached = None
    portion = ""
    if index.rowid:
        first = _FIRST if after is None else min(after, _LAST - 1) + 1
        last = _LAST if until is None else until
        row = connection.execute(
            f"SELECT {index.rowid} FROM {index.rows} WHERE {index.rowid} BETWEEN ? AND ? "
            f"ORDER BY {index.rowid} LIMIT 1 OFFSET {PORTION - 1}",
            (first, last),
        ).fetchone()
        reached = None if row is None else int(row[0])
        bounds, portion = (first, last if reached is None else reached), f"{index.rowid} BETWEEN ? AND ?"
    limits = [portion, *(_present(index) if index.unique else ())]
    found = _unmatched(connection, index, index.rows, index.entries, limits=limits, bounds=bounds, most=most)
    return Rows(missing=found, reached=reached)


def compare_totals(connection: sqlite3.Connection, index: Index, *, lacking: bool, most: int) -> Totals:
    """Count rows and entries, and look for entries that are too many, where there may be any.

    `lacking` says that some row has no entry, or another one. At most `most` of each kind are named. Raises
    sqlite3.DatabaseError.
    """
    where = _where(index.condition)
    # count(*) would be answered from the index that SQLite likes best.
    rows, entries = connection.execute(
        f"SELECT (SELECT coalesce(sum(1), 0) FROM {index.rows}{where}),"
        f" (SELECT coalesce(sum(1), 0) FROM {index.entries}{where})"
    ).fetchone()
    suspect = lacking or rows != entries
    return Totals(
        rows=rows,
        entries=entries,
        missing=_missing_nulls(connection, index, most) if index.unique else (),
        strange=_unmatched(connection, index, index.entries, index.rows, most=most) if suspect else (),
        doubles=_doubles(connection, index, most) if index.unique else (),
    )


def _unmatched(
    connection: sqlite3.Connection,
    index: Index,
    source: str,
    other: str,
    *,
    limits: Sequence[str] = (),
    bounds: tuple[int, ...] = (),
    most: int,
) -> tuple[Place, ...]:
    """Return what `source` holds and `other` does not: one is the table, the other the index."""
    row = quote("row" if index.table.lower() != "row" else "another row")  # an alias that is not the table's name
    columns, same, shown = [], [], []
    for number, term in enumerate(index.terms):
        name = f"{row}.k{number}"
        columns.append(f"{term.text} AS k{number}")
        # This finds the place, by the order of the index …
        same.append(f"({term.text} COLLATE {quote(term.collation)}) IS {name}")
        if term.collation.upper() != "BINARY":  # … and this is not content with what only counts as equal.
            same.append(f"({term.text} COLLATE BINARY) IS {name}")
        shown.append(_shown(name))
    if index.rowid:
        columns.append(f"{index.rowid} AS r")
        same.append(f"{index.rowid} = {row}.r")
    found = connection.execute(
        f"SELECT {f'{row}.r' if index.rowid else 'NULL'}, {', '.join(shown)}"
        f" FROM (SELECT {', '.join(columns)} FROM {source}{_where(index.condition, *limits)}) AS {row}"
        f" WHERE NOT EXISTS (SELECT 1 FROM {other}{_where(index.condition, *same)}) LIMIT {most}",
        bounds,
    ).fetchall()
    return tuple(map(_place, found))


def _doubles(connection: sqlite3.Connection, index: Index, most: int) -> tuple[Place, ...]:
    keys = [term for term in index.terms if term.key]
    grouped = ", ".join(f"{term.text} COLLATE {quote(term.collation)}" for term in keys)
    found = connection.execute(
        f"SELECT {f'min({index.rowid})' if index.rowid else 'NULL'}, {', '.join(_shown(term.text) for term in keys)}"
        f" FROM {index.entries}{_where(index.condition, *_present(index))}"
        f" GROUP BY {grouped} HAVING count(*) > 1 LIMIT {most}"
    ).fetchall()
    return tuple(map(_place, found))


def _present(index: Index) -> list[str]:
    """Return what holds for rows whose key is unique: NULLs are never equal to each other."""
    return [f"{term.text} IS NOT NULL" for term in index.terms if term.key]


def _missing_nulls(connection: sqlite3.Connection, index: Index, most: int) -> tuple[Place, ...]:
    """Return rows with a NULL in their key that the index has no entry of."""
    columns = [f"{term.text} COLLATE BINARY AS k{number}" for number, term in enumerate(index.terms)]
    columns.append(f"{index.rowid or 'NULL'} AS r")
    null = _joined("OR", [f"{term.text} IS NULL" for term in index.terms if term.key])
    chosen = [
        f"SELECT {', '.join(columns)} FROM {source}{_where(index.condition, null)}"
        for source in (index.rows, index.entries)
    ]
    shown = ", ".join(_shown(f"k{number}") for number in range(len(index.terms)))
    found = connection.execute(f"SELECT r, {shown} FROM ({' EXCEPT '.join(chosen)}) LIMIT {most}").fetchall()
    return tuple(map(_place, found))


def _where(*conditions: str) -> str:
    given = [f"({condition})" for condition in conditions if condition]
    return f" WHERE {_joined('AND', given)}" if given else ""


def _joined(operator: str, conditions: Sequence[str]) -> str:
    """Join conditions in pairs of pairs: in one chain they would be nested as deep as they are many, up to 1,000."""
    given = list(conditions)
    while len(given) > 1:
        given = [
            f"({f' {operator} '.join(given[start : start + 2])})" if start + 1 < len(given) else given[start]
            for start in range(0, len(given), 2)
        ]
    return given[0]


def _shown(text: str) -> str:
    return f"substr(quote({text}), 1, {SHOWN})"


def _place(row: Sequence[object]) -> Place:
    key = ", ".join(map(str, row[1:]))
    shown = key if len(key) <= _SHOWN_AT_MOST else f"{key[:_SHOWN_AT_MOST]}…"
    return Place(rowid=row[0] if isinstance(row[0], int) else None, key=shown)
