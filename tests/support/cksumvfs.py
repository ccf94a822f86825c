"""Databases whose pages carry the checksums of SQLite's cksumvfs extension, and that extension itself.

`python -m tests.support.cksumvfs PATH SQL…` runs statements through the real one, as apsw ships it, in a process of its
own: two SQLite libraries in one process break each other's locks (H2).
"""

from __future__ import annotations

import sqlite3
import struct
import subprocess
import sys
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from pagewarden.sqlite.header import DatabaseHeader


def build_reserved(path: Path, *statements: str, page_size: int = 4096, mode: str = "delete") -> Path:
    """Make a database with 8 reserved bytes in each page, which plain SQLite leaves alone: nothing stands in them."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA user_version=1")
    page = bytearray(path.read_bytes())
    assert len(page) == page_size
    page[20] = 8
    page[105:107] = struct.pack(">H", page_size - 8)  # the content area of the empty schema begins at its end
    path.write_bytes(page)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        for statement in statements:
            connection.execute(statement)
    return path


def checksum(page: bytes) -> bytes:
    """Return the 8 bytes that belong at the end of a page. https://sqlite.org/cksumvfs.html"""
    words = struct.unpack(f"<{len(page) // 4 - 2}I", page[:-8])
    s1 = s2 = 0
    for first, second in zip(words[::2], words[1::2], strict=True):
        s1 = (s1 + first + s2) & 0xFFFFFFFF
        s2 = (s2 + second + s1) & 0xFFFFFFFF
    return struct.pack("<2I", s1, s2)


def seal(path: Path, but: Collection[int] = ()) -> Path:
    """Fill in the checksums of a closed database, but those of the pages `but`, as cksumvfs does when it writes."""
    data = bytearray(path.read_bytes())
    size = DatabaseHeader.parse(bytes(data[:100])).page_size
    for begin in range(0, len(data), size):
        if begin // size + 1 not in but:
            data[begin + size - 8 : begin + size] = checksum(bytes(data[begin : begin + size]))
    path.write_bytes(data)
    return path


def through_cksumvfs(path: Path, *statements: str) -> list[str]:
    """Run statements through the real extension; return the rows they gave, as text, or the error."""
    command = [sys.executable, "-m", "tests.support.cksumvfs", str(path), *statements]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    return done.stdout.splitlines()


def _main(path: str, *statements: str) -> None:
    import apsw
    import apsw.sqlite_extra

    apsw.sqlite_extra.load(apsw.Connection(":memory:"), "cksumvfs")
    connection = apsw.Connection(path)
    connection.reserve_bytes(reserve=8)
    try:
        for statement in statements:
            for row in connection.execute(statement):
                print(*row)
    except apsw.Error as error:
        print(f"{type(error).__name__}: {error}")
    finally:
        connection.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
