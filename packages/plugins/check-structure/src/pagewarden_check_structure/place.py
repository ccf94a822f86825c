"""How far a walk is: a place in the round of trees as a number.

Threads walk ahead of the place from which another run would go on, so the pages that they saw do not say how far that
is. A place does: its tree, and which children lead to its page, each a share of its page's children.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pagewarden.structure import Tree

UNITS = 1 << 32
"""Of one tree."""


def position(read: Callable[[int], bytes], trees: Sequence[Tree], pages: int, place: str) -> int | None:
    """Return where the `reached` of a walk lies, in UNITS of each tree before it; None for one of no tree.

    It grows with the place, whatever the pages hold.
    """
    root, *path = place.split("/")
    number = next((number for number, tree in enumerate(trees) if str(tree.root) == root), None)
    if number is None or not all(word.isascii() and word.isdecimal() for word in path):
        return None
    at, share, pgno = number * UNITS, UNITS, trees[number].root
    for child in map(int, path):
        children = _children(read(pgno), pgno) if 1 <= pgno <= pages else ()
        count = max(len(children), 1)
        at += share * min(child, count - 1) // count
        share //= count
        pgno = children[child] if child < len(children) else 0
    return at


def _children(page: bytes, pgno: int) -> tuple[int, ...]:
    """Return the children of an interior page, as it has them; none where it is no such page."""
    header = 100 if pgno == 1 else 0
    if page[header] not in (2, 5):
        return ()
    count = int.from_bytes(page[header + 3 : header + 5], "big")
    pointers = header + 12
    cells = (
        int.from_bytes(page[at : at + 2], "big") for at in range(pointers, min(pointers + 2 * count, len(page) - 1), 2)
    )
    last = int.from_bytes(page[header + 8 : header + 12], "big")
    return (*(int.from_bytes(page[cell : cell + 4], "big") for cell in cells), last)
