"""Reading live databases: where they stand, the pin that keeps one commit, and what is read or copied of it."""

from pagewarden.live.commit import ATTEMPTS, read_commit
from pagewarden.live.connection import BUSY_SECONDS, failure, open_readonly
from pagewarden.live.pin import Pin
from pagewarden.live.place import NETWORK_FILE_SYSTEMS, Place, examine, file_system
from pagewarden.live.settle import LONGEST_SLICE
from pagewarden.live.snapshot import SnapshotTaken, scratch_copy, snapshot_commit

__all__ = [
    "ATTEMPTS",
    "BUSY_SECONDS",
    "LONGEST_SLICE",
    "NETWORK_FILE_SYSTEMS",
    "Pin",
    "Place",
    "SnapshotTaken",
    "examine",
    "failure",
    "file_system",
    "open_readonly",
    "read_commit",
    "scratch_copy",
    "snapshot_commit",
]
