"""Reading one commit of a live database: pin, attach, work, check, and again where it moved.

docs/live-read.md has the steps, their proof and what was measured. In short: a SQLite connection of this process pins a
commit and never looks at the files itself (H1); the page reader, which holds no connection, reads them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from pagewarden.errors import DatabaseUnreadable, DatabaseUnsettled, ReaderCrashed
from pagewarden.live.connection import BUSY_SECONDS
from pagewarden.live.pin import Pin, patience, refused_on_network
from pagewarden.live.place import examine
from pagewarden.processes.reader import Attachment, PageReader

T = TypeVar("T")

ATTEMPTS = 20
"""How often a commit is begun. At the exact commit under load 19 of 20 first attempts succeed, so this is plenty."""

_PAUSE = 0.005  # seconds before the second attempt; doubled for each further one
_LONGEST_PAUSE = 0.25


def read_commit(
    path: str,
    reader: PageReader,
    work: Callable[[Attachment, Pin], T],
    *,
    attempts: int = ATTEMPTS,
    deadline: float | None = None,
    timeout: float = BUSY_SECONDS,
    exact: bool = False,
    connections: int = 0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return `work(attachment, pin)`, done on one commit of the database at `path`.

    `work` reads pages through the reader with `attachment.handle`, and may run several times: whatever an attempt gave
    is discarded if the files moved under it. In WAL mode the commit is the newest one or a later one; with `exact` it
    is the very one that the pin sees, and its `connections` further connections, too (step 7). In rollback-journal mode
    it always is, and no commit can be made until `work` is done.

    `deadline`, a reading of `clock`, is looked at between attempts, and no lock is waited for beyond it. Raises what
    `examine` and `Pin` raise; DatabaseUnsettled if every attempt failed; what `work` raises, if the files did not move
    under it.
    """
    place = examine(path)
    with Pin(
        place, timeout=patience(timeout, deadline, clock), connections=connections, clock=clock, sleep=sleep
    ) as pin:
        reader.ping()  # it may have to start first, and that under a lock would stop writers
        return read_pinned(
            pin, reader, work, attempts=attempts, deadline=deadline, exact=exact, clock=clock, sleep=sleep
        )


def read_pinned(
    pin: Pin,
    reader: PageReader,
    work: Callable[[Attachment, Pin], T],
    *,
    attempts: int = ATTEMPTS,
    deadline: float | None = None,
    exact: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Do what `read_commit` does with a pin that has not begun: for those who read often, and keep it.

    Nothing is locked before and after.
    """
    if attempts < 1:
        raise ValueError(f"{attempts} attempts cannot read anything")
    if exact:
        pin.look()
    attempt = 1
    while True:
        try:
            return _attempt(reader, pin, work, exact=exact)
        except Moved as moved:
            if attempt == attempts or (deadline is not None and clock() >= deadline):
                raise DatabaseUnsettled(
                    f"{pin.place.path} could not be read at one commit in {attempt} attempts: {moved}",
                    hint="try again when less is written to it",
                ) from moved
        sleep(pause_after(attempt))
        attempt += 1


def pause_after(attempt: int) -> float:
    """Return the seconds to wait before the attempt that follows attempt number `attempt`."""
    return min(_PAUSE * 2.0 ** (attempt - 1), _LONGEST_PAUSE)


class Moved(Exception):
    """The files changed under an attempt in a way that makes it worthless; the next one may succeed."""


def _attempt(reader: PageReader, pin: Pin, work: Callable[[Attachment, Pin], T], *, exact: bool) -> T:
    before = b""
    if exact:
        try:
            before = reader.glance(pin.place.path)
        except DatabaseUnsettled as error:
            raise Moved(error.message) from error
    pin.begin()
    try:
        with attached(reader, pin) as attachment:
            if exact and attachment.mode == "wal" and attachment.token != before:
                raise Moved("a commit was made while it was pinned")
            return work(attachment, pin)
    finally:
        pin.release()


@contextmanager
def attached(reader: PageReader, pin: Pin) -> Iterator[Attachment]:
    """Attach the database of a pin that has begun; at the end do step 6, and close the descriptors in any case.

    Raises Moved where the files moved; errors of the reads in between are of no account then.
    """
    attachment = attach_pinned(reader, pin)
    try:
        yield attachment
    except DatabaseUnsettled as error:
        raise Moved(error.message) from error
    except DatabaseUnreadable:
        _check(reader, pin, attachment)
        raise
    else:
        _check(reader, pin, attachment)
    finally:
        with suppress(ReaderCrashed):  # then its descriptors are closed, too
            reader.release(attachment.handle)


def attach_pinned(reader: PageReader, pin: Pin) -> Attachment:
    """Attach the database of a pin that has begun; whoever calls closes it. Raises Moved, or as `examine` does."""
    try:
        attachment = reader.attach(pin.place.path)
    except DatabaseUnsettled as error:
        raise Moved(error.message) from error
    if attachment.mode == "wal" and pin.place.on_network:
        with suppress(ReaderCrashed):
            reader.release(attachment.handle)
        raise refused_on_network(pin.place)
    return attachment


def _check(reader: PageReader, pin: Pin, attachment: Attachment) -> None:
    """Step 6: what was read since the attachment is one commit, or Moved is raised."""
    try:
        reader.detach(attachment.handle)
    except DatabaseUnsettled as error:
        raise Moved(error.message) from error
    if not pin.still_pinned():
        raise Moved("the read transaction ended, or the file was replaced")
