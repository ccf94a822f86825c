"""Progress bars: late, only on a terminal, and gone without a trace."""

from __future__ import annotations

import io
import threading
import time
from contextlib import redirect_stderr

import pytest

from pagewarden_cli.progress import Bars


class Terminal(io.StringIO):
    """Standard error as a terminal that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.written = threading.Event()

    def write(self, text: str) -> int:
        """Remember."""
        self.text += text
        if "%" in self.text:
            self.written.set()
        return len(text)

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 columns, for standard error."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


def test_a_bar_is_drawn_after_the_delay_and_erased(terminal: Terminal) -> None:
    """It names the step, never more than one timer runs, and the cursor comes back."""
    with redirect_stderr(terminal), Bars(shown=True, delay=0.01) as bars:
        bars.update("copying pages", 1, 4)
        bars.update("copying pages", 2, 4)
        assert terminal.written.wait(10)
        bars.update("copying pages", 3, 4)
        bars.update("hashing \x1b[2Jpages", 1, 0)
        bars.update("copying pages", 4, 4)
        bars.update("check-pragma", 0, 0)
        bars.finish("check-pragma")
        bars.update("hashing \x1b[2Jpages", 2, 0)
    assert "copying pages" in terminal.text
    assert "\x1b[2Jpages" not in terminal.text
    assert terminal.text.count("\x1b[?25l") == terminal.text.count("\x1b[?25h") == 1
    drawn = terminal.text
    bars.update("late", 1, 2)
    assert terminal.text == drawn


def test_what_is_quick_draws_nothing(terminal: Terminal) -> None:
    """A step that ends within the delay leaves the terminal alone; the next one has a delay of its own."""
    with redirect_stderr(terminal), Bars(shown=True, delay=0.01) as bars:
        bars.update("quick", 1, 2)
        bars.update("quick", 2, 2)
        time.sleep(0.1)
        assert terminal.text == ""
        bars.update("slow", 1, 2)
        assert terminal.written.wait(10)
    assert "slow" in terminal.text
    assert "quick" not in terminal.text


def test_leaving_before_the_delay_draws_nothing(terminal: Terminal) -> None:
    """The timer ends with the context."""
    with redirect_stderr(terminal), Bars(shown=True, delay=0.05) as bars:
        bars.update("step", 1, 2)
    time.sleep(0.15)
    assert terminal.text == ""


def test_bars_that_are_not_shown_do_nothing(terminal: Terminal) -> None:
    """Not even a thread is started."""
    before = threading.active_count()
    with redirect_stderr(terminal), Bars(shown=False, delay=0.0) as bars:
        bars.update("step", 1, 2)
        assert threading.active_count() == before
    assert terminal.text == ""
