"""A short look at database, log and wal-index believes only what is whole, and survives what is hostile (H1, H36)."""

from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseNotFound, DatabaseUnreadable, NotADatabase
from pagewarden.processes import log_look
from pagewarden.processes.reader import PageReader
from pagewarden.wal.look import WalLook
from tests.core.wal.conftest import commit, wal_of
from tests.support.databases import build


def files(database: Path) -> tuple[Path, Path, Path]:
    """Return database, log and wal-index."""
    return database, wal_of(database), database.with_name(f"{database.name}-shm")


def test_what_stands_there_is_seen(database: Path, writer: sqlite3.Connection, reader: PageReader) -> None:
    """Also twice, because no descriptor stays open."""
    commit(writer, 2)
    seen = [reader.wal_look(str(database), live=True) for _ in range(2)]
    assert seen[0] == seen[1]
    look = seen[0]
    assert (look.in_wal_mode, look.index, look.page_size, look.log_page_size) == (True, True, 4096, 4096)
    assert (look.frames > 0, look.backfilled, len(look.read_marks)) == (True, 0, 5)
    assert look.wal_modified is not None
    assert reader.wal_look(str(database), live=False) == WalLook(
        versions=(2, 2),
        page_size=4096,
        database_bytes=look.database_bytes,
        wal_bytes=look.wal_bytes,
        wal_modified=look.wal_modified,
        log_page_size=4096,
        sequence=look.sequence,
        salts=look.salts,
    )


def test_a_torn_index_is_not_believed(database: Path, writer: sqlite3.Connection, reader: PageReader) -> None:
    """Nor one that is cut short, or that this user may not write to."""
    commit(writer)
    copy = build(database.with_name("copy.db"), rows=3)
    for source, to in zip(files(database)[1:], files(copy)[1:], strict=True):
        to.write_bytes(source.read_bytes())
    assert reader.wal_look(str(copy), live=True).index
    shm = files(copy)[2]
    whole = bytearray(shm.read_bytes())
    whole[20] ^= 1
    for content in (bytes(whole), b"", b"short"):
        shm.write_bytes(content)
        assert not reader.wal_look(str(copy), live=True).index
    shm.unlink()
    assert not reader.wal_look(str(copy), live=True).index


def test_random_bytes_are_nothing(database: Path, writer: sqlite3.Connection, reader: PageReader) -> None:
    """Whatever stands in the three files, the answer has a meaning, or is a named error."""
    commit(writer)
    copy = database.with_name("hostile.db")
    originals = [path.read_bytes() for path in files(database)]
    chance = random.Random(7)
    for _ in range(25):
        for original, to in zip(originals, files(copy), strict=True):
            content = bytearray(original[: chance.randrange(len(original) + 1)])
            for _ in range(chance.randrange(20)):
                if content:
                    content[chance.randrange(min(len(content), 200))] = chance.randrange(256)
            to.write_bytes(content)
        try:
            look = reader.wal_look(str(copy), live=True)
        except NotADatabase:
            continue
        assert look.backfilled <= look.frames
        assert look.wal_bytes == files(copy)[1].stat().st_size


def test_only_files_are_opened(database: Path, reader: PageReader) -> None:
    """No database, a directory, a FIFO and a link in place of the log."""
    with pytest.raises(DatabaseNotFound):
        reader.wal_look(str(database.with_name("none.db")), live=False)
    with pytest.raises(DatabaseUnreadable):
        reader.wal_look(str(database.parent), live=False)
    os.mkfifo(wal_of(database))
    with pytest.raises(DatabaseUnreadable):
        reader.wal_look(str(database), live=False)


def test_a_log_that_goes_while_it_is_looked_at_is_none(
    database: Path, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last connection that closes removes it."""
    commit(writer)
    read = log_look._start_of

    def then_removed(path: str, length: int) -> tuple[bytes, int]:
        found = read(path, length)
        if path.endswith("-wal"):
            os.unlink(path)
        return found

    monkeypatch.setattr(log_look, "_start_of", then_removed)
    assert log_look.look(str(database), live=False)["wal_modified"] is None
