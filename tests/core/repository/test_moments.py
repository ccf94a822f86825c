"""Names of moments: what they may be, how they are found, and what is broken of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagewarden.errors import ConfigurationInvalid
from pagewarden.repository import keys
from pagewarden.repository.keys import MomentKey
from pagewarden.repository.manifest import encode_document
from pagewarden.repository.moments import LONGEST_TEXT, NamedMoment, name_moment, read_moments
from pagewarden.repository.repository import Repository
from pagewarden.values import Position
from tests.core.repository.sets import NOW, TIMELINE

AT = Position(timeline=TIMELINE, txid=7, time=NOW)


def test_names_are_found_by_their_text(repository: Repository) -> None:
    """Exactly as they were written, but for space around them; several moments may have one."""
    store = repository.store
    first = name_moment(store, "app.db", AT, "  before the migration ", now=NOW)
    second = name_moment(store, "app.db", replace(AT, txid=9), "ünïcode ✓", now=NOW)
    third = name_moment(store, "app.db", replace(AT, txid=8), "ünïcode ✓", now=NOW)
    name_moment(store, "other.db", AT, "elsewhere", now=NOW)
    found = read_moments(store, "app.db")
    assert found.moments == (first, third, second) and found.problems == ()
    assert first.text == "before the migration" and found.of(first.text) == (first,)
    assert found.of("ünïcode ✓") == (third, second) and found.of("Before the migration") == ()
    assert repository.names(stored=True) == ()


@pytest.mark.parametrize("text", ["", "   ", "x" * (LONGEST_TEXT + 1), "two\nlines", "a\x00", "\x1b[31m"])
def test_what_is_no_name_is_refused(repository: Repository, text: str) -> None:
    """Nothing empty, nothing endless, nothing that a terminal would obey; nothing is stored."""
    with pytest.raises(ConfigurationInvalid, match="cannot be named"):
        name_moment(repository.store, "app.db", AT, text, now=NOW)
    assert read_moments(repository.store, "app.db").moments == ()


def test_a_broken_name_hides_no_other(repository: Repository) -> None:
    """Each is told by its key: one that is damaged, one that says nonsense, and one in the place of another."""
    store = repository.store
    kept = name_moment(store, "app.db", AT, "kept", now=NOW)
    place = MomentKey(name="app.db", txid=3, nonce="0" * 16)
    store.put(keys.moment_key(place), b"nonsense")
    store.put(keys.moment_key(replace(place, txid=4)), encode_document("moment", replace(kept, text="moved")))
    data = encode_document("moment", kept).replace(b'"kept"', b'""')
    store.put(keys.moment_key(replace(place, txid=5)), data)
    store.put("app.db/marks/what.json", b"no mark")
    found = read_moments(store, "app.db")
    assert found.moments == (kept,) and len(found.problems) == 3
    assert all(keys.moment_key(replace(place, txid=txid)) in " ".join(found.problems) for txid in (3, 4, 5))


def test_a_name_is_of_a_moment_that_can_be() -> None:
    """Its document refuses what no moment has."""
    for wrong in ({"position": replace(AT, txid=0)}, {"text": ""}, {"time": NOW.replace(tzinfo=None)}):
        with pytest.raises(ValueError, match=r"moment|UTC"):
            replace(_document(), **wrong)


def _document() -> NamedMoment:
    return NamedMoment(database="app.db", position=AT, text="kept", time=NOW, by="here")
