"""What happened to one page, told from its bytes alone: what it should hold, what it holds, and what it held earlier.

Disks write in sectors: one that was given up is zeros, and a write that was cut off leaves some sectors new, some old.
Memory and cables flip bits; a transfer as text, or a tool that lost a byte, moves all that follows.
"""

from __future__ import annotations

from collections.abc import Sequence

SECTOR = 512
"""Bytes that a disk writes at once, at least. Disks with sectors of 4096 bytes write eight of these."""

_WORD = 8  # bytes that memory and buses carry at once
_MOST_BITS = 8  # that flip at once in one word; more is no flipping of bits any more
_PROBE = 24  # bytes that are looked for to find out how far a page was moved
_PROBES = 4  # of them, from the end of the page
_VARIED = 6  # different bytes in each


def flipped_bits(expected: bytes, seen: bytes) -> tuple[tuple[int, int], ...]:
    """Return (byte, bit) of each bit that differs, if they are few and stand in one aligned word; else nothing."""
    difference = int.from_bytes(expected, "little") ^ int.from_bytes(seen, "little")
    if not 0 < difference.bit_count() <= _MOST_BITS:
        return ()
    bits = []
    while difference:
        bit = (difference & -difference).bit_length() - 1
        bits.append((bit // 8, bit % 8))
        difference &= difference - 1
    return tuple(bits) if bits[0][0] // _WORD == bits[-1][0] // _WORD else ()


def differing_sectors(expected: bytes, seen: bytes) -> tuple[int, ...]:
    """Return where the sectors begin that differ."""
    places = range(0, len(seen), SECTOR)
    return tuple(place for place in places if seen[place : place + SECTOR] != expected[place : place + SECTOR])


def zeroed(seen: bytes, sectors: Sequence[int]) -> bool:
    """Return whether all these sectors are zeros."""
    return all(not any(seen[place : place + SECTOR]) for place in sectors)


def tear(expected: bytes, seen: bytes, older: bytes, sectors: Sequence[int]) -> int | None:
    """Return the byte at which a page tears into what it should hold and what it held earlier; None if it does not.

    `sectors` are those that differ from `expected`. In whole sectors, in whatever order they were written; or anywhere,
    if one side is all new and the other all old.
    """
    if all(seen[place : place + SECTOR] == older[place : place + SECTOR] for place in sectors):
        return _border(expected, older, sectors)
    size = len(seen)
    for first, second in ((expected, older), (older, expected)):
        begin = common_prefix(seen, first)
        if 0 < begin < size and begin + common_suffix(seen, second) >= size:
            return begin
    return None


def _border(expected: bytes, older: bytes, sectors: Sequence[int]) -> int:
    """Return where the first sector begins that is of another version than those before it."""
    versions = differing_sectors(expected, older)  # sectors in which both are equal tell nothing
    old = [place in sectors for place in versions]
    return next((place for place, is_old in zip(versions, old, strict=True) if is_old != old[0]), versions[0])


def shift(before: bytes, expected: bytes, after: bytes, seen: bytes) -> int | None:
    """Return by how many bytes the content was moved back (negative: moved forward), None if it was not.

    `before` and `after` are what the neighbouring pages should hold. What stands before the place where the moving
    begins must be as it should, and all that follows it moved; bytes that were put in stand between.
    """
    size, context = len(seen), before + expected + after
    kept = common_prefix(seen, expected)
    tried = 0
    for begin in range(size - _PROBE, kept - 1, -(_PROBE // 2)):
        probe = seen[begin : begin + _PROBE]
        if len(set(probe)) < _VARIED:  # zeros, or another run that is found anywhere
            continue
        place = context.find(probe)
        while place >= 0:
            moved = len(before) + begin - place
            if moved and _explains(context, len(before), seen, kept, moved, size - begin):
                return moved
            place = context.find(probe, place + 1)
        tried += 1
        if tried == _PROBES:
            break
    return None


def _explains(context: bytes, start: int, seen: bytes, kept: int, moved: int, least: int) -> bool:
    """Whether all of a page but what was kept, and what was put in, is what was moved: `least` bytes at its end."""
    size = len(seen)
    source = context[max(0, start - moved) : max(0, start + size - moved)]
    lead = max(0, moved - start)  # bytes at the beginning of which it is not known what they should be
    tail = size - lead - len(source)  # and at the end
    found = common_suffix(seen[lead : lead + len(source)], source)
    return found >= least - tail and kept + found + max(0, moved) + tail >= size


def common_prefix(one: bytes, two: bytes) -> int:
    """Return how many bytes at their beginnings two byte strings of one length share."""
    difference = int.from_bytes(one, "big") ^ int.from_bytes(two, "big")
    return len(one) - (difference.bit_length() + 7) // 8


def common_suffix(one: bytes, two: bytes) -> int:
    """Return how many bytes at their ends two byte strings of one length share."""
    difference = int.from_bytes(one, "little") ^ int.from_bytes(two, "little")
    return len(one) - (difference.bit_length() + 7) // 8


def spans(sectors: Sequence[int], size: int) -> str:
    """Return which bytes of a page these sectors are, in words; neighbours are one span."""
    ends: list[list[int]] = []
    for place in sectors:
        if ends and ends[-1][1] == place:
            ends[-1][1] = place + SECTOR
        else:
            ends.append([place, place + SECTOR])
    shown = [f"{begin} to {min(end, size) - 1}" for begin, end in ends[:4]]
    return "bytes " + ", ".join(shown) + (f" and {len(ends) - 4} more spans" if len(ends) > 4 else "")
