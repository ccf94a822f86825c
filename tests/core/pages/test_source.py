"""The values: what a page source refuses, where the lock-byte page lies, how large a frame can become."""

from __future__ import annotations

import importlib

import pytest

from pagewarden.pages import LOCK_BYTE_OFFSET, MAX_PAGES, PageSource, frame_bound, is_page_size, lock_page

PAGE_SIZES = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]


def test_lock_page_holds_the_lock_bytes() -> None:
    """H12: the page that `lock_page` names is the one that byte 2^30 lies in, for every page size."""
    for size in PAGE_SIZES:
        assert (lock_page(size) - 1) * size <= LOCK_BYTE_OFFSET < lock_page(size) * size
    assert lock_page(4096) == 262145
    assert lock_page(65536) == 16385


def test_page_sizes_are_sqlites() -> None:
    """Exactly the powers of two from 512 to 65536 are page sizes."""
    assert [size for size in range(-1, 70000) if is_page_size(size)] == PAGE_SIZES


@pytest.mark.parametrize(
    "wrong",
    [
        {"page_size": 0},
        {"page_size": 1000},
        {"page_size": 131072},
        {"pages": -1},
        {"pages": MAX_PAGES + 1},
        {"file_size": -1},
        {"file_size": 1 << 63},
        {"wal": 4, "frames": b"1234567"},
        {"frames": bytes(8)},
    ],
)
def test_source_refuses_what_no_database_can_be(wrong: dict[str, object]) -> None:
    """A page source with an impossible field is a ValueError, not a read of nonsense."""
    fields: dict[str, object] = {"database": 3, "page_size": 4096, "pages": 10, "file_size": 40960}
    PageSource(**fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        PageSource(**{**fields, **wrong})  # type: ignore[arg-type]


def test_range_must_be_within_the_commit() -> None:
    """Pages before the first or beyond the last are refused, an empty range at the end is not."""
    source = PageSource(database=3, page_size=4096, pages=10, file_size=40960)
    for first, count in ((1, 10), (10, 1), (1, 0), (11, 0)):
        source.check_range(first, count)
    for first, count in ((0, 1), (1, 11), (11, 1), (5, -1), (12, 0), (-3, 3)):
        with pytest.raises(ValueError):
            source.check_range(first, count)


def test_frame_bound_is_zstds_own() -> None:
    """`frame_bound` equals ZSTD_compressBound, whose buffers never prove too small."""
    library = importlib.import_module("zstandard._cffi")
    for size in (0, 1, 511, 4096, 131071, 131072, 131073, 524288, 2**30, 2**32):
        assert frame_bound(size) == library.lib.ZSTD_compressBound(size)
