"""Each named injury does what its name says, the report tells all of it, and the same seed does the same."""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import NotADatabase, RestoreRefused, TargetFailed
from pagewarden.sqlite.freelist import walk_freelist
from pagewarden.testing import INJURIES
from pagewarden.testing.injuries.closed import ClosedCopy
from pagewarden.values import InjuryReport
from tests.support.injuring import SHAPES, copy, make
from tests.support.session import Session

SIZE = 512  # bytes of a page of the shape "small-pages"
SEEDS = range(1, 9)
OTHERS = sorted(set(INJURIES) - {"damaged-wal-frame"})


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """A database of each shape that is used here, with what it held earlier."""
    names = ("plain", "small-pages", "with-wal", "no-table")
    return {name: make(tmp_path_factory.mktemp(name), SHAPES[name]) for name in names}


class Injured:
    """One injury of a copy, and the database before and after it."""

    def __init__(self, sample: tuple[Path, Path], kind: str, seed: int, folder: Path, *, older: bool = False) -> None:
        self.path = copy(sample[0], folder / "copy.db")
        self.wal = folder / "copy.db-wal"
        of_wal = kind in ("damaged-wal-frame", "foreign-wal")
        changed = self.wal if of_wal else self.path
        self.before = changed.read_bytes() if changed.exists() else b""
        rest = self.path.read_bytes() if of_wal else b""
        self.mtime_ns = changed.stat().st_mtime_ns if changed.exists() else 0
        self.report: InjuryReport = INJURIES[kind].apply(
            self.path, seed, older=sample[1] if older or INJURIES[kind].needs_older else None
        )
        self.after = changed.read_bytes()
        assert self.report.path == str(changed)
        assert not of_wal or self.path.read_bytes() == rest
        assert of_wal or not self.wal.exists()
        assert {file.name for file in folder.iterdir()} <= {"copy.db", "copy.db-wal"}

    def page(self, pgno: int, *, before: bool = False) -> bytes:
        """Return a page as it is, or was."""
        return (self.before if before else self.after)[(pgno - 1) * SIZE : pgno * SIZE]


Injure = Callable[..., Injured]


@pytest.fixture
def injure(samples: dict[str, tuple[Path, Path]], tmp_path: Path) -> Injure:
    """Injure a copy of a database."""

    def work(kind: str, seed: int, *, shape: str = "small-pages", older: bool = False) -> Injured:
        return Injured(samples[shape], kind, seed, tmp_path, older=older)

    return work


@pytest.mark.parametrize("kind", INJURIES)
def test_the_same_seed_does_the_same(kind: str, injure: Injure) -> None:
    """To the same file; among a few other seeds there is another injury."""
    shape = {"damaged-wal-frame": "with-wal", "lost-write": "plain"}.get(kind, "small-pages")
    done = [injure(kind, seed, shape=shape) for seed in (5, 5, 6, 7, 8)]
    assert (done[0].after, done[0].report) == (done[1].after, done[1].report)
    assert len({each.after for each in done}) > 1
    assert {each.report.seed for each in done} == {5, 6, 7, 8}
    assert {each.report.kind for each in done} == {INJURIES[kind].name}


@pytest.mark.parametrize("kind", OTHERS)
def test_rot_leaves_the_time_of_the_last_write(kind: str, injure: Injure) -> None:
    """As on a disk, where nobody wrote to the file; a transfer moves it."""
    done = injure(kind, 1)
    moved = done.path.stat().st_mtime_ns != done.mtime_ns
    assert moved == (kind in ("truncated-tail", "shifted-bytes", "mangled-newlines", "foreign-wal"))


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("older", [False, True])
def test_the_report_encloses_all_that_changed(kind: str, older: bool, injure: Injure) -> None:
    """First and last changed byte, with what stood there and what stands there; to the end where the size changed."""
    for seed in SEEDS:
        done = injure(kind, seed, older=older)
        size = max(len(done.before), len(done.after))
        pairs = zip(done.before.ljust(size), done.after.ljust(size), strict=True)
        changed = [index for index, (one, two) in enumerate(pairs) if one != two]
        begin = (done.report.pgno - 1) * SIZE + done.report.offset
        end = begin + done.report.length
        if len(done.before) == len(done.after):
            assert (begin, end) == (changed[0], changed[-1] + 1)
        else:
            assert (begin, end) == (min(changed[0], begin), size)
        stop = min(end, begin + 32)
        assert done.report.before == done.before[begin:stop].hex()
        assert done.report.after == done.after[begin:stop].hex()


