"""A plugin that misbehaves on purpose, for tests of the worker: use it with `plugins=["tests.support.unruly"]`.

Its target does what the URL says when it is opened: `kill:` and `abort:` end the process, `hang:PATH` makes the file
PATH, sleeps for a minute, and makes PATH.cleaned when it is interrupted, `flood:` prints far more than a pipe holds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from pagewarden import hookimpl
from pagewarden.contracts import Target, TargetFactory


class UnrulyFactory:
    """Opens no target at all."""

    name = "unruly"
    schemes: tuple[str, ...] = ("kill", "abort", "hang", "flood")

    def open(self, url: str, *, create: bool) -> Target:
        """Misbehave, then find nothing."""
        scheme, _, rest = url.partition(":")
        if scheme == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if scheme == "abort":
            print("these are my last words", file=sys.stderr)
            os.abort()
        if scheme == "hang":
            hang(Path(rest.removeprefix("//")))
        if scheme == "flood":
            print("x" * (1 << 20))
            print(repr(sys.stdin.read()), file=sys.stderr)
        raise FileNotFoundError(url)


def hang(path: Path) -> None:
    """Sleep for a minute; leave a trace of the beginning, and of an end that was asked for."""
    path.write_text(f"{os.getpid()}")
    try:
        time.sleep(60)
    finally:
        path.with_suffix(".cleaned").touch()


@hookimpl
def pagewarden_targets() -> Iterable[TargetFactory]:
    """Register the factory."""
    return (UnrulyFactory(),)
