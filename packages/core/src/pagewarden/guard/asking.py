"""The `sync` and `mark` verbs: ask the guard of a database, or make a backup where it has none.

`sync` returns when everything committed before is durable in the repository.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagewarden.errors import ConfigurationInvalid
from pagewarden.guard.control import answered, ask
from pagewarden.guard.only import guard_places
from pagewarden.guard.reports import MarkReport, SyncReport
from pagewarden.live.place import examine
from pagewarden.values import Position

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRequest:
    """Which database, and where to where it has no guard."""

    database: str
    repository: str | None = None  # URL; None: only a guard can do it
    name: str | None = None  # of the database in the repository; None: its file name
    compression: int = 1
    check: str = "quick"
    max_time: float | None = None  # seconds that a guard may take; None: as long as it needs


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkRequest(SyncRequest):
    """The same, and what the moment is to be called."""

    text: str


def run_sync(request: SyncRequest, runtime: Runtime) -> SyncReport:
    """Return when all that was committed before this call is durable in the repository.

    Raises GuardFailed where the guard could not do it; ConfigurationInvalid where there is no guard, and no repository
    is named; what a backup raises.
    """
    began = runtime.monotonic()
    path = examine(request.database).path
    reply = _ask(path, {"verb": "flush"}, request, runtime)
    position = _back_up(path, request, runtime) if reply is None else answered(reply, "position", Position)
    return SyncReport(database=path, position=position, guarded=reply is not None, seconds=runtime.monotonic() - began)


def run_mark(request: MarkRequest, runtime: Runtime) -> MarkReport:
    """Give the present moment of a database a name, and return once it is durable. Raises as `run_sync` does."""
    began = runtime.monotonic()
    path = examine(request.database).path
    reply = _ask(path, {"verb": "mark", "text": request.text}, request, runtime)
    if reply is None:
        from pagewarden.repository.moments import name_moment, name_of

        name_of(request.text)
        position = _back_up(path, request, runtime)
        assert request.repository is not None
        name = Path(path).name if request.name is None else request.name
        store = runtime.repository(request.repository).store
        name_moment(store, name, position, request.text, now=runtime.clock())
    else:
        position = answered(reply, "position", Position)
    return MarkReport(
        database=path,
        text=request.text,
        position=position,
        guarded=reply is not None,
        seconds=runtime.monotonic() - began,
    )


def _ask(path: str, question: Mapping[str, Any], request: SyncRequest, runtime: Runtime) -> Mapping[str, Any] | None:
    reply = ask(guard_places(runtime.state, path, "").socket, question, seconds=request.max_time)
    if reply is None and request.repository is None:
        raise ConfigurationInvalid(
            f"nothing guards {path}, and no repository is named that it could be backed up to",
            hint=f"{shlex.join(['pagewarden', 'run', path])} --repo URL, or add --repo URL here",
        )
    return reply


def _back_up(path: str, request: SyncRequest, runtime: Runtime) -> Position:
    from pagewarden.backup import BackupRequest, run_backup

    assert request.repository is not None
    return run_backup(
        BackupRequest(
            database=path,
            repository=request.repository,
            name=request.name,
            compression=request.compression,
            check=request.check,
        ),
        runtime,
    ).position
