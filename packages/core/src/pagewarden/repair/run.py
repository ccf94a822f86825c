"""The `repair` verb: what is damaged is mended on a copy, by a plan that is shown first.

`repair` works on a copy, shows its plan first, never loses a row that was readable before, and keeps the original.

1. The database is checked as `check` does, diagnosed, and a plan is made. Without `apply` that is all, and no byte is
   changed.
2. Nobody may have it open. A process without SQLite takes SQLite's EXCLUSIVE lock, and keeps it until after the
   exchange. Nothing plays a journal back or checkpoints a log on the original: both may be what is damaged.
3. An entry is begun in the quarantine; from here on a kill is gone back from by whatever verb comes next (H30).
4. The raw files are copied; the copy is repaired in rounds (attempt.py) and judged by a deep check.
5. What could be read before is compared with what stands there now (compare.py).
6. The copy takes the path as a restored file does (restore/swap.py, H25), and `undo` takes that back. With `output` it
   takes that path instead, and all of this leaves its traces there.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from pagewarden import durable, lineage
from pagewarden.contracts import Pattern
from pagewarden.contracts.checking import is_relational
from pagewarden.deadline import answered_in_time
from pagewarden.errors import DatabaseUnsettled, PagewardenError, RepairRefused, RepositoryDamaged
from pagewarden.holders import find_holders
from pagewarden.ledger.store import note_restore
from pagewarden.live import examine
from pagewarden.live.foreign import without_foreign_journal
from pagewarden.processes.lock import FileLock
from pagewarden.repair.advice import advise
from pagewarden.repair.attempt import Attempt, Rounds, Task, check_or_say, is_well
from pagewarden.repair.case import open_case
from pagewarden.repair.cutouts import discard_cutouts
from pagewarden.repair.filing import file_reports
from pagewarden.repair.history import History, open_history
from pagewarden.repair.planner import Plan, make_plan
from pagewarden.repair.reports import PlannedRepair, RepairedTable, RepairReport
from pagewarden.repair.request import RepairRequest
from pagewarden.repair.work import FilesState, Work, require_space
from pagewarden.restore.hold import Hold, Standing, filled_companions, give_ownership
from pagewarden.restore.plan import check_place
from pagewarden.restore.quarantine import Entry, Phase, Quarantine
from pagewarden.restore.swap import exchange, give_up, go_back, pending_intents, recover
from pagewarden.values import CheckReport, Level, Verdict

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime

_LOOKS = 3
"""How often the database is looked at again because it was written to before it could be locked."""


_PLAYED_BACK = "a transaction of its was cut; once its journal is played back, as its next program does, it is sound"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What was found out about the database as it stands."""

    state: FilesState  # before anything was looked at
    report: CheckReport
    refusal: PagewardenError | None  # why the check would have ended without a verdict
    history: History | None
    patterns: tuple[Pattern, ...]
    plan: Plan | None  # None: there is nothing to do, or it cannot be read now
    seconds_check: float
    seconds_diagnosis: float

    @property
    def planned(self) -> tuple[PlannedRepair, ...]:
        return () if self.plan is None else tuple(self.plan.planned)

    @property
    def passed(self) -> tuple[str, ...]:
        """Why newer restore points than the one that counts were passed over."""
        return () if self.history is None else self.history.passed

    @property
    def faults(self) -> tuple[str, ...]:
        return () if self.plan is None else tuple(self.plan.faults)


