"""The pointer map derived from who uses each page (file format, section 1.8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pagewarden.pages import lock_page
from pagewarden.pages.walk import USER_SIZE
from pagewarden.sqlite.infer import PageShape

_FREE_USER = bytes((2, 0, 0, 0, 0))
_UNUSED = bytes(USER_SIZE)


def map_places(shape: PageShape, pages: int) -> Iterator[int]:
    """Yield the pages that hold the pointer map where there is one (file format, section 1.8)."""
    lock = lock_page(shape.page_size)
    for place in range(2, pages + 1, shape.usable // USER_SIZE + 1):
        number = place + 1 if place == lock else place
        if number <= pages:
            yield number


def last_entry(shape: PageShape, number: int, pages: int) -> int:
    """Return the last page that ptrmap page `number` has an entry of."""
    shifted = number == lock_page(shape.page_size) + 1 and (number - 3) % (shape.usable // USER_SIZE + 1) == 0
    return min(number - shifted + shape.usable // USER_SIZE, pages)


def agrees(read: Callable[[int], bytes], shape: PageShape, users: memoryview, maps: tuple[int, ...]) -> bool:
    """Return whether most entries of the ptrmap pages `maps` say of pages in use who uses them."""
    pages = len(users) // USER_SIZE
    agree = known = 0
    for number in maps:
        last = last_entry(shape, number, pages)
        if not any(users[USER_SIZE * number : USER_SIZE * last]):
            continue  # of a file that is mostly nothing
        page = read(number)
        for place in range(number, last):
            user = users[USER_SIZE * place : USER_SIZE * (place + 1)]
            if user != _UNUSED:
                at = USER_SIZE * (place - number)
                known += 1
                agree += page[at : at + USER_SIZE] == user
    return 2 * agree > known


def user_of(users: memoryview, pgno: int) -> bytes:
    """Return who uses a page, zeros where nobody does."""
    return bytes(users[USER_SIZE * (pgno - 1) : USER_SIZE * pgno])


def map_page(shape: PageShape, users: memoryview, *, number: int, pages: int, stood: bytes) -> bytes:
    """Return a ptrmap page as it must be; what it says of no page stays as it stands."""
    page = bytearray(stood)
    last = last_entry(shape, number, pages)
    entries = bytearray(users[USER_SIZE * number : USER_SIZE * last])
    lock = lock_page(shape.page_size)
    at = 0
    while (at := _next_unused(entries, at)) < len(entries):
        pgno = number + 1 + at // USER_SIZE
        entries[at : at + USER_SIZE] = stood[at : at + USER_SIZE] if pgno == lock else _FREE_USER
        at += USER_SIZE
    page[: len(entries)] = entries
    return bytes(page)


def _next_unused(entries: bytearray, start: int) -> int:
    """Return where the next entry of zeros begins, from `start` on; the end where there is none."""
    at = start
    while (at := entries.find(_UNUSED, at)) >= 0:
        if at % USER_SIZE == 0:
            return at
        at += USER_SIZE - at % USER_SIZE
    return len(entries)
