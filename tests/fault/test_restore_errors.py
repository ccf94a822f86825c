"""Restore and undo when calls fail, once or for ever: a named error, a path that is whole, and nothing left (H30)."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden import holders
from pagewarden.errors import OutOfSpace, PagewardenError
from pagewarden.lineage import Lineage
from pagewarden.restore import hold, pending_intents, recover_intents
from pagewarden.restore.quarantine import Origin, Phase, Quarantine
from pagewarden.restore.run import put_in_place
from pagewarden.restore.undo import take_back
from pagewarden.values import Position
from tests.core.restore.conftest import leave_damaged, leave_hot, leave_in_wal, make, says
from tests.support.session import Session


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for locks, nor look for holders, who are known here: each call that fails is one exchange."""
    monkeypatch.setattr(hold, "LOCK_SECONDS", 0.01)
    monkeypatch.setattr(holders, "_PROC", tmp_path / "no-proc")


CALLS = ("chmod", "chown", "fsync", "link", "mkdir", "pwrite", "replace", "rmdir", "unlink")
NOW = datetime(2026, 11, 22, tzinfo=UTC)
ORIGIN = Origin(
    repository="/backup",
    database="app.db",
    position=Position(timeline="0" * 32, txid=1, time=NOW),
    database_sum="0" * 16,
)


class Faults:
    """Lets call number `at` of this process fail for lack of space, and with `forever` each one after it."""

    def __init__(self, at: int, *, forever: bool) -> None:
        self.at = at
        self.forever = forever
        self.seen = 0
        self.met = False

    @contextmanager
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Fail calls within the context. Nothing waits for the disk: that would test nothing here."""
        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._failing(name, getattr(os, name)))
            yield

    def _failing(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            self.seen += 1
            if self.seen == self.at or (self.forever and self.seen > self.at):
                self.met = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return None if name == "fsync" else real(*arguments, **named)

        return call


def copy(source: Path, destination: Path) -> None:
    """Copy a closed file, as the page reader does."""
    shutil.copyfile(source, destination)


def restore(path: Path, new: Path, *, force: bool = False) -> None:
    """Do what `restore` does once the new file's pages are proved."""
    put_in_place(
        path,
        lambda file: copy(new, file),
        copy=copy,
        force=force,
        begun=NOW,
        origin=ORIGIN,
        lineage_before=Lineage(path="/app.db"),
    )


def whole(path: Path, damaged: dict[str, bytes] | None) -> None:
    """Assert that the path shows old or new content; what was `damaged` before is so still, byte for byte, or new."""
    if damaged is not None and path.read_bytes() == damaged[path.name]:
        assert {name: (path.parent / name).read_bytes() for name in damaged} == damaged
    else:
        assert says(path) in ("old", "new")


LEAVE = {"wal": leave_in_wal, "hot": leave_hot, "damaged": leave_damaged}


@pytest.mark.parametrize(("left", "forever"), [("wal", False), ("hot", True), ("damaged", False), ("held", False)])
def test_a_restore_whose_calls_fail_leaves_the_path_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str, forever: bool
) -> None:
    """With call 1, 2, 3 … failing until a run passes; what could not be taken back then is by the next recovery."""
    template, new = tmp_path / "template", make(tmp_path / "new.db", "new")
    template.mkdir()
    LEAVE.get(left, leave_in_wal)(template / "app.db")
    # Starting a process that holds the database takes its time, so its calls are sampled.
    for number in range(1, 200, 3 if left == "held" else 1):
        place = shutil.copytree(template, tmp_path / "place")
        path = place / "app.db"
        damaged = {file.name: file.read_bytes() for file in place.iterdir()} if left == "damaged" else None
        session = Session(path) if left == "held" else None
        if session is not None:
            session.run("SELECT count(*) FROM t")
        faults = Faults(number, forever=forever)
        with faults.installed(monkeypatch):
            try:
                restore(path, new, force=session is not None)
            except PagewardenError as error:
                assert faults.met
                assert isinstance(error, OutOfSpace), error
        if session is not None:
            session.kill()
        recover_intents(path)
        assert pending_intents(path) == ()
        assert not [file for file in place.iterdir() if file.name.startswith(".pagewarden-")]
        assert path.stat().st_nlink == 1
        whole(path, damaged)
        shutil.rmtree(place)
        if not faults.met:
            assert number > 40
            return
    raise AssertionError("it never passed")


@pytest.mark.parametrize("left", ["nothing", "damaged"])
def test_an_undo_whose_calls_fail_leaves_the_path_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """The restored file stands until the previous one does; afterwards undo succeeds."""
    template, new = tmp_path / "template", make(tmp_path / "new.db", "new")
    template.mkdir()
    if left != "nothing":
        LEAVE[left](template / "app.db")
    damaged = {file.name: file.read_bytes() for file in template.iterdir()} if left == "damaged" else None
    restore(template / "app.db", new)
    for number in range(1, 200):
        place = shutil.copytree(template, tmp_path / "place")
        path = place / "app.db"
        faults = Faults(number, forever=False)
        with faults.installed(monkeypatch):
            try:
                take_back(path, copy=copy, force=False)
            except PagewardenError as error:
                assert faults.met
                assert isinstance(error, OutOfSpace), error
        recover_intents(path)
        (entry,) = Quarantine(path=path).entries()
        if entry.phase is Phase.DONE:
            assert says(path) == "new"
            take_back(path, copy=copy, force=False)
        if left == "nothing":
            assert [file.name for file in place.iterdir()] == [".pagewarden"]
        else:
            whole(path, damaged)
        shutil.rmtree(place)
        if not faults.met:
            assert number > 25
            return
    raise AssertionError("it never passed")
