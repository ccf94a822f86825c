"""Named kinds of misbehaviour, one bad plugin each: the suite of its kind must fail."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pagewarden.check.outcome import ContractBroken
from pagewarden.contracts import CheckOutcome, Loss, Notice, ObjectInfo, RepairBench, RepairCase, RepairStep, Subject
from pagewarden.testing.contracts import (
    CheckerContract,
    NotifierContract,
    RepairerContract,
    TargetContract,
    make_database,
)
from pagewarden.values import Finding, Level, Severity
from tests.core.testing.test_contracts import (
    DAMAGE,
    ManyAtOnce,
    MemoryTarget,
    MyChecker,
    MyNotifier,
    MyRepairer,
)

CAUGHT = (
    *(AssertionError, pytest.fail.Exception, ContractBroken),
    *(RuntimeError, UnicodeEncodeError, KeyError, TypeError, sqlite3.DatabaseError),
)
"""How a test of a suite fails: an assertion, pytest's own, or what the plugin raises."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes half a second hangs."""
    monkeypatch.setattr("pagewarden.testing.contracts.samples.SECONDS", 0.5)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database in a folder of its own."""
    (tmp_path / "subject").mkdir()
    return make_database(tmp_path / "subject" / "app.db", rows=30)


def _raises(*_: Any) -> Any:
    raise RuntimeError("it is raining")


def _hangs(*_: Any) -> Any:
    time.sleep(1.5)


def _writes_to_the_database(subject: Subject) -> list[Finding]:
    with closing(sqlite3.connect(subject.path)) as connection, connection:
        connection.execute("DELETE FROM prices")
    return []


def _leaves_a_table(subject: Subject) -> list[Finding]:
    with closing(sqlite3.connect(subject.path)) as connection, connection:
        connection.execute("CREATE TABLE seen(x)")
    return []


def _copies_the_database(subject: Subject) -> list[Finding]:
    shutil.copy(subject.path, f"{subject.path}.copy")
    return []


def _exits(_: Subject) -> list[Finding]:
    raise SystemExit(0)


CHECKERS: dict[str, tuple[Callable[[Subject], Any], str]] = {
    "raises": (_raises, "test_a_sound_database_has_no_damage"),
    "hangs": (_hangs, "test_a_sound_database_has_no_damage"),
    "returns None": (lambda _: None, "test_a_sound_database_has_no_damage"),
    "returns a text": (lambda _: "sound", "test_a_sound_database_has_no_damage"),
    "returns what are no findings": (lambda _: [("zeroed-page", 2)], "test_a_sound_database_has_no_damage"),
    "returns a verdict that is none": (
        lambda _: CheckOutcome(verdict="sound"),  # type: ignore[arg-type]
        "test_a_sound_database_has_no_damage",
    ),
    "numbers pages from 0": (
        lambda _: [Finding(kind="odd", severity=Severity.NOTICE, message="page 0", pgno=0)],
        "test_a_sound_database_has_no_damage",
    ),
    "sees ghosts": (lambda _: [DAMAGE], "test_a_sound_database_has_no_damage"),
    "writes to the database": (_writes_to_the_database, "test_it_changes_nothing"),
    "leaves a table": (_leaves_a_table, "test_it_changes_nothing"),
    "copies the database": (
        _copies_the_database,
        "test_it_does_not_open_the_database_itself",
    ),
}


@pytest.mark.parametrize("what", CHECKERS)
def test_a_checker_that_misbehaves_is_caught(what: str, database: Path) -> None:
    """By the test of the suite that is named beside it."""
    behaviour, test = CHECKERS[what]
    arguments = (database, Level.QUICK) if "sound" in test else (database,)
    with pytest.raises(CAUGHT):
        getattr(CheckerContract(), test)(MyChecker(behaviour), *arguments)


def test_a_checker_that_ends_the_process_is_caught(database: Path) -> None:
    """SystemExit is no Exception: a run would not survive it."""
    with pytest.raises(SystemExit):
        CheckerContract().test_a_sound_database_has_no_damage(MyChecker(_exits), database, Level.QUICK)


class _Notifier(MyNotifier):
    """A notifier that does what a test chose, and the suite that sees what arrived."""

    def __init__(self, behave: Callable[[_Notifier, Notice], None]) -> None:
        super().__init__()
        self.behave = behave

    def notify(self, notice: Notice) -> None:
        """Do it."""
        self.behave(self, notice)


class _NotifierSuite(NotifierContract):
    def __init__(self, notifier: _Notifier) -> None:
        self.seen = notifier

    def delivered(self) -> Sequence[str]:
        """What arrived."""
        return self.seen.told


def _reverses(notifier: _Notifier, notice: Notice) -> None:
    notifier.told.insert(0, notice.title)


def _drops_repeats(notifier: _Notifier, notice: Notice) -> None:
    if notice.title not in notifier.told:
        notifier.told.append(notice.title)


def _drops_notices(notifier: _Notifier, notice: Notice) -> None:
    if notice.severity is not Severity.NOTICE:
        notifier.told.append(notice.title)


def _reads_ascii(notifier: _Notifier, notice: Notice) -> None:
    notice.body.encode("ascii")
    notifier.told.append(notice.title)


NOTIFIERS: dict[str, tuple[Callable[[_Notifier, Notice], None], str, tuple[object, ...]]] = {
    "raises": (_raises, "test_it_delivers", (Severity.DAMAGE,)),
    "hangs": (_hangs, "test_it_delivers", (Severity.DAMAGE,)),
    "hangs in a thread": (_hangs, "test_it_delivers_from_any_thread", ()),
    "delivers nothing": (lambda *_: None, "test_it_delivers", (Severity.DAMAGE,)),
    "drops notices": (_drops_notices, "test_it_delivers", (Severity.NOTICE,)),
    "reads ASCII": (_reads_ascii, "test_it_delivers_any_text", ("Łukasz",)),
    "reverses": (_reverses, "test_it_delivers_each_notice", ()),
    "drops repeats": (_drops_repeats, "test_it_delivers_each_notice", ()),
}


@pytest.mark.parametrize("what", NOTIFIERS)
def test_a_notifier_that_misbehaves_is_caught(what: str) -> None:
    """By the test of the suite that is named beside it."""
    behaviour, test, arguments = NOTIFIERS[what]
    notifier = _Notifier(behaviour)
    with pytest.raises(CAUGHT):
        getattr(_NotifierSuite(notifier), test)(notifier, *arguments)


class _Repairer(MyRepairer):
    """A repairer that plans and does what a test chose."""

    def __init__(self, plan: Callable[[RepairCase], Any], apply: Callable[[RepairBench], Any]) -> None:
        self.planned = plan
        self.applied = apply

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Plan it."""
        return self.planned(case)  # type: ignore[no-any-return]

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Do it."""
        self.applied(bench)


class _RepairerSuite(RepairerContract):
    def break_copy(self, copy: Path) -> Sequence[Finding]:
        """Pretend."""
        return [DAMAGE]


def _nothing(*_: Any) -> list[RepairStep]:
    return []


def _plans_alike() -> Callable[[RepairCase], list[RepairStep]]:
    calls: list[int] = []

    def plan(case: RepairCase) -> list[RepairStep]:
        calls.append(1)
        return [RepairStep(text=f"plan {len(calls)}")] if case.findings else []

    return plan


def _plans(**fields: Any) -> Callable[[RepairCase], list[RepairStep]]:
    return lambda case: [RepairStep(**{"text": "mend", **fields})] if case.findings else []


def _leaves(*_: Any) -> Any:
    raise SystemExit(1)


def _empties(bench: RepairBench) -> None:
    bench.database.write_bytes(b"no database")


def _touches_the_neighbour(bench: RepairBench) -> None:
    (bench.database.parent / "neighbour.db").write_bytes(b"")


def _loses_a_row(bench: RepairBench) -> None:
    with closing(bench.connect()) as connection:
        connection.execute("DELETE FROM orders WHERE id = 7")


def _moves_a_row(bench: RepairBench) -> None:
    with closing(bench.connect()) as connection:
        row = connection.execute("DELETE FROM orders WHERE id = 7 RETURNING *").fetchone()
    bench.keep_rows("orders", ("id", "customer", "body"), [row], "its customer is not there")


REPAIRERS: dict[str, tuple[Callable[[RepairCase], Any], Callable[[RepairBench], Any], str]] = {
    "raises over nothing": (_raises, _nothing, "test_nothing_found_needs_nothing_done"),
    "hangs over a plan": (_hangs, _nothing, "test_nothing_found_needs_nothing_done"),
    "plans for nothing": (lambda _: [RepairStep(text="mend")], _nothing, "test_nothing_found_needs_nothing_done"),
    "plans for anything": (
        lambda case: [RepairStep(text="mend")] * len(case.findings),
        _nothing,
        "test_it_does_not_plan_for_what_it_does_not_know",
    ),
    "plans what are no steps": (
        lambda case: ["mend"] if case.findings else [],
        _nothing,
        "test_planning_touches_no_file",
    ),
    "plans without words": (
        _plans(text="", loses=""),
        _nothing,
        "test_planning_touches_no_file",
    ),
    "mends what was not found": (_plans(mends=(1,)), _nothing, "test_planning_touches_no_file"),
    "has a task that cannot travel": (_plans(task={"page": b"1"}), _nothing, "test_planning_touches_no_file"),
    "exits over damage": (_leaves, _nothing, "test_it_survives_damage"),
    "plans no steps over damage": (lambda _: ["mend"], _nothing, "test_it_survives_damage"),
    "plans another thing each time": (_plans_alike(), _nothing, "test_planning_touches_no_file"),
    "works without a plan": (_nothing, _empties, "test_no_steps_change_nothing"),
    "hangs over its work": (_nothing, _hangs, "test_no_steps_change_nothing"),
    "litters the quarantine": (
        _nothing,
        lambda bench: bench.keep_rows("orders", ("id",), [(1,)], "for nothing"),
        "test_no_steps_change_nothing",
    ),
    "loses a row": (_plans(), _loses_a_row, "test_no_row_is_lost_that_it_does_not_say"),
    "moves a row, and says that it loses none": (_plans(), _moves_a_row, "test_no_row_is_lost_that_it_does_not_say"),
    "raises over its work": (_nothing, _raises, "test_applying_touches_the_copy_and_the_quarantine_alone"),
    "leaves no database": (_nothing, _empties, "test_applying_touches_the_copy_and_the_quarantine_alone"),
    "touches other files": (
        _nothing,
        _touches_the_neighbour,
        "test_applying_touches_the_copy_and_the_quarantine_alone",
    ),
}


@pytest.mark.parametrize("what", REPAIRERS)
def test_a_repairer_that_misbehaves_is_caught(what: str, database: Path, tmp_path: Path) -> None:
    """By the test of the suite that is named beside it."""
    plan, apply, test = REPAIRERS[what]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    arguments = (database,) if "nothing_found" in test or "plan" in test else (database, scratch)
    with pytest.raises((*CAUGHT, SystemExit)):
        getattr(_RepairerSuite(), test)(_Repairer(plan, apply), *arguments)


def test_a_repairer_that_opens_the_file_to_plan_is_caught(database: Path) -> None:
    """A plan is made of what the case tells."""

    def plan(_: RepairCase) -> list[RepairStep]:
        database.read_bytes()
        return []

    with pytest.raises(AssertionError):
        _RepairerSuite().test_planning_touches_no_file(_Repairer(plan, _nothing), database)


def test_a_repairer_may_move_rows_and_lose_them_where_it_says_so(database: Path, tmp_path: Path) -> None:
    """What was put into the quarantine is not lost; a step that expects a loss is not held against all rows."""
    (tmp_path / "scratch").mkdir()
    for loss, work in ((Loss.MOVED, _moves_a_row), (Loss.ROWS, _loses_a_row)):
        copy = Path(shutil.copy(database, tmp_path / f"{loss.name}.db"))
        mine = _Repairer(_plans(loss=loss, loses="a row"), work)
        _RepairerSuite().test_no_row_is_lost_that_it_does_not_say(mine, copy, tmp_path / "scratch")


class _ListsGhosts(MemoryTarget):
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield what is not there, too."""
        yield ObjectInfo(key="ghost", bytes=1)
        yield from super().list(prefix)


