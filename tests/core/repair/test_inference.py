"""What is derived of a file: by either backend, within bounds, and nothing where the pages leave a doubt."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseNotFound
from pagewarden.pages.backend import ENVIRONMENT
from pagewarden.repair.derivation import MOST_PAGES, Underivable, derive
from pagewarden.repair.inference import EXPANDED, infer
from pagewarden.repair.inferred import Inference
from pagewarden.runtime import Runtime
from pagewarden.sqlite.infer import PageShape, page_shapes
from tests.core.pages.trees import Database, build


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a database with a pointer map, free pages and reserved bytes, whose header is garbage."""
    made = tmp_path / "app.db"
    data = build(page_size=1024, rows=60, reserved=7, pragmas=("auto_vacuum=INCREMENTAL",)).data
    data[:100] = random.Random(1).randbytes(100)
    data[32:40] = bytes(8)
    made.write_bytes(data)
    return made


@pytest.mark.parametrize("wish", ["require", "off"])
def test_both_backends_derive_the_same(path: Path, monkeypatch: pytest.MonkeyPatch, wish: str) -> None:
    """Page size, reserved bytes, pages, free pages and the pointer map are those that SQLite made."""
    monkeypatch.setenv(ENVIRONMENT, wish)
    sound = build(page_size=1024, rows=60, reserved=7, pragmas=("auto_vacuum=INCREMENTAL",))
    found = infer(str(path))
    assert (found.why, found.page_size, found.reserved, found.pages) == ("", 1024, 7, sound.pages)
    assert found.free == struct.unpack_from(">I", sound.data, 36)[0] > 0
    assert (found.freelist, found.maps, found.cut, found.logged) == (True, (), 0, False)
    assert {"magic", "page size", "largest root page", "text encoding"} <= set(found.fields)


def test_the_page_reader_says_the_same(path: Path, tmp_path: Path) -> None:
    """The answer travels whole; a file that is not there is an error with a name."""
    with Runtime(state=tmp_path / "state") as runtime:
        assert runtime.reader.infer(path) == infer(str(path))
        with pytest.raises(DatabaseNotFound):
            runtime.reader.infer(tmp_path / "none.db")
    full = Inference(why="w", fields=("a", "b"), maps=(2, 3), touched=(1,), newlines=EXPANDED, cut=7)
    assert Inference.from_wire(full.to_wire()) == full and full.differs
    assert not replace(full, fields=(), maps=(), newlines="", cut=0).differs


def test_a_sound_file_needs_nothing(tmp_path: Path) -> None:
    """What SQLite has made agrees with what its pages say."""
    path = tmp_path / "sound.db"
    path.write_bytes(build(page_size=512, rows=60).data)
    assert not infer(str(path)).differs


NO_DATABASES = {
    "nothing": b"",
    "short": b"SQLite format 3\0",
    "zeros": bytes(8192),
    "noise": random.Random(2).randbytes(70_000),
    "text": b"SQLite format 3\0" + b"line\r\n" * 3000,
    "lines": b"SQLite format 3\0" + b"line\n" * 3000,
    "leaves": b"SQLite format 3\0".ljust(100, b"\0") + b"\x0d" * 66_000,
    "interior": b"\0" * 100 + b"\x05\0\0\xff\xff\0\0" + b"\0" * 66_000,
}


@pytest.mark.parametrize("name", NO_DATABASES)
def test_what_is_no_database_is_left_alone(tmp_path: Path, name: str) -> None:
    """There is an answer, it says why, and nothing is to be written."""
    path = tmp_path / "file"
    path.write_bytes(NO_DATABASES[name])
    found = infer(str(path))
    assert found.why and not found.differs


