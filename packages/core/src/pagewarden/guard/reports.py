"""What `run`, `sync` and `mark` report: exactly what `--json` prints."""

from __future__ import annotations

from dataclasses import dataclass

from pagewarden.guard.values import GuardStatus
from pagewarden.values import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What became of a guard, when it has ended."""

    guards: tuple[GuardStatus, ...]  # one for each database
    seconds: float

    @property
    def exit_code(self) -> int:
        """0, or 1 where scrubbing found a damaged page."""
        return 1 if any(guard.rot for guard in self.guards) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """Where all that was committed is stored."""

    database: str  # real path
    position: Position
    guarded: bool  # whether a guard did it; else a backup was made
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkReport:
    """A moment that has a name now."""

    database: str  # real path
    text: str
    position: Position
    guarded: bool  # whether a guard did it; else a backup was made
    seconds: float
