"""The two reports of a repair, in the folder of its quarantine entry."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from pagewarden import durable
from pagewarden.repair.cutouts import CutSummary, summarize
from pagewarden.repair.html import render
from pagewarden.repair.reports import PAGE, REPORT, RepairReport


def file_reports(folder: Path, report: RepairReport) -> None:
    """Write report.json and report.html into `folder`, each durable and whole or not at all.

    The folder is that of a quarantine entry, and called by its number. Raises OutOfSpace, TargetFailed, and
    DatabaseUnreadable where what was cut out cannot be read.
    """
    at = report.output or report.database  # whose quarantine it is
    cut: CutSummary = summarize(folder, at, int(folder.name))
    try:
        durable.write(folder / PAGE, render(report, cut if cut.anything else None).encode("ascii"))
        durable.write(folder / REPORT, as_json(report))
    except OSError as error:
        raise durable.failure(error, f"cannot write the reports of the repair into {folder}") from error


def as_json(report: RepairReport) -> bytes:
    """Return the report as JSON; what is no UTF-8 in a path or a name is written as an escape."""
    try:
        return msgspec.json.format(msgspec.json.encode(report), indent=1)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(report), indent=1).encode("ascii")
