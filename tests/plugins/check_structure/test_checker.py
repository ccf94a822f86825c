from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pagewarden.check.outcome import Collected
from pagewarden.contracts import Checker, Subject
from pagewarden.sqlite.describe import Description
from pagewarden.structure import Flaw, FlawKind, StructureStep, Tree
from pagewarden.testing.contracts import CheckerContract
from pagewarden.testing.subjects import ClosedSubject
from pagewarden.values import Finding, Level, Severity, Verdict
from pagewarden_check_structure import judgement as module
from pagewarden_check_structure import pagewarden_checkers, words
from pagewarden_check_structure.checker import StructureChecker
from pagewarden_check_structure.place import UNITS, position
from tests.core.pages.trees import Database, build


class TestContract(CheckerContract):
    """What every checker must do."""

    @pytest.fixture
    def checker(self) -> Checker:
        """The one that the plugin registers."""
        (checker,) = pagewarden_checkers()
        return checker


def judge(path: Path, **subject: Any) -> Collected:
    """Let the checker judge a closed database."""
    with ClosedSubject(path, **subject) as made:
        return collect(made)


def collect(subject: Subject) -> Collected:
    """Let the checker judge."""
    collected = Collected()
    collected.add(StructureChecker().check(subject))
    return collected


def write(database: Database, folder: Path) -> Path:
    """Write a database to a file."""
    path = folder / "a.db"
    path.write_bytes(database.data)
    return path


def one(collected: Collected) -> Finding:
    """Return the only finding."""
    (finding,) = collected.findings
    return finding


def test_it_runs_at_level_standard_in_the_process_of_the_run() -> None:
    """The page reader parses the bytes, so the checker itself cannot die of them."""
    assert (StructureChecker().level, StructureChecker.in_process) == (Level.STANDARD, True)


def test_a_sound_database_is_sound(tmp_path: Path) -> None:
    """Whatever is in it, and nothing is left to say."""
    collected = judge(write(build(pragmas=("auto_vacuum=FULL",)), tmp_path))
    assert (collected.findings, collected.judged, collected.why) == ([], Verdict.SOUND, "")


def test_an_empty_file_is_sound(tmp_path: Path) -> None:
    """It has no page that could be wrong."""
    (tmp_path / "a.db").touch()
    assert judge(tmp_path / "a.db").judged is Verdict.SOUND


def test_a_broken_cell_is_named_with_its_bytes(tmp_path: Path) -> None:
    """Kind, page, table, rowid, a sentence, and what was expected and seen."""
    database = build(page_size=512)
    leaf = database.leaf("c")
    cell = database.parse(leaf).cells[1]
    database.put(leaf, cell.offset + cell.payload - cell.offset + 1, b"\x0a")  # the first serial type
    finding = judge(write(database, tmp_path)).findings[0]
    assert (finding.kind, finding.severity, finding.pgno) == ("bad-record", Severity.DAMAGE, leaf)
    assert (finding.object, finding.rowid) == ("c", cell.rowid)
    assert finding.message == f"page {leaf} of c, cell 1, rowid {cell.rowid}: column i has the reserved serial type 10"
    assert finding.evidence.startswith(f"seen 10; byte {cell.offset} of page {leaf}: ")


def test_a_page_used_twice_names_both_users(tmp_path: Path) -> None:
    """A table and an index, and a table and the freelist: whichever came second is named with the other."""
    database = build(page_size=512)
    stolen = database.leaf("a_name", 1)
    root = database.parse(database.root("c"))
    assert root.right is not None
    database.put(root.pgno, root.header + 8, struct.pack(">I", stolen))
    twice = [finding for finding in judge(write(database, tmp_path)).findings if finding.kind == "double-reference"]
    assert [finding.pgno for finding in twice] == [stolen]
    assert "index a_name" in twice[0].message
    assert f"c (on page {root.pgno})" in twice[0].message

    database = build(page_size=512)
    trunk = database.number(1, 32)
    leaf = database.leaf("a", 0)
    database.put(trunk, 8, struct.pack(">I", leaf))
    twice = [finding for finding in judge(write(database, tmp_path)).findings if finding.kind == "double-reference"]
    assert [finding.message for finding in twice] == [
        f"page {leaf} is used twice: by table a, table leaf page and by the freelist (on page {trunk})"
    ]


