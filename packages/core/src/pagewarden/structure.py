"""What is asked of a scan of b-trees and of the -wal, and what it saw: plain values that travel between processes.

Format: https://www.sqlite.org/fileformat2.html, sections 1.5 to 1.8 (pages, b-trees, freelist, ptrmap) and 4 (WAL).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Collation(IntEnum):
    """How SQLite compares the texts of an indexed column. The numbers are those of the native module."""

    BINARY = 0
    NOCASE = 1
    RTRIM = 2
    UNKNOWN = 3  # an application's own: from this column on, order is not judged


class StrictType(IntEnum):
    """What a column of a STRICT table may hold beside NULL. The numbers are those of the native module."""

    ANY = 0  # also every column of a table that is not STRICT
    INTEGER = 1
    REAL = 2  # stored as an integer where that is shorter
    TEXT = 3
    BLOB = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a record, as it is stored."""

    name: str = ""
    collation: Collation = Collation.BINARY
    descending: bool = False
    not_null: bool = False
    strict: StrictType = StrictType.ANY
    rowid: bool = False  # an INTEGER PRIMARY KEY: stored as NULL, it is the row's key


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One b-tree of the schema."""

    name: str  # of the table or index
    root: int  # its first page
    index: bool  # of an index or of a WITHOUT ROWID table; otherwise its keys are rowids
    columns: tuple[Column, ...] = ()  # in the order in which they are stored; empty where they are not known
    keys: int = 0  # index: how many of `columns` order it; 0: order is not judged


class FlawKind(IntEnum):
    """What is wrong with a page. The numbers are those of the native module (`pw_flaw_kind`)."""

    PAGE_TYPE = 1  # not a b-tree page of the tree's kind: seen = its first byte
    PAGE_NUMBER = 2  # a pointer outside the database, or to a page that cannot be one: seen = the number
    PAGE_HEADER = 3  # cell count, content area or fragmented bytes that cannot be: expected, seen
    CELL_POINTER = 4  # a pointer array entry outside the content area: seen = the offset
    CELL_SIZE = 5  # a cell that runs past the page's end: expected = the end, seen = where it would end
    CELL_OVERLAP = 6  # two cells, or a cell and a free block, share bytes: seen = the first shared byte
    FREE_BLOCK = 7  # the chain of free blocks is broken: seen = the offset
    FRAGMENTS = 8  # fragmented bytes: expected by the header, seen in the page
    ROWID_ORDER = 9  # a rowid out of order, or outside what the parent page allows
    KEY_ORDER = 10  # a key of an index out of order, or outside what the parent page allows
    DEPTH = 11  # a leaf at another depth than the tree's first, or a tree deeper than SQLite can go
    OVERFLOW_LENGTH = 12  # an overflow chain longer or shorter than its payload: expected and seen, in pages
    TWICE = 13  # a page that is used already: other = who uses it here
    UNUSED = 14  # pages that nothing uses: seen = how many from pgno on
    FREELIST_COUNT = 15  # the header's count of free pages: expected, seen
    FREELIST_TRUNK = 16  # a trunk page with more leaves than fit: seen = its count
    POINTER_MAP = 17  # a ptrmap entry: expected and seen = type << 32 | parent
    RECORD_HEADER = 18  # a record header that runs past its payload, or whose serial types do not fill it
    SERIAL_TYPE = 19  # a serial type that is reserved: seen = the type
    NOT_NULL = 20  # a NULL in a NOT NULL column
    STRICT_TYPE = 21  # a value of another type in a column of a STRICT table: seen = the serial type
    EMPTY_PAGE = 22  # a page without cells that is not the root of an empty tree
    UNREADABLE = 23  # a page that the disk refuses to give: seen = the errno


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One thing that is wrong with one page. A field that does not apply is None."""

    kind: FlawKind
    pgno: int
    tree: int | None = None  # its place in the trees that were asked for; None: the freelist, or no tree
    cell: int | None = None  # which of the page's cells, from 0
    column: int | None = None  # which of the tree's columns, from 0
    other: int | None = None  # another page: the parent, or who uses it too
    rowid: int | None = None
    expected: int | None = None
    seen: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureStep:
    """What a part of a walk saw."""

    flaws: tuple[Flaw, ...]
    pages: int  # pages looked at since the walk began
    reached: str  # where a walk that is cut short here can be resumed
    done: bool = False  # whether this is the last step
    left_out: int = 0  # flaws beyond the bound on their number, since the walk began
    unordered: int = 0  # keys whose order was not judged, because they are longer than what is put together; likewise
    walked: bool = False  # whether all trees were, so that only the freelist and what nothing uses is left


@dataclass(frozen=True, slots=True, kw_only=True)
class WalSurvey:
    """What stands in a -wal, whatever SQLite makes of it. Frames are counted from 1."""

    size: int  # bytes of the file
    header_fault: str = ""  # why its header is none; then what is said of header and chain is 0
    page_size: int = 0  # bytes
    sequence: int = 0  # checkpoint sequence number
    salts: bytes = b""  # of the header, 8 bytes
    # The chain
    frames: int = 0  # whole frames in the file
    valid: int = 0  # frames in the unbroken chain from the first
    commits: int = 0  # commits among those
    committed: int = 0  # the last commit frame of the chain, 0 for none
    committed_pages: int = 0  # its commit field: size of the database, in pages
    end: str = ""  # why the chain ends, "" at the end of the file
    # Behind its end
    stranded: int = 0  # frames of this generation, each of which continues the checksum of the one before
    stranded_first: int = 0  # the first of those, 0 for none
    stranded_commits: int = 0  # commits that they prove: SQLite's recovery drops them without a word (H14)
    stranded_last: int = 0  # the last frame of those commits, 0 for none
    replay_to: int = 0  # the last of them up to which everything is proven, or overwritten; 0 for none
    replay_commits: int = 0  # how many commits that would bring back
    replay_without: int = 0  # frames up to there whose content is lost; only 0 excludes that a recovery dropped them
    broken_commit: bool = False  # whether the frame that ends the chain bears its salts and the mark of a commit
    older: int = 0  # frames with salts of another generation
    bare: int = 0  # frames right behind the chain that SQLite left without salts and checksum
    bare_commit: int = 0  # the last of them that bears the mark of a commit, 0 for none
    # The wal-index
    live: bool = False  # whether one that is in use said what follows
    index_frames: int = 0  # mxFrame: the last frame that readers are served
    backfilled: int = 0  # frames that are in the database file already
    read_marks: tuple[int | None, ...] = ()  # None where a slot is not used. Lower bounds, never snapshots (H37)
    # Whether the committed frames continue the file beside them
    file_header: bytes = b""  # the first 100 bytes of the database file
    first_page_one: bytes = b""  # the first 100 bytes of page 1 in the first frame that holds it; b"" for none
    page_one: bytes = b""  # the same of the last one
    schema_differs: bool = False  # whether page 1 of log and file differ behind those bytes: in the schema's b-tree
    kinds_compared: int = 0  # pages whose type byte was compared; only where no frame holds page 1
    kinds_differ: int = 0  # those of them whose type byte in the log is not that in the file
    whole: bool = False  # whether the log holds every page of its last commit
    missing: int = 0  # pages of that commit that are neither in the log nor in the file
