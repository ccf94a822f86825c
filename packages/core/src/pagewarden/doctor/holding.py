"""What `doctor` says of the processes that have a database open."""

from __future__ import annotations

from collections.abc import Iterator

from pagewarden.doctor.facts import ok, problem, warning
from pagewarden.doctor.libraries import sqlite_libraries
from pagewarden.holders import Holders
from pagewarden.strays import Stray, find_strays
from pagewarden.values import DoctorFact

_ADVICE = {
    "deleted-files": "save what it wrote",
    "inherited-files": "let it open the database itself",
    "lost-locks": "save the database, let it open the database's files through SQLite alone",
}


def holder_facts(holders: Holders, reader: int | None) -> Iterator[DoctorFact]:
    """Yield what is to be said of `holders`; the process `reader`, which reads pages for us, is left out."""
    others = tuple(holder for holder in holders.holders if holder.pid != reader)
    unseen = holders.why
    if others:
        yield ok("holders", "; ".join(map(str, others)), unseen)
    elif unseen:
        yield ok("holders", "none that can be seen", unseen)
    else:
        yield ok("holders", "none")
    yield from map(_stray, find_strays(holders))
    for holder in others:
        try:
            libraries = sqlite_libraries(holder.pid)
        except OSError:  # it ended, or belongs to another user; `holders` says so
            continue
        if len(libraries) > 1:
            who = f"{holder.command} (pid {holder.pid})"
            why = f"it has more than one SQLite library loaded, which break each other's locks: {', '.join(libraries)}"
            yield warning("two-libraries", who, why, "let all of it use one of them")


def _stray(stray: Stray) -> DoctorFact:
    hint = f"{_ADVICE[stray.kind]}, then restart it (ps -fp {stray.pid}): {stray.saving}"
    bad = stray.harmful or stray.kind == "deleted-files"
    return (problem if bad else warning)(stray.kind, str(stray), f"it {stray.why}", hint)
