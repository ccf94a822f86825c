"""One check: the checkers, one after the other, each in a thread of its own under the run's deadline.

1. The database is looked at by `stat`, then its first commit is attached and let go: what it is decides how checkers
   see it (source.py). What cannot be judged now or here, because it is locked, waits for its journal or lies where
   SQLite can make no -shm, is `unknown`: that is said once, and no checker is called.
2. Each checker is called. If it asks for pages, it is called again with a commit attached, and again where that moved.
3. What it returned is held against its contract. What it raised, and a deadline, make its verdict `unknown`; findings
   that it had reported until then stay.
4. Findings get names and hints; the run's verdict is the worst one; notifiers are told unless it is sound.

Nothing here writes to the database, its -wal or its -journal. SQLite itself leaves an empty -wal and a -shm beside a
WAL database that nobody had open (H33).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagewarden.check.baseline import Baselines
from pagewarden.check.outcome import Collected, ContractBroken
from pagewarden.check.source import BrokenSource, MakeImage, Source, open_source
from pagewarden.check.subject import CheckSubject, DeadlinePassed
from pagewarden.contracts import Baseline, Checker, FileFacts, Notice
from pagewarden.deadline import Ended, call_with_deadline
from pagewarden.errors import DatabaseBusy, DatabaseUnreadable, DatabaseUnsettled, PagewardenError, PluginUnusable
from pagewarden.live import Place, examine
from pagewarden.live.connection import lacks_companion
from pagewarden.processes.reader import Attachment
from pagewarden.values import CheckerResult, CheckReport, Finding, Level, Severity, Verdict

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime

OPENING = "open"
"""The name under which the run itself reports that a database cannot be opened, or not now."""

NOT_RUN = "not run"
"""Why a checker says nothing of a database that cannot be opened now; why it cannot be is said once, by the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What to judge, and how."""

    database: str  # path
    level: Level = Level.STANDARD
    only: tuple[str, ...] = ()  # names of checkers, whatever their level; empty: all that the level includes
    max_time: float | None = None  # seconds for the whole run; None: as long as it takes
    repository: str | None = None  # URL; its newest snapshot is the baseline
    baseline: str | None = None  # path of a snapshot that the owner declares current
    name: str | None = None  # of the database in the repository; None: its file name
    assertions: tuple[str, ...] = ()  # the owner's statements, each of which must hold


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One call of one checker."""

    ended: Ended[None]
    collected: Collected
    image_wanted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What became of one checker."""

    result: CheckerResult
    findings: tuple[Finding, ...]


def run_check(request: CheckRequest, runtime: Runtime) -> CheckReport:
    """Judge a database. Changes no byte of it, of its -wal or of its -journal.

    Raises DatabaseNotFound, DatabaseUnreadable, NotADatabase, PluginUnusable for a checker that is not there,
    ConfigurationInvalid for a baseline that is no page set, RepositoryDamaged for a damaged one. A database that is
    locked, unsettled, or lies where SQLite can make no -shm is no error: the verdict is `unknown`.
    """
    started = runtime.monotonic()
    checkers = choose_checkers(runtime, request)
    place = examine(request.database)
    path = place.path
    runtime.emit("check.started", path, level=str(request.level), checkers=[checker.name for checker in checkers])
    run = _Run(request, runtime, place, started)
    report = run.judge(checkers)
    runtime.emit("check.finished", path, report.seconds, verdict=str(report.verdict), findings=len(report.findings))
    if report.verdict is not Verdict.SOUND and runtime.extensions.notifiers:
        runtime.extensions.notify(_notice(report, runtime))
    return report


def choose_checkers(runtime: Runtime, request: CheckRequest) -> tuple[Checker, ...]:
    """Return the checkers of the run, cheap ones first. Raises PluginUnusable for a name that no checker has."""
    known = {checker.name: checker for checker in runtime.extensions.checkers}
    for name in request.only:
        if name not in known:
            fault = next((fault for fault in runtime.extensions.faults if fault.startswith(f"plugin {name}: ")), "")
            why = f": {fault}" if fault else f"; there are {', '.join(sorted(known)) or 'none'}"
            raise PluginUnusable(f"there is no checker {name}{why}", hint="pagewarden plugins")
    if request.only:
        chosen = [known[name] for name in dict.fromkeys(request.only)]
    else:
        chosen = [checker for checker in known.values() if request.level.includes(checker.level)]
    return tuple(sorted(chosen, key=lambda checker: (list(Level).index(checker.level), checker.name)))


class _Run:
    """One check under way."""

    def __init__(self, request: CheckRequest, runtime: Runtime, place: Place, started: float) -> None:
        self._request = request
        self._runtime = runtime
        self._place = place
        self._path = place.path
        self._started = started
        self._deadline = None if request.max_time is None else started + request.max_time
        self._baselines = Baselines(
            runtime, path=place.path, file=request.baseline, repository=request.repository, name=request.name
        )

    def judge(self, checkers: Sequence[Checker]) -> CheckReport:
        """Let all checkers judge, and make one report of it."""
        try:
            source = open_source(
                self._path, self._runtime, self._deadline, lambda: self._baselines.page_size, lambda *_, **__: None
            )
        except (DatabaseBusy, DatabaseUnsettled, DatabaseUnreadable) as error:
            if isinstance(error, DatabaseUnreadable) and not lacks_companion(error):
                raise
            reason = self._judged(OPENING, Collected(), _say(error), 0.0)
            return self._report(None, [reason, *(self._unjudged(checker, NOT_RUN) for checker in checkers)])
        try:
            judged = [self._refused(source)] if isinstance(source, BrokenSource) else []
            judged += [self._one(checker, source) for checker in checkers]
            if self._place.frozen and not self._place.unchanged():
                thawed = f"the file system of {self._path} can be written to since it was opened (hint: try again)"
                judged.append(self._judged(OPENING, Collected(), thawed, 0.0))
            return self._report(source, judged)
        finally:
            source.close()

    def _baseline_page_size(self) -> int | None:
        return self._baselines.page_size

    def _one(self, checker: Checker, source: Source) -> _Judged:
        """Let one checker judge."""
        began = self._runtime.monotonic()
        if self._remaining() == 0:
            return self._unjudged(checker, f"no time was left of {self._request.max_time:g} s")
        attempts: list[_Attempt] = []

        def call(make: MakeImage | None, facts: FileFacts | None, attachment: Attachment | None) -> None:
            attempts.append(self._attempt(checker, source, make, facts, attachment))

        refusal = ""
        call(None, None, None)
        if attempts[-1].image_wanted:
            try:
                source.with_image(call)
            except PagewardenError as error:  # no commit could be attached, or none that held still
                refusal = _say(error)
        attempt = attempts[-1]
        if refusal and not attempt.ended.late:
            return self._judged(checker.name, Collected(), refusal, self._runtime.monotonic() - began)
        collected, why = attempt.collected, self._failure(checker, attempt.ended)
        return self._judged(checker.name, collected, why, self._runtime.monotonic() - began)

    def _attempt(
        self,
        checker: Checker,
        source: Source,
        make: MakeImage | None,
        facts: FileFacts | None,
        attachment: Attachment | None,
    ) -> _Attempt:
        """Call a checker once, in a thread of its own."""

        def baseline() -> Baseline | None:
            return self._baselines.at(attachment)

        subject = CheckSubject(
            path=self._path,
            level=self._request.level,
            door=lambda copy: source.door(copy=copy),
            baseline=baseline,
            progress=lambda done, total: self._runtime.progress(checker.name, done, total),
            reached=lambda _: None,
            assertions=self._request.assertions,
            image=make,
            facts=facts,
        )
        collected = Collected()

        def work() -> None:
            try:
                collected.add(checker.check(subject))
            finally:
                subject.close()

        ended = call_with_deadline(
            work,
            name=checker.name,
            seconds=self._remaining(),
            interrupt=subject.interrupt,
            monotonic=self._runtime.monotonic,
        )
        if ended.abandoned:
            self._runtime.reader.kill()  # a call of its that hangs there would hold up everybody else's
            self._runtime.reader.close()
        return _Attempt(ended=ended, collected=collected, image_wanted=subject.image_wanted and make is None)

    def _remaining(self) -> float | None:
        """Return the seconds until the deadline, None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - self._runtime.monotonic())

    def _failure(self, checker: Checker, ended: Ended[None]) -> str:
        """Say why a call does not count as a judgement; "" if it does."""
        if ended.abandoned:
            return f"{checker.name} did not end when the {self._request.max_time:g} s were over, and was abandoned"
        if ended.late:
            return f"{checker.name} was stopped when the {self._request.max_time:g} s were over"
        error = ended.error
        if error is None:
            return ""
        if isinstance(error, ContractBroken):
            return f"{checker.name} broke its contract: {error}"
        if isinstance(error, PagewardenError):
            return _say(error)
        text = " ".join(str(error).split())
        return f"{checker.name} failed: {type(error).__name__}" + (f": {text}" if text else "")

    def _judged(self, name: str, collected: Collected, why: str, seconds: float) -> _Judged:
        """Put together what a checker said and how its call ended, and tell observers."""
        verdict = Verdict.worst([collected.judged, Verdict.UNKNOWN]) if why else collected.judged
        findings = tuple(replace(finding, checker=name) for finding in collected.findings)
        result = CheckerResult(
            name=name,
            verdict=verdict,
            seconds=seconds,
            findings=len(findings),
            why="; ".join(filter(None, (why, collected.why))),
        )
        for finding in findings:
            self._runtime.emit(
                "check.finding", self._path, kind=finding.kind, severity=str(finding.severity), message=finding.message
            )
        self._runtime.emit(
            "checker.finished", self._path, seconds, checker=name, verdict=str(verdict), findings=len(findings)
        )
        return _Judged(result=result, findings=findings)

    def _unjudged(self, checker: Checker, why: str) -> _Judged:
        return self._judged(checker.name, Collected(), why, 0.0)

    def _refused(self, source: BrokenSource) -> _Judged:
        """Report that SQLite cannot open a file that was a database."""
        finding = Finding(
            kind="unopenable",
            severity=Severity.DAMAGE,
            pgno=1,
            message=f"sqlite cannot open it, though it was a database: {source.refusal.message}",
            evidence=source.refusal.message,
        )
        return self._judged(OPENING, Collected(findings=[finding]), "", 0.0)

    def _report(self, source: Source | None, judged: Sequence[_Judged]) -> CheckReport:
        findings = tuple(finding for each in judged for finding in each.findings)
        if findings:
            findings = self._explained(findings, source)
        pages, page_size = (0, 0) if source is None else (source.pages, source.page_size)
        return CheckReport(
            database=self._path,
            verdict=Verdict.worst(each.result.verdict for each in judged),
            position=self._baselines.position,
            pages=pages,
            page_size=page_size,
            bytes=pages * page_size,
            seconds=self._runtime.monotonic() - self._started,
            checkers=tuple(each.result for each in judged),
            findings=findings,
        )

    def _explained(self, findings: tuple[Finding, ...], source: Source | None) -> tuple[Finding, ...]:
        # Imported here, because a sound database needs none of what reads trees, and its check is to be quick.
        from pagewarden.check.naming import name_owners, with_hints

        named = findings if source is None else name_owners(findings, source, self._in_time())
        return with_hints(named, self._request, self._path, self._baselines.name)

    def _in_time(self) -> Callable[[], None]:
        def guard() -> None:
            if self._remaining() == 0:
                raise DeadlinePassed

        return guard


def _untold(name: str, seconds: float, **fields: object) -> None:
    """Tell nobody."""


def _say(error: PagewardenError) -> str:
    """Return an error with its hint: a result has only one sentence for both."""
    return f"{error.message} (hint: {error.hint})" if error.hint else error.message


def _notice(report: CheckReport, runtime: Runtime) -> Notice:
    """Return what a person should read: which database, what was found, what to do."""
    damage = [finding for finding in report.findings if finding.severity is Severity.DAMAGE]
    lines = [finding.message for finding in damage[:10]]
    if len(damage) > len(lines):
        lines.append(f"and {len(damage) - len(lines)} more")
    lines += [f"{result.name}: {result.why}" for result in report.checkers if result.why]
    lines += [damage[0].hint] if damage else []
    return Notice(
        title=f"{report.database} is {report.verdict}" if damage else f"{report.database} could not be judged",
        body="\n".join(lines),
        severity=Severity.DAMAGE if damage else Severity.NOTICE,
        database=report.database,
        time=runtime.clock(),
    )
