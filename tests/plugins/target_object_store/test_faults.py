"""What happens to backups, verification and restores when the store, or the line to it, fails."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.config import RetentionSettings
from pagewarden.errors import DeletionRefused, OutOfSpace, RepositoryBusy, TargetFailed, VerificationFailed
from pagewarden.repository import Repository, VerifyRequest, run_verify
from pagewarden.repository.prune import PruneRequest, run_prune
from pagewarden.restore.run import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import BackupReport, Verdict, VerifyReport
from pagewarden_target_object_store import ObjectStoreFactory
from tests.core.repository.sets import back_up, commit, image, store
from tests.support.faulty_proxy import Fault, FaultyProxy, Way
from tests.support.program import unmeasured

pytestmark = pytest.mark.xdist_group("stores")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """One runtime for all tests here: its page reader stays warm."""
    with Runtime(state=tmp_path_factory.mktemp("state")) as runtime:
        yield runtime


class Job:
    """A database, and a repository of it behind the proxy."""

    def __init__(self, folder: Path, url: str, runtime: Runtime) -> None:
        self.database = folder / "app.db"
        self.folder = folder
        self.url = url
        self.runtime = runtime
        self.changes = random.Random(5)
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT)")
        self.change()

    def change(self) -> None:
        """Commit something."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute("INSERT INTO note(text) VALUES(?)", (self.changes.randbytes(9000).hex(),))

    def backup(self) -> BackupReport:
        """Back up."""
        request = BackupRequest(database=str(self.database), repository=self.url, check="none")
        return run_backup(request, self.runtime)

    def verify(self) -> VerifyReport:
        """Prove everything."""
        return run_verify(VerifyRequest(repository=self.url, read_data=True), self.runtime)

    def restore(self) -> None:
        """Bring it back elsewhere; it must be the database as it is."""
        to = self.folder / "restored.db"
        run_restore(RestoreRequest(repository=self.url, to=str(to)), self.runtime)
        assert _dump(to) == _dump(self.database)


