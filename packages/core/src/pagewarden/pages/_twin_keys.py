"""Records as the structure walk sees them, in Python: header, serial types, and the key that orders an index.

A key becomes a tuple that Python compares as SQLite compares the record (`sqlite3VdbeRecordCompare` in vdbeaux.c): NULL
before numbers, numbers before texts, texts before BLOBs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pagewarden.pages.walk import MAX_KEY
from pagewarden.sqlite.record import Malformed, read_varint
from pagewarden.structure import Collation, Column, FlawKind, StrictType, Tree

MAX_NUMBER = (1 << 63) - 1
"""The largest number that a flaw can name."""

_MAX_HEADER = 98307  # bytes: 32767 columns of at most 3 bytes, which is what SQLite takes for possible, and its length
_U64 = (1 << 64) - 1
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)  # bytes of serial types 0 to 11
_NUMBERS = frozenset((1, 2, 3, 4, 5, 6, 8, 9))
_INFINITY = 0x7FF0000000000000
_INVALID = 9

Part = tuple[Any, ...]
"""One value of a key: its rank among the types, then what is compared among equals."""

Key = tuple[Part, ...]
Found = Callable[..., None]
"""Told of a flaw: its kind, then fields of `Flaw` by name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the walk must know of one tree's records."""

    index: bool
    keys: int  # columns that order the tree
    known: int  # columns that are compared: up to the first of an unknown collation
    columns: tuple[Column, ...]
    rules: tuple[tuple[int, Column], ...]  # columns with a rule: NOT NULL, or a type of a STRICT table
    descending: bool  # whether any of the compared columns is

    @classmethod
    def of(cls, tree: Tree) -> Shape:
        """Return what `tree` asks for."""
        keys = min(tree.keys, len(tree.columns)) if tree.index else 0
        known = next((i for i in range(keys) if tree.columns[i].collation is Collation.UNKNOWN), keys)
        rules = tuple(
            (i, column)
            for i, column in enumerate(tree.columns)
            if not column.rowid and (column.not_null or column.strict is not StrictType.ANY)
        )
        descending = any(column.descending for column in tree.columns[:known])
        return cls(tree.index, keys, known, tree.columns, rules, descending)


@dataclass(slots=True)
class Payload:
    """The bytes of a payload as far as they could be put together."""

    size: int  # of the whole payload, in bytes
    data: bytes  # its beginning


@dataclass(frozen=True, slots=True)
class Record:
    """A record whose header was read."""

    start: int  # of its values, in bytes
    serials: list[int]
    sound: bool  # no flaw but of NOT NULL and STRICT


def header_size(payload: Payload) -> int:
    """Return what a record claims its header takes, in bytes; 0 where it has no room for that."""
    try:
        return read_varint(payload.data, 0)[0] & _U64
    except Malformed:
        return 0


def judge_record(payload: Payload, shape: Shape, found: Found) -> Record | None:
    """Tell what is wrong with a record; return what of it can be read, None where its header cannot be."""
    try:
        length, at = read_varint(payload.data, 0)
    except Malformed:
        found(FlawKind.RECORD_HEADER, expected=payload.size)
        return None
    if not at <= length <= min(payload.size, _MAX_HEADER):
        found(FlawKind.RECORD_HEADER, expected=payload.size, seen=min(length & _U64, MAX_NUMBER))
        return None
    if length > min(len(payload.data), MAX_KEY):
        return None
    try:
        serials = read_serials(payload.data[:length], at)
    except Malformed:
        found(FlawKind.RECORD_HEADER, expected=payload.size, seen=length)
        return None
    return Record(length, serials, _judge_columns(payload, length, serials, shape, found))


def read_serials(head: bytes, at: int) -> list[int]:
    """Return the serial types in a record header from byte `at` on. Raises Malformed where one runs past it."""
    serials = []
    end = len(head)
    while at < end:
        serial = head[at]
        at += 1
        if serial >= 0x80:
            serial, at = read_varint(head, at - 1)
            serial &= _U64
        serials.append(serial)
    return serials


