from __future__ import annotations

import threading
import time

import pytest

from pagewarden.deadline import answered_in_time, call_with_deadline
from pagewarden.errors import TargetFailed
from tests.support.tracing import dying_threads


def test_a_call_returns_its_value_and_its_time() -> None:
    """In a thread of its own, which has the name that was given."""
    ended = call_with_deadline(lambda: threading.current_thread().name, name="my checker", seconds=10)
    assert (ended.value, ended.error, ended.late, ended.abandoned) == ("my checker", None, False, False)
    assert 0 <= ended.seconds < 10


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_it_raises_is_a_value(error: BaseException) -> None:
    """An exit in foreign code ends neither the process nor the run."""

    def work() -> None:
        raise error

    for seconds in (10, None):
        ended = call_with_deadline(work, name="x", seconds=seconds)
        assert (ended.error, ended.late) == (error, False)


def test_without_a_deadline_it_is_a_plain_call() -> None:
    """A second thread would guard nothing."""
    ended = call_with_deadline(threading.current_thread, name="x", seconds=None)
    assert ended.value is threading.current_thread()


def test_a_thread_that_never_ran_it_is_no_answer() -> None:
    """A tracer that fails ends a thread before its first line: that is an error, not a call that returned nothing."""
    with dying_threads("x"):
        ended = call_with_deadline(lambda: "value", name="x", seconds=10)
    assert isinstance(ended.error, RuntimeError) and "before it began" in str(ended.error)


def test_a_late_call_is_interrupted() -> None:
    """Once its time is over it is told to stop; what it then returns is kept, and known to be late."""
    stop = threading.Event()

    def work() -> str:
        assert stop.wait(10)
        return "stopped"

    ended = call_with_deadline(work, name="x", seconds=0.05, interrupt=stop.set)
    assert (ended.value, ended.late, ended.abandoned) == ("stopped", True, False)


def test_a_call_that_does_not_end_is_abandoned() -> None:
    """It runs on as a daemon, and the caller goes on after the grace."""
    stop = threading.Event()
    began = time.monotonic()
    ended = call_with_deadline(lambda: stop.wait(30), name="x", seconds=0.05, grace=0.05)
    assert (ended.value, ended.late, ended.abandoned) == (None, True, True)
    assert time.monotonic() - began < 5
    stop.set()


def test_no_time_at_all_is_a_deadline_too() -> None:
    """Zero or less seconds: interrupted at once."""
    stop = threading.Event()
    assert call_with_deadline(lambda: stop.wait(10), name="x", seconds=-1, interrupt=stop.set).late


def test_a_caller_that_is_interrupted_stops_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C goes to the caller: the call is interrupted, and the exception goes on."""
    stop = threading.Event()
    join = threading.Thread.join

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        monkeypatch.setattr(threading.Thread, "join", join)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call_with_deadline(lambda: stop.wait(10), name="x", seconds=5, interrupt=stop.set)
    assert stop.is_set()


def test_storage_that_does_not_answer_is_an_error() -> None:
    """Whoever asked goes on; what answers at once may do so after the time is over, and may refuse."""
    stop = threading.Event()
    with pytest.raises(TargetFailed, match="s3://b did not answer in time"):
        answered_in_time(lambda: stop.wait(30), "s3://b", seconds=-1)
    stop.set()
    assert answered_in_time(lambda: 7, "s3://b", seconds=-1) == answered_in_time(lambda: 7, "s3://b", seconds=None) == 7
    with pytest.raises(ZeroDivisionError):
        answered_in_time(lambda: 1 // 0, "s3://b", seconds=5)
