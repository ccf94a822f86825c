from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.sqlite import describe as describing
from pagewarden.sqlite.describe import Description, describe_trees
from pagewarden.sqlite.schema import Layout, SchemaEntry
from pagewarden.structure import Collation, Column, StrictType, Tree

PAGE = 4096


def describe(path: Path, *, seconds: float = 30.0, clock: Callable[[], float] = lambda: 0.0) -> Description:
    """Describe a closed database."""
    data = path.read_bytes()
    layout = Layout.of(data[:PAGE], page_size=PAGE, pages=len(data) // PAGE)

    def read(pgno: int) -> bytes:
        assert 1 <= pgno <= layout.pages
        return data[(pgno - 1) * PAGE : pgno * PAGE]

    return describe_trees(read, layout, seconds=seconds, clock=clock)


def build(path: Path, *statements: str, encoding: str = "UTF-8") -> Path:
    """Make a database of these statements; the application has a function and a collation of its own."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("ours", 1, lambda value: value, deterministic=True)
        connection.create_collation("theirs", lambda a, b: (a > b) - (a < b))
        connection.execute(f"PRAGMA encoding='{encoding}'")
        for statement in statements:
            connection.execute(statement)
    return path


def forge(path: Path, *rows: tuple[str, str, str, int, str | None]) -> Path:
    """Write rows of a hostile hand into the schema of a database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.executemany("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", rows)
    return path


def one(path: Path, name: str) -> Tree:
    """Return the tree of that name."""
    return next(tree for tree in describe(path).trees if tree.name == name)


def names(tree: Tree) -> list[str]:
    """Return the columns of a tree."""
    return [column.name for column in tree.columns]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_every_tree_is_described_as_its_records_are_stored(tmp_path: Path, encoding: str) -> None:
    """Tables, indexes, WITHOUT ROWID: order of columns, collations, DESC, keys, rowid, NOT NULL, types of STRICT."""
    path = build(
        tmp_path / "a.db",
        "CREATE TABLE t(a TEXT NOT NULL COLLATE NOCASE, v AS (a), id INTEGER PRIMARY KEY, s AS (a) STORED NOT NULL)",
        "CREATE TABLE w(x, y TEXT COLLATE RTRIM, z NOT NULL, v AS (x), PRIMARY KEY(z DESC, y)) WITHOUT ROWID",
        "CREATE TABLE s(i INT, g INTEGER NOT NULL, r REAL, t TEXT, b BLOB, a ANY) STRICT",
        "CREATE TABLE d(k INTEGER PRIMARY KEY DESC)",
        "CREATE INDEX ta ON t(a DESC, s COLLATE BINARY)",
        "CREATE INDEX wx ON w(x, y)",
        "CREATE UNIQUE INDEX te ON t(abs(id), a) WHERE a > 'm'",
        encoding=encoding,
    )
    trees = {tree.name: tree for tree in describe(path).trees}
    assert names(trees["sqlite_schema"]) == ["type", "name", "tbl_name", "rootpage", "sql"]
    assert trees["t"] == Tree(
        name="t",
        root=trees["t"].root,
        index=False,
        columns=(Column(name="a", not_null=True), Column(name="id", rowid=True), Column(name="s", not_null=True)),
    )
    assert trees["w"].columns == (
        Column(name="z", not_null=True, descending=True),
        Column(name="y", not_null=True, collation=Collation.RTRIM),
        Column(name="x"),
    )
    assert (trees["w"].index, trees["w"].keys) == (True, 2)
    assert [column.strict for column in trees["s"].columns] == [
        StrictType.INTEGER, StrictType.INTEGER, StrictType.REAL, StrictType.TEXT, StrictType.BLOB, StrictType.ANY
    ]  # fmt: skip
    assert [column.rowid for column in trees["d"].columns] == [False]
    assert trees["ta"].columns == (
        Column(name="a", collation=Collation.NOCASE, descending=True),
        Column(name="s"),
        Column(name="rowid"),
    )
    assert trees["ta"].keys == 3
    assert names(trees["wx"]) == ["x", "y", "z"]
    assert (trees["wx"].keys, trees["wx"].columns[2].descending) == (3, True)
    assert names(trees["te"]) == ["expression", "a", "rowid"]
    assert names(trees["sqlite_autoindex_d_1"]) == ["k", "rowid"]
    assert describe(path).unknown == ()


def test_roots_are_those_that_the_schema_names(tmp_path: Path) -> None:
    """Views, triggers and virtual tables have none; everything else has the one in its row, be it a page or not."""
    path = build(
        tmp_path / "a.db",
        "CREATE TABLE t(a)",
        "CREATE INDEX i ON t(a)",
        "CREATE VIEW v AS SELECT a FROM t",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
    )
    with closing(sqlite3.connect(path)) as connection:
        expected = connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0").fetchall()
    assert [(tree.name, tree.root) for tree in describe(path).trees] == [("sqlite_schema", 1), *expected]
    forge(path, ("table", "far", "far", 7000, "CREATE TABLE far(a)"), ("table", "no", "no", -5, "CREATE TABLE no(a)"))
    assert (one(path, "far").root, one(path, "no").root) == (7000, 0xFFFFFFFF)
    assert names(one(path, "far")) == ["a"]


def test_what_only_the_application_has_is_no_obstacle(tmp_path: Path) -> None:
    """Functions in CHECKs, generated columns and indexes, and collations, which are unknown."""
    path = build(
        tmp_path / "a.db",
        "CREATE TABLE t(a COLLATE theirs CHECK(ours(a) > 0), b AS (ours(a)) STORED)",
        "CREATE INDEX i ON t(b, ours(a), a)",
    )
    assert describe(path).unknown == ()
    assert names(one(path, "t")) == ["a", "b"]
    assert [column.collation for column in one(path, "i").columns] == [
        Collation.BINARY, Collation.BINARY, Collation.UNKNOWN, Collation.BINARY
    ]  # fmt: skip


def test_functions_that_some_sqlite_does_not_trust_in_a_schema_are_no_obstacle(tmp_path: Path) -> None:
    """JSON in indexes, CHECKs and generated columns, which SQLite 3.40 calls unsafe (docs/decisions/0007)."""
    path = build(
        tmp_path / "a.db",
        "CREATE TABLE t(a, b, c AS (json_extract(b, '$.q')) VIRTUAL, CHECK(json_valid(b)))",
        "CREATE INDEX arrow ON t(b->>'$.a')",
        "CREATE INDEX generated ON t(c)",
        "CREATE INDEX partial ON t(a) WHERE json_extract(b, '$.z') > 1",
    )
    assert describe(path).unknown == ()
    assert names(one(path, "t")) == ["a", "b"]
    assert names(one(path, "arrow")) == ["expression", "rowid"]
    assert names(one(path, "generated")) == ["c", "rowid"]
    assert names(one(path, "partial")) == ["a", "rowid"]


def test_nothing_of_a_hostile_schema_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H29: its functions are parsed and not called; where it is loaded, only questions that read no table are taken."""
    called: list[object] = []
    connect = sqlite3.connect

    def with_function(path: str, *, isolation_level: None) -> sqlite3.Connection:
        connection = connect(path, isolation_level=isolation_level)
        connection.create_function("ours", 1, called.append, deterministic=True)
        return connection

    columns = "a DEFAULT (ours(1)), b AS (ours(a)) STORED, c, CHECK(ours(a)), CHECK(load_extension('x'))"
    path = forge(
        build(tmp_path / "a.db"),
        ("table", "t", "t", 2, f"CREATE TABLE t({columns})"),
        ("index", "i", "t", 3, "CREATE INDEX i ON t(ours(2), randomblob(1)) WHERE ours(3)"),
        ("index", "j", "t", 4, "CREATE INDEX j ON t(ours(2)) WHERE ours(3)"),
    )
    with monkeypatch.context() as patched:
        patched.setattr("sqlite3.connect", with_function)
        assert names(one(path, "t")) == ["a", "b", "c"]
        assert names(one(path, "j")) == ["expression", "rowid"]
    assert called == []
    entry = SchemaEntry(kind="table", name="t", table="t", root=2, stated=2, sql="CREATE TABLE t(a)")
    with closing(connect(":memory:", isolation_level=None)) as connection:
        describing._load(connection, [entry])
        assert connection.execute("PRAGMA table_xinfo(t)").fetchall()
        for other in ("SELECT * FROM t", "SELECT ours(1)", "INSERT INTO t VALUES (1)", "ATTACH 'b' AS b", "PRAGMA x=1"):
            with pytest.raises(sqlite3.DatabaseError, match=r"not authorized|no such function"):
                connection.execute(other)


def test_the_oldest_schema_formats_know_no_descending_order(tmp_path: Path) -> None:
    """Below format 4 SQLite ignores DESC in an index, and so does the description."""
    path = build(tmp_path / "a.db", "CREATE TABLE t(a)", "CREATE INDEX i ON t(a DESC)")
    assert one(path, "i").columns[0].descending
    data = bytearray(path.read_bytes())
    data[44:48] = struct.pack(">I", 1)
    path.write_bytes(data)
    assert not one(path, "i").columns[0].descending


def test_entries_that_cannot_be_parsed_are_told_and_keep_their_roots(tmp_path: Path) -> None:
    """H29: nonsense, a name that is taken, a table that is another's; each alone, and the others are described."""
    path = build(tmp_path / "a.db", "CREATE TABLE t(a)", "CREATE TABLE w(k PRIMARY KEY) WITHOUT ROWID")
    forge(
        path,
        ("table", "bad", "bad", 2, "CREATE TABLE bad(a,,b)"),
        ("table", "made", "made", 2, "CREATE TABLE made AS SELECT load_extension('x')"),
        ("table", "run", "run", 2, "ATTACH 'x.db' AS y"),
        ("table", "virtual", "virtual", 2, "CREATE VIRTUAL TABLE virtual USING fts5(a)"),
        ("table", "T", "T", 2, "CREATE TABLE T(b)"),
        ("index", "lost", "nothing", 3, "CREATE INDEX lost ON nothing(a)"),
        ("index", "sqlite_autoindex_t_9", "t", 3, None),
        ("table", "w2", "w2", one(path, "w").root, "CREATE TABLE w2(k PRIMARY KEY,) WITHOUT ROWID"),
    )
    description = describe(path)
    assert description.unknown == ("bad", "made", "run", "virtual", "T", "lost", "sqlite_autoindex_t_9", "w2")
    assert [tree.columns for tree in description.trees if tree.name in description.unknown] == [()] * 8
    assert names(one(path, "t")) == ["a"]
    # A table WITHOUT ROWID is kept as an index is: its root page shows that, where its statement does not.
    assert [one(path, name).index for name in ("bad", "lost", "w2")] == [False, True, True]
    assert not (tmp_path / "x.db").exists()


def test_a_statement_that_is_too_long_hides_no_tree(tmp_path: Path) -> None:
    """Beyond a mebibyte it is not read, but the root page before it is."""
    comment = "x" * (1 << 20)
    path = forge(
        build(tmp_path / "a.db", "CREATE TABLE t(a)"), ("table", "u", "u", 2, f"CREATE TABLE u(a) /*{comment}*/")
    )
    assert describe(path).unknown == ("u",)
    assert one(path, "u").root == 2


def test_a_name_that_is_too_long_is_no_whole_schema(tmp_path: Path) -> None:
    """Its tree is not known, so that nobody may say that pages are used by none."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {'n' * 600_000}(a)")
        connection.execute("CREATE TABLE short(a)")
    description = describe(path)
    assert ([tree.name for tree in description.trees[1:]], description.whole) == (["short"], False)


def test_names_may_be_anything(tmp_path: Path) -> None:
    """Quotes, case, letters beyond ASCII, names of SQLite's own functions and pragmas."""
    odd = ['a "quoted" one', "İstanbul", "pragma_table_list", "x'; DROP TABLE t; --", "table", "\N{GRINNING FACE}"]
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for number, name in enumerate(odd):
            quoted = '"' + name.replace('"', '""') + '"'
            connection.execute(f"CREATE TABLE {quoted}(c{number}, UNIQUE(c{number} COLLATE NOCASE))")
    trees = {tree.name: tree for tree in describe(path).trees}
    for number, name in enumerate(odd):
        assert names(trees[name]) == [f"c{number}"]
        (index,) = (tree for tree in trees.values() if tree.name == f"sqlite_autoindex_{name}_1")
        assert index.columns[0].collation is Collation.NOCASE


def test_time_and_number_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not parsed in time, or would have too many columns, is told as unknown; too many trees as not whole."""
    path = build(tmp_path / "a.db", *(f"CREATE TABLE t{number}(a, b, c)" for number in range(20)))
    ticks = iter(range(100))
    assert len(describe(path, seconds=0.5, clock=lambda: float(next(ticks))).unknown) == 20
    monkeypatch.setattr("pagewarden.sqlite.describe._AT_ONCE", 100)
    monkeypatch.setattr("pagewarden.sqlite.describe.MAX_COLUMNS", 30)
    assert 0 < len(describe(path).unknown) < 20
    monkeypatch.setattr("pagewarden.sqlite.describe.MAX_TREES", 7)
    description = describe(path)
    assert (len(description.trees), description.whole) == (7, False)
