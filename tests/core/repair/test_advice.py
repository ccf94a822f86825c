"""The command that a repair tells to type next."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from pagewarden.contracts import Orphans, RepairPolicy
from pagewarden.repair.advice import advise, command_of
from pagewarden.repair.reports import RepairReport
from pagewarden.repair.request import RepairRequest
from tests.support.repairs import APPLIED, NOTHING, PLANNED, REFUSED, SOUND

DB = "/srv/app/app.db"
PLAIN = RepairRequest(database=DB)
STORED = replace(PLAIN, repository="/backup")


@pytest.mark.parametrize(
    ("report", "request_", "command"),
    [
        (PLANNED, STORED, f"pagewarden repair {DB} --repo /backup --apply"),
        (PLANNED, replace(STORED, name="a"), f"pagewarden repair {DB} --repo /backup --db a --apply"),
        (NOTHING, PLAIN, f"pagewarden repair {DB} --repo URL"),
        (NOTHING, replace(STORED, only_lossless=True), f"pagewarden repair {DB} --repo /backup"),
        (NOTHING, STORED, "pagewarden backups --repo /backup"),
        (REFUSED, replace(STORED, apply=True), f"pagewarden restore --repo /backup --to {DB} --dry-run"),
        (APPLIED, replace(STORED, apply=True), f"pagewarden backup {DB} --repo /backup"),
        (APPLIED, replace(STORED, apply=True, name="a"), f"pagewarden backup {DB} --repo /backup --name a"),
        (APPLIED, replace(PLAIN, apply=True), f"pagewarden backup {DB} --repo URL"),
        (replace(APPLIED, output="/srv/n.db"), replace(PLAIN, apply=True), "pagewarden check /srv/n.db --level deep"),
        (SOUND, STORED, ""),
    ],
)
def test_there_is_always_a_next_command(report: RepairReport, request_: RepairRequest, command: str) -> None:
    """Whatever became of it; nothing only where there is nothing to do."""
    assert advise(report, request_) == command


def test_the_same_repair_is_asked_for_with_all_that_was_chosen() -> None:
    """A plan that is applied by the command that it prints is the plan that was shown."""
    request = RepairRequest(
        database="/srv/it's $HOME.db",
        repository="s3://b/p",
        only_lossless=True,
        output="/tmp/x y.db",
        policy=RepairPolicy(orphans=Orphans.CASCADE, replay_stranded=True, assume_current=True),
    )
    assert shlex.split(command_of(request, apply=True)) == [
        "pagewarden",
        "repair",
        "/srv/it's $HOME.db",
        "--repo",
        "s3://b/p",
        "--only-lossless",
        "--orphans",
        "cascade",
        "--replay-stranded",
        "--assume-current",
        "--apply",
        "--output",
        "/tmp/x y.db",
    ]
