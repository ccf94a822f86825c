"""Messages between a process and its child: length-prefixed msgpack over pipes.

1. A message is four bytes of length, little-endian, and that many bytes of msgpack: nil, booleans, integers of 64 bits,
   doubles, strings, binary, arrays and maps with string keys. https://github.com/msgpack/msgpack/blob/master/spec.md
2. The codec is written out here because it is small, and because importing a library for it would take a third of the
   time in which a child must give its first answer.
3. The far side may have been taken over by hostile bytes: no length is believed before it is bounded by what arrived,
   nesting is bounded, and what is not expected ends the conversation with ProtocolError.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Callable, Mapping, Sequence

MAX_MESSAGE = 64 << 20
"""Bytes of the largest message."""

_MAX_DEPTH = 8
_LENGTH = struct.Struct("<I")

Value = None | bool | int | float | str | bytes | Sequence["Value"] | Mapping[str, "Value"]


class ProtocolError(ValueError):
    """The far side sent what is no message, or a value cannot be sent as one."""


class Channel:
    """One end of a conversation. Not for two threads at once."""

    def __init__(
        self, reading: int, writing: int, limit: int = MAX_MESSAGE, attend: Callable[[int, int], None] | None = None
    ) -> None:
        """Take over two descriptors. A message of more than `limit` bytes is not received.

        `attend(descriptor, event)` waits until one of them is ready for select.POLLIN or POLLOUT, or raises EOFError;
        with it, `writing` does not block. Without it, the system waits.
        """
        self._reading = reading
        self._attend = attend
        self._writing = writing
        self._limit = limit

    def send(self, value: Value) -> None:
        """Send one message. Raises BrokenPipeError once the far side is gone, ProtocolError for what cannot be sent."""
        parts: list[bytes] = []
        _encode(value, parts, 0)
        payload = b"".join(parts)
        if len(payload) > MAX_MESSAGE:
            raise ProtocolError(f"a message of {len(payload)} bytes is too long")
        view = memoryview(_LENGTH.pack(len(payload)) + payload)
        while view:
            try:
                view = view[os.write(self._writing, view) :]
            except BlockingIOError:
                self._await_room()

    def receive(self) -> Value:
        """Return the next message. Raises EOFError once the far side is gone, ProtocolError for nonsense."""
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        if length > self._limit:
            raise ProtocolError(f"a message of {length} bytes is announced, which is too long")
        data = self._read(length)
        value, end = _decode(data, 0, 0)
        if end != length:
            raise ProtocolError(f"{length - end} bytes follow a message")
        return value

    def close(self) -> None:
        """Close both descriptors; the far side sees the end."""
        for descriptor in {self._reading, self._writing}:
            if descriptor >= 0:
                os.close(descriptor)
        self._reading = self._writing = -1

    def _await_room(self) -> None:
        assert self._attend is not None
        try:
            self._attend(self._writing, select.POLLOUT)
        except EOFError as error:
            raise BrokenPipeError("the far side is gone") from error

    def _read(self, size: int) -> bytes:
        # Memory grows with what arrives, never with what was announced.
        parts = []
        missing = size
        while missing:
            if self._attend is not None:
                self._attend(self._reading, select.POLLIN)
            part = os.read(self._reading, min(missing, 1 << 20))
            if not part:
                raise EOFError("the far side is gone")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def _encode(value: Value, parts: list[bytes], depth: int) -> None:
    """Append the msgpack of `value` to `parts`."""
    if depth > _MAX_DEPTH:
        raise ProtocolError("a message is nested too deeply")
    if value is None:
        parts.append(b"\xc0")
    elif value is True or value is False:
        parts.append(b"\xc3" if value else b"\xc2")
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise ProtocolError(f"{value} does not fit 64 bits")
        parts.append(struct.pack(">BQ", 0xCF, value) if value >= 0 else struct.pack(">Bq", 0xD3, value))
    elif isinstance(value, float):
        parts.append(struct.pack(">Bd", 0xCB, value))
    elif isinstance(value, str):
        # File names may hold bytes that are no UTF-8; they travel as the surrogates that Python makes of them.
        data = value.encode("utf-8", "surrogateescape")
        parts += (struct.pack(">BI", 0xDB, len(data)), data)
    elif isinstance(value, bytes):
        parts += (struct.pack(">BI", 0xC6, len(value)), value)
    elif isinstance(value, Mapping):
        parts.append(struct.pack(">BI", 0xDF, len(value)))
        for key, item in value.items():
            _encode(key, parts, depth + 1)
            _encode(item, parts, depth + 1)
    elif isinstance(value, Sequence):
        parts.append(struct.pack(">BI", 0xDD, len(value)))
        for item in value:
            _encode(item, parts, depth + 1)
    else:
        raise ProtocolError(f"a {type(value).__name__} cannot be sent")


_FIXED = {0xCF: ">Q", 0xD3: ">q", 0xCB: ">d"}
_COUNTED = (0xDB, 0xC6, 0xDF, 0xDD)


def _decode(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    """Return the value that begins at byte `at`, and where it ends. Only the forms that `_encode` writes are known."""
    if depth > _MAX_DEPTH:
        raise ProtocolError("a message is nested too deeply")
    kind = data[at] if at < len(data) else None
    at += 1
    if kind in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[kind], at
    try:
        if kind in _FIXED:
            return struct.unpack_from(_FIXED[kind], data, at)[0], at + 8
        if kind not in _COUNTED:
            raise ProtocolError("a message holds what is no value")
        (count,) = struct.unpack_from(">I", data, at)
    except struct.error as error:
        raise ProtocolError("a message ends within a value") from error
    at += 4
    if count > len(data) - at:  # each byte, entry or element takes at least one
        raise ProtocolError("a message ends within a value")
    if kind == 0xC6:
        return data[at : at + count], at + count
    if kind == 0xDB:
        return data[at : at + count].decode("utf-8", "surrogateescape"), at + count
    if kind == 0xDD:
        values: list[Value] = []
        for _ in range(count):
            item, at = _decode(data, at, depth + 1)
            values.append(item)
        return values, at
    mapping: dict[str, Value] = {}
    for _ in range(count):
        key, at = _decode(data, at, depth + 1)
        if not isinstance(key, str):
            raise ProtocolError("a map's key is no string")
        mapping[key], at = _decode(data, at, depth + 1)
    return mapping, at
