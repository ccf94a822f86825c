"""Sizes, times and names for people, and nothing that a hostile file could say to their terminal."""

from __future__ import annotations

import os
import shlex
import subprocess
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.legible import moment, number, safe, safe_command, seconds, size

NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (4096, "4.0 KiB"),
        (1 << 20, "1.0 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 50, "1.0 PiB"),
        (1 << 60, "1024.0 PiB"),
    ],
)
def test_a_size_has_the_unit_that_fits(count: int, text: str) -> None:
    """Three digits before the point at most, whatever the rounding, while there is a larger unit."""
    assert size(count) == text


def test_numbers_have_their_thousands_apart_and_a_plural() -> None:
    """One page, two pages."""
    assert [number(1234567), number(1, "page"), number(0, "page"), number(2000, "page")] == [
        "1,234,567",
        "1 page",
        "0 pages",
        "2,000 pages",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.004, "4 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.10 s"),
        (9.994, "9.99 s"),
        (12.34, "12.3 s"),
        (60, "1 min 0 s"),
        (199.6, "3 min 20 s"),
        (7260, "2 h 1 min"),
    ],
)
def test_a_duration_has_the_digits_that_matter(value: float, text: str) -> None:
    """Milliseconds for what is quick, minutes for what is slow."""
    assert seconds(value) == text


def test_a_moment_is_in_utc() -> None:
    """Whatever zone it was in."""
    assert moment(NOW) == "2026-11-22 10:15:00Z"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("notes", "notes"),
        ("Łódź 大阪 naïve", "Łódź 大阪 naïve"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc\r", "a\\x0ab\\x09c\\x0d"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("caf\udce9.db", "caf\\udce9.db"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_could_move_the_cursor_is_escaped(text: str, shown: str) -> None:
    """A table's name comes from the file, and the file may come from a hostile hand (H29)."""
    assert safe(text) == shown


@pytest.mark.parametrize(
    "name", ["plain", "a b", "a\nb", "it's\n\tone", "\\n\n", "'\x1b[2J'", "caf\udce9 \u202e.db", "\u0085", "\n0"]
)
def test_a_shell_reads_the_name_that_was_meant(name: str) -> None:
    """Whatever had to be escaped; and a terminal sees nothing of it."""
    shown = safe_command(f"hint, not the shell's: printf %s {shlex.quote(name)}")
    assert safe(shown) == shown
    command = shown.partition(": ")[2]
    said = subprocess.run(["bash", "-c", command], check=True, capture_output=True).stdout
    assert os.fsdecode(said) == name


@given(st.text())
def test_no_command_keeps_a_control_character(text: str) -> None:
    """Whether it was quoted or not."""
    for command in (text, shlex.quote(text)):
        assert safe(safe_command(command)) == safe_command(command)


@given(st.text())
def test_no_text_keeps_a_control_character(text: str) -> None:
    """Whatever comes in, what goes out is one line that can be encoded."""
    shown = safe(text)
    shown.encode()
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
