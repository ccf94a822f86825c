"""A third-party plugin, a real package, is installed into a folder of its own and used from the command line."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pagewarden.testing import INJURIES
from pagewarden.testing.contracts import make_database

PACKAGE = Path(__file__).parent / "pagewarden-example"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package was installed into, built from a copy of its source."""
    source = tmp_path_factory.mktemp("source") / PACKAGE.name
    shutil.copytree(PACKAGE, source)
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
         "--no-build-isolation", "--target", str(folder), str(source)],
        check=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A sound database."""
    (tmp_path / "live").mkdir()
    return make_database(tmp_path / "live" / "app.db")


class Terminal:
    """The command line, with the plugin on its path."""

    def __init__(self, installed: Path, folder: Path) -> None:
        """What the plugin writes, and the state, goes to `folder`."""
        self.notices = folder / "notices"
        self.events = folder / "events"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(installed),
            "PAGEWARDEN_EXAMPLE_NOTICES": str(self.notices),
            "PAGEWARDEN_EXAMPLE_EVENTS": str(self.events),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def run(self, *words: str) -> tuple[int, Any]:
        """Run `pagewarden WORDS --json`; return its exit code and the document."""
        done = subprocess.run(
            [sys.executable, "-m", "pagewarden_cli", *words, "--json"],
            check=False,
            capture_output=True,
            env=self.environment,
            timeout=120,
        )
        assert done.stdout, done.stderr.decode()
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def terminal(installed: Path, tmp_path: Path) -> Terminal:
    """A command line."""
    return Terminal(installed, tmp_path)


def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    """They are the contract suites, each with one fixture."""
    pytest_quietly = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    subprocess.run(
        [*pytest_quietly, str(PACKAGE / "tests/contracts.py"), "--rootdir", str(tmp_path), "-c", os.devnull],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_it_is_listed_with_all_that_it_brings(terminal: Terminal) -> None:
    """Name, version, module, and one of each kind; there are no faults."""
    code, report = terminal.run("plugins")
    (example,) = (plugin for plugin in report["plugins"] if plugin["name"] == "example")
    assert (example["version"], example["module"], example["fault"]) == ("2.3", "pagewarden_example", "")
    assert (example["checkers"], example["repairers"]) == (["check-empty-tables"], ["repair-empty-rows"])
    assert (example["targets"], example["notifiers"], example["observes"]) == (["flat"], ["notify-lines"], True)
    assert (code, report["faults"]) == (0, [])


def test_its_checker_runs_by_name(terminal: Terminal, database: Path) -> None:
    """And its observer sees the run."""
    code, report = terminal.run("check", str(database), "--only", "check-empty-tables", "--level", "quick")
    assert (code, report["verdict"]) == (0, "sound")
    assert [checker["name"] for checker in report["checkers"]] == ["check-empty-tables"]
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE forgotten(a)")
    code, report = terminal.run("check", str(database))
    found = [finding for finding in report["findings"] if finding["checker"] == "check-empty-tables"]
    assert [(finding["kind"], finding["object"], finding["severity"]) for finding in found] == [
        ("empty-table", "forgotten", "notice")
    ]
    assert code == 0
    names = [json.loads(line)["name"] for line in terminal.events.read_text().splitlines()]
    assert names[0] == "check.started"
    assert names[-1] == "check.finished"
    assert not terminal.notices.exists()


def test_its_notifier_tells_of_damage(terminal: Terminal, database: Path) -> None:
    """Which database, and what was found."""
    INJURIES["zeroed-page"].apply(database, 1)
    code, report = terminal.run("check", str(database))
    assert (code, report["verdict"]) == (1, "damaged")
    (notice,) = (json.loads(line) for line in terminal.notices.read_text().splitlines())
    assert (notice["title"], notice["severity"]) == (f"{database} is damaged", "damage")
    assert notice["database"] == str(database)


def test_backups_go_to_its_target_and_come_back(terminal: Terminal, database: Path, tmp_path: Path) -> None:
    """A target without local files and without a staging folder: backup, list, verify, check against it, restore."""
    url = f"flat://{tmp_path}/store"
    code, report = terminal.run("backup", str(database), "--repo", url)
    assert (code, report["verified"], report["repository"]) == (0, True, url)
    code, report = terminal.run("backups", "--repo", url)
    assert (code, len(report["backups"])) == (0, 1)
    assert terminal.run("verify", "--repo", url, "--read-data")[0] == 0
    INJURIES["flipped-bit"].apply(database, 1)
    code, report = terminal.run("check", str(database), "--repo", url)
    assert (code, [finding["kind"] for finding in report["findings"] if finding["severity"] == "damage"]) == (
        1,
        ["flipped-bit"],
    )
    restored = tmp_path / "restored.db"
    assert terminal.run("restore", "--repo", url, "--to", str(restored))[0] == 0
    assert restored.stat().st_size == database.stat().st_size
