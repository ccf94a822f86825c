"""What happened to a page, from its bytes: the right answer for what was done, and none for what was not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden_check_pages import patterns

SIZE = 4096


def page(seed: int, size: int = SIZE) -> bytes:
    """Return a page of noise."""
    return random.Random(seed).randbytes(size)


@settings(max_examples=80, deadline=None)
@given(word=st.integers(0, SIZE // 8 - 1), bits=st.sets(st.integers(0, 63), min_size=1, max_size=12))
def test_flipped_bits_of_one_word_are_named(word: int, bits: set[int]) -> None:
    """Up to eight, each by its byte and bit; more are no flipping of bits."""
    expected = page(1)
    seen = bytearray(expected)
    for bit in bits:
        seen[8 * word + bit // 8] ^= 1 << bit % 8
    named = tuple((8 * word + bit // 8, bit % 8) for bit in sorted(bits))
    assert patterns.flipped_bits(expected, bytes(seen)) == (named if len(bits) <= 8 else ())


def test_bits_of_two_words_are_not_one_flip() -> None:
    """Nor is no difference one."""
    expected, seen = page(1), bytearray(page(1))
    seen[7] ^= 1
    seen[8] ^= 1
    assert patterns.flipped_bits(expected, bytes(seen)) == ()
    assert patterns.flipped_bits(expected, expected) == ()


@pytest.mark.parametrize("old", [{0}, {7}, {4, 5, 6, 7}, {0, 1}, {2, 5}, {0, 3, 7}])
def test_a_tear_in_sectors(old: set[int]) -> None:
    """Sectors are written in any order: where the first border is, is where it tears."""
    expected, older = page(1), page(2)
    parts = [(older if number in old else expected)[512 * number : 512 * number + 512] for number in range(8)]
    seen = b"".join(parts)
    at = patterns.tear(expected, seen, older, patterns.differing_sectors(expected, seen))
    border = next(number for number in range(1, 8) if (number in old) != (number - 1 in old))
    assert at == 512 * border


def test_a_tear_anywhere() -> None:
    """New before old, or old before new, to the byte; what is neither does not tear."""
    expected, older = page(1), page(2)
    for at in (1, 700, 4095):
        for first, second in ((expected, older), (older, expected)):
            seen = first[:at] + second[at:]
            found = patterns.tear(expected, seen, older, patterns.differing_sectors(expected, seen))
            assert found is not None and found >= at and seen[:found] == first[:found]
    seen = expected[:700] + page(3)[700:]
    assert patterns.tear(expected, seen, older, patterns.differing_sectors(expected, seen)) is None


def test_a_tear_of_versions_that_share_sectors() -> None:
    """Only sectors that the versions have otherwise tell where it tears."""
    expected = page(1)
    older = expected[:1024] + page(2)[1024:2048] + expected[2048:3072] + page(3)[3072:]
    seen = expected[:3072] + older[3072:]
    assert patterns.tear(expected, seen, older, patterns.differing_sectors(expected, seen)) == 3072


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 4 * SIZE), count=st.integers(1, 16), inserted=st.booleans(), seed=st.integers(0, 99))
def test_what_was_moved_is_found(at: int, count: int, inserted: bool, seed: int) -> None:
    """By how many bytes and in which direction, on the page where it begins and on those that follow."""
    chance = random.Random(seed)
    text = b" ".join(chance.choices((b"red", b"green", b"blue", b"%d" % chance.randrange(9**9)), k=8000))[: 5 * SIZE]
    moved = text[:at] + chance.randbytes(count) + text[at:] if inserted else text[:at] + text[at + count :]
    for number in range(1, 4):
        before, expected, after = (text[SIZE * k : SIZE * k + SIZE] for k in (number - 1, number, number + 1))
        seen = moved[SIZE * number : SIZE * number + SIZE]
        by = patterns.shift(before, expected, after, seen)
        if seen == expected:
            continue
        begin = SIZE * (number + 1) - at
        if begin < 2 * count + 48:  # too little of it stands on this page
            continue
        assert by is not None
        if len(set(text)) > 12:  # words repeat, and so may the way back
            assert by > 0 or not inserted


def test_what_was_not_moved_is_not_called_so() -> None:
    """Noise, zeros behind a cut, another page."""
    before, expected, after = page(1), page(2), page(3)
    assert patterns.shift(before, expected, after, page(4)) is None
    assert patterns.shift(before, expected, after, expected[:900] + bytes(SIZE - 900)) is None
    assert patterns.shift(before, expected, after, expected[:2000] + b"x" + expected[2001:]) is None
    sparse = page(5)[:100] + bytes(SIZE - 100)
    assert patterns.shift(bytes(SIZE), sparse, bytes(SIZE), sparse[:50] + b"\1" + sparse[51:]) is None
    assert patterns.shift(b"", expected, b"", expected[3:] + b"abc") == -3


def test_spans_are_read_by_people() -> None:
    """Neighbours are one; many are counted."""
    assert patterns.spans((0, 512, 2048), SIZE) == "bytes 0 to 1023, 2048 to 2559"
    assert patterns.spans((512,), 768) == "bytes 512 to 767"
    assert patterns.spans(range(0, 8192, 1024), 8192).endswith("3072 to 3583 and 4 more spans")
