"""H28: an index may remember rows that its table has lost. Then it is the table that is damaged, and not the index."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.contracts import Loss
from pagewarden.testing.benches import ClosedCase
from tests.plugins.repair_reindex.mending import all_rows, findings, integrity, mend, pages_of, repairers

PAGE = 512


def build(path: Path, *statements: str) -> Path:
    """Make a database of 200 rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={PAGE}")
        for statement in statements:
            connection.execute(statement)
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t(k, x) VALUES(?, ?)", [(f"key {n:04}", "x" * 5) for n in range(200)])
        connection.execute("COMMIT")
    return path


def lost_write(path: Path, *changes: str, table: bool = True) -> int:
    """Change rows, and let the disk forget what was written to the leaves of t, or of tk; return how many pages."""
    old = path.read_bytes()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for change in changes:
            connection.execute(change)
    new = path.read_bytes()
    forgotten = 0
    for pgno in pages_of(path, "table", name="t") if table else pages_of(path, "index", name="tk"):
        page = slice((pgno - 1) * PAGE, pgno * PAGE)
        if old[page] != new[page] and old[page][:1] == new[page][:1] and old[page][:1] in (b"\x0a", b"\x0d"):
            new = new[: page.start] + old[page] + new[page.stop :]
            forgotten += 1
    path.write_bytes(new)
    return forgotten


ONE = ("CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT COLLATE NOCASE, x)", "CREATE INDEX tk ON t(k)")
MORE = "INSERT INTO t(k, x) VALUES('key 9001', 'x'), ('key 9002', 'y')"


def test_rows_that_only_an_index_remembers_are_no_loss_of_nothing(tmp_path: Path) -> None:
    """The plan says what was lost; a step that loses less is taken before it; the keys are kept."""
    path = build(tmp_path / "app.db", *ONE)
    assert lost_write(path, MORE) == 1
    found = findings(path)
    (step,) = repairers()[0].plan(ClosedCase(path, found))
    assert step.loss is Loss.ROWS
    assert "2 rows of t that only an index remembers" in step.loses
    bench, _ = mend(path, tmp_path / "scratch", found=found, loss=Loss.ROWS)
    assert [(table, columns, rows) for table, columns, rows, _ in bench.cut_rows if rows] == [
        ("t", ("rowid", "k"), ((201, "key 9001"), (202, "key 9002")))
    ]
    assert bench.notes == {"t": {"rows_lost": 2}}
    assert (integrity(path), findings(path)) == ([], ())


@pytest.mark.parametrize(
    ("statements", "changes", "table", "loss"),
    [
        # Another index has every row: the stale one is at fault.
        ((*ONE, "CREATE INDEX other ON t(x)"), ("DELETE FROM t WHERE id > 197",), False, Loss.NOTHING),
        # Every index misses what the table lost.
        ((*ONE, "CREATE INDEX other ON t(x)"), (MORE,), True, Loss.ROWS),
        # An index of some rows says nothing of the others.
        ((*ONE, "CREATE INDEX other ON t(x) WHERE x = 'nothing'"), (MORE,), True, Loss.ROWS),
        # What is older may be the index: it has entries of rows that were deleted. Nobody can tell; so it costs.
        (ONE, ("DELETE FROM t WHERE id > 197",), False, Loss.ROWS),
        # Rows are there, and the index has no entry of them.
        (ONE, (MORE,), False, Loss.NOTHING),
        # Rows that were deleted are there again, and others are gone.
        (ONE, ("UPDATE t SET id = id + 1000, k = 'new ' || id WHERE id > 194",), True, Loss.ROWS),
        # A rowid alone has changed: the entries are of the same rows.
        (ONE, ("UPDATE t SET id = id + 1000 WHERE id > 194",), True, Loss.NOTHING),
        # A row has another key than its entry: it is there.
        (ONE, ("UPDATE t SET k = 'key 8888' WHERE id = 200",), True, Loss.NOTHING),
        # WITHOUT ROWID: rows are told by the number of entries.
        (("CREATE TABLE t(k PRIMARY KEY, x) WITHOUT ROWID", "CREATE INDEX tx ON t(x)"), (), True, Loss.NOTHING),
    ],
)  # fmt: skip
def test_who_is_at_fault(
    statements: Sequence[str], changes: Sequence[str], table: bool, loss: Loss, tmp_path: Path
) -> None:
    """By what other indexes say, and by whether entries pair with rows."""
    path = build(tmp_path / "app.db", *statements)
    pages = lost_write(path, *changes, table=table)
    found = findings(path)
    assert bool(found) == bool(pages) == bool(changes)
    for step in repairers()[0].plan(ClosedCase(path, found)):
        assert (step.loss, step.loses == "nothing") == (loss, loss is Loss.NOTHING)
    before = all_rows(path)
    mend(path, tmp_path / "scratch", found=found, loss=loss)
    assert (integrity(path), findings(path), all_rows(path) == before) == ([], (), True)


def test_what_an_entry_says_of_a_row_that_is_there_is_kept(tmp_path: Path) -> None:
    """The row stands, and the other version of its columns is in the quarantine."""
    path = build(tmp_path / "app.db", *ONE)
    lost_write(path, "UPDATE t SET k = 'KEY 0199' WHERE id = 200")
    bench, _ = mend(path, tmp_path / "scratch")
    assert [(columns, rows) for _, columns, rows, _ in bench.cut_rows if rows] == [
        (("rowid", "k"), ((200, "KEY 0199"),))
    ]
    assert bench.notes == {}
