"""What an answer of the page reader's must look like: each function returns it, or raises ProtocolError."""

from __future__ import annotations

from typing import Any

from pagewarden.processes.channel import ProtocolError, Value


def as_nothing(value: Value) -> None:
    """Return nothing, which is what `value` must be."""
    if value is not None:
        raise ProtocolError("a reply is not empty")


def as_bytes(value: Value) -> bytes:
    """Return `value`, which must be bytes."""
    if not isinstance(value, bytes):
        raise ProtocolError("a reply is no bytes")
    return value


def as_int(value: Value) -> int:
    """Return `value`, which must be a number."""
    if not isinstance(value, int):
        raise ProtocolError("a reply is no number")
    return value


def as_list_of_bytes(value: Any, count: int) -> list[bytes]:
    """Return `value`, which must be a list of `count` pages."""
    if not isinstance(value, list) or len(value) != count:
        raise ProtocolError(f"a reply is no list of {count} pages")
    return [as_bytes(item) for item in value]
