"""H1: no public call of ours drops a lock of the calling process, and the test that says so can fail.

Each test holds transactions in the test process itself, in WAL and in rollback-journal mode, as a process would that
checks and writes at once. A second process then tries what would succeed only if a lock were lost.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.errors import ReaderCrashed
from pagewarden.live import Pin, examine, open_readonly, read_commit, scratch_copy, snapshot_commit
from pagewarden.processes.reader import PageReader
from pagewarden.repository.format import PageSetHeader
from tests.support import locks
from tests.support.databases import build
from tests.support.locks import inode
from tests.support.program import succeed
from tests.support.session import Session, SessionError

HEADER = PageSetHeader(page_size=4096, pages=0, pages_per_frame=64, timeline="0a" * 16, txid=7, time=datetime.now(UTC))


def ours(*databases: Path) -> set[tuple[str, int, int, int]]:
    """Return the locks of this process on databases and their companions."""
    inodes = {inode(f"{path}{suffix}") for path in databases for suffix in ("", "-wal", "-shm", "-journal")}
    return {
        (lock.kind, lock.inode, lock.first, lock.last)
        for lock in locks.held()
        if lock.pid == os.getpid() and lock.inode in inodes
    }


class Held:
    """A database with an open write transaction of this process."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path = build(path, mode=mode, rows=60)
        self.mode = mode
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute("UPDATE item SET name = 'before'")
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute("UPDATE item SET name = 'after'")
        self.other = Session(self.path)
        self.locks = ours(self.path)
        assert self.locks

    def prove(self) -> None:
        """Fail unless every lock is still held, seen from the system and from a second process."""
        assert ours(self.path) == self.locks
        for sql in ("BEGIN IMMEDIATE", "INSERT INTO item(name) VALUES('stolen')"):
            with pytest.raises(SessionError, match="SQLITE_BUSY"):
                self.other.run(sql)
        if self.mode == "wal":  # only who is alone may leave WAL mode
            with pytest.raises(SessionError, match="SQLITE_BUSY"):
                self.other.run("PRAGMA journal_mode=DELETE")

    def finish(self) -> None:
        """Commit, and fail unless a second process sees exactly that."""
        self.connection.execute("COMMIT")
        with self.other as other:
            assert other.run("SELECT DISTINCT name FROM item") == [["after"]]
            assert other.run("PRAGMA integrity_check") == [["ok"]]
        self.connection.close()


@pytest.fixture(params=["wal", "delete"])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Held]:
    """A database with a transaction of this process, which must be whole at the end."""
    made = Held(tmp_path / "a.db", request.param)
    yield made
    made.prove()
    made.finish()


def attached(call: Callable[[PageReader, int, int], object]) -> Callable[[PageReader, Path], object]:
    """Return a call that is made on an attached database."""

    def work(reader: PageReader, path: Path) -> object:
        return read_commit(
            str(path), reader, lambda attachment, _pin: call(reader, attachment.handle, attachment.pages)
        )

    return work


def through_sqlite(_reader: PageReader, path: Path) -> object:
    """Read through a connection of ours, which is opened and closed beside the one that holds the transaction."""
    with closing(open_readonly(str(path))) as connection:
        return connection.execute("SELECT DISTINCT name FROM item").fetchall()


def pinned(_reader: PageReader, path: Path) -> object:
    """Pin and let go."""
    with Pin(examine(path), connections=2) as pin:
        pin.look()
        pin.begin()
        return pin.still_pinned(), pin.created


CALLS: dict[str, Callable[[PageReader, Path], object]] = {
    "examine": lambda _reader, path: examine(path),
    "open_readonly": through_sqlite,
    "Pin": pinned,
    "glance": lambda reader, path: reader.glance(str(path)),
    "attach and release": lambda reader, path: reader.release(reader.attach(str(path)).handle),
    "sums": attached(lambda reader, handle, pages: reader.sums(handle, 1, pages)),
    "pages": attached(lambda reader, handle, pages: reader.pages(handle, range(1, pages + 1))),
    "file_sums": lambda reader, path: list(reader.file_sums(path, 4096)),
    "read_commit": lambda reader, path: read_commit(
        str(path), reader, lambda attachment, _pin: list(reader.all_sums(attachment)), exact=True, connections=3
    ),
    "snapshot_commit": lambda reader, path: snapshot_commit(str(path), reader, path.parent / "set", HEADER, 1),
    "scratch_copy": lambda reader, path: scratch_copy(str(path), reader, path.parent / "scratch"),
    "ping": lambda reader, _path: reader.ping(),
}


