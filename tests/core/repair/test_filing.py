"""The two reports in the folder of a repair's entry."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pagewarden import durable
from pagewarden.errors import OutOfSpace, PagewardenError
from pagewarden.repair.cutouts import Cutouts
from pagewarden.repair.filing import file_reports
from pagewarden.repair.reports import PAGE, REPORT, RepairReport
from pagewarden.testing.faults import cut, each_fault
from tests.support.repairs import APPLIED, TABLES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an entry."""
    folder = tmp_path / "000007"
    folder.mkdir()
    return folder


def test_a_report_comes_back_from_its_file(folder: Path) -> None:
    """What report.json holds is the report, field by field; the page says what was cut out."""
    with Cutouts(folder) as cutouts:
        cutouts.rows("note", ["id"], [(1,), (2,)], "why", "repair-relations")
    file_reports(folder, APPLIED)
    assert msgspec.json.decode((folder / REPORT).read_bytes(), type=RepairReport) == APPLIED
    page = (folder / PAGE).read_text("ascii")
    assert "2 rows of <code>note</code>" in page
    assert "pagewarden quarantine export /srv/app/app.db 7 --to FOLDER" in page


def test_names_that_are_no_utf8_are_written_as_escapes(folder: Path) -> None:
    """A path or a table whose bytes are no UTF-8 does not keep the report from being written (H29)."""
    report = replace(APPLIED, database="/srv/a\udcff.db", tables=(replace(TABLES[0], name="t\udcfe"),))
    file_reports(folder, report)
    assert json.loads((folder / REPORT).read_text("ascii"))["database"] == "/srv/a\udcff.db"


def test_a_report_is_whole_or_not_there(folder: Path) -> None:
    """H30: a call that fails, for once or for ever, is a named error and leaves no half of a report."""
    for forever in (False, True):
        for faulty in each_fault(number=errno.ENOSPC, forever=forever):
            with cut(durable, faulty):
                try:
                    file_reports(folder, APPLIED)
                except PagewardenError as error:
                    assert isinstance(error, OutOfSpace)
                    assert faulty.fired
            for file in (folder / REPORT, folder / PAGE):
                assert not file.exists() or file.read_bytes()[-2:] in (b"}", b"}\n", b"\n}", b">\n")
