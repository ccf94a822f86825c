"""The plan of a prune: what is marked, purged and folded, and what is left alone because something needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pagewarden.repository.catalogue import Entry
from pagewarden.repository.keys import manifest_key
from pagewarden.repository.manifest import Manifest
from pagewarden.repository.marks import KEPT, PURGED, UNCLEAR, Deletion, Marks
from pagewarden.repository.pruning import Limits, PrunePlan, Terms, make_plan
from pagewarden.repository.retention import Policy
from pagewarden.values import SourceVerdict, Verdict
from tests.core.repository.sets import NOW
from tests.core.repository.test_chain import manifest

DAY = timedelta(days=1)
UNKNOWN = SourceVerdict(verdict=Verdict.UNKNOWN, level="quick")
SOUND = SourceVerdict(verdict=Verdict.SOUND, level="standard")
DAMAGED = SourceVerdict(verdict=Verdict.DAMAGED, level="quick")


def chain(*kinds: str) -> list[Manifest]:
    """Return manifests from txid 1: "S" for a snapshot, "s" for a segment on the one before."""
    made = []
    for txid, kind in enumerate(kinds, start=1):
        each = manifest(txid, None if kind == "S" else txid - 1)
        made.append(replace(each, source=UNKNOWN, bytes=1000 if kind == "S" else 10))
    return made


def entries(manifests: Sequence[Manifest]) -> list[Entry]:
    """Return them as they are found."""
    return [
        Entry(key=manifest_key("app.db", each.sequence), manifest=each, sequence=each.sequence) for each in manifests
    ]


def deleted(*sequences: int, days: float = 8, end: str = "") -> dict[int, Deletion]:
    """Return deletions of so many days ago."""
    time: datetime = NOW - days * DAY
    return {each: Deletion(sequence=each, time=time, why="no rule keeps it", end=end) for each in sequences}


def plan(
    manifests: Sequence[Manifest],
    marks: Marks | None = None,
    *,
    last: int = 1,
    grace: timedelta = 7 * DAY,
    limits: Limits | None = None,
    damaged: Sequence[int] = (),
    unended: Sequence[int] = (),
    frozen: str = "",
) -> PrunePlan:
    """Return the plan with a policy that keeps the last ones."""
    terms = Terms(policy=Policy(last=last), grace=grace, limits=limits or Limits(), now=NOW)
    return make_plan(
        "app.db", entries(manifests), marks or Marks(), terms, damaged=damaged, unended=unended, frozen=frozen
    )


def states(made: PrunePlan) -> str:
    """Return the states of all restore points by their first letters."""
    return "".join(row.state[0] for row in made.rows)


def folds(made: PrunePlan) -> list[tuple[list[int], bool]]:
    """Return what is folded: sequences, and whether into a snapshot."""
    return [([link.sequence for link in fold.links], fold.snapshot) for fold in made.folds]


def test_what_goes_is_marked_and_nothing_else_happens_to_it() -> None:
    """H31: the base of what stays is kept, and nothing is folded while everything of the others is still there."""
    made = plan(chain("S", "s", "s", "s"))
    assert states(made) == "kggk"
    assert made.rows[0].why == ("the snapshot that number 4 is based on",)
    assert (folds(made), made.unmarked) == ([], (2, 3))


def test_what_is_purged_is_folded_into_what_stays() -> None:
    """Each restore point that stays takes up what goes just below it, down to the next one that stays."""
    made = plan(chain("S", "s", "s", "s", "s", "s", "s"), Marks(deletions=deleted(2, 3, 5, 6)), last=9)
    assert states(made) == "kppkppk"
    assert folds(made) == [([2, 3, 4], False), ([5, 6, 7], False)]
    assert made.unmarked == ()


def test_a_restore_point_in_its_grace_period_is_still_restored_from_what_it_needs() -> None:
    """What can be undeleted is folded into like what stays, and keeps its snapshot."""
    marks = Marks(deletions=deleted(1, 2, days=8) | deleted(3, days=2))
    made = plan(chain("S", "s", "s", "S"), marks)
    assert states(made) == "dpdk"
    assert folds(made) == [([2, 3], False)]
    assert made.rows[0].why[-1] == "number 3 is based on it"
    assert "goes for good after 2026-11-27" in made.rows[2].why[-1]


def test_a_chain_that_nothing_needs_goes_whole() -> None:
    """Without anything to fold."""
    made = plan(chain("S", "s", "s", "S", "s"), Marks(deletions=deleted(1, 2, 3)), last=2)
    assert (states(made), folds(made)) == ("pppkk", [])


def test_a_purge_that_began_goes_on_and_its_base_is_folded_into_a_snapshot() -> None:
    """Nothing can be undeleted of it; should anything still be based on it, that gets a snapshot of its own."""
    marks = Marks(deletions=deleted(1, 2, days=0, end=PURGED))
    made = plan(chain("S", "s", "s", "s"), marks, last=9)
    assert states(made) == "ppkk"
    assert folds(made) == [([1, 2, 3], True)]
    assert made.rows[0].why == ("its purge has begun",)


def test_marks_of_what_is_gone_are_orphans() -> None:
    """A purge that was cut off between manifest and mark leaves a mark that nothing belongs to."""
    made = plan(chain("S", "s"), Marks(deletions=deleted(7, end=PURGED) | deleted(8)))
    assert made.orphans == (7,)


def test_without_a_grace_period_what_goes_is_purged_at_once() -> None:
    """And still nothing that others need."""
    made = plan(chain("S", "s", "s", "s"), grace=timedelta(0))
    assert (states(made), made.unmarked) == ("kppk", (2, 3))
    assert folds(made) == [([2, 3, 4], False)]


def test_nothing_goes_while_damage_is_known() -> None:
    """H18, H31: neither marks nor purges nor folds, whether the newest manifest says so or a check on this machine."""
    history = chain("S", "s", "s", "s")
    marks = Marks(deletions=deleted(2) | deleted(3, end=PURGED))
    for made in (
        plan([*history[:3], replace(history[3], source=DAMAGED)], marks),
        plan(history, marks, frozen="the newest check found damage"),
        plan(history, marks, frozen="the newest check found damage", grace=timedelta(0), limits=Limits(segments=1)),
    ):
        assert set(states(made)) <= {"k", "d"}
        assert (folds(made), made.unmarked) == ([], ())
        assert made.frozen


def test_an_older_backup_of_damage_freezes_nothing_after_a_sound_one() -> None:
    """A thorough check that found the source sound is what counts."""
    history = chain("S", "s", "S", "s")
    made = plan([replace(history[0], source=DAMAGED), history[1], replace(history[2], source=SOUND), history[3]])
    assert (states(made), made.frozen) == ("ggkk", "")


def test_a_manifest_that_cannot_be_read_freezes_its_database() -> None:
    """Nobody knows which page sets it needs."""
    found = entries(chain("S", "s", "s"))
    found[1] = Entry(key=found[1].key, manifest=None, sequence=2, problem="it is broken")
    terms = Terms(policy=Policy(last=1), grace=DAY, limits=Limits(), now=NOW)
    made = make_plan("app.db", found, Marks(deletions=deleted(1)), terms)
    assert (states(made), made.problems) == ("dk", ("it is broken",))
    assert "it is broken" in made.frozen


def test_all_that_is_left_of_a_chain_with_a_gap_stays() -> None:
    """What a person may still make something of is no less because a part of it is lost."""
    history = chain("S", "s", "s", "s", "S")
    made = plan([*history[:1], *history[2:]], Marks(deletions=deleted(1, 3)), last=9)
    assert states(made) == "pdkk"
    assert made.rows[1].why[-1] == "all that is left of a chain with a gap stays"
    assert folds(made) == []


def test_the_last_known_to_be_sound_is_never_purged() -> None:
    """Not even where it was marked while a later one was thought to be sound."""
    sound = SourceVerdict(verdict=Verdict.SOUND, level="deep")
    history = chain("S", "S", "S", "S")
    history = [replace(each, source=sound) if each.sequence in (1, 2, 3) else each for each in history]
    made = plan(history, Marks(deletions=deleted(1, 2)), damaged=(3,))
    assert states(made) == "pdgk"
    assert made.rows[1].why[-1] == "the last known to be sound, which never goes"
    # A snapshot that cannot be found does not make a segment sound.
    history = chain("S", "s", "s", "S")
    history = [replace(each, source=sound) if each.sequence in (2, 3) else each for each in history]
    made = plan([history[0], history[2], history[3]])
    assert states(made) == "ggk"


def test_what_is_pinned_or_unclear_is_not_purged() -> None:
    """A pin holds what was marked at the same moment, and nobody knows what a broken end says."""
    marks = Marks(deletions=deleted(1) | deleted(2, end=UNCLEAR) | deleted(3, end=KEPT), pins={1: "a note"})
    made = plan(chain("S", "S", "S", "S"), replace(marks, deletions={n: marks.deletions[n] for n in (1, 2)}), last=2)
    assert states(made) == "ddkk"
    assert made.rows[0].why[-1] == "pinned"
    assert "cannot be read" in made.rows[1].why[0]


def test_a_chain_that_grew_too_much_becomes_a_snapshot() -> None:
    """By the number of its segments, or by their bytes; only that of the newest restore point, only if it is listed."""
    history = chain("S", "s", "s", "s")
    assert folds(plan(history, last=9, limits=Limits(segments=3))) == []
    assert folds(plan(history, last=9, limits=Limits(segments=2))) == [([1, 2, 3, 4], True)]
    assert folds(plan(history, last=9, limits=Limits(ratio=0.02))) == [([1, 2, 3, 4], True)]
    assert "3 segments" in plan(history, last=9, limits=Limits(segments=2)).folds[0].why
    assert folds(plan(chain("S", "s", "s", "S"), last=9, limits=Limits(segments=1))) == []
    # What is purged does not count, and the snapshot takes the place of the fold.
    marks = Marks(deletions=deleted(2, 3))
    assert folds(plan(history, marks, last=9, limits=Limits(segments=1))) == [([2, 3, 4], False)]
    grown = chain("S", "s", "s", "s", "s")
    assert folds(plan(grown, marks, last=9, limits=Limits(segments=1))) == [([2, 3, 4], False), ([1, 2, 3, 4, 5], True)]


def test_what_only_a_chain_that_grew_needed_goes_with_it() -> None:
    """Once the newest has a snapshot of its own, the old one goes by policy like any other."""
    history = chain("S", "s", "s", "s")
    assert states(plan(history, limits=Limits(segments=2))) == "gggk"
    made = plan(history, limits=Limits(ratio=0.005), grace=timedelta(0))
    assert (states(made), folds(made)) == ("pppk", [([1, 2, 3, 4], True)])
    made = plan(history, limits=Limits(segments=2), grace=timedelta(0))
    assert (states(made), folds(made)) == ("kppk", [([2, 3, 4], False)])
    assert states(plan(history, Marks(pins={2: ""}), limits=Limits(segments=2))) == "kkgk"


def test_nothing_at_all_is_no_plan() -> None:
    """A database whose manifests are all gone."""
    made = plan([])
    assert (made.rows, made.folds, made.frozen) == ((), (), "")


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Manifest], Marks, int]:
    """Return a history with marks of any age and end."""
    kinds = ["S", *draw(st.lists(st.sampled_from("Ssss"), max_size=14))]
    history = chain(*kinds)
    found: dict[int, Deletion] = {}
    for each in history[:-1]:
        days = draw(st.sampled_from([None, None, 1, 8]))
        if days is not None:
            found |= deleted(each.sequence, days=days, end=draw(st.sampled_from(["", "", "", UNCLEAR])))
    pins = {each.sequence: "" for each in history if draw(st.integers(0, 5)) == 0}
    return history, Marks(deletions=found, pins=pins), draw(st.integers(1, 4))


@given(situations(), st.booleans(), st.integers(1, 5))
def test_everything_that_stays_can_be_restored(
    situation: tuple[list[Manifest], Marks, int], at_once: bool, segments: int
) -> None:
    """Whatever is purged: carried out in any order from the lowest up, folds leave each other point a whole chain."""
    history, marks, last = situation
    made = plan(history, marks, last=last, grace=timedelta(0) if at_once else 7 * DAY, limits=Limits(segments=segments))
    gone = {each.sequence for each in made.in_state("purged")}
    below = {each.sequence: each.parent.txid if each.kind == "segment" and each.parent else None for each in history}
    for fold in made.folds:
        links = [link.sequence for link in fold.links]
        assert all(below[upper] == lower for lower, upper in pairwise(links)) or fold.snapshot
        assert links[-1] not in gone
        below[links[-1]] = None if fold.snapshot else below[links[0]]
    for sequence in {each.sequence for each in history} - gone:
        at: int | None = sequence
        while at is not None:
            assert at not in gone, (sequence, at)
            at = below[at]
    assert history[-1].sequence not in gone and not gone & set(marks.pins)


def test_the_newest_that_can_be_relied_on_is_never_purged() -> None:
    """H31: neither what is damaged nor what may still be taken back stands in its place, even where it was marked."""
    marks = Marks(deletions=deleted(1, 2))
    assert states(plan(chain("S", "S", "S"), marks)) == "ppk"
    assert states(plan(chain("S", "S", "S"), marks, damaged=(3,))) == "pdk"
    assert states(plan(chain("S", "S", "S"), marks, unended=(3,))) == "pdk"
    assert states(plan(chain("S", "S", "s"), marks, damaged=(2,))) == "ddk"
    assert states(plan(chain("S", "s", "s"), marks, unended=(3,))) == "ddk"
    assert states(plan(chain("S", "S", "S"), Marks(deletions=deleted(3)), unended=(3,))) == "gkd"


def test_a_sound_backup_that_has_not_ended_is_not_the_last_known_to_be_sound() -> None:
    """H31: it may be gone in a moment."""
    manifests = [replace(each, source=SOUND) for each in chain("S", "S", "S")]
    manifests[1] = replace(manifests[1], source=UNKNOWN)
    made = plan(manifests, unended=(3,))
    assert states(made) == "kkk"
    assert "sound" in made.rows[0].why[0]


def test_damage_of_the_source_freezes_until_a_thorough_check_finds_it_sound() -> None:
    """H31: a backup that judged nothing, or only quickly, or that may still be taken back, is no evidence of health."""
    for later in (UNKNOWN, replace(SOUND, level="quick"), replace(UNKNOWN, level="none")):
        manifests = [replace(each, source=later) for each in chain("S", "S", "S", "S")]
        manifests[1] = replace(manifests[1], source=DAMAGED)
        made = plan(manifests, grace=timedelta(0))
        assert (states(made), "number 2 is of a database" in made.frozen) == ("kkkk", True)
    manifests[2] = replace(manifests[2], source=SOUND)
    assert states(plan(manifests, unended=(3, 4), grace=timedelta(0))) == "kkkk"
    assert states(plan(manifests, grace=timedelta(0))) == "ppkk"


def test_a_mark_of_a_far_day_is_not_over_yet() -> None:
    """H23: a clock that ran far ahead delays what goes, whatever day that comes to."""
    far = Deletion(sequence=1, time=datetime(9999, 12, 31, tzinfo=UTC), why="no rule keeps it")
    made = plan(chain("S", "S"), Marks(deletions={1: far}))
    assert (states(made), made.rows[0].why[-1]) == ("dk", "goes for good after the end of the calendar")
