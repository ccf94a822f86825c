from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.errors import RepositoryDamaged
from pagewarden.repository.manifest import (
    LARGEST,
    CommitsFacts,
    Manifest,
    SourceFacts,
    decode_manifest,
    encode_manifest,
)
from pagewarden.values import Position, SourceVerdict, Verdict
from tests.core.repository.sets import FACTS, NOW, SOUND, TIMELINE, header, image, write

MANIFEST = Manifest(
    database="app.db",
    kind="snapshot",
    sequence=3,
    position=Position(timeline=TIMELINE, txid=2, time=NOW),
    parent=Position(timeline=TIMELINE, txid=1, time=NOW),
    key=f"app.db/objects/{TIMELINE}/0000000000000002-00112233aabbccdd.pageset.zst",
    bytes=1000,
    sha256="ab" * 32,
    page_size=4096,
    pages=7,
    database_sum="00ff" * 4,
    compression=1,
    source=SOUND,
    facts=FACTS,
    verified_at=NOW,
    created_by="pagewarden 0.1.0",
)


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(1, 1 << 50),
    st.datetimes(),
    st.sampled_from(Verdict),
    st.none() | st.integers(1, 1 << 50),
)
def test_manifests_survive_encoding(
    name: str, number: int, time: datetime, verdict: Verdict, parent: int | None
) -> None:
    """Decoding what was encoded gives the same manifest."""
    utc = time.replace(tzinfo=NOW.tzinfo)
    manifest = replace(
        MANIFEST,
        database=name,
        sequence=number,
        position=Position(timeline=TIMELINE, txid=number, time=utc),
        parent=None if parent is None else Position(timeline=TIMELINE, txid=parent, time=utc),
        source=SourceVerdict(verdict=verdict, level="deep", findings=3, why=name),
    )
    assert decode_manifest(encode_manifest(manifest), "key") == manifest


def test_no_flipped_bit_passes() -> None:
    """Whichever bit of a manifest changes, white space included, it is refused."""
    data = encode_manifest(MANIFEST)
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RepositoryDamaged, match="the-key"):
            decode_manifest(bytes(changed), "the-key")


def test_no_cut_or_lengthened_manifest_passes() -> None:
    """Any beginning of a manifest, and any addition to it, is refused."""
    data = encode_manifest(MANIFEST)
    for size in range(len(data)):
        with pytest.raises(RepositoryDamaged, match="SHA-256"):
            decode_manifest(data[:size], "key")
    for more in (b"\n", b" ", b"{}", data):
        with pytest.raises(RepositoryDamaged, match="SHA-256"):
            decode_manifest(data + more, "key")


def seal(inner: bytes, what: str = "manifest") -> bytes:
    """Put a document in its envelope, as a forger would."""
    return b'{"%s":%s,"sha256":"%s"}\n' % (what.encode(), inner, hashlib.sha256(inner).hexdigest().encode())


def forged(**changes: object) -> bytes:
    """Return a manifest with other fields and a right digest."""
    document = json.loads(encode_manifest(MANIFEST))["manifest"] | changes
    return seal(msgspec.json.encode(document))


LATER = {"timeline": TIMELINE, "txid": 2, "time": "2026-11-22T10:15:00Z"}
ELSEWHERE = {"timeline": "0" * 32, "txid": 1, "time": "2026-11-22T10:15:00Z"}


