"""What tests of attached commits share."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from pagewarden.pages import backend
from pagewarden.processes.attach import Attached
from tests.support.databases import backup


def image(attached: Attached) -> bytes:
    """Return all pages of an attached commit."""
    source = attached.source
    data = bytearray(source.pages * source.page_size)
    backend().read(source, 1, source.pages, data)
    return bytes(data)


def oracle(path: Path, folder: Path) -> bytes:
    """Return what the backup API makes of copies of the files, as if the machine had stopped now."""
    copy = folder / "oracle"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for suffix in ("", "-wal"):
        if Path(f"{path}{suffix}").exists():
            shutil.copy(f"{path}{suffix}", copy / f"a.db{suffix}")
    with closing(sqlite3.connect(copy / "a.db")) as connection:
        return backup(connection, copy / "b.db")
