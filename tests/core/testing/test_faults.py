from __future__ import annotations

import errno
import os
from pathlib import Path
from types import ModuleType

import pytest

from pagewarden.testing import FaultyOs, Killed, cut, each_fault


@pytest.fixture
def subject() -> ModuleType:
    """A module that writes a file durably, and tidies up if that fails."""
    made = ModuleType("subject")
    source = """
import os
def write(path, data):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        done = os.write(descriptor, data)
        os.fsync(descriptor)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return done
"""
    exec(source, made.__dict__)
    return made


def test_without_a_fault_everything_passes(subject: ModuleType, tmp_path: Path) -> None:
    """Calls are counted in order, and the module has its own `os` again afterwards."""
    with cut(subject, FaultyOs()) as faulty:
        assert subject.write(tmp_path / "a", b"data") == 4
    assert faulty.seen == ["open", "write", "fsync"]
    assert not faulty.fired
    assert subject.os is os


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_every_call_fails_once(subject: ModuleType, tmp_path: Path, number: int) -> None:
    """At call 1, 2, 3, until a run passes: the error is the system's, and nothing is left."""
    errors = []
    for faulty in each_fault(number=number):
        with cut(subject, faulty):
            try:
                subject.write(tmp_path / "a", b"data")
            except OSError as error:
                errors.append((error.errno, error.filename))
                assert not (tmp_path / "a").exists()
    assert errors == [(number, "open, call 1"), (number, "write, call 2"), (number, "fsync, call 3")]
    assert (tmp_path / "a").read_bytes() == b"data"


def test_a_fault_for_ever_keeps_tidying_from_working(subject: ModuleType, tmp_path: Path) -> None:
    """After the fault each call fails, the one that would tidy up included."""
    with cut(subject, FaultyOs(2, forever=True)) as faulty, pytest.raises(OSError, match="unlink, call 3"):
        subject.write(tmp_path / "a", b"data")
    assert faulty.seen == ["open", "write", "unlink"]


def test_a_killed_process_makes_no_call_more(subject: ModuleType, tmp_path: Path) -> None:
    """No handler for errors sees it, and what was written until then stays."""
    with cut(subject, FaultyOs(3, killed=True)), pytest.raises(Killed, match="killed at call 3, fsync"):
        subject.write(tmp_path / "a", b"data")
    assert (tmp_path / "a").read_bytes() == b"data"


def test_a_short_write_is_a_write(subject: ModuleType, tmp_path: Path) -> None:
    """The system took one byte; that is no error."""
    with cut(subject, FaultyOs(2, short=True)) as faulty:
        assert subject.write(tmp_path / "a", b"data") == 1
    assert faulty.fired


def test_code_that_never_passes_is_found() -> None:
    """The loop ends in an AssertionError."""
    with pytest.raises(AssertionError, match="each of 3 rounds"):
        for faulty in each_fault(most=3):
            faulty.fired = True
