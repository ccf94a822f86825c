"""The conversation between a process and its child."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.processes.channel import MAX_MESSAGE, Channel, ProtocolError, Value

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def pair() -> tuple[Channel, Channel]:
    """Return the two ends of a conversation."""
    here, there = os.pipe(), os.pipe()
    return Channel(here[0], there[1]), Channel(there[0], here[1])


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """Both ends, closed afterwards."""
    one, other = pair()
    yield one, other
    one.close()
    other.close()


def through(value: Value) -> Value:
    """Return what the far side receives of `value`."""
    one, other = pair()
    sender = threading.Thread(target=one.send, args=(value,))
    sender.start()
    try:
        return other.receive()
    finally:
        sender.join()
        one.close()
        other.close()


@given(VALUES)
def test_a_value_arrives_as_it_was_sent(value: Value) -> None:
    """Decoding is the inverse of encoding, for every value that can be sent."""
    try:
        assert through(value) == value
    except ProtocolError as error:
        assert "nested too deeply" in str(error)


def test_a_file_name_that_is_no_text_arrives() -> None:
    """File names are bytes; Python's surrogates stand for those that are no UTF-8."""
    name = os.fsdecode(b"/tmp/\xff\xfe.db")
    assert through({"path": name}) == {"path": name}


def test_a_message_larger_than_the_pipe_arrives() -> None:
    """Partial writes and reads are continued."""
    value = os.urandom(3_000_000)
    assert through([value, (1, 2)]) == [value, [1, 2]]


@pytest.mark.parametrize("value", [1 << 64, -(1 << 63) - 1, object(), {"a": {1}}, bytes(MAX_MESSAGE)])
def test_what_cannot_be_sent_is_refused(value: object, ends: tuple[Channel, Channel]) -> None:
    """Nothing of it reaches the far side."""
    with pytest.raises(ProtocolError):
        ends[0].send(value)  # type: ignore[arg-type]
    ends[0].send("next")
    assert ends[1].receive() == "next"


def test_nesting_is_bounded_both_ways(ends: tuple[Channel, Channel]) -> None:
    """A hostile far side cannot exhaust the stack (H29)."""
    deep: Value = 1
    for _ in range(9):
        deep = [deep]
    with pytest.raises(ProtocolError, match="nested too deeply"):
        ends[0].send(deep)
    with pytest.raises(ProtocolError, match="nested too deeply"):
        receive(b"\xdd\0\0\0\1" * 1000 + b"\xc0")


def receive(payload: bytes, announced: int | None = None) -> Value:
    """Return what is received where the far side sends raw bytes and is gone."""
    reading, writing = os.pipe()
    channel = Channel(reading, -1)
    try:
        os.write(writing, struct.pack("<I", len(payload) if announced is None else announced) + payload)
        os.close(writing)
        return channel.receive()
    finally:
        channel.close()


@given(st.binary(max_size=200))
def test_nonsense_ends_in_a_protocol_error_or_a_value(payload: bytes) -> None:
    """No bytes of a hostile far side raise anything else."""
    try:
        receive(payload)
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01",  # a small integer as others write it: not what this codec writes
        b"\xcf\0\0",
        b"\xdb\0\0",
        b"\xdb\0\0\0\7abc",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\0\0\0\1\xc0\xc0\xc0\xc0\xc0\xc0",
        b"\xc0\xc0",
    ],
)
def test_a_malformed_message_is_refused(payload: bytes) -> None:
    """Truncated, overlong, of a wrong key, or followed by more."""
    with pytest.raises(ProtocolError):
        receive(payload)


def test_a_length_is_bounded_before_anything_is_read() -> None:
    """Four bytes cannot make the receiver reserve memory."""
    with pytest.raises(ProtocolError, match="too long"):
        receive(b"", announced=MAX_MESSAGE + 1)


def test_the_end_is_an_end_of_file() -> None:
    """Between messages and within one."""
    with pytest.raises(EOFError):
        receive(b"", announced=5)
    one, other = pair()
    other.close()
    with pytest.raises(EOFError):
        one.receive()
    with pytest.raises(BrokenPipeError):
        one.send(1)
    one.close()
    one.close()
