"""The command's one door: starts what takes long before it imports what takes long.

The page reader, a process of its own, needs about as long to start as the command line needs to be imported. Side by
side they take half the time, and small databases are checked often.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from pagewarden_cli.exits import INTERRUPTED, Stopped

if TYPE_CHECKING:
    from pagewarden.processes.reader import PageReader

READING = frozenset({"check", "backup", "verify", "restore"})
"""The verbs that need the page reader."""


def run() -> NoReturn:
    """Be the `pagewarden` command."""
    reader: PageReader | None = None
    try:
        _prepare()
        reader = reader_ahead(sys.argv[1:])
        from pagewarden_cli.command import main

        code = main(sys.argv[1:], reader)
    except KeyboardInterrupt as error:  # before there was anybody to show it
        code = 128 + error.number if isinstance(error, Stopped) else INTERRUPTED
    finally:
        if reader is not None:
            reader.close()
    sys.exit(code)


def reader_ahead(arguments: Sequence[str]) -> PageReader | None:
    """Start the page reader if the words that were typed will need it; return it without waiting for it."""
    verb = next((word for word in arguments if not word.startswith("-")), "")
    if verb not in READING or not {"--help", "-h"}.isdisjoint(arguments):
        return None
    from pagewarden.processes.reader import PageReader
    from pagewarden.runtime import DEFAULT_THREADS

    reader = PageReader(threads=DEFAULT_THREADS)
    try:
        compares = any(word.startswith(("--baseline", "--repo")) for word in arguments)
        reader.start(copies=verb != "check", stored=compares)
    except OSError:  # it is tried again when it is needed, where the error can be shown
        return None
    return reader


def _prepare() -> None:
    """Make signals end the command cleanly, and odd characters cost no more than themselves."""
    # Imports make many objects and no garbage: looking for some every 700 objects is a twentieth of a small check. So
    # do the manifests of many restore points: every 50,000 objects is a tenth of a list of 10,000.
    gc.set_threshold(400_000)
    for name in ("SIGTERM", "SIGHUP"):
        if signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:
            signal.signal(getattr(signal, name), _stop)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            # A locale without the character must cost a character and not the result.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise Stopped(number)