def test_where_only_one_user_is_known_it_is_named(tmp_path: Path) -> None:
    """A tree that uses a page twice has no other one to name."""
    database = build(page_size=512)
    root = database.parse(database.root("c"))
    database.put(root.pgno, root.cells[1].offset, struct.pack(">I", root.cells[0].child))
    twice = [finding for finding in judge(write(database, tmp_path)).findings if finding.kind == "double-reference"]
    assert twice[0].message == f"page {root.cells[0].child} is used twice, once by c (on page {root.pgno})"


def test_rules_of_the_owner_are_violations_and_wrong_types_damage(tmp_path: Path) -> None:
    """As check-pragma has it: the file is whole where a NOT NULL column holds NULL; no SQLite stores a wrong type."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n, s)")
        connection.execute("INSERT INTO t VALUES (5, NULL, 'text')")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(replace(sql, 'n,', 'n ANY NOT NULL,'), 's)', 's INT) STRICT')"
        )
    found = judge(path)
    assert [(finding.kind, finding.severity, finding.rowid) for finding in found.findings] == [
        ("not-null", Severity.VIOLATION, 5),
        ("wrong-type", Severity.DAMAGE, 5),
    ]
    assert "column n is NULL" in found.findings[0].message


def test_it_sees_what_integrity_check_skips_behind_a_view(tmp_path: Path) -> None:
    """H39: a view first in SQLite's table of names turns its check of the freelist off, and not this one."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t1(a)")
        connection.execute("CREATE TABLE t2(a)")
        connection.execute("CREATE VIEW v AS SELECT * FROM t1")
        connection.execute("INSERT INTO t2 VALUES (zeroblob(20000))")
        connection.execute("DELETE FROM t2")
    data = bytearray(path.read_bytes())
    trunk = int.from_bytes(data[32:36], "big")
    data[(trunk - 1) * 4096 : trunk * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    kinds = {finding.kind for finding in judge(path).findings}
    assert kinds == {"bad-freelist", "unused-page"}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [(52, 99, "names page 99 as the largest root page"), (52, 0, "asks for incremental vacuum")],
)
def test_the_header_must_agree_with_the_pointer_map(tmp_path: Path, field: int, value: int, words: str) -> None:
    """The largest root page is the schema's; without one there is nothing to vacuum incrementally."""
    database = build(pragmas=("auto_vacuum=INCREMENTAL",))
    database.put(1, field, struct.pack(">I", value))
    findings = judge(write(database, tmp_path)).findings
    assert any(finding.kind == "bad-pointer-map" and words in finding.message for finding in findings)


def test_a_schema_page_that_is_gone_is_damage(tmp_path: Path) -> None:
    """Then no tree is known, and all of their pages are unused, runs of them together."""
    database = build()
    database.put(1, 100, bytes(100))
    findings = judge(write(database, tmp_path)).findings
    assert (findings[0].kind, findings[0].object) == ("bad-page", "sqlite_schema")
    assert {finding.kind for finding in findings[1:]} == {"unused-page"}
    assert findings[1].message.startswith("pages 2 to ")


class Steps:
    """An image whose walk sees what a test wants."""

    def __init__(self, subject: ClosedSubject, steps: Sequence[StructureStep]) -> None:
        self._image = subject.image
        self._steps = steps
        self.resumed: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._image, name)

    def structure(self, trees: Sequence[Tree], *, resume: str = "") -> Iterator[StructureStep]:
        """Yield the steps."""
        self.resumed = resume
        yield from self._steps


def stepping(path: Path, *steps: StructureStep, **subject: Any) -> tuple[Collected, ClosedSubject, Steps]:
    """Let the checker judge what these steps say."""
    with ClosedSubject(path, **subject) as made:
        image = Steps(made, steps)
        made.image = image  # type: ignore[assignment]
        return collect(made), made, image


OF_THE_FREELIST = (
    FlawKind.PAGE_NUMBER,
    FlawKind.TWICE,
    FlawKind.UNUSED,
    FlawKind.FREELIST_COUNT,
    FlawKind.FREELIST_TRUNK,
    FlawKind.POINTER_MAP,
    FlawKind.UNREADABLE,
)