def test_forging_alone_changes_nothing() -> None:
    """The forger of these tests knows the format."""
    assert forged() == encode_manifest(MANIFEST)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (forged(format=2), "format 2"),
        (forged(later="field"), "more than format 1"),
        (forged(kind="unchanged"), "'unchanged'"),
        (forged(kind="segment", parent=None), "continues None"),
        (forged(kind="segment", parent=LATER), "continues"),
        (forged(kind="segment", parent=ELSEWHERE), "continues"),
        (forged(sequence=0), "the number 0,"),
        (forged(sequence=10**16), "the number 10000000000000000"),
        (forged(compression=0), "zstd's level 0"),
        (forged(compression=23), "zstd's level 23"),
        (forged(page_size=1000), "7 pages of 1000 bytes, which no database has"),
        (forged(page_size=256), "of 256 bytes"),
        (forged(page_size=1 << 40), "of 1099511627776 bytes"),
        (forged(pages=(1 << 32) - 1), "4294967295 pages"),
        (forged(pages=10**15), "1000000000000000 pages"),
        (
            seal(encode_manifest(MANIFEST)[12:-78].replace(b'"pages":7,', b'"pages":' + b"7" * 5000 + b",")),
            "pages|range",
        ),
        (forged(sequence="3"), "int"),
        (forged(bytes=0), "an object of 0 bytes"),
        (forged(bytes=1 << 63), "an object of 9223372036854775808 bytes"),
        (forged(pages=-1), "-1 pages"),
        (forged(sha256="AB" * 32), "sums"),
        (forged(database_sum="1"), "sums"),
        (forged(position=None), "object"),
        (forged(position={"timeline": "x", "txid": 1, "time": "2026-11-22T10:15:00Z"}), "the position"),
        (forged(position={"timeline": TIMELINE, "txid": 0, "time": "2026-11-22T10:15:00Z"}), "the position"),
        (forged(position=LATER | {"txid": 1 << 63}), "the position"),
        (forged(parent=LATER | {"txid": 1 << 63}), "the position"),
        (forged(verified_at="2026-11-22T10:15:00"), "UTC"),
        (forged(verified_at="2026-11-22T10:15:00+01:00"), "UTC"),
        (forged(verified_at="yesterday"), "understood"),
        (seal(b"[]"), "understood"),
        (seal(b'{"format":1'), "understood"),
        (seal(b'{"format":1,"database":"\xff"}'), "understood"),
        (seal(b"[" * 5000), "understood"),
        (seal(b'{"format":1}'), "understood"),
        (seal(encode_manifest(MANIFEST)[12:-79], "marker"), "SHA-256"),
        (seal(b'"' + b"x" * LARGEST + b'"'), "SHA-256"),
    ],
    ids=count(),
)
def test_a_forged_manifest_is_refused(data: bytes, words: str) -> None:
    """With a right digest, what format 1 does not know is still refused with a reason."""
    with pytest.raises(RepositoryDamaged, match=words):
        decode_manifest(data, "key")


def test_a_newer_format_is_told_from_damage() -> None:
    """The hint says what helps."""
    with pytest.raises(RepositoryDamaged) as caught:
        decode_manifest(forged(format=7), "key")
    assert caught.value.hint == "install a newer pagewarden"


def test_a_manifest_knows_its_page_set(tmp_path: Path) -> None:
    """It contradicts every page set but the one it was made for."""
    info = write(tmp_path / "set", image(5), header(5, txid=3))
    manifest = replace(
        MANIFEST,
        position=info.position,
        parent=replace(info.position, txid=1),
        bytes=info.bytes,
        sha256=info.sha256,
        page_size=512,
        pages=5,
        database_sum=f"{info.database_sum:016x}",
    )
    assert manifest.contradiction(info) == ""
    for field, value in (
        ("kind", "segment"),
        ("bytes", 1),
        ("sha256", "0" * 64),
        ("position", MANIFEST.position),
        ("page_size", 1024),
        ("pages", 6),
        ("database_sum", "0" * 16),
    ):
        assert "not the one of its manifest" in replace(manifest, **{field: value}).contradiction(info)  # type: ignore[arg-type]


def test_a_restore_point_is_what_the_manifest_says() -> None:
    """`backups` lists the manifest's own values."""
    point = MANIFEST.restore_point
    assert (point.database, point.position, point.key) == (MANIFEST.database, MANIFEST.position, MANIFEST.key)
    assert (point.bytes, point.bytes_stored) == (7 * 4096, 1000)