def value_size(serial: int) -> int:
    """Return how many bytes a value takes; a reserved type takes none."""
    return _SIZES[serial] if serial < 12 else (serial - 12) // 2


def _judge_columns(payload: Payload, length: int, serials: list[int], shape: Shape, found: Found) -> bool:
    sound = True
    rules = {index: column for index, column in shape.rules if index < len(serials)}
    if rules or 10 in serials or 11 in serials:
        for index, serial in enumerate(serials):
            if serial in (10, 11):
                found(FlawKind.SERIAL_TYPE, column=index, seen=serial)
                sound = False
            elif index in rules:
                _judge_value(index, serial, rules[index], found)
    total = length + sum(map(value_size, serials))
    if total != payload.size:
        found(FlawKind.RECORD_HEADER, expected=payload.size, seen=min(total, MAX_NUMBER))
        sound = False
    if shape.index and len(serials) < shape.keys:
        found(FlawKind.RECORD_HEADER, column=shape.keys, expected=shape.keys, seen=len(serials))
        sound = False
    return sound


def _judge_value(index: int, serial: int, column: Column, found: Found) -> None:
    if serial == 0:
        if column.not_null:
            found(FlawKind.NOT_NULL, column=index)
    elif not _fits(serial, column.strict):
        found(FlawKind.STRICT_TYPE, column=index, seen=min(serial, MAX_NUMBER))


def _fits(serial: int, strict: StrictType) -> bool:
    match strict:
        case StrictType.INTEGER:
            return serial in _NUMBERS
        case StrictType.REAL:
            return serial == 7 or serial in _NUMBERS
        case StrictType.TEXT:
            return serial >= 13 and serial % 2 == 1
        case StrictType.BLOB:
            return serial >= 12 and serial % 2 == 0
        case _:
            return True


def key_size(record: Record, shape: Shape) -> int:
    """Return how many bytes of a payload hold its header and its key."""
    return record.start + sum(map(value_size, record.serials[: shape.keys]))


def key_of(payload: Payload, record: Record, shape: Shape, encoding: int) -> Key:
    """Return the key of a record, all of which was put together."""
    parts = []
    at = record.start
    for serial, column in zip(record.serials, shape.columns[: shape.known], strict=False):
        size = value_size(serial)
        parts.append(_part(serial, payload.data[at : at + size], column.collation, encoding))
        at += size
    return tuple(parts)


def in_order(before: Key, after: Key, shape: Shape) -> bool:
    """Return whether key `before` may stand before key `after`; two that are equal may not, if all of them is known."""
    for left, right, column in zip(before, after, shape.columns, strict=False):
        if _INVALID in (left[0], right[0]):
            return True
        if left != right:
            return left > right if column.descending else left < right
    return shape.known < shape.keys


def _part(serial: int, value: bytes, collation: Collation, encoding: int) -> Part:
    if serial == 0:
        return (0,)
    if serial <= 6:
        return (1, int.from_bytes(value, "big", signed=True))
    if serial == 7:
        (bits,) = struct.unpack(">Q", value)
        number: float = struct.unpack(">d", value)[0]
        return (1, number) if bits & MAX_NUMBER <= _INFINITY else (0,)  # SQLite reads a NaN as NULL
    if serial <= 9:
        return (1, serial - 8)
    if serial % 2 == 0:
        return (3, value)
    if collation is Collation.BINARY:
        return (2, value)
    # SQLite has these two for UTF-8 only, and converts.
    if encoding != 1:
        try:
            value = value.decode("utf-16-le" if encoding == 2 else "utf-16-be").encode()
        except UnicodeDecodeError:
            return (_INVALID,)
    if collation is Collation.RTRIM:
        return (2, value.rstrip(b" "))
    # sqlite3StrNICmp ends at a NUL; if both texts are the same until then, their lengths decide.
    end = value.find(b"\0")
    return (2, value.lower() if end < 0 else value[: end + 1].lower(), len(value))
