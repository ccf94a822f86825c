"""The folder of a check's copy goes with its check, or with the next one where that was killed."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from pagewarden.check.run import CheckRequest, run_check
from pagewarden.check.scratch import PREFIX, Scratch
from pagewarden.runtime import Runtime
from pagewarden.values import Level, Verdict
from tests.support import program
from tests.support.databases import build


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files, for the test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_killed_check_leaves_its_copy_to_the_next_one(temporary: Path, tmp_path: Path) -> None:
    """The copy holds all that the database holds, and is as large."""
    program.run(
        """
        import os, signal, sys, tempfile
        from pagewarden.check.scratch import Scratch
        tempfile.tempdir = sys.argv[1]
        (Scratch().path / "app.db").write_bytes(b"secret")
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        temporary,
    )
    (left,) = temporary.iterdir()
    assert (left / "app.db").read_bytes() == b"secret"
    with Runtime(state=tmp_path / "state") as runtime:
        request = CheckRequest(database=str(build(tmp_path / "a.db")), level=Level.STANDARD)
        assert run_check(request, runtime).verdict is Verdict.SOUND
    assert list(temporary.iterdir()) == []


def test_a_folder_that_is_held_or_not_a_checks_stays(temporary: Path) -> None:
    """Two checks at a time do not take each other's copy; a link leads nowhere, and other files are not ours."""
    first = Scratch()
    (first.path / "app.db").touch()
    (temporary / "other").mkdir()
    (temporary / f"{PREFIX}file").touch()
    (temporary / f"{PREFIX}link").symlink_to(temporary / "other")
    second = Scratch()
    second.close()
    assert (first.path / "app.db").exists()
    first.close()
    assert {path.name for path in temporary.iterdir()} == {"other", f"{PREFIX}file", f"{PREFIX}link"}


def test_a_folder_that_another_check_swept_is_made_anew(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was removed between its making and its lock is not used."""
    made: list[Path] = []
    real = fcntl.flock

    def sweep_first(descriptor: int, how: int) -> None:
        if not made:
            (folder,) = temporary.iterdir()
            folder.rmdir()
            made.append(folder)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", sweep_first)
    scratch = Scratch()
    assert made != [scratch.path] and scratch.path.is_dir()
    scratch.close()


def test_a_file_system_without_locks_keeps_nobody_from_checking(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is swept: nobody can tell whose it is."""

    def refuse(_descriptor: int, _how: int) -> None:
        raise OSError(os.strerror(38))

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = temporary / f"{PREFIX}left"
    left.mkdir()
    scratch = Scratch()
    assert scratch.path.is_dir()
    scratch.close()
    assert list(temporary.iterdir()) == [left]
