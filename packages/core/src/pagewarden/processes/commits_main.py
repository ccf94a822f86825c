"""The page reader's answers about stored page sets of commits, which may be hostile. See `processes.commits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pagewarden.processes.stored_main import StoredAnswers

if TYPE_CHECKING:
    from pagewarden.repository.commits import CommitsFile


class CommitAnswers(StoredAnswers):
    """The calls, each a public method."""

    def commits_in(self, path: str, number: int) -> tuple[int, int, bytes]:
        """Return how many blocks of commits there are, and of one the position before it and its entries."""
        return self._commits(path).commits.stored(number)

    def commit_at(self, path: str, txid: int | None, time: str | None) -> list[tuple[int, bytes] | None]:
        """Return a commit and its neighbours."""
        from pagewarden.processes.wire import commit_to_wire

        commits = self._commits(path).commits
        found = commits.at(txid) if txid is not None else commits.seen_by(datetime.fromisoformat(time or ""))
        return [None if each is None else commit_to_wire(each) for each in (found.before, found.commit, found.after)]

    def commits_info(self, path: str) -> Mapping[str, Any]:
        """Return what a page set of commits is."""
        from pagewarden.processes.wire import info_to_wire

        return info_to_wire(self._commits(path).info)

    def extract_commit(self, path: str, txid: int, to: str, level: int) -> Mapping[str, Any]:
        """Make the segment that leads to a commit."""
        from pagewarden.processes.wire import info_to_wire
        from pagewarden.repository.extract import extract

        return info_to_wire(extract(path, txid, to, level=level, threads=self._threads))

    def join_commits(self, paths: Sequence[str], to: str, level: int) -> Mapping[str, Any]:
        """Make one page set of commits of several."""
        from pagewarden.processes.wire import info_to_wire
        from pagewarden.repository.join import join

        return info_to_wire(join(paths, to, level=level, threads=self._threads, progress=self._tell))

    def verify_commits(self, path: str, read_data: bool, drop_cache: bool) -> Mapping[str, Any]:
        """Prove a stored page set of commits."""
        from pagewarden.processes.wire import info_to_wire
        from pagewarden.repository.commits import verify_commits

        return info_to_wire(
            verify_commits(path, threads=self._threads, read_data=read_data, drop_cache=drop_cache, progress=self._tell)
        )

    def _commits(self, path: str) -> CommitsFile:
        from pagewarden.repository.commits import CommitsFile

        return self._opened(path, CommitsFile)
