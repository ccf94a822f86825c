"""What page 1 says of the pointer map, against the trees (file format, section 1.3.12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from pagewarden.structure import Tree
from pagewarden.values import Finding, Severity


def judge_pointer_map(first: bytes, trees: Sequence[Tree]) -> Iterator[Finding]:
    """Judge the largest root page, which the header names if there are ptrmap pages; `first` is page 1."""
    (named,) = struct.unpack_from(">I", first, 52)
    (incremental,) = struct.unpack_from(">I", first, 64)
    largest = max((tree.root for tree in trees), default=0)
    if named and named != largest:
        yield Finding(
            kind="bad-pointer-map",
            severity=Severity.DAMAGE,
            pgno=1,
            message=f"the header names page {named} as the largest root page, and the schema page {largest}",
            evidence=f"bytes 52 to 55 of page 1: {first[52:56].hex()}",
        )
    elif incremental and not named:
        yield Finding(
            kind="bad-pointer-map",
            severity=Severity.DAMAGE,
            pgno=1,
            message="the header asks for incremental vacuum, and says that there are no ptrmap pages",
            evidence=f"bytes 52 to 67 of page 1: {first[52:68].hex()}",
        )
