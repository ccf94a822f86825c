from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import MAX_PAGES, StoredFrame, frame_bound
from pagewarden.repository import blocks
from pagewarden.repository.blocks import Trailer
from pagewarden.repository.format import HEADER_SIZE, MAX_COMMITS, MAX_FRAME_BYTES, Commit, Kind, PageSetHeader
from tests.core.repository.sets import header

page_sizes = st.sampled_from([512 << k for k in range(8)])


@st.composite
def headers(draw: st.DrawFn) -> PageSetHeader:
    """Any header that a snapshot or a page set of commits may have."""
    page_size = draw(page_sizes)
    if draw(st.booleans()):
        start = draw(st.integers(1, (1 << 62)))
        span = draw(st.integers(1, 1 << 40))
        commits = {
            "kind": Kind.COMMITS,
            "txid_from": start,
            "txid": start + span,
            "commits": draw(st.integers(0, min(span, MAX_COMMITS))),
        }
        return replace(draw(snapshots(page_size)), **commits)  # type: ignore[arg-type]
    return draw(snapshots(page_size))


@st.composite
def snapshots(draw: st.DrawFn, page_size: int) -> PageSetHeader:
    """Any header that a snapshot may have."""
    return PageSetHeader(
        page_size=page_size,
        pages=draw(st.integers(0, MAX_PAGES)),
        pages_per_frame=draw(st.integers(1, MAX_FRAME_BYTES // page_size)),
        timeline=draw(st.binary(min_size=16, max_size=16)).hex(),
        txid=draw(st.integers(1, (1 << 63) - 1)),
        time=draw(st.datetimes(timezones=st.just(UTC))),
    )


def reseal(block: bytes) -> bytes:
    """Give a changed block the checksum that it would have."""
    return block[:-8] + struct.pack("<Q", blocks.hash64(block[:-8]))


@settings(deadline=None)
@given(headers())
def test_headers_survive_encoding(head: PageSetHeader) -> None:
    """Decoding what was encoded gives the same header."""
    data = blocks.encode_header(head)
    assert len(data) == HEADER_SIZE
    assert blocks.decode_header(data, "x") == head


@settings(deadline=None)
@given(headers(), st.integers(0, HEADER_SIZE * 8 - 1))
def test_a_flipped_bit_in_a_header_is_refused(head: PageSetHeader, bit: int) -> None:
    """No bit of the header can change unnoticed."""
    data = bytearray(blocks.encode_header(head))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RepositoryDamaged, match="x"):
        blocks.decode_header(bytes(data), "x")


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (16, b"\x02\x00", "format 2"),
        (18, b"\x02\x00", "segment that starts from no position"),
        (18, b"\x03\x00", "page set of commits that starts from no position"),
        (18, b"\x09\x00", "kind 9"),
        (20, b"\x01\x00\x00\x00", "flags 0x1"),
        (24, struct.pack("<I", 1000), "page size of 1000"),
        (28, struct.pack("<I", 0xFFFFFFFF), "4294967295 pages"),
        (32, struct.pack("<I", 0), "0 pages of 512"),
        (32, struct.pack("<I", 1 << 30), "pages of 512 bytes per frame"),
        (36, b"\x01", "nothing may be"),
        (56, b"\x01", "positions 1 to 1"),
        (64, bytes(8), "positions 0 to 0"),
        (72, struct.pack("<q", (1 << 63) - 1), "names"),
        (80, b"\x01", "nothing may be"),
        (119, b"\x01", "nothing may be"),
    ],
)
def test_a_header_that_says_what_this_version_does_not_know_is_refused(offset: int, value: bytes, words: str) -> None:
    """Unknown versions, kinds, flags and values are refused even where every checksum is right."""
    data = blocks.encode_header(header(10))
    changed = reseal(data[:offset] + value + data[offset + len(value) :])
    with pytest.raises(RepositoryDamaged, match=words):
        blocks.decode_header(changed, "x")