def _dump(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


@pytest.fixture
def job(tmp_path: Path, faulty_url: str, runtime: Runtime) -> Job:
    """One with a first backup."""
    job = Job(tmp_path, faulty_url.replace("retries=2", "retries=1"), runtime)
    job.backup()
    job.change()
    return job


def test_what_does_not_pass_is_a_named_error(job: Job, proxy: FaultyProxy) -> None:
    """After each the next run continues where the one before ended, and in the end the repository is whole."""
    faults = {
        TargetFailed: (
            Fault(where="^PUT .*pageset", way="cut"),
            Fault(where="^PUT .*manifests", way="half-sent"),
            Fault(where="^PUT .*pageset", way="status", status=503, code="SlowDown"),
            Fault(where="^PUT .*manifests", way="status", status=403, code="AccessDenied"),
            Fault(where="^GET .*pageset", way="half-answered"),
        ),
        OutOfSpace: (Fault(where="^PUT .*pageset", way="status", status=507, code="XMinioStorageFull"),),
        VerificationFailed: (Fault(where="^PUT .*pageset", way="flipped"),),
    }
    made = 1
    for expected, some in faults.items():
        for fault in some:
            proxy.faults[:] = [fault]
            with pytest.raises(expected) as caught:
                job.backup()
            assert fault.seen > 0
            assert caught.value.hint
            proxy.faults.clear()
            made += 1
            assert job.backup().position.txid == made, fault
            job.change()
    job.backup()
    verified = job.verify()
    assert (verified.verdict, verified.leftovers, len(verified.points)) == (Verdict.SOUND, (), made + 1)
    job.restore()


def test_an_answer_that_is_lost_for_good_loses_nothing(job: Job, proxy: FaultyProxy) -> None:
    """The manifest was stored, and nobody could be told: it is taken back, and the next run makes the backup."""
    proxy.faults.append(Fault(where="^PUT .*manifests", way="lost"))
    with pytest.raises(TargetFailed):
        job.backup()
    proxy.faults.clear()
    assert job.backup().position.txid == 2
    verified = job.verify()
    assert (verified.verdict, verified.leftovers, len(verified.points)) == (Verdict.SOUND, (), 2)


def test_what_passes_is_not_even_noticed(job: Job, proxy: FaultyProxy) -> None:
    """One request in four fails, each in another way: the whole job is done all the same."""
    ways: list[Way] = ["cut", "lost", "half-sent", "half-answered", "status", "late-status", "slow"]
    job.url = job.url.replace("retries=1", "retries=3")
    for number, way in enumerate(ways):
        proxy.faults.append(Fault(where=".", way=way, every=4 * len(ways), after=4 * number))
    job.backup()
    job.change()
    job.backup()
    assert job.verify().verdict is Verdict.SOUND
    job.restore()
    assert all(fault.seen for fault in proxy.faults)


def test_no_permission_to_delete_is_needed(job: Job, proxy: FaultyProxy) -> None:
    """Backups, verify and restore go on without it, and nothing looks left over."""
    text = "User: arn:aws:iam::1:user/backup is not authorized to perform: s3:DeleteObject"
    fault = Fault(where="^(DELETE|POST .*delete)", way="status", status=403, code="AccessDenied", text=text)
    proxy.faults.append(fault)
    for _ in range(2):
        job.backup()
        job.change()
    assert fault.seen > 0
    job.backup()
    verified = job.verify()
    assert (verified.verdict, verified.leftovers, len(verified.points)) == (Verdict.SOUND, (), 4)
    job.restore()
    prune = PruneRequest(repository=job.url, apply=True, retention=RetentionSettings(last=1, grace="0s"))
    with pytest.raises(DeletionRefused, match="restore points were marked as deleted all the same"):
        run_prune(prune, job.runtime)
    assert job.verify().verdict is Verdict.SOUND
    proxy.faults.clear()
    run_prune(prune, job.runtime)
    assert job.verify().verdict is Verdict.SOUND
    job.restore()
    keys = ObjectStoreFactory().open(job.url, create=False).list("")
    assert [info.key for info in keys if info.key.startswith("pending/")] == []


@pytest.mark.parametrize("way", ["half-answered", "status"])
def test_a_store_that_gives_nothing_is_a_named_error(job: Job, proxy: FaultyProxy, way: Way) -> None:
    """Restore leaves no file, verify says that it could not see, and both work as soon as the store does."""
    proxy.faults.append(Fault(where="^GET .*pageset", way=way))
    with pytest.raises(TargetFailed):
        job.restore()
    assert not (job.folder / "restored.db").exists()
    assert job.verify().verdict is Verdict.UNKNOWN
    proxy.faults.clear()
    job.backup()
    assert job.verify().verdict is Verdict.SOUND
    job.restore()


def test_of_two_hosts_one_is_first(url: str) -> None:
    """Conditional creation fences them: the second loses nothing but its turn, and leaves nothing."""
    ours, theirs = (Repository.open(ObjectStoreFactory().open(url, create=True), url, create=True) for _ in range(2))
    first = back_up(ours, "app.db", image(9))
    mine, other = ours.begin("app.db"), theirs.begin("app.db")
    infos = [store(ours, mine, image(9, seed=2)), store(theirs, other, image(9, seed=3))]
    second = commit(theirs, other, infos[1])
    with pytest.raises(RepositoryBusy):
        commit(ours, mine, infos[0])
    assert ours.restore_points("app.db")[0] == (first, second)
    assert ours.look("app.db")[1] == ()
    assert ours.leftovers() == ()
    third = back_up(ours, "app.db", image(9, seed=4))
    assert third.position.txid == 3


def test_a_killed_backup_never_blocks_the_next(job: Job, proxy: FaultyProxy, tmp_path: Path) -> None:
    """Killed while its page set, or its manifest, is on the way: what it left is gone after the next one."""
    for where in ("^PUT .*pageset", "^PUT .*manifests"):
        job.change()
        slow = Fault(where=where, way="slow", seconds=30)
        proxy.faults[:] = [slow]
        process = subprocess.Popen(
            [sys.executable, "-m", "pagewarden_cli", "backup", str(job.database), "--repo", job.url, "--check", "none"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**unmeasured(), "TMPDIR": str(tmp_path)},
        )
        while not slow.seen and process.poll() is None:
            time.sleep(0.01)
        assert slow.seen, process.communicate()[0]
        process.kill()
        process.communicate()
        proxy.faults.clear()
        job.change()
        job.backup()
    verified = job.verify()
    # The second one's manifest had arrived, so it counts: it was proved before.
    assert (verified.verdict, verified.leftovers, len(verified.points)) == (Verdict.SOUND, (), 4)
    job.restore()
