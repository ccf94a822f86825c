"""A short look at a database and its log, for `pagewarden.wal`. Runs where no SQLite connection is (H1).

The wal-index is believed only where this user may write to it, as `Attached` does, and only where the caller knows that
SQLite has the database open: what stands in a -shm that nobody uses is left from earlier.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pagewarden.errors import DatabaseNotFound, NotADatabase
from pagewarden.processes.attach import open_regular
from pagewarden.sqlite.header import HEADER_SIZE, MAGIC, page_size_of
from pagewarden.sqlite.shm import INDEX_SIZE, WalIndex, parse_index, read_marks
from pagewarden.sqlite.wal import WAL_HEADER_SIZE, WalHeader, WalInvalid
from pagewarden.wal.look import WalLook

_VERSIONS = range(18, 20)  # bytes of the header that tell the journal mode
_READINGS = 50  # of a torn wal-index header, a millisecond apart: a writer needs microseconds for its update


def look(path: str, *, live: bool, sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """Return the fields of `WalLook` for the database at the real path `path`, as plain values.

    `live` says that SQLite has the database open. Raises DatabaseNotFound, DatabaseUnreadable or NotADatabase.
    """
    header, database_bytes = _start_of(path, HEADER_SIZE)
    if header and (not header.startswith(MAGIC) or len(header) < _VERSIONS.stop):
        raise NotADatabase(
            f"{path} is not a SQLite database, or it is encrypted",
            hint=f"look at its first bytes: head -c 16 {shlex.quote(path)} | xxd",
        )
    index, marks = _index(path + "-shm", sleep) if live else (None, ())
    fields: dict[str, Any] = {"wal_bytes": 0, "wal_modified": None}
    with suppress(DatabaseNotFound):
        start, fields["wal_bytes"] = _start_of(path + "-wal", WAL_HEADER_SIZE)
        with suppress(FileNotFoundError):  # removed since
            fields["wal_modified"] = Path(f"{path}-wal").stat().st_mtime
        with suppress(WalInvalid):
            log = WalHeader.parse(start)
            fields |= {"log_page_size": log.page_size, "sequence": log.sequence, "salts": log.salts.hex()}
    if index is not None:
        fields |= {"index": True, "frames": index.frames, "backfilled": index.backfilled, "pages": index.pages}
        fields["read_marks"] = marks
    seen = WalLook(
        versions=(header[18], header[19]) if header else None,
        page_size=page_size_of(header),
        database_bytes=database_bytes,
        **fields,
    )
    return asdict(seen)


def _start_of(path: str, length: int) -> tuple[bytes, int]:
    """Return the first bytes of a file, and its size."""
    descriptor = open_regular(path)
    try:
        return os.pread(descriptor, length, 0), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _index(path: str, sleep: Callable[[float], None]) -> tuple[WalIndex | None, tuple[int | None, ...]]:
    """Return the wal-index and its read-marks; None where there is none that can be believed."""
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        return None, ()
    with suppress(DatabaseNotFound):
        for _ in range(_READINGS):
            data, _size = _start_of(path, INDEX_SIZE)
            index = parse_index(data)
            if index is not None and index.backfilled <= index.frames:
                return index, read_marks(data)
            sleep(0.001)
    return None, ()
