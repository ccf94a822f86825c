from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from pagewarden.check.outcome import MAX_FINDINGS, Collected, ContractBroken
from pagewarden.contracts import CheckOutcome
from pagewarden.values import Finding, Severity, Verdict
from tests.core.check.checkers import damage

VIOLATION = Finding(kind="foreign-key", severity=Severity.VIOLATION, message="a row names a row that is not there")


def collect(returned: object) -> Collected:
    """Collect what a checker returned."""
    collected = Collected()
    collected.add(returned)
    return collected


@pytest.mark.parametrize(
    ("returned", "verdict", "findings"),
    [
        ([], Verdict.SOUND, 0),
        ((damage(),), Verdict.DAMAGED, 1),
        ([VIOLATION], Verdict.SOUND, 1),
        (iter([VIOLATION, damage()]), Verdict.DAMAGED, 2),
        (CheckOutcome(), Verdict.SOUND, 0),
        (CheckOutcome(verdict=Verdict.UNKNOWN, why="no time"), Verdict.UNKNOWN, 0),
        (CheckOutcome(verdict=Verdict.DAMAGED), Verdict.DAMAGED, 0),
        (CheckOutcome(findings=(damage(),), verdict=Verdict.SOUND), Verdict.DAMAGED, 1),
    ],
)
def test_findings_make_the_verdict(returned: object, verdict: Verdict, findings: int) -> None:
    """Damage is damaged whatever the checker says; a violation changes nothing."""
    collected = collect(returned)
    assert (collected.judged, len(collected.findings)) == (verdict, findings)


def yields(last: object) -> Generator[Finding, None, object]:
    """Yield a violation, and return `last`."""
    yield VIOLATION
    return last


def test_a_generator_may_end_with_an_outcome() -> None:
    """What it yielded stays beside what the outcome says."""
    collected = collect(yields(CheckOutcome(findings=(damage(),), verdict=Verdict.UNKNOWN, why="no time")))
    assert [finding.kind for finding in collected.findings] == ["foreign-key", "zeroed-page"]
    assert (collected.judged, collected.why) == (Verdict.DAMAGED, "no time")
    with pytest.raises(ContractBroken, match=r"the generator of Checker\.check returned str"):
        collect(yields("ok"))


def broken(**fields: Any) -> list[Finding]:
    """Return a finding with fields that it must not have."""
    return [replace(damage(), **fields)]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "Checker.check returned NoneType, not findings"),
        ("ok", "Checker.check returned str"),
        (True, "Checker.check returned bool"),
        ([7], "reported a int, not a Finding"),
        (["ok"], "reported a str, not a Finding"),
        (CheckOutcome(findings=3), "CheckOutcome.findings is int"),  # type: ignore[arg-type]
        (CheckOutcome(verdict="sound"), "CheckOutcome.verdict is str"),  # type: ignore[arg-type]
        (CheckOutcome(why=None), "CheckOutcome.why is NoneType"),  # type: ignore[arg-type]
        (broken(severity="damage"), "Finding.severity is 'damage', not a Severity"),
        (broken(message=b"bytes"), "Finding.message is bytes"),
        (broken(evidence="x" * 5000), "Finding.evidence is 5000 characters"),
        (broken(kind=""), "no kind or no message"),
        (broken(message=""), "no kind or no message"),
        (broken(pgno=0), "Finding.pgno is 0"),
        (broken(pgno="7"), "Finding.pgno is '7'"),
        (broken(rowid=1 << 63), "Finding.rowid is 9223372036854775808"),
        (broken(rowid=True), "Finding.rowid is True"),
        (broken(object=3), "Finding.object is int"),
    ],
)
def test_what_breaks_the_contract_is_named(returned: object, message: str) -> None:
    """The message says which part of the contract."""
    with pytest.raises(ContractBroken, match=message.replace(".", r"\.")):
        collect(returned)


def test_what_was_found_before_an_error_stays() -> None:
    """A generator that fails in the midst has said what it has said."""

    def findings() -> Iterator[Finding]:
        yield damage()
        raise OSError("gone")

    collected = Collected()
    with pytest.raises(OSError):
        collected.add(findings())
    assert collected.judged is Verdict.DAMAGED


def test_a_generator_that_never_ends_ends() -> None:
    """Only so many findings are kept, and that is said."""

    def findings() -> Iterator[Finding]:
        while True:
            yield VIOLATION

    collected = collect(findings())
    assert len(collected.findings) == MAX_FINDINGS
    assert "more than 10000 findings" in collected.why


def test_a_reason_is_kept_beside_the_bound() -> None:
    """Both are told."""
    collected = collect(CheckOutcome(findings=(VIOLATION,) * (MAX_FINDINGS + 1), why="half of it"))
    assert collected.why == "half of it; it reported more than 10000 findings; the first 10000 are kept"
