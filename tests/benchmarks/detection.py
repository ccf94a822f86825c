"""What finds which damage: SQLite's own checks and `pagewarden check` at each level, over the same seeded injuries.

`nox -s detection -- --seeds 5` prints one Markdown table, the one of docs/checking.md: for each kind of injury how many
there were, and what part of them each way of checking found. An injury counts as found where the verdict is `damaged`
or where the file is refused by name; `unknown` does not count. Every way gets a fresh copy, because opening a database
with a -wal changes it. The last row has no injury: what is found there is a false alarm.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pagewarden.check import CheckRequest, run_check
from pagewarden.errors import PagewardenError
from pagewarden.live import snapshot_commit
from pagewarden.repository import PageSetHeader
from pagewarden.runtime import Runtime
from pagewarden.testing import INJURIES
from pagewarden.values import Level, Verdict
from tests.support.injuring import SHAPES, Shape, copy, injure, make

NONE = "no injury"
SHAPES_USED = ("plain", "small-pages", "vacuumed", "large-pages", "with-wal")
"""Neither those without a table nor those of one row: nothing can be found in what holds nothing."""

Way = Callable[[Path, Path], bool]
"""Whether damage is found in a copy, which may be changed; the second path is the snapshot of what it was."""


@dataclass(slots=True)
class Tally:
    """What became of the injuries of one kind."""

    count: int = 0
    found: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def by_sqlite(pragma: str) -> Way:
    """Return the judgement of a check of SQLite's own; a refusal to open or to read counts."""

    def judge(database: Path, _: Path) -> bool:
        try:
            with closing(sqlite3.connect(database)) as connection:
                connection.text_factory = bytes  # names of tables may be damaged, too
                return connection.execute(f"PRAGMA {pragma}").fetchall() != [(b"ok",)]
        except (sqlite3.DatabaseError, UnicodeDecodeError):  # Python cannot read an error that quotes damaged bytes
            return True

    return judge


def by_pagewarden(runtime: Runtime, level: Level, *, compare: bool) -> Way:
    """Return the judgement of a check at a level; a refusal by name counts."""

    def judge(database: Path, baseline: Path) -> bool:
        request = CheckRequest(database=str(database), level=level, baseline=str(baseline) if compare else None)
        try:
            return run_check(request, runtime).verdict is Verdict.DAMAGED
        except PagewardenError:
            return True

    return judge


def ways_of(runtime: Runtime) -> dict[str, Way]:
    """Return the columns of the table."""
    ways: dict[str, Way] = {name: by_sqlite(name) for name in ("quick_check", "integrity_check")}
    for compare in (False, True):
        for level in Level:
            name = f"{level} + baseline" if compare else str(level)
            ways[name] = by_pagewarden(runtime, level, compare=compare)
    return ways


def take_baseline(runtime: Runtime, database: Path, folder: Path) -> Path:
    """Take a snapshot of a database, with its -wal if it has one, from a copy."""
    source, to = copy(database, folder / "source.db"), folder / "baseline.pageset"
    with closing(sqlite3.connect(source)) as connection:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    source = copy(database, source)
    header = PageSetHeader(
        page_size=page_size, pages=0, pages_per_frame=64, timeline="0d" * 16, txid=1, time=datetime.now(UTC)
    )
    snapshot_commit(str(source), runtime.reader, to, header, 1)
    return to


def injured(database: Path, older: Path, to: Path, kinds: Sequence[str], seeds: range) -> Iterator[tuple[str, int]]:
    """Yield (kind, seed) with the injury done at `to`; what this database offers no target for is left out."""
    for kind in kinds:
        for seed in seeds:
            copy(database, to)
            if kind == NONE or injure(to, kind, seed, older) is not None:
                yield kind, seed


def measure(
    runtime: Runtime,
    shape: Shape,
    kinds: Sequence[str],
    seeds: range,
    tallies: dict[str, Tally],
    told: Callable[[], None],
) -> None:
    """Injure one database in every way, let everybody judge, and count."""
    ways = ways_of(runtime)
    with tempfile.TemporaryDirectory(prefix="pagewarden-detection-") as name:
        folder = Path(name)
        database, older = make(folder, shape)
        baseline = take_baseline(runtime, database, folder)
        hurt = folder / "injured.db"
        for kind, _ in injured(database, older, hurt, kinds, seeds):
            tally = tallies[kind]
            tally.count += 1
            for column, way in ways.items():
                room = folder / "judged"
                room.mkdir()
                tally.found[column] += way(copy(hurt, room / "app.db"), baseline)
                shutil.rmtree(room)
            told()


def table(tallies: dict[str, Tally], kinds: Sequence[str], columns: Sequence[str]) -> str:
    """Return the Markdown table."""
    head = ["injury", "n", *columns]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    every = Tally()
    for kind in kinds:
        tally = tallies[kind]
        if not tally.count:
            continue
        if kind != NONE:
            every.count += tally.count
            for column in columns:
                every.found[column] += tally.found[column]
        lines.append(_row(f"`{kind}`" if kind != NONE else kind, tally, columns))
    lines.insert(len(lines) - (1 if tallies[NONE].count else 0), _row("**all**", every, columns))
    return "\n".join(lines)


def _row(name: str, tally: Tally, columns: Sequence[str]) -> str:
    shares = (f"{100 * tally.found[column] / tally.count:.0f} %" if tally.count else "–" for column in columns)
    return f"| {name} | {tally.count} | {' | '.join(shares)} |"


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="injuries of each kind in each database (%(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them (%(default)s)")
    parser.add_argument("--kind", action="append", choices=INJURIES, help="only this kind; may be repeated")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="only this database; may be repeated")
    chosen = parser.parse_args(words)
    kinds = [*(chosen.kind or INJURIES), NONE]
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    shapes = chosen.shape or SHAPES_USED
    tallies: dict[str, Tally] = defaultdict(Tally)
    began = time.monotonic()

    def told() -> None:
        done = sum(tally.count for tally in tallies.values())
        print(f"\r{done} injuries, {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="pagewarden-state-") as state, Runtime(state=Path(state)) as runtime:
        for checker in runtime.extensions.checkers:
            checker.in_process = True  # type: ignore[attr-defined]  # a process for each would take most of the time
        for shape in shapes:
            measure(runtime, SHAPES[shape], kinds, seeds, tallies, told)
        columns = list(ways_of(runtime))
    print(file=sys.stderr)
    print(table(tallies, kinds, columns))
    print(
        f"\nSQLite {sqlite3.sqlite_version}; databases: {', '.join(shapes)}; seeds {seeds.start} to {seeds.stop - 1}."
    )


if __name__ == "__main__":
    main()
