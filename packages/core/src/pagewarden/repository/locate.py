"""Finding the moment that a restore is to bring back: a restore point, or a commit between two of them.

1. The manifests say which batch of commits a txid or a time falls into. Commits are in the order of their txids,
   whatever clocks said (H23): the last one that was seen at or before a time is meant, even where a later batch holds
   one that a clock which stepped back put there.
2. The commits of one batch stand in its page set of commits, which is looked at by the page reader.
3. With what was found come its neighbours: the moments right before and after it that can be restored.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import UNSET

from pagewarden.errors import PagewardenError, RepositoryDamaged, RepositoryNotFound
from pagewarden.repository.chain import Chain, Inner
from pagewarden.repository.manifest import CommitsFacts, Manifest
from pagewarden.repository.moments import NamedMoment, read_moments
from pagewarden.times import format_moment
from pagewarden.values import Position

if TYPE_CHECKING:
    from pagewarden.processes.reader import PageReader
    from pagewarden.repository.format import Beside, Commit
    from pagewarden.repository.repository import Repository
    from pagewarden.repository.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """One moment of the history of a database that can be restored."""

    chain: Chain  # what makes it
    before: Position | None = None  # the moment right before it, in the order of commits; None for the first
    after: Position | None = None  # the one right after it; None for the last
    warnings: tuple[str, ...] = ()  # what a person should know, such as neighbours that cannot be told


def locate(
    repository: Repository,
    reader: PageReader,
    name: str | None = None,
    *,
    at: datetime | None = None,
    txid: int | None = None,
    timeline: str | None = None,
    mark: str | None = None,
) -> Located:
    """Find the moment that is meant: the newest, the last at or before `at`, that at `txid`, or the one named `mark`.

    As `Repository.resolve_chain`, but for every commit that is stored. Raises RepositoryNotFound where there is no such
    moment, naming its neighbours where it was merged with others; RepositoryDamaged where what it takes is missing or
    not whole; TargetFailed.
    """
    name = repository.only_name() if name is None else name
    moments = () if mark is None else _named(repository, name, mark)
    view = repository.view(name, deleted=txid is not None or mark is not None)
    if moments:
        moment = max(moments, key=lambda each: (_sequence(view, each.position), each.position.txid))
        txid, timeline = moment.position.txid, moment.position.timeline
    search = _Search(repository, reader, view, timeline)
    if txid is not None:
        return search.at_txid(txid)
    return search.newest() if at is None else search.at_time(at)


def _named(repository: Repository, name: str, mark: str) -> tuple[NamedMoment, ...]:
    """Return the moments that are named `mark`, at least one."""
    known = read_moments(repository.store, name)
    if found := known.of(mark):
        return found
    last = "; ".join(f'"{each.text}"' for each in known.moments[-5:])
    there = f"the last that are named: {last}" if last else "none is named"
    problem = f"; {known.problems[0]}" if known.problems else ""
    raise RepositoryNotFound(
        f'{repository.url} holds no moment of {name} that is named "{mark}": {there}{problem}',
        hint=repository.command("backups", "--db", name),
    )


def _sequence(view: View, position: Position) -> int:
    """Return the number of the manifest that a position belongs to, 0 where there is none."""
    found = (each.sequence for each in view.points if _covers(each, position.txid, position.timeline))
    return max(found, default=0)


def _covers(manifest: Manifest, txid: int, timeline: str | None = None) -> bool:
    """Return whether a position is that of a manifest, or between it and the one that it continues."""
    at = manifest.position
    return at.txid - max(0, manifest.span - 1) <= txid <= at.txid and timeline in (None, at.timeline)


class _Search:
    """The search in what was looked at once."""

    def __init__(self, repository: Repository, reader: PageReader, view: View, timeline: str | None) -> None:
        self._repository = repository
        self._store = repository.store
        self._reader = reader
        self._view = view
        self._timeline = timeline
        self._points = view.on(timeline)

    def newest(self) -> Located:
        """Return the newest moment."""
        return self._point(self._view.find(timeline=self._timeline))

    def at_txid(self, txid: int) -> Located:
        """Return the moment of a txid, of the timeline that was committed to last."""
        found = [each for each in self._points if _covers(each, txid)]
        held = [each for each in found if each.position.txid == txid or each.commits is not UNSET]
        if not found:
            return self._point(self._view.find(txid=txid, timeline=self._timeline))  # which says what there is
        if not held:
            raise self._merged(txid, found[-1].parent, found[-1].position)
        batch = held[-1]
        if batch.position.txid == txid or batch.commits is UNSET:
            return self._point(batch)
        beside = self._beside(batch, batch.commits, txid=txid)
        if beside.commit is None:
            before, after = self._around(batch, beside)
            raise self._merged(txid, before, after)
        return self._inner(batch, batch.commits, beside, beside.commit)

    def at_time(self, at: datetime) -> Located:
        """Return the last moment, in the order of commits, that was seen at or before a time."""
        before = [number for number, each in enumerate(self._points) if each.position.time <= at]
        last = before[-1] if before else -1
        for batch in reversed(self._points[last + 1 :]):
            if batch.commits is not UNSET and batch.commits.earliest <= at:
                beside = self._beside(batch, batch.commits, time=at)
                if beside.commit is not None:
                    return self._inner(batch, batch.commits, beside, beside.commit)
        return self._point(self._view.find(at=at, timeline=self._timeline))

    def _point(self, manifest: Manifest) -> Located:
        """Return a restore point with its neighbours, as far as they can be told."""
        warnings: list[str] = []
        number = next(at for at, each in enumerate(self._points) if each.sequence == manifest.sequence)
        before = self._points[number - 1].position if number else None
        if manifest.commits is not UNSET:
            before = manifest.parent
            if (beside := self._glance(manifest, manifest.commits, manifest.position.txid, warnings)) is not None:
                before, _ = self._around(manifest, beside)
        after = None
        if number + 1 < len(self._points):
            following = self._points[number + 1]
            after = following.position
            if following.commits is not UNSET and following.parent == manifest.position:
                beside = self._glance(following, following.commits, manifest.position.txid + 1, warnings)
                if beside is not None:
                    first = beside.commit or beside.after
                    after = after if first is None else _position(following, first)
        return Located(chain=self._view.chain(manifest), before=before, after=after, warnings=tuple(warnings))

    def _inner(self, batch: Manifest, commits: CommitsFacts, beside: Beside, commit: Commit) -> Located:
        """Return a commit of a batch with its neighbours."""
        below = self._view.chains.parent(batch)
        if below is None:
            raise RepositoryDamaged(
                f"{self._repository.url} cannot bring back {self._view.name} at txid {commit.txid}: no manifest can be "
                f"read at {batch.parent}, which that commit continues",
                hint=f"the end of its batch has other ways: --txid {batch.position.txid}",
            )
        chain = replace(self._view.chain(below), inner=Inner(batch=batch, commits=commits, commit=commit))
        before, after = self._around(batch, beside)
        return Located(chain=chain, before=before, after=after)

    def _around(self, batch: Manifest, beside: Beside) -> tuple[Position | None, Position]:
        """Return what stands before and after a place among the commits of a batch."""
        before = batch.parent if beside.before is None else _position(batch, beside.before)
        return before, batch.position if beside.after is None else _position(batch, beside.after)

    def _merged(self, txid: int, before: Position | None, after: Position) -> RepositoryNotFound:
        """Return the error for a commit that is not stored by itself."""
        earlier = "" if before is None else f"txid {before.txid} of {format_moment(before.time)} before it and "
        return RepositoryNotFound(
            f"{self._repository.url} holds txid {txid} of {self._view.name} merged with those after it: what can be "
            f"restored is {earlier}txid {after.txid} of {format_moment(after.time)} after it",
            hint=f"--txid {after.txid}" + ("" if before is None else f", or --txid {before.txid}"),
        )

    def _glance(self, batch: Manifest, commits: CommitsFacts, txid: int, warnings: list[str]) -> Beside | None:
        """Look for neighbours in a page set of commits; where that fails, it is told and hinders nothing."""
        try:
            beside = self._beside(batch, commits, txid=txid)
        except PagewardenError as error:
            warnings.append(error.message)
            return None
        self._store.release(commits.key)
        return beside

    def _beside(
        self, batch: Manifest, commits: CommitsFacts, *, txid: int | None = None, time: datetime | None = None
    ) -> Beside:
        """Look for a commit in the page set of commits of a batch."""
        path = self._store.local(commits.key)
        if path is None:
            raise commits_damaged(self._repository, batch, f"{commits.key} is missing from {self._repository.url}")
        try:
            return self._reader.commit_at(path, txid=txid, time=time)
        except RepositoryDamaged as error:
            raise commits_damaged(self._repository, batch, error.message) from error


def commits_damaged(repository: Repository, batch: Manifest, why: str) -> RepositoryDamaged:
    """Return the error for a page set of commits that is not whole: what of the batch is lost, and what is not."""
    parent, last = batch.parent, batch.position.txid
    lost = "" if parent is None else f", of txids {parent.txid + 1} to {last - 1},"
    words = ["pagewarden", "restore", "--repo", repository.url, "--db", batch.database, "--txid", str(last)]
    return RepositoryDamaged(
        f"the commits of {batch.database} before txid {last}{lost} cannot be restored, but txid {last} itself can: "
        f"{why}",
        hint=f"{shlex.join(words)} --to PATH",
    )


def _position(batch: Manifest, commit: Commit) -> Position:
    return Position(timeline=batch.position.timeline, txid=commit.txid, time=commit.time)
