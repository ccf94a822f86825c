"""A database's pages as a strip of squares: which of them are hurt."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from pagewarden.legible import number

COLUMNS = 64
MOST_CELLS = COLUMNS * 10
_STEP = 10  # from one square to the next; a square is 8 wide


def page_strip(pages: int, hurt: Iterable[tuple[int, str]]) -> str:
    """Return an SVG picture of `pages` pages with a caption; empty where no page that is hurt is known.

    `hurt` are page numbers, each with what hurts it. Of a large database one square stands for several pages.
    """
    by_page: dict[int, str] = {}
    for pgno, what in hurt:
        if pgno > 0:
            by_page.setdefault(pgno, what)
    if not by_page:
        return ""
    pages = max(pages, *by_page)
    each = -(-pages // MOST_CELLS)
    cells = -(-pages // each)
    counts: dict[int, dict[str, int]] = {}
    for pgno, what in by_page.items():
        cell = counts.setdefault((pgno - 1) // each, {})
        cell[what] = cell.get(what, 0) + 1
    sound = "".join(f"M{_left(cell)} {_top(cell)}h8v8h-8z" for cell in range(cells) if cell not in counts)
    marked = "".join(
        f'<rect class="{_shade(sum(kinds.values()), each)}" x="{_left(cell)}" y="{_top(cell)}" width="8" height="8">'
        f"<title>{_told(cell, each, pages, kinds)}</title></rect>"
        for cell, kinds in sorted(counts.items())
    )
    height = (-(-cells // COLUMNS)) * _STEP - 2
    caption = f"{number(len(by_page), 'page')} of {number(pages)} hurt"
    if each > 1:
        caption += f"; each square stands for {number(each)} pages, and is the redder, the more of them are hurt"
    return (
        f'<figure><svg viewBox="0 0 {COLUMNS * _STEP - 2} {height}" role="img" aria-label="{caption}">'
        f'<path class="sound" d="{sound}"/>{marked}</svg><figcaption>{caption}</figcaption></figure>'
    )


def _left(cell: int) -> int:
    return cell % COLUMNS * _STEP


def _top(cell: int) -> int:
    return cell // COLUMNS * _STEP


def _shade(count: int, each: int) -> str:
    """Return the class of a square: how much of what it stands for is hurt."""
    if count * 2 > each:
        return "hurt"
    return "hurt some" if count * 10 > each else "hurt few"


def _told(cell: int, each: int, pages: int, kinds: dict[str, int]) -> str:
    first, last = cell * each + 1, min((cell + 1) * each, pages)
    what = escape(", ".join(kinds))
    if first == last:
        return f"page {first}: {what}"
    return f"pages {first}–{last}: {number(sum(kinds.values()))} hurt ({what})"
