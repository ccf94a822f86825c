"""Databases that are followed in tests without a guard: images, one for each commit, appended in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec import UNSET

from pagewarden.errors import TargetFailed
from pagewarden.pages import backend
from pagewarden.repository import keys
from pagewarden.repository.commits import CommitsWriter, verify_commits
from pagewarden.repository.followed import Batch, BatchCommits, BatchSegment
from pagewarden.repository.format import Commit, Kind, PageSetHeader
from pagewarden.repository.manifest import Manifest
from pagewarden.repository.pageset import verify_pageset
from pagewarden.repository.repository import Repository
from pagewarden.repository.store import Store
from pagewarden.repository.stream import Stream
from pagewarden.values import Position
from tests.core.repository.sets import FACTS, NOW, back_up
from tests.support.segments import database_sum_of, segment_between

PAGE = 512
NAME = "app.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A batch with its files."""

    batch: Batch
    segment: Path
    commits: Path | None

    def append(self, stream: Stream) -> None:
        """Append it."""
        stream.append(self.batch, self.segment, self.commits)


@dataclass
class Follower:
    """A database of which every commit is known: that of txid n is `images[n - 1]`, seen at `time(n)`."""

    folder: Path
    images: Sequence[bytes]
    times: dict[int, datetime] = field(default_factory=dict)  # by txid, where it is not a second after the one before

    def time(self, txid: int) -> datetime:
        """Return when a commit was seen."""
        return self.times.get(txid, NOW + timedelta(seconds=txid))

    def position(self, timeline: str, txid: int) -> Position:
        """Return the position of a commit."""
        return Position(timeline=timeline, txid=txid, time=self.time(txid))

    def begin(self, repository: Repository) -> Stream:
        """Back the first commit up, and open a stream."""
        back_up(repository, NAME, self.images[0], self.time(1))
        return Stream.open(repository, NAME, sleep=lambda seconds: None)

    def seal(self, newest: Manifest | Position, count: int, *, merged: bool = False) -> Sealed:
        """Make the batch of the `count` commits after `newest`; `merged`, or of one: without a page set of commits."""
        parent = newest if isinstance(newest, Position) else newest.position
        first, last = parent.txid, parent.txid + count
        position = self.position(parent.timeline, last)
        segment = self.folder / f"{first}-{last}.segment"
        segment.write_bytes(segment_between(self.images[first - 1], self.images[last - 1], self._header(parent, last)))
        commits = None if merged or count == 1 else self._commits(parent, last)
        info = verify_pageset(segment, threads=1, read_data=True, drop_cache=False)
        batch = Batch(
            parent=parent,
            position=position,
            segment=BatchSegment.of(info),
            commits=UNSET
            if commits is None
            else BatchCommits.of(
                verify_commits(commits, threads=1, read_data=True),
                count=count,
                earliest=min(self.time(txid) for txid in range(first + 1, last + 1)),
            ),
            merged=count if commits is None else UNSET,
            facts=FACTS,
            compression=1,
            verified_at=NOW,
            created_by="pagewarden test",
        )
        return Sealed(batch=batch, segment=segment, commits=commits)

    def follow(self, stream: Stream, *counts: int, merged: bool = False) -> None:
        """Append batches of so many commits."""
        for count in counts:
            assert stream.newest is not None
            self.seal(stream.newest, count, merged=merged).append(stream)

    def _header(self, parent: Position, txid: int, kind: Kind = Kind.SEGMENT) -> PageSetHeader:
        return PageSetHeader(
            kind=kind,
            page_size=PAGE,
            pages=len(self.images[txid - 1]) // PAGE,
            pages_per_frame=4,
            timeline=parent.timeline,
            txid_from=parent.txid,
            txid=txid,
            time=self.time(txid),
        )

    def _commits(self, parent: Position, last: int) -> Path:
        path = self.folder / f"{parent.txid}-{last}.commits"
        path.unlink(missing_ok=True)
        with CommitsWriter(path, self._header(parent, last, Kind.COMMITS), level=1) as writer:
            for txid in range(parent.txid + 1, last + 1):
                pages = _changed(self.images[txid - 2], self.images[txid - 1])
                commit = Commit(
                    txid=txid,
                    time=self.time(txid),
                    pages=len(self.images[txid - 1]) // PAGE,
                    entries=len(pages),
                    database_sum=database_sum_of(self.images[txid - 1], PAGE),
                )
                sums = (backend().page_sum(pgno, page).to_bytes(8, "little") for pgno, page in pages.items())
                writer.add(commit, tuple(pages), b"".join(pages.values()), b"".join(sums))
            writer.seal(database_sum_of(self.images[parent.txid - 1], PAGE))
        return path


def _changed(before: bytes, after: bytes) -> dict[int, bytes]:
    """Return the pages that a commit changed, by their numbers."""
    starts = range(0, len(after), PAGE)
    return {at // PAGE + 1: after[at : at + PAGE] for at in starts if after[at : at + PAGE] != before[at : at + PAGE]}


def pending(repository: Repository) -> list[str]:
    """Return what stands of runs under way."""
    return repository.store.keys(keys.PENDING)


def objects(repository: Repository) -> set[str]:
    """Return the keys of all objects."""
    return set(repository.store.keys(keys.objects_prefix(NAME)))


def named(repository: Repository) -> set[str]:
    """Return the keys of the objects that manifests name."""
    return {key for entry in repository.entries(NAME) for key in entry.object_keys}


def last(repository: Repository) -> int:
    """Return the txid of the newest restore point."""
    point = repository.newest(NAME)
    assert point is not None
    return point.position.txid


def fail_at(patched: pytest.MonkeyPatch, step: str, number: int, *, done: bool) -> None:
    """Let call `number` of a step of the store fail: before it does anything, or when it is `done`."""
    real: Callable[..., object] = getattr(Store, step)
    seen = 0

    def failing(self: Store, *arguments: object) -> object:
        nonlocal seen
        seen += 1
        if seen == number and not done:
            raise TargetFailed("no answer")
        answer = real(self, *arguments)
        if seen == number:
            raise TargetFailed("no answer")
        return answer

    patched.setattr(Store, step, failing)
