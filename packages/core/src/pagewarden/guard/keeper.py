"""What keeps one database followed, whatever happens to it and to the repository: begins, heals, waits, begins again.

1. Pin the database, and open a session in the repository. What a dead guard left in the spool is proved and stored.
2. Go on from the newest restore point, where the log reaches back to it. Otherwise, or where there is none, make a
   backup: it compares the whole database with what is stored, under the pin; then go on from the commit that it saw.
3. Follow (`loop`). A gap leads back to 2, everything else that goes wrong to 1, after a pause.

The pin is held while the repository cannot be reached, as long as the log is not too large: so nothing is missed. It is
let go where the database is not the file any more that was pinned, and where the log would fill the disk.
"""

from __future__ import annotations

import shlex
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden import lineage, maps
from pagewarden.backup import BackupRequest, back_up
from pagewarden.errors import (
    ConfigurationInvalid,
    NativeMissing,
    NotInWalMode,
    OutOfSpace,
    PagewardenError,
    PluginUnusable,
    ReaderCrashed,
    RepositoryBusy,
    RepositoryDamaged,
    RepositoryNotFound,
    TargetFailed,
)
from pagewarden.following.values import Cause, Cursor, Gap
from pagewarden.guard.guarded import GapFound, Guarded, LetGo, Superseded
from pagewarden.guard.loop import Following
from pagewarden.guard.pins import Pins
from pagewarden.guard.spool import prove
from pagewarden.guard.values import GuardState
from pagewarden.increment import LocalMap, NoBase
from pagewarden.live.place import Place, examine
from pagewarden.repository.stream import Stream
from pagewarden.sqlite.wal import parse_checksum

if TYPE_CHECKING:
    from pagewarden.repository.manifest import Manifest, SourceFacts
    from pagewarden.repository.mapfacts import MapFacts
    from pagewarden.values import Position

SPOOL_FULL = "spool-full"
"""The cause of a gap that was left because what was committed could not be put anywhere."""

_FATAL = (ConfigurationInvalid, NativeMissing, PluginUnusable, NotInWalMode)
"""What waiting does not mend, at the beginning."""

_FIRST_PAUSE = 0.25  # seconds after the first failure; doubled after each further one
_LONGEST_PAUSE = 10.0
_QUIET = 60.0  # seconds without a failure after which the next pause is short again
_PATIENT = 4  # bounds of the log that it may grow to while the repository cannot be reached


