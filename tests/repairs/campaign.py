"""Injure, repair, compare: `nox -s repairs -- --count 2000 --seed 7`.

For each injury the file is as SQLite left it, then hurt, then repaired in place. What counts, by the history:

- a followed repository: every row is there, with its value, whatever the injury;
- one backup and commits after it: every row of the backup that was not deleted since, and every newer row that SQLite
  could still read, is there or in the quarantine;
- nothing: damage of indexes, freelist, pointer map and header costs no row; of all else, nothing gets worse.

Prints a line for each failure and each hundred, and a table by kind; ends with code 1 where anything failed. A seed
does the same again.
"""

from __future__ import annotations

import argparse
import random
import shlex
import shutil
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from pagewarden.errors import PagewardenError, RestoreRefused
from pagewarden.repair.reports import RepairReport
from pagewarden.repair.request import RepairRequest
from pagewarden.repair.run import run_repair
from pagewarden.runtime import Runtime
from pagewarden.testing import INJURIES
from pagewarden.values import InjuryReport, Verdict
from tests.repairs import sources
from tests.repairs.rows import Contents, contents, missing, readable
from tests.repairs.stage import History, Stage, make
from tests.support.session import SessionError

LOSSLESS = frozenset({"index-entry", "freelist-trunk", "header-garbage"})
"""Kinds that cost no row even without any history."""

_EVERY = 100  # injuries between two lines

WAYS = (History.FOLLOWED, History.FOLLOWED, History.FOLLOWED_LOG, History.UNCLOSED, History.BACKUP, History.NOTHING)


@dataclass(slots=True)
class Tally:
    """What became of the injuries of one kind, with one history."""

    tried: int = 0
    whole: int = 0  # every row is there, as it was
    kept: int = 0  # what must be there is
    untouched: int = 0  # nothing was applied, and the file is as it was hurt
    failed: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Outcome:
    """All of a campaign."""

    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def of(self, kind: str, history: History) -> Tally:
        """Return the tally of a kind with a history."""
        return self.tallies.setdefault((kind, str(history)), Tally())

    def lines(self) -> Iterator[str]:
        """Yield the table."""
        yield "| injury | history | n | every row | kept what it must | untouched | failed | s each |"
        yield "|---|---|---|---|---|---|---|---|"
        whole = Tally()
        for (kind, history), tally in sorted(self.tallies.items()):
            yield _line(kind, history, tally)
            for name in ("tried", "whole", "kept", "untouched", "failed", "seconds"):
                setattr(whole, name, getattr(whole, name) + getattr(tally, name))
        yield _line("all", "", whole)


def _line(kind: str, history: str, tally: Tally) -> str:
    numbers = f"{tally.tried} | {tally.whole} | {tally.kept} | {tally.untouched} | {tally.failed}"
    return f"| {kind} | {history} | {numbers} | {tally.seconds / max(1, tally.tried):.1f} |"


def judge(stage: Stage, injury: InjuryReport, hurt: dict[str, bytes], given: Contents, runtime: Runtime) -> str:
    """Repair, and return what became of it: "whole", "kept" or "untouched". Raises AssertionError where it is none."""
    request = RepairRequest(
        database=str(stage.database),
        repository=None if stage.repository is None else str(stage.repository),
        apply=True,
    )
    lossless = injury.kind in LOSSLESS or stage.history in (History.FOLLOWED, History.FOLLOWED_LOG)
    try:
        report = run_repair(request, runtime)
    except PagewardenError as error:
        assert _files(stage.database) == hurt, f"it raised {error}, and the file is another one than before"
        assert not lossless, f"it raised {error}"
        return "untouched"
    if not report.applied:
        return _untouched(stage, report, hurt, lossless=lossless)
    # A virtual table whose module is not here could not be judged before it was hurt either.
    wanted = {Verdict.SOUND, Verdict.UNKNOWN} if _lacks_module(report) else {Verdict.SOUND}
    assert report.verdict_after in wanted, report.verdict_after
    _sound(stage.database)
    after = _without_parents(stage, contents(stage.database))
    if not (problems := missing(stage.now, after)):
        return "whole"
    assert not lossless, "; ".join(problems)
    cut = _cut(stage.database)
    _kept(stage, given, after, cut)
    return "kept"


