"""Databases, outputs and quarantines that repairs and their kept things cannot use: named, and nothing touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.badinput.conftest import Refuse, tree
from tests.badinput.test_choices import REPOSITORIES, _make_repository
from tests.badinput.test_databases import BAD
from tests.cli.conftest import Type


@pytest.mark.parametrize("what", ["99 bytes of noise", "directory", "fifo", "hard link", "empty text"])
def test_repair_refuses_what_is_no_database(what: str, refuse: Refuse, good: Path, home: Path) -> None:
    """By the name that every verb gives it."""
    make, slug = BAD[what]
    bad = make(home / "app.db", good)
    assert refuse("repair", bad, "--apply").slug == slug


@pytest.mark.parametrize("what", BAD)
def test_quarantine_needs_a_path_of_which_something_is_kept(
    what: str, refuse: Refuse, type_in: Type, good: Path, home: Path
) -> None:
    """A list of nothing where something stands; an error where there is nothing at all."""
    make, slug = BAD[what]
    bad = make(home / "app.db", good)
    invalid = slug == "configuration-invalid"
    assert refuse("quarantine", "show", bad).slug == (slug if invalid else "restore-refused")
    if what == "long name":
        assert refuse("quarantine", "list", bad).slug == slug
    elif not invalid and os.path.exists(bad):
        before = tree(home)
        assert type_in("quarantine", "list", bad, "--json").document == {"entries": [], "bytes": 0, "warnings": []}
        assert tree(home) == before


@pytest.mark.parametrize("what", ["missing", "unknown storage"])
def test_a_repository_that_cannot_be_used_is_named(what: str, refuse: Refuse, good: Path, home: Path) -> None:
    """Before a damaged database is repaired without it."""
    url = _make_repository(what, home)
    data = bytearray(good.read_bytes())
    data[4096:8192] = bytes(4096)
    good.write_bytes(data)
    assert refuse("repair", good, "--repo", url).slug == REPOSITORIES[what]


@pytest.mark.parametrize("place", ["below a file", "directory", "the database"])
def test_an_output_that_cannot_be_made_is_refused(place: str, refuse: Refuse, good: Path, home: Path) -> None:
    """Before anything is copied."""
    output = {"below a file": good / "new.db", "directory": home / "tmp", "the database": good}[place]
    assert refuse("repair", good, "--apply", "--output", output).slug in ("repair-refused", "restore-refused")


@pytest.mark.parametrize("damage", ["no JSON", "a newer version", "a folder"])
def test_an_entry_that_cannot_be_understood_is_named(damage: str, refuse: Refuse, good: Path, home: Path) -> None:
    """With what to do about it; nothing of it is touched."""
    folder = home / ".pagewarden" / "good.db" / "000001"
    folder.mkdir(parents=True)
    if damage == "a folder":
        (folder / "entry.json").mkdir()
    else:
        (folder / "entry.json").write_text("{" if damage == "no JSON" else '{"format": 2}')
    for words in (("list", good), ("show", good), ("export", good, "--to", "out")):
        refused = refuse("quarantine", *words)
        assert refused.slug == "restore-refused"
        assert refused.hint
