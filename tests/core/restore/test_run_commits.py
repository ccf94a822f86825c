"""Restores of commits between restore points: each exact, its neighbours told, and what is lost named."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.errors import ConfigurationInvalid, RepositoryDamaged, RepositoryNotFound
from pagewarden.repository import keys
from pagewarden.repository.backups import BackupsRequest, run_backups
from pagewarden.repository.locate import locate
from pagewarden.repository.manifest import Manifest, encode_manifest
from pagewarden.repository.moments import name_moment
from pagewarden.repository.repository import Repository
from pagewarden.repository.shorten import Shortener
from pagewarden.repository.turn import Turn
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.restore import write as writing
from pagewarden.restore.quarantine import Quarantine, extracted_beside
from pagewarden.restore.write import write_chain
from pagewarden.runtime import Runtime
from pagewarden.times import format_moment
from pagewarden.values import Position, RestoreReport, Verdict
from tests.core.repository.chains import histories
from tests.core.repository.follower import NAME, Follower
from tests.core.repository.sets import NOW, MemoryTarget, header, image, write

COUNTS = (3, 1, 6, 4)
"""Commits of the batches after the first backup; those of the last one are merged."""

LAST = 1 + sum(COUNTS)

GOLDEN = Path(__file__).parents[2] / "golden" / "repository-1-followed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A repository of a database that was followed, and every commit of it."""

    root: Path
    follower: Follower
    runtime: Runtime

    def restore(self, to: Path, **wanted: Any) -> RestoreReport:
        """Restore a moment."""
        return run_restore(RestoreRequest(repository=str(self.root), to=str(to), **wanted), self.runtime)

    def found(self, to: Path, **wanted: Any) -> tuple[int, int | None, int | None]:
        """Return the txids of the moment that is meant, and of those before and after it; touch nothing."""
        report = self.restore(to, dry_run=True, **wanted)
        assert not to.exists()
        before, after = (None if at is None else at.txid for at in (report.before, report.after))
        return report.position.txid, before, after

    @property
    def repository(self) -> Repository:
        """The repository, opened."""
        return self.runtime.repository(str(self.root))

    def manifest(self, sequence: int) -> Manifest:
        """Return a manifest."""
        (found,) = [entry.manifest for entry in self.repository.entries(NAME) if entry.sequence == sequence]
        assert found is not None
        return found

    def commits(self, sequence: int) -> Path:
        """Return the file of the page set of commits of a manifest."""
        return self.root / self.manifest(sequence).object_keys[1]

    def forge(self, sequence: int, **fields: object) -> None:
        """Let a manifest say something else."""
        manifest = replace(self.manifest(sequence), **fields)  # type: ignore[arg-type]
        path = self.root / keys.manifest_key(NAME, sequence)
        path.write_bytes(encode_manifest(manifest))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Followed:
    """A followed database of fifteen commits, in four batches after a backup; a clock stepped back in the third."""
    folder = tmp_path_factory.mktemp("followed")
    (folder / "spool").mkdir()
    follower = Follower(folder=folder / "spool", images=histories(LAST + 5, seed=4))
    for txid in (8, 9):  # the clock went back by an hour for two commits
        follower.times[txid] = NOW - timedelta(hours=1) + timedelta(seconds=txid)
    with follower.begin(runtime.repository(str(folder / "repository"), create=True)) as stream:
        follower.follow(stream, *COUNTS[:-1])
        follower.follow(stream, COUNTS[-1], merged=True)
    return Followed(root=folder / "repository", follower=follower, runtime=runtime)


@pytest.fixture
def followed(template: Followed, tmp_path: Path) -> Followed:
    """A copy of it."""
    root = tmp_path / "repository"
    shutil.copytree(template.root, root)
    return replace(template, root=root)


def test_every_commit_is_restored_exactly(template: Followed, tmp_path: Path) -> None:
    """By its number, in full: pages that came, went and came again included (H21)."""
    to = tmp_path / "app.db"
    for txid in range(1, LAST + 1):
        if 11 < txid < LAST:
            continue  # merged
        report = template.restore(to, txid=txid)
        assert to.read_bytes() == template.follower.images[txid - 1], txid
        assert (report.position.txid, report.time, report.verified) == (txid, template.follower.time(txid), True)
        to.unlink()
    report = template.restore(to, txid=9, read_back=True)
    assert to.read_bytes() == template.follower.images[8]
    assert report.objects == 4 and report.bytes_fetched > 0
    assert not [path for path in tmp_path.iterdir() if "commit" in path.name]


