"""What an index says and its table does not: kept before the index is built anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from pagewarden.contracts import RepairBench
from pagewarden.repair.moving import stored_text
from pagewarden.sqlite.index import Index, Term, describe, index_names
from pagewarden.sqlite.names import quote
from pagewarden.sqlite.statement import NotUnderstood
from pagewarden_repair_reindex.rebuild import connected


def keep_entries(bench: RepairBench, names: Sequence[str], witnesses: Sequence[str]) -> None:
    """Put the entries of the indexes `names` that no row of their tables has into the quarantine.

    An entry is a row with its indexed columns alone. What `witnesses` remember counts as lost. Raises PagewardenError.
    """
    if not names:
        return
    lost: dict[str, int] = {}
    with connected(bench) as connection:
        connection.text_factory = stored_text
        known = {name.name: name for name in index_names(connection)}
        for name in names:
            try:
                index = describe(connection, known[name])
            except (KeyError, NotUnderstood):
                continue  # what is cut out keeps its root page, and the original all of it
            kept = _keep(bench, connection, index)
            if name in witnesses:
                lost[index.table] = max(kept, lost.get(index.table, 0))
    for table, rows in lost.items():
        bench.note(table, rows_lost=rows)


def _keep(bench: RepairBench, connection: sqlite3.Connection, index: Index) -> int:
    """Keep the entries of one index; return how many of them are of rows that are not there at all."""
    alias = quote("entry" if index.table.lower() != "entry" else "another entry")  # not the table's own name
    plain = [(number, name) for number, term in enumerate(index.terms) if (name := _column(term))]
    names = [*([index.rowid] if index.rowid else []), *(name for _, name in plain)]
    columns, same = [], []
    for number, term in enumerate(index.terms):
        columns.append(f"{term.text} AS k{number}")
        # This finds the place, by the order of the table …
        same.append(f"({term.text} COLLATE {quote(term.collation)}) IS {alias}.k{number}")
        if term.collation.upper() != "BINARY":  # … and this is not content with what only counts as equal.
            same.append(f"({term.text} COLLATE BINARY) IS {alias}.k{number}")
    taken = [f"{alias}.k{number}" for number, _ in plain]
    there = "0"
    if index.rowid:
        columns.append(f"{index.rowid} AS r")
        same.append(f"{index.rowid} = {alias}.r")
        taken.insert(0, f"{alias}.r")
        there = f"EXISTS (SELECT 1 FROM {index.rows} WHERE {index.rowid} = {alias}.r)"
    condition = [f"({index.condition})"] if index.condition else []
    where = f" WHERE {condition[0]}" if condition else ""
    found = (
        f"SELECT {', '.join(taken)} FROM (SELECT {', '.join(columns)} FROM {index.entries}{where}) AS {alias}"
        f" WHERE NOT EXISTS (SELECT 1 FROM {index.rows} WHERE {' AND '.join([*condition, *same])}) AND {there} = ?"
    )
    gone, other = (connection.execute(found, (exists,)) for exists in (0, 1))
    why = f"index {index.name} has an entry of this row, and the table no such row"
    lost = bench.keep_rows(index.table, names, gone, why)
    why = f"index {index.name} has this in its entry of the row, and the table something else"
    bench.keep_rows(index.table, names, other, why)
    return lost


def _column(term: Term) -> str:
    """Return the name of the column that a term is, "" for an expression."""
    text = term.text
    whole = text[:1] == text[-1:] == '"' and quote(text[1:-1].replace('""', '"')) == text
    return text[1:-1].replace('""', '"') if whole else ""
