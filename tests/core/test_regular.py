"""Files are opened where anything may stand in their place, and nothing is waited for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pagewarden.regular import NotRegular, odd_kind, open_regular_file, read_regular_file
from tests.support.pipes import unwaited


def test_what_is_no_file_is_named_and_not_opened(tmp_path: Path) -> None:
    """A folder, a link, a FIFO, which would wait for ever, a socket and a device; a file, and nothing, are not odd."""
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "a directory").mkdir()
    (tmp_path / "a symbolic link").symlink_to("file")
    os.mkfifo(tmp_path / "a FIFO")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "a socket"))
        for path in [tmp_path / f"a {kind}" for kind in ("directory", "symbolic link", "FIFO", "socket")]:
            assert odd_kind(path) == path.name
            refused = pytest.raises(NotRegular, match=f"it is {path.name}, not a regular file")
            with unwaited(path), refused:
                read_regular_file(path, 100)
    assert odd_kind("/dev/null") == "a device"
    for name in ("file", "nothing", "file/below"):
        assert odd_kind(tmp_path / name) == ""
    with pytest.raises(FileNotFoundError):
        open_regular_file(tmp_path / "nothing")


def test_no_more_is_read_than_was_allowed(tmp_path: Path) -> None:
    """A file of just so many bytes is read, a longer one is refused."""
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular_file(tmp_path / "file", 4)


def test_what_is_exchanged_before_it_is_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at must be what was opened; nothing stays open."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    found = os.lstat(tmp_path / "file")
    monkeypatch.setattr(os, "lstat", lambda _: found)
    before = os.listdir("/proc/self/fd")
    with unwaited(tmp_path / "fifo"), pytest.raises(NotRegular, match="a FIFO"):
        open_regular_file(tmp_path / "fifo")
    assert os.listdir("/proc/self/fd") == before
