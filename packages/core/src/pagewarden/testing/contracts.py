"""The contracts of `pagewarden.contracts` as suites for pytest. A plugin's test is a subclass with one fixture:

    class TestMyChecker(CheckerContract):
        @pytest.fixture
        def checker(self) -> Checker:
            return MyChecker()

Each suite tests what core relies on, not what the plugin is for; that needs tests of its own.
"""

from __future__ import annotations

import hashlib
import random
import re
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.check.outcome import Collected, ContractBroken
from pagewarden.contracts import (
    Checker,
    Notice,
    Notifier,
    ObjectInfo,
    Repairer,
    RepairStep,
    Target,
)
from pagewarden.testing.injuries import INJURIES
from pagewarden.testing.subjects import ClosedSubject, FileImage
from pagewarden.values import Finding, Level, Severity

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SECONDS = 20.0  # in which a checker must be done with a database of some hundred kilobytes


def make_database(path: Path, *, seed: int = 1, rows: int = 300) -> Path:
    """Make a small database with what matters to a checker: indexes, a foreign key, overflow pages, a view."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            """
            CREATE TABLE customers(id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, notes TEXT);
            CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers(id), body BLOB);
            CREATE TABLE prices(sku TEXT PRIMARY KEY, price REAL) WITHOUT ROWID;
            CREATE INDEX orders_customer ON orders(customer);
            CREATE VIEW totals AS SELECT customer, count(*) AS n FROM orders GROUP BY customer;
            """
        )
        for number in range(1, rows + 1):
            notes = " ".join(chance.choices(("red", "green", "blue", "grey"), k=chance.randrange(1, 40)))
            connection.execute(
                "INSERT INTO customers VALUES(?, ?, ?, ?)", (number, f"{number}@example.org", f"name {number}", notes)
            )
            body = chance.randbytes(9000 if number % 50 == 0 else chance.randrange(20, 200))
            connection.execute("INSERT INTO orders VALUES(?, ?, ?)", (number, chance.randrange(1, number + 1), body))
            connection.execute("INSERT INTO prices VALUES(?, ?)", (f"sku-{number}", chance.random()))
    return path


def damaged_copies(database: Path, folder: Path) -> Iterator[Path]:
    """Yield copies of `database`, each broken in another way that a checker must survive."""
    data = database.read_bytes()
    chance = random.Random(7)
    for kind in ("flipped-bit", "zeroed-page"):
        copy = folder / f"{kind}.db"
        copy.write_bytes(data)
        INJURIES[kind].apply(copy, 3)
        yield copy
    broken = {
        "truncated.db": data[: len(data) // 2 + 100],
        "header-only.db": data[:100].ljust(4096, b"\0"),
        "schema.db": data[:100] + chance.randbytes(3996) + data[4096:],
        "noise.db": data[:4096] + chance.randbytes(len(data) - 4096),
        "huge-header.db": data[:28] + b"\x7f\xff\xff\xfe" * 6 + data[52:],
    }
    for name, content in broken.items():
        (folder / name).write_bytes(content)
        yield folder / name


_opened: list[str] = []
_watching = threading.Event()
_hooked: list[bool] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watching.is_set():
        _opened.append(str(arguments[0]))


@contextmanager
def _opens() -> Iterator[list[str]]:
    """Collect the paths that Python code opens in the block. An audit hook stays for ever, so there is only one."""
    if not _hooked:
        sys.addaudithook(_watch)
        _hooked.append(True)
    _opened.clear()
    _watching.set()
    try:
        yield _opened
    finally:
        _watching.clear()


def _state(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in `folder`, without what a reader of a WAL database may leave (H33)."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if not path.name.endswith(("-shm", "-wal"))
    }


class _DeadlinePassed(BaseException):
    """What a run raises in a checker whose time is over."""


def _run(checker: Checker, subject: ClosedSubject) -> Collected:
    """Let a checker judge, in a thread as a run does, and hold what it returns against its contract."""
    collected = Collected()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            collected.add(checker.check(subject))
        except BaseException as error:  # noqa: BLE001 - carried over to the test's own thread
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if thread.is_alive():
        pytest.fail(f"{checker.name} did not end within {_SECONDS:g} s")
    if errors:
        raise errors[0]
    return collected


class CheckerContract:
    """What a run relies on in a checker."""

    @pytest.fixture
    def checker(self) -> Checker:
        """Return the checker under test."""
        raise NotImplementedError("a subclass returns its checker here")

    @pytest.fixture
    def database(self, tmp_path: Path) -> Path:
        """Return a sound database in a folder of its own."""
        folder = tmp_path / "subject"
        folder.mkdir()
        return make_database(folder / "app.db")

    def test_it_has_a_name_and_a_level(self, checker: Checker) -> None:
        """It meets the protocol; its name is lower-case words with hyphens."""
        assert isinstance(checker, Checker)
        assert _NAME.fullmatch(checker.name)
        assert isinstance(checker.level, Level)

    @pytest.mark.parametrize("level", list(Level))
    def test_a_sound_database_has_no_damage(self, checker: Checker, database: Path, level: Level) -> None:
        """Whatever it reports of a sound database, damage it is not."""
        with ClosedSubject(database, level=level) as subject:
            collected = _run(checker, subject)
        assert [finding for finding in collected.findings if finding.severity is Severity.DAMAGE] == []

    def test_it_compares_with_a_baseline_that_is_equal(self, checker: Checker, database: Path) -> None:
        """A current baseline that equals the database gives no damage either."""
        with ClosedSubject(database, baseline=FileImage(database)) as subject:
            collected = _run(checker, subject)
        assert [finding for finding in collected.findings if finding.severity is Severity.DAMAGE] == []

    def test_it_says_the_same_twice(self, checker: Checker, database: Path) -> None:
        """A run may call it again, when the database did not hold still: it keeps nothing from the first call."""
        with ClosedSubject(database) as subject:
            first, second = _run(checker, subject), _run(checker, subject)
        assert (first.findings, first.judged, first.why) == (second.findings, second.judged, second.why)

    def test_it_survives_damage(self, checker: Checker, database: Path, tmp_path: Path) -> None:
        """On every damaged file it returns findings or raises an Exception, in time: it never hangs, never exits."""
        for copy in damaged_copies(database, tmp_path):
            with ClosedSubject(copy, level=Level.DEEP, baseline=FileImage(database)) as subject:
                try:
                    _run(checker, subject)
                except Exception as error:  # noqa: BLE001 - a run makes `unknown` of it
                    assert not isinstance(error, ContractBroken), error

    def test_it_changes_nothing(self, checker: Checker, database: Path) -> None:
        """The database and its folder are byte for byte as they were."""
        before = _state(database.parent)
        with ClosedSubject(database, level=Level.DEEP) as subject:
            _run(checker, subject)
        assert _state(database.parent) == before

    def test_it_does_not_open_the_database_itself(self, checker: Checker, database: Path) -> None:
        """An open and close in the worker's process would drop the locks of its SQLite connections (H1)."""
        with ClosedSubject(database, level=Level.DEEP) as subject, _opens() as opened:
            _run(checker, subject)
        assert [path for path in opened if path.startswith(str(database))] == []

    def test_it_lets_the_deadline_through(self, checker: Checker, database: Path) -> None:
        """What `Subject.progress` raises ends the check, if the checker tells of its progress at all."""
        with ClosedSubject(database, level=Level.DEEP, baseline=FileImage(database)) as subject:
            _run(checker, subject)
            if not subject.told:
                return
            subject.signal = _DeadlinePassed()
            with pytest.raises(_DeadlinePassed):
                _run(checker, subject)


