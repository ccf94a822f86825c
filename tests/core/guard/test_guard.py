"""A guarded database: every commit is stored, whatever becomes of the application, the guard and the repository."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.errors import ConfigurationInvalid, DatabaseBusy, DatabaseUnreadable, GuardFailed, NotInWalMode
from pagewarden.following.values import Look
from pagewarden.guard.guard import Guard
from pagewarden.guard.values import GuardRequest, GuardState
from pagewarden.guard.watch import PollingWatcher
from pagewarden.processes.reader import PageReader
from pagewarden.runtime import Runtime
from tests.support.guarding import PATIENCE, Guarded
from tests.support.session import Session


def test_every_commit_can_be_brought_back(guarded: Guarded) -> None:
    """Each commit has a txid of its own, in order, and its very content."""
    guarded.start()
    first = guarded.flush().txid
    guarded.commit(25)
    assert guarded.flush().txid == first + 25
    for txid in (first, first + 1, first + 13, first + 25):
        assert len(guarded.restored(txid)) == txid - first
    assert guarded.restored(first + 9)[-1] == (9, "some text 8")
    assert not guarded.told.named("guard.gap")


def test_polling_finds_what_no_notification_tells(tmp_path: Path) -> None:
    """Without file notification a commit is stored all the same, and soon."""
    with Guarded(tmp_path, watcher=PollingWatcher) as guarded:
        guarded.start()
        guarded.commit()
        assert guarded.told.wait("commits.stored")["commits"] == 1


def test_an_idle_guard_is_woken_by_a_commit(guarded: Guarded) -> None:
    """What is committed after a pause is stored without anybody asking for it."""
    guarded.start(scrub=0.0)
    guarded.told.wait("guard.following")
    guarded.commit()
    guarded.told.wait("commits.stored")
    assert guarded.restored() == [(1, "some text 0")]


def test_connections_that_come_and_go_are_no_gap(guarded: Guarded) -> None:
    """The application's last connection closes and another opens: the guard keeps the log, and nothing is missed."""
    guarded.start()
    for _ in range(3):
        guarded.application.close()
        guarded.application = Session(guarded.database, timeout=PATIENCE)
        guarded.commit(3)
    assert guarded.flush().txid == 10
    assert len(guarded.restored(5)) == 4
    assert not guarded.told.named("guard.gap")


def test_checkpoints_of_the_application_lose_nothing(guarded: Guarded) -> None:
    """Whatever kind of checkpoint others try while commits are made, each commit is there (H20, H24)."""
    guarded.start()
    for number in range(40):
        guarded.commit()
        if number % 4 == 0:
            mode = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")[number // 4 % 4]
            with_patience = guarded.application.run("PRAGMA busy_timeout=20")
            assert with_patience == [[20]]
            guarded.application.run(f"PRAGMA wal_checkpoint({mode})")
    assert guarded.flush().txid == 41
    assert len(guarded.restored(27)) == 26
    assert not guarded.told.named("guard.gap")


def test_a_guard_goes_on_where_the_last_one_ended(guarded: Guarded) -> None:
    """What is committed while no guard runs is followed commit by commit, as long as the log has it."""
    guarded.start()
    guarded.commit(3)
    guarded.stop()
    guarded.commit(4)
    guarded.start()
    assert guarded.flush().txid == 8
    assert len(guarded.restored(6)) == 5
    assert not guarded.told.named("guard.gap")


def test_what_was_missed_is_healed_and_named(guarded: Guarded) -> None:
    """A log that was restarted while no guard ran is a gap, whose difference is one restore point with its cause."""
    guarded.start()
    guarded.commit(3)
    guarded.stop()
    guarded.commit(5)
    guarded.application.run("PRAGMA wal_checkpoint(TRUNCATE)")
    guarded.commit(2)
    guarded.start()
    assert guarded.told.wait("guard.healed")["cause"] == "guard-was-down"
    assert guarded.flush().txid == 5
    guarded.commit()
    assert guarded.flush().txid == 6
    assert [len(guarded.restored(txid)) for txid in (4, 5, 6)] == [3, 10, 11]
    with Runtime(state=guarded.folder / "restoring") as runtime:
        entries = list(runtime.repository(str(guarded.repository)).entries("app.db"))
    gaps = [entry.manifest.facts.gap for entry in entries if entry.manifest and entry.manifest.facts.gap]
    assert gaps == ["guard-was-down"]


