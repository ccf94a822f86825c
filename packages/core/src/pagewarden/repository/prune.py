"""The `prune` verb: apply the retention policy to a repository.

`prune` never removes the last backup known to be sound, and removes nothing while the newest check says `damaged`.

1. For each database the plan is made (`pruning`). Without `apply` it is only told.
2. The turn is taken, so that no other prune is at the same database; what earlier ones left undone is done.
3. What the policy lets go is marked: it is not listed any more, and `undelete` brings it back.
4. What stays and is restored from what is to be purged is folded, proved, and stored anew; of followed batches that are
   older than every commit is kept, the commits go that no rule keeps.
5. The end of each mark whose grace period is over is decided, from the newest down, so that whatever `undelete` takes
   back has all that it is restored from; then everything of it goes.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from msgspec import UNSET

from pagewarden.config import RetentionSettings
from pagewarden.errors import (
    ConfigurationInvalid,
    DeletionRefused,
    LedgerUnusable,
    PagewardenError,
    RepositoryBusy,
)
from pagewarden.repository import givenup, keys, marks, tidy
from pagewarden.repository.backups import choose_names
from pagewarden.repository.marks import KEPT, PURGED, Marks, read_marks
from pagewarden.repository.pruning import Limits, PrunePlan, Terms, make_plan
from pagewarden.repository.results import read_results
from pagewarden.repository.retention import Policy, describe
from pagewarden.times import parse_duration
from pagewarden.values import PrunedDatabase, PrunedPoint, PruneReport, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagewarden.repository.catalogue import Entry
    from pagewarden.repository.format import Commit
    from pagewarden.repository.manifest import Manifest
    from pagewarden.repository.repository import Repository
    from pagewarden.repository.shorten import Shortener
    from pagewarden.repository.turn import Turn
    from pagewarden.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneRequest:
    """What to prune, and by which policy."""

    repository: str  # URL
    name: str | None = None  # of one database; None: all
    apply: bool = False  # do it; else only tell what would be done
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    by_name: Mapping[str, RetentionSettings] = field(default_factory=dict)  # of databases that have their own


def run_prune(request: PruneRequest, runtime: Runtime) -> PruneReport:
    """Apply the retention policy, or tell what that would do.

    Raises ConfigurationInvalid for a policy that makes no sense, RepositoryNotFound where there is no repository, or
    nothing of that name in it; RepositoryBusy where another prune is at it; DeletionRefused, which says what was marked
    all the same; OutOfSpace, TargetFailed. Whatever it raises, every restore point that is listed can be restored.
    """
    began = runtime.monotonic()
    repository = runtime.repository(request.repository)
    names = choose_names(repository, request.name, stored=False)
    now = runtime.clock()
    terms = {name: terms_of(request.by_name.get(name, request.retention), now) for name in names}
    if request.apply:
        givenup.end(repository.store)
        with suppress(DeletionRefused):  # what earlier runs left harms nobody
            tidy.clean(repository.store, now, ended=True)
    runs = [_Prune(repository, name, terms[name], runtime) for name in names]
    pruned = tuple(run.run(apply=request.apply) for run in runs)
    if refused := [run.refused for run in runs if run.refused is not None]:
        count = sum(run.marked for run in runs)
        points = "restore point was" if count == 1 else "restore points were"
        told = f"{count} {points} marked as deleted all the same" if count else "nothing was to be marked"
        raise DeletionRefused(f"{refused[0].message}; {told}", hint=refused[0].hint)
    report = PruneReport(
        repository=request.repository,
        applied=request.apply,
        databases=pruned,
        bytes_freed=sum(each.bytes_freed for each in pruned),
        bytes_stored=sum(each.bytes_stored for each in pruned),
        seconds=runtime.monotonic() - began,
    )
    if request.apply:
        runtime.emit(
            "prune.finished", seconds=report.seconds, repository=request.repository, bytes_freed=report.bytes_freed
        )
    return report


def terms_of(settings: RetentionSettings, now: datetime) -> Terms:
    """Return what a prune goes by. Raises ConfigurationInvalid for what makes no sense."""
    within = None if settings.within is None else parse_duration(settings.within)
    try:
        policy = Policy(
            last=settings.last,
            within=within,
            commits=parse_duration(settings.commits),
            minutely=settings.minutely,
            hourly=settings.hourly,
            daily=settings.daily,
            weekly=settings.weekly,
            monthly=settings.monthly,
            yearly=settings.yearly,
            minimum=settings.minimum,
        )
        limits = Limits(segments=settings.chain_segments, ratio=settings.chain_ratio)
    except ValueError as error:
        raise ConfigurationInvalid(str(error), hint="write whole numbers, 0 for none, and lengths above 0s") from error
    return Terms(policy=policy, grace=parse_duration(settings.grace), limits=limits, now=now)


class _Prune:
    """The prune of one database."""

    def __init__(self, repository: Repository, name: str, terms: Terms, runtime: Runtime) -> None:
        self._repository = repository
        self._store = repository.store
        self._name = name
        self._terms = terms
        self._runtime = runtime
        self.refused: DeletionRefused | None = None  # why nothing could be removed
        self._warnings: list[str] = []
        self._marked: list[int] = []  # sequences
        self._unthinned: set[int] = set()  # sequences of which commits were to go, and did not
        self._kept: dict[int, tuple[str, str]] = {}  # by sequence: another state than the planned one, and why
        self._commits: dict[str, tuple[Commit, ...] | None] = {}  # by key of the page set, as far as they were read
        self._pinned: list[int] = []  # sequences of what was pinned after the plan was made

    def run(self, *, apply: bool) -> PrunedDatabase:
        """Prune, or tell what that would do."""
        if not apply:
            plan = self._plan(read_marks(self._store, self._name), tuple(self._repository.entries(self._name)))
            freed = sum(each.bytes_stored for each in plan.in_state("purged"))
            freed += sum(row.manifest.bytes_stored - row.manifest.bytes for row in plan.rows if row.keep == ())
            return self._report(plan, freed=freed, stored=0)
        from pagewarden.repository.shorten import Shortener
        from pagewarden.repository.turn import Turn

        runtime = self._runtime
        with Turn(self._store, self._name, token_hex(8), runtime.clock(), runtime.sleep) as turn:
            entries = tuple(self._repository.entries(self._name))
            compactor = Shortener(self._repository, runtime, turn, self._name, entries)
            plan = self._plan(self._settle_pins(), entries)
            if not plan.frozen:
                self._mark(plan)
                try:
                    plan = self._carry_out(plan, compactor, turn)
                except DeletionRefused as error:
                    self.refused = error
                finally:
                    compactor.release()
        return self._report(plan, freed=compactor.bytes_freed, stored=compactor.bytes_stored)

    @property
    def marked(self) -> int:
        """How many restore points were marked."""
        return len(self._marked)

    def _carry_out(self, plan: PrunePlan, compactor: Shortener, turn: Turn) -> PrunePlan:
        """Fold and purge, and tidy marks that ended otherwise; return the plan, which may have changed.

        Raises DeletionRefused before anything is decided.
        """
        stored_anew = any(entry.others for entry in compactor.entries)
        if stored_anew or plan.folds or plan.thins or plan.in_state("purged") or plan.orphans:
            self._may_delete(turn)
            if stored_anew:
                plan = self._after_earlier(compactor)
            self._fold(plan, compactor)
            self._thin(plan, compactor)
            self._purge(plan, compactor, turn)
        for key in marks.settled(self._store, self._name):
            self._store.delete(key)
        return plan

    def _after_earlier(self, compactor: Shortener) -> PrunePlan:
        """End what earlier prunes left undone, and plan anew: what counts now may need other page sets."""
        done, problems = compactor.finish_earlier()
        self._warnings += (*done, *problems)
        plan = self._plan(read_marks(self._store, self._name), compactor.entries)
        if problems:
            plan = replace(plan, folds=(), thins=())
            self._unthinned.update(row.manifest.sequence for row in plan.rows)
            why = "what may need it cannot be proved"
            self._kept.update({each.sequence: ("deleted", why) for each in plan.in_state("purged")})
        return plan

    def _plan(self, said: Marks, entries: Sequence[Entry]) -> PrunePlan:
        manifests = [entry.manifest for entry in entries if entry.manifest is not None]
        unended, lost = self._look(entries, said)
        return make_plan(
            self._name,
            entries,
            said,
            self._terms,
            damaged=self._found_damaged(manifests) | lost,
            unended=unended,
            frozen=self._frozen(manifests),
            named=self._named(),
            look=self._look_at_commits,
        )

    def _named(self) -> frozenset[int]:
        """Return the txids of moments that have a name; which timeline one is of does not matter here."""
        parsed = (keys.parse_moment_key(key) for key in self._store.keys(keys.moments_prefix(self._name)))
        return frozenset(parts.txid for parts in parsed if parts is not None)

    def _look_at_commits(self, manifest: Manifest) -> tuple[Commit, ...] | None:
        """Return the commits of a batch, None where they cannot be read: then all of them stay."""
        if manifest.commits is UNSET:
            return None
        key = manifest.commits.key
        if key not in self._commits:
            self._commits[key] = None
            try:
                path = self._store.local(key)
                self._commits[key] = None if path is None else self._runtime.reader.commits_of(path)
            except PagewardenError as error:
                self._warn(f"{key} cannot be read, so all of it stays: {error.message}")
            finally:
                self._store.release(key)
        return self._commits[key]

    def _look(self, entries: Sequence[Entry], said: Marks) -> tuple[frozenset[int], frozenset[int]]:
        """Return the restore points whose backups have not ended, and those whose objects are not as they were stored.

        In this order: `entries` were read, then intents are listed, then what is there now. A manifest of which no
        intent stood, and that is there after that, was committed, because a backup ends its intent after its manifest.
        """
        begun = tidy.undecided(self._store)
        sizes = self._store.sizes(f"{keys.escape_name(self._name)}/")
        unended, lost = set(), set()
        for entry in entries:
            manifest = entry.manifest
            if manifest is None:
                continue
            # What is stored anew is so by a prune, of a backup that had ended, and a prune proves what others left.
            if not entry.others and entry.key == keys.manifest_key(self._name, entry.sequence):
                parts = keys.parse_object_key(manifest.key)
                if entry.key not in sizes or (parts is not None and parts.nonce in begun):
                    unended.add(entry.sequence)
                    continue
            wanted = (manifest.bytes, manifest.bytes_stored - manifest.bytes)
            for key, bytes_wanted in zip(manifest.object_keys, wanted, strict=False):
                if (size := sizes.get(key)) == bytes_wanted:
                    continue
                if key == manifest.key:  # without its commits it can be restored all the same
                    lost.add(entry.sequence)
                if said.gone(entry.sequence):
                    continue  # its purge was cut off
                what = "is missing from" if size is None else f"has {size:,} bytes, not {bytes_wanted:,}, in"
                self._warn(f"{key} {what} {self._repository.url}")
        return frozenset(unended), frozenset(lost)

    def _found_damaged(self, manifests: Sequence[Manifest]) -> frozenset[int]:
        """Return the restore points that verifications on this machine found damaged."""
        from pagewarden.repository.chain import Chains

        results = read_results(self._runtime.state, self._repository.url)
        if results.warning:
            self._warn(results.warning)
        if not results.objects:
            return frozenset()
        known = results.verifications(manifests, Chains(manifests))
        return frozenset(
            each.sequence
            for each in manifests
            if (found := known.get(each.key)) is not None and found.state in ("damaged", "missing")
        )

    def _frozen(self, manifests: Sequence[Manifest]) -> str:
        """Return whether the newest check of the database on this machine found damage: why nothing may go."""
        from pagewarden.ledger import LedgerRequest, run_ledger

        facts = manifests[-1].facts if manifests else None
        if facts is None or facts.host != socket.gethostname() or not Path(facts.path).is_absolute():
            return ""
        try:
            runs = run_ledger(LedgerRequest(database=facts.path), self._runtime).runs
        except LedgerUnusable as error:
            self._warn(f"what the newest check of {facts.path} found is not known: {error.message}")
            return ""
        damaged = bool(runs) and runs[-1].verdict is Verdict.DAMAGED
        return f"the newest check of {facts.path} found damage" if damaged else ""

    def _settle_pins(self) -> Marks:
        """Let what is pinned be listed, which a prune marked meanwhile and was cut off; return what is said by then."""
        said = read_marks(self._store, self._name)
        both = [each for each in said.pins if each in said.deletions and not said.deletions[each].end]
        for sequence in both:
            marks.decide(self._store, self._name, sequence, KEPT, now=self._terms.now)
        return read_marks(self._store, self._name) if both else said

    def _mark(self, plan: PrunePlan) -> None:
        """Mark what the policy lets go."""
        now = self._terms.now
        why = {row.manifest.sequence: "; ".join(row.why) for row in plan.rows}
        for sequence in plan.unmarked:
            marks.delete(self._store, self._name, sequence, why=why[sequence], now=now)
            self._marked.append(sequence)
        # Whoever pins looks for marks after that, as this looks for pins after marking: one of the two sees the other.
        pins = read_marks(self._store, self._name).pins if self._marked else {}
        for sequence in self._marked:
            if sequence in pins:
                marks.decide(self._store, self._name, sequence, KEPT, now=now)
                self._kept[sequence] = "kept", "pinned meanwhile"
                self._pinned.append(sequence)

    def _may_delete(self, turn: Turn) -> None:
        """Raise DeletionRefused, before anything is decided, where nothing can be removed."""
        key = keys.claim_key(token_hex(8))  # of no intent: the next run would remove it
        turn.check()
        self._store.put(key, b"")
        self._store.delete(key)

    def _fold(self, plan: PrunePlan, compactor: Shortener) -> None:
        """Store anew what is restored from what goes; where that fails, what it needs is not purged."""
        for number, fold in enumerate(plan.folds):
            self._runtime.progress("folding", number, len(plan.folds))
            try:
                compactor.fold(fold)
            except (RepositoryBusy, DeletionRefused):
                raise  # the turn is lost, or nothing can be removed: that is not a matter of this fold
            except PagewardenError as error:
                self._warn(f"{fold.why}, but it could not be folded: {error.message}")
                self._unthinned.add(fold.links[-1].sequence)
                for link in fold.links[:-1]:
                    self._kept.setdefault(link.sequence, ("deleted", "what is restored from it could not be folded"))

    def _thin(self, plan: PrunePlan, compactor: Shortener) -> None:
        """Let go of commits that no rule keeps; where that fails they stay."""
        keep = {row.manifest.sequence: row.keep for row in plan.rows}
        for number, sequence in enumerate(plan.thins):
            self._runtime.progress("thinning", number, len(plan.thins))
            try:
                compactor.thin(sequence, keep[sequence] or ())
            except (RepositoryBusy, DeletionRefused):
                raise
            except PagewardenError as error:
                self._unthinned.add(sequence)
                self._warn(f"the commits of number {sequence} stay, because they could not be thinned: {error.message}")

    def _purge(self, plan: PrunePlan, compactor: Shortener, turn: Turn) -> None:
        """Decide the ends of marks, from the newest down, and remove what is purged."""
        decided = []
        for sequence in self._pinned:
            self._keep_chain(sequence, compactor)
        for manifest in reversed(plan.in_state("purged")):
            sequence = manifest.sequence
            if sequence in self._kept:
                continue
            turn.check()
            outcome = marks.decide(self._store, self._name, sequence, PURGED, now=self._terms.now)
            if outcome == PURGED:
                decided.append(sequence)
                continue
            self._keep_chain(sequence, compactor)
            back = outcome in (KEPT, "")
            why = "undeleted meanwhile" if back else "whether it was undeleted cannot be read"
            self._kept[sequence] = ("kept" if back else "deleted"), why
        for sequence in (*decided, *plan.orphans):
            compactor.purge(sequence)

    def _keep_chain(self, sequence: int, compactor: Shortener) -> None:
        """Let everything stay that a restore point is restored from by now."""
        for link in compactor.chain(sequence):
            self._kept.setdefault(link.sequence, ("deleted", f"number {sequence} is restored from it"))

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)

    def _report(self, plan: PrunePlan, *, freed: int, stored: int) -> PrunedDatabase:
        points = []
        for row in plan.rows:
            manifest, kept = row.manifest, self._kept.get(row.manifest.sequence)
            moved = kept is not None and row.state in ("goes", "purged")
            points.append(
                PrunedPoint(
                    number=manifest.sequence,
                    position=manifest.position,
                    kind=manifest.kind,
                    bytes_stored=manifest.bytes_stored,
                    state=kept[0] if kept is not None and moved else row.state,
                    why="; ".join((*row.why, kept[1]) if kept is not None and moved else row.why),
                    commits=1 if manifest.commits is UNSET else manifest.commits.count,
                    commits_gone=0 if manifest.sequence in self._unthinned else row.thinned,
                )
            )
        return PrunedDatabase(
            database=self._name,
            policy=describe(self._terms.policy, followed=any(row.manifest.followed for row in plan.rows)),
            frozen=plan.frozen,
            points=tuple(points),
            folds=tuple(fold.why for fold in plan.folds),
            bytes_freed=freed,
            bytes_stored=stored,
            warnings=(*plan.problems, *self._warnings),
        )
