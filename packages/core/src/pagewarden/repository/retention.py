"""Retention: which restore points of a database a policy keeps, and why. Pure: values in, values out.

1. Restore points are ordered by sequence, the order of commits. Their times only say into which hour or month each
   falls, and clocks step back (H23): so a step never makes a point go that would stay without it. Counting goes from
   the newest to the oldest. A period counts only if it is earlier than every one counted before, and no clock stepped
   back before its last point; that point stays whether it counts or not, while there is anything left to count.
2. Whatever the policy says there stay (H31): the newest, the last one known to be sound, those that are pinned, the
   last one before a window of time, and the snapshot that any point which stays is restored from.
3. What is known to be damaged or incomplete, and what its own backup may still take back, uses up no rule and lets
   nothing else go: the rules are applied to the others as if those were not there.
4. Where the newest check says damaged, or a manifest cannot be read, nothing goes at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pagewarden.times import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What to keep; 0 and None keep nothing by themselves. A policy that says nothing at all keeps everything."""

    last: int = 0  # newest restore points
    within: timedelta | None = None  # all that are not older than this, counted from the newest
    hourly: int = 0  # the last one of each hour (UTC), for so many hours that have one
    daily: int = 0
    weekly: int = 0  # weeks begin on Monday
    monthly: int = 0
    yearly: int = 0
    minimum: int = 0  # restore points that are left at the least, whatever the rest says

    def __post_init__(self) -> None:
        counts = (self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly, self.minimum)
        if min(counts) < 0 or (self.within is not None and self.within <= timedelta(0)):
            raise ValueError(f"a policy that keeps less than nothing: {self}")

    @property
    def empty(self) -> bool:
        """Whether it says nothing about what to keep, so that everything is kept."""
        counts = (self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly)
        return not any(counts) and self.within is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One restore point as retention sees it."""

    sequence: int
    time: datetime  # of its position, UTC
    sound: bool = False  # whether its source was judged sound and its objects were not found damaged since
    pinned: str | None = None  # the note of a pin, None without one
    base: int | None = None  # sequence of the snapshot that it is restored from; None: itself
    faulty: bool = False  # whether it is known that it cannot be restored whole
    open: bool = False  # whether its backup has not ended, and may still take it back


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of one restore point."""

    sequence: int
    keep: bool
    why: tuple[str, ...]  # clauses


_Period = Callable[[datetime], tuple[int, ...]]

_PERIODS: Final[tuple[tuple[str, str, _Period], ...]] = (
    ("hourly", "hour", lambda time: (time.toordinal(), time.hour)),
    ("daily", "day", lambda time: (time.toordinal(),)),
    ("weekly", "week", lambda time: tuple(time.isocalendar())[:2]),
    ("monthly", "month", lambda time: (time.year, time.month)),
    ("yearly", "year", lambda time: (time.year,)),
)

NEWEST = "the newest, which never goes"

GONE = "no rule keeps it"
"""Why a restore point goes."""


def decide(candidates: Sequence[Candidate], policy: Policy, *, now: datetime, frozen: str = "") -> tuple[Decision, ...]:
    """Return what becomes of each of the restore points of one database, in order of sequence.

    `candidates` are those that are listed. `frozen` says why nothing may go now, such as a check that found damage;
    empty where it may. Raises ValueError where two have one sequence.
    """
    points = sorted(candidates, key=lambda point: point.sequence)
    if len({point.sequence for point in points}) < len(points):
        raise ValueError("two restore points of one sequence")
    reasons: dict[int, list[str]] = {point.sequence: [] for point in points}
    if points:
        _apply(points, policy, now, reasons)
        if frozen:
            _freeze(reasons, frozen)
        _bases(points, reasons)
    return tuple(
        Decision(sequence=sequence, keep=bool(why), why=tuple(why) or (GONE,)) for sequence, why in reasons.items()
    )


def _apply(points: list[Candidate], policy: Policy, now: datetime, reasons: dict[int, list[str]]) -> None:
    """Keep what the policy keeps of what can be restored and stays, and of the rest what it would keep of all."""
    firm = [point for point in points if not point.faulty and not point.open]
    every: dict[int, list[str]] = reasons if len(firm) == len(points) else {point.sequence: [] for point in points}
    _by_policy(points, policy, now, every)
    _whatever_it_says(points, policy, every)
    if every is reasons:
        return
    if firm:
        _by_policy(firm, policy, now, reasons)
        last = firm[-1] is points[-1]
        _whatever_it_says(firm, policy, reasons, NEWEST if last else "the newest that can be relied on")
    for point in points:
        if point.open:
            reasons[point.sequence].append("its backup has not ended, so it counts for no rule")
        elif point.faulty and every[point.sequence]:
            reasons[point.sequence] += [*every[point.sequence], "known to be damaged, so it counts for no rule"]


def _by_policy(points: list[Candidate], policy: Policy, now: datetime, reasons: dict[int, list[str]]) -> None:
    """Keep what the rules name."""
    if policy.empty:
        for point in points:
            reasons[point.sequence].append("no rule says what to keep, so all is kept")
        return
    for number, point in enumerate(reversed(points[-policy.last :] if policy.last else []), start=1):
        reasons[point.sequence].append(f"one of the last {policy.last}" if number > 1 else "the last")
    if policy.within is not None:
        _within(points, policy.within, now, reasons)
    end = min(now, points[-1].time)
    for rule, word, period in _PERIODS:
        _periods(points, getattr(policy, rule), word, period, end, reasons)


