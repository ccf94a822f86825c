"""Folding in a repository where something is not as it must be: what was there before is there still."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pagewarden.errors import LedgerUnusable, RepositoryBusy, RepositoryDamaged, TargetFailed
from pagewarden.ledger import report as ledger
from pagewarden.processes.reader import PageReader
from pagewarden.repository import keys, results
from pagewarden.repository.format import PageSetInfo
from pagewarden.repository.manifest import decode_manifest, encode_manifest
from pagewarden.repository.repository import Repository
from pagewarden.repository.store import Store
from pagewarden.repository.turn import Turn
from pagewarden.runtime import Runtime
from tests.core.repository.chains import histories
from tests.core.repository.pruned import DAY, Stage
from tests.core.repository.sets import MemoryTarget

IMAGES = histories(6, seed=11)


@pytest.fixture
def stage(tmp_path: Path, shared: Runtime) -> Stage:
    """A chain of which numbers 2 to 4 are to be purged, so that 5 has to be folded."""
    made = Stage(folder=tmp_path, runtime=shared)
    made.make(IMAGES)
    made.prune(last=2)
    made.now += 8 * DAY
    return made


def states(stage: Stage) -> tuple[str, tuple[str, ...]]:
    """Prune; return the states of all restore points by their first letters, and the warnings."""
    pruned = stage.prune(last=2)
    return "".join(point.state[0] for point in pruned.points), pruned.warnings


def object_of(stage: Stage, number: int) -> Path:
    """Return the file of a page set."""
    (found,) = (stage.root / "app.db" / "objects").glob(f"*/{number:016}-*")
    return found


def test_a_page_set_that_is_gone_leaves_all_the_others(stage: Stage) -> None:
    """What cannot be folded is not purged, and the report says which object is missing."""
    object_of(stage, 3).unlink()
    seen, warnings = states(stage)
    assert seen == "kdddkk"
    assert "is missing from" in warnings[0]
    assert stage.image(2) == IMAGES[1]


def test_a_page_set_of_another_manifest_is_not_folded(stage: Stage) -> None:
    """A whole page set in the place of another one is no part of the chain."""
    path = stage.root / keys.manifest_key("app.db", 4)
    manifest = decode_manifest(path.read_bytes(), "")
    path.write_bytes(encode_manifest(replace(manifest, sha256="0" * 64)))
    seen, warnings = states(stage)
    assert seen == "kdddkk"
    assert "SHA-256" in warnings[0]


def _lie(which: int, **changes: Any) -> Callable[[Any], Any]:
    """Return what makes another thing of an answer: of the one page set, or of one among several."""

    def change(answer: Any) -> Any:
        if isinstance(answer, PageSetInfo):
            return replace(answer, **changes)
        return [replace(each, **changes) if n == which % len(answer) else each for n, each in enumerate(answer)]

    return change


@pytest.mark.parametrize(
    ("calls", "changes", "said"),
    [
        (("verify_pageset",), {"sha256": "1" * 64}, "was written"),
        (("fold", "verify_pageset"), {"database_sum": 7}, "its database sum is"),
        (("fold", "verify_pageset"), {"database_sum_from": 7}, "does not continue"),
    ],
)
def test_what_is_not_what_it_must_be_does_not_count(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, calls: tuple[str, ...], changes: dict[str, Any], said: str
) -> None:
    """A page set that does not read back, or does not lead to the recorded database sum, is removed."""
    before = stage.files()
    with monkeypatch.context() as patched:
        for name in calls:
            real, change = getattr(PageReader, name), _lie(-1, **changes)
            patched.setattr(PageReader, name, lambda *a, _r=real, _c=change, **k: _c(_r(*a, **k)))
        seen, warnings = states(stage)
    assert seen == "kdddkk"
    assert said in warnings[0]
    assert stage.files() == before
    assert states(stage)[0] == "kpppkk"
    stage.prove()


def test_a_generation_that_another_process_put_stands(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should two prunes believe that they have the turn, the second one gives way and removes what it stored."""
    real = Store.put

    def put(self: Store, key: str, data: bytes) -> bool:
        if key.endswith(".0001.json"):
            real(self, key, encode_manifest(replace(decode_manifest(data, key), created_by="another", key=first.key)))
        return real(self, key, data)

    first = decode_manifest((stage.root / keys.manifest_key("app.db", 5)).read_bytes(), "")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", put)
        with pytest.raises(RepositoryBusy, match="was put by another process"):
            states(stage)
    assert len([name for name in stage.files() if "/objects/" in name]) == 6
    assert not any("pending" in name for name in stage.files())


