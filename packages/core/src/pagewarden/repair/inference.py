"""What can be derived of a database's files, and the undoing of newlines that a transfer as text has mangled.

SQLite's magic holds neither CR nor LF, so that a mangled file still begins with it. Where every LF became CRLF, each LF
of the file follows a CR, and to take those away again gives exactly what was there. Where every CRLF became LF, the
file does not say which ones: it is undone only if all of them were. In both cases the proof is the walk: what comes out
must hold from its first page to its last.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import IO

from pagewarden.errors import DatabaseNotFound
from pagewarden.processes.attach import open_regular
from pagewarden.repair.derivation import Underivable, derive
from pagewarden.repair.inferred import Inference
from pagewarden.sqlite.header import HEADER_SIZE, MAGIC, valid_page_size

EXPANDED = "every LF became CRLF"
CONTRACTED = "every CRLF became LF"

_BACK = {EXPANDED: (b"\r\n", b"\n"), CONTRACTED: (b"\n", b"\r\n")}
_LEAST = 2  # newlines that were changed
_CHUNK = 4 << 20  # bytes


def infer(path: str, *, threads: int = 2) -> Inference:
    """Return what can be derived of the database at `path` and its -wal. Writes nothing. Raises OSError."""
    with opened(path) as (database, wal):
        try:
            return derive(database, wal, threads=threads).summary()
        except Underivable as no:
            why = str(no)
        for way in ways_back(database) if wal < 0 else ():
            with tempfile.TemporaryFile() as undone:
                undo_newlines(database, undone, way)
                try:
                    return replace(derive(undone.fileno(), threads=threads).summary(), newlines=way)
                except Underivable:
                    continue
        return Inference(why=why)


@contextmanager
def opened(path: str) -> Iterator[tuple[int, int]]:
    """Open a database file and its -wal (-1: there is none, or it is empty) for reading.

    Raises DatabaseNotFound, DatabaseUnreadable.
    """
    with ExitStack() as stack:
        database = open_regular(path)
        stack.callback(os.close, database)
        wal = -1
        with suppress(DatabaseNotFound):
            wal = open_regular(f"{path}-wal")
            stack.callback(os.close, wal)
        yield database, wal if wal >= 0 and os.fstat(wal).st_size else -1


def ways_back(database: int) -> Iterator[str]:
    """Yield what may have become of the newlines of a file, as far as counting tells."""
    head = os.pread(database, HEADER_SIZE, 0)
    size = os.fstat(database).st_size
    page_size = int.from_bytes(head[16:18], "big")  # no byte of it can be part of a newline
    page_size = 65536 if page_size == 1 else page_size
    # A file of whole pages is not gone through: that its newlines were as many as the bytes of some pages is no guess.
    if not head.startswith(MAGIC) or not valid_page_size(page_size) or size % page_size == 0:
        return
    newlines, pairs = _counts(database)
    if newlines < _LEAST:
        return
    if newlines == pairs and (size - newlines) % page_size == 0:
        yield EXPANDED
    if not pairs and (size + newlines) % page_size == 0:
        yield CONTRACTED


def undo_newlines(database: int, to: IO[bytes], way: str) -> None:
    """Write the file to `to` as it was before its newlines were mangled. Raises OSError."""
    old, new = _BACK[way]
    for chunk in _chunks(database):
        to.write(chunk.replace(old, new))
    to.flush()


def _counts(database: int) -> tuple[int, int]:
    """Return how many LF there are, and how many of them follow a CR."""
    newlines = pairs = 0
    for chunk in _chunks(database):
        newlines += chunk.count(b"\n")
        pairs += chunk.count(b"\r\n")
    return newlines, pairs


def _chunks(database: int) -> Iterator[bytes]:
    """Yield the file; a CR at the end of a chunk is kept back for the next one."""
    offset, kept = 0, b""
    while data := os.pread(database, _CHUNK, offset):
        offset += len(data)
        data = kept + data
        kept = b"\r" if data.endswith(b"\r") else b""
        yield data[: len(data) - len(kept)]
    if kept:
        yield kept
