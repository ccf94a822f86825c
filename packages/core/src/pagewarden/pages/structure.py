"""The walk over all b-trees of one commit, shared among threads and done in steps.

Trees are taken in the order of the plan; when none is left, threads share what the others still have, by the children
of interior pages. Then comes the freelist, then what nothing uses.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from threading import Condition, Thread

from pagewarden.pages.backend import Backend, backend
from pagewarden.pages.source import PageSource
from pagewarden.pages.walk import MAX_DEPTH, Parts, Seen, WalkPlan
from pagewarden.structure import Flaw, FlawKind, StructureStep

MOST_FLAWS = 10_000
"""Flaws that one walk reports; further ones are counted."""

MOST_UNUSED = 200
"""Runs of unused pages that one walk reports; further ones are counted."""

_ALONE = 4096  # pages of a database that is walked before a second thread would have begun
_SLICE = 2048  # pages of one call while there is time: some milliseconds
_SMALL_SLICE = 256  # pages of one call where less than _SHORT seconds are asked for
_SHORT = 0.1

_Place = tuple[int, ...]  # a tree of the plan, and which children lead from its root to a page


class StructureWalk:
    """One walk. A step starts threads of its own, but it belongs to one thread at a time."""

    def __init__(self, plan: WalkPlan, *, threads: int = 2, resume: str = "", using: Backend | None = None) -> None:
        """Plan a walk that begins where `resume`, the `reached` of another one, says, and goes round.

        With one thread the flaws come in the order that `pagewarden.pages.walk` describes. A plan that asks for users
        is of the trees alone: then neither the freelist nor what nothing uses is told of.
        """
        self._plan = plan
        self._backend = using or backend()
        self._walker = self._backend.walker(plan)
        self._threads = threads if plan.pages > _ALONE else 1
        # Places are counted round from where the walk begins: what lies before that comes last.
        self._begin = self._resumed(resume)
        count = len(plan.trees)
        self._trees = deque((self._begin[0] + i) % count for i in range(count))
        self._ready: deque[Parts] = deque()
        self._last: deque[Parts] = deque()  # what of the first tree lies before the place of the beginning
        self._changed = Condition()  # its lock guards everything here but while no thread is at work
        self._busy = self._waiting = 0  # threads
        self._failure: BaseException | None = None
        self._flaws: list[Flaw] = []
        self._reported = self._pages = self._left_out = self._unordered = 0
        self._freelist: Parts | None = None
        self._done = not plan.pages

    def step(self, source: PageSource, seconds: float) -> StructureStep:
        """Look for about `seconds`, and return what was seen. `source` shows the same commit in every step.

        Raises ValueError for a source of another size, and what `Walker.walk` raises; then the walk is of no more use.
        """
        if (source.page_size, source.pages) != (self._plan.page_size, self._plan.pages):
            raise ValueError(
                f"{source.pages} pages of {source.page_size} bytes for a walk over pages of {self._plan.page_size}"
            )
        end = time.monotonic() + seconds
        budget = _SLICE if seconds >= _SHORT else _SMALL_SLICE
        if len(self._begin) > 1 and not self._pages:
            self._cut(source)
        if not self._walked:
            self._run(source, end, budget)
        if self._walked and not self._done:
            self._finish(source, end, budget)
        flaws, self._flaws = tuple(self._flaws), []
        return StructureStep(
            flaws=flaws, pages=self._pages, reached=self._reached(), done=self._done, left_out=self._left_out,
            unordered=self._unordered, walked=self._walked,
        )  # fmt: skip

    @property
    def users(self) -> memoryview:
        """Who uses each page, see `Walker.users`; all is there once the walk is done."""
        return self._walker.users()

    def unused(self) -> Iterator[tuple[int, int]]:
        """Yield the runs of pages that nothing uses, (first, count), in order; see `Walker.unused`."""
        return self._walker.unused()

    # Where the walk is

    def _resumed(self, resume: str) -> _Place:
        root, *path = resume.split("/")
        places = {str(tree.root): place for place, tree in enumerate(self._plan.trees)}
        if root not in places or len(path) > MAX_DEPTH or not all(map(_is_child, path)):
            return (0,)
        return places[root], *map(int, path)

    @property
    def _walked(self) -> bool:
        return not (self._trees or self._ready or self._last)

    def _reached(self) -> str:
        """Return the place before which, counted round from the beginning, nothing is left to look at."""
        if self._done or not self._plan.trees:
            return ""
        places = [place for parts in (*self._ready, *self._last) if (place := parts.place) is not None]
        places += [(tree,) for tree in islice(self._trees, 1)]
        if not self._pages or not places:  # nothing was seen, or what is left, the freelist, needs all trees anew
            places = [self._begin]
        tree, *path = min(places, key=self._distance)
        return "/".join(map(str, (self._plan.trees[tree].root, *path)))

    def _distance(self, place: _Place) -> tuple[int, _Place]:
        trees = len(self._plan.trees)
        before = place[0] == self._begin[0] and place < self._begin
        return trees if before else (place[0] - self._begin[0]) % trees, place

    # Walking

    def _cut(self, source: PageSource) -> None:
        """Go down to the place of the beginning, and put what lies before it last."""
        parts = self._walker.parts()
        parts.push_root(self._trees.popleft())
        for depth, child in enumerate(self._begin[1:], 1):
            self._note(self._walker.walk(source, parts, 1))
            place = parts.place
            if place is None or place[:-1] != self._begin[:depth]:  # the tree has another shape now
                break
            if (given := parts.cut(child)) is not None:
                self._last.append(given)
        if not parts.empty:
            self._ready.append(parts)

    def _run(self, source: PageSource, end: float, budget: int) -> None:
        """Walk until `end`, in threads; one look is had however short the time."""
        threads = [
            Thread(target=self._work, args=(source, end, budget), name="walk", daemon=True)
            for _ in range(1, self._threads)
        ]
        for thread in threads:
            thread.start()
        self._work(source, end, budget)
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _work(self, source: PageSource, end: float, budget: int) -> None:
        parts: Parts | None = None
        try:
            while (parts := self._take(parts, end)) is not None:
                seen = self._walker.walk(source, parts, budget)
                with self._changed:
                    self._note(seen)
        except BaseException as error:  # noqa: BLE001 - `_run` raises it in the thread that called `step`
            with self._changed:
                self._failure = self._failure or error
                self._busy -= 1
                self._changed.notify_all()

    def _take(self, parts: Parts | None, end: float) -> Parts | None:
        """Return what a thread that had `parts` does next; None where its time or all work is over."""
        with self._changed:
            if parts is not None and not parts.empty:
                if self._failure is None and time.monotonic() < end:
                    self._share(parts)
                    return parts
                self._ready.appendleft(parts)
            if parts is not None:
                self._busy -= 1
                self._changed.notify_all()
                if time.monotonic() >= end:
                    return None
            while (more := self._next()) is None or self._failure is not None:
                left = end - time.monotonic()
                if not self._busy or left <= 0 or self._failure is not None:
                    return None
                self._waiting += 1
                self._changed.wait(left)
                self._waiting -= 1
            self._busy += 1
            return more

    def _share(self, parts: Parts) -> None:
        while self._waiting > len(self._ready) and (given := parts.split()) is not None:
            self._ready.append(given)
            self._changed.notify()

    def _next(self) -> Parts | None:
        if self._ready:
            return self._ready.popleft()
        if self._trees:
            parts = self._walker.parts()
            parts.push_root(self._trees.popleft())
            return parts
        return self._last.popleft() if self._last else None

    def _note(self, seen: Seen) -> None:
        room = MOST_FLAWS - self._reported
        taken = seen.flaws[:room]
        self._flaws += taken
        self._reported += len(taken)
        self._pages += seen.pages
        self._unordered += seen.unordered
        self._left_out += seen.left_out + len(seen.flaws) - len(taken)

    # The end

    def _finish(self, source: PageSource, end: float, budget: int) -> None:
        """Walk the freelist; when that is done, tell what nothing uses."""
        if self._plan.users:
            self._done = True
            return
        if self._freelist is None:
            page = bytearray(source.page_size)
            try:
                self._backend.read(source, 1, 1, page)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._done = True  # the tree of the schema has told that page 1 is unreadable
                return
            self._freelist = self._walker.parts()
            self._freelist.push_freelist(int.from_bytes(page[32:36], "big"), int.from_bytes(page[36:40], "big"))
        while not self._freelist.empty:
            self._note(self._walker.walk(source, self._freelist, budget))
            if time.monotonic() >= end:
                return
        runs = 0
        for runs, (first, count) in enumerate(self._walker.unused(), 1):
            if runs <= MOST_UNUSED:
                self._note(Seen(flaws=(Flaw(kind=FlawKind.UNUSED, pgno=first, seen=count),)))
        self._left_out += max(0, runs - MOST_UNUSED)
        self._done = True


def _is_child(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) <= 5  # a page has fewer children
