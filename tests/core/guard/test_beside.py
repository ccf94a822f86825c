"""A backup of a guarded database loses none of the commits that the guard took and could not store yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.errors import DatabaseBusy
from pagewarden.guard.only import OnlyGuard, guard_places
from pagewarden.lineage import place_of
from pagewarden.runtime import Runtime
from pagewarden.values import BackupReport
from tests.support.guarding import Guarded, Told


def back_up(guarded: Guarded, told: Told, *, full: bool = False) -> BackupReport:
    """Back up as somebody else on the same machine does."""
    with Runtime(state=guarded.folder / "state", on_event=told) as runtime:
        request = BackupRequest(
            database=str(guarded.database), repository=str(guarded.repository), check="none", full=full
        )
        return run_backup(request, runtime)


def left_alone(guarded: Guarded, commits: int) -> Path:
    """Let a guard take commits while the repository is away; return where that is."""
    guarded.start()
    away = guarded.repository.rename(guarded.folder / "away")
    guarded.commit(commits)
    guarded.told.wait("target.failed")
    return away


def test_a_backup_beside_a_guard_waits_for_what_it_took(guarded: Guarded) -> None:
    """The guard stores all of it, commit by commit, and nothing else is stored."""
    away = left_alone(guarded, 6)
    away.rename(guarded.repository)
    report = back_up(guarded, Told())
    assert (report.kind, report.position.txid, report.bytes_stored) == ("unchanged", 7, 0)
    assert any("a guard follows it" in warning for warning in report.warnings)
    assert [len(guarded.restored(txid)) for txid in (2, 4, 7)] == [1, 3, 6]
    guarded.commit()
    assert guarded.flush().txid == 8
    assert not guarded.told.named("spool.discarded")


def test_every_page_beside_a_guard_is_a_position_with_its_cause(guarded: Guarded) -> None:
    """What was committed just before may be in it together: its manifest says so."""
    guarded.start()
    guarded.commit(3)
    report = back_up(guarded, Told(), full=True)
    assert (report.kind, report.position.txid) == ("snapshot", 5)
    assert [len(guarded.restored(txid)) for txid in (2, 3, 4, 5)] == [1, 2, 3, 3]
    with Runtime(state=guarded.folder / "restoring") as runtime:
        entries = tuple(runtime.repository(str(guarded.repository)).entries("app.db"))
    (manifest,) = (each.manifest for each in entries if each.manifest and each.manifest.position == report.position)
    assert manifest.facts.gap == "backup"


def test_a_backup_stores_first_what_a_dead_guard_left(guarded: Guarded) -> None:
    """Its commits can be restored, each of them, and the backup comes after them on the same timeline."""
    away = left_alone(guarded, 5)
    guarded.stop()
    guarded.commit(2)
    away.rename(guarded.repository)
    told = Told()
    report = back_up(guarded, told)
    assert told.named("spool.stored")[0]["discarded"] == 0
    assert (report.kind, report.position.txid) == ("segment", 7)
    assert [len(guarded.restored(txid)) for txid in (2, 4, 6, 7)] == [1, 3, 5, 7]
    guarded.start()
    guarded.commit()
    position = guarded.flush()
    assert (position.timeline, len(guarded.restored(position.txid))) == (report.position.timeline, 8)


def test_what_a_dead_guard_left_of_another_history_is_not_mixed_in(guarded: Guarded) -> None:
    """Somebody else backed the database up meanwhile: what waits does not continue that, and is told of."""
    away = left_alone(guarded, 4)
    guarded.stop()
    away.rename(guarded.repository)
    with Runtime(state=guarded.folder / "another") as runtime:
        run_backup(
            BackupRequest(database=str(guarded.database), repository=str(guarded.repository), check="none"), runtime
        )
    told = Told()
    report = back_up(guarded, told)
    (event,) = told.named("spool.stored")
    assert (event["batches"], event["discarded"] > 0, bool(event["problem"])) == (0, True, True)
    assert len(guarded.restored(report.position.txid)) == 4


def test_a_backup_does_not_overtake_a_guard_that_begins(guarded: Guarded) -> None:
    """Its spool is that guard's: nothing is taken from it, and the backup is to be tried again."""
    away = left_alone(guarded, 3)
    guarded.stop()
    away.rename(guarded.repository)
    database, where = str(guarded.database), place_of(str(guarded.repository), "app.db")
    places = guard_places(guarded.folder / "state", database, where)
    only = OnlyGuard(places.lock, database)
    try:
        with pytest.raises(DatabaseBusy, match="begins or ends just now"):
            back_up(guarded, Told())
    finally:
        only.close()
    back_up(guarded, Told())
    assert [len(guarded.restored(txid)) for txid in (2, 3)] == [1, 2]
