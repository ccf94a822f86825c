from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.errors import ConfigurationInvalid
from pagewarden.repository import keys
from pagewarden.repository.keys import ManifestKey, MarkKey, ObjectKey
from tests.core.repository.sets import TIMELINE

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=16)


@settings(deadline=None)
@given(names, names)
def test_names_survive_escaping_and_stay_apart(one: str, other: str) -> None:
    """Any name comes back, two names never meet, and the escaped form is one part of a key."""
    escaped = keys.escape_name(one)
    assert keys.unescape_name(escaped) == one
    assert (keys.escape_name(other) == escaped) == (one == other)
    assert set(escaped) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-=")
    assert escaped not in (".", "..", "pending", keys.MARKER)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("app.db", "app.db"),
        ("my app.db", "my=20app.db"),
        ("a=b", "a=3Db"),
        ("ä", "=C3=A4"),
        (".", "=2E"),
        ("..", "=2E."),
        (".hidden", "=2Ehidden"),
        ("pending", "=70ending"),
        ("pagewarden.json", "=70agewarden.json"),
        ("+staging", "=2Bstaging"),
    ],
)
def test_names_are_escaped_as_documented(name: str, escaped: str) -> None:
    """docs/formats/repository-1.md shows these."""
    assert keys.escape_name(name) == escaped


@pytest.mark.parametrize("name", ["", "a/b", "/", "\udcff", "x" * 201, "ä" * 34])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    """Empty, with a slash, no UTF-8, or too long: a configuration error with a hint."""
    with pytest.raises(ConfigurationInvalid, match="cannot name a database") as caught:
        keys.escape_name(name)
    assert "pagewarden backup --name NAME" in caught.value.hint


@pytest.mark.parametrize("escaped", ["", "a b", "=2", "=2e", "=61", "=FF", "=2F", "=70ending2", "pending", ".a", "ä"])
def test_what_nobody_escapes_so_is_no_name(escaped: str) -> None:
    """Every name has one escaped form, and nothing else is a name."""
    assert keys.unescape_name(escaped) is None


def test_keys_are_parsed_as_they_are_made() -> None:
    """Manifests, objects, intents and claims: both ways."""
    parts = ObjectKey(name="my app.db", timeline=TIMELINE, txid=17, nonce="00112233aabbccdd")
    key = f"my=20app.db/objects/{TIMELINE}/0000000000000017-00112233aabbccdd.pageset.zst"
    assert keys.object_key(parts) == key
    assert keys.parse_object_key(key) == parts
    assert keys.manifest_key("my app.db", 3) == "my=20app.db/manifests/0000000000000003.json"
    assert keys.parse_manifest_key("my=20app.db/manifests/0000000000000003.json") == ManifestKey(
        name="my app.db", sequence=3
    )
    assert keys.manifest_key("app.db", 3, 12) == "app.db/manifests/0000000000000003.0012.json"
    assert keys.parse_manifest_key("app.db/manifests/0000000000000003.0012.json") == ManifestKey(
        name="app.db", sequence=3, generation=12
    )
    mark = MarkKey(name="my app.db", sequence=3, nonce="00112233aabbccdd")
    assert keys.pin_key(mark) == "my=20app.db/pins/0000000000000003-00112233aabbccdd.json"
    assert keys.parse_pin_key(keys.pin_key(mark)) == mark
    assert keys.deleted_key(mark) == "my=20app.db/deleted/0000000000000003-00112233aabbccdd.json"
    assert keys.parse_deleted_key(keys.deleted_key(mark)) == (mark, "json")
    assert keys.parse_deleted_key(keys.deleted_end_key(mark)) == (mark, "end")
    assert keys.parse_deleted_key(keys.pin_key(mark)) is None
    assert keys.parse_pin_key(keys.deleted_key(mark)) is None
    assert keys.parse_pending_key(keys.pending_key("00112233aabbccdd")) == ("00112233aabbccdd", "json")
    assert keys.parse_pending_key(keys.claim_key("00112233aabbccdd")) == ("00112233aabbccdd", "claimed")


@pytest.mark.parametrize(
    "key",
    [
        "pagewarden.json",
        "a/manifests/1.json",
        "a/manifests/0000000000000001.json.bak",
        "a/b/manifests/0000000000000001.json",
        "=2/manifests/0000000000000001.json",
        f"a/objects/{TIMELINE}/0000000000000001.pageset.zst",
        f"=2/objects/{TIMELINE}/0000000000000001-00112233aabbccdd.pageset.zst",
        "pending/x.json",
        "a/manifests/0000000000000001.0000.json",
        "a/manifests/0000000000000001.00001.json",
        "a/manifests/000000000000000\u0661.json",
        "a/pins/0000000000000001-00112233aabbccdd.end",
        "a/pins/1-00112233aabbccdd.json",
        "=2/pins/0000000000000001-00112233aabbccdd.json",
        "=2/deleted/0000000000000001-00112233aabbccdd.json",
        "a/deleted/0000000000000001.json",
    ],
)
def test_other_keys_are_none(key: str) -> None:
    """What is not made here is not read as if it were."""
    assert keys.parse_manifest_key(key) is None
    assert keys.parse_object_key(key) is None
    assert keys.parse_pending_key(key) is None
    assert keys.parse_pin_key(key) is None
    assert keys.parse_deleted_key(key) is None
