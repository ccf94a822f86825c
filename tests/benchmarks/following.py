"""What following costs: the lag of a commit, the writer's waits and its speed, and processor time; beside Litestream.

`python -m tests.benchmarks.following --only lag` measures one of them. Whatever is compared takes turns on a fresh
database each time.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import writer
from tests.benchmarks.arrivals import Arrivals
from tests.benchmarks.followers import Litestream, Nothing, Pagewarden

Row = tuple[str, str]
"""A line of the table: what, and the figure."""

STEADY = 500.0  # commits a second
BUSY = 2000.0
LAG_BARS = (0.050, 0.250)  # seconds: median, 99th percentile
LATENCY_BARS = (1.10, 0.001)  # of what it is without anything; seconds
KEPT_BAR = 3.0  # times what is kept under Litestream

Kind = type[Nothing] | type[Pagewarden] | type[Litestream]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One writer beside one follower."""

    written: writer.Written
    cpu: float  # seconds of processor time of the follower, until all was stored


def turn(kind: Kind, folder: Path, *, seconds: float, rate: float) -> Turn:
    """Write to a fresh database, followed in this way."""
    database = folder / "written.db"
    for left in folder.glob("*written.db*"):
        _remove(left)
    writer.make(database)
    with kind(database, folder / kind.name) as follower:
        before = follower.cpu()
        written = writer.write(database, folder / "report", seconds=seconds, rate=rate)
        follower.settle()
        cpu = follower.cpu() - before
    return Turn(written=written, cpu=cpu)


def lag(folder: Path, *, seconds: float, rate: float = STEADY) -> list[Row]:
    """Measure how long after its COMMIT returned a commit was durable in a directory, to be restored by its txid."""
    database = folder / "lag.db"
    for left in folder.glob("*lag.db*"):
        _remove(left)
    writer.make(database)
    with Pagewarden(database, folder / "lag") as guard:
        first = guard.sync()
        manifests = guard.repository / database.name / "manifests"
        with Arrivals(manifests) as arrivals:
            before = guard.cpu()
            written = writer.write(database, folder / "report", seconds=seconds, rate=rate)
            last = guard.sync()
            cpu = guard.cpu() - before
            time.sleep(0.2)
    assert last - first == written.commits, f"{written.commits} commits moved the txid from {first} to {last}"
    took = []
    for number, end in enumerate(written.ends, start=1):
        at = arrivals.durable(first + number)
        assert at is not None, f"commit {number} never came"
        took.append((at - end) / 1e9)
    took.sort()
    bars = f"bars: {LAG_BARS[0] * 1000:.0f} and {LAG_BARS[1] * 1000:.0f}"
    text = (
        f"{_ms(took, 0.5)} ms in the middle, {_ms(took, 0.99)} ms at 99 %, {took[-1] * 1000:.0f} ms at most ({bars}; "
        f"{written.commits:,} commits in {len(arrivals.seen):,} batches, {cpu / seconds:.0%} of a core)"
    )
    return [(f"lag of a commit until it is durable, {rate:,.0f} commits/s", text)]


def latency(folder: Path, *, seconds: float, rounds: int, rate: float = BUSY) -> list[Row]:
    """Measure what following adds to the time that a commit takes."""
    kinds: Sequence[Kind] = (Nothing, Pagewarden, Litestream)
    turns = _in_turns(kinds, rounds, lambda kind: turn(kind, folder, seconds=seconds, rate=rate))
    alone = [each.written.latency(0.99) for each in turns[Nothing]]
    lines = []
    for kind in kinds[1:]:
        beside = [each.written.latency(0.99) for each in turns[kind]]
        added = statistics.median(b - a for a, b in zip(alone, beside, strict=True))
        ratio = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
        kept = statistics.median(each.written.per_second for each in turns[kind])
        cpu = statistics.median(each.cpu / each.written.commits * 1000 for each in turns[kind])
        bar = f"bar: {LATENCY_BARS[0] - 1:.0%} or {LATENCY_BARS[1] * 1000:.0f} ms" if kind is Pagewarden else "the peer"
        text = (
            f"{added * 1000:+.3f} ms, {ratio - 1:+.0%} ({bar}; ms: {_list(alone, 1000)} alone, "
            f"{_list(beside, 1000)} beside; {kept:,.0f} commits/s, {cpu:.2f} s of a core for 1,000 commits)"
        )
        lines.append((f"p99 of a commit at {rate:,.0f} commits/s beside {kind.name}", text))
    return lines