@pytest.mark.parametrize("again", [True, False])
def test_who_is_taken_for_dead_takes_its_manifest_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Unless the one before it is gone by now: then it is all that is left, and whoever removed that one proved it."""
    real, path = Turn.check, stage.root / keys.manifest_key("app.db", 5)
    older = decode_manifest(path.read_bytes(), "").key

    def check(self: Turn) -> None:
        new = path.with_name(path.name.replace(".json", ".0001.json"))
        if new.exists():
            if not again:
                (stage.root / older).unlink()
                path.unlink()
            raise RepositoryBusy("taken for dead", hint="try again")
        real(self)

    with monkeypatch.context() as patched:
        patched.setattr(Turn, "check", check)
        with pytest.raises(RepositoryBusy, match="taken for dead"):
            states(stage)
    assert (path.exists(), stage.listed()) == (again, [1, 5, 6])
    stage.prove()


def cut_after_commit(stage: Stage) -> Path:
    """Leave what a prune does that is cut between a commit and the removal of the old; return the new object."""
    before = stage.files()
    states(stage)
    for name, data in before.items():
        (stage.root / name).parent.mkdir(parents=True, exist_ok=True)
        (stage.root / name).write_bytes(data)
    (folded,) = {name for name in stage.files() if "/objects/" in name} - set(before)
    return stage.root / folded


def test_a_page_set_that_was_stored_anew_counts_only_if_it_is_whole(stage: Stage) -> None:
    """H30: the next prune proves it, and goes back to the one before where it is damaged, before anything else goes."""
    folded = cut_after_commit(stage)
    damaged = bytearray(folded.read_bytes())
    damaged[-300] ^= 1
    folded.write_bytes(damaged)
    seen, warnings = states(stage)
    assert (seen, folded.exists()) == ("kpppkk", False)
    assert "the one before it counts again" in warnings[0]
    stage.prove()


def test_what_is_whole_in_no_generation_keeps_all_that_it_may_need(stage: Stage) -> None:
    """Somebody may still make something of it: nothing is purged, and the report says why."""
    folded = cut_after_commit(stage)
    older = next(path for path in folded.parent.glob("0000000000000005-*") if path != folded)
    for path in (folded, older):
        path.write_bytes(path.read_bytes()[:-1])
    before = stage.files()
    seen, warnings = states(stage)
    assert seen == "kdddkk"
    assert any("neither generation" in warning for warning in warnings)
    assert stage.files() == before


@pytest.mark.parametrize("number", [1, 5, 6])
def test_an_object_that_a_copied_manifest_names_stays(stage: Stage, number: int) -> None:
    """H30: the copy of a manifest as its next generation names its object, which is never superseded."""
    path = stage.root / keys.manifest_key("app.db", number)
    shutil.copy(path, stage.root / keys.manifest_key("app.db", number, 1))
    assert states(stage)[0] == "kpppkk"
    stage.prove()


def test_an_object_that_a_manifest_of_another_number_names_stays(tmp_path: Path, shared: Runtime) -> None:
    """H30: what one restore point is purged with may be what another one is restored from."""
    stage = Stage(folder=tmp_path, runtime=shared)
    stage.make(IMAGES[:2], snapshots=(1, 2))
    first = decode_manifest((stage.root / keys.manifest_key("app.db", 1)).read_bytes(), "")
    copy = stage.root / keys.manifest_key("app.db", 3)
    copy.write_bytes(encode_manifest(replace(first, sequence=3)))
    pruned = stage.prune(last=1, grace="0s")
    assert [point.state for point in pruned.points] == ["purged", "purged", "kept"]
    assert object_of(stage, 1).exists()


def test_what_is_not_known_of_checks_and_verifications_is_said(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger or results that cannot be read keep nothing from being pruned, and make a warning."""

    def unusable(*_arguments: object, **_named: object) -> None:
        raise LedgerUnusable("the ledger is of another version")

    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(ledger, "run_ledger", unusable)
    path = results._file(stage.runtime.state, str(stage.root))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"nonsense")
    pruned = stage.prune(apply=False, last=2)
    assert len(pruned.warnings) == 2
    assert "is forgotten" in pruned.warnings[0] and "another version" in pruned.warnings[1]


