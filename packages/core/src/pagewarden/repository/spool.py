"""Objects of a target without local files, fetched to this machine for as long as somebody reads them.

1. What is smaller than a range comes with one request, several objects at once: a chain has many small ones.
2. The rest of a larger one comes in ranges, several at once, into a file that has room on the disk for all of it.

So memory stays at a few ranges, whatever the size that an object has or claims.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from pagewarden import durable
from pagewarden.contracts import RemoteTarget, Target
from pagewarden.errors import OutOfSpace, PagewardenError, TargetFailed

RANGE = 8 << 20
"""Bytes that are fetched with one request."""

_OBJECTS = 8  # that are begun at once: at most that many ranges are in memory
_RANGES = 4  # of one object that are fetched at once
_SPARE = 16 << 20  # bytes of the file system that are left free
_PREFIX = "pagewarden-spool-"


class Spool:
    """A private folder with copies of objects, removed at the end; after a kill, by the next one of this user's."""

    def __init__(self, target: Target) -> None:
        """Nothing is made before it is needed."""
        self._target = target
        self._folder: Path | None = None
        self._close: Callable[[], object] | None = None  # removes the folder
        self._reserved: set[str] = set()  # names of files that somebody writes
        self._paths: dict[str, Path] = {}
        self._made = 0  # files
        self._lock = threading.Lock()

    def bring(self, keys: Iterable[str]) -> dict[str, Path]:
        """Fetch objects, or find those that are here; return the file of each one that the target has.

        Raises what the target raises, OutOfSpace before the disk is full; what was half fetched is removed.
        """
        keys = tuple(dict.fromkeys(keys))
        missing = [key for key in keys if key not in self._paths]
        if missing:
            new = self._names(missing)
            try:
                found = self._fetch(missing, new)
                with self._lock:
                    self._paths.update({key: new[key] for key in found})
            except BaseException:
                for path in new.values():
                    path.unlink(missing_ok=True)
                raise
            finally:
                for path in new.values():
                    self.give_back(path.name)
        return {key: self._paths[key] for key in keys if key in self._paths}

    def release(self, key: str) -> None:
        """Remove the copy of an object, if there is one: whoever read it is done."""
        with self._lock:
            path = self._paths.pop(key, None)
        if path is not None:
            path.unlink(missing_ok=True)
            self._rest()

    def forget(self) -> None:
        """Remove all copies."""
        for key in tuple(self._paths):
            self.release(key)

    def reserve(self, name: str) -> Path:
        """Return where a file `name` may be written, until `give_back`. Raises OSError."""
        with self._lock:
            self._reserved.add(name)
            return self._made_folder() / name

    def give_back(self, name: str) -> None:
        """Let the file `name` go, if it was reserved; it has been removed, or stored."""
        with self._lock:
            self._reserved.discard(name)
        self._rest()

    def _made_folder(self) -> Path:
        """Return the folder, below the system's one for temporary files. Raises OSError where it cannot be made."""
        if self._folder is None:
            import weakref

            from pagewarden.check.scratch import Scratch

            scratch = Scratch(_PREFIX)
            self._close = weakref.finalize(self, scratch.close)
            self._folder = scratch.path
        return self._folder

    def _rest(self) -> None:
        """Remove the folder if nobody needs it; whoever does next makes it again."""
        with self._lock:
            if self._close is not None and not self._paths and not self._reserved:
                self._close()
                self._folder = self._close = None

    def _names(self, keys: Iterable[str]) -> dict[str, Path]:
        """Return a new name for the copy of each object, reserved."""
        new = {}
        for key in keys:
            with self._lock:
                self._made += 1
                name = f"{self._made}-{key.rpartition('/')[2]}"
            new[key] = self.reserve(name)
        return new

    def _fetch(self, keys: Sequence[str], new: dict[str, Path]) -> list[str]:
        """Fetch objects into the files `new`; return the keys of those that the target has."""
        from pagewarden.parallel import in_order

        begin = partial(self._begin, new)
        brought = map(begin, keys) if len(keys) == 1 else in_order(begin, keys, _OBJECTS)
        counts = dict(zip(keys, brought, strict=True))
        for key in [key for key, count in counts.items() if count == RANGE]:
            try:
                self._go_on(key, new[key])
            except FileNotFoundError:  # it was removed meanwhile
                counts[key] = None
                new[key].unlink()
        return [key for key, count in counts.items() if count is not None]

    def _begin(self, new: dict[str, Path], key: str) -> int | None:
        """Fetch the first range of an object into a new file; return its bytes, None where there is no object."""
        try:
            data = self._target.read(key, 0, RANGE)
        except FileNotFoundError:
            return None
        self._make_room(new[key], key, len(data))
        path = new[key]
        try:
            file = durable.create(path)
            try:
                durable.write_at(file, data, 0)
            finally:
                os.close(file)
        except OSError as error:
            raise _failure(error, path, key) from error
        return len(data)

    def _go_on(self, key: str, path: Path) -> None:
        """Fetch what follows the first range."""
        from pagewarden.parallel import in_order

        size = self._size(key)
        self._make_room(path, key, size - RANGE)
        file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            try:
                durable.allocate(file, size)
            except OSError as error:
                raise _failure(error, path, key) from error

            def fetch(offset: int) -> bytes:
                return self._target.read(key, offset, RANGE)

            offsets = range(RANGE, size, RANGE)
            for offset, data in zip(offsets, in_order(fetch, offsets, _RANGES), strict=True):
                if len(data) != min(RANGE, size - offset):
                    raise TargetFailed(
                        f"{key} has {size:,} bytes, and {offset + len(data):,} of them could be read", hint="try again"
                    )
                try:
                    durable.write_at(file, data, offset)
                except OSError as error:
                    raise _failure(error, path, key) from error
        finally:
            os.close(file)

    def _size(self, key: str) -> int:
        if isinstance(self._target, RemoteTarget):
            return self._target.size(key)
        for info in self._target.list(key):
            if info.key == key:
                return info.bytes
        raise FileNotFoundError(f"{key} went away while it was read")

    def _make_room(self, path: Path, key: str, size: int) -> None:
        """Raise OutOfSpace unless `size` more bytes fit beside what is there."""
        disk = os.statvfs(path.parent)
        free = disk.f_bavail * disk.f_frsize
        if free < size + _SPARE:
            raise OutOfSpace(
                f"{path.parent} has {free:,} bytes free, and a copy of {key} needs {size:,}",
                hint="free space there, or let TMPDIR name a folder with room",
            )


def _failure(error: OSError, path: Path, key: str) -> PagewardenError:
    return durable.failure(error, f"cannot keep a copy of {key} in {path.parent}")
