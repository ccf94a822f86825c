"""One checker of a run: its calls, each in a thread under the run's deadline, and what became of them.

1. It is called. If it asks for pages, it is called again with a commit attached, and again where that moved, or where
   it was lost with a page reader that another checker's pages had killed.
2. What it returned is held against its contract. What it raised, and a deadline, make its verdict `unknown`; findings
   that it had reported until then stay. Where a deadline cut it, it may have closed a circle (ledger/circle.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from pagewarden.check.outcome import CheckerFailed, Collected, ContractBroken
from pagewarden.check.source import MakeImage, Source
from pagewarden.check.subject import CheckSubject
from pagewarden.contracts import Baseline, Checker, FileFacts
from pagewarden.deadline import Ended, call_with_deadline
from pagewarden.errors import PagewardenError, ReaderCrashed
from pagewarden.ledger.circle import Arc, Circle, extended
from pagewarden.processes.reader import Attachment
from pagewarden.values import CheckerResult, Finding, Level, Verdict

if TYPE_CHECKING:
    from pagewarden.check.isolate import IsolatedChecker
    from pagewarden.runtime import Runtime

_LOST = 3
"""How often a checker begins again because another one's pages killed the page reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What became of one checker."""

    result: CheckerResult
    findings: tuple[Finding, ...]
    resume: str | None = None  # where its next run begins; "" at the beginning, None where this run does not say
    circle: Circle | None = None  # what runs that were cut short judged until now; stands where `resume` says something


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is the same for all checkers of a run."""

    path: str
    level: Level
    assertions: Sequence[str]
    source: Source
    baseline: Callable[[Attachment | None], Baseline | None]
    of: str  # which file is judged, and how
    began: datetime
    opening: float  # seconds that were over when the database was open
    resume: Callable[[str], str]  # where the checker of a name was stopped in the last run
    circle: Callable[[str], Circle | None]  # what runs of it that were cut short judged until now
    max_time: float | None  # seconds for the whole run
    deadline: float | None  # reading of the runtime's monotonic clock
    runtime: Runtime

    def remaining(self) -> float | None:
        """Return the seconds until the deadline, None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - self.runtime.monotonic())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One call of the checker."""

    ended: Ended[None]
    collected: Collected
    image_wanted: bool


class CheckerRun:
    """One checker under way. `judge` is called once, in a thread of its own; `interrupt` by any other."""

    def __init__(self, checker: Checker, task: Task) -> None:
        self.name = checker.name
        self._checker = checker
        self._isolated: IsolatedChecker | None = None
        home = task.runtime.extensions.home(checker.name)
        if home is not None:
            from pagewarden.check.isolate import IsolatedChecker

            self._checker = self._isolated = IsolatedChecker(checker, home)
        self._task = task
        self._subject: CheckSubject | None = None
        self._interrupted = False
        self._arc = Arc()
        self._whole_only = str(getattr(checker, "whole_only", ""))

    def judge(self) -> Judged:
        """Let the checker judge."""
        clock = self._task.runtime.monotonic
        began = clock()
        if self._task.remaining() == 0:
            return judged(self.name, Collected(), self._no_time(), 0.0)
        attempts: list[_Attempt] = []

        def call(make: MakeImage | None, facts: FileFacts | None, attachment: Attachment | None) -> None:
            attempts.append(self._attempt(make, facts, attachment))
            error = attempts[-1].ended.error
            if isinstance(error, ReaderCrashed):
                raise error  # whether the commit held still cannot be asked any more, and need not be

        try:
            refusal = self._call(call, attempts)
        finally:
            if self._isolated is not None:
                self._isolated.close()
        attempt = attempts[-1]
        if refusal and not attempt.ended.late:
            return judged(self.name, Collected(), refusal, clock() - began)
        why = self._failure(attempt.ended)
        seconds = clock() - began
        if not attempt.ended.late:
            return judged(self.name, attempt.collected, why, seconds, "")
        return self._cut(judged(self.name, attempt.collected, why, seconds, self._arc.place), attempt)

    def _cut(self, said: Judged, attempt: _Attempt) -> Judged:
        """Add what a call that was cut short judged to what earlier ones did."""
        arc = self._arc
        if attempt.ended.abandoned or arc.place is None or arc.apart:
            return said
        before = self._task.circle(self.name)
        circle = extended(
            before,
            arc,
            of=self._task.of,
            began=self._task.began,
            verdict=attempt.collected.judged,
            findings=len(said.findings),
        )
        if circle.runs == 1:
            return replace(said, circle=circle)
        told = circle.told(self._whole_only)
        if circle.closed:
            why, verdict = f"{told}; the next round begins where this run was stopped", circle.verdict
        else:
            why, verdict = f"{said.result.why}; {told}", Verdict.worst([said.result.verdict, circle.verdict])
        result = replace(said.result, verdict=verdict, why=why)
        return replace(said, result=result, circle=None if circle.closed else circle)

    def interrupt(self) -> None:
        """Stop the checker, because the run was: what it is doing, and what it would begin."""
        self._interrupted = True
        if self._subject is not None:
            self._subject.interrupt()

    def _call(
        self, call: Callable[[MakeImage | None, FileFacts | None, Attachment | None], None], attempts: list[_Attempt]
    ) -> str:
        """Call without pages, and then with them as often as it takes; return why that cannot be done, if so."""
        pages, left = False, _LOST
        while True:
            try:
                if not pages:
                    call(None, None, None)
                    pages = attempts[-1].image_wanted
                if pages:
                    self._task.source.with_image(call)
                return ""
            except PagewardenError as error:  # no commit could be attached, or none that held still
                if not left or not error.fields.get("lost") or attempts[-1].ended.late:
                    return say(error)
                left -= 1

    def _attempt(self, make: MakeImage | None, facts: FileFacts | None, attachment: Attachment | None) -> _Attempt:
        """Call the checker once, in a thread of its own."""
        task, name = self._task, self.name
        arc = self._arc = Arc()  # a call that begins again covers nothing yet
        subject = self._subject = CheckSubject(
            path=task.path,
            level=task.level,
            door=lambda copy: task.source.door(copy=copy),
            baseline=lambda: task.baseline(attachment),
            progress=self._progress,
            reached=arc.reached,
            resume=lambda: task.resume(name),
            assertions=task.assertions,
            image=make,
            facts=facts,
        )
        if self._interrupted:
            subject.interrupt()
        collected = Collected()

        def work() -> None:
            try:
                collected.add(self._checker.check(subject))
            finally:
                subject.close()

        ended = call_with_deadline(
            work,
            name=name,
            seconds=task.remaining(),
            interrupt=subject.interrupt,
            monotonic=task.runtime.monotonic,
        )
        if ended.abandoned:
            task.runtime.reader.kill()  # a call of its that hangs there would hold up everybody else's
            task.runtime.reader.close()
        return _Attempt(ended=ended, collected=collected, image_wanted=subject.image_wanted and make is None)

    def _progress(self, done: int, total: int) -> None:
        self._arc.progress(done, total)
        self._task.runtime.progress(self.name, done, total)

    def _failure(self, ended: Ended[None]) -> str:
        """Say why a call does not count as a judgement; "" if it does."""
        if ended.late:
            return self._stopped(ended)
        error = ended.error
        if error is None:
            return ""
        if isinstance(error, ContractBroken):
            return f"{self.name} broke its contract: {error}"
        if isinstance(error, PagewardenError):
            return say(error)
        text = " ".join(str(error).split())
        if isinstance(error, CheckerFailed):
            return f"{self.name} {text}"
        return f"{self.name} failed: {type(error).__name__}" + (f": {text}" if text else "")

    def _stopped(self, ended: Ended[None]) -> str:
        """Say that the time was over, how far the checker was, and whether the next run goes on from there."""
        seconds = f"the {self._task.max_time:g} s were over"
        if ended.abandoned:
            return f"{self.name} did not end when {seconds}, and was abandoned"
        done, total = self._arc.last
        far = f", at {done} of {total}" if done and total else ""
        resumed = "; the next run begins there" if self._arc.place else ""
        return f"{self.name} was stopped when {seconds}{far}{resumed}"

    def _no_time(self) -> str:
        """Say that nothing could begin, and what time would do."""
        opening = self._task.opening
        least = math.ceil(20 * opening) / 10  # twice as long, in tenths of a second
        return (
            f"no time was left of {self._task.max_time:g} s: opening took {opening:.2g} s"
            f" (hint: --max-time {least:g} or more)"
        )


def judged(name: str, collected: Collected, why: str, seconds: float, resume: str | None = None) -> Judged:
    """Put together what a checker said and how its call ended."""
    verdict = Verdict.worst([collected.judged, Verdict.UNKNOWN]) if why else collected.judged
    findings = tuple(replace(finding, checker=name) for finding in collected.findings)
    result = CheckerResult(
        name=name,
        verdict=verdict,
        seconds=seconds,
        findings=len(findings),
        why="; ".join(filter(None, (why, collected.why))),
        failed=bool(why),
    )
    return Judged(result=result, findings=findings, resume=resume)


def say(error: PagewardenError) -> str:
    """Return an error with its hint: a result has only one sentence for both."""
    return f"{error.message} (hint: {error.hint})" if error.hint else error.message
