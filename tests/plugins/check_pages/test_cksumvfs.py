"""Databases of SQLite's cksumvfs: rot is damage, stale sums of a plain SQLite are none (H10)."""

from __future__ import annotations

import random
import sqlite3
import struct
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.contracts import CheckOutcome
from pagewarden.sqlite.freelist import walk_freelist
from pagewarden.testing.subjects import ClosedSubject, FileImage
from pagewarden.values import Finding, Severity, Verdict
from pagewarden_check_pages import checker as module
from pagewarden_check_pages import reserved
from tests.plugins.check_pages.judging import outcome_of
from tests.support.cksumvfs import build_reserved, checksum, seal, through_cksumvfs

ROWS = "WITH c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i < 9000)"
FILL = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY, done INT, name TEXT, body)",
    "CREATE INDEX t_name ON t(name)",
    f"INSERT INTO t {ROWS} SELECT i, 0, 'name ' || (i + 1000), iif(i % 1500, NULL, hex(zeroblob(6000))) FROM c",
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database whose sums all hold."""
    return seal(build_reserved(tmp_path / "app.db", *FILL))


def judge(path: Path, journal_mode: str = "rollback", baseline: FileImage | None = None) -> CheckOutcome:
    """Let the checker judge."""
    with ClosedSubject(path, baseline=baseline) as subject:
        subject.facts = replace(subject.facts, journal_mode=journal_mode)
        return outcome_of(subject)


def one(outcome: CheckOutcome) -> Finding:
    """Return the only finding."""
    (finding,) = outcome.findings
    return finding


def change(path: Path, *statements: str) -> None:
    """Let a plain SQLite write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def flip(path: Path, pgno: int, offset: int, bit: int) -> None:
    """Flip one bit of a page."""
    data = bytearray(path.read_bytes())
    data[4096 * (pgno - 1) + offset] ^= 1 << bit
    path.write_bytes(data)


@settings(max_examples=150, deadline=None)
@given(offset=st.integers(0, 1023), bit=st.integers(0, 7), seed=st.integers(0, 3), size=st.sampled_from([512, 1024]))
def test_one_flipped_bit_is_solved_for(offset: int, bit: int, seed: int, size: int) -> None:
    """Wherever it is, the stored sum included; other answers there are only for high bits, and between the last word
    and the half of the sum that it alone is added to.
    """
    page = random.Random(seed).randbytes(size - 8) + bytes(8)
    page = page[:-8] + checksum(page)
    assert reserved.holds(page)
    data = bytearray(page)
    data[offset % size] ^= 1 << bit
    found = reserved.flipped(bytes(data))
    assert reserved.Bit(offset=offset % size, bit=bit) in found
    for each in found:
        again = bytearray(data)
        again[each.offset] ^= 1 << each.bit
        assert reserved.holds(bytes(again))
    behind = size - offset % size
    if offset % 4 < 2 and not (8 < behind <= 12 or behind <= 4):
        assert len(found) == 1


def test_two_flipped_bits_are_not_one() -> None:
    """Nor is any other change."""
    page = random.Random(1).randbytes(504)
    data = bytearray(page + checksum(page + bytes(8)))
    data[100] ^= 1
    data[300] ^= 1
    assert reserved.flipped(bytes(data)) == ()


def test_sums_that_hold_say_nothing(database: Path, tmp_path: Path) -> None:
    """Those of the real extension, too, and those of an empty database."""
    outcome = judge(database)
    assert (outcome.findings, outcome.verdict) == ((), None)
    real = tmp_path / "real.db"
    through_cksumvfs(real, *FILL, "DELETE FROM t WHERE id > 8000")
    assert judge(real).findings == ()
    assert judge(real).verdict is None
    assert judge(seal(build_reserved(tmp_path / "empty.db"))).findings == ()


