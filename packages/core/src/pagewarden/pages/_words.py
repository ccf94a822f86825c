"""Numbers of 32 bits as they stand in buffers, little-endian whatever the machine."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

from pagewarden.pages.source import Buffer


def words_of(data: Buffer) -> array[int]:
    """Return the numbers that stand in a buffer."""
    words = array("I")
    words.frombytes(data)
    if sys.byteorder == "big":
        words.byteswap()
    return words


def map_entries(numbers: Sequence[int], first: int) -> bytes:
    """Return an entry (page, frame) for each of consecutive frames, the first of which is `first`."""
    entries = array("I", bytes(8 * len(numbers)))
    entries[0::2] = array("I", numbers)
    entries[1::2] = array("I", range(first, first + len(numbers)))
    if sys.byteorder == "big":
        entries.byteswap()
    return entries.tobytes()
