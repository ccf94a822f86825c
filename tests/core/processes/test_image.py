"""The raw copy of a sparse database is sparse, too."""

from __future__ import annotations

import os
from pathlib import Path

from pagewarden.pages import PageSource
from pagewarden.processes.image import RawImage

SIZE = 4096
PAGES = 16 * 1024  # 64 MiB


def test_zeros_stay_holes_and_are_written_where_something_stood(tmp_path: Path) -> None:
    """A copy takes no room for what is zeros, and still follows pages that become zeros, or are zeros no longer."""
    path, target = tmp_path / "sparse", tmp_path / "image"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.truncate(descriptor, PAGES * SIZE)
    for pgno in (1, 5000, PAGES):
        os.pwrite(descriptor, bytes([pgno % 251]) * SIZE, (pgno - 1) * SIZE)
    source = PageSource(database=descriptor, page_size=SIZE, pages=PAGES, file_size=PAGES * SIZE)
    image = RawImage(target, SIZE)
    image.copy(source, 1, PAGES)
    assert target.stat().st_blocks * 512 < PAGES * SIZE // 4
    os.pwrite(descriptor, bytes(SIZE), 4999 * SIZE)
    os.pwrite(descriptor, b"x" * SIZE, 9999 * SIZE)
    assert image.recopy_changed(source) == 2
    image.seal(pages=PAGES)
    os.close(descriptor)
    assert target.read_bytes() == path.read_bytes()
