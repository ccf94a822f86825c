"""What was cut out can be had back: rows into a database, fields out of CSV, pages and files byte for byte."""

from __future__ import annotations

import csv
import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pagewarden import durable
from pagewarden.contracts import SqlValue
from pagewarden.errors import OutOfSpace, RepairRefused, RestoreRefused
from pagewarden.lineage import Lineage
from pagewarden.repair.cutouts import Cutouts, text_bytes
from pagewarden.repair.export import ExportRequest, run_export
from pagewarden.repair.literals import csv_field, sql_literal
from pagewarden.repair.shown import ShowRequest, run_show
from pagewarden.restore.quarantine import Phase, Quarantine
from pagewarden.testing.faults import cut, each_fault

NOW = datetime(2026, 11, 22, tzinfo=UTC)
VALUES: list[SqlValue] = [
    None, 0, 1, -(2**63), 2**63 - 1, 0.1, -1e300, 5e-324, float("inf"), float("-inf"), "", "it's", 'a "b"', "a\0b",
    "one\ntwo\r\n", "\x1b[2J", "Zoë 🦊", "\udcff no UTF-8", b"", b"\0'\xff", "x'00'", "NULL",
]  # fmt: skip
HOSTILE = 'we"ird\n-- table\x1b[2J/../../etc'


@pytest.fixture
def kept(path: Path) -> Callable[[Callable[[Cutouts, Path], None]], Path]:
    """Make the entry of a repair that cut something out."""

    def make(cut_out: Callable[[Cutouts, Path], None]) -> Path:
        with Quarantine(path=path).lock() as quarantine:
            entry = quarantine.begin(begun=NOW, origin=None, lineage_before=Lineage(path=str(path)))
            folder = quarantine.folder_of(entry)
            with Cutouts(folder) as cutouts:
                cut_out(cutouts, folder)
            quarantine.record(replace(entry, phase=Phase.DONE))
            return folder

    return make


Keep = Callable[[Callable[[Cutouts, Path], None]], Path]


def everything(cutouts: Cutouts, folder: Path) -> None:
    """Cut out rows of two tables, one with a hostile name, two pages, a file; and put the original aside."""
    cutouts.rows("t", ["rowid", "v"], list(enumerate(VALUES, start=1)), "on a damaged page", "repair-a", "page 3")
    cutouts.rows("t", ["v"], [("other shape",)], "why\nDROP TABLE t;", "repair-b")
    cutouts.rows(HOSTILE, ['c"\n'], [(1,)], "why", "repair-a")
    cutouts.page(3, 512, b"\x03" * 512, "why", "repair-a")
    cutouts.page(3, 512, b"\x04" * 512, "why", "repair-b")
    (folder / "private").write_bytes(b"a log")
    cutouts.file(folder / "private", "app.db-wal", "foreign", "repair-wal")
    (folder / "previous.raw").write_bytes(b"the original")
    (folder / "previous.raw-wal").write_bytes(b"its log")


def test_rows_come_back_into_a_database(path: Path, kept: Keep, tmp_path: Path) -> None:
    """The exported SQL, run by SQLite, makes the rows again, whatever they hold (H29)."""
    kept(everything)
    report = run_export(ExportRequest(database=str(path), to=str(tmp_path / "out")))
    assert (report.number, report.rows, report.pages) == (1, len(VALUES) + 2, 2)
    script = (tmp_path / "out" / "rows.sql").read_text("utf-8", "surrogateescape")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        connection.execute("CREATE TABLE t(v)")
        connection.execute('CREATE TABLE "we""ird\n-- table\x1b[2J/../../etc"("c""\n")')
        connection.executescript(script)
        rows = connection.execute("SELECT v FROM t ORDER BY rowid").fetchall()
        assert [value for (value,) in rows] == [*VALUES, "other shape"]
        assert [type(value) for (value,) in rows] == [type(value) for value in [*VALUES, "x"]]
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (2,)


def test_csv_has_a_file_for_each_table_and_shape(path: Path, kept: Keep, tmp_path: Path) -> None:
    """Texts are told from blobs and from NULL; a table's name chooses no path."""
    kept(everything)
    report = run_export(ExportRequest(database=str(path), to=str(tmp_path / "out"), format="csv", parts=("rows",)))
    assert report.files == ("rows-001-t.csv", "rows-001-t-2.csv", "rows-002-we_ird_--_table_2J_etc.csv")
    with (tmp_path / "out" / "rows-001-t.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["rowid", "v"]
    told = {int(rowid): value for rowid, value in rows}
    for number, value in enumerate(VALUES, start=1):
        if isinstance(value, str):
            assert told[number] == value
        elif isinstance(value, bytes):
            assert told[number] == f"X'{value.hex()}'"
        else:
            assert told[number] == ("" if value is None else csv_field(value))
    assert report.rows == len(VALUES) + 2


def test_pages_files_and_the_original_come_back(path: Path, kept: Keep, tmp_path: Path) -> None:
    """Byte for byte; the original only where it was asked for, because it is as large as the database."""
    folder = kept(everything)
    run_export(ExportRequest(database=str(path), to=str(tmp_path / "out")))
    out = tmp_path / "out"
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()) == [
        "files/app.db-wal",
        "pages/0000000003-1.page",
        "pages/0000000003-2.page",
        "rows.sql",
    ]
    assert (out / "pages/0000000003-2.page").read_bytes() == b"\x04" * 512
    assert (out / "files/app.db-wal").read_bytes() == b"a log"
    report = run_export(ExportRequest(database=str(path), to=str(tmp_path / "orig"), parts=("original",)))
    assert report.files == ("original/previous.raw", "original/previous.raw-wal")
    assert (tmp_path / "orig/original/previous.raw").read_bytes() == b"the original"
    assert (folder / "previous.raw").read_bytes() == b"the original"


