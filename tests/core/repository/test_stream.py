"""Sessions that append batches of commits: what stands, what goes, and who is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from pagewarden.errors import DeletionRefused, RepositoryBusy, TargetFailed, VerificationFailed
from pagewarden.repository import keys, tidy
from pagewarden.repository.intent import Runner
from pagewarden.repository.repository import Repository
from pagewarden.repository.store import Store
from pagewarden.repository.stream import Batch, Stream
from tests.core.repository.chains import histories
from tests.core.repository.follower import NAME, Follower
from tests.core.repository.sets import back_up, commit, image, store


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    """A database of twenty commits."""
    folder = tmp_path / "spool"
    folder.mkdir()
    return Follower(folder=folder, images=histories(20))


def pending(repository: Repository) -> list[str]:
    """Return what stands of runs under way."""
    return repository.store.keys(keys.PENDING)


def objects(repository: Repository) -> set[str]:
    """Return the keys of all objects."""
    return set(repository.store.keys(keys.objects_prefix(NAME)))


def named(repository: Repository) -> set[str]:
    """Return the keys of the objects that manifests name."""
    return {key for entry in repository.entries(NAME) for key in entry.object_keys}


def last(repository: Repository) -> int:
    """Return the txid of the newest restore point."""
    point = repository.newest(NAME)
    assert point is not None
    return point.position.txid


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


def test_of_two_streams_the_loser_is_told(repository: Repository, follower: Follower) -> None:
    """The later one takes the session over: the other one's batch is refused, and nothing of either is lost."""
    with follower.begin(repository) as first:
        follower.follow(first, 3)
        with Stream.open(repository, NAME) as second:
            follower.follow(second, 2)
            assert first.newest is not None
            lost = follower.seal(first.newest, 5)
            with pytest.raises(RepositoryBusy):
                lost.append(first)
            with pytest.raises(RepositoryBusy, match=r"taken over|first"):
                lost.append(first)
            follower.follow(second, 2)
        assert lost.segment.exists()
    assert last(repository) == 8
    assert objects(repository) == named(repository) and pending(repository) == []


def test_a_session_that_was_taken_over_stores_nothing_more(repository: Repository, follower: Follower) -> None:
    """It looks before it stores anything, unless it has just done so; then it commits once more, or takes it back."""
    now = 0.0
    back_up(repository, NAME, follower.images[0], follower.time(1))
    with Stream.open(repository, NAME, monotonic=lambda: now) as first:
        follower.follow(first, 3)
        with Stream.open(repository, NAME):
            stored = objects(repository)
            now = 2.0
            with pytest.raises(RepositoryBusy, match="taken over"):
                follower.follow(first, 2)
            assert objects(repository) == stored
    assert last(repository) == 4


@pytest.mark.parametrize("cleaner", ["before", "after", "slow"])
def test_a_batch_counts_where_its_objects_are(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch, cleaner: str
) -> None:
    """Claimed right before or after the manifest is put: the batch counts with its objects, or goes with them."""
    real = Store.put

    def put(self: Store, key: str, data: bytes) -> bool:
        if not key.endswith("0000000000000002.json"):
            return real(self, key, data)
        if cleaner == "after":
            real(self, key, data)
        ((nonce, session),) = tidy.sessions(repository.store, NAME)
        real(self, keys.claim_key(nonce), b"")
        if cleaner != "slow":
            tidy.remove_session(self, nonce, session)
        return cleaner == "after" or real(self, key, data)

    with follower.begin(repository) as stream:
        assert stream.newest is not None
        sealed = follower.seal(stream.newest, 3)
        with monkeypatch.context() as patched:
            patched.setattr(Store, "put", put)
            if cleaner == "after":
                sealed.append(stream)
            else:
                with pytest.raises(RepositoryBusy, match="taken over"):
                    sealed.append(stream)
        with pytest.raises(RepositoryBusy):
            follower.follow(stream, 2)
    # Where nobody has decided yet, whoever claimed it sees the manifest.
    assert last(repository) == (1 if cleaner == "before" else 4)
    assert objects(repository) == named(repository)
    if cleaner != "slow":
        assert pending(repository) == []


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


