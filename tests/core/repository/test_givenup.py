"""Backups that a living process gave up: it ends their intents as soon as it can, and never what others are at."""

from __future__ import annotations

import pytest

from pagewarden.contracts import Target
from pagewarden.errors import DeletionRefused, TargetFailed
from pagewarden.repository import keys, tidy
from pagewarden.repository.intent import Intent
from pagewarden.repository.repository import Repository
from pagewarden.repository.store import Store
from tests.core.repository.sets import back_up, commit, image, store

NAME = "app.db"
DATA = image(9)


@pytest.fixture
def given_up(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Intent:
    """A backup whose line was cut for good right after its manifest was put."""
    intent = repository.begin(NAME)
    info = store(repository, intent, DATA)

    def cut(*_: object) -> bool:
        raise TargetFailed("the line was cut")

    with monkeypatch.context() as patch:
        patch.setattr(tidy, "stands", cut)
        patch.setattr(tidy, "remove", cut)
        with pytest.raises(TargetFailed):
            commit(repository, intent, info)
    assert repository.store.exists(keys.pending_key(intent.nonce))
    return intent


def test_the_next_backup_ends_it(repository: Repository, given_up: Intent) -> None:
    """Its claim was this process's own; both restore points are there."""
    assert repository.store.exists(keys.claim_key(given_up.nonce))
    back_up(repository, NAME, DATA)
    assert repository.store.keys(keys.PENDING) == []
    assert len(repository.restore_points(NAME)[0]) == 2


def test_what_cannot_be_told_is_asked_again(repository: Repository, target: Target, given_up: Intent) -> None:
    """While its manifest cannot be read, nobody knows whether it counts."""
    key = keys.manifest_key(NAME, given_up.sequence)
    data = target.get(key)
    target.delete(key)
    target.put(key, b"broken")
    repository.clean()
    assert repository.store.exists(keys.pending_key(given_up.nonce))
    target.delete(key)
    target.put(key, data)
    repository.clean()
    assert repository.store.keys(keys.PENDING) == []
    assert len(repository.restore_points(NAME)[0]) == 1


def test_what_may_not_be_removed_is_said_to_be_over(
    repository: Repository, given_up: Intent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: then everybody sees it, and no later backup of this process asks again."""

    def refuse(place: Store, key: str) -> None:
        raise DeletionRefused(f"{place.url} does not let this user remove {key}", hint="ask for it")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "delete", refuse)
        repository.clean()
        assert repository.store.exists(keys.done_key(given_up.nonce))
    assert given_up.nonce not in tidy.unfinished(repository.store)


def test_what_somebody_else_claimed_is_left_to_them(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cleaner on another machine that takes it for dead."""
    intent = repository.begin(NAME)
    info = store(repository, intent, DATA)
    repository.store.put(keys.claim_key(intent.nonce), b"")
    with pytest.raises(TargetFailed), monkeypatch.context() as patch:
        patch.setattr(tidy, "outcome", lambda *_: (_ for _ in ()).throw(TargetFailed("the line was cut")))
        commit(repository, intent, info)
    repository.clean()
    left = repository.store.keys(keys.PENDING)
    assert left == [keys.claim_key(intent.nonce), keys.pending_key(intent.nonce)]
