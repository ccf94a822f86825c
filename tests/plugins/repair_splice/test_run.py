"""The splicer in a real repair, with a real repository: what was committed since a backup is never undone."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.repair.request import RepairRequest
from pagewarden.repair.run import run_repair
from pagewarden.runtime import Runtime
from pagewarden.testing import INJURIES
from pagewarden.values import Verdict
from tests.support.session import Session
from tests.support.stranding import change

ROWS = "SELECT id, name, body FROM item ORDER BY id"


def fill(session: Session, numbers: range) -> None:
    """Insert rows, a commit each."""
    for number in numbers:
        session.run("INSERT INTO item VALUES(?, ?, ?)", number, f"name {number}", "words " * (number % 40))


def request(database: Path, *, apply: bool = True) -> RepairRequest:
    """Return a request with the repository of the test."""
    return RepairRequest(database=str(database), repository=str(database.parent / "repository"), apply=apply)


def make(database: Path, mode: str, session: Session) -> None:
    """Make a database."""
    for pragma in (f"journal_mode={mode}", "wal_autocheckpoint=0"):
        session.run(f"PRAGMA {pragma}")
    session.run("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body TEXT)")
    session.run("CREATE INDEX item_name ON item(name)")
    fill(session, range(1, 200))
    session.run("PRAGMA wal_checkpoint(TRUNCATE)")
    fill(session, range(200, 210))
    assert database.exists()


def rows(path: Path) -> list[tuple[object, ...]]:
    """Return what SQLite reads."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(ROWS).fetchall()


def test_what_was_committed_since_the_backup_is_laid_over_it(tmp_path: Path, runtime: Runtime) -> None:
    """Zeroed pages come back with the log's later commits; every row is there, and each cut page is kept (H26)."""
    database = tmp_path / "app.db"
    held = tmp_path / "held"
    held.mkdir()
    with Session(database) as session:
        make(database, "wal", session)
        run_backup(BackupRequest(database=str(database), repository=str(tmp_path / "repository")), runtime)
        fill(session, range(210, 250))
        session.run("UPDATE item SET body='later' WHERE id > 195")
        expected = [tuple(row) for row in session.run(ROWS)]
        for suffix in ("", "-wal"):  # as a crash leaves them
            shutil.copyfile(f"{database}{suffix}", held / f"app.db{suffix}")
    for suffix in ("", "-wal"):
        os.replace(held / f"app.db{suffix}", f"{database}{suffix}")
    change(database, 4096 * 4, bytes(4096 * 3))
    report = run_repair(request(database), runtime)
    assert (report.applied, report.verdict_after) == (True, Verdict.SOUND)
    assert [each.repairer for each in report.plan] == ["repair-splice"]
    assert "goes on from the newest restore point" in report.plan[0].why
    assert rows(database) == expected


def test_a_commit_that_no_proof_covers_keeps_the_splicer_out(tmp_path: Path, runtime: Runtime) -> None:
    """With a rollback journal the change counter tells that there is one: what the backup has is stale then (H26)."""
    database = tmp_path / "app.db"
    with Session(database) as session:
        make(database, "delete", session)
    run_backup(BackupRequest(database=str(database), repository=str(tmp_path / "repository")), runtime)
    with Session(database) as session:
        fill(session, range(210, 212))
    INJURIES["zeroed-page"].apply(database, 4)
    report = run_repair(request(database, apply=False), runtime)
    assert report.verdict_before is not Verdict.SOUND
    assert "repair-splice" not in [each.repairer for each in report.plan]


def test_a_file_as_it_was_backed_up_comes_back_byte_for_byte(tmp_path: Path, runtime: Runtime) -> None:
    """Also where SQLite refuses it; its size and the time of the last write tell that nothing was committed."""
    database = tmp_path / "app.db"
    with Session(database) as session:
        make(database, "wal", session)
    run_backup(BackupRequest(database=str(database), repository=str(tmp_path / "repository")), runtime)
    original, found = database.read_bytes(), database.stat()
    INJURIES["header-garbage"].apply(database, 4)
    os.utime(database, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert database.read_bytes() != original
    report = run_repair(request(database), runtime)
    assert [each.repairer for each in report.plan] == ["repair-splice"]
    assert report.applied and database.read_bytes() == original
