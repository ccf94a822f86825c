"""Varints, serial types and records: how SQLite writes one row (file format, section 2.1).

Bytes in, frozen values out. Every byte is hostile: lengths are checked before anything is sliced, and what does not
hold raises `Malformed` naming what and where.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAX_COLUMNS = 32767
"""SQLITE_MAX_COLUMN can be raised to this and no further (limits, section 2)."""

Buffer = bytes | bytearray | memoryview

Value = None | int | float | str | bytes

_INTEGER_SIZES = (0, 1, 2, 3, 4, 6, 8)  # bytes of serial types 0 to 6


class Malformed(ValueError):
    """Bytes that are not what SQLite's file format says; the message names what and where."""


def read_varint(data: Buffer, offset: int) -> tuple[int, int]:
    """Return the varint at `offset` as a signed 64-bit number, and the offset behind it (file format, section 1.6).

    Raises Malformed where `data` ends inside it.
    """
    value = 0
    for index in range(8):
        if offset + index >= len(data):
            raise Malformed(f"the varint at byte {offset} runs past the end")
        byte = data[offset + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + index + 1
    if offset + 8 >= len(data):
        raise Malformed(f"the varint at byte {offset} runs past the end")
    value = value << 8 | data[offset + 8]
    return value - (1 << 64) if value >= 1 << 63 else value, offset + 9


def serial_size(serial: int) -> int:
    """Return how many bytes a value of serial type `serial` takes; Malformed for the reserved types 10 and 11."""
    if 0 <= serial < len(_INTEGER_SIZES):
        return _INTEGER_SIZES[serial]
    if serial == 7:
        return 8
    if serial in (8, 9):
        return 0
    if serial >= 12:
        return (serial - 12) // 2
    raise Malformed(f"serial type {serial} is reserved")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Where one column's value lies in a payload."""

    serial: int
    offset: int  # from the beginning of the payload
    size: int  # bytes

    @property
    def is_text(self) -> bool:
        """Whether it holds text."""
        return self.serial >= 13 and self.serial % 2 == 1

    @property
    def is_blob(self) -> bool:
        """Whether it holds a BLOB."""
        return self.serial >= 12 and self.serial % 2 == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The header of one record: what its columns are and where."""

    header_size: int  # bytes, its own length included
    fields: tuple[Field, ...]
    size: int  # bytes of the whole record, header included

    def column_at(self, offset: int) -> int | None:
        """Return the index of the column that the payload's byte `offset` belongs to; None in the header or beyond."""
        for index, field in enumerate(self.fields):
            if field.offset <= offset < field.offset + field.size:
                return index
        return None


def parse_record(payload: Buffer, size: int | None = None) -> Record:
    """Parse the header of the record that `payload` begins with.

    `payload` may be only the part kept on the b-tree page, `size` being the length of all of it: the header must lie in
    the part given. Raises Malformed where the header contradicts itself or the length.
    """
    whole = len(payload) if size is None else size
    header_size, offset = read_varint(payload, 0)
    if not offset <= header_size <= min(len(payload), whole):
        raise Malformed(f"a record header of {header_size} bytes in a payload of {whole}")
    fields: list[Field] = []
    body = header_size
    while offset < header_size:
        serial, offset = read_varint(payload, offset)
        if offset > header_size:
            raise Malformed("a serial type runs past the record header")
        length = serial_size(serial)
        if body + length > whole:
            raise Malformed(f"column {len(fields)} of {length} bytes runs past a payload of {whole}")
        if len(fields) >= MAX_COLUMNS:
            raise Malformed(f"a record of more than {MAX_COLUMNS} columns")
        fields.append(Field(serial=serial, offset=body, size=length))
        body += length
    return Record(header_size=header_size, fields=tuple(fields), size=body)


def decode_value(serial: int, data: Buffer, encoding: str = "utf-8") -> Value:
    """Return the value of serial type `serial` whose bytes are `data`.

    Text that is not valid gets U+FFFD in its place. `encoding` is Python's name for the database's text encoding:
    "utf-8", "utf-16-le" or "utf-16-be".
    """
    if len(data) != serial_size(serial):
        raise Malformed(f"{len(data)} bytes for serial type {serial}")
    if serial == 0:
        return None
    if serial <= 6:
        return int.from_bytes(data, "big", signed=True)
    if serial == 7:
        number: float = struct.unpack(">d", data)[0]
        return number
    if serial in (8, 9):
        return serial - 8
    return bytes(data) if serial % 2 == 0 else bytes(data).decode(encoding, "replace")
