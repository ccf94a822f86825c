"""What fuzzing begins with: small databases, logs and frames that SQLite and zstd themselves make."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

SEED = 20261123


def databases() -> Iterator[bytes]:
    """Yield databases of every shape that fits into a few pages, some with options for the walk in reserved bytes."""
    chance = random.Random(SEED)
    for page_size in (512, 1024, 4096):
        for pragmas in ((), ("auto_vacuum=FULL",), ("encoding='UTF-16le'",), ("encoding='UTF-16be'", "auto_vacuum=2")):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "made.db"
                with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                    for pragma in (f"page_size={page_size}", *pragmas, "journal_mode=OFF"):
                        connection.execute(f"PRAGMA {pragma}")
                    _fill(connection, chance, 12 if page_size == 512 else 25)
                data = bytearray(path.read_bytes())
            yield bytes(data)
            data[72:92] = chance.randbytes(20)
            yield bytes(data)


def _fill(connection: sqlite3.Connection, chance: random.Random, rows: int) -> None:
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT NOT NULL, b, c REAL)")
    connection.execute("CREATE INDEX i ON t(a COLLATE NOCASE, b DESC)")
    connection.execute("CREATE TABLE w(k, v, PRIMARY KEY(v, k)) WITHOUT ROWID")
    connection.execute("CREATE TABLE gone(x)")
    for _ in range(rows):
        text = "".join(chance.choices("abAB é", k=chance.randrange(9)))
        blob = chance.randbytes(chance.choice((0, 3, 60, 900)))
        connection.execute("INSERT INTO t(a, b, c) VALUES(?, ?, ?)", (text, blob, chance.random() * 9))
        connection.execute(
            "INSERT OR IGNORE INTO w VALUES(?, ?)", (text, chance.randrange(-9, 9) * 10 ** chance.randrange(9))
        )
        connection.execute("INSERT INTO gone VALUES(?)", (blob,))
    connection.execute("DELETE FROM gone")


def logs() -> Iterator[bytes]:
    """Yield WAL files with several commits, whole, with a broken frame, and cut; the last byte is an option."""
    chance = random.Random(SEED)
    for page_size in (512, 1024):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "made.db"
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                for pragma in (f"page_size={page_size}", "journal_mode=WAL", "wal_autocheckpoint=0"):
                    connection.execute(f"PRAGMA {pragma}").fetchall()
                connection.execute("CREATE TABLE t(x)")
                for _ in range(4):
                    connection.execute("INSERT INTO t VALUES(?)", (chance.randbytes(300),))
                data = Path(f"{path}-wal").read_bytes()
        for option in (0, 1, 2, 0x85, 0x87):
            yield data + bytes([option])
        yield data[: len(data) // 2] + b"\x01"
        broken = bytearray(data)
        broken[32 + 24 + 7] ^= 1
        yield bytes(broken) + b"\0"


def frames() -> Iterator[bytes]:
    """Yield zstd frames of one to three pages, with the three bytes of options that the target takes before them."""
    import zstandard

    chance = random.Random(SEED)
    for shift in range(4):
        for count in (1, 2, 3):
            page = chance.randbytes(40) * (512 << shift)
            data = zstandard.ZstdCompressor(level=chance.randrange(1, 9)).compress(page[: (512 << shift) * count])
            yield bytes((shift, count, 0)) + data
            yield bytes((shift, count, chance.randrange(256))) + data


def noise() -> Iterator[bytes]:
    """Yield bytes of all kinds, for targets whose input has no format of its own."""
    chance = random.Random(SEED)
    for size in (0, 1, 20, 100, 2000, 8192):
        yield chance.randbytes(size)
        yield bytes(size)
    trunk = b"".join(number.to_bytes(4, "big") for number in (3, 5, 4, 5, 6, 7, 2))
    yield b"\0\0\0\x02\0\0\0\x07\0" + bytes(512) + trunk.ljust(512, b"\0") + bytes(512 * 6)
    record = b"\x05\x01\x0f\x13\x07"
    yield bytes((0, 3, 0o12, 0o34, 0, 17)) + (record + b"\x05A" + b"abc" + bytes(8)) * 2


SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "database": databases,
    "wal": logs,
    "frame": frames,
    "noise": noise,
}
"""What a target may ask for, by the word after "seeds:" in its first lines."""
