"""Transfers past the page cache give the same bytes as the ordinary ones, and fall back to them without a word."""

from __future__ import annotations

import errno
import os
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pagewarden.pages import StreamWriter, direct
from pagewarden.pages.direct import ALIGNMENT, STREAM, DirectFile, aligned_buffer, round_up
from pagewarden.testing import cut, each_fault


@contextmanager
def file_at(path: Path, content: bytes = b"") -> Iterator[int]:
    """Make a file and open it to read and write."""
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_buffers_are_whole_blocks() -> None:
    """Buffers are rounded up to the alignment, never empty, and zeros."""
    assert [round_up(size) for size in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]
    for size in (1, 4096, 5000):
        assert bytes(aligned_buffer(size)) == bytes(round_up(size))


@pytest.mark.parametrize("wanted", [True, False])
def test_transfers_anywhere_are_exact(tmp_path: Path, wanted: bool) -> None:
    """Aligned and unaligned pieces, within and across the file's end, are written and read exactly."""
    chance = random.Random(3)
    mirror = bytearray(chance.randbytes(50_000))
    with file_at(tmp_path / "file", bytes(mirror)) as descriptor:
        with DirectFile(descriptor, writing=True, wanted=wanted) as out, DirectFile(descriptor, wanted=wanted) as into:
            for _ in range(200):
                whole = chance.random() < 0.5
                offset = chance.randrange(12) * ALIGNMENT if whole else chance.randrange(45_000)
                size = chance.randrange(1, 4) * ALIGNMENT if whole else chance.randrange(9000)
                buffer = aligned_buffer(size)[:size]
                if chance.random() < 0.5:
                    buffer[:] = chance.randbytes(size)
                    out.pwrite(buffer, offset)
                    mirror.extend(bytes(max(0, offset + size - len(mirror))))
                    mirror[offset : offset + size] = buffer
                else:
                    assert into.pread_into(buffer, offset) == max(0, min(size, len(mirror) - offset))
                    there = len(mirror[offset : offset + size])
                    assert buffer[:there] == mirror[offset : offset + size]
        assert (tmp_path / "file").read_bytes() == mirror
        assert not out.direct


def test_refusal_falls_back(tmp_path: Path) -> None:
    """Memory off the alignment, which a direct transfer refuses, is transferred all the same, and from then on too."""
    content = random.Random(4).randbytes(2 * ALIGNMENT)
    buffer = aligned_buffer(3 * ALIGNMENT)
    odd = buffer[1 : 1 + 2 * ALIGNMENT]
    odd[:] = content
    with file_at(tmp_path / "file") as descriptor:
        with DirectFile(descriptor, writing=True) as file:
            file.pwrite(odd, ALIGNMENT)
            file.pwrite(odd, 0)
        assert (tmp_path / "file").read_bytes() == content + content[ALIGNMENT:]
        odd[:] = bytes(len(odd))
        with DirectFile(descriptor) as file:
            assert file.pread_into(odd, 0) == 2 * ALIGNMENT
        assert odd == content


def test_second_description_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without O_DIRECT in the system, or without a way to open the file again, everything goes through the first."""
    with file_at(tmp_path / "file", b"x" * ALIGNMENT) as descriptor:
        (tmp_path / "file").chmod(0)
        for _ in range(2):
            with DirectFile(descriptor, writing=True) as file:
                file.pwrite(aligned_buffer(ALIGNMENT), ALIGNMENT)
            with DirectFile(descriptor) as file:
                assert file.pread_into(aligned_buffer(4 * ALIGNMENT), 0) == 2 * ALIGNMENT
            monkeypatch.delattr(os, "O_DIRECT", raising=False)
        with DirectFile(descriptor) as file:
            assert not file.direct
    read, write = os.pipe()
    os.close(write)
    with DirectFile(read, wanted=False) as file, pytest.raises(OSError) as caught:
        file.pread_into(aligned_buffer(ALIGNMENT), 0)
    assert caught.value.errno == errno.ESPIPE
    os.close(read)


def test_real_errors_are_not_swallowed(tmp_path: Path) -> None:
    """A file that may not grow any more is an OSError, from direct and ordinary writes alike."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with file_at(tmp_path / "file") as descriptor:
        resource.setrlimit(resource.RLIMIT_FSIZE, (ALIGNMENT, before[1]))
        try:
            for wanted in (True, False):
                with DirectFile(descriptor, writing=True, wanted=wanted) as file:
                    file.pwrite(aligned_buffer(ALIGNMENT), 0)
                    with pytest.raises(OSError) as caught:
                        file.pwrite(aligned_buffer(ALIGNMENT), ALIGNMENT)
                    assert caught.value.errno == errno.EFBIG
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("how", ["once", "forever", "short"])
def test_every_failing_write_is_an_error_or_no_loss(tmp_path: Path, number: int, how: str) -> None:
    """Whichever call fails, or takes one byte only, the stream raises it or the file holds every byte."""
    content = random.Random(5).randbytes(2 * STREAM + 5000)
    raised = 0
    for faulty in each_fault(number=number, forever=how == "forever", short=how == "short"):
        with file_at(tmp_path / "file") as descriptor, cut(direct, faulty):
            try:
                stream = StreamWriter(descriptor, offset=100)
                for at in range(0, len(content), 900_001):
                    stream.write(content[at : at + 900_001])
                stream.flush()
            except OSError as error:
                raised += 1
                assert error.errno == number
            else:
                assert (tmp_path / "file").read_bytes() == bytes(100) + content
    assert raised == 0 if how == "short" else raised >= 2


@pytest.mark.parametrize("offset", [0, 1, 100, ALIGNMENT, ALIGNMENT + 7])
def test_stream_is_what_was_written(tmp_path: Path, offset: int) -> None:
    """Pieces of any size from any offset, flushed at any time, make the file; what stood before it stays."""
    chance = random.Random(offset)
    content = bytearray(chance.randbytes(offset))
    with file_at(tmp_path / "file", bytes(content)) as descriptor:
        stream = StreamWriter(descriptor, offset=offset)
        for size in (0, 1, 4095, STREAM - 4096, 3 * STREAM, 17, STREAM, 5000, 1_000_000):
            piece = chance.randbytes(size)
            stream.write(memoryview(piece) if size % 2 else piece)
            content += piece
            assert stream.end == len(content)
            if chance.random() < 0.4:
                stream.flush()
                assert os.pread(descriptor, len(content), 0) == content
        stream.flush()
        stream.close()
        assert (tmp_path / "file").read_bytes() == content
