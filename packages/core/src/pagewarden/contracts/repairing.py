"""What a repairer is, and what it is given: a case to plan for, and a private copy to work on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pagewarden.contracts.checking import FileFacts, PageImage
from pagewarden.values import Position

if TYPE_CHECKING:
    import sqlite3

    from pagewarden.repair.inferred import Inference
    from pagewarden.structure import Flaw, Tree, WalSurvey
    from pagewarden.values import Finding

SqlValue = int | float | str | bytes | None
"""A value as SQLite stores it."""


class Damage(StrEnum):
    """The patterns of damage, by what they hurt; docs/damage.md describes them."""

    INDEX = "index"  # indexes alone: every row is there
    FREELIST = "freelist"
    POINTER_MAP = "pointer-map"
    PAGES = "pages"  # single pages of tables
    INTERIOR = "interior-pages"
    OVERFLOW = "overflow-chains"
    HEADER = "header"
    SCHEMA = "schema-page"
    TRUNCATED = "truncated"
    LOG = "log"  # the -wal
    RELATIONS = "relations"  # foreign keys
    VIRTUAL = "virtual-tables"
    NEWLINES = "mangled-newlines"
    GARBAGE = "garbage"  # nothing of the file is a database any more
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One pattern that findings amount to."""

    damage: Damage
    text: str  # one sentence: what is hurt, and how much of it
    findings: tuple[int, ...]  # which of the case's findings, by their place
    pages: tuple[int, ...] = ()  # page numbers, ascending, as far as they are known
    objects: tuple[str, ...] = ()  # tables and indexes, by name
    happened: str = ""  # what must have happened, where evidence allows to say it
    between: tuple[Position, Position] | None = None  # the restore points between which it happened
    prevent: str = ""  # what keeps it from happening again


class Loss(IntEnum):
    """What a step of a repair may cost, from the least to the most. The planner takes what costs least."""

    PROVEN = 0  # the result is proven, by page sums, to be what was committed
    NOTHING = 1  # no row is lost
    MOVED = 2  # rows that break a rule of the owner's leave the database for the quarantine
    SINCE_BACKUP = 3  # what was committed since a restore point and cannot be read any more
    ROWS = 4  # rows whose pages cannot be read


class Stage(IntEnum):
    """When a step is done. What comes later needs what comes before it to be in order (H27)."""

    LOG = 1  # the -wal: what belongs to the database at all
    PAGES = 2  # pages, header, freelist, pointer map
    ROWS = 3  # tables that are put together anew
    INDEXES = 4
    RELATIONS = 5


class Orphans(StrEnum):
    """What becomes of a row whose parent cannot be had from anywhere."""

    LEAVE = "leave"  # it stays as it is, and is told of; only the newest restore point is asked for its parent
    QUARANTINE = "quarantine"  # the row is taken out
    SET_NULL = "set-null"  # its key becomes NULL, where the columns allow it
    CASCADE = "cascade"  # it is taken out, and so are rows that name it


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairPolicy:
    """What the owner chose for repairs. The defaults lose nothing and invent nothing."""

    orphans: Orphans = Orphans.LEAVE
    replay_stranded: bool = False  # replay transactions behind a bad frame of the log that are provably intact
    assume_current: bool = False  # the owner declares that nothing was committed since the newest restore point


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairStep:
    """One step of a repair plan, which prints itself. A value: whoever applies it gets it as it was planned."""

    text: str  # one sentence: what will be done, to what
    why: str = ""  # what it mends, and how that is known
    loses: str = "nothing"
    loss: Loss = Loss.NOTHING
    stage: Stage = Stage.PAGES
    mends: tuple[int, ...] = ()  # which of the case's findings, by their place; () for all of them
    task: Mapping[str, object] = field(default_factory=dict)  # for the repairer itself: what JSON can hold
    sets_log_aside: bool = False  # the -wal is proved to be none of this database, whose file alone is the database


class PastImage(PageImage, Protocol):
    """What a repository knows of the database's present state, or of an older one."""

    @property
    def position(self) -> Position:
        """Where it stands in the database's history."""


