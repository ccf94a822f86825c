"""What a notifier is, and what it tells people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from pagewarden.values import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that a person should know now."""

    title: str
    body: str
    severity: Severity
    database: str
    time: datetime


@runtime_checkable
class Notifier(Protocol):
    """Tells people. Failures are logged and never stop a run."""

    name: str

    def notify(self, notice: Notice) -> None:
        """Deliver one notice; raise if it could not be delivered."""


ProgressSink = Callable[[str, int, int], None]  # step, done, total
