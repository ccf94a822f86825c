"""Numbers at their upper bound: no backup is lost beyond it, and no stray blocks backups for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pagewarden.contracts import Target
from pagewarden.errors import RepositoryBusy, RepositoryDamaged
from pagewarden.repository import keys, marks
from pagewarden.repository.catalogue import newest_entry
from pagewarden.repository.intent import Pending, Runner
from pagewarden.repository.keys import LAST, LAST_GENERATION, ObjectKey
from pagewarden.repository.manifest import Manifest, decode_manifest, encode_manifest
from pagewarden.repository.numbers import FAR
from pagewarden.repository.repository import Repository
from tests.core.repository.sets import NOW, TIMELINE, back_up, commit, image, store

NAME = "app.db"
DATA = image(9)


def first(target: Target) -> Manifest:
    """Return the first manifest."""
    key = keys.manifest_key(NAME, 1)
    return decode_manifest(target.get(key), key)


@pytest.mark.parametrize("number", [LAST, LAST - 1, FAR + 9])
def test_a_stray_document_far_away_changes_nothing(repository: Repository, target: Target, number: int) -> None:
    """It is told of; backups go on, are listed, and the newest is meant."""
    back_up(repository, NAME, DATA)
    target.put(keys.manifest_key(NAME, number), b"a stray")
    target.put(f"{keys.manifests_prefix(NAME)}zzz", b"another")
    for sequence in (2, 3):
        point = back_up(repository, NAME, DATA)
        assert repository.store.exists(keys.manifest_key(NAME, sequence))
        points, problems = repository.restore_points(NAME)
        assert (points[-1], len(points), len(problems)) == (point, sequence, 2)
        last = newest_entry(tuple(repository.entries(NAME)))
        assert last is not None and last.sequence == sequence
    target.delete(f"{keys.manifests_prefix(NAME)}zzz")
    assert repository.resolve(NAME) == point


def test_a_broken_manifest_keeps_its_number(repository: Repository, target: Target) -> None:
    """Also where others before it are gone: it may be mended, and then it was before what comes."""
    back_up(repository, NAME, DATA)
    for number in (7, 7 + FAR):
        target.put(keys.manifest_key(NAME, number), b"broken")
        assert repository.begin(NAME).sequence == number + 1
        last = newest_entry(tuple(repository.entries(NAME)))
        assert last is not None and last.problem
        with pytest.raises(RepositoryDamaged):
            repository.resolve(NAME)
    assert newest_entry(()) is None


def test_a_number_of_which_a_mark_stands_is_not_given_again(repository: Repository, target: Target) -> None:
    """Where the newest manifests are lost: the next backup is not what somebody deleted or pinned."""
    for _ in range(4):
        back_up(repository, NAME, DATA)
    marks.delete(repository.store, NAME, 3, why="", now=NOW)
    for number in (3, 4):
        target.delete(keys.manifest_key(NAME, number))
    assert repository.begin(NAME).sequence == 4
    marks.pin(repository.store, NAME, 7, note="", now=NOW)
    point = back_up(repository, NAME, DATA)
    assert repository.store.exists(keys.manifest_key(NAME, 8))
    assert repository.resolve(NAME) == point


def test_a_backup_that_was_overtaken_is_not_committed(repository: Repository, target: Target) -> None:
    """Others had its number and the next one meanwhile, and a prune removed the first: the order holds (H23)."""
    back_up(repository, NAME, DATA)
    late = repository.begin(NAME)
    info = store(repository, late, DATA)
    for _ in range(2):
        point = back_up(repository, NAME, DATA)
    target.delete(keys.manifest_key(NAME, late.sequence))
    with pytest.raises(RepositoryBusy, match="was committed first"):
        commit(repository, late, info)
    assert repository.resolve(NAME) == point
    assert repository.leftovers() == ()


def test_after_the_last_number_nothing_pretends_to_be_stored(repository: Repository, target: Target) -> None:
    """A manifest that can be read and has it: a named error, with what to do."""
    back_up(repository, NAME, DATA)
    target.put(keys.manifest_key(NAME, LAST), encode_manifest(replace(first(target), sequence=LAST)))
    with pytest.raises(RepositoryDamaged, match="has the last number") as caught:
        repository.begin(NAME)
    assert "--name" in caught.value.hint
    assert not any(info.key.startswith("pending/") for info in target.list(""))
    back_up(repository, "other", DATA)


def test_a_stray_object_far_away_changes_nothing(repository: Repository, target: Target) -> None:
    """The txid that it says is not believed; one that is near is not given again."""
    timeline = back_up(repository, NAME, DATA).position.timeline
    parts = ObjectKey(name=NAME, timeline=timeline, txid=LAST, nonce="0" * 16)
    target.put(keys.object_key(parts), b"a stray")
    assert back_up(repository, NAME, DATA).position.txid == 2
    target.put(keys.object_key(replace(parts, txid=2 + FAR)), b"of a lost manifest")
    point = back_up(repository, NAME, DATA)
    assert (point.position.timeline, point.position.txid) == (timeline, 3 + FAR)
    assert repository.store.exists(point.key)


def test_after_the_last_txid_a_new_timeline_starts(repository: Repository, target: Target) -> None:
    """The manifest of the last one can be read, so it is the parent."""
    back_up(repository, NAME, DATA)
    manifest = first(target)
    position = replace(manifest.position, txid=LAST)
    key = keys.object_key(ObjectKey(name=NAME, timeline=position.timeline, txid=LAST, nonce="0" * 16))
    target.put(keys.manifest_key(NAME, 2), encode_manifest(replace(manifest, sequence=2, position=position, key=key)))
    intent = repository.begin(NAME)
    assert (intent.sequence, intent.txid, intent.parent) == (3, 1, position)
    assert intent.timeline != position.timeline


def test_no_key_has_more_digits_than_it_is_parsed_with(repository: Repository, target: Target) -> None:
    """Numbers at the bound come back; beyond it there is no key, and what says such a number is not believed."""
    assert keys.parse_manifest_key(keys.manifest_key(NAME, LAST, LAST_GENERATION)) is not None
    parts = ObjectKey(name=NAME, timeline=TIMELINE, txid=LAST, nonce="0" * 16)
    assert keys.parse_object_key(keys.object_key(parts)) == parts
    for sequence, generation in ((LAST + 1, 0), (1, LAST_GENERATION + 1)):
        with pytest.raises(RepositoryDamaged, match="no numbers left"):
            keys.manifest_key(NAME, sequence, generation)
    with pytest.raises(RepositoryDamaged, match="no numbers left"):
        keys.object_key(replace(parts, txid=LAST + 1))
    now = datetime(2026, 11, 22, tzinfo=UTC)
    with pytest.raises(ValueError, match="number"):
        Pending(database=NAME, sequence=LAST + 1, key="", time=now, runner=Runner.current())
    back_up(repository, NAME, DATA)
    manifest = first(target)
    position = replace(manifest.position, txid=LAST + 1)
    key = f"{keys.objects_prefix(NAME)}{position.timeline}/{LAST + 1}-{'0' * 16}.pageset.zst"
    target.put(keys.manifest_key(NAME, 2), encode_manifest(replace(manifest, sequence=2, position=position, key=key)))
    assert [entry.manifest is None for entry in repository.entries(NAME)] == [False, True]
