"""Whose log it is: each sign by itself, and what is no sign."""

from __future__ import annotations

import struct

import pytest

from pagewarden.sqlite.origin import signs_of_another
from pagewarden.structure import WalSurvey

LAST = (1 << 32) - 1


def page_one(
    *, counter: int = 7, cookie: int = 3, encoding: int = 1, reserved: int = 0, pages: int = 9, valid: bool = True
) -> bytes:
    """Return the first 100 bytes of a database in WAL mode."""
    header = bytearray(100)
    header[:20] = b"SQLite format 3\0" + b"\x10\x00\x02\x02"
    header[20:24] = bytes((reserved, 64, 32, 32))
    struct.pack_into(">2I", header, 24, counter, pages)
    struct.pack_into(">I", header, 40, cookie)
    struct.pack_into(">I", header, 56, encoding)
    struct.pack_into(">I", header, 92, counter if valid else counter + 1)
    return bytes(header)


def signs(
    first: bytes = b"",
    last: bytes = b"",
    *,
    file: bytes = b"",
    committed: int = 4,
    pages: int = 9,
    whole: bool = False,
    schema_differs: bool = False,
    kinds_differ: int = 0,
) -> list[str]:
    """Return the signs in a log whose first and last page 1 are these."""
    survey = WalSurvey(
        size=1,
        page_size=4096,
        committed=committed,
        committed_pages=pages,
        file_header=file or page_one(),
        first_page_one=first,
        page_one=last or first,
        whole=whole,
        schema_differs=schema_differs,
        kinds_differ=kinds_differ,
        kinds_compared=5,
    )
    return list(signs_of_another(survey))


@pytest.mark.parametrize(
    ("first", "last", "file"),
    [
        (7, 7, 7),  # a connection that had read page 1 before it last wrote it
        (8, 8, 7),  # one that read it since
        (8, 12, 7),
        (8, 12, 10),  # a checkpoint brought a part of the log into the file
        (8, 12, 12),
        (0, 1, LAST),  # the counter wraps
        (LAST, 2, LAST),
    ],
)
def test_change_counters_that_follow_are_no_sign(first: int, last: int, file: int) -> None:
    """The file's page 1 is the one that the log began with, or one of those in it."""
    pages = (page_one(counter=first), page_one(counter=last))
    assert signs(*pages, file=page_one(counter=file)) == []


@pytest.mark.parametrize(("first", "last", "file"), [(5, 6, 7), (9, 9, 7), (9, 20, 7), (3, LAST, 1), (1, 1, 1 << 30)])
def test_change_counters_that_do_not_follow_are_a_sign(first: int, last: int, file: int) -> None:
    """Also where the log has every page: VACUUM and the backup API keep to it."""
    pages = (page_one(counter=first), page_one(counter=last))
    for whole in (True, False):
        (sign,) = signs(*pages, file=page_one(counter=file), whole=whole)
        assert "change counter" in sign


def test_a_schema_cookie_never_goes_back() -> None:
    """And under the same one the schema is the same."""
    assert signs(page_one(cookie=4), schema_differs=True) == []
    assert signs(page_one(cookie=3)) == []
    assert "schema cookie is 2" in signs(page_one(cookie=2), schema_differs=True)[0]
    assert "another, under the same schema cookie 3" in signs(page_one(), schema_differs=True)[0]


def test_what_changes_with_every_page_is_a_sign_only_where_the_log_has_not_every_page() -> None:
    """The backup API may bring another text encoding, VACUUM another number of reserved bytes."""
    other = page_one(counter=8, cookie=4, encoding=2, reserved=8)
    assert [sign.split(" is ")[0] for sign in signs(other)] == ["its text encoding", "its number of reserved bytes"]
    assert signs(other, whole=True) == []


def test_without_page_one_nothing_can_have_been_allocated() -> None:
    """So size and kinds of pages are those of the file; its count says nothing where it is not valid (H13)."""
    assert signs() == []
    assert "a database of 12 pages without page 1" in signs(pages=12)[0]
    assert signs(pages=12, file=page_one(valid=False)) == []
    assert "2 of 5 pages are of another kind" in signs(kinds_differ=2)[0]


def test_what_is_no_header_is_a_sign_in_the_log_alone() -> None:
    """A file that is damaged itself proves nothing; a page 1 in the log that begins no database proves something."""
    assert signs(page_one(counter=1), file=bytes(100)) == []
    assert "does not begin with the header" in signs(b"\xff" * 100)[0]
    assert signs(page_one(counter=1), committed=0) == []


def test_a_file_in_another_journal_mode_has_no_log() -> None:
    """Leaving WAL mode removes it."""
    file = bytearray(page_one())
    file[18:20] = b"\1\1"
    assert signs(page_one(), file=bytes(file)) == ["the database file is not in WAL mode"]
