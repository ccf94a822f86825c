"""What a guard is at, for whoever asks from another thread; and who waits for what to be taken and stored."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pagewarden.errors import GuardFailed, PagewardenError
from pagewarden.guard.values import GuardState
from pagewarden.values import Position

T = TypeVar("T")

_GLANCE = 1.0  # seconds between two looks whether somebody still waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """All that was committed before somebody asked has been taken."""

    position: Position  # of the last commit that was taken then
    number: int  # of the batch that it is in, 0 where none was needed
    turn: int  # see `Board.turn`


class Board:
    """The state of one guard. Every method may be called by any thread."""

    def __init__(self, wake: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`wake` is called when somebody asks for something: whoever follows is to look at once."""
        self._wake = wake
        self._clock = clock
        self._condition = threading.Condition()
        self._asked = 0
        self._answered: tuple[int, Answered] | None = None
        self._turn = 0
        self.state = GuardState.STARTING
        self.why = ""
        self.error: PagewardenError | None = None  # why it stopped, where it had to
        self.taken: Position | None = None
        self.gaps = 0
        self.wal_bytes = 0
        self.held_back = ""
        self.rot: tuple[int, ...] = ()
        self.scrubbed = 0.0

    def now(self, state: GuardState, why: str = "") -> None:
        """Note what the guard is at."""
        with self._condition:
            self.state, self.why = state, why
            self._condition.notify_all()

    def stop(self, error: PagewardenError | None = None) -> None:
        """Note that the guard has ended; whoever waits is told."""
        with self._condition:
            self.error = error
            self.state, self.why = GuardState.STOPPED, "" if error is None else error.message
            self._condition.notify_all()

    def notify(self) -> None:
        """Let those who wait look again: something was stored, or could not be."""
        with self._condition:
            self._condition.notify_all()

    @property
    def asked(self) -> int:
        """How often somebody has asked. Whoever follows reads it before a look at the database."""
        return self._asked

    @property
    def waited_for(self) -> bool:
        """Whether somebody waits for everything to be taken."""
        return self._answered is None or self._answered[0] < self._asked

    def answer(self, asked: int, position: Position, number: int) -> None:
        """Note that everything is taken that was committed before `asked` was read; the last batch is `number`."""
        with self._condition:
            self.taken = position
            if self._answered is None or self._answered[0] < asked:
                self._answered = asked, Answered(position=position, number=number, turn=self._turn)
                self._condition.notify_all()

    def begin_turn(self) -> None:
        """Note that what was taken and is not stored will not be: whoever waits for it asks again."""
        with self._condition:
            self._turn += 1
            self._answered = None
            self._condition.notify_all()

    def flush(
        self, waits: Callable[[int], bool], seconds: float | None, gone: Callable[[], bool] = lambda: False
    ) -> Position:
        """Return the position at which all that was committed before this call is stored.

        `waits(number)` says whether a batch up to `number` is not stored yet. Raises GuardFailed where `seconds` are
        over before, the guard has ended, or whoever asked is `gone`.
        """
        until = None if seconds is None else self._clock() + seconds
        with self._condition:
            while True:
                self._asked += 1
                ticket = self._asked
                self._wake()
                answered = self._wait(until, gone, partial(self._answer_to, ticket))
                self._wait(until, gone, partial(self._settled, answered, waits))
                if answered.turn == self._turn:
                    return answered.position

    def _answer_to(self, ticket: int) -> Answered | None:
        return self._answered[1] if self._answered is not None and self._answered[0] >= ticket else None

    def _settled(self, answered: Answered, waits: Callable[[int], bool]) -> bool:
        return answered.turn != self._turn or not waits(answered.number)

    def _wait(self, until: float | None, gone: Callable[[], bool], wanted: Callable[[], T | None]) -> T:
        while not (found := wanted()):
            if self.state is GuardState.STOPPED:
                raise self.error or GuardFailed("the guard has ended", hint="start it again: pagewarden run")
            left = None if until is None else until - self._clock()
            if left is not None and left <= 0:
                why = f": it is {self.state}" + (f", {self.why}" if self.why else "")
                raise GuardFailed(
                    f"what was committed is not in the repository yet{why}", hint="wait longer, or look at its log"
                )
            if gone():
                raise GuardFailed("whoever asked is gone")
            self._condition.wait(_GLANCE if left is None else min(left, _GLANCE))
        return found
