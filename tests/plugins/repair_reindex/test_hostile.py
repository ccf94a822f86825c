from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import RepairRefused
from pagewarden.sqlite.names import quote
from pagewarden.testing.benches import ClosedCase
from pagewarden.values import Finding, Severity
from tests.plugins.repair_reindex.mending import (
    all_rows,
    change,
    findings,
    indexes_of,
    integrity,
    mend,
    pages_of,
    repairers,
)
from tests.plugins.repair_reindex.test_repairer import without_entries, zeroed

NAMES = (
    'a"b', "it's", "semi; DROP TABLE t; --", "select", "[x]", "`y`", " ", "x\ny", "ünïcödé", "main", "temp", "NOCASE",
    "a.b", "row", "place", "i0", "pagewarden_doomed",
)  # fmt: skip


@pytest.mark.parametrize("part", [NAMES[:9], NAMES[9:]])
def test_names_are_only_names(part: tuple[str, ...], tmp_path: Path) -> None:
    """H29: quotes, semicolons, reserved words, names of SQLite's own: nothing of them is ever run."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=512")
        connection.execute("BEGIN")
        for name in part:
            table = quote(f"{name} t" if name != "row" else name)
            connection.execute(f"CREATE TABLE {table}({quote(name)}, b)")
            connection.execute(f"CREATE UNIQUE INDEX {quote(name + ' i')} ON {table}({quote(name)})")
            connection.executemany(f"INSERT INTO {table} VALUES(?, 1)", [(f"key {number}",) for number in range(60)])
        connection.execute("COMMIT")
    for name in part:
        table = f"{name} t" if name != "row" else name
        change(path, pages_of(path, "index", name=f"{name} i")[-1], zeroed)
        without_entries(path, quote(table), f"{name} i", [("key 7", 2)])
    bench, steps = mend(path, tmp_path / "scratch", moving=True)
    assert {*indexes_of(steps[0])} == {f"{name} i" for name in part}
    assert (integrity(path), findings(path)) == ([], ())
    assert [(len(rows), rows[0][-2:]) for _, _, rows, _ in bench.cut_rows] == [(1, ("key 7", 2))] * len(part)
    assert {len(rows) for rows in all_rows(path).values()} == {60}


@pytest.mark.parametrize("length", [300_000, 1_000_000])
def test_a_name_of_a_megabyte(length: int, tmp_path: Path) -> None:
    """H29: names have no bound. Where one is longer than what is read of a schema nobody knows what is free."""
    path = tmp_path / "app.db"
    name = "n" * length
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {name}(a UNIQUE, b)")
        connection.execute("CREATE TABLE short(a UNIQUE, b)")
        for table in (name, "short"):
            rows = [(number, "b" * 50) for number in range(200)]
            connection.executemany(f"INSERT INTO {table} VALUES(?, ?)", rows)
        connection.commit()
    assert findings(path) == ()
    before = all_rows(path)
    broken = ["short", *([name] if length < 500_000 else [])]
    for table in broken:
        change(path, pages_of(path, "index", name=f"sqlite_autoindex_{table}_1")[-1], zeroed, 4096)
    short = "sqlite_autoindex_short_1"
    found = [Finding(kind="bad-page", severity=Severity.DAMAGE, object=short, message="no page of its kind")]
    if length > 500_000:
        with pytest.raises(RepairRefused, match="schema cannot be read"):
            mend(path, tmp_path / "scratch", found=found)
    else:
        _, (step,) = mend(path, tmp_path / "scratch", found=found)
        assert len(indexes_of(step)) == 2
        assert (integrity(path), findings(path)) == ([], ())
    assert all_rows(path) == before


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX i ON t(a) WHERE a IN (SELECT 1)",
        "CREATE INDEX i ON t(a); DROP TABLE t",
        "CREATE TABLE i AS SELECT * FROM t",
        "CREATE INDEX i ON gone(a)",
        "nonsense",
        "",
    ],
)
def test_a_schema_that_says_what_is_none(sql: str, tmp_path: Path) -> None:
    """H29: whatever stands where the statement of an index should: refused, or nothing to do; the rows stay."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t(a)")
        connection.execute("CREATE INDEX i ON t(a)")
        connection.executemany("INSERT INTO t VALUES(?)", [(number,) for number in range(1000)])
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'i'", (sql,))
        connection.commit()
    before = path.read_bytes()
    found = Finding(kind="bad-page", severity=Severity.DAMAGE, object="i", message="no page of its kind")
    for moving in (False, True):
        try:
            mend(path, tmp_path / "scratch", moving=moving, found=(found,))
        except Exception as error:  # noqa: BLE001 - whatever says that it cannot be
            assert type(error).__name__ == "RepairRefused", error
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA writable_schema=ON")
            assert connection.execute("SELECT sum(a) FROM t NOT INDEXED").fetchone() == (499500,)
        path.write_bytes(before)


def test_many_findings_cost_no_more_than_they_are(tmp_path: Path) -> None:
    """H29: a thousand findings about a thousand indexes are planned for in a moment."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute(f"CREATE TABLE t({', '.join(f'c{number}' for number in range(1000))})")
        for number in range(1000):
            connection.execute(f"CREATE INDEX i{number} ON t(c{number})")
        connection.execute("COMMIT")
    found = [
        Finding(kind="index-mismatch", severity=Severity.DAMAGE, object=f"i{number}", message="no entry")
        for number in range(1000)
    ]
    (step,) = repairers()[0].plan(ClosedCase(path, found))
    assert (len(indexes_of(step)), step.mends, len(step.text) < 1000) == (1000, tuple(range(1000)), True)
