"""Following one database: its position, what of its log was taken, and the sums of all its pages.

docs/live-read.md, section "Following every commit", has the steps and why they are right.
"""

from __future__ import annotations

import os
import shlex
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pagewarden import durable
from pagewarden.errors import DatabaseUnreadable, DatabaseUnsettled
from pagewarden.following.batch import Batch, Part, Writer
from pagewarden.following.changes import Change, Frames, Replay, change_of, merged
from pagewarden.following.log import Broken, LogFiles, OpenLog, behind, says_wal
from pagewarden.following.scrub import scrub
from pagewarden.following.sums import SumTable
from pagewarden.following.values import Cause, Cursor, Gap, Look, Taken
from pagewarden.pages import PageSource, WalPoint, backend, runs_of
from pagewarden.processes.attach import writable
from pagewarden.repository.format import Kind, PageSetHeader, PageSetInfo
from pagewarden.repository.mapfacts import MapFacts
from pagewarden.repository.pagemap import MapUnusable, PageMap, write_map
from pagewarden.sqlite.shm import WalIndex

_LOOKS = 4  # at a log that moves under us, or that does not prove itself
_PAUSE = 0.002  # seconds between them
_MODULUS = 1 << 32  # of iChange


@dataclass(slots=True, kw_only=True)
class _New:
    """What of the log is new, as far as it is taken at once."""

    point: WalPoint  # where it begins
    frames: Frames
    pages: memoryview  # of all frames, one after the other; empty where they are not kept
    more: bool  # whether there are commits behind it
    counted: int | None  # how many commits iChange counts, where that is known of these frames
    merge: bool = False  # whether they can only be taken as one


