"""What the tests of WAL management share: a database in WAL mode whose log has frames, and a runtime."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.processes.reader import PageReader
from pagewarden.runtime import PluginChoice, Runtime
from tests.support.databases import build


@pytest.fixture(scope="module")
def reader() -> Iterator[PageReader]:
    """A warm page reader."""
    with PageReader() as made:
        yield made


@pytest.fixture
def runtime(reader: PageReader, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime with a state directory of its own, and a reader that outlives it."""
    made = Runtime(plugins=PluginChoice(only=("target-directory",)), reader=reader, state=tmp_path / "state")
    yield made


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A small database in WAL mode that nobody has open."""
    return build(tmp_path / "app.db", mode="wal", rows=40)


@pytest.fixture
def writer(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection that commits, and never checkpoints by itself; one commit stands in the log."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        commit(connection)
        yield connection


def commit(connection: sqlite3.Connection, times: int = 1) -> None:
    """Commit transactions of a few frames each."""
    for _ in range(times):
        connection.execute("UPDATE item SET name = name || 'x' WHERE id % 7 = 1")


def wal_of(database: Path) -> Path:
    """Return the log's path."""
    return database.with_name(f"{database.name}-wal")
