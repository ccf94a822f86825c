"""Processes that write past everybody else are found, told apart, and what they hold can be saved (H1, H5)."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden import holders
from pagewarden.holders import Holders, files_held, find_holders, find_locks, is_ours
from pagewarden.processes.reader import PageReader
from pagewarden.strays import LOOKS, Stray, find_strays
from tests.support import load
from tests.support.databases import build
from tests.support.holding import holding

LOOKED = 25 if os.environ.get("PAGEWARDEN_FULL") else 8
"""How often a busy database is looked at."""

TICK = 0.02  # seconds: more than the resolution of a file's times


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database in WAL mode."""
    return build(tmp_path / "a b.db", mode="wal", rows=5)


def strays(path: Path) -> list[Stray]:
    """Look for strays now."""
    return list(find_strays(find_holders(str(path))))


def names(path: Path) -> list[str]:
    """Return the values of the column that `write` changes."""
    with closing(sqlite3.connect(path)) as connection:
        return [str(name) for (name,) in connection.execute("SELECT name FROM item WHERE id = 1")]


def test_a_healthy_process_is_no_stray(database: Path) -> None:
    """Idle, after a write, and with our own page reader beside it, which has no lock."""
    with holding(database) as process, PageReader() as reader:
        assert strays(database) == []
        process.do("write")
        attachment = reader.attach(str(database))
        assert reader.pid is not None and files_held(str(database), reader.pid)
        assert is_ours(reader.pid) and is_ours(os.getpid()) and not is_ours(process.pid)
        assert strays(database) == []
        reader.detach(attachment.handle)


@pytest.mark.parametrize("deed", ["sniff", "sniff_index"])
def test_a_process_that_lost_its_locks_is_named(database: Path, deed: str) -> None:
    """H1: one open() and close() of either file dropped its locks; what it wrote is saved by the command given."""
    with holding(database) as process:
        process.do("write")
        process.do(deed)
        (stray,) = strays(database)
        assert (stray.pid, stray.kind, stray.harmful) == (process.pid, "lost-locks", True)
        assert f"(pid {process.pid})" in str(stray)
        assert f"/proc/{process.pid}/fd/" in stray.evidence
        subprocess.run(stray.saving, shell=True, check=True)
        saved = Path(f"{database}.saved")
        assert names(saved)[0].endswith("!")


def test_a_process_that_writes_to_a_deleted_log_is_named(database: Path) -> None:
    """H5: nobody else sees its commits any more; they are saved by the command given."""
    with holding(database) as process:
        Path(f"{database}-wal").unlink()
        process.do("write")
        (stray,) = strays(database)
        assert (stray.pid, stray.kind, stray.harmful) == (process.pid, "deleted-files", True)
        assert f"has gone on writing to {database.name}-wal" in stray.why
        copied = [shlex.split(command)[2] for command in stray.saving.split(" && ")]
        assert copied == [f"{database}.saved", f"{database}.saved-wal"]
        subprocess.run(stray.saving, shell=True, check=True)
        assert names(Path(copied[0]))[0].endswith("!")


def test_a_log_deleted_under_an_idle_process_is_lost_already(database: Path) -> None:
    """Whatever it commits next, it commits there."""
    with holding(database) as process:
        process.do("write")
        time.sleep(TICK)
        Path(f"{database}-wal").unlink()
        (stray,) = strays(database)
        assert (stray.kind, stray.harmful) == ("deleted-files", True)
        assert f"goes on using {database.name}-wal" in stray.why


def test_a_replaced_database_is_harm_once_it_is_written_to(database: Path, tmp_path: Path) -> None:
    """H5: before that the process only holds an old state, which may be what its owner wants; but where its log stayed,
    its next commit is laid over the new file."""
    new = build(tmp_path / "new.db", rows=5)
    with holding(database) as process:
        process.do("write")
        time.sleep(TICK)
        os.replace(new, database)
        (stray,) = strays(database)
        assert (stray.kind, stray.harmful) == ("deleted-files", True)
        for suffix in ("-wal", "-shm"):
            Path(f"{database}{suffix}").unlink()
        (stray,) = strays(database)
        assert (stray.kind, stray.harmful) == ("deleted-files", False)
        assert "would be lost" in stray.why
        time.sleep(TICK)
        process.do("write")
        (stray,) = strays(database)
        assert (stray.harmful, f"has gone on writing to {database.name}-shm" in stray.why) == (True, False)
        assert f"{database.name}-wal" in stray.why


def test_a_forked_child_that_touches_nothing_is_not_blamed(database: Path) -> None:
    """H3: it has inherited descriptors and no lock. Once its parent is gone it is what is left of the connection."""
    with holding(database) as process:
        child = int(process.do("fork"))
        (stray,) = strays(database)
        assert (stray.pid, stray.kind, stray.harmful) == (child, "inherited-files", False)


def test_processes_that_open_and_close_are_not_blamed(tmp_path: Path) -> None:
    """While a connection is made or ended, it has files without locks, and deletes what it has open."""
    path = tmp_path / "busy.db"
    load.make(path, mode="wal", rows=300)
    with load.running(path, ["visitor"] * 3 + ["writer"], tmp_path / "reports"):
        for _ in range(LOOKED):
            assert strays(path) == []
    with load.running(path, ["visitor"], tmp_path / "alone"):
        for _ in range(LOOKED):
            assert strays(path) == []


def test_what_changes_between_two_looks_is_not_believed(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stray must be one in each of several looks; and where locks cannot be seen, nobody has lost any."""
    with holding(database) as process:
        process.do("sniff")
        seen = find_holders(str(database))
        pauses: list[float] = []

        def mended(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == LOOKS:
                process.do("write")  # it takes its locks again

        assert len(find_strays(seen, sleep=pauses.append)) == 1
        assert len(pauses) == LOOKS
        pauses.clear()
        assert find_strays(seen, sleep=mended) in ((), find_strays(seen))
        monkeypatch.setattr("pagewarden.strays.find_locks", lambda _: None)
        assert find_strays(seen) == ()
    assert find_strays(seen) == ()  # it has ended


def test_locks_cannot_be_told_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is no empty answer."""
    assert find_locks(str(tmp_path / "a.db")) == ()
    monkeypatch.setattr(holders, "_PROC", tmp_path)
    assert find_locks(str(tmp_path / "a.db")) is None
    assert find_strays(Holders(path="a.db", holders=(), locks=())) == ()
