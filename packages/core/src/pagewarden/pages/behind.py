"""Large private files and the page cache: stored objects and restored databases, which nobody reads again soon.

Whoever copies a database through the page cache pushes the application's own pages out of it, leaves all writing to
the fsync at the end, and pays for fresh memory from beginning to end: where a hypervisor takes free memory back, the
first touch of a GiB costs seconds. Writing early and letting go of what lies behind avoids all three, with the same
few MiB of cache over and over. Reading so, after the cached pages were dropped, reads the disk.

Never for the files of a live database.
"""

from __future__ import annotations

import os

WINDOW = 16 << 20
"""Bytes after which the system is told again."""

_JUMP = 64 * WINDOW  # bytes beyond which it is no progress any more
_LAG = 2  # windows between the one whose writing begins and the one that should be written by now


class Behind:
    """Tells the system what of a file, gone through from its beginning, is no longer needed in the page cache.

    On Linux this advice begins the writing of dirty pages and drops clean ones (mm/fadvise.c): each window is advised
    when it is complete, which drops what was read and begins to write what was written, and again two windows later,
    which drops what has been written since. Nothing is durable by this. Where the system has no such call nothing
    happens.
    """

    def __init__(self, file: int, *, start: int = 0) -> None:
        """Begin at byte `start` of the file open as `file`."""
        self._file = file
        self._begin = start  # of the window that is not complete

    def advance(self, end: int) -> None:
        """Everything before byte `end` was written, or read for the last time."""
        if end - self._begin > _JUMP:  # someone goes through the file in another order: nothing to gain before here
            self._begin = end - WINDOW
        while end - self._begin >= WINDOW:
            forget(self._file, self._begin, WINDOW)
            if self._begin >= _LAG * WINDOW:
                forget(self._file, self._begin - _LAG * WINDOW, WINDOW)
            self._begin += WINDOW


def forget(file: int, offset: int = 0, length: int = 0) -> None:
    """Advise that a range (length 0: to the end of the file) is not needed; written pages of it are dropped."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, offset, length, os.POSIX_FADV_DONTNEED)


def read_from_disk(file: int) -> None:
    """Drop what is cached of a durable file, and announce that it will be read from its beginning to its end."""
    forget(file)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
