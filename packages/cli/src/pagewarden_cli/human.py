"""Sizes, times and names for people, and nothing that a hostile file could say to their terminal."""

from __future__ import annotations

from datetime import datetime, timedelta

from pagewarden.legible import moment as moment
from pagewarden.legible import number as number
from pagewarden.legible import safe as safe
from pagewarden.legible import safe_command as safe_command
from pagewarden.legible import seconds as seconds
from pagewarden.legible import size as size


def age(time: datetime, now: datetime) -> str:
    """Return how long ago `time` was, in its largest unit; the clock may have been set back since (H23)."""
    past = now - time
    if past < timedelta(0):
        return "in the future"
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1))):
        if past >= length:
            return f"{past // length} {unit} ago"
    return f"{past // timedelta(seconds=1)} s ago"
