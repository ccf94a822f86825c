"""The suites themselves: a right implementation passes (the plugins' own tests), a wrong one is caught here."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from pagewarden.contracts import (
    Checker,
    CheckOutcome,
    Notice,
    Notifier,
    ObjectInfo,
    RepairBench,
    RepairCase,
    Repairer,
    RepairStep,
    Subject,
    Target,
)
from pagewarden.testing.contracts import (
    CheckerContract,
    NotifierContract,
    RepairerContract,
    TargetContract,
    make_database,
)
from pagewarden.values import Finding, Level, Severity

DAMAGE = Finding(kind="zeroed-page", severity=Severity.DAMAGE, message="page 2 is all zeros")


class MemoryTarget:
    """A target that meets the contract."""

    def __init__(self) -> None:
        self.url = "memory:"
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def check(self, key: str) -> None:
        """Refuse what is no key."""
        if not all(part.isascii() and part.replace(".", "").isalnum() for part in key.replace("-", "a").split("/")):
            raise ValueError(key)

    def put(self, key: str, data: bytes) -> None:
        """Store."""
        self.check(key)
        with self.lock:
            if key in self.objects:
                raise FileExistsError(key)
            self.objects[key] = data

    def adopt(self, key: str, path: Path) -> None:
        """Store a file."""
        self.put(key, path.read_bytes())
        path.unlink()

    def get(self, key: str) -> bytes:
        """Return it."""
        self.check(key)
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key]

    def open(self, key: str) -> Path | None:
        """There is no file."""
        self.get(key)
        return None

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return a part."""
        return self.get(key)[offset : offset + length]

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all."""
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield ObjectInfo(key=key, bytes=len(self.objects[key]))

    def delete(self, key: str) -> None:
        """Forget it."""
        self.check(key)
        self.objects.pop(key, None)

    def staging(self) -> Path | None:
        """There is none."""
        return None


class TestTarget(TargetContract):
    """A target in memory passes."""

    @pytest.fixture
    def target(self) -> Target:
        """An empty one."""
        return MemoryTarget()


class ManyAtOnce(MemoryTarget):
    """One that can also do many small things at once."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield keys alone."""
        return (each.key for each in self.list(prefix))

    def read_many(self, keys: Sequence[str], length: int) -> Iterator[bytes | None]:
        """Yield the beginnings of many."""
        for key in keys:
            self.check(key)
            data = self.objects.get(key)
            yield None if data is None else data[:length]

    def delete_many(self, keys: Sequence[str]) -> None:
        """Forget many."""
        for key in keys:
            self.delete(key)


class TestBulkTarget(TargetContract):
    """It passes, too."""

    @pytest.fixture
    def target(self) -> Target:
        """An empty one."""
        return ManyAtOnce()


class MyNotifier:
    """A notifier that meets the contract."""

    name = "notify-mine"

    def __init__(self) -> None:
        self.told: list[str] = []

    def notify(self, notice: Notice) -> None:
        """Remember the title."""
        self.told.append(notice.title)


class TestNotifier(NotifierContract):
    """A notifier that remembers passes, and the suite sees what was delivered."""

    @pytest.fixture
    def notifier(self) -> Notifier:
        """A new one."""
        self.mine = MyNotifier()
        return self.mine

    def delivered(self) -> Sequence[str]:
        """What arrived."""
        return self.mine.told


class MyRepairer:
    """A repairer that meets the contract."""

    name = "repair-mine"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Mend zeroed pages."""
        return [
            RepairStep(text=f"mend page {each.pgno}", mends=(place,), task={"page": each.pgno})
            for place, each in enumerate(case.findings)
            if each.kind == "zeroed-page"
        ]

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Put something aside."""
        for step in steps:
            page = bench.read(2, 4096)
            bench.write(2, page, step.text)
            bench.progress(1, 1)


class TestRepairer(RepairerContract):
    """A repairer that does little passes."""

    @pytest.fixture
    def repairer(self) -> Repairer:
        """A new one."""
        return MyRepairer()

    def break_copy(self, copy: Path) -> Sequence[Finding]:
        """Pretend."""
        return [DAMAGE]


