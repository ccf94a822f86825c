"""The private folder of a check's copy, or of copies of stored objects: removed with them, or after a kill by the next.

Whoever has such a folder holds a lock (flock) on it, which ends with its process. What nobody holds is nobody's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

PREFIX = "pagewarden-check-"


class Scratch:
    """A new folder for its owner alone, below the system's folder for temporary files."""

    def __init__(self, prefix: str = PREFIX) -> None:
        """Make it, and remove those with the same `prefix` that killed processes of this user left. Raises OSError."""
        root = Path(tempfile.gettempdir())
        with suppress(OSError):  # a file system without locks: nobody can tell what is nobody's
            _sweep(root, prefix)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
            self._descriptor: int | None = None
            with suppress(OSError):
                self._descriptor = _hold(self.path)
                if self._descriptor is None:  # a check that sweeps came between the two steps, and removes it
                    continue
            return

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)  # an abandoned reader may still write there: the next check sweeps
        if self._descriptor is not None:
            os.close(self._descriptor)


def _sweep(root: Path, prefix: str) -> None:
    """Remove this user's folders whose process has ended. Raises OSError where there are no locks."""
    for folder in root.glob(f"{prefix}*"):
        descriptor = _hold(folder)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)  # likewise
            os.close(descriptor)


def _hold(folder: Path) -> int | None:
    """Lock a folder of this user's; return its descriptor, None where it is another's, held, or gone.

    Raises OSError where the file system has no locks.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # no folder, another user's, or just removed
        return None
    with ExitStack() as closing:
        closing.callback(os.close, descriptor)
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found, mine = folder.lstat(), os.fstat(descriptor)
            if mine.st_uid == os.geteuid() and (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino):
                closing.pop_all()
                return descriptor
    return None
