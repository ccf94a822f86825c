"""Objects as files under one directory.

An object appears by one link(2), which never replaces anything, of a file that was written and fsynced in the staging
folder; then its folder is fsynced. So nothing half-written ever stands under a key, a crash leaves at most a file in
the staging folder, and of two who put the same key one is refused. The staging folder's name cannot be part of a key.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pagewarden import durable
from pagewarden.contracts import ObjectInfo
from pagewarden.errors import TargetFailed

STAGING = "+staging"
"""Folder in which objects are written before they have a key."""

_PART = re.compile(r"[A-Za-z0-9._=-]+")
_HALF = ".put"  # ending of a file in the staging folder that `put` or `adopt` writes
_FORGOTTEN = 24 * 60 * 60.0  # seconds after its last change when such a file is nobody's any more
_CHUNK = 4 << 20  # bytes copied at once
_TURNS = 8  # how often a folder that another process found empty and removed is made again


class DirectoryTarget:
    """The files under one directory, made for their owner alone (files 0600, folders 0700).

    Raises FileExistsError and FileNotFoundError as the contract says, else TargetFailed or OutOfSpace.
    """

    def __init__(self, root: Path, url: str) -> None:
        """`root` is the directory's real path, which exists."""
        self.url = url
        self.root = root

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
                _copy(path, half)
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

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys begin with `prefix`, in order of their keys."""
        folder, slash, _ = prefix.rpartition("/")  # only this one is walked, not the whole repository
        try:
            start = self._path(folder) if slash else self.root
        except ValueError:  # no key begins so
            return
        with self._errors(f"cannot list {start}"):
            if _is_real(start):
                yield from self._walk(start, folder + slash, prefix)

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
            for folder in path.parents:
                if folder == self.root:
                    break
                try:
                    folder.rmdir()
                except OSError:  # not empty; or somebody was faster, and whoever needs it makes it again: see _link
                    break
                with suppress(FileNotFoundError):  # the next folder up went, too
                    durable.sync_directory(folder.parent)

    def staging(self) -> Path | None:
        """Return the staging folder, from which `adopt` is a link."""
        return self._staging()

    def _staging(self) -> Path:
        folder = self.root / STAGING
        with self._errors(f"cannot make {folder}"):
            durable.make_directories(folder)
            for path in folder.glob(f"*{_HALF}"):
                with suppress(FileNotFoundError):  # its `put` ended
                    if time.time() - path.lstat().st_mtime > _FORGOTTEN:
                        path.unlink()
        return folder

    def _path(self, key: str) -> Path:
        """Return where `key` stands. Raises ValueError for what is no key, so that none leads anywhere else."""
        parts = key.split("/")
        if any(_PART.fullmatch(part) is None or part in (".", "..") for part in parts):
            raise ValueError(f"{key!r} is no key")
        return self.root.joinpath(*parts)

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

    def _make_folder(self, folder: Path) -> None:
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
        with self._errors(f"cannot read {path}", FileNotFoundError):
            if not _is_real(path.parent):
                raise FileNotFoundError(f"there is no {path}")
            # O_NONBLOCK: whatever stands there, opening must not wait for somebody at its other end.
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise FileNotFoundError(f"{path} is no file")
                yield file
            finally:
                os.close(file)

    def _read(self, file: int, offset: int, length: int) -> bytes:
        parts = []
        while length > 0 and (part := os.pread(file, min(length, _CHUNK), offset)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    def _walk(self, folder: Path, begin: str, prefix: str) -> Iterator[ObjectInfo]:
        """Yield what is below `folder`, whose keys begin with `begin`. Links and other names are not ours."""
        try:
            with os.scandir(folder) as found:
                entries = [entry for entry in found if _PART.fullmatch(entry.name) and not entry.is_symlink()]
        except FileNotFoundError:  # its last object was removed meanwhile
            return
        # A folder sorts as its keys do: after "a.b" and before "a0" where it is "a/".
        for name, entry in sorted((entry.name + "/" * entry.is_dir(), entry) for entry in entries):
            key = begin + name
            if entry.is_dir():
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._walk(Path(entry.path), key, prefix)
            elif key.startswith(prefix) and entry.is_file():
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                yield ObjectInfo(key=key, bytes=status.st_size, modified=modified)

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


def _copy(source: Path, half: Path) -> None:
    """Copy a file from another file system."""
    file = durable.create(half)
    try:
        with source.open("rb") as stream:
            offset = 0
            while data := stream.read(_CHUNK):
                durable.write_at(file, data, offset)
                offset += len(data)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