@pytest.mark.parametrize("kind", FlawKind)
def test_every_flaw_has_a_kind_and_a_sentence(tmp_path: Path, kind: FlawKind) -> None:
    """With every field or with few: a sentence that names the page, and no gap in it."""
    path = write(build(rows=5), tmp_path)
    full = Flaw(kind=kind, pgno=3, tree=1, cell=2, column=1, other=4, rowid=7, expected=5 << 32 | 4, seen=1 << 32)
    few = Flaw(kind=kind, pgno=3, tree=1, column=0, expected=5 << 32, seen=2)
    free = Flaw(kind=kind, pgno=3, expected=2 << 32, seen=2)
    flaws = (full, few, free) if kind in OF_THE_FREELIST else (full, few)
    collected, _, _ = stepping(path, StructureStep(flaws=flaws, pages=9, reached="", done=True))
    assert len(collected.findings) == len(flaws)
    for finding in collected.findings:
        assert "3" in finding.message
        assert not any(gap in finding.message for gap in ("  ", "None", "{", "}"))
        assert finding.kind in (words.KINDS[kind], "bad-freelist")
        assert not finding.message.endswith(".")


def test_a_pointer_map_entry_is_put_into_words(tmp_path: Path) -> None:
    """What it says and what the tree says."""
    path = write(build(rows=5), tmp_path)
    flaw = Flaw(kind=FlawKind.POINTER_MAP, pgno=3, tree=1, other=2, expected=5 << 32 | 2, seen=9 << 32 | 8)
    finding = one(stepping(path, StructureStep(flaws=(flaw,), pages=9, reached="", done=True))[0])
    assert finding.message == "page 3 of a is a child of page 2, but its ptrmap entry says that it is of type 9"
    assert finding.evidence == "expected type 5 and page 2, seen type 9 and page 8"