class Follower:
    """One followed database. It opens files for the length of a call; `close` forgets what it knows.

    Whoever calls keeps the log pinned through SQLite. Errors of the database's files are left as `open_regular` and
    `pagewarden.pages` raise them; DatabaseUnsettled where the wal-index stays torn.
    """

    def __init__(
        self,
        path: str,
        map_path: Path,
        facts: MapFacts,
        cursor: Cursor | None,
        *,
        threads: int,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Begin at the position of `facts`, whose page map is at `map_path`, and where the log was at `cursor` then.

        Raises Broken where the log does not reach back to the cursor, or there is none to follow; DatabaseUnsettled
        where the map cannot be used.
        """
        self.path = path
        self.facts = facts
        self._writer = Writer(threads=threads)
        self._clock = clock
        self._sleep = sleep
        self._room = bytearray()  # pages of frames, kept because fresh memory costs more than what is done with it
        if not says_wal(path):
            raise Broken(Cause.JOURNAL_MODE_CHANGED, f"{path} is not in WAL mode")
        try:
            self._files = LogFiles(path, sleep)
        except FileNotFoundError as error:
            raise DatabaseUnsettled(f"nobody has {path} open: it has no wal-index", hint="try again") from error
        if not writable(f"{path}-shm"):  # then it cannot be believed: see `Attached`
            raise DatabaseUnreadable(
                f"the wal-index of {path} cannot be written by this user, so it cannot be known whether it is true",
                hint=f"run this as the user who writes to it: ls -l {shlex.quote(path)}*",
            )
        with self._files.opened() as log:
            self._cursor, self._numbers = _settle(log, facts, cursor)
        try:
            with PageMap(map_path, facts) as known:
                self.sums = SumTable(map_path.parent, known)
        except MapUnusable as error:
            raise DatabaseUnsettled(str(error), hint="try again") from error

    def close(self) -> None:
        """Forget the sums."""
        self._writer.close()
        self.sums.close()

    def look(self) -> Look:
        """Return what the wal-index says."""
        gap = self._files.moved()
        if gap is not None:
            return Look(
                salts=b"", frames=0, backfilled=0, change=0, page_size=0, wal_bytes=0, behind=True, moved=gap.cause
            )
        index = self._files.index()
        return Look(
            salts=index.salts,
            frames=index.frames,
            backfilled=index.backfilled,
            change=index.change,
            page_size=index.page_size,
            wal_bytes=self._files.wal_bytes(),
            behind=not self._is_here(index),
        )

    def take(
        self, header: PageSetHeader, segment: Path, commits: Path | None, *, most_bytes: int, level: int
    ) -> Taken | Gap | None:
        """Take the commits that are new; see `FollowCalls.follow_take`."""
        if (header.timeline, header.txid_from, header.page_size) != (
            self.facts.timeline,
            self.facts.txid,
            self.facts.page_size,
        ):
            raise ValueError(f"a batch from {header.txid_from} does not begin at {self.facts}")
        gap: Gap | None = None
        for _ in range(_LOOKS):
            moved = self._files.moved()
            if moved is not None:
                return moved
            try:
                with self._files.opened() as log:
                    return self._take(log, header, segment, commits, most_bytes=most_bytes, level=level)
            except Broken as broken:
                gap = broken.gap
            self._sleep(_PAUSE)
        return gap

    def write_map(self, to: Path) -> MapFacts:
        """Write the page map of the position to the new file `to`. Raises OutOfSpace or TargetFailed."""
        try:
            write_map(to, self.facts, self.sums.get)
        except OSError as error:
            raise durable.failure(error, f"cannot write {to}") from error
        return self.facts

    def scrub(self, first: int, count: int) -> tuple[int, ...]:
        """Return pages of a range whose bytes in the file are not those that they must be; see `scrub`."""
        if self._files.moved() is not None:
            return ()
        with self._files.opened() as log:
            return scrub(log, self.facts.page_size, self._cursor, self._numbers, self.sums, first, count)

    # What is new

    def _is_here(self, index: WalIndex) -> bool:
        """Whether everything that the wal-index says is committed was taken."""
        cursor = self._cursor
        if index.salts == cursor.salts:
            return (index.frames, index.frame_checksum if index.frames else None) == (
                cursor.frame,
                cursor.checksum if cursor.frame else None,
            )
        return not index.frames and index.change == cursor.change

    def _take(
        self,
        log: OpenLog,
        header: PageSetHeader,
        segment: Path,
        commits: Path | None,
        *,
        most_bytes: int,
        level: int,
    ) -> Taken | None:
        index = log.index
        if index.page_size not in (0, self.facts.page_size):
            raise Broken(Cause.PAGE_SIZE_CHANGED, f"{self.path} has pages of {index.page_size} bytes now")
        if self._is_here(index):
            if index.salts == self._cursor.salts:
                self._cursor = replace(self._cursor, change=index.change)  # the wal-index may have been made again
            return None
        new = self._find(log, keep=commits is not None, most=most_bytes // self.facts.page_size)
        seen = datetime.fromtimestamp(self._clock(), UTC)
        replay = Replay(self.sums, self.facts.database_sum, self.facts.page_size)
        try:
            parts, count = self._replay(log, new, replay, merge=new.merge or commits is None, most_bytes=most_bytes)
            kept = sum(len(part.rows) for part in parts)
            several = commits if kept > 1 else None
            header = replace(header, kind=Kind.SEGMENT, txid=header.txid_from + count, pages=replay.pages, time=seen)
            changed = replay.changed(new.frames)
            batch = Batch(
                header=header,
                parts=parts,
                changed=changed,
                sums=replay.sums(changed),
                source=self._source(log, new, replay),
                database_sum_from=self.facts.database_sum,
                database_sum=replay.database_sum,
                time=seen,
            )
            stored = self._store(log, batch, segment, several, level)
            cursor = self._cursor_behind(log, new, count)
        except BaseException:
            replay.undo()
            raise
        replay.settle()
        del self._numbers[new.point.frame :]  # nothing, or all of the generation before
        self._numbers += new.frames.numbers
        self._cursor = cursor
        self.facts = replace(self.facts, txid=header.txid, pages=replay.pages, database_sum=replay.database_sum)
        return Taken(
            txid_from=header.txid_from,
            txid=header.txid,
            merged=0 if several is not None else count,
            kept=kept,
            segment=stored[0],
            commits=stored[1],
            cursor=cursor,
            pages=replay.pages,
            database_sum=replay.database_sum,
            time=seen,
            more=new.more,
        )

    def _store(
        self, log: OpenLog, batch: Batch, segment: Path, commits: Path | None, level: int
    ) -> tuple[PageSetInfo, PageSetInfo | None]:
        """Write a batch, and read it back; where that fails, leave neither file."""
        try:
            stored = self._writer.write(batch, segment, commits, level=level)
            if not log.still():
                raise Broken(Cause.LOG_RESTARTED, f"the log of {self.path} began anew while it was read")
            self._writer.read_back(segment, commits)
        except BaseException:
            for path in (segment, commits):
                if path is not None:
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
            raise
        return stored

    def _find(self, log: OpenLog, *, keep: bool, most: int) -> _New:
        """Return what is new, proved: all of it or, to `keep` pages, as many commits as `most` frames hold."""
        index, cursor, frames = log.index, self._cursor, Frames()
        restarted = index.salts != cursor.salts
        counted = None if cursor.change is None else (index.change - cursor.change) % _MODULUS
        if restarted and not index.frames:
            raise Broken(Cause.LOG_RESTARTED, f"the log of {self.path} was emptied, with commits that were not taken")
        if not restarted and index.frames <= cursor.frame:
            raise Broken(
                Cause.LOG_REPLACED,
                f"the log of {self.path} ends at frame {index.frames} now; up to frame {cursor.frame} it was followed",
            )
        point = log.start() if restarted else log.point(cursor)
        room = log.room(point)
        if not keep or room <= most:
            pages = self._buffer(room if keep else 0)
            if keep:
                frames.add(log.tail(point, index.frames, pages))
            else:
                for tail in log.tails(point):
                    frames.add(tail)
            if restarted:
                self._prove_count(log, frames, counted)
            return _New(point=point, frames=frames, pages=pages, more=False, counted=counted)
        if restarted:
            every = Frames()
            for tail in log.tails(point):
                every.add(tail)
            self._prove_count(log, every, counted)
        pages = self._buffer(most)
        tail = log.tail(point, point.frame + most, pages)
        frames.add(tail)
        if not any(tail.sizes):  # the first commit alone is larger, and taken alone
            pages = self._buffer(0)
            for further in log.tails(behind(point, tail)):
                frames.add(further)
                if any(further.sizes):
                    break
        past = (frames.last_commit() if pages else frames.end(0)) + 1
        if past == len(frames.numbers) < room:  # what comes next may belong to it
            last = log.point(Cursor(salts=point.salts, frame=point.frame + past))
            frames.add(log.tail(last, last.frame + 1))
        if frames.padding():  # it takes the count of all to know which are commits
            return replace(self._find(log, keep=False, most=most), merge=True)
        frames.cut(past)
        more = point.frame + past < index.frames
        return _New(point=point, frames=frames, pages=pages, more=more, counted=None if more else counted)

    def _prove_count(self, log: OpenLog, frames: Frames, counted: int | None) -> None:
        """Prove that the generation before ended with what was taken: iChange counts the commits of this one alone.

        Where the wal-index was made again, iChange began again at 0, and could come to the same by chance: so what is
        left of that generation is looked at, too.
        """
        found = frames.count()
        if counted is None or found < counted or log.went_on(self._cursor):
            raise Broken(
                Cause.LOG_RESTARTED, f"the log of {self.path} began anew, with commits in it that were not taken"
            )
        if found - counted > len(frames.padding()):
            raise Broken(
                Cause.COMMITS_MISSED,
                f"the log of {self.path} holds {found} commits, and its wal-index counts {counted}",
            )

    def _replay(
        self, log: OpenLog, new: _New, replay: Replay, *, merge: bool, most_bytes: int
    ) -> tuple[list[Part], int]:
        """Go through the new frames, as commits or merged into one; return them, and how many commits they are.

        Where not all fit into `most_bytes`, the new frames are cut. Raises Broken or OutOfSpace.
        """
        frames = new.frames
        if new.counted is not None:
            frames.join_padding(new.counted)
        if not merge:
            parts = self._one_by_one(log, new, replay, most_bytes // self.facts.page_size)
            if parts:
                return parts, sum(len(part.rows) for part in parts)
            replay.undo()
        count = frames.count()
        change = merged(frames, self.sums.pages, self.facts.page_size)
        return [self._part(log, new, replay, change, keep=False)], count

    def _one_by_one(self, log: OpenLog, new: _New, replay: Replay, most: int) -> list[Part]:
        """Go through the new commits, at least one and else as many as fit; none where they had better be merged."""
        frames, size, place = new.frames, self.facts.page_size, 0
        parts: list[Part] = []
        extra = 0  # pages that are held beside the frames
        while place < len(frames.numbers):
            past, rows = replay.plain(frames, place)
            if rows:
                parts.append(
                    Part(
                        rows=rows,
                        numbers=frames.numbers[place:past],
                        pages=new.pages[place * size : past * size],
                        sums=bytes(frames.sums[place * 8 : past * 8]),
                    )
                )
            place = past
            if place == len(frames.numbers):
                break
            change = change_of(frames, place, replay.pages, size)
            extra += len(change.unwritten)
            last = change.last == len(frames.numbers) - 1
            if change.unwritten and not (last and not parts):
                # What the file held of a page that no frame brings can be known of commits that nobody has copied
                # back yet; and of the last one.
                if not last and new.point.frame < log.index.backfilled:
                    return []
                if extra + change.last + 1 > most and parts:
                    frames.cut(place)
                    new.more, new.counted = True, None
                    break
            keep = len(new.pages) > 0
            parts.append(self._part(log, new, replay, change, keep=keep))
            place = change.last + 1
        return parts

    def _part(self, log: OpenLog, new: _New, replay: Replay, change: Change, *, keep: bool) -> Part:
        """Go on by one commit that is not plain; `keep` its pages."""
        size, sums = self.facts.page_size, new.frames.sums
        added, pages = self._read_unwritten(log, new, change, keep=keep)
        row = replay.commit(change, sums, added)
        if not keep:
            return Part(rows=[row], numbers=(), pages=b"", sums=b"")
        held = {
            pgno: (new.pages[place * size : (place + 1) * size], bytes(sums[place * 8 : place * 8 + 8]))
            for pgno, place in zip(change.numbers, change.places, strict=True)
        }
        for at, pgno in enumerate(change.unwritten):
            held[pgno] = (memoryview(pages)[at * size : (at + 1) * size], added[at * 8 : at * 8 + 8])
        numbers = sorted(held)
        return Part(
            rows=[row],
            numbers=numbers,
            pages=b"".join(held[pgno][0] for pgno in numbers),
            sums=b"".join(held[pgno][1] for pgno in numbers),
        )

    def _read_unwritten(self, log: OpenLog, new: _New, change: Change, *, keep: bool) -> tuple[bytes, bytes]:
        """Read the pages that a commit adds without a frame of its own; return sums, and the pages to `keep`."""
        if not change.unwritten:
            return b"", b""
        source = self._image(log, self._numbers_to(new, change.last + 1), 1, change.pages)
        size, chosen = source.page_size, backend()
        sums, pages = bytearray(), bytearray()
        for first, count in runs_of(change.unwritten):
            if keep:
                room = bytearray(count * size)
                chosen.read(source, first, count, room)
                sums += chosen.buffer_sums(room, size, first, count)
                pages += room
            else:
                sums += chosen.sums(source, first, count)
        return bytes(sums), bytes(pages)

    def _numbers_to(self, new: _New, count: int) -> array[int]:
        """Return the pages of all frames of the present generation, up to `count` of the new ones."""
        return self._numbers[: new.point.frame] + new.frames.numbers[:count]

    def _source(self, log: OpenLog, new: _New, replay: Replay) -> PageSource:
        """Return how the changed pages are read as of the last of the new commits."""
        if replay.unwritten:
            return self._image(log, self._numbers_to(new, len(new.frames.numbers)), 1, replay.pages)
        return self._image(log, new.frames.numbers, new.point.frame + 1, replay.pages)

    def _image(self, log: OpenLog, numbers: array[int], first: int, pages: int) -> PageSource:
        return PageSource(
            database=log.database,
            wal=log.wal,
            page_size=self.facts.page_size,
            pages=pages,
            file_size=os.fstat(log.database).st_size,
            frames=backend().wal_map(numbers, first),
        )

    def _buffer(self, frames: int) -> memoryview:
        size = frames * self.facts.page_size
        if len(self._room) < size:
            self._room = bytearray(size)
        return memoryview(self._room)[:size]

    def _cursor_behind(self, log: OpenLog, new: _New, count: int) -> Cursor:
        """Return the cursor behind the new frames, which are `count` commits."""
        frame, change = new.point.frame + len(new.frames.numbers), self._cursor.change
        if frame == log.index.frames:
            change = log.index.change
        elif change is not None:
            change = (change + count) % _MODULUS
        return Cursor(salts=new.point.salts, frame=frame, checksum=log.commit(frame)[1], change=change)


def _settle(log: OpenLog, facts: MapFacts, cursor: Cursor | None) -> tuple[Cursor, array[int]]:
    """Return the cursor with all that can be known of it, and the pages of all frames up to it. Raises Broken."""
    index = log.index
    if index.page_size not in (0, facts.page_size):
        raise Broken(Cause.PAGE_SIZE_CHANGED, f"{log.path} has pages of {index.page_size} bytes now")
    if cursor is None or cursor.salts != index.salts or cursor.frame > index.frames:
        raise Broken(Cause.GUARD_WAS_DOWN, f"the log of {log.path} does not reach back to position {facts.txid}")
    if cursor.frame:
        pages, checksum = log.commit(cursor.frame)
        if pages != facts.pages or cursor.checksum not in (None, checksum):
            raise Broken(
                Cause.LOG_REPLACED, f"frame {cursor.frame} of {log.path}-wal is not the commit of position {facts.txid}"
            )
        cursor = replace(cursor, checksum=checksum)
    if cursor.change is None and cursor.frame == index.frames:  # also where the log has never had a frame
        cursor = replace(cursor, change=index.change)
    if cursor.change is None:
        with suppress(Broken):  # then nothing can be taken either, which says why
            commits = sum(len(tail.sizes) - tail.sizes.count(0) for tail in log.tails(log.point(cursor)))
            cursor = replace(cursor, change=(index.change - commits) % _MODULUS)
    return cursor, log.numbers(cursor.frame)
