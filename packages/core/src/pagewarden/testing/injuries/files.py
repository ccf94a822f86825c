"""Injuries of the file as a whole: what copies, transfers and file systems do to it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from functools import partial

from pagewarden.testing.injuries.closed import TRIES, Attempt, ClosedCopy

_LONGEST_SHIFT = 16  # bytes


def truncated_tail(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Cut off the file's end, up to half of it."""
    size = copy.pages * copy.page_size
    begin = chance.randrange(size // 2, size)
    message = f"the file ends at byte {begin}, {copy.file_size - begin} bytes are gone"
    yield Attempt(target=f"byte {begin}", message=message, write=partial(copy.rewrite, begin, ()))


def shifted_bytes(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Put some bytes in or take some out, so that all that follows moves."""
    for _ in range(TRIES):
        begin, length = chance.randrange(copy.pages * copy.page_size), chance.randrange(1, _LONGEST_SHIFT + 1)
        added = chance.randbytes(length) if chance.random() < 0.5 else b""
        following = copy.rest(begin if added else begin + length)
        yield Attempt(
            target=f"byte {begin}",
            message=f"{length} bytes were {'put in' if added else 'taken out'} at byte {begin}: what follows moved",
            write=partial(copy.rewrite, begin, itertools.chain([added], following)),
        )


def mangled_newlines(copy: ClosedCopy, chance: random.Random) -> Iterator[Attempt]:
    """Treat the file as text: every LF becomes CRLF, or every CRLF becomes LF."""
    ways = [("every LF became CRLF", b"\n", b"\r\n"), ("every CRLF became LF", b"\r\n", b"\n")]
    chance.shuffle(ways)
    for message, old, new in ways:
        pieces = _replaced(copy.rest(0), old, new)
        yield Attempt(target=f"a file in which {message}", message=message, write=partial(copy.rewrite, 0, pieces))


def _replaced(chunks: Iterable[bytes], old: bytes, new: bytes) -> Iterator[bytes]:
    """Yield the chunks with `old` replaced, also where it begins in one chunk and ends in the next."""
    kept = b""
    for chunk in chunks:
        data = kept + chunk
        kept = old[:1] if len(old) > 1 and data.endswith(old[:1]) else b""
        yield data[: len(data) - len(kept)].replace(old, new)
    yield kept
