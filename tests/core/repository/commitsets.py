"""Random histories of commits, and a reader of page sets of commits that shares nothing with the product's."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import zstandard

from pagewarden.pages import backend
from pagewarden.repository.commits import CommitsWriter
from pagewarden.repository.format import Commit, Kind, PageSetHeader, PageSetInfo
from tests.core.repository.segments import sums_of
from tests.core.repository.sets import NOW, TIMELINE, image
from tests.support.commitsets import Entry

PAGE = 512
FIRST = 7
"""The position that every history starts from."""


def commits_header(
    page_size: int = PAGE, *, per_frame: int = 4, txid_from: int = FIRST, txid: int = 0
) -> PageSetHeader:
    """Return the header of a page set of commits before it is sealed."""
    return PageSetHeader(
        kind=Kind.COMMITS,
        page_size=page_size,
        pages=0,
        pages_per_frame=per_frame,
        timeline=TIMELINE,
        txid_from=txid_from,
        txid=txid or txid_from + 1,
        time=NOW,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One commit with its pages."""

    commit: Commit
    pages: dict[int, bytes]  # by page number, ascending
    after: bytes  # the whole database

    @property
    def sums(self) -> bytes:
        """Its page sums."""
        return b"".join(backend().page_sum(pgno, page).to_bytes(8, "little") for pgno, page in self.pages.items())


class History:
    """A database that changes, grows and shrinks from commit to commit; the first one comes after position FIRST."""

    def __init__(self, seed: int, *, commits: int = 12, pages: int = 20, merging: bool = True) -> None:
        self._merging = merging  # whether some commits stand for others
        self.rng = random.Random(seed)
        self.before = image(pages, seed=seed)
        self.changes: list[Change] = []
        while len(self.changes) < commits:
            self._go_on()

    def image(self, txid: int) -> bytes:
        """Return the database at a position."""
        found = [change.after for change in self.changes if change.commit.txid == txid]
        return found[0] if found else {FIRST: self.before}[txid]

    def write(self, path: Path, changes: Sequence[Change] | None = None, *, per_frame: int = 4) -> PageSetInfo:
        """Write a page set of some commits, or of all."""
        return write_commits(path, self.changes if changes is None else changes, self.sum_before, per_frame=per_frame)

    def sum_before(self, txid: int) -> int:
        """Return the database sum at a position."""
        return backend().fold(sums_of(self.image(txid)))

    def _go_on(self) -> None:
        rng = self.rng
        before = self.changes[-1].after if self.changes else self.before
        now, old = bytearray(before), len(before) // PAGE
        merged = rng.choice((1, 1, 1, 1, 3)) if self._merging else 1
        if rng.random() < 0.3:
            now += image(rng.randrange(1, 9), seed=rng.randrange(1000))
        elif rng.random() < 0.4 and old > 5:
            del now[rng.randrange(3, old) * PAGE :]
        pages = len(now) // PAGE
        changed = set(range(old + 1, pages + 1))
        if rng.random() < 0.9:
            changed |= set(rng.sample(range(1, pages + 1), min(pages, rng.randrange(1, 5))))
        for pgno in changed:
            if pgno <= old and rng.random() < 0.9:  # else it is written as it was
                now[(pgno - 1) * PAGE : (pgno - 1) * PAGE + 40] = rng.randbytes(40)
        after = bytes(now)
        txid = (self.changes[-1].commit.txid if self.changes else FIRST) + merged
        commit = Commit(
            txid=txid,
            time=NOW + timedelta(seconds=rng.randrange(-3, 4), microseconds=rng.randrange(10**6)),
            pages=pages,
            entries=len(changed),
            database_sum=backend().fold(sums_of(after)),
            merged=merged,
        )
        held = {pgno: after[(pgno - 1) * PAGE : pgno * PAGE] for pgno in sorted(changed)}
        self.changes.append(Change(commit=commit, pages=held, after=after))


