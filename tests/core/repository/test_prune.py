"""`prune` and `undelete`: what they leave can be restored, each restore point as it was."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pagewarden.config import RetentionSettings
from pagewarden.errors import (
    ConfigurationInvalid,
    DeletionRefused,
    RepositoryBusy,
    RepositoryDamaged,
    RepositoryNotFound,
    TargetFailed,
)
from pagewarden.repository import keys, marks
from pagewarden.repository.catalogue import Entry
from pagewarden.repository.intent import Pending, Runner
from pagewarden.repository.keys import MarkKey
from pagewarden.repository.manifest import encode_document, encode_manifest
from pagewarden.repository.pinning import (
    PinRequest,
    UndeleteRequest,
    run_pin,
    run_undelete,
)
from pagewarden.repository.prune import PruneRequest, run_prune
from pagewarden.repository.store import Store
from pagewarden.repository.verify import VerifyRequest, run_verify
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import SourceVerdict, Verdict
from tests.core.repository.chains import histories, make_chain
from tests.core.repository.pruned import DAY, IMAGES, Stage, new_runtime, states


def test_a_dry_run_changes_no_byte(stage: Stage) -> None:
    """It says what would go and why, what would be folded, and how much that would free."""
    before = stage.files()
    pruned = stage.prune(apply=False, last=2, grace="0s")
    assert (states(pruned), stage.files()) == ("kpppppkk", before)
    assert pruned.folds == ("number 7 is restored from what goes",)
    assert pruned.bytes_freed == sum(point.bytes_stored for point in pruned.points[1:6])
    assert pruned.policy == "keep the last 2"
    assert pruned.points[1].why == "no rule keeps it"


def test_what_goes_can_be_had_back_until_its_grace_is_over(stage: Stage) -> None:
    """Then everything of it is removed, and what stays is what it was."""
    assert states(stage.prune(last=2)) == "kgggggkk"
    assert (stage.listed(), stage.listed(deleted=True)) == ([1, 7, 8], [2, 3, 4, 5, 6])
    stage.prove()
    back = run_undelete(UndeleteRequest(repository=str(stage.root), txid=4), stage.runtime)
    assert [position.txid for position in back.positions] == [4]
    assert "pagewarden pin" in back.warnings[0] and "--txid 4" in back.warnings[0]
    run_pin(PinRequest(repository=str(stage.root), txid=4, note="why not"), stage.runtime)
    stage.now += 8 * DAY
    pruned = stage.prune(last=2)
    assert (states(pruned), stage.listed(), stage.listed(deleted=True)) == ("kppkppkk", [1, 4, 7, 8], [])
    assert "pinned: why not" in pruned.points[3].why
    assert pruned.bytes_freed > 0 and pruned.bytes_stored > 0
    stage.prove()
    left = {name.split("/")[1] for name in stage.files() if "/" in name}
    assert left == {"objects", "manifests", "pins"}
    assert len([name for name in stage.files() if "/objects/" in name]) == 4
    with pytest.raises(RepositoryNotFound, match="at txid 5"):
        stage.image(5)
    with pytest.raises(RepositoryNotFound, match="no deleted restore point"):
        run_undelete(UndeleteRequest(repository=str(stage.root), txid=5), stage.runtime)


def test_all_that_is_deleted_can_be_had_back(stage: Stage) -> None:
    """Without naming each; the marks that ended so are tidied away by the next prune."""
    stage.prune(last=2)
    back = run_undelete(UndeleteRequest(repository=str(stage.root)), stage.runtime)
    assert [position.txid for position in back.positions] == [2, 3, 4, 5, 6]
    assert stage.listed() == [1, 2, 3, 4, 5, 6, 7, 8]
    stage.prune(last=99)
    assert not any("/deleted/" in name for name in stage.files())


def test_a_long_chain_becomes_a_snapshot(stage: Stage) -> None:
    """H31: the newest gets a page set of its own; those before it are still restored from the chain."""
    pruned = stage.prune(last=99, chain_segments=6, chain_ratio=99.0)
    assert pruned.folds == ("its chain has 7 segments, and 6 are allowed",)
    assert states(pruned) == "kkkkkkkk"
    stage.prove()
    assert stage.prune(last=99, chain_segments=6, chain_ratio=99.0).folds == ()
    stage.now += DAY
    assert states(stage.prune(last=1, grace="0s")) == "pppppppk"
    stage.prove()
    assert len(stage.files()) == 3


@pytest.mark.parametrize("seed", range(20 if os.environ.get("PAGEWARDEN_FULL") else 2))
def test_every_restore_point_stays_what_it_was(tmp_path: Path, shared: Runtime, seed: int) -> None:
    """For random histories with several snapshots, random policies, undeletions and pins, through many prunes."""
    rng = random.Random(seed)
    stage = Stage(folder=tmp_path, runtime=shared)
    images = histories(14, seed=seed)
    stage.make(images, snapshots=(1, *rng.sample(range(2, 15), 2)))
    for _ in range(4):
        stage.now += rng.choice((1, 4, 9)) * DAY
        if (gone := stage.listed(deleted=True)) and rng.random() < 0.6:
            run_undelete(UndeleteRequest(repository=str(stage.root), txid=rng.choice(gone)), shared)
        if rng.random() < 0.5:
            run_pin(PinRequest(repository=str(stage.root), txid=rng.choice(stage.listed())), shared)
        before = set(stage.listed())
        stage.prune(
            last=rng.choice((1, 2, 5)), grace=rng.choice(("0s", "3d", "7d")), chain_segments=rng.choice((2, 1000))
        )
        assert stage.listed()[-1] == 14
        assert set(stage.listed()) <= before
        stage.prove()


def test_each_database_has_its_own_policy(stage: Stage) -> None:
    """One that is not named goes by the general one."""
    make_chain(stage.root, IMAGES[:3], name="other.db")
    request = PruneRequest(
        repository=str(stage.root),
        retention=RetentionSettings(last=1, chain_ratio=99.0),
        by_name={"other.db": RetentionSettings(last=2)},
    )
    first, second = run_prune(request, stage.runtime).databases
    assert (states(first), states(second)) == ("kggggggk", "kkk")
    one = run_prune(replace(request, name="other.db"), stage.runtime)
    assert [each.database for each in one.databases] == ["other.db"]
    with pytest.raises(RepositoryNotFound, match="nothing of nobody"):
        run_prune(replace(request, name="nobody.db"), stage.runtime)


@pytest.mark.parametrize(
    "rules", [{"last": -1}, {"within": "0d"}, {"within": "a while"}, {"grace": "1y"}, {"minimum": -2}]
)
def test_a_policy_that_makes_no_sense_is_refused(stage: Stage, rules: dict[str, Any]) -> None:
    """Before anything is looked at."""
    before = stage.files()
    with pytest.raises(ConfigurationInvalid):
        stage.prune(**rules)
    assert stage.files() == before


def test_nothing_goes_while_the_newest_backup_is_of_damage(stage: Stage) -> None:
    """H18, H31: not even what was marked long ago."""
    stage.prune(last=2)
    path = stage.root / keys.manifest_key("app.db", 8)
    manifest = next(each.manifest for each in _entries(stage) if each.sequence == 8)
    assert manifest is not None
    damaged = SourceVerdict(verdict=Verdict.DAMAGED, level="quick", findings=1)
    path.write_bytes(encode_manifest(replace(manifest, source=damaged)))
    before = stage.files()
    stage.now += 30 * DAY
    pruned = stage.prune(last=1, chain_segments=1)
    assert "found damaged" in pruned.frozen
    assert set(states(pruned)) == {"k", "d"} and "nothing goes now" in pruned.points[3].why
    assert stage.files() == before


def _entries(stage: Stage) -> list[Entry]:
    return list(stage.runtime.repository(str(stage.root)).entries("app.db"))


def test_what_verify_found_damaged_is_not_the_last_known_to_be_sound(stage: Stage) -> None:
    """Retention holds on to the last one that was judged sound and that nothing is known against."""
    for manifest in [entry.manifest for entry in _entries(stage) if entry.manifest is not None]:
        unknown = SourceVerdict(verdict=Verdict.UNKNOWN, level="quick")
        if manifest.sequence not in (3, 5):
            path = stage.root / keys.manifest_key("app.db", manifest.sequence)
            path.write_bytes(encode_manifest(replace(manifest, source=unknown)))
    assert states(stage.prune(apply=False)) == "kgggkggk"
    (damaged,) = (stage.root / "app.db" / "objects").glob("*/0000000000000005-*")
    data = bytearray(damaged.read_bytes())
    data[200] ^= 1
    damaged.write_bytes(data)
    assert run_verify(VerifyRequest(repository=str(stage.root), read_data=True), stage.runtime).exit_code == 1
    # Number 4 is the newest that can be restored: all that continues number 5 is damaged with it.
    assert states(stage.prune(apply=False)) == "kgkkgggk"


def test_what_cannot_be_folded_is_not_purged(stage: Stage) -> None:
    """A page set that is damaged makes a warning, and everything that leads to it stays; the rest is purged."""
    stage.prune(last=4)
    (damaged,) = (stage.root / "app.db" / "objects").glob("*/0000000000000003-*")
    data = bytearray(damaged.read_bytes())
    data[200] ^= 1
    damaged.write_bytes(data)
    stage.now += 8 * DAY
    pruned = stage.prune(last=4)
    assert states(pruned) == "kdddkkkk"
    assert "could not be folded" in pruned.warnings[0] and "could not be folded" in pruned.points[1].why
    assert len([name for name in stage.files() if "/objects/" in name]) == 8
    assert not any("pending" in name for name in stage.files())


def test_what_a_fold_stored_that_failed_is_removed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another fold after it succeeded: no object is left that nobody can explain."""
    run_pin(PinRequest(repository=str(stage.root), txid=4), stage.runtime)
    real = Store.put

    def put(store: Store, key: str, data: bytes) -> bool:
        if key == keys.manifest_key("app.db", 4, 1):
            raise TargetFailed("the line was cut")
        return real(store, key, data)

    monkeypatch.setattr(Store, "put", put)
    pruned = stage.prune(last=1, grace="0s")
    assert (states(pruned), len(pruned.warnings)) == ("kddkpppk", 1)
    stage.prove()
    assert not any(path.startswith(keys.PENDING) for path in stage.files())


