"""Calls of the page reader that follow a log, commit by commit: see `pagewarden.following` and docs/live-read.md."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pagewarden.processes.channel import ProtocolError
from pagewarden.processes.client import ReaderClient
from pagewarden.processes.shapes import as_bytes, as_int

if TYPE_CHECKING:
    from pathlib import Path

    from pagewarden.following.continuation import Continuation, Witness
    from pagewarden.following.values import Cursor, Gap, Look, Taken
    from pagewarden.repository.format import PageSetHeader
    from pagewarden.repository.mapfacts import MapFacts

MOST_BYTES = 32 << 20
"""Bytes of pages that are held in memory for one batch, all their versions counted."""


class FollowCalls(ReaderClient):
    """What the page reader can be asked about a database that is followed. Every method may raise ReaderCrashed.

    All but `follow_begin` and `follow_end` take its handle. Whoever calls keeps the log pinned: a pin is let go only
    after a newer one was begun and everything up to that was taken. Every call may raise DatabaseNotFound,
    DatabaseUnreadable, or DatabaseUnsettled: then nothing has changed, and trying again may help.
    """

    def follow_begin(self, path: str, map_path: Path, facts: MapFacts, cursor: Cursor | None) -> int | Gap:
        """Begin to follow the database at the real path `path`, from the position of `facts`; return a handle.

        The page map of that position is at `map_path`; a private copy of it is kept beside it. `cursor` says which
        commit of the log the position is: salts and frame will do. Where the log does not reach back to it (or there is
        no cursor) that is a Gap. DatabaseUnsettled also tells of a map that cannot be used.
        """
        handle = self._number()
        gap = self._call(
            "follow_begin",
            _gap_or_none,
            follower=handle,
            path=path,
            map_path=os.fspath(map_path),
            facts=facts.to_wire(),
            cursor=None if cursor is None else cursor_to_wire(cursor),
        )
        if gap is not None:
            return gap
        self._handles.add(handle)
        return handle

    def follow_look(self, handle: int) -> Look:
        """Return what the wal-index says now, in some tens of microseconds; see `Look`."""
        self._known(handle)
        return self._call("follow_look", _look, follower=handle)

    def follow_take(
        self,
        handle: int,
        header: PageSetHeader,
        segment: Path,
        commits: Path | None,
        *,
        most_bytes: int = MOST_BYTES,
        level: int = 1,
    ) -> Taken | Gap | None:
        """Take the commits that are new, and store them durably in new files; None where there are none.

        The last version of each page goes to a segment, the file `segment`. Every version goes to a page set of
        commits, the file `commits`, unless it is only one commit. Without `commits` all that is new is merged into one.
        Of more than `most_bytes` of pages the first commits are taken, at least one, and `Taken.more` is set.

        `header` gives timeline, page size, pages per frame and `txid_from`, which must be the position; all else in it
        is settled here. The time of the commits is when they were seen, by this machine's clock (H23). What was written
        was read back and proved. Only then the position moves; if anything fails, neither file is there. Raises
        OutOfSpace, TargetFailed or RepositoryDamaged besides.
        """
        from pagewarden.processes.wire import header_to_wire

        self._known(handle)
        return self._call(
            "follow_take",
            _taken,
            follower=handle,
            header=header_to_wire(header),
            segment=os.fspath(segment),
            commits=None if commits is None else os.fspath(commits),
            most_bytes=most_bytes,
            level=level,
        )

    def follow_scrub(self, handle: int, first: int, count: int) -> tuple[int, ...]:
        """Compare pages `first` … `first+count-1` of the file with the position; return those that are damaged.

        Pages whose newest version stands in the log alone are left out; a range beyond the last page is empty. Under
        the pin no write is mistaken for damage.
        """
        self._known(handle)
        return self._call("follow_scrub", tuple, follower=handle, first=first, count=count)

    def follow_map(self, handle: int, to: Path) -> MapFacts:
        """Write the page map of the position to the new file `to`, durably; return what it is of.

        Raises OutOfSpace or TargetFailed.
        """
        self._known(handle)
        return self._call("follow_map", _map_facts, follower=handle, to_path=os.fspath(to))

    def continuation(
        self,
        database: str,
        chain: Sequence[str | os.PathLike[str]],
        *,
        salts: bytes,
        known: Witness,
        others: Sequence[Witness] = (),
        commits: Sequence[str | os.PathLike[str]] = (),
        last_frame: int | None = None,
    ) -> Continuation | str:
        """Return what the log beside the real path `database` proves to have been committed behind a restore point.

        The restore point is what `chain` makes, local files from the newest down to the snapshot, and the log was at
        `known` then; see `following.continuation`. `commits` are page sets of commits before it. Where it proves
        nothing, return the clause that says why. Raises RepositoryDamaged, TargetFailed, DatabaseUnreadable.
        """
        return self._call(
            "continuation",
            _continuation,
            database=database,
            chain=[os.fspath(path) for path in chain],
            salts=salts,
            known=[known.frame, *known.checksum],
            others=[[each.frame, *each.checksum] for each in others],
            commits=[os.fspath(path) for path in commits],
            last_frame=last_frame,
        )

    def follow_end(self, handle: int) -> None:
        """Forget a database that was followed. One that is gone with its reader is no error."""
        self._end(handle, "follow_end", follower=handle)


def cursor_to_wire(cursor: Cursor) -> dict[str, Any]:
    """Return `cursor` as plain values."""
    return {
        "salts": cursor.salts,
        "frame": cursor.frame,
        "checksum": None if cursor.checksum is None else list(cursor.checksum),
        "change": cursor.change,
    }


def cursor_from_wire(value: Mapping[str, Any]) -> Cursor:
    """Return what `cursor_to_wire` described."""
    from pagewarden.following.values import Cursor

    checksum = value["checksum"]
    return Cursor(**{**value, "checksum": None if checksum is None else (checksum[0], checksum[1])})


def _look(value: Mapping[str, Any]) -> Look:
    from pagewarden.following.values import Look

    return Look(**value)


def _map_facts(value: Mapping[str, Any]) -> MapFacts:
    from pagewarden.repository.mapfacts import MapFacts

    return MapFacts(**value)


def _continuation(value: Any) -> Continuation | str:
    from pagewarden.following.continuation import Continuation

    if isinstance(value, str):
        return value
    numbers, frames = array("I"), array("I")
    numbers.frombytes(as_bytes(value["numbers"]))
    frames.frombytes(as_bytes(value["frames"]))
    sums = as_bytes(value["sums"])
    if not len(numbers) == len(frames) == len(sums) // 8:
        raise ProtocolError("a reply is no map of frames")
    return Continuation(pages=as_int(value["pages"]), numbers=numbers, frames=frames, sums=sums)


def _gap_or_none(value: Any) -> Gap | None:
    from pagewarden.following.values import Cause, Gap

    return None if value is None else Gap(cause=Cause(value["cause"]), why=value["why"])


def _taken(value: Any) -> Taken | Gap | None:
    from pagewarden.following.values import Taken
    from pagewarden.processes.wire import info_from_wire

    if value is None or "cause" in value:
        return _gap_or_none(value)
    commits = value["commits"]
    return Taken(
        **{
            **value,
            "segment": info_from_wire(value["segment"]),
            "commits": None if commits is None else info_from_wire(commits),
            "cursor": cursor_from_wire(value["cursor"]),
            "time": datetime.fromisoformat(value["time"]),
        }
    )