def test_sectors_and_runs_become_zeros(injure: Injure) -> None:
    """Aligned and whole; a run is at least two pages and at most eight."""
    for seed in SEEDS:
        done = injure("zeroed-sector", seed)
        assert not any(done.page(done.report.pgno))
        done = injure("zeroed-run", seed)
        first, last = (int(word) for word in done.report.message.removeprefix("zeroed pages ").split(" to "))
        assert 1 <= last - first <= 7
        assert not any(done.after[(first - 1) * SIZE : last * SIZE])
        assert (done.after[: (first - 1) * SIZE], done.after[last * SIZE :]) == (
            done.before[: (first - 1) * SIZE],
            done.before[last * SIZE :],
        )


def test_a_sector_is_a_part_of_a_larger_page(samples: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    """512 bytes of 4096."""
    database, _ = make(tmp_path, SHAPES["plain"])
    before = database.read_bytes()
    report = INJURIES["zeroed-sector"].apply(database, 3)
    after = database.read_bytes()
    begin = ((report.pgno - 1) * 4096 + report.offset) // 512 * 512
    assert not any(after[begin : begin + 512])
    assert (after[:begin], after[begin + 512 :]) == (before[:begin], before[begin + 512 :])


@pytest.mark.parametrize("older", [False, True])
def test_a_torn_page_has_two_parts(older: bool, injure: Injure, samples: dict[str, tuple[Path, Path]]) -> None:
    """The first is its own, the second an older one's or another page's."""
    image = samples["small-pages"][1].read_bytes()
    taken = set()
    for seed in SEEDS:
        done = injure("torn-page", seed, older=older)
        pgno = done.report.pgno
        new, old = done.page(pgno), done.page(pgno, before=True)
        assert new[:256] == old[:256]
        if older and new[256:] == image[(pgno - 1) * SIZE + 256 : pgno * SIZE]:
            taken.add("older")
        else:
            taken.add("other")
            assert new[256:] in {
                done.page(number, before=True)[256:] for number in range(2, len(done.before) // SIZE + 1)
            }
    assert ("older" in taken) == older


def test_pages_change_places_or_take_another_ones(injure: Injure) -> None:
    """Two pages each hold the other's content; or one holds what still stands elsewhere, too."""
    for seed in SEEDS:
        done = injure("swapped-pages", seed)
        pages = range(1, len(done.before) // SIZE + 1)
        one, two = (pgno for pgno in pages if done.page(pgno) != done.page(pgno, before=True))
        assert (done.page(one), done.page(two)) == (done.page(two, before=True), done.page(one, before=True))
        done = injure("overwritten-page", seed)
        (one,) = (pgno for pgno in pages if done.page(pgno) != done.page(pgno, before=True))
        assert done.page(one) in {done.page(other) for other in pages if other != one}


def test_page_1_is_changed_where_the_name_says(injure: Injure) -> None:
    """In the first 100 bytes, or behind them; never in the counters alone, which other programs change, too."""
    counters = {*range(24, 28), *range(40, 44), *range(92, 100)}
    for seed in range(40):
        done = injure("header-garbage", seed)
        end = done.report.offset + done.report.length
        assert (done.report.pgno, done.after[100:]) == (1, done.before[100:])
        assert {i for i in range(done.report.offset, end) if done.before[i] != done.after[i]} - counters
        done = injure("schema-page", seed)
        assert (done.after[:100], done.after[SIZE:]) == (done.before[:100], done.before[SIZE:])


@pytest.mark.parametrize(
    ("kind", "role", "length"),
    [
        ("freelist-trunk", "freelist trunk", 4),
        ("cell-pointer", "", 2),
        ("interior-child-pointer", "interior page", 4),
        ("index-entry", "index note_title", 1),
        ("overflow-pointer", " goes on at page ", 4),
    ],
)
def test_one_field_is_changed(kind: str, role: str, length: int, injure: Injure) -> None:
    """Of a page of the right sort, and nothing else."""
    for seed in SEEDS:
        report = injure(kind, seed).report
        assert report.length <= length
        assert role in report.message


def test_a_file_is_cut_shifted_or_taken_for_text(injure: Injure) -> None:
    """The sizes show it, and what follows is still there."""
    texts = set()
    for seed in SEEDS:
        done = injure("truncated-tail", seed)
        assert len(done.before) // 2 <= len(done.after) < len(done.before)
        assert done.before.startswith(done.after)
        done = injure("shifted-bytes", seed)
        assert 1 <= abs(len(done.before) - len(done.after)) <= 16
        assert done.before[-16:] == done.after[-16:]
        done = injure("mangled-newlines", seed)
        crlf, lf = done.before.replace(b"\n", b"\r\n"), done.before.replace(b"\r\n", b"\n")
        assert done.after in (crlf, lf)
        texts.add(done.after)
    assert len(texts) == 2


def test_newlines_are_mangled_across_chunks(samples: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    """A CR at the end of what is read at once belongs to the next LF; a way that does nothing is left out."""
    path = copy(samples["small-pages"][0], tmp_path / "copy.db")
    text = path.read_bytes()
    path.write_bytes(text + b"." * ((1 << 20) - len(text) - 1) + b"\r\n\r")
    before = path.read_bytes()
    seen = set()
    for seed in SEEDS:
        path.write_bytes(before)
        INJURIES["mangled-newlines"].apply(path, seed)
        seen.add(path.read_bytes())
    assert seen == {before.replace(b"\n", b"\r\n"), before.replace(b"\r\n", b"\n")}
    path.write_bytes(before.replace(b"\r\n", b"\n"))
    lone = path.read_bytes()
    messages = set()
    for seed in SEEDS:
        path.write_bytes(lone)
        messages.add(INJURIES["mangled-newlines"].apply(path, seed).message.partition("; ")[2])
        assert path.read_bytes() == lone.replace(b"\n", b"\r\n")
    assert any("every CRLF became LF was passed over" in message for message in messages)


def rows(path: Path) -> object:
    """Return what SQLite reads from a database, or how it refuses."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute("SELECT count(*), group_concat(body) FROM note").fetchone()
        except sqlite3.DatabaseError as error:
            return str(error)


def test_a_damaged_frame_loses_commits(injure: Injure, samples: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    """One frame's page changes; SQLite silently shows an earlier state (H14)."""
    whole = copy(samples["with-wal"][0], tmp_path / "copy.db")
    expected = rows(whole)
    for seed in SEEDS:
        done = injure("damaged-wal-frame", seed, shape="with-wal")
        changed = [i for i in range(len(done.before)) if done.before[i] != done.after[i]]
        assert done.report.length == changed[-1] - changed[0] + 1 <= 16
        frame, place = divmod(changed[0] - 32, 24 + 1024)
        assert (place - 24, done.before[32 + frame * 1048 :][:4]) == (
            done.report.offset,
            done.report.pgno.to_bytes(4, "big"),
        )
        assert rows(done.path) != expected


@pytest.mark.parametrize("older", [False, True])
def test_a_foreign_log_is_laid_over_the_database(
    older: bool, injure: Injure, samples: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    """SQLite takes it: another database is what it shows, or the older image."""
    done = injure("foreign-wal", 1, older=older)
    if older:
        assert rows(done.path) == rows(samples["small-pages"][1])
        return
    assert rows(done.path) == "no such table: note"
    with closing(sqlite3.connect(done.path)) as connection:
        assert len(connection.execute("SELECT words FROM elsewhere").fetchall()) == 3
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("kind", ["damaged-wal-frame", "freelist-trunk", "overflow-pointer", "index-entry"])
def test_a_database_without_a_target_is_refused(
    kind: str, samples: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    """It says what is lacking and which database has it, and changes nothing."""
    path = copy(samples["no-table"][0], tmp_path / "copy.db")
    before = path.read_bytes()
    with pytest.raises(RestoreRefused, match=r"has no ") as raised:
        INJURIES[kind].apply(path, 1)
    assert raised.value.hint
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["copy.db"]


def test_a_log_that_proves_no_commit_has_no_frame_to_lose(
    samples: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    """Garbage, or the log of a database with pages of another size."""
    path = copy(samples["small-pages"][0], tmp_path / "copy.db")
    for content in (b"garbage", samples["with-wal"][0].with_name("app.db-wal").read_bytes()):
        path.with_name("copy.db-wal").write_bytes(content)
        with pytest.raises(RestoreRefused, match="no -wal with a commit"):
            INJURIES["damaged-wal-frame"].apply(path, 1)


def test_a_log_that_loses_nothing_is_no_target(samples: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    """A commit that set a number to what it was, so that only counters moved; an older image that holds the same."""
    live = copy(samples["small-pages"][0], tmp_path / "live.db")
    path = tmp_path / "copy.db"
    with Session(live) as session:
        session.run("PRAGMA user_version=1")
        copy(live, path)
    wal = path.with_name("copy.db-wal")
    assert wal.stat().st_size
    with pytest.raises(RestoreRefused, match="no -wal with a commit that could be lost"):
        INJURIES["damaged-wal-frame"].apply(path, 1)
    wal.unlink()
    with pytest.raises(RestoreRefused, match="no page that differs from the older image"):
        INJURIES["foreign-wal"].apply(path, 1, older=samples["small-pages"][0])
    assert not wal.exists()


def test_the_hint_for_an_older_image_can_be_pasted(samples: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    """Blanks in the path and all."""
    path = copy(samples["small-pages"][0], tmp_path / "a copy.db")
    with pytest.raises(RestoreRefused) as raised:
        INJURIES["lost-write"].apply(path, 1)
    assert shlex.split(raised.value.hint)[2] == str(path)


def test_free_pages_are_no_targets(samples: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    """They hold nothing, and a rolled-back transaction may change them, so a change there is none that counts."""
    database, _ = samples["small-pages"]
    with ClosedCopy(database, write=False) as closed:
        leaves = walk_freelist(closed.read, first=closed.layout.freelist, pages=closed.pages, usable=SIZE).leaves
    assert leaves
    for kind in ("zeroed-sector", "zeroed-run", "torn-page", "swapped-pages", "overwritten-page"):
        for seed in range(30):
            path = copy(database, tmp_path / "copy.db")
            before = path.read_bytes()
            INJURIES[kind].apply(path, seed)
            after = path.read_bytes()
            changed = {index // SIZE + 1 for index in range(len(before)) if before[index] != after[index]}
            assert changed - leaves, f"{kind}, seed {seed}"


@pytest.mark.parametrize("first", OTHERS)
def test_what_is_injured_already_can_be_injured_again(
    first: str, samples: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    """Or is refused, if no target is left, or nothing that says where it is; whatever the first injury did."""
    database, older = samples["small-pages"]
    for second in INJURIES:
        path = copy(database, tmp_path / "copy.db")
        INJURIES[first].apply(path, 1, older=older)
        try:
            INJURIES[second].apply(path, 2, older=older)
        except (RestoreRefused, NotADatabase) as refused:
            assert str(path) in refused.message


def test_what_the_system_refuses_is_a_named_error(samples: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    """A folder in the file's place, a -wal that cannot be opened."""
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(TargetFailed, match="cannot open"):
        INJURIES["zeroed-page"].apply(tmp_path / "folder.db", 1)
    path = copy(samples["small-pages"][0], tmp_path / "copy.db")
    os.symlink(tmp_path / "nowhere" / "x", tmp_path / "copy.db-wal")
    with pytest.raises(TargetFailed, match="cannot injure"):
        INJURIES["foreign-wal"].apply(path, 1)
