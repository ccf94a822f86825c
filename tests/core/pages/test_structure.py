"""The structure walk over databases that SQLite made: nothing is wrong with any, every page is looked at."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pagewarden.pages import Backend, PageSource, structure
from pagewarden.pages._native import NativeBackend
from pagewarden.pages._twin import TwinBackend
from pagewarden.pages.structure import StructureWalk
from pagewarden.pages.walk import MAX_KEY, USER_SIZE, WalkPlan
from pagewarden.structure import FlawKind, Tree
from pagewarden.testing.injuries import INJURIES
from tests.core.pages.trees import Database, build, kinds

BACKENDS = (NativeBackend(), TwinBackend())


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def using(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    chosen: Backend = request.param
    return chosen


SHAPES = {
    "small pages": {"page_size": 512},
    "pages of 4096": {"page_size": 4096},
    "largest pages": {"page_size": 65536, "rows": 900},
    "utf-16le": {"pragmas": ("encoding='UTF-16le'",)},
    "utf-16be": {"pragmas": ("encoding='UTF-16be'",)},
    "auto_vacuum": {"page_size": 512, "pragmas": ("auto_vacuum=FULL",)},
    "incremental": {"page_size": 1024, "pragmas": ("auto_vacuum=INCREMENTAL",)},
    "reserved bytes": {"reserved": 32},
    "most reserved bytes": {"page_size": 512, "reserved": 32},
    "odd reserved bytes": {"page_size": 1024, "reserved": 7, "pragmas": ("auto_vacuum=INCREMENTAL",)},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sound_database_has_no_flaw(using: Backend, tmp_path: Path, shape: str) -> None:
    """No shape that SQLite makes has a flaw, and each page but the ptrmap ones is looked at once."""
    database = build(**SHAPES[shape])  # type: ignore[arg-type]
    seen = database.walk(using, tmp_path)
    assert (seen.flaws, seen.done, seen.left_out, seen.reached) == ((), True, 0, "")
    maps = len(range(2, database.pages + 1, database.usable // 5 + 1)) if database.data[52:56] != bytes(4) else 0
    assert seen.pages == database.pages - maps


USED = ["utf-16le", "auto_vacuum", "incremental", "odd reserved bytes"]


@pytest.mark.parametrize("shape", USED)
def test_the_users_of_pages_are_what_sqlite_itself_has_noted(using: Backend, tmp_path: Path, shape: str) -> None:
    """Each page's user is its ptrmap entry, freelist aside; no ptrmap page is needed for it, and none is judged."""
    database = build(**SHAPES[shape])  # type: ignore[arg-type]
    each = database.usable // 5 + 1
    noted: dict[int, bytes] = {}
    if database.data[52:56] != bytes(4):
        for place in range(2, database.pages + 1, each):
            entries = database.page(place)
            noted |= {place + i: entries[5 * (i - 1) : 5 * i] for i in range(1, each)}
            database.put(place, 0, b"\xff" * database.page_size)
    plan = replace(database.plan(), users=True)
    with database.source(tmp_path) as source:
        walk = StructureWalk(plan, using=using)
        step = walk.step(source, 60.0)
    assert (step.flaws, step.done) == ((), True)
    users = [bytes(walk.users[i : i + USER_SIZE]) for i in range(0, len(walk.users), USER_SIZE)]
    assert len(users) == database.pages
    for pgno, entry in noted.items():
        assert pgno > database.pages or users[pgno - 1] in (entry, bytes(5)), pgno
        assert pgno > database.pages or (entry[0] == 2) == (users[pgno - 1] == bytes(5)), pgno
    unused = {pgno for first, count in walk.unused() for pgno in range(first, first + count)}
    maps = set(range(2, database.pages + 1, each)) if noted else set()
    assert {pgno for pgno, user in enumerate(users, 1) if user == bytes(5)} == unused | maps


