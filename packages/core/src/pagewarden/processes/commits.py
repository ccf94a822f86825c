"""Calls of the page reader about stored page sets of commits: see `repository.commits`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pagewarden.processes.channel import ProtocolError
from pagewarden.processes.client import PageProgress
from pagewarden.processes.shapes import as_bytes, as_int
from pagewarden.processes.stored import StoredCalls

if TYPE_CHECKING:
    from datetime import datetime

    from pagewarden.repository.format import Beside, Commit, PageSetInfo

Name = str | os.PathLike[str]

_SCRATCH_LEVEL = 1
"""zstd level of a segment that is read once and removed."""


class CommitCalls(StoredCalls):
    """What the page reader can be asked about page sets of commits. Every method may raise ReaderCrashed."""

    def commits_of(self, path: Name) -> tuple[Commit, ...]:
        """Return all commits of a page set, in the order of their txids; its structure is proved.

        There may be very many: `commit_at` finds one. Raises RepositoryDamaged or TargetFailed.
        """
        commits: list[Commit] = []
        number, blocks = 0, 1
        while number < blocks:
            blocks, some = self._call("commits_in", _block(os.fspath(path)), path=os.fspath(path), number=number)
            commits += some
            number += 1
        return tuple(commits)

    def commit_at(self, path: Name, *, txid: int | None = None, time: datetime | None = None) -> Beside:
        """Return the commit at position `txid`, or the last one that was seen at or before `time`, and its neighbours.

        The last one is that with the highest txid (H23). Raises RepositoryDamaged or TargetFailed.
        """
        if (txid is None) == (time is None):
            raise ValueError("either a txid or a time")
        moment = None if time is None else time.isoformat()
        name = os.fspath(path)
        beside: Beside = self._call("commit_at", _beside(name), path=name, txid=txid, time=moment)
        return beside

    def commits_info(self, path: Name) -> PageSetInfo:
        """Return what a page set of commits is, its structure proved. Raises RepositoryDamaged or TargetFailed."""
        return self._info("commits_info", None, path=os.fspath(path))

    def extract_commit(self, path: Name, txid: int, to: Name, *, level: int = _SCRATCH_LEVEL) -> PageSetInfo:
        """Make the segment that leads to a commit, in the new file `to`; see `repository.extract`.

        Nothing is left there if it fails. Raises RepositoryNotFound where there is no such commit, RepositoryDamaged,
        VerificationFailed, OutOfSpace or TargetFailed.
        """
        return self._info("extract_commit", None, path=os.fspath(path), txid=txid, to=os.fspath(to), level=level)

    def join_commits(
        self, paths: Sequence[Name], to: Name, *, level: int, progress: PageProgress | None = None
    ) -> PageSetInfo:
        """Make one page set of commits of several, in the new file `to`; see `repository.join`.

        Nothing is left there if it fails. Raises RepositoryDamaged, OutOfSpace or TargetFailed.
        """
        names = [os.fspath(path) for path in paths]
        return self._info("join_commits", progress, paths=names, to=os.fspath(to), level=level)

    def verify_commits(
        self, path: Name, *, read_data: bool, drop_cache: bool = False, progress: PageProgress | None = None
    ) -> PageSetInfo:
        """Prove a stored page set of commits. Raises RepositoryDamaged or TargetFailed."""
        return self._info("verify_commits", progress, path=os.fspath(path), read_data=read_data, drop_cache=drop_cache)


def _block(path: str) -> Any:
    """Return what makes of an answer: how many blocks of commits there are, and the commits of one."""

    def shape(value: Any) -> tuple[int, list[Commit]]:
        from pagewarden.repository.blocks import BLOCK_ENTRIES, COMMITS_ENTRY, decode_commits
        from pagewarden.repository.format import MAX_COMMITS

        one, other, last = value
        count, txid, entries = as_int(one), as_int(other), as_bytes(last)
        if not 1 <= count <= MAX_COMMITS // BLOCK_ENTRIES + 1 or not entries or len(entries) % COMMITS_ENTRY:
            raise ProtocolError("a reply is no block of commits")
        return count, list(decode_commits(entries, txid, path))

    return shape


def _beside(path: str) -> Any:
    """Return what makes a commit and its neighbours of an answer."""

    def shape(value: Any) -> Beside:
        from pagewarden.processes.wire import commit_from_wire
        from pagewarden.repository.format import Beside

        before, commit, after = (None if each is None else commit_from_wire(each, path) for each in value)
        return Beside(before=before, commit=commit, after=after)

    return shape