def test_an_empty_log_says_nothing_of_what_was_committed_since(guarded: Guarded) -> None:
    """The guard stored a database without a log, ended, and commits came and went with a log of their own."""
    guarded.application.close()  # the last one: the log is removed
    guarded.start()
    guarded.stop()
    guarded.application = Session(guarded.database, timeout=PATIENCE)
    guarded.commit(5)
    guarded.application.close()
    guarded.application = Session(guarded.database, timeout=PATIENCE)
    guarded.start()
    guarded.told.wait("guard.healed", cause="guard-was-down")
    assert len(guarded.restored(guarded.flush().txid)) == 5


def test_frames_that_were_written_over_are_no_continuation(guarded: Guarded) -> None:
    """A log that lost its end, and grew again, has the same salts: the checksum of the followed frame tells (H14)."""
    guarded.start()
    guarded.commit(3)
    log = Path(f"{guarded.database}-wal")
    guarded.flush()
    older = log.read_bytes()
    guarded.commit(4)
    before = guarded.flush()
    guarded.stop()
    guarded.application.kill()
    log.write_bytes(older)  # as after a loss of power
    Path(f"{guarded.database}-shm").unlink()
    guarded.application = Session(guarded.database, timeout=PATIENCE)
    guarded.commit(9, "another text")
    guarded.start()
    guarded.told.wait("guard.healed", cause="log-replaced")
    position = guarded.flush()
    assert [row[1] for row in guarded.restored(position.txid)][-1] == "another text 8"
    assert len(guarded.restored(position.txid)) == 12
    assert len(guarded.restored(before.txid)) == 7


def test_an_unreachable_repository_loses_nothing(guarded: Guarded) -> None:
    """What is committed meanwhile waits in the spool, is told, and is stored when the repository is back."""
    guard = guarded.start()
    away = guarded.repository.rename(guarded.folder / "away")
    guarded.commit(6)
    guarded.told.wait("target.failed")
    with pytest.raises(GuardFailed, match="not in the repository yet"):
        guard.flush(0.5)
    status = guard.status()
    assert status.spooled and status.spool_bytes and status.lag > 0.4 and status.why
    away.rename(guarded.repository)
    assert guarded.flush().txid == 7
    guarded.told.wait("target.back")
    assert len(guarded.restored(4)) == 3
    assert guard.status().spooled == 0


def test_the_spool_outlives_its_guard(guarded: Guarded) -> None:
    """A guard that ends while the repository is away leaves all it took to the next one, which stores it first."""
    guarded.start()
    away = guarded.repository.rename(guarded.folder / "away")
    guarded.commit(5)
    guarded.told.wait("target.failed")
    guarded.stop()
    guarded.commit(2)
    guarded.application.run("PRAGMA wal_checkpoint(TRUNCATE)")
    guarded.begin()
    guarded.told.wait("guard.waiting")
    away.rename(guarded.repository)
    guarded.told.wait("spool.recovered", problem="")
    guarded.flush()
    assert [len(guarded.restored(txid)) for txid in (3, 6)] == [2, 5]
    assert len(guarded.restored()) == 7


def test_another_backup_is_no_rival_for_long(guarded: Guarded) -> None:
    """A plain backup beside the guard takes the next position; the guard goes on from there, on the same timeline."""
    guarded.start()
    guarded.commit(2)
    guarded.flush()
    with Runtime(state=guarded.folder / "state") as runtime:
        request = BackupRequest(database=str(guarded.database), repository=str(guarded.repository), check="none")
        between = run_backup(replace(request, full=True), runtime).position
    guarded.commit(3)
    guarded.told.wait("guard.superseded")
    position = guarded.flush()
    assert (between.txid, position.timeline) == (4, between.timeline)
    assert [len(guarded.restored(txid)) for txid in (4, position.txid)] == [2, 5]
    guarded.commit()
    assert guarded.flush().txid == position.txid + 1