def _lacks_module(report: RepairReport) -> bool:
    """Whether all that could not be judged of the repaired copy needs what its application has, and nothing failed."""
    unknown = [each for each in report.judged.checkers if each.verdict is Verdict.UNKNOWN] if report.judged else []
    return bool(unknown) and not any(each.failed for each in unknown)


def _without_parents(stage: Stage, after: Contents) -> Contents:
    """Return `after` without rows that were deleted since the backup, and put back because others still name them."""
    if stage.history is not History.BACKUP:
        return after
    given = {table: (stage.now.get(table, {}), stage.backed_up.get(table, {})) for table in after}
    return {
        table: {key: row for key, row in rows.items() if key in given[table][0] or given[table][1].get(key) != row}
        for table, rows in after.items()
    }


def _untouched(stage: Stage, report: RepairReport, hurt: dict[str, bytes], *, lossless: bool) -> str:
    assert _files(stage.database) == hurt, "nothing was applied, and yet a byte changed"
    if report.verdict_before is Verdict.SOUND or not missing(stage.now, readable(stage.database, stage.now)):
        return "whole"  # what was hurt is nothing that anybody reads, such as a free page
    assert not lossless, f"nothing was applied ({report.verdict_before}): {report.why} {report.plan}"
    return "untouched"


def _kept(stage: Stage, given: Contents, after: Contents, cut: Counter[tuple[object, ...]]) -> None:
    """Raise AssertionError where a row is gone that had to be there."""
    for table, rows in stage.backed_up.items():
        for key, row in rows.items():
            if key in stage.now.get(table, {}) and stage.history is not History.NOTHING:
                found = after.get(table, {}).get(key)
                assert found is not None, f"{table} {key} of the backup is gone"
                fresh = stage.now[table][key]
                assert found in (row, fresh, given.get(table, {}).get(key)), (
                    f"{table} {key} is {found}, and was {fresh}"
                )
    for table, rows in given.items():
        for key, row in rows.items():
            if after.get(table, {}).get(key) == row:
                continue
            assert row in cut, f"{table} {key} could be read before, and is neither there nor kept: {row}"


def _cut(database: Path) -> Counter[tuple[object, ...]]:
    """Return the values of all rows in the quarantine."""
    found: Counter[tuple[object, ...]] = Counter()
    for path in database.parent.glob(f".pagewarden/{database.name}/*/cut.db"):
        with closing(sqlite3.connect(path)) as connection:
            connection.text_factory = lambda data: ("text", bytes(data))
            row: list[object] = []
            last = None
            for number, name, value in connection.execute("SELECT row, name, value FROM cells ORDER BY row, position"):
                if number != last and last is not None:
                    found[tuple(row)] += 1
                    row = []
                last = number
                if name != ("text", b"rowid"):
                    row.append(value)
            found[tuple(row)] += 1
    return found


def _sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        found = connection.execute("PRAGMA integrity_check").fetchall()
    assert found == [(b"ok",)], found[:3]


def _files(database: Path) -> dict[str, bytes]:
    found = {}
    for suffix in ("", "-wal", "-journal"):
        path = Path(f"{database}{suffix}")
        if path.exists() and path.stat().st_size:
            found[suffix] = path.read_bytes()
    return found


def injure(stage: Stage, kind: str, seed: int) -> InjuryReport | None:
    """Injure the file where it stands; None where it offers no target, or the kind needs what is not there.

    A -wal beside it is out of the way meanwhile: an injury is of a closed file.
    """
    injury = INJURIES[kind]
    wal, aside = Path(f"{stage.database}-wal"), stage.database.with_name("aside")
    away = wal.exists() and not injury.of_wal
    if away and kind == "foreign-wal":
        return None
    if away:
        wal.rename(aside)
    try:
        older = stage.older if injury.needs_older or injury.takes_older else None
        return injury.apply(stage.database, seed, older=older)
    except RestoreRefused:
        return None
    finally:
        if away:
            aside.rename(wal)


