"""The native walk and its twin see the same in the same order, whatever stands in the pages."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.pages import Backend, lock_page
from pagewarden.pages.structure import StructureWalk
from pagewarden.pages.walk import WalkPlan
from pagewarden.structure import Collation, Column, FlawKind, StrictType
from tests.core.pages.trees import Database, build

SHAPES = {
    "plain": {"page_size": 512},
    "ptrmap": {"page_size": 512, "pragmas": ("auto_vacuum=FULL",)},
    "utf-16": {"page_size": 1024, "pragmas": ("encoding='UTF-16le'",)},
    "reserved": {"page_size": 1024, "reserved": 32, "pragmas": ("encoding='UTF-16be'", "auto_vacuum=INCREMENTAL")},
}


def injure(database: Database, chance: random.Random) -> None:
    """Change some bytes where structure is: page headers, cell pointers, cells, chains, the freelist, ptrmap pages."""
    for _ in range(chance.choice((1, 4, 8, 16))):
        pgno = chance.randrange(1, database.pages + 1)
        start = 100 if pgno == 1 else 0
        page = database.page(pgno)
        match chance.randrange(6):
            case 0:
                at = start + chance.randrange(12)
            case 1:
                at = start + 8 + chance.randrange(40)
            case 2:  # the beginning of a cell, if it is a b-tree page
                pointer = start + 8 + 2 * chance.randrange(8)
                at = min(int.from_bytes(page[pointer : pointer + 2], "big") + chance.randrange(12), len(page) - 1)
            case 3:  # another page's content
                other = chance.randrange(2, database.pages + 1)
                database.put(max(pgno, 2), 0, database.page(other))
                continue
            case 4 if pgno == 1:
                at = chance.choice((*range(32, 40), 20, 55, 59))
            case _:
                at = chance.randrange(start, len(page))
        new = chance.choice((page[at] ^ 1 << chance.randrange(8), chance.randrange(256), 0, 255))
        database.put(pgno, at, bytes([new]))


@pytest.mark.parametrize("shape", SHAPES)
def test_they_agree_on_any_damage(both: tuple[Backend, Backend], tmp_path: Path, shape: str) -> None:
    """Same flaws with the same fields in the same order, same pages, same counts; and most of the damage is seen."""
    chance = random.Random(f"twins of {shape}")
    native, twin = both
    seen = 0
    for number in range(30):
        database = build(rows=40, **SHAPES[shape])  # type: ignore[arg-type]
        injure(database, chance)
        expected = database.walk(twin, tmp_path)
        assert database.walk(native, tmp_path) == expected, number
        seen += bool(expected.flaws)
    assert seen > 15


@pytest.mark.parametrize("shape", SHAPES)
def test_they_agree_on_users_after_any_damage(both: tuple[Backend, Backend], tmp_path: Path, shape: str) -> None:
    """Whoever is noted as the user of a page, both note the same."""
    chance = random.Random(f"users of {shape}")
    for number in range(10):
        database = build(rows=40, **SHAPES[shape])  # type: ignore[arg-type]
        injure(database, chance)
        noted = []
        with database.source(tmp_path) as source:
            for using in both:
                walk = StructureWalk(replace(database.plan(), users=True), threads=1, using=using)
                noted.append((walk.step(source, 60.0), bytes(walk.users), tuple(walk.unused())))
        assert noted[0] == noted[1], number


@pytest.mark.parametrize("shape", SHAPES)
def test_they_agree_on_any_description(both: tuple[Backend, Backend], tmp_path: Path, shape: str) -> None:
    """Rules and orders that no CREATE statement asked for: each row and key that breaks one is named by both alike."""
    chance = random.Random(f"descriptions of {shape}")
    native, twin = both
    kinds: set[FlawKind] = set()

    def other(column: Column) -> Column:
        return replace(
            column,
            collation=chance.choice((column.collation, *Collation)),
            descending=chance.random() < 0.2,
            not_null=chance.random() < 0.3,
            strict=chance.choice((StrictType.ANY, *StrictType)),
            rowid=column.rowid or chance.random() < 0.1,
        )

    for _ in range(8):
        database = build(rows=40, **SHAPES[shape])  # type: ignore[arg-type]
        database.trees = tuple(
            replace(tree, columns=tuple(map(other, tree.columns)), keys=chance.randrange(len(tree.columns) + 1))
            for tree in database.trees
        )
        expected = database.walk(twin, tmp_path)
        assert database.walk(native, tmp_path) == expected
        kinds |= {flaw.kind for flaw in expected.flaws}
    assert kinds == {FlawKind.NOT_NULL, FlawKind.STRICT_TYPE, FlawKind.KEY_ORDER}


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_whatever_text_sqlite_has_put_in_order_is_in_order(
    both: tuple[Backend, Backend], tmp_path: Path, encoding: str
) -> None:
    """NULs, halves of surrogates, odd bytes, no UTF-8 at all: no order that SQLite itself makes is a flaw."""
    chance = random.Random(f"texts in {encoding}")
    pieces = [
        b"a",
        b"A",
        b"\0a",
        b"a\0",
        b"\0A",
        b" ",
        b" \0",
        b"\0 ",
        b"\xd8\0",
        b"\0\xd8",
        b"\xdc\1",
        b"\1\xdc",
        b"\xe9",
        b"\0\0",
    ]
    path = tmp_path / "texts.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA encoding='{encoding}'")
        connection.execute("PRAGMA page_size=512")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE t(a TEXT)")
        for number, order in enumerate(("BINARY", "NOCASE", "RTRIM", "NOCASE DESC", "RTRIM DESC")):
            connection.execute(f"CREATE INDEX i{number} ON t(a COLLATE {order})")
        texts = [(b"".join(chance.choices(pieces, k=chance.randrange(7))),) for _ in range(400)]
        connection.executemany("INSERT INTO t VALUES (CAST(? AS TEXT))", texts)
        connection.execute("COMMIT")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database = Database.read(path)
    for using in both:
        assert database.flaws(using, tmp_path) == ()


@pytest.mark.parametrize("pointer_map", [False, True])
@pytest.mark.parametrize(("page_size", "usable"), [(512, 480), (1024, 1021), (65536, 65536)])
def test_they_agree_on_what_is_unused(
    both: tuple[Backend, Backend], page_size: int, usable: int, pointer_map: bool
) -> None:
    """H12, H13: without a tree all pages are, but for the lock-byte page and ptrmap pages; runs end at either."""
    lock = lock_page(page_size)
    for pages in (1, 2, 3, 63, 64, 65, 130, 4095, 4096, lock - 1, lock, lock + 1, lock + 2, lock + 300):
        plan = WalkPlan(page_size=page_size, usable=usable, pages=pages, encoding=1, pointer_map=pointer_map, trees=())
        native, twin = (list(using.walker(plan).unused()) for using in both)
        assert native == twin
        if not pointer_map:
            assert sum(count for _, count in native) == pages - (pages >= lock)
