"""What is no database, or none that can be read now, given to every verb that takes one."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.badinput.conftest import Refuse, tree
from tests.cli.conftest import Type
from tests.support.databases import build

Make = Callable[[Path, Path], Path | str]


def _written(data: Callable[[bytes], bytes]) -> Make:
    def make(path: Path, good: Path) -> Path:
        path.write_bytes(data(good.read_bytes()))
        return path

    return make


def _hard_linked(path: Path, good: Path) -> Path:
    shutil.copy(good, path)
    os.link(path, path.with_name("other.db"))
    return path


def _linked(to: str) -> Make:
    def make(path: Path, good: Path) -> Path:
        path.symlink_to(to)
        return path

    return make


def _folder(path: Path, good: Path) -> Path:
    path.mkdir()
    return path


def _fifo(path: Path, good: Path) -> Path:
    os.mkfifo(path)
    return path


BAD: dict[str, tuple[Make, str]] = {
    "missing": (lambda path, good: path, "database-not-found"),
    "below a file": (lambda path, good: good / "app.db", "database-not-found"),
    "dangling link": (_linked("nothing.db"), "database-not-found"),
    "one byte": (_written(lambda data: data[:1]), "not-a-database"),
    "15 bytes": (_written(lambda data: data[:15]), "not-a-database"),
    "99 bytes of noise": (_written(lambda data: random.Random(1).randbytes(99)), "not-a-database"),
    "encrypted": (_written(lambda data: random.Random(1).randbytes(len(data))), "not-a-database"),
    "text": (_written(lambda data: b"hello\n" * 2000), "not-a-database"),
    "directory": (_folder, "database-unreadable"),
    "device": (lambda path, good: "/dev/null", "database-unreadable"),
    "fifo": (_fifo, "database-unreadable"),
    "hard link": (_hard_linked, "database-unreadable"),
    "link to itself": (_linked("app.db"), "database-unreadable"),
    "long name": (lambda path, good: path.with_name("x" * 300), "database-unreadable"),
    "empty text": (lambda path, good: "", "configuration-invalid"),
    "NUL": (lambda path, good: "a\0b", "configuration-invalid"),
}


@pytest.mark.parametrize("what", BAD)
def test_check_and_backup_refuse_what_is_no_database(
    what: str, refuse: Refuse, type_in: Type, good: Path, repository: Path, home: Path
) -> None:
    """By name, at every level, and among others."""
    make, slug = BAD[what]
    bad = make(home / "app.db", good)
    checked = "database-not-found" if what == "directory" else slug  # it may hold some, and holds none
    assert refuse("check", bad).slug == checked
    assert refuse("check", bad, "--level", "deep").slug == checked
    assert refuse("backup", bad, "--repo", repository, "--name", "x").slug == slug
    if slug != "configuration-invalid":
        before = tree(home)
        several = type_in("check", good, bad, "--json")
        assert [entry.get("error", {}).get("slug") for entry in several.document["databases"]] == [None, checked]
        assert several.code == several.document["databases"][1]["error"]["exit_code"]
        assert tree(home) == before


@pytest.mark.parametrize("what", BAD)
def test_other_verbs_refuse_what_is_no_database(
    what: str, refuse: Refuse, type_in: Type, good: Path, home: Path
) -> None:
    """`injure`, `undo` and `doctor`, which has something to say of whatever stands there."""
    make, slug = BAD[what]
    bad = make(home / "app.db", good)
    invalid = slug == "configuration-invalid"
    assert refuse("undo", bad).slug == (slug if invalid else "restore-refused")
    injured = refuse("injure", bad, "--kind", "flipped-bit")
    assert injured.slug in (slug, "database-not-found", "restore-refused")
    if slug in ("database-not-found", "configuration-invalid") or what in ("link to itself", "long name"):
        assert refuse("doctor", bad).slug == slug
    else:
        before = tree(home)
        typed = type_in("doctor", bad, "--json")
        problems = [fact for fact in typed.document["facts"] if fact["state"] == "problem"]
        assert typed.code == 1
        assert problems and all(fact["why"] for fact in problems)
        assert tree(home) == before


@pytest.mark.parametrize("what", BAD)
def test_the_verbs_of_the_log_refuse_what_is_no_database(what: str, refuse: Refuse, good: Path, home: Path) -> None:
    """By the same names, whatever is asked, and force changes nothing."""
    make, slug = BAD[what]
    bad = make(home / "app.db", good)
    for words in (["status"], ["enable", "--force"], ["enable", "--off"], ["checkpoint"], ["tune"]):
        assert refuse("wal", words[0], bad, *words[1:]).slug == slug, words


@pytest.mark.parametrize("what", ["one byte", "99 bytes of noise", "encrypted", "text"])
def test_a_marked_copy_that_is_no_database_is_not_injured(what: str, refuse: Refuse, good: Path, home: Path) -> None:
    """The mark does not make it one."""
    bad = BAD[what][0](home / "app.db", good)
    Path(f"{bad}.pagewarden-copy").touch()
    assert refuse("injure", bad, "--kind", "zeroed-page").slug == "not-a-database"


@pytest.mark.parametrize("size", [16, 50, 99])
def test_a_cut_off_header_is_damage_and_no_backup(
    size: int, refuse: Refuse, type_in: Type, good: Path, repository: Path, home: Path
) -> None:
    """It begins as a database does: `check` judges it, `backup` finds no commit to copy."""
    bad = home / "app.db"
    bad.write_bytes(good.read_bytes()[:size])
    before = tree(home)
    assert (type_in("check", bad).code, type_in("check", bad, "--json").document["verdict"]) == (1, "damaged")
    assert tree(home) == before
    assert refuse("backup", bad, "--repo", repository).slug == "database-unreadable"


def test_an_empty_file_and_a_link_are_databases(type_in: Type, good: Path, repository: Path, home: Path) -> None:
    """SQLite takes an empty file for an empty database; a symbolic link leads to one."""
    (home / "empty.db").touch()
    (home / "link.db").symlink_to("good.db")
    for name in ("empty.db", "link.db"):
        before = tree(home)
        assert type_in("check", name, "--json").document["verdict"] == "sound"
        assert type_in("doctor", name).code == 0
        assert tree(home) == before
        assert type_in("backup", name, "--repo", repository).code == 0
        assert type_in("restore", "--repo", repository, "--db", name if name == "empty.db" else "good.db",
                       "--to", f"new-{name}").code == 0  # fmt: skip
    assert (home / "new-empty.db").read_bytes() == b""
    assert (home / "new-link.db").read_bytes() == good.read_bytes()


NO_PLACE = [
    *("below a file", "directory", "device", "fifo", "hard link", "link to itself", "long name"),
    *("empty text", "NUL"),
]


@pytest.mark.parametrize("what", NO_PLACE)
def test_restore_refuses_where_no_file_can_be_put(
    what: str, refuse: Refuse, good: Path, repository: Path, home: Path
) -> None:
    """Before anything is written, and in its plan, too."""
    make, slug = BAD[what]
    bad = make(home / "app.db", good)
    wanted = slug if slug == "configuration-invalid" else "restore-refused"
    assert refuse("restore", "--repo", repository, "--to", bad).slug == wanted
    assert refuse("restore", "--repo", repository, "--to", bad, "--dry-run").slug == wanted


def _hot_journal(home: Path) -> Path:
    """Return a database beside which a hot journal lies, of a writer that died."""
    (home / "busy").mkdir()
    path = build(home / "busy" / "app.db", rows=20)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN")
        connection.execute("UPDATE item SET body = randomblob(5000)")
        shutil.copy(path, home / "app.db")
        shutil.copy(f"{path}-journal", home / "app.db-journal")
        connection.execute("ROLLBACK")
    return home / "app.db"


def test_a_hot_journal_is_left_to_the_application(refuse: Refuse, type_in: Type, repository: Path, home: Path) -> None:
    """`check` cannot judge, `backup` refuses, nobody rolls it back: it would destroy evidence (H33)."""
    bad = _hot_journal(home)
    before = tree(home)
    typed = type_in("check", bad, "--json")
    assert typed.code in (3, 14)
    assert tree(home) == before
    assert refuse("backup", bad, "--repo", repository).slug == "database-unsettled"
    Path(f"{bad}.pagewarden-copy").touch()
    assert type_in("doctor", bad).code in (0, 1)
