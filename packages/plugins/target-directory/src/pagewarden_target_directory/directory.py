"""Objects as files under one directory.

An object appears by one link(2), which never replaces anything, of a file that was written and fsynced in the staging
folder; then its folder is fsynced. So nothing half-written ever stands under a key, a crash leaves at most a file in
the staging folder, and of two who put the same key one is refused. The staging folder's name cannot be part of a key.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pagewarden import durable
from pagewarden.contracts import ObjectInfo
from pagewarden.errors import TargetFailed

STAGING = "+staging"
"""Folder in which objects are written before they have a key."""

_PART = re.compile(r"[A-Za-z0-9._=-]+")
_KEY = re.compile(r"(?!\.\.?(?:/|$))[A-Za-z0-9._=-]+(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._=-]+)*")
_HALF = ".put"  # ending of a file in the staging folder that `put` or `adopt` writes
_CHUNK = 4 << 20  # bytes read at once
_AHEAD = 64  # files that are opened before the one that is read
_TURNS = 8  # how often a folder that another process found empty and removed is made again

# Folders are passed through, each opened in the one before; O_PATH needs no permission to list them.
_THROUGH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: whatever stands there, opening must not wait for somebody at its other end.
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class DirectoryTarget:
    """The files under one directory, made for their owner alone (files 0600, folders 0700).

    Raises FileExistsError and FileNotFoundError as the contract says, else TargetFailed or OutOfSpace.
    """

    def __init__(self, root: Path, url: str) -> None:
        """`root` is the directory's real path, which exists."""
        self.url = url
        self.root = root
        found = root.stat()
        self._inode = found.st_dev, found.st_ino

    def put(self, key: str, data: bytes) -> None:
        """Store `data`, durable and whole. Raises FileExistsError if `key` exists."""
        path = self._path(key)
        with self._errors(f"cannot store {path}", FileExistsError):
            half = self._half()
            durable.write_new(half, data)
            self._link(half, path, own=True)

    def adopt(self, key: str, path: Path) -> None:
        """Store the file `path` and remove it; without a copy where it is in the staging folder."""
        destination = self._path(key)
        with self._errors(f"cannot store {destination}", FileExistsError):
            if os.path.realpath(path.parent) == str(self.root / STAGING):
                self._link(path, destination, own=False)
            else:
                half = self._half()
                durable.copy(path, half)
                self._link(half, destination, own=True)
                durable.remove(path)

    def get(self, key: str) -> bytes:
        """Return an object. Raises FileNotFoundError."""
        with self._opened(key) as file:
            return self._read(file, 0, os.fstat(file).st_size)

    def open(self, key: str) -> Path | None:
        """Return the object's file. Raises FileNotFoundError."""
        with self._opened(key):
            return self._path(key)

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return a range of an object. Raises FileNotFoundError."""
        with self._opened(key) as file:
            return self._read(file, offset, length)

    def read_many(self, keys: Sequence[str], length: int) -> Iterator[bytes | None]:
        """Yield the first `length` bytes of each object, None where there is none; the next of a folder costs less."""
        folders = _Folders(self._open_folder)
        ahead: deque[tuple[str, int | Exception | None]] = deque()
        try:
            for key in keys:
                # The disk is at the next ones while one is read.
                ahead.append((key, folders.open(key)))
                if len(ahead) > _AHEAD:
                    yield self._take(*ahead.popleft(), length)
            while ahead:
                yield self._take(*ahead.popleft(), length)
        finally:
            folders.close()
            for _, file in ahead:
                if isinstance(file, int):
                    os.close(file)

    def _take(self, key: str, file: int | Exception | None, length: int) -> bytes | None:
        """Read and close a file that was opened ahead; raise what kept it from being opened."""
        if file is None:
            return None
        if isinstance(file, OSError):
            raise durable.failure(file, f"cannot read {self._path(key)}") from file
        if isinstance(file, Exception):
            raise file
        try:
            return self._read(file, 0, min(length, os.fstat(file).st_size))
        except OSError as error:
            raise durable.failure(error, f"cannot read {self._path(key)}") from error
        finally:
            os.close(file)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, in order."""
        return (key for key, _ in self._found(prefix))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys begin with `prefix`, in order of their keys."""
        for key, entry in self._found(prefix):
            try:
                with self._errors(f"cannot list {key}", FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # it was removed meanwhile
                continue
            modified = datetime.fromtimestamp(status.st_mtime, UTC)
            yield ObjectInfo(key=key, bytes=status.st_size, modified=modified)

    def delete(self, key: str) -> None:
        """Remove an object, durably, and the folders that this leaves empty."""
        path = self._path(key)
        with self._errors(f"cannot remove {path}"):
            if not _is_real(path.parent):
                return
            try:
                durable.remove(path)
            except FileNotFoundError:  # another process removed the folder, empty since this object went
                return
            self._remove_empty(path.parent)

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects, durably, and the folders that this leaves empty: each folder is written once."""
        folders: dict[Path, None] = {}
        for key in keys:
            path = self._path(key)
            with self._errors(f"cannot remove {path}"):
                if path.parent in folders or _is_real(path.parent):
                    path.unlink(missing_ok=True)
                    folders[path.parent] = None
        for folder in folders:
            with self._errors(f"cannot remove what was in {folder}"):
                with suppress(FileNotFoundError):  # another process removed it, empty since its last object went
                    durable.sync_directory(folder)
                self._remove_empty(folder)

    def _remove_empty(self, folder: Path) -> None:
        """Remove a folder and those above it that are empty."""
        while folder != self.root:
            try:
                folder.rmdir()
            except OSError:  # not empty; or somebody was faster, and whoever needs it makes it again: see _link
                break
            folder = folder.parent
            with suppress(FileNotFoundError):  # the next folder up went, too
                durable.sync_directory(folder)

    def staging(self) -> Path | None:
        """Return the staging folder, from which `adopt` is a link."""
        return self._staging()

    def _staging(self) -> Path:
        folder = self.root / STAGING
        with self._errors(f"cannot make {folder}"):
            self._look_at_root()
            durable.make_directories(folder)
            durable.sweep(folder.glob(f"*{_HALF}"))
        return folder

    def _path(self, key: str) -> Path:
        """Return where `key` stands. Raises ValueError for what is no key, so that none leads anywhere else."""
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"{key!r} is no key")
        return self.root / key

    def _half(self) -> Path:
        """Return a new name in the staging folder."""
        return self._staging() / f"{os.urandom(8).hex()}{_HALF}"

    def _link(self, source: Path, destination: Path, *, own: bool) -> None:
        """Give the file `source` its key; a file of our `own` is removed where that fails."""
        try:
            for turn in range(_TURNS):
                try:
                    self._make_folder(destination.parent)
                    durable.adopt(source, destination)
                    return
                except FileNotFoundError:
                    # Another process removed the empty folder between the two steps (see delete), or `source` is gone.
                    if turn == _TURNS - 1 or not source.exists():
                        raise
        except BaseException:
            if own:
                source.unlink(missing_ok=True)
            raise

    def _look_at_root(self) -> None:
        """Raise TargetFailed unless the directory is the one that was opened: it may be on a disk that went away."""
        found = self.root.stat()
        if (found.st_dev, found.st_ino) != self._inode:
            raise TargetFailed(
                f"{self.root} is another directory than it was when it was opened",
                hint=f"look whether its disk is mounted: findmnt --target {shlex.quote(str(self.root))}",
            )

    def _make_folder(self, folder: Path) -> None:
        self._look_at_root()
        if os.path.realpath(folder) != str(folder):
            raise TargetFailed(
                f"cannot store anything in {folder}: a symbolic link leads to {os.path.realpath(folder)}",
                hint="put a directory in the link's place",
            )
        try:
            durable.make_directories(folder)
        except FileExistsError as error:  # not the key: a file in the place of a folder above it
            raise TargetFailed(
                f"{error.filename} is a file where a folder has to be", hint="look where it is from"
            ) from error

    @contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        path = self._path(key)
        parent, _, name = key.rpartition("/")
        with self._errors(f"cannot read {path}", FileNotFoundError):
            folder = self._open_folder(parent)
            try:
                file = _open_file(folder, name)
            finally:
                os.close(folder)
            try:
                yield file
            finally:
                os.close(file)

    def _open_folder(self, key: str) -> int:
        """Open the folder of keys that begin with `key/`; FileNotFoundError where it is none, or a link leads there."""
        folder = os.open(self.root, _THROUGH)
        for part in key.split("/") if key else ():
            above = folder
            try:
                folder = os.open(part, _THROUGH, dir_fd=above)
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise FileNotFoundError(f"there is no folder {self.root / key}") from error
                raise
            finally:
                os.close(above)
        return folder

    def _read(self, file: int, offset: int, length: int) -> bytes:
        part = os.pread(file, min(length, _CHUNK), offset)
        parts = [part]
        while part and (length := length - len(part)) > 0:
            offset += len(part)
            part = os.pread(file, min(length, _CHUNK), offset)
            parts.append(part)
        return b"".join(parts)

    def _found(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield the keys that begin with `prefix`, in order, and their files."""
        folder, slash, _ = prefix.rpartition("/")  # only this one is walked, not the whole repository
        try:
            start = self._path(folder) if slash else self.root
        except ValueError:  # no key begins so
            return
        with self._errors(f"cannot list {start}"):
            if _is_real(start):
                yield from _walk(str(start), folder + slash, prefix)

    @contextmanager
    def _errors(self, what: str, *passing: type[OSError]) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, passing):
                raise
            raise durable.failure(error, what) from error


def _is_real(folder: Path) -> bool:
    """Return whether `folder` is a directory, reached without any symbolic link."""
    return folder.is_dir() and os.path.realpath(folder) == str(folder)


def _walk(folder: str, begin: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield what is below `folder`, whose keys begin with `begin`. Links and other names are not ours."""
    files: dict[str, os.DirEntry[str]] = {}
    folders: dict[str, os.DirEntry[str]] = {}
    try:
        with os.scandir(folder) as found:
            for entry in found:
                name = entry.name
                if _PART.fullmatch(name) is None:
                    continue
                if entry.is_file(follow_symlinks=False):
                    files[begin + name] = entry
                elif entry.is_dir(follow_symlinks=False):
                    folders[f"{begin}{name}/"] = entry
    except FileNotFoundError:  # its last object was removed meanwhile
        return
    if not begin.startswith(prefix):
        files = {key: entry for key, entry in files.items() if key.startswith(prefix)}
    if not folders:
        for key in sorted(files):
            yield key, files[key]
        return
    # A folder sorts as its keys do: after "a.b" and before "a0" where it is "a/".
    for key in sorted((*files, *folders)):
        if key not in folders:
            yield key, files[key]
        elif key.startswith(prefix) or prefix.startswith(key):
            yield from _walk(folders[key].path, key, prefix)


class _Folders:
    """Opens files by their keys, and keeps the last folder open, because the next one is mostly in it, too."""

    def __init__(self, open_folder: Callable[[str], int]) -> None:
        self._open_folder = open_folder
        self._folder: tuple[str, int] | None = None  # its key and descriptor

    def open(self, key: str) -> int | Exception | None:
        """Return a file's descriptor, its reading announced; None where there is none, else what is in the way."""
        if _KEY.fullmatch(key) is None:
            return ValueError(f"{key!r} is no key")
        parent, _, name = key.rpartition("/")
        try:
            if self._folder is None or self._folder[0] != parent:
                self.close()
                self._folder = (parent, self._open_folder(parent))
            file = _open_file(self._folder[1], name)
        except FileNotFoundError:
            return None
        except OSError as error:
            return error
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # it is advice
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
        return file

    def close(self) -> None:
        """Close the folder."""
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder[1])


def _open_file(folder: int, name: str) -> int:
    """Open the file `name` in the open folder. Raises FileNotFoundError for whatever is no file."""
    file = os.open(name, _READING, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError(f"{name} is no file")
    return file
