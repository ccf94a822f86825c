"""Whole repairs: what stays broken by its owner's will keeps nothing from being mended, and is no reason to repair."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.contracts import Orphans, RepairPolicy
from pagewarden.repair.reports import RepairReport
from pagewarden.repair.request import RepairRequest
from pagewarden.repair.run import run_repair
from pagewarden.runtime import Runtime
from tests.plugins.repair_relations.relating import broken, build, changed, rows, table

FAMILY = (
    "CREATE TABLE town(id INTEGER PRIMARY KEY, name TEXT)",
    "CREATE INDEX town_name ON town(name)",
    "CREATE TABLE person(id INTEGER PRIMARY KEY, town REFERENCES town)",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300)"
    " INSERT INTO town SELECT i, 'town number ' || i FROM n",
    "INSERT INTO person SELECT id, id FROM town",
    "INSERT INTO person VALUES(1000, 1000)",
)


@pytest.fixture
def repository(tmp_path: Path, runtime: Runtime) -> Path:
    """A backup of a database with an orphan."""
    build(tmp_path / "app.db", *FAMILY)
    request = BackupRequest(database=str(tmp_path / "app.db"), repository=str(tmp_path / "repository"))
    run_backup(request, runtime)
    return tmp_path / "repository"


def repair(runtime: Runtime, repository: Path, orphans: Orphans = Orphans.LEAVE) -> RepairReport:
    """Repair."""
    return run_repair(
        RepairRequest(
            database=str(repository.parent / "app.db"),
            repository=str(repository),
            apply=True,
            policy=RepairPolicy(orphans=orphans),
        ),
        runtime,
    )


def test_a_row_that_was_an_orphan_before_costs_nothing(repository: Path, runtime: Runtime) -> None:
    """Nothing is put in the database's place for it: neither a copy, nor a plan that mends nothing."""
    app = repository.parent / "app.db"
    before = app.read_bytes()
    report = repair(runtime, repository)
    assert (report.applied, report.quarantine, app.read_bytes() == before) == (False, "", True)
    assert report.why == "no repairer can help"


def test_parents_come_back_and_orphans_stay(repository: Path, runtime: Runtime) -> None:
    """What the backup has is put back, and told as such; the orphan that there was stays one."""
    app = repository.parent / "app.db"
    before = rows(app)
    shutil.copy(changed(app, app.with_name("changed.db"), "DELETE FROM town WHERE id % 3 = 0"), app)
    report = repair(runtime, repository)
    assert (report.applied, rows(app)) == (True, before)
    assert [row[1] for row in broken(app)] == [1000]
    assert [planned.repairer for planned in report.plan] == ["repair-relations"]
    assert {counts.name: counts.rows_from_backup for counts in report.tables} == {"person": 0, "town": 100}


def test_only_a_choice_moves_rows(repository: Path, runtime: Runtime) -> None:
    """The orphan leaves where its owner said so, and is kept."""
    report = repair(runtime, repository, Orphans.QUARANTINE)
    app = repository.parent / "app.db"
    assert (report.applied, broken(app), len(table(app, "person"))) == (True, [], 300)
    assert {counts.name: counts.rows_quarantined for counts in report.tables} == {"person": 1, "town": 0}
