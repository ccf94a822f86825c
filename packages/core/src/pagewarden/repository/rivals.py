"""Two backups of one database at a time on one machine: the later one goes, before it copies anything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pagewarden.errors import RepositoryBusy
from pagewarden.repository import tidy
from pagewarden.repository.intent import Pending
from pagewarden.repository.store import Store
from pagewarden.times import format_moment

PATIENCE = 2.0
"""Seconds in which a backup that began a moment later, and will see that it did, has given way."""

_GLANCE = 0.05  # seconds between two looks whether it has


def give_way(store: Store, mine: Pending, sleep: Callable[[float], None]) -> None:
    """Raise RepositoryBusy if another process is at a backup of the same database.

    Every intent is put before its process looks for others. So of two that begin at the same moment both see the
    other, and the later one goes; or only one sees the other, and goes whichever it is.
    """
    waited = 0.0
    while others := tidy.rivals(store, mine):
        first = min(others, key=_rank)
        if _rank(first) < _rank(mine) or waited >= PATIENCE:
            raise RepositoryBusy(
                f"another backup of {mine.database} to {store.url} is under way: process {first.runner.pid} began "
                f"it at {format_moment(first.time)}",
                hint=f"wait for it to end, or look at it: ps -p {first.runner.pid}",
            )
        sleep(_GLANCE)
        waited += _GLANCE


def _rank(pending: Pending) -> tuple[datetime, str]:
    """Return what orders backups that are under way, the same for everybody who looks."""
    return (pending.time, pending.key)