@pytest.mark.parametrize("setting", ["FULL", "NONE"])
def test_no_state_that_a_writer_leaves_has_a_flaw(using: Backend, tmp_path: Path, setting: str) -> None:
    """After any of many random transactions, vacuums included, nothing is wrong: pages split, merge, move and go."""
    chance = random.Random(5)
    path = tmp_path / "made.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=512")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA auto_vacuum={setting}")
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)")
        connection.execute("CREATE INDEX i ON t(a COLLATE RTRIM, b DESC)")
        connection.execute("CREATE TABLE empty(x UNIQUE)")
        for _ in range(12):
            connection.execute("BEGIN")
            for _ in range(chance.randrange(150)):
                key, size = chance.randrange(-500, 500), chance.choice((1, 20, 90, 700))
                if chance.random() < 0.4:
                    connection.execute("DELETE FROM t WHERE id BETWEEN ? AND ?", (key, key + chance.randrange(40)))
                else:
                    row = (key, "k" * size + " " * chance.randrange(3), chance.randrange(9))
                    connection.execute("REPLACE INTO t VALUES(?,?,?)", row)
            connection.execute("COMMIT" if chance.random() < 0.8 else "ROLLBACK")
            if chance.random() < 0.2:
                connection.execute("VACUUM")
            assert Database.read(path).flaws(using, tmp_path) == ()


def test_an_empty_database_and_empty_tables_have_no_flaw(using: Backend, tmp_path: Path) -> None:
    """A root without cells is a table without rows; a root on page 1 may keep one child and no cell."""
    path = tmp_path / "made.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=512")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE t(x)")
        connection.execute("DROP TABLE t")
        assert Database.read(path).flaws(using, tmp_path) == ()
        # A schema that once had two pages and now has one cell too long for page 1, which is 100 bytes shorter.
        for name in range(15):
            connection.execute(f"CREATE TABLE t{name}(x)")
        for name in range(14, 0, -1):
            connection.execute(f"DROP TABLE t{name}")
            assert Database.read(path).flaws(using, tmp_path) == ()
    nothing = Database(data=bytearray(), page_size=512)
    with nothing.source(tmp_path) as source:
        plan = Database.read(path).plan()
        empty = type(plan)(page_size=512, usable=512, pages=0, encoding=1, pointer_map=False, trees=())
        assert StructureWalk(empty, using=using).step(source, 0.0).done


