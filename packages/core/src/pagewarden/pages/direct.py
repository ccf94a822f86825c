"""Large private files past the page cache: stored objects that are written or proved once, and restored databases.

Whoever copies a database through the page cache pushes the application's own pages out of it, and pays for memory
that it touches once: on a virtual machine whose host reclaims free memory, a fresh GiB of page cache costs seconds.
And a read that comes from the cache proves nothing of the disk. O_DIRECT avoids all three. It is a wish, not a need:
where the system, the file system or the alignment does not allow it, the same bytes go the ordinary way.

Never for the files of a live database: these are read with plain pread only.
"""

from __future__ import annotations

import errno
import mmap
import os
from types import TracebackType
from typing import Self

from pagewarden.pages.source import Buffer

ALIGNMENT = 4096
"""Bytes that addresses, offsets and sizes of direct transfers are multiples of; enough for all common devices."""

STREAM = 2 << 20
"""Bytes that a StreamWriter gathers before it writes."""

# The ways in which file systems say that they cannot do it: at open, or at the first transfer.
_REFUSED = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS)


def aligned_buffer(size: int) -> memoryview:
    """Return `size` bytes of zeros, rounded up to ALIGNMENT, whose address suits direct transfers."""
    return memoryview(mmap.mmap(-1, max(1, round_up(size))))  # anonymous memory: no file is mapped (H36)


def round_up(size: int) -> int:
    """Return the next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


class DirectFile:
    """A file that is open as `plain`, and as a second description past the page cache where that can be had.

    Safe for many threads at once. `plain` stays the caller's.
    """

    def __init__(self, plain: int, *, writing: bool = False, wanted: bool = True) -> None:
        """Open the second description, to write or to read. Without `wanted` everything goes through `plain`."""
        self.plain = plain
        self._direct = -1
        self._usable = wanted and hasattr(os, "O_DIRECT")
        if self._usable:
            flags = (os.O_WRONLY if writing else os.O_RDONLY) | os.O_DIRECT | os.O_CLOEXEC
            try:
                self._direct = os.open(f"/proc/self/fd/{plain}", flags)
            except OSError:
                self._usable = (
                    False  # no /proc, or a file system without O_DIRECT: `plain` reports what is really wrong
                )

    @property
    def direct(self) -> bool:
        """Whether transfers still go past the page cache."""
        return self._usable

    def pwrite(self, data: memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        if self._usable and offset % ALIGNMENT == 0 and len(data) % ALIGNMENT == 0:
            try:
                done = os.pwrite(self._direct, data, offset)
                data, offset = data[done:], offset + done
            except OSError as error:
                self._refuse(error)
        while data:
            done = os.pwrite(self.plain, data, offset)
            data, offset = data[done:], offset + done

    def pread_into(self, to: memoryview, offset: int) -> int:
        """Fill `to` from `offset`; return the bytes read, fewer only at the file's end."""
        done = 0
        if self._usable and offset % ALIGNMENT == 0 and len(to) % ALIGNMENT == 0:
            try:
                done = os.preadv(self._direct, [to], offset)
            except OSError as error:
                self._refuse(error)
        while done < len(to) and (some := os.preadv(self.plain, [to[done:]], offset + done)):
            done += some
        return done

    def _refuse(self, error: OSError) -> None:
        """Go the ordinary way from now on, unless the error is one of the file's own."""
        if error.errno not in _REFUSED:
            raise error
        self._usable = False

    def close(self) -> None:
        """Close the second description; safe to repeat. No transfer may be under way."""
        self._usable = False
        if self._direct >= 0:
            os.close(self._direct)
            self._direct = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class StreamWriter:
    """Appends to a private file in large aligned pieces, past the page cache where that can be had.

    What was written is in the file (not yet durable) after `flush`. Not for two threads at once.
    """

    def __init__(self, plain: int, *, offset: int = 0) -> None:
        """Append to the file open as `plain` from byte `offset`."""
        self._file = DirectFile(plain, writing=True)
        self._buffer = memoryview(b"")  # made when it is needed, so that making a stream cannot fail
        self._begin = offset  # byte of the file at which the buffer begins
        self._used = 0

    @property
    def end(self) -> int:
        """Byte of the file that the next write goes to."""
        return self._begin + self._used

    def write(self, data: Buffer) -> None:
        """Append `data`; it is copied or written when this returns."""
        if not self._buffer:
            self._buffer = aligned_buffer(STREAM)
        with memoryview(data) as view:
            at = 0
            while at < len(view):
                # A piece that begins off the alignment is cut so that the next one begins on it.
                room = STREAM - self._begin % ALIGNMENT - self._used
                some = min(room, len(view) - at)
                self._buffer[self._used : self._used + some] = view[at : at + some]
                self._used += some
                at += some
                if some == room:
                    self.flush()

    def flush(self) -> None:
        """Hand everything to the file, so that other descriptions read it."""
        self._file.pwrite(self._buffer[: self._used], self._begin)
        self._begin += self._used
        self._used = 0

    def close(self) -> None:
        """Give up the second description; what was not flushed is dropped."""
        self._file.close()
