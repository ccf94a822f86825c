"""Tests of what must not wait at a FIFO, which end when it does."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def unwaited(path: Path, seconds: float = 5.0) -> Iterator[None]:
    """Fail where somebody still waits at the FIFO `path` after some seconds; who waits is let go with no data."""
    ended, waited = threading.Event(), list[Path]()

    def attend() -> None:
        late = not ended.wait(seconds)
        while late and not ended.wait(0.05):
            with suppress(OSError):  # nobody waits just now, or it is no FIFO
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                waited.append(path)

    attendant = threading.Thread(target=attend)
    attendant.start()
    try:
        yield
    finally:
        ended.set()
        attendant.join()
        assert not waited, f"{path} was opened and waited at"
