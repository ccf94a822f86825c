"""The main job on one live database: check, back up, verify, injure copies, find each injury, restore.

`nox -s demo` makes a database of about 64 MiB and keeps a writer committing to it; `nox -s demo -- path/to/app.db` uses
a database of yours, which is only read: a copy is what gets injured. The exit code is 0 only if everything held.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

HERE = Path(__file__).parent
MEBIBYTES = 64
INJURIES = {
    "flipped-bit": "one bit flipped in a text column",
    "lost-write": "a lost write: the page's own older version",
    "zeroed-page": "a page of zeros",
}


class Demo:
    """One run: what it did is printed as it goes, what it proved is kept for the table at the end."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.console = console
        self.folder = folder
        self.repository = folder / "repository"
        self.proofs: list[tuple[bool, str, str]] = []

    def pagewarden(self, *words: str | Path, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """Run the `pagewarden` command with --json and return its document; any exit code but `codes` ends the demo."""
        shown = " ".join(str(word).replace(f"{self.folder}/", "") for word in words)
        self.console.print(f"[dim]$ pagewarden {shown}[/dim]", highlight=False, soft_wrap=True)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pagewarden_cli", *map(str, words), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in codes:
            self.console.print(f"[red]exit code {done.returncode}[/red]\n{done.stdout}{done.stderr}", highlight=False)
            raise SystemExit(1)
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def prove(self, held: bool, claim: str, evidence: str) -> None:
        """Keep one claim with its evidence, and show it."""
        self.proofs.append((held, claim, evidence))
        mark = "[green]✓[/green]" if held else "[red]✗[/red]"
        self.console.print(f"  {mark} {claim}: {evidence}", highlight=False, soft_wrap=True)

    def heading(self, text: str) -> None:
        """Begin a part of the demo."""
        self.console.print(f"\n[bold]{text}[/bold]")


@contextmanager
def writing(database: Path) -> Iterator[None]:
    """Keep another process committing to `database`."""
    writer = subprocess.Popen(
        [sys.executable, HERE / "demo_database.py", "write", database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    try:
        yield
    finally:
        writer.communicate()


def make_database(demo: Demo) -> Path:
    """Make the demo's own database, in a process of its own."""
    database = demo.folder / "shop.db"
    began = time.monotonic()
    subprocess.run([sys.executable, HERE / "demo_database.py", "make", database, str(MEBIBYTES), "1"], check=True)
    demo.console.print(f"made {database.name}, {size(database)}, in {time.monotonic() - began:.1f} s", highlight=False)
    return database


def commits_of(database: Path) -> int:
    """Return how many transactions of the demo's writer a database holds."""
    connection = sqlite3.connect(database)
    try:
        (commits,) = connection.execute("SELECT commits FROM ledger").fetchone()
        return int(commits)
    finally:
        connection.close()


def commit_to_copy(database: Path) -> None:
    """Commit two transactions to a private copy, so that one of its pages has an older version."""
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE IF NOT EXISTS pagewarden_demo(id INTEGER PRIMARY KEY, note TEXT)")
    connection.executemany("INSERT INTO pagewarden_demo(note) VALUES(?)", [(f"note {n}",) for n in range(20)])
    connection.commit()
    connection.close()


def amend_copy(database: Path) -> None:
    """Commit once more to a private copy."""
    connection = sqlite3.connect(database)
    connection.execute("UPDATE pagewarden_demo SET note = note || ', amended'")
    connection.commit()
    connection.close()


def size(path: Path) -> str:
    """Return a file's size for people."""
    return f"{path.stat().st_size / 2**20:.1f} MiB"


def same_bytes(left: Path, right: Path) -> bool:
    """Return whether two private files hold the same bytes."""
    with left.open("rb") as one, right.open("rb") as other:
        while True:
            a, b = one.read(1 << 20), other.read(1 << 20)
            if a != b:
                return False
            if not a:
                return True


def stock_decompress(stored: Path, out: Path) -> str:
    """Decompress with the stock zstd program, or stock libzstd where there is no program; return which it was."""
    program = shutil.which("zstd")
    if program:
        subprocess.run([program, "-d", "-q", "-f", stored, "-o", out], check=True)
        return "the zstd program"
    import zstandard

    with stored.open("rb") as source, out.open("wb") as sink:
        reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
        shutil.copyfileobj(reader, sink, 1 << 20)
    return "libzstd (no zstd program is installed here)"


def sqlite_says(database: Path) -> str:
    """Return the first line of SQLite's own integrity_check of a private copy."""
    connection = sqlite3.connect(database)
    try:
        lines = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0]).splitlines()
        return next(line for line in lines if not line.startswith("***"))
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        connection.close()


def newest(demo: Demo, name: str) -> dict[str, Any]:
    """Return the newest restore point of a database."""
    document = demo.pagewarden("backups", "--repo", demo.repository, "--db", name)
    point: dict[str, Any] = document["backups"][-1]
    return point


def judge_and_back_up(demo: Demo, database: Path, *, own: bool) -> None:
    """Check the live database and take hot backups of it; the demo's own gets three, with commits in between.

    The second one holds only what changed. The last one is whole again: what follows compares with it as one file.
    """
    demo.heading("Check")
    report = demo.pagewarden("check", database, codes=(0, 1, 3))
    parts = ", ".join(f"{part['name']} {part['verdict']} {part['seconds']:.2f} s" for part in report["checkers"])
    demo.prove(report["verdict"] == "sound", "the database is sound", f"{report['pages']} pages; {parts}")
    demo.heading("Hot backup" + (", while a writer keeps committing" if own else ""))
    for words in ((), (), ("--full",)) if own else ((),):
        taken = demo.pagewarden("backup", database, "--repo", demo.repository, *words)
        share = taken["bytes_stored"] / max(1, taken["bytes_read"])
        demo.prove(
            taken["verified"],
            f"backup {taken['position']['txid']}, a {taken['kind']}, was read back and verified",
            f"{taken['pages_copied']} pages in {taken['seconds']:.2f} s, stored in {share:.0%} of the bytes",
        )
        if own:
            time.sleep(0.5)


def prepare_copies(demo: Demo, database: Path, *, own: bool) -> tuple[Path, Path, str]:
    """Return a restored copy, an older version of it, and the copy's name in the repository."""
    restored, older = demo.folder / "restored.db", demo.folder / "older.db"
    demo.heading("Restore")
    done = demo.pagewarden("restore", "--repo", demo.repository, "--db", database.name, "--to", restored)
    demo.prove(done["verified"], "restored and verified", f"{done['pages']} pages in {done['seconds']:.2f} s")
    prove_stock_zstd(demo, database.name, restored)
    if own:
        demo.pagewarden("restore", "--repo", demo.repository, "--db", database.name, "--txid", "1", "--to", older)
        before, after = commits_of(older), commits_of(restored)
        demo.prove(after > before, "each backup is one commit of its own", f"transactions {before} and {after}")
        return restored, older, database.name
    copy = demo.folder / "copy.db"
    shutil.copyfile(restored, copy)
    commit_to_copy(copy)
    demo.pagewarden("backup", copy, "--repo", demo.repository)
    shutil.copyfile(copy, older)
    amend_copy(copy)
    demo.pagewarden("backup", copy, "--repo", demo.repository, "--full")
    return copy, older, copy.name


def prove_stock_zstd(demo: Demo, name: str, restored: Path) -> None:
    """Decompress the newest snapshot without Pagewarden and compare."""
    plain = demo.folder / "plain.db"
    tool = stock_decompress(demo.repository / newest(demo, name)["key"], plain)
    demo.prove(same_bytes(plain, restored), "stock zstd gives the restored file, byte for byte", tool)
    plain.unlink()


def injure_and_find(demo: Demo, copy: Path, older: Path, name: str) -> Path:
    """Injure three copies, each in its own way; show that each is found and named. Return the last one."""
    demo.heading("Injure copies, find each injury")
    point = newest(demo, name)
    injured = copy
    for seed, (kind, words) in enumerate(INJURIES.items(), start=1):
        injured = demo.folder / kind / name
        injured.parent.mkdir()
        shutil.copyfile(copy, injured)
        Path(f"{injured}.pagewarden-copy").touch()
        more: list[str | Path] = ["--older", older] if kind == "lost-write" else []
        made = demo.pagewarden("injure", injured, "--kind", kind, "--seed", str(seed), *more)
        opinion = sqlite_says(injured)
        report = demo.pagewarden(
            "check", injured, "--baseline", demo.repository / point["key"], "--repo", demo.repository, codes=(1,)
        )
        found = [f for f in report["findings"] if f["kind"] == kind and f["pgno"] == made["pgno"]]
        message = found[0]["message"] if found else json.dumps(report["findings"])
        demo.prove(bool(found), f"{words} was found and named", message)
        demo.console.print(f"    SQLite's integrity_check says: {opinion}", highlight=False, soft_wrap=True)
    return injured


def restore_over(demo: Demo, injured: Path, name: str) -> None:
    """Restore over the last injured copy, and take it back once, to show that this can be undone."""
    demo.heading("Restore over the injured copy")
    point = newest(demo, name)
    done = demo.pagewarden("restore", "--repo", demo.repository, "--db", name, "--to", injured)
    demo.prove(
        done["database_sum"] == point["database_sum"],
        "database sums are equal",
        f"{done['database_sum']} in {done['seconds']:.2f} s",
    )
    report = demo.pagewarden("check", injured, "--baseline", demo.repository / point["key"])
    demo.prove(report["verdict"] == "sound", "the restored database is sound", f"{report['pages']} pages")
    demo.pagewarden("undo", injured)
    again = demo.pagewarden("check", injured, "--baseline", demo.repository / point["key"], codes=(1,))
    demo.prove(again["verdict"] == "damaged", "the restore could be undone", "the injured file stood there again")
    demo.pagewarden("restore", "--repo", demo.repository, "--db", name, "--to", injured)


def run(console: Console, folder: Path, given: Path | None) -> bool:
    """Run the demo in `folder`; return whether everything held."""
    demo = Demo(console, folder)
    own = given is None
    database = make_database(demo) if given is None else given.resolve(strict=True)
    if own:
        with writing(database):
            judge_and_back_up(demo, database, own=own)
    else:
        judge_and_back_up(demo, database, own=own)
    demo.heading("Verify the repository")
    verified = demo.pagewarden("verify", "--repo", demo.repository, "--read-data")
    states = ", ".join(f"{point['position']['txid']} {point['state']}" for point in verified["points"])
    demo.prove(verified["verdict"] == "sound", "every page and database sum was proved from stored data", states)
    copy, older, name = prepare_copies(demo, database, own=own)
    restore_over(demo, injure_and_find(demo, copy, older, name), name)
    table = Table(title="What was proved", show_lines=False)
    table.add_column("")
    table.add_column("claim")
    table.add_column("evidence")
    for held, claim, evidence in demo.proofs:
        table.add_row("[green]✓[/green]" if held else "[red]✗[/red]", claim, evidence)
    console.print()
    console.print(table)
    return all(held for held, _, _ in demo.proofs)


def main() -> int:
    """Parse the arguments and run in a scratch folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", nargs="?", type=Path, help="a database of yours; it is only read")
    chosen = parser.parse_args()
    console = Console()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pagewarden-demo-") as folder:
        held = run(console, Path(folder).resolve(), chosen.database)
    color, words = ("green", "Everything held") if held else ("red", "Something did not hold")
    console.print(Panel(f"{words}, in {time.monotonic() - began:.1f} s.", style=color, expand=False))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
