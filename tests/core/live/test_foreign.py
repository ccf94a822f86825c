"""A journal that is proved to be none of the database beside it is named, and never played back (H33)."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.errors import DatabaseUnsettled
from pagewarden.live.foreign import without_foreign_journal
from pagewarden.processes.reader import PageReader
from pagewarden.repair.request import RepairRequest
from pagewarden.repair.run import run_repair
from pagewarden.runtime import Runtime
from pagewarden.values import Verdict
from tests.support.session import Session


def make(path: Path, *, commits: int) -> Path:
    """Make a closed database of so many commits."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t(a)")
        for _ in range(commits - 1):
            connection.execute("INSERT INTO t VALUES (zeroblob(9000))")
    return path


def die(path: Path, *, early: bool) -> Path:
    """Kill a program in the midst of a transaction; `early` is when its journal has pages, and the file has none."""
    with Session(path) as session:
        session.run("PRAGMA cache_size=1")
        if early:
            session.run("PRAGMA cache_spill=OFF")
        session.run("BEGIN")
        session.run("CREATE TABLE another(a)")
        for _ in range(1 if early else 200):
            session.run("INSERT INTO another VALUES (zeroblob(3000))")
        session.kill()
    journal = Path(f"{path}-journal")
    assert journal.stat().st_size > 512
    return journal


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("commits", [1, 7])
def test_a_journal_of_its_own_is_none_of_another(tmp_path: Path, reader: PageReader, early: bool, commits: int) -> None:
    """Whether or not pages were written over already."""
    path = make(tmp_path / "app.db", commits=commits)
    die(path, early=early)
    assert without_foreign_journal(reader, str(path)) is None


def test_another_databases_journal_is_named(tmp_path: Path, reader: PageReader) -> None:
    """A check says what it is instead of asking for a program to play it back; a repair refuses, changing nothing."""
    path = make(tmp_path / "app.db", commits=7)
    journal = Path(shutil.copyfile(die(make(tmp_path / "x.db", commits=3), early=False), f"{path}-journal"))
    before = path.read_bytes(), journal.read_bytes()
    found = without_foreign_journal(reader, str(path))
    assert found is not None and "begins at change counter 3, and the database has 7" in found.message
    assert f"mv {journal} {journal}.foreign" in found.hint
    with Runtime(state=tmp_path / "state") as runtime:
        report = run_check(CheckRequest(database=str(path), only=("check-pragma",)), runtime)
        assert report.verdict is Verdict.UNKNOWN
        assert "of another database" in report.checkers[0].why and "start the application" not in report.checkers[0].why
        with pytest.raises(DatabaseUnsettled, match="of another database"):
            run_repair(RepairRequest(database=str(path), apply=True), runtime)
    assert (path.read_bytes(), journal.read_bytes()) == before
    journal.unlink()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


HARMS: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[:2000],
    "empty": lambda data: b"",
    "garbage": lambda data: b"garbage " * 1000,
    "another magic": lambda data: b"\0" * 8 + data[8:],
    "no page size": lambda data: data[:24] + b"\0\0\0\7" + data[28:],
    "no page 1": lambda data: data[:512] + b"\0\0\0\2" + data[516:],
    "a byte of page 1": lambda data: data[:812] + bytes([data[812] ^ 1]) + data[813:],
    "one counter of page 1": lambda data: data[:540] + b"\0\0\0\5" + data[544:],
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_journal_proves_nothing(tmp_path: Path, reader: PageReader, harm: str) -> None:
    """Nor does one that is gone."""
    path = make(tmp_path / "app.db", commits=7)
    assert without_foreign_journal(reader, str(path)) is None
    data = die(make(tmp_path / "x.db", commits=3), early=False).read_bytes()
    Path(f"{path}-journal").write_bytes(data)
    assert without_foreign_journal(reader, str(path)) is not None
    Path(f"{path}-journal").write_bytes(HARMS[harm](data))
    assert without_foreign_journal(reader, str(path)) is None