def _within(points: list[Candidate], window: timedelta, now: datetime, reasons: dict[int, list[str]]) -> None:
    """Keep what is not older than `window`, and the last one before it, so that all of the window can be restored.

    The window ends with the newest point, or now if that is earlier: a database that nobody backs up keeps its points,
    and a clock that was put forward costs as little as can be. What was committed after a point of the window is in the
    window, whatever its clock said; but a time that lies in the future is no evidence for those after it.
    """
    end = min(now, points[-1].time)
    begin = end - window if end - datetime.min.replace(tzinfo=UTC) > window else datetime.min.replace(tzinfo=UTC)
    text = format_duration(window)
    inside = False  # whether a point of the window came before
    before: Candidate | None = None
    for point in points:
        if point.time >= begin or inside:
            late = "" if point.time >= begin else ", though its clock says otherwise"
            reasons[point.sequence].append(f"within {text}{late}")
            if before is not None:
                reasons[before.sequence].append(f"the last before the {text} that are kept whole")
            before = None
        else:
            before = point
        inside = inside or begin <= point.time <= end


def _periods(
    points: list[Candidate],
    count: int,
    word: str,
    period: _Period,
    end: datetime,
    reasons: dict[int, list[str]],
) -> None:
    """Keep the last point of each of the newest `count` periods. Times after `end` are no evidence for others."""
    if not count:
        return
    latest, stale = datetime.min.replace(tzinfo=UTC), set()  # those that were committed after a later time
    for point in points:
        if point.time < latest:
            stale.add(point.sequence)
        latest = max(latest, point.time) if point.time <= end else latest
    earliest: tuple[int, ...] | None = None  # of the periods that were counted
    counted = 0
    later: Candidate | None = None
    for point in reversed(points):
        if counted == count:
            break
        here = period(point.time)
        if later is None or point.time > later.time or period(later.time) != here:
            if point.sequence not in stale and (earliest is None or here < earliest):
                earliest, counted = here, counted + 1
                reasons[point.sequence].append(f"the last of its {word}, {_name(word, point.time)}")
            else:
                reasons[point.sequence].append(f"the last of its {word} where a clock stepped back")
        later = point


def _name(word: str, time: datetime) -> str:
    week = time.isocalendar()
    return {
        "hour": time.strftime("%Y-%m-%dT%HZ"),
        "day": time.strftime("%Y-%m-%d"),
        "week": f"{week.year}-W{week.week:02}",
        "month": time.strftime("%Y-%m"),
        "year": time.strftime("%Y"),
    }[word]


def _whatever_it_says(
    points: list[Candidate], policy: Policy, reasons: dict[int, list[str]], newest: str = NEWEST
) -> None:
    """Keep what no policy may let go."""
    reasons[points[-1].sequence].append(newest)
    sound = next((point for point in reversed(points) if point.sound and not point.open), None)
    if sound is not None:
        reasons[sound.sequence].append("the last known to be sound, which never goes")
    for point in points:
        if point.pinned is not None:
            reasons[point.sequence].append(f"pinned: {point.pinned}" if point.pinned else "pinned")
    missing = policy.minimum - sum(1 for why in reasons.values() if why)
    for point in reversed(points):
        if missing > 0 and not reasons[point.sequence]:
            reasons[point.sequence].append(f"at least {policy.minimum} are kept")
            missing -= 1


def _freeze(reasons: dict[int, list[str]], frozen: str) -> None:
    for why in reasons.values():
        if not why:
            why.append(f"nothing goes now: {frozen}")


def _bases(points: list[Candidate], reasons: dict[int, list[str]]) -> None:
    """Keep the snapshots that the points which stay are restored from."""
    needed: dict[int, list[int]] = {}
    for point in points:
        if reasons[point.sequence] and point.base is not None and point.base != point.sequence:
            needed.setdefault(point.base, []).append(point.sequence)
    for base, sequences in needed.items():
        if base in reasons:
            few = ", ".join(map(str, sequences[:3])) + (" …" if len(sequences) > 3 else "")
            reasons[base].append(f"the snapshot that number {few} {'is' if len(sequences) == 1 else 'are'} based on")


def grace_ended(marked: datetime, grace: timedelta, now: datetime) -> bool:
    """Return whether a restore point that was marked at `marked` may be purged. A clock that steps back delays it."""
    return now - marked >= grace


def describe(policy: Policy) -> str:
    """Return the policy in words."""
    if policy.empty:
        return "keep everything"
    parts = [f"the last {policy.last}"] if policy.last else []
    parts += [] if policy.within is None else [f"all within {format_duration(policy.within)}"]
    parts += [f"{getattr(policy, rule)} {rule}" for rule, _, _ in _PERIODS if getattr(policy, rule)]
    parts += [f"at least {policy.minimum}"] if policy.minimum else []
    return "keep " + ", ".join(parts)
