"""A page is read again from the disk: it alone is let go from the page cache, or as little around it as must be."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewarden.pages import Backend, PageSource, again, lock_page, read_again

Range = tuple[int, int, int]
SIZE = 4096


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Range]:
    """The ranges (file, offset, length) that the system is told are not needed."""
    ranges: list[Range] = []
    monkeypatch.setattr(again, "forget", lambda file, offset, length: ranges.append((file, offset, length)))
    return ranges


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A database file of 1,000 pages and a log of 3 frames, open; neither was ever synced."""
    chance = random.Random(1)
    (tmp_path / "pages").write_bytes(chance.randbytes(1000 * SIZE))
    (tmp_path / "log").write_bytes(chance.randbytes(32 + 3 * (24 + SIZE)))
    opened = [os.open(tmp_path / name, os.O_RDONLY) for name in ("pages", "log")]
    yield opened[0], opened[1]
    for file in opened:
        os.close(file)


def source_of(files: tuple[int, int], frames: bytes = b"", page_size: int = SIZE) -> PageSource:
    """Return a source over the two files."""
    size = 1000 * SIZE
    return PageSource(
        database=files[0], page_size=page_size, pages=size // page_size, file_size=size, wal=files[1], frames=frames
    )


@pytest.mark.parametrize("page_size", [512, SIZE, 65536])
def test_it_gives_the_page(pages_backend: Backend, files: tuple[int, int], page_size: int) -> None:
    """Of the database file or of the log; what is dirty is not lost."""
    frames = b"\x02\0\0\0\x03\0\0\0" if page_size == SIZE else b""
    source = source_of(files, frames, page_size)
    for pgno in (1, 2, 3, source.pages):
        page = bytearray(page_size)
        pages_backend.read(source, pgno, 1, page)
        assert read_again(source, pgno, using=pages_backend) == page
    with pytest.raises(ValueError, match="not all within"):
        read_again(source, source.pages + 1, using=pages_backend)


def test_the_file_that_holds_it_is_let_go_and_no_other(files: tuple[int, int], told: list[Range]) -> None:
    """The page of the log, where the commit has it there; whole pages of memory, because parts of one stay."""
    source = source_of(files, b"\x02\0\0\0\x03\0\0\0")
    read_again(source, 2)
    read_again(source, 900)
    begin = 32 + 2 * (24 + SIZE) + 24
    wide = os.sysconf("SC_PAGE_SIZE")
    assert told[0][0] == files[1]
    assert told[0][1] % wide == told[0][2] % wide == 0
    assert told[0][1] <= begin and begin + SIZE <= told[0][1] + told[0][2] <= begin + SIZE + wide
    others = [each for each in told if each[0] == files[0]]
    assert others[0][1] <= 899 * SIZE < 900 * SIZE <= others[0][1] + others[0][2]


def test_the_range_grows_until_the_page_is_gone(
    files: tuple[int, int], told: list[Range], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of a large folio is not dropped; 2 MiB are the end of it, and a page that is dirty stays."""
    wide = os.sysconf("SC_PAGE_SIZE")
    for answers, widths in (
        ([False], [wide]),
        ([True, False], [wide, 64 << 10]),
        ([True] * 3, [wide, 64 << 10, 2 << 20]),
    ):
        told.clear()
        left = iter(answers)
        monkeypatch.setattr(again, "_cached", lambda *_, left=left: next(left))
        read_again(source_of(files), 700)
        assert [length for _, _, length in told] == widths
        assert all(offset <= 699 * SIZE < 700 * SIZE <= offset + length for _, offset, length in told)


def test_a_system_that_cannot_tell_is_told_once(
    files: tuple[int, int], told: list[Range], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a read that does not wait, and on a file system that has none."""
    read_again(source_of(files), 1)
    assert len(told) == 3  # nothing was let go in truth

    def refused(*_: object) -> int:
        raise OSError(95, "not supported")

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", refused)
        read_again(source_of(files), 1)
    monkeypatch.delattr(os, "RWF_NOWAIT")
    read_again(source_of(files), 1)
    assert len(told) == 5


def test_the_lock_byte_page_is_never_touched(files: tuple[int, int], told: list[Range]) -> None:
    """H12: it holds nothing, and whoever reads it could drop locks on some systems."""
    lock = lock_page(65536)
    source = PageSource(database=files[0], page_size=65536, pages=lock, file_size=1000 * SIZE)
    assert read_again(source, lock) == bytes(65536)
    assert told == []
