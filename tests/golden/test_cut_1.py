"""A cut.db as version 1 of the format wrote it, kept for ever: it is read, and written with the same tables."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from pagewarden.contracts import SqlValue
from pagewarden.repair.cutouts import CUT, CutFile, Cutouts, CutPage, CutRow, read_cutouts

STORED = Path(__file__).parent / "cut-1.db"
FORMAT = Path(__file__).parents[2] / "docs/formats/cut-1.md"
VALUES: tuple[SqlValue, ...] = (None, -(2**63), 0.1, "Zoë", "no UTF-8: \udcff", "a\0b", b"", b"\0\xff")
COLUMNS = ("rowid", "b", "c", "d", "e", "f", 'g "h"', "i\n")
PAGE = bytes(range(256)) * 2


def write(folder: Path) -> None:
    """Cut out what the golden file holds."""
    (folder / "private").write_bytes(b"log")
    with Cutouts(folder) as cutouts:
        cutouts.page(7, 512, PAGE, "a b-tree page is not what it was", "repair-splice")
        cutouts.page(8, 512, PAGE[:100], "cut off", "repair-header")
        cutouts.rows("note", COLUMNS, [VALUES], "its person is nowhere to be had", "repair-relations", "page 3")
        cutouts.rows("note", (), [()], "unreadable", "compare")
        cutouts.file(folder / "private", "app.db-wal", "it belongs to another database", "repair-wal")


def schema(path: Path) -> list[tuple[str, str]]:
    """Return the tables of a cut.db, without regard to line breaks."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").fetchall()
        return [(name, re.sub(r"\s+", " ", sql)) for name, sql in rows]


def test_the_golden_file_is_read(tmp_path: Path) -> None:
    """Pages, rows and files come out as they were cut out."""
    shutil.copy(STORED, tmp_path / CUT)
    with read_cutouts(tmp_path) as view:
        pages = tuple(view.pages())
        assert [view.page_bytes(page) for page in pages] == [PAGE, PAGE[:100]]
        assert pages[1] == CutPage(id=2, pgno=8, page_size=512, length=100, why="cut off", repairer="repair-header")
        first, second = view.rows()
        assert view.files() == (
            CutFile(name="app.db-wal", size=-1, why="it belongs to another database", repairer="repair-wal"),
        )
    assert first == CutRow(
        id=1,
        table="note",
        columns=COLUMNS,
        values=VALUES,
        why="its person is nowhere to be had",
        repairer="repair-relations",
        source="page 3",
    )
    assert (second.columns, second.values, second.repairer) == ((), (), "compare")


def test_it_is_written_with_the_same_tables(tmp_path: Path) -> None:
    """What is written now is what the golden file holds, table by table, and what the document says."""
    write(tmp_path)
    assert schema(tmp_path / CUT) == schema(STORED)
    (sql,) = re.findall(r"```sql\n(.*?)```", FORMAT.read_text(), re.DOTALL)
    documented = sorted(re.sub(r"\s+", " ", statement).strip() for statement in sql.split(";") if statement.strip())
    assert documented == sorted(sql for _, sql in schema(STORED))
    for table in ("pages", "rows", "cells", "files"):
        contents = []
        for path in (tmp_path / CUT, STORED):
            with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
                connection.text_factory = bytes
                contents.append(connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall())
        assert contents[0] == contents[1]
