from __future__ import annotations

import os
import random
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pagewarden.errors import PagewardenError, RepositoryDamaged, RepositoryNotFound, TargetFailed
from pagewarden.events import Event
from pagewarden.repository import BackupsRequest, VerifyRequest, keys, run_backups, run_verify
from pagewarden.repository.intent import Pruning, Runner
from pagewarden.repository.manifest import encode_document, encode_manifest
from pagewarden.repository.proof import Link, Proved
from pagewarden.repository.repository import Repository
from pagewarden.runtime import PluginChoice, Runtime
from pagewarden.values import RestorePoint, Verdict, VerifyReport
from pagewarden_target_directory import DirectoryFactory
from tests.core.repository.conftest import seeded
from tests.core.repository.sets import back_up, image, stock, store
from tests.support.restoring import bring_back_chain

NAMES = ("app.db", "my other.db")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A real runtime with the directory target and a warm page reader."""
    state = tmp_path_factory.mktemp("state")
    with Runtime(plugins=PluginChoice(only=("target-directory",)), state=state) as runtime:
        yield runtime


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of two databases: two restore points and one."""
    root = tmp_path / "repository"
    repository = opened(root)
    for number, name in enumerate((NAMES[0], NAMES[0], NAMES[1])):
        back_up(repository, name, image(9, seed=number))
    return root


def opened(root: Path) -> Repository:
    """Open the repository."""
    return Repository.open(DirectoryFactory().open(str(root), create=True), str(root), create=True, token=seeded(5))


def verify(root: Path, runtime: Runtime, *, read_data: bool = True, name: str | None = None) -> VerifyReport:
    """Verify the repository."""
    return run_verify(VerifyRequest(repository=str(root), name=name, read_data=read_data), runtime)


def restore(root: Path, runtime: Runtime, point: RestorePoint) -> bytes:
    """Bring back one point as the verb does: by its txid, into a new file, proved against its manifest."""
    repository = runtime.repository(str(root))
    chain = repository.resolve_chain(point.database, txid=point.position.txid, timeline=point.position.timeline)
    return bring_back_chain(runtime.reader, repository, chain, root.parent / "out")


def states(report: VerifyReport) -> list[str]:
    """Return the states of all points."""
    return [point.state for point in report.points]


@pytest.mark.parametrize("read_data", [False, True])
def test_a_whole_repository_is_sound(root: Path, runtime: Runtime, read_data: bool) -> None:
    """Every point is ok, with its position; what was read is counted, and progress is told."""
    told: list[tuple[str, int, int]] = []
    runtime.progress = lambda *progress: told.append(progress)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    report = verify(root, runtime, read_data=read_data)
    assert (report.verdict, report.exit_code, report.read_data) == (Verdict.SOUND, 0, read_data)
    assert states(report) == ["ok"] * 3
    assert [point.data for point in report.points] == [read_data] * 3
    assert [point.database for point in report.points] == [NAMES[0], NAMES[0], NAMES[1]]
    assert all(point.position is not None and not point.why for point in report.points)
    assert report.bytes_read == sum(len(data) for path, data in before.items() if path.name.endswith(".zst"))
    assert report.leftovers == ()
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    stored = sum(len(data) for path, data in before.items() if path.name.endswith(".zst") and "app.db" in path.parts)
    assert ("verifying app.db", stored, stored) in told


def test_one_database_can_be_verified_alone(root: Path, runtime: Runtime) -> None:
    """Damage of another one is not looked at."""
    next((root / "app.db/objects").rglob("*.zst")).write_bytes(b"")
    assert states(verify(root, runtime, name=NAMES[1])) == ["ok"]
    assert verify(root, runtime, name=NAMES[0]).exit_code == 1


