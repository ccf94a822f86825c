"""Watching a log: told of the first change, woken by anybody, opening nothing."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.guard.pins import Pins
from pagewarden.guard.watch import InotifyWatcher, PollingWatcher, Watcher, make_watcher
from pagewarden.live.place import examine
from tests.support.locks import held, inode


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "app.db-wal"
    path.write_bytes(b"frames")
    return path


def test_a_change_is_told_once(log: Path) -> None:
    """The first change after `arm`, at once, and no further one until it is armed again."""
    watcher = InotifyWatcher(str(log))
    for _ in range(2):
        watcher.arm()
        assert not watcher.wait(0.01)
        with log.open("ab") as file:
            file.write(b"more")
        assert watcher.wait(1.0)
        with log.open("ab") as file:
            file.write(b"more")
        assert not watcher.wait(0.01)
    watcher.close()


def test_a_log_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    """The wait ends by its time; a log that comes later is watched then."""
    watcher = InotifyWatcher(str(tmp_path / "app.db-wal"))
    watcher.arm()
    assert not watcher.wait(0.01)
    (tmp_path / "app.db-wal").write_bytes(b"")
    watcher.arm()
    (tmp_path / "app.db-wal").write_bytes(b"frames")
    assert watcher.wait(1.0)
    watcher.close()


@pytest.mark.parametrize("kind", [InotifyWatcher, PollingWatcher])
def test_anybody_may_wake_who_waits(log: Path, kind: type[Watcher]) -> None:
    """From another thread, or before: the next wait returns at once."""
    watcher = kind(str(log))  # type: ignore[call-arg]
    watcher.wake()
    watcher.wake()
    assert watcher.wait(1.0)
    timer = threading.Timer(0.05, watcher.wake)
    began = time.monotonic()
    timer.start()
    watcher.arm()
    assert watcher.wait(0.24)
    assert time.monotonic() - began < 0.24
    timer.join()
    assert not watcher.wait(-1.0)
    watcher.close()


def test_where_there_is_no_inotify_it_polls(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose user has no watches left."""

    def refuse(self: InotifyWatcher, path: str) -> None:
        raise OSError(24, "no more")

    monkeypatch.setattr(InotifyWatcher, "__init__", refuse)
    watcher = make_watcher(str(log))
    assert isinstance(watcher, PollingWatcher)
    watcher.close()


def test_watching_drops_no_lock(tmp_path: Path) -> None:
    """A process that watches a log and holds a pin on it has all its locks afterwards (H1)."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(a)")
        with Pins(examine(path)) as pins:
            assert pins.journal_mode() == "wal"
            pins.begin()
            before = own(path)
            assert before
            watcher = make_watcher(f"{path}-wal")
            assert isinstance(watcher, InotifyWatcher)
            for _ in range(3):
                watcher.arm()
                connection.execute("INSERT INTO t VALUES(1)")
                assert watcher.wait(1.0)
            watcher.close()
            assert own(path) >= before


def own(path: Path) -> set[tuple[int, int]]:
    """Return the bytes of the files of a database that this process has locks on."""
    files = {inode(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")}
    return {(lock.inode, lock.first) for lock in held() if lock.pid == os.getpid() and lock.inode in files}


def test_pins_take_turns(tmp_path: Path) -> None:
    """There is always one; the older goes when it is let go, and both are open until then."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(a)")
        with Pins(examine(path)) as pins:
            seen = []
            for number in range(3):
                connection.execute("INSERT INTO t VALUES(?)", (number,))
                pins.begin()
                seen.append(pins.held)
                assert pins.still()
                pins.let_go()
                seen.append(pins.held)
            assert seen == [1, 1, 2, 1, 2, 1]
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            assert busy, "the pin that is held keeps the log"
            path.rename(tmp_path / "elsewhere.db")
            assert not pins.still(), "another file stands at the path, or none (H5)"
            (tmp_path / "elsewhere.db").rename(path)