def test_without_permission_to_delete_marks_are_put_all_the_same(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """H38: the error says how many; nothing is decided, so that everything can still be had back."""

    def refuse(self: Store, key: str) -> None:
        raise DeletionRefused(f"{self.url} does not let this user remove {key}", hint="ask for it")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete", refuse)
        assert states(stage.prune(last=2)) == "kgggggkk"
        stage.now += 8 * DAY
        with pytest.raises(DeletionRefused, match="1 restore point was marked as deleted all the same") as caught:
            stage.prune(last=1)
        assert caught.value.hint == "ask for it"
        with pytest.raises(DeletionRefused, match="nothing was to be marked"):
            stage.prune(last=1)
        assert stage.listed(deleted=True) == [2, 3, 4, 5, 6, 7]
        run_undelete(UndeleteRequest(repository=str(stage.root), txid=4), stage.runtime)
    assert states(stage.prune(last=1)) == "kppgppdk"
    stage.prove()


# At the same time


def test_two_prunes_at_once_are_one(stage: Stage, tmp_path: Path) -> None:
    """The second one is told who is at it, and changes nothing; the first one goes on."""
    told: list[str] = []

    def also(event: object) -> None:
        if getattr(event, "name", "") == "repository.folded":
            with new_runtime(tmp_path / "state") as other, pytest.raises(RepositoryBusy, match="another prune") as busy:
                Stage(folder=stage.folder, runtime=other).prune(last=1, grace="0s")
            told.append(busy.value.message)

    stage.runtime._on_event = also
    try:
        stage.prune(last=2, grace="0s")
    finally:
        stage.runtime._on_event = lambda _event: None
    assert len(told) == 1
    stage.prove()


def test_a_restore_goes_on_while_what_it_reads_is_folded(stage: Stage, tmp_path: Path) -> None:
    """What was stored anew since the plan was made is found there: a restore during a prune is what it was to be."""
    seen: list[str] = []

    def meanwhile(event: object) -> None:
        if getattr(event, "name", "") == "restore.started":
            with new_runtime(tmp_path / "state") as other:
                other_stage = Stage(folder=stage.folder, runtime=other, now=stage.now)
                seen.append(states(other_stage.prune(last=2, grace="0s")))

    stage.runtime._on_event = meanwhile
    try:
        run_restore(RestoreRequest(repository=str(stage.root), to=str(tmp_path / "to.db")), stage.runtime)
    finally:
        stage.runtime._on_event = lambda _event: None
    assert seen == ["kpppppkk"]
    assert (tmp_path / "to.db").read_bytes() == IMAGES[7]


def test_a_restore_of_what_is_purged_meanwhile_is_a_named_error(stage: Stage, tmp_path: Path) -> None:
    """And touches nothing at its path."""
    stage.prune(last=2)

    def meanwhile(event: object) -> None:
        if getattr(event, "name", "") == "restore.started":
            with new_runtime(tmp_path / "state") as other:
                Stage(folder=stage.folder, runtime=other, now=stage.now).prune(last=2, grace="0s")

    to = tmp_path / "to.db"
    stage.runtime._on_event = meanwhile
    try:
        with pytest.raises(RepositoryNotFound, match="any more"):
            run_restore(RestoreRequest(repository=str(stage.root), to=str(to), txid=4), stage.runtime)
    finally:
        stage.runtime._on_event = lambda _event: None
    assert not to.exists()


def test_a_verification_goes_on_while_a_prune_is_at_it(stage: Stage, tmp_path: Path) -> None:
    """What was folded or purged since it was listed is no damage."""
    done: list[str] = []

    def meanwhile(step: str, _done: int, _total: int) -> None:
        if not done:
            done.append(step)
            with new_runtime(tmp_path / "state") as other:
                Stage(folder=stage.folder, runtime=other, now=stage.now).prune(last=2, grace="0s")

    stage.runtime.progress = meanwhile
    try:
        report = run_verify(VerifyRequest(repository=str(stage.root), read_data=True), stage.runtime)
    finally:
        stage.runtime.progress = lambda _step, _done, _total: None
    assert done and report.verdict is Verdict.SOUND, report.points


def test_an_undelete_during_a_purge_has_back_all_that_it_needs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever is decided first counts: what was undeleted keeps the chain below it, and the rest is purged."""
    stage.prune(last=2)
    stage.now += 8 * DAY
    real = marks.decide
    back: list[int] = []

    def decide(store: Store, name: str, sequence: int, outcome: str, **named: object) -> str:
        if outcome == marks.PURGED and sequence == 4 and not back:
            back.append(sequence)
            run_undelete(UndeleteRequest(repository=str(stage.root), txid=4), stage.runtime)
        return real(store, name, sequence, outcome, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(marks, "decide", decide)
    pruned = stage.prune(last=2)
    assert states(pruned) == "kddkppkk"
    assert "undeleted meanwhile" in pruned.points[3].why
    assert stage.listed() == [1, 4, 7, 8]
    stage.prove()


def test_an_undelete_after_the_decision_is_told_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes too late, and says so; the restore point is not half there."""
    stage.prune(last=2)
    stage.now += 8 * DAY
    real = marks.decide
    late: list[str] = []

    def decide(store: Store, name: str, sequence: int, outcome: str, **named: object) -> str:
        decided = real(store, name, sequence, outcome, **named)  # type: ignore[arg-type]
        if outcome == marks.PURGED:
            with pytest.raises(RepositoryNotFound, match="has begun") as caught:
                run_undelete(UndeleteRequest(repository=str(stage.root), txid=sequence), stage.runtime)
            late.append(caught.value.message)
        return decided

    monkeypatch.setattr(marks, "decide", decide)
    assert states(stage.prune(last=2)) == "kpppppkk"
    assert len(late) == 5
    assert stage.listed() == [1, 7, 8]


def test_what_nobody_can_read_is_neither_purged_nor_undeleted(stage: Stage) -> None:
    """A broken end leaves its restore point hidden, whole, and to be restored by its number."""
    stage.prune(last=2)
    (mark,) = (name for name in stage.files() if "/deleted/0000000000000004-" in name)
    nonce = mark.rpartition("-")[2].removesuffix(".json")
    broken = stage.root / keys.deleted_end_key(MarkKey(name="app.db", sequence=4, nonce=nonce))
    broken.write_bytes(b"nonsense")
    stage.now += 8 * DAY
    pruned = stage.prune(last=2)
    assert states(pruned) == "kppdppkk"
    assert any("deleted/0000000000000004" in warning for warning in pruned.warnings)
    with pytest.raises(RepositoryDamaged, match="cannot be read"):
        run_undelete(UndeleteRequest(repository=str(stage.root), txid=4), stage.runtime)
    assert stage.image(4) == IMAGES[3]


@pytest.mark.parametrize("what", ["missing", "short", "known"])
def test_what_cannot_be_restored_lets_nothing_else_go(tmp_path: Path, shared: Runtime, what: str) -> None:
    """H31: damaged restore points use up no rule; one listing sees what no verification has found yet."""
    stage = Stage(folder=tmp_path, runtime=shared)
    stage.make(IMAGES[:4], snapshots=(1, 2, 3))
    (path,) = (stage.root / "app.db" / "objects").glob("*/0000000000000003-*")
    data = path.read_bytes()
    if what == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if what == "short" else data[:200] + bytes([data[200] ^ 1]) + data[201:])
    if what == "known":
        run_verify(VerifyRequest(repository=str(stage.root)), shared)
    pruned = stage.prune(last=1, grace="0s")
    assert states(pruned) == "pkkk"
    assert "can be relied on" in pruned.points[1].why
    assert stage.image(2) == IMAGES[1]


def test_a_backup_that_has_not_ended_lets_nothing_go(stage: Stage) -> None:
    """H31: a manifest whose intent stands may still be taken back, so what was before it stays, and can be restored."""
    (path,) = (stage.root / "app.db" / "objects").glob("*/0000000000000008-*")
    parts = keys.parse_object_key(str(path.relative_to(stage.root)))
    assert parts is not None
    key = keys.pending_key(parts.nonce)
    pending = Pending(
        database="app.db",
        sequence=8,
        key=str(path.relative_to(stage.root)),
        time=stage.now,
        runner=Runner.current(),
    )
    (stage.root / key).parent.mkdir(exist_ok=True)
    (stage.root / key).write_bytes(encode_document("intent", pending))
    pruned = stage.prune(last=1, grace="0s")
    assert states(pruned) == "kkkkkkkk" and "the backup of number 8 has not ended" in pruned.points[1].why
    assert stage.listed() == [1, 2, 3, 4, 5, 6, 7, 8]
    path.unlink()
    (stage.root / keys.manifest_key("app.db", 8)).unlink()
    (stage.root / key).unlink()
    stage.prove()
    assert stage.listed() == [1, 2, 3, 4, 5, 6, 7]
