"""Calls of the page reader that make fewer page sets of commits of many: see `repository.thin`."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from pagewarden.processes.commits import CommitCalls, Name
from pagewarden.processes.shapes import as_nothing

if TYPE_CHECKING:
    from pagewarden.repository.format import PageSetInfo


class GatherCalls(CommitCalls):
    """What the page reader can be asked about histories that grow shorter. Every method may raise ReaderCrashed."""

    def thin_commits(self, path: Name, keep: Collection[int], to: Name, *, level: int) -> PageSetInfo:
        """Make a page set of commits in which only the txids `keep` stay, and the last one, in the new file `to`.

        Nothing is left there if it fails. Raises RepositoryDamaged where one of them is not there or the page set is
        not whole, VerificationFailed, OutOfSpace or TargetFailed.
        """
        return self._info("thin_commits", None, path=os.fspath(path), keep=sorted(keep), to=os.fspath(to), level=level)

    def prove_gathered(
        self, segments: Sequence[Name], segment: Name, parts: Sequence[Name] = (), commits: Name | None = None
    ) -> None:
        """Prove that a segment, and a page set of commits where there is one, record what those before them do.

        Their pages are not read. Raises RepositoryDamaged or TargetFailed.
        """
        self._call(
            "prove_gathered",
            as_nothing,
            segments=[os.fspath(path) for path in segments],
            segment=os.fspath(segment),
            parts=[os.fspath(path) for path in parts],
            commits=None if commits is None else os.fspath(commits),
        )
