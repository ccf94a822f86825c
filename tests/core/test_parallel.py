"""Waiting for many slow answers."""

from __future__ import annotations

import threading
import time

import pytest

from pagewarden.parallel import in_order, patiently
from tests.support.program import run


def test_answers_come_in_order_and_so_many_at_once() -> None:
    """The slowest does not let the others overtake it, and never more than `width` are under way."""
    running, most, lock = 0, 0, threading.Lock()

    def call(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02 if number % 3 == 0 else 0.001)
        with lock:
            running -= 1
        return number * 2

    assert list(in_order(call, range(20), 4)) == [number * 2 for number in range(20)]
    assert 2 <= most <= 4


def test_an_error_comes_in_its_place_and_ends_it() -> None:
    """What was before it is there; what comes after is not begun, but for what is under way."""
    begun: list[int] = []

    def call(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise OSError("three")
        return number

    found = in_order(call, range(100), 2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="three"):
        next(found)
    assert len(begun) <= 6
    assert list(found) == []


def test_nothing_is_asked_for_nothing() -> None:
    """No argument, no thread."""
    before = threading.active_count()
    assert list(in_order(str, (), 4)) == []
    assert threading.active_count() == before


def test_one_answer() -> None:
    """From a thread of its own, or its error."""
    assert patiently(lambda: threading.current_thread().name) == "pagewarden-parallel"
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 // 0)


def test_an_interrupted_wait_ends_the_process() -> None:
    """Ctrl-C does not wait for an answer that never comes, and neither does the end of the process."""
    begun = time.monotonic()
    done = run(
        """
        import os, signal, threading, time
        from pagewarden.parallel import patiently
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            patiently(lambda: time.sleep(60))
        except KeyboardInterrupt:
            print("interrupted")
        """,
        measured=False,
    )
    assert done.stdout == "interrupted\n", done.stderr
    assert time.monotonic() - begun < 30