def fail_at(patched: pytest.MonkeyPatch, step: str, number: int, *, done: bool) -> None:
    """Let call `number` of a step of the store fail: before it does anything, or when it is `done`."""
    real: Callable[..., object] = getattr(Store, step)
    seen = 0

    def failing(self: Store, *arguments: object) -> object:
        nonlocal seen
        seen += 1
        if seen == number and not done:
            raise TargetFailed("no answer")
        answer = real(self, *arguments)
        if seen == number:
            raise TargetFailed("no answer")
        return answer

    patched.setattr(Store, step, failing)


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


def test_renewing_takes_another_number(repository: Repository, follower: Follower) -> None:
    """A session goes on under a new number, and its earlier objects stay; one that is lost cannot be renewed."""
    with follower.begin(repository) as stream:
        follower.follow(stream, 3)
        (before,) = pending(repository)
        stream.renew()
        (after,) = pending(repository)
        assert before != after
        follower.follow(stream, 3)
        repository.store.put(after.replace(".json", ".claimed"), b"")
        with pytest.raises(RepositoryBusy, match="taken over"):
            stream.renew()
        stream.renew()  # it is over: nothing happens
    assert last(repository) == 7 and objects(repository) == named(repository)


def test_a_live_process_keeps_its_session(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes of one machine the later one gives way, and leaves nothing."""
    with follower.begin(repository) as first:
        other = replace(Runner.current(), pid=1, started=started_of_one())
        with monkeypatch.context() as patched:
            patched.setattr(Runner, "current", staticmethod(lambda: other))
            with pytest.raises(RepositoryBusy, match=r"follows app\.db in"):
                Stream.open(repository, NAME, sleep=lambda seconds: None)
        follower.follow(first, 2)
    assert pending(repository) == []


def started_of_one() -> str:
    """Return when process 1 started."""
    return Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]


def test_a_dead_session_is_cleaned_by_whoever_comes(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no manifest names goes with the next backup, what one names stays, and nobody waits."""
    with monkeypatch.context() as patched:
        dead = replace(Runner.current(), pid=4_000_000, started="1")
        patched.setattr(Runner, "current", staticmethod(lambda: dead))
        stream = follower.begin(repository)
    follower.follow(stream, 3)
    assert stream.newest is not None
    sealed = follower.seal(stream.newest, 2)
    with monkeypatch.context() as patched:
        fail_at(patched, "put", 1, done=False)
        with pytest.raises(TargetFailed):
            sealed.append(stream)
    assert objects(repository) > named(repository)
    left = {key for key in repository.leftovers() if not key.startswith(keys.PENDING)}
    assert left == objects(repository) - named(repository)
    back_up(repository, NAME, image(5, seed=9))
    assert objects(repository) == named(repository) and pending(repository) == []
    with pytest.raises(RepositoryBusy):
        sealed.append(stream)
    assert objects(repository) == named(repository)


def test_what_may_not_be_removed_is_noted(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a store where nothing may be deleted a session ends all the same, and so do failures."""

    def refuse(self: Store, key: str) -> None:
        raise DeletionRefused(f"{key} may not be removed")

    stream = follower.begin(repository)
    assert stream.newest is not None
    sealed = follower.seal(stream.newest, 3)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", refuse)
        with monkeypatch.context() as failing:
            fail_at(failing, "adopt", 2, done=False)
            with pytest.raises(TargetFailed):
                sealed.append(stream)
        sealed.append(stream)
        follower.follow(stream, 2)
        stream.close()
        with Stream.open(repository, NAME) as again:
            assert again.newest is not None
    assert last(repository) == 6
    tidy.clean(repository.store, follower.time(1), ended=True)
    assert objects(repository) == named(repository) and pending(repository) == []


def test_a_session_of_another_machine_is_claimed(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can see whether its process lives: whoever opens takes it over, and it finds that out."""
    with monkeypatch.context() as patched:
        there = replace(Runner.current(), host="elsewhere")
        patched.setattr(Runner, "current", staticmethod(lambda: there))
        far = follower.begin(repository)
    with Stream.open(repository, NAME) as here:
        follower.follow(here, 2)
    with pytest.raises(RepositoryBusy):
        follower.follow(far, 3)
    far.close()
    assert last(repository) == 3 and pending(repository) == []


def test_a_session_that_was_not_renewed_for_a_week_is_dead(repository: Repository, follower: Follower) -> None:
    """Only of a process that cannot be looked at; those of this machine live as long as they do."""
    with follower.begin(repository):
        ((_, session),) = tidy.sessions(repository.store, NAME)
        later = session.time + timedelta(days=8)
        assert not session.is_dead(Runner.current(), later)
        far = replace(session, runner=replace(session.runner, host="elsewhere"))
        assert far.is_dead(Runner.current(), later) and not far.is_dead(Runner.current(), session.time)
        with pytest.raises(ValueError, match="not UTC"):
            replace(session, time=session.time.replace(tzinfo=None))


def test_what_a_live_session_committed_counts(repository: Repository, follower: Follower) -> None:
    """A prune beside it may rely on its restore points, the newest included, unless somebody claimed it meanwhile."""
    with follower.begin(repository) as stream:
        follower.follow(stream, 3)
        ((nonce, session),) = tidy.sessions(repository.store, NAME)
        intent = repository.begin("other.db")
        assert tidy.undecided(repository.store) == {intent.nonce}
        assert tidy.unfinished(repository.store) == {intent.nonce, nonce}
        repository.store.put(keys.claim_key(nonce), b"")
        assert tidy.undecided(repository.store) == {intent.nonce, nonce}
        tidy.remove_session(repository.store, nonce, session)
        assert tidy.undecided(repository.store) == {intent.nonce}
        repository.abandon(intent)
    assert last(repository) == 4 and objects(repository) == named(repository)


def test_a_backup_beside_a_session_says_what_to_do(repository: Repository, follower: Follower) -> None:
    """One that was overtaken, as most are beside a guard, names the command that waits for the guard."""
    with follower.begin(repository) as stream:
        intent = repository.begin(NAME)
        info = store(repository, intent, image(5, seed=9))
        follower.follow(stream, 2)
        with pytest.raises(RepositoryBusy) as caught:
            commit(repository, intent, info)
        assert "pagewarden sync" in caught.value.hint
        follower.follow(stream, 2)
    assert last(repository) == 5 and objects(repository) == named(repository)


def test_a_manifest_that_cannot_be_read_keeps_what_a_dead_session_left(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what it names: nothing goes, and no backup has to wait for that."""
    with monkeypatch.context() as patched:
        dead = replace(Runner.current(), pid=4_000_000, started="1")
        patched.setattr(Runner, "current", staticmethod(lambda: dead))
        stream = follower.begin(repository)
    follower.follow(stream, 3, 2)
    assert stream.newest is not None
    sealed = follower.seal(stream.newest, 2)
    with monkeypatch.context() as patched:
        fail_at(patched, "put", 1, done=False)
        with pytest.raises(TargetFailed):
            sealed.append(stream)
    stored = objects(repository)
    key = keys.manifest_key(NAME, 2)
    kept = repository.store.document(key)
    assert kept is not None
    repository.store.delete(key)
    repository.store.put(key, b"nonsense")
    back_up(repository, NAME, image(5, seed=9))
    assert objects(repository) > stored and repository.leftovers() != ()
    repository.store.delete(key)
    repository.store.put(key, kept)
    back_up(repository, NAME, image(5, seed=10))
    assert objects(repository) == named(repository) and repository.leftovers() == ()


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


def test_a_session_that_may_not_be_removed_is_taken_over_all_the_same(
    repository: Repository, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is claimed, so it commits nothing any more; what it left is noted for whoever may remove it."""
    first = follower.begin(repository)
    assert first.newest is not None
    sealed = follower.seal(first.newest, 3)
    with monkeypatch.context() as patched:
        fail_at(patched, "put", 1, done=False)
        with pytest.raises(TargetFailed):
            sealed.append(first)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", lambda _self, key: (_ for _ in ()).throw(DeletionRefused(f"no {key}")))
        with Stream.open(repository, NAME) as second:
            assert second.newest is None  # what stands there without a manifest has the next txid
            with pytest.raises(RepositoryBusy):
                sealed.append(first)
    # Nobody could remove its objects, so what it put then counts; but nothing comes after it.
    assert last(repository) == 4 and objects(repository) == named(repository)
    first.close()
    tidy.clean(repository.store, follower.time(1), ended=True)
    assert repository.leftovers() == () and objects(repository) == named(repository)
