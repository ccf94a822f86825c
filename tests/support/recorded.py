"""What a repository would say of a database: its recorded positions, from closed files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pagewarden.testing.benches import ClosedCase
from pagewarden.testing.contracts.repairer import RepairerContract
from pagewarden.testing.injuries import INJURIES
from pagewarden.testing.subjects import FileImage
from pagewarden.values import Finding, Position


class Recorded(FileImage):
    """A restore point: the pages of a file as it was when this was made."""

    position: Position

    def __init__(self, path: Path, *, txid: int = 7) -> None:
        position = Position(timeline="c" * 32, txid=txid, time=datetime(2026, 3, 4, tzinfo=UTC))
        super().__init__(path, position=position)


class History:
    """A repository's history with one restore point."""

    def __init__(self, newest: Recorded, *, present: Recorded | None = None, fetched: Recorded | None = None) -> None:
        """`present` is what is proved to be committed now; `fetched` what `fetch` gives instead of what it is asked."""
        self.newest = newest
        self.present = present
        self.why = "commits may have been made since" if present is None else "the log ends where the recorded one does"
        self.certain = True
        self.older: Sequence[Recorded] = ()
        self._fetched = fetched

    def fetch(self, image: object, to: Path) -> None:
        """Write a restore point."""
        fetched = self._fetched or image
        assert isinstance(fetched, Recorded)
        fetched.write(to)


def proven(newest: Recorded, *, fetched: Recorded | None = None) -> History:
    """Return a history in which nothing was committed since its restore point."""
    return History(newest, present=newest, fetched=fetched)


class RecordedContract(RepairerContract):
    """The contract of a repairer that needs a history: a run of pages is zeros, and what stood there is recorded."""

    damage: Sequence[Finding]  # what is found of that
    history: Callable[[Recorded], History]  # makes one of what is recorded

    def break_copy(self, copy: Path) -> Sequence[Finding]:
        """Zero pages; what stood there is recorded first."""
        self.recorded = Recorded(copy)
        INJURIES["zeroed-run"].apply(copy, 3)
        return self.damage

    def make_case(self, copy: Path, findings: Sequence[Finding]) -> ClosedCase:
        """Return a case with the history."""
        return ClosedCase(copy, findings, history=self.history(self.recorded))
