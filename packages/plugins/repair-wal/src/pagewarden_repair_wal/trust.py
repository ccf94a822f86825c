"""Can the header of the database file be believed? If not, what it says proves nothing about a log."""

from __future__ import annotations

from pagewarden.sqlite.header import DatabaseHeader, HeaderInvalid

_FRACTIONS = slice(21, 24)  # the payload fractions, which SQLite fixed
_RESERVED = slice(72, 92)  # bytes kept for later, all zeros
_FAR = 1 << 24  # schema changes that no database sees in its life


def states_itself(header: bytes) -> bool:
    """Whether every field of the first 100 bytes has a value that SQLite writes, and those that must agree do."""
    try:
        fields = DatabaseHeader.parse(header)
    except HeaderInvalid:
        return False
    return (
        fields.write_version in (1, 2)
        and fields.read_version in (1, 2)
        and header[_FRACTIONS] == b"\x40\x20\x20"
        and not any(header[_RESERVED])
        and fields.schema_format <= 4
        and fields.text_encoding <= 3
        and fields.page_size - fields.reserved >= 480
        and fields.change_counter == fields.version_valid_for
        and fields.schema_cookie < _FAR
    )
