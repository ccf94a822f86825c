"""Backups where nothing may be deleted, and what becomes of what stays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pagewarden.errors import DeletionRefused, RepositoryBusy, SharedWritingRefused
from pagewarden.repository import keys, tidy
from pagewarden.repository.repository import Repository
from tests.core.repository.conftest import seeded
from tests.core.repository.sets import NOW, MemoryTarget, back_up, commit, image, store
from tests.core.repository.test_tidy import contents, kill

DATA = image(9)


@dataclass
class Undeletable(MemoryTarget):
    """A target whose user may not delete; `reads` counts what is read."""

    allowed: bool = False
    reads: int = 0

    def delete(self, key: str) -> None:
        """Refuse."""
        if not self.allowed:
            raise DeletionRefused(f"cannot remove {key}: it is not permitted")
        super().delete(key)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Count."""
        self.reads += 1
        return super().read(key, offset, length)


@pytest.fixture
def target() -> Undeletable:
    """One that holds nothing."""
    return Undeletable()


@pytest.fixture
def repository(target: Undeletable) -> Repository:
    """A repository on it."""
    return Repository.open(target, target.url, create=True, clock=lambda: NOW, token=seeded(1))


def test_a_backup_succeeds_and_says_that_it_has_ended(repository: Repository, target: Undeletable) -> None:
    """Its intent stays, and what says so; nothing is a leftover."""
    for _ in range(3):
        back_up(repository, "app.db", DATA)
    assert [point.position.txid for point in repository.restore_points("app.db")[0]] == [1, 2, 3]
    assert sorted(key.rpartition(".")[2] for key in target.objects if key.startswith("pending/")) == 3 * [
        "done"
    ] + 3 * ["json"]
    assert repository.leftovers() == ()
    assert repository.look("app.db")[1] == ()


def test_intents_that_have_ended_cost_no_reading(repository: Repository, target: Undeletable) -> None:
    """After many backups the next one lists them and reads none."""
    back_up(repository, "app.db", DATA)
    for number in range(50):
        target.put(keys.pending_key(f"{number:016x}"), b"whatever")
        target.put(keys.done_key(f"{number:016x}"), b"")
    target.reads = 0
    assert repository.clean() == ()
    assert target.reads == 0


def test_an_object_whose_manifest_is_lost_is_told_of(repository: Repository, target: Undeletable) -> None:
    """That its backup was committed explains no object without a manifest: it is not what an ended backup left."""
    point = back_up(repository, "app.db", DATA)
    del target.objects[keys.manifest_key("app.db", 1)]
    assert repository.look("app.db")[1] == (point.key,)
    target.allowed = True
    tidy.clean(repository.store, NOW, ended=True)
    assert point.key in target.objects


@pytest.mark.parametrize("stage", ["begun", "adopted"])
def test_what_a_dead_backup_left_is_noted_once(repository: Repository, target: Undeletable, stage: str) -> None:
    """The next backup succeeds beside it, and those after it pass it over."""
    intent = repository.begin("app.db")
    store(repository, intent, DATA)
    if stage == "adopted":
        target.adopt(intent.key, intent.staging)
    kill_undeletable(target, intent.nonce)
    back_up(repository, "app.db", DATA)
    assert keys.refused_key(intent.nonce) in target.objects
    assert list(repository.leftovers()) == [intent.key] * (stage == "adopted")
    assert repository.look("app.db")[1] == ()
    target.reads = 0
    repository.clean()
    assert target.reads == 0


def test_whoever_was_second_leaves_an_object_and_says_so(repository: Repository, target: Undeletable) -> None:
    """The error is still that another one was first; a note tells of what stays."""
    mine, theirs = repository.begin("app.db"), repository.begin("app.db")
    commit(repository, theirs, store(repository, theirs, DATA))
    info = store(repository, mine, DATA)
    with pytest.raises(RepositoryBusy) as caught:
        commit(repository, mine, info)
    assert "could not be removed" in caught.value.__notes__[0]
    assert repository.leftovers() == (mine.key,)
    assert len(repository.restore_points("app.db")[0]) == 1


def test_whoever_may_delete_removes_all_of_it(repository: Repository, target: Undeletable) -> None:
    """Then the repository is as if everybody always might have."""
    kept = back_up(repository, "app.db", DATA)
    dead = repository.begin("app.db")
    target.adopt(dead.key, _staged(repository, dead.nonce, dead.staging))
    kill_undeletable(target, dead.nonce)
    back_up(repository, "app.db", DATA)
    assert repository.leftovers() == (dead.key,)
    target.allowed = True
    assert tidy.clean(repository.store, NOW, ended=True) == (dead.key,)
    assert not any(key.startswith("pending/") for key in target.objects)
    assert repository.leftovers() == ()
    assert {kept.key, *contents(target)} == set(contents(target))
    assert len(repository.restore_points("app.db")[0]) == 2


def test_whoever_may_not_is_told(repository: Repository, target: Undeletable) -> None:
    """`prune` asks for what it cannot do without."""
    back_up(repository, "app.db", DATA)
    with pytest.raises(DeletionRefused):
        tidy.clean(repository.store, NOW, ended=True)


def _staged(repository: Repository, nonce: str, staging: Path) -> Path:
    staging.write_bytes(b"cut off")
    return staging


def kill_undeletable(target: Undeletable, nonce: str) -> None:
    """Make a backup look as if its process had ended."""
    target.allowed = True
    kill(target, nonce)
    target.allowed = False


@dataclass
class Careless(MemoryTarget):
    """A target that replaces objects, and is found out by a probe."""

    probes: int = 0
    deletable: bool = True

    def size(self, key: str) -> int:
        """Return the bytes of an object."""
        return len(self.get(key))

    def probe(self, key: str, data: bytes) -> None:
        """Refuse."""
        assert self.get(key) == data
        self.probes += 1
        raise SharedWritingRefused("it replaces what is there")

    def delete(self, key: str) -> None:
        """Refuse where that is asked for."""
        if not self.deletable:
            raise DeletionRefused("no")
        super().delete(key)


def test_a_target_that_replaces_is_not_written_to() -> None:
    """H38: a repository is not even begun there; reading one is fine."""
    target = Careless()
    with pytest.raises(SharedWritingRefused):
        Repository.open(target, target.url, create=True)
    assert target.objects == {}
    target.deletable = False
    with pytest.raises(SharedWritingRefused) as caught:
        Repository.open(target, target.url, create=True)
    assert caught.value.__notes__ == ["pagewarden.json stays there: no"]
    repository = Repository.open(target, target.url)
    assert repository.names() == ()
    with pytest.raises(SharedWritingRefused):
        repository.begin("app.db")
    assert list(target.objects) == [keys.MARKER]
    assert target.probes == 3
