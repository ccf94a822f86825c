"""Whether a process is gone."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path


def gone(pid: int) -> bool:
    """Wait a moment until a process is gone, or is one that nobody has reaped; return whether it is."""
    for _ in range(200):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                time.sleep(0.02)
                continue
        return True
    return False
