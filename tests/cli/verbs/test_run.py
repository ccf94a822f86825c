"""`pagewarden run`, `sync` and `mark`: a guard in a process of its own, as people run it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Type
from tests.support.program import unmeasured

PATIENCE = 30.0


@pytest.fixture
def followed(home: Path) -> Path:
    """A database in WAL mode, closed."""
    path = home / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, body TEXT)")
    return path


def commit(path: Path, count: int) -> None:
    """Commit rows, each by itself; the connection is closed afterwards."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=PATIENCE)) as connection:
        for number in range(count):
            connection.execute("INSERT INTO item(body) VALUES(?)", (f"{number}",))


def events(home: Path, name: str) -> list[dict[str, Any]]:
    """Return what the log has of events of a name."""
    lines = (home / "log").read_text().splitlines() if (home / "log").exists() else []
    return [event["fields"] for event in map(json.loads, lines) if event["event"] == name]


def wait_for(home: Path, name: str, count: int = 1) -> dict[str, Any]:
    """Wait until the log has so many events of a name; return the last."""
    until = time.monotonic() + PATIENCE
    while len(found := events(home, name)) < count:
        assert time.monotonic() < until, f"no {name}: {(home / 'log').read_text() if (home / 'log').exists() else ''}"
        time.sleep(0.02)
    return found[-1]


@contextmanager
def running(home: Path, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `pagewarden run` with a log until the context is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pagewarden_cli", "run", *map(str, words), "--log", "log"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home,
        env=unmeasured(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_every_commit_until_sigterm(type_in: Type, followed: Path, home: Path) -> None:
    """Commits are followed, `sync` waits for them, `mark` names one; SIGTERM stores the rest: exit code 0."""
    with running(home, followed, "--repo", "r", "--json") as process:
        wait_for(home, "guard.following")
        commit(followed, 5)
        synced = type_in("sync", followed, "--json").document
        assert (synced["position"]["txid"], synced["guarded"], synced["database"]) == (6, True, str(followed))
        assert (
            type_in("mark", followed, "before migration").out
            == f'{followed} at {short(synced)}:6 is "before migration"\n'
        )
        commit(followed, 4)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    (guard,) = json.loads(out)["guards"]
    assert (guard["state"], guard["stored"]["txid"], guard["commits"], guard["rot"]) == ("stopped", 10, 9, [])
    assert b"guard.following" in err
    restored = type_in("restore", "--repo", "r", "--mark", "before migration", "--to", "back.db", "--json")
    assert (restored.code, restored.document["position"]["txid"]) == (0, 6)
    with closing(sqlite3.connect(home / "back.db")) as connection:
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (5,)


def short(document: Any) -> str:
    """Return the beginning of a timeline, as positions show it."""
    return str(document["position"]["timeline"])[:8]


def test_a_killed_guard_hinders_nobody(type_in: Type, followed: Path, home: Path) -> None:
    """After kill -9 the next one begins at once and goes on commit by commit, as far as the log reaches."""
    with closing(sqlite3.connect(followed, isolation_level=None, timeout=PATIENCE)) as application:
        with running(home, followed, "--repo", "r") as process:
            wait_for(home, "guard.following")
            application.execute("INSERT INTO item(body) VALUES('a')")
            assert type_in("sync", followed).code == 0
            process.kill()
            process.wait(PATIENCE)
        assert type_in("sync", followed).code == 2, "the socket that it left is no guard"
        for _ in range(3):
            application.execute("INSERT INTO item(body) VALUES('b')")
        with running(home, followed, "--repo", "r"):
            wait_for(home, "guard.following", 2)
            assert type_in("sync", followed, "--json").document["position"]["txid"] == 5
    assert not events(home, "guard.gap")
    assert type_in("verify", "--repo", "r", "--read-data").code == 0


def test_rot_is_exit_code_1(followed: Path, home: Path) -> None:
    """A bit that changes in the file is found, named, and what the guard ends with."""
    commit(followed, 200)
    with running(home, followed, "--repo", "r") as process:
        wait_for(home, "guard.following")
        flip = "import os, sys; f = os.open(sys.argv[1], os.O_RDWR);"
        flip += "os.pwrite(f, bytes([os.pread(f, 1, 6000)[0] ^ 1]), 6000)"
        subprocess.run([sys.executable, "-c", flip, followed], check=True)
        assert wait_for(home, "rot.found")["pages"] == [2]
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert f"{followed} is damaged: no commit changed pages 2" in out.decode()


def test_a_rollback_journal_is_a_named_error(type_in: Type, home: Path) -> None:
    """With the command that helps, and an exit code of its own."""
    with closing(sqlite3.connect(home / "old.db")) as connection:
        connection.execute("CREATE TABLE t(a)")
    typed = type_in("run", "old.db", "--repo", "r")
    assert typed.code == 15
    assert f"{home / 'old.db'} is in delete mode" in typed.err
    assert f"hint: pagewarden wal enable {home / 'old.db'}" in typed.err


def test_one_of_several_that_cannot_be_guarded(type_in: Type, followed: Path, home: Path) -> None:
    """It is told, and the others are guarded; whatever signals the command had are as before."""
    before = signal.getsignal(signal.SIGTERM)

    def end() -> None:
        wait_for(home, "guard.following")
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    typed = type_in("run", followed, "gone.db", "--repo", "r", "--log", "log")
    thread.join()
    assert typed.code == 0
    assert f"warning: {home / 'gone.db'} is not there (hint: " in typed.err
    assert "guard.following" in typed.err
    assert f"{followed}: stored up to" in typed.out
    assert signal.getsignal(signal.SIGTERM) is before


def test_sync_without_a_guard_makes_a_backup(type_in: Type, followed: Path) -> None:
    """It says so; without a repository it is wrong usage."""
    assert "nothing guards it" in type_in("sync", followed, "--repo", "r").out
    commit(followed, 1)
    marked = type_in("mark", followed, "now", "--repo", "r", "--json").document
    assert (marked["position"]["txid"], marked["guarded"], marked["text"]) == (2, False, "now")
    refused = type_in("sync", followed)
    assert (refused.code, "nothing guards" in refused.err) == (2, True)
    assert type_in("mark", followed, "two\nlines", "--repo", "r").code == 2


def test_watching_a_log_costs_no_lock(followed: Path, home: Path) -> None:
    """Watching a log with inotify opens nothing: no lock of the guard's own connections is lost (H1)."""
    with running(home, followed, "--repo", "r") as process:
        wait_for(home, "guard.following")
        commit(followed, 3)
        wait_for(home, "commits.stored")
        time.sleep(1.5)  # idle: the watch is set
        notified = [
            line
            for entry in os.scandir(f"/proc/{process.pid}/fdinfo")
            for line in Path(entry.path).read_text().splitlines()
            if line.startswith("inotify ")
        ]
        assert notified, "the log is watched"
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        inode = os.stat(f"{followed}-shm").st_ino
        own = [words for words in held if words[4] == str(process.pid) and words[5].endswith(f":{inode}")]
        assert own, "the pin is held, and the lock that says that the database is open"