def test_facts_of_the_wal_are_optional() -> None:
    """A rollback-journal database has no salts and no frames."""
    facts = SourceFacts(path="p", host="h", change_counter=0, schema_cookie=0, journal_mode="delete")
    assert (facts.wal_salts, facts.wal_frames, facts.sqlite_version) == ("", 0, "")


COMMITS = CommitsFacts(
    key=f"app.db/objects/{TIMELINE}/0000000000000009-00112233aabbccdd.commits.zst",
    bytes=2000,
    sha256="cd" * 32,
    count=7,
    earliest=NOW,
)
BATCH = replace(MANIFEST, kind="segment", position=replace(MANIFEST.position, txid=9), parent=MANIFEST.position)


def test_what_is_not_said_is_not_written() -> None:
    """A manifest of a backup has not a byte more than before there were batches; one of a batch has its own."""
    plain = encode_manifest(MANIFEST)
    assert not any(word in plain for word in (b"commits", b"merged", b"gathered", b"gap"))
    for batch in (
        replace(BATCH, commits=COMMITS),
        replace(BATCH, merged=7),
        replace(BATCH, merged=1, gathered=2),
        replace(BATCH, commits=COMMITS, kind="snapshot", facts=replace(FACTS, gap="log-restarted")),
    ):
        assert decode_manifest(encode_manifest(batch), "key") == batch
        assert batch.followed and batch.span == 7
    assert replace(BATCH, commits=COMMITS).object_keys == (BATCH.key, COMMITS.key)
    assert replace(BATCH, commits=COMMITS).bytes_stored == 3000 and BATCH.bytes_stored == 1000
    assert (
        not BATCH.followed
        and replace(BATCH, parent=Position(timeline="0" * 32, txid=1, time=NOW), kind="snapshot").span == 0
    )


FACTS_OF_COMMITS = json.loads(msgspec.json.encode(COMMITS))


@pytest.mark.parametrize(
    "changes",
    [
        {"commits": FACTS_OF_COMMITS, "merged": 7},
        {"commits": FACTS_OF_COMMITS, "parent": None, "kind": "snapshot"},
        {"commits": FACTS_OF_COMMITS, "parent": ELSEWHERE, "kind": "snapshot"},
        {"commits": FACTS_OF_COMMITS | {"count": 1}},
        {"commits": FACTS_OF_COMMITS | {"count": 8}},
        {"commits": FACTS_OF_COMMITS | {"count": -1}},
        {"commits": FACTS_OF_COMMITS | {"bytes": 0}},
        {"commits": FACTS_OF_COMMITS | {"bytes": 1 << 63}},
        {"commits": FACTS_OF_COMMITS | {"sha256": "cd" * 31}},
        {"commits": FACTS_OF_COMMITS | {"earliest": "2026-11-22T10:15:00"}},
        {"commits": FACTS_OF_COMMITS | {"earliest": "2026-11-22T10:15:00+01:00"}},
        {"commits": FACTS_OF_COMMITS | {"earliest": "99999-11-22T10:15:00Z"}},
        {"commits": FACTS_OF_COMMITS | {"more": 1}},
        {"commits": None},
        {"commits": {}},
        {"merged": 0},
        {"merged": 8},
        {"merged": 7.5},
        {"merged": 7, "parent": None, "kind": "snapshot"},
        {"merged": 7, "gathered": 0},
        {"merged": 7, "gathered": 3},
        {"gathered": 3},
    ],
)
def test_what_contradicts_itself_about_commits_is_refused(changes: dict[str, object]) -> None:
    """Commits that follow nothing, or that do not fit; both accounts at once; sums, sizes and times that none has."""
    document = json.loads(encode_manifest(BATCH))["manifest"] | changes
    with pytest.raises(RepositoryDamaged, match="the-key"):
        decode_manifest(seal(msgspec.json.encode(document)), "the-key")
