"""Reading live databases: where they stand, the pin that keeps one commit, and what is read or copied of it.

What copies is imported when it is first used: most checks copy nothing, and start-up counts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pagewarden.live.commit import ATTEMPTS, read_commit
from pagewarden.live.connection import BUSY_SECONDS, failure, open_readonly
from pagewarden.live.pin import Pin
from pagewarden.live.place import NETWORK_FILE_SYSTEMS, Place, examine, file_system

if TYPE_CHECKING:
    from pagewarden.live.snapshot import (
        ChangesTaken,
        CommitTaken,
        PageSizeChanged,
        SnapshotTaken,
        changes_commit,
        scratch_copy,
        snapshot_commit,
    )

_HOMES = {
    "ChangesTaken": "snapshot",
    "CommitTaken": "snapshot",
    "PageSizeChanged": "snapshot",
    "SnapshotTaken": "snapshot",
    "changes_commit": "snapshot",
    "scratch_copy": "snapshot",
    "snapshot_commit": "snapshot",
}

__all__ = [
    "ATTEMPTS",
    "BUSY_SECONDS",
    "NETWORK_FILE_SYSTEMS",
    "ChangesTaken",
    "CommitTaken",
    "PageSizeChanged",
    "Pin",
    "Place",
    "SnapshotTaken",
    "changes_commit",
    "examine",
    "failure",
    "file_system",
    "open_readonly",
    "read_commit",
    "scratch_copy",
    "snapshot_commit",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
