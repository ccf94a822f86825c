"""The rounds of a repair on its private copy: plan, work, judge, until the copy is sound or nobody can do more.

1. The copy is made of the raw files. What the plan has for the log is done first, and alone; then, and before anything
   else, SQLite brings log or journal into the copy's file, and a new check shows what is left.
2. Each repairer works in a process of its own. One that fails is left out from then on; then the copy, whatever became
   of it, is made anew, and so is what was cut out of it. One that mended nothing of what it said is not asked again,
   and what it was to do is not told as done.
3. Where the structure is damaged, what rows say of other rows is judged on the copy: by then it can be read.
4. The last word is a deep check. It knows no backup, so what only a comparison with one has shown must have been mended
   by a step that said so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.check import CheckRequest, run_check
from pagewarden.contracts import Loss, RepairCase, Repairer, RepairHistory, RepairStep, Stage
from pagewarden.contracts.checking import is_relational
from pagewarden.deadline import answered_in_time
from pagewarden.errors import DatabaseUnreadable, NotADatabase, PagewardenError, RepositoryDamaged
from pagewarden.repair.cutouts import discard_cutouts
from pagewarden.repair.history import History, open_history
from pagewarden.repair.isolate import Place, RepairerFailed, apply, do
from pagewarden.repair.tainted import COMPARING
from pagewarden.repair.work import Work, remove_empty_companions
from pagewarden.restore.hold import filled_companions
from pagewarden.values import CheckerResult, CheckReport, Finding, Level, Severity, Verdict

if TYPE_CHECKING:
    from pagewarden.repair.planner import Plan
    from pagewarden.repair.reports import PlannedRepair
    from pagewarden.repair.request import RepairRequest
    from pagewarden.runtime import Runtime

ROUNDS = 6
"""How often at the most the copy is planned for and judged again."""

_UNSOUND = "the repaired copy is not sound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is the same for all rounds of a repair."""

    request: RepairRequest
    runtime: Runtime
    path: str  # real path of the database
    work: Work
    entry: Path  # folder of the quarantine entry
    history: History | None
    deadline: float | None  # reading of the runtime's monotonic clock

    def remaining(self) -> float | None:
        """Return the seconds until the deadline, None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - self.runtime.monotonic())


@dataclass(slots=True, kw_only=True)
class Attempt:
    """What became of the copy."""

    planned: list[PlannedRepair] = field(default_factory=list)  # what was executed, in this order
    notes: dict[str, dict[str, int]] = field(default_factory=dict)  # the repairers' counts, by table
    replaced: bool = False  # whether the copy is another file, or lost its log
    proven: bool = False  # whether what was done last is proven to be what was committed
    settled: CheckReport | None = None  # of the copy, once a journal was played back: what there is to repair
    judged: CheckReport | None = None  # the last check of the copy
    why: str = ""  # why the copy does not count
    warnings: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether the copy may take the path."""
        return bool(self.planned) and not self.why


class Failed(Exception):
    """A repairer failed; the copy is worthless."""

    def __init__(self, repairer: str, why: str) -> None:
        super().__init__(f"{repairer} {why}")
        self.repairer = repairer


def check_or_say(
    path: str, runtime: Runtime, request: RepairRequest, *, level: Level, remaining: float | None, private: bool,
    only: Sequence[str] = (), until_damaged: bool = False,
) -> tuple[CheckReport, PagewardenError | None]:  # fmt: skip
    """Check a database, and make a report even of a file that nothing calls a database any more: its header may be all
    that it lost. Returns that refusal, too. A `private` copy is judged without a backup; `only` names checkers;
    `until_damaged` leaves out the relational ones where the others find damage.
    """
    asked = CheckRequest(
        database=path,
        level=level,
        max_time=None if remaining is None else max(remaining, 0.001),
        repository=None if private else request.repository,
        name=None if private else request.name,
        current=request.policy.assume_current,
        only=tuple(only),
        until_damaged=until_damaged,
    )
    try:
        return run_check(asked, runtime, private=private), None
    except (NotADatabase, DatabaseUnreadable) as error:
        refused = str(error.fields.get("sqlite", ""))
        if isinstance(error, DatabaseUnreadable) and not refused.startswith("SQLITE_CORRUPT"):
            raise
        return _unopenable(path, error), error


