"""Several runs at one database at a time: whoever began later goes, and whoever began first waits a moment for that.

Two backups on one machine, two prunes, and a backup that a cleaner may be about to take for dead: each looks at what
stands in the repository until it is plain who goes on, or its patience ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TypeVar

from pagewarden.errors import RepositoryBusy
from pagewarden.repository import tidy
from pagewarden.repository.intent import Pending
from pagewarden.repository.store import Store
from pagewarden.times import format_moment

PATIENCE = 2.0
"""Seconds in which a run that began a moment later, and will see that it did, has given way."""

_GLANCE = 0.05  # seconds between two looks whether it has

Rank = tuple[datetime, str]
"""What orders runs that are under way, the same for everybody who looks: when one began, and a name of its own."""

R = TypeVar("R")


def glances(sleep: Callable[[float], None]) -> Iterator[None]:
    """Yield for each look that is worth it, a moment apart, for PATIENCE seconds."""
    waited = 0.0
    while waited < PATIENCE:
        yield
        sleep(_GLANCE)
        waited += _GLANCE
    yield


def first_of(
    others: Callable[[], Iterable[tuple[Rank, R]]],
    mine: Rank,
    sleep: Callable[[float], None],
    *,
    patience: Callable[[R], float] = lambda _other: 0.0,
) -> R | None:
    """Return the other run that is to be given way to; None once there is none.

    `others` looks which runs are under way. One that began before `mine` is waited for as long as `patience` says, in
    seconds; one that began later will give way, and is waited for PATIENCE seconds.
    """
    waited = 0.0
    while found := list(others()):
        rank, first = min(found, key=lambda each: each[0])
        if waited >= (patience(first) if rank < mine else PATIENCE):
            return first
        sleep(_GLANCE)
        waited += _GLANCE
    return None


def give_way(store: Store, mine: Pending, sleep: Callable[[float], None]) -> None:
    """Raise RepositoryBusy if another process is at a backup of the same database.

    Every intent is put before its process looks for others. So of two that begin at the same moment both see the
    other, and the later one goes; or only one sees the other, and goes whichever it is.
    """
    first = first_of(lambda: ((_rank(each), each) for each in tidy.rivals(store, mine)), _rank(mine), sleep)
    if first is not None:
        raise RepositoryBusy(
            f"another backup of {mine.database} to {store.url} is under way: process {first.runner.pid} began "
            f"it at {format_moment(first.time)}",
            hint=f"wait for it to end, or look at it: ps -p {first.runner.pid}",
        )


def _rank(pending: Pending) -> Rank:
    return pending.time, pending.key
