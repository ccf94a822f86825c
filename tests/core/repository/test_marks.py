"""Pins, and restore points that are deleted softly: what is said of them, and who decides when two say otherwise."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pagewarden.contracts import Target
from pagewarden.errors import ConfigurationInvalid
from pagewarden.repository import keys, marks
from pagewarden.repository.keys import MarkKey
from pagewarden.repository.manifest import LARGEST, encode_document
from pagewarden.repository.marks import KEPT, PURGED, UNCLEAR, Deletion, read_marks
from pagewarden.repository.store import Store
from tests.core.repository.conftest import seeded
from tests.core.repository.sets import NOW

NAME = "app.db"
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def store(target: Target) -> Store:
    """The objects of a target, of which none is there yet."""
    return Store(target, target.url)


def delete(store: Store, sequence: int, time: datetime = NOW, seed: int = 1) -> MarkKey:
    """Delete a restore point softly; return its mark."""
    marks.delete(store, NAME, sequence, why="no rule keeps it", now=time, token=seeded(seed))
    return MarkKey(name=NAME, sequence=sequence, nonce=seeded(seed)(8))


def test_a_deletion_says_when_and_why_until_it_is_undone(store: Store) -> None:
    """A marked restore point is hidden, can be restored by name, and is there again once it was kept."""
    delete(store, 3)
    found = read_marks(store, NAME)
    assert found.deletions == {3: Deletion(sequence=3, time=NOW, why="no rule keeps it")}
    assert found.hidden(3) and not found.gone(3) and not found.hidden(2)
    assert marks.decide(store, NAME, 3, KEPT, now=NOW) == KEPT
    assert read_marks(store, NAME) == marks.Marks()


def test_whoever_decides_first_decides(store: Store) -> None:
    """H30: of an undelete and a purge at one moment one comes first, and the other is told so and gives way."""
    delete(store, 1)
    assert marks.decide(store, NAME, 1, PURGED, now=NOW) == PURGED
    assert marks.decide(store, NAME, 1, KEPT, now=NOW) == PURGED
    assert read_marks(store, NAME).gone(1)
    delete(store, 2)
    assert marks.decide(store, NAME, 2, KEPT, now=NOW) == KEPT
    assert marks.decide(store, NAME, 2, PURGED, now=NOW) == KEPT
    assert not read_marks(store, NAME).hidden(2)
    assert marks.decide(store, NAME, 9, PURGED, now=NOW) == ""


def test_two_marks_of_one_restore_point_end_as_one(store: Store) -> None:
    """Two prunes may have marked it: it is back only when both ended as kept, and purged if either did."""
    first, second = delete(store, 5), delete(store, 5, NOW + DAY, seed=2)
    assert read_marks(store, NAME).deletions[5].time == NOW + DAY
    assert first != second
    store.put(keys.deleted_end_key(first), encode_document("end", _end(5, KEPT)))
    assert read_marks(store, NAME).hidden(5)
    assert marks.decide(store, NAME, 5, PURGED, now=NOW) == PURGED
    assert marks.decide(store, NAME, 5, KEPT, now=NOW) == PURGED


def _end(sequence: int, outcome: str) -> marks.End:
    return marks.End(database=NAME, sequence=sequence, time=NOW, outcome=outcome)


def test_a_mark_that_was_tidied_away_cannot_be_purged_late(store: Store) -> None:
    """A purge that saw a mark before it was kept and removed puts an end of nothing, and takes it back."""
    mark = delete(store, 4)
    assert marks.decide(store, NAME, 4, KEPT, now=NOW) == KEPT
    for key in marks.settled(store, NAME):
        store.delete(key)
    assert marks._decide(store, mark, PURGED, NOW) == ""
    assert store.keys(keys.deleted_prefix(NAME)) == []


def test_settled_are_only_marks_that_were_kept(store: Store) -> None:
    """A mark goes before its end, so that nobody ever sees it open again; open ones and purged ones stay."""
    mark = delete(store, 1)
    delete(store, 2)
    delete(store, 3)
    marks.decide(store, NAME, 1, KEPT, now=NOW)
    marks.decide(store, NAME, 3, PURGED, now=NOW)
    assert marks.settled(store, NAME) == (keys.deleted_key(mark), keys.deleted_end_key(mark))


def test_what_is_purged_is_forgotten_mark_first(store: Store) -> None:
    """Cut in between, the end alone still says that the restore point is gone."""
    mark = delete(store, 1)
    delete(store, 2)
    marks.decide(store, NAME, 1, PURGED, now=NOW)
    store.delete(keys.deleted_key(mark))
    assert read_marks(store, NAME).gone(1)
    marks.forget(store, NAME, 1)
    assert set(read_marks(store, NAME).deletions) == {2}


def test_a_pin_has_a_note_until_it_is_removed(store: Store) -> None:
    """A restore point may be pinned more than once; unpinning removes all of its pins and no other."""
    for seed, sequence in enumerate((7, 7, 8)):
        marks.pin(store, NAME, sequence, note="before the move", now=NOW, token=seeded(seed))
    assert read_marks(store, NAME).pins == {7: "before the move", 8: "before the move"}
    assert marks.unpin(store, NAME, 7) == 2
    assert marks.unpin(store, NAME, 7) == 0
    assert read_marks(store, NAME).pins == {8: "before the move"}


def test_a_note_has_an_end(store: Store) -> None:
    """A note that would not fit a document is refused before anything is stored; one of odd bytes is readable."""
    with pytest.raises(ConfigurationInvalid, match="1,001 characters"):
        marks.pin(store, NAME, 1, note="x" * 1001, now=NOW, token=seeded(1))
    marks.pin(store, NAME, 1, note="a\udcff", now=NOW, token=seeded(1))
    assert read_marks(store, NAME).pins == {1: "a\\udcff"}


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"{" * (LARGEST + 10)])
def test_what_is_broken_never_makes_a_restore_point_go(store: Store, damage: bytes) -> None:
    """A broken mark counts for nothing, a broken end for no purge, a broken pin for a pin; each is told of."""
    mark = MarkKey(name=NAME, sequence=1, nonce="0" * 16)
    store.put(keys.deleted_key(mark), damage)
    ended = delete(store, 2)
    store.put(keys.deleted_end_key(ended), damage)
    store.put(keys.pin_key(MarkKey(name=NAME, sequence=3, nonce="0" * 16)), damage)
    found = read_marks(store, NAME)
    assert not found.hidden(1)
    assert found.deletions[2].end == UNCLEAR and not found.gone(2)
    assert found.pins == {3: ""}
    assert len(found.problems) == 3
    assert marks.decide(store, NAME, 2, PURGED, now=NOW) == UNCLEAR


def test_documents_of_another_place_are_refused(store: Store) -> None:
    """A whole mark, end or pin that was copied to another key, or another database, is broken there."""
    mark = delete(store, 1)
    data = store.document(keys.deleted_key(mark))
    assert data is not None
    store.put(keys.deleted_key(MarkKey(name=NAME, sequence=2, nonce=mark.nonce)), data)
    store.put(keys.deleted_key(MarkKey(name="other", sequence=1, nonce=mark.nonce)), data)
    assert not read_marks(store, NAME).hidden(2)
    assert not read_marks(store, "other").hidden(1)
    assert "another place" in read_marks(store, "other").problems[0]
    moved = MarkKey(name=NAME, sequence=1, nonce=mark.nonce)
    store.put(keys.deleted_end_key(moved), encode_document("end", _end(2, PURGED)))
    assert read_marks(store, NAME).deletions[1].end == UNCLEAR


def test_documents_refuse_nonsense() -> None:
    """A time without an offset, a number below 1 and an outcome of another kind are no documents."""
    with pytest.raises(ValueError, match="number 0"):
        _end(0, KEPT)
    with pytest.raises(ValueError, match="outcome"):
        _end(1, "lost")
    with pytest.raises(ValueError, match="number 1"):
        marks.Pin(database=NAME, sequence=1, time=NOW.astimezone(timezone(2 * HOUR)), note="", by="here")
