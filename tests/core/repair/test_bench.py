"""The bench gives pages and connections of a private copy in turns, and lets nothing leave it unkept."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden import durable
from pagewarden.contracts import SqlValue
from pagewarden.errors import OutOfSpace
from pagewarden.repair import bench as bench_module
from pagewarden.repair.bench import Bench
from pagewarden.repair.cutouts import Cutouts, discard_cutouts, read_cutouts
from pagewarden.testing import faults
from pagewarden.testing.benches import ClosedCase


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a private copy of a small database."""
    (tmp_path / "work").mkdir()
    path = tmp_path / "work" / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA page_size=4096; CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(20000))")
    return path


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """Return the folder of a quarantine entry."""
    (tmp_path / "entry").mkdir()
    return tmp_path / "entry"


@pytest.fixture
def bench(copy: Path, entry: Path) -> Iterator[Bench]:
    """Return a bench over the copy."""
    (copy.parent / "scratch").mkdir()
    with Bench(
        ClosedCase(copy),
        database=copy,
        scratch=copy.parent / "scratch",
        cutouts=Cutouts(entry),
        repairer="repair-test",
    ) as bench:
        yield bench


def cut_pages(entry: Path) -> list[tuple[int, bytes]]:
    """Return the pages that were cut out."""
    with read_cutouts(entry) as view:
        return [(page.pgno, view.page_bytes(page)) for page in view.pages()]


def test_what_stood_on_a_page_is_kept_once_as_it_stood_first(bench: Bench, copy: Path, entry: Path) -> None:
    """A page that is written twice is in the quarantine as it was before the first time."""
    stood = bench.read(2, 4096)
    bench.write(2, b"x" * 4096, "a test")
    bench.write(2, b"y" * 4096, "a test")
    bench.write(1, bench.read(1, 4096), "the same again")
    assert bench.read(2, 4096) == b"y" * 4096
    bench.__exit__(None, None, None)
    assert cut_pages(entry) == [(2, stood)]
    assert copy.read_bytes()[4096:8192] == b"y" * 4096


def test_a_resize_keeps_what_it_cuts_off(bench: Bench, copy: Path, entry: Path) -> None:
    """Whole pages go to the quarantine, the one that is cut through included; to fill up keeps nothing."""
    before = copy.read_bytes()
    bench.resize(4096 * 2 + 100, "a test")
    bench.resize(4096 * 5, "a test")
    assert copy.read_bytes() == before[: 4096 * 2 + 100] + bytes(4096 * 3 - 100)
    bench.__exit__(None, None, None)
    pages = len(before) // 4096
    assert cut_pages(entry) == [(pgno, before[(pgno - 1) * 4096 : pgno * 4096]) for pgno in range(3, pages + 1)]


def test_pages_and_connections_take_turns(bench: Bench) -> None:
    """While a connection is open no page can be read or written, because to close the file drops its locks (H1)."""
    bench.write(2, b"x" * 4096, "a test")
    connection = bench.connect()
    for touch in (
        lambda: bench.read(2, 4096),
        lambda: bench.write(2, b"y" * 4096, "a test"),
        lambda: bench.resize(0, "a test"),
        lambda: bench.replace(bench.scratch / "new.db", "a test"),
    ):
        with pytest.raises(RuntimeError, match="close it"):
            touch()
    connection.close()
    assert bench.read(2, 4096) == b"x" * 4096


def test_a_connection_may_write_and_distrusts_the_schema(bench: Bench) -> None:
    """It is in autocommit mode, and functions with side effects are refused in views and triggers (H29)."""
    with closing(bench.connect()) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        assert not connection.in_transaction
        assert connection.execute("PRAGMA trusted_schema").fetchone() == (0,)


def test_another_file_becomes_the_copy_without_its_log(bench: Bench, copy: Path) -> None:
    """What replaces the copy stands alone: a log or journal of the earlier one would be played into it (H25)."""
    new = bench.scratch / "new.db"
    with closing(sqlite3.connect(new)) as connection:
        connection.execute("CREATE TABLE other(a)")
    for suffix in ("-wal", "-journal"):
        Path(f"{copy}{suffix}").write_bytes(b"of the earlier one")
    bench.replace(new, "a test")
    assert sorted(file.name for file in copy.parent.iterdir()) == ["app.db", "scratch"]
    with closing(bench.connect()) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("other",)]


