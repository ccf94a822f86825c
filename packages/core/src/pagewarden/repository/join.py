"""Making one page set of commits of several that follow each other. Runs in the page reader.

Segments may be among them: each stands for one commit, or for those that were merged into it. Nothing is lost, so the
frames are made anew: versions of one page come nearer to each other. Whoever asked reads back what was written.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import Progress, Stretch, decode_frame, frames_in
from pagewarden.repository import blocks
from pagewarden.repository.commits import CommitsFile
from pagewarden.repository.commitswriter import CommitsWriter, NoHistory
from pagewarden.repository.format import Commit, Kind, PageSetInfo

_FEW = 4  # frames


class Part(CommitsFile):
    """A page set that stands for commits: one of them, or a segment, which stands for one commit or merged ones."""

    KINDS: ClassVar[tuple[Kind, ...]] = (Kind.SEGMENT, Kind.COMMITS)

    def history(self) -> Iterable[Commit]:
        """Return the commits, in the order of their txids."""
        if not self.is_segment:
            return self.commits
        head = self.info.header
        try:
            commit = Commit(
                txid=head.txid,
                time=head.time,
                pages=head.pages,
                entries=self.info.held,
                database_sum=self.info.database_sum,
                merged=head.txid - head.txid_from,
            )
        except ValueError as error:
            raise RepositoryDamaged(f"{self.path} stands for {error}") from error
        return (commit,)

    def rows(self) -> Iterator[bytes]:
        """Yield the entries of all commits, some at a time, as they are stored."""
        for number in range(-(-len(self.commits) // blocks.BLOCK_ENTRIES)):
            yield self.commits_stored(number)

    def ends(self) -> tuple[Commit, Commit]:
        """Return the first and the last commit, without a look at the others."""
        head, where = self.info.header, str(self.path)
        (first,) = blocks.commit_rows(self.commits_stored(0)[: blocks.COMMITS_ENTRY])
        number = (len(self.commits) - 1) // blocks.BLOCK_ENTRIES
        (last,) = blocks.commit_rows(self.commits_stored(number)[-blocks.COMMITS_ENTRY :])
        return blocks.decode_row(first, head.txid_from, where), blocks.decode_row(last, head.txid - last[4], where)

    def alone(self) -> Iterator[Stretch]:
        """Yield all frames, each in a stretch of its own."""
        for number, frame in enumerate(self.frames()):
            yield Stretch(
                file=self.fileno(),
                offset=frame.offset,
                size=frame.csize,
                frames=(self.frame_in(number),),
                errors=self.errors,
            )

    def _prove_entries(self) -> None:
        if self.is_segment:
            self._prove_numbers()
        else:
            super()._prove_entries()


def join(
    paths: Sequence[str | Path], to: str | Path, *, level: int, threads: int = 2, progress: Progress | None = None
) -> PageSetInfo:
    """Make one page set of commits of those at `paths`, and of segments, each from where the one before leads.

    A segment stands for one commit, or for those that were merged into it. It is written to the new file `to`, durable
    when this returns; nothing is left there if it fails. Raises RepositoryDamaged for page sets that are not whole or
    do not follow each other, OutOfSpace or TargetFailed.
    """
    first: PageSetInfo | None = None
    before: PageSetInfo | None = None
    with ExitStack() as stack:
        for path in paths:
            with Part(path) as part:
                if first is None or before is None:
                    first, header = part.info, replace(part.info.header, kind=Kind.COMMITS, commits=0)
                    writer = stack.enter_context(CommitsWriter(to, header, level=level))
                elif _link(part.info, start=True) != _link(before, start=False):
                    raise RepositoryDamaged(f"{part.path} does not begin where the page set before it ends")
                try:
                    _append(part, writer, threads)
                except NoHistory as error:
                    raise RepositoryDamaged(f"{part.path} does not continue the page set before it: {error}") from error
                before = part.info
                if progress is not None:
                    progress(writer.pages_copied, 0)
        if first is None:
            raise ValueError("nothing to join")
        return writer.seal(first.database_sum_from)


def _link(info: PageSetInfo, *, start: bool) -> tuple[str, int, int, int]:
    """Return what a page set and the one that follows it have in common."""
    head = info.header
    txid, database_sum = (head.txid_from, info.database_sum_from) if start else (head.txid, info.database_sum)
    return head.timeline, head.page_size, txid, database_sum


def _append(part: Part, writer: CommitsWriter, threads: int) -> None:
    """Append all commits of `part`; prove its SHA-256."""
    if part.is_segment:
        (commit,) = part.history()
        writer.begin(commit)
        put = writer.put
    else:
        # Within it all was proved when it was opened: what is left is that its first commit follows.
        first, last = part.ends()
        inside = bisect_right(range(first.entries), writer.pages, key=lambda place: part.numbers(place, 1)[0])
        writer.follow(part.rows(), first, first.entries - inside, last)
        put = writer.fill
    if part.info.frames <= _FEW:  # of a small one, threads would cost more than they do
        for number in range(part.info.frames):
            frame = part.frame_in(number)
            with part.errors():
                pages = decode_frame(part.fileno(), frame, part.page_size)
            put(frame.numbers, pages[: frame.count * part.page_size], frame.sums)
        part.prove_digest()
    else:
        digest = hashlib.sha256()
        with closing(frames_in(part.alone(), page_size=part.page_size, threads=threads)) as frames:
            for stretch, stored, pages in frames:
                digest.update(stored)
                put(stretch.frames[0].numbers, pages, stretch.frames[0].sums)
        part.prove_digest(digest, part.info.numbers_offset)
    writer.end()
