"""Large private files are let go from the page cache as they are gone through, and lose nothing by it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewarden.pages import Behind, behind, forget
from pagewarden.pages.behind import WINDOW, read_from_disk

Range = tuple[int, int]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """An empty file, open to read and write."""
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Range]:
    """The ranges (offset, length) that the system is told are not needed."""
    ranges: list[Range] = []
    real = os.posix_fadvise

    def advise(file: int, offset: int, length: int, advice: int) -> None:
        if advice == os.POSIX_FADV_DONTNEED:
            ranges.append((offset, length))
        real(file, offset, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    return ranges


def test_each_window_is_let_go_when_it_is_complete_and_again_later(file: int, told: list[Range]) -> None:
    """Once to begin its writing, once when it should be written; never what lies ahead."""
    chance, end = random.Random(5), 0
    walk = Behind(file)
    while end < 9 * WINDOW:
        end += chance.randrange(1, WINDOW)
        walk.advance(end)
        assert all(offset + length <= end for offset, length in told)
    complete = end // WINDOW
    expected = [n * WINDOW for n in range(complete)] + [n * WINDOW for n in range(complete - 2)]
    assert sorted(offset for offset, _ in told) == sorted(expected)
    assert {length for _, length in told} == {WINDOW}


def test_a_jump_is_no_progress(file: int, told: list[Range]) -> None:
    """Whoever goes through a file in another order does not have all of it advised window by window."""
    walk = Behind(file)
    walk.advance(1 << 50)
    assert len(told) <= 2
    walk.advance(0)
    assert len(told) <= 2


def test_nothing_is_lost(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written reads the same after it was let go, durable or not, and where the system has no such call."""
    monkeypatch.setattr(behind, "WINDOW", 4096)
    for with_advice in (True, False):
        if not with_advice:
            monkeypatch.delattr(os, "posix_fadvise")
        data = random.Random(with_advice).randbytes(100_000)
        walk = Behind(file)
        for offset in range(0, len(data), 3000):
            os.pwrite(file, data[offset : offset + 3000], offset)
            walk.advance(min(offset + 3000, len(data)))
        forget(file)
        assert os.pread(file, len(data) + 1, 0) == data
        os.fsync(file)
        read_from_disk(file)
        assert os.pread(file, len(data) + 1, 0) == data
