from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from pagewarden.sqlite.freelist import walk_freelist
from tests.core.sqlite.closed import make


def test_all_free_pages_are_found(tmp_path: Path) -> None:
    """As many as SQLite counts."""
    path = tmp_path / "a.db"
    closed = make(path, page_size=512, rows=400)
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("PRAGMA freelist_count").fetchone()
    freelist = walk_freelist(closed.read, first=closed.layout.freelist, pages=closed.layout.pages, usable=512)
    assert (freelist.size, freelist.problem) == (count, "")
    assert count > 10
    assert not freelist.leaves & set(freelist.trunks)


def pages(*trunks: tuple[int, list[int]]) -> dict[int, bytes]:
    """Build trunk pages 2, 3, … of (next trunk, leaves)."""
    return {
        number: struct.pack(f">II{len(leaves)}I", following, len(leaves), *leaves).ljust(512, b"\0")
        for number, (following, leaves) in enumerate(trunks, 2)
    }


def walk(built: dict[int, bytes]) -> tuple[tuple[int, ...], list[int], str]:
    """Walk a freelist of a database of 100 pages."""
    freelist = walk_freelist(built.__getitem__, first=2, pages=100, usable=512)
    return freelist.trunks, sorted(freelist.leaves), freelist.problem


def test_no_freelist() -> None:
    """Trunk 0 means that there is none."""
    assert walk_freelist(pages().__getitem__, first=0, pages=9, usable=512).size == 0


def test_a_circle_ends() -> None:
    """What was seen until then is returned, with the reason."""
    assert walk(pages((3, [7]), (2, [8]))) == ((2, 3), [7, 8], "the freelist runs in a circle through page 2")


def test_a_chain_that_leaves_the_file_ends() -> None:
    """A trunk beyond the last page, or page 1."""
    assert walk(pages((101, [7])))[2] == "the freelist names trunk page 101, in a database of 100 pages"
    assert walk(pages((1, [])))[2] == "the freelist names trunk page 1, in a database of 100 pages"


def test_counts_and_leaves_are_not_believed() -> None:
    """More leaves than fit, and a leaf that is none."""
    assert walk({2: struct.pack(">II", 0, 127).ljust(512, b"\0")})[2].endswith("counts 127 leaves, more than fit")
    assert walk(pages((0, [5, 200, 6])))[1:] == (
        [5, 6],
        "freelist trunk page 2 names leaf page 200, in a database of 100 pages",
    )
