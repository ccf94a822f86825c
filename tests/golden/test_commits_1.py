"""A page set of commits as version 1 of the format wrote it, kept for ever: it decodes, and is written the same."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pagewarden.errors import RepositoryNotFound
from pagewarden.repository.blocks import micros
from pagewarden.repository.commits import CommitsFile, CommitsWriter, verify_commits
from pagewarden.repository.extract import extract
from pagewarden.repository.format import Commit, Kind
from tests.core.repository.commitsets import parse_commits
from tests.core.repository.sets import assemble
from tests.golden import test_repository_1 as snapshot
from tests.support.commitsets import commits_set

STORED = Path(__file__).parent / "commits-1.commits.zst"
SHA256 = "afa2d10a4f6294fd53846616ccccd0359ad8c5d50e26f18db0908292a5ace6fd"
HEADER = replace(
    snapshot.HEADER,
    kind=Kind.COMMITS,
    pages=64,
    txid_from=1,
    txid=8,
    time=snapshot.HEADER.time + timedelta(seconds=4.25),
    commits=5,
)


def commit(txid: int, seconds: float, pages: int, entries: int, database_sum: int, merged: int = 1) -> Commit:
    """Return a commit of the golden file."""
    return Commit(
        txid=txid,
        time=snapshot.HEADER.time + timedelta(seconds=seconds),
        pages=pages,
        entries=entries,
        database_sum=database_sum,
        merged=merged,
    )


COMMITS = {
    commit(2, 1, 39, 5, 0xDC0E9EBF7474858C): (63, 2136),
    commit(3, 2, 39, 4, 0x37D5EAA87C9B49D7): (63, 2136),
    commit(5, 0.5, 20, 14, 0xA93E9294806BD19A, merged=2): (32, 1361),
    commit(7, 3, 64, 45, 0xD3B341C4CE09BF18, merged=2): (32, 1361),
    commit(8, 4.25, 64, 2, 0x5AFD709030BE9FB5): (31, 1360),
}
"""Each with the count and sum of rowids in the database that it makes."""


def test_the_golden_commits_decode() -> None:
    """Our reader proves every page and every commit; another reader reads the same."""
    info = verify_commits(STORED, threads=2, read_data=True)
    assert (info.header, info.held, info.sha256) == (HEADER, 70, SHA256)
    assert info.database_sum_from == int(snapshot.MANIFEST.database_sum, 16)
    with CommitsFile(STORED) as file:
        assert tuple(file.commits) == tuple(COMMITS)
    table = [entry for entry, _ in parse_commits(STORED)]
    assert table == [(micros(c.time), c.pages, c.entries, c.database_sum, c.merged, 0) for c in COMMITS]


def test_every_golden_commit_is_made(tmp_path: Path) -> None:
    """Over the golden snapshot, each of them is the database that SQLite had made."""
    for one, rows in COMMITS.items():
        extract(STORED, one.txid, tmp_path / f"{one.txid}", level=1)
        path = tmp_path / f"{one.txid}.db"
        assemble([tmp_path / f"{one.txid}", snapshot.STORED], path)
        assert path.stat().st_size == one.pages * 1024
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT count(*), sum(id) FROM golden").fetchone() == rows
    with pytest.raises(RepositoryNotFound, match="has 3 and 5, and none in between"):
        extract(STORED, 4, tmp_path / "4", level=1)


def test_the_tables_of_the_format_give_the_same_bytes() -> None:
    """Given the golden frames, whatever zstd compressed them, everything around them is what the document says."""
    parsed = parse_commits(STORED)
    with CommitsFile(STORED) as file:
        frames = [os.pread(file.fileno(), frame.csize, frame.offset) for frame in file.frames()]
        made = commits_set(
            HEADER,
            [entry for entry, _ in parsed],
            [pages for _, pages in parsed],
            database_sum_from=file.info.database_sum_from,
            frames=frames,
        )
    assert made == STORED.read_bytes()


def test_writing_the_commits_gives_the_same_around_the_frames(tmp_path: Path) -> None:
    """Written anew, commits, page numbers and sums are the golden ones; frames may be those of another zstd."""
    with (
        CommitsFile(STORED) as golden,
        CommitsWriter(tmp_path / "set", replace(HEADER, txid=2, commits=0, pages=0), level=1) as writer,
    ):
        place = 0
        for one, (_, pages) in zip(golden.commits, parse_commits(STORED), strict=True):
            writer.add(one, tuple(pages), b"".join(pages.values()), golden.entry_sums(place, one.entries))
            place += one.entries
        info = writer.seal(golden.info.database_sum_from)
        assert (info.header, info.held, info.frames) == (HEADER, golden.info.held, golden.info.frames)
        data, wanted = (tmp_path / "set").read_bytes(), STORED.read_bytes()
        assert data[:128] == wanted[:128]
        assert (
            data[info.numbers_offset : info.index_offset]
            == wanted[golden.info.numbers_offset : golden.info.index_offset]
        )
        assert data[info.sums_offset : -192] == wanted[golden.info.sums_offset : -192]
        if data[128 : info.numbers_offset] == wanted[128 : golden.info.numbers_offset]:
            assert data == wanted