class MyChecker:
    """A checker whose behaviour a test chooses."""

    def __init__(self, check: Callable[[Subject], CheckOutcome | Iterable[Finding]], name: str = "check-mine") -> None:
        self.name = name
        self.level = Level.QUICK
        self.behaviour = check

    def check(self, subject: Subject) -> CheckOutcome | Iterable[Finding]:
        """Do what the test chose."""
        return self.behaviour(subject)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database in a folder of its own."""
    (tmp_path / "subject").mkdir()
    return make_database(tmp_path / "subject" / "app.db", rows=30)


def opens(subject: Subject) -> list[Finding]:
    """Read the database itself."""
    Path(subject.path).read_bytes()
    return []


def writes(subject: Subject) -> list[Finding]:
    """Leave a file beside it."""
    Path(subject.path).with_name("note").write_text("seen")
    return []


def swallows(subject: Subject) -> list[Finding]:
    """Hide the deadline."""
    try:
        subject.progress(1, 2)
    except BaseException:  # noqa: BLE001 - which is what it must not do
        return []
    return []


def exits(subject: Subject) -> list[Finding]:
    """End the process."""
    raise SystemExit(1)


def hangs(subject: Subject) -> list[Finding]:
    """Take longer than it may."""
    time.sleep(1)
    return []


def test_a_checker_that_breaks_its_contract_over_damage_is_caught(database: Path, tmp_path: Path) -> None:
    """It may fail; what it returns must be findings."""
    with pytest.raises(AssertionError):
        CheckerContract().test_it_survives_damage(MyChecker(lambda _: ["no finding"]), database, tmp_path)  # type: ignore[list-item]


def test_a_checker_that_sees_ghosts_is_caught(database: Path) -> None:
    """Damage in a sound database, with a baseline or without."""
    ghost = MyChecker(lambda _: [DAMAGE])
    with pytest.raises(AssertionError):
        CheckerContract().test_a_sound_database_has_no_damage(ghost, database, Level.QUICK)
    with pytest.raises(AssertionError):
        CheckerContract().test_it_compares_with_a_baseline_that_is_equal(ghost, database)


def test_a_checker_with_a_memory_is_caught(database: Path) -> None:
    """The second call says something else."""
    calls: list[Subject] = []

    def remembers(subject: Subject) -> CheckOutcome:
        calls.append(subject)
        return CheckOutcome(why=f"call {len(calls)}")

    with pytest.raises(AssertionError):
        CheckerContract().test_it_says_the_same_twice(MyChecker(remembers), database)


def test_a_checker_that_touches_files_is_caught(database: Path) -> None:
    """Opening the database drops locks (H1); writing beside it is writing."""
    with pytest.raises(AssertionError):
        CheckerContract().test_it_does_not_open_the_database_itself(MyChecker(opens), database)
    with pytest.raises(AssertionError):
        CheckerContract().test_it_changes_nothing(MyChecker(writes), database)


def test_a_checker_that_ignores_the_deadline_is_caught(database: Path) -> None:
    """One that swallows the signal; one that tells nothing of its progress is let be."""
    with pytest.raises(pytest.fail.Exception):
        CheckerContract().test_it_lets_the_deadline_through(MyChecker(swallows), database)
    CheckerContract().test_it_lets_the_deadline_through(MyChecker(lambda _: []), database)


def test_a_checker_that_exits_or_hangs_is_caught(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage may make it fail; it must not end the process, and not go on for ever."""
    with pytest.raises(SystemExit):
        CheckerContract().test_it_survives_damage(MyChecker(exits), database, tmp_path)
    monkeypatch.setattr("pagewarden.testing.contracts.samples.SECONDS", 0.05)
    with pytest.raises(pytest.fail.Exception, match="did not end"):
        CheckerContract().test_it_survives_damage(MyChecker(hangs), database, tmp_path)


def test_names_are_checked() -> None:
    """Every kind's."""
    with pytest.raises(AssertionError):
        CheckerContract().test_it_has_a_name_and_a_level(MyChecker(lambda _: [], name="Check Mine"))
    repairer, notifier = MyRepairer(), MyNotifier()
    repairer.name = notifier.name = "Not A Name"
    with pytest.raises(AssertionError):
        RepairerContract().test_it_has_a_name(repairer)
    with pytest.raises(AssertionError):
        NotifierContract().test_it_has_a_name(notifier)


def test_a_target_that_replaces_is_caught(tmp_path: Path) -> None:
    """The second of two puts must fail."""
    target = MemoryTarget()

    def put(key: str, data: bytes) -> None:
        target.objects[key] = data

    target.put = put  # type: ignore[method-assign]
    with pytest.raises(pytest.fail.Exception):
        TargetContract().test_put_never_replaces(target, tmp_path)


def test_a_target_that_races_is_caught() -> None:
    """Of many puts at once one wins; a check and then a write is two steps."""
    target = MemoryTarget()

    def put(key: str, data: bytes) -> None:
        if key in target.objects:
            raise FileExistsError(key)
        time.sleep(0.05)
        target.objects[key] = data

    target.put = put  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        TargetContract().test_of_many_puts_at_once_one_wins(target)


def test_a_target_that_shows_half_an_object_is_caught() -> None:
    """An object that grows while it is listed."""
    target = MemoryTarget()

    def put(key: str, data: bytes) -> None:
        for size in (len(data) // 2, len(data)):
            target.objects[key] = data[:size]
            time.sleep(0.02)

    target.put = put  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        TargetContract().test_a_listing_never_shows_a_half_written_object(target)


def test_the_fixtures_of_the_suites_must_be_given() -> None:
    """A subclass without its fixture says so."""
    for suite in (CheckerContract, RepairerContract, NotifierContract, TargetContract):
        name = suite.__name__.removesuffix("Contract").lower()
        fixture = getattr(suite, name)
        function = getattr(fixture, "_fixture_function", None) or fixture.__wrapped__
        with pytest.raises(NotImplementedError):
            function(suite())


def test_only_the_suites_need_pytest() -> None:
    """The rest of pagewarden.testing works where it is not installed."""
    code = "import sys; sys.modules['pytest'] = None; import pagewarden.testing, pagewarden.testing.subjects"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_checker_is_a_checker() -> None:
    """The helpers of this file meet their protocols."""
    assert isinstance(MyChecker(lambda _: []), Checker)
    assert isinstance(MemoryTarget(), Target)
