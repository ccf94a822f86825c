"""The lock process keeps every SQLite out of a database, and changes no byte of it."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseBusy, DatabaseNotFound, DatabaseUnreadable, DatabaseUnsettled, RepairRefused
from pagewarden.processes import lock
from pagewarden.processes.lock import FileLock
from tests.support.session import Session, SessionError


def make(path: Path, mode: str) -> Path:
    """Make a closed database in a journal mode; one of WAL mode keeps frames in its log, as after a crash."""
    with Session(path) as session:
        session.run(f"PRAGMA journal_mode={mode}")
        session.run("CREATE TABLE t(a)")
        session.run("INSERT INTO t VALUES (1)")
        if mode == "wal":
            session.kill()
    return path


def state(path: Path) -> dict[str, tuple[bytes, int]]:
    """Return the files of a database: content and time of the last write, without the -shm."""
    files = sorted(path.parent.glob(f"{path.name}*"))
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in files if file.suffix != ".db-shm"}


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_nobody_reads_or_writes_while_it_is_held(tmp_path: Path, mode: str) -> None:
    """A second process gets SQLITE_BUSY for a read and a write; let go, it sees every row, the log's included (H1)."""
    path = make(tmp_path / "app.db", mode)
    before = state(path)
    with FileLock(str(path)):
        with Session(path) as session:
            for sql in ("SELECT * FROM t", "INSERT INTO t VALUES (2)", "BEGIN EXCLUSIVE"):
                with pytest.raises(SessionError, match="SQLITE_BUSY"):
                    session.run(sql)
        assert state(path) == before
    with Session(path) as session:
        assert session.run("SELECT a FROM t") == [[1]]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_one_who_has_it_open_is_not_locked_out(tmp_path: Path, mode: str) -> None:
    """A reader in the midst of it keeps the lock from being had; in WAL mode one that is idle does so, too."""
    path = make(tmp_path / "app.db", mode)
    with Session(path) as session:
        if mode == "delete":
            session.run("BEGIN")
        session.run("SELECT * FROM t")
        with pytest.raises(DatabaseBusy, match=f"pid {session.pid}"):
            FileLock(str(path), seconds=0.05)


def test_locks_of_this_process_survive(tmp_path: Path) -> None:
    """The lock is another process's: connections of this one keep theirs, and keep it out (H1)."""
    path = make(tmp_path / "app.db", "delete")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy):
            FileLock(str(path), seconds=0.0)
        with Session(path) as session, pytest.raises(SessionError, match="SQLITE_BUSY"):
            session.run("BEGIN IMMEDIATE")


def test_a_lock_that_was_lost_is_noticed(tmp_path: Path) -> None:
    """Where its process died, or the file was replaced under it, what stands there is not held any more."""
    path = make(tmp_path / "app.db", "delete")
    with FileLock(str(path)) as held:
        held.check()
        os.kill(held._child.pid, signal.SIGKILL)
        while held._child.running:
            pass
        with pytest.raises(DatabaseUnsettled, match="lost"):
            held.check()
    with FileLock(str(path)) as held:
        path.rename(tmp_path / "elsewhere.db")
        with pytest.raises(DatabaseUnsettled, match="went away"):
            held.check()
        make(path, "delete")
        with pytest.raises(DatabaseUnsettled, match="replaced"):
            held.check()


def test_what_is_no_file_is_not_locked(tmp_path: Path) -> None:
    """A link, a directory and nothing are refused by name."""
    (tmp_path / "link").symlink_to(make(tmp_path / "app.db", "delete"))
    for name, error in (("link", DatabaseUnreadable), (".", DatabaseUnreadable), ("none", DatabaseNotFound)):
        with pytest.raises(error):
            FileLock(str(tmp_path / name))


def test_why_a_file_cannot_be_locked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that this user may not write to is refused with the command that copies it, log and all (H4)."""
    path = make(tmp_path / "app.db", "wal")
    answers = {errno.EROFS: RepairRefused, errno.ENOLCK: DatabaseUnreadable}
    for number, error in answers.items():
        monkeypatch.setattr(FileLock, "_ask", lambda self, seconds, number=number: {"failed": number})
        with pytest.raises(error) as raised:
            FileLock(str(path))
        assert (f"cp {path} {path}-wal" in raised.value.hint) == (number == errno.EROFS)


def test_a_lock_process_that_dies_at_once_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock nothing goes on."""
    monkeypatch.setattr(lock, "MODULE", "tests.support.gone")
    with pytest.raises(DatabaseUnreadable, match="the process for it ended"):
        FileLock(str(make(tmp_path / "app.db", "delete")))
