"""The loop that follows a database that is pinned: looking, taking, rotating the pins, checkpointing, scrubbing.

1. A look costs some bytes of the -shm. Where it shows commits they are taken: the page reader writes them as page sets
   into the spool, reads them back, and only then counts them as taken.
2. Every half second, where something was taken since, the pins take turns: the new one begins, all that there is now is
   taken and made durable, the old one is let go.
3. What the policy decides about the log is done under the pins.
4. In between a bite of the database file is compared with what was followed.
5. Whatever does not fit is a gap, with its cause, and ends the loop: the database is compared as a whole then.
"""

from __future__ import annotations

import socket
import sqlite3
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import UNSET

from pagewarden import durable, lineage, maps, standing
from pagewarden.errors import OutOfSpace, PagewardenError, TargetFailed
from pagewarden.following.values import Cause, Cursor, Gap, Look, Taken
from pagewarden.guard.guarded import GapFound, Guarded, LetGo, Superseded
from pagewarden.guard.tending import LogTender
from pagewarden.guard.values import MOST_BYTES, GuardState
from pagewarden.guard.watch import LONGEST_WAIT
from pagewarden.repository.format import Kind, PageSetHeader, pages_per_frame
from pagewarden.repository.manifest import SourceFacts
from pagewarden.repository.stream import Batch, BatchCommits, BatchSegment
from pagewarden.sqlite.wal import format_checksum
from pagewarden.values import Position

if TYPE_CHECKING:
    from pagewarden.guard.pins import Pins
    from pagewarden.repository.manifest import Manifest
    from pagewarden.repository.mapfacts import MapFacts

DRAIN_SECONDS = 10.0
"""How long an ending guard tries to store what it has taken; the rest waits in the spool for the next one."""

ROTATED_EVERY = 0.5
"""Seconds after which a pin makes room for a newer one, where something was taken since it began."""

_GLANCE = 0.1  # seconds
_FAILING_SECONDS = 1.0  # of those, while the repository cannot be reached
_ACTIVE = 1.0  # seconds after a commit in which the next one is expected soon
_TOO_MUCH = 2 * MOST_BYTES  # bytes of the log that are merged into one batch, because taking each commit is too slow
_TURNS = 3  # batches one after the other that do not help, because writers are faster
_BACKLOG = 2  # batches that wait for the repository, from which on the next one may grow
_MAP_EVERY = 60.0  # seconds between two page maps that are kept, for a guard that is killed
_ROOM_PAUSE = 1.0  # seconds before a full disk is tried again
_PATIENT = 4  # bounds of the log that it may grow to while there is no room for what was committed
_BITE = 4 << 20  # bytes of the database file that are compared at once, at the most
_BITE_EVERY = 0.25  # seconds
_CLOCK_STEP = 2.0  # seconds by which the clock and the time since the start may differ
_HOT = (0.001, 0.002, 0.004, 0.008)  # seconds between looks, once the log was written to and nothing is committed yet