class RepairerContract:
    """What the repair planner relies on in a repairer."""

    @pytest.fixture
    def repairer(self) -> Repairer:
        """Return the repairer under test."""
        raise NotImplementedError("a subclass returns its repairer here")

    def break_copy(self, copy: Path) -> Sequence[Finding]:  # noqa: ARG002 - for subclasses
        """Damage the file `copy` in a way that the repairer mends, and return the findings; by default, do nothing."""
        return ()

    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        """Return a sound database in a folder of its own."""
        folder = tmp_path / "copy"
        folder.mkdir()
        return make_database(folder / "app.db")

    @pytest.fixture
    def quarantine(self, tmp_path: Path) -> Path:
        """Return an empty folder."""
        folder = tmp_path / "quarantine"
        folder.mkdir()
        return folder

    def test_it_has_a_name(self, repairer: Repairer) -> None:
        """It meets the protocol; its name is lower-case words with hyphens."""
        assert isinstance(repairer, Repairer)
        assert _NAME.fullmatch(repairer.name)

    def test_nothing_found_needs_nothing_done(self, repairer: Repairer) -> None:
        """Without findings there are no steps."""
        assert list(repairer.plan(())) == []

    def test_it_does_not_plan_for_what_it_does_not_know(self, repairer: Repairer) -> None:
        """A finding of an unknown kind, and a notice, give no steps."""
        strange = Finding(kind="no-kind-of-this-name", severity=Severity.DAMAGE, message="something else")
        notice = Finding(kind="trailing-bytes", severity=Severity.NOTICE, message="bytes follow the last page")
        assert list(repairer.plan((strange, notice))) == []

    def test_planning_touches_no_file(self, repairer: Repairer, copy: Path) -> None:
        """A plan is a value: it is the same twice, each step says what it does and loses, and nothing was written."""
        findings = self.break_copy(copy)
        before = _state(copy.parent)
        with _opens() as opened:
            steps = list(repairer.plan(findings))
        assert list(repairer.plan(findings)) == steps
        assert all(isinstance(step, RepairStep) and step.text and step.loses for step in steps)
        assert _state(copy.parent) == before
        assert [path for path in opened if path.startswith(str(copy.parent))] == []

    def test_no_steps_change_nothing(self, repairer: Repairer, copy: Path, quarantine: Path) -> None:
        """Applying an empty plan leaves the copy and the quarantine as they were."""
        before = _state(copy.parent)
        repairer.apply(copy, (), quarantine)
        assert (_state(copy.parent), list(quarantine.iterdir())) == (before, [])

    def test_applying_touches_the_copy_and_the_quarantine_alone(
        self, repairer: Repairer, copy: Path, quarantine: Path
    ) -> None:
        """Files beside the copy stay as they are, and the copy stays a database that SQLite can open."""
        neighbour = make_database(copy.parent / "neighbour.db", seed=2, rows=20)
        before = neighbour.read_bytes()
        findings = self.break_copy(copy)
        repairer.apply(copy, list(repairer.plan(findings)), quarantine)
        assert neighbour.read_bytes() == before
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] >= 0


