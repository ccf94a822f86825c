"""A schema that can be read counts, whatever the schema cookie says: another history comes to the same one."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.errors import RepairRefused
from pagewarden.repair import closed
from pagewarden.repair.closed import ClosedFile
from pagewarden.sqlite.describe import describe_trees
from pagewarden_repair_restore import schema as choosing
from pagewarden_repair_restore.schema import schema_of
from tests.plugins.repair_restore.scene import SELECTED, Scene, asked, damage_leaf, overwrite, ran, rows_of
from tests.support.recorded import History, Recorded

_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2"
_MORE = "UPDATE strict SET more = more + 1 WHERE id = 2"
_PRICE = "ALTER TABLE strict ADD COLUMN price INT"
_DISCOUNT = "ALTER TABLE strict ADD COLUMN discount INT"
_WAGES = ("CREATE TABLE wages(id INTEGER PRIMARY KEY, who, pay)", "INSERT INTO wages VALUES (1, 'bob', 1)")
_NOTES = (
    "CREATE TABLE notes(id INTEGER PRIMARY KEY, title, body)",
    "INSERT INTO notes SELECT id, 'title ' || id, 'body' FROM strict",
)


def gone_two_ways(folder: Path, one: Sequence[str], other: Sequence[str]) -> Scene:
    """Return a database that was migrated by `one` and backed up, then put back by hand and migrated by `other`."""
    scene = Scene(folder)
    older = folder / "older.db"
    shutil.copyfile(scene.database, older)
    ran(scene.database, *one)
    scene.recorded = Recorded(scene.database)
    cookie = asked(scene.database, "PRAGMA schema_version")
    shutil.copyfile(older, scene.database)
    ran(scene.database, *other)
    assert asked(scene.database, "PRAGMA schema_version") == cookie
    scene.good = scene.database.read_bytes()
    return scene


@pytest.mark.parametrize(
    ("one", "other", "table"),
    [
        ((_PRICE, "UPDATE strict SET price = 100 + id"), (_DISCOUNT, "UPDATE strict SET discount = id"), "strict"),
        (_WAGES, _NOTES, "notes"),
        (("CREATE UNIQUE INDEX one ON strict(more, id)",), ("CREATE INDEX other ON strict(more)",), "strict"),
        (_NOTES, ("DELETE FROM keyed WHERE number > 100", _NOTES[0], "INSERT INTO notes VALUES (9, '', '')"), "notes"),
    ],
    ids=["column", "table", "index", "same table elsewhere"],
)
def test_another_migration_with_the_same_cookie(
    tmp_path: Path, one: Sequence[str], other: Sequence[str], table: str
) -> None:
    """No table or index of the restore point stands in for one of the file, and no value under another's column."""
    scene = gone_two_ways(tmp_path, one, other)
    schema, rows = asked(scene.database, _SCHEMA), asked(scene.database, f"SELECT * FROM {table}")
    damage_leaf(scene, "plain")
    scene.repair()
    scene.check()
    assert (asked(scene.database, _SCHEMA), asked(scene.database, f"SELECT * FROM {table}")) == (schema, rows)


def test_a_hurt_schema_with_the_same_cookie_is_believed_where_it_can_be_read(tmp_path: Path) -> None:
    """Where a statement that is left has other columns, its table is that of the restore point, unmixed."""
    scene = gone_two_ways(
        tmp_path,
        (_PRICE, "UPDATE strict SET price = 100 + id WHERE id < 50"),
        (_DISCOUNT, "UPDATE strict SET discount = id WHERE id < 50"),
    )
    items = rows_of(scene.database)["item"]
    hurt(scene, "view", "seen")
    scene.repair()
    scene.check()
    prices = asked(scene.database, "SELECT price FROM strict WHERE id < 50 ORDER BY id")
    assert [price for (price,) in prices] == [100 + number for number in range(1, 50) if number % 19]
    assert rows_of(scene.database)["item"] == items


def test_a_hurt_schema_whose_cookie_came_another_way(tmp_path: Path) -> None:
    """A file with fewer commits than the restore point is not its successor, and an equal cookie says nothing."""
    scene = gone_two_ways(tmp_path, (*_WAGES, _MORE, _MORE), _NOTES)
    items = rows_of(scene.database)["item"]
    hurt(scene, "table", "notes")
    scene.repair()
    scene.check()
    assert asked(scene.database, "SELECT * FROM wages") == [(1, "bob", 1)]
    assert rows_of(scene.database)["item"] == items


def test_a_hurt_schema_with_the_cookie_of_the_restore_point(tmp_path: Path) -> None:
    """Where nothing speaks against it, a table that was empty then has its newer rows."""
    scene = gone_two_ways(tmp_path, ("CREATE TABLE fresh(a, b)",), ("CREATE TABLE fresh(a, b)",))
    ran(scene.database, "INSERT INTO fresh VALUES (1, 2)")
    hurt(scene, "view", "seen")
    scene.repair()
    scene.check()
    assert asked(scene.database, "SELECT * FROM fresh") == [(1, 2)]


def hurt(scene: Scene, kind: str, name: str) -> None:
    """Let a row of the schema have a header that is none: SQLite refuses the whole schema."""
    at, length = schema_row(scene, kind, name)
    overwrite(scene.database, at, b"\x7f")
    assert length < 0x7F
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        asked(scene.database, _SCHEMA)


