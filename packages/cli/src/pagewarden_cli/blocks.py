"""What is shown, before it is known where: lines and grids, for a terminal by rich, elsewhere as plain text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

from pagewarden_cli.human import safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Style = Literal["", "good", "bad", "warn", "dim", "strong"]

RICH_STYLES: dict[Style, str] = {
    "": "",
    "good": "green",
    "bad": "bold red",
    "warn": "yellow",
    "dim": "dim",
    "strong": "bold",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text in one style."""

    text: str
    style: Style = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line; a terminal wraps it, keeping its indentation."""

    spans: tuple[Span, ...] = ()
    indent: int = 0  # columns


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. A column without anything in it is left out."""

    header: tuple[str, ...]
    rows: tuple[tuple[Span, ...], ...]
    right: frozenset[int] = frozenset()  # columns of numbers
    indent: int = 0
    less: tuple[int, ...] = ()  # columns that a terminal too narrow for all does without, the first one first

    def columns(self) -> tuple[int, ...]:
        """Return the indexes of the columns to show."""
        return tuple(i for i in range(len(self.header)) if any(row[i].text for row in self.rows))


Block = Line | Grid


def line(*parts: str | Span, indent: int = 0) -> Line:
    """Return a line of texts and spans."""
    return Line(tuple(Span(part) if isinstance(part, str) else part for part in parts), indent)


def paint_plain(blocks: tuple[Block, ...], stream: TextIO) -> None:
    """Write `blocks` without colour and without wrapping, for pipes and files."""
    for block in blocks:
        if isinstance(block, Line):
            text = " " * block.indent + "".join(safe(span.text) for span in block.spans)
            stream.write(text.rstrip() + "\n")
        else:
            for row in _plain_rows(block):
                stream.write(row + "\n")


def _plain_rows(grid: Grid) -> list[str]:
    columns = grid.columns()
    cells = [[grid.header[i] for i in columns]]
    cells += [[safe(row[i].text) for i in columns] for row in grid.rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    return [
        (
            " " * grid.indent
            + "  ".join(
                cell.rjust(width) if column in grid.right else cell.ljust(width)
                for cell, width, column in zip(row, widths, columns, strict=True)
            )
        ).rstrip()
        for row in cells
    ]


def paint_rich(blocks: tuple[Block, ...], console: Console) -> None:
    """Write `blocks` to a terminal: in colour where it has any, wrapped to its width."""
    from rich.padding import Padding
    from rich.table import Table

    for block in blocks:
        if isinstance(block, Line):
            text = _rich_text(block.spans)
            console.print(Padding(text, (0, 0, 0, block.indent), expand=False) if block.spans else "")
            continue
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        columns = _fitting(block, console.width)
        for column in columns:
            table.add_column(
                block.header[column], justify="right" if column in block.right else "left", overflow="fold"
            )
        for row in block.rows:
            table.add_row(*(_rich_text((row[column],)) for column in columns))
        console.print(Padding(table, (0, 0, 0, block.indent), expand=False))


def _fitting(grid: Grid, width: int) -> tuple[int, ...]:
    """Return the columns to show on a terminal of `width` columns: without some of those it can do without."""
    columns = grid.columns()
    if not grid.less:
        return columns
    from rich.cells import cell_len

    widths = {
        column: max(cell_len(text) for text in (grid.header[column], *(safe(row[column].text) for row in grid.rows)))
        for column in columns
    }
    for column in grid.less:
        if grid.indent + sum(widths[each] + 2 for each in columns) - 2 <= width:
            break
        columns = tuple(each for each in columns if each != column)
    return columns


def _rich_text(spans: tuple[Span, ...]) -> Text:
    from rich.text import Text

    text = Text(overflow="fold")
    for span in spans:
        text.append(safe(span.text), RICH_STYLES[span.style])
    return text
