"""Which restore points a policy keeps, and what it may never let go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.repository.retention import GONE, Candidate, Decision, Policy, decide, describe, grace_ended

NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
DAY = timedelta(days=1)


def points(*times: datetime) -> list[Candidate]:
    """Return restore points with these times, in order of commit."""
    return [Candidate(sequence=number, time=time) for number, time in enumerate(times, start=1)]


def kept(decisions: tuple[Decision, ...]) -> set[int]:
    """Return the sequences that stay."""
    return {decision.sequence for decision in decisions if decision.keep}


def days(count: int, *, each: int = 1) -> list[Candidate]:
    """Return `count` restore points, `each` a day, the last of them now."""
    step = DAY / each
    return points(*(NOW - step * (count - 1 - number) for number in range(count)))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(last=3), {38, 39, 40}),
        (Policy(daily=3), {40, 38, 34}),
        (Policy(hourly=2), {40, 39}),
        (Policy(weekly=2), {40, 14}),
        (Policy(monthly=2), {40}),
        (Policy(yearly=1), {40}),
        (Policy(within=timedelta(hours=13)), {40, 39, 38, 37}),
        (Policy(last=1, minimum=4), {40, 39, 38, 37}),
        (Policy(minimum=4), set(range(1, 41))),
        (Policy(), set(range(1, 41))),
    ],
)
def test_a_policy_keeps_what_its_words_say(policy: Policy, expected: set[int]) -> None:
    """Ten days with four restore points each: every rule keeps its own, and a policy without a rule everything."""
    history = days(40, each=4)
    assert kept(decide(history, policy, now=NOW)) == expected


def test_rules_add_up_and_each_point_says_why() -> None:
    """A point is kept by each rule that names it, and one that goes says that no rule does."""
    decisions = decide(days(4), Policy(last=1, daily=2), now=NOW)
    assert [decision.why for decision in decisions] == [
        (GONE,),
        (GONE,),
        ("the last of its day, 2026-11-21",),
        ("the last", "the last of its day, 2026-11-22", "the newest, which never goes"),
    ]


def test_a_month_and_a_year_end_where_the_calendar_says() -> None:
    """The last point of a month and of a year is kept, in UTC."""
    times = (datetime(2025, 12, 31, 23, 59, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), NOW - 40 * DAY, NOW)
    assert kept(decide(points(*times), Policy(yearly=2), now=NOW)) == {1, 4}
    assert kept(decide(points(*times), Policy(monthly=3), now=NOW)) == {2, 3, 4}
    assert "2026-01" in str(decide(points(*times), Policy(monthly=3), now=NOW)[1].why)
    assert "2025" in str(decide(points(*times), Policy(yearly=2), now=NOW)[0].why)
    assert "2026-W47" in str(decide(points(*times), Policy(weekly=3), now=NOW)[3].why)


def test_a_window_keeps_the_one_before_it() -> None:
    """H31: all of the window can be restored, its first moment included, which lies after the point before it."""
    decisions = decide(days(10), Policy(within=3 * DAY), now=NOW)
    assert kept(decisions) == {6, 7, 8, 9, 10}
    assert decisions[5].why == ("the last before the 3d that are kept whole",)


def test_a_database_that_nobody_backs_up_keeps_its_points() -> None:
    """A window counts from the newest restore point: time that passes without one makes nothing go."""
    assert kept(decide(days(5), Policy(within=2 * DAY), now=NOW + 400 * DAY)) == {2, 3, 4, 5}


def test_what_never_goes_stays_whatever_the_policy_says() -> None:
    """H31: the newest, the last sound one, pinned ones, and the snapshots that those are restored from."""
    history = [
        Candidate(sequence=1, time=NOW),
        Candidate(sequence=2, time=NOW, sound=True, base=1),
        Candidate(sequence=3, time=NOW, sound=True, base=1),
        Candidate(sequence=4, time=NOW),
        Candidate(sequence=5, time=NOW, base=4),
        Candidate(sequence=6, time=NOW, pinned="before the move", base=4),
        Candidate(sequence=7, time=NOW, pinned="", base=4),
        Candidate(sequence=8, time=NOW),
        Candidate(sequence=9, time=NOW, base=8),
    ]
    decisions = decide(history, Policy(last=1), now=NOW)
    assert kept(decisions) == {1, 3, 4, 6, 7, 8, 9}
    assert [decision.why for decision in decisions] == [
        ("the snapshot that number 3 is based on",),
        (GONE,),
        ("the last known to be sound, which never goes",),
        ("the snapshot that number 6, 7 are based on",),
        (GONE,),
        ("pinned: before the move",),
        ("pinned",),
        ("the snapshot that number 9 is based on",),
        ("the last", "the newest, which never goes"),
    ]


def test_nothing_goes_while_the_newest_check_says_damaged() -> None:
    """H18, H31: a freeze keeps everything, and says so of those that would go."""
    decisions = decide(days(5), Policy(last=2), now=NOW, frozen="the newest backup's source is damaged")
    assert kept(decisions) == {1, 2, 3, 4, 5}
    assert decisions[0].why == ("nothing goes now: the newest backup's source is damaged",)
    assert decisions[4].why[0] == "the last"


def test_order_is_that_of_commits_and_not_of_clocks() -> None:
    """H23: the last three are the last committed, whatever their times, and however they are handed over."""
    history = points(NOW + 9 * DAY, NOW + 8 * DAY, NOW, NOW - DAY, NOW - 2 * DAY)
    assert kept(decide(list(reversed(history)), Policy(last=3), now=NOW)) == {3, 4, 5}


def test_one_wrong_time_costs_nothing() -> None:
    """H23: a point dated 1970 or 2040 within a window stays in it, and takes none of the others out."""
    right = days(10)
    for wrong in (datetime(1970, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)):
        history = [replace(point, time=wrong) if point.sequence == 8 else point for point in right]
        for policy in (Policy(within=4 * DAY), Policy(daily=5), Policy(weekly=2)):
            assert kept(decide(history, policy, now=NOW)) >= kept(decide(right, policy, now=NOW)) | {8}


def test_a_time_in_the_future_holds_nothing_else_back() -> None:
    """A point dated 2040 long ago stays by its window itself, but those after it are judged by their own times."""
    history = days(30)
    history[2] = replace(history[2], time=datetime(2040, 1, 1, tzinfo=UTC))
    assert kept(decide(history, Policy(within=2 * DAY), now=NOW)) == {2, 3, 27, 28, 29, 30}


def test_a_grace_ends_by_the_clock_and_a_step_back_delays_it() -> None:
    """What was marked in the future, as this clock has it, is not purged."""
    assert grace_ended(NOW - 7 * DAY, 7 * DAY, NOW)
    assert not grace_ended(NOW - 7 * DAY + timedelta(seconds=1), 7 * DAY, NOW)
    assert not grace_ended(NOW + DAY, timedelta(0), NOW)
    assert grace_ended(NOW, timedelta(0), NOW)


def test_nonsense_is_refused() -> None:
    """Counts below nothing, a window of no time, and two points of one sequence are mistakes of the caller."""
    with pytest.raises(ValueError, match="less than nothing"):
        Policy(daily=-1)
    with pytest.raises(ValueError, match="less than nothing"):
        Policy(within=timedelta(0))
    with pytest.raises(ValueError, match="one sequence"):
        decide([Candidate(sequence=1, time=NOW)] * 2, Policy(), now=NOW)
    assert decide([], Policy(last=1), now=NOW) == ()


def test_a_policy_says_itself_in_words() -> None:
    """What is kept reads as it was written."""
    assert describe(Policy()) == "keep everything"
    assert (
        describe(Policy(last=3, within=30 * DAY, daily=7, yearly=1, minimum=2))
        == "keep the last 3, all within 30d, 7 daily, 1 yearly, at least 2"
    )


policies = st.builds(
    Policy,
    last=st.integers(0, 4),
    within=st.none() | st.integers(1, 400).map(lambda hours: timedelta(hours=hours)),
    hourly=st.integers(0, 5),
    daily=st.integers(0, 5),
    weekly=st.integers(0, 3),
    monthly=st.integers(0, 3),
    yearly=st.integers(0, 2),
    minimum=st.integers(0, 6),
)


@st.composite
def histories(draw: st.DrawFn, *, steady: bool = False) -> list[Candidate]:
    """Return a history whose clock goes as it likes, or one whose clock is right."""
    hours = draw(st.lists(st.integers(1 if steady else -700, 700), max_size=40))
    time, base, history = NOW, None, []
    for sequence, step in enumerate(hours, start=1):
        time += timedelta(hours=step)
        base = sequence if base is None or draw(st.integers(0, 3)) == 0 else base
        history.append(
            Candidate(
                sequence=sequence * draw(st.just(3)),
                time=time,
                sound=draw(st.booleans()),
                pinned=draw(st.none() | st.none() | st.just("a note")),
                base=base * 3,
            )
        )
    return history


@given(histories(), policies, st.integers(-1000, 1000), st.sampled_from(["", "", "damaged"]))
def test_no_clock_and_no_policy_makes_go_what_must_stay(
    history: list[Candidate], policy: Policy, hours: int, frozen: str
) -> None:
    """H31: for any history, any clock and any policy, the promises of retention hold, and each point has a reason."""
    decisions = decide(history, policy, now=NOW + timedelta(hours=hours), frozen=frozen)
    stays = kept(decisions)
    assert [decision.sequence for decision in decisions] == [point.sequence for point in history]
    assert all(decision.why for decision in decisions)
    assert stays >= {point.sequence for point in history[-max(1, policy.last) :]}
    assert len(stays) >= min(policy.minimum, len(history))
    assert stays >= {point.sequence for point in history if point.pinned is not None}
    assert stays >= {point.sequence for point in [each for each in history if each.sound][-1:]}
    assert stays >= {point.base for point in history if point.sequence in stays}
    if frozen or policy.empty:
        assert len(stays) == len(history)


@given(histories(steady=True), policies, st.integers(0, 40), st.integers(1, 60))
def test_a_clock_that_steps_back_makes_nothing_go(
    history: list[Candidate], policy: Policy, place: int, weeks: int
) -> None:
    """H23: had the clock been put back by whole weeks at any moment, at least the same points would stay."""
    policy = replace(policy, monthly=0, yearly=0, minimum=0)  # months and years are not of one length
    shift = timedelta(weeks=weeks)
    now = history[-1].time if history else NOW
    stepped = [*history[:place], *(replace(point, time=point.time - shift) for point in history[place:])]
    if 0 < place < len(history) and stepped[place].time >= stepped[place - 1].time:
        return  # nobody could see a step
    assert kept(decide(stepped, policy, now=now - shift)) >= kept(decide(history, policy, now=now))


@given(histories(), policies)
def test_to_prune_again_makes_nothing_more_go(history: list[Candidate], policy: Policy) -> None:
    """What a policy keeps of a history with a right clock it keeps of what is left of it."""
    history = sorted(history, key=lambda point: point.time)
    history = [replace(point, sequence=number, base=None) for number, point in enumerate(history, start=1)]
    stays = kept(decide(history, policy, now=NOW + 9999 * DAY))
    left = [point for point in history if point.sequence in stays]
    assert kept(decide(left, policy, now=NOW + 9999 * DAY)) == stays
