"""A file that was transferred as text: every LF became CRLF, or every CRLF became LF, and all that follows moved.

The pages before the first newline are as they were, so the first page that differs begins where it should, and from
there on the whole file can be mangled again from the baseline and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pagewarden.errors import PagewardenError

_WAYS = (("every LF became CRLF", b"\n", b"\r\n"), ("every CRLF became LF", b"\r\n", b"\n"))
_LEAST = 2  # newlines that were changed: one alone is a shift like any other

ReadPage = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mangled:
    """What became of the newlines from one page on."""

    what: str
    last: int  # the last page that was compared, and is as it must be then


def find_mangled(first: int, seen: ReadPage, expected: ReadPage, *, last: int, pages: int) -> Mangled | None:
    """Return how the newlines were mangled from page `first`, the first that differs; None if they were not.

    Pages `first` to `last` are compared; the baseline has `pages`.
    """
    for what, old, new in _WAYS:
        stream = _Stream(expected, first, pages, old, new)
        reached = first - 1
        for pgno in range(first, last + 1):
            page = seen(pgno)
            wanted = stream.take(len(page))
            if page[: len(wanted)] != wanted or any(page[len(wanted) :]):  # the end moved up, and zeros follow it
                break
            reached = pgno
        if reached >= first and stream.changed >= _LEAST:
            return Mangled(what=what, last=reached)
    return None


class _Stream:
    """The baseline's bytes from one page on, with their newlines mangled."""

    def __init__(self, expected: ReadPage, first: int, pages: int, old: bytes, new: bytes) -> None:
        self.changed = 0  # newlines
        self._old, self._new = old, new
        self._buffer = bytearray()
        self._pages = self._read(expected, first, pages)

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer only at the end."""
        while len(self._buffer) < size:
            data = next(self._pages, None)
            if data is None:
                break
            self.changed += data.count(self._old)
            self._buffer += data.replace(self._old, self._new)
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _read(self, expected: ReadPage, first: int, pages: int) -> Iterator[bytes]:
        """Yield pages; a byte that may be the beginning of a newline is kept back for the next."""
        kept = b""
        for pgno in range(first, pages + 1):
            try:
                data = kept + expected(pgno)
            except PagewardenError:  # the baseline itself is damaged there: nothing after it can be told
                return
            kept = self._old[:1] if len(self._old) > 1 and data.endswith(self._old[:1]) else b""
            yield data[: len(data) - len(kept)]
        yield kept
