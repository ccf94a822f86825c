"""Who has a database open (H5), found without opening it (H1)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sized
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from pagewarden import holders
from pagewarden.errors import DatabaseBusy
from pagewarden.holders import SHM_READ_LOCKS, find_holders
from tests.support.databases import build
from tests.support.public import NOBODY, printed, public_folder
from tests.support.session import Session


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database in WAL mode."""
    return build(tmp_path / "app.db", mode="wal", rows=5)


def test_a_closed_database_has_no_holders(database: Path) -> None:
    """Nobody is named where nobody is."""
    found = find_holders(str(database))
    assert (found.holders, found.locks) == ((), ())
    found.refuse("replace", forcible=True)


def test_another_process_is_named_with_all_that_it_has_open(database: Path) -> None:
    """A connection in WAL mode has the database, its -wal and its -shm open, and locks on two of them."""
    with Session(database) as session:
        session.run("SELECT count(*) FROM item")
        found = find_holders(str(database))
        (holder,) = found.holders
        assert (holder.pid, holder.relation) == (session.pid, "a child of this process")
        assert holder.command.startswith("python")
        assert holder.files == ("app.db", "app.db-shm", "app.db-wal")
        assert {lock.file for lock in found.locks if lock.pid == session.pid} == {"app.db", "app.db-shm"}


def test_a_reader_in_a_transaction_is_seen_by_its_lock_on_the_index(database: Path) -> None:
    """Who holds the log back holds a read lock on the -shm; only committed writes and checkpoints take others."""
    with Session(database) as session:
        session.run("BEGIN")
        session.run("SELECT count(*) FROM item")
        locks = find_holders(str(database)).locks
        assert [lock.pid for lock in locks if lock.file == "app.db-shm" and lock.first in SHM_READ_LOCKS] == [
            session.pid
        ]
        assert not any(lock.write for lock in locks)


def test_this_process_is_told_apart(database: Path) -> None:
    """A connection of our own is a holder like any other, and called by its name."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("SELECT count(*) FROM item").fetchall()
        (holder,) = find_holders(str(database)).holders
        assert (holder.pid, holder.relation) == (os.getpid(), "this process")
        assert f"(pid {os.getpid()}, this process) has app.db, app.db-shm, app.db-wal open" in str(holder)
    assert not find_holders(str(database)).holders


def test_an_idle_connection_without_locks_is_seen_by_its_open_file(tmp_path: Path) -> None:
    """In rollback-journal mode nothing is locked between transactions; the open file gives it away all the same."""
    database = build(tmp_path / "app.db", rows=5)
    with Session(database) as session:
        session.run("SELECT count(*) FROM item")
        found = find_holders(str(database))
        assert [holder.pid for holder in found.holders] == [session.pid]
        assert found.locks == ()


def test_a_replaced_file_is_still_held(database: Path, tmp_path: Path) -> None:
    """After a rename over the database its old holder is named with the deleted file, -wal and -shm."""
    with Session(database) as session:
        session.run("SELECT count(*) FROM item")
        os.link(database, tmp_path / "aside.db")
        os.replace(build(tmp_path / "new.db", rows=1), database)
        os.unlink(f"{database}-wal")
        (holder,) = find_holders(str(database)).holders
        assert holder.files == ("app.db (deleted)", "app.db-shm", "app.db-wal (deleted)")
        also = find_holders(str(database), also=[str(tmp_path / "aside.db")])
        assert "aside.db" in also.holders[0].files


def test_the_whole_lock_table_is_understood(database: Path) -> None:
    """Blocked requests are not locks, and a write lock to the end of the file is read as one."""
    script = (
        "import fcntl,sys; f=open(sys.argv[1],'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); print('x', flush=True);"
        "sys.stdin.read()"
    )
    run = [sys.executable, "-c", script, str(database)]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.read(1)
        with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as second:
            while str(second.pid) not in Path("/proc/locks").read_text():
                os.sched_yield()
            found = find_holders(str(database))
            assert [(lock.pid, lock.write, lock.first, lock.last) for lock in found.locks] == [
                (first.pid, True, 0, None)
            ]
            assert {holder.pid for holder in found.holders} == {first.pid, second.pid}
            first.communicate(b"")
            second.communicate(b"")


def test_refusing_names_every_holder_and_the_next_command(database: Path) -> None:
    """The error is DatabaseBusy with process ids; --force is offered only where there is one."""
    with Session(database) as session:
        session.run("SELECT count(*) FROM item")
        found = find_holders(str(database))
        with pytest.raises(DatabaseBusy, match=rf"cannot replace .*app\.db: python.* \(pid {session.pid}") as raised:
            found.refuse("replace", forcible=True)
        assert raised.value.fields["pids"] == [session.pid]
        assert f"ps -fp {session.pid}" in raised.value.hint
        assert "--force" in raised.value.hint
        with pytest.raises(DatabaseBusy) as raised:
            found.refuse("injure", forcible=False)
        assert "--force" not in raised.value.hint


def test_what_cannot_be_seen_is_said() -> None:
    """A user who may not look into every process is told so; the locks of its own and of others are still seen."""
    program = (
        "import os, sys\n"
        "from pagewarden.holders import find_holders\n"
        f"{NOBODY}\n"
        "found = find_holders(sys.argv[1])\n"
        "fds = [f'/proc/{pid}/fd' for pid in os.listdir('/proc') if pid.isdecimal()]\n"
        "hidden = any(os.path.exists(fd) and not os.access(fd, os.R_OK) for fd in fds)\n"
        "assert found.complete is not hidden, found\n"
        "print(*[holder.pid for holder in found.holders])\n"
    )
    with public_folder() as folder, Session(build(folder / "app.db", mode="wal", rows=5)) as session:
        session.run("SELECT count(*) FROM item")
        assert printed(program, folder / "app.db").split() == [str(session.pid)]


def test_a_system_without_proc_says_that_it_cannot_tell(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without /proc nothing is claimed: neither holders nor that there are none."""
    monkeypatch.setattr(holders, "_PROC", tmp_path / "no-proc")
    found = find_holders(str(database))
    assert not found.complete
    assert "cannot be told" in found.why
    found.refuse("replace", forcible=True)