def test_a_plan_tells_the_moments_beside(template: Followed, tmp_path: Path) -> None:
    """What stands right before and after, across batches, backups and merged commits; also in a dry run."""
    to = tmp_path / "app.db"
    found = [template.found(to, txid=txid) for txid in (1, 2, 3, 4, 5, 6, 10, 11, 15)]
    assert found == [
        (1, None, 2),
        (2, 1, 3),
        (3, 2, 4),
        (4, 3, 5),
        (5, 4, 6),
        (6, 5, 7),
        (10, 9, 11),
        (11, 10, 15),
        (15, 11, None),
    ]
    assert template.found(to) == (15, 11, None)
    report = template.restore(to, txid=7, dry_run=True)
    time = template.follower.time
    assert report.steps[0] == (
        f"bring back app.db as of txid 7, {format_moment(time(7))}; right before it txid 6, {format_moment(time(6))} "
        f"and right after it txid 8, {format_moment(time(8))}"
    )
    assert "a snapshot and 2 segments, and of the commits 6 to 11 those up to 7, " in report.steps[1]
    assert report.before == Position(timeline=report.position.timeline, txid=6, time=time(6))


def test_a_time_means_the_last_commit_seen_by_then(template: Followed, tmp_path: Path) -> None:
    """H23: in the order of txids, so commits that a clock which stepped back put there count, and nothing else does."""
    to = tmp_path / "app.db"

    def at(time: datetime) -> int:
        return template.found(to, at=format_moment(time))[0]

    time = template.follower.time
    assert at(time(15)) == 15 and at(time(15) + timedelta(days=1)) == 15
    assert at(time(11)) == 11 and at(time(11) - timedelta(microseconds=1)) == 10
    assert at(time(14)) == 11  # it was merged into 15, which was seen later
    assert at(time(7)) == 9  # 8 and 9 come after 7, and were seen before it as the clock has it
    assert at(time(2)) == 9 and at(time(9)) == 9 and at(time(8)) == 8
    with pytest.raises(RepositoryNotFound, match="holds no restore point of app"):
        at(time(8) - timedelta(seconds=1))


def test_a_time_without_steps_of_the_clock(tmp_path: Path, runtime: Runtime) -> None:
    """Every commit is the last one until the next one was seen."""
    (tmp_path / "spool").mkdir()
    follower = Follower(folder=tmp_path / "spool", images=histories(9, seed=5))
    with follower.begin(runtime.repository(str(tmp_path / "repository"), create=True)) as stream:
        follower.follow(stream, 3, 5)
    followed = Followed(root=tmp_path / "repository", follower=follower, runtime=runtime)
    for txid in range(1, 10):
        for later in (timedelta(0), timedelta(milliseconds=999)):
            found = followed.found(tmp_path / "app.db", at=format_moment(follower.time(txid) + later))
            assert found == (txid, txid - 1 or None, txid + 1 if txid < 9 else None)


def test_a_merged_commit_names_its_neighbours(template: Followed, tmp_path: Path) -> None:
    """It cannot be had by itself; nothing else is restored instead."""
    time = template.follower.time
    with pytest.raises(RepositoryNotFound) as caught:
        template.restore(tmp_path / "app.db", txid=13)
    assert "holds txid 13 of app.db merged with those after it" in caught.value.message
    assert f"txid 11 of {format_moment(time(11))} before it" in caught.value.message
    assert f"txid 15 of {format_moment(time(15))} after it" in caught.value.message
    assert caught.value.hint == "--txid 15, or --txid 11"
    with pytest.raises(RepositoryNotFound, match="they reach from txid 1"):
        template.restore(tmp_path / "app.db", txid=16)


