"""A backup of a database that a guard follows, or of which a dead one left batches that are not stored yet.

A backup is the next position of the history, whatever waits in the spool. What was committed since the newest restore
point would be one position then, and the commits that wait could not be restored any more: so they are stored first.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden import lineage
from pagewarden.errors import DatabaseBusy, RepositoryBusy
from pagewarden.guard.control import answered, ask
from pagewarden.guard.only import GuardPlaces, OnlyGuard, guard_places
from pagewarden.guard.spool import Spool, prove
from pagewarden.guard.values import GuardStatus
from pagewarden.repository.stream import Stream
from pagewarden.values import Position

if TYPE_CHECKING:
    from pagewarden.repository import Repository
    from pagewarden.runtime import Runtime

_STATUS_SECONDS = 10.0  # that a guard may take to say what it is at
_NO_LIMIT = 1 << 62  # bytes: nothing is added


def store_first(path: str, name: str, repository: Repository, runtime: Runtime) -> Position | None:
    """Let all that was taken of the database at the real path `path` be stored, before a backup of it as `name`.

    Return the position that the guard then stands at, where one follows the database into this repository: all that
    was committed before this call is stored there. None where none does. Raises GuardFailed where the guard cannot
    store it now, DatabaseBusy where one is just beginning or ending, and what `Stream.append` raises.
    """
    where = lineage.place_of(repository.url, name)
    places = guard_places(runtime.state, path, where)
    status = _status(places.socket)
    if status is not None:
        if lineage.place_of(status.repository, status.name) != where:
            return None
        reply = ask(places.socket, {"verb": "flush"})
        if reply is not None:
            return answered(reply, "position", Position)
    if _left(places.spool):
        _store(path, name, where, places, repository, runtime)
    return None


def _left(spool: Path) -> bool:
    return spool.is_dir() and any(file.suffix == ".json" for file in spool.iterdir())


def _store(path: str, name: str, where: str, places: GuardPlaces, repository: Repository, runtime: Runtime) -> None:
    """Store what a dead guard left, as the next one would."""
    try:
        only = OnlyGuard(places.lock, path)
    except DatabaseBusy as error:
        raise DatabaseBusy(
            f"a guard of {path} begins or ends just now, and commits wait to be stored in {repository.url}",
            hint=f"try again; {shlex.join(['pagewarden', 'sync', path])} waits for it",
            pids=error.fields.get("pids", []),
        ) from error
    try:
        spool = Spool(places.spool, _NO_LIMIT)
        found, problem = spool.recover(lambda waiting: prove(waiting, runtime.reader))
        stored = 0
        with Stream.open(repository, name, clock=runtime.clock, monotonic=runtime.monotonic, sleep=runtime.sleep) as to:
            try:
                for waiting in found:
                    to.append(waiting.batch, waiting.segment, waiting.commits)
                    known = lineage.read_lineage(runtime.state, path)
                    if waiting.batch.parent in (known.backups.get(where), known.coming.get(where)):
                        # Otherwise something else was restored there since.
                        lineage.after_backup(runtime.state, path, where, waiting.batch.position)
                    spool.stored(waiting)
                    stored += 1
            except RepositoryBusy as error:  # the history forked off before it: then all that there is is compared
                problem = error.message
                spool.discard()
        runtime.emit("spool.stored", path, batches=stored, discarded=len(found) - stored, problem=problem)
    finally:
        only.close()


def _status(socket: Path) -> GuardStatus | None:
    reply = ask(socket, {"verb": "status"}, seconds=_STATUS_SECONDS)
    return None if reply is None else answered(reply, "status", GuardStatus)
