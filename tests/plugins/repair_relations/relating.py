"""Databases with foreign keys, older states of them, and a repair with SQLite as the judge."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from pagewarden.check.outcome import Collected
from pagewarden.contracts import Orphans, PastImage, RepairPolicy
from pagewarden.errors import PagewardenError
from pagewarden.sqlite.names import quote
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.testing.subjects import ClosedSubject, FileImage
from pagewarden.values import Finding, Position
from pagewarden_check_foreign_keys import pagewarden_checkers
from pagewarden_repair_relations import pagewarden_repairers

Row = tuple[str, tuple[object, ...]]


class Image(FileImage):
    """A restore point that is a file."""

    def __init__(self, path: Path, txid: int) -> None:
        """`path` is a closed database."""
        super().__init__(path)
        self.file = path
        self.txid = txid

    @property
    def place(self) -> Position:
        """Where it stands."""
        return Position(timeline="0" * 32, txid=self.txid, time=datetime(2026, 1, 1, tzinfo=UTC))


class History:
    """Restore points in files, newest first."""

    present = None
    why = "nothing proves it"
    certain = True

    def __init__(self, *paths: Path, failing: dict[Path, PagewardenError] | None = None) -> None:
        """To fetch one of `failing` raises its error."""
        self._images = [Image(path, len(paths) - number) for number, path in enumerate(paths)]
        self._failing = failing or {}
        self.fetched: list[Path] = []
        for image in self._images:
            image.position = image.place

    @property
    def newest(self) -> PastImage:
        """The newest."""
        return self._images[0]  # type: ignore[return-value]  # its position is one

    @property
    def older(self) -> Sequence[PastImage]:
        """The others."""
        return self._images[1:]  # type: ignore[return-value]

    def fetch(self, image: PastImage, to: Path) -> None:
        """Copy it."""
        assert not to.exists()
        file = next(each.file for each in self._images if each.txid == image.position.txid)
        self.fetched.append(file)
        shutil.copy(file, to)
        if file in self._failing:
            raise self._failing[file]


def build(path: Path, *statements: str) -> Path:
    """Run statements on a database, without enforcing keys."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        for statement in statements:
            connection.execute(statement)
        connection.execute("COMMIT")
    return path


def changed(path: Path, to: Path, *statements: str) -> Path:
    """Copy a database, and run statements on the copy."""
    shutil.copy(path, to)
    return build(to, *statements)


def findings(path: Path) -> tuple[Finding, ...]:
    """Return what the checker finds."""
    collected = Collected()
    (checker,) = pagewarden_checkers()
    with ClosedSubject(path) as subject:
        collected.add(checker.check(subject))
    return tuple(collected.findings)


def rows(path: Path) -> Counter[Row]:
    """Return all rows."""
    found: Counter[Row] = Counter()
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0").fetchall()
        for (name,) in names:
            found.update((name, row) for row in connection.execute(f"SELECT * FROM {quote(name)}"))
    return found


def table(path: Path, name: str, columns: str = "*") -> list[tuple[object, ...]]:
    """Return the rows of a table, in order."""
    with closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute(f"SELECT {columns} FROM {name}").fetchall(), key=repr)


def kept(bench: ClosedBench) -> Counter[Row]:
    """Return the rows in the quarantine, without a rowid that is no column."""
    return Counter(
        (name, tuple(row[1:] if columns[0] == "rowid" else row))
        for name, columns, moved, _ in bench.cut_rows
        for row in moved
    )


def broken(path: Path) -> list[tuple[object, ...]]:
    """Return what SQLite says of foreign keys and of the rest."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return connection.execute("PRAGMA foreign_key_check").fetchall()


def mend(
    path: Path, scratch: Path, history: History | None = None, orphans: Orphans = Orphans.QUARANTINE
) -> ClosedBench:
    """Plan and apply."""
    scratch.mkdir(exist_ok=True)
    (repairer,) = pagewarden_repairers()
    case = ClosedCase(path, findings(path), history=history, policy=RepairPolicy(orphans=orphans))
    steps = repairer.plan(case)
    bench = ClosedBench(path, scratch, case)
    repairer.apply(bench, steps)
    assert list(scratch.iterdir()) == []
    return bench
