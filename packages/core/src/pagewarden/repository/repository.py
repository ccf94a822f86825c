"""A repository: restore points in order, backups that begin and commit, and what dead ones left.

1. `begin` puts an intent: who is about to store which object.
2. The page set is written to `Intent.staging`, read back and proved. That is the caller's.
3. `commit` adopts it as an object, then puts the manifest, only if absent. That is the commit point: whoever puts
   manifest number N first has it, the other one gets RepositoryBusy and removes what it stored. Last, the intent goes.
4. Whatever is cut in between leaves an object that no manifest names, and an intent that says whose it is. The next
   `begin` removes it.

Nothing here locks. Whoever cleans claims the intent first and then looks for its manifest; whoever commits puts the
manifest first and then looks for a claim, and takes its manifest back if there is one. So a wrong guess about who is
dead costs a backup, never a manifest whose object is gone.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pagewarden import durable
from pagewarden.contracts import Target
from pagewarden.errors import (
    ConfigurationInvalid,
    PagewardenError,
    RepositoryBusy,
    RepositoryDamaged,
    RepositoryNotFound,
)
from pagewarden.repository import keys
from pagewarden.repository.format import PageSetInfo
from pagewarden.repository.intent import Intent, Pending, Runner
from pagewarden.repository.keys import ObjectKey
from pagewarden.repository.manifest import (
    FORMAT,
    LARGEST,
    Manifest,
    SourceFacts,
    decode_document,
    decode_manifest,
    encode_document,
    encode_manifest,
)
from pagewarden.values import Position, RestorePoint, SourceVerdict

_CHUNK = 4 << 20  # bytes fetched at once from a target that keeps no local files


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marker:
    format: int = FORMAT
    kind: str = "pagewarden-repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One manifest as it was found."""

    key: str
    name: str  # of the database; empty where not even the key says it
    manifest: Manifest | None  # None where it cannot be used
    problem: str = ""  # why, one sentence


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Repository:
    """Restore points on a target. Errors of the target are TargetFailed or OutOfSpace."""

    def __init__(
        self,
        target: Target,
        url: str,
        *,
        clock: Callable[[], datetime] = _utc_now,
        token: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        """Use `open`, which proves that it is a repository. `token(n)` returns 2*n random hexadecimal digits."""
        self.target = target
        self.url = url
        self._clock = clock
        self._token = token
        self._spool: Path | None = None

    @classmethod
    def open(
        cls,
        target: Target,
        url: str,
        create: bool = False,
        *,
        clock: Callable[[], datetime] = _utc_now,
        token: Callable[[int], str] = secrets.token_hex,
    ) -> Repository:
        """Return the repository on `target`; with `create`, make one where nothing at all is.

        Raises RepositoryNotFound without one, ConfigurationInvalid where something else is, RepositoryDamaged where
        the marker is not what it must be or of a newer format.
        """
        repository = cls(target, url, clock=clock, token=token)
        with repository._errors("cannot be opened"):
            try:
                marker = target.read(keys.MARKER, 0, LARGEST + 1)
            except FileNotFoundError:
                marker = b""
                if next(iter(target.list("")), None) is not None:
                    raise ConfigurationInvalid(
                        f"{url} holds other files and is no repository", hint="choose an empty directory"
                    ) from None
                if not create:
                    raise RepositoryNotFound(
                        f"there is no repository at {url}", hint=f"pagewarden backup DATABASE --repo {url}"
                    ) from None
                try:
                    target.put(keys.MARKER, encode_document("repository", _Marker()))
                except FileExistsError:  # another process made it at the same moment: all markers are equal
                    marker = target.read(keys.MARKER, 0, LARGEST + 1)
        if marker and decode_document("repository", marker, _Marker, f"{url}/{keys.MARKER}") != _Marker():
            raise ConfigurationInvalid(f"{url} is another kind of repository", hint="choose an empty directory")
        return repository

    # Looking

    def names(self) -> tuple[str, ...]:
        """Return the names of the databases that have a manifest here, broken ones included, in order."""
        with self._errors("cannot be listed"):
            found = {key.split("/")[0] for key in self._list("") if key.split("/")[1:2] == ["manifests"]}
        names = (keys.unescape_name(part) for part in found)
        return tuple(sorted(name for name in names if name is not None))

    def entries(self, name: str | None = None) -> Iterator[Entry]:
        """Yield every manifest of `name` (None: of every database), readable or not, in order of commit."""
        for each in self.names() if name is None else (name,):
            with self._errors("cannot be listed"):
                found = self._list(keys.manifests_prefix(each))
            for key in found:
                yield self._entry(each, key)

    def restore_points(self, name: str | None = None) -> tuple[tuple[RestorePoint, ...], tuple[str, ...]]:
        """Return the restore points of `name` (None: of every database), newest last, and what is wrong with others.

        That an object is there and whole is not proved here: see `run_verify`.
        """
        entries = list(self.entries(name))
        points = tuple(entry.manifest.restore_point for entry in entries if entry.manifest is not None)
        return points, tuple(entry.problem for entry in entries if entry.manifest is None)

    def newest(self, name: str) -> RestorePoint | None:
        """Return the restore point of `name` that was committed last, None without any."""
        manifest = self._newest(name)
        return None if manifest is None else manifest.restore_point

    def resolve(
        self, name: str | None = None, *, at: datetime | None = None, txid: int | None = None, timeline: str | None = None
    ) -> RestorePoint:
        """Return the restore point that is meant: the newest, the last one at or before `at`, or the one at `txid`.

        `name` may be left out where the repository holds one database. `timeline` (the beginning of one) narrows the
        choice; where several have the same `txid`, the one that was committed last is meant. "Last" is by the order of
        commits: clocks may step back (H23). Raises RepositoryNotFound, naming what there is.
        """
        name = self.only_name() if name is None else name
        points, problems = self.restore_points(name)
        if not points:
            hint = f"pagewarden backups --repo {self.url}"
            unreadable = f" ({problems[0]})" if problems else ""
            raise RepositoryNotFound(f"{self.url} holds no restore point of {name}{unreadable}", hint=hint)
        asked = []
        found = points
        if timeline is not None:
            found = tuple(point for point in found if point.position.timeline.startswith(timeline))
            asked.append(f"on timeline {timeline}")
        if txid is not None:
            found = tuple(point for point in found if point.position.txid == txid)
            asked.append(f"at txid {txid}")
        if at is not None:
            found = tuple(point for point in found if point.position.time <= at)
            asked.append(f"at or before {at.isoformat()}")
        if not found:
            first, last = points[0].position, points[-1].position
            raise RepositoryNotFound(
                f"{self.url} holds no restore point of {name} {' '.join(asked)}: "
                f"they reach from txid {first.txid} ({first.time.isoformat()}) to {last.txid} ({last.time.isoformat()})",
                hint=f"pagewarden backups --repo {self.url} --db {name}",
            )
        return found[-1]

    def only_name(self) -> str:
        """Return the name of the one database here. Raises RepositoryNotFound where there is none, or several."""
        names = self.names()
        if len(names) == 1:
            return names[0]
        if not names:
            raise RepositoryNotFound(
                f"{self.url} holds no backup yet", hint=f"pagewarden backup DATABASE --repo {self.url}"
            )
        raise RepositoryNotFound(
            f"{self.url} holds {len(names)} databases: {', '.join(names)}", hint=f"add --db, such as --db {names[0]}"
        )

    def manifest(self, point: RestorePoint) -> Manifest:
        """Return the manifest of `point`. Raises RepositoryDamaged if it cannot be read any more."""
        for entry in self.entries(point.database):
            if entry.manifest is not None and entry.manifest.key == point.key:
                return entry.manifest
        raise RepositoryDamaged(f"the manifest of {point.key} in {self.url} is gone or broken")

    def object_path(self, point: RestorePoint) -> Path:
        """Return the object of `point` as a local file; it is fetched where the target keeps none.

        What it holds must be proved by the page reader, and by `confirm`. Raises RepositoryDamaged if it is missing.
        """
        try:
            with self._errors(f"cannot give {point.key}"):
                path = self.target.open(point.key)
                return self._fetch(point) if path is None else path
        except FileNotFoundError as error:
            raise RepositoryDamaged(
                f"{point.key} is missing from {self.url}", hint=f"pagewarden verify --repo {self.url}"
            ) from error

    def confirm(self, point: RestorePoint, info: PageSetInfo) -> None:
        """Prove that `info`, which the page reader made of the object, is what the manifest of `point` was put for.

        A page set proves itself, but only the manifest says which one belongs there. Raises RepositoryDamaged.
        """
        manifest = self.manifest(point)
        said = (manifest.position, manifest.bytes, manifest.sha256, manifest.page_size, manifest.pages)
        header = info.header
        seen = (info.position, info.bytes, info.sha256, header.page_size, header.pages)
        if said != seen or manifest.database_sum != f"{info.database_sum:016x}":
            raise RepositoryDamaged(
                f"{point.key} is a whole page set, but not the one that its manifest names",
                hint=f"pagewarden verify --repo {self.url} --read-data",
            )

    # Storing

    def begin(self, name: str, origin: Position | None = None) -> Intent:
        """Begin a backup of `name`: remove what dead ones left, and say what comes next.

        The first backup starts a timeline with txid 1, a later one continues the newest. `origin` is the position that
        the database is known to come from, after a restore or a backup: where it is not the newest of its timeline
        here, a new timeline starts and names it as its parent. After a commit, the committed position is the origin.
        """
        keys.escape_name(name)
        self.clean()
        newest = self._newest(name)
        parent = origin if origin is not None or newest is None else newest.position
        timeline, txid = self._token(16), 1
        if newest is not None and parent is not None:
            last = max(
                (entry.manifest.position for entry in self.entries(name) if entry.manifest is not None),
                key=lambda position: (position.timeline == parent.timeline, position.txid),
            )
            if (last.timeline, last.txid) == (parent.timeline, parent.txid):
                timeline, txid = parent.timeline, parent.txid + 1
        nonce = self._token(8)
        intent = Intent(
            database=name,
            sequence=self._next_sequence(name),
            timeline=timeline,
            txid=txid,
            parent=parent,
            nonce=nonce,
            key=keys.object_key(ObjectKey(name=name, timeline=timeline, txid=txid, nonce=nonce)),
            staging=(self.target.staging() or self._spool_folder()) / f"{nonce}.pageset.zst",
        )
        pending = Pending(
            database=name, sequence=intent.sequence, key=intent.key, time=self._clock(), runner=Runner.current()
        )
        with self._errors("cannot begin a backup"):
            self.target.put(keys.pending_key(nonce), encode_document("intent", pending))
        return intent

    def commit(
        self,
        intent: Intent,
        info: PageSetInfo,
        *,
        source: SourceVerdict,
        facts: SourceFacts,
        compression: int,
        verified_at: datetime,
        created_by: str,
    ) -> RestorePoint:
        """Store the proved page set at `intent.staging` and make it a restore point: all of it, or nothing.

        Raises RepositoryBusy where another backup of the same database was first. Whatever it raises, what this backup
        stored has been removed, or is a leftover where even that failed.
        """
        header = info.header
        if (header.timeline, header.txid) != (intent.timeline, intent.txid):
            raise ValueError(f"the page set is of {header.timeline}:{header.txid}, not of {intent.key}")
        manifest = Manifest(
            database=intent.database,
            kind="snapshot",
            sequence=intent.sequence,
            position=info.position,
            parent=intent.parent,
            key=intent.key,
            bytes=info.bytes,
            sha256=info.sha256,
            page_size=header.page_size,
            pages=header.pages,
            database_sum=f"{info.database_sum:016x}",
            compression=compression,
            source=source,
            facts=facts,
            verified_at=verified_at,
            created_by=created_by,
        )
        try:
            with self._errors(f"cannot store {intent.key}"):
                self.target.adopt(intent.key, intent.staging)
                self._put_manifest(intent, manifest)
                if self._claimed(intent.nonce):
                    raise RepositoryBusy(
                        f"the backup of {intent.database} was taken for dead and removed by another process",
                        hint="try again",
                    )
        except BaseException as error:
            self._give_up(intent, error)
            raise
        with self._errors("cannot end the backup"):
            self.target.delete(keys.pending_key(intent.nonce))
        return manifest.restore_point

    def abandon(self, intent: Intent) -> None:
        """Remove everything of a backup that was not committed."""
        intent.staging.unlink(missing_ok=True)
        with self._errors("cannot remove an unfinished backup"):
            self._remove(intent.nonce, intent.database, intent.sequence, intent.key, retract=True)

    # Tidying

    def leftovers(self) -> tuple[str, ...]:
        """Return the keys of what dead backups left, and of intents that cannot be read."""
        found = []
        for nonce, pending in self._dead():
            found.append(keys.pending_key(nonce))
            if pending is not None and self._exists(pending.key) and self._committed(pending) is False:
                found.append(pending.key)
        return tuple(found)

    def clean(self) -> tuple[str, ...]:
        """Remove what dead backups left; return the keys that were removed. Unreadable intents stay, and are listed."""
        removed = []
        for nonce, pending in self._dead():
            if pending is None:
                continue
            with self._errors("cannot be cleaned"):
                try:
                    self.target.put(keys.claim_key(nonce), b"")
                except FileExistsError:  # another cleaner was cut off here, or is at it
                    pass
                folder = self.target.staging()
                for leftover in (f"{nonce}.pageset.zst", f"{nonce}.pageset.zst.ordered") if folder is not None else ():
                    (folder / leftover).unlink(missing_ok=True)
                self._remove(nonce, pending.database, pending.sequence, pending.key, retract=False)
            removed.append(pending.key)
        return tuple(removed)
