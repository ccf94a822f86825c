"""What a database is compared with: a snapshot declared current by its owner, or a repository's newest restore point.

Stored files may be hostile, so they are read by the page reader, like the database itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.check.images import within
from pagewarden.errors import ConfigurationInvalid, PagewardenError, RepositoryDamaged, TargetFailed
from pagewarden.processes.reader import Attachment, PageReader
from pagewarden.values import Position

if TYPE_CHECKING:
    from pagewarden.forward import RolledImage
    from pagewarden.repository import Chain, Repository, SourceFacts
    from pagewarden.runtime import Runtime
    from pagewarden.standing import Note
    from pagewarden.values import RestorePoint

OLDER = 5
"""How many older restore points are asked for the content of a page that went back in time."""


_TURNS = 4  # how often a restore point is looked up again that is stored anew meanwhile


class StoredImage:
    """The pages of a stored restore point, each in its last version: a `PageImage`."""

    def __init__(self, reader: PageReader, chain: Sequence[str | Path]) -> None:
        """Prove the structure of a chain's page sets: local files, from the newest down to the snapshot.

        Raises RepositoryDamaged or TargetFailed.
        """
        self.infos = tuple(reader.chain_infos(chain))  # of the page sets, in the same order
        self._reader = reader
        self.chain = tuple(chain)
        self.page_size = self.infos[0].header.page_size
        self.pages = self.infos[0].header.pages

    @property
    def position(self) -> Position:
        """The position that it holds."""
        return self.infos[0].position

    def sums(self, first: int, count: int) -> bytes:
        """Return recorded page sums."""
        within(first, count, self.pages)
        return self._reader.chain_sums(self.chain, first, count)

    def page(self, pgno: int) -> bytes:
        """Return the bytes of one page, proved by its sum."""
        within(pgno, 1, self.pages)
        return self._reader.chain_pages(self.chain, [pgno])[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBaseline:
    """A stored image as a checker sees it: a `Baseline`."""

    image: StoredImage | RolledImage
    current: bool
    older: Sequence[StoredImage]

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return self.image.page_size

    @property
    def pages(self) -> int:
        """Size of the database, in pages."""
        return self.image.pages

    @property
    def position(self) -> Position:
        """The position that it holds."""
        return self.image.position

    def sums(self, first: int, count: int) -> bytes:
        """Return recorded page sums."""
        return self.image.sums(first, count)

    def page(self, pgno: int) -> bytes:
        """Return the bytes of one page."""
        return self.image.page(pgno)


class _Older(Sequence[StoredImage]):
    """Older restore points, newest first, each opened when it is looked at; broken ones are left out."""

    def __init__(self, repository: Repository, reader: PageReader, points: Sequence[RestorePoint]) -> None:
        self._repository = repository
        self._reader = reader
        self._points = points

    @cached_property
    def _images(self) -> tuple[StoredImage, ...]:
        images = []
        for point in self._points:
            try:
                images.append(stored_image(self._repository, self._reader, self._repository.chain(point)))
            except PagewardenError:  # it is evidence, not the baseline: `verify` is what judges it
                continue
        return tuple(images)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._images[index]


class Baselines:
    """Finds the baseline of one check, once, when it is first asked for."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        path: str,
        file: str | None,
        repository: str | None,
        name: str | None,
        current: bool | None = None,
    ) -> None:
        """`file` is declared current by the owner; otherwise `repository` holds one under `name`.

        `current` says that the latter is, or, if False, that it is only where that is proved: a change counter will not
        do. Raises ConfigurationInvalid where `file` is not there or no page set, RepositoryDamaged where it is damaged.
        """
        self._runtime = runtime
        self._path = path
        self._url = repository
        self._current = current
        self._lock = threading.RLock()  # several checkers may ask at once
        self.name = name or Path(path).name
        self._rolled: tuple[tuple[bytes, int, str], RolledImage | None] | None = None  # at which moment of the log
        self._file = None if file is None else _declared(runtime.reader, file)

    @property
    def position(self) -> Position | None:
        """The position of the repository's newest restore point, if one was asked for and was found."""
        stored = self.__dict__.get("_stored")  # not looked for now: a report must not fail
        return stored.image.position if isinstance(stored, _Stored) else None

    @property
    def page_size(self) -> int | None:
        """Bytes of a page, as the baseline knows them; None without one. Raises as `at` does."""
        with self._lock:
            image = self._image()
        return None if image is None else image.page_size

    def at(self, attachment: Attachment | None) -> StoredBaseline | None:
        """Return the baseline for the commit that is attached, None where nobody named one; None for no commit at all.

        Raises PagewardenError where one was named and cannot be used.
        """
        with self._lock:
            if self._file is not None:
                return StoredBaseline(image=self._file, current=True, older=self._history())
            if self._url is None:
                return None
            stored = self._stored
        from pagewarden.standing import no_commit_since

        if self._current:
            return StoredBaseline(image=stored.image, current=True, older=stored.older)
        if attachment is None or not stored.continues:
            return StoredBaseline(image=stored.image, current=False, older=stored.older)
        if no_commit_since(stored.facts, self._path, attachment, stored.note, counters=self._current is None):
            return StoredBaseline(image=stored.image, current=True, older=stored.older)
        with self._lock:
            rolled = self._rolled_forward(stored, attachment)
        image = stored.image if rolled is None else rolled
        return StoredBaseline(image=image, current=rolled is not None, older=stored.older)

    def _rolled_forward(self, stored: _Stored, attachment: Attachment) -> RolledImage | None:
        """Return the attached commit, as the restore point and what the log proves make it; None where they do not."""
        from pagewarden.forward import roll_forward  # a database that is as it was backed up has no use for it
        from pagewarden.standing import file_state_of, here

        facts = stored.facts
        if not attachment.uses_wal or attachment.wal_fault or not here(facts, self._path):
            return None
        next_log = attachment.salts.hex() != facts.wal_salts
        if next_log and file_state_of(attachment) not in (facts.file_state, stored.note and stored.note.state):
            return None
        moment = (attachment.salts, attachment.wal_frames, attachment.wal_checksum)
        if self._rolled is None or self._rolled[0] != moment:
            found = roll_forward(
                self._runtime.reader,
                self._path,
                stored.image,
                facts,
                repository=stored.repository,
                last_frame=attachment.wal_frames,
                next_log=next_log,
            )
            self._rolled = moment, None if isinstance(found, str) else found
        return self._rolled[1]

    def close(self) -> None:
        """Remove the copies that were made of stored objects; no image may be asked any more."""
        stored = self.__dict__.get("_stored")
        if isinstance(stored, _Stored):
            stored.repository.store.forget()

    def _history(self) -> Sequence[StoredImage]:
        """Return what the repository has of older content, beside a declared baseline: evidence that may be missing."""
        try:
            return () if self._url is None else self._stored.every
        except PagewardenError:
            return ()

    def _image(self) -> StoredImage | None:
        if self._file is not None:
            return self._file
        return None if self._url is None else self._stored.image

    @cached_property
    def _stored(self) -> _Stored:
        """Find the repository's newest restore point. Raises RepositoryNotFound, RepositoryDamaged, TargetFailed."""
        from pagewarden.lineage import place_of, read_lineage
        from pagewarden.standing import read_note

        assert self._url is not None
        repository = self._runtime.repository(self._url)
        chain, image = newest_image(repository, self._runtime.reader, self.name)
        newest = chain.point.restore_point
        points = [point for point in repository.restore_points(self.name)[0] if point.key != newest.key]
        state, place = self._runtime.state, place_of(repository.url, self.name)
        known = read_lineage(state, self._path)
        origin = known.origin(place)
        return _Stored(
            repository=repository,
            image=image,
            facts=chain.point.facts,
            note=read_note(state, self._path, place, newest.position, newest.database_sum),
            continues=origin is None or newest.position in (origin, known.coming.get(place)),
            older=_Older(repository, self._runtime.reader, points[: -OLDER - 1 : -1]),
            every=_Older(repository, self._runtime.reader, [newest, *points[: -OLDER - 1 : -1]]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """What a repository has to compare with."""

    repository: Repository
    image: StoredImage  # the newest
    facts: SourceFacts
    note: Note | None  # of the moment at which the file was last known to stand there
    continues: bool  # whether the file is known not to come from elsewhere since: an older position, restored
    older: _Older  # without the newest
    every: _Older  # with it


def newest_image(repository: Repository, reader: PageReader, name: str) -> tuple[Chain, StoredImage]:
    """Return the chain of the newest restore point, and what it makes. Raises what both do.

    What makes it may be stored anew meanwhile, and the old objects be gone: then it is looked up again.
    """
    turns = _TURNS
    while True:
        chain = repository.resolve_chain(name)
        try:
            return chain, stored_image(repository, reader, chain)
        except (RepositoryDamaged, TargetFailed):
            if not turns or repository.resolve_chain(name).keys == chain.keys:
                raise
            turns -= 1


def stored_image(repository: Repository, reader: PageReader, chain: Chain) -> StoredImage:
    """Return what `chain` makes. Raises RepositoryDamaged where its objects are not whole or others, TargetFailed."""
    found = repository.store.locals(chain.keys)  # several at once where they have to be fetched
    image = StoredImage(reader, [found.get(key) or repository.object_path(key) for key in reversed(chain.keys)])
    repository.confirm(chain.links, image.infos[::-1])
    return image


def _declared(reader: PageReader, file: str) -> StoredImage:
    from pagewarden.repository.format import SKIPPABLE, Kind

    hint = "pagewarden backups --repo URL --json lists the keys of snapshots"
    if not os.path.isfile(file):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        raise ConfigurationInvalid(f"there is no baseline {file}", hint=hint)
    path = os.path.realpath(file)
    if not reader.file_header(path).startswith(SKIPPABLE.to_bytes(4, "little")):
        raise ConfigurationInvalid(f"the baseline {file} is no snapshot of pagewarden's", hint=hint)
    try:
        return StoredImage(reader, [path])
    except RepositoryDamaged as error:
        if reader.pageset_info(path).header.kind is not Kind.SEGMENT:
            raise
        raise ConfigurationInvalid(
            f"the baseline {file} is a segment: it holds only the pages that changed since another backup",
            hint="name a snapshot, or compare with the newest restore point: --repo URL",
        ) from error
