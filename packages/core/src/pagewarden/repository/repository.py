"""A repository: restore points in order of commit, backups that begin and commit.

1. `begin` puts an intent: who is about to store which object. A process that sees another one of this machine at a
   backup of the same database gives way here, before any page is copied.
2. The page set is written to `Intent.staging`, read back and proved. That is the caller's.
3. `commit` adopts it as an object, then puts the manifest, only if absent. That is the commit point: whoever puts
   manifest number N of a database first has it, the other one gets RepositoryBusy and removes what it stored. Last,
   the intent goes.
4. Whatever is cut in between leaves an object that no manifest names, and an intent that says whose it is. The next
   `begin` removes both (see `tidy`).
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pagewarden.contracts import Target
from pagewarden.errors import (
    ConfigurationInvalid,
    PagewardenError,
    RepositoryBusy,
    RepositoryDamaged,
    RepositoryNotFound,
)
from pagewarden.repository import givenup, keys, tidy
from pagewarden.repository.catalogue import Entry, read_entries
from pagewarden.repository.chain import Chain, contradictions
from pagewarden.repository.format import PageSetInfo
from pagewarden.repository.intent import Intent, Pending, Runner
from pagewarden.repository.keys import ObjectKey
from pagewarden.repository.manifest import (
    FORMAT,
    Manifest,
    SourceFacts,
    decode_document,
    encode_document,
    encode_manifest,
)
from pagewarden.repository.marks import marked_numbers, read_marks
from pagewarden.repository.numbers import is_overtaken, next_sequence, next_txid
from pagewarden.repository.rivals import give_way, glances
from pagewarden.repository.store import Store
from pagewarden.repository.view import View
from pagewarden.values import Position, RestorePoint, SourceVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """The document `pagewarden.json`. It is the same in every repository of this format."""

    format: int = FORMAT
    kind: str = "pagewarden-repository"


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class Repository:
    """Restore points on a target. Wherever a target fails, TargetFailed or OutOfSpace is raised."""

    def __init__(
        self,
        target: Target,
        url: str,
        *,
        clock: Callable[[], datetime] = utc_now,
        token: Callable[[int], str] = secrets.token_hex,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Use `open`, which proves that it is a repository. `token(n)` returns 2*n random hexadecimal digits."""
        self.url = url
        self.store = Store(target, url)
        self._clock = clock
        self._token = token
        self._sleep = sleep

    @classmethod
    def open(
        cls,
        target: Target,
        url: str,
        create: bool = False,
        *,
        clock: Callable[[], datetime] = utc_now,
        token: Callable[[int], str] = secrets.token_hex,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Repository:
        """Return the repository on `target`; with `create`, make one where nothing at all is.

        Raises RepositoryNotFound where nothing is, ConfigurationInvalid where something else is, RepositoryDamaged
        where the marker is not what it must be, or of a newer format.
        """
        repository = cls(target, url, clock=clock, token=token, sleep=sleep)
        store = repository.store
        data = store.document(keys.MARKER)
        if data is None and store.is_empty():
            if not create:
                raise RepositoryNotFound(
                    f"there is no repository at {url}", hint=f"pagewarden backup DATABASE --repo {shlex.quote(url)}"
                )
            store.establish(encode_document("repository", Marker()))
        # Another process may have made it meanwhile; markers are all the same.
        data = data or store.document(keys.MARKER)
        if data is None:
            raise ConfigurationInvalid(
                f"{url} holds other files and is no repository: it has no {keys.MARKER}",
                hint="choose an empty directory, or look where that file went",
            )
        hint = "it is the same everywhere: copy that of another repository over it, then " + repository.command(
            "verify"
        )
        if decode_document("repository", data, Marker, f"{url}/{keys.MARKER}", hint=hint) != Marker():
            raise RepositoryDamaged(f"{url}/{keys.MARKER} is not a repository's marker", hint=hint)
        return repository

    # Looking

    def names(self, *, stored: bool = False) -> tuple[str, ...]:
        """Return the names of the databases that have a manifest here, broken ones included, in order.

        With `stored`, also those of which there are objects alone.
        """
        wanted = ("manifests", "objects") if stored else ("manifests",)
        folders = {tuple(key.split("/", 2)[:2]) for key in self.store.keys("") if key.count("/") > 1}
        return tuple(sorted(filter(None, {keys.unescape_name(folder[0]) for folder in folders if folder[1] in wanted})))

    def entries(self, name: str | None = None) -> Iterator[Entry]:
        """Yield every manifest of `name` (None: of every database), usable or not, in order of commit.

        Of the generations of one, the highest that can be used is yielded, with the others.
        """
        for each in self.names() if name is None else (name,):
            yield from read_entries(self.store, each)

    def look(self, name: str) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """Return every manifest of `name`, and the keys of objects that neither they nor a backup under way names.

        Where a manifest is broken, one of those objects may be its own.
        """
        # In this order: an object's intent is put before it and goes after its manifest is put, so whatever is under
        # way is seen as an intent or as a manifest.
        objects = self.store.keys(keys.objects_prefix(name))
        pending = tidy.unfinished(self.store)
        entries = tuple(self.entries(name))
        named = {key for entry in entries for key in entry.object_keys}
        parsed = ((key, keys.parse_object_key(key)) for key in objects if key not in named)
        return entries, tuple(key for key, parts in parsed if parts is None or parts.nonce not in pending)

    def restore_points(self, name: str | None = None) -> tuple[tuple[RestorePoint, ...], tuple[str, ...]]:
        """Return the restore points of `name` (None: of every database), newest last, and what is wrong with others.

        Those that are deleted are left out. That an object is there and whole is not proved here: see `run_verify`.
        """
        points: list[RestorePoint] = []
        problems: list[str] = []
        for each in self.names() if name is None else (name,):
            said = read_marks(self.store, each)  # before the manifests: what is purged meanwhile is gone then
            entries = tuple(self.entries(each))
            points += (
                entry.manifest.restore_point
                for entry in entries
                if entry.manifest is not None and not said.hidden(entry.sequence)
            )
            problems += (entry.problem for entry in entries if entry.manifest is None)
            problems += said.problems
        return tuple(points), tuple(problems)

    def newest(self, name: str) -> RestorePoint | None:
        """Return the restore point of `name` that was committed last, None without any."""
        points, _ = self.restore_points(name)
        return points[-1] if points else None

    def resolve(
        self,
        name: str | None = None,
        *,
        at: datetime | None = None,
        txid: int | None = None,
        timeline: str | None = None,
    ) -> RestorePoint:
        """Return the restore point that is meant; see `resolve_chain`. Its chain may have a gap."""
        return self.view(name, deleted=txid is not None).find(at=at, txid=txid, timeline=timeline).restore_point

    def resolve_chain(
        self,
        name: str | None = None,
        *,
        at: datetime | None = None,
        txid: int | None = None,
        timeline: str | None = None,
    ) -> Chain:
        """Return the chain of the restore point that is meant: the newest, the last at or before `at`, or at `txid`.

        `name` may be left out where the repository holds one database. `timeline` (the beginning of one) narrows the
        choice; where several timelines have the `txid`, the one that was committed last is meant. "Last" is by the
        order of commits, because clocks step back (H23). One that is deleted is only meant where its `txid` is given.
        Raises RepositoryNotFound, naming what there is, and RepositoryDamaged where one whose manifest is lost or
        cannot be read may be the one that is meant, or is part of its chain. Commits between restore points are found
        by `locate`.
        """
        view = self.view(name, deleted=txid is not None)
        return view.chain(view.find(at=at, txid=txid, timeline=timeline))

    def view(self, name: str | None = None, *, deleted: bool = False) -> View:
        """Look at the restore points of `name`, which may be left out where the repository holds one database.

        With `deleted`, also at those that are deleted and can be undeleted. Raises RepositoryNotFound where there is
        none, RepositoryDamaged where none can be read.
        """
        name = self.only_name() if name is None else name
        said = read_marks(self.store, name)  # before the manifests: what is purged meanwhile is gone then
        entries, strays = self.look(name)
        return View(self, name, entries, strays, said.gone if deleted else said.hidden)

    def only_name(self) -> str:
        """Return the name of the one database here. Raises RepositoryNotFound where there is none, or several."""
        names = self.names()
        if not names:
            raise RepositoryNotFound(f"{self.url} holds no backup yet", hint=self.command("backup", "DATABASE"))
        if len(names) > 1:
            raise RepositoryNotFound(
                f"{self.url} holds {len(names)} databases: {', '.join(names)}",
                hint=f"say which one: --db {shlex.quote(names[0])}",
            )
        return names[0]

    def chain(self, point: RestorePoint) -> Chain:
        """Return the chain of `point` as it is now: it may have been stored anew since `point` was listed.

        Raises RepositoryNotFound if it is gone, RepositoryDamaged where its manifest or one below it cannot be read.
        """
        entries = tuple(self.entries(point.database))
        for entry in entries:
            if entry.manifest is not None and entry.manifest.position == point.position:
                return View(self, point.database, entries).chain(entry.manifest)
        if any(entry.manifest is None for entry in entries):
            raise RepositoryDamaged(
                f"the manifest of {point.database} at {point.position} in {self.url} is gone or broken",
                hint=self.command("verify"),
            )
        raise RepositoryNotFound(
            f"{self.url} holds no restore point of {point.database} at {point.position} any more",
            hint=self.command("backups", "--db", point.database),
        )

    def object_path(self, key: str) -> Path:
        """Return an object as a local file; it is fetched where the target keeps none.

        What it holds is for the page reader to prove; then `confirm` proves that it belongs there. Raises
        RepositoryDamaged if it is missing.
        """
        path = self.store.local(key)
        if path is None:
            raise RepositoryDamaged(f"{key} is missing from {self.url}", hint=self.command("verify"))
        return path

    def confirm(self, links: Sequence[Manifest], infos: Sequence[PageSetInfo]) -> None:
        """Prove that `infos`, which the page reader made of objects, are what the manifests `links` were put for.

        Both are from the lowest up, as in a chain. A page set proves itself, but only the manifest says which one
        belongs there, and what it continues: call this before a restored file is used. Raises RepositoryDamaged.
        """
        if why := contradictions(links, infos):
            raise RepositoryDamaged(f"in {self.url}, {why}", hint=self.command("verify", "--read-data"))

    # Storing

    def begin(self, name: str, origin: Position | None = None, *, coming: Position | None = None) -> Intent:
        """Begin a backup of `name`: remove what dead ones left, and say what comes next.

        The first backup starts a timeline with txid 1, a later one continues the timeline of the newest. `origin` is
        the position that the database is known to come from, after a restore or a backup: where it is not the newest
        of its timeline here, a new timeline starts whose manifest names it as its parent. After a commit, the committed
        position is the origin. `coming` is what an earlier backup of it was about to commit: the origin, if it did.

        Raises RepositoryBusy where another process of this machine is at a backup of `name`, or has just ended one. One
        on another machine cannot be seen to live: then `commit` decides. Raises RepositoryDamaged where a manifest has
        the last number that there is.
        """
        self.clean()
        entries = tuple(self.entries(name))
        manifests = tuple(entry.manifest for entry in entries if entry.manifest is not None)
        if coming is not None and any(each.position == coming for each in manifests):
            origin = coming
        parent = origin or (manifests[-1].position if manifests else None)
        timeline, txid = self._token(16), 1
        if parent is not None:
            known = [each.position.txid for each in manifests if each.position.timeline == parent.timeline]
            if known and max(known) == parent.txid:
                following = next_txid(self.store, name, parent.timeline, parent.txid)
                if following is not None:
                    timeline, txid = parent.timeline, following
        nonce = self._token(8)
        intent = Intent(
            database=name,
            sequence=next_sequence(entries, self.url, marked_numbers(self.store, name)),
            timeline=timeline,
            txid=txid,
            parent=parent,
            nonce=nonce,
            key=keys.object_key(ObjectKey(name=name, timeline=timeline, txid=txid, nonce=nonce)),
            staging=self.store.staging(nonce),
        )
        mine = self._pending(intent)
        if not self.store.put(keys.pending_key(nonce), encode_document("intent", mine)):
            raise RepositoryBusy(f"another backup has the number {nonce}", hint="try again")
        try:
            give_way(self.store, mine, self._sleep)
            # An intent goes after its manifest is put: who is not seen any more may have been first.
            if self.store.exists(keys.manifest_key(name, intent.sequence)):
                raise self._was_first(name)
        except BaseException as error:
            self._give_up(intent, error)
            raise
        return intent

    def _was_first(self, name: str) -> RepositoryBusy:
        hint = "try again"
        if tidy.sessions(self.store, name):
            hint = "it is followed, commit by commit: pagewarden sync DATABASE waits until all of it is there"
        return RepositoryBusy(f"another backup of {name} to {self.url} was committed first", hint=hint)

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
        stored has been removed, or is a leftover where even that failed. But once the manifest stands others may have
        built on it: then it stays whatever is raised, with its intent, and the error has a note of that. To abandon the
        backup afterwards is never needed.
        """
        try:
            manifest = self._manifest(intent, info, source, facts, compression, verified_at, created_by)
            self.store.adopt(intent.key, intent.staging)
            self._put(intent, manifest)
            self._settle(intent)
        except BaseException as error:
            self._give_up(intent, error)
            raise
        return manifest.restore_point

    def _settle(self, intent: Intent) -> None:
        """End the intent of a backup whose manifest stands. Raises RepositoryBusy where it was taken for dead."""
        for _ in glances(self._sleep):
            if (done := tidy.outcome(self.store, intent.nonce, intent.key)) is not None:
                break  # a cleaner that was at it has decided
        if not done:
            removed = "and removed" if done is False else "and may be removed"
            raise RepositoryBusy(
                f"the backup of {intent.database} to {self.url} was taken for dead by another process {removed}",
                hint="try again",
            )
        tidy.end(self.store, intent.nonce, claimed=False)

    def abandon(self, intent: Intent) -> bool:
        """Remove everything of a backup that will not be committed; return False if it was: then all of it stays."""
        return tidy.abandon(self.store, intent.nonce, self._pending(intent))

    def leftovers(self) -> tuple[str, ...]:
        """Return the keys of what dead backups left, and of intents that cannot be read."""
        return tidy.leftovers(self.store, self._clock())

    def clean(self) -> tuple[str, ...]:
        """Remove what dead backups left, as `begin` does; return the keys of their objects."""
        givenup.end(self.store)
        return tidy.clean(self.store, self._clock())

    def command(self, verb: str, *words: str) -> str:
        """Return a command about this repository, for a hint."""
        return shlex.join(["pagewarden", verb, "--repo", self.url, *words])

    def _pending(self, intent: Intent) -> Pending:
        return Pending(
            database=intent.database,
            sequence=intent.sequence,
            key=intent.key,
            time=self._clock(),
            runner=Runner.current(),
        )

    def _manifest(
        self,
        intent: Intent,
        info: PageSetInfo,
        source: SourceVerdict,
        facts: SourceFacts,
        compression: int,
        verified_at: datetime,
        created_by: str,
    ) -> Manifest:
        header = info.header
        if (header.timeline, header.txid) != (intent.timeline, intent.txid):
            raise ValueError(f"the page set is of {header.timeline}:{header.txid}, which {intent.key} is not")
        return Manifest(
            database=intent.database,
            kind=header.kind.name.lower(),
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

    def _put(self, intent: Intent, manifest: Manifest) -> None:
        key, data = keys.manifest_key(manifest.database, manifest.sequence), encode_manifest(manifest)
        # Others may have had this number and later ones since `begin`, and a prune may have removed what had this one.
        if is_overtaken(self.store, manifest.database, manifest.sequence):
            raise self._was_first(manifest.database)
        # A target that tries again by itself may find its own first attempt there.
        if not self.store.put(key, data) and self.store.document(key) != data:
            raise self._was_first(manifest.database)
        # One that was first may have been stored anew since, and its key may be free again.
        anew = set(self.store.keys(keys.generations_prefix(manifest.database, manifest.sequence))) - {key}
        if anew and tidy.committed(self.store, self._pending(intent)) is False:
            raise self._was_first(manifest.database)

    def _give_up(self, intent: Intent, error: BaseException) -> None:
        """Remove what this backup stored before it failed with `error`, which stays the error that is raised."""
        givenup.note(self.store, intent.nonce, self._pending(intent))
        try:
            if not self.abandon(intent):
                hint = f"the backup may be committed: {self.command('backups', '--db', intent.database)}"
                error.add_note(hint)
                if isinstance(error, PagewardenError):
                    error.hint = hint
        except (PagewardenError, OSError) as second:
            error.add_note(f"what it stored could not be removed: {second}; the next backup will")
        givenup.end(self.store)
