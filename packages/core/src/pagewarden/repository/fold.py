"""Making one page set of several that follow each other, without the database that they came from. In the page reader.

1. Segments are read from the newest down; of each page the first version that comes is the last one, and is put at its
   place in an unnamed file. Every page is compared with its recorded sum, all that is stored with the SHA-256 of its
   file. Pages beyond the size of the database at the newest position are dropped (H21).
2. Over a snapshot, the frames that no segment touches are copied as they are stored; of the others the pages that no
   segment has come from the snapshot. Those frames are compressed anew.
3. Without a snapshot, all that was put at its place makes the frames of a segment.
4. Each page set must begin with the database sum that the one below ends with. The sums of the pages are the recorded
   ones; whoever asked reads back what was written.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pagewarden import durable
from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import PageSource, Progress, Runs, StoredFrame, Wanted, spread_in
from pagewarden.repository.assemble import Claims
from pagewarden.repository.batch import BatchWriter
from pagewarden.repository.format import Kind, PageSetHeader, PageSetInfo, grown
from pagewarden.repository.pageset import STRETCH, PageSetFile
from pagewarden.repository.writer import SnapshotWriter

_OPEN = 64
"""Page sets that are open at once."""


def fold(
    paths: Sequence[str | Path],
    to_path: str | Path,
    header: PageSetHeader,
    *,
    level: int,
    threads: int,
    progress: Progress | None = None,
) -> list[PageSetInfo]:
    """Make one page set of those at `paths`, from the lowest up; return what they are, and what it is, last.

    `header` says what it is to be: a snapshot if the lowest is one, else a segment; as many pages fit a frame as in the
    snapshot. It is written to the new file `to_path`, durable when this returns; nothing is left there if it fails.
    Raises RepositoryDamaged for page sets that are not whole or do not follow each other, OutOfSpace, TargetFailed.
    """
    with _Overlay(Path(to_path).parent, header, threads) as overlay:
        infos = overlay.read(paths, progress)
        if header.kind is Kind.SEGMENT:
            made = _write_segment(Path(to_path), header, overlay, infos, level, threads)
        else:
            made = _write_snapshot(Path(to_path), header, overlay, paths[0], level, threads)
    return [*infos, made]


class _Overlay:
    """The last versions of pages, at their places in an unnamed file. A context manager: leaving it forgets them."""

    def __init__(self, folder: Path, header: PageSetHeader, threads: int) -> None:
        """The file is made in `folder`; `header` says what the database is to be."""
        self._header = header
        self._threads = threads
        self.claims = Claims()
        self.touched: set[int] = set()  # frames of the snapshot, by number
        self._per_frame = header.pages_per_frame
        self._done = 0
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=str(folder))  # noqa: SIM115 - closed by close()
            self._file.truncate(header.pages * header.page_size)
        except OSError as error:
            raise durable.failure(error, f"cannot write in {folder}") from error

    @property
    def source(self) -> PageSource:
        """The pages; where none was put there are zeros."""
        size = self._header.pages * self._header.page_size
        return PageSource(
            database=self._file.fileno(),
            page_size=self._header.page_size,
            pages=self._header.pages,
            file_size=size,
        )

    def read(self, paths: Sequence[str | Path], progress: Progress | None) -> list[PageSetInfo]:
        """Take the last version of each page of the page sets at `paths`, from the lowest up; return what they are."""
        infos: list[PageSetInfo] = []
        from_top = list(reversed(paths))
        snapshot = self._header.kind is Kind.SNAPSHOT
        if snapshot:
            # Which frames are touched is counted in those of the snapshot, and the segments come first.
            with PageSetFile(paths[0]) as lowest:
                self._per_frame = lowest.info.header.pages_per_frame
        for start in range(0, len(from_top), _OPEN):
            with ExitStack() as stack:
                files = [stack.enter_context(PageSetFile(path)) for path in from_top[start : start + _OPEN]]
                for file in files:
                    self._admit(file, infos, lowest=len(infos) + 1 == len(from_top))
                    infos.append(file.info)
                self._take(files, progress)
        return list(reversed(infos))

    def close(self) -> None:
        """Forget the pages; safe to repeat."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _admit(self, file: PageSetFile, above: list[PageSetInfo], *, lowest: bool) -> None:
        """Refuse a page set that does not continue those above it, which were read before."""
        seen, said = file.info.header, self._header
        snapshot = lowest and said.kind is Kind.SNAPSHOT
        if seen.timeline != said.timeline or seen.page_size != said.page_size or file.is_segment is snapshot:
            raise RepositoryDamaged(f"{file.path} is not what the page sets above it continue")
        if not above:
            if (seen.pages, seen.txid) != (said.pages, said.txid):
                raise RepositoryDamaged(f"{file.path} does not lead to {said.txid}, of {said.pages} pages")
        elif (seen.txid, file.info.database_sum) != (above[-1].header.txid_from, above[-1].database_sum_from):
            raise RepositoryDamaged(f"{file.path} is not what the page set above it continues")
        elif above[-1].held < grown(seen.page_size, seen.pages, above[-1].header.pages):
            raise RepositoryDamaged(f"the page set above {file.path} lacks pages by which the database grew")
        if lowest and seen.txid_from != said.txid_from:
            raise RepositoryDamaged(f"{file.path} does not begin at {said.txid_from}")

    def _take(self, files: Sequence[PageSetFile], progress: Progress | None) -> None:
        by_descriptor = {file.fileno(): (file, hashlib.sha256()) for file in files}
        stretches = (
            stretch
            for file in files
            for stretch in file.stretches(self._of_segment if file.is_segment else self._of_snapshot)
        )
        try:
            for stretch, data in spread_in(
                stretches, fd_out=self._file.fileno(), page_size=self._header.page_size, threads=self._threads
            ):
                by_descriptor[stretch.file][1].update(data)
                self._done += sum(frame.count for frame in stretch.frames)
                if progress is not None:
                    progress(self._done, 0)
        except OSError as error:
            raise durable.failure(error, "cannot write what page sets are folded into") from error
        for file, digest in by_descriptor.values():
            file.prove_digest(digest, file.info.numbers_offset)

    def _of_segment(self, runs: Runs, sums: bytes) -> Wanted:  # noqa: ARG002 - `spread_in` compares them
        """Take from one frame of a segment what no newer one had."""
        wanted = self.claims.take_all(runs, self._header.pages)
        for _, first, count in wanted:
            self.touched.update(range((first - 1) // self._per_frame, (first + count - 2) // self._per_frame + 1))
        return wanted

    def _of_snapshot(self, runs: Runs, sums: bytes) -> Wanted:  # noqa: ARG002 - `spread_in` compares them
        """Take from one frame of the snapshot what no segment had, if any has touched it."""
        first, count = runs[0]
        number = (first - 1) // self._per_frame
        if count != min(self._per_frame, self._header.pages - first + 1):
            self.touched.add(number)  # the database has another size, and so has this frame
        return self.claims.take_all(runs, self._header.pages) if number in self.touched else ()


def _write_snapshot(
    to_path: Path, header: PageSetHeader, overlay: _Overlay, base: str | Path, level: int, threads: int
) -> PageSetInfo:
    """Write a snapshot: frames of the one at `base` that nothing touched, and the others anew."""
    with PageSetFile(base) as file:
        header = replace(header, pages_per_frame=file.info.header.pages_per_frame)
        with SnapshotWriter(to_path, header, level=level, threads=threads) as writer:
            frames, kept = file.frames(), list[StoredFrame]()

            def copy_kept() -> None:
                if kept:
                    count = sum(frame.count for frame in kept)
                    writer.copy_stored(file.fileno(), tuple(kept), file.sums(kept[0].first, count))
                    kept.clear()

            for number in range(header.frames):
                first, count = header.frame_pages(number)
                frame = next(frames, None)
                if frame is None or number in overlay.touched:
                    copy_kept()
                    writer.copy(overlay.source, first, count)
                    continue
                if kept and frame.offset + frame.csize - kept[0].offset > STRETCH:
                    copy_kept()
                kept.append(frame)
            copy_kept()
            return writer.seal(pages=header.pages)


def _write_segment(
    to_path: Path,
    header: PageSetHeader,
    overlay: _Overlay,
    infos: Sequence[PageSetInfo],
    level: int,
    threads: int,
) -> PageSetInfo:
    """Write a segment of all pages of the overlay, which come from the segments `infos`, from the lowest up."""
    with BatchWriter(to_path, header, level=level, threads=threads) as writer:
        writer.gather(overlay.source, overlay.claims.runs())
        return writer.seal(header.pages, infos[0].database_sum_from, infos[-1].database_sum)