def is_well(report: CheckReport) -> bool:
    """Whether a check leaves nothing to repair."""
    return report.verdict is Verdict.SOUND and not _wrong(report)


def _wrong(report: CheckReport) -> list[Finding]:
    return [each for each in report.findings if each.severity is not Severity.NOTICE]


class Rounds:
    """All rounds of one repair."""

    def __init__(self, task: Task, found: CheckReport, plan: Plan | None) -> None:
        """`found` is what the check of the database saw, `plan` what is to be done about it, if that is known."""
        self._task = task
        self._found = found
        self._plan = plan
        self._opened = task.history  # as it is when the copy is made anew
        self._history: RepairHistory | None = task.history
        self._without: set[str] = set()
        self._warnings: list[str] = []
        checkers = task.runtime.extensions.checkers
        self._relational = {each.name for each in checkers if is_relational(each)}

    def run(self) -> Attempt:
        """Repair the copy; return what became of it. Raises OutOfSpace and what says that the repair cannot go on."""
        while True:
            attempt = Attempt()
            try:
                self._attempt(attempt)
            except Failed as failed:
                if self._has_gone_back(failed):
                    continue
                self._without.add(failed.repairer)
                self._plan = None  # that was made with it
                self._warnings.append(str(failed))
                self._task.runtime.emit("repair.failed", self._task.path, repairer=failed.repairer, why=str(failed))
                continue
            attempt.warnings = [*self._warnings, *attempt.warnings]
            return attempt

    def _has_gone_back(self, failed: Failed) -> bool:
        """Whether a repairer failed because a restore point is not whole, and an older one takes its place."""
        reason = failed.__cause__ and failed.__cause__.__cause__
        if not isinstance(reason, RepositoryDamaged) or self._opened is None:
            return False
        older = self._opened.without_broken()
        if older is None:
            return False
        self._warnings += [each for each in older.passed if each not in self._opened.passed]
        self._opened, self._plan = older, None
        return True

    def _attempt(self, attempt: Attempt) -> None:
        task = self._task
        task.work.renew()
        self._history = self._opened
        discard_cutouts(task.entry)
        report, plan = self._found, self._plan
        if Path(f"{task.work.copy}-journal").exists():
            self._settle()
            report = attempt.settled = self._check(Level.STANDARD, until_damaged=True)
            plan = None
        mended: set[Finding] = set()
        deep = False
        idle: set[str] = set()  # repairers that mended nothing
        for _ in range(ROUNDS):
            if is_well(report):
                break
            plan = plan or self._planned(report, idle)
            if not plan.repairs:
                break
            before, told = report, len(attempt.planned)
            done = self._execute(attempt, plan, before)
            claimed = _mended(done, before)
            mended |= claimed
            deep = claimed.issuperset(_wrong(before))  # if that is true, what comes now is the verdict
            # What rows say of other rows waits, but for what a step just said that it mends.
            early = self._relational.isdisjoint(finding.checker for finding in claimed)
            report = self._judged(attempt) if deep else self._check(Level.STANDARD, until_damaged=early)
            vain = _vain(plan, done, before, report)
            attempt.planned[told:] = (each for each in attempt.planned[told:] if each.repairer not in vain)
            attempt.warnings += (f"{name} mended nothing of the damage" for name, damage in vain.items() if damage)
            idle.update(vain)
            plan = None
        attempt.judged = report
        if not attempt.planned:
            damaged = idle and report.verdict is Verdict.DAMAGED
            attempt.why = "" if is_well(report) else _UNSOUND if damaged else "no repairer can help"
            return
        if report.verdict is not Verdict.DAMAGED and not deep:
            attempt.judged = report = self._judged(attempt)
        attempt.why = self._objection(report, mended)

    def _judged(self, attempt: Attempt) -> CheckReport:
        """Check the copy deeply, as it is to stand at the path."""
        if not attempt.proven:
            self._settle(stamp=True)
        return self._check(Level.DEEP)

    def _execute(self, attempt: Attempt, plan: Plan, report: CheckReport) -> list[RepairStep]:
        """Do what is planned, by stages; if something is to be done about the log, that alone. Returns the steps."""
        task, copy = self._task, self._task.work.copy
        log = any(step.stage is Stage.LOG for _, steps in plan.repairs for step in steps)
        if not log:
            self._settle()
        done: list[RepairStep] = []
        with self._case(report) as case:
            for stage in [Stage.LOG] if log else Stage:
                for repairer, steps in plan.repairs:
                    if chosen := tuple(step for step in steps if step.stage is stage):
                        self._apply(attempt, repairer, chosen, case)
                        done += chosen
                        if not log:
                            self._settle()
        self._settle()
        remove_empty_companions(copy)
        attempt.proven = all(step.loss is Loss.PROVEN for step in done)
        names = {repairer.name for repairer, steps in plan.repairs if any(step in done for step in steps)}
        attempt.planned += (each for each in plan.planned if each.repairer in names)
        if any(step.sets_log_aside for step in done) and task.request.repository is not None:
            self._history = answered_in_time(
                partial(
                    open_history, task.request, task.runtime, task.path, findings=self._found.findings,
                    log_set_aside=True,
                ),
                task.request.repository,
                seconds=task.remaining(),
            )  # fmt: skip
        task.runtime.emit("repair.round", task.path, steps=[step.text for step in done])
        return done

    def _apply(self, attempt: Attempt, repairer: Repairer, steps: Sequence[RepairStep], case: RepairCase) -> None:
        runtime = self._task.runtime
        began = runtime.monotonic()
        place = self._place(attempt, repairer.name)
        try:
            apply(repairer, runtime.extensions.repairer_home(repairer.name), steps, case, place)
        except RepairerFailed as error:
            raise Failed(repairer.name, str(error)) from error
        took = runtime.monotonic() - began
        runtime.emit("repair.repaired", self._task.path, took, repairer=repairer.name, steps=len(steps))

    def _settle(self, *, stamp: bool = False) -> None:
        """Let the copy be one file, if it is not."""
        copy = self._task.work.copy
        if stamp or filled_companions(copy):
            self.do("settle", {"database": str(copy), "entry": str(self._task.entry), "stamp": stamp})

    def do(self, job: str, task: Mapping[str, str | bool]) -> object:
        """Do a job of the repair's own in a process. Raises what it raises, DatabaseUnreadable where it died."""
        try:
            return do(job, task, self._place(Attempt(), job))
        except RepairerFailed as error:
            raise DatabaseUnreadable(
                f"{self._task.path} could not be repaired: the process to {job} it {error}", hint="try again"
            ) from error

    def _place(self, attempt: Attempt, doing: str) -> Place:
        task = self._task

        def note(table: str, counts: Mapping[str, int]) -> None:
            noted = attempt.notes.setdefault(table, {})
            for name, count in counts.items():
                noted[name] = noted.get(name, 0) + count

        def replaced() -> None:
            attempt.replaced = True

        return Place(
            database=task.work.copy,
            scratch=task.work.scratch(),
            entry=task.entry,
            on_note=note,
            on_progress=partial(task.runtime.progress, doing),
            on_replaced=replaced,
            remaining=task.remaining,
        )

    def _planned(self, report: CheckReport, idle: Collection[str]) -> Plan:
        from pagewarden.repair.planner import make_plan

        task = self._task
        with self._case(report) as case:
            return make_plan(
                case,
                task.runtime.extensions.repairers,
                only_lossless=task.request.only_lossless,
                without=(*self._without, *idle),
            )

    @contextmanager
    def _case(self, report: CheckReport) -> Iterator[RepairCase]:
        from pagewarden.repair.case import open_case

        task = self._task
        with open_case(
            str(task.work.copy), task.runtime, report, request=task.request, history=self._history, origin=task.path
        ) as case:
            yield case

    def _check(self, level: Level, *, until_damaged: bool = False) -> CheckReport:
        task = self._task
        copy = task.work.copy
        report, _ = check_or_say(
            str(copy), task.runtime, task.request, level=level, remaining=task.remaining(), private=True,
            until_damaged=until_damaged,
        )  # fmt: skip
        remove_empty_companions(copy)
        return _about(report, str(copy), task.path)

    def _objection(self, report: CheckReport, mended: Collection[Finding]) -> str:
        """Return why the copy may not take the path, after all that was done; "" where it may."""
        if report.verdict is Verdict.DAMAGED:
            return _UNSOUND
        if report.verdict is Verdict.UNKNOWN:
            # What a checker cannot see here, it could not see before the damage either. One that failed may not have
            # seen what is wrong now.
            failed = [each for each in report.checkers if each.verdict is Verdict.UNKNOWN and each.failed]
            before = self._unjudged([each.name for each in failed])
            for each in failed:
                if (each.name, each.why) not in before:
                    return f"the repaired copy could not be judged: {each.name}: {each.why}"
        # A copy is judged without a backup, so that cannot be seen there any more.
        for finding in self._found.findings:
            compared = finding.checker == COMPARING and finding.severity is Severity.DAMAGE
            if compared and finding not in mended:
                return f"no step mends what the comparison with a backup has shown: {finding.message}"
        return ""

    def _unjudged(self, names: Sequence[str]) -> set[tuple[str, str]]:
        """Return which of these checkers could not judge the database as it was, with why."""
        task, found = self._task, self._found.checkers
        if late := self._relational.intersection(names).difference(each.name for each in found):
            task.work.keep_before()
            report, _ = check_or_say(
                str(task.work.before), task.runtime, task.request, level=Level.STANDARD, remaining=task.remaining(),
                private=True, only=sorted(late),
            )  # fmt: skip
            found += _about(report, str(task.work.before), task.path).checkers
        return {(each.name, each.why) for each in found if each.verdict is Verdict.UNKNOWN}


