"""How paths and times stand in the ledger: as text that SQLite can hold and that sorts."""

from __future__ import annotations

from datetime import UTC, datetime


def readable(text: str) -> str:
    """Return `text` with what is no UTF-8 in a file name escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def moment(time: datetime) -> str:
    """Return a time in UTC, RFC 3339, to the microsecond: such texts sort as the times do."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def time_of(text: str) -> datetime:
    """Return the time that `moment` wrote. Raises ValueError."""
    return datetime.fromisoformat(text)
