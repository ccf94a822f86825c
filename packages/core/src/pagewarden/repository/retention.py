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
5. Of a database that is followed every commit stays for a time (`commits`), counted as a window is. Of a batch that is
   older the rules keep commits as they keep restore points: the last of a minute, of an hour … Without a rule the last
   of each minute stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from pagewarden.times import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What to keep; 0 and None keep nothing by themselves. A policy that says nothing at all keeps everything."""

    last: int = 0  # newest restore points
    within: timedelta | None = None  # all that are not older than this, counted from the newest
    commits: timedelta | None = None  # likewise every commit that was followed; None: those that are stored, for ever
    minutely: int = 0  # the last one of each minute (UTC), for so many minutes that have one
    hourly: int = 0
    daily: int = 0
    weekly: int = 0  # weeks begin on Monday
    monthly: int = 0
    yearly: int = 0
    minimum: int = 0  # restore points that are left at the least, whatever the rest says

    def __post_init__(self) -> None:
        windows = (each for each in (self.within, self.commits) if each is not None)
        if min((*self._counts, self.minimum)) < 0 or any(each <= timedelta(0) for each in windows):
            raise ValueError(f"a policy that keeps less than nothing: {self}")

    @property
    def empty(self) -> bool:
        """Whether it says nothing about restore points, so that all of them are kept."""
        return not any(self._counts) and self.within is None

    @property
    def _counts(self) -> tuple[int, ...]:
        return self.last, self.minutely, self.hourly, self.daily, self.weekly, self.monthly, self.yearly


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One restore point as retention sees it, or a commit of a batch that is older than every commit is kept."""

    sequence: int
    commit: int = 0  # the txid of a commit between the restore point and the one before it; 0 for the point itself
    time: datetime  # of its position, UTC
    sound: bool = False  # whether its source was judged sound and its objects were not found damaged since
    pinned: str | None = None  # the note of a pin, None without one
    base: int | None = None  # sequence of the snapshot that it is restored from; None: itself
    faulty: bool = False  # whether it is known that it cannot be restored whole
    open: bool = False  # whether its backup has not ended, and may still take it back
    followed: bool = False  # whether it is of commits that were followed
    named: bool = False  # whether the moment has a name
    under: int | None = None  # sequence of the restore point that its commits continue, where it does not itself

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from all others."""
        return self.sequence, self.commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of one restore point, or of a commit."""

    sequence: int
    commit: int = 0
    keep: bool
    why: tuple[str, ...]  # clauses


_Period = Callable[[datetime], tuple[int, ...]]

_Reasons = dict[tuple[int, int], list[str]]  # by the keys of candidates

