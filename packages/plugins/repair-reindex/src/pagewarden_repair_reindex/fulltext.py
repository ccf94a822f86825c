"""Which tables of a full-text table hold nothing but its index, and whether it can be built anew from its rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass

from pagewarden.sqlite.names import quote
from pagewarden.sqlite.refusals import refusal_of
from pagewarden.sqlite.schema import MAX_PAYLOAD, SchemaEntry
from pagewarden.sqlite.virtual import virtual_table

# https://www.sqlite.org/fts5.html, section 9, and fts3.html, section 9: what 'rebuild' empties and fills again.
_INDEXES = {
    "fts3": ("segments", "segdir"),
    "fts4": ("segments", "segdir", "docsize", "stat"),
    "fts5": ("data", "idx", "docsize"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FullText:
    """A full-text table."""

    name: str
    indexes: tuple[str, ...]  # tables that can be derived from its rows
    fault: str  # why it cannot be built anew here; "" where it can


def full_texts(entries: Sequence[SchemaEntry], concerned: Collection[str]) -> tuple[FullText, ...]:
    """Return the full-text tables of a schema that `concerned` names, or a table of theirs."""
    found = []
    for entry in entries:
        if entry.kind != "table" or entry.stated:
            continue
        table = virtual_table(entry.name, entry.sql)
        names = [f"{entry.name}_{part}" for part in _INDEXES.get(table.module, ())]
        if names and not {entry.name, *names}.isdisjoint(concerned):
            fault, made = _made(entry.sql)
            if table.content == "":
                fault = "it keeps no rows, and names no table that does"
            # A table with such a name may be somebody else's, where its options say that there is none of it.
            found.append(FullText(name=entry.name, indexes=tuple(n for n in names if n in made), fault=fault))
    return tuple(found)


def _made(sql: str) -> tuple[str, frozenset[str]]:
    """Let SQLite create a full-text table in memory; return why it does not, and the tables that it made of it."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_PAYLOAD)
        try:
            connection.execute(sql)
            names = connection.execute("SELECT name FROM sqlite_master").fetchall()
        except (sqlite3.DatabaseError, sqlite3.Warning, ValueError) as error:
            refusal = refusal_of(error) if isinstance(error, sqlite3.DatabaseError) else None
            return (str(error) if refusal is None else refusal.message), frozenset()
    return "", frozenset(str(name) for (name,) in names)


def first_rows(sql: str, table: str) -> list[tuple[object, ...]]:
    """Return what stands in a table of a full-text table that was just made by the statement `sql`.

    FTS5 cannot be used at all while its own data has nothing. Raises sqlite3.DatabaseError.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(sql)
        return connection.execute(f"SELECT * FROM {quote(table)}").fetchall()
