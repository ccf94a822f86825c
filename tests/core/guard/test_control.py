"""The guard's socket: for its user alone, never deaf, whatever those who ask do."""

from __future__ import annotations

import json
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pagewarden.errors import ConfigurationInvalid, GuardFailed, PagewardenError
from pagewarden.guard.board import Board
from pagewarden.guard.control import Control, ask
from pagewarden.values import Position
from tests.support.guarding import PATIENCE, Guarded

_NOW = datetime(2026, 11, 23, tzinfo=UTC)


class Patient:
    """Answers `flush` when it is let, and everything else at once."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.gone = threading.Semaphore(0)

    def answer(self, request: Mapping[str, Any], gone: Callable[[], bool]) -> Mapping[str, Any]:
        """Do what a test asks for."""
        if request["verb"] == "flush":
            self.waiting.release()
            while not self.let.wait(0.02):
                if gone():
                    self.gone.release()
                    raise GuardFailed("gone")
        if request["verb"] == "wrong":
            raise ConfigurationInvalid("wrong", hint="right")
        if request["verb"] == "bug":
            raise KeyError("bug")
        return {"verb": request["verb"]}


@pytest.fixture
def patient() -> Iterator[Patient]:
    """What answers; it is let go at the end."""
    made = Patient()
    yield made
    made.let.set()


@pytest.fixture(params=["short", "a-very-long-folder-name-that-no-socket-could-be-called-by" * 3])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Where the socket stands; the address of one has 107 bytes (unix(7))."""
    return tmp_path / str(request.param) / "guard.sock"


def test_it_is_for_its_user_alone(place: Path, patient: Patient) -> None:
    """Mode 0600, wherever it stands; and it is gone with the guard."""
    control = Control(place, patient.answer)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert ask(place, {"verb": "status"}) == {"verb": "status"}
    control.close()
    assert not place.exists()
    assert ask(place, {"verb": "status"}) is None


def test_what_fails_is_raised_where_it_was_asked(tmp_path: Path, patient: Patient) -> None:
    """Errors travel whole; nonsense and bugs are answered, too."""
    path = tmp_path / "guard.sock"
    control = Control(path, patient.answer)
    with pytest.raises(ConfigurationInvalid, match="wrong") as found:
        ask(path, {"verb": "wrong"})
    assert found.value.hint == "right"
    with pytest.raises(PagewardenError, match="KeyError"):
        ask(path, {"verb": "bug"})
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(path))
        raw.sendall(b"nonsense\n")
        assert json.loads(raw.recv(1 << 16))["error"]["slug"] == "guard-failed"
    control.close()


def test_those_who_wait_keep_nobody_from_asking(tmp_path: Path, patient: Patient) -> None:
    """However many wait for a flush, the guard says how it stands; those who went away are not waited for."""
    path = tmp_path / "guard.sock"
    control = Control(path, patient.answer)
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for each in waiting:
        each.connect(str(path))
        each.sendall(b'{"verb":"flush"}\n')
    for _ in range(32):
        assert patient.waiting.acquire(timeout=PATIENCE)
    assert ask(path, {"verb": "status"}, seconds=PATIENCE) == {"verb": "status"}
    with pytest.raises(GuardFailed, match="32 others wait"):
        ask(path, {"verb": "flush"}, seconds=PATIENCE)
    for each in waiting:
        each.close()
    for _ in range(32):
        assert patient.gone.acquire(timeout=PATIENCE)
    patient.let.set()
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            assert ask(path, {"verb": "flush"}, seconds=PATIENCE) == {"verb": "flush"}
            break
        except GuardFailed:  # the last of them is just leaving
            time.sleep(0.01)
    control.close()


def test_a_guard_that_does_not_answer_is_given_up(tmp_path: Path, patient: Patient) -> None:
    """After the time that it was given, and a little more."""
    path = tmp_path / "guard.sock"
    control = Control(path, patient.answer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pagewarden.guard.control._SPARE", 0.1)
        with pytest.raises(GuardFailed, match="did not answer within"):
            ask(path, {"verb": "flush"}, seconds=0.1)
    patient.let.set()
    control.close()


def test_numbers_that_no_clock_bears(guarded: Guarded) -> None:
    """Any number of seconds is bounded, and what is none is refused."""
    guard = guarded.start()
    for seconds in (1e300, 1e11, 0.5):
        assert "position" in guard.answer({"verb": "flush", "seconds": seconds})
    for wrong in (-1, "soon", float("nan")):
        with pytest.raises(ConfigurationInvalid):
            guard.answer({"verb": "flush", "seconds": wrong})
    with pytest.raises(GuardFailed):
        guard.answer({"verb": "dance"})
    assert guard.answer({"verb": "status"})["status"]["state"] == "following"
    assert guard.answer({"verb": "stop"}) == {}
    assert guard.join(PATIENCE)


def test_what_is_void_is_asked_for_again() -> None:
    """A position that will not be stored, because others went on, is never the answer to a flush."""
    asked = threading.Event()
    board = Board(asked.set)
    here = Position(timeline="ab" * 16, txid=7, time=_NOW)
    found: list[Position] = []
    waits = {1: True, 2: False}
    thread = threading.Thread(target=lambda: found.append(board.flush(waits.__getitem__, PATIENCE)))
    thread.start()
    assert asked.wait(PATIENCE)
    board.answer(board.asked, Position(timeline="cd" * 16, txid=6, time=_NOW), 1)
    board.begin_turn()
    waits[1] = False
    until = time.monotonic() + PATIENCE
    while thread.is_alive() and time.monotonic() < until:  # as whoever follows does, with each look
        board.answer(board.asked, here, 2)
        thread.join(0.01)
    assert found == [here]
