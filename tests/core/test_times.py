"""Times as people write them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.errors import ConfigurationInvalid
from pagewarden.times import format_duration, format_moment, parse_duration, parse_moment

NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)


@pytest.fixture
def five_hours_ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose local time is five hours ahead of UTC."""
    monkeypatch.setenv("TZ", "XYZ-5")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T10:15:00Z", NOW),
        ("2026-11-22t10:15:00z", NOW),
        ("2026-11-22 10:15:00Z", NOW),
        ("2026-11-22 10:15Z", NOW),
        ("2026-11-22T12:15:00+02:00", NOW),
        ("2026-11-22T10:15:00.5Z", NOW + timedelta(milliseconds=500)),
        ("2026-11-22T10:15:00.123456789Z", NOW + timedelta(microseconds=123456)),
        ("-15m", NOW - timedelta(minutes=15)),
        ("-2h", NOW - timedelta(hours=2)),
        ("-90s", NOW - timedelta(seconds=90)),
        ("-3d", NOW - timedelta(days=3)),
        ("-1w", NOW - timedelta(weeks=1)),
    ],
)
@pytest.mark.parametrize("local", [False, True])
def test_a_time_that_says_what_it_means_is_the_same_everywhere(text: str, expected: datetime, local: bool) -> None:
    """RFC 3339, a space for the T, and how long ago are understood, and need no note."""
    moment = parse_moment(text, now=NOW, local=local)
    assert (moment.time, moment.note) == (expected, "")
    assert moment.time.tzinfo is UTC


def test_how_long_ago_counts_from_now_in_any_zone() -> None:
    """A `now` of another zone gives the same moment."""
    assert parse_moment("-15m", now=NOW.astimezone(timezone(timedelta(hours=9))), local=False).time == NOW - timedelta(
        minutes=15
    )


@pytest.mark.usefixtures("five_hours_ahead")
def test_a_time_without_an_offset_is_local_where_that_is_allowed() -> None:
    """It is read as the machine's local time, and a note says what that is in UTC."""
    moment = parse_moment("2026-11-22 15:15", now=NOW, local=True)
    assert moment.time == NOW
    assert moment.note == '"2026-11-22 15:15" was read as local time, 2026-11-22T10:15:00Z'


def test_a_time_without_an_offset_is_refused_elsewhere() -> None:
    """In a file it could mean another moment on another machine."""
    with pytest.raises(ConfigurationInvalid, match="does not say its offset") as caught:
        parse_moment("2026-11-22T10:15:00", now=NOW, local=False)
    assert caught.value.hint == 'write "2026-11-22T10:15:00Z"'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "15m",
        "-15",
        "-15 m",
        "-1.5h",
        "-999999999w",
        "2026-11-22",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-22T24:00:01Z",
        "2026-11-22T10:15:60Z",
        "2026-11-22T10:15:00+25:00",
        "2026-11-22T10:15:00Z ",
        "2026-11-22T10:15:00Z\n",
        "٢٠٢٦-11-22T10:15:00Z",
        "0001-01-01T00:00:00+05:00",
        "0001-01-01T00:00:00",
    ],
)
def test_what_is_no_time_is_refused_with_a_right_one(text: str) -> None:
    """The message quotes the text, and the hint can be typed."""
    with pytest.raises(ConfigurationInvalid) as caught:
        parse_moment(text, now=NOW, local=False)
    assert f'"{text}"' in caught.value.message
    assert caught.value.hint.startswith('write "')


OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=OFFSETS))  # the calendar of any zone
def test_what_is_written_is_read_again(moment: datetime) -> None:
    """`parse_moment` of `format_moment` is the moment."""
    assert parse_moment(format_moment(moment), now=NOW, local=False).time == moment


@given(st.text())
def test_any_text_is_a_time_or_a_named_error(text: str) -> None:
    """Nothing but ConfigurationInvalid comes out."""
    try:
        parse_moment(text, now=NOW, local=True)
    except ConfigurationInvalid:
        pass


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("4w", timedelta(weeks=4)),
        ("0s", timedelta(0)),
    ],
)
def test_a_length_of_time_reads_as_it_is_written(text: str, length: timedelta) -> None:
    """A number and a unit are a length of time, and are written so again."""
    assert parse_duration(text) == length
    assert format_duration(length) == text


@pytest.mark.parametrize("text", ["", "7", "d", "-7d", "7 d", "7d ", "1.5h", "999999999w", "999999w", "36526d", "٣d"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    """A length that could mean several things, or is longer than any calendar, is refused with a right one."""
    with pytest.raises(ConfigurationInvalid, match="no length of time") as caught:
        parse_duration(text)
    assert '"7d"' in caught.value.hint
