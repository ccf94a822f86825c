"""What the tests of restore and undo share: a runtime, a repository with two restore points, and their contents."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.restore import RestoreRequest, hold, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import BackupReport, RestoreReport
from tests.support.session import Session


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime with a warm reader and a state directory of its own."""
    with Runtime(state=tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for locks no longer than these tests can bear."""
    monkeypatch.setattr(hold, "LOCK_SECONDS", 0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backups:
    """A repository with the restore points "one" and "two" of a database "app.db"."""

    url: str
    one: BackupReport
    two: BackupReport

    def restore(self, to: Path, runtime: Runtime, *, txid: int = 2, force: bool = False) -> RestoreReport:
        """Restore a point to a path."""
        return run_restore(RestoreRequest(repository=self.url, to=str(to), txid=txid, force=force), runtime)


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Backups:
    """A repository with two restore points of a WAL database."""
    folder = tmp_path_factory.mktemp("backups")
    source, url = folder / "app.db", str(folder / "repository")
    make(source, "one", mode="wal")
    request = BackupRequest(database=str(source), repository=url, check="none")
    first = run_backup(request, runtime)
    with closing(sqlite3.connect(source, isolation_level=None)) as connection:
        connection.execute("UPDATE t SET who = 'two'")
    return Backups(url=url, one=first, two=run_backup(request, runtime))


def make(path: Path, who: str, *, mode: str = "delete") -> Path:
    """Make a closed database whose rows all say `who`."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT, body BLOB)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t(who, body) VALUES(?, zeroblob(3000))", [(who,)] * 20)
        connection.execute("COMMIT")
    return path


def says(path: Path) -> str:
    """Return what the rows of a database say, all of it sound."""
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return ",".join(str(row[0]) for row in connection.execute("SELECT DISTINCT who FROM t ORDER BY id"))


def leave_in_wal(path: Path) -> Path:
    """Leave rows that say "old" in the -wal alone, as a process does that is killed."""
    make(path, "older", mode="wal")
    session = Session(path)
    session.run("PRAGMA wal_autocheckpoint=0")
    session.run("UPDATE t SET who = 'old'")
    session.kill()
    return path


def leave_hot(path: Path) -> Path:
    """Leave a hot journal: rows say "half" in the file, and "old" once the journal is played back."""
    make(path, "old")
    session = Session(path)
    for statement in ("PRAGMA cache_size=2", "PRAGMA cache_spill=2", "BEGIN", "UPDATE t SET who = 'half', body = NULL"):
        session.run(statement)
    session.kill()
    assert Path(f"{path}-journal").stat().st_size > 0
    return path


def leave_damaged(path: Path) -> Path:
    """Leave a file that SQLite refuses, with a log that belongs to it."""
    path.write_bytes(b"no database, whatever it was " * 500)
    Path(f"{path}-wal").write_bytes(b"and its log " * 100)
    return path


LEFT: dict[str, Callable[[Path], Path]] = {
    "plain": lambda path: make(path, "old"),
    "wal": leave_in_wal,
    "hot": leave_hot,
}
"""How a database may stand at the path; each says "old"."""


def names(folder: Path) -> list[str]:
    """Return what is in a folder, the quarantine included."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))