def test_an_empty_repository_cannot_be_judged(tmp_path: Path, runtime: Runtime) -> None:
    """Nothing is there: unknown, exit 3; a name that is not there is an error."""
    opened(tmp_path / "empty")
    report = verify(tmp_path / "empty", runtime)
    assert (report.verdict, report.exit_code, report.points) == (Verdict.UNKNOWN, 3, ())
    with pytest.raises(RepositoryNotFound, match=r"nothing of app\.db"):
        verify(tmp_path / "empty", runtime, name="app.db")
    with pytest.raises(RepositoryNotFound, match="no repository"):
        verify(tmp_path / "missing", runtime)


def everything(root: Path) -> list[Path]:
    """Return every file of the repository."""
    return sorted(path for path in root.rglob("*") if path.is_file())


def owner(path: Path, points: tuple[RestorePoint, ...], root: Path) -> RestorePoint | None:
    """Return the restore point that a file belongs to, None for the marker."""
    key = str(path.relative_to(root))
    for point in points:
        same = [each for each in points if each.database == point.database]
        if key in (point.key, keys.manifest_key(point.database, 1 + same.index(point))):
            return point
    return None


def assert_refused(root: Path, runtime: Runtime, path: Path, points: tuple[RestorePoint, ...], where: object) -> None:
    """Assert that verify reports the changed file, that its point cannot be restored, and that all others can."""
    changed = owner(path, points, root)
    if changed is None:  # the marker: nothing of the repository is used
        for call in (lambda: verify(root, runtime), lambda: restore(root, runtime, points[0])):
            with pytest.raises((RepositoryDamaged, PagewardenError)) as caught:
                call()
            assert caught.value.exit_code != 0, where
        return
    report = verify(root, runtime)
    assert report.exit_code == 1, where
    bad = [point for point in report.points if point.state != "ok"]
    assert bad and all(point.state in ("damaged", "missing") and point.why for point in bad), where
    assert {point.database for point in bad} == {changed.database}, where
    assert states(report).count("ok") == 2, where
    for point in points:
        if point == changed:
            with pytest.raises((RepositoryDamaged, RepositoryNotFound)):
                restore(root, runtime, point)
        else:
            assert len(restore(root, runtime, point)) == point.bytes, where


def damaged(data: bytes, rng: random.Random) -> Iterator[tuple[object, bytes]]:
    """Yield changed versions of a file: a seeded sample of flipped bits, cuts and additions."""
    for offset in sorted({0, len(data) - 1, *rng.sample(range(len(data)), 9)}):
        changed = bytearray(data)
        changed[offset] ^= 1 << rng.randrange(8)
        yield f"flip at {offset}", bytes(changed)
    for size in (0, rng.randrange(1, len(data)), len(data) - 1):
        yield f"cut to {size}", data[:size]
    yield "one byte more", data + b"\0"


@pytest.mark.parametrize("which", range(7))
def test_no_changed_byte_is_ever_sound(root: Path, runtime: Runtime, which: int) -> None:
    """Any flipped byte in the marker, a manifest or an object is reported by verify and refused by restore."""
    path = everything(root)[which]
    points = opened(root).restore_points()[0]
    data = path.read_bytes()
    for where, changed in damaged(data, random.Random(which)):
        path.write_bytes(changed)
        assert_refused(root, runtime, path, points, (path, where))
    path.write_bytes(data)
    assert verify(root, runtime).exit_code == 0


@pytest.mark.parametrize("which", range(1, 7))
def test_no_missing_file_is_ever_sound(root: Path, runtime: Runtime, which: int) -> None:
    """A removed manifest or object is missed."""
    assert len(everything(root)) == 7
    path = [path for path in everything(root) if path.name != keys.MARKER][which - 1]
    points = opened(root).restore_points()[0]
    path.unlink()
    if path.suffix == ".json" and path.parts[-3] == keys.escape_name(NAMES[1]):
        report = verify(root, runtime)  # its only manifest: the object alone still tells
        assert report.exit_code == 1
        assert states(report) == ["ok", "ok", "missing"]
    else:
        assert_refused(root, runtime, path, points, path)


