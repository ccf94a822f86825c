"""What the first bytes of a database, its -wal and its -shm say: a short look, however large the log is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WalLook:
    """What was seen at one moment. Nothing is said of the frames: nobody read them."""

    versions: tuple[int, int] | None  # bytes 18 and 19 of the database: 2 in WAL mode, else 1; None: it is empty
    page_size: int  # bytes, as the database's header says; 0 where it names none
    database_bytes: int
    wal_bytes: int  # size of the -wal, 0 where there is none
    wal_modified: float | None  # when the -wal was last written to, seconds since 1970; None where there is none
    # The log's own header; all 0 or empty where it has none that SQLite would use
    log_page_size: int = 0  # bytes
    sequence: int = 0  # checkpoint sequence number: how often the log was restarted since it was made
    salts: str = ""  # of this generation of the log, 16 hexadecimal digits
    # The wal-index, as far as it can be believed
    index: bool = False  # whether it can
    frames: int = 0  # mxFrame
    backfilled: int = 0  # nBackfill
    pages: int = 0  # size of the database at the last commit, in pages
    read_marks: tuple[int | None, ...] = ()  # None where a slot is not used. Lower bounds, never snapshots (H37)

    @property
    def in_wal_mode(self) -> bool:
        """Whether the database file says so, which is where the mode is kept."""
        return self.versions is not None and 2 in self.versions
