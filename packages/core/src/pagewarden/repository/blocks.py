"""The blocks of a page set, as bytes and back. No I/O: `format` has the whole, docs/formats/pageset-1.md the tables.

Whatever can be computed is computed, never believed: with page size, pages and pages per frame from the header, the
trailer and the index have one right form, but for the compressed sizes, and those are bounded. Numbers are
little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import Buffer, StoredFrame, backend, frame_bound
from pagewarden.repository.format import HEADER_SIZE, SKIPPABLE, Commit, Kind, PageSetHeader, PageSetInfo

VERSION = 1
TRAILER_SIZE = 192
NUMBERS_ENTRY = 4
INDEX_ENTRY = 24
SUMS_ENTRY = 8
COMMITS_ENTRY = 32
BLOCK_ENTRIES = 1 << 16
"""Entries of a block of page numbers, index, sums or commits; only the last one of a kind may hold fewer."""

NUMBERS_TAG = b"PGNO"
INDEX_TAG = b"INDX"
SUMS_TAG = b"SUMS"
COMMITS_TAG = b"CMIT"
DIGEST_TAIL = 40
"""Bytes at the end that the SHA-256 does not cover: itself and the end magic.

It is over the bytes after the header, then the header's, which are settled last:
`{ tail -c +129 FILE | head -c -40; head -c 128 FILE; } | sha256sum`
"""

_BEGIN = struct.Struct("<II8sHHI")
_FACTS = struct.Struct("<IIII16sQQq40s")
_BLOCK = struct.Struct("<II4sIII")
_TRAILER = struct.Struct("<II4sI16QQ32s8s")
_ENTRY = struct.Struct("<QIIII")
_CHECK = struct.Struct("<Q")
_COMMIT = struct.Struct("<qIIQII")
_BLOCKS = {
    NUMBERS_TAG: ("page numbers", NUMBERS_ENTRY),
    INDEX_TAG: ("index", INDEX_ENTRY),
    SUMS_TAG: ("sums", SUMS_ENTRY),
    COMMITS_TAG: ("commits", COMMITS_ENTRY),
}
BLOCK_OVERHEAD = _BLOCK.size + _CHECK.size

_MAGIC = b"pagewrdn"
_END = b"endpages"
_TRAILER_TAG = b"TAIL"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


CommitRow = tuple[int, int, int, int, int, int]
"""An entry of the commits: time in microseconds, pages, entries, database sum, commits it stands for, flags."""


def hash64(data: Buffer) -> int:
    """Return the XXH64 of `data`, seed 0: the checksum of blocks. Page sums are seeded with their page numbers."""
    return backend().page_sum(0, data)


def entry_size(tag: bytes) -> int:
    """Return the bytes of an entry of the blocks of kind `tag`."""
    return _BLOCKS[tag][1]


def blocks_size(entries: int, entry_size: int) -> int:
    """Return the bytes of the blocks that hold `entries` entries of `entry_size` bytes."""
    return entries * entry_size + -(-entries // BLOCK_ENTRIES) * BLOCK_OVERHEAD


def block_place(number: int, entries: int, entry_size: int) -> tuple[int, int]:
    """Return offset (from the first block) and size of block `number` of the blocks of `entries` entries, in bytes."""
    count = min(BLOCK_ENTRIES, entries - number * BLOCK_ENTRIES)
    return number * (BLOCK_ENTRIES * entry_size + BLOCK_OVERHEAD), count * entry_size + BLOCK_OVERHEAD


def micros(time: datetime) -> int:
    """Return a time as it is stored: microseconds since 1970-01-01 00:00:00 UTC."""
    return (time - _EPOCH) // timedelta(microseconds=1)


TIMES = range(micros(datetime.min.replace(tzinfo=UTC)), micros(datetime.max.replace(tzinfo=UTC)) + 1)
"""Times that a commit can have been seen at, as `micros` has them."""


def encode_header(header: PageSetHeader) -> bytes:
    """Return the header block."""
    body = _BEGIN.pack(SKIPPABLE, HEADER_SIZE - 8, _MAGIC, VERSION, header.kind, 0) + _FACTS.pack(
        header.page_size,
        header.pages,
        header.pages_per_frame,
        header.commits,
        bytes.fromhex(header.timeline),
        header.txid_from,
        header.txid,
        micros(header.time),
        b"",
    )
    return body + _CHECK.pack(hash64(body))


def decode_header(data: bytes, where: str) -> PageSetHeader:
    """Return what the header block `data` says. Raises RepositoryDamaged; `where` names the file in its message."""
    if len(data) != HEADER_SIZE:
        raise RepositoryDamaged(f"{where} is too short for a page set")
    magic, length, name, version, kind, flags = _BEGIN.unpack_from(data)
    if (magic, length, name) != (SKIPPABLE, HEADER_SIZE - 8, _MAGIC):
        raise RepositoryDamaged(f"{where} does not begin like a page set")
    if data[-_CHECK.size :] != _CHECK.pack(hash64(data[: -_CHECK.size])):
        raise RepositoryDamaged(f"the header of {where} does not match its checksum")
    if version != VERSION or kind not in tuple(Kind) or flags:
        raise RepositoryDamaged(
            f"{where} is of format {version}, kind {kind}, flags {flags:#x}, which this version cannot read",
            hint="install a newer pagewarden",
        )
    page_size, pages, per_frame, commits, timeline, txid_from, txid, time, _ = _FACTS.unpack_from(data, _BEGIN.size)
    try:
        header = PageSetHeader(
            kind=Kind(kind),
            page_size=page_size,
            pages=pages,
            pages_per_frame=per_frame,
            timeline=timeline.hex(),
            txid_from=txid_from,
            txid=txid,
            time=_EPOCH + timedelta(microseconds=time),
            commits=commits if kind == Kind.COMMITS else 0,  # else the comparison below finds it
        )
    except (ValueError, OverflowError) as error:
        raise RepositoryDamaged(f"the header of {where} names {error}") from error
    if encode_header(header) != data:
        raise RepositoryDamaged(f"the header of {where} has something where nothing may be")
    return header


def encode_block(tag: bytes, number: int, entries: bytes, entry_size: int) -> bytes:
    """Return block `number` (from 0) of kind `tag` with its entries."""
    count = len(entries) // entry_size
    length = _BLOCK.size - 8 + len(entries) + _CHECK.size
    body = _BLOCK.pack(SKIPPABLE, length, tag, number, count, 0) + entries
    return body + _CHECK.pack(hash64(body))


def decode_block(tag: bytes, number: int, data: bytes, where: str) -> tuple[memoryview, bytes]:
    """Return the entries of a block, and its checksum's 8 bytes. Raises RepositoryDamaged.

    `data` is as long as the block must be; a block of another kind, number or length is refused.
    """
    name, entry_size = _BLOCKS[tag]
    what = f"{name} block {number} of {where}"
    if len(data) < BLOCK_OVERHEAD:
        raise RepositoryDamaged(f"{what} is cut off")
    count = (len(data) - BLOCK_OVERHEAD) // entry_size
    if _BLOCK.unpack_from(data) != (SKIPPABLE, len(data) - 8, tag, number, count, 0):
        raise RepositoryDamaged(f"{what} does not begin as it must")
    check = data[-_CHECK.size :]
    if _CHECK.unpack(check)[0] != hash64(data[: -_CHECK.size]):
        raise RepositoryDamaged(f"{what} does not match its checksum")
    return memoryview(data)[_BLOCK.size : -_CHECK.size], check


def encode_entry(frame: StoredFrame) -> bytes:
    """Return the index entry of `frame`."""
    return _ENTRY.pack(frame.offset, frame.csize, frame.first, frame.count, 0)


def iter_entries(entries: Buffer) -> Iterator[StoredFrame]:
    """Yield the frames of index entries as they stand there, nothing proved."""
    for offset, csize, first, count, _ in _ENTRY.iter_unpack(entries):
        yield StoredFrame(offset=offset, csize=csize, first=first, count=count)


def decode_entries(
    entries: memoryview,
    header: PageSetHeader,
    number: int,
    offset: int | None,
    end: int,
    where: str,
    pages: Callable[[int], tuple[int, int]] | None = None,
) -> Iterator[StoredFrame]:
    """Yield the frames of an index block whose first entry is of frame `number`. Raises RepositoryDamaged.

    `offset` is where that frame must begin (None: not known, because the blocks before were not read); `end` is where
    the last frame of all ends. `pages` returns first page and count of a frame, as the page numbers of a segment have
    them; a snapshot's are known without.
    """
    frame_pages = pages or header.frame_pages
    for position, (start, csize, first, count, zero) in enumerate(_ENTRY.iter_unpack(entries), number):
        wanted = frame_pages(position)
        placed = start >= HEADER_SIZE if offset is None else start == offset
        largest = min(frame_bound(wanted[1] * header.page_size), end - start)
        if (first, count) != wanted or zero or not placed or not 0 < csize <= largest:
            raise RepositoryDamaged(f"the index of {where} places frame {position} where it cannot be")
        offset = start + csize
        yield StoredFrame(offset=start, csize=csize, first=first, count=count)


def encode_commit(commit: Commit) -> bytes:
    """Return the entry of `commit`."""
    return _COMMIT.pack(micros(commit.time), commit.pages, commit.entries, commit.database_sum, commit.merged, 0)


def encode_row(time: int, pages: int, entries: int, database_sum: int) -> bytes:
    """Return the entry of one commit that stands for itself; `time` as `micros` has it. Raises struct.error."""
    return _COMMIT.pack(time, pages, entries, database_sum, 1, 0)


def commit_rows(entries: Buffer) -> Iterator[CommitRow]:
    """Yield the commits of a block as they stand there, nothing proved."""
    return _COMMIT.iter_unpack(entries)


def decode_commits(entries: Buffer, txid: int, where: str) -> Iterator[Commit]:
    """Yield the commits of a block, the first of which comes after position `txid`. Raises RepositoryDamaged."""
    for row in _COMMIT.iter_unpack(entries):
        commit = decode_row(row, txid, where)
        yield commit
        txid = commit.txid


def decode_row(row: CommitRow, txid: int, where: str) -> Commit:
    """Return the commit after position `txid`. Raises RepositoryDamaged."""
    time, pages, some, database_sum, merged, flags = row
    try:
        commit = Commit(
            txid=txid + merged,
            time=_EPOCH + timedelta(microseconds=time),
            pages=pages,
            entries=some,
            database_sum=database_sum,
            merged=merged,
        )
    except (ValueError, OverflowError) as error:
        raise RepositoryDamaged(f"the commit after position {txid} in {where} names {error}") from error
    if flags:
        raise RepositoryDamaged(
            f"the commit after position {txid} in {where} has flags {flags:#x}, which this version cannot read",
            hint="install a newer pagewarden",
        )
    return commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailer:
    """The fixed-size end of a page set."""

    kind: Kind = Kind.SNAPSHOT
    data_bytes: int  # of all frames
    frames: int
    pages: int  # entries of the sums, and of the page numbers where there are any
    commits: int = 0  # entries of the commits; 0 where there are none
    header_check: int  # the header's XXH64
    index_check: int  # XXH64 over the checksums of the index blocks
    sums_check: int  # likewise, those of the commits included
    database_sum: int
    sha256: bytes  # 32 bytes, over all before it, the header last
    numbers_check: int = 0  # XXH64 over the checksums of the blocks of page numbers; 0 in a snapshot
    database_sum_from: int = 0  # that of the position that it starts from; 0 in a snapshot

    @property
    def numbers_offset(self) -> int:
        """Where the page numbers begin, in bytes from the beginning of the file."""
        return HEADER_SIZE + self.data_bytes

    @property
    def index_offset(self) -> int:
        """Where the index begins."""
        numbers = 0 if self.kind is Kind.SNAPSHOT else self.pages
        return self.numbers_offset + blocks_size(numbers, NUMBERS_ENTRY)

    @property
    def sums_offset(self) -> int:
        """Where the sums begin."""
        return self.index_offset + blocks_size(self.frames, INDEX_ENTRY)

    @property
    def commits_offset(self) -> int:
        """Where the commits begin, if there are any."""
        return self.sums_offset + blocks_size(self.pages, SUMS_ENTRY)

    @property
    def offset(self) -> int:
        """Where the trailer begins."""
        return self.commits_offset + blocks_size(self.commits, COMMITS_ENTRY)


def encode_trailer(trailer: Trailer) -> bytes:
    """Return the trailer block up to its SHA-256, which is taken over all before it and then appended by `close`."""
    body = _TRAILER.pack(
        SKIPPABLE,
        TRAILER_SIZE - 8,
        _TRAILER_TAG,
        0,
        HEADER_SIZE,
        trailer.data_bytes,
        trailer.numbers_offset,
        trailer.index_offset - trailer.numbers_offset,
        trailer.index_offset,
        trailer.sums_offset - trailer.index_offset,
        trailer.sums_offset,
        trailer.commits_offset - trailer.sums_offset,
        trailer.frames,
        trailer.pages,
        trailer.header_check,
        trailer.numbers_check,
        trailer.index_check,
        trailer.sums_check,
        trailer.database_sum,
        trailer.database_sum_from,
        0,
        bytes(32),
        bytes(8),
    )[: -DIGEST_TAIL - _CHECK.size]
    return body + _CHECK.pack(hash64(body))


def info_of(header: PageSetHeader, trailer: Trailer) -> PageSetInfo:
    """Return what header and trailer say together."""
    return PageSetInfo(
        header=header,
        frames=trailer.frames,
        held=trailer.pages,
        database_sum=trailer.database_sum,
        database_sum_from=trailer.database_sum_from,
        sha256=trailer.sha256.hex(),
        bytes=trailer.offset + TRAILER_SIZE,
        numbers_offset=trailer.numbers_offset,
        index_offset=trailer.index_offset,
        sums_offset=trailer.sums_offset,
    )


def close(digest: bytes) -> bytes:
    """Return the last bytes of a page set: the SHA-256, and the end magic."""
    return digest + _END


def decode_trailer(data: bytes, header: PageSetHeader, size: int, where: str) -> Trailer:
    """Return what the trailer of a file of `size` bytes with that `header` says. Raises RepositoryDamaged."""
    if len(data) != TRAILER_SIZE:
        raise RepositoryDamaged(f"{where} is too short for a page set")
    checked = data[: -DIGEST_TAIL - _CHECK.size]
    fields = _TRAILER.unpack(data)
    if fields[0] != SKIPPABLE or fields[2] != _TRAILER_TAG or fields[-1] != _END:
        raise RepositoryDamaged(f"{where} does not end like a page set: it was cut off, or something follows it")
    if fields[-3] != hash64(checked):
        raise RepositoryDamaged(f"the trailer of {where} does not match its checksum")
    snapshot = header.kind is Kind.SNAPSHOT
    trailer = Trailer(
        kind=header.kind,
        data_bytes=fields[5],
        frames=fields[12],
        pages=fields[13],
        commits=header.commits,
        header_check=fields[14],
        index_check=fields[16],
        sums_check=fields[17],
        database_sum=fields[18],
        sha256=fields[-2],
        # Where they are not zero in a snapshot, they are lost here, and the comparison below finds that out.
        numbers_check=0 if snapshot else fields[15],
        database_sum_from=0 if snapshot else fields[19],
    )
    # Encoding what was understood must give the same bytes: so no field can say anything but the one right thing.
    if (
        trailer.frames != header.frames_for(trailer.pages)
        or trailer.pages > header.most_held
        or (snapshot and trailer.pages != header.pages)
        or trailer.offset + TRAILER_SIZE != size
        or encode_trailer(trailer) != data[:-DIGEST_TAIL]
    ):
        raise RepositoryDamaged(f"the trailer of {where} does not fit its header and the file's {size} bytes")
    return trailer
