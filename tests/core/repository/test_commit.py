"""From the moment that a manifest stands others build on it: what becomes of a commit that is cut off after that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pagewarden.contracts import Target
from pagewarden.errors import RepositoryBusy, TargetFailed
from pagewarden.repository import keys, tidy
from pagewarden.repository.intent import Intent, Pending, Runner
from pagewarden.repository.manifest import decode_manifest, encode_document, encode_manifest
from pagewarden.repository.repository import Repository
from tests.core.repository.conftest import seeded
from tests.core.repository.sets import NOW, after, back_up, commit, image, store
from tests.core.repository.test_tidy import contents, kill

NAME = "app.db"
DATA = image(9)


def txids(repository: Repository) -> list[int]:
    """Return the txids of what is listed; nothing is wrong with others."""
    points, problems = repository.restore_points(NAME)
    assert problems == ()
    for point in points:
        assert repository.store.exists(point.key)
    return [point.position.txid for point in points]


@pytest.mark.parametrize("error", [TargetFailed("the line was cut"), OSError(5, "no"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("moment", ["put", "look", "end"])
def test_a_commit_that_is_cut_off_after_its_manifest_stays(
    repository: Repository, target: Target, monkeypatch: pytest.MonkeyPatch, error: BaseException, moment: str
) -> None:
    """Another backup is based on it meanwhile, or a prune counted it: it is not taken back, and the caller is told.

    Its intent ends as soon as that can be done, though its process lives: others would wait for it.
    """
    intent = repository.begin(NAME)
    info = store(repository, intent, DATA)
    put, read, delete = target.put, target.read, target.delete

    def cut_put(key: str, data: bytes) -> None:
        put(key, data)
        if moment == "put" and "/manifests/" in key:
            raise error

    def cut_read(key: str, offset: int, length: int) -> bytes:
        if moment == "look" and key == keys.claim_key(intent.nonce):
            raise error
        return read(key, offset, length)

    def cut_delete(key: str) -> None:
        if moment == "end" and key == keys.pending_key(intent.nonce):
            raise error
        delete(key)

    with monkeypatch.context() as patch:
        patch.setattr(target, "put", cut_put)
        patch.setattr(target, "read", cut_read)
        patch.setattr(target, "delete", cut_delete)
        with pytest.raises((TargetFailed, KeyboardInterrupt)) as caught:
            commit(repository, intent, info)
    assert txids(repository) == [1]
    repository.abandon(intent)
    assert txids(repository) == [1]
    assert "may be committed: pagewarden backups" in caught.value.__notes__[-1]
    if isinstance(caught.value, TargetFailed):
        assert "may be committed: pagewarden backups" in caught.value.hint
    if moment == "end":
        assert repository.store.exists(keys.pending_key(intent.nonce))
    repository.clean()
    assert repository.store.keys(keys.PENDING) == []
    back_up(repository, NAME, DATA)
    assert txids(repository) == [1, 2]


@pytest.mark.parametrize("ends", [True, False])
def test_a_backup_that_is_claimed_after_its_manifest_counts(target: Target, ends: bool) -> None:
    """The cleaner sees the manifest and keeps the object; one that is cut off leaves that to the next one."""
    repository = Repository.open(target, target.url, create=True, clock=lambda: NOW, token=seeded(1))
    intent = repository.begin(NAME)
    info = store(repository, intent, DATA)
    kill(target, intent)
    put = target.put

    def put_then_claim(key: str, data: bytes) -> None:
        put(key, data)
        if "/manifests/" in key:
            put(keys.claim_key(intent.nonce), b"")

    def sleep(_: float) -> None:
        if ends:
            tidy.clean(repository.store, NOW)

    target.put = put_then_claim  # type: ignore[method-assign]
    repository._sleep = sleep
    if ends:
        commit(repository, intent, info)
    else:
        with pytest.raises(RepositoryBusy, match="may be removed"):
            commit(repository, intent, info)
        repository.clean()
    assert txids(repository) == [1]
    assert not any(key.startswith("pending/") for key in contents(target))


def test_a_cleaner_that_came_first_takes_the_manifest_along(
    repository: Repository, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked for a manifest, saw none, and one is put before the object goes: none is left without its object."""
    back_up(repository, NAME, DATA)
    before = contents(target)
    intent = repository.begin(NAME)
    store(repository, intent, DATA)
    target.adopt(intent.key, intent.staging)
    kill(target, intent)
    manifest = decode_manifest(target.get(keys.manifest_key(NAME, 1)), "it")
    manifest = replace(manifest, sequence=2, key=intent.key, position=replace(manifest.position, txid=2))
    delete = target.delete

    def put_then_delete(key: str) -> None:
        if key == intent.key:
            target.put(keys.manifest_key(NAME, 2), encode_manifest(manifest))
        delete(key)

    monkeypatch.setattr(target, "delete", put_then_delete)
    assert repository.clean() == (intent.key,)
    assert contents(target) == before