def test_a_file_that_is_not_of_the_repair_is_not_touched(bench: Bench, tmp_path: Path) -> None:
    """Neither what stands elsewhere nor what a link leads to is moved or takes the copy's place (H29)."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    (bench.scratch / "link").symlink_to(elsewhere)
    for file in (elsewhere, bench.scratch / "link", bench.scratch / ".." / ".." / "elsewhere"):
        with pytest.raises(ValueError, match="no private file"):
            bench.replace(file, "a test")
        with pytest.raises(ValueError, match="no private file"):
            bench.keep_file(file, "kept", "a test")
    assert elsewhere.read_bytes() == b"mine"


def test_a_log_that_is_kept_takes_its_index_with_it(bench: Bench, copy: Path, entry: Path) -> None:
    """A -shm without its -wal would be believed by the next that opens the copy."""
    Path(f"{copy}-wal").write_bytes(b"a log")
    Path(f"{copy}-shm").write_bytes(b"its index")
    bench.keep_file(Path(f"{copy}-wal"), "foreign-wal", "a test")
    assert (entry / "files" / "foreign-wal").read_bytes() == b"a log"
    assert not Path(f"{copy}-shm").exists()


def test_rows_are_kept_and_counts_are_held_against_their_names(bench: Bench, entry: Path) -> None:
    """Values keep their types, and a count that the report does not know is refused."""
    rows: list[tuple[SqlValue, ...]] = [(1, b"\0"), (None, "x")]
    assert bench.keep_rows("t", ("a", "b"), iter(rows), "a test") == 2
    with pytest.raises(ValueError, match="rows_guessed"):
        bench.note("t", rows_guessed=1)
    bench.__exit__(None, None, None)
    with read_cutouts(entry) as view:
        assert [row.values for row in view.rows("t")] == rows


def test_nonsense_is_refused(bench: Bench) -> None:
    """No page before the first, none of a size that is none."""
    for pgno, size in ((0, 4096), (-1, 4096), (1, 1000), (1, 0), (1, 1 << 17)):
        with pytest.raises(ValueError, match="page"):
            bench.read(pgno, size)
        with pytest.raises(ValueError, match="page"):
            bench.write(pgno, bytes(size), "a test")
    with pytest.raises(ValueError, match="bytes"):
        bench.resize(-1, "a test")


def test_an_attachable_file_has_nothing_made_beside_it(bench: Bench, tmp_path: Path) -> None:
    """A file of WAL mode that is whole by itself is read as it stands; one with a log is read with it."""
    for name, close in (("closed ?#.db", True), ("open.db", False)):
        other = tmp_path / name
        writer = sqlite3.connect(other, isolation_level=None)
        writer.executescript("PRAGMA journal_mode=WAL; CREATE TABLE o(a); INSERT INTO o VALUES (7)")
        if close:
            writer.close()
        before = sorted(tmp_path.iterdir())
        with closing(bench.connect()) as connection:
            connection.execute("ATTACH ? AS other", (bench.attachable(other),))
            assert connection.execute("SELECT a FROM other.o").fetchall() == [(7,)]
        if close:
            assert sorted(tmp_path.iterdir()) == before
        else:
            writer.close()


def test_what_was_cut_out_goes_back_with_an_attempt_that_fails(copy: Path, entry: Path) -> None:
    """A repairer that raises leaves nothing in the quarantine: its copy is discarded, and made anew."""
    (copy.parent / "scratch").mkdir()
    bench = Bench(
        ClosedCase(copy), database=copy, scratch=copy.parent / "scratch", cutouts=Cutouts(entry), repairer="repair-test"
    )
    with pytest.raises(KeyError), bench:
        bench.write(2, b"x" * 4096, "a test")
        bench.connect()
        raise KeyError
    discard_cutouts(entry)
    assert cut_pages(entry) == []


def test_a_fault_is_named_and_no_page_is_lost(copy: Path, entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever call fails, an error of ours says so, or all of it was done (H30)."""
    (copy.parent / "scratch").mkdir()
    before = copy.read_bytes()
    for faulty in faults.each_fault(number=errno.ENOSPC):
        discard_cutouts(entry)
        copy.write_bytes(before)
        bench = Bench(
            ClosedCase(copy), database=copy, scratch=copy.parent / "scratch", cutouts=Cutouts(entry), repairer="r"
        )
        with monkeypatch.context() as patch:
            patch.setattr(bench_module, "os", faulty)
            patch.setattr(durable, "os", faulty)
            with contextlib.suppress(OutOfSpace), bench:
                bench.write(2, b"x" * 4096, "a test")
                bench.resize(8192, "a test")
    assert len(faulty.seen) > 5
    assert copy.read_bytes() == before[:4096] + b"x" * 4096
    assert dict(cut_pages(entry)) == {
        pgno: before[(pgno - 1) * 4096 : pgno * 4096] for pgno in range(2, len(before) // 4096 + 1)
    }
