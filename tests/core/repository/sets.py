"""Small page sets, repositories and targets for the tests of this folder."""

from __future__ import annotations

import io
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import zstandard

from pagewarden.contracts import ObjectInfo
from pagewarden.pages import PageSource
from pagewarden.repository.assemble import Assembly
from pagewarden.repository.format import PageSetHeader, PageSetInfo
from pagewarden.repository.intent import Intent
from pagewarden.repository.manifest import SourceFacts
from pagewarden.repository.pageset import verify_pageset
from pagewarden.repository.repository import Repository
from pagewarden.repository.writer import SnapshotWriter
from pagewarden.values import RestorePoint, SourceVerdict, Verdict

TIMELINE = "0123456789abcdef" * 2
NOW = datetime(2026, 11, 22, 10, 15, 0, 123456, UTC)


def image(pages: int, page_size: int = 512, seed: int = 1) -> bytes:
    """Return the bytes of a database of random pages, half of each compressible."""
    rng = random.Random(seed)
    return b"".join(rng.randbytes(page_size // 2) + bytes(page_size // 2) for _ in range(pages))


def header(
    pages: int, page_size: int = 512, *, per_frame: int = 4, txid: int = 1, timeline: str = TIMELINE
) -> PageSetHeader:
    """Return a header of a snapshot."""
    return PageSetHeader(
        page_size=page_size, pages=pages, pages_per_frame=per_frame, timeline=timeline, txid=txid, time=NOW
    )


@contextmanager
def source(folder: Path, data: bytes, page_size: int = 512, name: str = "source.db") -> Iterator[PageSource]:
    """Yield the pages of a file with `data`."""
    path = folder / name
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield PageSource(database=descriptor, page_size=page_size, pages=len(data) // page_size, file_size=len(data))
    finally:
        os.close(descriptor)


def write(path: Path, data: bytes, head: PageSetHeader) -> PageSetInfo:
    """Write a snapshot of `data` to `path`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        source(Path(folder), data, head.page_size) as pages,
        SnapshotWriter(path, head, level=1, threads=2) as writer,
    ):
        writer.copy(pages, 1, pages.pages)
        return writer.seal(pages=pages.pages)


def stock(path: Path) -> bytes:
    """Decompress a file as stock zstd does: all frames, skippable ones ignored."""
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(path.read_bytes()), read_across_frames=True) as reader:
        return reader.read()


def assemble(
    paths: Sequence[str | Path],
    to: Path,
    *,
    threads: int = 2,
    read_back: bool = False,
    size: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[PageSetInfo]:
    """Make a database in the file `to` of page sets, from the newest down; return what those are."""
    with (
        to.open("w+b") as out,
        Assembly(to, out.fileno(), threads=threads, read_back=read_back, size=size) as assembly,
    ):
        infos = assembly.add(paths, progress)
        assembly.finish(progress)
        return infos


FACTS = SourceFacts(path="/srv/app.db", host="here", change_counter=7, schema_cookie=2, journal_mode="wal")
SOUND = SourceVerdict(verdict=Verdict.SOUND, level="quick")


def store(
    repository: Repository, intent: Intent, data: bytes, *, time: datetime = NOW, page_size: int = 512
) -> PageSetInfo:
    """Write and prove what a backup stores, without committing it."""
    head = intent.header(page_size=page_size, pages=len(data) // page_size, time=time)
    write(intent.staging, data, head)
    return verify_pageset(intent.staging, threads=2, read_data=True, drop_cache=False)


def commit(repository: Repository, intent: Intent, info: PageSetInfo) -> RestorePoint:
    """Commit what `store` wrote."""
    return repository.commit(
        intent, info, source=SOUND, facts=FACTS, compression=1, verified_at=NOW, created_by="pagewarden test"
    )


def back_up(repository: Repository, name: str, data: bytes, time: datetime = NOW) -> RestorePoint:
    """Make one backup."""
    intent = repository.begin(name)
    return commit(repository, intent, store(repository, intent, data, time=time))


def after(minutes: float) -> datetime:
    """Return a time after NOW."""
    return NOW + timedelta(minutes=minutes)


@dataclass
class MemoryTarget:
    """A target that keeps no files and has no staging folder, as an object store does."""

    url: str = "memory:"
    objects: dict[str, bytes] = field(default_factory=dict)

    def put(self, key: str, data: bytes) -> None:
        """Store."""
        if key in self.objects:
            raise FileExistsError(key)
        self.objects[key] = bytes(data)

    def adopt(self, key: str, path: Path) -> None:
        """Store a file."""
        self.put(key, path.read_bytes())
        path.unlink()

    def get(self, key: str) -> bytes:
        """Return an object."""
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key]

    def open(self, key: str) -> Path | None:
        """Keep no local files."""
        self.get(key)
        return None

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return a range."""
        return self.get(key)[offset : offset + length]

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield objects."""
        for key in sorted(self.objects):
            if key.startswith(prefix) and key in self.objects:
                yield ObjectInfo(key=key, bytes=len(self.objects[key]))

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.objects.pop(key, None)

    def staging(self) -> Path | None:
        """Have none."""
        return None
