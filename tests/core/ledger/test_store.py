from __future__ import annotations

import os
import random
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.errors import LedgerUnusable
from pagewarden.ledger import LedgerRequest, run_ledger
from pagewarden.ledger.notebook import Notebook
from pagewarden.ledger.store import VERSION, note_restore
from pagewarden.runtime import Runtime
from pagewarden.values import LedgerReport
from tests.core.ledger.conftest import damage, report, write
from tests.support.program import ROOT


def read(state: Path, database: str = "/srv/app.db") -> LedgerReport:
    """Return what the ledger has."""
    return run_ledger(LedgerRequest(database=database), Runtime(state=state))


def test_where_there_is_no_ledger_there_is_nothing_to_tell(state: Path) -> None:
    """And to ask makes none."""
    assert read(state) == LedgerReport(database="/srv/app.db", suspects=(), runs=())
    assert note_restore(state, "/srv/app.db", datetime.now(UTC)) == ""
    assert not state.exists()


def test_it_belongs_to_its_owner_and_leaves_no_log(state: Path) -> None:
    """Evidence may hold what a database holds. WAL mode; whoever closes last checkpoints."""
    assert write(state, report()) == []
    assert {file.name for file in state.iterdir()} == {"ledger.db"}
    assert stat.S_IMODE((state / "ledger.db").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_on_a_network_file_system_it_has_a_rollback_journal(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H4: WAL cannot be trusted there."""
    monkeypatch.setattr("pagewarden.ledger.store.file_system", lambda _: "nfs4")
    assert write(state, report()) == []
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def noise(data: bytes) -> bytes:
    """Return noise of the same size."""
    return random.Random(1).randbytes(len(data))


DAMAGES = {
    "noise": noise,
    "text": lambda _: b"dear diary" * 1000,
    "a zeroed table": lambda data: data[:4096] + bytes(len(data) - 4096),
    "half a file": lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize("injury", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_ledger_is_set_aside_and_a_new_one_begins(state: Path, injury: object) -> None:
    """It is kept byte for byte; the check that met it is remembered in the new one."""
    write(state, report(damage()))
    ledger = state / "ledger.db"
    injured = injury(ledger.read_bytes())  # type: ignore[operator]
    ledger.write_bytes(injured)
    (warning,) = write(state, report())
    assert "was damaged" in warning
    (kept,) = (file for file in state.glob("ledger.db.damaged-*") if not file.name.endswith(("-wal", "-shm")))
    assert str(kept) in warning
    assert kept.read_bytes() == injured
    assert len(read(state).runs) == 1


def test_a_database_that_is_no_ledger_is_set_aside_too(state: Path) -> None:
    """With a schema of its own, or with a version and none of the rest."""
    state.mkdir()
    for statement in ("CREATE TABLE mine(a)", f"PRAGMA user_version={VERSION}"):
        with closing(sqlite3.connect(state / "ledger.db")) as connection:
            connection.execute(statement)
        (warning,) = write(state, report())
        assert "it is a database, and no ledger" in warning
        (state / "ledger.db").unlink()
    assert len(list(state.glob("ledger.db.damaged-*Z"))) == 2


def test_rows_that_are_nonsense_are_damage(state: Path) -> None:
    """SQLite keeps anything in any column; a state or a time that nobody wrote is not believed."""
    write(state, report(damage()))
    with closing(sqlite3.connect(state / "ledger.db")) as connection, connection:
        connection.execute("UPDATE suspects SET pgno = 'two'")
    assert "a row of it is nonsense" in write(state, report())[0]
    with closing(sqlite3.connect(state / "ledger.db")) as connection, connection:
        connection.execute("UPDATE runs SET started = 'yesterday'")
    (warning,) = read(state).warnings
    assert "a row of it is nonsense" in warning
    assert read(state).runs == ()


def test_a_newer_ledger_is_refused_politely_and_left_alone(state: Path) -> None:
    """A check goes on without it, and says so; the verb is an error that says what to do."""
    write(state, report())
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
    before = (state / "ledger.db").read_bytes()
    (warning,) = write(state, report())
    assert "was made by a newer version" in warning and "is not remembered" in warning
    with pytest.raises(LedgerUnusable, match="newer version") as caught:
        read(state)
    assert caught.value.hint == "pip install --upgrade pagewarden"
    assert (state / "ledger.db").read_bytes() == before


def test_a_state_directory_that_cannot_be_used_is_a_warning(tmp_path: Path) -> None:
    """A file stands in its way; a folder stands where the ledger should; nobody knows a home."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "ledger.db").mkdir(parents=True)
    for state in (tmp_path / "file", tmp_path / "folder"):
        (warning,) = write(state, report())
        assert warning.startswith(f"the ledger {state}/ledger.db cannot be used: ")
    assert "cannot be used" in note_restore(tmp_path / "folder", "/srv/app.db", datetime.now(UTC))

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    notebook = Notebook(homeless, "/srv/app.db", lambda: datetime.now(UTC))
    assert notebook.resume("check-pages") == ""
    notebook.close()
    assert notebook.warnings[0].startswith("there is no state directory (Could not determine home")


def test_one_that_is_locked_for_long_is_a_warning(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that hangs in the midst of a write holds up no check for long."""
    monkeypatch.setattr("pagewarden.ledger.store.BUSY_SECONDS", 0.1)
    write(state, report())
    with closing(sqlite3.connect(state / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (warning,) = write(state, report())
        other.execute("ROLLBACK")
    assert "database is locked" in warning
    assert len(read(state).runs) == 1


WRITER = """
import sys
from pathlib import Path
from tests.core.ledger.conftest import damage, report, write
for number in range(10):
    warnings = write(Path(sys.argv[1]), report(damage(pgno=int(sys.argv[2]))), check_pages=f"{number}")
    assert not warnings, warnings
"""


def test_several_processes_may_write_at_once(state: Path) -> None:
    """From the first moment, when there is no ledger yet: nothing is lost, nothing is damaged."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(state), str(pgno)], cwd=ROOT, env=environment)
        for pgno in (2, 3, 4)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = read(state)
    assert (len(found.runs), sorted({suspect.pgno for suspect in found.suspects})) == (30, [2, 3, 4])
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_only_one_process_sets_a_damaged_ledger_aside(state: Path) -> None:
    """Whoever comes later finds another file there, and leaves it where it is."""
    write(state, report())
    slow, quick = (Notebook(lambda: state, "/srv/app.db", lambda: datetime.now(UTC)) for _ in range(2))
    slow.open()
    quick.open()
    assert slow._store is not None and quick._store is not None
    quick._store._set_aside("noise")
    quick._use(lambda _: None, make=True)
    slow._store._set_aside("noise")
    assert len(list(state.glob("ledger.db.damaged-*Z"))) == 1
    assert (state / "ledger.db").exists()
    assert (len(quick.warnings), slow.warnings) == (1, [])
    quick.close()
    slow.close()
