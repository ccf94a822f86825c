"""Times as people write them: RFC 3339, a space for the T allowed, or how long ago (`-15m`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pagewarden.errors import ConfigurationInvalid

# RFC 3339 section 5.6 (date-time), with its note that a space may stand for the T; the offset is matched apart, because
# a time without one means something on the command line and nothing in a file. Seconds may be left out.
_MOMENT = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ](?P<time>\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)(?P<offset>[Zz]|[+-]\d{2}:\d{2})?)?",
    re.ASCII,
)
_AGO = re.compile(r"-(?P<count>\d{1,9})(?P<unit>[smhdw])", re.ASCII)
_DURATION = re.compile(r"(?P<count>\d{1,9})(?P<unit>[smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

LONGEST = timedelta(days=36_525)
"""The longest length of time that is accepted: a century. Added to a time of now it stays within the calendar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A point in time that was read from text."""

    time: datetime  # UTC
    note: str = ""  # how it was understood, where the text alone did not say


def parse_moment(text: str, *, now: datetime, local: bool) -> Moment:
    """Read `text`; with `local`, a time without an offset is the machine's local time and the moment says so.

    `now` is what `-15m` counts from. Raises ConfigurationInvalid, naming the text and a right one.
    """
    example = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    hint = f'write "{example}" or "-15m"'
    if (ago := _AGO.fullmatch(text)) is not None:
        try:
            return Moment(time=(now - timedelta(**{_UNITS[ago["unit"]]: int(ago["count"])})).astimezone(UTC))
        except OverflowError as error:
            raise ConfigurationInvalid(f'the time "{text}" lies before any calendar', hint=hint) from error
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ConfigurationInvalid(f'"{text}" is no time', hint=hint)
    if match["time"] is None:
        raise ConfigurationInvalid(f'"{text}" is a day and no time of day', hint=f'write "{text}T00:00:00Z"')
    offset = (match["offset"] or "").upper()
    # Python's clock ends at microseconds, and so do the times in a repository.
    clock, _, fraction = match["time"].partition(".")
    fraction = f".{fraction[:6]:0<6}" if fraction else ""
    try:
        time = datetime.fromisoformat(f"{match['date']}T{clock}{fraction}{offset}")
        if offset:
            return Moment(time=time.astimezone(UTC))
        if not local:
            raise ConfigurationInvalid(f'the time "{text}" does not say its offset from UTC', hint=f'write "{text}Z"')
        here = time.astimezone()
        return Moment(time=here.astimezone(UTC), note=f'"{text}" was read as local time, {format_moment(here)}')
    except (ValueError, OverflowError) as error:
        raise ConfigurationInvalid(f'"{text}" is no time of the calendar', hint=hint) from error


def parse_duration(text: str) -> timedelta:
    """Read a length of time such as "90s", "15m", "12h", "7d" or "4w", up to `LONGEST`. Raises ConfigurationInvalid."""
    match = _DURATION.fullmatch(text)
    try:
        if match is not None:
            length = timedelta(**{_UNITS[match["unit"]]: int(match["count"])})
            if length <= LONGEST:
                return length
    except OverflowError:  # longer than any calendar
        pass
    if match is not None:
        longest = LONGEST // timedelta(days=1)
        raise ConfigurationInvalid(f'"{text}" is no length of time: too long', hint=f'write "7d", at most "{longest}d"')
    raise ConfigurationInvalid(f'"{text}" is no length of time', hint='write "12h", "7d" or "4w"')


def format_duration(length: timedelta) -> str:
    """Write a length of time as `parse_duration` reads it, in the largest unit that says it exactly."""
    seconds = length // timedelta(seconds=1)
    for unit, size in (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0 and (unit, seconds // size) != ("w", 1):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def format_moment(time: datetime) -> str:
    """Write `time` as RFC 3339 in UTC, exact to the microsecond, such as "2026-11-22T10:15:00Z"."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
