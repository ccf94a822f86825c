"""Odd databases go through the main job with no false finding, and come back as SQLite copies them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import Level, Verdict
from tests.odd import making
from tests.odd.journey import judge, travel

FULL = bool(os.environ.get("PAGEWARDEN_FULL"))
"""Whether everything runs at full length, as in `nox -s full`."""


def integrity(database: Path) -> list[tuple[str]]:
    """Return what SQLite says of a closed database."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall()


ODD = [(kind, mode) for kind in making.SOUND for mode in ("delete", "wal")]


@pytest.mark.parametrize(("kind", "mode"), ODD if FULL else ODD[::6] + ODD[3::6])
def test_an_odd_database_is_sound_and_comes_back(kind: str, mode: str, tmp_path: Path, runtime: Runtime) -> None:
    """Whatever SQLite calls sound, closed with a rollback journal, or open in WAL mode with a log that is needed."""
    database = tmp_path / "odd.db"
    making.SOUND[kind](database)
    assert integrity(database) == [("ok",)]
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        if mode == "wal":
            connection.execute("PRAGMA journal_mode=wal").fetchall()
            connection.execute("PRAGMA user_version=77")
            connection.execute("CREATE TABLE in_the_log(id)")
        else:
            connection.close()
        assert travel(database, runtime, tmp_path) == ()


@pytest.mark.parametrize("kind", making.UNKNOWN)
def test_what_only_the_application_could_judge_is_unknown(kind: str, tmp_path: Path, runtime: Runtime) -> None:
    """A function or collation that is not there is no damage, and keeps nothing from being backed up."""
    database = tmp_path / "odd.db"
    making.UNKNOWN[kind](database)
    whys = travel(database, runtime, tmp_path, verdict=Verdict.UNKNOWN)
    assert whys and all("gone" in why for why in whys)


def test_a_row_of_many_megabytes(tmp_path: Path, runtime: Runtime) -> None:
    """One row that fills 7,000 overflow pages, or 24,000 in a full run."""
    database = tmp_path / "odd.db"
    making.wide_row(database)
    assert travel(database, runtime, tmp_path) == ()


def test_a_constraint_with_an_absent_function_is_no_damage(tmp_path: Path, runtime: Runtime) -> None:
    """SQLite may or may not look at it on a connection that only reads; nothing is found either way."""
    database = tmp_path / "odd.db"
    making.absent_in_checks(database)
    for level in Level:
        assert judge(database, runtime, level=level).verdict is not Verdict.DAMAGED


@pytest.mark.parametrize("page_size", [65536, *([4096, 512] if FULL else [])])
def test_a_database_beyond_its_lock_byte_page(page_size: int, tmp_path: Path, runtime: Runtime) -> None:
    """What stands behind byte 2^30 comes back; the page that holds it is zeros (H12)."""
    database = tmp_path / "odd.db"
    making.sparse(database, page_size=page_size)
    assert integrity(database) == [("ok",)]
    assert database.stat().st_size > 1 << 30
    # SQLite's own copy of a sparse file is not sparse, and takes its time.
    assert travel(database, runtime, tmp_path, oracle=None if FULL else database) == ()
    for path in tmp_path.glob("*.db"):
        path.unlink()


def test_an_empty_file_is_an_empty_database(tmp_path: Path, runtime: Runtime) -> None:
    """No byte is what SQLite makes of a database in which nothing was ever written."""
    database, repository = tmp_path / "odd.db", str(tmp_path / "repository")
    making.no_bytes(database)
    for level in Level:
        assert judge(database, runtime, level=level).pages == 0
    taken = run_backup(BackupRequest(database=str(database), repository=repository), runtime)
    restored = tmp_path / "restored.db"
    assert (
        run_restore(RestoreRequest(repository=repository, to=str(restored)), runtime).pages == taken.pages_copied == 0
    )
    assert restored.read_bytes() == b""