def speed(folder: Path, *, seconds: float, rounds: int) -> list[Row]:
    """Measure how many commits a writer at full speed keeps."""
    kinds: Sequence[Kind] = (Nothing, Pagewarden, Litestream)
    turns = _in_turns(kinds, rounds, lambda kind: turn(kind, folder, seconds=seconds, rate=0.0))
    rates = {kind: [each.written.per_second for each in turns[kind]] for kind in kinds}
    lines = []
    for kind in kinds:
        of_alone = statistics.median(b / a for a, b in zip(rates[Nothing], rates[kind], strict=True))
        cpu = statistics.median(each.cpu / each.written.commits * 1e6 for each in turns[kind])
        middle = statistics.median(rates[kind])
        text = f"{middle:,.0f} commits/s, {of_alone:.0%} of alone ({_list(rates[kind], 1)}; {cpu:.0f} µs CPU a commit)"
        lines.append((f"writer at full speed beside {kind.name}", text))
    ratio = statistics.median(a / b for a, b in zip(rates[Pagewarden], rates[Litestream], strict=True))
    lines.append(("commits/s kept, times those under Litestream", f"{ratio:.2f} (bar: {KEPT_BAR:.0f})"))
    return lines


def idle(folder: Path, *, seconds: float) -> list[Row]:
    """Measure what following costs while nobody writes."""
    lines = []
    for kind in (Pagewarden, Litestream):
        database = folder / "idle.db"
        for left in folder.glob("*idle.db*"):
            _remove(left)
        writer.make(database)
        writer.write(database, folder / "report", seconds=5.0, commits=2000)
        with kind(database, folder / "idle") as follower:
            time.sleep(3.0)
            before = follower.cpu()
            time.sleep(seconds)
            share = (follower.cpu() - before) / seconds
        lines.append((f"processor time of an idle {kind.name}", f"{share:.2%} of a core over {seconds:.0f} s"))
    return lines


def rows(folder: Path, rounds: int, only: str | None = None) -> list[Row]:
    """Measure all of it, or `only` one."""
    parts: dict[str, Callable[[], list[Row]]] = {
        "lag": lambda: lag(folder, seconds=20.0),
        "latency": lambda: latency(folder, seconds=8.0, rounds=rounds),
        "speed": lambda: speed(folder, seconds=8.0, rounds=rounds),
        "idle": lambda: idle(folder, seconds=30.0),
    }
    return [line for name, part in parts.items() if only in (None, name) for line in part()]


def _in_turns(kinds: Sequence[Kind], rounds: int, one: Callable[[Kind], Turn]) -> dict[Kind, list[Turn]]:
    turns: dict[Kind, list[Turn]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            turns[kind].append(one(kind))
    return turns


def _ms(took: list[float], share: float) -> str:
    return f"{took[min(len(took) - 1, int(len(took) * share))] * 1000:.0f}"


def _list(values: Sequence[float], times: float) -> str:
    return " ".join(f"{value * times:,.3f}" if times > 1 else f"{value:,.0f}" for value in values)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["lag", "latency", "speed", "idle"])
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pagewarden-following-") as scratch:
        for name, figure in rows(Path(scratch).resolve(), chosen.rounds, chosen.only):
            print(f"{name}: {figure}", flush=True)


if __name__ == "__main__":
    main()
