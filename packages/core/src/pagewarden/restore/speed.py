"""How fast restores were: measured by each, remembered for each repository, and used to say how long the next takes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from pagewarden import durable
from pagewarden.lineage import readable
from pagewarden.times import format_moment

ASSUMED = 100_000_000
"""Bytes a second, fetched and written, that are believed where nothing was measured."""

_LEAST = 1 << 20  # bytes below which a restore says nothing of the next: it is over before it runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What restores from one repository do on this machine."""

    bytes_per_second: float = ASSUMED  # stored bytes that are fetched, and bytes of the database that are written
    measured: datetime | None = None  # when, UTC

    def __post_init__(self) -> None:
        if not 0 < self.bytes_per_second < 1e15:
            raise ValueError(f"{self.bytes_per_second} bytes a second")

    def seconds(self, count: int) -> float:
        """Return how long `count` bytes take."""
        return count / self.bytes_per_second

    def __str__(self) -> str:
        rate = f"{self.bytes_per_second / 1e6:,.0f} MB/s"
        if self.measured is None:
            return f"at {rate}, which is assumed: no restore from there was measured yet"
        return f"at {rate}, as measured at {format_moment(self.measured)}"


def read_speed(state: Path, url: str) -> Speed:
    """Return what was last measured of the repository at `url`, or what is assumed where that is not known."""
    try:
        return msgspec.json.decode(_file(state, url).read_bytes(), type=Speed)
    except (OSError, msgspec.DecodeError):  # mostly there is none; and a wrong guess costs nothing
        return Speed()


def remember_speed(state: Path, url: str, count: int, seconds: float, now: datetime) -> str:
    """Remember that a restore of `count` bytes took `seconds`; return what a person should know if that failed."""
    if count < _LEAST or seconds <= 0:
        return ""
    file = _file(state, url)
    try:
        durable.make_directories(file.parent)
        durable.write(file, msgspec.json.encode(Speed(bytes_per_second=count / seconds, measured=now)))
    except OSError as error:
        return f"how fast the restore was could not be remembered: {error}"
    return ""


def _file(state: Path, url: str) -> Path:
    digest = hashlib.sha256(readable(url).encode()).hexdigest()
    return state / "speeds" / f"{digest[:32]}.json"
