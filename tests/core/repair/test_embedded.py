"""An application repairs its database through `pagewarden.open`, with the plugins that are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

import pagewarden
from pagewarden.errors import ConfigurationInvalid
from pagewarden.values import Verdict
from tests.core.repair.chosen import files, make_broken_log, rows


def test_an_application_repairs_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker does all of it, each repairer in a process of its own; the plan comes first, `undo` takes it back."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = make_broken_log(tmp_path / "app.db")
    before = files(path)
    events: list[str] = []
    with pagewarden.open(path, on_event=lambda event: events.append(event.name)) as database:
        plan = database.repair()
        assert (plan.applied, [planned.repairer for planned in plan.plan]) == (False, ["repair-reindex"])
        assert files(path) == before
        report = database.repair(apply=True)
        assert (report.applied, report.verdict_after, report.exit_code) == (True, Verdict.SOUND, 0)
        assert [(table.name, table.rows_kept, table.rows_lost) for table in report.tables] == [("t", 40, 0)]
        assert len(rows(path)) == 40
        database.undo()
        with pytest.raises(ConfigurationInvalid, match="orphans"):
            database.repair(orphans="sell")
    assert files(path) == before
    assert [event for event in events if event.startswith("repair.")] == [
        "repair.started",
        "repair.planned",
        "repair.finished",
        "repair.started",
        "repair.planned",
        "repair.repaired",
        "repair.round",
        "repair.finished",
    ]