def write_commits(path: Path, changes: Sequence[Change], sum_before: object, *, per_frame: int = 4) -> PageSetInfo:
    """Write a page set of consecutive commits; `sum_before` returns the database sum at a position."""
    assert callable(sum_before)
    start = changes[0].commit.txid_from
    with CommitsWriter(path, commits_header(per_frame=per_frame, txid_from=start), level=1) as writer:
        for change in changes:
            writer.add(change.commit, tuple(change.pages), b"".join(change.pages.values()), change.sums)
        return writer.seal(sum_before(start))


def _blocks(data: bytes, tag: bytes, size: int) -> bytes:
    """Return the entries of all blocks in `data`."""
    entries, at, number = b"", 0, 0
    while at < len(data):
        _, length, its_tag, its_number, count, _ = struct.unpack_from("<II4sIII", data, at)
        assert (its_tag, its_number, length) == (tag, number, count * size + 24)
        entries += data[at + 24 : at + 24 + count * size]
        at, number = at + 8 + length, number + 1
    return entries


def parse_commits(path: Path) -> list[tuple[Entry, dict[int, bytes]]]:
    """Return the commits of a page set, as the tables of docs/formats/pageset-1.md say: entry of the table, pages."""
    data = path.read_bytes()
    assert hashlib.sha256(data[128:-40] + data[:128]).digest() == data[-40:-8]
    kind, _, page_size, _, per_frame, count = struct.unpack_from("<HIIIII", data, 18)
    assert kind == 3
    tail = len(data) - 192
    fields = struct.unpack_from("<16Q", data, tail + 16)
    _, size, numbers_at, numbers_size, index_at, index_size, sums_at, sums_size, frames, held = fields[:10]
    numbers = struct.unpack(f"<{held}I", _blocks(data[numbers_at:][:numbers_size], b"PGNO", 4))
    sums = struct.unpack(f"<{held}Q", _blocks(data[sums_at:][:sums_size], b"SUMS", 8))
    index = list(struct.iter_unpack("<QIIII", _blocks(data[index_at:][:index_size], b"INDX", 24)))
    table = list(struct.iter_unpack("<qIIQII", _blocks(data[sums_at + sums_size : tail], b"CMIT", 32)))
    assert (len(index), len(table), numbers_at) == (frames, count, 128 + size)
    content: list[bytes] = []
    for number, (offset, csize, first, some, _) in enumerate(index):
        assert (first, some) == (numbers[number * per_frame], min(per_frame, held - number * per_frame))
        frame = zstandard.ZstdDecompressor().decompress(data[offset:][:csize], allow_extra_data=False)
        content += [frame[at : at + page_size] for at in range(0, len(frame), page_size)]
    assert list(sums) == [backend().page_sum(pgno, page) for pgno, page in zip(numbers, content, strict=True)]
    found, place = [], 0
    for entry in table:
        past = place + entry[2]
        found.append((entry, dict(zip(numbers[place:past], content[place:past], strict=True))))
        place = past
    assert place == held
    return found


def replayed(before: bytes, changes: Iterable[Change]) -> bytes:
    """Return the database after commits, from their pages alone."""
    data = bytearray(before)
    for change in changes:
        size = change.commit.pages * PAGE
        data = data[:size].ljust(size, b"\0")
        for pgno, page in change.pages.items():
            data[(pgno - 1) * PAGE : pgno * PAGE] = page
    return bytes(data)


def merged_into(changes: Sequence[Change]) -> Change:
    """Return consecutive commits as one that stands for them."""
    pages: dict[int, bytes] = {}
    for change in changes:
        pages = {pgno: page for pgno, page in pages.items() if pgno <= change.commit.pages} | change.pages
    commit = replace(
        changes[-1].commit, entries=len(pages), merged=changes[-1].commit.txid - changes[0].commit.txid_from
    )
    return Change(commit=commit, pages=dict(sorted(pages.items())), after=changes[-1].after)