class NotifierContract:
    """What a run relies on in a notifier."""

    @pytest.fixture
    def notifier(self) -> Notifier:
        """Return the notifier under test, set up so that delivery works."""
        raise NotImplementedError("a subclass returns its notifier here")

    def delivered(self) -> Sequence[str] | None:
        """Return the titles that arrived, oldest first, where the test can see them; None where it cannot."""
        return None

    def test_it_has_a_name(self, notifier: Notifier) -> None:
        """It meets the protocol; its name is lower-case words with hyphens."""
        assert isinstance(notifier, Notifier)
        assert _NAME.fullmatch(notifier.name)

    @pytest.mark.parametrize("severity", list(Severity))
    def test_it_delivers(self, notifier: Notifier, severity: Severity) -> None:
        """A notice of each severity is delivered."""
        notifier.notify(_notice(f"app.db: {severity}", severity=severity))
        assert self.delivered() in (None, [f"app.db: {severity}"])

    @pytest.mark.parametrize("text", ["Łukasz 伟 🐘", "two\nlines", "a" * 10_000, '"quotes" and {braces} and %s', ""])
    def test_it_delivers_any_text(self, notifier: Notifier, text: str) -> None:
        """Line breaks, quotes, any script, much of it, none of it: a body is text."""
        notifier.notify(_notice("app.db is damaged", body=text))
        assert self.delivered() in (None, ["app.db is damaged"])

    def test_it_delivers_from_any_thread(self, notifier: Notifier) -> None:
        """A run calls it from a thread of its own."""
        errors: list[BaseException] = []

        def work() -> None:
            try:
                notifier.notify(_notice("from a thread"))
            except BaseException as error:  # noqa: BLE001 - carried over to the test's own thread
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(_SECONDS)
        assert (thread.is_alive(), errors) == (False, [])
        assert self.delivered() in (None, ["from a thread"])

    def test_it_delivers_each_notice(self, notifier: Notifier) -> None:
        """Notices arrive in their order, equal ones included."""
        titles = ["first", "second", "second"]
        for title in titles:
            notifier.notify(_notice(title))
        assert self.delivered() in (None, titles)


