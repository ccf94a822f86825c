"""Whole repairs with a repository that has one restore point or several, some of which hold the damage themselves."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.repair.reports import RepairReport
from pagewarden.repair.request import RepairRequest
from pagewarden.repair.run import run_repair
from pagewarden.runtime import Runtime
from pagewarden.values import Verdict
from tests.core.pages.trees import Database
from tests.core.repair.pasts import Past

PAGE = 1024


def damage(past: Past, tree: str) -> None:
    """Let a leaf of a tree become zeros."""
    past.damage(at=(Database.read(past.path).leaf(tree) - 1) * PAGE, data=bytes(PAGE))


def repair(past: Past) -> RepairReport:
    """Plan and execute."""
    return run_repair(RepairRequest(database=str(past.path), repository=past.repository, apply=True), past.runtime)


@pytest.mark.parametrize("later", [False, True])
def test_the_restore_point_before_the_damage_is_used(tmp_path: Path, runtime: Runtime, later: bool) -> None:
    """Two nightly backups copied a lost page as it was; every row is there all the same, and the report says why."""
    past = Past(tmp_path, runtime).make("delete", page_size=PAGE)
    past.back_up()
    damage(past, "letters")
    for _ in range(2):
        past.back_up(full=True)
    if later:
        with closing(past.connect()) as connection:
            connection.execute("INSERT INTO notes(body) VALUES('later')")
    report = repair(past)
    assert (report.applied, report.verdict_after, report.why) == (True, Verdict.SOUND, "")
    assert sum("holds the damage itself" in warning for warning in report.warnings) == 1
    rows = past.rows()
    assert [row for row in rows if str(row[1]).startswith("letter")] == [
        (number + 1, f"letter {number} " * 9) for number in range(200)
    ]
    assert (("later",) in [row[1:] for row in rows]) == later


def test_an_index_is_rebuilt_and_nothing_restored(tmp_path: Path, runtime: Runtime) -> None:
    """Where the newest restore point has the damaged index, too, the index is built anew in the first round."""
    past = Past(tmp_path, runtime).make("delete", page_size=PAGE)
    with closing(past.connect()) as connection:
        connection.execute("CREATE INDEX letter ON letters(body)")
    damage(past, "letter")
    past.back_up()
    report = repair(past)
    assert report.applied and [each.repairer for each in report.plan] == ["repair-reindex"]


def test_pages_that_were_whole_then_are_put_back(tmp_path: Path, runtime: Runtime) -> None:
    """Damage since the newest restore point says nothing against it."""
    past = Past(tmp_path, runtime).make("delete", page_size=PAGE)
    past.back_up()
    before = past.rows()
    damage(past, "letters")
    report = repair(past)
    assert report.applied and report.warnings == ()
    assert past.rows() == before


def test_all_restore_points_hold_it(tmp_path: Path, runtime: Runtime) -> None:
    """Without any restore point from before, nothing is made of it, and the database stays as it is."""
    past = Past(tmp_path, runtime).make("delete", page_size=PAGE)
    damage(past, "letters")
    past.back_up()
    before = past.path.read_bytes()
    report = repair(past)
    assert not report.applied and report.exit_code == 1
    assert past.path.read_bytes() == before
    with pytest.raises(sqlite3.DatabaseError):
        past.rows()


@pytest.mark.parametrize("page_size", [1024, 8192])
def test_a_file_without_any_byte_is_restored(tmp_path: Path, runtime: Runtime, page_size: int) -> None:
    """SQLite takes a file that a crash of the machine left empty for a database; what was backed up says otherwise."""
    past = Past(tmp_path, runtime).make("delete", page_size=page_size)
    before = past.rows()
    past.back_up()
    past.path.write_bytes(b"")
    report = repair(past)
    assert (report.applied, report.verdict_before, report.why) == (True, Verdict.DAMAGED, "")
    assert past.rows() == before