def test_a_missing_marker_is_no_repository(root: Path, runtime: Runtime) -> None:
    """Without its marker it is refused, and never begun anew over what is there."""
    (root / keys.MARKER).unlink()
    for create in (False, True):
        with pytest.raises(PagewardenError, match=r"no pagewarden\.json"):
            runtime.repository(str(root), create=create)


def test_exchanged_and_copied_objects_are_reported(root: Path, runtime: Runtime) -> None:
    """Objects that changed places, one in the place of another, one under another key, a manifest under another."""
    one, two = (root / point.key for point in opened(root).restore_points(NAMES[0])[0])
    one_data, two_data = one.read_bytes(), two.read_bytes()
    one.write_bytes(two_data)
    two.write_bytes(one_data)
    report = verify(root, runtime)
    assert states(report) == ["damaged", "damaged", "ok"]
    assert all("not the one of its manifest" in point.why for point in report.points[:2])
    two.write_bytes(two_data)
    report = verify(root, runtime)
    assert states(report) == ["damaged", "ok", "ok"]
    one.write_bytes(one_data)
    copy = two.with_name(two.name.replace("-", "-0")[:34] + ".pageset.zst")
    for name in (copy.name, "copy.zst"):
        shutil.copyfile(two, two.with_name(name))
        report = verify(root, runtime)
        assert sorted(states(report)) == ["missing", "ok", "ok", "ok"]
        assert "no manifest names this object" in report.points[2].why
        two.with_name(name).unlink()
    manifests = root / "app.db/manifests"
    shutil.copyfile(manifests / "0000000000000001.json", manifests / "0000000000000003.json")
    report = verify(root, runtime)
    assert states(report) == ["ok", "ok", "damaged", "ok"]


def test_a_stray_object_says_what_can_be_done(root: Path, runtime: Runtime) -> None:
    """The command in it makes the database; once the object is deleted all is sound again."""
    (root / "app.db/manifests/0000000000000002.json").unlink()
    report = verify(root, runtime)
    (stray,) = [point for point in report.points if point.state == "missing"]
    assert (report.exit_code, stray.position) == (1, None)
    assert [point.key for point in opened(root).restore_points(NAMES[0])[0]] == [report.points[0].key]
    assert "no restore point" in stray.why
    assert f"zstd -d -o COPY {shlex.quote(str(root / stray.key))} makes the database" in stray.why
    assert stock(root / stray.key) == image(9, seed=1)
    (root / stray.key).unlink()
    assert verify(root, runtime).verdict is Verdict.SOUND


@pytest.mark.parametrize("lives", [True, False])
def test_a_prune_hides_no_manifest_that_is_lost(root: Path, runtime: Runtime, lives: bool) -> None:
    """Neither one under way nor a dead one: an object that it removes goes before the manifest that names it."""
    runner = Runner.current()
    pruning = Pruning(
        database=NAMES[0], time=runtime.clock(), runner=runner if lives else replace(runner, pid=(1 << 31) - 1)
    )
    (root / keys.PENDING).mkdir(exist_ok=True)
    (root / keys.pending_key("a" * 16)).write_bytes(encode_document("prune", pruning))
    assert verify(root, runtime).verdict is Verdict.SOUND
    (root / "app.db/manifests/0000000000000002.json").unlink()
    report = verify(root, runtime)
    assert (report.exit_code, sorted(states(report))) == (1, ["missing", "ok", "ok"])
    assert report.leftovers == (() if lives else (keys.pending_key("a" * 16),))


def test_leftovers_are_listed_and_change_no_verdict(root: Path, runtime: Runtime) -> None:
    """A backup under way is not mentioned, a dead one is; neither is damage."""
    from tests.core.repository.test_tidy import kill

    repository = opened(root)
    intent = repository.begin(NAMES[0])
    store(repository, intent, image(3))
    target = DirectoryFactory().open(str(root), create=False)
    target.adopt(intent.key, intent.staging)
    report = verify(root, runtime)
    assert (report.exit_code, report.leftovers) == (0, ())
    kill(target, intent)
    report = verify(root, runtime)
    assert (report.exit_code, report.leftovers) == (0, (keys.pending_key(intent.nonce), intent.key))
    assert len(report.points) == 3


