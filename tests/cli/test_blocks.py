"""Lines and grids, for a terminal and as plain text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pagewarden_cli.blocks import RICH_STYLES, Grid, Line, Span, line, paint_plain, paint_rich

GRID = Grid(
    ("name", "size", "why"),
    ((Span("a"), Span("1"), Span("")), (Span("long name"), Span("1,234"), Span(""))),
    frozenset({1}),
    indent=2,
)


def plain(*blocks: Line | Grid) -> str:
    """Return blocks as plain text."""
    out = io.StringIO()
    paint_plain(blocks, out)
    return out.getvalue()


def rich(*blocks: Line | Grid, width: int = 80, color: bool = False) -> str:
    """Return blocks as a terminal gets them."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system="standard" if color else None)
    paint_rich(blocks, console)
    return out.getvalue()


def test_plain_text_has_no_colour_and_no_trailing_spaces() -> None:
    """A pipe gets what grep and diff can use."""
    assert plain(line(Span("x", "bad"), " y", indent=2), Line(), line("z ")) == "  x y\n\nz\n"


def test_a_plain_grid_is_aligned_and_leaves_empty_columns_out() -> None:
    """Numbers to the right; nothing to say, no column."""
    assert plain(GRID) == "  name        size\n  a              1\n  long name  1,234\n"


def test_a_terminal_gets_the_same_words() -> None:
    """Without colour a terminal's lines are the plain ones, but for trailing spaces."""
    blocks = (line("head"), GRID, line("x", indent=4))
    assert [row.rstrip() for row in rich(*blocks).splitlines()] == plain(*blocks).splitlines()


def test_a_terminal_wraps_and_keeps_the_indentation() -> None:
    """A long line goes on below its beginning, and no word is lost."""
    rows = rich(line("one two three four five six seven", indent=4), width=20).splitlines()
    assert len(rows) > 1
    assert all(row.startswith("    ") and len(row) <= 20 for row in rows)
    assert " ".join(row.strip() for row in rows) == "one two three four five six seven"


def test_a_narrow_terminal_folds_a_grid_and_loses_nothing() -> None:
    """What does not fit goes on in the next row."""
    grid = Grid(("name", "why"), ((Span("x" * 30), Span("y" * 30)),))
    text = rich(grid, width=40)
    assert (text.count("x"), text.count("y")) == (30, 30 + 1)  # one in "why"
    assert all(len(row) <= 40 for row in text.splitlines())


@pytest.mark.parametrize("style", list(RICH_STYLES))
def test_every_style_can_be_painted(style: str) -> None:
    """And none but the plain one leaves the text as it is."""
    text = rich(Line((Span("word", style),)), color=True)  # type: ignore[arg-type]
    assert ("\x1b[" in text) == bool(style)


def test_neither_painter_lets_an_escape_sequence_through() -> None:
    """Nor markup, which rich would read (H29)."""
    hostile = "\x1b]0;owned\x07[red]table[/red]"
    for text in (plain(line(hostile)), rich(line(hostile)), rich(Grid(("t",), ((Span(hostile),),)))):
        assert "\x1b" not in text
        assert "\\x1b]0;owned\\x07[red]table[/red]" in text
