"""Two read transactions that take turns, so that there is always one: what keeps the log until it was taken.

The invariant: whatever the newer pin sees has been taken while the older one was held. Pinned on read locks 1 to 4,
nobody restarts the log past what was pinned. Pinned on read lock 0, which SQLite gives where the database file alone is
the newest commit, nobody can backfill; so the log may restart once, directly behind what was pinned, and its new frames
stay (docs/following.md has it step by step, with SQLite's functions by name).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pagewarden.live.pin import Pin
from pagewarden.live.place import Place

_PATIENCE = 1.0  # seconds for a lock: in WAL mode only a recovery, or an exclusive connection, stands in the way


class Pins:
    """The pins of one database: none, one or, for as long as a turn takes, two. A context manager."""

    def __init__(
        self,
        place: Place,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the database twice, read-only. Raises as `Pin` does."""
        self.place = place
        self._held: list[Pin] = []  # oldest first
        self._free: list[Pin] = []
        try:
            for _ in range(2):
                self._free.append(Pin(place, timeout=_PATIENCE, clock=clock, sleep=sleep))
        except BaseException:
            self.close()
            raise

    @property
    def held(self) -> int:
        """How many are held."""
        return len(self._held)

    def begin(self) -> None:
        """Pin the newest commit, beside the pin that is held. Raises as `Pin.begin` does."""
        pin = self._free[-1]
        pin.begin()
        self._free.pop()
        self._held.append(pin)

    def let_go(self, keep: int = 1) -> None:
        """Let go of the older pins, but for the newest `keep`. What they alone saw must have been taken, durably."""
        while len(self._held) > keep:
            pin = self._held.pop(0)
            pin.release()
            self._free.append(pin)

    def still(self) -> bool:
        """Return whether the transactions are open, and the same file stands at the path."""
        return all(pin.still_pinned() for pin in self._held)

    def journal_mode(self) -> str:
        """Return the database's journal mode as SQLite has it, such as "wal". No pin may be held."""
        return self._free[-1].journal_mode()

    def close(self) -> None:
        """Let go, and close the connections, which are read-only: so the last one neither checkpoints nor deletes."""
        for pins in (self._held, self._free):
            while pins:
                pins.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