def attempt(stage: Stage, kind: str, seed: int, outcome: Outcome, runtime: Runtime, where: str) -> bool:
    """Do one injury and its repair; return whether the database had a target for it."""
    stage.reset()
    injury = injure(stage, kind, seed)
    if injury is None:
        return False
    hurt = _files(stage.database)
    given = readable(stage.database, stage.now)
    tally = outcome.of(kind, stage.history)
    tally.tried += 1
    began = time.perf_counter()
    try:
        what = judge(stage, injury, hurt, given, runtime)
    except Exception as error:  # noqa: BLE001 - a campaign goes on, and tells everything at its end
        tally.failed += 1
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} ({Path(last.filename).name}:{last.lineno})"
        again = f"--again {shlex.quote(where)} {stage.history.name} {stage.seed} {kind} {seed}"
        outcome.failures.append(f"{again}: {place}: {error} [{injury.message}]")
    else:
        setattr(tally, what, getattr(tally, what) + 1)
    tally.seconds += time.perf_counter() - began
    return True


def play(
    databases: dict[str, Path],
    folder: Path,
    *,
    count: int,
    seed: int,
    kinds: Sequence[str],
    ways: Sequence[History] = WAYS,
    each: int = 6,
    told: Callable[[str], None],
) -> Outcome:
    """Do `count` injuries, `each` of them to one database with one history, and return what became of them."""
    outcome, chance, done, number = Outcome(), random.Random(seed), 0, 0
    waiting: list[str] = []
    while done < count:
        number += 1
        where = chance.choice(sorted(databases))
        history = ways[number % len(ways)]
        room = folder / f"stage-{number}"
        try:
            stage = make(databases[where], history, room, seed=number)
        except (sqlite3.Error, SessionError):
            shutil.rmtree(room, ignore_errors=True)
            continue  # a database that does not take the changes
        with Runtime(state=stage.state) as runtime:
            for _ in range(each):
                if done >= count:
                    break
                if not waiting:
                    waiting = chance.sample(list(kinds), len(kinds))
                kind = waiting.pop()
                before = len(outcome.failures)
                if attempt(stage, kind, chance.randrange(1 << 30), outcome, runtime, where):
                    done += 1
                    if done % _EVERY == 0:
                        told(f"{done} of {count} injuries")
                for failure in outcome.failures[before:]:
                    told(failure)
        shutil.rmtree(room)
    return outcome


def _again(databases: dict[str, Path], where: str, history: str, number: str, kind: str, seed: str) -> int:
    """Do one injury of a failed line again, in the folder `again` of the working directory, which is kept."""
    room = Path("again").resolve()
    shutil.rmtree(room, ignore_errors=True)
    stage, outcome = make(databases[where], History[history], room, seed=int(number)), Outcome()
    with Runtime(state=stage.state) as runtime:
        attempt(stage, kind, int(seed), outcome, runtime, where)
    print("\n".join(outcome.failures or ["nothing failed"]), f"\nlook at {room}, and how it was in {room / 'kept'}")
    return 1 if outcome.failures else 0


def main() -> int:
    """Play a campaign, and print what became of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--kind", action="append", choices=sorted(INJURIES))
    parser.add_argument("--history", action="append", choices=[history.name for history in History])
    parser.add_argument("--of", choices=("all", "shapes", "real", "generated"), default="all")
    parser.add_argument("--folder", type=Path, help="where to play; removed")
    parser.add_argument("--again", nargs=5, metavar=("DATABASE", "HISTORY", "STAGE", "KIND", "SEED"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pagewarden-repairs-", dir=given.folder) as name:
        folder = Path(name)
        databases: dict[str, Path] = {}
        for kind in ("shapes", "real", "generated") if given.of == "all" else (given.of,):
            databases |= getattr(sources, kind)(folder / kind)
        if given.again:
            return _again(databases, *given.again)
        ways = tuple(History[each] for each in given.history) if given.history else WAYS
        outcome = play(
            databases,
            folder,
            count=given.count,
            seed=given.seed,
            kinds=given.kind or sorted(INJURIES),
            ways=ways,
            told=lambda line: print(line, flush=True),
        )
    print("\n".join(outcome.lines()))
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
