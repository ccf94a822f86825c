"""Repositories, plugins and configurations that cannot be used, named by every verb that would use them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pagewarden.errors import error_classes
from tests.badinput.conftest import Refuse, tree
from tests.cli.conftest import Type


def _make_repository(what: str, home: Path) -> str:
    path = home / "bad"
    if what == "missing":
        return str(path)
    if what == "below a file":
        return str(home / "good.db" / "r")
    if what == "empty folder":
        path.mkdir()
    elif what == "other files":
        path.mkdir()
        (path / "letter.txt").write_text("dear")
    elif what == "file":
        path.write_text("no folder")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "device":
        return "/dev/null"
    elif what == "dangling link":
        path.symlink_to("nowhere")
    elif what == "link to itself":
        path.symlink_to("bad")
    elif what == "unknown storage":
        return "carrier-pigeon://loft/7"
    elif what == "broken marker":
        path.mkdir()
        (path / "pagewarden.json").write_text("{}\n")
    elif what == "empty text":
        return ""
    return str(path)


REPOSITORIES = {
    "missing": "repository-not-found",
    "below a file": "repository-not-found",
    "empty folder": "repository-not-found",
    "dangling link": "repository-not-found",
    "other files": "configuration-invalid",
    "file": "configuration-invalid",
    "fifo": "configuration-invalid",
    "device": "configuration-invalid",
    "empty text": "configuration-invalid",
    "link to itself": "repository-not-found",
    "unknown storage": "plugin-unusable",
    "broken marker": "repository-damaged",
}


@pytest.mark.parametrize("what", REPOSITORIES)
def test_what_is_no_repository_is_named(what: str, refuse: Refuse, type_in: Type, good: Path, home: Path) -> None:
    """By those that read one, and by `backup`, which makes one only where nothing is; `check` judges without it."""
    url, slug = _make_repository(what, home), REPOSITORIES[what]
    slugs = {
        refuse("verify", "--repo", url).slug,
        refuse("backups", "--repo", url).slug,
        refuse("restore", "--repo", url, "--to", "new.db").slug,
    }
    assert slugs <= {slug, "target-failed"} and slug in slugs
    if url:
        before = tree(home)
        checked = type_in("check", good, "--repo", url, "--json")
        assert (checked.code, checked.document["verdict"]) == (3, "unknown")
        assert any(checker["why"] for checker in checked.document["checkers"])
        assert tree(home) == before
    if what not in ("missing", "empty folder", "dangling link"):
        assert refuse("backup", good, "--repo", url).slug in (slug, "target-failed")


def test_what_a_repository_does_not_hold_is_named(refuse: Refuse, repository: Path) -> None:
    """A database, a number, a time."""
    for words in (
        ("verify", "--db", "other.db"),
        ("backups", "--db", "other.db"),
        ("restore", "--db", "other.db", "--to", "new.db"),
        ("restore", "--txid", "99", "--to", "new.db"),
        ("restore", "--at", "2001-01-01T00:00:00Z", "--to", "new.db"),
    ):
        assert refuse(*words, "--repo", repository).slug == "repository-not-found"


CONFIGURATIONS = {
    "no TOML": ("[databases", "configuration-invalid"),
    "no UTF-8": ("\udcff", "configuration-invalid"),
    "unknown key": ("[defaults]\nlevle = 'quick'\n", "configuration-invalid"),
    "wrong type": ("[databases.app]\npath = 7\n", "configuration-invalid"),
    "a NUL": ('[databases.app]\npath = "a\\u0000b"\n', "configuration-invalid"),
    "unknown plugin": ('[plugins]\nonly = ["check-nothing"]\n', "plugin-unusable"),
    "unknown module": ('[plugins]\nextra = ["no_such_module_here"]\n', "plugin-unusable"),
    "broken module": ('[plugins]\nextra = ["broken_plugin"]\n', "plugin-unusable"),
}


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_a_broken_configuration_stops_every_verb(
    what: str, refuse: Refuse, good: Path, repository: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is done."""
    text, slug = CONFIGURATIONS[what]
    (home / "tmp" / "broken_plugin.py").write_text("raise OSError('it does not load')\n")
    monkeypatch.syspath_prepend(home / "tmp")
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (home / "c.toml").write_bytes(text.encode(errors="surrogateescape"))
    Path(f"{good}.pagewarden-copy").touch()
    verbs: tuple[tuple[str | Path, ...], ...] = (
        ("check", good),
        ("backup", good, "--repo", repository),
        ("backups", "--repo", repository),
        ("verify", "--repo", repository),
        ("restore", "--repo", repository, "--to", "new.db"),
        ("undo", "new.db"),
        ("doctor", good),
        ("injure", good, "--kind", "flipped-bit"),
        ("plugins",),
        ("config", "check"),
    )
    for words in verbs:
        answer = refuse(*words, "--config", "c.toml")
        assert answer.slug == slug, words
        assert slug != "configuration-invalid" or "c.toml" in answer.message


@pytest.mark.parametrize("what", ["missing", "directory", "fifo", "link to itself"])
def test_a_configuration_that_is_no_file_is_named(what: str, refuse: Refuse, home: Path) -> None:
    """A FIFO is not waited for."""
    path = home / "c.toml"
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "link to itself":
        path.symlink_to(path)
    for words in (("plugins",), ("config", "check"), ("check",), ("doctor",)):
        assert refuse(*words, "--config", path).slug == "configuration-invalid"


def test_wrong_usage_is_named(refuse: Refuse, good: Path, repository: Path) -> None:
    """A checker, a kind, a level, a number, an option, a verb, a baseline that there are none of."""
    Path(f"{good}.pagewarden-copy").touch()
    for words in (
        ("check", good, "--only", "check-nothing"),
        ("check", good, "--level", "thorough"),
        ("check", good, "--max-time", "-1"),
        ("check", good, "--baseline", "nothing"),
        ("check", good, "--baseline", good),
        ("backup", good, "--repo", repository, "--compression", "99"),
        ("backup", good),
        ("verify",),
        ("backups",),
        ("restore", "--repo", repository),
        ("restore", "--repo", repository, "--to", "x", "--at", "tuesday"),
        ("restore", "--repo", repository, "--to", "x", "--txid", "0"),
        ("injure", good, "--kind", "nothing"),
        ("config", "explain"),
        ("prove",),
        ("check", good, "--no-such-option"),
    ):
        assert refuse(*words).slug in ("configuration-invalid", "plugin-unusable"), words


def test_a_fault_of_a_plugin_is_listed(type_in: Type, home: Path) -> None:
    """One that nobody named and that is sound: nothing is touched by listing it."""
    before = tree(home)
    assert type_in("plugins", "--json").code == 0
    assert tree(home) == before


def test_each_class_has_a_hint_of_its_own() -> None:
    """Where whoever raises it knows none that names a path."""
    hints = [leaf("what and where").hint for leaf in error_classes().values()]
    assert all(hints) and len(set(hints)) > 10
    assert [leaf for leaf in error_classes().values() if "usual_hint" not in vars(leaf)] == []
    assert error_classes()["target-failed"]("what", hint="this").hint == "this"
