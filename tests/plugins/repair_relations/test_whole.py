"""Whole repairs: what stays broken by its owner's will keeps nothing from being mended, and is no reason to repair."""

from __future__ import annotations

import os
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


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Path:
    """A backup of a database with an orphan, which stands beside it."""
    folder = tmp_path_factory.mktemp("whole")
    build(folder / "app.db", *FAMILY)
    run_backup(BackupRequest(database=str(folder / "app.db"), repository=str(folder / "repository")), runtime)
    return folder / "repository"


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


def test_orphans_cost_nothing(repository: Path, runtime: Runtime) -> None:
    """One that was there before is no reason to replace the database; parents that a backup has come back."""
    app = repository.parent / "app.db"
    sound, before = app.read_bytes(), rows(app)
    report = repair(runtime, repository)
    assert (report.applied, report.quarantine, app.read_bytes() == sound) == (False, "", True)
    assert report.why == "no repairer can help"

    shutil.copy(changed(app, app.with_name("changed.db"), "DELETE FROM town WHERE id % 3 = 0"), app)
    report = repair(runtime, repository)
    assert (report.applied, rows(app)) == (True, before)
    assert [row[1] for row in broken(app)] == [1000]
    assert [planned.repairer for planned in report.plan] == ["repair-relations"]
    assert {counts.name: counts.rows_from_backup for counts in report.tables} == {"person": 0, "town": 100}


if os.environ.get("PAGEWARDEN_FULL"):

    def test_a_choice_moves_rows(repository: Path, runtime: Runtime) -> None:
        """The orphan leaves where its owner said so, and is kept."""
        app = repository.parent / "app.db"
        report = repair(runtime, repository, Orphans.QUARANTINE)
        assert (report.applied, broken(app), len(table(app, "person"))) == (True, [], 300)
        assert {counts.name: counts.rows_quarantined for counts in report.tables} == {"person": 1, "town": 0}