def test_a_flipped_bit_is_proved_without_a_baseline(database: Path) -> None:
    """With a rollback journal every writer renews page 1: while its sum holds, nobody else wrote."""
    place = database.read_bytes().index(b"name 1370") // 4 * 4 + 4
    flip(database, place // 4096 + 1, place % 4096, 4)
    finding = one(judge(database))
    assert (finding.kind, finding.severity, finding.pgno) == ("flipped-bit", Severity.DAMAGE, place // 4096 + 1)
    assert finding.message.startswith(f"bit 4 of byte {place % 4096} of page {place // 4096 + 1} (")
    assert finding.message.endswith("; with it, its checksum would hold")
    assert finding.evidence.startswith("checksum ")


def test_one_bit_of_a_value_may_be_a_write(database: Path) -> None:
    """0 and 1 differ in one bit: in WAL mode, where page 1 is not renewed, that is a notice and `unknown`."""
    change(database, "UPDATE t SET done = 1 WHERE id = 1234")
    data = bytearray(database.read_bytes())
    data[:4096] = data[:4088] + checksum(bytes(data[:4096]))
    database.write_bytes(data)
    outcome = judge(database, "wal")
    assert (one(outcome).kind, one(outcome).severity) == ("stale-checksum", Severity.NOTICE)
    assert outcome.verdict is Verdict.UNKNOWN
    assert "1 pages do not have the checksum that cksumvfs gave them" in outcome.why


@pytest.mark.parametrize(("offset", "part"), [(3, "page header"), (11, "cell pointer"), (4090, "reserved bytes")])
def test_one_bit_where_no_value_stands_is_rot(database: Path, offset: int, part: str) -> None:
    """In WAL mode, too: no writer changes that alone."""
    leaf = database.read_bytes().index(b"name 1370") // 4096 + 1
    flip(database, leaf, offset, 1)
    finding = one(judge(database, "wal"))
    assert (finding.kind, finding.severity, finding.pgno) == ("flipped-bit", Severity.DAMAGE, leaf)
    assert part in finding.message


def test_one_bit_of_the_first_page_is_rot(database: Path) -> None:
    """Whoever writes it counts in its header."""
    flip(database, 1, 63, 0)
    assert one(judge(database, "wal")).kind == "flipped-bit"
    assert one(judge(database)).pgno == 1


def test_a_high_bit_is_rot_though_its_place_is_not_known(database: Path) -> None:
    """High bits lose what tells their words apart."""
    place = database.read_bytes().index(b"name 1370") // 4 * 4 + 3
    flip(database, place // 4096 + 1, place % 4096, 7)
    finding = one(judge(database))
    assert finding.kind == "flipped-bit"
    assert " flipped, at one of " in finding.message


def test_a_plain_sqlite_leaves_stale_sums_and_no_damage(database: Path) -> None:
    """However it writes: a notice with the count, and `unknown`; never damage."""
    change(
        database,
        "UPDATE t SET name = 'x' WHERE id % 3000 = 7",
        "INSERT INTO t SELECT id + 90000, 1, name, hex(zeroblob(5000)) FROM t LIMIT 3",
        "DELETE FROM t WHERE id BETWEEN 2000 AND 2050",
    )
    for mode in ("rollback", "wal"):
        outcome = judge(database, mode)
        assert (one(outcome).kind, one(outcome).severity) == ("stale-checksum", Severity.NOTICE)
        assert outcome.verdict is Verdict.UNKNOWN
    outcome = judge(database, baseline=FileImage(database))
    assert (one(outcome).kind, outcome.verdict) == ("stale-checksum", None)  # the baseline proves that nothing rotted


def test_a_real_extension_after_a_plain_sqlite(tmp_path: Path) -> None:
    """It refuses pages that are stale; so do we, in other words."""
    path = tmp_path / "real.db"
    through_cksumvfs(path, *FILL, "PRAGMA journal_mode=WAL")
    change(path, "UPDATE t SET done = 1 WHERE id = 77")
    assert "IOError" in through_cksumvfs(path, "SELECT * FROM t WHERE id = 77")[-1]
    outcome = judge(path, "wal")
    assert {finding.severity for finding in outcome.findings} == {Severity.NOTICE}
    assert outcome.verdict is Verdict.UNKNOWN


def test_a_page_of_a_tree_that_is_none_any_more_is_damage(database: Path) -> None:
    """Noise in the place of a leaf: no writer left that."""
    leaf = database.read_bytes().index(b"name 1370") // 4096 + 1
    data = bytearray(database.read_bytes())
    data[4096 * (leaf - 1) : 4096 * leaf] = random.Random(2).randbytes(4096)
    database.write_bytes(data)
    finding = one(judge(database, "wal"))
    assert (finding.kind, finding.severity, finding.pgno) == ("bad-checksum", Severity.DAMAGE, leaf)
    assert "is no whole page of a b-tree" in finding.message


@pytest.mark.parametrize("change_to", ["overlap", "content", "overflow"])
def test_pages_are_weighed_by_what_stands_on_them(database: Path, change_to: str) -> None:
    """Cells that share bytes, or stand where none can, are no sound page; an overflow page may hold anything."""
    data = bytearray(database.read_bytes())
    leaf = data.index(b"name 1370") // 4096
    begin = 4096 * leaf
    if change_to == "overlap":
        data[begin + 8 : begin + 10] = data[begin + 10 : begin + 12]
    elif change_to == "content":
        data[begin + 5 : begin + 7] = struct.pack(">H", 4000)
    else:
        begin = next(place for place in range(4096, len(data), 4096) if data[place + 4 : place + 4000] == b"0" * 3996)
        data[begin + 100 : begin + 120] = b"7" * 20
    database.write_bytes(data)
    finding = one(judge(database, "wal"))
    assert finding.pgno == begin // 4096 + 1
    assert finding.kind == ("stale-checksum" if change_to == "overflow" else "bad-checksum")


def test_free_pages_never_count(database: Path) -> None:
    """H34: a leaf of the freelist may hold anything."""
    change(database, "PRAGMA secure_delete=OFF", "DELETE FROM t WHERE id > 1500")
    image = FileImage(database)
    seal(database)
    (trunk,) = struct.unpack_from(">I", image.page(1), 32)
    leaves = walk_freelist(image.page, first=trunk, pages=image.pages, usable=4088).leaves
    data = bytearray(database.read_bytes())
    for leaf in leaves:
        data[4096 * (leaf - 1) : 4096 * leaf] = random.Random(leaf).randbytes(4096)
    database.write_bytes(data)
    assert len(leaves) > 10
    for mode in ("rollback", "wal"):
        assert judge(database, mode).findings == ()


def test_another_use_of_the_bytes_is_left_alone(tmp_path: Path) -> None:
    """Few or no sums that hold: a note, no finding, no `unknown`; zeros and other numbers of bytes not even that."""
    plain = build_reserved(tmp_path / "plain.db", *FILL)
    outcome = judge(plain)
    assert (outcome.findings, outcome.verdict) == ((), None)
    assert "the 8 reserved bytes of each page are no checksums of cksumvfs" in outcome.why
    pages = len(plain.read_bytes()) // 4096
    outcome = judge(seal(plain, but=range(3, pages + 1)))
    assert (outcome.findings, outcome.verdict) == ((), None)


def test_a_page_that_holds_the_second_time_was_read_wrong(database: Path) -> None:
    """A notice, as where a baseline says so."""
    leaf = database.read_bytes().index(b"name 1370") // 4096 + 1
    whole = FileImage(database).page(leaf)
    flip(database, leaf, 2000, 1)

    class Unsteady(FileImage):
        def reread(self, pgno: int) -> bytes:
            return whole if pgno == leaf else self.page(pgno)

    with ClosedSubject(database) as subject:
        subject.image = Unsteady(database)
        finding = one(outcome_of(subject))
    assert (finding.kind, finding.severity, finding.pgno) == ("transient-read", Severity.NOTICE, leaf)


def test_a_baseline_has_the_last_word(database: Path) -> None:
    """A page that differs from a current one is named once, by the baseline."""
    baseline = FileImage(database)
    leaf = database.read_bytes().index(b"name 1370") // 4096 + 1
    flip(database, leaf, 2000, 1)
    assert one(judge(database, baseline=baseline)).evidence.startswith("expected page sum ")


def test_only_so_many_pages_are_looked_at(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are counted."""
    monkeypatch.setattr(module, "FINDINGS", 3)
    change(database, "UPDATE t SET name = 'x' WHERE id % 400 = 7")
    outcome = judge(database, "wal")
    finding = one(outcome)
    count = int(finding.message.partition(" ")[0])
    assert count > 10
    assert f" and {count - 3} more" in finding.evidence
