"""The plan of a repair: the cheapest steps for each finding, whatever repairers offer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pagewarden.contracts import Loss, RepairBench, RepairCase, RepairStep, Stage
from pagewarden.repair.planner import ORDER, Plan, make_plan
from pagewarden.testing.benches import ClosedCase
from pagewarden.testing.contracts import make_database
from pagewarden.values import Finding, Severity


class Offering:
    """A repairer that offers what a test chose."""

    def __init__(self, name: str, *steps: RepairStep, plan: Callable[[RepairCase], Any] | None = None) -> None:
        self.name = name
        self._plan = plan or (lambda _: steps)

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Offer it."""
        return self._plan(case)

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Is not called."""


def step(text: str, *mends: int, loss: Loss = Loss.NOTHING, stage: Stage = Stage.PAGES) -> RepairStep:
    """A step."""
    return RepairStep(text=text, mends=mends, loss=loss, stage=stage, why=f"why {text}", loses=f"loss of {text}")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ClosedCase:
    """A case with three findings of damage, a violation and a notice."""
    severities = [*[Severity.DAMAGE] * 3, Severity.VIOLATION, Severity.NOTICE]
    findings = [Finding(kind="bad-page", severity=each, message="page 2") for each in severities]
    return ClosedCase(make_database(tmp_path_factory.mktemp("case") / "app.db", rows=3), findings)


def texts(plan: Plan) -> list[tuple[str, list[str]]]:
    """What is planned, by repairer."""
    return [(repairer.name, [each.text for each in steps]) for repairer, steps in plan.repairs]


def planned(case: ClosedCase, *repairers: Offering, only_lossless: bool = False, without: Iterable[str] = ()) -> Plan:
    """Make a plan."""
    return make_plan(case, repairers, only_lossless=only_lossless, without=tuple(without))


def test_a_step_is_taken_where_no_cheaper_one_mends(case: ClosedCase) -> None:
    """Whatever the order in which repairers are asked."""
    restore = Offering("repair-restore", step("restore", loss=Loss.SINCE_BACKUP, stage=Stage.ROWS))
    header = Offering("repair-header", step("freelist", 0), step("counts", 0))
    reindex = Offering("repair-reindex", step("index", 1, stage=Stage.INDEXES))
    expected = [("repair-header", ["freelist"]), ("repair-restore", ["restore"]), ("repair-reindex", ["index"])]
    assert texts(planned(case, restore, header, reindex)) == expected
    assert texts(planned(case, reindex, header, restore)) == expected


def test_a_proven_step_that_mends_all_wins_over_everything(case: ClosedCase) -> None:
    """Nothing else is done then."""
    splice = Offering("repair-splice", step("splice", loss=Loss.PROVEN))
    plan = planned(case, Offering("repair-header", step("freelist", 0)), splice)
    assert texts(plan) == [("repair-splice", ["splice"])]
    assert plan.mended == {0, 1, 2, 3}


def test_ties_go_by_the_order_of_repairs_then_by_name(case: ClosedCase) -> None:
    """Every one of them, offered for the same finding."""
    names = [*ORDER, "repair-a", "repair-b"]
    for number, name in enumerate(names):
        offers = [Offering(each, step(each, 0)) for each in reversed(names[number:])]
        assert texts(planned(case, *offers)) == [(name, [name])]


def test_only_lossless_leaves_out_what_costs_a_row(case: ClosedCase) -> None:
    """Rows that are moved into the quarantine, too."""
    steps = [step(loss.name, number, loss=loss) for number, loss in enumerate(list(Loss)[:4])]
    plan = planned(case, Offering("repair-all", *steps), only_lossless=True)
    assert texts(plan) == [("repair-all", ["PROVEN", "NOTHING"])]
    assert plan.planned[0].lossless
    assert not planned(case, Offering("repair-all", *steps)).planned[0].lossless


def test_steps_stand_by_stage_and_print_themselves(case: ClosedCase) -> None:
    """Why, and what the worst of them costs."""
    mine = Offering(
        "repair-mine",
        step("rows", 0, loss=Loss.ROWS, stage=Stage.ROWS),
        step("pages", 1),
        step("log", 2, stage=Stage.LOG),
    )
    plan = planned(case, mine)
    assert texts(plan) == [("repair-mine", ["log", "pages", "rows"])]
    (said,) = plan.planned
    assert (said.repairer, said.steps) == ("repair-mine", ("log", "pages", "rows"))
    assert (said.why, said.loses, said.lossless) == ("why log; why pages; why rows", "loss of rows", False)


def test_notices_need_no_step(case: ClosedCase) -> None:
    """A step for them alone is left out."""
    assert texts(planned(case, Offering("repair-a", step("for the notice", 4)))) == []


def test_where_nothing_was_found_only_what_is_proven_counts(case: ClosedCase) -> None:
    """It compares with what was committed, and knows better than a check that could not."""
    silent = ClosedCase(Path(case.path), [case.findings[4]])
    splice = Offering("repair-splice", step("splice", loss=Loss.PROVEN))
    restore = Offering("repair-restore", step("restore", loss=Loss.SINCE_BACKUP))
    assert texts(planned(silent, restore, splice)) == [("repair-splice", ["splice"])]
    assert texts(planned(silent, restore)) == []


def test_a_repairer_that_is_left_out_is_not_asked(case: ClosedCase) -> None:
    """It has failed once."""

    def fails(_: RepairCase) -> None:
        raise AssertionError("asked")

    plan = planned(case, Offering("repair-a", plan=fails), Offering("repair-b", step("b", 0)), without=["repair-a"])
    assert (texts(plan), plan.faults) == ([("repair-b", ["b"])], ())


def _endless(_: RepairCase) -> Iterable[RepairStep]:
    while True:
        yield step("again", 0)


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        (lambda _: 1 // 0, "ZeroDivisionError"),
        (lambda _: None, "TypeError"),
        (lambda _: ["a step"], "a step that is a str"),
        (lambda _: [step("too far", 9)], "findings which there are not"),
        (lambda _: [step("no loss", 0, loss=17)], "ValueError"),  # type: ignore[arg-type]
        (_endless, "more than"),
    ],
)
def test_a_repairer_that_cannot_plan_is_told_of_and_hinders_nobody(
    case: ClosedCase, plan: Callable[[RepairCase], Any], fault: str
) -> None:
    """Whatever it returns or raises, the others' steps are taken."""
    made = planned(case, Offering("repair-a", plan=plan), Offering("repair-b", step("b", 0)))
    assert texts(made) == [("repair-b", ["b"])]
    (said,) = made.faults
    assert said.startswith("repair-a could not plan: ") and fault in said


class Explaining(Offering):
    """A repairer that says why it offers nothing."""

    def why_not(self, case: RepairCase) -> str:
        """Say it."""
        return f"{len(case.findings)} are too many"


def test_why_a_repairer_offers_nothing_is_told(case: ClosedCase) -> None:
    """Where it says so; one that offers something is not asked."""
    plan = planned(case, Explaining("repair-a"), Explaining("repair-b", step("b", 0)), Offering("repair-c"))
    assert plan.reasons == ("repair-a: 5 are too many",)
