"""A look at suspect pages at the end of a run: what they hold now, and what the baseline says they should."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from pagewarden.check.baseline import StoredBaseline
from pagewarden.check.images import ImageMoved
from pagewarden.check.source import MakeImage, Source
from pagewarden.check.subject import DeadlinePassed
from pagewarden.contracts import FileFacts, PageImage
from pagewarden.errors import PagewardenError
from pagewarden.ledger.suspects import Look
from pagewarden.processes.reader import Attachment


def look_at(
    pgnos: Sequence[int],
    source: Source,
    baseline_at: Callable[[Attachment | None], StoredBaseline | None],
    guard: Callable[[], None],
) -> Look | None:
    """Return the sums of pages at one commit; None where they cannot be read, or the time is over.

    `baseline_at` returns what they are compared with at one commit, as `Baselines.at` does; `guard` is called before
    each access and may raise DeadlinePassed.
    """

    def work(make: MakeImage, _: FileFacts, attachment: Attachment | None) -> Look:
        image = make(guard)
        guard()
        expected: dict[int, bytes] = {}
        with suppress(PagewardenError):  # a baseline that cannot be used explains nothing
            baseline = baseline_at(attachment)
            if baseline is not None and baseline.page_size == image.page_size:
                expected = _sums(baseline, pgnos)
        moment = "" if attachment is None else _moment(attachment)
        return Look(pages=image.pages, moment=moment, sums=_sums(image, pgnos), expected=expected)

    try:
        return source.with_image(work)
    except (PagewardenError, DeadlinePassed, ImageMoved):
        return None


def _moment(attachment: Attachment) -> str:
    """Return what another commit makes another one of; with a rollback journal, what its header tells of that."""
    if attachment.mode == "wal":
        return f"wal {attachment.token.hex()}"
    return f"file {attachment.header[24:28].hex()} {attachment.pages}"


def _sums(image: PageImage, pgnos: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for first, count in _stretches([pgno for pgno in pgnos if pgno <= image.pages]):
        sums = image.sums(first, count)
        found.update((first + index, sums[8 * index : 8 * index + 8]) for index in range(count))
    return found


def _stretches(pgnos: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield sorted page numbers as runs of consecutive ones: first and count."""
    first = count = 0
    for pgno in pgnos:
        if count and pgno == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = pgno, 1
    if count:
        yield first, count
