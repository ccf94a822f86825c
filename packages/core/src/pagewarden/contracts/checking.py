"""What a checker is, and what it is given: a database that it can only look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pagewarden.values import Finding, Level, Position, Verdict

if TYPE_CHECKING:  # an embedding application, which may use another SQLite library, must not get this one (H2)
    import sqlite3

    from pagewarden.structure import StructureStep, Tree, WalSurvey


class PageImage(Protocol):
    """All pages of one database at one commit, wherever they are kept."""

    @property
    def page_size(self) -> int:
        """Bytes of a page."""

    @property
    def pages(self) -> int:
        """Size of the database, in pages."""

    def sums(self, first: int, count: int) -> bytes:
        """Return the sums of pages `first` … `first+count-1`: 8 bytes each, little-endian; the lock-byte page has 0."""

    def page(self, pgno: int) -> bytes:
        """Return the bytes of one page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What the files of a database say beside the pages of its commit."""

    file_size: int  # bytes of the database file
    journal_mode: str  # "wal", or "rollback" for every mode with a rollback journal
    wal_in_use: bool = False  # whether pages of the commit stand in the -wal, so that the file's size says nothing
    claimed_pages: int = 0  # what the database header counts; 0 where its count is not valid (H13)
    wal_fault: str = ""  # how the -wal fails to prove the commit that SQLite serves from it (H14)


class LiveImage(PageImage, Protocol):
    """The pages under judgement, with scans that the page reader does itself: the bytes of most pages never travel."""

    def reread(self, pgno: int) -> bytes:
        """Return the bytes of one page again, from the disk where the system allows."""

    def reserved_sums(self, first: int, count: int) -> bytes:
        """Return a byte for each page, 1 where the checksum in its 8 reserved bytes holds (cksumvfs), else 0 (H10)."""

    def structure(self, trees: Sequence[Tree], *, resume: str = "") -> Iterator[StructureStep]:
        """Walk `trees`, the freelist and the pointer map; yield what was seen, a fraction of a second apart.

        Every page must be used exactly once, so `trees` are all of the schema. `resume` is the `reached` of a walk that
        was cut short: this one begins there, and goes round to the beginning.
        """

    def wal(self) -> WalSurvey | None:
        """Return what stands in the -wal, from its first frame to the end of the file; None where there is none."""


class Baseline(PageImage, Protocol):
    """An older image of the database that a checker may compare with."""

    @property
    def position(self) -> Position | None:
        """Where it stands in the database's history, if known."""

    @property
    def current(self) -> bool:
        """Whether it is known to be the database's present commit, so that every difference is damage.

        True where the owner declared it (`--baseline`) or where no commit can have been made since.
        """

    @property
    def older(self) -> Sequence[PageImage]:
        """Still older images, newest first: evidence for a lost write."""


class Subject(Protocol):
    """One database under judgement, as a checker sees it. Nothing here can write to it."""

    @property
    def path(self) -> str:
        """The database's real path, for messages only: a checker must not open it (H1)."""

    @property
    def level(self) -> Level:
        """How much the run may cost."""

    @property
    def image(self) -> LiveImage:
        """The pages of the commit under judgement."""

    @property
    def facts(self) -> FileFacts:
        """What the files say beside the pages of `image`."""

    @property
    def baseline(self) -> Baseline | None:
        """What to compare with, if anything. Raises PagewardenError where there should be one that cannot be used."""

    @property
    def assertions(self) -> Sequence[str]:
        """The owner's statements, each of which must hold: one row whose first column is true."""

    @property
    def resume(self) -> str:
        """What this checker told `reached` last, in a run whose time was over before it ended; "" to begin anew."""

    def reached(self, place: str) -> None:
        """Note how far the checker is: the next run resumes there if this one's time is over.

        What `progress` was told before is what was judged from where this call began to `place`; parts of several runs
        add up to a verdict. Tell "" first where that would not be true of this call: where it could not resume, or
        leaves something unjudged.
        """

    def connect(self, *, copy: bool = False) -> sqlite3.Connection:
        """Return a new read-only connection for the calling thread; core closes it, and interrupts it in time.

        With `copy` it is one to a private copy of the database, which it may write to.
        """

    def progress(self, done: int, total: int) -> None:
        """Tell how far the checker is, from where this call began, first 0. Raises once the deadline has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """What a checker may return when findings alone do not say it: that part of the file could not be judged."""

    findings: tuple[Finding, ...] = ()
    verdict: Verdict | None = None  # None: derived from the findings
    why: str = ""


def is_relational(checker: Checker) -> bool:
    """Whether a checker judges rows by other rows, as its attribute `relational` says."""
    return bool(getattr(checker, "relational", False))


@runtime_checkable
class Checker(Protocol):
    """Judges one aspect of a database.

    A checker of an installed or importable plugin runs in a process of its own, which may die without harm, unless it
    has an attribute `in_process` that is true: then it shares the run's process, in a thread, and starts sooner. One
    whose attribute `surroundings` is true asks for no page and no connection: it is called even where the database
    cannot be opened now. One whose attribute `relational` is true judges rows by other rows, which takes longer than to
    read every page: where something else shows damage, a repair has it judge the repaired copy alone. One that resumes
    may have an attribute `whole_only`, which names what it can judge only in one run, not in parts.
    """

    name: str  # unique, the stem of the distribution: "check-pragma"
    level: Level  # the lowest level at which it runs

    def check(self, subject: Subject) -> CheckOutcome | Iterable[Finding]:
        """Return findings; raise to say `unknown`. May be stopped at any time; must leave nothing behind.

        What a generator has yielded stays when it is stopped. It may return a CheckOutcome for what is left to say.
        """
