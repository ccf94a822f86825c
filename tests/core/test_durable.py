from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pagewarden import durable
from pagewarden.errors import OutOfSpace, TargetFailed
from pagewarden.testing import FaultyOs, cut, each_fault

DATA = bytes(range(256)) * 40


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_write_puts_all_or_nothing_in_place(tmp_path: Path) -> None:
    """The new content stands at the path, for the owner alone, and nothing else is left."""
    durable.write(tmp_path / "file", b"old")
    durable.write(tmp_path / "file", DATA)
    assert (tmp_path / "file").read_bytes() == DATA
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["file"]


def test_create_never_replaces(tmp_path: Path) -> None:
    """An existing file and a dangling link are in the way."""
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            durable.create(tmp_path / name)
    descriptor = durable.create(tmp_path / "new", readable=True)
    durable.write_at(descriptor, b"data", 2)
    assert os.pread(descriptor, 9, 0) == b"\0\0data"
    os.close(descriptor)


def test_write_at_survives_short_writes(tmp_path: Path) -> None:
    """However few bytes the system takes at once, all arrive in their place."""
    descriptor = durable.create(tmp_path / "file")
    for short in range(1, 4):
        with cut(durable, FaultyOs(short, short=True)):
            durable.write_at(descriptor, DATA, 10)
        assert (tmp_path / "file").read_bytes()[10:] == DATA
    os.close(descriptor)


def test_a_copy_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of any size; nothing is replaced, and what could not be copied to its end is taken back."""
    (tmp_path / "file").write_bytes(DATA)
    monkeypatch.setattr(durable, "_CHUNK", 1000)
    durable.copy(tmp_path / "file", tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == DATA
    assert (tmp_path / "second").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        durable.copy(tmp_path / "second", tmp_path / "file")
    with cut(durable, FaultyOs(2)), pytest.raises(OSError, match="pwrite"):
        durable.copy(tmp_path / "file", tmp_path / "third")
    with pytest.raises(FileNotFoundError):
        durable.copy(tmp_path / "missing", tmp_path / "third")
    assert names(tmp_path) == ["file", "second"]


def test_adopt_is_only_if_absent(tmp_path: Path) -> None:
    """An existing destination, even a dangling link, is not replaced, and the source stays."""
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "taken").write_bytes(b"old")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("taken", "link"):
        with pytest.raises(FileExistsError):
            durable.adopt(tmp_path / "source", tmp_path / name)
    assert (tmp_path / "source").read_bytes() == b"new"
    assert (tmp_path / "taken").read_bytes() == b"old"
    durable.adopt(tmp_path / "source", tmp_path / "free")
    assert (tmp_path / "free").read_bytes() == b"new"
    assert names(tmp_path) == ["free", "link", "taken"]


def test_remove_is_idempotent(tmp_path: Path) -> None:
    """Removing what is not there is no error."""
    (tmp_path / "file").write_bytes(b"")
    durable.remove(tmp_path / "file")
    durable.remove(tmp_path / "file")
    assert names(tmp_path) == []


def test_directories_are_made_private(tmp_path: Path) -> None:
    """Every directory that was missing is made for the owner alone; making them again changes nothing."""
    durable.make_directories(tmp_path / "a/b/c")
    durable.make_directories(tmp_path / "a/b/c")
    for path in (tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/c"):
        assert path.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        durable.make_directories(tmp_path / "file/below")


def test_a_directory_that_another_process_makes_first_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two who make the same directory both have it."""
    real = os.mkdir

    def twice(*arguments: object, **named: object) -> None:
        real(*arguments, **named)  # type: ignore[arg-type]
        real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "mkdir", twice)
    durable.make_directories(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, OutOfSpace),
        (errno.EDQUOT, OutOfSpace),
        (errno.EFBIG, OutOfSpace),
        (errno.EACCES, TargetFailed),
        (errno.EIO, TargetFailed),
    ],
)
def test_failures_have_names(number: int, error: type[Exception]) -> None:
    """What went wrong and where is in the message, lower-case, with a hint."""
    failed = durable.failure(OSError(number, os.strerror(number), "/b/x"), "cannot write /b/x")
    assert type(failed) is error
    assert failed.message == f"cannot write /b/x: {os.strerror(number).lower()}"
    assert failed.hint
    assert failed.fields == {"errno": number}
    assert durable.failure(OSError("odd"), "cannot").message == "cannot: odd"
    assert durable.failure(OSError(), "cannot").message == "cannot: oserror"


