"""A guarded database for tests: the application in a process of its own, the guard in this one, and its history.

This process holds the guard's connections, so it opens none of the database's files itself (H1).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pagewarden.events import Event
from pagewarden.guard.guard import Guard
from pagewarden.guard.values import GuardRequest
from pagewarden.restore.run import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import Position
from tests.support.session import Session

PATIENCE = 30.0  # seconds for what takes a moment, on a machine with other work


class Told:
    """Every event, in order; other threads append."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._condition = threading.Condition()

    def __call__(self, event: Event) -> None:
        """Note an event."""
        with self._condition:
            self.events.append(event)
            self._condition.notify_all()

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the fields of all events of a name."""
        return [event.fields for event in self.events if event.name == name]

    def wait(self, name: str, count: int = 1, *, seconds: float = PATIENCE, **fields: object) -> dict[str, Any]:
        """Wait for the event number `count` of a name with such fields; return its fields."""

        def found() -> list[dict[str, Any]]:
            return [each for each in self.named(name) if all(each.get(key) == value for key, value in fields.items())]

        with self._condition:
            ended = self._condition.wait_for(lambda: len(found()) >= count, seconds)
        names = [(event.name, event.fields) for event in self.events]
        assert ended, f"there was no {name} {fields} (number {count}) within {seconds} s: {names}"
        return found()[count - 1]


@dataclass
class Guarded:
    """A database that an application commits to, and what guards it. A context manager."""

    folder: Path
    options: dict[str, Any] = field(default_factory=dict)  # of GuardRequest
    runtime_options: dict[str, Any] = field(default_factory=dict)
    watcher: Callable[[str], Any] | None = None

    def __post_init__(self) -> None:
        self.database = self.folder / "app.db"
        self.repository = self.folder / "repository"
        self.told = Told()
        self.rows: dict[int, int] = {}  # by txid: how many rows there are
        self.guard: Guard | None = None
        self._runtimes: list[Runtime] = []
        self._restoring = Runtime(state=self.folder / "restoring")
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, body TEXT)")
        self.application = Session(self.database, timeout=PATIENCE)

    def start(self, **options: Any) -> Guard:
        """Start a guard, and wait until it follows."""
        guard = self.begin(**options)
        guard.flush(PATIENCE)
        return guard

    def begin(self, **options: Any) -> Guard:
        """Start a guard."""
        runtime = Runtime(state=self.folder / "state", on_event=self.told, **self.runtime_options)
        self._runtimes.append(runtime)
        request = GuardRequest(
            database=str(self.database), repository=str(self.repository), check="none", **self.options | options
        )
        made = {} if self.watcher is None else {"watcher": self.watcher}
        self.guard = Guard(request, runtime, **made)
        return self.guard

    def stop(self) -> None:
        """End the guard as by SIGTERM."""
        assert self.guard is not None
        self.guard.close()
        self.guard = None
        self._runtimes.pop().close()

    def commit(self, count: int = 1, body: str = "some text") -> None:
        """Let the application commit rows, each by itself."""
        for number in range(count):
            self.application.run("INSERT INTO item(body) VALUES(?)", f"{body} {number}")

    def flush(self) -> Position:
        """Wait until all is stored; note how many rows there are then."""
        assert self.guard is not None
        position = self.guard.flush(PATIENCE)
        self.rows[position.txid] = self.count()
        return position

    def count(self) -> int:
        """Return how many rows the application sees."""
        return int(self.application.run("SELECT count(*) FROM item")[0][0])

    def restored(self, txid: int | None = None, **options: Any) -> list[tuple[Any, ...]]:
        """Bring a commit back beside the database, prove it, and return its rows."""
        to = self.folder / f"restored-{time.monotonic_ns()}.db"
        request = RestoreRequest(repository=str(self.repository), to=str(to), txid=txid, **options)
        run_restore(request, self._restoring)
        with closing(sqlite3.connect(to)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return connection.execute("SELECT id, body FROM item ORDER BY id").fetchall()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.guard is not None:
            self.stop()
        self.application.close()
        self._restoring.close()