def test_a_moment_is_found_by_its_name(followed: Followed, tmp_path: Path) -> None:
    """Of several with one name the last in the order of commits is meant, whenever they were named."""
    to, store = tmp_path / "app.db", followed.repository.store
    timeline = followed.manifest(1).position.timeline
    for txid, text in ((3, "before the migration"), (8, "weekly"), (5, "weekly"), (2, "-15m")):
        position = followed.follower.position(timeline, txid)
        name_moment(store, NAME, position, text, now=NOW - timedelta(days=txid))
    assert followed.found(to, mark="before the migration") == (3, 2, 4)
    listed = run_backups(BackupsRequest(repository=str(followed.root)), followed.runtime).marks
    assert [(mark.position.txid, mark.text) for mark in listed] == [
        (2, "-15m"),
        (3, "before the migration"),
        (5, "weekly"),
        (8, "weekly"),
    ]
    assert followed.found(to, at="before the migration")[0] == 3
    assert followed.found(to, mark="weekly")[0] == 8
    assert followed.found(to, mark="-15m")[0] == 2
    followed.restore(to, mark="weekly")
    assert to.read_bytes() == followed.follower.images[7]
    with pytest.raises(RepositoryNotFound, match=r'named "x": the last that are named: "-15m"; .*"weekly"'):
        followed.restore(to, mark="x")
    with pytest.raises(ConfigurationInvalid, match=r'"no such thing" is no time; .* named "no such thing"'):
        followed.restore(to, at="no such thing")


def test_without_its_commits_a_batch_has_its_end(followed: Followed, tmp_path: Path) -> None:
    """An object that is missing or damaged takes its commits along, and nothing else: errors and verify say so."""
    to = tmp_path / "app.db"
    path = followed.commits(4)
    data = path.read_bytes()
    for damage in (None, data[:200] + bytes([data[200] ^ 1]) + data[201:], data[:-1]):
        path.unlink(missing_ok=True)
        if damage is not None:
            path.write_bytes(damage)
        for wanted in ({"txid": 7}, {"at": format_moment(followed.follower.time(10))}):
            with pytest.raises(RepositoryDamaged) as caught:
                followed.restore(to, **wanted)
            assert "of txids 6 to 10, cannot be restored, but txid 11 itself can: " in caught.value.message
            assert caught.value.hint.endswith("--db app.db --txid 11 --to PATH")
            assert not to.exists()
        for txid in (11, 5, 3):
            report = followed.restore(to, txid=txid)
            assert to.read_bytes() == followed.follower.images[txid - 1]
            to.unlink()
            assert txid in (5, 11) or not report.warnings  # whose neighbours are in that object
            assert txid != 11 or report.warnings or damage is not None
        proved = run_verify(VerifyRequest(repository=str(followed.root)), followed.runtime)
        assert proved.verdict is Verdict.DAMAGED and proved.exit_code == 1
        (wrong,) = [point for point in proved.points if point.state != "ok"]
        assert (wrong.key, wrong.commits) == (followed.manifest(4).object_keys[1], 5)
        assert wrong.state == ("missing" if damage is None else "damaged")
        assert wrong.why.startswith("txids 6 to 10 cannot be restored, but 11 itself: ")
        assert wrong.instead is not None and wrong.instead.txid == 5


def test_the_commits_of_another_batch_are_refused(followed: Followed, tmp_path: Path) -> None:
    """A page set of commits proves itself; that it belongs there only the manifest says."""
    other = Follower(folder=tmp_path / "spool", images=[image(9, seed=number) for number in range(20)])
    other.folder.mkdir()
    sealed = other.seal(followed.manifest(3).position, 6)
    assert sealed.commits is not None
    shutil.copyfile(sealed.commits, followed.commits(4))
    with pytest.raises(RepositoryDamaged, match=r"but txid 11 itself can: .* not the one of its manifest"):
        followed.restore(tmp_path / "app.db", txid=7)


