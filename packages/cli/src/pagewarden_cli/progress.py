"""Progress bars: on stderr, only where it is a terminal, and only once a step has taken a second."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pagewarden_cli.human import safe

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DELAY = 1.0  # seconds before the first bar


class Bars:
    """A sink for progress that draws bars. Any thread may update it; leaving the context erases what was drawn."""

    def __init__(self, *, shown: bool, color: bool = True, delay: float = DELAY) -> None:
        self._shown = shown
        self._color = color
        self._delay = delay
        self._lock = threading.Lock()
        self._steps: dict[str, tuple[int, int]] = {}
        self._tasks: dict[str, TaskID] = {}
        self._timer: threading.Timer | None = None
        self._display: Progress | None = None

    def update(self, step: str, done: int, total: int) -> None:
        """Tell how far `step` is; a `total` of 0 is not known. A step that is done disappears."""
        if not self._shown:
            return
        with self._lock:
            if total and done >= total:
                self._steps.pop(step, None)
            else:
                self._steps[step] = (done, total)
            if self._display is not None:
                self._draw(self._display)
            elif self._timer is None and self._steps:
                self._timer = threading.Timer(self._delay, self._begin)
                self._timer.daemon = True
                self._timer.start()

    def finish(self, step: str) -> None:
        """Tell that `step` is done, whatever it last told."""
        self.update(step, 1, 1)

    def close(self) -> None:
        """Erase the bars; updates from now on draw nothing."""
        with self._lock:
            self._shown = False
            timer, self._timer = self._timer, None
            display, self._display = self._display, None
        if timer is not None:
            timer.cancel()
        if display is not None:
            display.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """Draw for the first time, in the timer's thread; where nothing is going on, wait for the next step."""
        with self._lock:
            self._timer = None
            if not self._shown or not self._steps:
                return
            self._display = self._make()
            self._display.start()
            self._draw(self._display)

    def _make(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, color_system="auto" if self._color else None, no_color=not self._color)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=console, transient=True, redirect_stdout=False)

    def _draw(self, display: Progress) -> None:
        for step in [step for step in self._tasks if step not in self._steps]:
            display.remove_task(self._tasks.pop(step))
        for step, (done, total) in self._steps.items():
            if step not in self._tasks:
                self._tasks[step] = display.add_task(safe(step), total=total or None)
            display.update(self._tasks[step], completed=done, total=total or None)