def test_room_is_allocated_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has its size and its blocks at once; only its size where that cannot be had; none of nothing."""

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for number, (size, blocks) in enumerate(((1 << 20, True), (0, False), (1 << 20, False), (1 << 20, False))):
        if number == 2:
            monkeypatch.setattr(os, "posix_fallocate", refuse)
        if number == 3:
            monkeypatch.delattr(os, "posix_fallocate")
        descriptor = durable.create(tmp_path / f"{number}")
        durable.allocate(descriptor, size)
        found = os.fstat(descriptor)
        assert (found.st_size, found.st_blocks * 512 >= (1 << 20)) == (size, blocks)
        os.close(descriptor)
    monkeypatch.setattr(os, "posix_fallocate", fail, raising=False)
    descriptor = durable.create(tmp_path / "full")
    with pytest.raises(OSError, match="No space"):
        durable.allocate(descriptor, 1)
    os.close(descriptor)


def prepare(folder: Path) -> None:
    """Make the state that each action begins from."""
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    (folder / "source").write_bytes(DATA)


def state(folder: Path) -> dict[str, bytes]:
    """Return the files that count, without temporary ones."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name[0] != "."}


ACTIONS: dict[str, Callable[[Path], None]] = {
    "write": lambda folder: durable.write(folder / "file", DATA),
    "write_new": lambda folder: durable.write_new(folder / "new", DATA),
    "adopt": lambda folder: durable.adopt(folder / "source", folder / "new"),
    "replace": lambda folder: durable.replace(folder / "source", folder / "file"),
    "remove": lambda folder: durable.remove(folder / "file"),
    "make_directories": lambda folder: durable.make_directories(folder / "a/b"),
}
OLD = {"file": b"old", "source": DATA}
NEW = {
    "write": {"file": DATA, "source": DATA},
    "write_new": {"file": b"old", "source": DATA, "new": DATA},
    "adopt": {"file": b"old", "new": DATA},
    "replace": {"file": DATA},
    "remove": {"source": DATA},
    "make_directories": OLD,
}
BETWEEN = {  # what a cut may leave besides: the file under both names
    "adopt": {"file": b"old", "source": DATA, "new": DATA},
}


@pytest.mark.parametrize("forever", [False, True], ids=["once", "forever"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["io", "full"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_failing_call_leaves_the_old_state_or_the_new_one(
    tmp_path: Path, action: str, number: int, forever: bool
) -> None:
    """An error at call n = 1, 2, 3 … is raised as it is, and nothing is half there (H30)."""
    for faulty in each_fault(number=number, forever=forever):
        folder = tmp_path / f"{faulty.at}"
        prepare(folder)
        try:
            with cut(durable, faulty):
                ACTIONS[action](folder)
        except OSError as error:
            assert error.errno == number
            found = state(folder)
            if action == "write_new":  # its name is a temporary one, and may stay where not even unlink works
                found = {**OLD, **({"new": DATA} if found.get("new") == DATA else {})} if forever else found
            assert found in (OLD, NEW[action], BETWEEN.get(action))
            if not forever:
                assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        else:
            assert state(folder) == NEW[action]
    assert faulty.at > 1


KILL = """
import os, sys
from pathlib import Path
from tests.core.test_durable import ACTIONS
seen = 0
def wrap(name):
    real = getattr(os, name)
    def call(*arguments, **named):
        global seen
        seen += 1
        if seen == at:
            os._exit(77)
        return real(*arguments, **named)
    setattr(os, name, call)
for name in ("fsync", "link", "mkdir", "open", "pwrite", "replace", "unlink"):
    wrap(name)
folder = Path(sys.argv[2])
for at in range(1, 40):
    seen = 0
    place = folder / str(at)
    child = os.fork()
    if not child:
        ACTIONS[sys.argv[1]](place)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(at)
        break
"""


@pytest.mark.parametrize("action", ACTIONS)
def test_a_kill_leaves_the_old_state_or_the_new_one(tmp_path: Path, action: str) -> None:
    """A process that dies at call n = 1, 2, 3 … leaves nothing half-written under a name that counts (H30)."""
    for at in range(1, 40):
        prepare(tmp_path / f"{at}")
    done = subprocess.run(
        [sys.executable, "-c", KILL, action, str(tmp_path)], capture_output=True, text=True, check=True
    )
    last = int(done.stdout)
    assert 1 < last < 39
    for at in range(1, last):
        found = state(tmp_path / f"{at}")
        if action == "write_new":
            found.pop("new", None)  # a temporary name
        assert found in (OLD, NEW[action], BETWEEN.get(action))
    assert state(tmp_path / f"{last}") == NEW[action]
