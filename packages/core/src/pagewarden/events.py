"""What observers see of a run: plain values with their time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened in a run."""

    name: str  # dotted, such as "check.finished"
    time: datetime  # UTC
    database: str = ""
    seconds: float | None = None  # how long the step took, where it is the end of one
    fields: dict[str, object] = field(default_factory=dict)  # plain values
