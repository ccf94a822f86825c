"""What both backends refuse before they begin, in the same words: ValueError."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from pagewarden.pages.source import MAX_PAGES, Buffer, PageSource, WalPoint, WalStart, frame_bound, is_page_size


def check_level(level: int) -> None:
    """Refuse what is not a zstd level from 1 to 22."""
    if not 1 <= level <= 22:
        raise ValueError(f"{level} is not a compression level from 1 to 22")


def check_out(page_size: int, count: int, out: Buffer) -> None:
    """Refuse a buffer that cannot hold the pages."""
    if len(out) < count * page_size:
        raise ValueError(f"{count} pages of {page_size} bytes need more than {len(out)} bytes")


def check_buffer(pages: Buffer, page_size: int, first: int, count: int) -> None:
    """Refuse a page size or range that no database has, and a buffer that does not hold the pages."""
    if not is_page_size(page_size) or first < 1 or count < 0 or first + count - 1 > MAX_PAGES:
        raise ValueError(f"no database has {count} pages of {page_size} bytes from page {first}")
    check_out(page_size, count, pages)


def check_listed(pages: Buffer, page_size: int, numbers: Sequence[int]) -> None:
    """Refuse what is no page size, a buffer without room for so many pages, and numbers that no page has."""
    if not is_page_size(page_size) or len(pages) < len(numbers) * page_size:
        raise ValueError(f"{len(pages)} bytes do not hold {len(numbers)} pages of {page_size} bytes")
    if numbers and not 1 <= min(numbers) <= max(numbers) <= MAX_PAGES:
        raise ValueError("page numbers that no page has")


def check_frame(page_size: int, first: int, count: int, out: Buffer) -> None:
    """Refuse a frame of no pages, and what `check_buffer` refuses."""
    if count < 1:
        raise ValueError("a frame holds at least one page")
    check_buffer(out, page_size, first, count)


def check_frame_range(source: PageSource, first: int, count: int, out: Buffer) -> None:
    """Refuse a frame of no pages, pages outside the commit, and a buffer that could be too small."""
    if count < 1:
        raise ValueError("a frame holds at least one page")
    source.check_range(first, count)
    need = frame_bound(count * source.page_size)
    if len(out) < need:
        raise ValueError(f"a frame of {count} pages needs a buffer of {need} bytes, not {len(out)}")


def check_frame_buffer(pages: Buffer, out: Buffer) -> None:
    """Refuse a frame of nothing, and a buffer that could be too small for it."""
    if not len(pages):
        raise ValueError("a frame holds at least one page")
    need = frame_bound(len(pages))
    if len(out) < need:
        raise ValueError(f"a frame of {len(pages)} bytes needs a buffer of {need} bytes, not {len(out)}")


def check_wal(page_size: int, last_frame: int | None) -> int:
    """Refuse a page size that is neither 0 nor SQLite's; return the limit as a number of 32 bits."""
    if page_size and not is_page_size(page_size):
        raise ValueError(f"{page_size} is not a page size")
    if last_frame is not None and last_frame < 0:
        raise ValueError(f"{last_frame} is not a frame")
    return 0xFFFFFFFE if last_frame is None else min(last_frame, 0xFFFFFFFE)


def check_start(start: WalStart) -> None:
    """Refuse a place in a WAL that cannot be one."""
    words = (start.at, *start.checksum, *start.other)
    if not is_page_size(start.page_size) or len(start.salts) != 8 or not all(0 <= word < 1 << 32 for word in words):
        raise ValueError(f"nothing can stand behind {start}")


def check_point(start: WalPoint, last_frame: int, pages: Buffer | None) -> int:
    """Refuse a place in a WAL that cannot be one, and a buffer without room; return how many frames are asked for."""
    words = (start.frame, *start.checksum)
    if not is_page_size(start.page_size) or len(start.salts) != 8 or not all(0 <= word < 1 << 32 for word in words):
        raise ValueError(f"nothing can stand behind {start}")
    count = max(0, min(last_frame, 0xFFFFFFFE) - start.frame)
    if pages is not None:
        check_out(start.page_size, count, pages)
    return count


def check_run(
    numbers: array[int], sizes: array[int], sums: Buffer, table: memoryview, page_size: int, place: int, pages: int
) -> None:
    """Refuse a run of frames whose parts do not fit each other, and a table that does not hold all pages."""
    if not is_page_size(page_size) or not len(numbers) == len(sizes) == len(sums) // 8 or table.format != "Q":
        raise ValueError(f"{len(numbers)} frames with {len(sizes)} sizes and {len(sums)} bytes of sums")
    if not 0 <= place <= len(numbers) or not 0 <= pages <= len(table):
        raise ValueError(f"no frame {place} of {len(numbers)}, or no sums of {pages} pages in {len(table)}")
