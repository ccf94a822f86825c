"""What a repair cuts out is kept, byte for byte, and can be read again."""

from __future__ import annotations

import errno
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden import durable
from pagewarden.contracts import SqlValue
from pagewarden.errors import DatabaseUnreadable, OutOfSpace, TargetFailed
from pagewarden.repair import cutouts
from pagewarden.repair.cutouts import CUT, FILES, CutFile, Cutouts, CutPage, CutRow, discard_cutouts, read_cutouts
from pagewarden.testing.faults import FaultyOs, cut

VALUES: tuple[SqlValue, ...] = (
    None,
    0,
    -(2**63),
    2**63 - 1,
    1.5,
    float("inf"),
    5e-324,
    "",
    "a\0b",
    "Zoë 🦊 \u202e",
    b"",
    b"\0\xff" * 40,
    "text that was no UTF-8: \udcff\udc80",
    "half of a pair: \ud800",
)


def test_rows_come_back_as_they_were_stored(tmp_path: Path) -> None:
    """Every value keeps its type and its bytes, texts that are no UTF-8 included."""
    columns = [f"c{number}" for number in range(len(VALUES))]
    with Cutouts(tmp_path) as cut_out:
        assert cut_out.rows('we"ird', columns, [VALUES], "its page was damaged", "repair-x", "page 7") == 1
    with read_cutouts(tmp_path) as view:
        (row,) = view.rows()
        assert view.tables() == (('we"ird', 1),)
    assert (row.table, row.columns, row.why, row.repairer) == (
        'we"ird',
        tuple(columns),
        "its page was damaged",
        "repair-x",
    )
    assert row.source == "page 7"
    assert row.values[:-1] == VALUES[:-1]
    assert [type(value) for value in row.values] == [type(value) for value in VALUES]
    assert cutouts.text_bytes(str(row.values[-1])) == b"half of a pair: \xed\xa0\x80"


def test_pages_and_files_come_back(tmp_path: Path) -> None:
    """A page keeps its bytes, a short one too; a file is moved, and a second one of its name stands beside it."""
    with Cutouts(tmp_path) as cut_out:
        cut_out.page(9, 512, b"\x05" * 512, "flaws in it", "repair-splice")
        cut_out.page(1, 512, b"SQL", "cut off", "repair-header")
        for content in ("first", "second"):
            file = tmp_path / "private"
            file.write_text(content)
            cut_out.file(file, "app.db-wal", "belongs to another database", "repair-wal")
            assert not file.exists()
    with read_cutouts(tmp_path) as view:
        pages = tuple(view.pages())
        assert [view.page_bytes(page) for page in pages] == [b"\x05" * 512, b"SQL"]
        assert view.files() == (
            CutFile(name="app.db-wal", size=5, why="belongs to another database", repairer="repair-wal"),
            CutFile(name="app.db-wal-2", size=6, why="belongs to another database", repairer="repair-wal"),
        )
    assert pages[0] == CutPage(id=1, pgno=9, page_size=512, length=512, why="flaws in it", repairer="repair-splice")
    assert (pages[1].pgno, pages[1].length) == (1, 3)
    assert (tmp_path / FILES / "app.db-wal-2").read_text() == "second"


def test_several_repairers_follow_one_another(tmp_path: Path) -> None:
    """What one process cut out stays when the next one adds to it."""
    for name in ("repair-a", "repair-b"):
        with Cutouts(tmp_path) as cut_out:
            cut_out.rows("t", ["a"], [(1,), (2,)], "why", name)
    with read_cutouts(tmp_path) as view:
        assert [(row.id, row.repairer) for row in view.rows("t")] == [
            (1, "repair-a"),
            (2, "repair-a"),
            (3, "repair-b"),
            (4, "repair-b"),
        ]
        assert list(view.rows("u")) == []


