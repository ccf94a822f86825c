"""Which batches of a followed history are to become one: values in, values out.

A guard stores a batch every few tens of milliseconds, each with a manifest of its own. Many small ones become one, many
of those one again, so that a history of n batches has a number of manifests that grows with log n, and each commit is
written anew as often.

1. What may go together stands in a *stretch*: followed batches, each continuing the one before it. A restore point of a
   backup, a gap, and one that is marked as deleted are between stretches. One that is pinned, or whose verdict is not
   that of the one after it, may only be the last of what becomes one: it stays a restore point.
2. The level of a batch is the logarithm of its commits to the base MANY. Where as many of one level wait, with none of
   a higher one between them, they become one, with what is smaller and stands among them: that is of the next level.
3. A stretch behind which something else stands will not grow any more: all of it becomes one.
4. The newest manifest stays as it is, because somebody may be about to continue it; and nothing becomes larger than
   MOST, because whoever restores one of its commits reads all of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from msgspec import UNSET

from pagewarden.repository.manifest import Manifest
from pagewarden.values import Verdict

MANY = 64
"""So many batches become one."""

MOST = 256 << 20
"""Bytes of objects that become one."""

_AT_ONCE = 512
"""Batches that become one where many are waiting, at most."""


def runs(
    manifests: Sequence[Manifest],
    *,
    alone: Collection[int] = (),
    last: Collection[int] = (),
    many: int = MANY,
    most: int = MOST,
) -> Iterator[tuple[Manifest, ...]]:
    """Yield what is to become one, from the oldest on; no manifest stands in two of them.

    `manifests` are all that count, in order of sequence. `alone` are sequences that stay as they are, `last` those of
    which the restore point must stay. Where something is yielded there may be more once that is done.
    """
    for stretch, open_end in _stretches(manifests, alone):
        for piece, more in _pieces(stretch, last, open_end):
            for window in _waiting(piece, many) if more else (piece,):
                yield from (group for group in _groups(window, most) if len(group) > 1)


def _stretches(manifests: Sequence[Manifest], alone: Collection[int]) -> Iterator[tuple[list[Manifest], bool]]:
    """Yield what may go together, and whether more of it may come. The newest manifest is in none."""
    stretch: list[Manifest] = []
    for before, each in zip((None, *manifests), manifests, strict=False):
        if stretch and (before is not stretch[-1] or not _continues(stretch[-1], each)):
            yield stretch, False
            stretch = []
        if each is not manifests[-1] and each.sequence not in alone and _may(each):
            stretch.append(each)
    if stretch:
        yield stretch, True


def _may(manifest: Manifest) -> bool:
    """Return whether it is a followed batch."""
    return manifest.followed and manifest.kind == "segment" and manifest.facts.gap is UNSET


def _continues(below: Manifest, manifest: Manifest) -> bool:
    return manifest.kind == "segment" and manifest.parent == below.position and manifest.page_size == below.page_size


def _pieces(
    stretch: Sequence[Manifest], last: Collection[int], open_end: bool
) -> Iterator[tuple[Sequence[Manifest], bool]]:
    """Cut a stretch behind each restore point that must stay; yield whether more may come to a piece, too."""
    begin = 0
    for place, (each, after) in enumerate(pairwise(stretch), 1):
        if each.sequence in last or (each.source.verdict is not Verdict.UNKNOWN and each.source != after.source):
            yield stretch[begin:place], False
            begin = place
    yield stretch[begin:], open_end and stretch[-1].sequence not in last


def _waiting(piece: Sequence[Manifest], many: int) -> list[Sequence[Manifest]]:
    """Return where as many of one level wait, of the lowest level at which they do."""
    levels = [_level(each, many) for each in piece]
    for level in sorted(set(levels)):
        windows = []
        for begin, end in _windows(levels, level):
            places = [place for place in range(begin, end) if levels[place] == level]
            if len(places) >= many:
                windows.append(piece[begin : places[-1] + 1])
        if windows:
            return windows
    return []


def _windows(levels: Sequence[int], level: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of what stands next to each other and is of `level` or below."""
    begin = 0
    for place, each in enumerate((*levels, level + 1)):
        if each > level:
            yield begin, place
            begin = place + 1


def _groups(window: Sequence[Manifest], most: int) -> Iterator[tuple[Manifest, ...]]:
    """Cut what stands next to each other so that no part grows too large."""
    group: list[Manifest] = []
    size = 0
    for each in window:
        if group and (size + each.bytes_stored > most or len(group) == _AT_ONCE):
            yield tuple(group)
            group, size = [], 0
        group.append(each)
        size += each.bytes_stored
    yield tuple(group)


def _level(manifest: Manifest, many: int) -> int:
    level, span = 0, manifest.span
    while span >= many:
        level, span = level + 1, span // many
    return level