class Following:
    """One uninterrupted run of commits, from a position that the repository has."""

    def __init__(self, guarded: Guarded, pins: Pins, handle: int, facts: MapFacts, newest: Manifest) -> None:
        """`handle` is the page reader's, which follows from the restore point `newest`; `facts` are that one's."""
        position = newest.position
        self._g = guarded
        self._pins = pins
        self._handle = handle
        self._facts = facts
        self._position = position
        self._number = 0  # of the last batch
        self._source = SourceFacts(
            path=lineage.readable(guarded.path),
            host=socket.gethostname(),
            # In WAL mode they say nothing of a commit (H13), and so are those of the last comparison.
            change_counter=newest.facts.change_counter,
            schema_cookie=newest.facts.schema_cookie,
            journal_mode="wal",
            sqlite_version=sqlite3.sqlite_version,
        )
        now = self._now()
        self._seen = now  # when something was last committed
        self._pinned = now  # when the newest pin began
        # The pin is from before a comparison that may have taken long: it makes room at once, whatever is committed.
        self._taken_since_pin = True
        self._on_zero = True  # whether the newest pin may be on read lock 0
        self._mapped = now
        self._mapped_txid = position.txid
        self._taken_at = now  # when all there was had been taken
        self._cursor: Cursor | None = None  # of the last batch
        self._log = LogTender(guarded, rotate=self._rotate, take=self._take_tail, renew=self._renew)
        self._clock_offset = self._offset()
        self._unkept: Taken | None = None  # what was taken and could not be kept yet
        self._no_room_until = now
        self._told_no_room = self._told_full = False
        self._scrub_at = 1
        self._scrubbed_until = now
        self._hot = len(_HOT)

    def run(self) -> None:
        """Follow until the guard is to stop. Raises GapFound, and PagewardenError where it cannot go on."""
        g = self._g
        g.board.now(GuardState.FOLLOWING)
        g.emit("guard.following", position=str(self._position))
        try:
            while not g.stopping():
                began = self._now()
                self._step()
                self._wait(began)
            self._finish()
        finally:
            self._log.close()

    # One step

    def _step(self) -> None:
        if self._g.shipper.refused is not None:
            raise Superseded
        began, asked = self._now(), self._g.board.asked
        look = self._look()
        try:
            if look.behind and self._may_take():
                self._take_all(look)
            if not look.behind or self._taken_at > began:
                self._g.board.answer(asked, self._position, self._number)
            due = self._on_zero or self._now() - self._pinned >= ROTATED_EVERY
            if self._taken_since_pin and due and not self._full:
                self._rotate()
            self._log.tend(look, self._now() - self._seen, full=self._full)
        except (OutOfSpace, TargetFailed) as error:
            self._note_no_room(error)
        self._mind_the_room(look)
        now = self._now()
        self._scrub(now)
        if now - self._mapped >= _MAP_EVERY and self._mapped_txid != self._position.txid:
            self._keep_map()
        self._mind_the_clock()

    @property
    def _full(self) -> bool:
        """Whether there is no room for another batch now."""
        return self._g.spool.full or self._now() < self._no_room_until

    def _note_no_room(self, error: PagewardenError) -> None:
        """Wait a moment: what was not taken, or could not be kept, is still in the log."""
        self._no_room_until = self._now() + _ROOM_PAUSE
        if not self._told_no_room:
            self._told_no_room = True
            self._g.emit("spool.failed", why=error.message)

    def _mind_the_room(self, look: Look) -> None:
        """Tell when the spool is full, and when there is room again. Raises LetGo where the log has grown too large.

        As long as the pin is held no commit is lost, but the log grows, on the application's disk.
        """
        g = self._g
        if not self._full:
            if self._told_full or self._told_no_room:
                self._told_full = self._told_no_room = False
                g.emit("spool.room", waiting=g.spool.count, bytes=g.spool.bytes)
            return
        if g.spool.full and not self._told_full:
            self._told_full = True
            g.emit("spool.full", waiting=g.spool.count, bytes=g.spool.bytes)
        if look.wal_bytes > _PATIENT * g.request.policy.bound_bytes:
            raise LetGo(f"there is no room for what is committed, and the log has {look.wal_bytes:,} bytes")

    def _look(self) -> Look:
        g = self._g
        look = g.reader.follow_look(self._handle)
        if look.moved or not self._pins.still():
            raise GapFound(look.moved or Cause.DATABASE_REPLACED)
        g.board.wal_bytes = look.wal_bytes
        return look

    def _may_take(self) -> bool:
        """Return whether a batch is worth it now: where they are stored slowly, fewer and larger ones are."""
        if self._full:
            return False
        if self._g.board.waited_for or self._g.shipper.backlog < _BACKLOG:
            return True
        return self._now() - self._pinned >= ROTATED_EVERY

    def _take_all(self, look: Look | None = None) -> None:
        """Take all that is committed now: in several batches where that is much, in one where it is far too much."""
        turns = 1
        while self._take(merge=turns > _TURNS and self._waiting_bytes(look or self._look()) > _TOO_MUCH):
            look, turns = self._look(), turns + 1
        self._taken_at = self._now()

    def _take(self, *, merge: bool) -> bool:
        """Take what was committed; return whether there is more. Raises GapFound; OutOfSpace or TargetFailed."""
        g = self._g
        if self._unkept is not None:
            self._keep(self._unkept)
        segment, commits = g.spool.begin()
        header = PageSetHeader(  # what is not known yet, the page reader settles
            kind=Kind.SEGMENT,
            page_size=self._facts.page_size,
            pages=self._facts.pages,
            pages_per_frame=pages_per_frame(self._facts.page_size),
            timeline=self._position.timeline,
            txid=self._position.txid + 1,
            txid_from=self._position.txid,
            time=g.runtime.clock(),
        )
        found = g.reader.follow_take(
            self._handle,
            header,
            segment,
            None if merge or (g.spool.nearly_full and g.shipper.failing is not None) else commits,
            most_bytes=MOST_BYTES,
            level=g.request.compression,
        )
        if isinstance(found, Gap):
            raise GapFound(found.cause, found.why)
        if found is None:
            return False
        self._unkept = found
        self._keep(found)
        return found.more

    def _keep(self, taken: Taken) -> None:
        """Put what was taken into the spool, and on its way. Raises OutOfSpace or TargetFailed: then it is not."""
        g = self._g
        batch = Batch(
            parent=self._position,
            position=Position(timeline=self._position.timeline, txid=taken.txid, time=taken.time),
            segment=BatchSegment.of(taken.segment),
            commits=UNSET
            if taken.commits is None
            else BatchCommits.of(taken.commits, count=taken.kept, earliest=taken.time),
            merged=max(1, taken.merged) if taken.commits is None else UNSET,
            facts=replace(
                self._source,
                wal_salts=taken.cursor.salts.hex(),
                wal_frames=taken.cursor.frame,
                wal_checksum=UNSET if taken.cursor.checksum is None else format_checksum(taken.cursor.checksum),
            ),
            compression=g.request.compression,
            verified_at=g.runtime.clock(),
            created_by=g.created_by,
        )
        try:
            waiting = g.spool.add(batch, commits=taken.commits is not None)
        except OSError as error:
            raise durable.failure(error, f"cannot keep what was taken of {g.path} in {g.spool.folder}") from error
        g.shipper.put(waiting)
        self._unkept = None
        self._position, self._number = batch.position, waiting.number
        self._facts = replace(self._facts, txid=taken.txid, pages=taken.pages, database_sum=taken.database_sum)
        self._cursor = taken.cursor
        self._taken_since_pin = True
        self._seen = self._now()

    # The pins, and the log

    def _rotate(self) -> None:
        """Let a new pin take the place of the old one: what it sees is taken, durably, before that one goes."""
        if self._pins.held < 2:  # else the last turn was cut off, by a full disk
            self._pins.begin()
        self._note_pin()
        self._take_all()
        self._settle()
        self._pins.let_go()

    def _settle(self) -> None:
        """Let no loss of power take what was taken."""
        try:
            self._g.spool.settle()
            self._g.shipper.settle()
        except OSError as error:
            raise durable.failure(error, f"cannot keep what was taken of {self._g.path}") from error

    def _take_tail(self) -> None:
        """Take what is left, while nobody can commit."""
        self._take_all()
        self._settle()

    def _renew(self) -> None:
        """Let a new pin take the place of the old one, all that either sees having been taken."""
        self._pins.begin()
        self._pins.let_go()
        self._note_pin()

    def _note_pin(self) -> None:
        """Note that a pin began.

        On read lock 0 it must not stay once something is committed: with more than `wal_autocheckpoint` frames in the
        log, each commit of the application tries a checkpoint, and SQLite sorts all of the log for it before it sees
        that it may copy nothing (`walCheckpoint` in its wal.c). Behind a pin on another lock it sees that at once.
        """
        look = self._g.reader.follow_look(self._handle)
        self._pinned, self._taken_since_pin = self._now(), False
        self._on_zero = look.frames == look.backfilled

    def _waiting_bytes(self, look: Look) -> int:
        """Return how many bytes of the log were not taken, at the least."""
        taken = self._cursor.frame if self._cursor is not None and self._cursor.salts == look.salts else 0
        return max(0, look.frames - taken) * look.page_size

    # The database file

    def _scrub(self, now: float) -> None:
        """Compare a bite of the database file with what was followed."""
        g, pages = self._g, self._facts.pages
        elapsed = now - self._scrubbed_until
        if not g.request.scrub or elapsed < _BITE_EVERY or not pages or self._full:
            return
        self._scrubbed_until = now
        first = min(self._scrub_at, pages)
        room = int(min(g.request.scrub * elapsed * (1 << 20), _BITE) / self._facts.page_size)
        count = min(max(1, room), pages - first + 1)
        bad = g.reader.follow_scrub(self._handle, first, count)
        self._scrub_at = first + count if first + count <= pages else 1
        g.board.scrubbed += count / pages
        new = tuple(pgno for pgno in bad if pgno not in g.board.rot)
        if new:
            g.found_rot(new, self._facts)

    def _keep_map(self) -> None:
        """Keep the page map of the position, so that a guard that is killed soon has one again."""
        g = self._g
        path = maps.map_path(g.runtime.state, g.where, g.path)
        try:
            written = maps.begin(path)
            g.reader.follow_map(self._handle, written)
            maps.keep(written, path)
        except (OSError, OutOfSpace) as error:  # it is a cache
            g.emit("map.failed", why=str(error))
        self._mapped, self._mapped_txid = self._now(), self._position.txid

    # Time

    def _now(self) -> float:
        return self._g.runtime.monotonic()

    def _offset(self) -> float:
        return self._g.runtime.clock().timestamp() - self._now()

    def _mind_the_clock(self) -> None:
        """Tell that the clock was stepped: times of restore points step with it, their order does not (H23)."""
        offset = self._offset()
        step = offset - self._clock_offset
        if abs(step) >= _CLOCK_STEP:
            self._clock_offset = offset
            self._g.emit("clock.stepped", by=round(step, 3))

    def _wait(self, began: float) -> None:
        """Wait until it is worth looking again, or somebody asks."""
        g, now = self._g, self._now()
        if g.stopping() or g.board.waited_for:
            return
        if self._hot < len(_HOT):
            self._hot += 1
            g.watcher.wait(_HOT[self._hot - 1])
        elif now - self._seen < _ACTIVE or self._full:
            g.watcher.wait(g.request.interval - (now - began))
        else:
            g.watcher.arm()
            if self._look().behind:
                return
            if g.watcher.wait(_BITE_EVERY if g.request.scrub else LONGEST_WAIT):
                self._hot = 0  # the log was written to, and a commit will follow in a moment

    def _finish(self) -> None:
        """Take what there is, and keep what lets the next guard go on from here."""
        self._take_all()
        self._settle()
        if self._mapped_txid != self._position.txid:
            self._keep_map()
        self._part()
        self._drain()

    def _part(self) -> None:
        """Note where the database file stands, if all of the log is in it.

        The pin keeps it so until the note is written. What is committed afterwards stands in the log, or moves the
        file's time. A log that is not all in the file is left so, and tells by itself: the next guard goes on from it.
        """
        g = self._g
        for _ in range(2):
            state, seen = standing.look(g.path), time.time_ns()
            look = self._look()
            if state is None or look.behind or look.frames != look.backfilled:
                return
            if standing.settled(state, seen):
                break
            g.runtime.sleep(standing.TICK_NS / 1e9)
        else:
            return
        note = standing.Note(
            place=g.where,
            timeline=self._position.timeline,
            txid=self._position.txid,
            database_sum=f"{self._facts.database_sum:016x}",
            state=state,
        )
        try:
            standing.leave_note(g.runtime.state, g.path, note)
        except OSError as error:
            g.emit("note.failed", why=str(error))

    def _drain(self) -> None:
        """Let what was taken be stored, within bounds: what fails even now waits in the spool for the next guard."""
        shipper, began = self._g.shipper, self._now()
        shipper.hurry()
        while not shipper.drain(_GLANCE) and shipper.refused is None:
            seconds = self._now() - began
            if seconds > DRAIN_SECONDS or (shipper.failing is not None and seconds > _FAILING_SECONDS):
                return