def test_a_manifest_that_names_a_taken_object_is_damaged(root: Path, runtime: Runtime) -> None:
    """Two manifests with one object cannot both be right."""
    repository = opened(root)
    point = repository.resolve(NAMES[1])
    manifest = replace(repository.chain(point).point, sequence=2)
    (root / keys.manifest_key(NAMES[1], 2)).write_bytes(encode_manifest(manifest))
    report = verify(root, runtime)
    assert states(report) == ["ok", "ok", "ok", "damaged"]
    assert "another manifest" in report.points[3].why


def test_what_cannot_be_read_is_unknown_and_hides_nothing(
    root: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that dies over an object, and one that the system does not let us read: unknown, the others proved."""
    real = runtime.reader.prove_links
    first, second = (point.key for point in opened(root).restore_points(NAMES[0])[0])

    def failing(proof: int, links: Sequence[Link], **named: Any) -> list[Proved]:
        if any(link.path.endswith(first) for link in links):
            runtime.reader.kill()
            real(proof, links, **named)
        refused = Proved(info=None, error=TargetFailed("permission denied"))
        return [
            refused if link.path.endswith(second) else one
            for link, one in zip(links, real(proof, links, **named), strict=True)
        ]

    monkeypatch.setattr(runtime.reader, "prove_links", failing)
    report = verify(root, runtime)
    assert states(report) == ["unknown", "unknown", "ok"]
    assert (report.verdict, report.exit_code) == (Verdict.UNKNOWN, 3)
    assert "page reader" in report.points[0].why
    assert "permission" in report.points[1].why


def test_hostile_objects_cannot_take_the_caller_down(root: Path, runtime: Runtime) -> None:
    """Random bytes, a FIFO and a huge sparse file in the place of objects: each is reported."""
    rng = random.Random(11)
    paths = [root / point.key for point in opened(root).restore_points()[0]]
    begin = paths[0].read_bytes()[:4000]
    for path, content in zip(paths, (rng.randbytes(5000), begin + rng.randbytes(5000), b""), strict=True):
        path.write_bytes(content)
    os.truncate(paths[2], 1 << 40)
    assert states(verify(root, runtime)) == ["damaged"] * 3
    paths[0].unlink()
    os.mkfifo(paths[0])
    assert states(verify(root, runtime)) == ["missing", "damaged", "damaged"]


def test_backups_lists_points_and_problems(root: Path, runtime: Runtime) -> None:
    """Newest last, of all databases or of one; a broken manifest is a problem and hides nothing."""
    report = run_backups(BackupsRequest(repository=str(root)), runtime)
    assert [(point.database, point.position.txid) for point in report.backups] == [
        (NAMES[0], 1), (NAMES[0], 2), (NAMES[1], 1)
    ]  # fmt: skip
    assert report.problems == ()
    (root / keys.manifest_key(NAMES[0], 1)).write_bytes(b"{}")
    report = run_backups(BackupsRequest(repository=str(root), name=NAMES[0]), runtime)
    assert [point.position.txid for point in report.backups] == [2]
    assert keys.manifest_key(NAMES[0], 1) in report.problems[0]
    with pytest.raises(RepositoryNotFound, match="nothing of third"):
        run_backups(BackupsRequest(repository=str(root), name="third"), runtime)


def test_the_event_of_a_verification_has_its_verdict(root: Path, runtime: Runtime) -> None:
    """Observers see what was verified and with which outcome."""
    seen: list[Event] = []
    state = root.parent / "state"
    with Runtime(plugins=PluginChoice(only=("target-directory",)), on_event=seen.append, state=state) as other:
        verify(root, other, read_data=False)
    (event,) = seen
    assert event.name == "verify.finished"
    assert event.fields == {"repository": str(root), "verdict": "sound"}
    assert event.seconds is not None
