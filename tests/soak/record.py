"""The application's own record of its transactions, outside the database: what it is going to commit, and what it did.

Each process appends lines of JSON to a file of its own, unbuffered, so that a kill loses none. An intent is written
while the transaction holds the write lock, so intents of one number follow each other; which of them was committed
is known by its token, which the database holds, and by the token of its parent.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A transaction, as its application recorded it before COMMIT."""

    number: int
    token: str
    parent: str  # the token of the transaction before
    digest: int  # of the content after it
    cookie_before: int  # schema cookie that it began with, …
    cookie: int  # … and that it leaves
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """An image of the whole database that SQLite itself gave to a reader of the application."""

    number: int
    token: str
    cookie: int
    database_sum: int
    pages: int


class Recorder:
    """Writes the record of one process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{os.getpid()}-{time.monotonic_ns()}.jsonl"
        self._file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)

    def intend(self, intent: Intent) -> None:
        """Say what is going to be committed."""
        self._write(
            what="intent",
            number=intent.number,
            token=intent.token,
            parent=intent.parent,
            digest=f"{intent.digest:016x}",
            cookies=[intent.cookie_before, intent.cookie],
            kind=intent.kind,
        )

    def acknowledge(self, token: str) -> None:
        """Say that COMMIT has returned."""
        self._write(what="committed", token=token, at=time.monotonic_ns())

    def roll_back(self, token: str) -> None:
        """Say that a transaction is going to be rolled back: nobody may ever see it."""
        self._write(what="rolled-back", token=token)

    def sighted(self, seen: Sighting) -> None:
        """Say what SQLite gave as the whole database."""
        self._write(
            what="sighting",
            number=seen.number,
            token=seen.token,
            cookie=seen.cookie,
            sum=f"{seen.database_sum:016x}",
            pages=seen.pages,
        )

    def note(self, kind: str, seconds: float = 0.0) -> None:
        """Say that something was done that is no transaction of the clock, and how long it took."""
        self._write(what="note", kind=kind, seconds=round(seconds, 6))

    def _write(self, **fields: object) -> None:
        os.write(self._file, json.dumps(fields).encode() + b"\n")


@dataclass(slots=True)
class Record:
    """All that the application recorded, read by another process; `refresh` reads what has come since."""

    folder: Path
    intents: dict[str, Intent] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)  # token → when COMMIT had returned, monotonic nanoseconds
    rolled_back: set[str] = field(default_factory=set)
    sightings: dict[tuple[str, int], Sighting] = field(default_factory=dict)  # by token and cookie
    notes: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)  # seconds, by kind of note
    _highest: int = 0
    _offsets: dict[Path, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self) -> Record:
        """Read what was appended; a line that is not whole yet waits for the next time."""
        with self._lock:
            for path in sorted(self.folder.glob("*.jsonl")):
                for line in self._lines(path):
                    self._take(line)
        return self

    def last_acknowledged(self) -> int:
        """Return the highest number whose COMMIT has returned."""
        return self._highest

    def chain(self, token: str) -> list[Intent]:
        """Return the transactions that led to `token`, the first one first; fail where the record has a hole."""
        found = []
        while token:
            intent = self.intents.get(token)
            assert intent is not None, f"no application recorded the transaction {token}"
            found.append(intent)
            token = intent.parent
        found.reverse()
        assert [intent.number for intent in found] == list(range(1, len(found) + 1))
        return found

    def _lines(self, path: Path) -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            file.seek(self._offsets.get(path, 0))
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offsets[path] = self._offsets.get(path, 0) + len(line)
                yield json.loads(line)

    def _take(self, line: dict[str, Any]) -> None:
        match line["what"]:
            case "intent":
                intent = Intent(
                    number=line["number"],
                    token=line["token"],
                    parent=line["parent"],
                    digest=int(line["digest"], 16),
                    cookie_before=line["cookies"][0],
                    cookie=line["cookies"][1],
                    kind=line["kind"],
                )
                assert intent.token not in self.intents
                self.intents[intent.token] = intent
            case "committed":
                self.committed[line["token"]] = line["at"]
                self._highest = max(self._highest, self.intents[line["token"]].number)
            case "rolled-back":
                self.rolled_back.add(line["token"])
            case "sighting":
                seen = Sighting(
                    number=line["number"],
                    token=line["token"],
                    cookie=line["cookie"],
                    database_sum=int(line["sum"], 16),
                    pages=line["pages"],
                )
                before = self.sightings.setdefault((seen.token, seen.cookie), seen)
                assert before == seen, f"one commit, two images: {before} and {seen}"
            case what:
                assert what == "note", what
                self.notes[line["kind"]] += 1
                self.slowest[line["kind"]] = max(self.slowest.get(line["kind"], 0.0), line["seconds"])
