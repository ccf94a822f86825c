"""Backups one after the other, of a small database into the repository beside it, and what became of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.runtime import Runtime
from pagewarden.values import BackupReport
from tests.support.restoring import bring_back_chain


def backup(path: Path, runtime: Runtime, **named: object) -> BackupReport:
    """Back a database up to the repository beside it."""
    request = {"check": "none", "repository": str(path.parent / "repository")} | named
    return run_backup(BackupRequest(database=str(path), **request), runtime)  # type: ignore[arg-type]


def execute(path: Path, *statements: str) -> bytes:
    """Run statements in one connection and return the file's bytes once it is closed, all of its log in it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()
    return path.read_bytes()


def restored(report: BackupReport, runtime: Runtime, to: Path) -> bytes:
    """Return the database that a restore point makes."""
    repository = runtime.repository(report.repository)
    position = report.position
    chain = repository.resolve_chain(txid=position.txid, timeline=position.timeline)
    return bring_back_chain(runtime.reader, repository, chain, to)


def stored(path: Path) -> dict[str, int]:
    """Return every file of the repository beside a database, and its size."""
    folder = path.parent / "repository"
    return {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


def map_of(runtime: Runtime) -> Path:
    """Return the one local page map."""
    (found,) = runtime.state.glob("maps/*")
    return found


def touch(rows: str) -> str:
    """Return a statement that changes some rows in place."""
    return f"UPDATE item SET body = randomblob(length(body)) WHERE id % {rows}"


def flip(file: Path, offset: int) -> None:
    """Change one byte of a file."""
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[offset] ^= 0x10
    file.write_bytes(data)


def objects(path: Path) -> list[Path]:
    """Return the stored objects in order of their positions."""
    return sorted((path.parent / "repository").rglob("*.pageset.zst"))
