"""The first promise: `check` changes no byte of the database, -wal or -journal. A test that tries to break it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.runtime import Runtime
from pagewarden.testing import INJURIES
from pagewarden.values import Level, Verdict
from tests.core.check.conftest import Baseline
from tests.support.session import Session

HASH = """
import hashlib, json, pathlib, sys
files = sorted(pathlib.Path(sys.argv[1]).iterdir())
print(json.dumps({file.name: [file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()] for file in files}))
"""

Hashes = dict[str, list[object]]


def hashes(folder: Path) -> Hashes:
    """Hash every file of a folder in another process: here an open and close would drop locks (H1)."""
    output = subprocess.run([sys.executable, "-c", HASH, str(folder)], check=True, capture_output=True).stdout
    found: Hashes = json.loads(output)
    return found


@contextmanager
def rollback(database: Path) -> Iterator[None]:
    """A closed database with a rollback journal."""
    yield


@contextmanager
def rollback_open(database: Path) -> Iterator[None]:
    """One that a writer has open, in the midst of a transaction that is not in the file yet."""
    with Session(database) as writer:
        writer.run("PRAGMA journal_mode=persist")
        writer.run("UPDATE customers SET name = 'new' WHERE id = 3")
        writer.run("BEGIN")
        writer.run("UPDATE customers SET name = 'newer' WHERE id = 4")
        yield
        writer.run("ROLLBACK")


@contextmanager
def wal_closed(database: Path) -> Iterator[None]:
    """A WAL database that nobody has open: there is no -wal."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
    yield


@contextmanager
def wal_open(database: Path) -> Iterator[None]:
    """A WAL database whose newest pages stand in its -wal alone."""
    with Session(database) as writer:
        writer.run("PRAGMA journal_mode=wal")
        writer.run("PRAGMA wal_autocheckpoint=0")
        writer.run("UPDATE customers SET name = 'new'")
        yield


@contextmanager
def wal_left(database: Path) -> Iterator[None]:
    """A -wal that a writer left when it was killed: the next one to close would checkpoint and remove it."""
    with Session(database) as writer:
        writer.run("PRAGMA journal_mode=wal")
        writer.run("PRAGMA wal_autocheckpoint=0")
        writer.run("UPDATE customers SET name = 'new'")
        writer.kill()
    yield


@contextmanager
def damaged(database: Path) -> Iterator[None]:
    """A database with a zeroed page, which checks stumble over."""
    INJURIES["zeroed-page"].apply(database, 3)
    yield


@pytest.mark.parametrize("state", [rollback, rollback_open, wal_closed, wal_open, wal_left, damaged])
def test_check_changes_no_byte(runtime: Runtime, database: Path, baseline: Baseline, state: object) -> None:
    """Every level, with a baseline and without: only an empty -wal and a -shm may appear (H33)."""
    snapshot = baseline(database)
    with state(database):  # type: ignore[operator]
        before = hashes(database.parent)
        for level in Level:
            for file in (None, snapshot):
                run_check(CheckRequest(database=str(database), level=level, baseline=file), runtime)
        after = hashes(database.parent)
    assert before.keys() <= after.keys()
    for name, found in after.items():
        if name in before:
            if not name.endswith("-shm"):
                assert found == before[name], name
        else:
            assert state is wal_closed
            assert (name, found[0]) in (("app.db-wal", 0), ("app.db-shm", 32768))


def test_the_database_is_what_it_was_for_its_application(runtime: Runtime, database: Path) -> None:
    """A writer that has it open keeps its locks through a check: nobody else gets the write lock meanwhile."""
    with Session(database) as holder, Session(database) as other:
        holder.run("PRAGMA journal_mode=wal")
        holder.run("BEGIN IMMEDIATE")
        assert run_check(CheckRequest(database=str(database), level=Level.DEEP), runtime).verdict is Verdict.SOUND
        with pytest.raises(Exception, match="SQLITE_BUSY"):
            other.run("BEGIN IMMEDIATE")
        holder.run("COMMIT")
        other.run("BEGIN IMMEDIATE")
