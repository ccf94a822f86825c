"""The `status` verb: of each database when it was last checked, backed up and verified, and whether one is overdue.

Reads what is remembered on this machine (ledger, results of verification) and the manifests of repositories; touches no
database.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.errors import PagewardenError, RepositoryNotFound
from pagewarden.times import parse_duration
from pagewarden.values import DatabaseStatus, Level, PastRun, RestorePoint, StatusReport, Verdict

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One database, and how often something is to be done with it: lengths of time such as "24h"; None: never due."""

    path: str | None = None  # None where only its repository is known
    name: str | None = None  # in the repository; None: the file's name
    repository: str | None = None  # URL; None: it is not backed up
    check_every: str | None = None
    backup_every: str | None = None
    verify_every: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRequest:
    """Of which databases to tell."""

    databases: tuple[Watched, ...] = ()
    repository: str | None = None  # URL: of all databases in it, too, that are not named above
    backup_every: str | None = None  # for those
    verify_every: str | None = None


def run_status(request: StatusRequest, runtime: Runtime) -> StatusReport:
    """Tell how each database stands. What cannot be looked at is a problem of that database, and hides no other.

    Raises ConfigurationInvalid for a length of time that is none, and what `run_backups` raises for the repository of
    which all databases are wanted.
    """
    shelves = _Shelves(runtime)
    watched = list(request.databases)
    if request.repository is not None:
        known = {_name(each) for each in watched if each.repository == request.repository}
        watched += [
            Watched(
                name=name,
                repository=request.repository,
                backup_every=request.backup_every,
                verify_every=request.verify_every,
            )
            for name in shelves.points(request.repository)
            if name not in known
        ]
    now = runtime.clock()
    return StatusReport(databases=tuple(_status(each, shelves, runtime, now) for each in watched))


class _Shelves:
    """The restore points of repositories, each read once."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._read: dict[str, dict[str, list[RestorePoint]] | PagewardenError] = {}

    def points(self, url: str) -> dict[str, list[RestorePoint]]:
        """Return the restore points by the names of their databases, newest last. Raises what `run_backups` raises."""
        if url not in self._read:
            self._read[url] = self._look(url)
        found = self._read[url]
        if isinstance(found, PagewardenError):
            raise found
        return found

    def _look(self, url: str) -> dict[str, list[RestorePoint]] | PagewardenError:
        from pagewarden.repository.backups import BackupsRequest, run_backups

        try:
            report = run_backups(BackupsRequest(repository=url), self._runtime)
        except PagewardenError as error:
            return error
        points: dict[str, list[RestorePoint]] = {}
        for point in report.backups:
            points.setdefault(point.database, []).append(point)
        return points


def _status(watched: Watched, shelves: _Shelves, runtime: Runtime, now: datetime) -> DatabaseStatus:
    problems: list[str] = []
    name = _name(watched)
    run, suspects = _checked(watched, runtime, problems)
    points = _backed_up(watched, name, shelves, problems)
    newest = points[-1] if points else None
    verified = [each.verification for each in points if each.verification is not None]
    last = max((each.time for each in verified if each.state == "ok"), default=None)
    due = (
        ("checked", watched.check_every if watched.path is not None else None, None if run is None else run.started),
        ("backed up", watched.backup_every, None if newest is None else newest.position.time),
        ("verified", watched.verify_every if watched.repository is not None else None, last),
    )
    return DatabaseStatus(
        database=watched.path or "",
        name=name,
        repository=watched.repository,
        verdict=Verdict.UNKNOWN if run is None else run.verdict,
        checked=None if run is None else run.started,
        level=None if run is None else run.level,
        suspects=suspects,
        position=None if newest is None else newest.position,
        lag_seconds=None if newest is None else max(0.0, (now - newest.position.time).total_seconds()),
        source=None if newest is None else newest.source,
        restore_points=len(points),
        commits=sum(
            1 if each.commits is None else each.commits.count for each in points if each.commits or each.merged
        ),
        verification=None if newest is None else newest.verification,
        verified=last,
        broken=sum(each.state in ("damaged", "missing") for each in verified),
        overdue=tuple(_overdue(due, now)),
        problems=tuple(problems),
    )


def _name(watched: Watched) -> str:
    return watched.name or Path(os.path.realpath(watched.path or "")).name


def _checked(watched: Watched, runtime: Runtime, problems: list[str]) -> tuple[PastRun | None, int]:
    """Return the last check that judged anything, and how many suspect pages are open."""
    if watched.path is None:
        return None, 0
    from pagewarden.ledger import LedgerRequest, run_ledger

    try:
        report = run_ledger(LedgerRequest(database=watched.path), runtime)
    except PagewardenError as error:
        problems.append(error.message)
        return None, 0
    problems += report.warnings
    suspects = sum(each.state in ("seen", "confirmed") for each in report.suspects)
    # The quick look of a backup that had nothing to compare with judged next to nothing: it is no check.
    judged = [each for each in report.runs if each.verdict is not Verdict.UNKNOWN or each.level != Level.QUICK]
    return (judged[-1] if judged else None), suspects


def _backed_up(watched: Watched, name: str, shelves: _Shelves, problems: list[str]) -> Sequence[RestorePoint]:
    """Return the restore points, none where the database was never backed up."""
    if watched.repository is None:
        return ()
    try:
        return shelves.points(watched.repository).get(name, [])
    except RepositoryNotFound:
        return ()
    except PagewardenError as error:
        problems.append(error.message)
        return ()


def _overdue(due: Sequence[tuple[str, str | None, datetime | None]], now: datetime) -> Iterator[str]:
    """Yield what should have been done by now, a clause each."""
    for what, every, last in due:
        if every is None:
            continue
        allowed = parse_duration(every)
        if last is None:
            yield f"it was never {what}, and is to be every {every}"
        elif now - last > allowed:
            yield f"it was last {what} {_rounded(now - last)} ago, and is to be every {every}"


def _rounded(length: timedelta) -> str:
    """Return a length of time in the largest unit of which there are two."""
    for unit, size in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1))):
        if length >= 2 * size:
            return f"{length // size}{unit}"
    return f"{length // timedelta(seconds=1)}s"
