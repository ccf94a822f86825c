"""The freelist (file format, section 1.5): trunk pages in a chain, each naming leaf pages that hold nothing.

A trunk page: 4 bytes the next trunk (0: the last), 4 bytes the number of leaves, 4 bytes for each leaf.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Freelist:
    """All free pages, as far as the chain could be followed."""

    trunks: tuple[int, ...]  # in the order of the chain
    leaves: frozenset[int]
    problem: str = ""  # why the walk ended early, "" if it did not

    @property
    def size(self) -> int:
        """How many pages are free."""
        return len(self.trunks) + len(self.leaves)


def walk_freelist(read: Callable[[int], bytes], *, first: int, pages: int, usable: int) -> Freelist:
    """Follow the freelist from its first trunk page `first` (0: there is none).

    `read` returns the bytes of a page from 1 to `pages`. A chain that leaves the file, runs in a circle or counts more
    than fits ends the walk; what was seen until then is returned with the reason.
    """
    trunks: dict[int, None] = {}
    leaves: set[int] = set()
    problem = ""
    trunk = first
    while trunk and not problem:
        if not 1 < trunk <= pages:
            problem = f"the freelist names trunk page {trunk}, in a database of {pages} pages"
            break
        if trunk in trunks:
            problem = f"the freelist runs in a circle through page {trunk}"
            break
        trunks[trunk] = None
        page = read(trunk)
        following, count = struct.unpack_from(">II", page)
        if count > usable // 4 - 2:
            problem = f"freelist trunk page {trunk} counts {count} leaves, more than fit"
            break
        for leaf in struct.unpack_from(f">{count}I", page, 8):
            if 1 < leaf <= pages:
                leaves.add(leaf)
            else:
                problem = f"freelist trunk page {trunk} names leaf page {leaf}, in a database of {pages} pages"
        trunk = following
    return Freelist(trunks=tuple(trunks), leaves=frozenset(leaves), problem=problem)
