"""A file of noise and its compressed copy, as `copy_out` makes it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pagewarden.pages import Backend, Batch, PageSource, StoredFrame, copy_out

SIZE = 512


def text(pages: int, seed: int, size: int = SIZE) -> bytes:
    """Return pages that compress about as a database does."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randrange(3, 12)) for _ in range(50)]
    data = b"".join(chance.choice(words) for _ in range(pages * size // 3))
    return data[: pages * size]


@contextmanager
def source_of(path: Path, content: bytes, size: int = SIZE) -> Iterator[PageSource]:
    """Write `content` to `path` and open it as a source of pages."""
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield PageSource(database=descriptor, page_size=size, pages=len(content) // size, file_size=len(content))
    finally:
        os.close(descriptor)


@dataclass
class Store:
    """A sink that keeps what it gets, in memory."""

    offset: int = 0  # byte at which the first frame lies
    frames: list[StoredFrame] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    sums: bytearray = field(default_factory=bytearray)

    def __call__(self, batch: Batch) -> None:
        """Take one batch, whose parts must fit each other."""
        assert sum(frame.csize for frame in batch.frames) == len(batch.data)
        assert sum(frame.count for frame in batch.frames) * 8 == len(batch.sums)
        at = self.offset + len(self.data)
        for frame in batch.frames:
            self.frames.append(StoredFrame(offset=at, csize=frame.csize, first=frame.first, count=frame.count))
            at += frame.csize
        self.data += batch.data
        self.sums += batch.sums

    def expected(self, first: int, count: int) -> bytes:
        """Return recorded sums, of pages; the copy begins at page 1."""
        return bytes(self.sums[(first - 1) * 8 : (first - 1 + count) * 8])

    def saved(self, path: Path) -> int:
        """Write the frames at their offset to a new file; return its descriptor."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.pwrite(descriptor, self.data, self.offset)
        return descriptor


def copied_out(
    source: PageSource, backend: Backend, *, pages_per_frame: int = 4, threads: int = 2, level: int = 1
) -> Store:
    """Copy all pages of a source out."""
    store = Store()
    copy_out(
        source,
        first=1,
        count=source.pages,
        pages_per_frame=pages_per_frame,
        level=1,
        threads=threads,
        sink=store,
        using=backend,
    )
    return store
