"""The page reader's answers about databases that are followed. See `processes.following`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagewarden.processes.stored_main import StoredAnswers

if TYPE_CHECKING:
    from pagewarden.following.follower import Follower
    from pagewarden.following.values import Gap


class FollowAnswers(StoredAnswers):
    """The calls, each a public method."""

    _followers: dict[int, Follower]  # what is followed, by its handle

    def follow_begin(
        self, follower: int, path: str, map_path: str, facts: Mapping[str, Any], cursor: Mapping[str, Any] | None
    ) -> Mapping[str, str] | None:
        """Begin to follow; return the gap where that cannot be."""
        from pagewarden.following.follower import Follower
        from pagewarden.following.log import Broken
        from pagewarden.processes.following import cursor_from_wire
        from pagewarden.repository.mapfacts import MapFacts

        try:
            self._followers[follower] = Follower(
                path,
                Path(map_path),
                MapFacts(**facts),
                None if cursor is None else cursor_from_wire(cursor),
                threads=self._threads,
            )
        except Broken as broken:
            return _gap_to_wire(broken.gap)
        return None

    def follow_look(self, follower: int) -> Mapping[str, Any]:
        """Return what the wal-index says."""
        look = self._followers[follower].look()
        return {name: getattr(look, name) for name in look.__slots__}

    def follow_take(
        self,
        follower: int,
        header: Mapping[str, Any],
        segment: str,
        commits: str | None,
        most_bytes: int,
        level: int,
    ) -> Mapping[str, Any] | None:
        """Take what is new."""
        from pagewarden.following.values import Gap
        from pagewarden.processes.following import cursor_to_wire
        from pagewarden.processes.wire import header_from_wire, info_to_wire

        taken = self._followers[follower].take(
            header_from_wire(header),
            Path(segment),
            None if commits is None else Path(commits),
            most_bytes=most_bytes,
            level=level,
        )
        if taken is None:
            return None
        if isinstance(taken, Gap):
            return _gap_to_wire(taken)
        return {
            "txid_from": taken.txid_from,
            "txid": taken.txid,
            "kept": taken.kept,
            "merged": taken.merged,
            "segment": info_to_wire(taken.segment),
            "commits": None if taken.commits is None else info_to_wire(taken.commits),
            "cursor": cursor_to_wire(taken.cursor),
            "pages": taken.pages,
            "database_sum": taken.database_sum,
            "time": taken.time.isoformat(),
            "more": taken.more,
        }

    def follow_scrub(self, follower: int, first: int, count: int) -> list[int]:
        """Return pages that are damaged in the file."""
        return list(self._followers[follower].scrub(first, count))

    def follow_map(self, follower: int, to_path: str) -> Mapping[str, Any]:
        """Write the page map of the position."""
        return self._followers[follower].write_map(Path(to_path)).to_wire()

    def continuation(
        self,
        database: str,
        chain: Sequence[str],
        salts: bytes,
        known: Sequence[int],
        others: Sequence[Sequence[int]],
        commits: Sequence[str],
        last_frame: int | None,
    ) -> Mapping[str, Any] | str:
        """Return what the log proves to have been committed behind a restore point, or why it proves nothing."""
        from pagewarden.following.continuation import NotProved, Witness, continuation
        from pagewarden.processes.attach import open_regular

        layers = self._layers(chain)
        header = layers.info.header
        witness, *rest = (Witness(frame=frame, checksum=(one, two)) for frame, one, two in (known, *others))
        wal = open_regular(f"{database}-wal")
        try:
            found = continuation(
                wal,
                page_size=header.page_size,
                pages=header.pages,
                salts=salts,
                known=witness,
                others=rest,
                versions=lambda pgno: self._versions(pgno, chain, commits),
                last_frame=last_frame,
            )
        except NotProved as error:
            return str(error)
        finally:
            os.close(wal)
        return {
            "pages": found.pages,
            "numbers": found.numbers.tobytes(),
            "frames": found.frames.tobytes(),
            "sums": found.sums,
        }

    def _versions(self, pgno: int, chain: Sequence[str], commits: Sequence[str]) -> Iterator[bytes]:
        """Yield what page sets hold of a page, the newest of a chain first."""
        from pagewarden.repository.commits import CommitsFile

        for path in chain:
            file = self._page_set(path)
            if file.place_of(pgno) is not None:
                yield file.page(pgno)
        for path in commits:
            with CommitsFile(path) as versions:
                yield from versions.versions(pgno)

    def follow_end(self, follower: int) -> None:
        """Forget what was followed."""
        self._followers.pop(follower).close()


def _gap_to_wire(gap: Gap) -> Mapping[str, str]:
    return {"cause": gap.cause.value, "why": gap.why}
