"""The database header, with SQLite as the oracle."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.sqlite.header import DatabaseHeader, HeaderInvalid, page_size_of, valid_page_size


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 32768, 65536])
def test_every_field_is_what_sqlite_says(page_size: int, tmp_path: Path) -> None:
    """Each number that SQLite tells by a pragma is decoded alike, 65536 included (H12)."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA encoding='UTF-16le'")
        connection.execute("PRAGMA user_version=77")
        connection.execute("PRAGMA application_id=252525")
        connection.execute("CREATE TABLE t(x)")
        connection.executemany("INSERT INTO t VALUES(?)", [("x" * 70000,)] * 3)
        connection.commit()
        connection.execute("DELETE FROM t")
        connection.commit()
        header = DatabaseHeader.parse(path.read_bytes())

        def pragma(name: str) -> int:
            return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

        assert header.page_size == pragma("page_size") == page_size
        assert header.page_count == pragma("page_count")
        assert header.count_valid
        assert header.freelist_pages == pragma("freelist_count") > 0
        assert 1 < header.freelist_trunk <= header.page_count
        assert header.schema_cookie == pragma("schema_version")
        assert header.user_version == pragma("user_version")
        assert header.application_id == pragma("application_id")
        assert header.incremental_vacuum
        assert header.largest_root > 0
        assert header.text_encoding == 2
        assert header.schema_format == 4
        assert (
            header.sqlite_version
            == sqlite3.sqlite_version_info[0] * 1000000
            + sqlite3.sqlite_version_info[1] * 1000
            + (sqlite3.sqlite_version_info[2])
        )
        assert not header.wal
        assert connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    assert DatabaseHeader.parse(path.read_bytes()).wal


def test_a_page_count_is_believed_only_with_its_change_counter(tmp_path: Path) -> None:
    """A writer that does not know the field leaves it behind (H13)."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t(x)")
    data = bytearray(path.read_bytes())
    assert DatabaseHeader.parse(bytes(data)).count_valid
    data[27] += 1
    assert not DatabaseHeader.parse(bytes(data)).count_valid
    data[27] -= 1
    data[28:32] = bytes(4)
    assert not DatabaseHeader.parse(bytes(data)).count_valid


@given(st.binary(max_size=120))
def test_bytes_that_are_no_header_are_refused(data: bytes) -> None:
    """Whatever does not begin with SQLite's magic raises HeaderInvalid, never anything else."""
    with pytest.raises(HeaderInvalid):
        DatabaseHeader.parse(data)


@given(st.binary(min_size=84, max_size=84), st.integers(0, 65535))
def test_a_header_of_hostile_numbers_is_decoded_or_refused(rest: bytes, size: int) -> None:
    """No number but the page size decides whether a header is one (H29)."""
    data = b"SQLite format 3\0" + size.to_bytes(2, "big") + rest[2:]
    if size == 1 or valid_page_size(size):
        assert DatabaseHeader.parse(data).page_size == (65536 if size == 1 else size)
    else:
        with pytest.raises(HeaderInvalid, match=f"{size} is no page size"):
            DatabaseHeader.parse(data)


def test_page_sizes_are_powers_of_two() -> None:
    """There are eight of them."""
    assert [size for size in range(-1, 70000) if valid_page_size(size)] == [1 << bits for bits in range(9, 17)]


@pytest.mark.parametrize(
    ("size", "page_size"), [(b"\x10\x00", 4096), (b"\x00\x01", 65536), (b"\x02\x01", 0), (b"\x00\x00", 0)]
)
def test_a_page_size_is_believed_only_if_it_is_one(size: bytes, page_size: int) -> None:
    """And only in a whole header."""
    header = bytes(16) + size + bytes(82)
    assert page_size_of(header) == page_size
    assert page_size_of(header[:99]) == 0
