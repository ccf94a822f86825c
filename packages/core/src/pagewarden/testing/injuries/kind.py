"""What a named injury is, and how it is inflicted: the first of its targets where anything would change."""

from __future__ import annotations

import random
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pagewarden.durable import failure
from pagewarden.errors import RestoreRefused
from pagewarden.testing.injuries.closed import Attempt, ClosedCopy
from pagewarden.values import InjuryReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Injury:
    """One kind of damage."""

    name: str
    summary: str  # one sentence: what it stands for
    needs_older: bool = False  # whether it takes an older image of the same database to work from
    takes_older: bool = False  # whether it uses one that is given
    of_wal: bool = False  # whether it injures the -wal beside the database
    lacks: str  # what a database that offers no target has not
    hint: str  # which database has it
    targets: Callable[[ClosedCopy, random.Random], Iterator[Attempt]]

    def apply(self, path: Path, seed: int, *, older: Path | None = None) -> InjuryReport:
        """Injure the file `path`; `older` is an older, closed image of the same database.

        Raises RestoreRefused where the file is in use by a journal or offers no target, NotADatabase, DatabaseNotFound,
        TargetFailed or OutOfSpace where it cannot be written.
        """
        if self.needs_older and older is None:
            raise RestoreRefused(
                f"a {self.name} needs an older image of {path} to take the old page from",
                hint=f"pagewarden injure {shlex.quote(str(path))} --kind {self.name} --seed {seed} --older OLDER",
            )
        with ClosedCopy(path, with_wal=self.of_wal) as copy:
            if older is None or not (self.needs_older or self.takes_older):
                return self._inflict(copy, seed)
            with ClosedCopy(older, write=False) as copy.older:
                if copy.older.page_size != copy.page_size:
                    raise RestoreRefused(
                        f"{older} is no older image of {path}: its pages have another size",
                        hint="take an older image of the same database",
                    )
                return self._inflict(copy, seed)

    def _inflict(self, copy: ClosedCopy, seed: int) -> InjuryReport:
        passed: list[str] = []
        try:
            for attempt in self.targets(copy, random.Random(seed)):
                written = attempt.write()
                if written is None:
                    passed.append(attempt.target)
                    continue
                return InjuryReport(
                    path=str(written.path),
                    kind=self.name,
                    seed=seed,
                    pgno=written.pgno,
                    offset=written.offset,
                    length=written.length,
                    message=attempt.message + _passed_over(passed),
                    before=written.before.hex(),
                    after=written.after.hex(),
                )
        except OSError as error:
            raise failure(error, f"cannot injure {copy.path}") from error
        raise RestoreRefused(f"{copy.path} has no {self.lacks}", hint=self.hint)


def _passed_over(targets: list[str]) -> str:
    if not targets:
        return ""
    more = f" (and {len(targets) - 1} more)" if len(targets) > 1 else ""
    return f"; {targets[0]}{more} was passed over: nothing in use would have changed there"
