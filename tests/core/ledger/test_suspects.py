from __future__ import annotations

import pytest

from pagewarden.ledger.suspects import Known, Look, State, what_became

SEEN = Known(
    id=1, pgno=7, checker="check-pages", state=State.SEEN, last_seen="2026-11-20T00:00:00Z", page_sum=b"bad", moment="1"
)


def became(
    sum_now: bytes | None = b"good",
    *,
    known: Known = SEEN,
    reported: tuple[int, ...] = (),
    pages: int = 10,
    moment: str = "1",
    expected: bytes | None = None,
    satisfied: tuple[str, ...] = (),
    restored: str = "",
) -> State:
    """Return what became of page 7."""
    look = Look(
        pages=pages,
        moment=moment,
        sums={} if sum_now is None else {7: sum_now},
        expected={} if expected is None else {7: expected},
    )
    return what_became(known, reported=reported, look=look, satisfied=satisfied, restored=restored)


LATER, EARLIER = "2026-11-21T00:00:00Z", "2026-11-19T00:00:00Z"


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        (State.CONFIRMED, {"reported": (3, 7)}),
        (State.CONFIRMED, {"reported": (7,), "restored": LATER}),
        (State.SEEN, {"sum_now": b"bad"}),
        (State.SEEN, {"sum_now": b"bad", "moment": "2"}),
        (State.SEEN, {"sum_now": None}),
        (State.SEEN, {"sum_now": b"bad", "satisfied": ("check-structure",)}),
        (State.TRANSIENT, {}),
        (State.TRANSIENT, {"sum_now": b"bad", "satisfied": ("check-pages",)}),
        (State.TRANSIENT, {"restored": EARLIER}),
        (State.TRANSIENT, {"expected": b"other"}),
        (State.GONE, {"moment": "2"}),
        (State.GONE, {"pages": 6}),
        (State.REPAIRED, {"pages": 6, "restored": LATER}),
        (State.REPAIRED, {"restored": LATER, "moment": "2"}),
        (State.REPAIRED, {"expected": b"good", "moment": "2"}),
        (State.REPAIRED, {"sum_now": b"bad", "expected": b"bad", "satisfied": ("check-pages",)}),
    ],
)
def test_each_later_run_says_what_became_of_a_page(state: State, fields: dict[str, object]) -> None:
    """By what was reported, what the page holds now, the baseline, commits and restores since."""
    assert became(**fields) is state  # type: ignore[arg-type]


def test_without_a_look_nothing_changes_but_what_is_reported() -> None:
    """A run whose time was over, or that could not open the database, forgets no suspect page."""
    assert what_became(SEEN, reported=(), look=None, satisfied=("check-pages",), restored=LATER) is State.SEEN
    assert what_became(SEEN, reported=(7,), look=None, satisfied=(), restored="") is State.CONFIRMED


def test_seen_and_confirmed_are_open() -> None:
    """The others are settled."""
    assert {state for state in State if state.open} == {State.SEEN, State.CONFIRMED}