def _notice(title: str, *, body: str = "page 7 is all zeros", severity: Severity = Severity.DAMAGE) -> Notice:
    time = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
    return Notice(title=title, body=body, severity=severity, database="/srv/app.db", time=time)


class TargetContract:
    """What a repository relies on in a target: that is all that stands between a backup and its loss."""

    @pytest.fixture
    def target(self) -> Target:
        """Return a target that holds nothing."""
        raise NotImplementedError("a subclass returns an empty target here")

    def test_it_meets_the_protocol(self, target: Target) -> None:
        """It has every method, and says its URL."""
        assert isinstance(target, Target)
        assert isinstance(target.url, str) and target.url

    def test_an_empty_target_lists_nothing(self, target: Target) -> None:
        """Nothing was stored, nothing is listed, and what it needs for itself it does not show."""
        assert list(target.list("")) == []

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 4096], ids=["empty", "byte", "megabyte"])
    def test_what_was_put_is_what_comes_back(self, target: Target, data: bytes) -> None:
        """Whole, by range, and as a local file if it keeps one."""
        target.put("a/b/object-1.bin", data)
        assert target.get("a/b/object-1.bin") == data
        assert target.read("a/b/object-1.bin", 0, len(data) + 10) == data
        path = target.open("a/b/object-1.bin")
        assert path is None or path.read_bytes() == data
        assert [(each.key, each.bytes) for each in target.list("")] == [("a/b/object-1.bin", len(data))]

    def test_ranges(self, target: Target) -> None:
        """A range is exact, is shorter at the end, and is empty behind it."""
        data = random.Random(1).randbytes(5000)
        target.put("object", data)
        for offset, length in ((0, 1), (0, 5000), (17, 100), (4990, 100), (4999, 1), (5000, 10), (9000, 10), (3, 0)):
            assert target.read("object", offset, length) == data[offset : offset + length]

    def test_put_never_replaces(self, target: Target, tmp_path: Path) -> None:
        """A second put or adopt of a key raises FileExistsError, and the first object is unchanged."""
        target.put("key", b"first")
        with pytest.raises(FileExistsError):
            target.put("key", b"second, and longer")
        spooled = tmp_path / "spooled"
        spooled.write_bytes(b"third")
        with pytest.raises(FileExistsError):
            target.adopt("key", spooled)
        assert spooled.read_bytes() == b"third"
        assert target.get("key") == b"first"

    def test_adopt_takes_a_local_file(self, target: Target, tmp_path: Path) -> None:
        """The file is stored under the key, and is gone from its path: from the staging folder or from anywhere."""
        data = random.Random(2).randbytes(3 << 20)
        folders = [tmp_path, target.staging() or tmp_path]
        for number, folder in enumerate(folders):
            spooled = folder / f"spooled-{number}"
            spooled.write_bytes(data)
            target.adopt(f"adopted/{number}", spooled)
            assert not spooled.exists()
            assert target.get(f"adopted/{number}") == data

    def test_staging_is_not_listed(self, target: Target) -> None:
        """A file that is being written in the staging folder is no object."""
        folder = target.staging()
        if folder is None:
            return
        assert folder.is_dir()
        (folder / "half-written").write_bytes(b"half")
        assert list(target.list("")) == []
        (folder / "half-written").unlink()

    def test_what_is_missing_is_said_so(self, target: Target) -> None:
        """Reading what is not there raises FileNotFoundError, a key's own prefix included."""
        target.put("a/b", b"data")
        for key in ("missing", "a", "a/b/c"):
            with pytest.raises(FileNotFoundError):
                target.get(key)
            with pytest.raises(FileNotFoundError):
                target.read(key, 0, 1)

    def test_delete_is_idempotent(self, target: Target) -> None:
        """What was deleted is gone and can be put again; deleting what is not there is no error."""
        target.put("a/key", b"data")
        target.put("a/other", b"stays")
        for _ in range(2):
            target.delete("a/key")
        with pytest.raises(FileNotFoundError):
            target.get("a/key")
        assert [each.key for each in target.list("")] == ["a/other"]
        target.put("a/key", b"again")
        assert target.get("a/key") == b"again"

    def test_a_listing_has_the_prefix_and_the_order_of_keys(self, target: Target) -> None:
        """All objects whose key starts with the prefix, whether or not it ends at a slash, in the order of the keys."""
        keys = ["a/1", "a/10", "a/2", "a-1", "ab/1", "b/a/c", "b/a.b", "b/a", "z"]
        storable = [key for key in keys if key != "b/a"]  # a key is never the folder of another one
        for key in storable:
            target.put(key, key.encode())
        for prefix in ("", "a", "a/", "a/1", "b/a", "zz"):
            listed = list(target.list(prefix))
            assert all(isinstance(each, ObjectInfo) for each in listed)
            assert [each.key for each in listed] == sorted(key for key in storable if key.startswith(prefix))
            assert [each.bytes for each in listed] == [len(each.key) for each in listed]
            assert all(each.modified is None or each.modified.tzinfo is not None for each in listed)

    @pytest.mark.parametrize(
        "key",
        ["", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../../b", "../a", "a b", "ä", "a\\b", "a\nb", "a\0b"],
    )
    def test_a_key_that_is_none_is_refused(self, target: Target, key: str, tmp_path: Path) -> None:
        """ValueError, before anything happens: no key leads out of the target."""
        spooled = tmp_path / "spooled"
        spooled.write_bytes(b"data")
        calls: list[Callable[[], object]] = [
            lambda: target.put(key, b"data"),
            lambda: target.adopt(key, spooled),
            lambda: target.get(key),
            lambda: target.read(key, 0, 1),
            lambda: target.open(key),
            lambda: target.delete(key),
        ]
        for call in calls:
            with pytest.raises(ValueError):
                call()
        assert spooled.exists()
        assert list(target.list("")) == []

    def test_of_many_puts_at_once_one_wins(self, target: Target) -> None:
        """Sixteen threads put one key: one succeeds, fifteen get FileExistsError, and its data is what is there."""
        outcomes: list[str] = []
        start = threading.Barrier(16)

        def put(number: int) -> None:
            start.wait()
            try:
                target.put("contested", b"%d" % number * 1000)
                outcomes.append(str(number))
            except FileExistsError:
                outcomes.append("lost")
            except BaseException as error:  # noqa: BLE001 - carried over to the test's own thread
                outcomes.append(repr(error))

        threads = [threading.Thread(target=put, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_SECONDS)
        winners = [outcome for outcome in outcomes if outcome != "lost"]
        assert (len(outcomes), len(winners)) == (16, 1), winners
        assert target.get("contested") == winners[0].encode() * 1000

    def test_a_listing_never_shows_a_half_written_object(self, target: Target) -> None:
        """While objects are put, every one that is listed has its whole size and content."""
        size, stop, seen = 1 << 20, threading.Event(), []

        def look() -> None:
            while not stop.is_set():
                for each in target.list("large/"):
                    data = target.get(each.key)
                    seen.append(each.bytes == len(data) == size and len(set(data)) == 1)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            for number in range(10):
                target.put(f"large/{number}", bytes([number]) * size)
        finally:
            stop.set()
            thread.join(_SECONDS)
        assert all(seen)
        assert [each.bytes for each in target.list("large/")] == [size] * 10


__all__ = [
    "CheckerContract",
    "NotifierContract",
    "RepairerContract",
    "TargetContract",
    "damaged_copies",
    "make_database",
]
