"""Whether a checker's process hangs: a watch from outside, because one that hangs cannot say so.

It is taken for hung when, between two questions, it has told nothing new for IDLE_SECONDS in which it used no processor
and waited for no disk, or for SILENT_SECONDS whatever it did: work that takes longer must tell of its progress.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from pagewarden.processes.spawn import Child

IDLE_SECONDS = 60.0
"""How long a checker may do nothing at all."""

SILENT_SECONDS = 300.0
"""How long a checker may tell nothing new, and ask for nothing."""

_LOOK_EVERY = 0.5  # seconds between two looks at the process
_LEAST_MEMORY = 512 << 20
_MOST_MEMORY = 4 << 30


class Watch:
    """Looks at a process from a thread of its own, and kills it when it hangs."""

    def __init__(self, child: Child, *, silent: float | None = None) -> None:
        """`silent` is how long it may tell nothing new, in seconds; SILENT_SECONDS by default."""
        self.hung = ""  # how, once it was killed for it
        self._child = child
        self._silent = SILENT_SECONDS if silent is None else silent
        self._ended = threading.Event()
        self._waited_for = False  # whether it is the process's turn
        self._heard = self._busy = time.monotonic()
        self._used = -1
        threading.Thread(target=self._look, name="watch-checker", daemon=True).start()

    def heard(self) -> None:
        """Note that it told something new, or asked for something."""
        self._heard = self._busy = time.monotonic()

    def begin(self) -> None:
        """From now on it is the process's turn: time spent on answers is not its own."""
        self._waited_for = True

    def pause(self) -> None:
        """It is the run's turn."""
        self._waited_for = False

    def end(self) -> None:
        """Watch no more."""
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY):
            now = time.monotonic()
            if not self._waited_for:
                self._busy = max(self._busy, now)
                continue
            used, working = activity(self._child.pid)
            if working or used != self._used:
                self._used, self._busy = used, now
            if now - self._busy > IDLE_SECONDS:
                self.hung = f"did nothing for {IDLE_SECONDS:g} s"
            elif now - self._heard > self._silent:
                self.hung = f"told nothing new for {self._silent:g} s"
            else:
                continue
            self._child.kill_group()
            return


def activity(pid: int) -> tuple[int, bool]:
    """Return the processor time that a process has used, and whether it is at work now: running, or at the disk.

    From proc_pid_stat(5), fields 3, 14 and 15. A system that does not tell makes every process look busy.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0, True
    return int(fields[11]) + int(fields[12]), fields[0] in (b"R", b"D")


def memory_bound() -> int:
    """Return how many bytes a checker's process may allocate: half of the machine's memory, within bounds."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(_LEAST_MEMORY, min(_MOST_MEMORY, memory // 2))
