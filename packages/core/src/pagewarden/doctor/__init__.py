"""The `doctor` verb: the machine, and a database's surroundings. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime
    from pagewarden.values import DoctorFact, DoctorReport

__all__ = ["DoctorRequest", "run_doctor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorRequest:
    """What to look at besides the machine."""

    database: str | None = None  # path


def run_doctor(request: DoctorRequest, runtime: Runtime) -> DoctorReport:
    """Look at the machine and, if one is named, at a database's surroundings; what is wrong is a fact, not an error.

    Raises DatabaseNotFound where nothing stands at the path.
    """
    from pagewarden.doctor.machine import machine_facts
    from pagewarden.values import DoctorReport

    began = runtime.monotonic()
    facts: list[DoctorFact] = list(machine_facts(runtime))
    database = request.database
    if database is not None:
        from pagewarden.doctor.surroundings import Surroundings

        surroundings = Surroundings(database, runtime)
        database = surroundings.path
        facts += _told(surroundings.facts(), len(facts), runtime)
    report = DoctorReport(database=database, facts=tuple(facts), seconds=runtime.monotonic() - began)
    problems = sum(fact.state == "problem" for fact in facts)
    runtime.emit("doctor.finished", database or "", seconds=report.seconds, problems=problems)
    return report


def _told(facts: Iterable[DoctorFact], before: int, runtime: Runtime) -> list[DoctorFact]:
    told: list[DoctorFact] = []
    for fact in facts:
        told.append(fact)
        runtime.progress("looking around", before + len(told), 0)
    return told