def run_repair(request: RepairRequest, runtime: Runtime) -> RepairReport:
    """Plan the repair of a database and, with `apply`, make it on a copy that takes its path if it is sound.

    Raises what a check raises, DatabaseBusy where a process has it open, RepairRefused and RestoreRefused for a path
    that must not be touched, RepositoryNotFound, RepositoryDamaged, OutOfSpace, TargetFailed. Whatever it raises, the
    database, its -wal and its -journal are as they were.
    """
    runtime.load_plugins()
    path = examine(request.database).path
    began, begun = runtime.monotonic(), runtime.clock()
    runtime.emit("repair.started", path, apply=request.apply)
    with ExitStack() as stack:
        run = _Run(request, runtime, path, began, stack)
        report = run.apply() if request.apply else run.plan()
    report = replace(report, seconds=runtime.monotonic() - began, begun=begun)
    report = replace(report, next=advise(report, request))
    if report.quarantine:
        file_reports(Path(report.quarantine), report)
    runtime.emit(
        "repair.finished",
        path,
        report.seconds,
        applied=report.applied,
        verdict=str(report.verdict_after or report.verdict_before),
    )
    return report


class _Run:
    """One repair under way."""

    def __init__(self, request: RepairRequest, runtime: Runtime, path: str, began: float, stack: ExitStack) -> None:
        self._request = request
        self._runtime = runtime
        self._path = path
        self._stack = stack  # closed at the end
        self._deadline = None if request.max_time is None else began + request.max_time
        self._output = None if request.output is None else Path(os.path.realpath(request.output))
        self._place = Path(path) if self._output is None else self._output

    def plan(self) -> RepairReport:
        """Say what would be done."""
        look = self._look()
        warnings = []
        if pending_intents(self._place):
            warnings.append(f"a restore, repair or undo of {self._place} was cut, or is under way")
        return self._report(look, warnings=tuple(warnings))

    def apply(self) -> RepairReport:
        """Do it."""
        if self._output is not None and os.path.lexists(self._output):
            raise RepairRefused(f"{self._output} is there already", hint="give --output a path that is not there yet")
        with Quarantine(path=self._place).lock() as quarantine:
            recover(quarantine)
            check_place(self._place)
            for _ in range(_LOOKS):
                find_holders(self._path).refuse("repair", forcible=False)
                look = self._look(until_damaged=True)
                if look.plan is not None and not look.plan.repairs and self._left_out(look.report):
                    look = self._look()  # all that can be said of it, for the report
                if look.plan is None and not self._waits(look):
                    return self._report(look)
                if self._waits(look) and (foreign := without_foreign_journal(self._runtime.reader, self._path)):
                    raise foreign  # played back, it would leave nothing of the copy
                if look.plan is not None and not look.plan.repairs:
                    return self._report(look)
                require_space(self._place.parent, look.state)
                with FileLock(self._path) as lock:
                    if FilesState.of(self._path) == look.state:
                        return self._execute(look, quarantine, lock)
        raise DatabaseUnsettled(
            f"{self._path} was written to each time before it could be locked", hint="end the programs that use it"
        )

    def _waits(self, look: _Look) -> bool:
        """Whether nothing can be said of it before its journal was played back, which is done on the copy."""
        return not look.report.pages and not is_well(look.report) and os.path.lexists(f"{self._path}-journal")

    def _left_out(self, report: CheckReport) -> bool:
        """Whether a check saw damage before it called all that it would have called."""
        called = {each.name for each in report.checkers}
        return any(is_relational(each) and each.name not in called for each in self._runtime.extensions.checkers)

    def _look(self, *, until_damaged: bool = False) -> _Look:
        """Check, diagnose and plan, changing nothing; `until_damaged` leaves what rows say of others to the copy."""
        runtime, request, path = self._runtime, self._request, self._path
        clock, began, state = runtime.monotonic, runtime.monotonic(), FilesState.of(self._path)
        report, refusal = check_or_say(
            path, runtime, request, level=Level.STANDARD, remaining=self._remaining(), private=False,
            until_damaged=until_damaged,
        )  # fmt: skip
        checked = clock()
        history: History | None = None
        patterns: tuple[Pattern, ...] = ()
        plan: Plan | None = None
        if not is_well(report) and (report.pages or report.findings):
            history, patterns, plan = self._diagnose(report)
        if refusal is not None and not (plan and plan.repairs):
            raise refusal
        steps = [step for each in plan.planned for step in each.steps] if plan is not None else []
        runtime.emit("repair.planned", path, clock() - checked, steps=steps)
        return _Look(
            state=state,
            report=report,
            refusal=refusal,
            history=history,
            patterns=patterns,
            plan=plan,
            seconds_check=checked - began,
            seconds_diagnosis=clock() - checked,
        )

    def _diagnose(self, report: CheckReport) -> tuple[History | None, tuple[Pattern, ...], Plan]:
        """Say what happened and what is to be done, by the newest restore point that proves to be whole."""
        runtime, request, path = self._runtime, self._request, self._path
        history = answered_in_time(
            partial(open_history, request, runtime, path, findings=report.findings),
            str(request.repository),
            seconds=self._remaining(),
        )
        while True:
            if history is not None:
                self._stack.callback(history.close)
            try:
                with open_case(path, runtime, report, request=request, history=history) as case:
                    patterns = tuple(case.patterns)
                    plan = make_plan(case, runtime.extensions.repairers, only_lossless=request.only_lossless)
                older = None if history is None or not plan.faults else history.without_broken()
            except RepositoryDamaged:
                older = None if history is None else history.without_broken()
                if older is None:
                    raise
            if older is None:
                return history, patterns, plan
            history = older

    def _execute(self, look: _Look, quarantine: Quarantine, lock: FileLock) -> RepairReport:
        """Repair the copy of the locked database, and let it take the path."""
        runtime, clock = self._runtime, self._runtime.monotonic
        before = lineage.read_lineage(runtime.state, str(self._place))
        try:
            entry = quarantine.begin(begun=runtime.clock(), origin=None, lineage_before=before)
        except OSError as error:
            raise durable.failure(error, f"cannot begin to repair {self._path}") from error
        began = clock()
        try:
            task = Task(
                request=self._request,
                runtime=runtime,
                path=self._path,
                work=Work(quarantine.work_of(entry), self._path, runtime),
                entry=quarantine.folder_of(entry),
                history=look.history,
                deadline=self._deadline,
            )
            rounds = Rounds(task, look.report, look.plan)
            attempt = rounds.run()
            tables: tuple[RepairedTable, ...] = ()
            hold = None
            if attempt.sound:
                try:
                    tables, hold = self._compare(attempt, rounds, task, quarantine)
                except RepairRefused as refused:
                    attempt.why = refused.message
            judging = 0.0 if attempt.judged is None else attempt.judged.seconds
            report = replace(
                self._report(look, attempt),
                tables=tables,
                quarantine=str(task.entry),
                seconds_judging=judging,
                seconds_repair=clock() - began - judging,
            )
            if not attempt.planned and not attempt.warnings:
                quarantine.remove(entry)
                return replace(report, quarantine="", why=attempt.why or _PLAYED_BACK)
            if hold is None:
                return self._abandon(report, quarantine, entry)
            assert attempt.judged is not None
            report = replace(report, verdict_after=attempt.judged.verdict)
            return self._take(report, hold, quarantine, entry, lock, look.state, task.work)
        except BaseException as error:
            writing = [each for each in pending_intents(self._place) if each.phase is Phase.WRITING]
            give_up(error, f"cannot repair {self._path}", partial(go_back, quarantine, entry) if writing else None)
            raise

    def _compare(
        self, attempt: Attempt, rounds: Rounds, task: Task, quarantine: Quarantine
    ) -> tuple[tuple[RepairedTable, ...], Hold]:
        """Compare what could be read before with the copy. Returns the tables, and how the database is to be replaced.

        Raises RepairRefused for a row that is gone and may not be.
        """
        work, still = task.work, not filled_companions(Path(self._path))
        if not still:
            work.keep_before()
        answer: Any = rounds.do(
            "compare",
            {
                "before": self._path if still else str(work.before),  # nobody writes to it: it is locked
                "still": still,
                "after": str(work.copy),
                "entry": str(task.entry),
                "notes": cast("Any", attempt.notes),
                "proven": attempt.proven,
                "replaced": attempt.replaced,
            },
        )
        tables = msgspec.convert(answer["tables"], tuple[RepairedTable, ...])
        if self._output is not None:
            return tables, Hold(path=self._place, standing=Standing.NOTHING)
        if not filled_companions(self._place):
            return tables, Hold(path=self._place, standing=Standing.ALONE)
        if not answer["whole"]:
            return tables, Hold(path=self._place, standing=Standing.RAW)
        durable.replace(work.before, quarantine.settled)
        give_ownership(self._place, quarantine.settled)
        return tables, Hold(path=self._place, standing=Standing.RAW, settled=quarantine.settled)

    def _take(
        self,
        report: RepairReport,
        hold: Hold,
        quarantine: Quarantine,
        entry: Entry,
        lock: FileLock,
        state: FilesState,
        work: Work,
    ) -> RepairReport:
        """Let the repaired copy take the path."""
        place = self._place
        durable.replace(work.copy, quarantine.new)
        if self._output is None:
            give_ownership(place, quarantine.new)
        report = replace(report, applied=True, undo=shlex.join(["pagewarden", "undo", str(place)]))
        file_reports(Path(report.quarantine), report)  # before: a kill after the exchange must not leave none
        lock.check()
        if FilesState.of(self._path) != state:
            raise DatabaseUnsettled(f"{self._path} was written to while it was locked", hint="look what does that")
        with ExitStack() as stack:
            if hold.settled is not None:
                stack.enter_context(FileLock(str(hold.settled)))  # it stands at the path for a moment
            entry, late = exchange(quarantine, entry, quarantine.new, hold, phase=Phase.SWAPPING, force=False)
        warnings = [*report.warnings, *late]
        try:
            quarantine.clean(entry)
        except OSError as error:
            warnings.append(f"what the repair worked with is still in {quarantine.work_of(entry)}: {error}")
        if self._output is None:
            warnings.append(note_restore(self._runtime.state, str(place), self._runtime.clock()))
        return replace(report, warnings=tuple(filter(None, warnings)))

    def _abandon(self, report: RepairReport, quarantine: Quarantine, entry: Entry) -> RepairReport:
        """Leave the database as it is, and of the entry the reports."""
        discard_cutouts(quarantine.folder_of(entry))
        quarantine.clean(entry)
        file_reports(Path(report.quarantine), report)
        quarantine.advance(entry, Phase.ABANDONED)
        return report

    def _report(self, look: _Look, attempt: Attempt | None = None, warnings: Sequence[str] = ()) -> RepairReport:
        """Return the report of what was found out, and of what became of the copy, before it takes the path."""
        attempt = attempt or Attempt(why=_why_no_plan(look))
        check = attempt.settled or look.report
        return RepairReport(
            database=self._path,
            applied=False,
            verdict_before=check.verdict,
            verdict_after=None,
            patterns=look.patterns,
            plan=tuple(attempt.planned) or look.planned,
            tables=(),
            undo="",
            seconds=0.0,
            why=attempt.why,
            output=None if self._output is None else str(self._output),
            position=look.report.position,
            check=check,
            judged=attempt.judged,
            seconds_check=look.seconds_check,
            seconds_diagnosis=look.seconds_diagnosis,
            warnings=(*look.passed, *look.faults, *attempt.warnings, *warnings),
        )

    def _remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - self._runtime.monotonic())


def _why_no_plan(look: _Look) -> str:
    """Say why there is nothing to be done about a database that is not well."""
    if is_well(look.report):
        return ""
    unknown = [f"{each.name}: {each.why}" for each in look.report.checkers if each.verdict is Verdict.UNKNOWN]
    if not look.report.findings and unknown:
        history = look.history
        more = f"; {history.why}" if history is not None and history.present is None else ""
        return f"it could not be judged: {unknown[0]}{more}"
    if look.plan is None or not look.plan.repairs:
        return "; ".join(look.plan.reasons if look.plan is not None else ()) or "no repairer can help"
    return ""
