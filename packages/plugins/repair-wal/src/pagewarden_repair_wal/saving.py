"""Intact frames of commits that cannot be replayed, kept in a database of their own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pagewarden.pages.stranded import LogProof
from pagewarden_repair_wal.rewriting import content

_TABLE = """
CREATE TABLE frames(
  frame INTEGER PRIMARY KEY, -- its place in the log, from 1
  page INTEGER NOT NULL, -- number of the page that it holds
  database_pages INTEGER NOT NULL, -- for a commit: size of the database after it, in pages; else 0
  bytes BLOB NOT NULL
)
"""


def save_frames(source: int, proof: LogProof, to: Path) -> bool:
    """Write what is intact behind the proof's target to the new database `to`; False where that is nothing."""
    frames = list(_left_over(proof))
    if not frames:
        return False
    with closing(sqlite3.connect(to, isolation_level=None)) as connection:
        connection.execute(_TABLE)
        connection.execute("BEGIN")
        for frame in frames:
            held = content(source, proof, frame)
            connection.execute(
                "INSERT INTO frames VALUES(?, ?, ?, ?)",
                (frame, proof.numbers[frame - 1], proof.sizes[frame - 1], held[8:]),
            )
        connection.execute("COMMIT")
    return True


def _left_over(proof: LogProof) -> Iterator[int]:
    """Yield the frames behind the target that are intact, up to the last commit: what comes then was never one."""
    commits = (frame for frame in range(len(proof.numbers), proof.target, -1) if proof.sizes[frame - 1])
    for frame in range(proof.target + 1, next(commits, 0) + 1):
        if frame not in proof.lost:
            yield frame
