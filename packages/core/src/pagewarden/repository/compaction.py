"""Folding page sets inside a repository, and removing what nothing needs any more. For whoever has the `turn`.

1. The page sets of a part of a chain become one, in the page reader, without reading the database that they came from.
2. It is read back and proved; its place in the chain must give the database sum that the manifest records.
3. The object is stored, then a manifest of the next generation is put, only if it is absent: that is the commit.
4. While the turn still stands, the superseded object goes, then its manifest. Cut before that, both are there, the
   highest generation counts, and the next prune proves it and removes the other.

What is purged goes in the same order: objects, manifests, the marks that say that it is gone. So nothing is ever left
that nobody can explain, and what was begun is seen and ended by the next prune. An object that any manifest which stays
names is never removed, whoever put that one there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pagewarden.errors import RepositoryBusy, RepositoryDamaged, VerificationFailed
from pagewarden.repository import keys, marks
from pagewarden.repository.catalogue import Entry
from pagewarden.repository.chain import Chain, Chains, unfit
from pagewarden.repository.format import Kind, PageSetHeader, PageSetInfo, pages_per_frame
from pagewarden.repository.keys import ObjectKey
from pagewarden.repository.manifest import Manifest, encode_manifest
from pagewarden.repository.pruning import Fold

if TYPE_CHECKING:
    from pathlib import Path

    from pagewarden.repository.repository import Repository
    from pagewarden.repository.turn import Turn
    from pagewarden.runtime import Runtime


class Compactor:
    """Folds and purges in one database."""

    def __init__(
        self, repository: Repository, runtime: Runtime, turn: Turn, database: str, entries: Iterable[Entry]
    ) -> None:
        """`entries` are all manifests of the database, as they were found while the turn was had."""
        self._repository = repository
        self._store = repository.store
        self._runtime = runtime
        self._turn = turn
        self._database = database
        self._entries = {entry.sequence: entry for entry in entries}
        # How many manifests name each object: that of each is its own, unless somebody copied one.
        self._named = Counter(
            each.manifest.key
            for entry in self._entries.values()
            for each in (entry, *entry.others)
            if each.manifest is not None
        )
        self._fetched: set[str] = set()  # objects below what is proved, of which there may be local copies
        self.bytes_freed = 0
        self.bytes_stored = 0

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All manifests of the database, as they are by now, in order of sequence."""
        return tuple(self._entries[sequence] for sequence in sorted(self._entries))

    def finish_earlier(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Prove page sets that were stored anew by prunes that were cut off, and remove what they supersede.

        One that is not whole is removed where the one before it is. Returns what was done so, and what could not be
        proved either way, one sentence each; of the latter everything stays, and all that it may need must stay.
        """
        done, problems = [], []
        for entry in self.entries:
            older = next((other for other in entry.others if other.manifest is not None), None)
            if entry.manifest is None or older is None or older.manifest is None:
                continue
            try:
                self._prove_stored(entry.manifest)
            except RepositoryDamaged as error:
                try:
                    self._prove_stored(older.manifest)
                except RepositoryDamaged as second:
                    problems.append(
                        f"neither generation of a restore point is whole: {error.message}; {second.message}"
                    )
                    continue
                self._turn.check()
                self._remove(entry)
                rest = tuple(other for other in entry.others if other is not older)
                self._entries[entry.sequence] = replace(older, others=rest)
                done.append(f"{entry.key} was removed, and the one before it counts again: {error.message}")
            else:
                self._remove_superseded(entry)
        return tuple(done), tuple(problems)

    def _prove_stored(self, manifest: Manifest) -> None:
        """Read the object of a manifest. Raises RepositoryDamaged unless it is there, whole, and the right one."""
        try:
            (path,) = self._paths((manifest,))
            info = self._prove(path, f"verifying {manifest.database} {manifest.position}")
            if why := manifest.contradiction(info):
                raise RepositoryDamaged(f"{manifest.key} {why}")
            if manifest.kind == "segment":
                chain = self._chain(manifest)
                if chain.gap:
                    raise RepositoryDamaged(chain.gap)
                self._prove_place(path, chain.links[:-1])
        finally:
            self._store.release(manifest.key)

    def fold(self, fold: Fold) -> None:
        """Make one page set of several, and let the last of them be restored from it.

        Raises RepositoryDamaged where one of them, or what they make, is not whole; VerificationFailed where it did not
        read back as it was written; RepositoryBusy where another process took the turn; OutOfSpace, TargetFailed. What
        was there before is there still then.
        """
        links = [self._manifest(link.sequence) for link in fold.links]
        chain = self._chain(links[-1])
        if fold.snapshot:
            links = list(chain.links)  # some of them may have been folded since it was planned
        staging = self._store.staging(self._turn.nonce)
        try:
            info = self._make(links, chain, staging, snapshot=fold.snapshot)
            self._commit(links, info, staging)
        finally:
            for link in links:
                self._store.release(link.key)
            self._store.unstage(self._turn.nonce)

    def release(self) -> None:
        """Remove the copies that were fetched to prove page sets by; several are proved by the same ones."""
        for key in self._fetched:
            self._store.release(key)
        self._fetched.clear()

    def chain(self, sequence: int) -> tuple[Manifest, ...]:
        """Return what a restore point is restored from, as it is by now, from the lowest up."""
        return self._chain(self._manifest(sequence)).links

    def purge(self, sequence: int) -> None:
        """Remove everything of a restore point: its objects, its manifests, then the marks that say so."""
        self._turn.check()
        entry = self._entries.pop(sequence, None)
        if entry is not None:
            for each in (*entry.others, entry):
                self._remove(each)
        marks.forget(self._store, self._database, sequence)

    def _make(self, links: Sequence[Manifest], chain: Chain, staging: Path, *, snapshot: bool) -> PageSetInfo:
        """Write the page set that `links` make to the file `staging`, and prove it."""
        top = links[-1]
        header = PageSetHeader(
            kind=Kind.SNAPSHOT if snapshot else Kind.SEGMENT,
            page_size=top.page_size,
            pages=top.pages,
            pages_per_frame=pages_per_frame(top.page_size),
            timeline=top.position.timeline,
            txid=top.position.txid,
            txid_from=0 if snapshot or links[0].parent is None else links[0].parent.txid,
            time=top.position.time,
        )
        step = f"folding {top.database} {top.position}"
        *given, made = self._runtime.reader.fold(
            self._paths(links), staging, header, top.compression, progress=partial(self._runtime.progress, step)
        )
        lower = chain.links[: len(chain.links) - len(links)]
        self._refuse_others(lower[-1:], links, given)
        proved = self._prove(staging, f"reading back {top.database} {top.position}")
        if proved != made:
            raise self._not_as_written(top, f"the page set is {proved.sha256}, and {made.sha256} was written")
        if f"{made.database_sum:016x}" != top.database_sum:
            raise self._not_as_written(top, f"its database sum is {made.database_sum:016x}, not {top.database_sum}")
        if lower:
            if why := unfit(lower[-1], made):
                raise self._not_as_written(top, f"the page set {why}")
            self._prove_place(staging, lower)
        return made

    def _prove_place(self, path: Path, lower: Sequence[Manifest]) -> None:
        """Prove that the page sums of the segment at `path`, and those of what is below it, make its database sum.

        The database sum in a segment is copied from where it was made, and proves nothing by itself. Raises
        RepositoryDamaged where they do not, or something is missing; OutOfSpace where the rest of the chain has to be
        fetched and does not fit.
        """
        below = self._paths(lower)
        self._fetched.update(link.key for link in lower)
        self._runtime.reader.chain_infos([path, *reversed(below)])

    def _refuse_others(
        self, below: Sequence[Manifest], links: Sequence[Manifest], infos: Sequence[PageSetInfo]
    ) -> None:
        """Raise RepositoryDamaged unless `infos` are of the objects of `links`, each continuing the one below."""
        lower = [*below, *links[:-1]] if below else [None, *links[:-1]]
        for under, link, info in zip(lower, links, infos, strict=True):
            if why := link.contradiction(info) or ("" if under is None else unfit(under, info)):
                raise RepositoryDamaged(f"{link.key} in {self._repository.url} {why}")

    def _commit(self, links: Sequence[Manifest], info: PageSetInfo, staging: Path) -> None:
        """Store the proved page set at `staging` as the next generation of the last of `links`."""
        top = links[-1]
        entry = self._entries[top.sequence]
        generation = 1 + max(self._generation(each) for each in (entry, *entry.others))
        place = ObjectKey(
            name=self._database, timeline=top.position.timeline, txid=top.position.txid, nonce=self._turn.nonce
        )
        snapshot = info.header.kind is Kind.SNAPSHOT
        manifest = replace(
            top,
            kind=info.header.kind.name.lower(),
            parent=top.parent if snapshot else links[0].parent,
            key=keys.object_key(place),
            bytes=info.bytes,
            sha256=info.sha256,
            verified_at=self._runtime.clock(),
        )
        key, data = keys.manifest_key(self._database, top.sequence, generation), encode_manifest(manifest)
        self._turn.check()
        self._turn.in_doubt = True
        self._store.adopt(manifest.key, staging)
        # A target that tries again by itself may find its own first attempt there.
        if not self._store.put(key, data) and self._store.document(key) != data:
            raise RepositoryBusy(f"{key} in {self._repository.url} was put by another process", hint="try again")
        try:
            self._turn.check()
        except RepositoryBusy:
            # What took this process for dead may have removed the object. The one before it stands, or nothing goes.
            if self._store.exists(entry.key):
                self._store.delete(key)
            raise
        self._turn.in_doubt = False
        self.bytes_stored += info.bytes
        made = replace(entry, key=key, manifest=manifest, others=(replace(entry, others=()), *entry.others))
        self._entries[top.sequence] = made
        self._named[manifest.key] += 1
        self._runtime.emit(
            "repository.folded", repository=self._repository.url, position=str(top.position), bytes=info.bytes
        )
        self._remove_superseded(made)

    def _remove_superseded(self, entry: Entry) -> None:
        """Remove the generations of a manifest before the one that counts and was proved."""
        self._turn.check()
        for other in entry.others:
            if other.manifest is not None:
                self._remove(other)
        self._entries[entry.sequence] = replace(
            entry, others=tuple(other for other in entry.others if other.manifest is None)
        )

    def _remove(self, entry: Entry) -> None:
        """Remove the object of a manifest, unless another manifest names it, then the manifest."""
        if entry.manifest is not None:
            self._named[entry.manifest.key] -= 1
            if not self._named[entry.manifest.key]:
                self._store.delete(entry.manifest.key)
                self.bytes_freed += entry.manifest.bytes
        self._store.delete(entry.key)

    def _manifest(self, sequence: int) -> Manifest:
        manifest = self._entries[sequence].manifest
        assert manifest is not None, sequence
        return manifest

    def _chain(self, manifest: Manifest) -> Chain:
        return Chains(entry.manifest for entry in self.entries if entry.manifest is not None).of(manifest)

    def _paths(self, links: Sequence[Manifest]) -> list[Path]:
        """Return the local files of objects. Raises RepositoryDamaged where one is missing."""
        found = self._store.locals([link.key for link in links])
        missing = next((link.key for link in links if link.key not in found), None)
        if missing is not None:
            raise RepositoryDamaged(f"{missing} is missing from {self._repository.url}")
        return [found[link.key] for link in links]

    def _prove(self, path: Path, step: str) -> PageSetInfo:
        return self._runtime.reader.verify_pageset(
            path, read_data=True, drop_cache=True, progress=partial(self._runtime.progress, step)
        )

    def _generation(self, entry: Entry) -> int:
        parsed = keys.parse_manifest_key(entry.key)
        return 0 if parsed is None else parsed.generation

    def _not_as_written(self, manifest: Manifest, why: str) -> VerificationFailed:
        return VerificationFailed(
            f"what {manifest.database} at {manifest.position} was folded into is not what it must be: {why}",
            hint=f"look at the disk of {self._store.staging(self._turn.nonce).parent}: dmesg | tail",
        )