@pytest.mark.parametrize("name", CALLS)
def test_locks_of_the_caller_survive(name: str, held: Held, reader: PageReader) -> None:
    """The call is made in the process that holds the transaction; all its locks are there afterwards."""
    (held.path.parent / "scratch").mkdir()
    CALLS[name](reader, held.path)


def test_locks_survive_a_crash_of_the_reader(held: Held) -> None:
    """The reader's descriptors are closed by its death, which is none of ours."""
    with PageReader() as reader:
        reader.attach(str(held.path))
        assert reader.pid is not None
        os.kill(reader.pid, signal.SIGKILL)
        with pytest.raises(ReaderCrashed):
            reader.attach(str(held.path))
            reader.sums(1, 1, 1)
        assert reader.ping()


def test_the_reader_itself_holds_no_lock(held: Held, reader: PageReader) -> None:
    """Reading needs none: SQLite's pin is the only one."""
    attachment = reader.attach(str(held.path))
    reader.sums(attachment.handle, 1, attachment.pages)
    assert [lock for lock in locks.held() if lock.pid == reader.pid] == []
    reader.release(attachment.handle)


def test_no_call_opens_a_file_of_the_database_itself(tmp_path: Path) -> None:
    """An audit of every open() in the calling process: db, -wal, -shm and -journal are never among them."""
    path = build(tmp_path / "a.db", mode="wal")
    program = """
    import sys
    from pathlib import Path
    opened = []
    sys.addaudithook(lambda event, arguments: event == "open" and opened.append(str(arguments[0])))
    from tests.core.live.test_locks import CALLS
    from pagewarden.processes.reader import PageReader
    path = Path(sys.argv[1])
    (path.parent / "scratch").mkdir()
    with PageReader() as reader:
        for call in CALLS.values():
            call(reader, path)
    names = {f"{path}{suffix}" for suffix in ("", "-wal", "-shm", "-journal")}
    assert opened and not names & set(opened), opened
    """
    succeed(program, path)


@pytest.mark.parametrize(("mode", "suffix"), [("delete", ""), ("wal", "-shm"), ("wal", "")])
def test_the_hazard_is_real(mode: str, suffix: str, tmp_path: Path) -> None:
    """H1 reproduced: one open() and close() in the same process, and the transaction's locks are gone."""
    made = Held(tmp_path / "a.db", mode)
    with open(f"{made.path}{suffix}", "rb") as file:
        file.read(16)
    assert ours(made.path) != made.locks
    if suffix or mode == "delete":
        made.other.run("BEGIN IMMEDIATE")  # what a second process must never get while the first one has it
        made.other.run("ROLLBACK")
    made.other.close()
    made.connection.close()


def test_a_wal_lock_that_was_lost_loses_a_commit(tmp_path: Path) -> None:
    """H1's worst: after one sniff at the header another process's close removes the log, and a commit is gone."""
    program = """
    import os, sqlite3, subprocess, sys
    path, sniff = sys.argv[1], sys.argv[2] == "sniff"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("SELECT count(*) FROM item").fetchone()
    if sniff:
        open(path, "rb").read(16)
    other = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM item').fetchall()"
    other += "; c.close()"
    subprocess.run([sys.executable, "-c", other, path], check=True)
    connection.execute("INSERT INTO item(name) VALUES('committed')")
    os._exit(0)
    """
    found = {}
    for sniff in ("sniff", "no"):
        path = build(tmp_path / f"{sniff}.db", mode="wal")
        succeed(program, path, sniff)
        with Session(path) as session:
            found[sniff] = session.run("SELECT count(*) FROM item WHERE name = 'committed'")
            assert session.run("PRAGMA integrity_check") == [["ok"]]
    assert found == {"sniff": [[0]], "no": [[1]]}
