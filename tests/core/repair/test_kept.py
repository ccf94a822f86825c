"""What is kept of a database is told, entry by entry, and nothing is changed by telling."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseNotFound, DatabaseUnreadable, RestoreRefused
from pagewarden.lineage import Lineage
from pagewarden.repair.cutouts import CUT, Cutouts, CutTable
from pagewarden.repair.export import ExportRequest, run_export
from pagewarden.repair.filing import file_reports
from pagewarden.repair.kept import KeptRequest, entries_of, entry_of, run_kept
from pagewarden.repair.reports import REPORT
from pagewarden.repair.shown import ShowRequest, run_show
from pagewarden.restore.quarantine import Entry, Origin, Phase, Quarantine
from pagewarden.values import Position, Verdict
from tests.support.pipes import unwaited
from tests.support.repairs import APPLIED

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ORIGIN = Origin(
    repository="/backup",
    database="app.db",
    position=Position(timeline="a" * 32, txid=7, time=NOW),
    database_sum="0" * 16,
)
Begin = Callable[[Phase, bool], tuple[Entry, Path]]


@pytest.fixture
def begin(path: Path) -> Begin:
    """Make an entry of a repair, or of a restore, in a phase."""

    def make(phase: Phase, repair: bool) -> tuple[Entry, Path]:
        with Quarantine(path=path).lock() as quarantine:
            origin = None if repair else ORIGIN
            entry = quarantine.begin(begun=NOW, origin=origin, lineage_before=Lineage(path=str(path)))
            entry = quarantine.record(replace(entry, phase=phase))
            return entry, quarantine.folder_of(entry)

    return make


def test_a_repair_and_a_restore_are_told_apart(path: Path, begin: Begin) -> None:
    """With verdicts, files, what was cut out, and the command that takes the newest back."""
    _, first = begin(Phase.DONE, False)
    (first / "previous").write_bytes(bytes(100))
    _, second = begin(Phase.DONE, True)
    for name in ("previous.raw", "previous.raw-wal", "restored", "previous.dropped"):
        (second / name).write_bytes(b"1234")
    with Cutouts(second) as cutouts:
        cutouts.page(3, 512, bytes(512), "why", "repair-a")
        cutouts.rows("note", ["id"], [(1,)], "why", "repair-a")
    file_reports(second, replace(APPLIED, database=str(path)))
    restore, repair = entries_of(path)
    assert (restore.number, restore.kind, restore.phase, restore.bytes) == (
        1,
        "restore",
        "done",
        restore.files[0].size + 100,
    )
    assert (restore.repository, restore.position, restore.cut, restore.undo) == ("/backup", ORIGIN.position, None, "")
    assert (repair.kind, repair.verdict_before, repair.verdict_after) == ("repair", Verdict.DAMAGED, Verdict.SOUND)
    assert repair.undo == f"pagewarden undo {path}"
    assert repair.cut is not None
    assert (repair.cut.pages, repair.cut.tables) == (1, (CutTable(name="note", rows=1),))
    assert {file.name: file.what for file in repair.files} == {
        "cut.db": "cut out",
        "entry.json": "other",
        "previous.dropped": "evidence",
        "previous.raw": "original",
        "previous.raw-wal": "original",
        "report.html": "report",
        "report.json": "report",
        "restored": "taken back",
    }
    report = run_kept(KeptRequest(databases=(str(path),)))
    assert report.entries == (restore, repair)
    assert report.bytes == restore.bytes + repair.bytes


@pytest.mark.parametrize(
    ("phase", "repair", "told"),
    [
        (Phase.WRITING, True, "under way"),
        (Phase.SWAPPING, False, "under way"),
        (Phase.UNDONE, True, "undone"),
        (Phase.ABANDONED, False, "abandoned"),
        (Phase.ABANDONED, True, "not applied"),
    ],
)
def test_how_far_an_entry_came_is_told(path: Path, begin: Begin, phase: Phase, repair: bool, told: str) -> None:
    """One that is under way, or was cut, is not taken for one that was done."""
    begin(phase, repair)
    (entry,) = entries_of(path)
    assert (entry.phase, entry.undo) == (told, "")


def test_what_a_running_repair_writes_is_left_alone(path: Path, begin: Begin) -> None:
    """Its cut.db is not opened, and no lock of it is waited for."""
    _, folder = begin(Phase.WRITING, True)
    with Cutouts(folder) as cutouts:
        cutouts.page(1, 512, bytes(512), "why", "repair-a")
        (entry,) = entries_of(path)
    assert entry.cut is None
    assert entry.why == ""


def test_an_entry_whose_cuts_are_damaged_says_so(path: Path, begin: Begin) -> None:
    """The others, and its own files, are told all the same; a report that is damaged is no obstacle."""
    _, folder = begin(Phase.DONE, True)
    (folder / CUT).write_bytes(b"no database " * 100)
    (folder / REPORT).write_bytes(b"{")
    (entry,) = entries_of(path)
    assert "cannot be read" in entry.why
    assert entry.verdict_before is None
    assert entry.kind == "repair"


@pytest.mark.parametrize("name", [CUT, f"{CUT}-journal", f"{CUT}-wal", REPORT])
@pytest.mark.parametrize("make_odd", [os.mkfifo, lambda path: os.symlink("nowhere", path)])
def test_what_stands_for_a_file_and_is_none_is_not_waited_for(
    path: Path, begin: Begin, name: str, make_odd: Callable[[Path], None], tmp_path: Path
) -> None:
    """Neither the list nor what shows or exports an entry opens a FIFO, or follows a link."""
    _, folder = begin(Phase.DONE, True)
    if name != CUT:
        with Cutouts(folder) as cutouts:
            cutouts.page(3, 512, bytes(512), "why", "repair-a")
    make_odd(folder / name)
    with unwaited(folder / name):
        (entry,) = run_kept(KeptRequest(databases=(str(path),))).entries
        assert run_show(ShowRequest(database=str(path))).entry == entry
        assert entry.verdict_before is None
        export = ExportRequest(database=str(path), to=str(tmp_path / "out"))
        if name == REPORT:
            assert (entry.why, run_export(export).pages) == ("", 1)
        else:
            assert f"{name} is a" in entry.why
            with pytest.raises(DatabaseUnreadable, match=f"{name} is a .*, not a regular file"):
                run_export(export)


def test_what_is_no_entry_is_told_as_a_warning(path: Path, begin: Begin) -> None:
    """Whether the database or its folder is named."""
    begin(Phase.DONE, False)
    stray = Quarantine(path=path).folder / "000002"
    stray.touch()
    for name in (path, path.parent):
        report = run_kept(KeptRequest(databases=(str(name),)))
        assert report.warnings == (f"{stray} is no entry of the quarantine, and is passed over",)
        assert len(report.entries) == 1


def test_a_folder_is_asked_for_all_in_it(path: Path, begin: Begin) -> None:
    """Every database of a folder that anything is kept of, whether it is still there or not."""
    begin(Phase.DONE, False)
    path.unlink()
    report = run_kept(KeptRequest(databases=(str(path.parent),)))
    assert [entry.database for entry in report.entries] == [str(path)]
    assert run_kept(KeptRequest(databases=(str(path),))) == report


def test_of_what_nothing_is_kept_nothing_is_told(path: Path, tmp_path: Path) -> None:
    """A database without a quarantine has no entries; a path that is nothing at all is an error."""
    assert run_kept(KeptRequest(databases=(str(path), str(tmp_path)))).entries == ()
    with pytest.raises(DatabaseNotFound, match="nothing of it is kept"):
        run_kept(KeptRequest(databases=(str(tmp_path / "none.db"),)))
    with pytest.raises(RestoreRefused, match="nothing is kept"):
        entry_of(path, None)


def test_an_entry_is_found_by_its_number(path: Path, begin: Begin) -> None:
    """The newest where none is given; one that is not there is an error that says how to list them."""
    begin(Phase.DONE, False)
    begin(Phase.UNDONE, True)
    assert entry_of(path, None).number == 2
    assert entry_of(path, 1).kind == "restore"
    with pytest.raises(RestoreRefused, match="nothing numbered 3") as caught:
        entry_of(path, 3)
    assert caught.value.hint == f"pagewarden quarantine list {path}"


def test_telling_changes_nothing(path: Path, begin: Begin) -> None:
    """No file is made, changed or removed."""
    _, folder = begin(Phase.DONE, True)
    with Cutouts(folder) as cutouts:
        cutouts.page(1, 512, bytes(512), "why", "repair-a")

    def state() -> dict[str, tuple[int, int]]:
        files = path.parent.rglob("*")
        return {str(file): (file.stat().st_mtime_ns, file.stat().st_size) for file in files}

    before = state()
    entries_of(path)
    assert state() == before
