"""Can the header of the database file be believed? If not, what it says proves nothing about a log."""

from __future__ import annotations

from pagewarden.repair.wholes import header_is_sane
from pagewarden.sqlite.header import DatabaseHeader

_RESERVED = slice(72, 92)  # bytes kept for later, all zeros
_FAR = 1 << 24  # schema changes that no database sees in its life


def states_itself(header: bytes) -> bool:
    """Whether every field of the first 100 bytes has a value that SQLite writes, and those that must agree do."""
    if not header_is_sane(header):
        return False
    fields = DatabaseHeader.parse(header)
    return (
        not any(header[_RESERVED]) and fields.change_counter == fields.version_valid_for and fields.schema_cookie < _FAR
    )
