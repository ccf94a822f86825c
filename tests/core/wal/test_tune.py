"""`wal tune` prints what the application has to set, proved by SQLite itself, and does not pretend to have set it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.config import WalSettings
from pagewarden.errors import ConfigurationInvalid
from pagewarden.guard.control import Control
from pagewarden.guard.only import guard_places
from pagewarden.runtime import Runtime
from pagewarden.versions import LinkedSQLite
from pagewarden.wal import tune
from pagewarden.wal.durability import SYNCHRONOUS, loss
from pagewarden.wal.presets import PRESETS, chosen
from pagewarden.wal.reports import WalTuneReport
from pagewarden.wal.tune import WalTuneRequest, run_wal_tune
from tests.support.databases import build

COMMITTER = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.argv[2:]:
    connection.execute(line).fetchall()
connection.execute("CREATE TABLE t(x)")
for n in range(30):
    connection.execute("INSERT INTO t VALUES(?)", (n,))
os.kill(os.getpid(), signal.SIGKILL)
"""


def ask(database: Path, runtime: Runtime, **settings: object) -> WalTuneReport:
    """Run it."""
    chosen = WalSettings(**settings)  # type: ignore[arg-type]
    return run_wal_tune(WalTuneRequest(database=str(database), settings=chosen), runtime)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_lines_set_what_they_say(preset: str, database: Path, runtime: Runtime, tmp_path: Path) -> None:
    """Executed on a connection of its own, each is read back as the report has it; only the mode stays in the file."""
    report = ask(database, runtime, preset=preset)
    scratch = tmp_path / "scratch.db"
    with closing(sqlite3.connect(scratch, isolation_level=None)) as connection:
        for setting in report.settings:
            connection.execute(setting.line)
        found = {
            each.pragma: str(connection.execute(f"PRAGMA {each.pragma}").fetchone()[0]) for each in report.settings
        }
    found["synchronous"] = SYNCHRONOUS[int(found["synchronous"])]
    assert found == {each.pragma: each.value for each in report.settings}
    with closing(sqlite3.connect(scratch, isolation_level=None, timeout=0)) as fresh:
        for each in report.settings:
            value = str(fresh.execute(f"PRAGMA {each.pragma}").fetchone()[0])
            value = SYNCHRONOUS[int(value)] if each.pragma == "synchronous" else value
            assert value == (each.value if each.persistent else each.default), each.pragma
    assert [each.pragma for each in report.settings if each.persistent] == ["journal_mode"]
    (mine,) = (each for each in report.losses if each.chosen)
    assert mine.synchronous == PRESETS[preset].synchronous  # type: ignore[index]


def test_the_database_is_not_touched(database: Path, runtime: Runtime) -> None:
    """Not a byte, and nothing appears beside it."""
    before = database.read_bytes()
    ask(database, runtime, preset="safe")
    assert database.read_bytes() == before
    assert [path.name for path in database.parent.glob("app.db*")] == ["app.db"]


def test_each_setting_stands_in_place_of_the_presets(database: Path, runtime: Runtime) -> None:
    """And the guard's half of them goes into its policy."""
    report = ask(
        database,
        runtime,
        preset="fast",
        synchronous="extra",
        autocheckpoint=7,
        journal_size_limit=8,
        busy_timeout=9,
        passive_frames=10,
        idle_seconds=11.0,
        bound_bytes=12,
        checkpoint="truncate",
        wait_seconds=13.0,
    )
    values = {each.pragma: each.value for each in report.settings}
    assert values == {
        "journal_mode": "wal",
        "synchronous": "extra",
        "wal_autocheckpoint": "7",
        "journal_size_limit": "8",
        "busy_timeout": "9",
    }
    policy = report.guard
    assert (policy.passive_frames, policy.idle_seconds, policy.bound_bytes) == (10, 11.0, 12)
    assert (policy.mode, policy.wait_seconds) == ("truncate", 13.0)


def test_zero_is_a_value_and_not_the_presets(database: Path, runtime: Runtime) -> None:
    """What is wanted may be nothing."""
    preset = chosen(WalSettings(autocheckpoint=0, journal_size_limit=0, busy_timeout=0, passive_frames=0))
    assert (preset.autocheckpoint, preset.journal_size_limit, preset.busy_timeout) == (0, 0, 0)
    assert preset.policy.passive_frames == 0
    warnings = ask(database, runtime, autocheckpoint=0, busy_timeout=0).warnings
    assert any("nobody checkpoints" in warning for warning in warnings)
    assert any("fails at once" in warning for warning in warnings)


@pytest.mark.parametrize("setting", ["autocheckpoint", "busy_timeout"])
def test_what_sqlite_does_not_keep_is_refused(setting: str, database: Path, runtime: Runtime) -> None:
    """And not printed as if it worked."""
    with pytest.raises(ConfigurationInvalid, match="more than SQLite keeps"):
        ask(database, runtime, **{setting: 1 << 31})


def test_a_guard_takes_the_checkpoints_off_the_application(
    database: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The safe way with a SQLite that has the WAL-reset bug: one checkpointer."""
    monkeypatch.setattr(tune, "linked_sqlite", lambda: LinkedSQLite(release=(3, 40, 1), source_id=""))
    alone = ask(database, runtime)
    assert any("wal_autocheckpoint=0" in warning for warning in alone.warnings)
    path = guard_places(runtime.state, str(database), "").socket
    with closing(Control(path, lambda _request, _gone: {"status": {"pid": 77}})):
        assert any("--guarded" in warning for warning in ask(database, runtime).warnings)
        guarded = ask(database, runtime, guarded=True)
    assert guarded.warnings == ()
    (line,) = (each.line for each in guarded.settings if each.pragma == "wal_autocheckpoint")
    assert line == "PRAGMA wal_autocheckpoint = 0;"


def test_a_database_in_another_mode_is_told_how_to_switch(tmp_path: Path, runtime: Runtime) -> None:
    """Once, because the file keeps it."""
    report = ask(build(tmp_path / "old.db", rows=5), runtime, synchronous="off")
    assert report.journal_mode == "rollback"
    assert any("pagewarden wal enable" in warning for warning in report.warnings)
    assert any("synchronous=OFF" in warning for warning in report.warnings)


@pytest.mark.parametrize("synchronous", SYNCHRONOUS)
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_an_application_that_is_killed_loses_nothing(synchronous: str, mode: str, tmp_path: Path) -> None:
    """Whatever `synchronous` is: what the table says of a crash of the application alone."""
    database = tmp_path / "app.db"
    lines = [f"PRAGMA journal_mode={mode}", f"PRAGMA synchronous={synchronous}"]
    done = subprocess.run([sys.executable, "-c", COMMITTER, database, *lines], check=False)
    assert done.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*), max(x) FROM t").fetchone() == (30, 29)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_only_what_is_not_synced_can_damage() -> None:
    """OFF in any mode, NORMAL with a rollback journal on an old file system; no preset is one of them."""
    risky = {(mode, each) for mode in ("wal", "rollback") for each in SYNCHRONOUS if loss(mode, each).damages}
    assert risky == {("wal", "off"), ("rollback", "off"), ("rollback", "normal")}
    assert not any(loss("wal", preset.synchronous).damages for preset in PRESETS.values())