def test_what_a_manifest_says_of_commits_is_not_believed(followed: Followed, tmp_path: Path) -> None:
    """Counts, sizes and times that do not fit are found before a file takes its path, and give no room to nonsense."""
    to = tmp_path / "app.db"
    commits = followed.manifest(4).commits
    assert commits
    for forged in (
        {"commits": replace(commits, count=5)},
        {"commits": replace(commits, bytes=commits.bytes + 1)},
        {"commits": replace(commits, sha256="0" * 64)},
        {"pages": 1 << 31},
        {"database_sum": "0" * 16},
    ):
        kept = followed.manifest(4)
        followed.forge(4, **forged)
        with pytest.raises(RepositoryDamaged, match="not the one of its manifest"):
            followed.restore(to, txid=7)
        assert not to.exists()
        followed.forge(4, **{name: getattr(kept, name) for name in forged})
    followed.forge(4, commits=replace(commits, earliest=datetime(1, 1, 1, tzinfo=UTC)))
    assert followed.found(to, at=format_moment(followed.follower.time(3)))[0] == 9
    followed.restore(to, txid=7)
    assert to.read_bytes() == followed.follower.images[6]


def test_without_what_they_continue_commits_are_lost(followed: Followed, tmp_path: Path) -> None:
    """The manifest below is gone: the error names it, and other moments can be had."""
    (followed.root / keys.manifest_key(NAME, 3)).unlink()
    with pytest.raises(
        RepositoryDamaged, match=r"at txid 7: no manifest can be read at .*:5, which that commit continues"
    ):
        followed.restore(tmp_path / "app.db", txid=7)
    assert followed.found(tmp_path / "app.db", txid=3)[0] == 3


