"""Injuries of header, freelist, pointer map and size, each undone by what the pages say; and the repair in one call."""

from __future__ import annotations

import random
import sqlite3
import struct
from collections import Counter
from contextlib import closing
from pathlib import Path

from pagewarden.contracts import RepairStep
from pagewarden.sqlite.header import DatabaseHeader
from pagewarden.sqlite.names import quote
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.values import Finding, Severity
from pagewarden_repair_header.repairer import HeaderRepairer

MALFORMED = (Finding(kind="malformed", severity=Severity.DAMAGE, message="the database disk image is malformed"),)


def rows(path: Path) -> Counter[tuple[object, ...]]:
    """Return all rows of all tables, read without an index; what is no text in the encoding stays bytes."""
    found: Counter[tuple[object, ...]] = Counter()
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        names = connection.execute("SELECT name FROM sqlite_master WHERE type='table' AND rootpage > 0").fetchall()
        for (name,) in names:
            table = quote(name.decode())
            found.update((name, *row) for row in connection.execute(f"SELECT * FROM {table} NOT INDEXED"))
    return found


def opinion(path: Path) -> list[str]:
    """Return what integrity_check says."""
    with closing(sqlite3.connect(path)) as connection:
        return [str(row[0]) for row in connection.execute("PRAGMA integrity_check(100)")]


def mend(path: Path, scratch: Path) -> tuple[tuple[RepairStep, ...], ClosedBench]:
    """Plan for the file and apply what is planned; return the steps and the bench."""
    case = ClosedCase(path, MALFORMED)
    repairer = HeaderRepairer()
    steps = tuple(repairer.plan(case))
    scratch.mkdir(exist_ok=True)
    bench = ClosedBench(path, scratch, case)
    repairer.apply(bench, steps)
    return steps, bench


class Wounded:
    """A database file that is open for injuries. `header` is what it was before any."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.path = path
        self.chance = chance
        self.data = bytearray(path.read_bytes())
        self.header = DatabaseHeader.parse(bytes(self.data[:100]))
        self.size = self.header.page_size
        self.pages = len(self.data) // self.size

    def header_garbage(self) -> bool:
        """Put garbage, zeros or ones over some bytes of the header, or all of them."""
        length = self.chance.choice((1, 2, 4, 9, 16, 40, 100))
        self._spoil(self.chance.randrange(101 - length), length)
        return True

    def trunk(self) -> bool:
        """Spoil a part of a trunk page of the freelist, or all of it."""
        trunks, at = [], self.header.freelist_trunk
        while at:
            trunks.append(at)
            at = struct.unpack_from(">I", self.data, (at - 1) * self.size)[0]
        if not trunks:
            return False
        begin = (self.chance.choice(trunks) - 1) * self.size
        self._spoil(*self.chance.choice(((begin, 4), (begin + 4, 4), (begin + 8, 4), (begin, 60), (begin, self.size))))
        return True

    def pointer_map(self) -> bool:
        """Spoil a part of a ptrmap page, or all of it."""
        if not self.header.largest_root or self.pages < 3:
            return False
        each = (self.size - self.header.reserved) // 5 + 1
        number = self.chance.choice(range(2, self.pages + 1, each))
        room = 5 * (min(number + each - 1, self.pages) - number)
        length = min(self.chance.choice((1, 5, 200, room)), room)
        self._spoil((number - 1) * self.size + self.chance.randrange(room - length + 1), length)
        return True

    def count(self) -> bool:
        """Let the header count another number of pages."""
        new = self.chance.choice((0, 1, self.pages - 1, self.pages + 1, self.pages + 700, 2**32 - 1))
        self.data[28:32] = struct.pack(">I", new)
        return True

    def tail(self) -> bool:
        """Let something follow the last page, and the header count it or not."""
        more = self.chance.choice((1, self.size - 1, self.size, 3 * self.size + 7))
        self.data += self.chance.choice((bytes(more), self.chance.randbytes(more)))
        if self.chance.random() < 0.5:
            self.data[28:32] = struct.pack(">I", len(self.data) // self.size)
        return True

    def write(self) -> None:
        """Let the file be what it is now."""
        self.path.write_bytes(self.data)

    def _spoil(self, begin: int, length: int) -> None:
        new = self.chance.choice((bytes(length), b"\xff" * length, *[self.chance.randbytes(length)] * 3))
        self.data[begin : begin + length] = new


INJURIES = ("header_garbage", "trunk", "pointer_map", "count", "tail")