class Stopped(Exception):
    """The guard is to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Continued:
    """What a map is looked for of; see `increment.Continues`."""

    database: str
    timeline: str
    parent: Position


class Keeper:
    """The outer loop of one guard. One thread calls `run`; `stop` is for any other one."""

    def __init__(self, guarded: Guarded, stop: threading.Event) -> None:
        """`guarded.stopping` says whether `stop` is set."""
        self._g = guarded
        self._stop = stop
        self._cause: str | None = None  # of the gap that is to be healed; None where it is not known that there is one
        self._recovered = False  # whether what a dead guard left in the spool was looked at
        self._began = False  # whether it has ever followed
        self._pause = _FIRST_PAUSE
        self._failed_at = self._gap_at = float("-inf")  # when something failed last, and when there was a gap
        self._told = ""  # what it waits for, as it was told last

    def run(self) -> None:
        """Keep the database followed until the guard is to stop, or cannot go on: then `board.error` says why."""
        g = self._g
        try:
            while not self._stop.is_set():
                try:
                    self._with_pins()
                except (Stopped, GapFound, Superseded):
                    continue
                except LetGo as error:
                    self._cause = SPOOL_FULL
                    g.emit("guard.let-go", why=str(error))
                    self._await_room()
                except (PagewardenError, OSError) as error:
                    if isinstance(error, _FATAL) and not self._began:
                        raise
                    self._wait_after(error)
            g.board.stop()
        except PagewardenError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - an error of our own ends this guard, and not those beside it
            own = PagewardenError(f"an error of our own: {type(error).__name__}: {error}")
            own.add_note(traceback.format_exc())
            self._fail(own)

    def _fail(self, error: PagewardenError) -> None:
        self._g.emit("guard.failed", why=error.message, hint=error.hint)
        self._g.board.stop(error)

    # Pins

    def _with_pins(self) -> None:
        """Follow one file, from its being opened to its being replaced, or until the guard is to stop."""
        g = self._g
        place = examine(g.path)
        with Pins(place, clock=g.runtime.monotonic, sleep=g.runtime.sleep) as pins:
            if (mode := pins.journal_mode()) != "wal":
                raise NotInWalMode(
                    f"{g.path} is in {mode} mode, and only in WAL mode its commits can be followed",
                    hint=shlex.join(["pagewarden", "wal", "enable", g.path]),
                )
            pins.begin()
            while not self._stop.is_set():
                try:
                    self._session(pins)
                except GapFound as gap:
                    self._note_gap(gap)
                    if not pins.still():
                        raise
                    self._slow_down()
                except Superseded:
                    g.emit("guard.superseded")
                except (TargetFailed, OutOfSpace, RepositoryBusy, RepositoryNotFound, ReaderCrashed, OSError) as error:
                    self._keep_pinned(pins, place)
                    self._wait_after(error)
                except PagewardenError:
                    if not pins.still():  # what could not be read was of another file, or of one that was coming
                        self._note_gap(GapFound(Cause.DATABASE_REPLACED, f"{g.path} is not the file that was followed"))
                    raise

    def _keep_pinned(self, pins: Pins, place: Place) -> None:
        """Raise LetGo where the pin cannot be kept while something else is waited for."""
        if not pins.still():
            raise GapFound(Cause.DATABASE_REPLACED)
        bound = _PATIENT * self._g.request.policy.bound_bytes
        with suppress(OSError):  # there is no log
            if Path(f"{place.path}-wal").stat().st_size > bound:
                raise LetGo(f"nothing can be stored, and the log of {place.path} has more than {bound:,} bytes")

    # A session in the repository

    def _session(self, pins: Pins) -> None:
        """Follow, in one session of the repository, until something ends it."""
        g = self._g
        stream = self._open()
        try:
            self._store_the_rest(stream)
            handle = self._begin(stream.newest) if self._cause is None and stream.newest is not None else None
            if handle is None:
                (g.shipper.release() or stream).close()
                cursor = self._heal()
                stream = self._open()
                if stream.newest is None:
                    raise RepositoryDamaged(f"what was just stored of {g.path} in {g.request.repository} is not there")
                handle = self._begin(stream.newest, cursor)
                if handle is None:
                    raise GapFound(self._cause or Cause.GUARD_WAS_DOWN)
            assert stream.newest is not None
            self._follow(pins, handle, stream, stream.newest)
        finally:
            self._end(g.shipper.release() or stream)

    def _follow(self, pins: Pins, handle: tuple[int, MapFacts], stream: Stream, newest: Manifest) -> None:
        g = self._g
        # It was proved by the log, or by comparison, that the file comes from there.
        lineage.after_backup(g.runtime.state, g.path, g.where, newest.position)
        g.shipper.begin(stream, newest.position, self._open)
        self._began, self._told = True, ""
        number, facts = handle
        try:
            Following(g, pins, number, facts, newest).run()
        finally:
            with suppress(ReaderCrashed):
                g.reader.follow_end(number)

    def _open(self) -> Stream:
        """Open a session. Raises as `Stream.open` and `Runtime.repository` do.

        A repository is made where there is none, but not in the place of one that is known to have been there: that
        may be on a disk that is not mounted now.
        """
        g = self._g
        known = self._began or g.where in lineage.read_lineage(g.runtime.state, g.path).backups
        try:
            repository = g.runtime.repository(g.request.repository, create=not known)
        except ConfigurationInvalid as error:
            if not known:
                raise
            raise TargetFailed(error.message, hint=error.hint) from error  # it was right before: it is away
        return Stream.open(
            repository, g.name, clock=g.runtime.clock, monotonic=g.runtime.monotonic, sleep=g.runtime.sleep
        )

    def _end(self, stream: Stream) -> None:
        try:
            stream.close()
        except (PagewardenError, OSError) as error:  # the next one removes what this one left
            self._g.emit("session.left", why=str(error))

    # The beginning, and gaps

    def _store_the_rest(self, stream: Stream) -> None:
        """Store what waits in the spool, of this guard or of one that is dead, before anything is compared."""
        g = self._g
        if not self._recovered:
            found, problem = g.spool.recover(lambda waiting: prove(waiting, g.reader))
            for waiting in found:
                g.shipper.put(waiting)
            if found or problem:
                g.emit("spool.recovered", batches=len(found), problem=problem)
            self._recovered = True
        if not g.shipper.backlog:
            return
        newest = stream.newest
        g.shipper.begin(stream, None if newest is None else newest.position, self._open)
        while not g.shipper.drain(1.0):
            self._look_at_stop()
            if g.shipper.refused is not None:
                # What is newest holds it, or forked off before it: whoever stored that has compared the whole database.
                why = g.shipper.refused.message
                g.board.begin_turn()  # before: who waits for one of them must not take it for stored
                g.emit("spool.discarded", batches=g.shipper.forget(), why=why)
                raise Superseded
            if (failing := g.shipper.failing) is not None:
                raise failing

    def _begin(self, newest: Manifest, cursor: Cursor | None = None) -> tuple[int, MapFacts] | None:
        """Begin to follow from the newest restore point; None, with the cause noted, where that cannot be."""
        g = self._g
        facts = newest.facts
        if cursor is None:
            cursor = _cursor_of(facts, g.path)
        repository = g.runtime.repository(g.request.repository)
        local = LocalMap(path=maps.map_path(g.runtime.state, g.where, g.path), reader=g.reader, state=g.runtime.state)
        at = newest.position
        try:
            base = local.base(repository, _Continued(database=g.name, timeline=at.timeline, parent=at))
        except NoBase as error:
            self._note_gap(GapFound(Cause.GUARD_WAS_DOWN, str(error)))
            return None
        found = g.reader.follow_begin(g.path, local.path, base.facts, cursor)
        if isinstance(found, Gap):
            self._note_gap(GapFound(found.cause, found.why))
            return None
        return found, base.facts

    def _heal(self) -> Cursor:
        """Store what differs between the database and the newest restore point, or all of it where there is none.

        Return where the log was at the commit that was compared.
        """
        g, cause = self._g, self._cause
        g.board.begin_turn()
        g.board.now(GuardState.HEALING, cause or "the first backup")
        request = BackupRequest(
            database=g.path,
            repository=g.request.repository,
            name=g.name,
            compression=g.request.compression,
            check=g.request.check,
            gap=cause or "",
        )
        report, taken = back_up(request, g.runtime)
        if cause is not None:
            g.board.gaps += report.kind != "unchanged"
            g.emit("guard.healed", cause=cause, position=str(report.position), kind=report.kind)
        self._cause = None
        # Under the pin a log without a frame is the same log, too.
        checksum = parse_checksum(taken.wal_checksum) if taken.wal_checksum else None
        return Cursor(salts=taken.salts, frame=taken.wal_frames, checksum=checksum)

    def _note_gap(self, gap: GapFound) -> None:
        self._cause = gap.cause
        self._g.board.now(GuardState.HEALING, gap.cause)
        self._g.emit("guard.gap", cause=gap.cause, why=str(gap))

    def _slow_down(self) -> None:
        """Wait where gaps follow one another: each costs a comparison of the whole database."""
        now = self._g.runtime.monotonic()
        again, self._gap_at = now - self._gap_at < _QUIET, now
        if again:
            if self._stop.wait(self._pause):
                raise Stopped
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        else:
            self._pause = _FIRST_PAUSE

    # Waiting

    def _look_at_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _wait_after(self, error: PagewardenError | OSError) -> None:
        """Tell what went wrong, once, and wait a while: longer each time."""
        g = self._g
        now = g.runtime.monotonic()
        if now - self._failed_at > _QUIET:
            self._pause = _FIRST_PAUSE
        self._failed_at = now
        text = str(error)
        if text != self._told:
            self._told = text
            slug = error.slug if isinstance(error, PagewardenError) else "system"
            g.emit("guard.waiting", error=slug, why=text)
        self._wait(text)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _await_room(self) -> None:
        """Wait, without a pin, until what is in the spool is stored."""
        while True:
            try:
                stream = self._open()
                try:
                    self._store_the_rest(stream)
                finally:
                    self._end(self._g.shipper.release() or stream)
            except Superseded:  # nothing waits any more
                return
            except (PagewardenError, OSError) as error:
                self._wait_after(error)
            else:
                return

    def _wait(self, why: str) -> None:
        self._g.board.now(GuardState.WAITING, why)
        if self._stop.wait(self._pause):
            raise Stopped


def _cursor_of(facts: SourceFacts, path: str) -> Cursor | None:
    """Return where the log of the database at `path` was, as a manifest proves it; None where it does not.

    Salts and a frame's number alone prove nothing: after a loss of power SQLite writes other frames in their place. A
    log without a frame proves nothing either: there may have been many since.
    """
    if not (facts.wal_frames and facts.wal_checksum) or facts.path != lineage.readable(path):
        return None
    return Cursor(
        salts=bytes.fromhex(facts.wal_salts), frame=facts.wal_frames, checksum=parse_checksum(facts.wal_checksum)
    )
