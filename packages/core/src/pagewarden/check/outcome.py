"""What a checker returned, held against its contract: foreign code may return anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pagewarden.contracts import CheckOutcome
from pagewarden.values import Finding, Severity, Verdict

MAX_FINDINGS = 10_000
"""How many findings of one checker are kept; a generator that never ends must not fill the memory."""

_TEXTS = ("kind", "message", "evidence", "hint")
_MAX_TEXT = 4096


class ContractBroken(Exception):
    """A checker returned what `Checker.check` must not return; the message says what."""


class CheckerFailed(Exception):
    """A checker in a process of its own failed; the message is the clause that says how."""


@dataclass(slots=True)
class Collected:
    """What a checker has said so far; it stays when the checker fails in the midst of it."""

    findings: list[Finding] = field(default_factory=list)
    verdict: Verdict | None = None
    why: str = ""

    def add(self, returned: object) -> None:
        """Take what `Checker.check` returned. Raises ContractBroken, and what a generator raises."""
        if isinstance(returned, CheckOutcome):
            self._add_outcome(returned)
        elif isinstance(returned, Iterable) and not isinstance(returned, str | bytes):
            self._add_findings(returned)
        else:
            raise ContractBroken(f"Checker.check returned {type(returned).__name__}, not findings or a CheckOutcome")

    def _add_outcome(self, outcome: CheckOutcome) -> None:
        findings: object = outcome.findings
        verdict: object = outcome.verdict
        why: object = outcome.why
        if not isinstance(findings, Iterable):
            raise ContractBroken(f"CheckOutcome.findings is {type(findings).__name__}, not a tuple of findings")
        if not (verdict is None or isinstance(verdict, Verdict)):
            raise ContractBroken(f"CheckOutcome.verdict is {type(verdict).__name__}, not a Verdict")
        if not isinstance(why, str):
            raise ContractBroken(f"CheckOutcome.why is {type(why).__name__}, not a string")
        self._add_findings(findings)
        self.verdict = verdict
        self.why = "; ".join(filter(None, (why, self.why)))

    def _add_findings(self, findings: Iterable[object]) -> None:
        each = iter(findings)
        while True:
            try:
                finding = next(each)
            except StopIteration as end:
                last: object = end.value
                break
            if len(self.findings) >= MAX_FINDINGS:
                self.why = f"it reported more than {MAX_FINDINGS} findings; the first {MAX_FINDINGS} are kept"
                return
            self.findings.append(whole(finding))
        if isinstance(last, CheckOutcome):
            self._add_outcome(last)
        elif last is not None:
            raise ContractBroken(f"the generator of Checker.check returned {type(last).__name__}, not a CheckOutcome")

    @property
    def judged(self) -> Verdict:
        """The verdict: the checker's own, and `damaged` whatever it says where there is a finding of damage."""
        if any(finding.severity is Severity.DAMAGE for finding in self.findings):
            return Verdict.DAMAGED
        return self.verdict or Verdict.SOUND


def whole(finding: object) -> Finding:
    """Return `finding` if it is one, all its fields of their types; texts longer than a screen would be hostile.

    Raises ContractBroken.
    """
    if not isinstance(finding, Finding):
        raise ContractBroken(f"Checker.check reported a {type(finding).__name__}, not a Finding")
    for name in _TEXTS:
        text: object = getattr(finding, name)
        if not isinstance(text, str) or len(text) > _MAX_TEXT:
            what = f"{len(text)} characters" if isinstance(text, str) else type(text).__name__
            raise ContractBroken(f"Finding.{name} is {what}, not a string of at most {_MAX_TEXT}")
    severity: object = finding.severity
    if not isinstance(severity, Severity):
        raise ContractBroken(f"Finding.severity is {severity!r}, not a Severity")
    if not finding.kind or not finding.message:
        raise ContractBroken("a Finding has no kind or no message")
    for name, least in (("pgno", 1), ("rowid", -(1 << 63))):
        number: object = getattr(finding, name)
        if number is not None and (type(number) is not int or not least <= number < 1 << 63):
            raise ContractBroken(f"Finding.{name} is {number!r}, not a number from {least}")
    owner: object = finding.object
    if not (owner is None or isinstance(owner, str)):
        raise ContractBroken(f"Finding.object is {type(owner).__name__}, not a name")
    return finding
