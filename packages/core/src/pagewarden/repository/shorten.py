"""Making a followed history shorter: fewer batches, and fewer commits in them. For whoever has the `turn`.

It is done as `compaction` does it. Batches are *gathered*: their segments become one, their commits become one page
set of commits, and the manifest says from which number on it stands for all; from the moment that it is there those
count no more, and they go as what is superseded does. A batch is *thinned*: its page set of commits becomes one of
fewer commits, or goes, and its segment stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from msgspec import UNSET

from pagewarden.repository.compaction import Compactor, page_sets

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from pagewarden.repository.manifest import Manifest


class Shortener(Compactor):
    """Folds, purges, gathers and thins in one database."""

    def gather(self, links: Sequence[Manifest], still: Callable[[], bool]) -> None:
        """Let followed batches, each of which continues the one before it, be one; nothing of them is lost.

        `still` is asked once that counts, before anything goes: where it says no, it is taken back, and RepositoryBusy
        raised. Raises what `fold` raises.
        """
        top, staging = links[-1], self._store.staging(self._turn.nonce)
        joined = self._store.staging(self._turn.nonce, "commits")
        try:
            info = self._make(links, (), staging, snapshot=False)
            segments = self._paths(page_sets(links))
            parts = self._paths([link.object_keys[-1] for link in links])
            reader, step = self._runtime.reader, f"gathering {top.database} {top.position}"
            written = reader.join_commits(
                parts, joined, level=top.compression, progress=partial(self._runtime.progress, step)
            )
            self._refuse_other(self._prove_commits(joined, top), written, top)
            reader.prove_gathered(segments, staging, parts, joined)
            made = self._anew(top, info, links[0].parent)
            files = {made.key: staging}
            made = self._with_commits(made, written, _earliest(links), joined, files)
            lowest = links[0].sequence if links[0].gathered is UNSET else links[0].gathered
            self._commit(replace(made, gathered=lowest), files, [link.sequence for link in links[:-1]], still)
        finally:
            self._release(links)
            self._store.unstage(self._turn.nonce)

    def thin(self, sequence: int, keep: Collection[int]) -> None:
        """Let a followed batch have only the commits of the txids `keep`, and its last one.

        Raises what `fold` raises.
        """
        manifest = self._manifest(sequence)
        facts, position = manifest.commits, manifest.position
        if facts is UNSET:
            return
        keep = sorted({*keep} - {position.txid})
        made = replace(manifest, commits=UNSET, merged=manifest.span)
        files: dict[str, Path] = {}
        staging = self._store.staging(self._turn.nonce, "commits")
        try:
            if keep:
                (path,) = self._paths([facts.key])
                reader = self._runtime.reader
                kept = [each.time for each in reader.commits_of(path) if each.txid in {*keep, position.txid}]
                written = reader.thin_commits(path, keep, staging, level=manifest.compression)
                self._refuse_other(self._prove_commits(staging, manifest), written, manifest)
                if manifest.kind == "segment":
                    segments = self._paths([manifest.key])
                    reader.prove_gathered(segments, segments[0], [staging], staging)
                made = self._with_commits(made, written, min(kept), staging, files)
            self._commit(made, files)
        finally:
            self._release((manifest,))
            self._store.unstage(self._turn.nonce)


def _earliest(links: Sequence[Manifest]) -> datetime:
    """Return the earliest time at which a commit of followed batches was seen."""
    return min(link.position.time if link.commits is UNSET else link.commits.earliest for link in links)
