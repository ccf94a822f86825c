"""Restoring a point of a long history, beside `litestream restore` of the same one.

A large database of make_db.py is followed by each in turn while the same seeded writer commits 10,000 times.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import writer
from tests.benchmarks.followers import Litestream, Pagewarden

COMMITS = 10_000
RATE = 500.0
BAR = 0.25
"""Of the peer's time."""


@dataclass(slots=True, kw_only=True)
class Histories:
    """One history, as each of both has stored it."""

    ours: Pagewarden
    theirs: Litestream
    first: int  # our txid before the first of the commits
    middle: str  # when three quarters of the commits were done, for the peer
    bytes: dict[str, int] = field(default_factory=dict)  # that each has stored


def follow(database: Path, folder: Path, *, commits: int = COMMITS) -> Histories:
    """Let both follow a copy of `database` in turn, with the same commits."""
    ours, first = _ours(database, folder / "ours", commits)
    theirs, middle = _theirs(database, folder / "theirs", commits)
    stored = {one.name: _bytes(root) for one, root in ((ours, ours.repository), (theirs, theirs.replica))}
    return Histories(ours=ours, theirs=theirs, first=first, middle=middle, bytes=stored)


def _ours(database: Path, folder: Path, commits: int) -> tuple[Pagewarden, int]:
    copy = _copied(database, folder)
    with Pagewarden(copy, folder / "stored") as guard:
        first = guard.sync()
        writer.write(copy, folder / "report", rate=RATE, commits=commits, kind="change")
        assert guard.sync() == first + commits
    return guard, first


def _theirs(database: Path, folder: Path, commits: int) -> tuple[Litestream, str]:
    copy = _copied(database, folder)
    with Litestream(copy, folder / "stored") as peer:
        written = writer.write(copy, folder / "report", rate=RATE, commits=commits, kind="change")
        ago = (time.monotonic_ns() - written.ends[commits * 3 // 4]) / 1e9
        middle = datetime.fromtimestamp(time.time() - ago, UTC)
        peer.settle()
    return peer, middle.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def restores(histories: Histories, folder: Path, rounds: int, *, commits: int = COMMITS) -> list[tuple[str, str]]:
    """Restore the newest point and one amid the history, in turns; return lines with the ratios."""
    out, lines = folder / "restored.db", []
    amid = histories.first + commits * 3 // 4
    for what, which, theirs in (
        ("the newest point", (), ()),
        (f"commit {commits * 3 // 4:,}", ("--txid", str(amid)), ("-timestamp", histories.middle)),
    ):
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for number in range(rounds + 1):
            began = time.perf_counter()
            histories.ours.restore(out, *which)
            mine = time.perf_counter() - began
            peer = histories.theirs.restore(out, *theirs)
            if number:
                seconds["ours"].append(mine)
                seconds["theirs"].append(peer)
        ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["theirs"], strict=True))
        text = f"{ratio:.2f} (bar: {BAR}; seconds: {_list(seconds['ours'])}, the peer {_list(seconds['theirs'])})"
        lines.append((f"restore of {what} of {commits:,}, from process start, by litestream restore", text))
    stored = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in histories.bytes.items())
    lines.append(("stored of that history", stored))
    return lines


def rows(database: Path, folder: Path, rounds: int) -> list[tuple[str, str]]:
    """Measure on a database of make_db.py in WAL mode."""
    return restores(follow(database, folder), folder, rounds)


def _copied(database: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    return Path(shutil.copyfile(database, folder / "app.db"))


def _bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _list(seconds: list[float]) -> str:
    return " ".join(f"{each:.2f}" for each in seconds)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", type=Path, help="of make_db.py, in WAL mode")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pagewarden-history-") as scratch:
        for name, figure in rows(chosen.database, Path(scratch).resolve(), chosen.rounds):
            print(f"{name}: {figure}", flush=True)


if __name__ == "__main__":
    main()