@pytest.mark.parametrize(("user", "whose"), [(0, "although this is root"), (1000, "as this user")])
def test_why_a_process_cannot_be_looked_into_is_said_truly(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, whose: str
) -> None:
    """Root may be shut off by a container alone; and one that has ended, or left but its exit status, hides nothing."""
    proc = tmp_path / "proc"
    for pid, state in (("self", "S"), ("20", "S"), ("21", "Z"), ("22", "X")):
        (proc / pid / "fd").mkdir(parents=True)
        (proc / pid / "stat").write_text(f"{pid} (a) S (name) {state} 1 1 1 0")
    (proc / "23").mkdir()
    looked = []

    def shut_off(pid: int, wanted: Sized, names: Sized) -> NoReturn:
        looked.append(pid)
        if pid == 22:
            shutil.rmtree(proc / "22")
        raise PermissionError(13, f"no leave for {len(wanted)} files of {len(names)} names")

    monkeypatch.setattr(holders, "_PROC", proc)
    monkeypatch.setattr(holders, "_open_files", shut_off)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    found = find_holders(str(database))
    assert sorted(looked) == [20, 21, 22, 23]
    assert found.why.startswith("2 processes cannot be looked into, ")  # 20, and 23 of which nothing can be read
    assert whose in found.why


def test_processes_that_end_or_hide_do_not_matter(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ended is left out, one that may not be looked into is counted, a lock of an unseen one is kept."""
    proc = tmp_path / "proc"
    for pid in ("self", "10", "11", "12"):
        (proc / pid / "fd").mkdir(parents=True)
    (proc / "10" / "fd").rmdir()
    (proc / "11" / "fd" / "3").symlink_to("pipe:[1]")
    (proc / "11" / "fd" / "4").symlink_to("/gone")
    (proc / "12" / "fd" / "3").symlink_to(database)
    (proc / "12" / "stat").write_text("12 (a (strange) name) S 11 12 12 0")
    found = database.stat()
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    (proc / "locks").write_text(
        f"1: POSIX  ADVISORY  READ  -1 {place} 1073741826 1073742335\n"
        f"2: -> POSIX  ADVISORY  WRITE 9 {place} 0 EOF\n"
        "3: FLOCK  ADVISORY  WRITE 9 00:01:1 0 EOF\n"
        "nonsense\n"
    )
    monkeypatch.setattr(holders, "_PROC", proc)
    seen = find_holders(str(database))
    assert [(holder.pid, holder.command) for holder in seen.holders] == [(0, "a process"), (12, "a process")]
    assert str(seen.holders[0]) == "a process that cannot be told has app.db open"
    assert seen.complete
    (proc / "locks").unlink()
    assert [holder.pid for holder in find_holders(str(database)).holders] == [12]
