"""Opening a file by name where anybody may have put something else: a link, a FIFO, a device, a folder.

To open a FIFO waits for a writer, for ever; to open a device can do things. So what stands there is looked at first,
and again once it is open. No file of a live database is opened by this in a process that has a connection to it (H1).
"""

from __future__ import annotations

import errno
import os
import stat

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegular(OSError):
    """What stands there is no regular file; `strerror` says what it is."""


def odd_kind(path: str | os.PathLike[str]) -> str:
    """Return what stands at `path`, such as "a FIFO"; empty for a regular file, and where there is nothing.

    Nothing is opened, and a link counts as one. Raises OSError where the system does not let it be looked at.
    """
    try:
        return _kind(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return ""


def open_regular_file(path: str | os.PathLike[str]) -> int:
    """Open a regular file for reading, and return its descriptor. Raises NotRegular, or OSError as the system does."""
    _require(os.lstat(path).st_mode, path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _require(os.fstat(descriptor).st_mode, path)
    except NotRegular:
        os.close(descriptor)
        raise
    return descriptor


def read_regular_file(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a regular file of `most` bytes at the most. Raises as `open_regular_file` does."""
    with os.fdopen(open_regular_file(path), "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EINVAL, f"it has more than {most:,} bytes", os.fspath(path))
    return data


def _kind(mode: int) -> str:
    return "" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something odd")


def _require(mode: int, path: str | os.PathLike[str]) -> None:
    if kind := _kind(mode):
        raise NotRegular(errno.EINVAL, f"it is {kind}, not a regular file", os.fspath(path))
