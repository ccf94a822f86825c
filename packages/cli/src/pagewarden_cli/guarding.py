"""What `run`, `sync` and `mark` show."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pagewarden_cli.blocks import Block, Span, line
from pagewarden_cli.human import number, safe, seconds, size
from pagewarden_cli.session import show_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.live import Live

    from pagewarden.events import Event
    from pagewarden.guard.values import GuardStatus
    from pagewarden.values import MarkReport, RunReport, SyncReport
    from pagewarden_cli.render import Manner

NOTABLE = ("guard.", "target.", "spool.", "rot.", "clock.", "ledger.", "map.", "session.")
"""What events begin with that a person should see as they come, though nobody asked for every one."""

NOTABLE_TOO = frozenset({"wal.over-bound", "wal.within-bound", "wal.unmanaged"})

_REFRESHED = 1.0  # seconds between two changes of what stands on a terminal


def is_notable(event: Event) -> bool:
    """Return whether a person should see an event that did not ask for every one."""
    return event.name.startswith(NOTABLE) or event.name in NOTABLE_TOO


class Display:
    """Tells of guards while they run: notable events as lines, and how they stand where stderr is a terminal.

    A context manager; leaving it erases what stands there. Events may come from any thread.
    """

    def __init__(self, *, quiet: bool, verbose: bool, color: bool) -> None:
        """With `verbose` somebody else shows every event."""
        self._quiet = quiet
        self._verbose = verbose
        self._color = color
        self._lock = threading.Lock()
        self._live: Live | None = None

    def observe(self, event: Event) -> None:
        """Show an event, if it is worth it."""
        if self._quiet or self._verbose or not is_notable(event):
            return
        with self._lock:
            show_event(event)

    def refresh(self, statuses: Sequence[GuardStatus]) -> None:
        """Show how the guards stand now."""
        if self._live is not None:
            self._live.update("\n".join(safe(_standing(status)) for status in statuses), refresh=True)

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True, no_color=not self._color, highlight=False, markup=False)
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _standing(status: GuardStatus) -> str:
    """Return how a guard stands, in one line."""
    parts = [f"{status.name}: {status.state.value}"]
    if status.why:
        parts.append(status.why)
    if status.stored is not None:
        parts.append(f"stored {status.stored}")
    parts.append(f"{number(status.commits, 'commit')}, lag {seconds(status.lag)}")
    if status.spooled:
        parts.append(
            f"{number(status.spooled, 'batch')} wait ({size(status.spool_bytes)})".replace("batchs", "batches")
        )
    parts.append(f"log {size(status.wal_bytes)}")
    if status.held_back:
        parts.append(f"held back by {status.held_back}")
    if status.rot:
        parts.append(f"{number(len(status.rot), 'damaged page')}")
    return " · ".join(parts)


def show_run(report: RunReport, manner: Manner) -> list[Block]:
    """Return what became of guards."""
    blocks: list[Block] = []
    for status in report.guards:
        if status.rot:
            pages = ", ".join(map(str, status.rot[:20])) + (" …" if len(status.rot) > 20 else "")
            blocks.append(
                line(
                    Span(status.database, "strong"),
                    " is ",
                    Span("damaged", "bad"),
                    f": no commit changed pages {pages}",
                )
            )
        if manner.quiet:
            continue
        stored = "nothing is stored" if status.stored is None else f"stored up to {status.stored}"
        merged = f", {number(status.merged)} of them merged" if status.merged else ""
        gaps = f", {number(status.gaps, 'gap')} healed" if status.gaps else ""
        blocks.append(
            line(Span(status.database, "strong"), f": {stored}, {number(status.commits, 'commit')}{merged}{gaps}")
        )
        if status.spooled:
            blocks.append(
                line(f"{size(status.spool_bytes)} wait for {status.repository}; the next guard stores them", indent=2)
            )
    return blocks


def show_sync(report: SyncReport, manner: Manner) -> list[Block]:
    """Return up to where a database is stored."""
    if manner.quiet:
        return []
    how = "" if report.guarded else ", by a backup: nothing guards it"
    return [
        line(Span(report.database, "strong"), f" is stored up to {report.position} ({seconds(report.seconds)}){how}")
    ]


def show_mark(report: MarkReport, manner: Manner) -> list[Block]:
    """Return which moment has a name now."""
    if manner.quiet:
        return []
    how = "" if report.guarded else ", by a backup: nothing guards it"
    return [line(Span(report.database, "strong"), f' at {report.position} is "{report.text}"{how}')]
