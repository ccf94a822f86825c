"""What each value of `synchronous` can lose, for each kind of journal mode.

https://www.sqlite.org/pragma.html#pragma_synchronous, and section 3.2 "Durability" of https://www.sqlite.org/wal.html.
A crash of the application alone never loses a commit: what it wrote is the system's, and reaches the disk without it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Synchronous = Literal["off", "normal", "full", "extra"]
SYNCHRONOUS: tuple[Synchronous, ...] = ("off", "normal", "full", "extra")


class Loss(NamedTuple):
    """What can be lost."""

    application_crash: str  # the application was killed; the system goes on
    machine_crash: str  # power loss, or a crash of the system
    damages: bool  # whether a crash of the machine can damage the database, not only lose commits


_APPLICATION = "nothing that was committed"
_OFF = "any commit since the system last wrote its caches out; the whole database can be damaged"

_LOSSES: dict[str, dict[Synchronous, Loss]] = {
    "wal": {
        "off": Loss(_APPLICATION, _OFF, damages=True),
        "normal": Loss(
            _APPLICATION,
            "the commits since the last checkpoint began, at the most; the database stays whole",
            damages=False,
        ),
        "full": Loss(_APPLICATION, "nothing that was committed: the log is synced with each commit", damages=False),
        "extra": Loss(_APPLICATION, "nothing that was committed: in WAL mode the same as full", damages=False),
    },
    "rollback": {
        "off": Loss(_APPLICATION, _OFF, damages=True),
        "normal": Loss(
            _APPLICATION,
            "the last commit; on an old file system, with a very small chance, the database can be damaged",
            damages=True,
        ),
        "full": Loss(
            _APPLICATION,
            "the last commit, where the folder forgot that its journal was deleted; the database stays whole",
            damages=False,
        ),
        "extra": Loss(_APPLICATION, "nothing that was committed: the folder is synced as well", damages=False),
    },
}


def loss(journal_mode: str, synchronous: Synchronous) -> Loss:
    """Return what can be lost in a journal mode, "wal" or "rollback", with a value of `synchronous`."""
    return _LOSSES[journal_mode][synchronous]