def schema_row(scene: Scene, kind: str, name: str) -> tuple[int, int]:
    """Return where the record of a row of the schema stands, and the length of its header."""
    data = scene.database.read_bytes()
    values = data.index(f"{kind}{name}{name}".encode())
    at = data.rindex(bytes(13 + 2 * len(text) for text in (kind, name, name)), 0, values) - 1
    assert data[at] == values - at
    return at, data[at]


def test_a_root_page_that_is_none_costs_no_row(tmp_path: Path) -> None:
    """Where the schema names a page further down for a root, the rest of its table is not taken for deleted."""
    for schema in ((), ("CREATE TABLE fresh(a, b)",)):
        folder = tmp_path / str(len(schema))
        folder.mkdir()
        scene = Scene(folder, schema=schema)
        at, length = schema_row(scene, "table", "keyed")
        place = at + length + len("tablekeyedkeyed")
        root = scene.good[place]
        page = scene.good[(root - 1) * 1024 : root * 1024]
        (child,) = struct.unpack_from(">I", page, struct.unpack_from(">H", page, 12)[0])
        overwrite(scene.database, place, bytes([child]))
        scene.repair()
        scene.check()
        assert rows_of(scene.database) == scene.rows


def test_a_row_of_the_schema_that_cannot_be_read_drops_no_table(tmp_path: Path) -> None:
    """A row that is left out says nothing of its table, whatever else of the schema is sound."""
    scene = Scene(tmp_path, schema=("CREATE TABLE fresh(a, b)",))
    at, _ = schema_row(scene, "table", "plain")
    overwrite(scene.database, at + 2, bytes([12 + 2 * len("plain")]))  # the name is a blob
    scene.repair()
    assert scene.backed_up["plain"] <= rows_of(scene.database)["plain"]


def test_a_table_whose_root_was_cut_off_is_that_of_the_restore_point(tmp_path: Path) -> None:
    """A table that the schema still names was not dropped, though its root page is behind the end of the file."""
    scene = Scene(tmp_path)
    ran(scene.database, "CREATE TABLE last(a)", "INSERT INTO last SELECT hex(zeroblob(400)) FROM item")
    scene.recorded = Recorded(scene.database)
    ran(scene.database, "CREATE VIEW newer AS SELECT 1")
    ((root,),) = asked(scene.database, "SELECT rootpage FROM sqlite_master WHERE name = 'last'")
    assert isinstance(root, int)
    with scene.database.open("r+b") as file:
        file.truncate((root - 1) * 1024)
    scene.repair()
    scene.check()
    assert asked(scene.database, "SELECT count(*) FROM last") == [(150,)]
    assert asked(scene.database, "SELECT count(*) FROM newer") == [(1,)]


def test_a_restore_point_that_may_be_another_databases_gives_no_row_to_a_table_of_others(tmp_path: Path) -> None:
    """Where its contents alone speak for it, a damaged table gets rows only from one that has some of its own."""
    scene = Scene(tmp_path)
    ran(scene.database, "UPDATE plain SET b = -1.0 - rowid, a = 'another ' || a")
    scene.good = scene.database.read_bytes()
    history = History(scene.recorded)
    history.certain = False
    damage_leaf(scene, "plain")
    damaged = scene.database.read_bytes()
    with pytest.raises(RepairRefused, match=r"nothing shows .* plain"):
        scene.repair(history=history)
    assert scene.database.read_bytes() == damaged
    scene.database.write_bytes(scene.good)
    damage_leaf(scene, "strict")
    scene.repair(history=history)
    scene.check()
    assert rows_of(scene.database)["plain"] == {tuple(row) for row in asked_of(scene.good, tmp_path, "plain")}


def test_a_restore_point_most_of_whose_tables_are_others_is_refused(tmp_path: Path) -> None:
    """Tables that every database of an application has alike say nothing of the rest."""
    scene = Scene(tmp_path)
    ran(
        scene.database,
        "UPDATE plain SET a = 'another ' || a",
        "UPDATE item SET body = hex(randomblob(20)), name = 'another ' || name",
        "UPDATE keyed SET value = hex(randomblob(20))",
        "DROP TABLE found",
    )
    scene.good = scene.database.read_bytes()
    damage_leaf(scene, "strict")
    history = History(scene.recorded)
    history.certain = False
    with pytest.raises(RepairRefused, match="nothing shows"):
        scene.repair(history=history)


def asked_of(data: bytes, folder: Path, table: str) -> list[tuple[object, ...]]:
    """Return the rows of a table of a sound database."""
    (folder / "asked.db").write_bytes(data)
    return asked(folder / "asked.db", f"SELECT {SELECTED[table]} FROM {table}")


def test_a_schema_that_cannot_be_followed_is_not_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one of which a part was left out; and no root page counts whose tree cannot be walked."""
    scene = Scene(tmp_path)
    with ClosedFile(scene.database) as file:
        description, own = describe_trees(file.page, file.layout), schema_of(file)
        held = choosing._held(file, own.trees)
        assert choosing._is_sound(file, description, own)
        assert not choosing._is_sound(file, replace(description, whole=False), own)
        monkeypatch.setattr(closed, "MOST_FLAWS", -1)  # one flaw less than none is too many
        assert not choosing._is_sound(file, description, own)
        assert choosing._held(file, own.trees) < held
