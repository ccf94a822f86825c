"""Cutting what changes a repository at each of its steps, as the end of its process would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from pagewarden.repository.intent import Runner
from pagewarden.repository.store import Store

STEPS = ("put", "adopt", "delete")
"""The methods of a store that change what it holds; each call is a step."""


class Cut(BaseException):
    """The end of a process, as far as the repository sees it."""


class Dead(Runner):
    """A process that has ended: what it left may be removed."""

    __slots__ = ()

    @staticmethod
    def current(proc: Path = Path("/proc")) -> Runner:
        """Return a process of this machine that runs no more."""
        return replace(Runner.current(proc), pid=4_000_000, started="1")


def do_and_die(do: Callable[[], object], number: int, runs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Do something until step `number`, and nothing more to the repository; return whether it came so far.

    `runs` is the module that says in the repository whose run it is.
    """
    taken = 0

    def cut(real: Callable[..., object]) -> Callable[..., object]:
        def step(self: Store, *arguments: object) -> object:
            nonlocal taken
            taken += 1
            if taken >= number:
                raise Cut
            return real(self, *arguments)

        return step

    with monkeypatch.context() as patched:
        patched.setattr(runs, "Runner", Dead)
        for name in STEPS:
            patched.setattr(Store, name, cut(getattr(Store, name)))
        patched.setattr(Store, "delete_many", _one_by_one)
        try:
            do()
        except Cut:
            return True
    return False


def kinds(files: Iterable[str]) -> dict[str, int]:
    """Return how many files of each kind a repository holds."""
    found: dict[str, int] = {}
    for name in files:
        kind = name.split("/")[1] if "/" in name else name
        found[kind] = found.get(kind, 0) + 1
    return found


def _one_by_one(store: Store, keys: Sequence[str]) -> None:
    """Remove objects, each a step of its own."""
    for key in keys:
        store.delete(key)
