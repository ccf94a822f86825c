"""Cut a repair, or the undo of one, at calls that change a file system, and look at what is left: run as a program.

`python -m tests.fault.repairing SCENARIO ACTION FAULT STEP FOLDER` repeats it with the fault at one call in STEP until
a run passes, and prints how many faults it survived. Each run is a forked child of this process, which never opens a
database itself (H3). The fault `kill` ends the process just before the call; `EIO` and `ENOSPC` fail that one call. The
repairer and the repair's own jobs work in the child, so that their calls are cut, too.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pagewarden import holders
from pagewarden.errors import OutOfSpace, PagewardenError, TargetFailed
from pagewarden.processes.reader import PageReader
from pagewarden.repair import attempt
from pagewarden.repair.isolate import Place
from pagewarden.repair.jobs import do_job
from pagewarden.restore.quarantine import Phase, Quarantine
from pagewarden.restore.swap import pending_intents, recover_intents
from pagewarden.restore.undo import take_back
from tests.core.repair.chosen import Plugins, files, make_broken, make_broken_hot, make_broken_log, rows
from tests.fault.cutting import CUT, copy, in_child, install

CALLS = ("chmod", "fsync", "ftruncate", "link", "mkdir", "pwrite", "rename", "replace", "rmdir", "unlink")
MAKE: dict[str, Callable[[Path], Path]] = {
    "plain": make_broken,
    "log": make_broken_log,
    "hot": make_broken_hot,
}
MOST = 600


def make(scenario: str, path: Path) -> None:
    """Make a damaged database."""
    MAKE[scenario](path)


def do_here(job: str, task: Mapping[str, Any], place: Place) -> object:
    """Do a job of the repair's in this process."""
    return do_job(job, task, place.on_progress)


def act(path: Path, action: str, number: int, fault: str) -> None:
    """Repair or undo with the fault installed; the process ends with 0 only if it was not met."""
    vars(attempt)["do"] = do_here
    with PageReader() as reader:
        reader.ping()
        plugins = Plugins(path.parent.parent / "state", reader)
        failed = install(number, CALLS, fault)
        try:
            if action == "undo":
                take_back(path, copy=reader.copy_file, force=False)
            else:
                output = path.with_name("new.db") if action == "output" else None
                report = plugins.repair(path, output=None if output is None else str(output))
                told = " ".join((report.why, *report.warnings))  # of a repairer or a checker that could not write
                assert report.applied or "failed" in told or "could not be judged" in told, report
        except (OutOfSpace, TargetFailed) as error:
            assert failed, error
        except PagewardenError as error:
            raise AssertionError(f"{type(error).__name__}: {error}") from error
    if failed:
        os._exit(CUT)


def look(path: Path, action: str, original: dict[str, bytes], repaired: list[object]) -> None:
    """Assert that what stands at the path is what was there or what was to be, as an application would see it; mend it.

    Before the repair had taken the path, each byte of the file, its -wal and its -journal is as it was.
    """
    place = path.with_name("new.db") if action == "output" else path
    seen = shown(path)
    entries = Quarantine(path=place).entries()
    if action == "output":
        assert files(path) == original
        assert not place.exists() or shown(place) == repaired
    elif action == "repair" and not any(entry.phase in (Phase.SWAPPING, Phase.DONE) for entry in entries):
        assert files(path) == original, sorted(files(path))
    else:
        assert seen in (repaired, shown_of(original, path)), seen
    recover_intents(place)
    assert not pending_intents(place)
    assert not list(path.parent.glob(".pagewarden-*")), sorted(path.parent.iterdir())
    assert not list(path.parent.glob(".pagewarden/*/*/work"))
    done = [entry for entry in Quarantine(path=place).entries() if entry.phase is Phase.DONE]
    if not done and action != "undo":
        assert files(path) == original, sorted(files(path))
        assert not place.exists() or place == path
    elif not done:
        assert files(path) == original
    else:
        assert shown(place) == repaired
        if action == "repair":
            folder = Quarantine(path=place).folder_of(done[-1])
            assert (folder / "report.json").exists()
            take_back(path, copy=copy, force=False)
            assert files(path) == original
    assert path.stat().st_nlink == 1


def shown(path: Path) -> list[object]:
    """Return what an application would see of the table, looked at in a copy; nothing of one that cannot be read."""
    elsewhere = path.parent.parent / "look"
    shutil.rmtree(elsewhere, ignore_errors=True)
    elsewhere.mkdir()
    for suffix in ("", "-wal", "-journal"):
        if Path(f"{path}{suffix}").exists():
            shutil.copyfile(f"{path}{suffix}", f"{elsewhere / path.name}{suffix}")
    with closing(sqlite3.connect(elsewhere / path.name)) as connection:
        found: list[object] = connection.execute("SELECT id, who, body FROM t NOT INDEXED ORDER BY id").fetchall()
        return found


def shown_of(original: dict[str, bytes], path: Path) -> list[object]:
    """Return what an application saw of the original."""
    folder = path.parent.parent / "original"
    folder.mkdir(exist_ok=True)
    for name, content in original.items():
        (folder / name).write_bytes(content)
    return shown(folder / path.name)


def run(scenario: str, action: str, fault: str, step: int, folder: Path) -> int:
    """Let calls fail until a run passes; return how many faults were survived."""
    template = folder / "template" / "place"
    template.mkdir(parents=True)
    path = folder / "at" / "place" / "app.db"
    assert in_child(make, scenario, template / "app.db") == 0
    original = files(template / "app.db")
    shutil.copytree(template.parent, path.parent.parent)
    assert in_child(act, path, "repair", 0, "kill") == 0
    repaired = rows(path)
    if action == "undo":
        shutil.rmtree(template)
        shutil.copytree(path.parent, template)
    number = max(1, step // 2)
    for survived in range(MOST):
        shutil.rmtree(path.parent.parent)
        shutil.copytree(template.parent, path.parent.parent)
        code = in_child(act, path, action, number, fault)
        at = f"exit code {code} with {fault} at call {number}"
        assert code in (0, CUT), at
        assert in_child(look, path, action, original, repaired) == 0, at
        if code == 0:
            return survived
        number += step
    raise AssertionError("it never passed")


if __name__ == "__main__":
    scenario, action, fault, step, where = sys.argv[1:]
    # Who has the database open is known here, and to ask it at each cut would take longer than all the rest.
    holders._PROC = Path(where) / "no-proc"
    print(run(scenario, action, fault, int(step), Path(where)))