def test_a_batch_that_became_a_snapshot_keeps_its_commits(followed: Followed, tmp_path: Path) -> None:
    """Its commits are made from the restore point that it continued, however it is stored itself by now."""
    batch, to = followed.manifest(4), tmp_path / "app.db"
    head = header(len(followed.follower.images[10]) // 512, txid=11, timeline=batch.position.timeline)
    (followed.root / batch.key).unlink()
    info = write(followed.root / batch.key, followed.follower.images[10], replace(head, time=batch.position.time))
    followed.forge(4, kind="snapshot", bytes=info.bytes, sha256=info.sha256)
    for txid in (7, 11, 15):
        followed.restore(to, txid=txid)
        assert to.read_bytes() == followed.follower.images[txid - 1]
    report = run_verify(VerifyRequest(repository=str(followed.root), read_data=True), followed.runtime)
    assert report.verdict is Verdict.SOUND
    with pytest.raises(ValueError, match="none that they follow"):
        replace(followed.manifest(4), parent=None)


def test_what_a_killed_restore_left_goes(template: Followed, tmp_path: Path) -> None:
    """H30: the file that leads to the commit is no leftover for ever."""
    to = tmp_path / "app.db"
    template.restore(to, txid=4)
    left = extracted_beside(Quarantine(path=to).new)
    left.write_bytes(b"of a killed process")
    template.restore(to, txid=7)
    assert not left.exists() and to.read_bytes() == template.follower.images[6]


def test_data_of_every_commit_is_proved(template: Followed) -> None:
    """verify --read-data reads both objects of each batch, and finds nothing wrong."""
    report = run_verify(VerifyRequest(repository=str(template.root), read_data=True), template.runtime)
    assert report.verdict is Verdict.SOUND, [point for point in report.points if point.state != "ok"]
    assert (report.objects, report.objects_read, len(report.points)) == (7, 7, 5)
    assert all(point.data for point in report.points)
    part = run_verify(VerifyRequest(repository=str(template.root), read_subset="30%"), template.runtime)
    assert part.verdict is Verdict.SOUND and part.objects_read < 7


def test_a_restore_goes_on_while_what_it_reads_is_gathered(
    template: Followed, followed: Followed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of which it reads, and the restore point itself, may become commits of a later batch meanwhile."""
    to = tmp_path / "app.db"
    for txid in (7, 5, 4):
        shutil.rmtree(followed.root)
        shutil.copytree(template.root, followed.root)
        gathered: list[bool] = []
        real = writing._take_commit if txid == 7 else writing._assembled

        def meanwhile(*arguments: Any, real: Any = real, gathered: list[bool] = gathered) -> Any:
            if not gathered:
                gathered.append(True)
                gather_all(followed)
            return real(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(writing, real.__name__, meanwhile)
            followed.restore(to, txid=txid)
        assert gathered and to.read_bytes() == followed.follower.images[txid - 1], txid
        to.unlink()


def gather_all(followed: Followed) -> None:
    """Gather the first three batches into one, as whoever gathers does it."""
    manifests = tuple(followed.repository.entries(NAME))
    with Turn(followed.repository.store, NAME, "ab" * 8, NOW, lambda seconds: None) as turn:
        compactor = Shortener(followed.repository, followed.runtime, turn, NAME, manifests)
        links = [entry.manifest for entry in manifests[1:4] if entry.manifest is not None]
        compactor.gather(links, lambda: True)
        compactor.release()
    assert [entry.sequence for entry in followed.repository.entries(NAME)] == [1, 4, 5]


def test_from_a_target_that_keeps_no_local_files(tmp_path: Path, runtime: Runtime) -> None:
    """What is fetched to look for a commit and to restore it is removed again, also where it is not whole."""
    (tmp_path / "spool").mkdir()
    follower = Follower(folder=tmp_path / "spool", images=histories(12, seed=4))
    target = MemoryTarget()
    repository = Repository.open(target, target.url, create=True)
    with follower.begin(repository) as stream:
        follower.follow(stream, 4, 5)
    to = tmp_path / "app.db"
    for txid in (3, 8, 5, 10):
        found = locate(repository, runtime.reader, NAME, txid=txid)
        assert [found.before and found.before.txid, found.after and found.after.txid] == [
            txid - 1,
            txid + 1 if txid < 10 else None,
        ]
        write_chain(found.chain, to, repository=repository, reader=runtime.reader, read_back=False)
        assert to.read_bytes() == follower.images[txid - 1]
        to.unlink()
    assert repository.store._spool._folder is None
    found = locate(repository, runtime.reader, NAME, txid=8)
    key = next(key for key in target.objects if key.endswith(".commits.zst") and "0000000010-" in key)
    target.objects[key] = target.objects[key][:-1]
    repository.store.forget()
    with pytest.raises(RepositoryDamaged, match="but txid 10 itself can"):
        write_chain(found.chain, to, repository=repository, reader=runtime.reader, read_back=False)
    assert repository.store._spool._folder is None and not to.exists()
    del target.objects[key]
    with pytest.raises(RepositoryDamaged, match="but txid 10 itself can"):
        write_chain(found.chain, to, repository=repository, reader=runtime.reader, read_back=False)


def test_any_flipped_byte_of_a_batch_is_reported_and_refused(followed: Followed, tmp_path: Path) -> None:
    """Wherever it is in the object of the commits: verify names it, and no commit comes out of it."""
    path, rng = followed.commits(4), random.Random(8)
    data = path.read_bytes()
    for offset in sorted(rng.sample(range(len(data)), 12)):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 1 << rng.randrange(8)]) + data[offset + 1 :])
        report = run_verify(VerifyRequest(repository=str(followed.root)), followed.runtime)
        assert report.verdict is Verdict.DAMAGED, offset
        with pytest.raises(RepositoryDamaged, match="but txid 11 itself can"):
            followed.restore(tmp_path / "app.db", txid=8)
        assert not (tmp_path / "app.db").exists()


def test_what_goes_on_from_a_commit_begins_a_timeline(tmp_path: Path, runtime: Runtime) -> None:
    """A restored commit is written to and backed up: its history forks there, and that of the database goes on."""
    root, to = tmp_path / "repository", tmp_path / "app.db"
    shutil.copytree(GOLDEN, root)
    restored = run_restore(RestoreRequest(repository=str(root), to=str(to), txid=3), runtime)
    with closing(sqlite3.connect(to)) as connection, connection:
        connection.execute("DELETE FROM golden WHERE id = 1")
    report = run_backup(BackupRequest(database=str(to), repository=str(root)), runtime)
    assert report.position.timeline != restored.position.timeline and report.position.txid == 1
    repository = runtime.repository(str(root))
    assert repository.resolve_chain().point.parent == restored.position
    for txid, timeline in ((3, restored.position.timeline), (8, None), (1, report.position.timeline)):
        found = locate(repository, runtime.reader, NAME, txid=txid, timeline=timeline)
        assert found.chain.restore_point.position.txid == txid
    newest = locate(repository, runtime.reader, NAME)
    assert newest.chain.restore_point.position == report.position
    assert newest.before is not None and newest.before.txid == 8 and newest.after is None