_PERIODS: Final[tuple[tuple[str, str, _Period], ...]] = (
    ("minutely", "minute", lambda time: (time.toordinal(), time.hour, time.minute)),
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
    """Return what becomes of each of the restore points of one database, in order of sequence, and of each commit.

    `candidates` are those that are listed. `frozen` says why nothing may go now, such as a check that found damage;
    empty where it may. Raises ValueError where two are one.
    """
    points = sorted(candidates, key=lambda point: (point.sequence, point.commit == 0, point.commit))
    if len({point.key for point in points}) < len(points):
        raise ValueError("two restore points of one sequence")
    reasons: _Reasons = {point.key: [] for point in points}
    if points:
        _apply(points, policy, now, reasons)
        if frozen:
            _freeze(reasons, frozen)
        _carriers(points, reasons)
        _bases(points, reasons)
    return tuple(
        Decision(sequence=sequence, commit=commit, keep=bool(why), why=tuple(why) or (GONE,))
        for (sequence, commit), why in reasons.items()
    )


def whole_batches(candidates: Sequence[Candidate], policy: Policy, *, now: datetime) -> frozenset[int]:
    """Return the sequences of those of which every commit is kept, because they are not old enough.

    `candidates` are restore points that can be restored and stay.
    """
    if policy.commits is None:
        return frozenset(point.sequence for point in candidates)
    points = sorted((point for point in candidates if point.followed), key=lambda point: point.sequence)
    return frozenset(point.sequence for point in _in_window(points, policy.commits, now)[0]) if points else frozenset()


def ends_of_minutes(times: Sequence[datetime]) -> tuple[int, ...]:
    """Return the places of the times, in the order of commits, after which another minute begins, or an earlier time.

    Nothing but those can be the last of a minute, hour, day … The last time is that of the restore point itself.
    """
    minute = _PERIODS[0][2]
    return tuple(
        place for place, (time, after) in enumerate(pairwise(times)) if time > after or minute(time) != minute(after)
    )


def _apply(points: list[Candidate], policy: Policy, now: datetime, reasons: _Reasons) -> None:
    """Keep what the policy keeps of what can be restored and stays, and of the rest what it would keep of all."""
    firm = [point for point in points if not point.faulty and not point.open]
    every: _Reasons = reasons if len(firm) == len(points) else {point.key: [] for point in points}
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
            reasons[point.key].append("its backup has not ended, so it counts for no rule")
        elif point.faulty and every[point.key]:
            reasons[point.key] += [*every[point.key], "known to be damaged, so it counts for no rule"]


def _by_policy(every: list[Candidate], policy: Policy, now: datetime, reasons: _Reasons) -> None:
    """Keep what the rules name."""
    points = [point for point in every if not point.commit]
    if policy.empty:
        for point in every:
            reasons[point.key].append(
                "the last of its minute, and no rule says otherwise"
                if point.commit
                else "no rule says what to keep, so all is kept"
            )
        return
    for number, point in enumerate(reversed(points[-policy.last :] if policy.last else []), start=1):
        reasons[point.key].append(f"one of the last {policy.last}" if number > 1 else "the last")
    if policy.within is not None:
        _within(points, policy.within, now, reasons)
    if policy.commits is not None and (followed := [point for point in points if point.followed]):
        _within(followed, policy.commits, now, reasons, "every commit of it is kept, ")
    end = min(now, every[-1].time)
    for rule, word, period in _PERIODS:
        _periods(every, getattr(policy, rule), word, period, end, reasons)


def _within(points: list[Candidate], window: timedelta, now: datetime, reasons: _Reasons, why: str = "") -> None:
    """Keep what is in a window, and the last one before it, so that all of it can be restored."""
    text = format_duration(window)
    inside, befores, begin = _in_window(points, window, now)
    for point in inside:
        late = "" if point.time >= begin else ", though its clock says otherwise"
        reasons[point.key].append(f"{why}within {text}{late}")
    for point in befores:
        reasons[point.key].append(f"the last before the {text} that are kept whole")


def _in_window(
    points: Sequence[Candidate], window: timedelta, now: datetime
) -> tuple[list[Candidate], list[Candidate], datetime]:
    """Return what is not older than `window`, the last ones before that, and when it begins.

    The window ends with the newest point, or now if that is earlier: a database that nobody backs up keeps its points,
    and a clock that was put forward costs as little as can be. What was committed after a point of the window is in the
    window, whatever its clock said; but a time that lies in the future is no evidence for those after it.
    """
    end = min(now, points[-1].time)
    begin = end - window if end - datetime.min.replace(tzinfo=UTC) > window else datetime.min.replace(tzinfo=UTC)
    found: list[Candidate] = []
    befores: list[Candidate] = []
    inside = False  # whether a point of the window came before
    before: Candidate | None = None
    for point in points:
        if point.time >= begin or inside:
            found.append(point)
            if before is not None:
                befores.append(before)
            before = None
        else:
            before = point
        inside = inside or begin <= point.time <= end
    return found, befores, begin


def _periods(
    points: list[Candidate],
    count: int,
    word: str,
    period: _Period,
    end: datetime,
    reasons: _Reasons,
) -> None:
    """Keep the last point of each of the newest `count` periods. Times after `end` are no evidence for others."""
    if not count:
        return
    latest, stale = datetime.min.replace(tzinfo=UTC), set()  # those that were committed after a later time
    for point in points:
        if point.time < latest:
            stale.add(point.key)
        latest = max(latest, point.time) if point.time <= end else latest
    earliest: tuple[int, ...] | None = None  # of the periods that were counted
    counted = 0
    later: Candidate | None = None
    for point in reversed(points):
        if counted == count:
            break
        here = period(point.time)
        if later is None or point.time > later.time or period(later.time) != here:
            if point.key not in stale and (earliest is None or here < earliest):
                earliest, counted = here, counted + 1
                reasons[point.key].append(f"the last of its {word}, {_name(word, point.time)}")
            else:
                reasons[point.key].append(f"the last of its {word} where a clock stepped back")
        later = point


def _name(word: str, time: datetime) -> str:
    week = time.isocalendar()
    return {
        "minute": time.strftime("%Y-%m-%dT%H:%MZ"),
        "hour": time.strftime("%Y-%m-%dT%HZ"),
        "day": time.strftime("%Y-%m-%d"),
        "week": f"{week.year}-W{week.week:02}",
        "month": time.strftime("%Y-%m"),
        "year": time.strftime("%Y"),
    }[word]


def _whatever_it_says(every: list[Candidate], policy: Policy, reasons: _Reasons, newest: str = NEWEST) -> None:
    """Keep what no policy may let go."""
    points = [point for point in every if not point.commit]
    reasons[points[-1].key].append(newest)
    sound = next((point for point in reversed(points) if point.sound and not point.open), None)
    if sound is not None:
        reasons[sound.key].append("the last known to be sound, which never goes")
    for point in every:
        if point.pinned is not None:
            reasons[point.key].append(f"pinned: {point.pinned}" if point.pinned else "pinned")
        if point.named:
            reasons[point.key].append("the moment has a name")
    missing = policy.minimum - sum(1 for point in points if reasons[point.key])
    for point in reversed(points):
        if missing > 0 and not reasons[point.key]:
            reasons[point.key].append(f"at least {policy.minimum} are kept")
            missing -= 1


def _freeze(reasons: _Reasons, frozen: str) -> None:
    for why in reasons.values():
        if not why:
            why.append(f"nothing goes now: {frozen}")


def _carriers(points: list[Candidate], reasons: _Reasons) -> None:
    """Keep the restore points whose commits stay, and from the newest down what those commits continue."""
    inner = {point.sequence for point in points if point.commit}
    stay = {point.sequence for point in points if point.commit and reasons[point.key]}
    for point in reversed(points):
        if point.commit:
            continue
        if point.sequence in stay and not reasons[point.key]:
            reasons[point.key].append("commits before it stay")
        under = (point.under or 0, 0)
        if under in reasons and reasons[point.key] and (point.sequence in stay or point.sequence not in inner):
            reasons[under].append(f"the commits of number {point.sequence} continue it")


def _bases(points: list[Candidate], reasons: _Reasons) -> None:
    """Keep the snapshots that the points which stay are restored from."""
    needed: dict[int, list[int]] = {}
    for point in points:
        if reasons[point.key] and not point.commit and point.base is not None and point.base != point.sequence:
            needed.setdefault(point.base, []).append(point.sequence)
    for base, sequences in needed.items():
        if (base, 0) in reasons:
            few = ", ".join(map(str, sequences[:3])) + (" …" if len(sequences) > 3 else "")
            reasons[base, 0].append(f"the snapshot that number {few} {'is' if len(sequences) == 1 else 'are'} based on")


def grace_ended(marked: datetime, grace: timedelta, now: datetime) -> bool:
    """Return whether a restore point that was marked at `marked` may be purged. A clock that steps back delays it."""
    return now - marked >= grace


def describe(policy: Policy, *, followed: bool = False) -> str:
    """Return the policy in words; `followed` where it is for a database that is followed."""
    parts = [f"the last {policy.last}"] if policy.last else []
    parts += [] if policy.within is None else [f"all within {format_duration(policy.within)}"]
    parts += [f"{getattr(policy, rule)} {rule}" for rule, _, _ in _PERIODS if getattr(policy, rule)]
    parts += [f"at least {policy.minimum}"] if policy.minimum and parts else []
    parts = ["everything"] if policy.empty else parts
    if followed and policy.commits is not None:
        window = f"every commit within {format_duration(policy.commits)}"
        parts.append(f"{window} and then one of each minute" if policy.empty else window)
    return "keep " + ", ".join(parts)
