"""A repairer works in a process of its own, which may raise, die, hang, print or send nonsense without harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.check.outcome import ContractBroken
from pagewarden.contracts import PastImage, RepairCase, Repairer, RepairStep
from pagewarden.errors import DatabaseUnreadable, OutOfSpace
from pagewarden.plugins import Extensions, load_plugins
from pagewarden.repair.answers import CaseAnswers
from pagewarden.repair.cutouts import CUT, discard_cutouts, read_cutouts
from pagewarden.repair.isolate import Place, RepairerFailed, apply, do
from pagewarden.testing.benches import ClosedCase
from pagewarden.testing.subjects import FileImage
from pagewarden.values import Finding, Position, Severity
from tests.core.repair.chosen import files, make_broken, make_plain, rows

MODULE = "tests.core.repair.wild"


@pytest.fixture(scope="module")
def extensions() -> Extensions:
    """The wild plugin."""
    return load_plugins(only=(), extra=[MODULE])


class Bench:
    """A private copy, and everything that was told of it."""

    def __init__(self, folder: Path, extensions: Extensions) -> None:
        for name in ("work", "scratch", "entry"):
            (folder / name).mkdir()
        self.copy = make_broken(folder / "work" / "copy.db")
        self.entry = folder / "entry"
        self.notes: list[tuple[str, Mapping[str, int]]] = []
        self.told: list[tuple[int, int]] = []
        self.replaced = 0
        self.seconds: float | None = None
        self._folder = folder
        self._extensions = extensions

    def let(self, behaviour: str, case: RepairCase | None = None, steps: tuple[RepairStep, ...] = ()) -> None:
        """Let a wild repairer work."""
        name = f"repair-{behaviour}"
        repairer: Repairer = next(each for each in self._extensions.repairers if each.name == name)
        home = self._extensions.repairer_home(name)
        assert home == MODULE
        apply(repairer, home, steps, case or ClosedCase(self.copy), self.place())

    def place(self) -> Place:
        """Return where it works."""

        def replaced() -> None:
            self.replaced += 1

        return Place(
            database=self.copy,
            scratch=self._folder / "scratch",
            entry=self.entry,
            on_note=lambda table, counts: self.notes.append((table, counts)),
            on_progress=lambda done, total: self.told.append((done, total)),
            on_replaced=replaced,
            remaining=lambda: self.seconds,
        )


@pytest.fixture
def bench(tmp_path: Path, extensions: Extensions) -> Bench:
    """Return a private copy."""
    return Bench(tmp_path, extensions)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("fail", "failed: KeyError: 'a word with.*a line break'"),
        ("end", "died: its process ended with status 0"),
        ("crash", "died: its process was killed by SIGSEGV"),
        ("scream", "broke its contract: .*sent nonsense|died"),
    ],
)
def test_what_a_repairer_dies_of_is_said(bench: Bench, behaviour: str, said: str) -> None:
    """Each way to fail is told in a clause, and nothing counts of what was cut out until then."""
    with pytest.raises(RepairerFailed, match=said):
        bench.let(behaviour)
    discard_cutouts(bench.entry)
    assert not (bench.entry / CUT).exists()


def test_one_that_hangs_is_stopped_when_the_time_is_over(bench: Bench) -> None:
    """Its process is killed at the deadline."""
    bench.seconds = 1.0
    with pytest.raises(RepairerFailed, match="was stopped when the time was over"):
        bench.let("hang")


def test_a_full_disk_is_no_fault_of_the_repairer(bench: Bench) -> None:
    """It ends the repair: another repairer would have no more room (H30)."""
    with pytest.raises(OutOfSpace, match="no space left for it"):
        bench.let("find-no-space")
    with pytest.raises(OutOfSpace, match="disk is full"):
        bench.let("fill")


def test_words_harm_nothing_and_counts_arrive(bench: Bench) -> None:
    """What it prints goes nowhere; notes, progress and rows that it kept are had, in order."""
    bench.let("talk")
    assert bench.notes == [("t", {"rows_quarantined": 2}), ("t", {"rows_quarantined": 1, "rows_lost": 4})]
    assert bench.told == [(1, 2)]
    with read_cutouts(bench.entry) as view:
        assert [row.values for row in view.rows("t")] == [(1,), ("two",)]


def test_a_copy_that_was_replaced_is_told_of(bench: Bench) -> None:
    """Whoever compares must know that no page of it need be where it was."""
    bench.let("replace")
    assert bench.replaced == 1
    assert len(rows(bench.copy)) == 40


class Past:
    """A restore point that is a closed file."""

    def __init__(self, path: Path, txid: int) -> None:
        image = FileImage(path)
        self.file = path
        self.page_size, self.pages = image.page_size, image.pages
        self.sums, self.page = image.sums, image.page
        self.position = Position(timeline="0" * 32, txid=txid, time=datetime(2026, 11, 22, tzinfo=UTC))


class Pasts:
    """A history of closed files."""

    why = "a test says so"
    certain = False

    def __init__(self, newest: Past, older: Past) -> None:
        self.newest: PastImage = newest
        self.present: PastImage | None = newest
        self.older: Sequence[PastImage] = (older,)

    def fetch(self, image: PastImage, to: Path) -> None:
        """Copy it."""
        assert isinstance(image, Past)
        to.write_bytes(image.file.read_bytes())


def test_a_repairer_is_answered_what_a_case_knows(bench: Bench, tmp_path: Path) -> None:
    """Everything of a case arrives in the other process as it is here, and files land in its scratch folder alone."""
    past = make_plain(tmp_path / "past.db")
    finding = Finding(kind="said", severity=Severity.DAMAGE, message="wrong", pgno=3)
    case = ClosedCase(bench.copy, [finding] * 700, history=Pasts(Past(past, 7), Past(past, 5)))
    before = files(bench.copy)
    bench.let("ask", case, (RepairStep(text="ask", task={"deep": [{"er": [1, [None, "x"]]}]}),))
    assert files(bench.copy) == before
    with read_cutouts(bench.entry) as view:
        answers = {str(row.values[0]): str(row.values[1]) for row in view.rows("answers")}
    pages = len(before["copy.db"]) // 1024
    assert {key: eval(answer) for key, answer in answers.items()} == {
        "path": str(bench.copy),
        "refused": "",
        "findings": ["wrong"] * 700,
        "patterns": [],
        "image": (1024, pages),
        "page": True,
        "sums": 8 * pages,
        "facts": pages * 1024,
        "log": None,
        "file": pages * 1024,
        "trees": [tree.name for tree in case.trees],
        "flaws": [flaw.kind.name for flaw in case.flaws()],
        "inferred": 1024,
        "policy": case.policy.orphans.value,
        "steps": [("ask", {"deep": [{"er": [1, [None, "x"]]}]})],
        "fetched": past.stat().st_size,
        "history": ("a test says so", False, 7, b"SQLite"),
        "older": [(5, 8)],
        "present": past.stat().st_size // 1024,
    }


def test_a_job_that_there_is_not_is_refused(bench: Bench) -> None:
    """A job raises in the run what it raises of ours; anything else is a failure of its process."""
    with pytest.raises(RepairerFailed, match="no job 'dance'"):
        do("dance", {"entry": str(bench.entry)}, bench.place())
    with pytest.raises(DatabaseUnreadable):
        do("settle", {"database": str(bench.copy.parent), "entry": str(bench.entry), "stamp": False}, bench.place())


@pytest.mark.parametrize(
    ("what", "arguments"),
    [
        ("page", {"image": "live", "pgno": "1"}),
        ("page", {"image": "live"}),
        ("sums", [1, 2]),
        ("fetch", {"image": "newest", "name": 7}),
        ("dance", {}),
    ],
)
def test_a_question_that_is_none_breaks_the_contract(bench: Bench, what: str, arguments: object) -> None:
    """Each is held against its shape: the process may have been taken over by hostile bytes."""
    with pytest.raises(ContractBroken):
        CaseAnswers(ClosedCase(bench.copy), bench.place().scratch).reply(what, arguments)


def test_an_answer_is_bounded_and_refuses_what_there_is_not(bench: Bench, tmp_path: Path) -> None:
    """Neither too much at once nor another image; no file is fetched but into the scratch folder."""
    past = Past(make_plain(tmp_path / "past.db"), 7)
    lonely = CaseAnswers(ClosedCase(bench.copy), bench.place().scratch)
    answers = CaseAnswers(ClosedCase(bench.copy, history=Pasts(past, past)), bench.place().scratch)
    for what, arguments in (
        ("sums", {"image": "live", "first": 1, "count": 1 << 40}),
        ("findings", {"first": 0, "count": 1 << 20}),
        ("flaws", {"first": -1, "count": 1}),
        ("file", {"offset": 0, "length": 1 << 40}),
        ("file", {"offset": -1, "length": 1}),
        ("page", {"image": "older 1", "pgno": 1}),
        ("page", {"image": "older -1", "pgno": 1}),
        ("page", {"image": "dead", "pgno": 1}),
        ("fetch", {"image": "newest", "name": "../past.db"}),
        ("fetch", {"image": "newest", "name": "/etc/passwd"}),
        ("fetch", {"image": "newest", "name": ".."}),
    ):
        assert "refused" in answers.reply(what, arguments), what
    for what, arguments in (("older", {}), ("page", {"image": "newest", "pgno": 1})):
        assert "refused" in lonely.reply(what, arguments)
    assert lonely.reply("history", None) == {"value": None}
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"garbage " * 100)
    assert "error" in CaseAnswers(ClosedCase(garbage), tmp_path).reply("image", None)
    assert list(bench.place().scratch.iterdir()) == []
