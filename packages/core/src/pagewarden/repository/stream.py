"""A session of whoever follows a database: batches of commits that are appended to its history, one after the other.

1. `Stream.open` puts an intent that stands for the whole session: every object with its nonce is the session's. It
   ends the sessions of dead processes, and claims those that it cannot look at, so that of two only one goes on.
2. `append` stores the objects of a batch, then puts the manifest with the next number, only if it is absent: that is
   the commit. Then it looks whether the intent still stands unclaimed. No listing, however long the history is.
3. A backup, or a session that took this one for dead, takes that number first: RepositoryBusy, and the stream is over.
   Whoever follows opens another one and goes on from what is newest there; the files of a batch stay his until
   `append` has returned, so nothing is lost.
4. Where the storage fails, nobody knows whether the batch was stored. To append it again settles that: what stands
   already is counted, and what does not is stored.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import UNSET

from pagewarden import durable
from pagewarden.errors import DeletionRefused, PagewardenError, RepositoryBusy, VerificationFailed
from pagewarden.repository import keys, tidy
from pagewarden.repository.followed import NOT_JUDGED, Batch, BatchCommits, BatchSegment
from pagewarden.repository.intent import Runner, Session
from pagewarden.repository.keys import ObjectKey
from pagewarden.repository.manifest import Manifest, encode_document, encode_manifest
from pagewarden.repository.numbers import next_sequence, next_txid
from pagewarden.repository.repository import Repository, utc_now
from pagewarden.repository.rivals import Rank, first_of, glances
from pagewarden.times import format_moment
from pagewarden.values import RestorePoint

__all__ = ["NOT_JUDGED", "Batch", "BatchCommits", "BatchSegment", "Stream"]

_LOOK_AFTER = 60.0  # seconds without a batch after which others may have committed, and folded what they did
_GLANCE_AFTER = 1.0  # seconds after which the session may have been taken over, and what it stores explained by nobody
_REMEMBERED = 4096  # batches that are known again when they are appended twice


class Stream:
    """One session. A context manager: leaving it ends the session. Its methods may be called by any thread.

    Every method may raise TargetFailed or OutOfSpace; after those, and after RepositoryBusy, nothing is half stored
    that a later session or `close` would not remove.
    """

    def __init__(
        self,
        repository: Repository,
        name: str,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        token: Callable[[int], str],
        sleep: Callable[[float], None],
    ) -> None:
        """Use `open`."""
        self._repository = repository
        self._store = repository.store
        self._name = name
        self._clock = clock
        self._monotonic = monotonic
        self._token = token
        self._sleep = sleep
        self._runner = Runner.current()
        self._lock = threading.RLock()
        self._nonce = ""
        self._left: list[tuple[str, Session]] = []  # earlier nonces, of which something may be without a manifest
        self._session = Session(database=name, time=clock(), runner=self._runner)
        self._sequence = 0  # the number that the next manifest will have
        self._newest: Manifest | None = None
        self._known: deque[Manifest] = deque(maxlen=_REMEMBERED)  # the last batches
        self._doubt: Manifest | None = None  # what may have been stored when the storage failed
        self._whole = False  # whether all objects of it were
        self._over = ""  # why nothing can be appended any more
        self._looked = 0.0  # when it was last known that nobody else had committed, on the monotonic clock

    @classmethod
    def open(
        cls,
        repository: Repository,
        name: str,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        token: Callable[[int], str] = secrets.token_hex,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Self:
        """Begin a session on the database `name`, and end those that are over.

        Raises RepositoryBusy where another process of this machine follows a database of that name; a session of
        another machine, or another one of this process, is taken over. Raises RepositoryDamaged where a manifest has
        the last number that there is.
        """
        tidy.clean(repository.store, clock())
        stream = cls(repository, name, clock=clock, monotonic=monotonic, token=token, sleep=sleep)
        stream._put_intent()
        try:
            stream._give_way()
            stream._take_over()
            stream._look()
        except BaseException as error:
            stream._end_after(error)
            raise
        return stream

    @property
    def newest(self) -> Manifest | None:
        """What the next batch must continue; None where a backup has to be made first.

        Because there is none, or because something that cannot be read stands after it.
        """
        return self._newest

    @property
    def timeline(self) -> str:
        """The timeline of `newest`; empty where that is None."""
        return "" if self._newest is None else self._newest.position.timeline

    def segment_key(self, txid: int) -> str:
        """Return the key that the segment of a batch up to `txid` has in this session."""
        return self._object_key(txid, commits=False)

    def commits_key(self, txid: int) -> str:
        """Return the key that the page set of commits of a batch up to `txid` has in this session."""
        return self._object_key(txid, commits=True)

    def append(self, batch: Batch, segment: Path, commits: Path | None = None) -> RestorePoint:
        """Store a batch, whose files are `segment` and, where it has one, `commits`, and make it a restore point.

        The files stay; they may be removed once this has returned, and must not be changed before. A batch that stands
        already, with the same content, is returned as it stands. Raises RepositoryBusy where the batch does not
        continue what is newest, or another one was committed first, or the session was taken over: then the stream is
        over. Raises VerificationFailed where it does not begin with the database sum that is recorded.
        """
        with self._lock:
            if (standing := self._standing(batch)) is not None:
                return standing.restore_point
            if self._over:
                raise self._busy(self._over)
            quiet = self._monotonic() - self._looked
            if quiet > _GLANCE_AFTER and not tidy.stands(self._store, self._nonce):
                raise self._lose(self._taken_over())
            if quiet > _LOOK_AFTER:
                self._look_for_others()
            stored = self._settle_doubt(batch)
            if stored is not None:
                return stored.restore_point
            self._refuse_unfit(batch)
            return self._commit(self._manifest(batch), segment, commits).restore_point

    def renew(self) -> None:
        """Put the intent anew, so that a process on another machine does not take this one for dead; once in hours."""
        with self._lock:
            if not self._over and self._doubt is None:
                self._renew(clean=True)

    def close(self) -> None:
        """End the session, and remove what it stored and did not commit; safe to repeat."""
        with self._lock:
            self._over = self._over or f"the session on {self._name} is over"
            if self._nonce:
                self._end(self._nonce, self._session, clean=self._doubt is None)
                self._nonce = ""
            while self._left:
                self._end(*self._left[-1], clean=False)
                self._left.pop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._end_after(error)

    # Sessions

    def _put_intent(self) -> None:
        """Put an intent with a new nonce."""
        nonce = self._token(8)
        session = Session(database=self._name, time=self._clock(), runner=self._runner)
        if not self._store.put(keys.pending_key(nonce), encode_document("session", session)):
            raise RepositoryBusy(f"another run has the number {nonce}", hint="try again")
        self._nonce, self._session = nonce, session

    def _others(self) -> list[tuple[str, Session]]:
        mine = {self._nonce, *(nonce for nonce, _ in self._left)}
        return [each for each in tidy.sessions(self._store, self._name) if each[0] not in mine]

    def _give_way(self) -> None:
        """Raise RepositoryBusy if another process of this machine follows a database of that name."""

        def living() -> list[tuple[Rank, Session]]:
            return [
                ((other.time, nonce), other)
                for nonce, other in self._others()
                if other.runner != self._runner and other.runner.is_dead(self._runner) is False
            ]

        first = first_of(living, (self._session.time, self._nonce), self._sleep)
        if first is not None:
            raise RepositoryBusy(
                f"process {first.runner.pid} follows {self._name} in {self._repository.url}, since "
                f"{format_moment(first.time)}",
                hint=f"give one of the two databases another name, or look at it: ps -p {first.runner.pid}",
            )

    def _take_over(self) -> None:
        """Claim the other sessions, so that they commit nothing any more, and remove what they left."""
        for nonce, other in self._others():
            self._store.put(keys.claim_key(nonce), b"")
            try:
                tidy.remove_session(self._store, nonce, other)
            except DeletionRefused:
                continue  # noted in the repository; it is claimed, and commits nothing any more

    def _renew(self, *, clean: bool) -> None:
        old = self._nonce, self._session
        if not tidy.stands(self._store, old[0]):
            raise self._lose(self._taken_over())
        self._put_intent()
        if clean:
            self._end(*old, clean=True)
        else:
            self._left.append(old)

    def _end(self, nonce: str, session: Session, *, clean: bool) -> None:
        """End the intent of a nonce; `clean` where nothing of it can be without a manifest."""
        if clean:
            self._store.unstage(nonce)
            tidy.end(self._store, nonce, claimed=False)
            return
        try:
            tidy.remove_session(self._store, nonce, session)
        except DeletionRefused:
            return  # noted in the repository, where whoever may remove it finds it

    def _end_after(self, error: BaseException) -> None:
        """End the session after `error`, which stays the error that is raised."""
        try:
            self.close()
        except (PagewardenError, OSError) as second:
            error.add_note(f"what the session left could not be removed: {second}; the next one will")

    # Appending

    def _look(self) -> None:
        """See what is newest, and which number comes next."""
        entries = tuple(self._repository.entries(self._name))
        manifests = [entry.manifest for entry in entries if entry.manifest is not None]
        self._sequence = next_sequence(entries, self._repository.url)
        self._looked = self._monotonic()
        self._known.extend(manifests[-_REMEMBERED:])
        if manifests and self._sequence == manifests[-1].sequence + 1:
            at = manifests[-1].position
            if next_txid(self._store, self._name, at.timeline, at.txid) == at.txid + 1:
                self._newest = manifests[-1]

    def _look_for_others(self) -> None:
        """Raise RepositoryBusy if somebody else has committed since.

        Putting the next number would find that out, too, but not where so much was committed that it was folded again.
        """
        parsed = map(keys.parse_manifest_key, self._store.keys(keys.manifests_prefix(self._name)))
        if any(each is not None and each.sequence > self._sequence for each in parsed):
            raise self._lose(self._was_first())
        self._looked = self._monotonic()

    def _standing(self, batch: Batch) -> Manifest | None:
        """Return the manifest of a batch that was stored before. Raises RepositoryBusy where it is another one's."""
        at, newest = batch.position, self._newest
        if newest is not None and at.timeline == newest.position.timeline and at.txid > newest.position.txid:
            return None
        for each in reversed(self._known):
            if (each.position.timeline, each.position.txid) == (at.timeline, at.txid):
                # However it is stored by now: it may be gathered with others.
                segment = batch.segment
                if (each.position, each.pages, each.database_sum) == (at, segment.pages, segment.database_sum):
                    return each
                raise self._lose(f"another batch of {self._name} up to {at} was committed first")
        return None

    def _is(self, manifest: Manifest, batch: Batch) -> bool:
        """Return whether a manifest that this session made is just that of a batch."""
        commits_key = "" if manifest.commits is UNSET else manifest.commits.key
        return batch.manifest(self._name, manifest.sequence, manifest.key, commits_key) == manifest

    def _refuse_unfit(self, batch: Batch) -> None:
        """Raise RepositoryBusy or VerificationFailed unless a batch continues what is newest."""
        newest = self._newest
        if newest is None or batch.parent != newest.position or batch.segment.page_size != newest.page_size:
            here = "nothing that can be continued" if newest is None else str(newest.position)
            raise self._lose(f"a batch of {self._name} continues {batch.parent}, and the newest is {here}")
        if batch.segment.database_sum_from != newest.database_sum:
            raise VerificationFailed(
                f"a batch of {self._name} begins with the database sum {batch.segment.database_sum_from}, and what it "
                f"continues ends with {newest.database_sum}",
                hint="it is not stored; a backup compares the whole database",
            )

    def _settle_doubt(self, batch: Batch) -> Manifest | None:
        """Find out what became of a batch when the storage failed; return its manifest if it is `batch`, and stands.

        Raises RepositoryBusy where somebody else was first.
        """
        doubt = self._doubt
        if doubt is None:
            return None
        data = self._store.document(keys.manifest_key(self._name, self._sequence))
        if data is not None:
            self._doubt = None
            if data != encode_manifest(doubt):
                raise self._lose(self._was_first(), stored=doubt)
            self._confirm(doubt)
            self._committed(doubt)
            return doubt if self._is(doubt, batch) else None
        if self._is(doubt, batch):
            if self._whole:
                return None  # the same document is put again, which may appear yet, too
            with suppress(DeletionRefused):  # then it stays, and is stored under another number
                self._remove(doubt)
                return None
        # The manifest may appear yet, and its objects must be there then.
        self._renew(clean=False)
        self._doubt, self._whole = None, False
        return None

    def _manifest(self, batch: Batch) -> Manifest:
        txid = batch.position.txid
        return batch.manifest(self._name, self._sequence, self.segment_key(txid), self.commits_key(txid))

    def _commit(self, manifest: Manifest, segment: Path, commits: Path | None) -> Manifest:
        if (commits is None) is not (manifest.commits is UNSET):
            raise ValueError("the page set of commits of a batch and its file are both there, or none is")
        if not (self._whole and manifest == self._doubt):
            self._doubt, self._whole = manifest, False
            self._adopt(manifest.key, segment)
            if commits is not None and manifest.commits is not UNSET:
                self._adopt(manifest.commits.key, commits)
            self._whole = True
        key, data = keys.manifest_key(self._name, self._sequence), encode_manifest(manifest)
        # A target that tries again by itself may find its own first attempt there.
        if not self._store.put(key, data) and self._store.document(key) != data:
            self._doubt = None
            raise self._lose(self._was_first(), stored=manifest)
        self._confirm(manifest)
        self._doubt = None
        self._committed(manifest)
        return manifest

    def _committed(self, manifest: Manifest) -> None:
        self._newest = manifest
        self._sequence = manifest.sequence + 1
        self._known.append(manifest)
        self._looked = self._monotonic()

    def _confirm(self, manifest: Manifest) -> None:
        """Look whether the session still stands, the manifest being put. Raises RepositoryBusy where it does not count.

        Where it counts all the same, nothing can be appended after it.
        """
        if tidy.stands(self._store, self._nonce):
            return
        self._over = self._taken_over()
        for _ in glances(self._sleep):
            if (done := tidy.outcome(self._store, self._nonce, *manifest.object_keys)) is not None:
                break  # whoever took it over has decided
        if done:
            return
        if done is False:
            key = keys.manifest_key(self._name, manifest.sequence)
            if self._store.document(key) == encode_manifest(manifest):
                self._store.delete(key)
        self._doubt = None
        raise self._busy(self._over)

    def _adopt(self, key: str, file: Path) -> None:
        """Store a file, which stays: what is adopted is a second name of it, or a copy."""
        staging = self._store.staging(self._nonce)
        try:
            staging.unlink(missing_ok=True)
            try:
                os.link(file, staging, follow_symlinks=False)
            except FileNotFoundError:
                raise
            except OSError:  # on another file system, or on one without links
                durable.copy(file, staging)
        except OSError as error:
            raise durable.failure(error, f"cannot copy {file} to {staging}") from error
        self._store.adopt(key, staging)

    def _remove(self, manifest: Manifest) -> None:
        """Remove the objects of a manifest that does not stand."""
        for key in manifest.object_keys:
            self._store.delete(key)

    def _lose(self, why: str, stored: Manifest | None = None) -> RepositoryBusy:
        """Return the error after which the stream is over; what was `stored` for a manifest that will not be goes."""
        self._over = why
        error = self._busy(why)
        if stored is not None:
            try:
                self._remove(stored)
            except PagewardenError as second:
                self._doubt = stored  # so that the end of the session removes it
                error.add_note(f"what was stored could not be removed: {second}")
        return error

    def _taken_over(self) -> str:
        return f"the session on {self._name} was taken over by another process"

    def _was_first(self) -> str:
        return f"another backup of {self._name} to {self._repository.url} was committed first"

    def _busy(self, why: str) -> RepositoryBusy:
        return RepositoryBusy(why, hint="go on from what is newest there")

    def _object_key(self, txid: int, *, commits: bool) -> str:
        place = ObjectKey(name=self._name, timeline=self.timeline, txid=txid, nonce=self._nonce, commits=commits)
        return keys.object_key(place)