def test_an_attempt_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """A repairer that raises has cut nothing out; what was cut out before it stays."""
    with Cutouts(tmp_path) as cut_out:
        cut_out.rows("t", ["a"], [(1,)], "why", "repair-a")

    def rows() -> Iterator[tuple[int]]:
        yield (2,)
        raise RuntimeError("the repairer died")

    with pytest.raises(RuntimeError, match="died"), Cutouts(tmp_path) as cut_out:
        cut_out.rows("t", ["a"], rows(), "why", "repair-b")
    with read_cutouts(tmp_path) as view:
        assert [row.values for row in view.rows()] == [(1,)]


def test_nothing_is_made_where_nothing_is_cut_out(tmp_path: Path) -> None:
    """Without a cut there is no file; to read then is to see nothing."""
    with Cutouts(tmp_path) as cut_out:
        assert cut_out.rows("t", ["a"], [], "why", "repair-a") == 0
    assert list(tmp_path.iterdir()) == []
    with read_cutouts(tmp_path) as view:
        assert (view.count_pages(), tuple(view.pages()), view.tables(), view.files()) == (0, (), (), ())


def test_a_discarded_attempt_goes_with_its_cuts(tmp_path: Path) -> None:
    """When the copy is made anew, pages, rows and files of the earlier one are gone, and nothing else is."""
    other = tmp_path / "entry.json"
    other.write_text("{}")
    file = tmp_path / "private"
    file.write_text("x")
    with Cutouts(tmp_path) as cut_out:
        cut_out.file(file, "log", "why", "repair-a")
        cut_out.page(2, 512, b"", "why", "repair-a")
    discard_cutouts(tmp_path)
    assert list(tmp_path.iterdir()) == [other]
    discard_cutouts(tmp_path)


def test_any_tool_can_read_it(tmp_path: Path) -> None:
    """cut.db is a plain SQLite database, for its owner alone."""
    with Cutouts(tmp_path) as cut_out:
        cut_out.rows("t", ["a", "b"], [(1, "x")], "why", "repair-a")
    assert stat.S_IMODE((tmp_path / CUT).stat().st_mode) == 0o600
    with closing(sqlite3.connect(tmp_path / CUT)) as connection:
        sql = "SELECT tbl, name, value FROM rows JOIN cells ON cells.row = rows.id ORDER BY position"
        assert connection.execute(sql).fetchall() == [("t", "a", 1), ("t", "b", "x")]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a/", "a\0b"])
def test_a_file_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    """H29: a name with a folder in it is refused, and the file stays where it was."""
    file = tmp_path / "private"
    file.write_text("x")
    with pytest.raises(ValueError, match="no plain name"), Cutouts(tmp_path) as cut_out:
        cut_out.file(file, name, "why", "repair-a")
    assert list(tmp_path.iterdir()) == [file]


def test_a_row_has_a_value_for_each_column(tmp_path: Path) -> None:
    """A row of another length than its columns is a mistake of the repairer's, not something to guess about."""
    with pytest.raises(ValueError, match="1 values for 2 columns"), Cutouts(tmp_path) as cut_out:
        cut_out.rows("t", ["a", "b"], [(1,)], "why", "repair-a")


def test_names_that_are_no_utf8_are_kept_as_escapes(tmp_path: Path) -> None:
    """A hostile name of a table, of a column or of a file is stored in a form that can be read (H29)."""
    with Cutouts(tmp_path) as cut_out:
        cut_out.rows("t\udcff", ["c\ud800"], [(1,)], "why\udc80", "repair-a")
    with read_cutouts(tmp_path) as view:
        (row,) = view.rows()
        assert (row.table, row.columns, row.why) == ("t\\udcff", ("c\\ud800",), "why\\udc80")


@pytest.mark.parametrize("forever", [False, True])
def test_a_full_disk_is_named(tmp_path: Path, forever: bool) -> None:
    """Each call to the system that fails makes a named error, never a cut that is thought durable (H30)."""
    at = 0
    while True:
        at += 1
        folder = tmp_path / str(at)
        folder.mkdir()
        file = folder / "private"
        file.write_text("x")
        faulty = FaultyOs(at, number=errno.ENOSPC, forever=forever)
        with cut(durable, faulty):
            try:
                with Cutouts(folder) as cut_out:
                    cut_out.file(file, "log", "why", "repair-a")
            except OutOfSpace:
                assert faulty.fired
                continue
        assert not faulty.fired
        break
    assert at > 4
    with read_cutouts(folder) as view:
        assert [each.size for each in view.files()] == [1]


