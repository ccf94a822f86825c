from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone

import pytest

from pagewarden.pages import MAX_PAGES
from pagewarden.repository.format import MAX_FRAME_BYTES, Kind, PageSetHeader, pages_per_frame
from tests.core.repository.sets import NOW, TIMELINE, header


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("page_size", 513),
        ("page_size", 131072),
        ("pages", -1),
        ("pages", MAX_PAGES + 1),
        ("pages_per_frame", 0),
        ("pages_per_frame", MAX_FRAME_BYTES // 512 + 1),
        ("timeline", "A" * 32),
        ("timeline", "a" * 31),
        ("txid", 0),
        ("txid", 1 << 63),
        ("txid_from", 1),
        ("time", datetime(2026, 1, 1)),
        ("time", datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_a_header_refuses_nonsense(field: str, value: object) -> None:
    """The value validates itself, so that nothing impossible is ever written."""
    fields = {
        "page_size": 512, "pages": 1, "pages_per_frame": 1, "timeline": TIMELINE, "txid": 1, "txid_from": 0, "time": NOW
    }  # fmt: skip
    PageSetHeader(**fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\w"):
        PageSetHeader(**{**fields, field: value})  # type: ignore[arg-type]


def test_a_snapshot_starts_from_nothing() -> None:
    """Only a segment starts from an earlier position."""
    with pytest.raises(ValueError, match="snapshot that starts"):
        dataclasses.replace(header(1, txid=5), txid_from=4)
    assert dataclasses.replace(header(1, txid=5), txid_from=4, kind=Kind.SEGMENT).txid_from == 4


def test_only_a_page_set_of_commits_counts_them() -> None:
    """It starts from a position, and has at most as many as there are positions; others have none."""
    head = dataclasses.replace(header(1, txid=9), txid_from=4, kind=Kind.COMMITS)
    assert [dataclasses.replace(head, commits=count).commits for count in (0, 1, 5)] == [0, 1, 5]
    for count in (-1, 6, 1 << 32):
        with pytest.raises(ValueError, match="commits from position 4 to 9"):
            dataclasses.replace(head, commits=count)
    for kind, start in ((Kind.SEGMENT, 4), (Kind.SNAPSHOT, 0)):
        with pytest.raises(ValueError, match="1 commits from position"):
            dataclasses.replace(head, kind=kind, txid_from=start, commits=1)
    with pytest.raises(ValueError, match="page set of commits that starts from no position"):
        dataclasses.replace(head, txid_from=0)


def test_frames_cover_every_page_once() -> None:
    """Frame numbers, first pages and counts agree for sizes around whole frames."""
    for pages in range(30):
        head = header(pages, per_frame=7)
        covered = [
            (page, number)
            for number in range(head.frames)
            for first, count in [head.frame_pages(number)]
            for page in range(first, first + count)
        ]
        assert [page for page, _ in covered] == list(range(1, pages + 1))
        assert all(head.frame_of(page) == number for page, number in covered)


@pytest.mark.parametrize("page_size", [512 << k for k in range(8)])
def test_default_frames_hold_whole_pages(page_size: int) -> None:
    """A frame of the default size holds at least one page, and 512 KiB."""
    assert pages_per_frame(page_size) * page_size == 512 * 1024


def test_kinds_are_those_of_the_format() -> None:
    """The numbers of the kinds are fixed by docs/formats/pageset-1.md."""
    assert [(kind.name, int(kind)) for kind in Kind] == [("SNAPSHOT", 1), ("SEGMENT", 2), ("COMMITS", 3)]
