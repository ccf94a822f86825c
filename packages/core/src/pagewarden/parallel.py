"""Waiting for many slow answers at once, from a thread that can be interrupted all the while.

For calls that wait for a network and may do so for minutes: the calling thread only waits, so that Ctrl-C ends it; the
threads that it leaves behind then do not keep the process alive.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class _Task(Generic[A, R]):
    """One call, and how it ended."""

    def __init__(self, argument: A) -> None:
        self.argument = argument
        self.ended = threading.Event()
        self.result: R
        self.error: BaseException | None = None

    def run(self, call: Callable[[A], R]) -> None:
        """Make the call, in a thread of its own."""
        try:
            self.result = call(self.argument)
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            self.error = error
        self.ended.set()

    def wait(self) -> R:
        """Return what the call returned, or raise what it raised."""
        self.ended.wait()
        if self.error is not None:
            raise self.error
        return self.result


def in_order(call: Callable[[A], R], arguments: Iterable[A], width: int) -> Iterator[R]:
    """Yield `call(argument)` for each argument, in their order; `width` of them are under way at once.

    What a call raises is raised in its place; then, or when the iteration is given up, no further call is begun.
    """
    queue: SimpleQueue[_Task[A, R] | None] = SimpleQueue()

    def work() -> None:
        while (task := queue.get()) is not None:
            task.run(call)

    waiting: deque[_Task[A, R]] = deque()
    threads = 0
    try:
        for argument in arguments:
            if len(waiting) == width:
                yield waiting.popleft().wait()
            if threads < width:
                threading.Thread(target=work, name="pagewarden-parallel", daemon=True).start()
                threads += 1
            task: _Task[A, R] = _Task(argument)
            waiting.append(task)
            queue.put(task)
        while waiting:
            yield waiting.popleft().wait()
    finally:
        with suppress(Empty):
            while True:
                queue.get_nowait()
        for _ in range(threads):
            queue.put(None)


def patiently(call: Callable[[], R]) -> R:
    """Return what `call` returns, from a thread of its own."""
    return next(in_order(lambda _: call(), (None,), 1))
