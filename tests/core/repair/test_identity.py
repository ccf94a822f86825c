"""Another database's restore points are refused, whatever they share with this one: a schema, a name, empty pages."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden import lineage
from pagewarden.errors import RepairRefused
from pagewarden.runtime import Runtime
from tests.core.repair.pasts import Past


def made(folder: Path, runtime: Runtime, *, letters: str, rows: int = 200) -> Past:
    """Make a database of the same application as all others here, and back it up."""
    folder.mkdir()
    past = Past(folder, runtime).make("delete", rows=0)
    run(
        past,
        "CREATE TABLE empty(a)",
        "CREATE TABLE wide(a)",
        "INSERT INTO wide VALUES (zeroblob(100000))",
        f"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        f" INSERT INTO letters SELECT i, 'letter ' || i || ' of {letters}' FROM n",
    )
    past.back_up()
    return past


def run(past: Past, *statements: str) -> None:
    """Commit each of some statements."""
    with closing(past.connect()) as connection:
        for statement in statements:
            connection.execute(statement)


def moved(past: Past, to: Path) -> Past:
    """Return the database as a copy at another path, with the repository of the first."""
    to.mkdir()
    copy = Past(to, past.runtime)
    shutil.copyfile(past.path, copy.path)
    copy.repository = past.repository
    return copy


def test_what_was_backed_up_from_here_is_of_this_database(tmp_path: Path, runtime: Runtime) -> None:
    """Whatever became of the file since: it may hold nothing any more that could be compared."""
    past = made(tmp_path / "ours", runtime, letters="anna")
    Path(past.path).write_bytes(b"garbage " * 5000)
    assert past.history().certain


def test_what_was_restored_from_there_is_of_this_database(tmp_path: Path, runtime: Runtime) -> None:
    """A restore to another path is remembered, and so is a backup of it."""
    past = made(tmp_path / "ours", runtime, letters="anna")
    copy = moved(past, tmp_path / "elsewhere")
    position = past.history().newest.position
    lineage.after_restore(runtime.state, str(copy.path), position)
    copy.path.write_bytes(b"garbage " * 5000)
    assert copy.history().certain


@pytest.mark.parametrize("assumed", [False, True])
def test_another_database_of_the_same_name_and_schema_is_refused(
    tmp_path: Path, runtime: Runtime, assumed: bool
) -> None:
    """Pages of zeros, of an empty table and of the schema are equal in both, and say nothing (H26)."""
    ours, theirs = (made(tmp_path / who, runtime, letters=who) for who in ("anna", "otto"))
    ours.repository = theirs.repository
    with pytest.raises(RepairRefused, match=r"nothing shows that app.db in .* is a backup of .*anna") as refused:
        ours.history(assume_current=assumed)
    assert "--db" in refused.value.hint


def test_a_repository_that_was_made_anew_by_another_database_is_refused(tmp_path: Path, runtime: Runtime) -> None:
    """That a backup was once made to that URL is no evidence of what stands there now."""
    ours = made(tmp_path / "anna", runtime, letters="anna")
    theirs = made(tmp_path / "otto", runtime, letters="otto")
    shutil.rmtree(ours.repository)
    shutil.copytree(theirs.repository, ours.repository)
    with pytest.raises(RepairRefused, match="nothing shows"):
        ours.history()


@pytest.mark.parametrize(
    "statements",
    [
        (),
        ("INSERT INTO letters SELECT id + 1000, 'newer ' || body FROM letters", "VACUUM"),
        ("PRAGMA page_size=4096", "VACUUM"),
        ("DELETE FROM letters WHERE id > 50", "DROP TABLE wide"),
    ],
    ids=["as it was", "vacuumed", "other pages", "most is gone"],
)
def test_a_database_that_was_moved_is_known_by_its_contents(
    tmp_path: Path, runtime: Runtime, statements: tuple[str, ...]
) -> None:
    """Its pages or rows stand in the restore point; that is not certain, as databases may share some."""
    copy = moved(made(tmp_path / "ours", runtime, letters="anna"), tmp_path / "elsewhere")
    run(copy, *statements)
    with copy.path.open("r+b") as file:  # neither header nor schema can be read
        file.write(bytes(512))
    history = copy.history()
    assert not history.certain
    assert history.newest.pages == past_pages(copy.repository, runtime)


def past_pages(repository: str, runtime: Runtime) -> int:
    """Return the size of the newest restore point, in pages."""
    return runtime.repository(repository).view("app.db").points[-1].pages


def test_a_file_without_anything_that_could_be_compared_is_refused(tmp_path: Path, runtime: Runtime) -> None:
    """Elsewhere than where it was backed up, a file of garbage may be any database."""
    copy = moved(made(tmp_path / "ours", runtime, letters="anna"), tmp_path / "elsewhere")
    copy.path.write_bytes(b"garbage " * 5000)
    with pytest.raises(RepairRefused, match="nothing shows"):
        copy.history()


def test_a_file_mangled_as_text_is_known(tmp_path: Path, runtime: Runtime) -> None:
    """It is the restore point, to the last byte, but for its newlines."""
    copy = moved(made(tmp_path / "ours", runtime, letters="anna"), tmp_path / "elsewhere")
    copy.path.write_bytes(copy.path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(sqlite3.DatabaseError):
        copy.rows()
    assert copy.history().certain
