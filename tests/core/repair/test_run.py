"""A repair works on a copy, shows its plan first, loses no row that was readable before, and keeps the original."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.contracts import Loss, RepairBench, Stage
from pagewarden.errors import (
    DatabaseBusy,
    DatabaseUnsettled,
    NotADatabase,
    OutOfSpace,
    RepairRefused,
    RestoreRefused,
)
from pagewarden.processes.lock import FileLock
from pagewarden.repair import run as run_module
from pagewarden.repair.cutouts import read_cutouts
from pagewarden.repair.work import FilesState
from pagewarden.restore.quarantine import Kept, Phase, Quarantine, Verb
from pagewarden.restore.undo import UndoRequest, run_undo
from pagewarden.values import Level, Verdict
from tests.core.repair.chosen import (
    Blind,
    Chosen,
    Plugins,
    break_index,
    files,
    make_broken,
    make_broken_hot,
    make_broken_log,
    make_plain,
    names,
    reindex,
    rows,
)
from tests.support.session import Session, SessionError

pytestmark = pytest.mark.usefixtures("jobs_here")

MAKE = {"plain": make_broken, "log": make_broken_log, "hot": make_broken_hot}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return where a database is to be made, in a folder of its own."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / "app.db"


def test_a_plan_changes_nothing(database: Path, plugins: Plugins) -> None:
    """Without `apply` every byte and time stays, of the -wal too, and nothing is made beside them (H33)."""
    make_broken_log(database)
    before = files(database), database.stat().st_mtime_ns
    report = plugins.repair(database, apply=False)
    assert (files(database), database.stat().st_mtime_ns) == before
    assert not (database.parent / ".pagewarden").exists()
    assert [planned.repairer for planned in report.plan] == ["repair-chosen"]
    assert (report.applied, report.verdict_before, report.verdict_after, report.undo) == (
        False,
        Verdict.DAMAGED,
        None,
        "",
    )
    assert report.exit_code == 1


@pytest.mark.parametrize("kind", list(MAKE))
def test_a_repair_can_be_taken_back_to_the_last_byte(database: Path, plugins: Plugins, kind: str) -> None:
    """The repaired copy takes the path with every row; `undo` brings every byte back, of -wal and -journal too."""
    MAKE[kind](database)
    before, owner = files(database), database.stat().st_uid
    report = plugins.repair(database)
    assert (report.applied, report.verdict_after, report.exit_code, report.why) == (True, Verdict.SOUND, 0, "")
    kept = rows(database)
    assert len(kept) == 40
    assert ("from the log" in [body for _, _, body in kept]) == (kind == "log")
    assert list(files(database)) == ["app.db"]
    assert database.stat().st_uid == owner
    (entry,) = Quarantine(path=database).entries()
    assert (entry.verb, entry.phase, entry.origin) == (Verb.REPAIR, Phase.DONE, None)
    assert entry.previous is (Kept.FILE if kind == "plain" else Kept.RAW)
    assert not list(database.parent.glob(".pagewarden-*"))
    assert not any("work" in name for name in names(database.parent))
    document = json.loads((Path(report.quarantine) / "report.json").read_bytes())
    assert (document["applied"], document["undo"]) == (True, f"pagewarden undo {database}")

    undone = run_undo(UndoRequest(path=str(database)), plugins.runtime())
    assert files(database) == before
    assert rows(Path(undone.kept)) == kept
    assert database.stat().st_nlink == 1


def test_a_sound_database_needs_nothing(database: Path, plugins: Plugins) -> None:
    """There is no plan, nothing is copied, and the exit code is 0."""
    make_plain(database)
    before = FilesState.of(str(database))
    report = plugins.repair(database)
    assert (report.applied, report.plan, report.why, report.exit_code) == (False, (), "", 0)
    assert os.listdir(database.parent) == ["app.db"]
    assert FilesState.of(str(database)) == before


def test_a_journal_is_played_back_on_the_copy_alone(database: Path, plugins: Plugins) -> None:
    """A database that only waits for its journal is sound once it has it: nothing is swapped, nothing stays behind."""
    make_broken_hot(database, broken=False)
    before = files(database)
    report = plugins.repair(database)
    assert (report.applied, report.verdict_before, report.quarantine) == (False, Verdict.SOUND, "")
    assert "journal" in report.why
    assert files(database) == before
    assert names(database.parent) == ["app.db", "app.db-journal"]


def test_who_has_it_open_is_named_and_refused(database: Path, plugins: Plugins) -> None:
    """Nothing is forced: an idle reader in WAL mode, and an idle connection to a rollback-journal database (H5)."""
    for make in (make_broken_log, make_broken):
        make(database)
        with Session(database) as session:
            session.run("SELECT id FROM t")
            before = files(database)
            with pytest.raises(DatabaseBusy, match=f"cannot repair .*pid {session.pid}"):
                plugins.repair(database)
            assert files(database) == before
        for file in database.parent.glob("app.db*"):
            file.unlink()


def test_nobody_gets_in_while_it_is_repaired(database: Path, plugins: Plugins) -> None:
    """A second process is told that the database is locked, and what it has then is a sound database (H25)."""
    make_broken(database)

    def work(bench: RepairBench) -> None:
        with Session(database) as session:
            for sql in ("SELECT count(*) FROM t", "INSERT INTO t(id) VALUES (1000)"):
                with pytest.raises(SessionError, match="SQLITE_BUSY"):
                    session.run(sql)
        reindex(bench)

    plugins.repairers = [Chosen(work)]
    assert plugins.repair(database).applied
    assert len(rows(database)) == 40


@pytest.mark.parametrize("kind", ["plain", "log"])
def test_one_who_opens_it_at_the_last_moment_stops_the_exchange(database: Path, plugins: Plugins, kind: str) -> None:
    """A connection that waits for the lock would go on with the old file: everything is gone back from (H5).

    The very file stays, with its log: they may prove what was committed last.
    """
    MAKE[kind](database)
    before, inode = files(database), database.stat().st_ino
    opened: list[Session] = []

    def work(bench: RepairBench) -> None:
        opened.append(Session(database))
        with pytest.raises(SessionError):
            opened[0].run("SELECT id FROM t")
        reindex(bench)

    plugins.repairers = [Chosen(work)]
    with pytest.raises(DatabaseBusy):
        plugins.repair(database)
    opened[0].kill()
    assert files(database) == before and database.stat().st_ino == inode
    assert set(names(database.parent)) <= {"app.db", "app.db-wal", "app.db-shm"}


@pytest.mark.parametrize("always", [False, True])
def test_a_database_that_changes_before_it_is_locked_is_looked_at_anew(
    database: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    """What was checked must be what is repaired: it is begun anew, and given up where it never holds still."""
    make_broken(database)
    times: list[int] = []

    class Late(FileLock):
        def __init__(self, path: str) -> None:
            if always or not times:
                other = make_broken(database.with_name(f"other-{len(times)}"))
                other.replace(database)
                times.append(other.stat().st_ino if other.exists() else 0)
            super().__init__(path)

    monkeypatch.setattr(run_module, "FileLock", Late)
    if always:
        with pytest.raises(DatabaseUnsettled, match="before it could be locked"):
            plugins.repair(database)
        assert names(database.parent) == ["app.db"]
    else:
        assert plugins.repair(database).applied
        assert len(plugins.seen("repair.planned")) == 2


def refuse(bench: RepairBench) -> None:
    """Raise."""
    raise KeyError("nothing of the kind")


def scribble(bench: RepairBench) -> None:
    """Write garbage all over the copy."""
    chance = random.Random(7)
    for pgno in range(1, 8):
        bench.write(pgno, chance.randbytes(1024), "for no reason")


def lie(bench: RepairBench) -> None:
    """Do nothing at all."""


def delete(bench: RepairBench) -> None:
    """Mend the index by removing rows that could be read."""
    with closing(bench.connect()) as connection:
        connection.execute("REINDEX")
        connection.execute("DELETE FROM t WHERE id = 7")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (refuse, "no repairer can help"),
        (scribble, "no repairer can help|not sound"),
        (lie, "not sound"),
        (delete, "would lose a row"),
    ],
)
def test_a_bad_repair_leaves_the_database_as_it_was(
    database: Path, plugins: Plugins, work: Callable[[RepairBench], None], said: str
) -> None:
    """Whatever a repairer does, original, log and times stay; the quarantine keeps the reports and nothing else."""
    make_broken_log(database)
    before = files(database), database.stat().st_mtime_ns
    plugins.repairers = [Chosen(work)]
    report = plugins.repair(database)
    assert (files(database), database.stat().st_mtime_ns) == before
    assert (report.applied, report.exit_code) == (False, 1)
    assert re.search(said, report.why), report.why
    (entry,) = Quarantine(path=database).entries()
    assert entry.phase is Phase.ABANDONED
    assert sorted(os.listdir(report.quarantine)) == ["entry.json", "report.html", "report.json"]
    with pytest.raises(RestoreRefused, match="no restore or repair"):
        run_undo(UndoRequest(path=str(database)), plugins.runtime())


def test_one_that_fails_is_left_out_and_the_copy_is_made_anew(database: Path, plugins: Plugins) -> None:
    """What the first did to the copy, and cut out of it, is gone; the next one begins with the raw files again."""
    make_broken_log(database)

    def spoil(bench: RepairBench) -> None:
        scribble(bench)
        bench.keep_rows("t", ("id",), [(1,)], "it was spoiled")
        raise KeyError("spoilt")

    plugins.repairers = [Chosen(spoil, "repair-a", Loss.PROVEN), Chosen(reindex, "repair-b")]
    report = plugins.repair(database)
    assert report.applied
    assert [planned.repairer for planned in report.plan] == ["repair-b"]
    assert report.warnings == ("repair-a failed: KeyError: 'spoilt'",)
    with read_cutouts(Path(report.quarantine)) as view:
        assert (view.count_pages(), view.tables()) == (0, ())
    assert len(rows(database)) == 40


def test_a_full_disk_under_a_repairer_ends_the_repair(database: Path, plugins: Plugins) -> None:
    """Nobody would have more room: everything is gone back from (H30)."""
    make_broken_log(database)
    before = files(database)

    def fill(bench: RepairBench) -> None:
        raise OutOfSpace("no space left for a page")

    plugins.repairers = [Chosen(fill), Chosen(reindex, "repair-other")]
    with pytest.raises(OutOfSpace, match="for a page"):
        plugins.repair(database)
    assert files(database) == before
    assert set(names(database.parent)) <= {*before, "app.db-shm"}  # which a check leaves (H33)


def test_no_room_is_told_before_anything_is_made(
    database: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two copies must fit beside the database."""
    make_broken(database)
    full = os.statvfs_result((4096, 4096, 100, 5, 5, 100, 50, 50, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(OutOfSpace, match="two copies"):
        plugins.repair(database)
    assert os.listdir(database.parent) == ["app.db"]


def test_a_log_is_brought_in_before_pages_are_touched(database: Path, plugins: Plugins) -> None:
    """Only what is done about the log itself sees it; for all else the copy is one file, as SQLite shows it."""
    make_broken_log(database)
    seen: list[tuple[Stage, list[str]]] = []

    def look(stage: Stage) -> Callable[[RepairBench], None]:
        def work(bench: RepairBench) -> None:
            seen.append((stage, sorted(file.name for file in bench.database.parent.iterdir())))
            if stage is not Stage.LOG:
                reindex(bench)

        return work

    plugins.repairers = [
        Chosen(look(Stage.LOG), "repair-a", Loss.PROVEN, Stage.LOG),
        Chosen(look(Stage.PAGES), "repair-b", Loss.NOTHING, Stage.PAGES),
    ]
    report = plugins.repair(database)
    # The one for the log claims to mend all and does nothing: it is not asked again.
    assert seen == [(Stage.LOG, ["copy.db", "copy.db-wal"]), (Stage.PAGES, ["copy.db"])]
    assert (report.applied, [planned.repairer for planned in report.plan]) == (True, ["repair-b"])


def test_output_leaves_the_original_alone(database: Path, tmp_path: Path, plugins: Plugins) -> None:
    """The repaired copy stands elsewhere, with its quarantine; nothing is written beside the database."""
    make_broken_log(database)
    before, state = files(database), database.stat()
    output = tmp_path / "elsewhere" / "new.db"
    with pytest.raises(RestoreRefused, match="no directory"):
        plugins.repair(database, output=str(output))
    output.parent.mkdir()
    report = plugins.repair(database, output=str(output))
    assert (files(database), database.stat().st_mtime_ns) == (before, state.st_mtime_ns)
    assert not (database.parent / ".pagewarden").exists()
    assert (report.applied, report.output, report.undo) == (True, str(output), f"pagewarden undo {output}")
    assert ("from the log" in [body for _, _, body in rows(output)], len(rows(output))) == (True, 40)
    with pytest.raises(RepairRefused, match="is there already"):
        plugins.repair(database, output=str(output))
    run_undo(UndoRequest(path=str(output)), plugins.runtime())
    assert not output.exists()


def test_a_repair_that_is_not_proven_moves_the_change_counter(database: Path, plugins: Plugins) -> None:
    """A comparison with the last backup must not take what the repair wrote for rot (H10)."""

    def quietly(bench: RepairBench) -> None:
        page = bench.read(3, 1024)
        bench.write(3, page.replace(b"rox 17", b"row 17"), "its key")

    for loss in (Loss.NOTHING, Loss.PROVEN):
        make_plain(database)
        whole = database.read_bytes()
        break_index(database)
        plugins.repairers = [Chosen(quietly, loss=loss)]
        assert plugins.repair(database).applied
        assert (database.read_bytes() == whole) == (loss is Loss.PROVEN)
        assert (database.read_bytes()[24:28] == whole[24:28]) == (loss is Loss.PROVEN)
        database.unlink()


def test_what_is_no_database_is_refused_as_it_is_by_check(database: Path, plugins: Plugins) -> None:
    """A file that nobody can help is no database: nothing is made beside it."""
    database.write_bytes(b"not at all " * 1000)
    plugins.repairers = []
    with pytest.raises(NotADatabase):
        plugins.repair(database)
    assert os.listdir(database.parent) == ["app.db"]


def test_a_time_that_is_over_leaves_everything(database: Path, plugins: Plugins) -> None:
    """A copy that cannot be judged any more does not take the path."""
    make_broken(database)
    before = files(database)
    report = plugins.repair(database, max_time=0.001)
    assert (report.applied, report.exit_code) == (False, 3)
    assert files(database) == before


@pytest.mark.parametrize("fails", [False, True])
def test_what_nobody_can_judge_keeps_no_repair_from_counting(database: Path, plugins: Plugins, fails: bool) -> None:
    """A checker that lacks a module could not see before the damage either; one that fails may hide what is wrong."""
    make_broken(database)
    plugins.checkers.append(Blind(fails=fails))
    report = plugins.repair(database)
    assert report.applied == (not fails)
    assert report.exit_code == (1 if fails else 3)
    assert ("could not be judged: check-blind" in report.why) == fails


def test_what_failed_before_the_damage_was_mended_may_fail_after_it(database: Path, plugins: Plugins) -> None:
    """A relational checker waits for the copy; if it fails there, it counts as one that fails on the original, too."""
    make_broken(database)
    plugins.checkers.append(Blind(fails=True, level=Level.STANDARD, relational=True))
    report = plugins.repair(database)
    assert (report.applied, report.why) == (True, "")
    assert report.check is not None and report.judged is not None
    assert "check-blind" not in {each.name for each in report.check.checkers}
    assert "check-blind" in {each.name for each in report.judged.checkers}


def test_a_log_whose_database_sqlite_refuses_is_put_back_with_it(database: Path, plugins: Plugins) -> None:
    """There is no whole copy to go over; file and log are kept as they were, and come back as they were."""
    make_broken_log(database)
    header = database.read_bytes()[:1024]
    with database.open("r+b") as file:
        file.write(b"garbage ".ljust(100, b"!"))
    with Path(f"{database}-wal").open("r+b") as file:
        file.write(b"garbage")
    before = files(database)

    def work(bench: RepairBench) -> None:
        bench.write(1, header, "its header")
        reindex(bench)

    plugins.repairers = [Chosen(work)]
    assert plugins.repair(database).applied
    assert len(rows(database)) == 40
    (entry,) = Quarantine(path=database).entries()
    assert (entry.previous, entry.bridge) == (Kept.RAW, None)
    run_undo(UndoRequest(path=str(database)), plugins.runtime())
    assert files(database) == before


def test_a_journal_that_is_kept_for_the_next_transaction_is_no_hot_one(database: Path, plugins: Plugins) -> None:
    """In journal_mode=PERSIST it stands beside the file for ever; it is put aside and brought back like any other."""
    make_plain(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=PERSIST").fetchall()
        connection.execute("UPDATE t SET body = zeroblob(299)")
    break_index(database)
    before = files(database)
    assert "app.db-journal" in before
    report = plugins.repair(database)
    assert report.applied
    assert report.check is not None
    assert report.judged is not None
    assert (report.check.database, report.judged.database) == (str(database), str(database))
    assert "copy.db" not in (Path(report.quarantine) / "report.json").read_text()
    assert len(rows(database)) == 40
    run_undo(UndoRequest(path=str(database)), plugins.runtime())
    assert files(database) == before