@pytest.mark.parametrize("torn", [False, True])
def test_a_replaced_database_is_compared(guarded: Guarded, monkeypatch: pytest.MonkeyPatch, torn: bool) -> None:
    """A file that is renamed over the database is another one: what differs is stored with its cause.

    So it is where its files changed while they were looked at, and the look failed.
    """
    guarded.start()
    followed = guarded.database.stat().st_ino
    if torn:
        look = PageReader.follow_look

        def look_in_between(reader: PageReader, handle: int) -> Look:
            if guarded.database.stat().st_ino != followed:
                monkeypatch.undo()
                raise DatabaseUnreadable(f"{guarded.database} cannot be read: No such file or directory")
            return look(reader, handle)

        monkeypatch.setattr(PageReader, "follow_look", look_in_between)
    guarded.commit(4)
    before = guarded.flush()
    guarded.application.run(f"VACUUM INTO '{guarded.folder}/other.db'")
    guarded.application.close()
    (guarded.folder / "other.db").rename(guarded.database)
    for suffix in ("-wal", "-shm"):
        Path(f"{guarded.database}{suffix}").unlink()
    guarded.application = Session(guarded.database, timeout=PATIENCE)
    assert guarded.application.run("PRAGMA journal_mode=WAL") == [["wal"]]
    guarded.commit(2)
    guarded.told.wait("guard.gap", cause="database-replaced")
    position = guarded.flush()
    assert len(guarded.restored(position.txid)) == 6
    assert len(guarded.restored(before.txid)) == 4


def test_a_deleted_database_is_waited_for(guarded: Guarded) -> None:
    """A database that is removed is named, and one that is made anew there is guarded from then on."""
    guard = guarded.start()
    guarded.commit(4)
    before = guarded.flush()
    guarded.application.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{guarded.database}{suffix}").unlink()
    guarded.told.wait("guard.waiting", error="database-not-found")
    assert guard.status().state is GuardState.WAITING
    guarded.application = Session(guarded.database, timeout=PATIENCE)
    guarded.application.run("PRAGMA journal_mode=WAL")
    guarded.application.run("CREATE TABLE item(id INTEGER PRIMARY KEY, body TEXT)")
    guarded.commit(2)
    position = guarded.flush()
    assert len(guarded.restored(position.txid)) == 2
    assert len(guarded.restored(before.txid)) == 4


def test_a_rollback_journal_cannot_be_followed(guarded: Guarded) -> None:
    """The guard ends with a named error and the command that helps."""
    assert guarded.application.run("PRAGMA journal_mode=DELETE") == [["delete"]]
    guard = guarded.begin()
    assert guard.join(PATIENCE)
    assert isinstance(guard.error, NotInWalMode)
    assert guard.error.hint == f"pagewarden wal enable {guarded.database}"
    with pytest.raises(NotInWalMode):
        guard.flush(1.0)


def test_one_guard_for_each_database(guarded: Guarded) -> None:
    """A second one is refused, names the first, and leaves it alone."""
    guarded.start()
    with Runtime(state=guarded.folder / "state") as runtime:
        request = GuardRequest(database=str(guarded.database), repository=str(guarded.folder / "another"))
        with pytest.raises(DatabaseBusy, match=f"guarded already, by process {os.getpid()}"):
            Guard(request, runtime)
    guarded.commit()
    assert guarded.flush().txid == 2


def test_a_moment_has_a_name(guarded: Guarded) -> None:
    """A mark is of all that was committed before it, and leads back there."""
    guard = guarded.start()
    guarded.commit(3)
    assert guard.mark("before migration").txid == 4
    guarded.commit(3)
    guarded.flush()
    assert len(guarded.restored(mark="before migration")) == 3
    with pytest.raises(ConfigurationInvalid):
        guard.mark("two\nlines")


def test_a_repository_that_is_gone_is_not_made_anew(guarded: Guarded) -> None:
    """It may be on a disk that is not mounted: the guard waits, until it is back or somebody makes another one."""
    guarded.start()
    guarded.commit(2)
    guarded.flush()
    guarded.stop()
    shutil.rmtree(guarded.repository)
    guarded.begin()
    guarded.told.wait("guard.waiting", error="repository-not-found")
    assert not guarded.repository.exists()
    with Runtime(state=guarded.folder / "elsewhere") as runtime:
        runtime.repository(str(guarded.repository), create=True)
    guarded.commit()
    assert len(guarded.restored(guarded.flush().txid)) == 3
