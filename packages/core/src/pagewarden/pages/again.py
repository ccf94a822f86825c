"""Reading one page again, from the disk: whether a page that looks wrong is wrong there, or was only read so once.

The page is let go from the page cache by advice, which touches no byte and no lock: what is dirty or mapped stays, and
then the memory is read again. Linux (mm/fadvise.c, 6.16 and later on ext4) drops no part of a large folio, so the range
that is let go grows until the page is gone, to 2 MiB at most: whoever reads the neighbours next reads the disk, too.
"""

from __future__ import annotations

import os

from pagewarden.pages.backend import Backend, backend
from pagewarden.pages.behind import forget
from pagewarden.pages.source import WAL_FRAME_HEADER, WAL_HEADER, PageSource, lock_page

_WIDTHS = (os.sysconf("SC_PAGE_SIZE"), 64 << 10, 2 << 20)  # bytes that are let go, aligned; the last is Linux's largest


def read_again(source: PageSource, pgno: int, *, using: Backend | None = None) -> bytes:
    """Return the bytes of one page, from the disk where the system allows. Raises what `Backend.read` raises."""
    source.check_range(pgno, 1)
    if pgno != lock_page(source.page_size):
        _let_go(*_place(source, pgno), source.page_size)
    page = bytearray(source.page_size)
    (using or backend()).read(source, pgno, 1, page)
    return bytes(page)


def _place(source: PageSource, pgno: int) -> tuple[int, int]:
    """Return the descriptor of the file that holds a page, and where it begins there."""
    frame = source.frame_of(pgno)
    if frame is None:
        return source.database, (pgno - 1) * source.page_size
    return source.wal, WAL_HEADER + (frame - 1) * (WAL_FRAME_HEADER + source.page_size) + WAL_FRAME_HEADER


def _let_go(file: int, offset: int, size: int) -> None:
    for width in _WIDTHS:
        begin = offset // width * width
        end = -(-(offset + size) // width) * width
        forget(file, begin, end - begin)
        if not _cached(file, offset, size):
            return


def _cached(file: int, offset: int, size: int) -> bool:
    """Whether any of these bytes would be read without waiting for the disk; False where the system cannot tell."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    for place in range(offset, offset + size, _WIDTHS[0]):
        try:
            if os.preadv(file, [bytearray(1)], place, os.RWF_NOWAIT):
                return True
        except BlockingIOError:
            continue
        except OSError:  # a file system that does not know the flag; any other failure is the next read's to tell
            return False
    return False
