"""Repairers and checkers whose behaviour a test chooses, and databases with a damaged index for them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from pagewarden.contracts import (
    Checker,
    CheckOutcome,
    Loss,
    RepairBench,
    RepairCase,
    Repairer,
    RepairStep,
    Stage,
    Subject,
)
from pagewarden.events import Event
from pagewarden.hookspecs import hookimpl
from pagewarden.plugins import load_plugins
from pagewarden.processes.reader import PageReader
from pagewarden.repair.reports import RepairReport
from pagewarden.repair.request import RepairRequest
from pagewarden.repair.run import run_repair
from pagewarden.runtime import Runtime
from pagewarden.values import Finding, Level, Severity, Verdict
from tests.support.session import Session

Apply = Callable[[RepairBench], object]

ROWS = 40


class Integrity:
    """A checker that asks SQLite."""

    name = "check-integrity"
    level = Level.QUICK

    def check(self, subject: Subject) -> CheckOutcome | Iterable[Finding]:
        """Report the first thing that SQLite complains of."""
        with closing(subject.connect()) as connection:
            try:
                ((said,),) = connection.execute("PRAGMA integrity_check(1)").fetchall()
            except sqlite3.DatabaseError as error:
                said = str(error)
        if said == "ok":
            return ()
        return [Finding(kind="said", severity=Severity.DAMAGE, message=said)]


class Blind:
    """A checker that cannot see, or fails."""

    name = "check-blind"

    def __init__(self, *, fails: bool, level: Level = Level.DEEP, relational: bool = False) -> None:
        """`fails` says which of them."""
        self.level = level
        self.relational = relational
        self._fails = fails

    def check(self, subject: Subject) -> CheckOutcome | Iterable[Finding]:
        """See nothing."""
        if self._fails:
            raise KeyError(subject.path)
        return CheckOutcome(verdict=Verdict.UNKNOWN, why="there is no module for it")


class Chosen:
    """A repairer that does what it is told, whenever there is damage."""

    def __init__(
        self, behaviour: Apply, name: str = "repair-chosen", loss: Loss = Loss.NOTHING, stage: Stage = Stage.INDEXES
    ) -> None:
        """`behaviour` is its `apply`."""
        self.name = name
        self.cases: list[RepairCase] = []
        self._behaviour = behaviour
        self._loss = loss
        self._stage = stage

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Offer one step that mends all damage."""
        damage = tuple(n for n, finding in enumerate(case.findings) if finding.severity is Severity.DAMAGE)
        if not damage:
            return ()
        return [RepairStep(text=f"let {self.name} do it", loss=self._loss, stage=self._stage, mends=damage)]

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Do it."""
        self._behaviour(bench)


def reindex(bench: RepairBench) -> None:
    """Do what mends a damaged index."""
    with closing(bench.connect()) as connection:
        connection.execute("REINDEX")


class Plugins:
    """A plugin with chosen repairers; makes a runtime with it and nothing else."""

    def __init__(self, state: Path, reader: PageReader) -> None:
        """`state` is the runtime's."""
        self._state = state
        self._reader = reader
        self.repairers: list[Repairer] = [Chosen(reindex)]
        self.checkers: list[Checker] = [Integrity()]
        self.installed: tuple[str, ...] = ()  # plugins that are there beside
        self.events: list[Event] = []

    @hookimpl
    def pagewarden_checkers(self) -> Iterable[Checker]:
        """Return the chosen ones, which ask SQLite by default."""
        return self.checkers

    @hookimpl
    def pagewarden_repairers(self) -> Iterable[Repairer]:
        """Return the chosen ones."""
        return self.repairers

    def runtime(self) -> Runtime:
        """Return a runtime."""
        made = Runtime(state=self._state, on_event=self.events.append)
        made._reader = self._reader
        made._extensions = load_plugins(only=self.installed, extra=[self])
        return made

    def repair(self, path: Path, *, apply: bool = True, **asked: object) -> RepairReport:
        """Repair a database."""
        return run_repair(RepairRequest(database=str(path), apply=apply, **asked), self.runtime())  # type: ignore[arg-type]

    def seen(self, name: str) -> list[Event]:
        """Return the events of a name."""
        return [event for event in self.events if event.name == name]


def make_plain(path: Path) -> Path:
    """Make a closed database with a table and an index."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            "PRAGMA page_size=1024;"
            "CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT, body BLOB); CREATE INDEX i ON t(who)"
        )
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO t(who, body) VALUES (?, zeroblob(300))", [(f"row {n}",) for n in range(ROWS)]
        )
        connection.execute("COMMIT")
    return path


def break_index(path: Path) -> Path:
    """Damage a key of the index, in the file."""
    data = bytearray(path.read_bytes())
    at = data.index(b"row 17", 2 * 1024, 3 * 1024)
    data[at : at + 6] = b"rox 17"
    path.write_bytes(data)
    return path


def make_broken(path: Path) -> Path:
    """Make a closed database with a damaged index."""
    return break_index(make_plain(path))


def make_broken_log(path: Path) -> Path:
    """Make a database with a damaged index and committed rows that stand in its -wal alone, as after a crash."""
    make_plain(path)
    with Session(path) as session:
        session.run("PRAGMA journal_mode=WAL")
        session.run("PRAGMA wal_autocheckpoint=0")
        session.run("UPDATE t SET body = 'from the log' WHERE id = 7")
        session.kill()
    break_index(path)
    Path(f"{path}-shm").unlink()
    return path


def make_broken_hot(path: Path, *, broken: bool = True) -> Path:
    """Make a database with a damaged index and a hot journal: a transaction that was cut."""
    make_plain(path)
    with Session(path) as session:
        for sql in ("PRAGMA cache_size=2", "PRAGMA cache_spill=2", "BEGIN", "UPDATE t SET body = zeroblob(299)"):
            session.run(sql)
        session.kill()
    assert Path(f"{path}-journal").stat().st_size > 0
    return break_index(path) if broken else path


def files(path: Path) -> dict[str, bytes]:
    """Return the files of a database and their content, without the -shm and an empty -wal."""
    found = {file.name: file.read_bytes() for file in path.parent.glob(f"{path.name}*") if file.suffix != ".db-shm"}
    return {name: content for name, content in found.items() if content}


def rows(path: Path) -> list[tuple[int, str, object]]:
    """Return the rows of a sound database."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return connection.execute("SELECT id, who, body FROM t ORDER BY id").fetchall()


def names(folder: Path) -> list[str]:
    """Return all files below a folder, hidden ones too."""
    return sorted(str(Path(root, name).relative_to(folder)) for root, _, found in os.walk(folder) for name in found)
