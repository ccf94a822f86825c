"""What a database's header and file size say of themselves, without anything to compare with."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pagewarden.contracts import FileFacts, PageImage
from pagewarden.sqlite.header import HEADER_SIZE, DatabaseHeader, HeaderInvalid
from pagewarden.values import Finding, Severity

_FRACTIONS = bytes((64, 32, 32))
_EXPANSION = slice(72, 92)


def judge_size(image: PageImage, facts: FileFacts) -> Iterator[Finding]:
    """Compare the file's size with the database's; says nothing while newer pages stand in the -wal (H11)."""
    if facts.wal_in_use:
        return
    size = image.page_size
    pages = max(image.pages, facts.claimed_pages)
    if facts.file_size < pages * size:
        first = facts.file_size // size + 1
        yield Finding(
            kind="truncated",
            severity=Severity.DAMAGE,
            pgno=first,
            message=f"the file ends in or before page {first}: {pages * size - facts.file_size} bytes are missing",
            evidence=f"{facts.file_size} bytes, {pages} pages of {size} bytes",
        )
    elif facts.file_size > image.pages * size:
        yield Finding(
            kind="trailing-bytes",
            severity=Severity.NOTICE,
            message=f"{facts.file_size - image.pages * size} bytes follow page {image.pages}, the last one",
            evidence=f"{facts.file_size} bytes, {image.pages} pages of {size} bytes",
        )


def judge_header(image: PageImage, page: bytes) -> Iterator[Finding]:
    """Find what no SQLite writes into the first 100 bytes of page 1 (file format, section 1.3)."""
    if not image.pages:
        return
    try:
        header = DatabaseHeader.parse(page[:HEADER_SIZE])
    except HeaderInvalid as error:
        yield Finding(
            kind="bad-header",
            severity=Severity.DAMAGE,
            pgno=1,
            message=f"page 1 does not begin with the header of a database: {error}",
            evidence=f"bytes 0 to 17: {page[:18].hex()}",
        )
        return
    broken = [
        (header.write_version not in (1, 2), 18, f"write version {header.write_version}"),
        (header.read_version not in (1, 2), 19, f"read version {header.read_version}"),
        (image.page_size - header.reserved < 480, 20, f"{header.reserved} reserved bytes"),
        (page[21:24] != _FRACTIONS, 21, f"payload fractions {', '.join(map(str, page[21:24]))}"),
        (header.freelist_trunk > image.pages, 32, f"freelist trunk page {header.freelist_trunk}"),
        (header.freelist_pages >= image.pages, 36, f"{header.freelist_pages} free pages"),
        (header.schema_format > 4, 44, f"schema format {header.schema_format}"),
        (header.largest_root > image.pages, 52, f"largest root page {header.largest_root}"),
        (header.text_encoding > 3, 56, f"text encoding {header.text_encoding}"),
        (header.incremental_vacuum and not header.largest_root, 64, "incremental vacuum without ptrmap pages"),
    ]
    for wrong, offset, what in broken:
        if wrong:
            yield Finding(
                kind="bad-header",
                severity=Severity.DAMAGE,
                pgno=1,
                message=f"the database header says {what}, in a database of {image.pages} pages",
                evidence=f"byte {offset}: {page[offset : offset + 4].hex()}",
            )
    if any(page[_EXPANSION]):
        yield Finding(
            kind="bad-header",
            severity=Severity.NOTICE,
            pgno=1,
            message="the bytes of the database header that SQLite keeps for later are not all zero",
            evidence=f"bytes 72 to 91: {page[_EXPANSION].hex()}",
        )


COUNTERS = (slice(24, 28), slice(40, 44), slice(92, 96), slice(96, 100))
"""What differs on page 1 between a database and a copy that SQLite's own backup made of the same commit."""


def only_counters(expected: bytes, seen: bytes) -> bool:
    """Whether two versions of page 1 differ only in counters that say who wrote last, and `seen` agrees with itself."""
    masked = []
    for page in (expected, seen):
        data = bytearray(page)
        for place in COUNTERS:
            data[place] = bytes(4)
        masked.append(data)
    counter, valid_for = struct.unpack_from(">I", seen, 24)[0], struct.unpack_from(">I", seen, 92)[0]
    return masked[0] == masked[1] and counter == valid_for