class _ListsAnyOrder(MemoryTarget):
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the last first."""
        yield from reversed(list(super().list(prefix)))


class _ListsTexts(MemoryTarget):
    def list(self, prefix: str) -> Iterable[Any]:  # type: ignore[override]
        """Yield keys alone."""
        return [each.key for each in super().list(prefix)]


class _ListsFolders(MemoryTarget):
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Know whole parts of keys only."""
        return (each for each in super().list("") if f"{each.key}/".startswith(prefix.rstrip("/") + "/"))


class _KeepsHalf(MemoryTarget):
    def put(self, key: str, data: bytes) -> None:
        """Store the beginning."""
        super().put(key, data[: len(data) // 2])


class _AdoptsHalf(MemoryTarget):
    def adopt(self, key: str, path: Path) -> None:
        """Have the key before the data."""
        self.put(key, b"")
        self.objects[key] = path.read_bytes()
        path.unlink()


class _KeepsTheAdopted(MemoryTarget):
    def adopt(self, key: str, path: Path) -> None:
        """Copy."""
        self.put(key, path.read_bytes())


class _EatsTheRefused(MemoryTarget):
    def adopt(self, key: str, path: Path) -> None:
        """Remove first."""
        data = path.read_bytes()
        path.unlink()
        self.put(key, data)


class _ReturnsViews(MemoryTarget):
    def get(self, key: str) -> Any:
        """Return something like bytes."""
        return bytearray(super().get(key))


class _ReadsTooMuch(MemoryTarget):
    def read(self, key: str, offset: int, length: int) -> bytes:
        """Ignore the length."""
        return self.get(key)[offset:]


class _GivesNothing(MemoryTarget):
    def read(self, key: str, offset: int, length: int) -> bytes:
        """Find nothing where nothing is."""
        return self.objects.get(key, b"")[offset : offset + length]


class _MissesTheDeleted(MemoryTarget):
    def delete(self, key: str) -> None:
        """Mind that it is gone."""
        del self.objects[key]


class _Forgets(MemoryTarget):
    def delete(self, key: str) -> None:
        """Remove all that begins so."""
        self.objects = {each: data for each, data in self.objects.items() if not each.startswith(key[:2])}


class _TakesAnyKey(MemoryTarget):
    def check(self, key: str) -> None:
        """Take any."""


class _Raises(MemoryTarget):
    put = _raises  # type: ignore[assignment]


class _Hangs(MemoryTarget):
    put = _hangs  # type: ignore[assignment]


class _HangsOverLists(MemoryTarget):
    list = _hangs  # type: ignore[assignment]


class _SkipsWhatIsMissing(ManyAtOnce):
    def read_many(self, keys: Sequence[str], length: int) -> Iterator[bytes | None]:
        """Say nothing of what is not there."""
        return (data for data in super().read_many(keys, length) if data is not None)


class _ReadsManyInOrderOfKeys(ManyAtOnce):
    def read_many(self, keys: Sequence[str], length: int) -> Iterator[bytes | None]:
        """Answer in another order than was asked."""
        return super().read_many(sorted(keys), length)


class _ReadsManyWhole(ManyAtOnce):
    def read_many(self, keys: Sequence[str], length: int) -> Iterator[bytes | None]:
        """Ignore the length."""
        return super().read_many(keys, 1 << 30)


class _ListsOtherKeys(ManyAtOnce):
    def keys(self, prefix: str) -> Iterator[str]:
        """List all, whatever was asked for."""
        return super().keys("")


TARGETS: dict[str, tuple[type[MemoryTarget], str, tuple[object, ...]]] = {
    "raises": (_Raises, "test_what_was_put_is_what_comes_back", (b"data",)),
    "hangs": (_Hangs, "test_what_was_put_is_what_comes_back", (b"data",)),
    "hangs over lists": (_HangsOverLists, "test_an_empty_target_lists_nothing", ()),
    "lists what is not there": (_ListsGhosts, "test_an_empty_target_lists_nothing", ()),
    "lists in any order": (_ListsAnyOrder, "test_a_listing_has_the_prefix_and_the_order_of_keys", ()),
    "lists texts": (_ListsTexts, "test_a_listing_has_the_prefix_and_the_order_of_keys", ()),
    "lists folders": (_ListsFolders, "test_a_listing_has_the_prefix_and_the_order_of_keys", ()),
    "half-writes an object": (_KeepsHalf, "test_what_was_put_is_what_comes_back", (b"data",)),
    "returns other types": (_ReturnsViews, "test_what_was_put_is_what_comes_back", (b"data",)),
    "reads too much": (_ReadsTooMuch, "test_ranges", ()),
    "finds what is missing": (_GivesNothing, "test_what_is_missing_is_said_so", ()),
    "skips what is missing": (_SkipsWhatIsMissing, "test_many_at_once_are_what_each_is_alone", ()),
    "reads many in another order": (_ReadsManyInOrderOfKeys, "test_many_at_once_are_what_each_is_alone", ()),
    "reads too much of many": (_ReadsManyWhole, "test_many_at_once_are_what_each_is_alone", ()),
    "lists other keys": (_ListsOtherKeys, "test_many_at_once_are_what_each_is_alone", ()),
    "misses what was deleted": (_MissesTheDeleted, "test_delete_is_idempotent", ()),
    "deletes too much": (_Forgets, "test_delete_is_idempotent", ()),
    "takes any key": (_TakesAnyKey, "test_a_key_that_is_none_is_refused", ("../a", "tmp_path")),
    "leaves half of what it could not adopt": (_AdoptsHalf, "test_what_cannot_be_stored_leaves_nothing", ("tmp_path",)),
    "keeps what it adopted": (_KeepsTheAdopted, "test_adopt_takes_a_local_file", ("tmp_path",)),
    "removes what it refused": (_EatsTheRefused, "test_put_never_replaces", ("tmp_path",)),
}


@pytest.mark.parametrize("what", TARGETS)
def test_a_target_that_misbehaves_is_caught(what: str, tmp_path: Path) -> None:
    """By the test of the suite that is named beside it."""
    kind, test, arguments = TARGETS[what]
    given = [tmp_path if each == "tmp_path" else each for each in arguments]
    with pytest.raises(CAUGHT):
        getattr(TargetContract(), test)(kind(), *given)


def test_what_lacks_a_method_is_caught() -> None:
    """Of every kind: an object that is none of it."""
    calls: tuple[Callable[[], object], ...] = (
        lambda: TargetContract().test_it_meets_the_protocol(object()),  # type: ignore[arg-type]
        lambda: CheckerContract().test_it_has_a_name_and_a_level(MyNotifier()),  # type: ignore[arg-type]
        lambda: RepairerContract().test_it_has_a_name(MyNotifier()),  # type: ignore[arg-type]
        lambda: NotifierContract().test_it_has_a_name(MyRepairer()),  # type: ignore[arg-type]
    )
    for call in calls:
        with pytest.raises(AssertionError):
            call()
