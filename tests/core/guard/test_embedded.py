"""`Database.guard`: a guard in a process of its own, for applications that open nothing themselves."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import pagewarden
from pagewarden.errors import ConfigurationInvalid, DatabaseBusy, DatabaseNotFound, GuardFailed
from tests.support.guarding import PATIENCE
from tests.support.program import succeed


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """A connection to app.db, in WAL mode, and a state directory of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("app.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE item(body TEXT)")
        yield connection


def test_an_application_follows_its_commits(application: sqlite3.Connection, tmp_path: Path) -> None:
    """Flush, mark and status; the log has the events; a second guard is refused; closing leaves nothing to do."""
    with pagewarden.open("app.db", repository="backup") as database:
        with database.guard(log="log", scrub=0) as guard:
            before = guard.flush(PATIENCE).txid
            for _ in range(5):
                application.execute("INSERT INTO item VALUES('a')")
            assert guard.flush(PATIENCE).txid == before + 5
            assert guard.mark("five rows", PATIENCE).txid == before + 5
            status = guard.status()
            assert (status.state, status.commits, status.pid) == ("following", 5, guard.pid)
            with pytest.raises(ConfigurationInvalid):
                guard.mark("")
            with pytest.raises(DatabaseBusy, match=f"by process {guard.pid}"):
                database.guard()
        guard.close()
        with pytest.raises(GuardFailed, match="has ended"):
            guard.flush()
        assert guard.pid is None
        assert database.restore("back.db", mark="five rows").position.txid == before + 5
    assert '"event":"guard.stopped"' in (tmp_path / "log").read_text()


def test_a_guard_that_is_killed_is_a_named_error(application: sqlite3.Connection) -> None:
    """The call says how it ended; another guard goes on from there."""
    with pagewarden.open("app.db", repository="backup") as database:
        guard = database.guard()
        position = guard.flush(PATIENCE)
        assert guard.pid is not None
        os.kill(guard.pid, signal.SIGKILL)
        with pytest.raises(GuardFailed, match="was killed by SIGKILL"):
            guard.flush(PATIENCE)
        guard.close()
        application.execute("INSERT INTO item VALUES('b')")
        with database.guard() as again:
            assert again.flush(PATIENCE).txid == position.txid + 1


def test_what_cannot_be_guarded_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is left."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    database = pagewarden.open(tmp_path / "none.db", repository=tmp_path / "backup")
    with database, pytest.raises(DatabaseNotFound):
        database.guard()


def test_the_application_imports_no_sqlite(application: sqlite3.Connection) -> None:
    """It may use any SQLite library it likes (H2), and a guard ends when its parent does."""
    application.execute("INSERT INTO item VALUES('c')")
    program = """
        import os, sys, time
        import pagewarden
        database = pagewarden.open(sys.argv[1], repository=sys.argv[2])
        guard = database.guard()
        print(guard.flush(30).txid, "sqlite3" in sys.modules, guard.pid)
        sys.stdout.flush()
        os._exit(0)
    """
    printed = succeed(program, os.path.abspath("app.db"), os.path.abspath("backup"), measured=False)  # coverage does
    txid, imported, pid = printed.split()
    assert (txid, imported) == ("1", "False")
    with pagewarden.open("app.db", repository="backup") as database:
        _wait_for_end(int(pid))
        with database.guard() as guard:
            assert guard.flush(PATIENCE).txid == 1


def _wait_for_end(pid: int) -> None:
    until = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists() and b"Z" not in Path(f"/proc/{pid}/stat").read_bytes().split()[2]:
        assert time.monotonic() < until, "the guard outlived its parent"
        time.sleep(0.02)
