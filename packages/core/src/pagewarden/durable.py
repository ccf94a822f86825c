"""Files that survive a kill and a power cut: write, fsync, link or rename, fsync the directory. One helper for all.

Each function leaves, wherever it is cut, either the old state or the new one, plus at most a file under the temporary
or source name that it was given (H30). Errors are `OSError` as the system gave them; `failure` turns one into the
error that a caller meets. Whatever changes a file system here goes through this module's `os`, which is what fault
tests cut (`pagewarden.testing.cut`); hence `os` and not pathlib.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pagewarden.errors import OutOfSpace, PagewardenError, TargetFailed

FILE_MODE = 0o600
"""Permissions of every file: its owner alone, because a backup holds all that the database holds."""

DIRECTORY_MODE = 0o700
"""Permissions of every directory that is made here; those of one that is there already are not touched."""

Buffer = bytes | bytearray | memoryview

FORGOTTEN = 24 * 60 * 60.0
"""Seconds after its last change when a temporary file is a killed process's."""

_CHUNK = 4 << 20  # bytes copied at once
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


def failure(error: OSError, what: str) -> PagewardenError:
    """Return the error for `error`, which stopped `what` (such as "cannot write /b/objects/x").

    OutOfSpace where a file system, a quota or a file's largest size is exhausted, else TargetFailed.
    """
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    if error.errno in _FULL:
        return OutOfSpace(f"{what}: {reason}", hint="free space there, then try again", errno=error.errno)
    return TargetFailed(f"{what}: {reason}", hint="look at the permissions and the disk there", errno=error.errno)


def create(path: Path, *, readable: bool = False) -> int:
    """Create the file `path` for writing (and reading, if `readable`) and return its descriptor.

    Raises FileExistsError if anything is there, a dangling symbolic link included.
    """
    access = os.O_RDWR if readable else os.O_WRONLY
    return os.open(path, access | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


def write_at(descriptor: int, data: Buffer, offset: int) -> None:
    """Write all of `data` at byte `offset`, however often the system takes only a part of it."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def allocate(descriptor: int, size: int) -> None:
    """Make the empty file `size` bytes long, with room on the disk for all of them where the system can say so."""
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:  # posix_fallocate(3): what the file system cannot do; glibc does it in another way
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
    os.ftruncate(descriptor, size)


def sync_directory(path: Path) -> None:
    """Make the names in directory `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the contents of file `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: Path) -> None:
    """Create directory `path` and what is missing above it, each with its name durable in its parent."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        try:
            os.mkdir(directory, DIRECTORY_MODE)
        except FileExistsError:
            if not directory.is_dir():  # a file stands in the way; otherwise another process was first
                raise
        sync_directory(directory.parent)


def write_new(path: Path, data: Buffer) -> None:
    """Create `path` with `data`, contents durable; its name is not yet (`adopt` and `replace` see to that).

    What was begun is removed where writing fails.
    """
    descriptor = create(path)
    try:
        try:
            write_at(descriptor, data, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        os.unlink(path)
        raise


def copy(source: Path, destination: Path) -> None:
    """Create `destination` with the contents of the file `source`, durable only once `adopt` or `replace` saw to that.

    What was begun is removed where copying fails. Raises FileExistsError if anything is there.
    """
    descriptor = create(destination)
    try:
        with source.open("rb") as stream:
            offset = 0
            while data := stream.read(_CHUNK):
                write_at(descriptor, data, offset)
                offset += len(data)
    except BaseException:
        os.unlink(destination)
        raise
    finally:
        os.close(descriptor)


def adopt(source: Path, destination: Path) -> None:
    """Move the file `source` to `destination`, on the same file system, only if nothing is there.

    Durable when it returns. Raises FileExistsError, both files unchanged, if `destination` exists; TargetFailed where
    the file system has no hard links, which are what makes "only if absent" one step (link(2) never replaces).
    If `destination` could not be made durable it is taken back, as far as the system allows.
    """
    sync_file(source)
    try:
        os.link(source, destination, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise TargetFailed(
            f"cannot link {source} to {destination}: {(error.strerror or '').lower()}",
            hint="keep the repository on one file system that has hard links, such as ext4, xfs, btrfs or zfs",
            errno=error.errno,
        ) from error
    try:
        sync_directory(destination.parent)
    except OSError:
        os.unlink(destination)
        raise
    os.unlink(source)


def replace(source: Path, destination: Path) -> None:
    """Rename `source`, made durable first, over `destination`; the new name is durable when it returns."""
    sync_file(source)
    os.replace(source, destination)
    sync_directory(destination.parent)


def write(path: Path, data: Buffer) -> None:
    """Put a file with `data` at `path`, whole or not at all, in place of what is there; durable when it returns."""
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    write_new(temporary, data)
    try:
        replace(temporary, path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):  # it was renamed, and only the fsync after that failed
            os.unlink(temporary)
        raise


def sweep(files: Iterable[Path], clock: Callable[[], float] = time.time) -> None:
    """Remove those of the temporary `files` that killed processes left."""
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # another process was done with it
            if clock() - file.lstat().st_mtime > FORGOTTEN:
                os.unlink(file)


def remove(path: Path) -> None:
    """Remove the file `path`, durably; one that is not there is no error."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_directory(path.parent)
