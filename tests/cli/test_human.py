"""Ages, for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pagewarden_cli.human import age

NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("past", "text"),
    [
        (timedelta(seconds=-1), "in the future"),
        (timedelta(0), "0 s ago"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(minutes=59), "59 min ago"),
        (timedelta(hours=23), "23 h ago"),
        (timedelta(days=400), "400 d ago"),
    ],
)
def test_an_age_has_its_largest_unit(past: timedelta, text: str) -> None:
    """A clock that was set back since is no negative age (H23)."""
    assert age(NOW - past, NOW) == text