def test_nothing_that_stands_there_is_touched(path: Path, kept: Keep, tmp_path: Path) -> None:
    """A folder that is there, a dangling link too, is refused; so is a table that nothing was cut out of."""
    kept(everything)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("app.db", "link"):
        with pytest.raises(RepairRefused, match="is there already"):
            run_export(ExportRequest(database=str(path), to=str(tmp_path / name)))
    with pytest.raises(RestoreRefused, match="no row of nosuch"):
        run_export(ExportRequest(database=str(path), to=str(tmp_path / "out"), tables=("nosuch",)))
    assert sorted(file.name for file in tmp_path.iterdir()) == [".pagewarden", "app.db", "link"]


def test_only_the_tables_that_were_asked_for(path: Path, kept: Keep, tmp_path: Path) -> None:
    """Rows of others stay where they are."""
    kept(everything)
    request = ExportRequest(database=str(path), to=str(tmp_path / "out"), tables=(HOSTILE,), parts=("rows",))
    assert run_export(request).rows == 1


@pytest.mark.parametrize("forever", [False, True])
def test_an_export_that_fails_leaves_nothing(path: Path, kept: Keep, tmp_path: Path, forever: bool) -> None:
    """H30: a full disk is named, and no half of an export stays."""
    kept(everything)
    for faulty in each_fault(number=errno.ENOSPC, forever=forever):
        to = tmp_path / f"out{faulty.at}"
        with cut(durable, faulty):
            try:
                run_export(ExportRequest(database=str(path), to=str(to)))
            except OutOfSpace:
                assert faulty.fired
            else:
                assert not faulty.fired
        # The last call makes the finished folder's name durable: what stands there then is whole.
        assert not to.exists() or (to / "files/app.db-wal").exists()
        assert not [name for name in os.listdir(tmp_path) if name.startswith(".out")]


def test_a_look_shows_some_of_it(path: Path, kept: Keep) -> None:
    """Rows as literals, as many as were asked for, long ones cut; pages by why they were cut out."""

    def cut_out(cutouts: Cutouts, folder: Path) -> None:
        everything(cutouts, folder)
        cutouts.rows("long", ["v"], [("x" * 5000,), (bytes(5000),)], "why", "repair-a")

    kept(cut_out)
    report = run_show(ShowRequest(database=str(path), rows=2))
    assert [(row.table, row.values[-1][:8]) for row in report.rows] == [
        ("long", "'xxxxxxx"),
        ("long", "X'000000"),
        ("t", "NULL"),
        ("t", "0"),
        (HOSTILE, "1"),
    ]
    assert all(len(value) <= 1001 for row in report.rows for value in row.values)
    assert [(each.repairer, each.pages, each.count) for each in report.pages] == [
        ("repair-a", (3,), 1),
        ("repair-b", (3,), 1),
    ]
    assert len(run_show(ShowRequest(database=str(path), tables=("t",), rows=100)).rows) == len(VALUES) + 1


def test_an_entry_of_which_nothing_was_cut_out(path: Path, tmp_path: Path) -> None:
    """It is shown, and its export says that there is nothing, and what there is instead."""
    with Quarantine(path=path).lock() as quarantine:
        entry = quarantine.begin(begun=NOW, origin=None, lineage_before=Lineage(path=str(path)))
        quarantine.record(replace(entry, phase=Phase.DONE))
    report = run_show(ShowRequest(database=str(path)))
    assert (report.rows, report.pages, report.entry.number) == ((), (), 1)
    request = ExportRequest(database=str(path), to=str(tmp_path / "out"))
    with pytest.raises(RestoreRefused, match="nothing of that kind was cut out") as caught:
        run_export(request)
    assert caught.value.hint == f"ls -l {report.entry.folder}"
    (Path(report.entry.folder) / "previous").write_bytes(b"the original")
    with pytest.raises(RestoreRefused) as caught:
        run_export(request)
    assert caught.value.hint == f"pagewarden quarantine export {path} 1 --only original --to {tmp_path / 'out'}"
    assert sorted(file.name for file in tmp_path.iterdir()) == [".pagewarden", "app.db"]


@example(8.232356056559397e-299)  # SQLite 3.40 reads these decimals as the float below
@example(5e-324)
@example(1.7976931348623157e308)
@example(0.30000000000000004)
@given(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), st.binary()))
def test_a_literal_is_the_value(value: SqlValue) -> None:
    """SQLite reads every literal as the value that it was made of, of the same type."""
    literal = sql_literal(value)
    assert not [c for c in literal if c < " " and c not in "\t\n"]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.text_factory = bytes
        ((read, kind),) = connection.execute(f"SELECT {literal}, typeof({literal})")
    expected = text_bytes(value) if isinstance(value, str) else value
    assert (read, type(read)) == (expected, type(expected))
    assert kind == {type(None): b"null", int: b"integer", float: b"real", str: b"text", bytes: b"blob"}[type(value)]
