from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.sqlite.record import (
    MAX_COLUMNS,
    Malformed,
    decode_value,
    parse_record,
    read_varint,
    serial_size,
)


def varint(value: int) -> bytes:
    """Encode a varint as the file format says."""
    value &= (1 << 64) - 1
    if value >= 1 << 56:
        low, value = value & 0xFF, value >> 8
        parts = [value >> 7 * shift & 0x7F | 0x80 for shift in range(7, -1, -1)]
        return bytes([*parts, low])
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))


def record(*columns: tuple[int, bytes]) -> bytes:
    """Encode a record of (serial type, bytes)."""
    serials = b"".join(varint(serial) for serial, _ in columns)
    size = len(serials) + 1
    size = size if len(varint(size)) == 1 else size + 1
    return varint(size) + serials + b"".join(data for _, data in columns)


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.binary(max_size=3))
def test_a_varint_is_read_as_it_was_written(value: int, behind: bytes) -> None:
    """Every 64-bit number, whatever stands behind it."""
    data = varint(value)
    assert read_varint(b"xx" + data + behind, 2) == (value, 2 + len(data))


@given(st.binary(max_size=12), st.integers(0, 14))
def test_a_varint_never_reads_past_the_end(data: bytes, offset: int) -> None:
    """Any bytes give a number within them, or Malformed."""
    try:
        _, end = read_varint(data, offset)
    except Malformed:
        return
    assert offset < end <= len(data)


@pytest.mark.parametrize(
    ("serial", "size"),
    [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (6, 8), (7, 8), (8, 0), (9, 0), (12, 0), (19, 3)],
)
def test_sizes_of_serial_types(serial: int, size: int) -> None:
    """As in section 2.1."""
    assert serial_size(serial) == size


@pytest.mark.parametrize("serial", [10, 11, -1])
def test_reserved_serial_types_are_refused(serial: int) -> None:
    """Types 10 and 11 are SQLite's own, and a type is never negative."""
    with pytest.raises(Malformed, match="reserved"):
        serial_size(serial)


def test_a_record_says_where_its_columns_are() -> None:
    """Offsets, sizes and the column of each byte."""
    payload = record((1, b"\x05"), (21, b"text"), (0, b""), (18, b"\1\2\3"))
    parsed = parse_record(payload)
    assert [(field.offset, field.size) for field in parsed.fields] == [(5, 1), (6, 4), (10, 0), (10, 3)]
    assert [(field.is_text, field.is_blob) for field in parsed.fields] == [
        (False, False),
        (True, False),
        (False, False),
        (False, True),
    ]
    assert [parsed.column_at(offset) for offset in range(14)] == [None] * 5 + [0, 1, 1, 1, 1, 3, 3, 3, None]
    assert parsed.size == len(payload)


def test_a_record_may_go_on_in_overflow_pages() -> None:
    """Its header lies in the part at hand, its body need not."""
    payload = record((12 + 2 * 5000, bytes(5000)))
    assert parse_record(payload[:100], len(payload)).fields[0].size == 5000


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x81",
        b"\x05\x01",
        b"\x00",
        b"\x02\x0a",
        b"\x02\x81\x00",
        b"\x03\x01\x06\x00",
        varint(MAX_COLUMNS + 5) + bytes(MAX_COLUMNS + 5),
        b"\xff" * 9 + b"\x00",
    ],
    ids=["empty", "cut", "header", "zero", "reserved", "serial", "body", "columns", "negative"],
)
def test_a_record_that_contradicts_itself_is_refused(payload: bytes) -> None:
    """Headers longer than the payload, values behind its end, more columns than SQLite can have."""
    with pytest.raises(Malformed):
        parse_record(payload)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_malformed(payload: bytes) -> None:
    """No other error, and no column outside the payload."""
    try:
        parsed = parse_record(payload)
    except Malformed:
        return
    assert all(field.offset + field.size <= len(payload) for field in parsed.fields)


def test_values() -> None:
    """Each serial type's value, negative numbers and every encoding included."""
    assert decode_value(0, b"") is None
    assert decode_value(1, b"\xff") == -1
    assert decode_value(5, (-(1 << 40)).to_bytes(6, "big", signed=True)) == -(1 << 40)
    assert decode_value(7, struct.pack(">d", -2.5)) == -2.5
    assert (decode_value(8, b""), decode_value(9, b"")) == (0, 1)
    assert decode_value(16, b"\0\1") == b"\0\1"
    assert decode_value(13 + 4, "né"[:1].encode() + b"\xff") == "n\ufffd"
    assert decode_value(13 + 8, "né".encode("utf-16-le"), "utf-16-le") == "né"
    with pytest.raises(Malformed):
        decode_value(6, b"short")
