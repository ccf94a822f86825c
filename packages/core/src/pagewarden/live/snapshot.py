"""A copy of one commit of a live database: as a page set for a repository, or as it is for a check."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.live.commit import ATTEMPTS
from pagewarden.live.connection import BUSY_SECONDS
from pagewarden.live.pin import Pin, patience
from pagewarden.live.place import examine
from pagewarden.live.settle import Copying
from pagewarden.processes.client import PageProgress
from pagewarden.processes.reader import Attachment, PageReader

if TYPE_CHECKING:
    from pagewarden.repository.format import PageSetHeader, PageSetInfo
    from pagewarden.repository.mapfacts import Changes, MapFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitTaken:
    """What is known of a commit that was copied, or compared with another one."""

    attachment: Attachment  # of the commit; its handle is closed
    attempts: int  # how often the copy was begun, or gone over again, until it was one commit
    lock_seconds: float  # rollback-journal mode: the longest time that a SHARED lock was held, the last pass included
    created: tuple[str, ...]  # files that are there only because the database was opened (H33)

    @property
    def journal_mode(self) -> str:
        """ "wal" or "delete", which stands for every kind of rollback journal: the file does not say which."""
        return "wal" if self.attachment.mode == "wal" else "delete"

    @property
    def change_counter(self) -> int:
        """The header's change counter; it does not move with each commit in WAL mode (H13)."""
        header = self.attachment.database_header
        return header.change_counter if header else 0

    @property
    def schema_cookie(self) -> int:
        """The header's schema cookie."""
        header = self.attachment.database_header
        return header.schema_cookie if header else 0

    @property
    def salts(self) -> bytes:
        """The WAL's generation; empty where there is none."""
        return self.attachment.salts

    @property
    def wal_checksum(self) -> str:
        """The log's running checksum at that frame, 16 hexadecimal digits; empty where there is none."""
        return self.attachment.wal_checksum

    @property
    def wal_frames(self) -> int:
        """The commit's frame in that generation: a later commit has another one, or other salts."""
        return self.attachment.wal_frames


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotTaken(CommitTaken):
    """A snapshot that is sealed in its staging file, and what is known of the commit that it holds."""

    info: PageSetInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesTaken(CommitTaken):
    """What differs between a commit and an older position, sealed in its staging file where that is worth it."""

    changes: Changes
    info: PageSetInfo | None  # of the segment; None where nothing differs, or more than a segment is for


class PageSizeChanged(Exception):
    """The database has another page size than the position that it is to be compared with."""


def snapshot_commit(
    path: str,
    reader: PageReader,
    staging_path: Path,
    header: PageSetHeader,
    level: int,
    *,
    attempts: int = ATTEMPTS,
    deadline: float | None = None,
    timeout: float = BUSY_SECONDS,
    progress: PageProgress | None = None,
    now: Callable[[], datetime] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> SnapshotTaken:
    """Write one commit of the database at `path` as a page set to the new file `staging_path`, sealed and durable.

    Of `header` the page size, the pages and the frame size are replaced by the database's; with `now` the time, too, by
    one at which the commit was the newest or already older. Nothing is left at `staging_path` if it fails.
    `progress` is told pages copied, not those copied again. `deadline` is a reading of `clock`. Raises what `examine`
    and `Pin` raise; DatabaseUnsettled where no commit could be had; OutOfSpace or TargetFailed.
    """
    from pagewarden.repository.format import pages_per_frame

    def begin(attachment: Attachment) -> int:
        size = attachment.page_size
        ours = replace(header, page_size=size, pages=attachment.pages, pages_per_frame=pages_per_frame(size))
        return reader.begin_snapshot(staging_path, ours, level)

    place = examine(path)
    with Pin(place, timeout=patience(timeout, deadline, clock), clock=clock, sleep=sleep) as pin:
        reader.ping()  # it may have to start first, and that under a lock would stop writers
        copying = Copying(
            reader, pin, begin, staging_path, progress=progress, deadline=deadline, clock=clock, sleep=sleep
        )
        with copying:
            attachment = copying.settle(attempts)
            info = reader.seal(copying.snapshot, attachment.pages, now() if now else None)
        return SnapshotTaken(
            info=info,
            attachment=attachment,
            attempts=copying.attempts,
            lock_seconds=copying.lock_seconds,
            created=pin.created,
        )


def changes_commit(
    path: str,
    reader: PageReader,
    staging_path: Path,
    header: PageSetHeader,
    level: int,
    *,
    base: Path,
    facts: MapFacts,
    always: bool = False,
    attempts: int = ATTEMPTS,
    timeout: float = BUSY_SECONDS,
    progress: PageProgress | None = None,
    now: Callable[[], datetime] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> ChangesTaken:
    """Compare one commit of the database at `path` with the page map `base`, and write what differs as a segment.

    The segment is written to the new file `staging_path`, sealed and durable; nothing is left there where nothing
    differs (but with `always`), where more does than a segment is for, or if it fails. `header` is a segment's from the
    position of `facts`; its pages are replaced by the database's and its time as `snapshot_commit` does. `progress` is
    told pages compared. Raises PageSizeChanged, VerificationFailed where what was stored does not make the database
    that was seen, and what `snapshot_commit` raises.
    """

    def begin(attachment: Attachment) -> int:
        if attachment.page_size != header.page_size:
            raise PageSizeChanged(f"its pages had {header.page_size} bytes, and have {attachment.page_size} now")
        return reader.begin_segment(staging_path, header, level, base, facts)

    place = examine(path)
    with Pin(place, timeout=timeout, clock=clock, sleep=sleep) as pin:
        reader.ping()  # it may have to start first, and that under a lock would stop writers
        copying = Copying(
            reader,
            pin,
            begin,
            staging_path,
            differs_little=True,
            progress=progress,
            deadline=None,
            clock=clock,
            sleep=sleep,
        )
        with copying:
            attachment = copying.settle(attempts)
            changes = reader.changes(copying.snapshot, attachment.pages)
            info = None
            if changes.too_many or not (changes.pages or changes.resized or always):
                copying.abandon()
            else:
                info = reader.seal(copying.snapshot, attachment.pages, now() if now else None)
        return ChangesTaken(
            changes=changes,
            info=info,
            attachment=attachment,
            attempts=copying.attempts,
            lock_seconds=copying.lock_seconds,
            created=pin.created,
        )


def scratch_copy(
    path: str,
    reader: PageReader,
    folder: str | Path,
    *,
    attempts: int = ATTEMPTS,
    deadline: float | None = None,
    timeout: float = BUSY_SECONDS,
    progress: PageProgress | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Copy one commit of the database at `path` as it is into `folder`, under the same name; return the copy's path.

    For checks that would hold a SHARED lock for too long. The copy is private to the caller, who removes it. Raises as
    `snapshot_commit` does.
    """
    place = examine(path)
    target = Path(folder) / Path(place.path).name

    def begin(attachment: Attachment) -> int:
        return reader.begin_image(target, attachment.page_size)

    with Pin(place, timeout=patience(timeout, deadline, clock), clock=clock, sleep=sleep) as pin:
        reader.ping()  # it may have to start first, and that under a lock would stop writers
        copying = Copying(reader, pin, begin, target, progress=progress, deadline=deadline, clock=clock, sleep=sleep)
        with copying:
            attachment = copying.settle(attempts)
            reader.seal_image(copying.snapshot, attachment.pages)
    return target
