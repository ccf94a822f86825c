"""The repository's history beside the application's own record: nothing missing, nothing invented, every txid exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.soak.history import State
from tests.soak.record import Intent, Record

OUTGROWN = "spool-full"
"""The one gap that a guard that runs may leave: the target was away, and what waits has outgrown its bound."""


@dataclass(slots=True)
class Audit:
    """What a history came to."""

    states: int = 0  # commits that can be had back, each one exact
    matched: int = 0  # of those, the ones whose whole image SQLite had given to a reader of the application
    read: int = 0  # of those, the ones whose every row was read
    merged_runs: int = 0
    merged_commits: int = 0  # commits within them that cannot be had back
    gaps: Counter[str] = field(default_factory=Counter)  # by cause
    gap_commits: int = 0  # commits within them that cannot be had back
    snapshots: int = 0
    commits: int = 0  # from the first state to the last one
    numbers: dict[tuple[str, int], int] = field(default_factory=dict)  # position → the application's number
    times: dict[int, int] = field(default_factory=dict)  # txid → when it was seen, microseconds since 1970, in order


def audit(
    states: Iterable[State], record: Record, final: str, *, starts: Sequence[float] = (), slack: float = 2.0
) -> Audit:
    """Compare all states with the record; `final` is the token of the last transaction of all. Fails loudly.

    `starts` are the moments, seconds since 1970, at which a guard began: a gap needs one between the commit before it
    and itself, because a guard that runs misses nothing (but see OUTGROWN). Times may be wrong by `slack` seconds.
    """
    chain = record.chain(final)
    tokens = {intent.token for intent in chain}
    lost = [token for token in record.committed if token not in tokens]
    assert not lost, f"the database itself lost {len(lost)} transactions whose COMMIT had returned: {lost[:5]}"
    result = Audit()
    before: State | None = None
    for state in states:
        _judge_state(state, chain, record, result)
        if before is None:
            assert state.fresh
        else:
            _judge_step(before, state, chain, result, starts, slack)
        before = state
    assert before is not None, "nothing is stored"
    assert before.moment.token == final, f"the newest state is {before}, and the last transaction was {chain[-1]}"
    return result


def _judge_state(state: State, chain: Sequence[Intent], record: Record, result: Audit) -> None:
    """Fail unless a state is exactly what the application had after one of its commits."""
    number, token, cookie = state.moment.number, state.moment.token, state.moment.cookie
    assert token not in record.rolled_back, f"{state} was rolled back"
    assert 0 < number <= len(chain) and chain[number - 1].token == token, f"{state} was never committed"
    intent = chain[number - 1]
    most = chain[number].cookie_before if number < len(chain) else cookie
    assert intent.cookie <= cookie <= most, f"{state} is no state between {intent} and what came next"
    assert state.digest in (None, intent.digest), f"{state} does not hold the rows of {intent}"
    result.read += state.digest is not None
    seen = record.sightings.get((token, cookie))
    if seen is not None:
        assert (seen.database_sum, seen.pages) == (state.database_sum, state.pages), f"{state} is not {seen}"
        result.matched += 1
    result.states += 1
    result.snapshots += state.fresh
    place = (state.timeline, state.txid)
    assert place not in result.numbers, f"{state} has the position of another one"
    result.numbers[place] = number
    result.times[state.txid] = state.time


def _judge_step(
    before: State, state: State, chain: Sequence[Intent], result: Audit, starts: Sequence[float], slack: float
) -> None:
    """Fail unless a state follows the one before it by exactly as many commits as its txid says, but for a gap."""
    assert state.timeline == before.timeline and state.txid > before.txid, f"{state} after {before}"
    distance = _commits_between(before, state, chain)
    assert distance >= 0, f"{state} is older than {before}"
    result.commits += distance
    if state.gap:
        result.gaps[state.gap] += 1
        result.gap_commits += max(0, distance - 1)
        if state.gap == OUTGROWN:
            return
        lower, upper = before.time / 1e6 - slack, state.time / 1e6 + slack
        assert any(lower <= start <= upper for start in starts), f"a guard that ran left a gap: {state} after {before}"
        return
    assert distance == state.txid - before.txid == state.merged, f"{distance} commits lie between {before} and {state}"
    if state.merged > 1:
        result.merged_runs += 1
        result.merged_commits += state.merged - 1


def _commits_between(before: State, state: State, chain: Sequence[Intent]) -> int:
    """Return how many commits there were from one state to another: transactions, and VACUUMs by the schema cookie."""
    count, cookie = 0, before.moment.cookie
    for intent in chain[before.moment.number : state.moment.number]:
        count += 1 + intent.cookie_before - cookie
        cookie = intent.cookie
    return count + state.moment.cookie - cookie
