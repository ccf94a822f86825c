"""What one thread of the structure walk in Python still has to look at."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pagewarden.pages._twin_page import TreeCell, TreePage


@dataclass(slots=True)
class Root:
    """A tree that was not begun."""

    tree: int


@dataclass(slots=True)
class Free:
    """The freelist from one trunk page on."""

    following: int  # the trunk page that comes next
    before: int  # the page that names it
    expected: int  # pages in the freelist, as the header counts
    count: int = 0  # those seen
    sound: bool = True  # whether no trunk page was wrong


@dataclass(slots=True)
class Frame:
    """A page that was looked at, and which of its children still have to be."""

    tree: int
    pgno: int
    depth: int  # a root is at 1
    page: TreePage
    low: tuple[Frame, int] | None  # the cell of an ancestor that bounds this page from below
    high: tuple[Frame, int] | None
    path: tuple[int, ...]  # the children that lead from the root to it; none for the root itself
    cells: dict[int, TreeCell]  # those that hold, by their number
    following: int = 0  # the child that comes next
    end: int = 0  # behind the last child


class TwinParts:
    """A stack of work; see `Parts`."""

    def __init__(self) -> None:
        self.stack: list[Root | Free | Frame] = []
        self.maps: dict[int, bytes | None] = {}  # ptrmap pages read last; None for one that the disk refuses

    def push_root(self, tree: int) -> None:
        """Put a whole tree on top."""
        self.stack.append(Root(tree))

    def push_freelist(self, first: int, count: int) -> None:
        """Put the freelist on top."""
        self.stack.append(Free(first, 1, count))

    def cut(self, child: int) -> TwinParts | None:
        """Give away the children before child `child` of the page looked at last."""
        frame = self.stack[-1] if self.stack else None
        if not isinstance(frame, Frame) or frame.following >= min(child, frame.end):
            return None
        given = TwinParts()
        given.stack.append(replace(frame, end=min(child, frame.end)))
        frame.following = min(child, frame.end)
        return given

    def split(self) -> TwinParts | None:
        """Give away about half of what is largest: children of the page nearest to the root that has some to spare."""
        for item in self.stack:
            if isinstance(item, Frame) and item.end - item.following > 1:
                given = TwinParts()
                middle = (item.following + item.end + 1) // 2
                given.stack.append(replace(item, following=middle))
                item.end = middle
                return given
        return None

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to look at."""
        return not self.stack

    @property
    def place(self) -> tuple[int, ...] | None:
        """The tree that comes next and the children that lead to what does."""
        top = self.stack[-1] if self.stack else None
        if isinstance(top, Root):
            return (top.tree,)
        if isinstance(top, Frame):
            return top.tree, *top.path, top.following
        return None