def second(repository: Repository, target: Target) -> tuple[Intent, dict[str, bytes]]:
    """Leave a backup that was killed right after it put its manifest where another one's was stored anew meanwhile.

    Return its intent, and what is stored without it.
    """
    back_up(repository, NAME, DATA)
    mine, theirs = repository.begin(NAME), repository.begin(NAME)
    commit(repository, theirs, store(repository, theirs, DATA, time=after(1)))
    key = keys.manifest_key(NAME, 2)
    parts = keys.parse_object_key(theirs.key)
    assert parts is not None
    first = decode_manifest(target.get(key), key)
    anew = replace(first, key=keys.object_key(replace(parts, nonce="ab" * 8)))
    target.put(anew.key, target.get(theirs.key))
    target.put(keys.manifest_key(NAME, 2, 1), encode_manifest(anew))
    for each in (theirs.key, key):
        target.delete(each)
    before = contents(target)
    del before[keys.pending_key(mine.nonce)]
    store(repository, mine, DATA)
    target.adopt(mine.key, mine.staging)
    position = replace(first.position, time=after(2))
    target.put(key, encode_manifest(replace(first, key=mine.key, position=position)))
    return mine, before


def test_a_manifest_that_came_second_hides_nothing(repository: Repository, target: Target) -> None:
    """While the intent of its backup stands, the other generation counts; whoever cleans removes it and its object."""
    mine, before = second(repository, target)
    assert txids(repository) == [1, 2]
    (_, entry) = repository.entries(NAME)
    assert entry.manifest is not None and entry.manifest.position.time == after(1)
    assert "was second" in entry.others[0].problem
    assert repository.look(NAME)[1] == ()
    kill(target, mine)
    assert repository.leftovers() == (keys.pending_key(mine.nonce), mine.key)
    assert repository.clean() == (mine.key,)
    assert contents(target) == before
    assert txids(repository) == [1, 2]


def test_whoever_was_second_takes_only_its_own_back(repository: Repository, target: Target) -> None:
    """The one that lives and sees it does the same."""
    mine, before = second(repository, target)
    assert repository.abandon(mine)
    assert contents(target) == before


@pytest.mark.parametrize("other", [lambda data: data, lambda data: data[:-1]], ids=["whole", "broken"])
def test_no_intent_takes_an_object_from_a_manifest(
    repository: Repository, target: Target, other: Callable[[bytes], bytes]
) -> None:
    """An intent of a dead process whose nonce is that of a stored object, with another number: the object stays."""
    point = back_up(repository, NAME, DATA)
    key = keys.manifest_key(NAME, 1)
    manifest = target.get(key)
    target.delete(key)
    target.put(key, other(manifest))
    parts = keys.parse_object_key(point.key)
    assert parts is not None
    dead = replace(Runner.current(), started="1")
    pending = Pending(database=NAME, sequence=7, key=point.key, time=NOW, runner=dead)
    target.put(keys.pending_key(parts.nonce), encode_document("intent", pending))
    assert repository.leftovers() == (keys.pending_key(parts.nonce),)
    assert repository.clean() == ()
    assert target.get(point.key)
    whole = other(manifest) == manifest
    assert repository.store.exists(keys.pending_key(parts.nonce)) != whole
