"""A log written anew from the frames of a damaged one, such that SQLite takes all of it.

Frames whose content is lost are left out. From there to the frame that overwrites their page no commit is whole, so
the marks of those commits are taken away: they become one with the next commit that is. Every transaction that is left
ends in a state that the database had. As long as nothing is left out the checksums stay, so that whoever knows the log
up to one of its frames, such as a backup, knows it again.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from pagewarden import durable
from pagewarden.pages.stranded import LogProof
from pagewarden.sqlite.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, frame_offset, wal_checksum

_AT_ONCE = 4 << 20  # bytes that are copied at once

Checksum = tuple[int, int]


def cut_log(source: int, page_size: int, frames: int, to: Path) -> None:
    """Write the first frames of a log to the new file `to`. Raises OutOfSpace or TargetFailed."""
    with _New(to) as out:
        out.copy(source, 0, frame_offset(frames + 1, page_size))


def write_log(source: int, proof: LogProof, to: Path) -> None:
    """Write all up to the proof's target as a valid log to the new file `to`. Raises OutOfSpace or TargetFailed."""
    head, last, size = proof.head, proof.target, proof.head.page_size
    start = head.encode()
    running = _words(start[WAL_HEADER_SIZE - 8 :])
    merged = tuple(_merged(proof))
    other = min([last + 1, *(begin for begin, _ in merged), *([1] if running != head.checksum else [])])
    with _New(to) as out:
        out.write(start)
        place = 1
        for frame in (*sorted(each for each in {*proof.restored, *proof.worn} if each < other), other):
            if frame > place:
                out.copy(source, frame_offset(place, size), frame_offset(frame, size) - frame_offset(place, size))
                running = _words(os.pread(source, 8, frame_offset(frame - 1, size) + 16))
            if frame < other:
                running = out.frame(proof, content(source, proof, frame), running)
            place = frame + 1
        for frame in range(other, last + 1):
            if frame not in proof.lost:
                held = content(source, proof, frame)
                if any(begin <= frame < end for begin, end in merged):
                    held = held[:4] + bytes(4) + held[8:]
                running = out.frame(proof, held, running)


def content(source: int, proof: LogProof, frame: int) -> bytes:
    """Return page number, commit field and page of a frame that is not lost."""
    if frame in proof.restored:
        return proof.restored[frame]
    data = os.pread(source, FRAME_HEADER_SIZE + proof.head.page_size, frame_offset(frame, proof.head.page_size))
    return data[:8] + data[FRAME_HEADER_SIZE:]


def _merged(proof: LogProof) -> Iterator[tuple[int, int]]:
    """Yield from which lost frame on no commit is whole, and the first frame after which one can be."""
    for frame in sorted(proof.lost):
        if frame <= proof.target:
            following = proof.overwritten(frame)
            yield frame, following if 0 < following <= proof.target else proof.target


def _words(data: bytes) -> Checksum:
    first, second = struct.unpack_from(">2I", data)
    return first, second


class _New:
    """A new file, written from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise durable.failure(error, f"cannot make {self._path}") from error
        self._end = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    def write(self, data: bytes) -> None:
        """Add bytes."""
        try:
            durable.write_at(self._file, data, self._end)
        except OSError as error:
            raise durable.failure(error, f"cannot write {self._path}") from error
        self._end += len(data)

    def copy(self, source: int, offset: int, length: int) -> None:
        """Add bytes of another file."""
        while length:
            part = os.pread(source, min(length, _AT_ONCE), offset)
            self.write(part)
            offset, length = offset + len(part), length - len(part)

    def frame(self, proof: LogProof, held: bytes, running: Checksum) -> Checksum:
        """Add a frame that goes on from a checksum; return the one from which the next goes on."""
        running = wal_checksum(held, big_endian=proof.head.big_endian, before=running)
        self.write(held[:8] + proof.head.salts + struct.pack(">2I", *running) + held[8:])
        return running
