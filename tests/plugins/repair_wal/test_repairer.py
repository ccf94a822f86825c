"""A log is never laid over what it was not written for; what SQLite drops of a damaged one is kept, or replayed."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.contracts import Loss, Repairer, RepairPolicy, RepairStep, Stage
from pagewarden.errors import RepairRefused
from pagewarden.processes.survey import survey
from pagewarden.sqlite.wal import frame_offset
from pagewarden.testing import INJURIES
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.testing.contracts.repairer import RepairerContract
from pagewarden.values import Finding, Severity
from pagewarden_repair_wal.repairer import WalRepairer
from tests.support.injuring import SHAPES, copy, injure, make
from tests.support.stranding import (
    Logged,
    change,
    garbage,
    make_logged,
    rows_of,
    wrong_checksum,
    wrong_number,
    wrong_salts,
    zeroed_sector,
)

STRANDED = (Finding(kind="stranded-commits", severity=Severity.DAMAGE, message="SQLite leaves commits out"),)
FOREIGN = (Finding(kind="foreign-wal", severity=Severity.DAMAGE, message="the -wal is another database's"),)
REPLAY = RepairPolicy(replay_stranded=True)


class TestContract(RepairerContract):
    """The repairer of logs is what the planner expects of any repairer."""

    @pytest.fixture
    def repairer(self) -> Repairer:
        """Return it."""
        return WalRepairer()

    def break_copy(self, copy: Path) -> Sequence[Finding]:
        """Lay another database's log over the copy."""
        INJURIES["foreign-wal"].apply(copy, 3)
        return FOREIGN

    def make_case(self, copy: Path, findings: Sequence[Finding]) -> ClosedCase:
        """Return a case with the log."""
        return ClosedCase(copy, findings, log=survey(str(copy), live=False))


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """A database with a log of many commits."""
    return make_logged(tmp_path_factory.mktemp("logged"))


def case_of(path: Path, findings: Sequence[Finding] = STRANDED, policy: RepairPolicy | None = None) -> ClosedCase:
    """Return the case of a database and its log."""
    return ClosedCase(path, findings, log=survey(str(path), live=False), policy=policy)


def apply(case: ClosedCase, path: Path) -> tuple[RepairStep, ClosedBench]:
    """Plan and apply."""
    (step,) = WalRepairer().plan(case)
    assert step.stage is Stage.LOG
    scratch = path.parent / "scratch"
    scratch.mkdir()
    bench = ClosedBench(path, scratch, case)
    WalRepairer().apply(bench, [step])
    assert list(scratch.iterdir()) == []
    scratch.rmdir()
    return step, bench


@pytest.mark.parametrize("damage", [wrong_number, wrong_salts, wrong_checksum])
def test_every_commit_comes_back_that_is_provably_intact(
    damage: Callable[[Logged, int, random.Random], None], logged: Logged, tmp_path: Path
) -> None:
    """Where the frame's neighbours prove it, nothing is lost, and the log is again what it was, byte for byte."""
    original = logged.wal.read_bytes()
    for frame in range(2, logged.last, 9):
        here = logged.place(tmp_path / str(frame))
        damage(here, frame, random.Random(frame))
        damaged = here.wal.read_bytes()
        step, bench = apply(case_of(here.path, policy=REPLAY), here.path)
        assert (step.loss, step.loses, step.mends) == (Loss.NOTHING, "nothing", (0,))
        assert "without a gap" in step.why
        assert bench.cut_files == {"app.db-wal": damaged}
        assert here.wal.read_bytes() == original
        assert rows_of(here.path) == logged.states[logged.last]


