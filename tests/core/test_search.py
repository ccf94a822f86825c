"""Databases are found by their first bytes, below a folder or by a pattern."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.errors import DatabaseNotFound, DatabaseUnreadable
from pagewarden.processes.reader import PageReader
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.search import Found, search
from tests.support.session import Session


@pytest.fixture(scope="module")
def reader() -> Iterator[PageReader]:
    """A warm page reader."""
    with PageReader() as made:
        yield made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with databases at several depths, and much that is none."""
    root = tmp_path / "data"
    for name in ("a.db", "b.sqlite", "sub/a.db", "sub/deep/c.db", "sub/.hidden/d.db", ".e.db"):
        database(root / name)
    (root / "text.db").write_text("no database\n" * 100)
    (root / "empty.db").touch()
    (root / "sub" / "zeros").write_bytes(bytes(4096))
    os.mkfifo(root / "pipe.db")
    return root


def database(path: Path, mode: str = "delete") -> Path:
    """Make a small database."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE t(a)")
        connection.execute("INSERT INTO t VALUES(1)")
        connection.commit()
    return path


def names(found: Found, root: Path) -> list[str]:
    """Return the databases as they are found from `root`."""
    return [os.path.relpath(path, os.path.realpath(root)) for path in found.databases]


def test_a_folder_is_looked_through_to_its_bottom(root: Path, reader: PageReader) -> None:
    """Whatever the files are called; nothing that is no file is opened."""
    found = search(str(root), reader.file_header)
    assert names(found, root) == [".e.db", "a.db", "b.sqlite", "sub/.hidden/d.db", "sub/a.db", "sub/deep/c.db"]
    assert (found.looked_at, found.unreadable) == (9, ())


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.db", ["a.db"]),
        ("**/*.db", ["a.db", "sub/a.db", "sub/deep/c.db"]),
        ("**", ["a.db", "b.sqlite", "sub/a.db", "sub/deep/c.db"]),
        ("*/*.db", ["sub/a.db"]),
        ("**/deep/*", ["sub/deep/c.db"]),
        ("sub/**/[ac].db", ["sub/a.db", "sub/deep/c.db"]),
        ("?.*", ["a.db", "b.sqlite"]),
        (".*", [".e.db"]),
        ("sub/.hid*/*", ["sub/.hidden/d.db"]),
    ],
)
def test_a_pattern_is_what_a_shell_makes_of_it(
    root: Path, reader: PageReader, pattern: str, expected: list[str]
) -> None:
    """And what no shell has expanded: ** for folders at any depth, nothing hidden unless it is asked for."""
    assert names(search(f"{root}/{pattern}", reader.file_header, pattern=True), root) == expected


def test_a_pattern_begins_where_one_stands(root: Path, reader: PageReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder of its own."""
    monkeypatch.chdir(root / "sub")
    assert names(search("*.db", reader.file_header, pattern=True), root) == ["sub/a.db"]


def test_logs_and_journals_are_no_databases(tmp_path: Path, reader: PageReader) -> None:
    """Nor are they counted. A log is all the same what tells that a file without its first bytes was a database."""
    path = database(tmp_path / "data" / "live.db", mode="wal")
    with Session(path) as session:
        session.run("INSERT INTO t VALUES(2)")
        found = search(str(tmp_path / "data"), reader.file_header)
        assert (names(found, tmp_path / "data"), found.looked_at) == (["live.db"], 1)
        session.kill()
    path.write_bytes(bytes(100) + path.read_bytes()[100:])
    assert names(search(str(tmp_path / "data"), reader.file_header), tmp_path / "data") == ["live.db"]


def test_symbolic_links_lead_nowhere_else(root: Path, tmp_path: Path, reader: PageReader) -> None:
    """Not outside, not in circles, and no database is found twice. One that is named itself is followed."""
    outside = database(tmp_path / "outside" / "o.db")
    (root / "sub" / "out.db").symlink_to(outside)
    (root / "out").symlink_to(outside.parent)
    (root / "sub" / "circle").symlink_to(root)
    (root / "again.db").symlink_to(root / "a.db")
    (root / "gone.db").symlink_to(root / "nothing")
    assert len(search(str(root), reader.file_header).databases) == 6
    assert names(search(f"{root}/**/*.db", reader.file_header, pattern=True), root) == [
        "a.db",
        "sub/a.db",
        "sub/deep/c.db",
    ]
    (tmp_path / "link").symlink_to(root)
    assert len(search(str(tmp_path / "link"), reader.file_header).databases) == 6


def test_what_is_ours_is_left_out(tmp_path: Path, reader: PageReader) -> None:
    """Repositories, and what a restore put aside: damaged files among it, on purpose."""
    path = database(tmp_path / "data" / "app.db")
    repository = str(tmp_path / "data" / "repository")
    with Runtime(state=tmp_path / "state") as runtime:
        run_backup(BackupRequest(database=str(path), repository=repository, check="none"), runtime)
        path.write_bytes(path.read_bytes() + bytes(4096))
        run_restore(RestoreRequest(repository=repository, to=str(path)), runtime)
    assert (path.parent / ".pagewarden").is_dir()
    database(tmp_path / "data" / "repository" / "stray.db")
    found = search(str(tmp_path / "data"), reader.file_header)
    assert (names(found, tmp_path / "data"), found.looked_at) == (["app.db"], 1)


@pytest.mark.parametrize(("place", "pattern"), [("", False), ("/*.db", True), ("/none/**", True)])
def test_where_there_is_none_is_an_error(tmp_path: Path, reader: PageReader, place: str, pattern: bool) -> None:
    """With how much was looked at."""
    (tmp_path / "text.db").write_text("no database")
    (tmp_path / "none").mkdir()
    with pytest.raises(DatabaseNotFound, match=r": [01] files? looked at$") as caught:
        search(f"{tmp_path}{place}", reader.file_header, pattern=pattern)
    assert "pagewarden check FILE" in caught.value.hint


def test_what_cannot_be_looked_at_is_named(root: Path, reader: PageReader) -> None:
    """A file, and a folder; what else there is is found. This user is stopped by nothing, so others stop it."""

    def refuse(path: str) -> bytes:
        if path.endswith("b.sqlite"):
            raise DatabaseUnreadable(f"{path} may not be read", hint="ls -l")
        if path.endswith("c.db"):
            raise DatabaseNotFound(f"{path} is gone since", hint="ls -l")
        return reader.file_header(path)

    found = search(str(root), refuse)
    assert names(found, root) == [".e.db", "a.db", "sub/.hidden/d.db", "sub/a.db"]
    ((path, error),) = found.unreadable
    assert path.endswith("b.sqlite") and "may not be read" in error.message
    with pytest.raises(DatabaseUnreadable):
        search(f"{root}/*.sqlite", refuse, pattern=True)
