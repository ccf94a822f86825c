"""The guard of one database: its lock, its threads, its socket, and what it can be asked."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pagewarden import __version__, lineage
from pagewarden.durable import failure
from pagewarden.errors import ConfigurationInvalid, GuardFailed, PagewardenError
from pagewarden.guard.board import Board
from pagewarden.guard.control import Control
from pagewarden.guard.gathering import Gatherer
from pagewarden.guard.guarded import Guarded
from pagewarden.guard.keeper import Keeper
from pagewarden.guard.only import OnlyGuard, guard_places
from pagewarden.guard.rotten import note_rot
from pagewarden.guard.shipping import Shipper
from pagewarden.guard.spool import Spool
from pagewarden.guard.values import GuardRequest, GuardState, GuardStatus
from pagewarden.guard.watch import MakeWatcher, make_watcher
from pagewarden.live.place import examine
from pagewarden.values import Position

if TYPE_CHECKING:
    from pagewarden.repository.mapfacts import MapFacts
    from pagewarden.runtime import Runtime


_LONGEST = 1e6  # seconds that anybody waits: a number that every clock bears


class Guard:
    """One database that is guarded. Every method may be called by any thread."""

    def __init__(self, request: GuardRequest, runtime: Runtime, *, watcher: MakeWatcher = make_watcher) -> None:
        """Take the lock, and begin. `runtime` is the guard's own, with a page reader that nobody else calls.

        Raises what `examine` raises; DatabaseBusy where the database has a guard; OutOfSpace or TargetFailed where the
        state directory cannot be used. What else goes wrong is waited for, or told by `error`.
        """
        path = examine(request.database).path
        name = Path(path).name if request.name is None else request.name
        self.request = request
        self.path = path
        self.name = name
        self._runtime = runtime
        self._since = runtime.clock()
        self._stop = threading.Event()
        where = lineage.place_of(request.repository, name)
        places = guard_places(runtime.state, path, where)
        try:
            self._only = OnlyGuard(places.lock, path)
        except OSError as error:
            raise failure(error, f"cannot lock {places.lock}") from error
        try:
            self._watcher = watcher(f"{path}-wal")
            self._board = Board(self._watcher.wake)
            self._spool = Spool(places.spool, request.spool)
            self._shipper = Shipper(self._spool, runtime, path, where, self._board.notify)
            self._control = Control(places.socket, self.answer)
        except OSError as error:
            self._only.close()
            raise failure(error, f"cannot use the state directory {runtime.state}") from error
        except BaseException:
            self._only.close()
            raise
        self._guarded = Guarded(
            request=request,
            runtime=runtime,
            path=path,
            name=name,
            where=where,
            spool=self._spool,
            shipper=self._shipper,
            board=self._board,
            watcher=self._watcher,
            created_by=f"pagewarden {__version__}",
            stopping=self._stop.is_set,
            found_rot=self._found_rot,
        )
        self._thread = threading.Thread(target=self._keep, name="guard", daemon=True)
        self._closed = False
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    @property
    def error(self) -> PagewardenError | None:
        """Why it ended, where it could not go on."""
        return self._board.error

    @property
    def rot(self) -> tuple[int, ...]:
        """The pages that scrubbing found damaged."""
        return self._board.rot

    def flush(self, seconds: float | None = None, gone: Callable[[], bool] = lambda: False) -> Position:
        """Return once all that was committed before this call is durable in the repository, and the position of it.

        Raises GuardFailed where that is not so after `seconds`, the guard has ended, or whoever asked is `gone`.
        """
        self._shipper.hurry()
        return self._board.flush(self._shipper.waits_for, seconds, gone)

    def mark(self, text: str, seconds: float | None = None, gone: Callable[[], bool] = lambda: False) -> Position:
        """Give the present moment a name, once all that was committed before this call is durable in the repository.

        Raises ConfigurationInvalid for what cannot be a name, what `flush` raises, and what the repository raises.
        """
        from pagewarden.repository.moments import name_moment, name_of

        name_of(text)
        position = self.flush(seconds, gone)
        store = self._runtime.repository(self.request.repository).store
        name_moment(store, self.name, position, text, now=self._runtime.clock())
        self._guarded.emit("guard.marked", text=text, position=str(position))
        return position

    def status(self) -> GuardStatus:
        """Return what it is at."""
        board, shipper = self._board, self._shipper
        oldest = shipper.oldest
        lag = 0.0 if oldest is None else max(0.0, (self._runtime.clock() - oldest).total_seconds())
        failing = shipper.failing
        return GuardStatus(
            database=self.path,
            name=self.name,
            repository=self.request.repository,
            pid=os.getpid(),
            since=self._since,
            state=board.state,
            why=board.why or ("" if failing is None else failing.message),
            taken=board.taken,
            stored=shipper.stored,
            lag=lag,
            commits=shipper.commits,
            merged=shipper.merged,
            gaps=board.gaps,
            spooled=self._spool.count,
            spool_bytes=self._spool.bytes,
            wal_bytes=board.wal_bytes,
            held_back=board.held_back,
            rot=board.rot,
            scrubbed=board.scrubbed,
        )

    def stop(self) -> None:
        """Let it end: what is committed until now is still taken. `close` waits for it."""
        self._stop.set()
        self._watcher.wake()
        self._shipper.hurry()

    def join(self, seconds: float | None = None) -> bool:
        """Wait until it has ended; return whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Stop, and wait until it has ended, and everything of it; safe to repeat."""
        self.stop()
        self._thread.join()
        if not self._closed:
            self._closed = True
            self._control.close()
            self._watcher.close()
            self._only.close()

    def _keep(self) -> None:
        """The guard's thread."""
        self._guarded.emit("guard.started", repository=self.request.repository, kept_as=self.name)
        gatherer = Gatherer(
            self._runtime,
            self.request.repository,
            self.name,
            self.path,
            lambda: self._board.state is GuardState.FOLLOWING and self._shipper.failing is None,
        )
        Keeper(self._guarded, self._stop).run()
        gatherer.close()
        self._shipper.close()
        self._guarded.emit(
            "guard.stopped", stored=str(self._shipper.stored), waiting=self._spool.count, rot=len(self._board.rot)
        )

    def _found_rot(self, pgnos: tuple[int, ...], facts: MapFacts) -> None:
        self._board.rot = tuple(sorted({*self._board.rot, *pgnos}))
        warnings = note_rot(self.path, pgnos, facts, self._runtime)
        self._guarded.emit("rot.found", pages=list(pgnos), position=f"{facts.timeline[:8]}:{facts.txid}")
        for warning in warnings:
            self._guarded.emit("ledger.failed", why=warning)

    def answer(self, request: Mapping[str, Any], gone: Callable[[], bool] = lambda: False) -> Mapping[str, Any]:
        """Do what another process asks for; see `control`. Raises PagewardenError."""
        verb, seconds = request.get("verb"), request.get("seconds")
        if not (seconds is None or (isinstance(seconds, int | float) and seconds >= 0)):
            raise ConfigurationInvalid(f"a guard cannot be given {seconds!r} seconds")
        seconds = None if seconds is None else min(float(seconds), _LONGEST)
        if verb == "flush":
            return {"position": msgspec.to_builtins(self.flush(seconds, gone))}
        if verb == "mark":
            return {"position": msgspec.to_builtins(self.mark(str(request.get("text", "")), seconds, gone))}
        if verb == "status":
            return {"status": msgspec.to_builtins(self.status())}
        if verb == "stop":
            self.stop()
            return {}
        raise GuardFailed(f"a guard does not know {verb!r}", hint="is it of another version of pagewarden?")
