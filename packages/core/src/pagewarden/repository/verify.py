"""Proving a repository: the run behind `verify`.

1. The manifests of a database make its chains; what is missing of one is damage of every restore point above.
2. The objects are read, each once (see `judging`): all of them, or a part, which begins where the last run ended and
   goes round. Of a batch of commits that were followed there are two: with data the database sum of every commit in the
   second one is proved. Where that is not whole its commits are lost, and the end of the batch is not.
3. What is damaged of one object is damage of every restore point that needs it. Each is told with the last one before
   it that is whole.
4. What was found is kept (see `results`), for `backups`, `status` and `prune`.

Nothing is locked. An object that is gone because its restore point was pruned or stored anew meanwhile is no damage:
where one is missing the manifests are read again, and what they name now counts.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import UNSET

from pagewarden.errors import ConfigurationInvalid
from pagewarden.repository import keys
from pagewarden.repository.backups import choose_names
from pagewarden.repository.chain import Chains
from pagewarden.repository.judging import Judge, Judged
from pagewarden.repository.marks import read_marks
from pagewarden.repository.results import Depth, Found, Results, keep_results, read_results
from pagewarden.values import Position, Verdict, VerifiedPoint, VerifyReport

if TYPE_CHECKING:
    from datetime import datetime

    from pagewarden.repository.catalogue import Entry
    from pagewarden.repository.manifest import CommitsFacts, Manifest
    from pagewarden.repository.repository import Repository
    from pagewarden.runtime import Runtime

_VERDICTS = {
    "ok": Verdict.SOUND,
    "damaged": Verdict.DAMAGED,
    "missing": Verdict.DAMAGED,
    "unknown": Verdict.UNKNOWN,
}
_WRONG = ("damaged", "missing")
_TURNS = 20  # how often the manifests are read again because objects went away under a run
_SUBSET = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%|([0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """What to prove."""

    repository: str  # URL
    name: str | None = None  # of one database; None: all
    read_data: bool = False  # decompress every page, too
    read_subset: str | None = None  # "5%" of the stored bytes of each database, or "20" of its objects: with data
    max_time: float | None = None  # seconds after which no further object is read


def run_verify(request: VerifyRequest, runtime: Runtime) -> VerifyReport:
    """Prove the manifests, chains and objects of a repository and, with `read_data`, every page in it.

    Changes nothing there; what was found is kept in the state directory. Objects are read by the page reader, from the
    disk where the system lets its cache be dropped. Damage is in the report, one point each, and hides nothing else.
    Raises RepositoryNotFound where there is no repository, or nothing of that name in it, RepositoryDamaged where its
    marker is not what it must be, ConfigurationInvalid for a subset that is none.
    """
    begun = runtime.monotonic()
    share = None if request.read_subset is None else _share(request.read_subset)
    if request.max_time is not None and not request.max_time > 0:
        raise ConfigurationInvalid(f"{request.max_time} s is no time to verify in", hint="give a number above 0")
    repository = runtime.repository(request.repository)
    names = choose_names(repository, request.name, stored=True)
    run = _Run(repository, request, share, runtime, begun)
    for name in run.in_turn(names):
        run.database(name)
    warnings = run.keep(names)
    seconds = runtime.monotonic() - begun
    points = tuple(point for name in names for point in run.points[name])
    verdict = Verdict.worst(_VERDICTS[point.state] for point in points)
    runtime.emit("verify.finished", seconds=seconds, repository=request.repository, verdict=verdict.value)
    return VerifyReport(
        repository=request.repository,
        verdict=verdict,
        read_data=run.depth is Depth.DATA,
        bytes_read=run.bytes_read,
        seconds=seconds,
        points=points,
        leftovers=repository.leftovers(),
        objects=len(run.alive),
        objects_read=sum(key in run.alive for key in run.found),
        warnings=warnings,
    )


def _share(text: str) -> Callable[[Sequence[Manifest]], Sequence[Manifest]]:
    """Return what takes the part that `text` names from the beginning of objects, at least one of them."""
    match = _SUBSET.fullmatch(text)
    percent = float(match[1]) if match and match[1] else None
    count = int(match[2]) if match and match[2] else None
    if (percent is None and count is None) or percent == 0 or count == 0 or (percent or 0) > 100:
        raise ConfigurationInvalid(
            f'"{text}" is no part of a repository', hint="give a percentage, such as 5%, or a number of objects"
        )

    def take(objects: Sequence[Manifest]) -> Sequence[Manifest]:
        if percent is None:
            return objects[:count]
        wanted = math.ceil(sum(each.bytes_stored for each in objects) * percent / 100)
        taken = 0
        while wanted > 0 and taken < len(objects):
            wanted -= objects[taken].bytes_stored
            taken += 1
        return objects[:taken]

    return take


def _stray(path: str) -> str:
    """Return what a person can do about an object without a manifest, which nothing here ever removes."""
    return (
        "no manifest names this object, so it is no restore point: its manifest is gone, or it strayed; "
        f"zstd -d -o COPY {shlex.quote(path)} makes the database that it holds: look at it, then delete the object"
    )


class _Run:
    """One verification under way."""

    def __init__(
        self,
        repository: Repository,
        request: VerifyRequest,
        share: Callable[[Sequence[Manifest]], Sequence[Manifest]] | None,
        runtime: Runtime,
        begun: float,
    ) -> None:
        self.repository = repository
        self.runtime = runtime
        self.depth = Depth.DATA if request.read_data or share is not None else Depth.STORED
        self.points: dict[str, list[VerifiedPoint]] = {}
        self.bytes_read = 0
        self.alive: set[str] = set()  # keys of the objects that manifests name
        self.found: dict[str, Found] = {}
        self._share = share
        self._until = None if request.max_time is None else begun + request.max_time
        self._known = read_results(runtime.state, repository.url)
        self._cursors: dict[str, int] = {}

    def in_turn(self, names: Sequence[str]) -> Sequence[str]:
        """Return the databases in the order in which they are looked at: where time is short, the longest ago first."""
        if self._until is None:
            return names
        latest: dict[str, datetime] = {}
        for key, found in self._known.objects.items():
            parts = keys.parse_object_key(key)
            if parts is not None:
                latest[parts.name] = max(found.time, latest.get(parts.name, found.time))
        return sorted(names, key=lambda name: (name in latest, latest[name].timestamp() if name in latest else 0.0))

    def database(self, name: str) -> None:
        """Prove everything of one database."""
        judged: dict[str, Judged] = {}
        with Judge(self.repository.store, self.runtime, data=self.depth is Depth.DATA, name=name) as judge:
            for turn in range(_TURNS):
                entries, strays = self._look(name)
                manifests = [entry.manifest for entry in entries if entry.manifest is not None]
                chains = Chains(manifests)
                missing = self._read(name, manifests, chains, judge, judged, again=turn > 0)
                if not missing or not self._moved(name, missing):
                    break
                # What continues one that went may continue another one now.
                for key in [key for key, one in judged.items() if judge.again(one)]:
                    judged.pop(key)
            self.bytes_read += judge.bytes_read
        self.alive.update(key for each in manifests for key in each.object_keys)
        self._remember(manifests, judged)
        self.points[name] = [
            *_Points(entries, chains, judged, self._known, self.depth),
            *self._strays(name, entries, strays),
        ]

    def _look(self, name: str) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """Return what `Repository.look` does, without restore points whose purge has begun: their objects go first."""
        said = read_marks(self.repository.store, name)
        entries, strays = self.repository.look(name)
        return tuple(entry for entry in entries if not said.gone(entry.sequence)), strays

    def keep(self, names: Sequence[str]) -> tuple[str, ...]:
        """Keep what was found; return what a person should know of that."""
        try:
            warning = keep_results(
                self.runtime.state,
                self.repository.url,
                self.found,
                cursors=self._cursors,
                looked_at=[keys.objects_prefix(name) for name in names],
                alive=frozenset(self.alive),
            )
        except OSError as error:
            warning = f"what was found could not be kept: {error}"
        return (warning,) if warning else ()

    def _read(
        self,
        name: str,
        manifests: Sequence[Manifest],
        chains: Chains,
        judge: Judge,
        judged: dict[str, Judged],
        *,
        again: bool,
    ) -> list[str]:
        """Read what is to be read and was not yet; return the keys of objects that are not there."""
        objects = list({each.key: each for each in manifests}.values())
        whole = self._share is None and self._until is None
        todo = _along_chains(objects, chains) if whole else self._rotated(name, objects)
        if self._share is not None:
            # What was stored anew under a run for a part is left to the next run.
            todo = [] if again else self._share(todo)
        todo = [each for each in todo if not judged.keys() >= {*each.object_keys}]
        missing = []
        for manifest, found in judge.judge(todo, chains, None if self._until is None else self._time_is_up):
            judged.update(zip(manifest.object_keys, found, strict=True))
            missing += [key for key in manifest.object_keys if judged[key].state == "missing"]
            if not whole:
                self._cursors[f"{self.depth.value} {name}"] = manifest.sequence
        if not whole:
            listed = set(self.repository.store.keys(keys.objects_prefix(name)))
            for key in (key for each in objects for key in each.object_keys):
                if key not in listed and key not in judged:
                    judged[key] = Judged(state="missing", why="the object is gone")
                    missing.append(key)
        return missing

    def _rotated(self, name: str, objects: Sequence[Manifest]) -> Sequence[Manifest]:
        """Return objects in order of commit, from the one after that which the last run for a part read last."""
        after = self._known.cursor(name, self.depth)
        return sorted(objects, key=lambda each: (each.sequence <= after, each.sequence))

    def _time_is_up(self) -> bool:
        return self._until is not None and self.runtime.monotonic() >= self._until

    def _moved(self, name: str, missing: Sequence[str]) -> bool:
        """Return whether the manifests name other objects now: some were pruned, or stored anew, meanwhile."""
        manifests = (entry.manifest for entry in self._look(name)[0])
        named = {key for each in manifests if each is not None for key in each.object_keys}
        return not named.issuperset(missing)

    def _remember(self, manifests: Sequence[Manifest], judged: dict[str, Judged]) -> None:
        now = self.runtime.clock()
        for each in (part for manifest in manifests for part in _parts(manifest)):
            one = judged.get(each.key)
            if one is not None:
                depth = Depth.DATA if self.depth is Depth.DATA and (one.summed or one.state != "ok") else Depth.STORED
                self.found[each.key] = Found(each.bytes, each.sha256, one.state, depth.value, now, one.why, one.alone)

    def _strays(self, name: str, entries: Sequence[Entry], strays: Sequence[str]) -> Iterator[VerifiedPoint]:
        """Yield the objects that no manifest names, unless a broken manifest may.

        A prune under way is no excuse for one that is there: it removes an object before the manifest that names it,
        and what it stores has its own number.
        """
        if any(entry.manifest is None for entry in entries):
            return
        for key in strays:
            if self.repository.store.exists(key):
                why = _stray(f"{self.repository.url}/{key}")
                yield VerifiedPoint(database=name, position=None, key=key, state="missing", why=why)


def _parts(manifest: Manifest) -> tuple[Manifest | CommitsFacts, ...]:
    """Return what a manifest says of each of its objects."""
    return (manifest,) if manifest.commits is UNSET else (manifest, manifest.commits)


def _along_chains(objects: Sequence[Manifest], chains: Chains) -> list[Manifest]:
    """Return objects so that each stands right behind what it continues, as far as only one continues that."""
    above: dict[str | None, list[Manifest]] = {}
    for each in objects:
        below = chains.below(each)
        above.setdefault(None if below is None else below.key, []).append(each)
    ordered: list[Manifest] = []
    waiting = above.pop(None, [])[::-1]
    while waiting:
        ordered.append(waiting.pop())
        waiting += above.pop(ordered[-1].key, [])[::-1]
    return ordered


class _Points:
    """The restore points of one database, each judged by all objects that it needs."""

    def __init__(
        self,
        entries: Sequence[Entry],
        chains: Chains,
        judged: dict[str, Judged],
        known: Results,
        depth: Depth,
    ) -> None:
        self._entries = entries
        self._chains = chains
        self._judged = judged
        self._known = known
        self._data = depth is Depth.DATA
        self._named: dict[str, VerifiedPoint] = {}  # by the key of the object
        self._whole: Position | None = None  # the last restore point that can be restored

    def __iter__(self) -> Iterator[VerifiedPoint]:
        """Yield one for each manifest, in order of commit: what one continues stands before it."""
        for entry in self._entries:
            manifest = entry.manifest
            if manifest is None:
                name = keys.parse_manifest_key(entry.key)
                yield VerifiedPoint(
                    database=name.name if name is not None else entry.key.split("/", 1)[0],
                    position=None,
                    key=entry.key,
                    state="damaged",
                    why=entry.problem,
                    instead=self._whole,
                )
            elif manifest.key in self._named:
                why = f"{manifest.key} is named by another manifest, too"
                yield VerifiedPoint(database=manifest.database, position=None, key=entry.key, state="damaged", why=why)
            else:
                point = self._point(manifest)
                yield point
                if manifest.commits is not UNSET and (lost := self._commits(manifest, manifest.commits)) is not None:
                    yield lost

    def _commits(self, manifest: Manifest, commits: CommitsFacts) -> VerifiedPoint | None:
        """Return what is wrong with the commits that lead to a restore point; None where nothing is."""
        state, why, _ = self._own(commits)
        if state == "ok":
            return None
        one = self._judged.get(commits.key)
        last = manifest.position.txid
        return VerifiedPoint(
            database=manifest.database,
            position=manifest.position,
            key=commits.key,
            state=state,
            why=f"txids {last - manifest.span + 1} to {last - 1} cannot be restored, but {last} itself: {why}",
            read=one is not None and one.state != "missing",
            instead=manifest.parent,
            commits=commits.count - 1,
        )

    def _point(self, manifest: Manifest) -> VerifiedPoint:
        state, why, needs = self._own(manifest)
        one = self._judged.get(manifest.key)
        below = self._chains.below(manifest)
        under = None if below is None else self._named.get(below.key)
        if state == "ok" and under is not None and under.state != "ok":
            needs = under.needs or under.key
            state, why = under.state, f"it needs {needs}: {under.why}" if not under.needs else under.why
        elif state == "ok" and below is None and manifest.kind == "segment":
            state, why = "missing", self._chains.gap(manifest)
        point = VerifiedPoint(
            database=manifest.database,
            position=manifest.position,
            key=manifest.key,
            state=state,
            why=why,
            data=self._data and state == "ok" and one is not None and one.summed,
            read=one is not None and one.state != "missing",
            needs=needs,
            instead=None if state == "ok" else self._whole,
        )
        self._named[manifest.key] = point
        if state == "ok":
            self._whole = manifest.position
        return point

    def _own(self, named: Manifest | CommitsFacts) -> tuple[str, str, str]:
        """Return state, reason and what else it needs of the object itself: as found now, else as found last."""
        one, found = self._judged.get(named.key), self._known.of(named)
        depth = Depth.DATA if one is not None and one.summed else Depth.STORED
        if one is not None and (found is None or one.state != "ok" or not found.outlives(depth)):
            return one.state, one.why, ""
        if found is not None and found.state in _WRONG:
            return found.state, f"{found.why} (as of {found.time:%Y-%m-%d %H:%M}Z)", ""
        return "ok", "", ""
