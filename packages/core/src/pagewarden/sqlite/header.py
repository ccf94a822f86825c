"""The first 100 bytes of a SQLite database.

Layout: https://www.sqlite.org/fileformat2.html, section 1.3 "The Database Header". All numbers are big-endian.

| offset | size | meaning |
|---|---|---|
| 0 | 16 | magic |
| 16 | 2 | page size; 1 means 65536 |
| 18, 19 | 1, 1 | write and read version: 1 rollback journal, 2 WAL |
| 20 | 1 | reserved bytes at the end of each page |
| 24 | 4 | change counter |
| 28 | 4 | size in pages, valid only where 24 equals 92 (H13) |
| 32, 36 | 4, 4 | first freelist trunk, number of freelist pages |
| 40 | 4 | schema cookie |
| 44 | 4 | schema format |
| 52, 64 | 4, 4 | largest root page (non-zero: ptrmap pages exist), incremental vacuum |
| 56 | 4 | text encoding |
| 60, 68 | 4, 4 | user version, application id |
| 92, 96 | 4, 4 | version-valid-for, SQLite version that wrote last |
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER_SIZE = 100
MAGIC = b"SQLite format 3\0"
_FIELDS = struct.Struct(">16sHBBBBBB12I20x2I")


class HeaderInvalid(ValueError):
    """The bytes are not the header of a SQLite database; it may be encrypted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseHeader:
    """The decoded header. Fields that do not decide how the file is read are taken as they stand."""

    page_size: int  # bytes
    write_version: int  # 2: WAL
    read_version: int  # 2: WAL
    reserved: int  # bytes at the end of each page that SQLite leaves to extensions
    change_counter: int
    page_count: int  # pages; believe it only where `count_valid`
    freelist_trunk: int  # pgno of the first trunk page, 0 where the freelist is empty
    freelist_pages: int
    schema_cookie: int
    schema_format: int
    largest_root: int  # pgno; non-zero where the file has ptrmap pages
    text_encoding: int  # 1 UTF-8, 2 UTF-16le, 3 UTF-16be, 0 while the database is empty
    user_version: int
    incremental_vacuum: bool
    application_id: int
    version_valid_for: int  # the change counter at which `page_count` was written
    sqlite_version: int  # SQLITE_VERSION_NUMBER of the library that wrote last

    @property
    def count_valid(self) -> bool:
        """Whether `page_count` may be believed: it was written with the present change counter (H13)."""
        return self.page_count > 0 and self.change_counter == self.version_valid_for

    @property
    def wal(self) -> bool:
        """Whether the file says that it is in WAL mode."""
        return self.read_version == 2 or self.write_version == 2

    @staticmethod
    def parse(data: bytes) -> DatabaseHeader:
        """Decode the first 100 bytes of a database. Raises HeaderInvalid."""
        if len(data) < HEADER_SIZE:
            raise HeaderInvalid(f"{len(data)} bytes are too few for a database header")
        values = _FIELDS.unpack_from(data)
        if values[0] != MAGIC:
            raise HeaderInvalid("the file does not begin with SQLite's magic")
        page_size = 65536 if values[1] == 1 else values[1]
        if not valid_page_size(page_size):
            raise HeaderInvalid(f"{page_size} is no page size of SQLite's")
        # values[5:8] are the payload fractions, which SQLite fixed at 64, 32 and 32.
        counter, count, trunk, free, cookie, schema, _cache, root, encoding, user, incremental, app = values[8:20]
        return DatabaseHeader(
            page_size=page_size,
            write_version=values[2],
            read_version=values[3],
            reserved=values[4],
            change_counter=counter,
            page_count=count,
            freelist_trunk=trunk,
            freelist_pages=free,
            schema_cookie=cookie,
            schema_format=schema,
            largest_root=root,
            text_encoding=encoding,
            user_version=user,
            incremental_vacuum=incremental != 0,
            application_id=app,
            version_valid_for=values[20],
            sqlite_version=values[21],
        )


def page_size_of(header: bytes) -> int:
    """Return the page size that a database's header names, 0 where it names none."""
    stated = int.from_bytes(header[16:18], "big")
    size = 65536 if stated == 1 else stated
    return size if len(header) >= HEADER_SIZE and valid_page_size(size) else 0


def valid_page_size(page_size: int) -> bool:
    """Return whether `page_size` is a power of two from 512 to 65536, as SQLite's file format demands."""
    return 512 <= page_size <= 65536 and page_size & (page_size - 1) == 0
