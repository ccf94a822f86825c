"""The run behind `pagewarden ledger`: what is remembered of one database."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagewarden.ledger.store import Damaged, Store
from pagewarden.ledger.words import readable, time_of
from pagewarden.values import CheckerResult, LedgerReport, PastRun, Suspect, Verdict

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRequest:
    """Of which database to tell."""

    database: str  # path; nothing need be there any more


def run_ledger(request: LedgerRequest, runtime: Runtime) -> LedgerReport:
    """Tell of a database's suspect pages and what became of them, and of its checks. Touches no file of the database.

    Raises LedgerUnusable where the ledger cannot be read. One that is damaged is set aside, and a new one begins.
    """
    path = os.path.realpath(request.database)
    warnings: list[str] = []
    with closing(Store(runtime.state, warnings.append)) as store:
        found = store.use(lambda connection: _read_whole(connection, readable(path)), make=False)
    suspects, runs = found or ((), ())
    return LedgerReport(database=path, suspects=suspects, runs=runs, warnings=tuple(warnings))


def _read_whole(connection: sqlite3.Connection, database: str) -> tuple[tuple[Suspect, ...], tuple[PastRun, ...]]:
    """Read what is remembered. Raises Damaged for what no version wrote."""
    try:
        return _read(connection, database)
    except (ValueError, TypeError) as error:
        raise Damaged(f"a row of it is nonsense: {error}") from error


def _read(connection: sqlite3.Connection, database: str) -> tuple[tuple[Suspect, ...], tuple[PastRun, ...]]:
    connection.execute("BEGIN")  # so that both are of one moment
    suspects = tuple(
        Suspect(
            pgno=pgno,
            kind=kind,
            object=owner,
            state=state,
            checker=checker,
            first_seen=time_of(first),
            last_seen=time_of(last),
            settled=None if settled is None else time_of(settled),
            page_sum=None if page_sum is None else page_sum[::-1].hex(),
            evidence=evidence,
        )
        for pgno, kind, owner, state, checker, first, last, settled, page_sum, evidence in connection.execute(
            "SELECT pgno, kind, object, state, checker, first_seen, last_seen, settled, page_sum, evidence"
            " FROM suspects WHERE database = ? ORDER BY id",
            (database,),
        )
    )
    results: dict[int, list[CheckerResult]] = {}
    for run, name, verdict, seconds, findings, why in connection.execute(
        "SELECT run, name, c.verdict, c.seconds, c.findings, why FROM runs JOIN checkers AS c ON run = id"
        " WHERE database = ? ORDER BY run, place",
        (database,),
    ):
        result = CheckerResult(name=name, verdict=Verdict(verdict), seconds=seconds, findings=findings, why=why)
        results.setdefault(run, []).append(result)
    runs = tuple(
        PastRun(
            started=time_of(started),
            level=level,
            verdict=Verdict(verdict),
            seconds=seconds,
            findings=findings,
            checkers=tuple(results.get(number, ())),
        )
        for number, started, level, verdict, seconds, findings in connection.execute(
            "SELECT id, started, level, verdict, seconds, findings FROM runs WHERE database = ? ORDER BY id",
            (database,),
        )
    )
    connection.execute("COMMIT")
    return suspects, runs
