"""What the tests of the command line share: a small database, a way to type, and a home of its own."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pagewarden.processes.reader import PageReader
from pagewarden_cli.command import main


@dataclass(frozen=True)
class Typed:
    """What one invocation gave."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


Type = Callable[..., Typed]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own, without a configuration, and the current folder in it."""
    return enter_home(tmp_path / "home", monkeypatch)


def enter_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder, and make it the home folder and the current one; nothing else of the environment counts."""
    home.mkdir()
    for name in ("PAGEWARDEN_CONFIG", "NO_COLOR", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "_PAGEWARDEN_COMPLETE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


class WarmReader(PageReader):
    """A page reader that outlives the invocations, each of which ends its own; not one that left something open."""

    def close(self) -> None:
        """Let it stay, unless something is attached."""
        if self._handles:
            super().close()

    def end(self) -> None:
        """End it."""
        super().close()


@pytest.fixture(scope="module")
def warm_reader() -> Iterator[WarmReader]:
    """A page reader that was started ahead, as the command's own process does it: to start one takes longest."""
    reader = WarmReader()
    yield reader
    reader.end()


@pytest.fixture
def type_in(capsys: pytest.CaptureFixture[str], warm_reader: WarmReader) -> Type:
    """Run one command line in this process."""

    def run(*words: str | Path) -> Typed:
        code = main([str(word) for word in words], warm_reader)
        captured = capsys.readouterr()
        return Typed(code, captured.out, captured.err)

    return run


@pytest.fixture
def database(home: Path) -> Path:
    """A small database in WAL mode that nobody has open."""
    return make_database(home / "app.db")


def make_database(path: Path) -> Path:
    """Make a small database in WAL mode with a table, an index and a foreign key."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(
            """
            CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT);
            CREATE TABLE note(id INTEGER PRIMARY KEY, person INTEGER REFERENCES person(id), text TEXT);
            CREATE INDEX note_person ON note(person);
            """
        )
        connection.executemany("INSERT INTO person VALUES(?, ?)", [(n, f"person {n}") for n in range(1, 51)])
        rows = [(n, n % 50 + 1, f"note {n} " + "x" * 200) for n in range(1, 501)]
        connection.executemany("INSERT INTO note VALUES(?, ?, ?)", rows)
        connection.commit()
    return path


@pytest.fixture
def damaged(database: Path) -> Path:
    """A database with a leaf page of its table overwritten with zeros."""
    data = bytearray(database.read_bytes())
    begin = data.index(b"note 77 xxxx") // 4096 * 4096
    data[begin : begin + 4096] = bytes(4096)
    database.write_bytes(data)
    return database


@pytest.fixture
def pagewarden() -> Iterator[list[str]]:
    """The words that start the command as a process of its own."""
    yield [sys.executable, "-P", "-m", "pagewarden_cli"]
