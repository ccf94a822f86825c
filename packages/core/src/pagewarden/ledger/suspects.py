"""What becomes of suspect pages from one run to the next: a decision on values, without I/O.

| the page, in a later run | state |
|---|---|
| is reported again | confirmed |
| is beyond the end of the database | gone; repaired after a restore of ours |
| is as it was, and its checker did not look everywhere | as before |
| is sound, and was replaced by a restore of ours since | repaired |
| is sound, and holds what the baseline holds | repaired |
| is sound, and a commit was made since | gone: rewritten |
| is sound, and nothing explains it | transient: what was read was wrong, not what is stored |
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What is known of a suspect page."""

    SEEN = "seen"  # reported by one run
    TRANSIENT = "transient"
    CONFIRMED = "confirmed"  # reported by a later run, too
    REPAIRED = "repaired"
    GONE = "gone"

    @property
    def open(self) -> bool:
        """Whether it may still be damaged."""
        return self in (State.SEEN, State.CONFIRMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A suspect page, as the ledger has it."""

    id: int
    pgno: int
    checker: str
    state: State
    last_seen: str
    page_sum: bytes | None
    moment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The suspect pages at the end of a run."""

    pages: int  # size of the database, in pages
    moment: str  # other after a commit
    sums: Mapping[int, bytes]  # by pgno
    expected: Mapping[int, bytes]  # by pgno, where there is a baseline


def what_became(
    known: Known, *, reported: Collection[int], look: Look | None, satisfied: Collection[str], restored: str
) -> State:
    """Return the state of an open suspect page after a run.

    `reported` are the pages that the run found damaged; `satisfied` the checkers that looked everywhere and found
    nothing; `restored` is when a restore of ours last replaced the database, "" where none did. Without a `look`
    nothing is known of pages that were not reported.
    """
    if known.pgno in reported:
        return State.CONFIRMED
    if look is None:
        return known.state
    ours = restored > known.last_seen
    if known.pgno > look.pages:
        return State.REPAIRED if ours else State.GONE
    now = look.sums.get(known.pgno)
    if now is None or (now == known.page_sum and known.checker not in satisfied):
        return known.state
    if ours or look.expected.get(known.pgno) == now:
        return State.REPAIRED
    return State.GONE if look.moment != known.moment else State.TRANSIENT
