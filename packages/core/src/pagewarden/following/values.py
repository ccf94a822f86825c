"""What travels between the page reader, which follows a log, and whoever asked it to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagewarden.repository.format import PageSetInfo


class Cause(StrEnum):
    """Why commits may have been missed."""

    GUARD_WAS_DOWN = "guard-was-down"  # nobody followed meanwhile, and the log does not reach back
    LOG_RESTARTED = "log-restarted"  # commits went with a generation of the log: somebody else checkpointed
    LOG_REPLACED = "log-replaced"  # it is another log, or an older one, than was followed
    LOG_DAMAGED = "log-damaged"  # frames that SQLite goes by do not prove themselves
    DATABASE_REPLACED = "database-replaced"  # another file stands at the path, or none
    JOURNAL_MODE_CHANGED = "journal-mode-changed"  # it is not in WAL mode any more
    PAGE_SIZE_CHANGED = "page-size-changed"
    COMMITS_MISSED = "commits-missed"  # the wal-index counts other commits than the log holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Why the log cannot be followed from the position on: it is to be healed by comparison."""

    cause: Cause
    why: str  # one clause, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """What of a log was taken: everything up to one commit."""

    salts: bytes  # of the log's generation, 8 bytes
    frame: int  # the last frame of the commit, from 1; 0: the generation has none of it
    checksum: tuple[int, int] | None = None  # the running checksum there; None: what the log itself says
    change: int | None = None  # iChange of the wal-index after the commit; None where it is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the wal-index says at one moment."""

    salts: bytes  # of the log's generation, 8 bytes
    frames: int  # mxFrame: the last committed frame
    backfilled: int  # nBackfill: frames that are in the database file already
    change: int  # iChange: counts commits, modulo 2^32
    page_size: int  # bytes; 0 where the log has had no frame yet
    wal_bytes: int  # size of the -wal
    behind: bool  # whether there are commits that were not taken
    moved: str = ""  # a `Cause` where the files are not those that were followed, else empty; then all else is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One batch of commits, in files that are durable and were read back."""

    txid_from: int  # the position before
    txid: int  # the position after: one more for each commit
    kept: int  # how many commits there are restore points of, from 1
    merged: int  # how many commits the segment stands for where all but the last are lost; 0 where none is
    segment: PageSetInfo  # the last version of each page that changed
    commits: PageSetInfo | None  # every version, commit by commit; None where `merged`
    cursor: Cursor  # what of the log was taken by now
    pages: int  # size of the database after it, in pages
    database_sum: int
    time: datetime  # when its last commit was seen, UTC
    more: bool  # whether commits were left for the next time, because all at once would have been too much

    @property
    def count(self) -> int:
        """How many commits these are."""
        return self.txid - self.txid_from
