"""The walk over all b-trees of one commit: what both backends do a part of, and what shares the parts among threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pagewarden.pages.source import PageSource
from pagewarden.structure import Flaw, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkPlan:
    """What is walked; the pages come from a source that is given with each step, and all sources show one commit."""

    page_size: int  # bytes
    usable: int  # bytes of a page without the reserved ones
    pages: int  # size of the database, in pages
    encoding: int  # of texts: 1 UTF-8, 2 UTF-16le, 3 UTF-16be
    pointer_map: bool  # whether there are ptrmap pages
    trees: tuple[Tree, ...]


def plan_walk(first: bytes, *, page_size: int, pages: int, trees: Sequence[Tree]) -> WalkPlan:
    """Return the plan that page 1, `first`, asks for; values that no database has are replaced by the usual ones."""
    usable = page_size - first[20]
    return WalkPlan(
        page_size=page_size,
        usable=usable if usable >= 480 else page_size,
        pages=pages,
        encoding=first[59] & 3 or 1,  # SQLite, too, looks at two bits only
        pointer_map=first[52:56] != bytes(4),
        trees=tuple(trees),
    )


class Parts(Protocol):
    """Parts of trees that one thread still has to look at: a stack, the next one on top."""

    def push_root(self, tree: int, first: int = 0) -> None:
        """Put a whole tree on top, from child `first` of its root page on."""

    def split(self) -> Parts | None:
        """Give away about half of what is largest, at the bottom; None where there is too little to share."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one call saw."""

    flaws: tuple[Flaw, ...] = ()
    pages: int = 0  # pages looked at, overflow pages included
    unordered: int = 0  # keys too long for their order to be judged


class Walker(Protocol):
    """One walk: it knows which pages are used already. Safe for many threads at once, each with its own parts."""

    def parts(self) -> Parts:
        """Return an empty stack for one thread."""

    def walk(self, source: PageSource, parts: Parts, budget: int) -> Seen:
        """Look at about `budget` pages of `parts`, and take them off."""

    def freelist(self, source: PageSource, first: int, count: int) -> Seen:
        """Walk the freelist from trunk page `first`; the header counts `count` pages in it."""

    def unused(self, limit: int) -> Sequence[int]:
        """Return pages that were not looked at, up to `limit`; the lock-byte page and ptrmap pages are no such."""
