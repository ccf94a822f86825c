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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from msgspec import UNSET

from pagewarden.errors import RepositoryBusy, RepositoryDamaged, VerificationFailed
from pagewarden.repository import keys, marks
from pagewarden.repository.catalogue import Entry, arranged
from pagewarden.repository.chain import Chain, Chains, unfit
from pagewarden.repository.format import Kind, PageSetHeader, PageSetInfo, pages_per_frame
from pagewarden.repository.keys import ObjectKey
from pagewarden.repository.manifest import CommitsFacts, Manifest, encode_manifest
from pagewarden.repository.pruning import Fold

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from pagewarden.repository.repository import Repository
    from pagewarden.repository.turn import Turn
    from pagewarden.runtime import Runtime
    from pagewarden.values import Position


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
            key
            for entry in self._entries.values()
            for each in (entry, *entry.others)
            if each.manifest is not None
            for key in each.manifest.object_keys
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

        One that is not whole is removed where what was before it is. Returns what was done so, and what could not be
        proved either way, one sentence each; of the latter everything stays, and all that it may need must stay.
        """
        done, problems = [], []
        for entry in self.entries:
            if entry.manifest is None or not any(other.manifest is not None for other in entry.others):
                continue
            try:
                self._prove_stored(entry.manifest)
            except RepositoryDamaged as error:
                try:
                    self._take_back(entry)
                except RepositoryDamaged as second:
                    problems.append(
                        f"neither generation of a restore point is whole: {error.message}; {second.message}"
                    )
                    continue
                done.append(f"{entry.key} was removed, and the one before it counts again: {error.message}")
            else:
                self._remove_superseded(entry)
        return tuple(done), tuple(problems)

    def _take_back(self, entry: Entry) -> None:
        """Remove what was stored anew and is not whole. Raises RepositoryDamaged where what was before it is not."""
        own = [other for other in entry.others if other.sequence == entry.sequence]
        before = next((other for other in own if other.manifest is not None), None)
        if before is None or before.manifest is None:
            raise RepositoryDamaged(f"what was before {entry.key} is gone")
        gathered = sorted((other for other in entry.others if other.sequence != entry.sequence), key=_key)
        counting = tuple(arranged(self._store, self._database, gathered))
        self._prove_stored(before.manifest, [each.manifest for each in counting if each.manifest is not None])
        self._turn.check()
        self._remove([entry])
        own.remove(before)
        self._entries[entry.sequence] = replace(before, others=tuple(own))
        self._entries.update((each.sequence, each) for each in counting)

    def _prove_stored(self, manifest: Manifest, gathered: Sequence[Manifest] = ()) -> None:
        """Read the objects of a manifest. Raises RepositoryDamaged unless they are there, whole, and the right ones.

        `gathered` are those that are gathered in one of which `manifest` is an earlier generation.
        """
        try:
            path, *commits = self._paths(manifest.object_keys)
            info = self._prove(path, f"verifying {manifest.database} {manifest.position}")
            if why := manifest.contradiction(info):
                raise RepositoryDamaged(f"{manifest.key} {why}")
            if manifest.kind == "segment":
                chain = self._chain(manifest, gathered)
                if chain.gap:
                    raise RepositoryDamaged(chain.gap)
                self._prove_place(path, chain.links[:-1])
            for each in commits:
                proved = self._prove_commits(each, manifest)
                if why := manifest.commits_contradiction(proved):
                    raise RepositoryDamaged(f"{each} {why}")
                if manifest.kind == "segment":
                    self._runtime.reader.prove_gathered([path], path, [each], each)
        finally:
            self._release((manifest,))

    def fold(self, fold: Fold) -> None:
        """Make one page set of several, and let the last of them be restored from it, with the commits that it has.

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
            lower = chain.links[: len(chain.links) - len(links)]
            info = self._make(links, lower[-1:], staging, snapshot=fold.snapshot)
            if lower:
                self._prove_place(staging, lower)
            made = self._anew(links[-1], info, links[-1].parent if fold.snapshot else links[0].parent)
            files = {made.key: staging}
            if not fold.snapshot:
                made = self._keep_commits(links, made, files, fold.keep)
            self._commit(made, files)
        finally:
            self._release(links)
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
            self._remove((*entry.others, entry))
        marks.forget(self._store, self._database, sequence)

    def _make(
        self, links: Sequence[Manifest], below: Sequence[Manifest], staging: Path, *, snapshot: bool
    ) -> PageSetInfo:
        """Write the page set that `links` make to the file `staging`, and prove it; it continues `below`, if any."""
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
            self._paths(page_sets(links)),
            staging,
            header,
            top.compression,
            progress=partial(self._runtime.progress, step),
        )
        self._refuse_others(below, links, given)
        proved = self._prove(staging, f"reading back {top.database} {top.position}")
        self._refuse_other(proved, made, top)
        if below and (why := unfit(below[-1], made)):
            raise self._not_as_written(top, f"the page set {why}")
        return made

    def _keep_commits(
        self, links: Sequence[Manifest], made: Manifest, files: dict[str, Path], keep: Collection[int] | None
    ) -> Manifest:
        """Return the manifest `made` of folded segments with the commits that the last of them has, or `keep` of them.

        Each holds what changed since the one before it, so the first one holds what changed in the others, too.
        """
        top = links[-1]
        if top.commits is UNSET:
            return made if top.merged is UNSET else replace(made, merged=made.span)
        reader = self._runtime.reader
        joined, thinned = (self._store.staging(self._turn.nonce, what) for what in ("joined", "commits"))
        *lower, own = self._paths([*page_sets(links[:-1]), top.commits.key])
        stay = [each for each in reader.commits_of(own) if keep is None or each.txid in keep]
        if not stay:
            return replace(made, commits=UNSET, merged=made.span)
        reader.join_commits([*lower, own], joined, level=top.compression)
        written = reader.thin_commits(joined, [each.txid for each in stay], thinned, level=top.compression)
        joined.unlink()
        self._refuse_other(self._prove_commits(thinned, top), written, top)
        reader.prove_gathered([files[made.key]], files[made.key], [thinned], thinned)
        earliest = min(top.position.time, *(each.time for each in stay))
        return self._with_commits(made, written, earliest, thinned, files)

    def _anew(self, top: Manifest, info: PageSetInfo, parent: Position | None) -> Manifest:
        """Return the manifest of a restore point that is stored anew as the page set `info`."""
        return replace(
            top,
            kind=info.header.kind.name.lower(),
            parent=parent,
            key=self._key(top, commits=False),
            bytes=info.bytes,
            sha256=info.sha256,
        )

    def _with_commits(
        self, made: Manifest, info: PageSetInfo, earliest: datetime, path: Path, files: dict[str, Path]
    ) -> Manifest:
        """Return `made` with the page set of commits `info` at `path`, and add that to the files."""
        facts = CommitsFacts(
            key=self._key(made, commits=True),
            bytes=info.bytes,
            sha256=info.sha256,
            count=info.header.commits,
            earliest=earliest,
        )
        made = replace(made, commits=facts, merged=UNSET)
        if why := made.commits_contradiction(info):
            raise self._not_as_written(made, f"the page set of its commits {why}")
        files[facts.key] = path
        return made

    def _key(self, manifest: Manifest, *, commits: bool) -> str:
        """Return the key of an object that this prune stores."""
        at = manifest.position
        place = ObjectKey(
            name=self._database, timeline=at.timeline, txid=at.txid, nonce=self._turn.nonce, commits=commits
        )
        return keys.object_key(place)

    def _prove_place(self, path: Path, lower: Sequence[Manifest]) -> None:
        """Prove that the page sums of the segment at `path`, and those of what is below it, make its database sum.

        The database sum in a segment is copied from where it was made, and proves nothing by itself. Raises
        RepositoryDamaged where they do not, or something is missing; OutOfSpace where the rest of the chain has to be
        fetched and does not fit.
        """
        below = self._paths(page_sets(lower))
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

    def _commit(
        self,
        manifest: Manifest,
        files: Mapping[str, Path],
        gathered: Sequence[int] = (),
        still: Callable[[], bool] = lambda: True,
    ) -> None:
        """Store proved page sets by their keys, and `manifest` as the next generation of its own.

        `gathered` are the sequences of others that it stands for, too.
        """
        entry = self._entries[manifest.sequence]
        before = [entry, *(self._entries[sequence] for sequence in reversed(gathered))]
        generation = 1 + max(self._generation(each) for each in (entry, *entry.others))
        manifest = replace(manifest, verified_at=self._runtime.clock())
        key, data = keys.manifest_key(self._database, manifest.sequence, generation), encode_manifest(manifest)
        self._turn.check()
        doubt, self._turn.in_doubt = self._turn.in_doubt, True
        for name, path in files.items():
            size = path.stat().st_size
            self._store.adopt(name, path)
            self.bytes_stored += size
        # A target that tries again by itself may find its own first attempt there.
        if not self._store.put(key, data) and self._store.document(key) != data:
            raise RepositoryBusy(f"{key} in {self._repository.url} was put by another process", hint="try again")
        try:
            self._turn.check()
            if not still():
                raise RepositoryBusy(
                    f"restore points of {self._database} in {self._repository.url} were pinned meanwhile",
                    hint="try again",
                )
        except RepositoryBusy:
            # What took this process for dead may have removed the object. What was before it stands, or nothing goes.
            if all(self._store.exists(each.key) for each in before):
                self._store.delete(key)
            raise
        self._turn.in_doubt = doubt  # what failed before may have left its object
        superseded = [each for old in before for each in (replace(old, others=()), *old.others)]
        made = replace(entry, key=key, manifest=manifest, others=tuple(superseded))
        self._entries[manifest.sequence] = made
        for sequence in gathered:
            del self._entries[sequence]
        self._named.update(manifest.object_keys)
        self._runtime.emit(
            "repository.folded",
            repository=self._repository.url,
            position=str(manifest.position),
            bytes=manifest.bytes_stored,
        )
        self._remove_superseded(made)

    def _remove_superseded(self, entry: Entry) -> None:
        """Remove what was before a manifest that counts and was proved.

        Its own earlier generations go first: whoever sees that something is gone then sees it with the one that stands
        for both.
        """
        self._turn.check()
        others = [other for other in entry.others if other.manifest is not None]
        self._remove([other for other in others if other.sequence == entry.sequence])
        self._remove([other for other in others if other.sequence != entry.sequence])
        self._entries[entry.sequence] = replace(
            entry, others=tuple(other for other in entry.others if other.manifest is None)
        )

    def _remove(self, entries: Sequence[Entry]) -> None:
        """Remove the objects of manifests, unless other manifests name them, then the manifests."""
        gone: list[str] = []
        for entry in entries:
            manifest = entry.manifest
            if manifest is None:
                continue
            sizes = (manifest.bytes, manifest.bytes_stored - manifest.bytes)
            for key, size in zip(manifest.object_keys, sizes, strict=False):
                self._named[key] -= 1
                if not self._named[key]:
                    gone.append(key)
                    self.bytes_freed += size
        self._store.delete_many(gone)
        self._store.delete_many([entry.key for entry in entries])

    def _manifest(self, sequence: int) -> Manifest:
        manifest = self._entries[sequence].manifest
        assert manifest is not None, sequence
        return manifest

    def _chain(self, manifest: Manifest, more: Sequence[Manifest] = ()) -> Chain:
        """Return the chain of a manifest, among those that count and `more`."""
        counting = (entry.manifest for entry in self.entries if entry.manifest is not None)
        return Chains((*counting, *more)).of(manifest)

    def _paths(self, names: Sequence[str]) -> list[Path]:
        """Return the local files of objects. Raises RepositoryDamaged where one is missing."""
        found = self._store.locals(names)
        missing = next((key for key in names if key not in found), None)
        if missing is not None:
            raise RepositoryDamaged(f"{missing} is missing from {self._repository.url}")
        return [found[key] for key in names]

    def _release(self, links: Iterable[Manifest]) -> None:
        """Remove the copies of the objects of manifests."""
        for link in links:
            for key in link.object_keys:
                self._store.release(key)

    def _prove_commits(self, path: Path, manifest: Manifest) -> PageSetInfo:
        step = f"reading back the commits of {manifest.database} {manifest.position}"
        return self._runtime.reader.verify_commits(
            path, read_data=True, drop_cache=True, progress=partial(self._runtime.progress, step)
        )

    def _refuse_other(self, proved: PageSetInfo, written: PageSetInfo, manifest: Manifest) -> None:
        """Raise VerificationFailed unless what was read back is what was written, and leads to a restore point."""
        if proved != written:
            why = f"the page set is {proved.sha256}, and {written.sha256} was written"
            raise self._not_as_written(manifest, why)
        if f"{proved.database_sum:016x}" != manifest.database_sum:
            why = f"its database sum is {proved.database_sum:016x}, not {manifest.database_sum}"
            raise self._not_as_written(manifest, why)

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


def page_sets(links: Sequence[Manifest]) -> list[str]:
    """Return the keys of the page sets of manifests."""
    return [link.key for link in links]


def _key(entry: Entry) -> str:
    return entry.key
