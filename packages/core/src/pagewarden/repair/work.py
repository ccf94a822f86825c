"""Where a repair works: private copies of the database's files, in the folder of its quarantine entry.

They lie on the file system of the path that the repaired copy is to take, and are made by the page reader: this process
never opens the database's files (H1).
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden import durable
from pagewarden.errors import OutOfSpace
from pagewarden.holders import COMPANIONS

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime

RAW = ("", "-wal", "-journal")
"""What is appended to a database's path to name the files that hold content; a -shm is an index of the -wal."""

_NAME = "copy.db"
_MARGIN = 1 << 20  # bytes of reports, of what is cut out of a small database, and of folders

FileState = tuple[int, int, int, int] | None  # device, inode, bytes, time of the last write in ns; None: not there


@dataclass(frozen=True, slots=True)
class FilesState:
    """What `stat` says of a database and the files that hold content of it. Equal ones mean: nobody wrote."""

    files: tuple[FileState, ...]  # in the order of RAW; an empty companion is none

    @classmethod
    def of(cls, path: str) -> FilesState:
        """Return the state of the database at the real path `path`."""
        return cls(tuple(_state(path + suffix, bool(suffix)) for suffix in RAW))

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(0 if file is None else file[2] for file in self.files)


class Work:
    """The private copies of one repair. `folder` is made when the first copy is."""

    def __init__(self, folder: Path, path: str, runtime: Runtime) -> None:
        """`path` is the real path of the database, which nobody writes as long as copies are made."""
        self._folder = folder
        self._path = path
        self._runtime = runtime

    @property
    def copy(self) -> Path:
        """The copy that is repaired."""
        return self._folder / "repaired" / _NAME

    @property
    def before(self) -> Path:
        """The copy that shows what could be read before."""
        return self._folder / "before" / _NAME

    def renew(self) -> None:
        """Make the copy that is repaired, of the database as it is. Raises OutOfSpace, TargetFailed."""
        self._make(self.copy)

    def keep_before(self) -> None:
        """Make the copy that shows what could be read before. Raises OutOfSpace, TargetFailed."""
        self._make(self.before)

    def scratch(self) -> Path:
        """Return an empty folder for one repairer; what the last one left there goes."""
        return self._empty(self._folder / "scratch")

    def _make(self, copy: Path) -> None:
        self._empty(copy.parent)
        for suffix in RAW:
            source = self._path + suffix
            if os.path.lexists(source):
                self._runtime.reader.copy_file(source, f"{copy}{suffix}", sync=False)

    def _empty(self, folder: Path) -> Path:
        try:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(durable.DIRECTORY_MODE, parents=True)
        except OSError as error:
            raise durable.failure(error, f"cannot make {folder}") from error
        return folder


def require_space(folder: Path, state: FilesState) -> None:
    """Raise OutOfSpace unless two copies of a database fit into the file system of `folder`."""
    disk = os.statvfs(folder)
    free, needed = disk.f_bavail * disk.f_frsize, 2 * state.size + _MARGIN
    if free < needed:
        raise OutOfSpace(
            f"{folder} has {free:,} bytes free, and a repair needs {needed:,}: two copies of the database",
            hint="free space there, or give --output a path on another file system",
        )


def remove_empty_companions(database: Path) -> None:
    """Remove what SQLite leaves beside a private copy in WAL mode that it has only read."""
    if not any(_filled(Path(f"{database}{suffix}")) for suffix in ("-wal", "-journal")):
        for suffix in COMPANIONS[1:]:
            Path(f"{database}{suffix}").unlink(missing_ok=True)


def _filled(path: Path) -> bool:
    return _state(str(path), True) is not None


def _state(file: str, companion: bool) -> FileState:
    try:
        found = os.lstat(file)
    except FileNotFoundError:
        return None
    if companion and not found.st_size:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
