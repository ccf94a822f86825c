"""Pages are put back only as the last commit had them, all at once; and then nothing is missing."""

from __future__ import annotations

import dataclasses
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.contracts import Loss, Repairer
from pagewarden.errors import RepairRefused
from pagewarden.processes.survey import survey
from pagewarden.sqlite.owner import find_owners
from pagewarden.sqlite.schema import Layout
from pagewarden.testing import INJURIES
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.values import Finding, Severity
from pagewarden_repair_splice import splicing
from pagewarden_repair_splice.repairer import SpliceRepairer
from tests.plugins.repair_splice.past import Lying
from tests.support.injuring import LATER, SHAPES, injure, make
from tests.support.recorded import History, Recorded, RecordedContract, proven
from tests.support.stranding import change

DAMAGE = (Finding(kind="changed-page", severity=Severity.DAMAGE, message="a page differs", pgno=2),)


class TestContract(RecordedContract):
    """The splicer is what the planner expects of any repairer."""

    damage = DAMAGE
    history = staticmethod(proven)

    @pytest.fixture
    def repairer(self) -> Repairer:
        """Return the splicer."""
        return SpliceRepairer()


class Stage:
    """A database, closed, with what is recorded of it, and a copy that is damaged and mended."""

    def __init__(self, folder: Path, shape: str = "plain") -> None:
        made = folder / "made"
        made.mkdir()
        self.database, self.older = make(made, dataclasses.replace(SHAPES[shape], keeps_wal=False))
        self.original = self.database.read_bytes()
        self.recorded = Recorded(self.database)
        self.copy = folder / "copy" / "app.db"
        self.scratch = folder / "scratch"
        for place in (self.copy.parent, self.scratch):
            place.mkdir()
        self.renew()

    def renew(self) -> None:
        """Let the copy be sound again, and nothing be in the scratch folder."""
        shutil.copyfile(self.database, self.copy)
        for path in self.scratch.iterdir():
            path.unlink()

    def case(self, history: History | None = None, findings: Sequence[Finding] = DAMAGE) -> ClosedCase:
        """Return the case of the copy as it is now."""
        log = survey(str(self.copy), live=False)
        return ClosedCase(self.copy, findings, history=history or proven(self.recorded), log=log)

    def splice(self, planned: ClosedCase | None = None, history: History | None = None) -> ClosedBench:
        """Plan and apply; `history` is what the repository says by the time when the plan is applied."""
        case = planned or self.case()
        (step,) = SpliceRepairer().plan(case)
        assert (step.loss, step.mends, step.loses) == (Loss.PROVEN, (), "nothing")
        now = case if history is None else self.case(history)
        bench = ClosedBench(self.copy, self.scratch, now)
        SpliceRepairer().apply(bench, [step])
        return bench


@pytest.mark.parametrize("shape", ["small-pages", "vacuumed", "large-pages", "one-row"])
def test_whatever_happened_to_the_file_every_byte_comes_back(shape: str, tmp_path: Path) -> None:
    """After any injury of the file, also where SQLite refuses it, it is the recorded one; all cut out is kept."""
    stage = Stage(tmp_path, shape)
    injured = 0
    for kind, injury in INJURIES.items():
        if injury.of_wal:
            continue
        for seed in (1, 2):
            stage.renew()
            if injure(stage.copy, kind, seed, stage.older) is None:
                continue
            damaged = stage.copy.read_bytes()
            finding = Finding(kind=kind, severity=Severity.DAMAGE, message=injury.summary)
            bench = stage.splice(stage.case(findings=[finding]))
            assert stage.copy.read_bytes() == stage.original, (kind, seed)
            assert not stage.copy.with_name("app.db-wal").exists()
            assert bench.cut_ends or bench.cut_pages or bench.cut_files, kind
            for pgno, stood, _ in bench.cut_pages:
                start = (pgno - 1) * stage.recorded.page_size
                assert damaged[start : start + stage.recorded.page_size] == stood
            injured += 1
    assert injured >= 10


