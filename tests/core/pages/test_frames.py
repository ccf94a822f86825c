"""One frame out and in: stock zstd reads what we write, and we read nothing but exactly what was expected."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from pagewarden.pages import Backend, BadFrame, PageDataError, PageSource, ShortRead, frame_bound
from tests.core.pages.stored import SIZE, source_of, text


def made(backend: Backend, source: PageSource, first: int, count: int, level: int = 1) -> tuple[bytes, bytes]:
    """Return a frame and its sums."""
    out = bytearray(frame_bound(count * source.page_size))
    csize, sums = backend.compressor(level).compress(source, first, count, out)
    return bytes(out[:csize]), sums


@pytest.mark.parametrize("level", [1, 3, 9, 19, 22])
def test_frame_is_a_stock_zstd_frame(pages_backend: Backend, tmp_path: Path, level: int) -> None:
    """Each frame stands alone, says its content size, and stock zstd gives the pages; so do we, with their sums."""
    content = text(40, level)
    with source_of(tmp_path / "db", content) as source:
        compressor, decompressor = pages_backend.compressor(level), pages_backend.decompressor()
        for first, count in ((1, 40), (1, 1), (7, 3), (40, 1), (2, 39)):
            out = bytearray(frame_bound(count * SIZE))
            csize, sums = compressor.compress(source, first, count, out)
            frame = bytes(out[:csize])
            wanted = content[(first - 1) * SIZE : (first - 1 + count) * SIZE]
            header = zstandard.get_frame_parameters(frame)
            assert (header.content_size, header.dict_id) == (len(wanted), 0)
            assert zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False) == wanted
            assert sums == pages_backend.sums(source, first, count)
            back = bytearray(b"\xff" * (count * SIZE + 5))
            assert decompressor.decompress(frame, SIZE, first, count, back) == sums
            assert bytes(back) == wanted + b"\xff" * 5
            assert decompressor.decompress(memoryview(frame), SIZE, first, count, memoryview(back)) == sums


def test_noise_fits_the_bound(pages_backend: Backend, tmp_path: Path) -> None:
    """Pages that cannot be compressed fit a buffer of `frame_bound` bytes exactly."""
    content = random.Random(9).randbytes(64 * 4096)
    with source_of(tmp_path / "db", content, 4096) as source:
        for count in (1, 31, 32, 33, 64):
            frame, _ = made(pages_backend, source, 1, count)
            assert zstandard.ZstdDecompressor().decompress(frame) == content[: count * 4096]


def test_compressor_refuses_what_is_out_of_bounds(pages_backend: Backend, tmp_path: Path) -> None:
    """No frame of no pages, of pages outside the commit, into a small buffer or of an unknown level is begun."""
    with source_of(tmp_path / "db", text(8, 1)) as source:
        compressor = pages_backend.compressor(1)
        for first, count in ((1, 0), (0, 1), (8, 2), (9, 1), (1, -1)):
            with pytest.raises(ValueError):
                compressor.compress(source, first, count, bytearray(1 << 20))
        with pytest.raises(ValueError):
            compressor.compress(source, 1, 8, bytearray(frame_bound(8 * SIZE) - 1))
        for level in (0, -1, 23):
            with pytest.raises(ValueError):
                pages_backend.compressor(level)
        os.truncate(tmp_path / "db", 3 * SIZE)
        with pytest.raises(ShortRead):
            compressor.compress(source, 1, 8, bytearray(1 << 20))
        out = bytearray(1 << 20)
        csize, _ = compressor.compress(source, 1, 3, out)  # and the compressor is as good as before
        assert zstandard.ZstdDecompressor().decompress(bytes(out[:csize])) == text(8, 1)[: 3 * SIZE]


def test_decompressor_refuses_arguments_out_of_bounds(pages_backend: Backend, tmp_path: Path) -> None:
    """Impossible ranges, page sizes and buffers that are too small are ValueErrors, no damage."""
    with source_of(tmp_path / "db", text(8, 1)) as source:
        frame, _ = made(pages_backend, source, 1, 8)
    decompressor = pages_backend.decompressor()
    for size, first, count, room in (
        (SIZE, 1, 0, 8 * SIZE),
        (SIZE, 0, 8, 8 * SIZE),
        (500, 1, 8, 8 * SIZE),
        (SIZE, 1, 8, 8 * SIZE - 1),
        (SIZE, 2**32 - 2, 8, 8 * SIZE),
        (65536, 1, 2**30, 8 * SIZE),
    ):
        with pytest.raises(ValueError) as caught:
            decompressor.decompress(frame, size, first, count, bytearray(room))
        assert not isinstance(caught.value, PageDataError)


def header(content: int | None, *, window: int | None = None, dictionary: bool = False) -> bytes:
    """Return a zstd frame header. RFC 8878, section 3.1.1.1."""
    single = window is None
    flags = (0xC0 if content is not None else 0) | (0x20 if single else 0) | (1 if dictionary else 0)
    parts = [b"\x28\xb5\x2f\xfd", bytes([flags])]
    if window is not None:
        parts.append(bytes([(window - 10) << 3]))
    if dictionary:
        parts.append(b"\x07")
    if content is not None:
        parts.append(struct.pack("<Q", content))
    return b"".join(parts)


EMPTY_BLOCK = b"\x01\x00\x00"  # raw, last, no bytes


def rle(size: int) -> bytes:
    """Return last blocks that decode to `size` zeros, at most 128 KiB each."""
    blocks = [(min(131072, size - at), at + 131072 >= size) for at in range(0, size, 131072)]
    return b"".join(struct.pack("<I", (length << 3) | 2 | last)[:3] + b"\0" for length, last in blocks)


def test_hand_made_frame_is_read(pages_backend: Backend) -> None:
    """The frames that the next tests bend are good ones when they are not bent."""
    for frame in (header(8 * SIZE) + rle(8 * SIZE), header(8 * SIZE, window=12) + rle(8 * SIZE)):
        out = bytearray(b"\xff" * (8 * SIZE))
        assert pages_backend.decompressor().decompress(frame, SIZE, 1, 8, out) == pages_backend.buffer_sums(
            bytes(8 * SIZE), SIZE, 1, 8
        )
        assert not any(out)


GOOD = header(8 * SIZE) + rle(8 * SIZE)
HOSTILE = {
    "empty": b"",
    "four bytes": GOOD[:4],
    "five bytes": GOOD[:5],
    "cut header": GOOD[:9],
    "cut block": GOOD[:-1],
    "noise": random.Random(1).randbytes(500),
    "zeros": bytes(500),
    "skippable": b"\x50\x2a\x4d\x18" + struct.pack("<I", 8 * SIZE) + bytes(8 * SIZE),
    "skippable before": b"\x50\x2a\x4d\x18" + struct.pack("<I", 0) + GOOD,
    "skippable after": GOOD + b"\x50\x2a\x4d\x18" + struct.pack("<I", 0),
    "legacy": b"\x27\xb5\x2f\xfd" + GOOD[4:],
    "bytes after": GOOD + b"\0",
    "two frames": header(4 * SIZE) + rle(4 * SIZE) + header(4 * SIZE) + rle(4 * SIZE),
    "frame twice": GOOD + GOOD,
    "one page less": header(7 * SIZE) + rle(7 * SIZE),
    "one byte more": header(8 * SIZE + 1) + rle(8 * SIZE + 1),
    "claims more": header(8 * SIZE) + rle(8 * SIZE + 1),
    "claims less": header(8 * SIZE) + rle(8 * SIZE - 1),
    "no size": header(None, window=12) + rle(8 * SIZE),
    "no bytes": header(8 * SIZE) + EMPTY_BLOCK,
    "2 GiB window": header(8 * SIZE, window=31) + rle(8 * SIZE),
    "2 MiB window": header(8 * SIZE, window=21) + rle(8 * SIZE),
    "exabyte": header(1 << 60) + rle(8 * SIZE),
    "all ones": header(2**64 - 1) + rle(8 * SIZE),
    "dictionary": header(8 * SIZE, dictionary=True) + rle(8 * SIZE),
    "reserved block": header(8 * SIZE) + struct.pack("<I", (8 * SIZE << 3) | 7)[:3] + b"\0",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_frame_is_refused(pages_backend: Backend, name: str) -> None:
    """H29: whatever is not one whole frame of exactly the expected pages is BadFrame and names its page."""
    decompressor = pages_backend.decompressor()
    with pytest.raises(BadFrame) as caught:
        decompressor.decompress(HOSTILE[name], SIZE, 5, 8, bytearray(8 * SIZE))
    assert caught.value.pgno == 5
    decompressor.decompress(GOOD, SIZE, 1, 8, bytearray(8 * SIZE))  # and the decompressor is as good as before


def test_changed_frames_never_pass_for_the_original(pages_backend: Backend, tmp_path: Path) -> None:
    """A frame with any byte changed is refused, or its sums tell, or it still holds the very same pages."""
    chance = random.Random(17)
    content = text(8, 3)
    with source_of(tmp_path / "db", content) as source:
        frame, sums = made(pages_backend, source, 1, 8)
    decompressor = pages_backend.decompressor()
    refused = 0
    for _ in range(300):
        changed = bytearray(frame)
        for _ in range(chance.choice([1, 1, 2, 8])):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        out = bytearray(8 * SIZE)
        try:
            found = decompressor.decompress(changed, SIZE, 1, 8, out)
        except BadFrame:
            refused += 1
        else:
            assert (found == sums) == (bytes(out) == content)
    assert refused > 50


def test_hostile_frames_cost_no_memory() -> None:
    """A process that may allocate 64 MiB more refuses frames that claim 2 GiB as bad frames, not for lack of memory."""
    program = """
import resource, sys
from tests.core.pages.test_frames import HOSTILE, GOOD, SIZE, header, rle
from pagewarden.pages import BadFrame, backend
from pagewarden.pages import _native
decompressors = [backend().decompressor()]
sys.modules["zstandard._cffi"] = None
_native.zstd_library.cache_clear()
decompressors.append(_native.NativeBackend().decompressor())
for decompressor in decompressors:
    decompressor.decompress(GOOD, SIZE, 1, 8, bytearray(8 * SIZE))
with open("/proc/self/statm") as file:
    room = int(file.read().split()[0]) * resource.getpagesize() + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
frames = [*HOSTILE.values(), header(1 << 31) + rle(1 << 31), header(1 << 31, window=31) + rle(1 << 31)]
for decompressor in decompressors:
    for frame in frames:
        try:
            decompressor.decompress(frame, SIZE, 1, 8, bytearray(8 * SIZE))
        except BadFrame:
            continue
        raise SystemExit("accepted")
print("refused", len(frames))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PAGEWARDEN_NATIVE": "require"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"refused {len(HOSTILE) + 2}\n"
