"""One check: what is opened, which checkers run side by side, and what their answers make together.

1. The database is looked at by `stat`, then its first commit is attached and let go: what it is decides how checkers
   see it (source.py). What cannot be judged now or here, because it is locked, waits for its journal or lies where
   SQLite can make no -shm, is `unknown`: that is said once, and only checkers of its surroundings are called.
2. All checkers begin at once (together.py), each by itself (checkers.py): what one raises leaves the others alone.
3. Findings get names and hints; the run's verdict is the worst one; notifiers are told unless it is sound.
4. The ledger remembers the run, and what became of pages that were suspect before. It may fail, and then the report
   says so; it never changes a verdict.

Nothing here writes to the database, its -wal or its -journal. SQLite itself leaves an empty -wal and a -shm beside a
WAL database that nobody had open (H33).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from pagewarden.check.baseline import Baselines
from pagewarden.check.checkers import CheckerRun, Judged, Task, judged, say
from pagewarden.check.outcome import Collected
from pagewarden.check.source import BrokenSource, ClosedSource, Source, open_source
from pagewarden.check.subject import DeadlinePassed
from pagewarden.check.together import Inbox, Told, judge_together
from pagewarden.contracts import Checker, Notice
from pagewarden.contracts.checking import is_relational
from pagewarden.deadline import answered_in_time
from pagewarden.errors import DatabaseBusy, DatabaseUnreadable, DatabaseUnsettled, PluginUnusable
from pagewarden.ledger.notebook import Notebook
from pagewarden.live import Place, examine
from pagewarden.live.connection import lacks_companion
from pagewarden.live.foreign import without_foreign_journal
from pagewarden.values import CheckReport, Finding, Level, Severity, Verdict

if TYPE_CHECKING:
    from pagewarden.ledger.suspects import Look
    from pagewarden.runtime import Runtime

T = TypeVar("T")

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
    until_damaged: bool = False  # whether relational checkers are left out where another one finds damage
    current: bool | None = None  # whether the newest snapshot is; None: what the files say; False: what they prove


def run_check(request: CheckRequest, runtime: Runtime, *, private: bool = False) -> CheckReport:
    """Judge a database. Changes no byte of it, of its -wal or of its -journal.

    Of a `private` copy that is gone soon nobody is notified, and the ledger remembers nothing.

    Raises DatabaseNotFound, DatabaseUnreadable, NotADatabase, PluginUnusable for a checker that is not there,
    ConfigurationInvalid for a baseline that is no page set, RepositoryDamaged for a damaged one. A database that is
    locked, unsettled, or lies where SQLite can make no -shm is no error: the verdict is `unknown`.
    """
    started = runtime.monotonic()
    checkers = choose_checkers(runtime, request)
    place = examine(request.database)
    path = place.path
    runtime.emit("check.started", path, level=str(request.level), checkers=[checker.name for checker in checkers])
    run = _Run(request, runtime, place, started, private=private)
    try:
        report = run.judge(checkers)
    finally:
        run.close()
    runtime.emit("check.finished", path, report.seconds, verdict=str(report.verdict), findings=len(report.findings))
    if report.verdict is not Verdict.SOUND and runtime.extensions.notifiers and not private:
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

    def __init__(self, request: CheckRequest, runtime: Runtime, place: Place, started: float, *, private: bool) -> None:
        self._request = request
        self._private = private
        self._runtime = runtime
        self._place = place
        self._path = place.path
        self._started = started
        self._deadline = None if request.max_time is None else started + request.max_time
        self._began = runtime.clock()
        self._inbox = Inbox()
        self._notebook = Notebook(lambda: runtime.state, place.path, runtime.clock, blank=private)
        self._baselines = Baselines(
            runtime,
            path=place.path,
            file=request.baseline,
            repository=request.repository,
            name=request.name,
            current=request.current,
        )

    def judge(self, checkers: Sequence[Checker]) -> CheckReport:
        """Let all checkers judge, and make one report of it."""
        try:
            source = self._open()
        except (DatabaseBusy, DatabaseUnsettled, DatabaseUnreadable) as error:
            if isinstance(error, DatabaseUnreadable) and not lacks_companion(error):
                raise
            if isinstance(error, DatabaseUnsettled):
                error = without_foreign_journal(self._runtime.reader, self._path) or error
            reason = self._said(judged(OPENING, Collected(), say(error), 0.0))
            near = [checker for checker in checkers if getattr(checker, "surroundings", False)]
            parts = self._together(near, ClosedSource(error)) if near else []
            known = {part.result.name for part in parts}
            left = [checker.name for checker in checkers if checker.name not in known]
            parts += [self._said(judged(name, Collected(), NOT_RUN, 0.0)) for name in left]
            return self._remembered(self._report(None, [reason, *parts]), None, [])
        try:
            opened = [self._refused(source)] if isinstance(source, BrokenSource) else []
            opened += self._by_turns(checkers, source, damaged=bool(opened))
            if self._place.frozen and not self._place.unchanged():
                thawed = f"the file system of {self._path} can be written to since it was opened (hint: try again)"
                opened.append(self._said(judged(OPENING, Collected(), thawed, 0.0)))
            return self._remembered(self._report(source, opened), source, opened)
        finally:
            source.close()

    def close(self) -> None:
        """Close what the run has open."""
        self._baselines.close()
        self._notebook.close()

    def _open(self) -> Source:
        began = self._runtime.monotonic()
        source = open_source(
            self._path,
            self._runtime,
            self._deadline,
            lambda: self._asked(lambda: self._baselines.page_size),
            self._inbox.tell,
            private=self._private,
        )
        self._runtime.emit("check.opened", self._path, self._runtime.monotonic() - began, pages=source.pages)
        return source

    def _together(self, checkers: Sequence[Checker], source: Source) -> list[Judged]:
        task = Task(
            path=self._path,
            level=self._request.level,
            assertions=self._request.assertions,
            source=source,
            baseline=self._baselines.at,
            of=self._judged_what(source),
            began=self._began,
            opening=self._runtime.monotonic() - self._started,
            resume=self._notebook.resume,
            circle=self._notebook.circle,
            max_time=self._request.max_time,
            deadline=self._deadline,
            runtime=self._runtime,
        )
        return judge_together(
            [CheckerRun(checker, task) for checker in checkers],
            self._inbox,
            on_event=self._pass_on,
            on_judged=self._said,
            meanwhile=self._notebook.open,
        )

    def _by_turns(self, checkers: Sequence[Checker], source: Source, *, damaged: bool) -> list[Judged]:
        """Let all judge at once, or those that are relational after the others, if these have found no damage."""
        later = [each.name for each in checkers if self._request.until_damaged and is_relational(each)]
        parts = self._together([each for each in checkers if each.name not in later], source)
        if later and not (damaged or any(each.result.verdict is Verdict.DAMAGED for each in parts)):
            parts += self._together([each for each in checkers if each.name in later], source)
        places = {checker.name: place for place, checker in enumerate(checkers)}
        return sorted(parts, key=lambda part: places[part.result.name])

    def _judged_what(self, source: Source | BrokenSource | ClosedSource) -> str:
        """Return what tells this file and way of judging from others: parts of different ones make no whole."""
        request, place = self._request, self._place
        how = (request.level, request.baseline, request.repository, request.name)
        return f"{place.device}:{place.inode}:{source.page_size}:{':'.join(str(each) for each in how)}"

    def _pass_on(self, told: Told) -> None:
        self._runtime.emit(told.name, self._path, told.seconds, **told.fields)

    def _said(self, said: Judged) -> Judged:
        """Tell observers what became of a checker."""
        for finding in said.findings:
            self._runtime.emit(
                "check.finding", self._path, kind=finding.kind, severity=str(finding.severity), message=finding.message
            )
        result = said.result
        self._runtime.emit(
            "checker.finished",
            self._path,
            result.seconds,
            checker=result.name,
            verdict=str(result.verdict),
            findings=result.findings,
        )
        return said

    def _refused(self, source: BrokenSource) -> Judged:
        """Report that SQLite cannot open a file that was a database."""
        finding = Finding(
            kind="unopenable",
            severity=Severity.DAMAGE,
            pgno=1,
            message=f"sqlite cannot open it, though it was a database: {source.refusal.message}",
            evidence=source.refusal.message,
        )
        return self._said(judged(OPENING, Collected(findings=[finding]), "", 0.0))

    def _report(self, source: Source | None, parts: Sequence[Judged]) -> CheckReport:
        findings = tuple(finding for each in parts for finding in each.findings)
        if findings:
            findings = self._explained(findings, source)
        pages, page_size = (0, 0) if source is None else (source.pages, source.page_size)
        return CheckReport(
            database=self._path,
            verdict=Verdict.worst(each.result.verdict for each in parts),
            position=self._baselines.position,
            pages=pages,
            page_size=page_size,
            bytes=pages * page_size,
            seconds=self._runtime.monotonic() - self._started,
            checkers=tuple(each.result for each in parts),
            findings=findings,
        )

    def _remembered(self, report: CheckReport, source: Source | None, parts: Sequence[Judged]) -> CheckReport:
        """Write the run into the ledger, and return the report with what is to be said of that."""
        began = self._runtime.monotonic()

        def look(pgnos: Sequence[int]) -> Look | None:
            from pagewarden.check.suspicion import look_at  # a sound database has no suspect pages

            if source is None:
                return None
            known = self._baselines
            return look_at(pgnos, source, lambda at: self._asked(lambda: known.at(at)), self._in_time())

        self._notebook.write(
            report,
            level=self._request.level,
            started=self._began,
            resumes={part.result.name: (part.resume, part.circle) for part in parts if part.resume is not None},
            look=look,
        )
        self._notebook.close()
        self._runtime.emit("ledger.written", self._path, self._runtime.monotonic() - began)
        for told in self._inbox.rest():
            self._pass_on(told)
        return replace(report, warnings=tuple(self._notebook.warnings))

    def _explained(self, findings: tuple[Finding, ...], source: Source | None) -> tuple[Finding, ...]:
        # Imported here, because a sound database needs none of what reads trees, and its check is to be quick.
        from pagewarden.check.naming import name_owners, with_hints

        named = findings if source is None else name_owners(findings, source, self._in_time())
        return with_hints(named, self._request, self._path, self._baselines.name)

    def _asked(self, ask: Callable[[], T]) -> T:
        """Return what `ask` has from a repository. Raises TargetFailed where the time is over before it answers."""
        left = None if self._deadline is None else self._deadline - self._runtime.monotonic()
        return answered_in_time(ask, "the repository", seconds=left)

    def _in_time(self) -> Callable[[], None]:
        def guard() -> None:
            if self._deadline is not None and self._runtime.monotonic() >= self._deadline:
                raise DeadlinePassed

        return guard


def _notice(report: CheckReport, runtime: Runtime) -> Notice:
    """Return what a person should read: which database, what was found, what to do."""
    damage = [finding for finding in report.findings if finding.severity is Severity.DAMAGE]
    damaged = damage or report.verdict is Verdict.DAMAGED  # what an earlier run found, of which this is the rest
    lines = [finding.message for finding in damage[:10]]
    if len(damage) > len(lines):
        lines.append(f"and {len(damage) - len(lines)} more")
    lines += [f"{result.name}: {result.why}" for result in report.checkers if result.why]
    lines += [damage[0].hint] if damage else []
    return Notice(
        title=f"{report.database} is {report.verdict}" if damaged else f"{report.database} could not be judged",
        body="\n".join(lines),
        severity=Severity.DAMAGE if damaged else Severity.NOTICE,
        database=report.database,
        time=runtime.clock(),
    )