def test_a_root_that_is_no_page_is_named(tmp_path: Path) -> None:
    """A page beyond the file is no place for a finding, so its sentence names it."""
    path = write(build(rows=5), tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = 7000 WHERE name = 'gone'")
    finding = judge(path).findings[0]
    assert (finding.kind, finding.pgno, finding.object) == ("bad-pointer", None, "gone")
    assert "page 7000" in finding.message


def test_many_flaws_are_summed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand become findings, the first of them with bytes; why counts the others by kind."""
    monkeypatch.setattr(module, "FINDINGS", 3)
    monkeypatch.setattr(module, "_SHOWN", 1)
    path = write(build(rows=5), tmp_path)
    flaws = [Flaw(kind=FlawKind.FRAGMENTS, pgno=2, tree=1, expected=0, seen=n) for n in range(4)]
    flaws += [Flaw(kind=FlawKind.UNUSED, pgno=2, seen=1), Flaw(kind=FlawKind.TWICE, pgno=2, tree=1)]
    collected, _, _ = stepping(
        path,
        StructureStep(flaws=tuple(flaws[:2]), pages=1, reached="2"),
        StructureStep(flaws=tuple(flaws[2:]), pages=9, reached="", done=True, left_out=12, unordered=4),
    )
    assert ["byte 0" in finding.evidence for finding in collected.findings] == [True, False, False]
    assert "3 more flaws were left out: 1 bad-cell, 1 double-reference, 1 unused-page" in collected.why
    assert "12 more flaws of pages with very many were only counted" in collected.why
    assert "the order of 4 keys of more than 64 KiB was not judged" in collected.why


def test_it_resumes_and_tells_how_far_it_is(tmp_path: Path) -> None:
    """Where the last run stopped; after each step the place is told, and how much lies before it."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for number in range(3):
            connection.execute(f"CREATE TABLE t{number}(a)")  # with the schema four trees, one page each
    _, subject, image = stepping(
        path,
        StructureStep(flaws=(), pages=4, reached="3"),  # others were walked by another thread
        StructureStep(flaws=(), pages=4, reached="4/0"),
        StructureStep(flaws=(), pages=4, reached="1"),
        StructureStep(flaws=(), pages=4, reached="3", walked=True),
        StructureStep(flaws=(), pages=4, reached="", done=True, walked=True),
        resume="3",
    )
    assert image.resumed == "3"
    assert subject.places == ["3", "4/0", "1", "3"]
    assert subject.told == [(done, 4) for done in (0, 0, 1, 2, 4, 4)]


@pytest.mark.parametrize("resume", ["77", "nonsense"])
def test_a_walk_that_cannot_be_resumed_is_no_part_of_a_whole(tmp_path: Path, resume: str) -> None:
    """It begins anew, and says so."""
    path = write(build(rows=5), tmp_path)
    step = StructureStep(flaws=(), pages=9, reached="", done=True)
    _, subject, _ = stepping(path, step, resume=resume)
    assert subject.places == [""]


def test_places_of_a_walk_grow(tmp_path: Path) -> None:
    """Each further child is further, and none is as far as the next tree; pages may hold what they like."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=512")
        connection.execute("CREATE TABLE t(a)")
        connection.executemany("INSERT INTO t VALUES(?)", [("x" * 100,) for _ in range(3000)])
        connection.execute("CREATE TABLE u(a)")
        (last,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'u'").fetchone()
    data = path.read_bytes()
    trees = [Tree(name=str(root), root=root, index=False) for root in (1, 2, last)]
    paths = ["1", "2", "2/0/0", "2/0/1", "2/0/900", "2/1", "2/1/3", "2/2/0", "2/900", str(last)]

    def positions(data: bytes) -> list[int]:
        found = [position(lambda n: data[512 * n - 512 : 512 * n], trees, len(data) // 512, place) for place in paths]
        return [at for at in found if at is not None]

    sound = positions(data)
    assert sound == sorted(sound) and len(set(sound)) >= len(paths) - 1
    assert sound[-1] == 2 * UNITS
    for byte in (b"\0", b"\5", b"\xff"):
        hostile = positions(data[:512] + byte * (len(data) - 512))
        assert hostile == sorted(hostile) and hostile[-1] == 2 * UNITS
    assert position(lambda _: data[:512], trees, 1, "2/x") is None


def test_what_was_not_judged_is_said(tmp_path: Path) -> None:
    """Collations of the application's, and statements that SQLite cannot parse; a large schema makes it unknown."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_collation("theirs", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE t(a COLLATE theirs)")
        connection.executemany("INSERT INTO t VALUES (?)", [(f"{n * 7 % 13}",) for n in range(13)])
        connection.execute("CREATE INDEX i ON t(a)")
        for number in range(7):
            connection.execute(f"CREATE TABLE bad{number}(a)")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE ' || name || '(,)' WHERE name LIKE 'bad%'")
    collected = judge(path)
    assert collected.judged is Verdict.SOUND
    assert "schema's entries for bad0, bad1, bad2, bad3, bad4 and 2 more" in collected.why
    assert "the order of i was not judged where a collation of the application's decides" in collected.why


def test_a_schema_that_was_not_read_to_its_end_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that no tree uses may belong to one that was not read: they are no damage."""
    monkeypatch.setattr(module, "describe_trees", lambda *_: Description(trees=(), whole=False))
    collected = judge(write(build(rows=5), tmp_path))
    assert (collected.findings, collected.judged) == ([], Verdict.UNKNOWN)
    assert "the schema is too large" in collected.why


class _TimeOver(BaseException):
    """What a run raises in a checker whose time is over."""


def test_what_was_seen_is_said_when_time_is_over(tmp_path: Path) -> None:
    """Also while the other user of a page is looked for."""
    path = write(build(rows=5), tmp_path)
    flaw = Flaw(kind=FlawKind.TWICE, pgno=3, tree=1, other=2)
    with ClosedSubject(path) as made:
        image = Steps(made, [StructureStep(flaws=(flaw,), pages=3, reached="2")])
        made.image = image  # type: ignore[assignment]
        page = image.page
        checking = StructureChecker().check(made)

        def late(pgno: int) -> bytes:
            if image.resumed is not None:
                raise _TimeOver
            data: bytes = page(pgno)
            return data

        image.page = late  # type: ignore[attr-defined]
        assert next(checking).kind == "double-reference"
        with pytest.raises(_TimeOver):
            next(checking)
