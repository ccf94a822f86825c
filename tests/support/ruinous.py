"""A plugin whose checkers fail in every way that there is: use it with `extra=["tests.support.ruinous"]`.

None asks for the run's own process, so each runs in a process of its own, and what it does there is real.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pagewarden.contracts import Checker, CheckOutcome, Subject
from pagewarden.errors import DatabaseBusy
from pagewarden.hookspecs import hookimpl
from pagewarden.structure import Tree
from pagewarden.values import Finding, Level, Severity, Verdict

Behaviour = Callable[[Subject], Any]


class Ruinous:
    """A checker that does one thing."""

    level = Level.QUICK

    def __init__(self, behaviour: Behaviour) -> None:
        """Its name is the behaviour's."""
        self.name = f"check-{behaviour.__name__.rstrip('_').replace('_', '-')}"
        self._behaviour = behaviour

    def check(self, subject: Subject) -> CheckOutcome | Iterable[Finding]:
        """Do it."""
        outcome: CheckOutcome | Iterable[Finding] = self._behaviour(subject)
        return outcome


def found(kind: str = "bad-page", **fields: Any) -> Finding:
    """Return a finding of damage."""
    return Finding(kind=kind, severity=Severity.DAMAGE, message="page 2 is bad", **fields)


def raises(subject: Subject) -> Iterator[Finding]:
    """Find something, then raise."""
    yield found()
    raise RuntimeError("two\nlines")


def busy(subject: Subject) -> None:
    """Raise an error of Pagewarden's own."""
    raise DatabaseBusy("app.db is locked: pid 7", hint="wait")


def leaves(subject: Subject) -> None:
    """Leave by the front door."""
    sys.exit(3)


def exits(subject: Subject) -> None:
    """Leave by the back door."""
    os._exit(7)


def kills(subject: Subject) -> Iterator[Finding]:
    """Find something, then die as of the system's hand."""
    yield found()
    os.kill(os.getpid(), signal.SIGKILL)


def crashes(subject: Subject) -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def aborts(subject: Subject) -> None:
    """Abort as native code does, while pages are attached."""
    assert subject.image.pages
    print("these are my last words", file=sys.stderr)
    os.abort()


def swells(subject: Subject) -> None:
    """Take more memory than anybody has."""
    hoard = []
    while True:
        hoard.append(bytearray(64 << 20))


def sleeps(subject: Subject) -> None:
    """Do nothing, for ever; so does a process that it starts."""
    subject.reached("bed")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(os.environ["PAGEWARDEN_TEST_FILE"]).write_text(str(child.pid))
    time.sleep(600)


def spins(subject: Subject) -> None:
    """Work, for ever, and tell the same again and again."""
    while True:
        subject.progress(1, 2)


def counts(subject: Subject) -> None:
    """Let SQLite count for ever."""
    query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    subject.connect().execute(query).fetchone()


def returns_none(subject: Subject) -> None:
    """Break the contract."""


def returns_words(subject: Subject) -> Any:
    """Break the contract in the midst of it."""
    return [found(), "damage"]


def floods(subject: Subject) -> Iterator[Finding]:
    """Report for ever."""
    while True:
        yield found()


def babbles(subject: Subject) -> None:
    """Write nonsense into the conversation."""
    subject._run._channel.send({"nonsense": [1, 2, 3]})  # type: ignore[attr-defined]


def bellows(subject: Subject) -> None:
    """Announce a message of a gigabyte."""
    os.write(subject._run._channel._writing, b"\x00\x00\x00\x40")  # type: ignore[attr-defined]


def asks(subject: Subject) -> None:
    """Ask for what there is not."""
    subject._run.ask("__init__")  # type: ignore[attr-defined]


def asks_much(subject: Subject) -> None:
    """Ask for more than one answer may hold."""
    assert subject.image
    subject._run.ask("sums", image="live", first=1, count=1 << 40)  # type: ignore[attr-defined]


def prints(subject: Subject) -> list[Finding]:
    """Print far more than a pipe holds; read what is not there."""
    print("x" * (1 << 20))
    assert sys.stdin.read() == ""
    return []


def shouts(subject: Subject) -> list[Finding]:
    """Write far more than a pipe holds, below Python."""
    for descriptor in (1, 2):
        view = memoryview(b"x" * (1 << 20))
        while view:
            view = view[os.write(descriptor, view) :]
    return []


