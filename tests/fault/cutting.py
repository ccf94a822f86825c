"""Cut a restore or an undo at every call that changes a file system, and look at what is left: run as a program.

`python -m tests.fault.cutting SCENARIO ACTION MODE STEP FOLDER` repeats one exchange with the cut at one call in STEP
until a run passes, and prints how many cuts it survived; each scenario begins with another call. Each run is a forked
child of this process, which never opens a database itself (H3). The cut ends the process just before the call, which is
just after the one before. With the mode `again` instead of `kill`, the recovery from every 17th such cut is cut at one
of its own calls in STEP, too.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pagewarden import holders
from pagewarden.lineage import Lineage
from pagewarden.restore import hold
from pagewarden.restore.quarantine import Origin, Phase, Quarantine
from pagewarden.restore.run import put_in_place
from pagewarden.restore.swap import pending_intents, recover_intents
from pagewarden.restore.undo import take_back
from pagewarden.values import Position

CALLS = ("chmod", "chown", "fsync", "link", "mkdir", "pwrite", "rename", "replace", "rmdir", "unlink", "write")
CUT = 77  # exit code of a child that was cut
NOW = datetime(2026, 11, 22, tzinfo=UTC)
MOST = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What stands at the path before, made by a child that dies."""

    make: Callable[[Path], None]
    force: bool = False
    holder: bool = False  # whether a process keeps the database open meanwhile
    readable: bool = True  # whether SQLite can read what stood there


def connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """Open a database; `mode` as in SQLite's URIs."""
    return sqlite3.connect(f"file:{path}?mode={mode}", uri=True, isolation_level=None, timeout=5)