def test_sqlite_that_finds_no_room_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own full disk is OutOfSpace, and what was there before is still there."""
    with Cutouts(tmp_path) as cut_out:
        cut_out.rows("t", ["a"], [(1,)], "why", "repair-a")
    connect = sqlite3.connect

    def small(path: Path, *, isolation_level: None) -> sqlite3.Connection:
        connection = connect(path, isolation_level=isolation_level)
        connection.execute("PRAGMA max_page_count = 9")
        return connection

    monkeypatch.setattr("sqlite3.connect", small)
    with pytest.raises(OutOfSpace, match=r"cannot write .*cut\.db"), Cutouts(tmp_path) as cut_out:
        cut_out.rows("t", ["a"], [(bytes(200_000),)], "why", "repair-b")
    monkeypatch.undo()
    with read_cutouts(tmp_path) as view:
        assert [row.values for row in view.rows()] == [(1,)]


def test_a_strange_file_in_its_place_is_refused(tmp_path: Path) -> None:
    """A cut.db that is no database cannot be written to or read; one of a newer version is not guessed about."""
    (tmp_path / CUT).write_bytes(b"no database " * 100)
    with pytest.raises(TargetFailed, match="not a database"), Cutouts(tmp_path) as cut_out:
        cut_out.page(1, 512, b"", "why", "repair-a")
    with pytest.raises(DatabaseUnreadable, match="cannot be read"), read_cutouts(tmp_path):
        pass
    (tmp_path / CUT).unlink()
    with Cutouts(tmp_path) as cut_out:
        cut_out.page(1, 512, b"", "why", "repair-a")
    with closing(sqlite3.connect(tmp_path / CUT)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(DatabaseUnreadable, match="not of this version"), read_cutouts(tmp_path):
        pass


def test_damage_in_it_is_named(tmp_path: Path) -> None:
    """A cut.db that is damaged says so when it is read, and where the original is."""
    with Cutouts(tmp_path) as cut_out:
        cut_out.rows("t", ["a"], [(n,) for n in range(2000)], "why", "repair-a")
    data = bytearray((tmp_path / CUT).read_bytes())
    data[4096 * 3 :] = b"\xff" * (len(data) - 4096 * 3)
    (tmp_path / CUT).write_bytes(data)
    with pytest.raises(DatabaseUnreadable, match="cannot be read") as caught, read_cutouts(tmp_path) as view:
        list(view.rows())
    assert str(tmp_path) in caught.value.hint


def test_reading_writes_nothing(tmp_path: Path) -> None:
    """To read what was cut out changes no byte, and leaves no file beside it."""
    with Cutouts(tmp_path) as cut_out:
        cut_out.rows("t", ["a"], [(1,)], "why", "repair-a")
    before = (tmp_path / CUT).read_bytes()
    with read_cutouts(tmp_path) as view:
        assert len(list(view.rows())) == 1
    assert (tmp_path / CUT).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [CUT]


def test_a_file_that_was_taken_away_is_told(tmp_path: Path) -> None:
    """A list of files says which of them is no longer there."""
    file = tmp_path / "private"
    file.write_text("x")
    with Cutouts(tmp_path) as cut_out:
        cut_out.file(file, "log", "why", "repair-a")
    (tmp_path / FILES / "log").unlink()
    with read_cutouts(tmp_path) as view:
        assert [each.size for each in view.files()] == [-1]


def test_rows_of_one_value_have_the_shape_of_their_class(tmp_path: Path) -> None:
    """A row without any column can be kept too: that it was there is what is known of it."""
    with Cutouts(tmp_path) as cut_out:
        cut_out.rows("t", [], [()], "unreadable", "repair-a")
    with read_cutouts(tmp_path) as view:
        assert tuple(view.rows()) == (
            CutRow(id=1, table="t", columns=(), values=(), why="unreadable", repairer="repair-a", source=""),
        )
