"""A SQLite connection in another process, driven from the test: the second process that lock tests need.

`python -m tests.support.session` answers lines of JSON, `[sql, parameters]`, with `{"rows": …}` or `{"error": name}`.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.program import unmeasured


class SessionError(Exception):
    """What SQLite raised in the other process; the text is the name of its extended error code."""


class Session:
    """One connection, in autocommit mode, in a process of its own. A context manager; leaving it closes both."""

    def __init__(self, database: str | Path, *, timeout: float = 0.0, uri: bool = False) -> None:
        """Open `database`; `timeout` is how long it waits for locks, in seconds."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.session", str(database), str(timeout), str(int(uri))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=unmeasured(),
        )
        assert self._answer() == "ready"

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def run(self, sql: str, *parameters: object) -> list[list[Any]]:
        """Execute one statement and return its rows. Raises SessionError."""
        self.send(sql, *parameters)
        return self.receive()

    def send(self, sql: str, *parameters: object) -> None:
        """Begin one statement; `receive` must follow."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([sql, parameters]).encode() + b"\n")
        self._process.stdin.flush()

    def receive(self) -> list[list[Any]]:
        """Return the rows of the statement that was sent. Raises SessionError."""
        answer = self._answer()
        if "error" in answer:
            raise SessionError(answer["error"])
        rows: list[list[Any]] = answer["rows"]
        return rows

    def kill(self) -> None:
        """End the process as a crash would: no rollback, no checkpoint, no clean-up."""
        self._process.kill()
        self._close()

    def close(self) -> None:
        """Close the connection and end the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def _close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.wait(30)
        self._process.stdin.close()
        self._process.stdout.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self.close()


def main(database: str, timeout: float, *, uri: bool) -> None:
    """Answer until standard input closes."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=timeout, uri=uri)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        sql, parameters = json.loads(line)
        try:
            answer: dict[str, Any] = {"rows": connection.execute(sql, parameters).fetchall()}
        except sqlite3.Error as error:
            answer = {"error": error.sqlite_errorname}
        print(json.dumps(answer), flush=True)
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), uri=sys.argv[3] == "1")
