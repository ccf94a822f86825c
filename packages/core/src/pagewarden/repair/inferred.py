"""What the pages of a damaged database say of its header, freelist and pointer map: a value that travels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

MOST_TOUCHED = 10_000
"""Pages that an inference names as touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What could be derived of a database, and how it differs from what stands there. Travels between processes."""

    why: str = ""  # why nothing could be derived; then all else is empty
    page_size: int = 0  # bytes
    reserved: int = 0  # bytes of each page
    pages: int = 0  # size of the database, in pages
    fields: tuple[str, ...] = ()  # of the header, those that stand there otherwise
    free: int = 0  # pages that nothing uses
    freelist: bool = False  # whether the freelist is made anew
    orphans: int = 0  # free pages that look like a tree's, and that a freelist in order did not name
    maps: tuple[int, ...] = ()  # ptrmap pages that differ
    touched: tuple[int, ...] = ()  # pages that hold what differs, old trunk pages too; MOST_TOUCHED at the most
    cut: int = 0  # bytes behind the last page
    logged: bool = False  # whether pages were read from the -wal
    folded: bool = False  # whether the -wal must be folded into the file, because it holds a page that is to be written
    newlines: str = ""  # what became of the newlines, where that can be undone: "every LF became CRLF", or back

    @property
    def differs(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.fields or self.freelist or self.maps or self.cut or self.newlines)

    def to_wire(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self) | {
            "fields": list(self.fields),
            "maps": list(self.maps),
            "touched": list(self.touched),
        }

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> Self:
        """Return what `to_wire` described. Raises TypeError for nonsense."""
        lists = {name: tuple(value[name]) for name in ("fields", "maps", "touched")}
        return cls(**{**value, **lists})
