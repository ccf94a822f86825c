"""The log: every event as one line of JSON, appended to a file that several processes may share.

A line is `{"time", "event", "database", "seconds", "fields"}`, written with one `write` to a descriptor with O_APPEND,
so that lines of several processes never mix. A log that cannot be opened is an error before a run begins; one that
cannot be written to later is a warning, once, and no run fails of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from pagewarden.errors import ConfigurationInvalid
from pagewarden.events import Event

STANDARD_ERROR = "-"
"""What stands for standard error where a file is named."""

_MODE = 0o600  # findings may say what a database holds
_MAGIC = b"SQLite format 3\x00"


class EventLog:
    """An open log. A context manager; leaving it closes the file. For many threads."""

    def __init__(self, path: str, told: Callable[[str], None]) -> None:
        """Open the file at `path` for appending, made where there is none; "-" is standard error.

        `told` is told, once, that it cannot be written to any more. Raises ConfigurationInvalid.
        """
        self._path = path
        self._told = told
        self._broken = False
        self._owned = path != STANDARD_ERROR
        self._descriptor = _open(path) if self._owned else 2

    def write(self, event: Event) -> None:
        """Append one event."""
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, line_of(event))
        except OSError as error:
            if not self._broken:
                self._broken = True
                self._told(f"the log {self._path} cannot be written to: {error.strerror}")

    def close(self) -> None:
        """Close the file; what is written from now on is lost."""
        descriptor, self._descriptor = self._descriptor, -1
        if self._owned and descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def line_of(event: Event) -> bytes:
    """Return an event as a line: fields that are no plain values as text, bytes that are no UTF-8 escaped."""
    document = {
        "time": event.time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "event": event.name,
        "database": event.database,
        "seconds": event.seconds,
        "fields": event.fields,
    }
    try:
        return msgspec.json.encode(document, enc_hook=str) + b"\n"
    except UnicodeEncodeError:  # a path whose bytes are no UTF-8 holds lone surrogates; JSON says them only as escapes
        import json

        return json.dumps(msgspec.to_builtins(document, enc_hook=str)).encode() + b"\n"


def _open(path: str) -> int:
    """Open a log. It may be a pipe or a device, and never a database, which a line would damage."""
    try:
        if _is_database(path):
            raise ConfigurationInvalid(f"the log {path} is a SQLite database", hint="name another file for the log")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        descriptor = os.open(path, flags, _MODE)
        os.set_blocking(descriptor, True)
        return descriptor
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationInvalid(
            f"the log {path!r} cannot be written to: {reason}", hint='name a file that can be, or "-" for stderr'
        ) from error


def _is_database(path: str) -> bool:
    """Whether a file begins as a database does. Nothing is open yet whose locks this could drop (H1)."""
    if not Path(path).is_file():
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, len(_MAGIC), 0) == _MAGIC
    finally:
        os.close(descriptor)