def test_an_error_of_the_storage_leaves_what_the_next_prune_ends(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails once the turn was had, the turn is given back if it can be."""
    real = Store.delete

    def delete(self: Store, key: str) -> None:
        raise TargetFailed(f"{key} cannot be removed")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", delete)
        with pytest.raises(TargetFailed) as caught:
            states(stage)
        assert any("could not be removed" in note for note in caught.value.__notes__)
    assert Store.delete is real
    (left,) = (name for name in stage.files() if name.startswith("pending/") and name.endswith(".json"))
    (stage.root / left).unlink()  # its process lives: it is this one
    assert states(stage)[0] == "kpppkk"
    stage.prove()


def test_a_target_without_local_files_is_pruned_as_well(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects are fetched for as long as they are folded; what stays is what it was."""
    target = MemoryTarget(objects=stage.files())

    def opened(self: Runtime, url: str, create: bool = False) -> Repository:
        return Repository.open(target, url, create, clock=self.clock)

    with monkeypatch.context() as patched:
        patched.setattr(Runtime, "repository", opened)
        assert states(stage)[0] == "kpppkk"
        pruned = stage.prune(last=1, grace="0s", chain_ratio=0.000001)
        assert ("".join(point.state[0] for point in pruned.points), len(pruned.folds)) == ("ppk", 1)
    shutil.rmtree(stage.root)
    for name, data in target.objects.items():
        (stage.root / name).parent.mkdir(parents=True, exist_ok=True)
        (stage.root / name).write_bytes(data)
    assert stage.listed() == [6]
    stage.prove()


@pytest.mark.parametrize("wrong", [False, True])
def test_a_fold_is_proved_by_its_whole_chain_wherever_that_is(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    """H30: what a segment copies of a database sum proves nothing, so nothing goes before its page sums make it."""
    target = MemoryTarget(objects=stage.files())
    real = PageReader.chain_infos
    proved: list[list[int]] = []
    copies: list[Path] = []

    def opened(self: Runtime, url: str, create: bool = False) -> Repository:
        return Repository.open(target, url, create, clock=self.clock)

    def chain_infos(self: PageReader, chain: Any) -> list[PageSetInfo]:
        infos = real(self, chain)
        copies.extend(map(Path, chain))
        proved.append([info.header.txid for info in infos])
        if wrong:
            raise RepositoryDamaged("the page sums do not add up to the database sum")
        return infos

    monkeypatch.setattr(Runtime, "repository", opened)
    monkeypatch.setattr(PageReader, "chain_infos", chain_infos)
    seen, warnings = states(stage)
    assert (seen, proved) == ("kdddkk" if wrong else "kpppkk", [[5, 1]])
    assert any("do not add up" in warning for warning in warnings) is wrong
    assert not [path for path in copies if path.exists()]


def test_a_fold_that_a_prune_left_is_proved_by_its_chain(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """H30: whoever stored it may not have proved it so; where its sums do not add up, what it replaced counts again."""
    folded = cut_after_commit(stage)
    real = PageReader.chain_infos

    def chain_infos(self: PageReader, chain: Any) -> list[PageSetInfo]:
        if Path(chain[0]) == folded:
            raise RepositoryDamaged("the page sums do not add up to the database sum")
        return real(self, chain)

    monkeypatch.setattr(PageReader, "chain_infos", chain_infos)
    seen, warnings = states(stage)
    assert (seen, folded.exists()) == ("kpppkk", False)
    assert "the one before it counts again" in warnings[0]
    stage.prove()
