"""A plugin whose repairers do, each in a process of its own, what no repairer should; and one that asks for all."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress

from pagewarden.contracts import RepairBench, RepairCase, Repairer, RepairStep
from pagewarden.errors import OutOfSpace, PagewardenError
from pagewarden.hookspecs import hookimpl


class Wild:
    """A repairer with one behaviour."""

    def __init__(self, name: str, behaviour: Callable[[RepairBench, Sequence[RepairStep]], object]) -> None:
        self.name = name
        self._behaviour = behaviour

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Plan nothing: tests call `apply`."""
        return ()

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Do it."""
        self._behaviour(bench, steps)


def fail(bench: RepairBench, steps: Sequence[RepairStep]) -> None:
    """Raise after something was cut out."""
    bench.write(2, b"x" * 1024, "wild")
    raise KeyError("a word with\na line break")


def find_no_space(bench: RepairBench, steps: Sequence[RepairStep]) -> None:
    """Say that the disk is full."""
    raise OutOfSpace("no space left for it")


def fill(bench: RepairBench, steps: Sequence[RepairStep]) -> None:
    """Let SQLite find no more room."""
    with closing(bench.connect()) as connection:
        connection.execute("PRAGMA max_page_count=1")
        connection.execute("INSERT INTO t(body) VALUES (zeroblob(100000))")


def end(bench: RepairBench, steps: Sequence[RepairStep]) -> None:
    """End the process in the midst of a write."""
    bench.write(2, b"x" * 1024, "wild")
    os._exit(0)


def crash(bench: RepairBench, steps: Sequence[RepairStep]) -> None:
    """Die as of a bad pointer."""
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(bench: RepairBench, steps: Sequence[RepairStep]) -> None:
    """Never end."""
    while True:
        time.sleep(60)


def talk(bench: RepairBench, steps: Sequence[RepairStep]) -> None:
    """Print a lot to every stream, and keep a row all the same."""
    print("words " * 100_000)
    sys.stderr.write("words " * 100_000)
    os.write(1, b"\xff" * 100_000)
    bench.keep_rows("t", ("a",), [(1,), ("two",)], "wild")
    bench.note("t", rows_quarantined=2)
    bench.note("t", rows_quarantined=1, rows_lost=4)
    bench.progress(1, 2)


def scream(bench: RepairBench, steps: Sequence[RepairStep]) -> None:
    """Write nonsense into whatever may be the channel."""
    for descriptor in range(3, 32):
        with suppress(OSError):
            os.write(descriptor, b"\x04\0\0\0nons")
    time.sleep(60)


def ask(bench: RepairBench, steps: Sequence[RepairStep]) -> None:
    """Ask for everything there is, and keep what was answered as rows."""
    case, history = bench.case, bench.case.history
    answers: dict[str, object] = {
        "path": case.path,
        "refused": case.refused,
        "findings": [finding.message for finding in case.findings],
        "patterns": [pattern.text for pattern in case.patterns],
        "image": (case.image.page_size, case.image.pages),
        "page": case.image.page(2) == bench.read(2, case.image.page_size),
        "sums": len(case.image.sums(1, case.image.pages)),
        "facts": case.facts.file_size,
        "log": case.log,
        "file": len(case.file(0, 1 << 30)),
        "trees": [tree.name for tree in case.trees],
        "flaws": [flaw.kind.name for flaw in case.flaws()],
        "inferred": case.inferred().page_size,
        "policy": case.policy.orphans.value,
        "steps": [(step.text, dict(step.task)) for step in steps],
    }
    if history is not None:
        history.fetch(history.newest, bench.scratch / "fetched")
        answers["fetched"] = (bench.scratch / "fetched").stat().st_size
        answers["history"] = (history.why, history.certain, history.newest.position.txid, history.newest.page(1)[:6])
        answers["older"] = [(image.position.txid, len(image.sums(1, 1))) for image in history.older]
        present = history.present
        answers["present"] = None if present is None else present.pages
        for name in ("..", "../elsewhere", "/tmp/elsewhere"):
            try:
                history.fetch(history.newest, bench.scratch / name)
            except (ValueError, PagewardenError):
                continue
            raise AssertionError(name)
    bench.keep_rows("answers", ("what", "answer"), [(key, repr(answer)) for key, answer in answers.items()], "asked")


def replace(bench: RepairBench, steps: Sequence[RepairStep]) -> None:
    """Put another database in the copy's place."""
    new = bench.scratch / "new.db"
    new.write_bytes(bench.database.read_bytes())
    bench.replace(new, "wild")
    with closing(bench.connect()) as connection:
        connection.execute("REINDEX")


@hookimpl
def pagewarden_repairers() -> Iterable[Repairer]:
    """Register them by the names of their behaviours."""
    works = (fail, find_no_space, fill, end, crash, hang, talk, scream, ask, replace)
    return [Wild(f"repair-{work.__name__.replace('_', '-')}", work) for work in works]
