"""Fault injection for code that must survive it: the calls to the operating system fail at number n = 1, 2, 3 …

A module that changes files through its own name `os` is cut with `cut(module, FaultyOs(...))`. `each_fault` drives the
loop as SQLite's own tests do: fail at call n, once or for ever, until a run passes without meeting the fault.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from types import ModuleType

CALLS = frozenset(
    {
        "close", "fdatasync", "fstat", "fsync", "ftruncate", "link", "lstat", "mkdir", "open", "pread", "pwrite",
        "read", "remove", "rename", "replace", "rmdir", "scandir", "stat", "symlink", "truncate", "unlink", "write",
    }
)  # fmt: skip
"""The functions of `os` that count as calls."""


class Killed(BaseException):
    """The process would be dead here. No BaseException handler of the code under test may do work a dead one cannot."""


class FaultyOs:
    """Stands in for the module `os`: all calls pass, but call number `at` (and, with `forever`, each after it) fails.

    `killed` raises `Killed` from then on, before the call is made, instead of an OSError: a process that died makes no
    further call, so every later one is refused, too. `short` lets a write at the fault take one byte instead.
    """

    def __init__(
        self,
        at: int = 0,
        *,
        number: int = errno.EIO,
        forever: bool = False,
        killed: bool = False,
        short: bool = False,
        calls: frozenset[str] = CALLS - {"close", "fstat", "lstat", "stat"},
    ) -> None:
        """`at` counts from 1, 0 never fails; `number` is the errno; `calls` are the functions that count."""
        self.at = at
        self.number = number
        self.forever = forever or killed
        self.killed = killed
        self.short = short
        self.calls = calls
        self.seen: list[str] = []  # the counted calls, in order
        self.fired = False

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in self.calls:
            return real

        def call(*arguments: object, **named: object) -> object:
            self.seen.append(name)
            number = len(self.seen)
            if self.at and (number == self.at or (self.forever and number > self.at)):
                self.fired = True
                if self.killed:
                    raise Killed(f"killed at call {number}, {name}")
                if self.short and name in ("pwrite", "write"):
                    descriptor, data, *rest = arguments
                    assert isinstance(data, bytes | bytearray | memoryview)
                    return real(descriptor, memoryview(data)[:1], *rest)
                raise OSError(self.number, os.strerror(self.number), f"{name}, call {number}")
            return real(*arguments, **named)

        return call


@contextlib.contextmanager
def cut(module: ModuleType, faulty: FaultyOs) -> Iterator[FaultyOs]:
    """Let `module` see `faulty` where it says `os`, for the length of the block."""
    real = module.os
    module.os = faulty  # type: ignore[attr-defined]
    try:
        yield faulty
    finally:
        module.os = real  # type: ignore[attr-defined]


def each_fault(
    *, number: int = errno.EIO, forever: bool = False, killed: bool = False, short: bool = False, most: int = 500
) -> Iterator[FaultyOs]:
    """Yield a `FaultyOs` for n = 1, 2, 3 …, and stop after the first that the loop's body did not reach.

    Raises AssertionError after `most` rounds: then the code under test never ends.
    """
    for at in range(1, most + 1):
        faulty = FaultyOs(at, number=number, forever=forever, killed=killed, short=short)
        yield faulty
        if not faulty.fired:
            return
    raise AssertionError(f"the fault was met in each of {most} rounds")
