"""What one check takes from the ledger, and what it writes there: all of it in one transaction, at its end."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pagewarden.errors import LedgerUnusable
from pagewarden.ledger.circle import Circle
from pagewarden.ledger.store import Damaged, Store
from pagewarden.ledger.words import moment, readable, time_of
from pagewarden.values import CheckReport, Finding, Level, Severity, Verdict

if TYPE_CHECKING:  # what decides on suspect pages is imported where there are some
    from pagewarden.ledger.suspects import Known, Look

KEPT_RUNS = 1000
"""How many runs of one database are kept."""

KEPT_SUSPECTS = 10_000
"""How many suspect pages of one database are kept that are transient, repaired or gone."""

MOST_SUSPECTS = 1000
"""How many open suspect pages one run looks after; a file that is noise all over needs no list."""

TRANSIENT_KIND = "transient-read"
"""The kind of a notice that a page was wrong when it was read first, and right when it was read again."""

T = TypeVar("T")


class Notebook:
    """The ledger, for one check of one database. Any thread may ask `resume` and `circle`, the run's all else."""

    def __init__(
        self, state: Callable[[], Path], database: str, clock: Callable[[], datetime], *, blank: bool = False
    ) -> None:
        """Nothing is opened yet. `state` finds the state directory; `database` is the real path.

        A `blank` one remembers nothing, and was told nothing before.
        """
        self.warnings: list[str] = []
        self._state = state
        self._store: Store | None = None
        self._database = readable(database)
        self._clock = clock
        self._lock = threading.RLock()
        self._usable = not blank
        self._resumes: Mapping[str, str] | None = None
        self._circles: Mapping[str, Circle] | None = None

    def resume(self, checker: str) -> str:
        """Return where the time of a checker was over in the last run; "" where it was not."""
        with self._lock:
            if self._resumes is None:
                self._resumes = self._use(self._read_resumes, make=False) or {}
            return self._resumes.get(checker, "")

    def circle(self, checker: str) -> Circle | None:
        """Return what runs of a checker that were cut short judged together until now."""
        with self._lock:
            if self._circles is None:
                self._circles = self._use(self._read_circles, make=False) or {}
            return self._circles.get(checker)

    def open(self) -> None:
        """Open the ledger, or make it, so that `write` finds it ready."""
        with self._lock:
            self._use(lambda _: None, make=True)

    def write(
        self,
        report: CheckReport,
        *,
        level: Level,
        started: datetime,
        resumes: Mapping[str, tuple[str, Circle | None]],
        look: Callable[[Sequence[int]], Look | None],
    ) -> None:
        """Write what a check found, and what became of the pages that earlier ones suspected.

        `resumes` are the checkers whose place changed, "" where there is none any more, with their circles;
        `look(pgnos)` looks at pages.
        """
        with self._lock:
            suspicious = self._suspicious(report.findings)
            known = self._use(self._read_open, make=True)
            if known is None:
                return
            pgnos = sorted({*(each.pgno for each in known[:MOST_SUSPECTS]), *(pgno for pgno, _ in suspicious)})
            seen = look(pgnos) if pgnos else None

            def work(connection: sqlite3.Connection) -> None:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    self._write_run(connection, report, level, started)
                    self._write_resumes(connection, resumes)
                    self._settle(connection, report, self._read_open(connection), seen)
                    self._write_suspects(connection, suspicious, seen)
                    self._prune(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise

            self._use(work, make=True)

    def close(self) -> None:
        """Close the ledger."""
        with self._lock:
            if self._store is not None:
                self._store.close()

    def _use(self, work: Callable[[sqlite3.Connection], T], *, make: bool) -> T | None:
        """Do something with the ledger; where it cannot be used, warn once, and do without from then on."""
        if not self._usable:
            return None
        try:
            if self._store is None:
                self._store = Store(self._state(), self.warnings.append)
            return self._store.use(work, make=make)
        except LedgerUnusable as error:
            self.warnings.append(f"{error.message}; this check is not remembered (hint: {error.hint})")
        except RuntimeError as error:  # the machine knows no home folder
            self.warnings.append(f"there is no state directory ({error}); this check is not remembered")
        self._usable = False
        return None

    def _read_resumes(self, connection: sqlite3.Connection) -> dict[str, str]:
        rows = connection.execute("SELECT checker, place FROM resumes WHERE database = ?", (self._database,))
        return {str(checker): str(place) for checker, place in rows}

    def _read_circles(self, connection: sqlite3.Connection) -> dict[str, Circle]:
        rows = connection.execute(
            "SELECT checker, judged, begun, runs, covered, total, verdict, findings FROM circles WHERE database = ?",
            (self._database,),
        ).fetchall()
        try:
            return {
                str(checker): Circle(
                    of=str(of),
                    begun=time_of(begun),
                    runs=int(runs),
                    covered=int(covered),
                    total=float(total),
                    verdict=Verdict(verdict),
                    findings=int(findings),
                )
                for checker, of, begun, runs, covered, total, verdict, findings in rows
            }
        except (ValueError, TypeError) as error:
            raise Damaged(f"a row of it is nonsense: {error}") from error

    def _read_open(self, connection: sqlite3.Connection) -> list[Known]:
        rows = connection.execute(
            "SELECT id, pgno, checker, state, last_seen, page_sum, moment FROM suspects"
            " WHERE database = ? AND state IN ('seen', 'confirmed') ORDER BY pgno, id",
            (self._database,),
        ).fetchall()
        if not rows:
            return []
        from pagewarden.ledger.suspects import Known, State

        try:
            return [
                Known(
                    id=number,
                    pgno=int(pgno),
                    checker=str(checker),
                    state=State(state),
                    last_seen=str(seen),
                    page_sum=page,
                    moment=str(when),
                )
                for number, pgno, checker, state, seen, page, when in rows
            ]
        except (ValueError, TypeError) as error:
            raise Damaged(f"a row of it is nonsense: {error}") from error

    def _suspicious(self, findings: Sequence[Finding]) -> dict[tuple[int, str], Finding]:
        """Return the findings that make a page suspect, the first of each page and kind."""
        chosen: dict[tuple[int, str], Finding] = {}
        for finding in findings:
            transient = finding.kind == TRANSIENT_KIND
            if finding.pgno is not None and (transient or finding.severity is Severity.DAMAGE):
                chosen.setdefault((finding.pgno, finding.kind), finding)
            if len(chosen) >= MOST_SUSPECTS:
                break
        return chosen

    def _write_run(self, connection: sqlite3.Connection, report: CheckReport, level: Level, started: datetime) -> None:
        cursor = connection.execute(
            "INSERT INTO runs(database, started, level, verdict, seconds, findings) VALUES (?, ?, ?, ?, ?, ?)",
            (self._database, moment(started), level, report.verdict, report.seconds, len(report.findings)),
        )
        connection.executemany(
            "INSERT INTO checkers VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (cursor.lastrowid, place, each.name, each.verdict, each.seconds, each.findings, readable(each.why))
                for place, each in enumerate(report.checkers)
            ],
        )

    def _write_resumes(self, connection: sqlite3.Connection, resumes: Mapping[str, tuple[str, Circle | None]]) -> None:
        now = moment(self._clock())
        for checker, (place, circle) in resumes.items():
            for table in ("resumes", "circles"):
                connection.execute(f"DELETE FROM {table} WHERE database = ? AND checker = ?", (self._database, checker))
            if place:
                connection.execute(
                    "INSERT INTO resumes VALUES (?, ?, ?, ?)", (self._database, checker, readable(place), now)
                )
            if circle is not None:
                connection.execute(
                    "INSERT INTO circles VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        self._database, checker, readable(circle.of), moment(circle.begun), circle.runs, circle.covered,
                        circle.total, circle.verdict, circle.findings,
                    ),
                )  # fmt: skip

    def _settle(
        self, connection: sqlite3.Connection, report: CheckReport, known: Sequence[Known], seen: Look | None
    ) -> None:
        """Write what became of open suspect pages."""
        if not known:
            return
        from pagewarden.ledger.suspects import State, what_became

        row = connection.execute("SELECT time FROM restores WHERE database = ?", (self._database,)).fetchone()
        reported = {finding.pgno for finding in report.findings if finding.severity is Severity.DAMAGE}
        satisfied = {each.name for each in report.checkers if each.verdict is Verdict.SOUND and not each.why}
        now = moment(self._clock())
        for each in known:
            state = what_became(
                each,
                reported={pgno for pgno in reported if pgno is not None},
                look=seen,
                satisfied=satisfied,
                restored=row[0] if row else "",
            )
            if state is not State.CONFIRMED and state is not each.state:
                connection.execute("UPDATE suspects SET state = ?, settled = ? WHERE id = ?", (state, now, each.id))
            elif each.pgno in reported:
                connection.execute(
                    "UPDATE suspects SET state = ?, last_seen = ?, page_sum = ?, moment = ? WHERE id = ?",
                    (state, now, _sum_of(each.pgno, seen), "" if seen is None else seen.moment, each.id),
                )

    def _write_suspects(
        self, connection: sqlite3.Connection, suspicious: Mapping[tuple[int, str], Finding], seen: Look | None
    ) -> None:
        """Add the pages that are suspect since this run, and those that were wrong only when they were read first."""
        now = moment(self._clock())
        for (pgno, kind), finding in suspicious.items():
            transient = kind == TRANSIENT_KIND
            state = "transient" if transient else "seen"
            connection.execute(
                "INSERT INTO suspects(database, pgno, kind, object, checker, evidence, state, first_seen, last_seen,"
                " settled, page_sum, moment) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM"
                " suspects WHERE database = ? AND pgno = ? AND kind = ? AND state IN ('seen', 'confirmed'))",
                (
                    self._database, pgno, readable(kind), None if finding.object is None else readable(finding.object),
                    finding.checker, readable(finding.evidence or finding.message), state, now, now,
                    now if transient else None, _sum_of(pgno, seen), "" if seen is None else seen.moment,
                    self._database, pgno, readable(kind),
                ),
            )  # fmt: skip

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Drop what is older than what is kept."""
        last = connection.execute(
            "SELECT id FROM runs WHERE database = ? ORDER BY id DESC LIMIT 1 OFFSET ?", (self._database, KEPT_RUNS)
        ).fetchone()
        if last:
            old = "SELECT id FROM runs WHERE database = ? AND id <= ?"
            connection.execute(f"DELETE FROM checkers WHERE run IN ({old})", (self._database, *last))
            connection.execute("DELETE FROM runs WHERE database = ? AND id <= ?", (self._database, *last))
        settled = "database = ? AND state IN ('transient', 'repaired', 'gone')"
        connection.execute(
            f"DELETE FROM suspects WHERE id IN (SELECT id FROM suspects WHERE {settled}"
            " ORDER BY settled DESC, id DESC LIMIT -1 OFFSET ?)",
            (self._database, KEPT_SUSPECTS),
        )


def _sum_of(pgno: int, seen: Look | None) -> bytes | None:
    return None if seen is None else seen.sums.get(pgno)
