"""What is appended to the history of a database that is followed: a batch of commits, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from msgspec import UNSET, UnsetType

from pagewarden.repository.format import PageSetInfo
from pagewarden.repository.manifest import CommitsFacts, Manifest, SourceFacts
from pagewarden.values import Position, SourceVerdict, Verdict

NOT_JUDGED = SourceVerdict(verdict=Verdict.UNKNOWN, level="none", why="followed, and not judged")
"""What is known of a database at a commit that was followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSegment:
    """The segment of a batch: the last version of each page that its commits wrote."""

    bytes: int
    sha256: str  # over all its bytes but the last 40
    page_size: int  # bytes
    pages: int  # size of the database after the batch, in pages
    database_sum: str  # 16 hexadecimal digits
    database_sum_from: str  # the same at the position that it continues

    @staticmethod
    def of(info: PageSetInfo) -> BatchSegment:
        """Return what is to be known of a segment that was read back."""
        return BatchSegment(
            bytes=info.bytes,
            sha256=info.sha256,
            page_size=info.header.page_size,
            pages=info.header.pages,
            database_sum=f"{info.database_sum:016x}",
            database_sum_from=f"{info.database_sum_from:016x}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCommits:
    """The page set of commits of a batch."""

    bytes: int
    sha256: str  # over all its bytes but the last 40
    count: int  # commits in it, at least 2
    earliest: datetime  # the earliest time at which one of them was seen, UTC

    @staticmethod
    def of(info: PageSetInfo, *, count: int, earliest: datetime) -> BatchCommits:
        """Return what is to be known of a page set of commits that was read back."""
        return BatchCommits(bytes=info.bytes, sha256=info.sha256, count=count, earliest=earliest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is appended: commits that follow a position. It encodes to JSON, and says everything but where it goes.

    Either `commits` is there, or `merged`: how many commits it stands for, of which only the last can be restored.
    """

    parent: Position  # that of the restore point before it
    position: Position  # of its last commit: its txid is the parent's and one for each commit
    segment: BatchSegment
    commits: BatchCommits | UnsetType = UNSET
    merged: int | UnsetType = UNSET
    source: SourceVerdict = NOT_JUDGED
    facts: SourceFacts
    compression: int  # zstd level
    verified_at: datetime  # when its files were read back and verified, UTC
    created_by: str  # program and version

    def manifest(self, database: str, sequence: int, key: str, commits_key: str) -> Manifest:
        """Return the manifest that commits it. Raises ValueError for what no manifest says."""
        if (self.commits is UNSET) is (self.merged is UNSET):
            raise ValueError("a batch has commits, or says how many were merged")
        segment, commits = self.segment, self.commits
        return Manifest(
            database=database,
            kind="segment",
            sequence=sequence,
            position=self.position,
            parent=self.parent,
            key=key,
            bytes=segment.bytes,
            sha256=segment.sha256,
            page_size=segment.page_size,
            pages=segment.pages,
            database_sum=segment.database_sum,
            compression=self.compression,
            source=self.source,
            facts=self.facts,
            verified_at=self.verified_at,
            created_by=self.created_by,
            commits=UNSET
            if commits is UNSET
            else CommitsFacts(
                key=commits_key,
                bytes=commits.bytes,
                sha256=commits.sha256,
                count=commits.count,
                earliest=commits.earliest,
            ),
            merged=self.merged,
        )
