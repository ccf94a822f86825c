"""The `wal` verbs as methods: the same reports, and the application's own process opens nothing (H1)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import pagewarden
from pagewarden.database import Database
from pagewarden.errors import ConfigurationInvalid
from pagewarden.values import WalCheckpointReport, WalEnableReport, WalStatusReport, WalTuneReport
from pagewarden.wal.policy import CheckpointPolicy
from tests.core.wal.conftest import commit, wal_of
from tests.support.databases import build


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration, and a state directory of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "pagewarden.toml"
    file.write_text('[wal]\npreset = "safe"\nbound_bytes = 4096\n')
    return file


@pytest.fixture
def db(database: Path, configured: Path) -> Iterator[Database]:
    """A handle on a database in WAL mode."""
    with pagewarden.open(database, plugins=[], config=configured) as opened:
        yield opened


def test_the_methods_return_what_the_verbs_print(db: Database, database: Path, writer: sqlite3.Connection) -> None:
    """By the configuration that was named; beside a connection of the application's own, whose locks stay."""
    commit(writer, 3)
    status = db.wal_status()
    assert isinstance(status, WalStatusReport)
    assert (status.bound_bytes, status.over_bound, status.advice.action) == (4096, True, "restart")
    tuned = db.wal_tune(busy_timeout=77)
    assert isinstance(tuned, WalTuneReport)
    assert isinstance(tuned.guard, CheckpointPolicy)
    values = {each.pragma: each.value for each in tuned.settings}
    assert (tuned.preset, values["synchronous"], values["busy_timeout"]) == ("safe", "full", "77")
    done = db.wal_checkpoint(mode="truncate")
    assert isinstance(done, WalCheckpointReport)
    assert (done.done, wal_of(database).stat().st_size) == (True, 0)
    assert isinstance(db.wal_enable(), WalEnableReport)
    commit(writer)
    with pytest.raises(ConfigurationInvalid):
        db.wal_checkpoint(mode="everything")
    with pytest.raises(ConfigurationInvalid):
        db.wal_tune(preset="bold")


def test_it_switches_there_and_back(tmp_path: Path, configured: Path) -> None:
    """With no connection of its own open, an application may do it."""
    database = build(tmp_path / "old.db", rows=5)
    with pagewarden.open(database, plugins=[], config=configured) as db:
        assert db.wal_enable(force=True).after == "wal"
        assert db.wal_enable(off=True).after == "rollback"
