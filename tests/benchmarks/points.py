"""Many restore points in a directory: how long what looks at all of them takes, from process start.

`python -m tests.benchmarks.points --points 10000 [--folder DIR]`. The repository is made here, byte by byte: a real
backup waits for the disk several times, and 10,000 of them take longer than all that is measured. A snapshot is taken
each day, segments between, so that chains have 48 objects.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pagewarden.repository import keys
from pagewarden.repository.format import Kind, PageSetHeader
from pagewarden.repository.manifest import Manifest, SourceFacts, encode_document, encode_manifest
from pagewarden.repository.repository import Marker
from pagewarden.values import Position, SourceVerdict, Verdict
from tests.support.segments import page_set, sum_of

PAGE_SIZE = 512
PAGES = 8
EVERY = timedelta(minutes=30)
"""From one restore point to the next."""

A_DAY = 48
"""Restore points to a snapshot."""

BAR = 1.0  # seconds

_PROGRAM = Path(sys.executable).with_name("pagewarden")


def make_points(root: Path, points: int, *, database: str = "app.db", seed: int = 1) -> None:
    """Make a repository with `points` restore points of one small database in the folder `root`; the newest is new."""
    chance = random.Random(seed)
    source = SourceVerdict(verdict=Verdict.SOUND, level="quick")
    facts = SourceFacts(
        path=f"/srv/{database}",
        host="benchmark",
        change_counter=7,
        schema_cookie=2,
        journal_mode="wal",
        wal_salts="0123456789abcdef",
        wal_frames=12,
        sqlite_version="3.40.1",
    )
    _write(root / keys.MARKER, encode_document("repository", Marker()))
    for number, (header, data, database_sum) in enumerate(_page_sets(chance, points), start=1):
        position = Position(timeline=header.timeline, txid=header.txid, time=header.time)
        before = Position(timeline=header.timeline, txid=header.txid - 1, time=header.time - EVERY)
        nonce = chance.randbytes(8).hex()
        key = keys.object_key(keys.ObjectKey(name=database, timeline=header.timeline, txid=header.txid, nonce=nonce))
        _write(root / key, data)
        manifest = Manifest(
            database=database,
            kind=header.kind.name.lower(),
            sequence=number,
            position=position,
            parent=before if number > 1 else None,
            key=key,
            bytes=len(data),
            sha256=data[-40:-8].hex(),
            page_size=PAGE_SIZE,
            pages=PAGES,
            database_sum=f"{database_sum:016x}",
            compression=1,
            source=source,
            facts=facts,
            verified_at=position.time,
            created_by="pagewarden benchmark",
        )
        _write(root / keys.manifest_key(database, number), encode_manifest(manifest))


def _page_sets(chance: random.Random, count: int) -> Iterator[tuple[PageSetHeader, bytes, int]]:
    """Yield the page sets of a history, with the database sum after each."""
    timeline = chance.randbytes(16).hex()
    newest = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    pages = {pgno: chance.randbytes(100) + bytes(PAGE_SIZE - 100) for pgno in range(1, PAGES + 1)}
    total = 0
    for pgno, page in pages.items():
        total ^= sum_of(pgno, page)
    for txid in range(1, count + 1):
        snapshot = txid % A_DAY == 1
        header = PageSetHeader(
            kind=Kind.SNAPSHOT if snapshot else Kind.SEGMENT,
            page_size=PAGE_SIZE,
            pages=PAGES,
            pages_per_frame=PAGES,
            timeline=timeline,
            txid_from=0 if snapshot else txid - 1,
            txid=txid,
            time=newest - EVERY * (count - txid),
        )
        before, pgno = total, chance.randrange(1, PAGES + 1)
        page = chance.randbytes(100) + bytes(PAGE_SIZE - 100)
        total ^= sum_of(pgno, pages[pgno]) ^ sum_of(pgno, page)
        pages[pgno] = page
        held = pages if snapshot else {pgno: page}
        data = page_set(header, held, database_sum=total, database_sum_from=0 if snapshot else before)
        yield header, data, total


def _write(path: Path, data: bytes) -> None:
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, mode=0o700)
    path.write_bytes(data)


def timed(*words: str | Path) -> float:
    """Return wall-clock seconds of one command, from process start to exit."""
    began = time.perf_counter()
    subprocess.run([_PROGRAM, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure(root: Path, rounds: int) -> dict[str, list[float]]:
    """Return what each verb took over the repository at `root`, in turns, after one round to warm up."""
    out = root.with_name("restored.db")
    verbs = {
        "backups": ("backups", "--repo", root),
        "backups --json": ("backups", "--repo", root, "--json"),
        "restore --at --dry-run": ("restore", "--repo", root, "--to", out, "--at=-3d", "--dry-run"),
        "prune": ("prune", "--repo", root, "--keep-last", "100", "--keep-daily", "30"),
        "status": ("status", "--repo", root),
    }
    seconds: dict[str, list[float]] = {verb: [] for verb in verbs}
    for number in range(rounds + 1):
        for verb, words in verbs.items():
            took = timed(*words)
            if number:
                seconds[verb].append(took)
    return seconds


def rows(points: int, rounds: int) -> list[tuple[str, str]]:
    """Return names and figures for the table of all benchmarks."""
    with tempfile.TemporaryDirectory(prefix="pagewarden-points-") as folder:
        root = Path(folder) / "repository"
        make_points(root, points)
        return [
            (f"{verb}, {points:,} restore points, from process start", _spread(seconds))
            for verb, seconds in measure(root, rounds).items()
        ]


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} s [{min(seconds):.3f} {max(seconds):.3f}] (bar: {BAR:.0f} s)"


def main() -> None:
    """Make the repository unless it is there, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keeps the repository between runs")
    chosen = parser.parse_args()
    if chosen.folder is None:
        figures = rows(chosen.points, chosen.rounds)
    else:
        root = chosen.folder.resolve() / f"points-{chosen.points}"
        if not root.exists():
            make_points(root, chosen.points)
        figures = [(verb, _spread(seconds)) for verb, seconds in measure(root, chosen.rounds).items()]
    for name, figure in figures:
        print(f"{name}: {figure}")


if __name__ == "__main__":
    main()
