"""`pin` and `unpin`, also beside a prune: of a pin and a mark at one moment the pin counts."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from pagewarden.errors import ConfigurationInvalid, RepositoryNotFound
from pagewarden.repository import marks
from pagewarden.repository.pinning import PinRequest, UnpinRequest, run_pin, run_unpin
from pagewarden.repository.store import Store
from tests.core.repository.pruned import Stage, states
from tests.core.repository.sets import NOW


def test_pins_are_put_and_removed(stage: Stage) -> None:
    """By time, by number, or the newest; what is deleted cannot be pinned, what is not pinned cannot be unpinned."""
    url = str(stage.root)
    pinned = run_pin(PinRequest(repository=url), stage.runtime)
    assert (pinned.position.txid, pinned.pinned) == (8, True)
    run_pin(PinRequest(repository=url, txid=3, note="three"), stage.runtime)
    assert states(stage.prune(last=1)) == "kgkggggk"
    unpinned = run_unpin(UnpinRequest(repository=url, txid=3), stage.runtime)
    assert (unpinned.position.txid, unpinned.pinned) == (3, False)
    for request in (UnpinRequest(repository=url, txid=3), UnpinRequest(repository=url, at="2026-11-22T10:15:01Z")):
        with pytest.raises(RepositoryNotFound, match="not pinned") if request.txid else nullcontext():
            run_unpin(request, stage.runtime)
    with pytest.raises(RepositoryNotFound, match="is deleted") as caught:
        run_pin(PinRequest(repository=url, txid=5), stage.runtime)
    assert caught.value.hint.endswith("--db app.db --txid 5") and "undelete" in caught.value.hint
    with pytest.raises(ConfigurationInvalid, match="exclude"):
        run_pin(PinRequest(repository=url, txid=5, at="-1h"), stage.runtime)


@pytest.mark.parametrize(("grace", "left"), [("7d", "kggkgggk"), ("0s", "kddkpppk")])
def test_what_is_pinned_while_it_is_marked_stays(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, grace: str, left: str
) -> None:
    """Of a pin and a mark at one moment the pin counts, whichever came first; all that it is restored from stays."""
    real = marks.delete

    def delete(store: Store, name: str, sequence: int, **named: object) -> None:
        if sequence == 4:
            run_pin(PinRequest(repository=str(stage.root), txid=4), stage.runtime)
        real(store, name, sequence, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(marks, "delete", delete)
    pruned = stage.prune(last=1, grace=grace)
    assert states(pruned) == left and "pinned meanwhile" in pruned.points[3].why
    assert stage.listed() == [1, 4, 8]
    stage.prove()


def test_what_is_marked_while_it_is_pinned_stays(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who pins sees the mark, and undoes it; where it is being purged already, the pin is taken back."""
    real = marks.pin

    def pin(store: Store, name: str, sequence: int, **named: object) -> None:
        if not stage.listed(deleted=True):
            stage.prune(last=1)
        elif sequence == 8:
            marks.delete(store, name, 8, why="", now=NOW)
            marks.decide(store, name, 8, marks.PURGED, now=NOW)
        real(store, name, sequence, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(marks, "pin", pin)
    run_pin(PinRequest(repository=str(stage.root), txid=4), stage.runtime)
    assert stage.listed() == [1, 4, 8]
    with pytest.raises(RepositoryNotFound, match="is deleted"):
        run_pin(PinRequest(repository=str(stage.root), txid=8), stage.runtime)
    assert [name for name in stage.files() if "/pins/" in name and "/0000000000000008-" in name] == []


def test_what_was_purged_while_it_was_pinned_is_not_pinned(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a purge between the look for it and the pin: nobody is told that it is kept."""
    real = marks.pin

    def pin(store: Store, name: str, sequence: int, **named: object) -> None:
        stage.prune(last=1, grace="0s")
        real(store, name, sequence, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(marks, "pin", pin)
    with pytest.raises(RepositoryNotFound, match="any more"):
        run_pin(PinRequest(repository=str(stage.root), txid=4), stage.runtime)
    assert (stage.listed(), [name for name in stage.files() if "/pins/" in name]) == ([1, 8], [])


def test_what_is_pinned_and_marked_is_listed_again(stage: Stage) -> None:
    """A prune that was killed between its mark and its look for pins: the pin counts."""
    run_pin(PinRequest(repository=str(stage.root), txid=4), stage.runtime)
    marks.delete(stage.runtime.repository(str(stage.root)).store, "app.db", 4, why="", now=NOW)
    assert 4 not in stage.listed()
    assert states(stage.prune(last=1, grace="0s")) == "kppkpppk"
    assert stage.listed() == [1, 4, 8]
    stage.prove()