def test_the_log_is_read_where_it_holds_a_page(using: Backend, tmp_path: Path) -> None:
    """A commit whose pages stand in the WAL is walked as one in the file is; its file may be of an older one."""
    database = build()
    chance = random.Random(3)
    logged = sorted(chance.sample(range(1, database.pages + 1), database.pages // 2))
    frames = b"".join(pgno.to_bytes(4, "little") + i.to_bytes(4, "little") for i, pgno in enumerate(logged, 1))
    (tmp_path / "log").write_bytes(bytes(32) + b"".join(bytes(24) + database.page(pgno) for pgno in logged))
    plan = database.plan()
    for pgno in logged:
        database.put(pgno, 0, chance.randbytes(database.page_size))
    with database.source(tmp_path) as source:
        log = os.open(tmp_path / "log", os.O_RDONLY)
        try:
            whole = PageSource(
                database=source.database, wal=log, frames=frames, page_size=database.page_size, pages=database.pages,
                file_size=source.file_size,
            )  # fmt: skip
            assert StructureWalk(plan, threads=1, using=using).step(whole, 60.0).flaws == ()
        finally:
            os.close(log)


@contextmanager
def refusing(database: Database, refused: set[int], folder: Path) -> Iterator[PageSource]:
    """Open a database of which the disk refuses some pages: reading them is EIO."""
    logged = [pgno for pgno in range(1, database.pages + 1) if pgno not in refused]
    frames = b"".join(pgno.to_bytes(4, "little") + pgno.to_bytes(4, "little") for pgno in logged)
    (folder / "log").write_bytes(
        bytes(32) + b"".join(bytes(24) + database.page(pgno) for pgno in range(1, database.pages + 1))
    )
    log = os.open(folder / "log", os.O_RDONLY)
    memory = os.open("/proc/self/mem", os.O_RDONLY)  # nothing is mapped at low addresses
    try:
        yield PageSource(
            database=memory, wal=log, frames=frames, page_size=database.page_size, pages=database.pages,
            file_size=len(database.data),
        )  # fmt: skip
    finally:
        os.close(memory)
        os.close(log)


def test_a_page_that_the_disk_refuses_is_a_flaw_and_not_the_end(using: Backend, tmp_path: Path) -> None:
    """Where reading a page gives EIO it is named, and all others are looked at."""
    database = build()
    refused = {database.leaf("a", 1), database.leaf("b", 1), database.number(1, 32)}
    with refusing(database, refused, tmp_path) as source:
        flaws = StructureWalk(database.plan(), threads=1, using=using).step(source, 60.0).flaws
    assert {flaw.pgno for flaw in flaws if flaw.kind is FlawKind.UNREADABLE} == refused
    assert kinds(flaws) == {FlawKind.UNREADABLE, FlawKind.UNUSED}, flaws
    assert {flaw.tree for flaw in flaws if flaw.kind is FlawKind.UNREADABLE} == {
        database.tree("a"), database.tree("b"), None,
    }  # fmt: skip


@pytest.mark.parametrize("shape", ["plain", "maps"])
def test_whatever_the_disk_refuses_the_walk_ends(using: Backend, tmp_path: Path, shape: str) -> None:
    """Pages of any kind may be refused, page 1, overflow and ptrmap pages, too: each that has a place is named."""
    chance = random.Random(2)
    database = build(page_size=512, rows=60, pragmas=("auto_vacuum=FULL",) if shape == "maps" else ())
    for refused in ({1}, {2}, {3}, *(set(chance.sample(range(1, database.pages + 1), 40)) for _ in range(6))):
        with refusing(database, refused, tmp_path) as source:
            steps = [
                StructureWalk(database.plan(), threads=1, using=each).step(source, 60.0)
                for each in (using, BACKENDS[0])
            ]
        assert steps[0] == steps[1]
        assert steps[0].done
        named = {flaw.pgno for flaw in steps[0].flaws if flaw.kind is FlawKind.UNREADABLE}
        assert named <= refused
        assert named or refused == {2}, steps[0]  # a ptrmap page judges nothing then


def test_the_lock_byte_page_is_no_page(using: Backend, tmp_path: Path) -> None:
    """H12: the page at 1 GiB is not missed; a pointer to it is a flaw."""
    database = build(page_size=65536, rows=5)
    lock, pages, trunk = 16385, 16390, database.pages + 1
    leaves = [pgno for pgno in range(trunk + 2, pages + 1) if pgno != lock]
    split = 16000
    old, count = database.number(1, 32), database.number(1, 36)
    database.put(1, 28, pages.to_bytes(4, "big") + trunk.to_bytes(4, "big"))
    database.put(1, 36, (count + len(leaves) + 2).to_bytes(4, "big"))
    database.data += bytes(2 * 65536)
    for number, following, some in ((trunk, trunk + 1, leaves[:split]), (trunk + 1, old, leaves[split:])):
        database.put(number, 0, b"".join(n.to_bytes(4, "big") for n in (following, len(some), *some)))
    plan = database.plan()
    plan = type(plan)(
        page_size=plan.page_size, usable=plan.usable, pages=pages, encoding=1, pointer_map=False, trees=plan.trees
    )
    with database.source(tmp_path) as source:
        os.truncate(tmp_path / "walked.db", pages * 65536)
        whole = PageSource(database=source.database, page_size=65536, pages=pages, file_size=pages * 65536)
        assert StructureWalk(plan, using=using).step(whole, 60.0).flaws == ()
    with closing(sqlite3.connect(tmp_path / "walked.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.put(trunk, 8, lock.to_bytes(4, "big"))
    with database.source(tmp_path) as source:
        whole = PageSource(database=source.database, page_size=65536, pages=pages, file_size=len(database.data))
        flaws = StructureWalk(plan, using=using).step(whole, 60.0).flaws
    assert [(flaw.kind, flaw.pgno, flaw.seen) for flaw in flaws] == [
        (FlawKind.PAGE_NUMBER, trunk, lock),
        (FlawKind.UNUSED, leaves[0], 1),
    ]


def test_keys_too_long_to_be_put_together_are_counted(using: Backend, tmp_path: Path) -> None:
    """A key of more than 64 KiB has no order that is judged; that is counted and no flaw; a shorter one is judged."""
    path = tmp_path / "made.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=4096")
        connection.execute("CREATE TABLE t(k BLOB PRIMARY KEY, x) WITHOUT ROWID")
        sizes = (10, MAX_KEY - 7, MAX_KEY, 3 * MAX_KEY)
        connection.executemany("INSERT INTO t VALUES(?, ?)", [(b"k" * size, b"v" * 9000) for size in sizes])
    seen = Database.read(path).walk(using, tmp_path)
    assert (seen.flaws, seen.unordered) == ((), 2)


def test_flaws_are_bounded(using: Backend, tmp_path: Path) -> None:
    """Of more flaws than fit in one visit the others are counted, and so are the runs of unused pages."""
    database = build(page_size=4096)
    trunk = database.number(1, 32)
    for i in range(database.number(trunk, 4)):
        database.put(trunk, 8 + 4 * i, (2**32 - 1 - i).to_bytes(4, "big"))
    seen = database.walk(using, tmp_path)
    count = database.number(trunk, 4)
    assert len([flaw for flaw in seen.flaws if flaw.kind is FlawKind.PAGE_NUMBER]) == min(100, count)
    assert seen.left_out == max(0, count - 100)


def test_all_flaws_of_a_walk_are_bounded(using: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many flaws, and so many runs of unused pages, the others are counted and not kept."""
    database = build(page_size=512)
    for pgno in range(2, database.pages, 2):
        database.put(pgno, 0, b"\x07")
    whole = database.walk(using, tmp_path)
    unused = sum(flaw.kind is FlawKind.UNUSED for flaw in whole.flaws)
    assert unused > 5
    monkeypatch.setattr(structure, "MOST_UNUSED", 2)
    fewer = database.walk(using, tmp_path)
    assert (len(fewer.flaws), fewer.left_out) == (len(whole.flaws) - unused + 2, whole.left_out + unused - 2)
    monkeypatch.setattr(structure, "MOST_FLAWS", 5)
    few = database.walk(using, tmp_path)
    assert few.flaws == whole.flaws[:5]
    assert few.left_out == whole.left_out + len(whole.flaws) - 5


NONSENSE: list[dict[str, Any]] = [
    {"page_size": 1000, "usable": 1000}, {"usable": 479}, {"usable": 1025}, {"encoding": 0}, {"encoding": 4},
    {"pages": -1}, {"pages": 2**32}, {"trees": (Tree(name="t", root=2**32, index=True),)},
    {"trees": (Tree(name="t", root=-1, index=True),)}, {"trees": (Tree(name="t", root=2, index=True, keys=1),)},
]  # fmt: skip


@pytest.mark.parametrize("nonsense", NONSENSE, ids=str)
def test_plans_that_no_database_has_are_refused(nonsense: dict[str, Any]) -> None:
    """A page size, a size, an encoding or a tree that cannot be is a ValueError, before anything is read."""
    sound = {"page_size": 1024, "usable": 1024, "pages": 5, "encoding": 1, "pointer_map": False, "trees": ()}
    assert WalkPlan(**sound)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no |cannot"):
        WalkPlan(**{**sound, **nonsense})


def test_a_source_of_another_commit_is_refused(using: Backend, tmp_path: Path) -> None:
    """All sources of one walk show the same commit: one with fewer pages is a ValueError."""
    database = build(rows=5)
    with database.source(tmp_path) as source:
        shorter = PageSource(
            database=source.database, page_size=source.page_size, pages=source.pages - 1, file_size=source.file_size
        )
        with pytest.raises(ValueError, match="over pages of 1024"):
            StructureWalk(database.plan(), using=using).step(shorter, 1.0)


STRUCTURAL = [
    name
    for name in INJURIES
    if name not in ("truncated-tail", "header-garbage", "lost-write", "damaged-wal-frame", "foreign-wal", "schema-page")
]
# What quick_check says of values, which is another checker's to say.
OF_VALUES = ("NULL value in", "CHECK constraint", "non-INT", "non-REAL", "non-TEXT", "NUMERIC value", "TEXT value")


@pytest.mark.parametrize("name", STRUCTURAL)
def test_what_sqlite_finds_in_the_structure_is_found(tmp_path: Path, name: str) -> None:
    """For every named injury: whatever quick_check says of pages, cells, order or freelist, the walk sees a flaw."""
    sound = build(pragmas=("auto_vacuum=INCREMENTAL",) if name == "torn-page" else ())
    found = judged = 0
    for seed in range(12):
        path = tmp_path / f"{seed}.db"
        path.write_bytes(sound.data)
        INJURIES[name].apply(path, seed)
        injured = Database(
            data=bytearray(path.read_bytes().ljust(len(sound.data), b"\0")[: len(sound.data)]),
            page_size=sound.page_size,
            trees=sound.trees,
        )
        path.write_bytes(injured.data)
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
            try:
                messages = [row[0] for row in connection.execute("PRAGMA quick_check(10000)")]
            except sqlite3.DatabaseError as error:
                messages = [str(error)]
        structural = [line for line in messages if line != "ok" and not line.startswith(OF_VALUES)]
        flaws = injured.flaws(NativeBackend(), tmp_path)
        assert flaws or not structural, (name, seed, structural)
        judged += bool(structural)
        found += bool(flaws)
    assert found >= judged
