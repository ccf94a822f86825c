"""The checker: what stands in the -wal, and what SQLite makes of it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pagewarden.contracts import Subject
from pagewarden.holders import SHM_READ_LOCKS, command_of, find_locks, is_ours
from pagewarden.sqlite.origin import signs_of_another
from pagewarden.sqlite.wal import FRAME_HEADER_SIZE, LARGE_WAL
from pagewarden.structure import WalSurvey
from pagewarden.values import Finding, Level, Severity

_AGAIN = 0.02  # seconds before the second look: a writer needs far less between two frames


class WalChecker:
    """Judges the write-ahead log beside the database.

    SQLite verifies frames only when it recovers a log: behind the first bad one it drops everything, and says nothing
    (H14). Any log whose own checksums hold is laid over the database, whoever wrote it.
    """

    name = "check-wal"
    level = Level.QUICK
    in_process = True

    def __init__(self, *, large: int = LARGE_WAL, sleep: Callable[[float], None] = time.sleep) -> None:
        """`large` is the size of a log, in bytes, from which on somebody seems to hold it back."""
        self._large = large
        self._sleep = sleep

    def check(self, subject: Subject) -> Iterator[Finding]:
        """Yield what is wrong with the log; nothing where there is none."""
        survey = _look(subject)
        if survey is None:
            return
        damage = list(_judge(survey, subject))
        if damage:
            # A writer at work can look like damage for a moment; what is damaged stays as it is.
            self._sleep(_AGAIN)
            still = list(_judge(again, subject)) if (again := _same(survey, subject)) else []
            kinds = {finding.kind for finding in damage}
            yield from (finding for finding in still if finding.kind in kinds)
        elif (
            (survey.broken_commit or survey.bare_commit)
            and _alone(subject.path)
            and (again := _same(survey, subject))
            and (again.broken_commit or again.bare_commit)
        ):
            yield _broken_commit(again, subject)
        used = survey.index_frames or survey.committed
        if used * (survey.page_size + FRAME_HEADER_SIZE) > self._large:
            yield from _unbounded(survey, subject, used)


def _look(subject: Subject) -> WalSurvey | None:
    """Return what stands in the log; None where there is none, and SQLite knows of none either."""
    survey = subject.image.wal()
    return WalSurvey(size=0) if survey is None and subject.facts.wal_fault else survey


def _same(survey: WalSurvey, subject: Subject) -> WalSurvey | None:
    """Look again, and return what is seen if it is the same place of the same log; else None."""
    again = _look(subject)
    places = [(each.salts, each.valid, each.stranded_first) for each in (survey, again) if each is not None]
    return again if len(places) == 2 and places[0] == places[1] else None


def _judge(survey: WalSurvey, subject: Subject) -> Iterator[Finding]:
    """Yield what is damaged: the log first, because one that is cut off says little about whose it is."""
    fault, path = subject.facts.wal_fault, subject.path
    lost = survey.stranded_commits
    if fault or (survey.live and survey.index_frames > survey.valid):
        what = "and SQLite serves it all the same" if fault else "though the database file has all of it"
        dropped = f"{_commits(max(lost, 1))} from frame {survey.valid + 1} on"
        message = f"the -wal is damaged, {what}: {_end(survey) or fault}; a recovery would drop {dropped}"
        yield _damage("bad-wal", message, survey, path)
    elif survey.header_fault:
        if lost:
            message = f"SQLite leaves the whole -wal out, {_commits(lost)}: {survey.header_fault}"
            yield _damage("bad-wal-header", message, survey, path)
    elif lost:
        span = f"frame {survey.valid + 1} to frame {survey.stranded_last}"
        message = f"SQLite leaves {_commits(lost)} of the -wal out, from {span}: {_end(survey)}"
        yield _damage("stranded-commits", message, survey, path)
    else:
        yield from _at_odds(survey, path)


def _at_odds(survey: WalSurvey, path: str) -> Iterator[Finding]:
    """Yield what log and database file say against each other."""
    if survey.missing:
        message = f"{survey.missing} of the {survey.committed_pages} pages of the database are in neither file nor -wal"
        yield _damage("truncated", message, survey, path)
    signs = tuple(signs_of_another(survey))
    if signs:
        message = f"SQLite lays a -wal over the database file that was not written for it: {signs[0]}"
        yield _damage("foreign-wal", message, survey, path, *signs)


def _damage(kind: str, message: str, survey: WalSurvey, path: str, *signs: str) -> Finding:
    return Finding(
        kind=kind,
        severity=Severity.DAMAGE,
        message=message,
        evidence="; ".join((*signs, _evidence(survey))),
        hint=_saving(path),
    )


def _broken_commit(survey: WalSurvey, subject: Subject) -> Finding:
    """A writer that was cut off leaves that, and so does a last frame that rotted: which it was cannot be told.

    Nor can it where frames have no checksums: SQLite writes them so, and sums them up last of all at the commit.
    """
    message = (
        f"{_end(survey)}, and leaves out the commit in them, frame {survey.bare_commit}: the writer was cut off in it, "
        "or a bug of SQLite's has lost it"
        if survey.bare_commit
        else "SQLite leaves the last transaction of the -wal out: its commit, "
        f"frame {survey.valid + 1}, is damaged, or was cut off when it was written"
    )
    return Finding(
        kind="broken-commit",
        severity=Severity.NOTICE,
        message=message,
        evidence=_evidence(survey),
        hint=_saving(subject.path),
    )


def _end(survey: WalSurvey) -> str:
    """Say why the chain ends."""
    if not survey.bare:
        return survey.end
    first, last = survey.valid + 1, survey.valid + survey.bare
    which = f"frame {first}" if first == last else f"frames {first} to {last}"
    return f"SQLite itself left {which} of the -wal without salts and checksums"


def _evidence(survey: WalSurvey) -> str:
    salts = survey.salts.hex() or "no valid header"
    return (
        f"salts {salts}; {survey.frames} frames, {survey.valid} in an unbroken chain with {survey.commits} commits; "
        f"behind it {survey.stranded} that continue each other with {survey.stranded_commits} commits, "
        f"{survey.older} of other generations"
    )


def _saving(path: str) -> str:
    """Return the command that saves what SQLite would drop: to be typed before anything opens the database."""
    return f"{shlex.join(['cp', path, f'{path}-wal', 'DIR'])}, before anything writes to the database"


def _commits(count: int) -> str:
    return f"{count} committed transaction{'' if count == 1 else 's'}"


def _alone(path: str) -> bool:
    """Whether it can be seen that nobody else holds a lock on the database, so that no commit is under way."""
    locks = find_locks(path)
    return locks is not None and all(is_ours(lock.pid) for lock in locks)


def _unbounded(survey: WalSurvey, subject: Subject, used: int) -> Iterator[Finding]:
    """Yield a notice where a log is large because it cannot be brought into the database, or nobody has tried."""
    shm = f"{Path(subject.path).name}-shm"
    readers: dict[int, str] = {}
    marks: list[int] = []
    for lock in find_locks(subject.path) or ():
        slots = [byte - SHM_READ_LOCKS[0] for byte in SHM_READ_LOCKS if lock.first <= byte <= (lock.last or lock.first)]
        if lock.file == shm and slots and not lock.write and not is_ours(lock.pid):
            readers[lock.pid] = f"{command_of(lock.pid)} (pid {lock.pid})" if lock.pid else "a process out of sight"
            marks += [mark for slot in slots if slot < len(survey.read_marks) and (mark := survey.read_marks[slot])]
    if survey.backfilled == used and not readers:
        return  # the next writer begins it anew
    names = ", ".join(readers[pid] for pid in sorted(readers))
    since = f" since frame {min(marks)} or later" if marks else ""
    who = f"held back by {names}, reading{since}" if readers else "which nobody holds back now"
    size = used * (survey.page_size + FRAME_HEADER_SIZE) >> 20
    done = f"{survey.backfilled} of {used} frames are in the database file"
    yield Finding(
        kind="unbounded-wal",
        severity=Severity.NOTICE,
        message=f"{size} MiB of the -wal are in use, {who}: {done}",
        evidence=f"{survey.size} bytes; read-marks {', '.join(map(str, survey.read_marks)) or 'unknown'}",
        hint=shlex.join(["ps", "-fp", ",".join(map(str, sorted(readers)))])
        if readers
        else shlex.join(["pagewarden", "wal", "checkpoint", subject.path, "--mode", "truncate"]),
    )