def breed(subject: Subject, *, session: bool = False) -> None:
    """Start a process that holds all that there is, and note its id."""
    child = os.fork()
    if child == 0:
        if session:
            os.setsid()
        time.sleep(20)
        os._exit(0)
    with Path(os.environ["PAGEWARDEN_TEST_FILE"]).open("a") as file:
        file.write(f"{child}\n")


def breeds(subject: Subject) -> list[Finding]:
    """Start a process, and end well."""
    breed(subject)
    return []


def breeds_and_dies(subject: Subject) -> None:
    """Start a process, and die."""
    breed(subject)
    os._exit(7)


def disowns(subject: Subject) -> None:
    """Start a process that leaves the group and holds the conversation, and die."""
    breed(subject, session=True)
    os._exit(7)


def seizes(subject: Subject) -> None:
    """Note its id and that of a process that it starts, then keep Python's lock for a minute, as native code can."""
    breed(subject)
    with Path(os.environ["PAGEWARDEN_TEST_FILE"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
    ctypes.PyDLL(None).sleep(60)


def cut_short(subject: Subject) -> Iterator[Finding]:
    """Tell where it is, and be slow about the rest."""
    yield found(kind="notice", object=subject.resume or None)
    subject.progress(3, 8)
    subject.reached("page 3")
    time.sleep(600)


def sees(subject: Subject) -> CheckOutcome:
    """Use everything that a subject has; say what was seen as evidence."""
    image, baseline = subject.image, subject.baseline
    page = image.page(1)
    seen: dict[str, object] = {
        "assertions": tuple(subject.assertions),
        "baseline": baseline and (baseline.page_size, baseline.pages, baseline.current, baseline.position is not None),
        "equal": baseline and baseline.page(2) == image.page(2) and baseline.sums(1, 3) == image.sums(1, 3),
        "facts": (subject.facts.file_size, subject.facts.journal_mode),
        "image": (image.page_size, image.pages, page[:15], image.reread(1) == page),
        "level": subject.level,
        "older": baseline and len(baseline.older),
        "older page": baseline and [older.page(1)[:6] for older in baseline.older],
        "reserved": len(image.reserved_sums(1, image.pages)),
        "sums": len(image.sums(1, image.pages)) // 8,
        "none": image.sums(1, 0),
        "wal": (survey := image.wal()) is not None and survey.frames > 0,
    }
    assert subject.image is image
    connection = subject.connect()
    trees = []
    for name, root, kind in connection.execute("SELECT name, rootpage, type FROM sqlite_master WHERE rootpage > 0"):
        trees.append(Tree(name=name, root=root, index=kind == "index"))
    trees.append(Tree(name="sqlite_schema", root=1, index=False))
    steps = list(image.structure(trees))
    seen["walk"] = (steps[-1].done, steps[-1].pages > 0)
    seen["rows"] = connection.execute("SELECT count(*) FROM customers").fetchone()
    for write in ("DELETE FROM customers", "PRAGMA user_version=7"):
        try:
            connection.execute(write)
        except sqlite3.OperationalError:
            continue
        raise AssertionError(write)
    subject.connect(copy=True).execute("DELETE FROM customers")
    for refused in (0, image.pages + 1):
        try:
            image.page(refused)
        except ValueError as error:
            seen[f"refused {refused}"] = str(error)
    subject.progress(1, 1)
    subject.reached("the end")
    evidence = "\n".join(f"{name}: {value}" for name, value in sorted(seen.items()))
    notice = Finding(kind="seen", severity=Severity.NOTICE, message="all", evidence=evidence)
    return CheckOutcome(findings=(notice,), verdict=Verdict.UNKNOWN, why="it was only looking")


def moves(subject: Subject) -> list[Finding]:
    """Let a commit come between two looks, once."""
    first = subject.image.page(1)[24:28]
    flag = Path(os.environ["PAGEWARDEN_TEST_FILE"])
    if not flag.exists():
        flag.touch()
        while flag.read_text() != "committed":
            time.sleep(0.01)
    return [] if subject.image.page(1)[24:28] == first else [found()]


BEHAVIOURS: tuple[Behaviour, ...] = (
    raises, busy, leaves, exits, kills, crashes, aborts, swells, sleeps, spins, counts, returns_none, returns_words,
    floods, babbles, bellows, asks, asks_much, prints, cut_short, sees, moves, shouts, breeds, breeds_and_dies,
    disowns, seizes,
)  # fmt: skip


@hookimpl
def pagewarden_checkers() -> Iterable[Checker]:
    """Register one checker for each behaviour."""
    return [Ruinous(behaviour) for behaviour in BEHAVIOURS]
