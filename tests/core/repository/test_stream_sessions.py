"""Sessions that meet others: live ones, dead ones, those of other machines, backups and prunes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pagewarden.errors import DeletionRefused, RepositoryBusy, TargetFailed
from pagewarden.repository import keys, tidy
from pagewarden.repository.intent import Runner
from pagewarden.repository.repository import Repository
from pagewarden.repository.store import Store
from pagewarden.repository.stream import Stream
from tests.core.repository.chains import histories
from tests.core.repository.follower import NAME, Follower, fail_at, last, named, objects, pending
from tests.core.repository.sets import back_up, commit, image, store


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    """A database of twenty commits."""
    folder = tmp_path / "spool"
    folder.mkdir()
    return Follower(folder=folder, images=histories(20))


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
