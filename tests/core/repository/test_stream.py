"""Sessions that append batches of commits: what stands, what goes, and who is refused."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pagewarden.errors import RepositoryBusy, TargetFailed, VerificationFailed
from pagewarden.repository import keys
from pagewarden.repository.repository import Repository
from pagewarden.repository.store import Store
from pagewarden.repository.stream import Batch, Stream
from tests.core.repository.chains import histories
from tests.core.repository.follower import NAME, Follower, fail_at, last, named, objects, pending
from tests.core.repository.sets import back_up, image


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    """A database of twenty commits."""
    folder = tmp_path / "spool"
    folder.mkdir()
    return Follower(folder=folder, images=histories(20))


def test_batches_are_restore_points_with_their_commits(repository: Repository, follower: Follower) -> None:
    """What was appended stands: one manifest for each batch, with what its commits are, and nothing else is left."""
    with follower.begin(repository) as stream:
        follower.follow(stream, 3, 1)
        follower.follow(stream, 4, merged=True)
        assert stream.newest is not None and stream.timeline == stream.newest.position.timeline
        assert len(pending(repository)) == 1
    manifests = [entry.manifest for entry in repository.entries(NAME) if entry.manifest is not None]
    assert [each.position.txid for each in manifests] == [1, 4, 5, 9]
    assert [each.span for each in manifests] == [0, 3, 1, 4]
    assert [each.merged or 0 for each in manifests] == [0, 0, 1, 4]
    assert [each.commits.count if each.commits else 0 for each in manifests] == [0, 3, 0, 0]
    assert [each.followed for each in manifests] == [False, True, True, True]
    assert manifests[1].commits and manifests[1].commits.earliest == follower.time(2)
    assert repository.look(NAME)[1] == () and objects(repository) == named(repository)
    assert pending(repository) == [] and repository.leftovers() == ()
    assert all(path.exists() for path in follower.folder.iterdir())


def test_the_files_of_a_batch_stay_where_they_are(repository: Repository, follower: Follower) -> None:
    """Until append has returned they are all there is of it, so it never takes them away."""
    with follower.begin(repository) as stream:
        assert stream.newest is not None
        sealed = follower.seal(stream.newest, 2)
        before = [path.read_bytes() for path in (sealed.segment, sealed.commits) if path is not None]
        sealed.append(stream)
        assert [path.read_bytes() for path in (sealed.segment, sealed.commits) if path is not None] == before
        assert repository.store.exists(stream.segment_key(3)) and repository.store.exists(stream.commits_key(3))


def test_a_batch_is_kept_as_json(repository: Repository, follower: Follower) -> None:
    """The spool keeps a batch as a document: it decodes to what was encoded."""
    with follower.begin(repository) as stream:
        assert stream.newest is not None
        for count, merged in ((3, False), (1, False), (3, True)):
            batch = follower.seal(stream.newest, count, merged=merged).batch
            assert msgspec.json.decode(msgspec.json.encode(batch), type=Batch) == batch


def test_a_batch_that_stands_is_not_stored_again(repository: Repository, follower: Follower) -> None:
    """Appended again, in the same session and in a later one, it is success, and nothing new is stored."""
    with follower.begin(repository) as stream:
        assert stream.newest is not None
        sealed = follower.seal(stream.newest, 3)
        sealed.append(stream)
        follower.follow(stream, 2)
        stored = objects(repository)
        sealed.append(stream)
    with Stream.open(repository, NAME) as again:
        sealed.append(again)
        assert objects(repository) == stored and last(repository) == 6
        follower.follow(again, 2)
    assert last(repository) == 8


def test_a_backup_that_was_first_ends_the_stream(repository: Repository, follower: Follower) -> None:
    """A plain backup takes the number: the stream stores nothing, and the next one goes on from the backup."""
    with follower.begin(repository) as stream:
        follower.follow(stream, 3)
        assert stream.newest is not None
        sealed = follower.seal(stream.newest, 3)
        back_up(repository, NAME, image(5, seed=9))
        with pytest.raises(RepositoryBusy, match=r"another backup of app\.db to .* was committed first"):
            sealed.append(stream)
    assert objects(repository) == named(repository)
    with Stream.open(repository, NAME) as again:
        assert again.newest is not None and again.newest.position.txid == 5
        with pytest.raises(RepositoryBusy, match=r"another batch|continues"):
            sealed.append(again)


def test_what_others_committed_is_seen_after_a_pause(repository: Repository, follower: Follower) -> None:
    """After a minute without a batch others may have committed, and folded that: their later numbers tell."""
    now = 0.0
    back_up(repository, NAME, follower.images[0], follower.time(1))
    with Stream.open(repository, NAME, monotonic=lambda: now) as stream:
        assert stream.newest is not None
        sealed = follower.seal(stream.newest, 3)
        two = back_up(repository, NAME, image(5, seed=8))
        back_up(repository, NAME, image(5, seed=9))
        repository.store.delete(keys.manifest_key(NAME, 2))
        repository.store.delete(two.key)
        now = 61.0
        with pytest.raises(RepositoryBusy, match="committed first"):
            sealed.append(stream)
    assert [entry.sequence for entry in repository.entries(NAME)] == [1, 3]


def test_a_batch_must_continue_what_is_recorded(repository: Repository, follower: Follower) -> None:
    """H22: one that begins with another database sum is refused when it is written, and the stream goes on."""
    with follower.begin(repository) as stream:
        assert stream.newest is not None
        sealed = follower.seal(stream.newest, 3)
        wrong = replace(sealed.batch, segment=replace(sealed.batch.segment, database_sum_from="0" * 16))
        with pytest.raises(VerificationFailed, match="begins with the database sum 0000000000000000"):
            stream.append(wrong, sealed.segment, sealed.commits)
        with pytest.raises(ValueError, match="both there"):
            stream.append(sealed.batch, sealed.segment)
        with pytest.raises(ValueError, match="how many were merged"):
            stream.append(replace(sealed.batch, merged=3), sealed.segment, sealed.commits)
        sealed.append(stream)
        later = follower.seal(follower.position(stream.timeline, 9), 2)
        with pytest.raises(RepositoryBusy, match="and the newest is"):
            later.append(stream)


def test_without_a_backup_there_is_nothing_to_continue(repository: Repository, follower: Follower) -> None:
    """A stream of an empty history, or behind which something unreadable stands, asks for a backup."""
    with Stream.open(repository, NAME) as stream:
        assert stream.newest is None and stream.timeline == ""
        with pytest.raises(RepositoryBusy, match="nothing that can be continued"):
            follower.seal(follower.position("0" * 32, 1), 2).append(stream)
    with follower.begin(repository) as stream:
        follower.follow(stream, 2, 2)
    key = keys.manifest_key(NAME, 3)
    repository.store.delete(key)
    repository.store.put(key, b"nonsense")
    with Stream.open(repository, NAME) as stream:
        assert stream.newest is None
    repository.store.delete(key)
    with Stream.open(repository, NAME) as stream:  # its object tells that there was one
        assert stream.newest is None


@pytest.mark.parametrize("step", ["adopt", "put"])
@pytest.mark.parametrize("done", [False, True])
def test_append_again_after_a_failure_is_success(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch, step: str, done: bool
) -> None:
    """Whether the storage did what it then failed to answer or not, the same batch is stored once, and whole."""
    with follower.begin(repository) as stream:
        assert stream.newest is not None
        sealed = follower.seal(stream.newest, 3)
        for number in range(1, 4):
            with monkeypatch.context() as patched:
                fail_at(patched, step, number, done=done)
                try:
                    sealed.append(stream)
                except TargetFailed:
                    continue
            break
        sealed.append(stream)
        follower.follow(stream, 2)
    assert [entry.manifest.position.txid for entry in repository.entries(NAME) if entry.manifest] == [1, 4, 6]
    assert objects(repository) == named(repository) and pending(repository) == []


def test_after_a_failure_another_batch_may_come(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what failed was not stored, one that was merged anew takes its place; what is left of the first goes."""
    with follower.begin(repository) as stream:
        assert stream.newest is not None
        first, second = follower.seal(stream.newest, 3), follower.seal(stream.newest, 3, merged=True)
        with monkeypatch.context() as patched:
            fail_at(patched, "put", 1, done=False)
            with pytest.raises(TargetFailed):
                first.append(stream)
        second.append(stream)
        follower.follow(stream, 2)
        assert objects(repository) > named(repository)
        assert repository.look(NAME)[1] == ()  # they are the session's
    assert last(repository) == 6 and objects(repository) == named(repository) and pending(repository) == []


