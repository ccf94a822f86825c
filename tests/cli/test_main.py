"""The door: what is started before anything is imported, and that it always ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pagewarden.processes.reader import PageReader
from pagewarden_cli.main import reader_ahead


@pytest.mark.parametrize("words", [["check", "x"], ["--json", "backup"], ["verify", "--repo", "r"], ["-q", "restore"]])
def test_verbs_that_read_pages_have_their_reader_started(words: list[str]) -> None:
    """Without waiting for it."""
    reader = reader_ahead(words)
    assert reader is not None
    assert reader.pid is not None
    reader.close()


@pytest.mark.parametrize(
    "words", [[], ["--json"], ["plugins"], ["check", "--help"], ["-h", "check"], ["undo", "check"]]
)
def test_others_have_not(words: list[str]) -> None:
    """Nor has a call for help."""
    assert reader_ahead(words) is None


def test_a_reader_that_cannot_be_started_ahead_is_left_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is shown when it is needed."""

    def fail(self: PageReader, *, copies: bool, stored: bool) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(PageReader, "start", fail)
    assert reader_ahead(["check", "x"]) is None


def children_left(trace: Path) -> list[int]:
    """Return the processes that a command left behind: those that have its mark in their environment."""
    mark = f"PAGEWARDEN_TEST_MARK={trace}".encode()
    left = []
    for folder in Path("/proc").iterdir():
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                left.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return left


@pytest.mark.parametrize(
    ("words", "code"),
    [(["check", "none.db"], 10), (["check", "--nonsense"], 2), (["check", "app.db"], 0), (["backup", "app.db"], 2)],
)
def test_no_reader_is_left_behind(
    pagewarden: list[str], database: Path, tmp_path: Path, words: list[str], code: int
) -> None:
    """Whether it was used or not."""
    environment = os.environ | {"PAGEWARDEN_TEST_MARK": str(tmp_path)}
    done = subprocess.run([*pagewarden, *words], env=environment, capture_output=True, check=False)
    assert done.returncode == code
    assert children_left(tmp_path) == []


def test_another_number_of_threads_has_another_reader(pagewarden: list[str], database: Path) -> None:
    """The one that was started ahead has the default number; neither is left."""
    Path("c.toml").write_text("[defaults]\nthreads = 1\n")
    words = [*pagewarden, "check", "app.db", "--config", "c.toml"]
    environment = os.environ | {"PAGEWARDEN_TEST_MARK": str(database)}
    done = subprocess.run(words, capture_output=True, check=True, text=True, env=environment)
    assert "is sound" in done.stdout
    assert children_left(database) == []


def test_an_interruption_before_anything_is_imported_is_quiet() -> None:
    """No traceback, and the exit code of the signal."""
    program = """
import signal, sys
import pagewarden_cli.main as door
def interrupt(arguments):
    signal.raise_signal(int(sys.argv[1]))
door.reader_ahead = interrupt
door.run()
"""
    for number, code in ((2, 130), (15, 143)):
        done = subprocess.run([sys.executable, "-c", program, str(number)], capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")
