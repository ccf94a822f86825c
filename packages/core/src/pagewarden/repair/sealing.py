"""The checksums of SQLite's cksumvfs on pages that a repair has changed (H10).

A repair works through a SQLite without that extension, which leaves the 8 reserved bytes of a page as they are. An
application that uses it would refuse each such page as damaged. So what was changed is sealed as the extension would
have done; a page that no repair has touched keeps what it has, since a checksum that fails there is evidence.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from pagewarden import durable
from pagewarden.pages import PageSource, backend, lock_page
from pagewarden.sqlite.header import HEADER_SIZE, DatabaseHeader, HeaderInvalid

SEAL = 8
"""Bytes of a checksum; as many are reserved on each page of a database that has them."""

_STEP = 4096  # pages that are asked at once


def seal_changes(before: Path, after: Path) -> int:
    """Seal the pages of the closed private file `after` that differ from those of `before`; return how many.

    Nothing is done where most pages of neither have checksums that hold. Raises OSError.
    """
    with before.open("rb", buffering=0) as old, after.open("r+b", buffering=0) as new:
        header = _header(new.fileno())
        if header is None or header.reserved != SEAL:
            return 0
        one, other = (_holding(file.fileno(), header.page_size) for file in (old, new))
        if not (2 * one.count(1) > len(one) or 2 * other.count(1) > len(other)):
            return 0
        sealed = 0
        for place, holds in enumerate(other):
            offset = place * header.page_size
            if holds or place + 1 == lock_page(header.page_size):
                continue
            page = os.pread(new.fileno(), header.page_size, offset)
            if len(page) == header.page_size and page != os.pread(old.fileno(), header.page_size, offset):
                durable.write_at(new.fileno(), seal(page)[-SEAL:], offset + header.page_size - SEAL)
                sealed += 1
        os.fsync(new.fileno())
        return sealed


def seal(page: bytes) -> bytes:
    """Return a page with its checksum in the last 8 bytes. https://www.sqlite.org/cksumvfs.html"""
    first = second = 0
    words = struct.unpack(f"<{len(page) // 4}I", page)
    for place in range(0, len(words) - 2, 2):
        first = (first + words[place] + second) & 0xFFFFFFFF
        second = (second + words[place + 1] + first) & 0xFFFFFFFF
    return page[:-SEAL] + struct.pack("<2I", first, second)


def _header(file: int) -> DatabaseHeader | None:
    try:
        return DatabaseHeader.parse(os.pread(file, HEADER_SIZE, 0))
    except HeaderInvalid:
        return None


def _holding(file: int, page_size: int) -> bytes:
    """Return a byte for each page of a file, 1 where its checksum holds."""
    size = os.fstat(file).st_size
    pages = size // page_size
    source = PageSource(database=file, page_size=page_size, pages=pages, file_size=size)
    return b"".join(
        backend().reserved_sums(source, first, min(_STEP, pages + 1 - first)) for first in range(1, pages + 1, _STEP)
    )
