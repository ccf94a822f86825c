"""The checker: what SQLite's modules for full text and R-trees say of their own tables, on a private copy."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Sequence

from pagewarden.contracts import CheckOutcome, Subject
from pagewarden.sqlite.names import as_text, quote
from pagewarden.sqlite.refusals import Refusal, refusal_or_raise
from pagewarden.sqlite.virtual import VirtualTable, virtual_tables
from pagewarden.values import Finding, Level, Severity, Verdict

_FULL_TEXT = ("fts3", "fts4", "fts5")
_SPATIAL = ("rtree", "rtree_i32", "geopoly")
_STORING_NOTHING = ("fts3tokenize", "fts4aux", "fts5vocab", "dbstat", "sqlite_stmt", "json_each", "json_tree")
_NAMED = 5  # tables that could not be judged, by name


class VirtualTablesChecker:
    """Lets each full-text table and each R-tree check itself.

    Their indexes are rows of ordinary tables, which may be whole and contradict each other all the same. The command
    that checks full text is an INSERT, so all works on a private copy.
    """

    name = "check-virtual-tables"
    level = Level.DEEP
    in_process = True

    def check(self, subject: Subject) -> Generator[Finding, None, CheckOutcome]:
        """Yield damage for each index that contradicts itself; a table of an unknown module is `unknown` (H7)."""
        try:
            tables = virtual_tables(_open(subject, copy=False))
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            refusal = refusal_or_raise(error)
            if not refusal.damage:
                raise
            yield _malformed(refusal)
            return CheckOutcome()
        storing = [table for table in tables if table.module not in _STORING_NOTHING]
        if not storing:
            return CheckOutcome()
        connection = _open(subject, copy=True)
        unjudged: list[str] = []
        alone: list[str] = []
        for number, table in enumerate(storing):
            subject.progress(number, len(storing))
            if table.module not in (*_FULL_TEXT, *_SPATIAL):
                of = f"module {table.module}" if table.module else "a statement that was not understood"
                unjudged.append(f"{table.name} (of {of})")
                continue
            if table.module in ("fts3", "fts4") and table.content == "":
                alone.append(table.name)  # it has no rows, and FTS4 no check without them
                continue
            try:
                yield from _judge(connection, table)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                refusal = refusal_or_raise(error)
                if refusal.damage and table.module in _SPATIAL:
                    yield _spatial(table, refusal.message)
                else:
                    unjudged.append(f"{table.name} ({refusal.message})")
        subject.progress(len(storing), len(storing))
        return _outcome(unjudged, alone)


def _open(subject: Subject, *, copy: bool) -> sqlite3.Connection:
    connection = subject.connect(copy=copy)
    connection.text_factory = as_text
    return connection


def _judge(connection: sqlite3.Connection, table: VirtualTable) -> Iterator[Finding]:
    """Raises sqlite3.DatabaseError where the table could not be judged."""
    if table.module in _SPATIAL:
        (said,) = connection.execute("SELECT rtreecheck('main', ?)", (table.name,)).fetchone()
        if said != "ok":
            yield from (_spatial(table, line) for line in str(said).splitlines())
        return
    alone = table.module == "fts5" or table.content is None
    if alone and (error := _contradiction(connection, table, "")) is not None:
        yield _contradicts(table, error)
        return
    if table.content and (error := _contradiction(connection, table, table.module)) is not None:
        yield _outdated(table, error)


def _contradiction(connection: sqlite3.Connection, table: VirtualTable, content: str) -> str | None:
    """Let a full-text table check itself, with its content table if `content` is its module; return what it said."""
    name = quote(table.name)
    columns, values = (f"{name}, rank", "'integrity-check', 1") if content == "fts5" else (name, "'integrity-check'")
    connection.execute("BEGIN")
    try:
        connection.execute(f"INSERT INTO {name}({columns}) VALUES({values})")
    except sqlite3.DatabaseError as error:
        if not refusal_or_raise(error).damage:
            raise
        return str(error)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return None


def _contradicts(table: VirtualTable, error: str) -> Finding:
    return Finding(
        kind="full-text-index",
        severity=Severity.DAMAGE,
        object=table.name,
        message=f"the full-text index of table {table.name} ({table.module}) contradicts itself or its rows",
        evidence=f"integrity-check: {error}",
    )


def _outdated(table: VirtualTable, error: str) -> Finding:
    return Finding(
        kind="full-text-content",
        severity=Severity.VIOLATION,
        object=table.name,
        message=(
            f"the full-text index of table {table.name} ({table.module}) does not say what its content table"
            f" {table.content} says: it was not kept up to date, or one of the two is damaged"
        ),
        evidence=f"integrity-check: {error}",
    )


def _spatial(table: VirtualTable, line: str) -> Finding:
    return Finding(
        kind="spatial-index",
        severity=Severity.DAMAGE,
        object=table.name,
        message=f"the R-tree {table.name} contradicts itself: {line}",
        evidence=f"rtreecheck: {line}",
    )


def _malformed(refusal: Refusal) -> Finding:
    return Finding(
        kind="malformed",
        severity=Severity.DAMAGE,
        message=f"sqlite cannot read the schema: {refusal.message}",
        evidence=refusal.message,
    )


def _outcome(unjudged: Sequence[str], alone: Sequence[str]) -> CheckOutcome:
    why = []
    if unjudged:
        more = f" and {len(unjudged) - _NAMED} more" if len(unjudged) > _NAMED else ""
        why.append(f"these virtual tables were not judged: {'; '.join(unjudged[:_NAMED])}{more}")
    if alone:
        why.append(f"there is nothing to compare these tables of FTS4 with: {', '.join(alone[:_NAMED])}")
    return CheckOutcome(verdict=Verdict.UNKNOWN if unjudged else None, why="; ".join(why))
