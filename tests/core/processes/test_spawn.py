"""Starting a module as a child process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from pagewarden.processes import spawn
from pagewarden.processes.spawn import LAST_WORDS, Child, gist, module_path, signal_name
from tests.support.gone import gone
from tests.support.program import succeed

MUTE = "tests.support.mute"


def test_a_child_imports_what_its_parent_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The module path is the parent's, folders added at run time included, but never the current directory."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    child = Child(MUTE)
    child.channel.send("path")
    path = child.channel.receive()
    assert isinstance(path, list)
    assert str(tmp_path) == path[0]
    assert "" not in path
    assert [folder for folder in module_path().split(os.pathsep) if folder not in path] == []
    child.stop()


def test_only_three_descriptors_are_inherited(tmp_path: Path) -> None:
    """A database's descriptor must not reach a process that would close it unknowingly (H1, H3)."""
    held = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(held, True)
    child = Child(MUTE)
    child.channel.send("path")
    child.channel.receive()
    descriptors = child.channel.receive()
    # Three standard ones, two copies that the child itself made for the channel, and the listed folder.
    assert isinstance(descriptors, list)
    assert len(descriptors) == 6
    child.stop()
    os.close(held)


def test_the_path_names_the_package_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that found the package through the current directory or an import hook has children that find it."""
    monkeypatch.setattr(sys, "path", ["", "relative", f"/odd{os.pathsep}name"])
    folders = module_path().split(os.pathsep)
    assert folders == [str(Path("relative").absolute()), str(Path(spawn.__file__).parents[2])]


def test_a_child_that_lingers_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending the conversation ends the process, one way or the other."""
    monkeypatch.setattr(spawn, "_GRACE", 0.2)
    child = Child(MUTE)
    child.channel.send("linger")
    assert child.running
    child.stop()
    assert not child.running


def test_a_child_is_waited_for_where_processes_have_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other systems than Linux, and on old ones."""
    monkeypatch.delattr(os, "pidfd_open")
    child = Child(MUTE)
    child.channel.send("linger")
    child.kill()
    assert child.died() == ("was killed by SIGKILL", "")
    child = Child(MUTE)
    child.channel.send("fork")
    with pytest.raises(EOFError):
        child.channel.receive()
    assert child.died() == ("ended with status 4", "last words")


def test_the_last_words_are_kept_and_bounded() -> None:
    """A child that writes more than its pipe holds neither hangs, nor is refused, nor fills memory."""
    child = Child(MUTE)
    child.channel.send("shout")
    assert child.channel.receive() == "still here"
    how, words = child.died()
    assert how == "ended with status 3"
    assert len(words) <= LAST_WORDS
    assert words.endswith("xxx")


def test_the_end_is_seen_though_a_grandchild_holds_the_pipe() -> None:
    """What is there of standard error is taken, and nobody waits for its end, nor for that of the channel."""
    child = Child(MUTE)
    child.channel.send("fork")
    began = time.monotonic()
    with pytest.raises(EOFError):
        child.channel.receive()
    with pytest.raises(BrokenPipeError):
        child.channel.send("x" * (1 << 20))
    assert child.died() == ("ended with status 4", "last words")
    assert time.monotonic() - began < 1.9


@pytest.mark.parametrize("end", ["stop", "died", "killed"])
def test_what_a_child_started_ends_with_it(end: str) -> None:
    """However it ends itself: its group is killed before its id is given free."""
    child = Child(MUTE)
    child.channel.send("breed")
    grandchild = child.channel.receive()
    assert isinstance(grandchild, int)
    if end == "killed":
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(EOFError):
            child.channel.receive()
        assert not child.running
        child.kill()  # too late, and yet nothing is reaped by it
    child.stop() if end == "stop" else child.died()
    assert gone(grandchild)


def test_a_child_that_talks_to_standard_error_and_reads_nothing_is_heard() -> None:
    """A long message for it waits until it reads; what it writes meanwhile is taken."""
    child = Child(MUTE)
    child.channel.send("shout and take")
    child.channel.send("y" * (1 << 20))
    assert child.channel.receive() is True
    child.stop()


def test_the_gist_of_last_words_is_how_it_crashed_or_the_last_line() -> None:
    """A crash in native code is told before its stack, an exception after it."""
    crash = "mine\nFatal Python error: Aborted\n\nCurrent thread 0x1\n  File x\n\nExtension modules: a (total: 1)"
    assert gist(crash) == "Fatal Python error: Aborted"
    assert gist("Traceback\n  File x\nValueError: two") == "ValueError: two"
    assert gist("") == ""


def test_signals_are_named() -> None:
    """By their names where they have one."""
    assert signal_name(signal.SIGSEGV) == "SIGSEGV"
    assert signal_name(signal.SIGRTMIN + 3) == f"signal {signal.SIGRTMIN + 3}"


def test_a_child_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the system's, and no descriptor leaks."""
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError):
        Child(MUTE)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_starting_and_stopping_leaks_no_descriptor() -> None:
    """Not one, over many children."""
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        child = Child(MUTE)
        child.channel.send("shout")
        child.died()
        Child(MUTE).stop()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_child_has_a_process_group_of_its_own() -> None:
    """Ctrl-C in a terminal is not sent to it."""
    child = Child(MUTE)
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    child.stop()


def test_starting_survives_a_parent_without_bytes_to_spare() -> None:
    """A parent whose own standard streams are closed can start a child all the same."""
    program = (
        "import os, sys; os.close(0); os.close(1); os.close(2); sys.path.append(os.getcwd())\n"
        "from pagewarden.processes.spawn import Child\n"
        f"child = Child({MUTE!r}); child.channel.send('shout')\n"
        "answer = child.channel.receive(); child.died()\n"
        "os._exit(0 if answer == 'still here' else 1)\n"
    )
    succeed(program)