def content(path: Path) -> str:
    """Return what SQLite shows of the database: its rows, "nothing", or "unreadable"."""
    if not path.exists():
        return "nothing"
    try:
        with closing(connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return ",".join(str(row[0]) for row in connection.execute("SELECT DISTINCT who FROM t ORDER BY who"))
    except sqlite3.DatabaseError:
        return "unreadable"


def make_plain(path: Path, who: str = "old") -> None:
    """Make a closed database in rollback-journal mode."""
    with closing(connect(path, "rwc")) as connection:
        connection.executescript("CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT, body BLOB)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t(who, body) VALUES (?, zeroblob(900))", [(who,)] * 40)
        connection.execute("COMMIT")


def make_wal(path: Path) -> None:
    """Leave a WAL database whose "old" rows stand in the -wal alone, as a killed writer does."""
    make_plain(path, "older")
    connection = connect(path)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; UPDATE t SET who = 'old'")
    os._exit(0)


def make_dropped(path: Path) -> None:
    """Leave a WAL database with more in its -wal than SQLite counts as committed."""
    make_plain(path, "older")
    connection = connect(path)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; UPDATE t SET who = 'old'")
    with open(f"{path}-wal", "ab") as wal:
        wal.write(b"evidence" * 1000)
    os._exit(0)


def make_hot(path: Path) -> None:
    """Leave a hot journal: a transaction that was spilled to the file and never committed."""
    make_plain(path)
    connection = connect(path)
    connection.executescript("PRAGMA cache_size=2; PRAGMA cache_spill=2; BEGIN; UPDATE t SET who = 'half', body = NULL")
    assert Path(f"{path}-journal").stat().st_size > 0
    os._exit(0)


def make_damaged(path: Path) -> None:
    """Leave a file that is no database any more, with a -wal that is none either."""
    make_plain(path)
    with path.open("r+b") as file:
        file.write(b"garbage " * 100)
    Path(f"{path}-wal").write_bytes(b"a log of sorts" * 100)


def make_nothing(path: Path) -> None:
    """Leave nothing but a log without its database."""
    Path(f"{path}-wal").write_bytes(b"a log of sorts" * 100)


SCENARIOS = {
    "plain": Scenario(make=make_plain),
    "wal": Scenario(make=make_wal),
    "dropped": Scenario(make=make_dropped),
    "hot": Scenario(make=make_hot),
    "held": Scenario(make=make_wal, force=True, holder=True),
    "damaged": Scenario(make=make_damaged, readable=False),
    "nothing": Scenario(make=make_nothing),
}


def in_child(work: Callable[..., None], *arguments: object) -> int:
    """Run `work` in a forked child; return its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work(*arguments)
            code = 0
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def hold_open(path: Path) -> tuple[int, int]:
    """Fork a process that reads the database and keeps it open; return its pid and the pipe that ends it."""
    ready, told = os.pipe()
    wait, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        connection = connect(path)
        connection.execute("SELECT count(*) FROM t").fetchall()
        os.write(told, b"x")
        os.read(wait, 1)
        os._exit(0)
    os.read(ready, 1)
    for descriptor in (ready, told, wait):
        os.close(descriptor)
    return pid, go


def install(number: int, calls: Sequence[str] = CALLS, fault: str = "kill") -> list[str]:
    """End this process at the one of `calls` that is numbered `number`, or let it fail with the error named `fault`.

    Return the list that a call that failed is then added to.
    """
    seen = 0
    failed: list[str] = []

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            nonlocal seen
            seen += 1
            if seen == number:
                if fault == "kill":
                    os._exit(CUT)
                code = getattr(errno, fault)
                failed.append(name)
                raise OSError(code, os.strerror(code), f"{name}, call {number}")
            # A killed process leaves what it wrote to the system: to wait for the disk would test nothing here.
            return None if name == "fsync" else real(*arguments, **named)

        setattr(os, name, call)

    for name in calls:
        wrap(name)
    return failed


def copy(source: Path, destination: Path) -> None:
    """Stand in for the page reader: no process but this one has the file open."""
    shutil.copyfile(source, destination)


def restore(path: Path, new: Path, force: bool) -> None:
    """Do what `restore` does once the new file's pages are proved."""
    origin = Origin(
        repository="r",
        database="d",
        position=Position(timeline="0" * 32, txid=1, time=NOW),
        database_sum="0" * 16,
    )
    put_in_place(
        path,
        lambda file: copy(new, file),
        copy=copy,
        force=force,
        begun=NOW,
        origin=origin,
        lineage_before=Lineage(path=str(path)),
    )


def undo(path: Path, new: Path, force: bool) -> None:
    """Do what `undo` does."""
    take_back(path, copy=copy, force=force)


def act_and_die(path: Path, new: Path, scenario: Scenario, action: str, number: int) -> None:
    """Restore or undo with the cut installed; the exit code is 0 if it did not come that far."""
    install(number)
    (restore if action == "restore" else undo)(path, new, scenario.force)


def look(path: Path, allowed: set[str]) -> None:
    """Assert that the path, as an application would open it in this moment, shows old or new content."""
    elsewhere = path.parent.parent / "look"
    shutil.copytree(path.parent, elsewhere)
    seen = content(elsewhere / path.name)
    assert seen in allowed, f"shows {seen}, not one of {allowed}"


def mend(path: Path, allowed: set[str], original: dict[str, bytes] | None) -> None:
    """Assert that recovery leaves the old or the new state, and nothing else."""
    recover_intents(path)
    assert not pending_intents(path)
    assert not list(path.parent.glob(".pagewarden-*")), list(path.parent.iterdir())
    entries = Quarantine(path=path).entries()
    for entry in entries:
        assert not list(Quarantine(path=path).folder_of(entry).glob(".entry.json.*"))
    assert path.stat().st_nlink == 1 if path.exists() else True
    done = [entry for entry in entries if entry.phase is Phase.DONE]
    if original is not None and not done:  # went back: every byte as it was
        assert {name: (path.parent / name).read_bytes() for name in original} == original
    seen = content(path)
    assert seen in allowed, f"shows {seen}, not one of {allowed}"


def files(path: Path) -> dict[str, bytes]:
    """Return the database's files and their bytes, the -shm apart."""
    return {
        file.name: file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")) if file.suffix != ".db-shm"
    }


def look_and_mend(path: Path, allowed: set[str], original: dict[str, bytes] | None) -> None:
    """Look at a copy of what is left, then mend it."""
    look(path, allowed)
    mend(path, allowed, original)


def recover_and_die(path: Path, number: int) -> None:
    """Recover with a cut installed; the exit code is 0 if the recovery did not come that far."""
    install(number)
    recover_intents(path)


def run(name: str, action: str, mode: str, step: int, folder: Path) -> int:
    """Cut at one call in `step` until a run passes; return how many cuts were survived."""
    scenario, first = SCENARIOS[name], list(SCENARIOS).index(name) % step + 1
    template, new = folder / "template", folder / "new.db"
    template.mkdir()
    assert in_child(make_plain, new, "new") == 0
    assert in_child(scenario.make, template / "app.db") == 0
    old = {"make_nothing": "nothing", "make_damaged": "unreadable"}.get(scenario.make.__name__, "old")
    if action == "undo":
        assert in_child(restore, template / "app.db", new, False) == 0
    place, path = folder / "place", folder / "place" / "app.db"
    number, again = (1, first) if mode == "again" else (first, 0)
    for survived in range(MOST):
        for leftover in (place, folder / "look"):
            shutil.rmtree(leftover, ignore_errors=True)
        shutil.copytree(template, place)
        original = files(path) if not scenario.readable and action == "restore" else None
        holder = hold_open(path) if scenario.holder else None
        at = f"the cut at {number}, and again at {again}"
        code = in_child(act_and_die, path, new, scenario, action, number)
        if holder is not None:
            os.kill(holder[0], signal.SIGKILL)
            os.waitpid(holder[0], 0)
            os.close(holder[1])
        assert code in (0, CUT), f"exit code {code} with {at}"
        passed = code == 0
        if again and not passed:
            code = in_child(recover_and_die, path, again)
            assert code in (0, CUT), f"exit code {code} of the recovery with {at}"
        assert in_child(look_and_mend, path, {old, "new"}, original) == 0, at
        if passed:
            return survived
        if mode != "again":
            number += step
        else:
            number, again = (number, again + step) if code == CUT else (number + 17, first)
    raise AssertionError("it never passed")


if __name__ == "__main__":
    name, action, mode, step, where = sys.argv[1:]
    hold.LOCK_SECONDS = 0.01
    # Who has the database open is known here, and to ask it at each cut would take longer than all the rest.
    holders._PROC = Path(where) / "no-proc"
    print(run(name, action, mode, int(step), Path(where)))
