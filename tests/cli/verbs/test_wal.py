"""`pagewarden wal …` as it is typed: what a person reads, what a script gets, and the exit codes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.guard.control import Control
from pagewarden.guard.only import guard_places
from pagewarden.versions import LinkedSQLite
from pagewarden.wal import enable, status, tune
from tests.cli.conftest import Type
from tests.support.databases import build
from tests.support.holding import holding

AFFECTED = LinkedSQLite(release=(3, 40, 1), source_id="")


@pytest.fixture(autouse=True)
def affected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SQLite that Debian 12 has, whatever is linked."""
    for module in (enable, status, tune):
        monkeypatch.setattr(module, "linked_sqlite", lambda: AFFECTED)


@pytest.fixture
def item(home: Path) -> Path:
    """A database in WAL mode that `holding` can use."""
    return build(home / "item.db", mode="wal", rows=20)


@pytest.fixture
def writer(item: Path) -> Iterator[sqlite3.Connection]:
    """A connection that never checkpoints by itself."""
    with closing(sqlite3.connect(item, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        yield connection


def commit(writer: sqlite3.Connection) -> None:
    """Commit a transaction."""
    writer.execute("UPDATE item SET name = name || 'x'")


def test_status_for_people_names_the_reader_and_the_next_command(
    type_in: Type, item: Path, writer: sqlite3.Connection, home: Path
) -> None:
    """Mode, log, who reads, who has it open, the bug with its advice."""
    (home / "pagewarden.toml").write_text("[wal]\nbound_bytes = 1\n")
    with holding(item) as other:
        other.do("pin")
        commit(writer)
        shown = type_in("wal", "status", item, "--config", "pagewarden.toml")
        verbose = type_in("wal", "status", item, "-v")
    assert shown.code == 1
    for words in ("is in WAL mode", "over its bound", f"pid {other.pid}", "behind", "SQLite 3.40.1", "open in:"):
        assert words in shown.out, words
    assert "READ 0" in verbose.out
    assert verbose.code == 0


def test_status_as_json_and_quietly(type_in: Type, item: Path) -> None:
    """One document; nothing at all where all is well and only what is wrong is wanted."""
    document = type_in("wal", "status", item, "--json").document
    assert (document["journal_mode"], document["frames"], document["guard"]) == ("wal", 0, None)
    assert document["bugs"][0]["name"] == "wal-reset"
    assert type_in("wal", "status", item, "--quiet").out == ""


def test_status_of_what_nobody_has_open(type_in: Type, item: Path, writer: sqlite3.Connection, home: Path) -> None:
    """A log without a -shm is told from its frames, a database without a log as such, one that is empty as empty."""
    commit(writer)
    left = home / "left.db"
    left.write_bytes(item.read_bytes())
    Path(f"{left}-wal").write_bytes(Path(f"{item}-wal").read_bytes())
    assert "SQLite would recover" in type_in("wal", "status", left).out
    (home / "empty.db").touch()
    assert "it is empty" in type_in("wal", "status", "empty.db").out
    assert "rollback-journal mode" in type_in("wal", "status", build(home / "old.db", rows=5)).out


def test_what_a_guard_and_a_damaged_log_look_like(
    type_in: Type, item: Path, writer: sqlite3.Connection, home: Path
) -> None:
    """Who follows it, whether it answers, and a log of which nothing can be told."""
    commit(writer)
    state = home / ".local" / "state" / "pagewarden"
    path = guard_places(state, str(item), "").socket
    for reply, words in (({"status": {"pid": 77}}, "followed by: process 77"), ({}, "a guard that does not answer")):
        with closing(Control(path, lambda _request, _gone, reply=reply: reply)):  # type: ignore[misc]
            assert words in type_in("wal", "status", item).out
    left = home / "left.db"
    left.write_bytes(item.read_bytes())
    os.mkfifo(f"{left}-wal")
    assert type_in("wal", "status", left).code == 12


def test_enable_explains_refuses_and_switches(type_in: Type, home: Path) -> None:
    """What is known of the linked SQLite with the safe way; --off; once more is no harm; exit code 16."""
    database = build(home / "old.db", rows=5)
    done = type_in("wal", "enable", database)
    assert done.code == 0
    for words in ("is now in WAL mode", "skip committed pages", "pagewarden run"):
        assert words in done.out
    foreign = build(home / "foreign.db", rows=5)
    Path(f"{foreign}-wal").write_bytes(bytes(4152))
    refused = type_in("wal", "enable", foreign)
    assert refused.code == 16
    assert "another database's" in refused.err
    assert "was already in WAL mode" in type_in("wal", "enable", database).out
    assert type_in("wal", "enable", database, "--quiet").out.lstrip().startswith("warning: the SQLite of this Python")
    document = type_in("wal", "enable", database, "--off", "--json").document
    assert (document["before"], document["after"], document["changed"]) == ("wal", "rollback", True)


def test_checkpoint_says_who_is_in_the_way(type_in: Type, item: Path, writer: sqlite3.Connection) -> None:
    """Exit code 3 with the process and the command to look at it; 0 once it is gone."""
    with holding(item) as other:
        other.do("pin")
        commit(writer)
        shown = type_in("wal", "checkpoint", item, "--mode", "truncate", "--max-time", "0.1")
        assert shown.code == 3
        for words in ("not done", "nothing is lost", f"ps -fp {other.pid}", "reader:"):
            assert words in shown.out, words
        other.do("end")
        done = type_in("wal", "checkpoint", item, "--mode", "truncate")
    assert (done.code, Path(f"{item}-wal").stat().st_size) == (0, 0)
    assert "writers waited" in done.out
    commit(writer)
    assert type_in("wal", "checkpoint", item, "--quiet").out == ""
    document = type_in("wal", "checkpoint", item, "--json").document
    assert (document["mode"], document["done"], document["log"]) == ("passive", True, document["checkpointed"])


def test_tune_prints_lines_to_copy(type_in: Type, item: Path, home: Path) -> None:
    """Quietly nothing but SQL; from the configuration where nothing is typed; what is typed wins."""
    lines = type_in("wal", "tune", item, "--quiet", "--preset", "safe", "--guarded").out.splitlines()
    assert lines == [
        "PRAGMA journal_mode = WAL;",
        "PRAGMA synchronous = FULL;",
        "PRAGMA wal_autocheckpoint = 0;",
        "PRAGMA journal_size_limit = 67108864;",
        "PRAGMA busy_timeout = 10000;",
    ]
    (home / "pagewarden.toml").write_text(
        f'[databases.app]\npath = "{item}"\nwal = {{ preset = "fast", busy_timeout = 77 }}\n'
    )
    document = type_in("wal", "tune", "app", "--config", "pagewarden.toml", "--synchronous", "extra", "--json").document
    values = {each["pragma"]: each["value"] for each in document["settings"]}
    assert (document["preset"], values["busy_timeout"], values["synchronous"]) == ("fast", "77", "extra")
    text = type_in("wal", "tune", item).out
    for words in ("power loss", "application killed", "normal *", "passive_frames", "else it is", "3.51.3"):
        assert words in text, words
    assert type_in("wal", "tune", item, "--busy-timeout", "3000000000").code == 2


def test_a_wrong_word_in_the_configuration_is_named(type_in: Type, item: Path, home: Path) -> None:
    """With the table, the key and what to write."""
    (home / "pagewarden.toml").write_text('[wal]\npreset = "bold"\n')
    shown = type_in("wal", "status", item, "--config", "pagewarden.toml")
    assert shown.code == 2
    assert "wal.preset" in shown.err
    assert '"safe", "balanced" or "fast"' in shown.err
    (home / "pagewarden.toml").write_text(f'[databases.app]\npath = "{item}"\nwal = {{ wait_seconds = -1 }}\n')
    shown = type_in("wal", "status", "app", "--config", "pagewarden.toml")
    assert "databases.app.wal.wait_seconds" in shown.err
