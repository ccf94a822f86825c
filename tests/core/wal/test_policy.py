"""Policies decide by what is seen, restart nothing before its bound, and bound each log that readers let be bounded."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.wal.policy import DEFAULT_POLICY, CheckpointPolicy, Decision, WalState

FRAME = 4096 + 24


@st.composite
def states(draw: st.DrawFn) -> WalState:
    """Any log that can be."""
    frames = draw(st.integers(0, 100_000))
    backfilled = draw(st.integers(0, frames))
    return WalState(
        page_size=draw(st.sampled_from([512, 4096, 65536])),
        frames=frames,
        backfilled=backfilled,
        wal_bytes=draw(st.integers(0, 1 << 33)),
        idle_seconds=draw(st.floats(0, 100)),
        reader_mark=draw(st.none() | st.integers(0, frames)),
        attempt_seconds=draw(st.floats(0, 100) | st.just(math.inf)),
        attempt_failed=draw(st.booleans()),
    )


policies = st.builds(
    CheckpointPolicy,
    passive_frames=st.integers(0, 50_000),
    idle_seconds=st.floats(0, 50),
    bound_bytes=st.integers(0, 1 << 30),
    mode=st.sampled_from(["passive", "restart", "truncate"]),
    retry_seconds=st.floats(0, 50),
)


@given(policies, states())
def test_writers_are_never_made_to_wait_before_the_bound(policy: CheckpointPolicy, state: WalState) -> None:
    """RESTART and TRUNCATE only beyond it, only where the policy says so, and only where no reader is far behind."""
    decision = policy.decide(state)
    if decision.action in ("restart", "truncate"):
        assert decision.over_bound
        assert decision.action == policy.mode
        assert state.movable == state.waiting
    assert decision == policy.decide(state)  # nothing but the state counts


@given(policies, states())
def test_nothing_is_done_for_nothing(policy: CheckpointPolicy, state: WalState) -> None:
    """PASSIVE only where frames can be copied, and nothing at all soon after a checkpoint that was held back."""
    decision = policy.decide(state)
    if decision.action == "passive":
        assert state.movable > 0
    if state.attempt_failed and state.attempt_seconds < policy.retry_seconds:
        assert decision.action == "none"
    if state.waiting == 0 and not decision.over_bound:
        assert decision.action == "none"


@given(policies, states())
def test_what_can_be_copied_is_copied_in_the_end(policy: CheckpointPolicy, state: WalState) -> None:
    """Once nothing is committed any more, or enough is waiting, a checkpoint is due, whatever readers do."""
    ready = replace(state, attempt_failed=False)
    if state.movable and (state.idle_seconds >= policy.idle_seconds or 0 < policy.passive_frames <= state.waiting):
        assert policy.decide(ready).action != "none"


@given(policies, states(), st.integers(1, 10_000))
def test_a_longer_log_is_never_left_where_a_shorter_one_was_not(
    policy: CheckpointPolicy, state: WalState, more: int
) -> None:
    """More frames and no reader: what was due stays due."""
    free = replace(state, reader_mark=None, attempt_failed=False)
    longer = replace(free, frames=free.frames + more, wal_bytes=free.wal_bytes + more * FRAME)
    if policy.decide(free).action != "none":
        assert policy.decide(longer).action != "none"
    assert policy.decide(longer).over_bound >= policy.decide(free).over_bound


@given(policies, states())
def test_who_holds_a_log_back_is_told(policy: CheckpointPolicy, state: WalState) -> None:
    """Where a reader keeps frames from being copied, and only where there is a reader."""
    decision = policy.decide(state)
    assert not (decision.held_back and state.reader_mark is None)
    if state.movable < state.waiting:
        assert decision.held_back


@pytest.mark.parametrize("mode", ["restart", "truncate"])
@pytest.mark.parametrize("seed", range(4))
def test_a_log_that_readers_leave_alone_stays_near_its_bound(mode: str, seed: int) -> None:
    """A model of SQLite's log, with bursts of commits and readers that end: it never has twice the bound."""
    chance = random.Random(seed)
    policy = CheckpointPolicy(bound_bytes=400 * FRAME, passive_frames=100, mode=mode, retry_seconds=0.05)  # type: ignore[arg-type]
    state = WalState(page_size=4096, frames=0, backfilled=0, wal_bytes=0, idle_seconds=0.0)
    readers: list[tuple[int, int]] = []  # mark, and when it ends
    largest = 0
    for step in range(3000):
        if chance.random() < 0.7:
            # A writer restarts the log where all of it is copied and nobody is on read locks 1–4.
            begin = 0 if state.frames == state.backfilled and not readers else state.frames
            frames = begin + chance.randrange(1, 20)
            state = replace(state, frames=frames, backfilled=state.backfilled if begin else 0, idle_seconds=0.0)
            state = replace(state, wal_bytes=max(state.wal_bytes, state.log_bytes))
        if chance.random() < 0.05 and state.frames > state.backfilled:
            readers.append((state.frames, step + chance.randrange(1, 10)))
        readers = [(mark, end) for mark, end in readers if end > step]
        mark = min((mark for mark, _ in readers), default=None)
        state = replace(state, reader_mark=mark, attempt_seconds=state.attempt_seconds + 0.01)
        action = policy.decide(state).action
        if action != "none":
            copied = state.backfilled + state.movable
            done = copied == state.frames and not (readers and action != "passive")
            state = replace(state, backfilled=copied, attempt_seconds=0.0, attempt_failed=not done)
            if action == "truncate" and done:
                state = replace(state, frames=0, backfilled=0, wal_bytes=0)
        largest = max(largest, state.log_bytes)
    assert largest < 2 * policy.bound_bytes


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"frames": 0, "backfilled": 0}, ("none", False, False)),
        ({"frames": 3999, "backfilled": 0}, ("none", False, False)),
        ({"frames": 4000, "backfilled": 0}, ("passive", False, False)),
        ({"frames": 10, "backfilled": 0, "idle_seconds": 1.0}, ("passive", False, False)),
        ({"frames": 10, "backfilled": 0, "idle_seconds": 1.0, "reader_mark": 0}, ("none", False, True)),
        ({"frames": 20_000, "backfilled": 0}, ("restart", True, False)),
        ({"frames": 20_000, "backfilled": 0, "reader_mark": 5}, ("passive", True, True)),
        ({"frames": 20_000, "backfilled": 5, "reader_mark": 5}, ("none", True, True)),
        ({"frames": 20_000, "backfilled": 20_000}, ("none", True, False)),
        ({"frames": 20_000, "backfilled": 20_000, "reader_mark": 20_000}, ("restart", True, True)),
    ],
)
def test_the_default_policy_by_example(state: dict[str, int], expected: tuple[str, bool, bool]) -> None:
    """What it does, whether the log is over its bound, and whether a reader is in the way."""
    whole = WalState(**{"page_size": 4096, "wal_bytes": 0, "idle_seconds": 0.0} | state)  # type: ignore[arg-type]
    decision = DEFAULT_POLICY.decide(whole)
    assert (decision.action, decision.over_bound, decision.held_back) == expected


def test_a_file_that_stays_large_is_made_small_only_by_truncate() -> None:
    """The -wal keeps its size when the log restarts: no reason to make writers wait, unless it was asked for."""
    state = WalState(page_size=4096, frames=0, backfilled=0, wal_bytes=1 << 30, idle_seconds=0.0)
    assert DEFAULT_POLICY.decide(state).action == "none"
    decision = replace(DEFAULT_POLICY, mode="truncate").decide(state)
    assert isinstance(decision, Decision)
    assert (decision.action, decision.over_bound) == ("truncate", True)


@pytest.mark.parametrize(
    "wrong",
    [{"passive_frames": -1}, {"bound_bytes": -1}, {"mode": "full"}, {"idle_seconds": -1.0}, {"wait_seconds": math.nan}],
)
def test_what_is_no_policy_is_refused(wrong: dict[str, object]) -> None:
    """At once, and not when it would decide."""
    with pytest.raises(ValueError, match="no checkpoint policy"):
        CheckpointPolicy(**wrong)  # type: ignore[arg-type]