@settings(deadline=None)
@given(st.integers(0, 300_000), st.sampled_from([blocks.INDEX_ENTRY, blocks.SUMS_ENTRY]))
def test_blocks_follow_each_other_without_gap(entries: int, size: int) -> None:
    """Offsets and lengths of blocks add up to the size of all, and none comes near 4 GiB."""
    end = 0
    for number in range(-(-entries // blocks.BLOCK_ENTRIES)):
        offset, length = blocks.block_place(number, entries, size)
        assert offset == end
        assert blocks.BLOCK_OVERHEAD < length < 1 << 21
        end += length
    assert end == blocks.blocks_size(entries, size)


def sums_block(number: int = 3) -> bytes:
    """Return a block of four sums."""
    return blocks.encode_block(blocks.SUMS_TAG, number, bytes(range(32)), blocks.SUMS_ENTRY)


def test_blocks_survive_encoding() -> None:
    """Decoding a block gives its entries and its checksum."""
    entries, check = blocks.decode_block(blocks.SUMS_TAG, 3, sums_block(), "x")
    assert bytes(entries) == bytes(range(32))
    assert check == sums_block()[-8:]


def test_any_flipped_bit_in_a_block_is_refused() -> None:
    """No bit of a block can change unnoticed."""
    for bit in range(len(sums_block()) * 8):
        data = bytearray(sums_block())
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RepositoryDamaged, match="sums block 3 of x"):
            blocks.decode_block(blocks.SUMS_TAG, 3, bytes(data), "x")


def test_a_block_in_the_wrong_place_is_refused() -> None:
    """A whole block of another number, kind or length does not pass."""
    with pytest.raises(RepositoryDamaged, match="sums block 2"):
        blocks.decode_block(blocks.SUMS_TAG, 2, sums_block(), "x")
    with pytest.raises(RepositoryDamaged, match="index block 3"):
        blocks.decode_block(blocks.INDEX_TAG, 3, sums_block(), "x")
    with pytest.raises(RepositoryDamaged, match="as it must"):
        blocks.decode_block(blocks.SUMS_TAG, 3, sums_block() + bytes(8), "x")
    with pytest.raises(RepositoryDamaged, match="cut off"):
        blocks.decode_block(blocks.SUMS_TAG, 3, b"short", "x")


def entries(*frames: tuple[int, int, int, int]) -> memoryview:
    """Return index entries of (offset, csize, first, count)."""
    return memoryview(
        b"".join(
            blocks.encode_entry(StoredFrame(offset=offset, csize=csize, first=first, count=count))
            for offset, csize, first, count in frames
        )
    )


def test_index_entries_survive_encoding() -> None:
    """Decoding gives the frames, from the beginning or from the middle."""
    raw = entries((128, 10, 1, 4), (138, 20, 5, 4), (158, 5, 9, 2))
    frames = list(blocks.decode_entries(raw, header(10), 0, 128, 163, "x"))
    assert frames == list(blocks.iter_entries(raw))
    assert list(blocks.decode_entries(raw[24:], header(10), 1, None, 163, "x")) == frames[1:]


@pytest.mark.parametrize(
    "frame",
    [
        (129, 10, 1, 4),  # a gap
        (127, 10, 1, 4),  # within the header
        (128, 0, 1, 4),  # nothing in it
        (128, 10, 2, 4),  # the wrong page
        (128, 10, 1, 3),  # too few pages
        (128, 10, 1, 5),  # too many
        (128, 873, 1, 4),  # past the end
        (1 << 63, 10, 1, 4),  # far past it
        (128, frame_bound(4 * 512) + 1, 1, 4),  # larger than any such frame
    ],
)
def test_an_index_entry_that_cannot_be_is_refused(frame: tuple[int, int, int, int]) -> None:
    """Nothing in the index is believed that can be computed or bounded."""
    with pytest.raises(RepositoryDamaged, match="frame 0"):
        list(blocks.decode_entries(entries(frame), header(10), 0, 128, 1000 if frame[1] < 2000 else 1 << 20, "x"))


def test_reserved_bytes_of_an_index_entry_are_refused() -> None:
    """The reserved field must be zero."""
    raw = bytearray(entries((128, 10, 1, 4)))
    raw[20] = 1
    with pytest.raises(RepositoryDamaged, match="frame 0"):
        list(blocks.decode_entries(memoryview(raw), header(10), 0, 128, 1000, "x"))


@st.composite
def trailers(draw: st.DrawFn) -> tuple[PageSetHeader, Trailer]:
    """Any header with a trailer that fits it."""
    head = draw(headers())
    snapshot = head.kind is Kind.SNAPSHOT
    held = head.pages if snapshot else draw(st.integers(0, min(head.most_held, 1 << 40)))
    sums = st.integers(0, (1 << 64) - 1)
    trailer = Trailer(
        kind=head.kind,
        data_bytes=draw(st.integers(0, 1 << 45)),
        frames=head.frames_for(held),
        pages=held,
        commits=head.commits,
        header_check=draw(sums),
        index_check=draw(sums),
        sums_check=draw(sums),
        database_sum=draw(sums),
        numbers_check=0 if snapshot else draw(sums),
        database_sum_from=0 if snapshot else draw(sums),
        sha256=draw(st.binary(min_size=32, max_size=32)),
    )
    return head, trailer


def encode(trailer: Trailer) -> bytes:
    """Return all bytes of a trailer."""
    return blocks.encode_trailer(trailer) + blocks.close(trailer.sha256)


@settings(deadline=None)
@given(trailers())
def test_trailers_survive_encoding(given_pair: tuple[PageSetHeader, Trailer]) -> None:
    """Decoding what was encoded gives the same trailer, where header and size fit."""
    head, trailer = given_pair
    data = encode(trailer)
    size = trailer.offset + blocks.TRAILER_SIZE
    assert blocks.decode_trailer(data, head, size, "x") == trailer
    for wrong in (size - 1, size + 1):
        with pytest.raises(RepositoryDamaged, match="does not fit"):
            blocks.decode_trailer(data, head, wrong, "x")


@settings(deadline=None, max_examples=200)
@given(trailers(), st.integers(0, blocks.TRAILER_SIZE * 8 - 1))
def test_a_flipped_bit_in_a_trailer_is_refused(given_pair: tuple[PageSetHeader, Trailer], bit: int) -> None:
    """No bit can change unnoticed, but for those of the SHA-256, which is compared with the file."""
    head, trailer = given_pair
    data = bytearray(encode(trailer))
    data[bit // 8] ^= 1 << bit % 8
    size = trailer.offset + blocks.TRAILER_SIZE
    if 152 <= bit // 8 < 184:
        assert blocks.decode_trailer(bytes(data), head, size, "x").sha256 != trailer.sha256
    else:
        with pytest.raises(RepositoryDamaged, match="x"):
            blocks.decode_trailer(bytes(data), head, size, "x")


@pytest.mark.parametrize("offset", range(16, 144, 8))
def test_a_trailer_with_right_checksum_and_impossible_numbers_is_refused(offset: int) -> None:
    """Whoever forges a checksum still cannot name an offset, length or count but the one right one."""
    head = header(10)
    trailer = Trailer(
        data_bytes=100,
        frames=3,
        pages=10,
        header_check=1,
        index_check=2,
        sums_check=3,
        database_sum=4,
        sha256=bytes(32),
    )
    data = encode(trailer)
    if offset in (96, 112, 120, 128):  # checksums and the database sum: compared with what they are of
        return
    for value in (1, 1 << 40, (1 << 64) - 1):
        body = data[:offset] + struct.pack("<Q", value) + data[offset + 8 : 144]
        forged = body + struct.pack("<Q", blocks.hash64(body)) + data[152:]
        with pytest.raises(RepositoryDamaged, match="does not fit"):
            blocks.decode_trailer(forged, head, trailer.offset + blocks.TRAILER_SIZE, "x")


@st.composite
def commits(draw: st.DrawFn) -> Commit:
    """Any commit that there may be."""
    pages = draw(st.integers(0, MAX_PAGES))
    merged = draw(st.integers(1, MAX_COMMITS))
    return Commit(
        txid=draw(st.integers(merged, (1 << 63) - 1)),
        time=draw(st.datetimes(timezones=st.just(UTC))),
        pages=pages,
        entries=draw(st.integers(0, pages)),
        database_sum=draw(st.integers(0, (1 << 64) - 1)),
        merged=merged,
    )


@settings(deadline=None)
@given(commits())
def test_commits_survive_encoding(commit: Commit) -> None:
    """Decoding what was encoded gives the same commit; one that stands for itself can be written without it."""
    data = blocks.encode_commit(commit)
    assert len(data) == blocks.COMMITS_ENTRY
    assert list(blocks.decode_commits(data, commit.txid_from, "x")) == [commit]
    assert blocks.micros(commit.time) in blocks.TIMES
    one = replace(commit, merged=1)
    row = (blocks.micros(one.time), one.pages, one.entries, one.database_sum)
    assert blocks.encode_row(*row) == blocks.encode_commit(one)


def test_commits_of_a_block_follow_each_other() -> None:
    """Each comes after the position that the one before leads to."""
    entries = b"".join(struct.pack("<qIIQII", 5, 9, 2, at, merged, 0) for at, merged in enumerate((1, 3, 1)))
    found = list(blocks.decode_commits(entries, 40, "x"))
    assert [(one.txid_from, one.txid, one.database_sum) for one in found] == [(40, 41, 0), (41, 44, 1), (44, 45, 2)]
    with pytest.raises(RepositoryDamaged, match="the commit after position 41 in x has flags 0x10"):
        list(blocks.decode_commits(entries[:60] + b"\x10" + entries[61:], 40, "x"))
    for time in (blocks.TIMES[0] - 1, blocks.TIMES[-1] + 1, 1 << 62):
        with pytest.raises(RepositoryDamaged, match="the commit after position 40 in x names"):
            list(blocks.decode_commits(struct.pack("<q", time) + entries[8:], 40, "x"))
