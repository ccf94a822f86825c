"""Fills indexes through SQLite: REINDEX, the 'rebuild' of full text, and what rows that share a key need first."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress

from pagewarden.contracts import RepairBench
from pagewarden.errors import RepairRefused
from pagewarden.repair.moving import let_schema_be_written, not_mended, stored_text, table_rows, without_triggers
from pagewarden.sqlite.index import Index, IndexName, describe, index_names
from pagewarden.sqlite.names import quote
from pagewarden.sqlite.statement import NotUnderstood
from pagewarden_repair_reindex.fulltext import first_rows

_CACHE_KIB = 64 << 10  # also what SQLite sorts in memory at once
_DOOMED = "temp.pagewarden_doomed"


def root(bench: RepairBench, roots: Mapping[str, int]) -> None:
    """Let the schema name other root pages for the indexes `roots`. Raises PagewardenError."""
    if not roots:
        return
    with connected(bench, schema=True) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for name, page in roots.items():
            changed = connection.execute(
                "UPDATE sqlite_master SET rootpage = ? WHERE type = 'index' AND name = ?", (page, name)
            )
            if changed.rowcount != 1:
                raise RepairRefused(f"the schema has {changed.rowcount} indexes {name}")
        connection.execute("COMMIT")


def reindex(bench: RepairBench, names: Sequence[str]) -> None:
    """Fill the indexes `names`, which are empty. Raises RepairRefused where rows share the key of a UNIQUE one."""
    with connected(bench) as connection:
        for number, name in enumerate(names):
            bench.progress(number, len(names))
            try:
                connection.execute(f"REINDEX main.{quote(name)}")
            except sqlite3.IntegrityError as error:
                raise RepairRefused(f"index {name} cannot be built anew: rows share its key: {error}") from error
        bench.progress(len(names), len(names))


def refill(bench: RepairBench, names: Sequence[str], emptied: Sequence[str]) -> None:
    """Let full-text tables build their indexes anew from their rows; of these, the tables `emptied` have none at all.

    Raises PagewardenError.
    """
    with connected(bench, schema=True) as connection:
        for name in names:
            data = f"{name}_data"
            if data in emptied:
                (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
                connection.executemany(f"INSERT INTO main.{quote(data)} VALUES(?, ?)", first_rows(sql, data))
            connection.execute(f"INSERT INTO main.{quote(name)}({quote(name)}) VALUES('rebuild')")


def move_duplicates(bench: RepairBench, names: Sequence[str]) -> None:
    """Put rows that share the key of a UNIQUE index of `names` into the quarantine, all but the first of each key.

    The first is the one with the lowest rowid; in a table WITHOUT ROWID that with the lowest primary key. The indexes
    of `names` must be empty, or sound. Raises PagewardenError.
    """
    with connected(bench) as connection:
        connection.text_factory = stored_text
        known = {name.name: name for name in index_names(connection)}
        for name in names:
            try:
                index = describe(connection, known[name])
            except (KeyError, NotUnderstood) as error:
                raise RepairRefused(f"the key of index {name} cannot be told: {error}") from error
            if index.unique:
                _move(bench, connection, index)


def _move(bench: RepairBench, connection: sqlite3.Connection, index: Index) -> None:
    """Move the rows that share a key of one index."""
    if index.rowid:
        identity = [index.rowid]
    else:
        primary = describe(connection, _primary(connection, index.table))
        identity = [f"{term.text} COLLATE {quote(term.collation)}" for term in primary.terms if term.key]
    keys = [term for term in index.terms if term.key]
    grouped = ", ".join(f"{term.text} COLLATE {quote(term.collation)}" for term in keys)
    named = ", ".join(f"i{number}" for number in range(len(identity)))
    columns = ", ".join(f"{text} AS i{number}" for number, text in enumerate(identity))
    conditions = [*([index.condition] if index.condition else []), *(f"{term.text} IS NOT NULL" for term in keys)]
    where = " AND ".join(f"({condition})" for condition in conditions)
    rows = table_rows(connection, index.table)
    chosen = f"({', '.join(identity)}) IN (SELECT {named} FROM {_DOOMED})"
    with without_triggers(connection):
        connection.execute(
            f"CREATE TEMP TABLE pagewarden_doomed AS SELECT {named} FROM (SELECT {columns},"
            f" row_number() OVER (PARTITION BY {grouped} ORDER BY {', '.join(identity)}) AS place"
            f" FROM {index.rows} WHERE {where}) WHERE place > 1"
        )
        why = f"another row has its key of the unique index {index.name}, and comes first"
        kept = bench.keep_rows(
            index.table,
            rows.selected,
            connection.execute(f"SELECT {rows.select()} FROM {index.rows} WHERE {chosen}"),
            why,
        )
        gone = connection.execute(f"DELETE FROM {index.rows} WHERE {chosen}").rowcount
        (doomed,) = connection.execute(f"SELECT count(*) FROM {_DOOMED}").fetchone()
        if not kept == gone == doomed:
            raise RepairRefused(f"{gone} rows of {index.table} would go, and {kept} were kept, of {doomed}")
        connection.execute(f"DROP TABLE {_DOOMED}")
    if kept:
        bench.note(index.table, rows_quarantined=kept)


def _primary(connection: sqlite3.Connection, table: str) -> IndexName:
    """Return the primary key of a table WITHOUT ROWID, which is the table itself."""
    listed = connection.execute(f"PRAGMA index_list({quote(table)})").fetchall()
    name = next(str(row[1]) for row in listed if row[3] == "pk")
    return IndexName(name=name, table=table, sql="")


@contextmanager
def connected(bench: RepairBench, *, schema: bool = False) -> Iterator[sqlite3.Connection]:
    """Connect to the copy, with `schema` to one whose schema may be damaged, and may be written to.

    What SQLite raises becomes an error that says what it means.
    """
    with closing(bench.connect()) as connection:
        try:
            if schema:
                let_schema_be_written(connection)
                with suppress(sqlite3.DatabaseError):  # the first statement meets what is wrong with it
                    connection.execute("SELECT 1 FROM sqlite_master LIMIT 0")
            connection.execute("PRAGMA foreign_keys=OFF")
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            connection.execute("PRAGMA threads=2")  # for sorting
            yield connection
        except sqlite3.Error as error:
            raise not_mended(error, bench, "indexes cannot be built anew") from error