class RepairHistory(Protocol):
    """What a repository holds of the database under repair."""

    @property
    def newest(self) -> PastImage:
        """The newest restore point that was not found damaged."""

    @property
    def present(self) -> PastImage | None:
        """The database as it was last committed, proven page by page; None where that cannot be had (H26).

        It is `newest`, where the files prove that no commit was made since, or that rolled forward by the frames of
        the -wal which follow it without a gap.
        """

    @property
    def why(self) -> str:
        """How `present` is proven, or why there is none: one clause."""

    @property
    def certain(self) -> bool:
        """Whether these are known to be restore points of this very database.

        Otherwise its contents alone speak for them: then a table whose rows are none of a restore point's must get none
        from there.
        """

    @property
    def older(self) -> Sequence[PastImage]:
        """Older restore points, newest first, without `newest`."""

    def fetch(self, image: PastImage, to: Path) -> None:
        """Write a restore point, every page of it proved, to the new file `to`. Raises PagewardenError."""


class RepairCase(Protocol):
    """What is known of a database that is to be repaired. Nothing here can write."""

    @property
    def path(self) -> str:
        """The database's real path, for messages only: a repairer must not open it (H1)."""

    @property
    def findings(self) -> Sequence[Finding]:
        """What the check saw."""

    @property
    def patterns(self) -> Sequence[Pattern]:
        """What the findings amount to."""

    @property
    def refused(self) -> str:
        """What SQLite says where it cannot open the file at all; else empty."""

    @property
    def image(self) -> PageImage:
        """The pages as SQLite sees them, with the log; those of the bare file where it refuses it.

        Raises PagewardenError where not even the size of a page is known.
        """

    @property
    def facts(self) -> FileFacts:
        """What the files say beside the pages."""

    @property
    def log(self) -> WalSurvey | None:
        """What stands in the -wal; None where there is none."""

    def file(self, offset: int, length: int) -> bytes:
        """Return bytes of the bare database file, fewer at its end."""

    def flaws(self) -> Sequence[Flaw]:
        """Return what a walk over all b-trees, the freelist and the pointer map sees; () where there is no image."""

    def inferred(self) -> Inference:
        """Return what the pages, file and log, say of header, freelist and pointer map, whatever stands there."""

    @property
    def trees(self) -> Sequence[Tree]:
        """The b-trees of the schema, to which flaws refer by their place; () where it cannot be read."""

    @property
    def history(self) -> RepairHistory | None:
        """What a repository knows; None where none was named, or it holds nothing of use."""

    @property
    def policy(self) -> RepairPolicy:
        """What the owner chose."""


class RepairBench(Protocol):
    """The private copy that a repair works on, in a process of the repairer's own. Nobody else has it open.

    Pages and connections take turns: no connection may be open while a page is written.
    """

    @property
    def case(self) -> RepairCase:
        """What is known, of the copy as it is now."""

    @property
    def database(self) -> Path:
        """The copy of the database; its -wal or -journal, if there was one, is a copy beside it."""

    @property
    def scratch(self) -> Path:
        """An empty folder on the same file system, which is removed afterwards."""

    def connect(self) -> sqlite3.Connection:
        """Return a connection to the copy that may write, in autocommit mode, distrusting the schema (H29)."""

    def attachable(self, path: Path) -> str:
        """Return a URI under which a connection of `connect` can ATTACH another private file for reading."""

    def read(self, pgno: int, page_size: int) -> bytes:
        """Return a page of the bare copy, short or empty behind its end."""

    def write(self, pgno: int, data: bytes, why: str) -> None:
        """Write a page of the bare copy; what stood there goes to the quarantine first."""

    def resize(self, size: int, why: str) -> None:
        """Cut the bare copy to `size` bytes, or fill it up with zeros; what is cut off goes to the quarantine."""

    def replace(self, file: Path, why: str) -> None:
        """Let the private `file` become the copy, without any -wal; the earlier one stays in the quarantine."""

    def keep_rows(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[SqlValue]], why: str) -> int:
        """Put rows of a table into the quarantine, durably before the copy counts; return how many."""

    def keep_file(self, file: Path, name: str, why: str) -> None:
        """Move a private file, such as a foreign -wal, into the quarantine as `name`."""

    def note(self, table: str, **counts: int) -> None:
        """Add to the report's counts of a table: rows_from_backup, rows_salvaged, rows_quarantined, rows_lost."""

    def progress(self, done: int, total: int) -> None:
        """Tell how far the step is."""


@runtime_checkable
class Repairer(Protocol):
    """Plans and executes one kind of repair, always on a copy."""

    name: str  # unique, the stem of the distribution: "repair-reindex"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Return the steps that would mend what `case` shows, none where it cannot help. Writes nothing."""

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Execute `steps`, as they were planned for the copy. Raise where that cannot be: the copy is then discarded.

        May be killed at any time. Everything that leaves the database goes through the bench's quarantine.
        """