def test_what_is_replayed_is_a_state_that_was_committed(logged: Logged, tmp_path: Path) -> None:
    """Whatever frame is lost: a log is left that SQLite takes whole, up to the last commit of which nothing is missing.

    Every commit that is left in it is one that the database had, too.
    """
    whole = some = 0
    for frame in range(1, logged.last, 5):
        here = logged.place(tmp_path / str(frame))
        garbage(here, frame, random.Random(frame))
        case = case_of(here.path, policy=REPLAY)
        assert case.log is not None
        target = case.log.replay_to
        step, bench = apply(case, here.path)
        if not target:
            assert step.task["do"] == "cut"
            target = case.log.committed
        seen = survey(str(here.path), live=False)
        assert (seen is None) == (target == 0)
        if seen is not None:
            assert seen.frames == seen.valid == seen.committed and not seen.end
            _every_commit_was_one(here, logged, tmp_path / f"prefixes-{frame}")
        assert rows_of(here.path) == logged.states[target]
        whole += target == logged.last
        some += 0 < target < logged.last
        assert (step.loss is Loss.NOTHING) == (target == logged.last and not case.log.replay_without)
        assert ("app.db-stranded.db" in bench.cut_files) == (target < logged.last)
    assert whole and some


def _every_commit_was_one(here: Logged, logged: Logged, folder: Path) -> None:
    """Cut the log off behind each of its commits: SQLite must see a state of the history, in the order of those."""
    log = here.wal.read_bytes()
    states = list(logged.states.values())
    folder.mkdir()
    at = -1
    commits = [
        frame
        for frame in range(1, (len(log) - 32) // (24 + 512) + 1)
        if any(log[frame_offset(frame, 512) + 4 : frame_offset(frame, 512) + 8])
    ]
    for frame in commits[:: max(1, len(commits) // 4)]:
        database = folder / f"{frame}.db"
        shutil.copyfile(here.path, database)
        database.with_name(f"{frame}.db-wal").write_bytes(log[: frame_offset(frame + 1, 512)])
        at = states.index(rows_of(database), at + 1)


def test_without_the_owners_choice_nothing_is_replayed_but_all_is_kept(logged: Logged, tmp_path: Path) -> None:
    """The log ends where SQLite's recovery does; what was left out can be laid beside the original later."""
    for frame in (2, logged.last // 2):
        here = logged.place(tmp_path / str(frame))
        wrong_number(here, frame, random.Random(frame))
        damaged = here.wal.read_bytes()
        case = case_of(here.path)
        assert case.log is not None
        committed = max(commit for commit in logged.states if commit < frame)
        step, bench = apply(case, here.path)
        assert (step.loss, step.task["do"]) == (Loss.MOVED, "cut")
        assert f"{case.log.replay_commits} of them can be replayed" in step.why
        assert bench.cut_files["app.db-wal"] == damaged
        assert rows_of(here.path) == logged.states[committed]
        again = tmp_path / f"again-{frame}.db"
        shutil.copyfile(logged.path, again)
        again.with_name(f"{again.name}-wal").write_bytes(bench.cut_files["app.db-wal-stranded"])
        assert rows_of(again) == logged.states[logged.last]


def test_frames_that_cannot_be_replayed_are_kept_as_pages(logged: Logged, tmp_path: Path) -> None:
    """In a database of their own: every intact one up to the last commit, as it stood in the log."""
    frame = logged.last - 9
    here = logged.place(tmp_path / "here")
    original = here.wal.read_bytes()
    zeroed_sector(here, frame, random.Random(1))
    step, bench = apply(case_of(here.path, policy=REPLAY), here.path)
    assert step.task["do"] == "cut" and "app.db-wal-stranded" not in bench.cut_files
    kept = tmp_path / "kept.db"
    kept.write_bytes(bench.cut_files["app.db-stranded.db"])
    with closing(sqlite3.connect(kept)) as connection:
        frames = connection.execute("SELECT * FROM frames ORDER BY frame").fetchall()
    numbers = [number for number, *_ in frames]
    assert numbers[-1] == logged.last and frame not in numbers and frame + 2 in numbers
    for number, pgno, pages, data in frames:
        start = frame_offset(number, 512)
        assert (pgno, pages) == logged.frames[number - 1]
        assert data == original[start + 24 : start + 24 + 512]


@pytest.mark.parametrize("replay", [True, False])
def test_a_damaged_header_costs_nothing_that_is_replayed(replay: bool, logged: Logged, tmp_path: Path) -> None:
    """SQLite leaves the whole log out; its frames prove which header it had."""
    finding = Finding(kind="bad-wal-header", severity=Severity.DAMAGE, message="the header is damaged")
    original = logged.wal.read_bytes()
    for offset in (0, 8, 16, 24):
        here = logged.place(tmp_path / str(offset))
        change(here.wal, offset, random.Random(offset).randbytes(8))
        step, bench = apply(case_of(here.path, [finding], REPLAY if replay else None), here.path)
        if replay:
            assert here.wal.read_bytes() == original and step.loss is Loss.NOTHING
        else:
            assert not here.wal.exists() and "take away the -wal" in step.text
            assert bench.cut_files["app.db-wal-stranded"] == original
        assert rows_of(here.path) == logged.states[logged.last if replay else 0]


def test_a_log_of_which_nothing_is_proven_is_kept_as_it_is(logged: Logged, tmp_path: Path) -> None:
    """Header and first frame are gone: nobody knows which generation the others are of."""
    here = logged.place(tmp_path / "here")
    change(here.wal, 0, bytes(32))
    garbage(here, 1, random.Random(1))
    damaged = here.wal.read_bytes()
    _, bench = apply(case_of(here.path, policy=REPLAY), here.path)
    assert bench.cut_files == {"app.db-wal": damaged}
    assert rows_of(here.path) == logged.states[0]


def test_a_replay_that_would_leave_an_unsound_database_is_refused(logged: Logged, tmp_path: Path) -> None:
    """Such as frames over another file than the one that they were written for: generations are not mixed."""
    here = logged.place(tmp_path / "here")
    frame = logged.last // 2
    wrong_number(here, frame, random.Random(1))
    case = case_of(here.path, policy=REPLAY)
    assert case.log is not None
    (step,) = WalRepairer().plan(case)
    with here.path.open("r+b") as file:  # an older state of pages that no frame replaces
        written = {pgno for pgno, _ in logged.frames}
        spared = [pgno for pgno in range(2, here.path.stat().st_size // 512) if pgno not in written]
        for pgno in spared:
            file.seek((pgno - 1) * 512)
            file.write(bytes(512))
    assert spared
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    bench = ClosedBench(here.path, scratch, case)
    WalRepairer().apply(bench, [step])  # the flaws were there before, so that the replay is not at fault
    assert here.wal.read_bytes() == logged.wal.read_bytes()
    other = make_logged(tmp_path, seed=2)
    there = logged.place(tmp_path / "there")
    wrong_number(there, frame, random.Random(1))
    shutil.copyfile(other.path, there.path)
    case = case_of(there.path, policy=REPLAY)
    (step,) = WalRepairer().plan(case)
    scratch = tmp_path / "scratch-2"
    scratch.mkdir()
    with pytest.raises(RepairRefused, match="would not leave a sound database"):
        WalRepairer().apply(ClosedBench(there.path, scratch, case), [step])


def test_a_log_that_changed_since_the_plan_is_not_touched(logged: Logged, tmp_path: Path) -> None:
    """The plan was for another generation, or for other proven frames."""
    here = logged.place(tmp_path / "here")
    wrong_number(here, 5, random.Random(1))
    case = case_of(here.path, policy=REPLAY)
    (step,) = WalRepairer().plan(case)
    bench = ClosedBench(here.path, tmp_path, case)
    garbage(here, logged.last - 1, random.Random(2))
    changed = here.wal.read_bytes()
    with pytest.raises(RepairRefused, match="is proven up to frame"):
        WalRepairer().apply(bench, [step])
    assert here.wal.read_bytes() == changed
    shutil.copyfile(make_logged(tmp_path, seed=3, commits=1).wal, here.wal)
    with pytest.raises(RepairRefused, match="is not the log that was planned for"):
        WalRepairer().apply(bench, [step])
    here.wal.unlink()
    with pytest.raises(RepairRefused, match="is not the log that was planned for"):
        WalRepairer().apply(bench, [step])


@pytest.mark.parametrize("shape", ["plain", "small-pages", "vacuumed", "large-pages"])
def test_a_foreign_log_is_set_aside(shape: str, tmp_path: Path) -> None:
    """Its own from an older image, or another database's: the file is what it was, and the log is kept."""
    made, older = make(tmp_path, SHAPES[shape])
    sound = made.read_bytes()
    for seed in range(1, 7):
        here = tmp_path / f"{seed}.db"
        copy(made, here)
        assert injure(here, "foreign-wal", seed, older) is not None
        log = here.with_name(f"{seed}.db-wal").read_bytes()
        step, bench = apply(case_of(here, FOREIGN), here)
        assert (step.loss, step.mends, step.task["do"]) == (Loss.NOTHING, (), "set-aside")
        assert bench.cut_files == {f"{seed}.db-wal": log}
        assert here.read_bytes() == sound
        assert not here.with_name(f"{seed}.db-wal").exists()


def test_a_database_whose_own_header_is_damaged_keeps_its_log(logged: Logged, tmp_path: Path) -> None:
    """What such a header says proves nothing against the log, which has the newest commits."""
    for seed in range(1, 31):
        here = logged.place(tmp_path / str(seed))
        log = here.wal.read_bytes()
        here.wal.unlink()
        INJURIES["header-garbage"].apply(here.path, seed)
        here.wal.write_bytes(log)
        assert [step.task["do"] for step in WalRepairer().plan(case_of(here.path, FOREIGN))] == []


def test_a_sound_log_is_left_alone(logged: Logged, tmp_path: Path) -> None:
    """Damage elsewhere, a tail that was cut off, a notice: none of that is the log's."""
    damage = Finding(kind="bad-page", severity=Severity.DAMAGE, message="a page is none")
    notice = Finding(kind="broken-commit", severity=Severity.NOTICE, message="the last commit was cut off")
    here = logged.place(tmp_path / "here")
    assert WalRepairer().plan(case_of(here.path, [damage])) == ()
    garbage(here, logged.last, random.Random(1))
    assert WalRepairer().plan(case_of(here.path, [notice])) == ()
    assert WalRepairer().plan(ClosedCase(here.path, STRANDED)) == ()


def test_a_damaged_last_commit_is_kept_as_a_broken_tail(logged: Logged, tmp_path: Path) -> None:
    """While SQLite serves it from a live log it is damage: what is left is sound, and no commit is counted as lost."""
    finding = Finding(kind="bad-wal", severity=Severity.DAMAGE, message="SQLite serves a damaged frame")
    here = logged.place(tmp_path / "here")
    garbage(here, logged.last, random.Random(1))
    damaged = here.wal.read_bytes()
    step, bench = apply(case_of(here.path, [finding], REPLAY), here.path)
    assert (step.loss, step.loses) == (Loss.NOTHING, "nothing")
    assert bench.cut_files["app.db-wal"] == damaged
    assert rows_of(here.path) == logged.states[sorted(logged.states)[-2]]


def test_what_an_earlier_recovery_dropped_stays_dropped(logged: Logged, tmp_path: Path) -> None:
    """Commits that were made after it stand in the place of those: without the owner's choice they are not undone."""
    here = logged.place(tmp_path / "here")
    frame = logged.last // 2
    log = here.wal.read_bytes()
    garbage(here, frame, random.Random(1))
    with closing(sqlite3.connect(here.path, isolation_level=None)) as writer:  # recovers, and goes on there
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("UPDATE item SET name='after the crash' WHERE id=1")
        shutil.copyfile(here.wal, tmp_path / "now-wal")
        shutil.copyfile(here.path, tmp_path / "now.db")
    now = (tmp_path / "now-wal").read_bytes()
    assert now[-(24 + 512) * 3 :] == log[-(24 + 512) * 3 :]  # what was dropped still stands behind it
    placed = logged.place(tmp_path / "placed")
    placed.wal.write_bytes(now)
    apply(case_of(placed.path), placed.path)
    assert (1, "after the crash") in [row[:2] for row in rows_of(placed.path)]