@pytest.mark.parametrize(
    "ruin",
    [
        lambda data: random.Random(1).randbytes(len(data)),
        lambda data: b"",
        lambda data: data[:1],
        lambda data: bytes(len(data)),
        lambda data: data[512:],
        lambda data: data + b"more" * 999,
        lambda data: b"\xff" * 100 + data[100:],
    ],
    ids=["garbage", "empty", "one byte", "zeros", "shifted", "longer", "header"],
)
@pytest.mark.parametrize("at_once", [0, 2048])
def test_a_file_that_sqlite_refuses_comes_back(
    ruin: Callable[[bytes], bytes], at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, or as a whole where that is faster: the history knows the size of a page and of the database."""
    monkeypatch.setattr(splicing, "_WHOLE", at_once)
    stage = Stage(tmp_path)
    stage.copy.write_bytes(ruin(stage.original))
    case = stage.case()
    bench = stage.splice(case)
    assert stage.copy.read_bytes() == stage.original
    assert bool(bench.cut_files) == (at_once == 0 and ruin(stage.original)[: len(stage.original)] != stage.original)


@pytest.mark.parametrize("at_once", [0, 2048])
def test_the_report_is_told_how_many_rows_came_back(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By table: of a rowid table, of one WITHOUT ROWID, and rows of which only an overflow page was put back."""
    monkeypatch.setattr(splicing, "_WHOLE", at_once)
    stage = Stage(tmp_path, "small-pages")
    with closing(sqlite3.connect(stage.database)) as connection:
        counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone() for name in ("note", "price")}
    stage.copy.write_bytes(random.Random(1).randbytes(len(stage.original)))
    assert stage.splice().notes == {name: {"rows_from_backup": rows} for name, (rows,) in counts.items()}
    stage.renew()
    read = stage.recorded.page
    layout = Layout.of(read(1), page_size=512, pages=stage.recorded.pages)
    owners = find_owners(read, range(2, stage.recorded.pages + 1), layout)
    tail = next(pgno for pgno, owner in owners.items() if owner.role == "overflow" and owner.object == "note")
    change(stage.copy, (tail - 1) * 512 + 100, b"\xff\xff")
    assert stage.splice().notes == {"note": {"rows_from_backup": 1}}


def test_the_log_is_set_aside_and_its_commits_stay(tmp_path: Path) -> None:
    """A -wal whose commits the position has goes to the quarantine, a -journal too, and a -shm vanishes (H25)."""
    stage = Stage(tmp_path, "small-pages")
    with closing(sqlite3.connect(stage.copy, isolation_level=None)) as writer:
        writer.execute("INSERT INTO note(title, body) VALUES('last', 'words')")
        with closing(sqlite3.connect(tmp_path / "now.db")) as target:
            writer.backup(target)
        held = tmp_path / "held"
        held.mkdir()
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{stage.copy}{suffix}", held / f"app.db{suffix}")
    stage.copy.unlink()
    for path in held.iterdir():
        path.replace(stage.copy.parent / path.name)
    log = (stage.copy.parent / "app.db-wal").read_bytes()
    (stage.copy.parent / "app.db-journal").write_bytes(b"left over")
    (stage.copy.parent / "app.db-shm").write_bytes(bytes(32768))
    now = Recorded(tmp_path / "now.db")
    finding = Finding(kind="bad-wal", severity=Severity.DAMAGE, message="the -wal is damaged")
    case = stage.case(proven(now), [finding])
    (step,) = SpliceRepairer().plan(case)
    assert "set the -wal aside, whose commits position cccccccc:7 has" in step.text
    bench = stage.splice(case)
    assert stage.copy.read_bytes() == (tmp_path / "now.db").read_bytes()
    assert bench.cut_files == {"app.db-wal": log, "app.db-journal": b"left over"}
    assert [path.name for path in stage.copy.parent.iterdir()] == ["app.db"]


def test_where_the_last_commit_is_not_proven_nothing_is_put_back(tmp_path: Path) -> None:
    """However much differs, and however new the restore point is (H26)."""
    stage = Stage(tmp_path)
    INJURIES["zeroed-page"].apply(stage.copy, 1)
    assert SpliceRepairer().plan(stage.case(History(stage.recorded))) == ()
    assert SpliceRepairer().plan(ClosedCase(stage.copy, DAMAGE)) == ()


def test_a_commit_after_the_plan_is_not_undone(tmp_path: Path) -> None:
    """If the present is not proven any more, or is another one, when the plan is applied, nothing is written."""
    stage = Stage(tmp_path)
    INJURIES["zeroed-page"].apply(stage.copy, 1)
    damaged = stage.copy.read_bytes()
    planned = stage.case()
    other = Recorded(stage.database, txid=8)
    stale = Recorded(stage.older)
    for history, words in (
        (History(stage.recorded), "does not prove any more"),
        (proven(other), "position cccccccc:8, which is not what was planned"),
        (proven(stale), "not what was planned"),
    ):
        with pytest.raises(RepairRefused, match=words):
            stage.splice(planned, history)
    with pytest.raises(RepairRefused, match="does not prove any more"):
        (step,) = SpliceRepairer().plan(planned)
        SpliceRepairer().apply(ClosedBench(stage.copy, stage.scratch, ClosedCase(stage.copy)), [step])
    assert stage.copy.read_bytes() == damaged


