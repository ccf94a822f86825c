"""What one guard works with for as long as it lives, and what ends one uninterrupted run of following."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagewarden.guard.board import Board
    from pagewarden.guard.shipping import Shipper
    from pagewarden.guard.spool import Spool
    from pagewarden.guard.values import GuardRequest
    from pagewarden.guard.watch import Watcher
    from pagewarden.processes.reader import PageReader
    from pagewarden.repository.mapfacts import MapFacts
    from pagewarden.runtime import Runtime


class GapFound(Exception):
    """Commits were missed, or may have been: following cannot go on from here."""

    def __init__(self, cause: str, why: str = "") -> None:
        """`cause` is one of those that manifests name, `why` one sentence for people."""
        super().__init__(why or cause)
        self.cause = cause


class Superseded(Exception):
    """The history in the repository went on without this session: another one is to look what is newest there."""


class LetGo(Exception):
    """The log must not be kept any longer: what was committed cannot be put anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """One database that is guarded."""

    request: GuardRequest
    runtime: Runtime
    path: str  # of the database, real
    name: str  # in the repository
    where: str  # see `lineage.place_of`
    spool: Spool
    shipper: Shipper
    board: Board
    watcher: Watcher
    created_by: str  # program and version
    stopping: Callable[[], bool]
    found_rot: Callable[[tuple[int, ...], MapFacts], None]

    def emit(self, event: str, seconds: float | None = None, **fields: object) -> None:
        """Tell observers what happened to this database."""
        self.runtime.emit(event, self.path, seconds, **fields)

    @property
    def reader(self) -> PageReader:
        """The process that reads pages."""
        return self.runtime.reader
