"""What a comparison with the newest restore point says of the source (H18), and what it must not say (H34)."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewarden.processes.reader import PageReader
from pagewarden.repository.marks import read_marks
from pagewarden.runtime import Runtime
from pagewarden.values import SourceVerdict, Verdict
from tests.support.databases import build
from tests.support.increments import backup, execute, flip, objects, restored, touch
from tests.support.session import Session


@pytest.fixture(scope="module")
def reader() -> Iterator[PageReader]:
    """One warm page reader for all."""
    with PageReader() as made:
        yield made


@pytest.fixture
def runtime(tmp_path: Path, reader: PageReader) -> Runtime:
    """A runtime with a state directory of its own."""
    return Runtime(state=tmp_path / "state", reader=reader)


def test_what_is_as_it_was_is_as_sound_as_it_was(tmp_path: Path, runtime: Runtime) -> None:
    """A verdict of the newest restore point holds for a database that has not changed since; a new one comes first."""
    path = build(tmp_path / "app.db", rows=60)
    backup(path, runtime, check="standard")
    source = backup(path, runtime).source
    assert (source.verdict, source.level) == (Verdict.SOUND, "standard")
    assert "as it was at" in source.why
    execute(path, touch("60 = 1"))
    assert backup(path, runtime).source.verdict is Verdict.UNKNOWN
    assert backup(path, runtime).source.verdict is Verdict.UNKNOWN
    assert backup(path, runtime, check="standard").source.verdict is Verdict.SOUND


def test_a_page_that_changed_without_a_commit_is_damage(tmp_path: Path, runtime: Runtime) -> None:
    """With a rollback journal the change counter shows it: the backup is made, and marked."""
    path = build(tmp_path / "app.db", rows=100)
    backup(path, runtime)
    flip(path, 8 * 4096 + 100)
    report = backup(path, runtime)
    assert (report.kind, report.pages_copied, report.source.verdict) == ("segment", 1, Verdict.DAMAGED)
    assert report.source.why.startswith("page 9 differs though no commit was made since")
    assert (report.exit_code, report.source.findings) == (1, 1)
    again = backup(path, runtime)
    assert (again.kind, again.exit_code) == ("unchanged", 1)
    assert "as it was at" in again.source.why
    for page in (5, 6, 7, 10, 11, 12, 13):
        flip(path, (page - 1) * 4096 + 1000)
    assert "7 pages (5, 6, 7, 10, 11, …) differ though" in backup(path, runtime).source.why
    execute(path, touch("100 = 1"))
    later = backup(path, runtime).source  # a commit elsewhere heals none of them, but the one it wrote
    assert (later.verdict, later.findings) == (Verdict.DAMAGED, 7)
    assert later.why.startswith("7 pages (6, 7, 9, 10, 11, …) are as when found to differ though")


def test_free_pages_may_change_without_a_commit(tmp_path: Path, runtime: Runtime) -> None:
    """With a rollback journal a transaction that was rolled back may have spilled: no damage (H34)."""
    path = build(tmp_path / "app.db", rows=300)
    image = execute(path, "DELETE FROM item WHERE id % 3 = 0")
    backup(path, runtime)
    leaf = int.from_bytes(image[(int.from_bytes(image[32:36], "big") - 1) * 4096 + 8 :][:4], "big")
    flip(path, (leaf - 1) * 4096 + 50)
    report = backup(path, runtime)
    assert (report.kind, report.pages_copied, report.source.verdict) == ("segment", 1, Verdict.UNKNOWN)
    assert restored(report, runtime, tmp_path / "back.db") == path.read_bytes()
    flip(path, 3 * 4096 + 50)
    flip(path, (leaf - 1) * 4096 + 60)
    assert backup(path, runtime).source.why.startswith("page 4 differs")


def test_in_wal_mode_the_log_shows_that_nothing_was_committed(tmp_path: Path, runtime: Runtime) -> None:
    """Same salts, same frame: what differs in the file is damage; after a commit nobody can tell."""
    path = build(tmp_path / "app.db", mode="wal", rows=200)
    with Session(path) as session:
        session.run("UPDATE item SET name = 'in the log' WHERE id = 1")
        backup(path, runtime)
        descriptor = os.open(path, os.O_RDWR)
        at = 60 * 4096 + 77
        byte = os.pread(descriptor, 1, at)
        os.pwrite(descriptor, bytes([byte[0] ^ 4]), at)
        os.close(descriptor)
        report = backup(path, runtime)
        assert (report.kind, report.source.verdict) == ("segment", Verdict.DAMAGED)
        assert report.source.why.startswith("page 61 differs")
        session.run("UPDATE item SET name = 'later' WHERE id = 1")
        later = backup(path, runtime).source
        assert (later.verdict, later.findings) == (Verdict.DAMAGED, 1)
        assert later.why.startswith("page 61 is as when found to differ though")


@pytest.mark.parametrize(("mode", "verdict"), [("wal", Verdict.DAMAGED), ("delete", Verdict.UNKNOWN)])
def test_more_than_half_of_the_pages_without_a_commit(
    mode: str, verdict: Verdict, tmp_path: Path, runtime: Runtime
) -> None:
    """Damage in WAL mode; with a rollback journal most pages may be free, which a snapshot does not look into (H34)."""
    path = build(tmp_path / "app.db", mode=mode, rows=60)
    with Session(path) as session:
        session.run("UPDATE item SET name = 'in the log' WHERE id = 1")
        backup(path, runtime)
        descriptor = os.open(path, os.O_RDWR)
        size = os.fstat(descriptor).st_size
        os.pwrite(descriptor, random.Random(1).randbytes(size - 8 * 4096), 8 * 4096)
        os.close(descriptor)
        report = backup(path, runtime)
    assert (report.kind, report.source.verdict) == ("snapshot", verdict)


def test_a_base_that_cannot_be_read_says_nothing_of_the_source(tmp_path: Path, runtime: Runtime) -> None:
    """Which pages are free is not known then: no damage is claimed that a rolled-back transaction may explain.

    And nothing is stacked on it.
    """
    path = build(tmp_path / "app.db", rows=100)
    backup(path, runtime)
    (found,) = objects(path)
    flip(found, 400)  # within the first frame of pages; its sums, and the map, are whole
    flip(path, 8 * 4096 + 100)
    report = backup(path, runtime)
    assert (report.kind, report.source.verdict) == ("snapshot", Verdict.UNKNOWN)
    assert report.warnings == (f"every page was copied: {report.why_full}",) and found.name in report.why_full


def _rotten(tmp_path: Path, runtime: Runtime) -> Path:
    """Return a database that was backed up before and after a bit of a row on page 9 was flipped."""
    path = build(tmp_path / "app.db", rows=100)
    backup(path, runtime, check="standard")
    flip(path, 8 * 4096 + 1000)
    assert backup(path, runtime, check="standard").source.verdict is Verdict.DAMAGED
    return path


@pytest.mark.parametrize("full", [False, True])
def test_rot_is_not_forgotten_before_the_page_is_written_again(tmp_path: Path, runtime: Runtime, full: bool) -> None:
    """H18: no check sees a flipped bit of a row, but it was proved; nor does a copy of every page heal it."""
    path = _rotten(tmp_path, runtime)
    for number in (1, 2):
        unchanged = backup(path, runtime, check="standard")
        assert (unchanged.kind, unchanged.source.verdict) == ("unchanged", Verdict.DAMAGED)
        execute(path, f"CREATE TABLE more{number}(x)")
        report = backup(path, runtime, check="standard", full=full)
        assert (report.kind == "snapshot", report.source.verdict) == (full, Verdict.DAMAGED)
        assert report.source.why.startswith("page 9 is as when found to differ though no commit was made since")
    execute(path, "UPDATE item SET name = name || '!'")
    assert backup(path, runtime, check="standard", full=full).source.verdict is Verdict.SOUND
    execute(path, "CREATE TABLE most(x)")
    assert backup(path, runtime, check="standard").source.verdict is Verdict.SOUND
    assert list((tmp_path / "state" / "rot").iterdir()) == []


def test_the_last_restore_point_before_rot_is_pinned(tmp_path: Path, runtime: Runtime) -> None:
    """Once: a VACUUM carries rotten rows to other pages, which nobody can tell from sound ones any more."""
    path = _rotten(tmp_path, runtime)
    execute(path, "CREATE TABLE more(x)")
    assert backup(path, runtime, check="standard").source.verdict is Verdict.DAMAGED
    execute(path, "VACUUM")
    assert backup(path, runtime, check="standard").source.verdict is Verdict.SOUND
    store = runtime.repository(str(path.parent / "repository")).store
    note = "the last before pages were found to differ though no commit was made since"
    assert read_marks(store, path.name).pins == {1: note}


@pytest.mark.parametrize("level", ["standard", "deep"])
def test_a_judgement_that_is_news_is_stored_where_nothing_differs(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """H18: what thaws retention, or freezes it, is told by a restore point without pages; told once."""
    path = _rotten(tmp_path, runtime)
    execute(path, "UPDATE item SET name = name || '!'")
    assert backup(path, runtime).source.verdict is Verdict.UNKNOWN
    report = backup(path, runtime, check="standard")
    assert (report.kind, report.pages_copied, report.source.verdict) == ("segment", 0, Verdict.SOUND)
    assert backup(path, runtime, check="standard").kind == "unchanged"
    bad = SourceVerdict(verdict=Verdict.DAMAGED, level=level, findings=1, why="damage")
    with monkeypatch.context() as patch:
        patch.setattr("pagewarden.backup.judge", lambda *_: bad)
        kinds = [backup(path, runtime, check=level).kind for _ in range(2)]
    assert kinds == ["segment", "unchanged"]
    report = backup(path, runtime, check="standard")  # not as thorough as what found damage, or just as thorough
    assert (report.kind, report.source.verdict) == (
        ("segment", Verdict.SOUND) if level == "standard" else ("unchanged", Verdict.DAMAGED)
    )
    assert restored(report, runtime, tmp_path / "back.db") == path.read_bytes()


def test_a_backup_that_is_cut_off_after_its_commit_loses_no_rot(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is kept before the commit, too: whatever comes in between, it is that of the newest restore point."""
    path = _rotten(tmp_path, runtime)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for place in ("pagewarden.increment.LocalMap.keep", "pagewarden.repository.store.Store.adopt"):
        execute(path, f"CREATE TABLE {place[-5:]}(x)".replace(".", "_"))
        with monkeypatch.context() as patch:
            patch.setattr(place, interrupted)
            with pytest.raises(KeyboardInterrupt):
                backup(path, runtime, check="standard")
    report = backup(path, runtime, check="standard")
    assert report.source.why.startswith("page 9 is as when found to differ though no commit was made since")
    assert len(list((tmp_path / "state" / "rot").iterdir())) == 1


@pytest.mark.parametrize("how", ["lost", "broken", "map"])
def test_where_the_list_of_rotten_pages_is_lost_nothing_is_sound(tmp_path: Path, runtime: Runtime, how: str) -> None:
    """H18: nobody knows which pages they are, so what a check finds is never sound."""
    path = _rotten(tmp_path, runtime)
    (kept,) = (tmp_path / "state" / "rot").iterdir()
    if how == "map":
        (page_map,) = (tmp_path / "state" / "maps").glob("*.map")
        page_map.unlink()
    elif how == "lost":
        kept.unlink()
    else:
        kept.write_bytes(kept.read_bytes()[:-20])
    for number in (1, 2):
        execute(path, f"CREATE TABLE more{number}(x)")
        source = backup(path, runtime, check="standard", full=how == "map").source
        assert source.verdict is Verdict.UNKNOWN
        assert "nobody knows whether pages are as when found to differ though" in source.why
