"""One prune at a time, and what becomes of one that died."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime

import pytest

from pagewarden.errors import DeletionRefused, RepositoryBusy, TargetFailed
from pagewarden.repository import keys, tidy
from pagewarden.repository.intent import FOREIGN_LIFE, Pruning, Runner
from pagewarden.repository.keys import ObjectKey
from pagewarden.repository.manifest import encode_document
from pagewarden.repository.repository import Repository
from pagewarden.repository.store import Store
from pagewarden.repository.turn import Turn
from tests.core.repository.sets import NOW, TIMELINE, after, back_up, image

NAME = "app.db"
MINE, OTHER = "0" * 15 + "1", "0" * 15 + "2"


def turn(store: Store, nonce: str = MINE, now: datetime = NOW, name: str = NAME) -> Turn:
    """Return the turn to prune, which never waits."""
    return Turn(store, name, nonce, now, lambda _seconds: None)


def put(store: Store, nonce: str, runner: Runner, now: datetime = NOW) -> None:
    """Put the intent of another prune."""
    pruning = Pruning(database=NAME, time=now, runner=runner)
    store.put(keys.pending_key(nonce), encode_document("prune", pruning))


def test_one_prune_is_at_a_database_at_a_time(repository: Repository) -> None:
    """Who comes second is told who was first, and leaves nothing; another database has its own turn."""
    store = repository.store
    with turn(store) as first:
        with pytest.raises(RepositoryBusy, match=f"process {os.getpid()} of"), turn(store, OTHER, after(1)):
            raise AssertionError("two have the turn")
        with turn(store, OTHER, name="other.db"):
            first.check()
    with turn(store, OTHER, after(2)):
        pass
    assert store.keys(keys.PENDING) == []


def test_of_two_that_begin_at_once_the_first_one_goes_on(repository: Repository) -> None:
    """It waits until the other one has given way, but not for ever."""
    store = repository.store
    put(store, OTHER, Runner.current(), after(1))
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        store.delete(keys.pending_key(OTHER))

    with Turn(store, NAME, MINE, NOW, sleep):
        assert len(waits) == 1
    put(store, OTHER, Runner.current(), after(1))
    with pytest.raises(RepositoryBusy), turn(store):
        raise AssertionError("two have the turn")


def test_a_prune_of_another_machine_is_believed_to_live(repository: Repository) -> None:
    """For as long as a backup is; the hint says what to remove if it is known to be no more."""
    store = repository.store
    put(store, OTHER, replace(Runner.current(), machine="another"))
    with pytest.raises(RepositoryBusy) as caught, turn(store, now=after(1)):
        raise AssertionError("two have the turn")
    assert caught.value.hint.endswith(f"rm {store.url}/pending/{OTHER}.json")
    with turn(store, now=NOW + FOREIGN_LIFE + (after(1) - NOW)):
        pass


def test_a_dead_prune_is_cleaned_away_with_what_no_manifest_names(repository: Repository) -> None:
    """H30: of its objects those go that were not committed; others, of whatever nonce, stay."""
    store = repository.store
    point = back_up(repository, NAME, image(5))
    place = ObjectKey(name=NAME, timeline=TIMELINE, txid=3, nonce=MINE)
    stray, strange = keys.object_key(place), keys.object_key(replace(place, nonce=OTHER))
    for key in (stray, strange):
        store.put(key, b"half a page set")
    put(store, MINE, replace(Runner.current(), pid=4_000_000, started="1"))
    assert repository.leftovers() == (keys.pending_key(MINE), stray)
    assert repository.clean() == (stray,)
    assert store.exists(point.key) and store.exists(strange) and not store.exists(stray)
    assert store.keys(keys.PENDING) == []


def test_nothing_of_a_dead_prune_goes_while_a_manifest_cannot_be_read(repository: Repository) -> None:
    """Nobody knows what a broken manifest names."""
    store = repository.store
    store.put(keys.manifest_key(NAME, 7), b"nonsense")
    stray = keys.object_key(ObjectKey(name=NAME, timeline=TIMELINE, txid=3, nonce=MINE))
    store.put(stray, b"a page set, perhaps")
    put(store, MINE, replace(Runner.current(), pid=4_000_000, started="1"))
    assert repository.clean() == ()
    assert store.exists(stray) and store.exists(keys.pending_key(MINE))


def test_a_turn_that_was_taken_for_lost_is_lost(repository: Repository) -> None:
    """Who is claimed by another process goes no further."""
    store = repository.store
    with turn(store) as mine:
        store.put(keys.claim_key(MINE), b"")
        with pytest.raises(RepositoryBusy, match="taken for dead"):
            mine.check()
    assert store.keys(keys.PENDING) == []


def test_what_was_stored_and_not_committed_goes_with_the_turn(repository: Repository) -> None:
    """Objects with the nonce of the turn that no manifest names are removed where they may be there."""
    store = repository.store
    stray = keys.object_key(ObjectKey(name=NAME, timeline=TIMELINE, txid=3, nonce=MINE))
    with turn(store) as mine:
        mine.in_doubt = True
        store.put(stray, b"half a page set")
    assert not store.exists(stray)


def test_a_turn_ends_where_nothing_may_be_removed(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """H38: on a target that refuses to remove anything the intent stays, and the next prune sees that it ended."""
    store = repository.store

    def refuse(self: Store, key: str) -> None:
        raise DeletionRefused(f"{self.url} does not let this user remove {key}")

    monkeypatch.setattr(Store, "delete", refuse)
    with turn(store):
        pass
    with turn(store, OTHER, after(1)):
        pass
    assert tidy.leftovers(store, after(2)) == ()


@pytest.mark.parametrize("request_that_fails", ["put", "delete"])
@pytest.mark.parametrize("doubt", [False, True])
def test_a_turn_that_could_not_be_given_back_blocks_nobody_in_its_process(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, request_that_fails: str, doubt: bool
) -> None:
    """Its process lives, and may do so for ever: the next prune there ends what the last one could not."""
    store = repository.store
    real = getattr(Store, request_that_fails)

    def cut(self: Store, key: str, *data: bytes) -> None:
        if request_that_fails == "put":
            real(self, key, *data)
        raise TargetFailed("the line was cut")

    with monkeypatch.context() as patched:
        patched.setattr(Store, request_that_fails, cut)
        with pytest.raises(TargetFailed), turn(store) as mine:
            mine.in_doubt = doubt
    assert store.keys(keys.PENDING) == [keys.pending_key(MINE)]
    stray = keys.object_key(ObjectKey(name=NAME, timeline=TIMELINE, txid=3, nonce=MINE))
    if doubt and request_that_fails == "delete":
        store.put(stray, b"half a page set")
    with turn(store, OTHER, after(1)):
        assert store.keys(keys.PENDING) == [keys.pending_key(OTHER)]
    assert not store.exists(stray)
