"""Named injuries: what disks, cables and bugs do to a database, done on purpose to a closed copy.

An injury opens and writes the file itself, without SQLite: the file must be a private copy that nobody has open (H1),
with nothing left in a -wal or -journal unless the injury is one of the -wal. The same file, kind and seed give the same
injury. A target where nothing in use would change gives way to the next, and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pagewarden.testing.injuries import bits, files, logs, pages, trees
from pagewarden.testing.injuries.kind import Injury

__all__ = ["INJURIES", "Injury"]

_MORE_ROWS = "take a database with more rows"
_OLDER = "take an older image from before the last commits"

_ALL = (
    Injury(
        name="flipped-bit",
        summary="One bit of a text column changes; no index knows the column, so SQLite's checks stay silent.",
        lacks="bit to flip",
        hint=_MORE_ROWS,
        targets=bits.flipped_bit,
    ),
    Injury(
        name="zeroed-page",
        summary="One page of a table or index becomes all zeros.",
        lacks="b-tree page but its first to zero",
        hint=_MORE_ROWS,
        targets=pages.zeroed_page,
    ),
    Injury(
        name="zeroed-sector",
        summary="512 bytes of a page become zeros.",
        lacks="sector in use that is not all zeros",
        hint=_MORE_ROWS,
        targets=pages.zeroed_sector,
    ),
    Injury(
        name="zeroed-run",
        summary="2 to 8 pages in a row become zeros.",
        lacks="two pages in a row behind its first to zero",
        hint=_MORE_ROWS,
        targets=pages.zeroed_run,
    ),
    Injury(
        name="torn-page",
        summary="The second part of a page holds what an older image has there, or what stands on another page.",
        takes_older=True,
        lacks="page behind its first whose second part could be torn off",
        hint=_MORE_ROWS,
        targets=pages.torn_page,
    ),
    Injury(
        name="swapped-pages",
        summary="Two pages change places.",
        lacks="two pages in use behind its first that differ",
        hint=_MORE_ROWS,
        targets=pages.swapped_pages,
    ),
    Injury(
        name="overwritten-page",
        summary="One page holds what belongs to another.",
        lacks="two pages in use behind its first that differ",
        hint=_MORE_ROWS,
        targets=pages.overwritten_page,
    ),
    Injury(
        name="lost-write",
        summary="One page goes back to an older version of itself, as if a write had never reached the disk.",
        needs_older=True,
        lacks="page but its first that differs from the older image",
        hint=_OLDER,
        targets=pages.lost_write,
    ),
    Injury(
        name="truncated-tail",
        summary="The file's end is cut off, up to half of it.",
        lacks="end to cut off",
        hint=_MORE_ROWS,
        targets=files.truncated_tail,
    ),
    Injury(
        name="header-garbage",
        summary="4 to 16 bytes of the database header become garbage.",
        lacks="header byte to change",
        hint=_MORE_ROWS,
        targets=trees.header_garbage,
    ),
    Injury(
        name="schema-page",
        summary="Up to 16 bytes of page 1 behind the database header become garbage.",
        lacks="byte of a schema to change",
        hint=_MORE_ROWS,
        targets=trees.schema_page,
    ),
    Injury(
        name="freelist-trunk",
        summary="A trunk page of the freelist names a wrong next trunk, a wrong number of leaves or a wrong leaf.",
        lacks="freelist",
        hint="delete rows first, and take a database without auto_vacuum",
        targets=trees.freelist_trunk,
    ),
    Injury(
        name="overflow-pointer",
        summary="A row goes on at a wrong overflow page.",
        lacks="overflow page",
        hint="take a database with rows that are longer than a page",
        targets=trees.overflow_pointer,
    ),
    Injury(
        name="cell-pointer",
        summary="A pointer to a cell leads elsewhere in its page.",
        lacks="page behind its first with a cell",
        hint=_MORE_ROWS,
        targets=trees.cell_pointer,
    ),
    Injury(
        name="interior-child-pointer",
        summary="An interior page names a wrong child.",
        lacks="interior page behind its first",
        hint=_MORE_ROWS,
        targets=trees.interior_child_pointer,
    ),
    Injury(
        name="index-entry",
        summary="One byte of an entry of an index changes.",
        lacks="index with an entry",
        hint="take a database with an index",
        targets=trees.index_entry,
    ),
    Injury(
        name="shifted-bytes",
        summary="1 to 16 bytes are put in or taken out, so that all that follows moves.",
        lacks="byte that could be put in or taken out",
        hint=_MORE_ROWS,
        targets=files.shifted_bytes,
    ),
    Injury(
        name="mangled-newlines",
        summary="Every LF of the file becomes CRLF, or every CRLF becomes LF, as in a transfer as text.",
        lacks="newline",
        hint=_MORE_ROWS,
        targets=files.mangled_newlines,
    ),
    Injury(
        name="damaged-wal-frame",
        summary="Up to 16 bytes of a frame of the -wal become garbage, so that its commit and all later ones are lost.",
        of_wal=True,
        lacks="-wal with a commit that could be lost",
        hint="copy a database in WAL mode together with its -wal, before a checkpoint",
        targets=logs.damaged_wal_frame,
    ),
    Injury(
        name="foreign-wal",
        summary="A valid -wal appears beside the file: its own from an older image, or another database's.",
        takes_older=True,
        lacks="page that differs from the older image",
        hint=_OLDER,
        targets=logs.foreign_wal,
    ),
)

INJURIES: Mapping[str, Injury] = MappingProxyType({injury.name: injury for injury in _ALL})
"""The injuries by name."""
