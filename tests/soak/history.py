"""What stands in a repository, read by docs/formats alone, with nothing of Pagewarden's code but its page sums.

`replay` walks through all that is stored of a database and yields the state after every commit that can be had back.
"""

from __future__ import annotations

import json
import os
import sqlite3
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import zstandard

from pagewarden.pages import backend
from tests.soak.content import Moment, digest, moment

_HEADER, _TRAILER, _BLOCK, _COMMIT = 128, 192, 24, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One commit of a page set of commits, or the only one of another page set."""

    txid: int
    time: int  # microseconds since 1970 UTC
    pages: int
    database_sum: int
    merged: int  # commits that it stands for
    numbers: tuple[int, ...]  # page numbers
    data: memoryview  # of those pages, one after the other


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A database after one stored commit."""

    sequence: int  # of the manifest that it is part of
    timeline: str
    txid: int
    time: int  # microseconds since 1970 UTC
    fresh: bool  # whether a snapshot made it: nothing below it was needed
    gap: str  # why what came before it may be missing; empty where nothing is
    merged: int  # commits that it stands for
    pages: int
    database_sum: int
    moment: Moment  # what it says of itself
    digest: int | None  # of the content; None where it was not asked for


def manifests(root: Path, name: str) -> list[dict[str, Any]]:
    """Return the manifests that count, in the order of commits: without older generations and absorbed ones."""
    newest: dict[int, tuple[int, dict[str, Any]]] = {}
    for path in (root / name / "manifests").glob("*.json"):
        number, _, generation = path.name.removesuffix(".json").partition(".")
        document = json.loads(path.read_bytes())["manifest"]
        if int(number) not in newest or newest[int(number)][0] < int(generation or 0):
            newest[int(number)] = (int(generation or 0), document)
    found = {number: document for number, (_, document) in newest.items()}
    absorbed = {
        number
        for last, document in found.items()
        for number in range(document.get("gathered", last), last)
        if number in found and found[number]["position"]["timeline"] == document["position"]["timeline"]
    }
    return [found[number] for number in sorted(found) if number not in absorbed]


def page_set(path: Path) -> list[Stored]:
    """Return what a page set holds: one entry, or of a page set of commits one for each commit."""
    data = path.read_bytes()
    assert data[8:16] == b"pagewrdn" and data[-8:] == b"endpages", path
    kind = int.from_bytes(data[18:20], "little")
    page_size, pages = int.from_bytes(data[24:28], "little"), int.from_bytes(data[28:32], "little")
    txid, time = int.from_bytes(data[64:72], "little"), int.from_bytes(data[72:80], "little", signed=True)
    trailer = data[-_TRAILER:]
    stored_bytes = int.from_bytes(trailer[24:32], "little")
    held = int.from_bytes(trailer[88:96], "little")
    database_sum = int.from_bytes(trailer[128:136], "little")
    blocks: dict[bytes, bytearray] = {}
    at = _HEADER + stored_bytes
    while at < len(data) - _TRAILER:
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        blocks.setdefault(data[at + 8 : at + 12], bytearray()).extend(data[at + _BLOCK : at + length])
        at += 8 + length
    numbers = array("I", bytes(blocks.pop(b"PGNO", b""))) if kind != 1 else array("I", range(1, pages + 1))
    body = bytearray()
    rest = data[_HEADER : _HEADER + stored_bytes]
    while rest:
        frame = zstandard.ZstdDecompressor().decompressobj()
        body += frame.decompress(rest)
        rest = frame.unused_data
    assert len(numbers) == held and len(body) == held * page_size, path
    blocks.pop(b"INDX", None)
    blocks.pop(b"SUMS", None)
    view = memoryview(bytes(body))
    if kind != 3:
        assert not blocks, path
        whole = Stored(
            txid=txid, time=time, pages=pages, database_sum=database_sum, merged=1, numbers=tuple(numbers), data=view
        )
        return [whole]
    ((_, table),) = blocks.items()
    found, first = [], 0
    txid = int.from_bytes(data[56:64], "little")
    for offset in range(0, len(table), _COMMIT):
        entry = bytes(table[offset : offset + _COMMIT])
        entries, merged = int.from_bytes(entry[12:16], "little"), int.from_bytes(entry[24:28], "little")
        txid += merged
        found.append(
            Stored(
                txid=txid,
                time=int.from_bytes(entry[:8], "little", signed=True),
                pages=int.from_bytes(entry[8:12], "little"),
                database_sum=int.from_bytes(entry[16:24], "little"),
                merged=merged,
                numbers=tuple(numbers[first : first + entries]),
                data=view[first * page_size : (first + entries) * page_size],
            )
        )
        first += entries
    assert first == held, path
    return found


