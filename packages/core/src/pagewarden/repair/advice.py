"""What to type after a repair was planned, made or refused."""

from __future__ import annotations

import shlex

from pagewarden.contracts import RepairPolicy
from pagewarden.repair.reports import RepairReport
from pagewarden.repair.request import RepairRequest
from pagewarden.values import Verdict


def advise(report: RepairReport, request: RepairRequest) -> str:
    """Return the command to type next, quoted for a shell; empty where there is nothing to do.

    What stands in capitals in it is for the reader to fill in.
    """
    if report.applied:
        return _after(report, request)
    if report.plan and not request.apply:
        return command_of(request, apply=True)
    if report.verdict_before is Verdict.SOUND and not report.patterns:
        return ""
    if request.repository is None:
        return f"{command_of(request, apply=False)} --repo URL"
    if request.only_lossless:
        return command_of(request, apply=False, only_lossless=False)
    if report.position is not None:
        return _command(
            ["restore", "--repo", request.repository, *_name_of(request), "--to", report.database, "--dry-run"]
        )
    return _command(["backups", "--repo", request.repository])


def command_of(request: RepairRequest, *, apply: bool, only_lossless: bool | None = None) -> str:
    """Return the command that asks for the same repair, planned or to be applied."""
    words = ["repair", request.database]
    if request.repository is not None:
        words += ["--repo", request.repository, *_name_of(request)]
    if request.only_lossless if only_lossless is None else only_lossless:
        words.append("--only-lossless")
    policy, usual = request.policy, RepairPolicy()
    if policy.orphans is not usual.orphans:
        words += ["--orphans", policy.orphans.value]
    words += ["--replay-stranded"] * policy.replay_stranded
    words += ["--assume-current"] * policy.assume_current
    words += ["--apply"] * apply
    if apply and request.output is not None:
        words += ["--output", request.output]
    return _command(words)


def _after(report: RepairReport, request: RepairRequest) -> str:
    """A repaired database needs a backup of its own; one that was put elsewhere, somebody who looks at it."""
    if report.output is not None:
        return _command(["check", report.output, "--level", "deep"])
    if request.repository is None:
        return f"{_command(['backup', report.database])} --repo URL"
    name = [] if request.name is None else ["--name", request.name]
    return _command(["backup", report.database, "--repo", request.repository, *name])


def _name_of(request: RepairRequest) -> list[str]:
    return [] if request.name is None else ["--db", request.name]


def _command(words: list[str]) -> str:
    return shlex.join(["pagewarden", *words])
