"""The plan of a repair: of all that repairers offer, the steps that cost least.

1. Every repairer is asked. One that raises, or returns what its contract does not allow, is left out, and told of.
2. Steps are gone through from the least loss to the most, ties in the order in which repairs are tried (`ORDER`). One
   is taken where it mends a finding that none before it mends. One that mends everything, and is proven, is taken even
   where nothing was found: it knows better than the findings.
3. What is taken is executed by stage.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagewarden.contracts import Loss, Repairer, RepairStep, Stage
from pagewarden.repair.reports import PlannedRepair
from pagewarden.values import Severity

if TYPE_CHECKING:
    from pagewarden.contracts import RepairCase

ORDER = (
    "repair-reindex",
    "repair-duplicates",
    "repair-header",
    "repair-splice",
    "repair-wal",
    "repair-relations",
    # Here is the place of repairers that salvage rows from unreadable pages.
    "repair-restore",
)
"""In which order repairers of equal loss are tried; others come after them, by name."""

MOST_STEPS = 10_000
"""Steps that one repairer may plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done."""

    repairs: tuple[tuple[Repairer, tuple[RepairStep, ...]], ...] = ()  # in the order of their first stage
    planned: tuple[PlannedRepair, ...] = ()  # the same, for people
    faults: tuple[str, ...] = ()  # repairers that failed to plan, a clause each
    mended: frozenset[int] = frozenset()  # which of the case's findings, by their place
    reasons: tuple[str, ...] = ()  # why repairers offer nothing, though the damage is of their kind; a clause each


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """One step of one repairer."""

    repairer: Repairer
    step: RepairStep
    rank: tuple[int, int, str, int]  # loss, place in ORDER, name, place in the repairer's plan


def make_plan(
    case: RepairCase, repairers: Sequence[Repairer], *, only_lossless: bool, without: Collection[str] = ()
) -> Plan:
    """Return what is to be done about `case`; `without` names repairers that are left out.

    With `only_lossless` no step counts that costs a row of the database, or takes one out of it.
    """
    offers: list[_Offer] = []
    faults: list[str] = []
    reasons: list[str] = []
    for repairer in repairers:
        if repairer.name in without:
            continue
        try:
            offered = _offered(repairer, case)
            offers += offered
            reasons += () if offered else _reasons(repairer, case)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything: the others can help without it
            faults.append(f"{repairer.name} could not plan: {type(error).__name__}: {' '.join(str(error).split())}")
    wanted = frozenset(place for place, finding in enumerate(case.findings) if finding.severity is not Severity.NOTICE)
    taken: list[_Offer] = []
    mended: set[int] = set()
    for offer in sorted(offers, key=lambda offer: offer.rank):
        step = offer.step
        if only_lossless and step.loss > Loss.NOTHING:
            continue
        mends = wanted.intersection(step.mends) if step.mends else wanted
        if mends - mended or (not step.mends and not wanted and step.loss is Loss.PROVEN and not taken):
            taken.append(offer)
            mended |= mends
    repairs = _grouped(taken)
    return Plan(
        repairs=repairs,
        planned=tuple(_planned(repairer, steps) for repairer, steps in repairs),
        faults=tuple(faults),
        mended=frozenset(mended),
        reasons=tuple(reasons),
    )


def _offered(repairer: Repairer, case: RepairCase) -> list[_Offer]:
    """Return what a repairer plans. Raises what it raises, ValueError or TypeError for what is no plan."""
    place = ORDER.index(repairer.name) if repairer.name in ORDER else len(ORDER)
    offers: list[_Offer] = []
    for number, step in enumerate(repairer.plan(case)):
        if number == MOST_STEPS:
            raise ValueError(f"more than {MOST_STEPS} steps")
        found: object = step
        if not isinstance(found, RepairStep):
            raise TypeError(f"a step that is a {type(found).__name__}")
        if not all(0 <= each < len(case.findings) for each in step.mends):
            raise ValueError(f"a step that mends findings which there are not: {step.text}")
        rank = (int(Loss(step.loss)), place, repairer.name, number)
        offers.append(_Offer(repairer=repairer, step=step, rank=rank))
    return offers


def _reasons(repairer: Repairer, case: RepairCase) -> tuple[str, ...]:
    """Return why a repairer offers nothing, if it says so: by a method `why_not`, which it may have."""
    why_not = getattr(repairer, "why_not", None)
    why = why_not(case) if callable(why_not) else ""
    return (f"{repairer.name}: {why}",) if isinstance(why, str) and why else ()


def _grouped(taken: Sequence[_Offer]) -> tuple[tuple[Repairer, tuple[RepairStep, ...]], ...]:
    """Return the steps by repairer: those whose first stage comes first, then by place in ORDER."""
    groups: dict[str, list[_Offer]] = {}
    for offer in taken:
        groups.setdefault(offer.repairer.name, []).append(offer)

    def first(group: list[_Offer]) -> tuple[Stage, tuple[int, str]]:
        return min(offer.step.stage for offer in group), group[0].rank[1:3]

    return tuple(
        (group[0].repairer, tuple(offer.step for offer in sorted(group, key=_within)))
        for group in sorted(groups.values(), key=first)
    )


def _within(offer: _Offer) -> tuple[Stage, int]:
    return offer.step.stage, offer.rank[3]


def _planned(repairer: Repairer, steps: Sequence[RepairStep]) -> PlannedRepair:
    worst = max(steps, key=lambda step: step.loss)
    losses = dict.fromkeys(step.loses for step in steps if step.loss == worst.loss)
    return PlannedRepair(
        repairer=repairer.name,
        why="; ".join(dict.fromkeys(step.why for step in steps if step.why)),
        loses="; ".join(losses),
        lossless=worst.loss <= Loss.NOTHING,
        steps=tuple(step.text for step in steps),
    )