@pytest.mark.parametrize("at_once", [0, 2048])
def test_a_stale_page_is_never_put_back(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that gives an older version of a page than it has recorded the sum of is refused (H26)."""
    monkeypatch.setattr(splicing, "_WHOLE", at_once)
    stage = Stage(tmp_path)
    stage.copy.write_bytes(bytes(len(stage.original)))
    lying = proven(Lying(stage.database, stage.older), fetched=Recorded(stage.older))
    with pytest.raises(RepairRefused, match=r"what is stored of page \d+ is not|pages that were fetched are not those"):
        stage.splice(stage.case(lying))
    data, size = stage.copy.read_bytes(), stage.recorded.page_size
    pages = {pgno: data[(pgno - 1) * size : pgno * size] for pgno in range(1, stage.recorded.pages + 1)}
    assert [pgno for pgno, page in pages.items() if page not in (bytes(size), stage.recorded.page(pgno))] == []


def test_what_was_fetched_is_made_the_recorded_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that stand in frames of the log, and so in no restore point, are laid over it."""
    monkeypatch.setattr(splicing, "_WHOLE", 12)
    stage = Stage(tmp_path)
    stage.copy.write_bytes(b"")
    assert stage.recorded.pages > 12
    before = tmp_path / "before.db"
    shutil.copyfile(stage.database, before)
    with closing(sqlite3.connect(before)) as writer, writer:
        writer.execute(LATER[0])
        writer.execute("DELETE FROM price")
    changed = sum(Recorded(before).page(pgno) != stage.recorded.page(pgno) for pgno in range(1, stage.recorded.pages))
    if changed > 12:  # as many as may be laid over
        monkeypatch.setattr(splicing, "_WHOLE", changed)
        stage.copy.write_bytes(b"")
    stage.splice(stage.case(proven(stage.recorded, fetched=Recorded(before))))
    assert stage.copy.read_bytes() == stage.original


def test_what_does_not_reach_the_copy_is_noticed(tmp_path: Path) -> None:
    """The step counts only once the database sum of what stands there is the recorded one."""

    class Forgetful(ClosedBench):
        def write(self, pgno: int, data: bytes, why: str) -> None:
            """Lose the write."""

    stage = Stage(tmp_path)
    INJURIES["flipped-bit"].apply(stage.copy, 1)
    case = stage.case()
    steps = SpliceRepairer().plan(case)
    with pytest.raises(RepairRefused, match="is not position cccccccc:7 after its pages were put back"):
        SpliceRepairer().apply(Forgetful(stage.copy, stage.scratch, case), steps)


def test_nothing_is_planned_where_nothing_differs(tmp_path: Path) -> None:
    """Whatever was found: the last commit has it, too. What differs needs no finding: the sums prove it."""
    stage = Stage(tmp_path)
    assert SpliceRepairer().plan(stage.case()) == ()
    INJURIES["flipped-bit"].apply(stage.copy, 1)
    assert len(SpliceRepairer().plan(stage.case(findings=[]))) == 1


def test_the_plan_says_what_and_why(tmp_path: Path) -> None:
    """Pages in runs, the tables and indexes that they are of, the position, and how it is proven."""
    stage = Stage(tmp_path, "small-pages")
    data = bytearray(stage.original)
    data[512 * 4 : 512 * 7] = bytes(512 * 3)
    data[512 * 9 + 7] ^= 1
    stage.copy.write_bytes(data + b"over")
    named = Finding(kind="zeroed-run", severity=Severity.DAMAGE, message="zeros", pgno=5, object="ledger of sorts")
    (step,) = SpliceRepairer().plan(stage.case(findings=[named]))
    assert step.text == (
        "put back 4 pages, 5 to 7, 10, as recorded at position cccccccc:7, cut 4 bytes off the end of the file"
    )
    assert step.why.startswith("the log ends where the recorded one does; the sum of every page is recorded there, of ")
    assert "ledger of sorts" in step.why and "note" in step.why
    one = bytearray(stage.original)
    one[512 * 9 + 7] ^= 1
    stage.copy.write_bytes(one)
    (step,) = SpliceRepairer().plan(stage.case())
    assert step.text == "put back page 10 as recorded at position cccccccc:7"
    every = bytearray(stage.original)
    for pgno in range(1, stage.recorded.pages, 2):
        every[512 * pgno] ^= 0xFF
    stage.copy.write_bytes(every)
    (step,) = SpliceRepairer().plan(stage.case())
    assert " and others, as recorded" in step.text
