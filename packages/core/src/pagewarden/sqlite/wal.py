"""The header, the frame headers and the checksum of a write-ahead log.

Layout: https://www.sqlite.org/fileformat2.html, section 4.1 "WAL File Format". All numbers are big-endian; the magic's
last bit says in which byte order the checksum takes its words.

| header offset | meaning | | frame offset | meaning |
|---|---|---|---|---|
| 0 | magic, 0x377f0682 or 0x377f0683 | | 0 | pgno |
| 4 | format, 3007000 | | 4 | size of the database in pages for a commit frame, else 0 |
| 8 | page size | | 8 | the header's salts |
| 12 | checkpoint sequence | | 16 | checksum over all frames up to and with this one |
| 16 | salts, 8 bytes | | 24 | the page |
| 24 | checksum of the first 24 bytes | | | |
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pagewarden.sqlite.header import valid_page_size

WAL_HEADER_SIZE = 32
FRAME_HEADER_SIZE = 24
FORMAT = 3007000

LARGE_WAL = 64 << 20
"""Bytes of a log from which on somebody seems to hold it back: SQLite checkpoints at 4 MiB by default."""

_MAGIC = 0x377F0682  # the last bit is the checksum's byte order
_HEADER = struct.Struct(">4I8s2I")


class WalInvalid(ValueError):
    """The bytes are not the header of a write-ahead log that SQLite would use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalHeader:
    """The decoded header of a write-ahead log; one generation of the log has one pair of salts."""

    page_size: int  # bytes
    sequence: int  # counts the log's generations
    salts: bytes  # 8 bytes, as stored
    big_endian: bool  # how the checksum takes its words
    checksum: tuple[int, int]  # where the chain of the frames' checksums begins

    @staticmethod
    def parse(data: bytes) -> WalHeader:
        """Decode the first 32 bytes of a log. Raises WalInvalid where SQLite would ignore the whole log."""
        if len(data) < WAL_HEADER_SIZE:
            raise WalInvalid(f"{len(data)} bytes are too few for a write-ahead log's header")
        magic, version, page_size, sequence, salts, first, second = _HEADER.unpack_from(data)
        if magic & ~1 != _MAGIC:
            raise WalInvalid("the write-ahead log does not begin with SQLite's magic")
        if version != FORMAT:
            raise WalInvalid(f"the write-ahead log has format {version}, not {FORMAT}")
        if not valid_page_size(page_size):
            raise WalInvalid(f"the write-ahead log names {page_size}, which is no page size of SQLite's")
        big_endian = bool(magic & 1)
        if wal_checksum(data[:24], big_endian=big_endian) != (first, second):
            raise WalInvalid("the checksum of the write-ahead log's header does not match")
        return WalHeader(
            page_size=page_size, sequence=sequence, salts=salts, big_endian=big_endian, checksum=(first, second)
        )


def frame_offset(frame: int, page_size: int) -> int:
    """Return where frame number `frame`, from 1, begins in the log: its header, not its page."""
    return WAL_HEADER_SIZE + (frame - 1) * (FRAME_HEADER_SIZE + page_size)


def format_checksum(checksum: tuple[int, int]) -> str:
    """Return the two words of a running checksum as 16 hexadecimal digits."""
    return f"{checksum[0]:08x}{checksum[1]:08x}"


def parse_checksum(text: str) -> tuple[int, int]:
    """Return the two words that `format_checksum` wrote. Raises ValueError for anything else."""
    if len(text) != 16:
        raise ValueError(f"{text!r} is no running checksum")
    return int(text[:8], 16), int(text[8:], 16)


def wal_checksum(data: bytes, *, big_endian: bool, before: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return the checksum of `data`, whose length is a multiple of 8, continued from `before`.

    The two-word sum of section 4.2 "Checksum Algorithm" of the same document.
    """
    first, second = before
    words = struct.unpack(f"{'>' if big_endian else '<'}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def wal_checksum_before(data: bytes, *, big_endian: bool, after: tuple[int, int]) -> tuple[int, int]:
    """Return the checksum from which `data` leads to `after`: the inverse of `wal_checksum`."""
    first, second = after
    words = struct.unpack(f"{'>' if big_endian else '<'}{len(data) // 4}I", data)
    for even, odd in zip(words[-2::-2], words[::-2], strict=True):
        second = (second - odd - first) & 0xFFFFFFFF
        first = (first - even - second) & 0xFFFFFFFF
    return first, second
