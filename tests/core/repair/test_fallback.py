"""Whatever way the newest restore point is damaged, an older one that is whole takes its place, and that is told."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.contracts import RepairBench, Subject, Target, TargetFactory
from pagewarden.errors import RepositoryDamaged, TargetFailed
from pagewarden.hookspecs import hookimpl
from pagewarden.processes.reader import PageReader
from pagewarden.repair.reports import RepairReport
from pagewarden.repository import Manifest
from pagewarden.values import Finding, Level, Severity
from tests.core.repair.chosen import Chosen, Plugins, reindex
from tests.core.repair.pasts import Past, Rows, fill, rows_of, write

Hurt = Callable[[Past, Manifest], None]


def flip(past: Past, manifest: Manifest, *, part: float) -> None:
    """Flip a bit of its pages."""
    file = Path(past.repository) / manifest.key
    data = bytearray(file.read_bytes())
    data[int(len(data) * part)] ^= 4
    file.chmod(0o600)
    file.write_bytes(data)


def cut_off(past: Past, manifest: Manifest) -> None:
    """Leave the first half of it."""
    file = Path(past.repository) / manifest.key
    file.chmod(0o600)
    os.truncate(file, file.stat().st_size // 2)


def lose(past: Past, manifest: Manifest) -> None:
    """Lose its object."""
    (Path(past.repository) / manifest.key).unlink()


def manifest_of(past: Past, manifest: Manifest) -> Path:
    """Return the file of a manifest, to be written to."""
    (file,) = Path(past.repository).glob(f"app.db/manifests/*{manifest.sequence}.json")
    file.chmod(0o600)
    return file


HURTS: dict[str, Hurt] = {
    "flipped": lambda past, manifest: flip(past, manifest, part=0.01),
    "flipped further on": lambda past, manifest: flip(past, manifest, part=0.7),
    "cut off": cut_off,
    "lost": lose,
    "without its manifest": lambda past, manifest: manifest_of(past, manifest).unlink(),
    "with a manifest of garbage": lambda past, manifest: manifest_of(past, manifest).write_text("{garbage"),  # type: ignore[dict-item]
    "with an empty manifest": lambda past, manifest: os.truncate(manifest_of(past, manifest), 0),
}


def backed_up(past: Past) -> list[Rows]:
    """Back a closed database up twice, in snapshots of several frames; return the rows of each, newest first."""
    past.make("delete", page_size=4096)
    with closing(past.connect()) as connection:
        connection.execute("CREATE TABLE noise(a)")
        connection.execute("WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
                           " INSERT INTO noise SELECT randomblob(3000) FROM n")  # fmt: skip
    past.back_up()
    rows = [past.rows()]
    with closing(past.connect()) as connection:
        fill(connection, 50)
        write(connection)
    past.back_up(full=True)
    return [past.rows(), *rows]


@pytest.mark.parametrize("how", HURTS)
def test_the_restore_point_before_takes_the_place(past: Past, how: str) -> None:
    """It is whole, it is not taken for the present state whatever the owner declares, and there is a word why (H26)."""
    truths = backed_up(past)
    history = past.history()
    older, newest = history.manifests
    assert history.present is history.newest and history.passed == ()
    HURTS[how](past, newest)
    for assumed in (False, True):
        history = past.history(assume_current=assumed)
        if not history.passed:  # nobody has read the page in question until now
            assert how in ("flipped", "flipped further on", "cut off")
            with pytest.raises(RepositoryDamaged):
                past.held_by(history, history.newest)
            again = history.without_broken()
            assert again is not None
            history = again
        assert (history.newest.position, history.present) == (older.position, None)
        assert past.held_by(history, history.newest) == truths[1]
        assert [each.position for each in history.older] == []
        assert len(history.passed) == 1 and (
            "cannot be used" in history.passed[0] or "cannot be read" in history.passed[0]
        )
        assert ("newer restore points cannot be used" in history.why) and "--assume-current" not in history.why
        assert history.without_broken() is None


def test_an_older_restore_point_that_is_damaged_is_left_out(past: Past) -> None:
    """The newest one stays what it is."""
    backed_up(past)
    older, newest = past.history().manifests
    flip(past, older, part=0.5)
    history = past.history().without_broken()
    assert history is not None
    assert (history.newest.position, list(history.older)) == (newest.position, [])
    assert history.passed == () and history.present is history.newest


def test_without_any_that_is_whole_that_is_an_error(past: Past) -> None:
    """It names how to find out more."""
    backed_up(past)
    for manifest in past.history().manifests:
        flip(past, manifest, part=0.5)
    with pytest.raises(RepositoryDamaged, match="none of the 2 restore points") as damaged:
        past.history().without_broken()
    assert "verify" in damaged.value.hint


@pytest.mark.parametrize("part", [0.01, 0.7])
def test_a_repair_goes_on_with_the_one_before(past: Past, plugins: Plugins, part: float, jobs_here: None) -> None:
    """Plan and report warn of it, also where the damage shows only when the whole of it is fetched."""
    truths = backed_up(past)
    fetched: list[Rows] = []

    def fetch(bench: RepairBench) -> None:
        history = bench.case.history
        assert history is not None
        history.fetch(history.newest, bench.scratch / "fetched.db")
        with closing(sqlite3.connect(bench.scratch / "fetched.db")) as connection:
            fetched.append(rows_of(connection))
        reindex(bench)

    plugins.repairers, plugins.installed = [Chosen(fetch)], ("target-directory",)
    flip(past, past.history().manifests[-1], part=part)
    with closing(past.connect()) as connection:
        connection.execute("CREATE INDEX letter ON letters(body)")
    break_index(past)

    def warned(report: RepairReport) -> bool:
        return any("cannot be used" in each for each in report.warnings)

    planned = plugins.repair(past.path, apply=False, repository=past.repository)
    assert [each.repairer for each in planned.plan] == ["repair-chosen"]
    assert warned(planned) == (part < 0.5)  # a plan reads no more of a restore point than it needs
    report = plugins.repair(past.path, repository=past.repository)
    assert report.applied and warned(report) and fetched == truths[1:]
    assert past.rows() == truths[0]


def break_index(past: Past) -> None:
    """Damage a key of the index, in the file."""
    data = bytearray(past.path.read_bytes())
    at = data.rindex(b"letter 17 letter 17")
    data[at : at + 9] = b"lettes 17"
    past.path.write_bytes(data)


class Silent(Plugins):
    """Brings storage that takes what it is asked and never answers, and a checker that names a page."""

    name = "silent"
    schemes: tuple[str, ...] = ("silent",)
    level = Level.QUICK

    def __init__(self, state: Path, reader: PageReader) -> None:
        """As any."""
        super().__init__(state, reader)
        self.checkers = [self]
        self.stop = threading.Event()

    @hookimpl
    def pagewarden_targets(self) -> Iterable[TargetFactory]:
        """Return itself."""
        return [self]

    def open(self, url: str, *, create: bool) -> Target:
        """Wait."""
        self.stop.wait(60)
        raise TargetFailed(f"{url} {create}")

    def check(self, subject: Subject) -> Iterable[Finding]:
        """Find a damaged page."""
        assert subject.path
        return [Finding(kind="said", severity=Severity.DAMAGE, message="it is", pgno=2)]


@pytest.mark.parametrize("apply", [False, True])
def test_a_repository_that_does_not_answer_ends_the_repair_in_time(past: Past, reader: PageReader, apply: bool) -> None:
    """Neither the check nor the plan waits longer than --max-time, and the database is as it was."""
    past.make("delete")
    before = past.path.read_bytes()
    silent = Silent(past.folder / "state", reader)
    began = time.monotonic()
    with pytest.raises(TargetFailed, match="silent://there did not answer in time"):
        silent.repair(past.path, apply=apply, repository="silent://there", max_time=0.5)
    assert time.monotonic() - began < 20
    silent.stop.set()
    assert past.path.read_bytes() == before
    assert not (past.folder / ".pagewarden" / "app.db" / "000001").exists()
