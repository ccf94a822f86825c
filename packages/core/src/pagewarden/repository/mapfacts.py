"""What a page map is of, and what differs from one: values that travel between the page reader and its caller."""

from __future__ import annotations

from dataclasses import dataclass

from pagewarden.pages import MAX_PAGES, is_page_size


@dataclass(frozen=True, slots=True, kw_only=True)
class MapFacts:
    """Which position a map is of."""

    timeline: str  # 32 hexadecimal digits
    txid: int
    page_size: int  # bytes
    pages: int  # size of the database, in pages
    database_sum: int  # XOR of all page sums

    def __post_init__(self) -> None:
        if not is_page_size(self.page_size) or not 0 <= self.pages <= MAX_PAGES or not 0 < self.txid < 1 << 63:
            raise ValueError(f"a map of {self.pages} pages of {self.page_size} bytes at {self.txid}")

    def to_wire(self) -> dict[str, int | str]:
        """Return it as plain values, which make it again as keyword arguments."""
        return {
            "timeline": self.timeline,
            "txid": self.txid,
            "page_size": self.page_size,
            "pages": self.pages,
            "database_sum": self.database_sum,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What differs between a database and the position that it is compared with."""

    pages: int  # that differ, those that the database has got since included
    too_many: bool  # a snapshot is the better choice; then `pages` is not all of them
    resized: bool  # whether the database has another number of pages
