"""What the tests of bad input share: a folder of their own, a way to type twice, and proof that nothing was touched."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pagewarden.errors import error_classes
from pagewarden_cli.command import main
from tests.cli import conftest as cli
from tests.cli.conftest import Type, enter_home
from tests.support.databases import build

Tree = dict[str, tuple[int, int, int, bytes]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own with the folder for temporary files in it, and the current folder there."""
    home = enter_home(tmp_path / "home", monkeypatch)
    (home / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(home / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return home


warm_reader, type_in = cli.warm_reader, cli.type_in


@pytest.fixture
def good(home: Path) -> Path:
    """A sound database in rollback-journal mode."""
    return build(home / "good.db", rows=20)


@pytest.fixture(scope="session")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with such a database and a repository, as a backup leaves it; to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        home = enter_home(tmp_path_factory.mktemp("template") / "home", patch)
        path = build(home / "good.db", rows=20)
        assert main(["backup", str(path), "--repo", "r"]) == 0
    return home


@pytest.fixture
def repository(backed_up: Path, good: Path, home: Path) -> Path:
    """A repository with one backup of it."""
    shutil.copytree(backed_up, home, dirs_exist_ok=True)
    return home / "r"


LEDGER = Path(".local/state/pagewarden/ledger.db")
"""Where checks are remembered: the one file that a check makes in the home folder. No log of its own may be left."""


def tree(folder: Path) -> Tree:
    """Return type, links, time of the last change and content of everything in a folder; times of its folders not.

    The ledger of a home folder is left out, with the folders that lead to it.
    """
    found: Tree = {}
    left_out = {folder / LEDGER, *(folder / parent for parent in LEDGER.parents[:-1])}
    for path in sorted(folder.rglob("*")):
        if path in left_out:
            continue
        status = path.lstat()
        regular = stat.S_ISREG(status.st_mode)
        changed = 0 if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
        content = path.read_bytes() if regular else b""
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_nlink if regular else 0, changed, content)
    return found


@dataclass(frozen=True)
class Refused:
    """An error as both manners of output gave it."""

    code: int
    slug: str
    message: str
    hint: str


Refuse = Callable[..., Refused]


@pytest.fixture
def refuse(type_in: Type, home: Path) -> Refuse:
    """Type a command line that must be refused, for people and for programs; nothing may be touched or left."""

    def run(*words: str | Path, anew: Callable[[], Any] = lambda: None) -> Refused:
        anew()
        before = tree(home)
        shown = type_in(*words)
        assert tree(home) == before
        anew()
        before = tree(home)
        typed = type_in(*words, "--json")
        assert tree(home) == before
        error = typed.document["error"]
        assert set(error) == {"slug", "message", "hint", "exit_code"}
        assert (shown.code, typed.code) == (error["exit_code"],) * 2
        leaf = error_classes()[error["slug"]]
        assert typed.code == leaf.exit_code
        assert error["message"] and error["hint"]
        first, second = shown.err.splitlines()
        assert (shown.out, typed.err) == ("", "")
        assert first.startswith("pagewarden: ") and second.startswith("hint: ")
        return Refused(typed.code, error["slug"], error["message"], error["hint"])

    return run