def test_flipped_bytes_never_hang_or_lie(path: Path) -> None:
    """Whatever stands in the first page: an answer, and where there is one, the shape is the only one that holds."""
    chance = random.Random(3)
    data = path.read_bytes()
    answers = set()
    for _ in range(60):
        spoilt = bytearray(data)
        for _ in range(chance.choice((1, 1, 3, 20))):
            spoilt[chance.randrange(100, 1024)] = chance.choice((0, 255, chance.randrange(256)))
        path.write_bytes(spoilt)
        found = infer(str(path))
        answers.add((found.page_size, found.reserved, found.pages))
    assert answers <= {(0, 0, 0), (1024, 7, len(data) // 1024)} and len(answers) == 2


def test_rows_of_the_schema_that_share_their_pages_are_not_put_together(tmp_path: Path) -> None:
    """Rows of many megabytes cost a few bytes each, if all name one chain: its second user ends it."""
    path = tmp_path / "hostile.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        for name in ("v", "w"):
            connection.execute(f"CREATE VIEW {name} AS SELECT '{name * 40_000}'")
    database = Database.read(path)
    leaves = [cell.child for cell in database.parse(1).cells] + [database.parse(1).right]
    ends = [(pgno, database.parse(pgno).cells[0]) for pgno in leaves if pgno]
    assert len(ends) == 2 and all(cell.overflow for _, cell in ends)
    database.put(ends[1][0], ends[1][1].end - 4, struct.pack(">I", ends[0][1].overflow))
    path.write_bytes(database.data)
    assert "sqlite_schema does not hold (twice)" in infer(str(path)).why


def test_more_pages_than_memory_is_taken_for_are_refused(path: Path) -> None:
    """A sparse file of any size costs nothing."""
    os.truncate(path, 1024 * (MOST_PAGES + 1))
    with path.open("rb") as file, pytest.raises(Underivable, match="more than can be gone through"):
        derive(file.fileno())


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("reserved", [0, 8, 32])
def test_page_one_tells_the_shape_of_pages(tmp_path: Path, page_size: int, reserved: int) -> None:
    """With short rows in the schema and with rows that overflow, the right shape is among very few."""
    data = build(page_size=page_size, rows=5, reserved=reserved).data
    shape = PageShape(page_size=page_size, usable=page_size - reserved)
    assert list(page_shapes(bytes(data[:65536]))) == [shape]
    path = tmp_path / "long.db"
    path.write_bytes(data)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"CREATE TABLE long({', '.join(f'column_{i}' for i in range(min(page_size, 1900)))})")
        connection.execute(f"CREATE VIEW v AS SELECT '{'v' * 3 * page_size}'")
    shapes = list(page_shapes(path.read_bytes()[:65536]))
    assert shape in shapes and len(shapes) < 8
    assert infer(str(path)).reserved == reserved


def test_a_header_of_an_old_release_stays_as_it_is(tmp_path: Path) -> None:
    """Releases before 3.7.0 left page count and version number at zero, and SQLite takes the file's size then."""
    path = tmp_path / "old.db"
    data = build(page_size=1024, rows=20).data
    data[28:32] = data[92:96] = data[96:100] = bytes(4)
    path.write_bytes(data)
    with path.open("rb") as file:
        derivation = derive(file.fileno())
        assert derivation.header == data[:100] and not derivation.summary().differs


def test_only_what_differs_moves_the_change_counter(tmp_path: Path) -> None:
    """A header that is as it must be comes out as it went in, whatever its counters say."""
    path = tmp_path / "same.db"
    data = build(page_size=1024, rows=20).data
    path.write_bytes(data)
    with path.open("rb") as file:
        derivation = derive(file.fileno())
    assert derivation.header == data[:100]
    with path.open("rb") as file:
        other = derive(file.fileno(), schema_format=1)
    assert other.header[44:48] == b"\0\0\0\1" and other.header[24:28] != data[24:28]


def test_a_log_that_commits_nothing_is_passed_over(path: Path) -> None:
    """An empty log and one without a header say nothing of the pages."""
    alone = infer(str(path))
    for content in (b"", b"\0" * 5000):
        path.with_name("app.db-wal").write_bytes(content)
        assert infer(str(path)) == alone
