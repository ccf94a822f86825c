"""A rollback journal that is proved to be none of the database beside it (file format, section 3).

A hot journal holds pages as they were before the transaction that was cut. If page 1 is among them, its change counter
is that of the database, or one less: a transaction counts once. Any other counter is of another database, or of another
time of this one, such as that of a copy that was put back, and playing it back would destroy the database. Where page 1
is not among the first pages, nothing is proved.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from pagewarden.sqlite.header import DatabaseHeader, HeaderInvalid, valid_page_size

Read = Callable[[int, int], bytes]
"""Returns bytes of a file from an offset on, fewer at its end."""

_MAGIC = bytes.fromhex("d9d505f920a163d7")
_HEADER = struct.Struct(">8s5I")  # magic, number of records, nonce, pages before, bytes of a sector, of a page
_MOST_RECORDS = 1000  # that are looked through for page 1
_LARGEST_SECTOR = 65536
_EVERY = 200  # of so many bytes of a page one counts for its checksum


def why_foreign(file_header: bytes, read: Read) -> str:
    """Return why a journal is none of the database that begins with `file_header`, a clause; empty if it may be."""
    ours = _counter(file_header)
    theirs = _counter(_first_page(read))
    if ours is None or theirs is None or (ours - theirs) % (1 << 32) in (0, 1):
        return ""
    return f"it begins at change counter {theirs}, and the database has {ours}"


def _counter(page: bytes) -> int | None:
    """Return the change counter of a first page; None where its two copies do not say the same."""
    try:
        header = DatabaseHeader.parse(page)
    except HeaderInvalid:
        return None
    return header.change_counter if header.change_counter == header.version_valid_for else None


def _first_page(read: Read) -> bytes:
    """Return the content of page 1 as a journal holds it; nothing where it does not, or its checksum fails."""
    data = read(0, _HEADER.size)
    if len(data) < _HEADER.size:
        return b""
    magic, _, nonce, _, sector, page_size = _HEADER.unpack(data)
    if magic != _MAGIC or not valid_page_size(page_size) or not _HEADER.size <= sector <= _LARGEST_SECTOR:
        return b""
    for number in range(_MOST_RECORDS):
        offset = sector + number * (page_size + 8)
        if read(offset, 4) != b"\0\0\0\1":
            continue
        page, stated = read(offset + 4, page_size), read(offset + 4 + page_size, 4)
        found = (nonce + sum(page[page_size - _EVERY : 0 : -_EVERY])) & 0xFFFFFFFF
        return page if len(page) == page_size and stated == found.to_bytes(4, "big") else b""
    return b""
