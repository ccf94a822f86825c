"""Pages that backups proved damaged: they differed though no commit was made. Kept locally from backup to backup.

A commit somewhere else in the database heals nothing. So what was proved once holds of a page for as long as it is as
it was then, and every manifest of that time says so. Where the list is lost while the newest manifest says that
there is one, nobody knows which pages they are: then a database may be anything, but is not known to be sound.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden import durable, lineage
from pagewarden.errors import RepositoryDamaged

if TYPE_CHECKING:
    from pagewarden.processes.reader import PageReader
    from pagewarden.repository import PageSetInfo
    from pagewarden.repository.mapfacts import MapFacts
    from pagewarden.values import Position

SINCE = "though no commit was made since"
"""What stands in the verdict of each manifest whose source has such pages, or may have."""

MOST = 3000
"""Pages that are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rot:
    """Pages of one database that were proved damaged and are as they were then."""

    since: str = ""  # since when no commit explains the first of them, as text; empty where that is not known
    pages: tuple[int, ...] = ()  # numbers, ascending
    more: bool = False  # whether there may be others that are not listed

    def __bool__(self) -> bool:
        return self.more or bool(self.pages)

    def without(self, changed: Iterable[int], *, pages: int) -> Rot:
        """Return it without the pages `changed`, and those that a database of so many pages has not."""
        gone = set(changed)
        return Rot(
            since=self.since,
            pages=tuple(each for each in self.pages if each not in gone and each <= pages),
            more=self.more,
        )

    def beside(self, other: Rot) -> Rot:
        """Return both in one."""
        every = sorted({*self.pages, *other.pages})
        more = self.more or other.more or len(every) > MOST
        return Rot(since=self.since or other.since, pages=tuple(every[:MOST]), more=more)


LOST = Rot(more=True)
"""What is known where the list is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """The list as it is kept, and of which position. Raises ValueError for nonsense."""

    format: int
    timeline: str
    txid: int
    page_size: int  # bytes
    pages: int  # size of the database, in pages
    database_sum: int
    since: str
    rot: tuple[int, ...]
    more: bool


def rot_path(state: Path, place: str, path: str) -> Path:
    """Return where the list of the database at the real path `path` is kept, as backed up to `place` (`place_of`)."""
    return state / "rot" / f"{lineage.file_name(place, path)}.json"


def coming_path(path: Path) -> Path:
    """Return where the list is kept, beside the one at `path`, that will hold once a backup is committed.

    So a backup that is killed right after its commit loses none.
    """
    return path.with_suffix(".coming")


def keep_rot(path: Path, rot: Rot, info: PageSetInfo) -> None:
    """Keep the list for the backup that stored the page set `info`, durably; empty it is no file. Raises OSError."""
    if not rot:
        path.unlink(missing_ok=True)
        return
    from pagewarden.repository.manifest import FORMAT, encode_document

    durable.make_directories(path.parent)
    header = info.header
    kept = _Kept(
        format=FORMAT,
        timeline=header.timeline,
        txid=header.txid,
        page_size=header.page_size,
        pages=header.pages,
        database_sum=info.database_sum,
        since=rot.since,
        rot=rot.pages,
        more=rot.more,
    )
    durable.write(path, encode_document("rot", kept))


def read_rot(path: Path, position: Position, why: str) -> tuple[Rot, MapFacts | None]:
    """Return the list as it was kept at `position`, whose manifest judged its source with the words `why`.

    With it what the database was then; None where the list is lost, or there is none.
    """
    lost = LOST if SINCE in why else Rot()
    for each in (path, coming_path(path)):
        rot, facts = _read(each)
        if facts is not None and (facts.timeline, facts.txid) == (position.timeline, position.txid):
            if each != path:  # that backup was committed after all, and the next one notes what it is about to
                with suppress(OSError):
                    durable.replace(each, path)
            return rot, facts
        lost = rot if facts is None and rot else lost  # whatever it said, it was of such pages
    return lost, None


def _read(path: Path) -> tuple[Rot, MapFacts | None]:
    """Return a list, and what the database was; None with LOST where it cannot be read, with none where none is."""
    from pagewarden.repository.manifest import decode_document
    from pagewarden.repository.mapfacts import MapFacts

    try:
        kept = decode_document("rot", path.read_bytes(), _Kept, str(path))
        facts = MapFacts(
            timeline=kept.timeline,
            txid=kept.txid,
            page_size=kept.page_size,
            pages=kept.pages,
            database_sum=kept.database_sum,
        )
    except FileNotFoundError:
        return Rot(), None
    except (OSError, RepositoryDamaged, ValueError):
        return LOST, None
    return Rot(since=kept.since, pages=kept.rot, more=kept.more), facts


def unchanged(rot: Rot, facts: MapFacts | None, map_path: Path, snapshot: Path, reader: PageReader, pages: int) -> Rot:
    """Return what of `rot` is in the proved `snapshot` of so many pages as it was at `facts`, whose page map is given.

    Where the map cannot be used nobody can tell of any.
    """
    from pagewarden.repository.pagemap import MapUnusable, PageMap

    if not rot.pages or facts is None:
        return rot
    rot = rot.without((), pages=pages)
    try:
        with PageMap(map_path, facts) as known:
            changed = [each for each in rot.pages if known.sums(each, 1) != reader.chain_sums([snapshot], each, 1)]
    except MapUnusable:
        return Rot(since=rot.since, more=True)
    return rot.without(changed, pages=pages)
