"""What repairs through SQLite need: how a table's rows are named, that no trigger of it fires, what an error means."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pagewarden.contracts import RepairBench
from pagewarden.errors import PagewardenError, RepairRefused
from pagewarden.live.connection import failure
from pagewarden.sqlite.names import quote, rowid_name
from pagewarden.sqlite.refusals import refusal_of

_ORDINARY = 0  # "hidden" of PRAGMA table_xinfo: neither generated nor of a virtual table
_KEPT = "pagewarden_triggers"
_OF_SCHEMA = "type, name, tbl_name, rootpage, sql"
_TRIGGERS = "main.sqlite_master WHERE type = 'trigger'"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """How the rows of a table are read whole, and put back."""

    name: str
    columns: tuple[str, ...]  # that an INSERT may name: all but generated ones
    rowid: str  # a name of the rowid where it is no column, "" where it is one, has no free name, or there is none

    @property
    def selected(self) -> tuple[str, ...]:
        """The names of all that makes up a row: the rowid, if it is no column, and the columns."""
        return (self.rowid, *self.columns) if self.rowid else self.columns

    def select(self, alias: str = "") -> str:
        """Return `selected` as SQL, each behind the table's `alias`."""
        before = f"{alias}." if alias else ""
        return ", ".join(f"{before}{quote(name)}" for name in self.selected)


def table_rows(connection: sqlite3.Connection, table: str, schema: str = "main") -> TableRows:
    """Return how the rows of a table are named. Raises sqlite3.DatabaseError."""
    columns = connection.execute(f"PRAGMA {quote(schema)}.table_xinfo({quote(table)})").fetchall()
    indexes = connection.execute(f"PRAGMA {quote(schema)}.index_list({quote(table)})").fetchall()
    key = any(row[5] for row in columns)
    primary = next((row[1] for row in indexes if row[3] == "pk"), None)
    if primary is None:
        has_rowid = not key  # a primary key without an index is the rowid, and a column
    else:
        terms = connection.execute(f"PRAGMA {quote(schema)}.index_xinfo({quote(primary)})").fetchall()
        has_rowid = any(term[1] == -1 for term in terms)
    return TableRows(
        name=table,
        columns=tuple(str(row[1]) for row in columns if row[6] == _ORDINARY),
        rowid=(rowid_name(str(row[1]) for row in columns) or "") if has_rowid else "",
    )


def stored_text(data: bytes) -> str:
    """Return a text so that its bytes can be had back. For the `text_factory` of connections that rows are kept by."""
    return data.decode("utf-8", "surrogateescape")


def let_schema_be_written(connection: sqlite3.Connection) -> None:
    """Let statements write to sqlite_schema, and be deaf to what is wrong with it, as only a private copy's may."""
    if hasattr(connection, "setconfig"):  # from Python 3.12 on; before that no connection was made defensive
        connection.setconfig(getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE"), False)  # noqa: B009 - not in 3.11's stubs
    connection.execute("PRAGMA writable_schema=ON")


@contextmanager
def without_triggers(connection: sqlite3.Connection) -> Iterator[None]:
    """Let no trigger fire in the context, which is one transaction: committed at its end, rolled back if it raises.

    The triggers leave the schema and come back as they stood, under the same rowids, so that those of one event keep
    their order. Foreign keys are not enforced meanwhile, and views cannot be read. `connection` is one of a private
    copy, in autocommit mode.
    """
    connection.execute("PRAGMA foreign_keys=OFF")
    let_schema_be_written(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        # SQLite itself keeps them: their texts need not be of any encoding.
        connection.execute(f"CREATE TEMP TABLE {_KEPT} AS SELECT rowid AS number, {_OF_SCHEMA} FROM {_TRIGGERS}")
        connection.execute(f"DELETE FROM {_TRIGGERS}")
        _forget(connection)
        connection.set_authorizer(_no_program)  # a hostile schema may have one whose row does not say so (H29)
        yield
        connection.set_authorizer(None)
        connection.execute(
            f"INSERT INTO main.sqlite_master(rowid, {_OF_SCHEMA}) SELECT number, {_OF_SCHEMA} FROM temp.{_KEPT}"
        )
        connection.execute(f"DROP TABLE temp.{_KEPT}")
        connection.execute("COMMIT")
    except BaseException:
        connection.set_authorizer(None)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        _forget(connection)
        connection.execute("PRAGMA writable_schema=OFF")


def not_mended(error: sqlite3.Error, bench: RepairBench, what: str) -> PagewardenError:
    """Return what a repairer raises for an error of SQLite's at the copy of `bench`; `what` says that it cannot work.

    It is RepairRefused where SQLite's words say something of the database, else as `live.failure` says.
    """
    refusal = refusal_of(error) if isinstance(error, sqlite3.DatabaseError) else None
    return failure(error, str(bench.database)) if refusal is None else RepairRefused(f"{what}: {refusal.message}")


def _no_program(_action: int, _one: str | None, _two: str | None, _schema: str | None, program: str | None) -> int:
    """Deny what a trigger or a view does."""
    return sqlite3.SQLITE_OK if program is None else sqlite3.SQLITE_DENY


def _forget(connection: sqlite3.Connection) -> None:
    """Let the connection load the schema anew, and keep it writable."""
    connection.execute("PRAGMA writable_schema=RESET")
    connection.execute("PRAGMA writable_schema=ON")
