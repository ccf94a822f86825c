"""A restore point rolled forward by the log that stands beside the database: its present commit, page by page.

What was committed behind a restore point need not be in any repository: the frames that continue its checksum hold it,
each proved by the chain (`following.continuation`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET

from pagewarden.errors import DatabaseUnsettled
from pagewarden.following.continuation import Continuation, Witness
from pagewarden.pages import backend, lock_page
from pagewarden.sqlite.wal import FRAME_HEADER_SIZE, frame_offset, parse_checksum
from pagewarden.values import Position

if TYPE_CHECKING:
    from pathlib import Path

    from pagewarden.check.baseline import StoredImage
    from pagewarden.processes.reader import PageReader
    from pagewarden.repository import Manifest, Repository, SourceFacts

_SUM = 8  # bytes
_MOST_COMMITS = 64  # page sets of commits that are looked into


class RolledImage:
    """What was committed last: a stored restore point with the frames behind it laid over. A `PastImage`."""

    def __init__(self, reader: PageReader, path: str, below: StoredImage, found: Continuation) -> None:
        """`found` is what the log beside the real path `path` holds behind the restore point `below`."""
        self._reader = reader
        self._log = f"{path}-wal"
        self._below = below
        self._found = found
        self.page_size = below.page_size
        self.pages = found.pages

    @property
    def position(self) -> Position:
        """The restore point's."""
        return self._below.position

    @property
    def written(self) -> Sequence[int]:
        """The pages that were written since the restore point, ascending."""
        return self._found.numbers

    def sums(self, first: int, count: int) -> bytes:
        """Return page sums."""
        from pagewarden.check.images import within

        within(first, count, self.pages)
        stored = max(0, min(count, self._below.pages - first + 1))
        sums = bytearray(self._below.sums(first, stored) if stored else b"") + bytes((count - stored) * _SUM)
        numbers = self._found.numbers
        for at in range(bisect_left(numbers, first), bisect_left(numbers, first + count)):
            place = (numbers[at] - first) * _SUM
            sums[place : place + _SUM] = self._found.sums[at * _SUM : at * _SUM + _SUM]
        return bytes(sums)

    def page(self, pgno: int) -> bytes:
        """Return the bytes of one page, proved by its sum. Raises DatabaseUnsettled where the log is another one."""
        from pagewarden.check.images import within

        within(pgno, 1, self.pages)
        at = bisect_left(self._found.numbers, pgno)
        if at == len(self._found.numbers) or self._found.numbers[at] != pgno:
            if pgno > self._below.pages and pgno == lock_page(self.page_size):
                return bytes(self.page_size)
            return self._below.page(pgno)
        offset = frame_offset(self._found.frames[at], self.page_size) + FRAME_HEADER_SIZE
        data = self._reader.read_file(self._log, offset, self.page_size)
        wanted = self._found.sums[at * _SUM : at * _SUM + _SUM]
        if len(data) < self.page_size or backend().page_sum(pgno, data).to_bytes(_SUM, "little") != wanted:
            raise DatabaseUnsettled(f"{self._log} changed while it was read", hint="try again")
        return data


def roll_forward(
    reader: PageReader,
    path: str,
    below: StoredImage,
    facts: SourceFacts,
    *,
    repository: Repository,
    points: Sequence[Manifest] = (),
    last_frame: int | None = None,
    next_log: bool = False,
) -> RolledImage | str:
    """Return the present commit of the database at the real path `path`, or the clause that says why it is not proved.

    `next_log` says that the file alone was the restore point, and was not written to since: so what the next generation
    of the log holds came behind it.

    `facts` are those of the restore point `below`, `points` further restore points of the database: of the same
    generation of the log they bear witness. With `last_frame`, what stands behind that commit does not count. Raises
    RepositoryDamaged, TargetFailed, DatabaseUnreadable.
    """
    checksum = facts.wal_checksum
    if facts.journal_mode != "wal" or not facts.wal_frames or checksum is UNSET:
        return "its log had no frames then"
    ours = [each for each in points if each.facts.wal_salts == facts.wal_salts]
    others = [
        Witness(frame=each.facts.wal_frames, checksum=parse_checksum(each.facts.wal_checksum))
        for each in ours
        if each.facts.wal_checksum is not UNSET
    ]

    known = Witness(frame=facts.wal_frames, checksum=parse_checksum(checksum))

    def ask(commits: Sequence[Path]) -> Continuation | str:
        return reader.continuation(
            path,
            below.chain,
            salts=bytes.fromhex(facts.wal_salts),
            known=Witness(frame=0, checksum=(0, 0)) if next_log else known,
            others=others,
            commits=commits,
            last_frame=last_frame,
        )

    found = ask(())
    if isinstance(found, str) and not next_log:
        # What pages held at commits in between is looked up only for a log that is damaged.
        keys = [each.commits.key for each in ours if each.commits is not UNSET][-_MOST_COMMITS:]
        local = repository.store.locals(keys)
        found = ask([local[key] for key in keys if key in local]) if local else found
    return found if isinstance(found, str) else RolledImage(reader, path, below, found)
