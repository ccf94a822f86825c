"""Damage of the structure first, then what rows say of other rows: a repair mends both, and looks at rows once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.repair.request import RepairRequest
from pagewarden.repair.run import run_repair
from pagewarden.runtime import Runtime
from pagewarden.values import Verdict

RELATIONAL = {"check-indexes", "check-foreign-keys"}


def make(path: Path, *, zeroed: bool) -> list[tuple[object, ...]]:
    """Make a database with an index that lacks entries and, with `zeroed`, one that lost a page. Returns the rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT); CREATE INDEX ia ON t(a)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES(?, ?, ?)", ((n, f"a{n:05}", f"b{n:05}") for n in range(2000)))
        connection.execute("COMMIT")
        connection.execute("CREATE INDEX ib ON t(b)")
        ((schema,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'ib'")
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'ib'")
        # While the schema does not name it, rows are written that it does not hear of.
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'ib'")
        connection.execute("PRAGMA writable_schema=RESET")
        connection.executemany(
            "INSERT INTO t VALUES(?, ?, ?)", ((n, f"a{n:05}", f"b{n:05}") for n in range(2000, 2050))
        )
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("INSERT INTO sqlite_schema VALUES('index', 'ib', 't', ?, ?)", (root, schema))
        connection.execute("PRAGMA writable_schema=RESET")
        rows = connection.execute("SELECT * FROM t NOT INDEXED ORDER BY id").fetchall()
        ((other,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'ia'")
    if zeroed:
        with path.open("r+b") as file:
            file.seek((other - 1) * 4096 + 8)
            leaf = int.from_bytes(file.read(4), "big")
            file.seek((leaf - 1) * 4096)
            file.write(bytes(4096))
    return rows


@pytest.mark.parametrize("zeroed", [True, False])
def test_both_are_mended(tmp_path: Path, runtime: Runtime, zeroed: bool) -> None:
    """The lost page hides nothing: what the other index lacks is found on the copy, and mended, too."""
    path = tmp_path / "app.db"
    rows = make(path, zeroed=zeroed)
    planned = run_repair(RepairRequest(database=str(path)), runtime)
    assert planned.check is not None
    assert {each.name for each in planned.check.checkers} >= RELATIONAL
    report = run_repair(RepairRequest(database=str(path), apply=True), runtime)
    assert (report.applied, report.verdict_after, report.why) == (True, Verdict.SOUND, "")
    assert report.check is not None
    called = {each.name for each in report.check.checkers} & RELATIONAL
    assert called == (set() if zeroed else RELATIONAL)
    mended = " ".join(step for each in report.plan for step in each.steps)
    assert ("index ia" in mended, "index ib" in mended) == (zeroed, True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT * FROM t NOT INDEXED ORDER BY id").fetchall() == rows
        assert connection.execute("SELECT count(*) FROM t INDEXED BY ib WHERE b >= ''").fetchone() == (2050,)
