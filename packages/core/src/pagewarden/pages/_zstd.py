"""Copying through zstandard's public interface: for the twin, and for native where `zstandard._cffi` is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagewarden.pages._checks import check_frame, check_frame_buffer, check_frame_range
from pagewarden.pages.source import BadFrame, Buffer, PageSource

if TYPE_CHECKING:
    from pagewarden.pages.backend import Backend

WINDOW_FLOOR = 1 << 20
"""Bytes of window that any frame may ask for: encoders may choose one larger than a small content."""

_MAGIC = b"\x28\xb5\x2f\xfd"


class PublicCompressor:
    """Reads and hashes through a backend, compresses with one reused ZstdCompressor."""

    def __init__(self, backend: Backend, level: int) -> None:
        import zstandard

        self._backend = backend
        self._context = zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False)
        self._pages = bytearray()

    def compress(self, source: PageSource, first: int, count: int, out: bytearray | memoryview) -> tuple[int, bytes]:
        """Write pages as one zstd frame; see `Compressor`."""
        check_frame_range(source, first, count, out)
        size = count * source.page_size
        if len(self._pages) < size:
            self._pages = bytearray(size)
        with memoryview(self._pages)[:size] as pages:
            self._backend.read(source, first, count, pages)
            sums = self._backend.buffer_sums(pages, source.page_size, first, count)
            return self.compress_buffer(pages, out), sums

    def compress_buffer(self, pages: Buffer, out: bytearray | memoryview) -> int:
        """Write pages that stand in a buffer as one zstd frame; see `Compressor`."""
        check_frame_buffer(pages, out)
        frame = self._context.compress(pages)
        with memoryview(out) as view:
            view[: len(frame)] = frame
        return len(frame)


class PublicDecompressor:
    """Decodes with one reused ZstdDecompressor and hashes through a backend."""

    def __init__(self, backend: Backend) -> None:
        import zstandard

        self._zstandard = zstandard
        self._backend = backend
        self._context = zstandard.ZstdDecompressor()

    def decompress(self, frame: Buffer, page_size: int, first: int, count: int, out: bytearray | memoryview) -> bytes:
        """Decode one frame; see `Decompressor`."""
        check_frame(page_size, first, count, out)
        size = count * page_size
        # zstandard allocates what the frame's header claims, so the header is judged first.
        if bytes(frame[:4]) != _MAGIC:
            raise BadFrame(f"the frame of page {first} is not a zstd frame", pgno=first)
        try:
            header = self._zstandard.get_frame_parameters(frame)
            if header.content_size != size or header.window_size > max(size, WINDOW_FLOOR):
                raise BadFrame(f"the frame of page {first} does not hold {count} pages", pgno=first)
            data = self._context.decompress(frame, max_output_size=size, allow_extra_data=False)
        except self._zstandard.ZstdError as error:
            raise BadFrame(f"the frame of page {first} cannot be decoded: {error}", pgno=first) from error
        with memoryview(out) as view:
            view[:size] = data
        return self._backend.buffer_sums(data, page_size, first, count)
