"""What a prune is going to do to one database, as a value: what stays, what is marked, what is purged, what is folded.

1. The policy decides which of the listed restore points go (`retention`); those are marked, and nothing else happens to
   them until their grace period is over.
2. Of those whose grace period is over everything is removed, but for what others are restored from: the snapshot of a
   chain stays as long as anything is based on it, and segments are folded into the next one that stays.
3. A chain of the newest restore point that grew too long or too large is folded into a snapshot of its own.
4. Where anything cannot be told for certain, nothing happens: a manifest that cannot be read freezes its database, and
   a chain with a gap, with damage, or of a backup that has not ended keeps all that is left of it.
5. What cannot be restored, or may still go away, is no reason for anything else to go.
6. Of a batch of followed commits that is older than every commit is kept, those stay that the policy keeps, and those
   whose moment has a name. One that is marked as deleted goes, or comes back, with all that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from msgspec import UNSET

from pagewarden.repository.catalogue import Entry
from pagewarden.repository.chain import Chains
from pagewarden.repository.format import Commit
from pagewarden.repository.manifest import Manifest
from pagewarden.repository.marks import PURGED, Marks
from pagewarden.repository.retention import (
    Candidate,
    Decision,
    Policy,
    decide,
    ends_of_minutes,
    grace_ended,
    whole_batches,
)
from pagewarden.times import format_duration, format_moment
from pagewarden.values import Level, SourceVerdict, Verdict

_THOROUGH = tuple(level.value for level in Level if level.includes(Level.STANDARD))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When the chain of the newest restore point has grown too much."""

    segments: int = 1000  # most of them in a chain
    ratio: float = 1.0  # most bytes of its segments, as a multiple of its snapshot's


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a prune goes by."""

    policy: Policy
    grace: timedelta
    limits: Limits
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What becomes of one restore point."""

    manifest: Manifest
    state: str  # "kept"; "goes": to be marked; "deleted": marked before; "purged": to be removed
    why: tuple[str, ...]  # clauses
    keep: tuple[int, ...] | None = None  # txids of the commits before it that stay; None: all that it has

    @property
    def thinned(self) -> int:
        """How many of its commits go."""
        commits = self.manifest.commits
        return 0 if self.keep is None or commits is UNSET else commits.count - 1 - len(self.keep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Page sets that are to become one, which the last of them is then restored from."""

    links: tuple[Manifest, ...]  # in the order of the chain
    snapshot: bool  # whether it is to be a snapshot; else a segment
    why: str
    keep: tuple[int, ...] | None = None  # txids of the commits of the last of them that stay; None: all


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """What a prune is going to do to one database."""

    database: str
    frozen: str  # why nothing goes now, empty where it may
    rows: tuple[Row, ...]  # in order of sequence
    folds: tuple[Fold, ...] = ()  # from the lowest up
    unmarked: tuple[int, ...] = ()  # sequences that go, or are purged at once, and have no mark yet
    thins: tuple[int, ...] = ()  # sequences of which commits go, and that are not folded
    orphans: tuple[int, ...] = ()  # sequences that were purged up to their marks
    problems: tuple[str, ...] = ()  # what cannot be read, one sentence each

    def in_state(self, state: str) -> tuple[Manifest, ...]:
        """Return the manifests of the restore points in one state, in order of sequence."""
        return tuple(row.manifest for row in self.rows if row.state == state)


def make_plan(
    database: str,
    entries: Sequence[Entry],
    marks: Marks,
    terms: Terms,
    *,
    damaged: Collection[int] = (),
    unended: Collection[int] = (),
    frozen: str = "",
    named: Collection[int] = (),
    look: Callable[[Manifest], Sequence[Commit] | None] = lambda _manifest: None,
) -> PrunePlan:
    """Return what is to be done. `damaged` are sequences whose objects are known to be damaged or missing.

    `unended` are those whose backup has not ended, and may still take its manifest back. `frozen` says why nothing may
    go, as far as that is known elsewhere: a check on this machine. The verdicts of the manifests are looked at here.
    `named` are txids of moments that have a name, on whatever timeline. `look` returns the commits of a batch, None
    where they cannot be told.
    """
    manifests = tuple(entry.manifest for entry in entries if entry.manifest is not None)
    problems = tuple(entry.problem for entry in entries if entry.manifest is None)
    ties = _Ties(manifests, damaged, unended)
    frozen = _frozen(manifests, problems, ties.open, frozen)
    sound = {
        each.sequence
        for each in manifests
        if each.source.verdict is Verdict.SOUND and each.sequence not in ties.faulty and each.sequence not in ties.open
    }
    old = {} if frozen else _old(ties, marks, terms, named, look)
    rows, keep = _decide(ties, marks, terms, sound, frozen, named, old)
    grown = "" if frozen else _grown(ties, rows, terms.limits)
    if grown:
        ties.end_chain(manifests[-1])
        rows, keep = _decide(ties, marks, terms, sound, frozen, named, old)
    told = tuple(_row(each, rows[each.sequence], keep.get(each.sequence), terms) for each in manifests)
    folds = () if frozen else tuple(_folds(ties, rows, grown, keep))
    folded = {fold.links[-1].sequence for fold in folds}
    return PrunePlan(
        database=database,
        frozen=frozen,
        rows=told,
        folds=folds,
        thins=tuple(row.manifest.sequence for row in told if row.thinned and row.manifest.sequence not in folded),
        unmarked=tuple(n for n in sorted(rows) if rows[n][0] in ("goes", "purged") and n not in marks.deletions),
        orphans=tuple(
            n for n, each in sorted(marks.deletions.items()) if each.end == PURGED and n not in rows and not problems
        ),
        problems=(*problems, *marks.problems),
    )


class _Ties:
    """What the manifests of one database have to do with each other, each looked at once: there may be thousands."""

    def __init__(
        self, manifests: tuple[Manifest, ...], damaged: Collection[int] = (), unended: Collection[int] = ()
    ) -> None:
        chains = Chains(manifests)
        self.manifests = {each.sequence: each for each in manifests}
        self.below: dict[int, int | None] = {}
        self.bases: dict[int, int] = {}  # the lowest of each chain, by sequence
        self.broken: set[int] = set()  # those whose chain has a gap
        self.faulty: set[int] = set()  # those, and the ones of whose chain something is damaged or missing
        self.open: set[int] = set()  # those of which something may still be taken back by its backup
        self.under: dict[int, int] = {}  # what the commits of snapshots continue, by sequence
        for each in manifests:  # in order of sequence, in which chains ascend
            below = chains.below(each)
            if each.commits is not UNSET and each.kind == "snapshot" and (parent := chains.parent(each)) is not None:
                self.under[each.sequence] = parent.sequence
            self.below[each.sequence] = None if below is None else below.sequence
            self.bases[each.sequence] = each.sequence if below is None else self.bases[below.sequence]
            if self.manifests[self.bases[each.sequence]].kind == "segment":
                self.broken.add(each.sequence)
            if each.sequence in damaged or each.sequence in self.broken or self.below[each.sequence] in self.faulty:
                self.faulty.add(each.sequence)
            if each.sequence in unended or self.below[each.sequence] in self.open:
                self.open.add(each.sequence)

    def whole(self, sequence: int) -> bool:
        """Return whether it can be restored, as far as is known, and will stay so."""
        return sequence not in self.faulty and sequence not in self.open

    def end_chain(self, manifest: Manifest) -> None:
        """Let a restore point have a snapshot of its own: nothing below is needed for it, but for its commits."""
        self.bases[manifest.sequence] = manifest.sequence
        below = self.below[manifest.sequence]
        if manifest.commits is not UNSET and below is not None:
            self.under[manifest.sequence] = below

    def chain(self, sequence: int) -> list[int]:
        """Return the chain of a restore point, from the top down."""
        links = [sequence]
        while (below := self.below[links[-1]]) is not None:
            links.append(below)
        return links


_Rows = dict[int, tuple[str, tuple[str, ...]]]


def _old(
    ties: _Ties,
    marks: Marks,
    terms: Terms,
    named: Collection[int],
    look: Callable[[Manifest], Sequence[Commit] | None],
) -> dict[int, list[Candidate]]:
    """Return of each batch that is older than every commit is kept the commits that a rule may keep, by sequence."""
    listed = {
        sequence: each
        for sequence, each in ties.manifests.items()
        if not marks.hidden(sequence) and ties.whole(sequence)
    }
    young = whole_batches(
        [
            Candidate(sequence=sequence, time=each.position.time, followed=each.followed)
            for sequence, each in listed.items()
        ],
        terms.policy,
        now=terms.now,
    )
    newest = max(ties.manifests, default=0)
    found = {}
    for sequence, each in listed.items():
        if each.commits is UNSET or sequence in young or sequence in marks.pins or sequence == newest:
            continue
        commits = look(each)
        if commits is None:
            continue
        inner = [commit for commit in commits if commit.txid < each.position.txid]
        ends = set(ends_of_minutes([*(commit.time for commit in inner), each.position.time]))
        found[sequence] = [
            Candidate(
                sequence=sequence, commit=commit.txid, time=commit.time, followed=True, named=commit.txid in named
            )
            for place, commit in enumerate(inner)
            if place in ends or commit.txid in named
        ]
    return found


def _decide(
    ties: _Ties,
    marks: Marks,
    terms: Terms,
    sound: set[int],
    frozen: str,
    named: Collection[int],
    old: Mapping[int, list[Candidate]],
) -> tuple[_Rows, dict[int, tuple[Decision, ...]]]:
    """Return what becomes of each restore point, by sequence, and which commits stay of those of which some may go."""
    points = [
        Candidate(
            sequence=sequence,
            time=each.position.time,
            sound=sequence in sound,
            pinned=marks.pins.get(sequence),
            base=ties.bases[sequence],
            faulty=sequence in ties.faulty,
            open=sequence in ties.open,
            followed=each.followed or each.facts.gap is not UNSET,
            named=each.position.txid in named,
            under=ties.under.get(sequence),
        )
        for sequence, each in ties.manifests.items()
        if not marks.hidden(sequence)
    ]
    inner = [each for some in old.values() for each in some]
    decisions = decide([*points, *inner], terms.policy, now=terms.now, frozen=frozen)
    rows = {each.sequence: ("kept" if each.keep else "goes", each.why) for each in decisions if not each.commit}
    for sequence in ties.manifests:
        if sequence not in rows:
            rows[sequence] = _marked(sequence, marks, terms, frozen or _unended(sequence, ties))
        elif rows[sequence][0] == "goes" and terms.grace <= timedelta(0):
            rows[sequence] = ("purged", rows[sequence][1])
    if not frozen:
        _spare(ties, rows, sound, marks)
    keep: dict[int, list[Decision]] = {sequence: [] for sequence in old if rows[sequence][0] == "kept"}
    for each in decisions:
        if each.commit and each.keep and each.sequence in keep:
            keep[each.sequence].append(each)
    return rows, {sequence: tuple(some) for sequence, some in keep.items()}


def _row(manifest: Manifest, row: tuple[str, tuple[str, ...]], keep: tuple[Decision, ...] | None, terms: Terms) -> Row:
    """Return what becomes of one restore point, and of its commits."""
    state, why = row
    told = Row(manifest=manifest, state=state, why=why, keep=None if keep is None else tuple(k.commit for k in keep))
    if not told.thinned or terms.policy.commits is None:
        return told
    commits = f"{told.thinned:,} of the commits before it go: older than {format_duration(terms.policy.commits)}"
    if keep:
        kinds = sorted({each.split(",")[0] for decision in keep for each in decision.why})
        commits += f", and {len(keep):,} stay: {'; '.join(kinds)}"
    return replace(told, why=(*why, commits))


def _frozen(manifests: tuple[Manifest, ...], problems: tuple[str, ...], unended: set[int], frozen: str) -> str:
    """Return why nothing may go, empty where it may."""
    if problems:
        return f"a manifest cannot be read, and nobody knows what it needs: {problems[0]}"
    damaged = of_damage(manifests, unended)
    if damaged is None:
        return frozen
    if damaged is manifests[-1]:
        return "the newest backup is of a database that its check found damaged"
    return (
        f"backup number {damaged.sequence} is of a database that was found damaged, and none after it was found"
        f" sound at level {Level.STANDARD} or deeper"
    )


def of_damage(manifests: Sequence[Manifest], unended: Collection[int] = ()) -> Manifest | None:
    """Return the newest backup whose source was found damaged, and not found sound since; None without one.

    Damage of the source counts until a later backup found it sound by a check of more than the quickest level: that
    nobody looked, or nobody could tell, ends nothing.
    """
    for each in reversed(manifests):
        if each.source.verdict is Verdict.DAMAGED:
            return each
        if is_sound(each.source) and each.sequence not in unended:
            break
    return None


def is_sound(source: SourceVerdict) -> bool:
    """Return whether a source was found sound by a check of more than the quickest level."""
    return source.verdict is Verdict.SOUND and source.level in _THOROUGH


def _unended(sequence: int, ties: _Ties) -> str:
    return "its backup has not ended" if sequence in ties.open else ""


def _marked(sequence: int, marks: Marks, terms: Terms, frozen: str) -> tuple[str, tuple[str, ...]]:
    """Return what becomes of a restore point that was marked before."""
    deletion = marks.deletions[sequence]
    if deletion.end == PURGED:
        return ("deleted" if frozen else "purged"), ("its purge has begun",)
    if deletion.end or deletion.time is None:
        return "deleted", ("whether it is to be purged cannot be read, so it is not",)
    since = f"deleted at {format_moment(deletion.time)}"
    said = (deletion.why, since) if deletion.why else (since,)
    if sequence in marks.pins:
        return "deleted", (*said, "pinned")
    if not grace_ended(deletion.time, terms.grace, terms.now):
        try:
            until = format_moment(deletion.time + terms.grace)
        except OverflowError:  # the clock of whoever marked it was far off
            until = "the end of the calendar"
        return "deleted", (*said, f"goes for good after {until}")
    return ("deleted", (*said, f"nothing goes now: {frozen}")) if frozen else ("purged", said)


def _spare(ties: _Ties, rows: _Rows, sound: set[int], marks: Marks) -> None:
    """Take out of what is to be purged what others are restored from, and the last ones that can be relied on."""

    def spare(sequence: int, why: str) -> None:
        decided = sequence in marks.deletions and marks.deletions[sequence].end == PURGED
        if rows[sequence][0] == "purged" and not decided:
            state = "deleted" if sequence in marks.deletions else "kept"
            rows[sequence] = (state, (*rows[sequence][1], why))

    last = max((each for each in sound if not marks.gone(each)), default=None)
    if last is not None:
        spare(last, "the last known to be sound, which never goes")
    whole = max((each for each in rows if ties.whole(each) and not marks.gone(each)), default=None)
    if whole is not None:
        spare(whole, "the newest that can be relied on")
    needed: set[int] = set()
    for sequence in sorted(rows, reverse=True):
        if rows[sequence][0] == "purged":
            continue
        if sequence in ties.under:
            spare(ties.under[sequence], f"the commits of number {sequence} continue it")
        if not ties.whole(sequence):
            for link in ties.chain(sequence)[1:]:
                if link in needed:
                    break
                needed.add(link)
                spare(link, _why_all(sequence, ties))
        elif ties.bases[sequence] != sequence and ties.bases[sequence] not in needed:
            needed.add(ties.bases[sequence])
            spare(ties.bases[sequence], f"number {sequence} is based on it")


def _why_all(sequence: int, ties: _Ties) -> str:
    """Return why everything that `sequence` is made of stays, though not all of it can be relied on."""
    if sequence in ties.faulty:
        what = "with a gap" if sequence in ties.broken else "that is damaged"
        return f"all that is left of a chain {what} stays"
    return f"the backup of number {sequence} has not ended"


def _folds(ties: _Ties, rows: _Rows, grown: str, keep: Mapping[int, tuple[Decision, ...]]) -> Iterator[Fold]:
    """Yield what is to be folded, from the lowest up; `grown` says how the chain of the newest grew too much."""
    newest = max(rows, default=0)
    for sequence in sorted(rows):
        if rows[sequence][0] == "purged" or (sequence == newest and grown) or sequence in ties.broken:
            continue
        links = [sequence]
        while (below := ties.below[links[-1]]) is not None and rows[below][0] == "purged":
            links.append(below)
        if len(links) > 1:
            fold = _fold(ties, links, f"number {sequence} is restored from what goes")
            stay = keep.get(sequence)
            yield fold if stay is None else replace(fold, keep=tuple(each.commit for each in stay))
    if grown:
        yield _fold(ties, ties.chain(newest), grown)


def _grown(ties: _Ties, rows: _Rows, limits: Limits) -> str:
    """Return how the chain of the newest restore point grew too much; empty if it did not."""
    newest = max(rows, default=0)
    if not newest or not ties.whole(newest) or rows[newest][0] != "kept":
        return ""
    *segments, base = (ties.manifests[each] for each in ties.chain(newest) if rows[each][0] != "purged")
    size = sum(each.bytes for each in segments)
    if len(segments) > limits.segments:
        return f"its chain has {len(segments):,} segments, and {limits.segments:,} are allowed"
    if segments and size > base.bytes * limits.ratio:
        return f"the segments of its chain have {size:,} bytes, and its snapshot {base.bytes:,}"
    return ""


def _fold(ties: _Ties, links: list[int], why: str) -> Fold:
    manifests = tuple(ties.manifests[each] for each in reversed(links))
    return Fold(links=manifests, snapshot=manifests[0].kind == "snapshot", why=why)