class Image:
    """A database that is carried from commit to commit, in a file of ours."""

    def __init__(self, path: Path, page_size: int) -> None:
        self._path = path
        self._size = page_size
        self._sums: list[int] = []
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self.database_sum = 0

    def apply(self, commit: Stored) -> None:
        """Take a commit's pages. Fails where pages that the database grew by are in no entry (H21)."""
        for gone in self._sums[commit.pages :]:
            self.database_sum ^= gone
        del self._sums[commit.pages :]
        grown = set(range(len(self._sums) + 1, commit.pages + 1))
        assert grown <= set(commit.numbers), f"txid {commit.txid} lacks {sorted(grown - set(commit.numbers))[:9]}"
        self._sums += [0] * len(grown)
        os.ftruncate(self._file, commit.pages * self._size)
        for place, pgno in enumerate(commit.numbers):
            page = bytes(commit.data[place * self._size : (place + 1) * self._size])
            new = int.from_bytes(backend().buffer_sums(page, self._size, pgno, 1), "little")
            self.database_sum ^= self._sums[pgno - 1] ^ new
            self._sums[pgno - 1] = new
            if pgno == 1:  # so that SQLite looks for no log beside it
                page = page[:18] + b"\x01\x01" + page[20:]
            os.pwrite(self._file, page, (pgno - 1) * self._size)

    def sum_of(self, pgno: int) -> int:
        """Return the page sum of a page."""
        return self._sums[pgno - 1]

    def look(self, *, whole: bool) -> tuple[Moment, int | None]:
        """Return what the database says of itself and, if `whole`, the digest of its content."""
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro&immutable=1", uri=True)) as connection:
            return moment(connection), digest(connection) if whole else None

    def close(self) -> None:
        """Remove the file."""
        os.close(self._file)
        self._path.unlink()


def replay(root: Path, name: str, scratch: Path, *, every: int = 200) -> Iterator[State]:
    """Yield the state after every commit that the repository has of a database, in their order.

    What the page sets say of themselves is proved on the way: the database sum after each, that the segment of a batch
    is what its commits come to, and that a manifest agrees with its object. `every` so many states all rows are read.
    """
    image: Image | None = None
    count = 0
    try:
        for manifest in manifests(root, name):
            (last,) = page_set(root / manifest["key"])
            where = f"manifest {manifest['sequence']}"
            position = manifest["position"]
            assert (last.txid, last.pages) == (position["txid"], manifest["pages"]), where
            inner = manifest.get("commits")
            fresh = manifest["kind"] == "snapshot" and not inner  # one that was made anew keeps its commits
            if fresh:
                if image is not None:
                    image.close()
                image = Image(scratch / "image.db", manifest["page_size"])
            assert image is not None, f"{where}: no snapshot below it"
            commits = page_set(root / inner["key"]) if inner else [last]
            assert commits[-1].txid == last.txid, where
            for commit in commits:
                image.apply(commit)
                count += 1
                assert image.database_sum == commit.database_sum, f"{where}: txid {commit.txid} has another sum"
                seen, content = image.look(whole=count % every == 0)
                yield State(
                    sequence=manifest["sequence"],
                    timeline=position["timeline"],
                    txid=commit.txid,
                    time=commit.time,
                    fresh=fresh,
                    gap=manifest["facts"].get("gap", ""),
                    merged=commit.merged if inner else manifest.get("merged", 1),
                    pages=commit.pages,
                    database_sum=commit.database_sum,
                    moment=seen,
                    digest=content,
                )
            assert image.database_sum == last.database_sum == int(manifest["database_sum"], 16), where
            for place, pgno in enumerate(last.numbers if inner else ()):
                page = last.data[place * manifest["page_size"] : (place + 1) * manifest["page_size"]]
                there = int.from_bytes(backend().buffer_sums(page, manifest["page_size"], pgno, 1), "little")
                assert there == image.sum_of(pgno), f"{where}: page {pgno} of its segment is not that of its commits"
    finally:
        if image is not None:
            image.close()


def seen_at(state: State) -> datetime:
    """Return when a commit was seen, local time zone's."""
    return datetime.fromtimestamp(state.time / 1e6).astimezone()