def test_after_a_failure_another_one_may_stand(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what failed was stored after all, what comes instead of it is refused; and so where a backup came."""
    with follower.begin(repository) as stream:
        assert stream.newest is not None
        first, second = follower.seal(stream.newest, 3), follower.seal(stream.newest, 4)
        with monkeypatch.context() as patched:
            fail_at(patched, "put", 1, done=True)
            with pytest.raises(TargetFailed):
                first.append(stream)
        with pytest.raises(RepositoryBusy, match="continues"):
            second.append(stream)
    assert last(repository) == 4
    with Stream.open(repository, NAME) as stream:
        assert stream.newest is not None
        third = follower.seal(stream.newest, 3)
        with monkeypatch.context() as patched:
            fail_at(patched, "put", 1, done=False)
            with pytest.raises(TargetFailed):
                third.append(stream)
        back_up(repository, NAME, image(5, seed=9))
        with pytest.raises(RepositoryBusy, match="first"):
            third.append(stream)
    assert objects(repository) == named(repository) and pending(repository) == []


def test_where_files_cannot_be_linked_they_are_copied(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool may be on another file system; a batch whose file is gone is told of, and stored when it is back."""
    real = os.link

    def link(source: Path, destination: Path, **named: bool) -> None:
        if source.parent == follower.folder:
            raise OSError(errno.EXDEV, "on another file system")
        real(source, destination, **named)

    monkeypatch.setattr(os, "link", link)
    with follower.begin(repository) as stream:
        follower.follow(stream, 3)
        assert stream.newest is not None
        sealed = follower.seal(stream.newest, 2)
        away = sealed.segment.rename(follower.folder / "away")
        with pytest.raises(TargetFailed, match="cannot copy"):
            sealed.append(stream)
        away.rename(sealed.segment)
        sealed.append(stream)
    assert last(repository) == 6 and objects(repository) == named(repository)


def test_a_stored_batch_is_counted_in_a_session_that_failed(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest was put and the answer was lost: another look says so, and what follows goes on from it."""
    with follower.begin(repository) as stream:
        assert stream.newest is not None
        first = follower.seal(stream.newest, 2)
        with monkeypatch.context() as patched:
            fail_at(patched, "put", 1, done=True)
            with pytest.raises(TargetFailed):
                first.append(stream)
        following = follower.seal(first.batch.position, 3)
        following.append(stream)
        with monkeypatch.context() as patched:
            patched.setattr(Store, "delete", lambda _self, key: (_ for _ in ()).throw(TargetFailed(f"no {key}")))
            with pytest.raises(ValueError, match="of whoever follows") as caught, stream:
                raise ValueError("of whoever follows")
        assert "could not be removed" in caught.value.__notes__[0]
    assert last(repository) == 6 and objects(repository) == named(repository) and pending(repository) == []
