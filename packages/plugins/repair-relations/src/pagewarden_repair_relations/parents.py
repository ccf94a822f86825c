"""Parents that are missing, fetched from older states of the database: theirs, too, as far as there are any.

All keys of missing parents are noted in temporary tables, one for each foreign key, so that a table is gone through for
orphans only once, and again when it was given rows. A parent is put in only where it breaks no rule of its table: where
its place was taken meanwhile it is not the row that was named any more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pagewarden.contracts import PastImage, RepairBench, RepairHistory
from pagewarden.errors import RepositoryDamaged
from pagewarden.repair.moving import TableRows, table_rows, without_triggers
from pagewarden.sqlite.names import quote
from pagewarden_repair_relations.keys import Key, fold

OLDER = 4
"""How many restore points are asked, after the newest one, before rows are moved."""

_ALIKE = 0.1
_CACHE_KIB = 64 << 10


def fetch_parents(bench: RepairBench, history: RepairHistory, keys: Sequence[Key], *, older: int) -> None:
    """Put the missing parents of all `keys` into the copy that restore points have, the newest version of each.

    After the newest restore point `older` others are asked. Raises PagewardenError, sqlite3.Error.
    """
    with closing(connect(bench)) as connection:
        search = _Search(connection, keys, certain=history.certain)
        search.look(keys)
        images = (history.newest, *history.older[:older])
        for number, image in enumerate(images):
            if not search.wanted:
                break
            bench.progress(number, len(images))
            past = _fetched(bench, history, image)
            if past is not None:
                connection.execute("ATTACH ? AS past", (bench.attachable(past),))
                with without_triggers(connection):
                    search.fetch()
                connection.execute("DETACH past")
                past.unlink()
        bench.progress(len(images), len(images))
    for table, count in search.fetched.items():
        bench.note(table, rows_from_backup=count)


def connect(bench: RepairBench) -> sqlite3.Connection:
    """Return a connection that enforces nothing by itself."""
    connection = bench.connect()
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    return connection


def _fetched(bench: RepairBench, history: RepairHistory, image: PastImage) -> Path | None:
    """Return a restore point as a file; None where it is damaged, so that it has no parents."""
    past = bench.scratch / "past.db"
    try:
        history.fetch(image, past)
    except RepositoryDamaged:
        past.unlink(missing_ok=True)
        return None
    return past


class _Search:
    """The keys of parents that are missing."""

    def __init__(self, connection: sqlite3.Connection, keys: Sequence[Key], *, certain: bool) -> None:
        """`certain` says that what is attached as `past` is known to be of this very database."""
        self.fetched: dict[str, int] = {}  # rows, by table
        self._certain = certain
        self._connection = connection
        self._keys = {f"temp.pagewarden_wanted_{number}": key for number, key in enumerate(keys)}
        for place, key in self._keys.items():
            columns = ", ".join(f"k{number}" for number, _ in enumerate(key.columns))
            connection.execute(f"CREATE TEMP TABLE {place.removeprefix('temp.')}({columns})")

    @property
    def wanted(self) -> bool:
        """Whether any parent is missing still."""
        return any(self._connection.execute(f"SELECT 1 FROM {place} LIMIT 1").fetchone() for place in self._keys)

    def look(self, keys: Sequence[Key]) -> None:
        """Note the parents that are missing by `keys`."""
        for place, key in self._keys.items():
            if key in keys:
                columns = ", ".join(f"+c.{quote(name)}" for name in key.columns)
                self._connection.execute(f"DELETE FROM {place}")
                self._connection.execute(f"INSERT INTO {place} SELECT DISTINCT {columns} {key.orphans}")

    def fetch(self) -> None:
        """Put in what the attached database `past` has of them, and of their parents."""
        given = True
        while given:
            tables = {fold(key.parent.name) for place, key in self._keys.items() if self._fetch(place, key)}
            given = bool(tables)
            self.look([key for key in self._keys.values() if fold(key.child.name) in tables])

    def _fetch(self, place: str, key: Key) -> int:
        """Put in the parents by one key; return how many."""
        past = _table_of_past(self._connection, key.parent.name)
        columns = [] if past is None else _common(key.parent, past)
        if past is None or not {fold(name) for name in key.named} <= {fold(name) for name in columns}:
            return 0
        if not self._connection.execute(f"SELECT 1 FROM {place} LIMIT 1").fetchone():
            return 0
        if not (self._certain or self._is_alike(key.parent.name, past.name, columns)):
            return 0
        given = 0
        for names in ([key.parent.rowid, *columns], columns) if key.parent.rowid and past.rowid else (columns,):
            into = ", ".join(quote(name) for name in names)
            taken = ", ".join(f"q.{quote(past.rowid if name == key.parent.rowid else name)}" for name in names)
            given += self._insert(
                f"INSERT OR IGNORE INTO main.{quote(key.parent.name)}({into}) SELECT {taken}"
                f" FROM {place} AS w CROSS JOIN past.{quote(past.name)} AS q WHERE {_same(key, 'q')}"
                f" AND NOT EXISTS (SELECT 1 FROM main.{quote(key.parent.name)} AS p WHERE {_same(key, 'p')})"
            )
        self._connection.execute(
            f"DELETE FROM {place} AS w"
            f" WHERE EXISTS (SELECT 1 FROM main.{quote(key.parent.name)} AS p WHERE {_same(key, 'p')})"
        )
        if given:
            self.fetched[key.parent.name] = self.fetched.get(key.parent.name, 0) + given
        return given

    def _is_alike(self, name: str, past: str, columns: Sequence[str]) -> bool:
        """Whether a tenth of the rows of a table are those that it had then: else it may be another database's."""
        shown = ", ".join(map(quote, columns))
        counts = [
            int(self._connection.execute(f"SELECT count(*) FROM ({rows})").fetchone()[0])
            for rows in (
                f"SELECT DISTINCT {shown} FROM main.{quote(name)}",
                f"SELECT DISTINCT {shown} FROM past.{quote(past)}",
                f"SELECT {shown} FROM main.{quote(name)} INTERSECT SELECT {shown} FROM past.{quote(past)}",
            )
        ]
        return counts[2] > 0 and counts[2] >= _ALIKE * min(counts[:2])

    def _insert(self, statement: str) -> int:
        """Run an INSERT; return how many rows it gave. A rule that IGNORE does not pass over lets none of them in."""
        try:
            return self._connection.execute(statement).rowcount
        except sqlite3.IntegrityError:
            return 0


def _same(key: Key, table: str) -> str:
    """Return SQL that holds where a row of the parent is the one wanted; the parent's column decides how (H29)."""
    return " AND ".join(f"{table}.{quote(name)} = w.k{number}" for number, name in enumerate(key.named))


def _table_of_past(connection: sqlite3.Connection, name: str) -> TableRows | None:
    found = connection.execute(
        "SELECT name FROM past.sqlite_master WHERE type = 'table' AND rootpage > 0 AND name = ? COLLATE NOCASE", (name,)
    ).fetchone()
    return None if found is None else table_rows(connection, str(found[0]), "past")


def _common(table: TableRows, past: TableRows) -> list[str]:
    """Return the columns that a table has had then, too."""
    had = {fold(name) for name in past.columns}
    return [name for name in table.columns if fold(name) in had]
