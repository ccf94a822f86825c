"""Measure Pagewarden beside its peers, paired in one run, and print one table.

`nox -s benchmarks -- --size-mib 1024 --rounds 5`. Competitors take turns (A B A B …) on a warm file; what counts is
the median of the ratios of a round, because the absolute times of a shared machine drift. The database comes from
make_db.py in the folder that PAGEWARDEN_BENCH names, default ../shared/bench, and is kept in --folder between runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks import chains, checks, following, increments, litestream, points, presets, proofs, repairs, waits
from tests.benchmarks.memory import TreePeak

PARTS = ("checks", "copies", "increments", "chains", "following", "litestream", "presets", "repairs")
CLI = (sys.executable, "-P", "-m", "pagewarden_cli")


@dataclass(slots=True, kw_only=True)
class Pairing:
    """One measurement of ours beside a peer's."""

    name: str
    peer: str
    bar: float | None  # the ratio of medians that is aimed at; None: no bar
    ours: list[float] = field(default_factory=list)  # seconds
    theirs: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median of the rounds' ratios."""
        return statistics.median(a / b for a, b in zip(self.ours, self.theirs, strict=True))


def timed(*words: str | Path) -> float:
    """Run a peer's command; return its wall-clock seconds."""
    began = time.perf_counter()
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def pagewarden(*words: str | Path) -> dict[str, Any]:
    """Run the command line with --json; return its document."""
    done = subprocess.run([*CLI, *map(str, words), "--json"], check=True, capture_output=True, text=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def warm(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


class Bench:
    """The database, the folder to work in, and the rounds."""

    def __init__(self, database: Path, in_wal_mode: Path, folder: Path, rounds: int) -> None:
        self.database = database
        self.in_wal_mode = in_wal_mode  # the same, but for its journal mode
        self.folder = folder
        self.rounds = rounds
        self.repository = folder / "repository"
        self.notes: list[tuple[str, str]] = []

    def pair(self, pairing: Pairing, ours: Callable[[], float], theirs: Callable[[], float]) -> Pairing:
        """Take turns, one round to warm up and then `rounds` that count."""
        for number in range(self.rounds + 1):
            for path in (self.database, self.in_wal_mode, *self.stored()):
                warm(path)
            a, b = ours(), theirs()
            if number:
                pairing.ours.append(a)
                pairing.theirs.append(b)
        print(f"{pairing.name}: {pairing.ratio:.2f} of {pairing.peer}", file=sys.stderr)
        return pairing

    def fresh_repository(self) -> None:
        """Forget earlier backups."""
        shutil.rmtree(self.repository, ignore_errors=True)

    def stored(self) -> list[Path]:
        """Return what both sides have stored, as far as they have."""
        return [*self.repository.rglob("*.pageset.zst"), *self.folder.glob("peer.zst")]

    def backup(self, database: Path, *more: str) -> float:
        """Take one full backup into a fresh repository; return `seconds` as --json gives it."""
        self.fresh_repository()
        return float(pagewarden("backup", database, "--repo", self.repository, *more)["seconds"])

    def restore(self) -> float:
        """Restore the newest backup; return `seconds`."""
        out = self.folder / "restored.db"
        out.unlink(missing_ok=True)
        return float(pagewarden("restore", "--repo", self.repository, "--to", out)["seconds"])

    def compress(self, *, durable: bool) -> float:
        """Compress the closed file with the zstd program."""
        out = self.folder / "peer.zst"
        out.unlink(missing_ok=True)
        seconds = timed("zstd", "-1", "-T2", "-q", "-f", self.database, "-o", out)
        return seconds + (timed("sync", out) if durable else 0.0)

    def decompress(self) -> float:
        """Decompress the peer's file with the zstd program and make it durable."""
        out = self.folder / "peer.db"
        out.unlink(missing_ok=True)
        return timed("zstd", "-d", "-q", "-f", self.folder / "peer.zst", "-o", out) + timed("sync", out)


def page_sums(database: Path) -> Callable[[], float]:
    """Return a function that scans all page sums in a warm page reader and returns the seconds."""
    from pagewarden.processes.reader import PageReader

    reader = PageReader(threads=2)

    def scan() -> float:
        attachment = reader.attach(str(database))
        began = time.perf_counter()
        for _first, _sums in reader.all_sums(attachment):
            pass
        seconds = time.perf_counter() - began
        reader.detach(attachment.handle)
        return seconds

    return scan


def startup(bench: Bench, mode: str) -> list[float]:
    """Return wall-clock seconds of `pagewarden check` on a database of 1 MiB, from process start to exit."""
    small = bench.folder / f"small-{mode}.db"
    chance = random.Random(1)
    with closing(sqlite3.connect(small)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, body TEXT)")
        connection.execute("CREATE INDEX item_name ON item(name)")
        # make_db.py makes none so small.
        while connection.execute("PRAGMA page_count").fetchone()[0] < (1 << 20) // 4096:
            body = f"{chance.randrange(10**9)} " * chance.randrange(1, 30)
            connection.execute("INSERT INTO item(name, body) VALUES(?, ?)", (f"name {chance.randrange(10**6)}", body))
        connection.commit()
    seconds = []
    for number in range(max(11, bench.rounds) + 1):
        elapsed = timed(Path(sys.executable).with_name("pagewarden"), "check", small)
        if number:
            seconds.append(elapsed)
    return seconds


def make_database(path: Path, mebibytes: int) -> None:
    """Make a database with make_db.py unless it is there."""
    if path.exists():
        return
    maker = Path(os.environ.get("PAGEWARDEN_BENCH", "../shared/bench")) / "make_db.py"
    subprocess.run(
        [sys.executable, maker, path, "--size-mib", str(mebibytes), "--seed", "1"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def peak(words: tuple[str | Path, ...]) -> str:
    """Return the peak of resident memory, of the command and its children together, in MB."""
    process = subprocess.Popen([*CLI, *map(str, words), "--json"], stdout=subprocess.DEVNULL)
    with TreePeak(process.pid) as tree:
        code = process.wait()
    if code:
        raise SystemExit(f"{words} ended with {code}")
    return f"{tree.bytes / 1e6:.0f} MB"


def measure_checks(bench: Bench, large: Path | None) -> list[Pairing]:
    """Run the pairings and notes of the integrity engine; `large` is a database four times as large."""
    baseline = checks.take_baseline(bench.database, bench.repository)
    pairings = [
        bench.pair(
            Pairing(name="check-structure, from process start", peer="the shell's quick_check", bar=0.5),
            checks.structure(bench.database),
            lambda: checks.quick_check(bench.database),
        ),
        bench.pair(
            Pairing(name="check-structure, WAL mode", peer="the shell's quick_check", bar=0.5),
            checks.structure(bench.in_wal_mode),
            lambda: checks.quick_check(bench.in_wal_mode),
        ),
        bench.pair(
            Pairing(name="check --level quick --baseline", peer="xxhsum -H64", bar=1.3),
            checks.quick(bench.database, baseline),
            lambda: timed("xxhsum", "-H64", bench.database),
        ),
    ]
    bench.notes.append(("peak memory of a check", f"{checks.peak(bench.in_wal_mode):.0f} MB"))
    standard = [checks.whole(bench.in_wal_mode) for _ in range(3)]
    bench.notes.append(("check at level standard, WAL mode", f"{spread(standard)} s"))
    if large is not None:
        warm(large)
        ours = checks.structure(large)
        seconds = [ours() for _ in range(3)]
        growth = statistics.median(seconds) / statistics.median(pairings[0].ours)
        size = large.stat().st_size / bench.database.stat().st_size
        bench.notes.append((f"check-structure of {size:.1f} times the size", f"{growth:.2f} times the time"))
        bench.notes.append(("peak memory of it", f"{checks.peak(large, '--only', 'check-structure'):.0f} MB"))
    if checks.spare_core():
        copy = bench.folder / "written.db"
        shutil.copyfile(bench.in_wal_mode, copy)
        seen = checks.throughput(copy, seconds=10.0, rounds=bench.rounds)
        text = f"{seen.loss:.1%} ({spread(list(seen.without))} commits/s alone, {spread(list(seen.beside))} beside"
        bench.notes.append(("commits that a writer loses beside checks", f"{text} {seen.checks} checks)"))
    return pairings


def measure_copies(bench: Bench) -> list[Pairing]:
    """Run the pairings and notes of backup and restore, and of a check's start."""
    pairings = [
        bench.pair(
            Pairing(name="page sums of the whole database", peer="xxhsum -H64", bar=1.0),
            page_sums(bench.database),
            lambda: timed("xxhsum", "-H64", bench.database),
        ),
        bench.pair(
            Pairing(name="hot backup, read back, WAL mode", peer="zstd -1 -T2", bar=1.0),
            lambda: bench.backup(bench.in_wal_mode, "--check", "none"),
            lambda: bench.compress(durable=False),
        ),
        bench.pair(
            Pairing(name="hot backup, read back, WAL mode", peer="zstd -1 -T2 + fsync", bar=1.0),
            lambda: bench.backup(bench.in_wal_mode, "--check", "none"),
            lambda: bench.compress(durable=True),
        ),
        bench.pair(
            Pairing(name="hot backup, read back, rollback journal", peer="zstd -1 -T2", bar=1.0),
            lambda: bench.backup(bench.database, "--check", "none"),
            lambda: bench.compress(durable=False),
        ),
        bench.pair(
            Pairing(name="the same, its source judged (the default)", peer="zstd -1 -T2", bar=1.0),
            lambda: bench.backup(bench.database),
            lambda: bench.compress(durable=False),
        ),
        bench.pair(
            Pairing(name="restore, verified, fsync", peer="zstd -d + fsync", bar=0.6), bench.restore, bench.decompress
        ),
    ]
    pairings.append(proving(bench, "a snapshot"))
    bench.notes.append(("peak memory of a backup", peak(("backup", bench.database, "--repo", bench.repository))))
    out = bench.folder / "restored.db"
    out.unlink(missing_ok=True)
    bench.notes.append(("peak memory of a restore", peak(("restore", "--repo", bench.repository, "--to", out))))
    ours, *_, theirs = (path.stat().st_size for path in bench.stored())
    bench.notes.append(("stored bytes / zstd -1", f"{ours / theirs:.3f}"))
    for mode in ("wal", "delete"):
        seconds = startup(bench, mode)
        low, high = min(seconds), max(seconds)
        text = f"{statistics.median(seconds):.3f} s [{low:.3f} {high:.3f}]"
        bench.notes.append((f"check of 1 MiB, {mode} mode, from process start", text))
    bench.notes += points.rows(10_000, min(3, bench.rounds))
    bench.notes += waits.rows(seconds=15.0, rounds=min(3, bench.rounds))
    return pairings


def measure_increments(bench: Bench) -> list[Pairing]:
    """Run the pairings of backups of what changed, each mode with a repository of its own."""
    pairings = []
    for mode, database in (("WAL mode", bench.in_wal_mode), ("rollback journal", bench.database)):
        folder = bench.folder / mode.split()[0]
        folder.mkdir()
        changing, kept = increments.copies(database, folder)
        chance = random.Random(1)
        changed: list[int] = []
        words = ("backup", changing, "--repo", folder / "repository")
        pagewarden(*words)

        def incremental(
            words: tuple[str | Path, ...] = words, changing: Path = changing, changed: list[int] = changed
        ) -> float:
            changed.append(increments.change(changing, chance))  # noqa: B023 - called within this turn
            report = pagewarden(*words)
            assert report["kind"] == "segment", report
            return float(report["seconds"])

        def unchanged(words: tuple[str | Path, ...] = words) -> float:
            report = pagewarden(*words)
            assert report["kind"] == "unchanged", report
            return float(report["seconds"])

        def rsync(changing: Path = changing, kept: Path = kept) -> float:
            return timed("rsync", "--inplace", "--no-whole-file", changing, kept)

        def xxhsum(changing: Path = changing) -> float:
            warm(changing)
            return timed("xxhsum", "-H64", changing)

        name = f"backup of 1 % changed pages, {mode}"
        pairings.append(bench.pair(Pairing(name=name, peer="rsync --inplace", bar=0.25), incremental, rsync))
        name = f"backup of nothing changed, {mode}"
        pairings.append(bench.pair(Pairing(name=name, peer="xxhsum -H64", bar=1.3), unchanged, xxhsum))
        pages = changing.stat().st_size // 4096
        share = statistics.median(changed) / pages
        bench.notes.append((f"pages changed each time, {mode}", f"{share:.2%}"))
        increments.change(changing, chance)
        bench.notes.append((f"peak memory of such a backup, {mode}", peak(words)))
    return pairings


def proving(bench: Bench, what: str) -> Pairing:
    """Pair the proof of every page in the repository with the decompression of the same objects."""
    return bench.pair(
        Pairing(name=f"verify --read-data, {what}", peer="zstd -d, two at a time", bar=proofs.BAR),
        lambda: proofs.verify(bench.repository),
        lambda: proofs.decompress(bench.repository),
    )


def measure_chains(bench: Bench) -> list[Pairing]:
    """Run the pairings of restores that many segments are part of."""
    pairings = []
    out = bench.folder / "restored.db"

    def restore(*which: str) -> float:
        out.unlink(missing_ok=True)
        return float(pagewarden("restore", "--repo", bench.repository, "--to", out, *which)["seconds"])

    for where, hot in (("anywhere", 0.0), (f"nine in ten in {chains.HOT:.0%} of it", chains.HOT)):
        bench.fresh_repository()
        pagewarden("backup", bench.database, "--repo", bench.repository, "--check", "none")
        chains.add_segments(bench.repository, bench.database, hot=hot)
        name = f"restore with {chains.SEGMENTS:,} segments of {chains.PAGES} pages, {where}"
        pairings.append(
            bench.pair(Pairing(name=name, peer="the snapshot alone", bar=1.5), restore, lambda: restore("--txid", "1"))
        )
        pairings.append(proving(bench, f"{chains.SEGMENTS:,} segments besides, {where}"))
        out.unlink(missing_ok=True)
        bench.notes.append((f"peak memory of it, {where}", peak(("restore", "--repo", bench.repository, "--to", out))))
    return pairings


def machine() -> str:
    """Describe the machine in a line."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def spread(seconds: list[float]) -> str:
    """Return median, lowest and highest."""
    return f"{statistics.median(seconds):.2f} [{min(seconds):.2f} {max(seconds):.2f}]"


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keeps the databases between runs")
    parser.add_argument("--part", choices=[*PARTS], help="measure only these")
    parser.add_argument("--large", action="store_true", help="measure checks of four times the size, too")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pagewarden-benchmarks-") as scratch:
        folder = (chosen.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        database = folder / f"bench-{chosen.size_mib}.db"
        make_database(database, chosen.size_mib)
        in_wal_mode = folder / f"bench-{chosen.size_mib}-wal.db"
        if not in_wal_mode.exists():
            shutil.copyfile(database, in_wal_mode)
            with closing(sqlite3.connect(in_wal_mode)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        bench = Bench(database, in_wal_mode, Path(scratch), chosen.rounds)
        large = folder / f"bench-{chosen.size_mib * 4}.db" if chosen.large else None
        if large is not None:
            make_database(large, chosen.size_mib * 4)
        pairings = measure_checks(bench, large) if chosen.part in (None, "checks") else []
        pairings += measure_copies(bench) if chosen.part in (None, "copies") else []
        pairings += measure_increments(bench) if chosen.part in (None, "increments") else []
        pairings += measure_chains(bench) if chosen.part in (None, "chains") else []
        if chosen.part in (None, "following"):
            bench.notes += following.rows(bench.folder, bench.rounds)
        if chosen.part in (None, "litestream"):
            bench.notes += litestream.rows(bench.in_wal_mode, bench.folder / "histories", min(3, bench.rounds))
        if chosen.part in (None, "presets"):
            bench.notes += presets.rows(bench.folder, seconds=3.0, rounds=bench.rounds)
        if chosen.part in (None, "repairs"):
            bench.notes += repairs.rows(bench.database, bench.folder, bench.rounds)
    table = Table(title=f"{chosen.size_mib} MiB, warm, 2 threads, {chosen.rounds} rounds: median [lowest highest]")
    for column in ("what", "seconds", "peer", "seconds", "ratio", "bar"):
        table.add_column(column)
    for pairing in pairings:
        bar = f"≤ {pairing.bar}" if pairing.bar is not None else ""
        table.add_row(
            pairing.name, spread(pairing.ours), pairing.peer, spread(pairing.theirs), f"{pairing.ratio:.2f}", bar
        )
    console = Console(width=140)
    if pairings:
        console.print(table)
    for name, value in bench.notes:
        console.print(f"{name}: {value}", highlight=False)
    console.print(machine(), highlight=False)


if __name__ == "__main__":
    main()
