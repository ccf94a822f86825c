"""The log: one line of JSON for each event, appended whole."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.errors import ConfigurationInvalid
from pagewarden.events import Event
from pagewarden.logs import EventLog, line_of
from tests.support.program import ROOT

EVENT = Event(
    name="checker.finished",
    time=datetime(2026, 11, 22, 10, 15, 0, 250_000, tzinfo=UTC),
    database="/srv/app.db",
    seconds=0.125,
    fields={"checker": "check-pages", "findings": 2},
)


def refuse(text: str) -> None:
    """Nothing is to be said."""
    raise AssertionError(text)


def test_an_event_is_a_line(tmp_path: Path) -> None:
    """Appended to what is there; the file is its owner's alone."""
    path = tmp_path / "log"
    for _ in range(2):
        with EventLog(str(path), refuse) as log:
            log.write(EVENT)
    first, second = path.read_text().splitlines()
    assert first == second
    assert json.loads(first) == {
        "time": "2026-11-22T10:15:00.250000Z",
        "event": "checker.finished",
        "database": "/srv/app.db",
        "seconds": 0.125,
        "fields": {"checker": "check-pages", "findings": 2},
    }
    assert path.stat().st_mode & 0o777 == 0o600


def test_anything_becomes_a_line() -> None:
    """A plugin's own values as text, a path that is no UTF-8 with its bytes escaped, a newline as an escape."""
    odd = Event(name="odd\n", time=EVENT.time, database="/srv/\udcff.db", fields={"path": Path("/a"), "set": [1]})
    line = line_of(odd)
    assert line.count(b"\n") == 1
    document = json.loads(line)
    assert (document["event"], document["database"]) == ("odd\n", "/srv/\udcff.db")
    assert (document["seconds"], document["fields"]) == (None, {"path": "/a", "set": [1]})


@pytest.mark.parametrize("name", ["", "no/such/folder/log", ".", "nul\0"])
def test_a_log_that_cannot_be_opened_is_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything begins."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationInvalid, match="cannot be written to"):
        EventLog(name, refuse)


def test_a_database_is_never_a_log(tmp_path: Path) -> None:
    """A line in it would be damage."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t(a)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationInvalid, match="is a SQLite database"):
        EventLog(str(path), refuse)
    assert path.read_bytes() == before


def test_one_that_cannot_be_written_to_later_is_a_warning_once(tmp_path: Path) -> None:
    """And what is written after the end is lost, and nothing else."""
    warnings: list[str] = []
    with EventLog("/dev/full", warnings.append) as log:
        log.write(EVENT)
        log.write(EVENT)
    log.write(EVENT)
    assert warnings == ["the log /dev/full cannot be written to: No space left on device"]


def test_standard_error_is_a_log_too(capfd: pytest.CaptureFixture[str]) -> None:
    """It stays open."""
    with EventLog("-", refuse) as log:
        log.write(EVENT)
    assert json.loads(capfd.readouterr().err)["event"] == "checker.finished"
    os.write(2, b"")


WRITER = """
import sys
from pagewarden.logs import EventLog
from tests.core.test_logs import EVENT, refuse
from dataclasses import replace
with EventLog(sys.argv[1], refuse) as log:
    for number in range(300):
        log.write(replace(EVENT, fields={"writer": sys.argv[2], "number": number, "more": "x" * 3000}))
"""


def test_several_processes_may_share_a_log(tmp_path: Path) -> None:
    """No line is torn, none is lost, and each process's stand in their order."""
    path = tmp_path / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(name)], cwd=ROOT, env=environment)
        for name in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    fields = [json.loads(line)["fields"] for line in path.read_text().splitlines()]
    for name in "012":
        assert [each["number"] for each in fields if each["writer"] == name] == list(range(300))
