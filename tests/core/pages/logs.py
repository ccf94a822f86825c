"""Databases in WAL mode that SQLite wrote, and write-ahead logs rewritten byte by byte."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pagewarden.pages import Backend, PageSource, WalScan


@contextmanager
def opened(path: Path | str) -> Iterator[int]:
    """Open a file read-only and close it again."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def wal_database(path: Path, *, page_size: int = 4096) -> sqlite3.Connection:
    """Make a database in WAL mode with one table, whose WAL is never checkpointed by itself."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size={page_size}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, data BLOB)")
    return connection


def change(connection: sqlite3.Connection, chance: random.Random) -> None:
    """Commit one transaction that inserts, updates and deletes a little."""
    connection.execute("BEGIN")
    for _ in range(chance.randrange(1, 4)):
        connection.execute("INSERT INTO t(data) VALUES (?)", (chance.randbytes(chance.randrange(10, 9000)),))
    connection.execute("UPDATE t SET data = ? WHERE id = 1", (chance.randbytes(50),))
    if chance.random() < 0.3:
        connection.execute("DELETE FROM t WHERE id = (SELECT max(id) FROM t)")
    connection.execute("COMMIT")


def scan(backend: Backend, path: Path, page_size: int = 0, last_frame: int | None = None) -> WalScan:
    """Scan the WAL beside the database at `path`."""
    with opened(f"{path}-wal") as wal:
        return backend.wal_scan(wal, page_size=page_size, last_frame=last_frame)


def image(backend: Backend, path: Path, last_frame: int | None = None) -> bytes:
    """Return all pages of the last commit that the database and its WAL hold, up to a frame."""
    with opened(path) as database, opened(f"{path}-wal") as wal:
        found = backend.wal_scan(wal, page_size=0, last_frame=last_frame)
        size = os.fstat(database).st_size
        page_size = found.page_size or 4096
        source = PageSource(
            database=database,
            wal=wal if found.map else -1,
            page_size=page_size,
            pages=found.pages or size // page_size,
            file_size=size,
            frames=found.map,
        )
        out = bytearray(source.pages * page_size)
        backend.read(source, 1, source.pages, out)
        return bytes(out)


def copied(path: Path, folder: Path) -> Path:
    """Copy a database and its WAL to `folder`, which must be new; return the copy's path."""
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{folder / path.name}{suffix}")
    return folder / path.name


def serialized(path: Path) -> bytes:
    """Return the database that SQLite sees at `path` after its own recovery of the WAL."""
    with closing(sqlite3.connect(path)) as connection:
        return bytes(connection.serialize())


def checksum(data: bytes, big: bool, pair: tuple[int, int]) -> tuple[int, int]:
    """SQLite's WAL checksum, written once more from https://www.sqlite.org/fileformat2.html#checksum_algorithm."""
    s0, s1 = pair
    words = struct.unpack(f"{'>' if big else '<'}{len(data) // 4}I", data)
    for i in range(0, len(words), 2):
        s0 = (s0 + words[i] + s1) % 2**32
        s1 = (s1 + words[i + 1] + s0) % 2**32
    return s0, s1


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame as `rebuild` takes it."""

    pgno: int
    pages: int  # commit field
    data: bytes


def frames_of(wal: bytes) -> list[Frame]:
    """Return every frame that lies in a WAL, valid or not."""
    (page_size,) = struct.unpack_from(">I", wal, 8)
    step = 24 + page_size
    return [
        Frame(pgno=pgno, pages=pages, data=wal[at + 24 : at + step])
        for at in range(32, len(wal) - step + 1, step)
        for pgno, pages in [struct.unpack_from(">2I", wal, at)]
    ]


def rebuild(frames: list[Frame], *, big: bool, page_size: int = 4096, salts: bytes = b"saltsalt") -> bytes:
    """Return a valid WAL of `frames`, its checksums over words of either byte order."""
    header = struct.pack(">4I", 0x377F0682 | big, 3007000, page_size, 0) + salts
    pair = checksum(header, big, (0, 0))
    parts = [header + struct.pack(">2I", *pair)]
    for frame in frames:
        head = struct.pack(">2I", frame.pgno, frame.pages)
        pair = checksum(head + frame.data, big, pair)
        parts.append(head + salts + struct.pack(">2I", *pair) + frame.data)
    return b"".join(parts)