def _mended(steps: Sequence[RepairStep], report: CheckReport) -> set[Finding]:
    """Return the findings of `report` that one of `steps`, which were executed, says it mends."""
    if any(not step.mends for step in steps):
        return set(report.findings)
    places = {place for step in steps for place in step.mends}
    return {finding for place, finding in enumerate(report.findings) if place in places}


def _vain(plan: Plan, done: Sequence[RepairStep], before: CheckReport, after: CheckReport) -> dict[str, bool]:
    """Return the repairers all of whose steps in `done` were to mend findings that are all there `after`, as before.

    Each with whether there is damage among those, and not only what breaks a rule of the owner's. What only a
    comparison with a backup has shown cannot be there: a copy is judged without.
    """
    still = {_seen(finding) for finding in after.findings}
    names = {}
    for repairer, steps in plan.repairs:
        claimed = _mended([step for step in steps if step in done], before)
        if claimed and still.issuperset(map(_seen, claimed)):
            names[repairer.name] = any(finding.severity is Severity.DAMAGE for finding in claimed)
    return names


def _seen(finding: Finding) -> tuple[object, ...]:
    """Return what a finding says; its hint names the file, which is another one for a copy."""
    return finding.checker, finding.kind, finding.pgno, finding.object, finding.rowid, finding.message


def _about(report: CheckReport, copy: str, path: str) -> CheckReport:
    """Return the report of a private copy as one of the database: nobody will find the copy where it was."""

    def said(text: str) -> str:
        return text.replace(copy, path)

    return replace(
        report,
        database=path,
        checkers=tuple(replace(each, why=said(each.why)) for each in report.checkers),
        findings=tuple(
            replace(each, message=said(each.message), evidence=said(each.evidence), hint=said(each.hint))
            for each in report.findings
        ),
    )


def _unopenable(path: str, error: PagewardenError) -> CheckReport:
    """Return the report of a file that SQLite refuses, and that nothing calls a database."""
    finding = Finding(
        checker="open",
        kind="unopenable",
        severity=Severity.DAMAGE,
        pgno=1,
        message=f"sqlite cannot open it: {error.message}",
        evidence=error.message,
    )
    result = CheckerResult(name="open", verdict=Verdict.DAMAGED, seconds=0.0, findings=1, why="")
    return CheckReport(
        database=path,
        verdict=Verdict.DAMAGED,
        position=None,
        pages=0,
        page_size=0,
        bytes=0,
        seconds=0.0,
        checkers=(result,),
        findings=(finding,),
    )
