"""Verification of chains: each restore point by all that it needs, in parts that go round, beside other runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pagewarden.errors import ConfigurationInvalid
from pagewarden.repository import BackupsRequest, VerifyRequest, judging, keys, run_backups, run_verify
from pagewarden.repository.manifest import Manifest, encode_manifest
from pagewarden.repository.repository import Repository
from pagewarden.repository.segment import SegmentWriter
from pagewarden.runtime import PluginChoice, Runtime
from pagewarden.values import Verdict, VerifyReport
from tests.core.repository.chains import histories, make_chain, make_repository, put_point, put_segment, reseal
from tests.core.repository.segments import map_of, segment_header
from tests.core.repository.sets import NOW, MemoryTarget, header, source, write

IMAGES = histories(10)


@pytest.fixture(scope="module")
def shared() -> Iterator[Runtime]:
    """A runtime whose page reader stays warm."""
    with Runtime(plugins=PluginChoice(only=("target-directory",))) as runtime:
        yield runtime


@pytest.fixture
def runtime(shared: Runtime, tmp_path: Path) -> Iterator[Runtime]:
    """The same with a state directory of its own, and a clock that goes on by a minute with each look."""
    now = [NOW]

    def clock() -> datetime:
        now[0] += timedelta(minutes=1)
        return now[0]

    before = (shared._state, shared.clock, shared.progress)
    shared._state, shared.clock = tmp_path / "state", clock
    yield shared
    shared._state, shared.clock, shared.progress = before


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the repository is."""
    return tmp_path / "repository"


def verify(root: Path, runtime: Runtime, **named: object) -> VerifyReport:
    """Verify with data, unless it says otherwise."""
    named = named or {"read_data": True}
    return run_verify(VerifyRequest(repository=str(root), **named), runtime)  # type: ignore[arg-type]


def states(report: VerifyReport) -> list[str]:
    """Return the states of all points."""
    return [point.state for point in report.points]


def read(report: VerifyReport) -> list[int]:
    """Return the txids of what was read."""
    return [point.position.txid for point in report.points if point.read and point.position is not None]


def damage(path: Path) -> None:
    """Flip a bit in a frame."""
    data = bytearray(path.read_bytes())
    data[140] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_chain_is_proved_with_each_object_read_once(
    root: Path, runtime: Runtime, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database sum of each restore point, whatever the batches; the bytes read are those that are stored."""
    monkeypatch.setattr(judging, "_OBJECTS", batch)
    manifests = make_chain(root, IMAGES, snapshots=(1, 6))
    report = verify(root, runtime)
    assert (report.verdict, report.exit_code) == (Verdict.SOUND, 0)
    assert [point.data for point in report.points] == [True] * 10
    assert report.bytes_read == sum(each.bytes for each in manifests)
    assert (report.objects, report.objects_read) == (10, 10)
    stored = verify(root, runtime, read_data=False)
    assert [point.data for point in stored.points] == [False] * 10
    assert stored.bytes_read == report.bytes_read


@pytest.mark.parametrize("which", [1, 4, 5, 8])
@pytest.mark.parametrize("gone", [False, True])
def test_damage_is_that_of_all_who_need_it(root: Path, runtime: Runtime, which: int, gone: bool) -> None:
    """Those above it name it, and the last whole one before it; another chain is whole."""
    manifests = make_chain(root, IMAGES, snapshots=(1, 6))
    path = root / manifests[which - 1].key
    if gone:
        path.unlink()
    else:
        damage(path)
    report = verify(root, runtime)
    until = 5 if which < 6 else 10
    bad = "missing" if gone else "damaged"
    assert states(report) == [bad if which <= txid <= until else "ok" for txid in range(1, 11)]
    for point in report.points[which - 1 : until]:
        assert point.instead == (manifests[which - 2].position if which > 1 else None)
        assert point.needs == ("" if point.key == manifests[which - 1].key else manifests[which - 1].key)
        assert point.why
        assert not point.data
    assert [point.data for point in report.points] == [state == "ok" for state in states(report)]


def test_a_gap_in_a_chain_is_missing(root: Path, runtime: Runtime) -> None:
    """A manifest that is gone takes all that continue it along, though every object is whole; its object is a stray."""
    manifests = make_chain(root, IMAGES[:5])
    (root / keys.manifest_key("app.db", 3)).unlink()
    report = verify(root, runtime)
    assert states(report) == ["ok", "ok", "missing", "missing", "missing"]
    assert "of which no manifest can be read" in report.points[2].why
    assert report.points[3].needs == manifests[3].key
    assert (report.points[4].position, report.points[4].key) == (None, manifests[2].key)
    listed = run_backups(BackupsRequest(repository=str(root)), runtime).backups
    assert [each.verification and each.verification.state for each in listed] == ["ok", "ok", "missing", "missing"]


def test_a_forged_chain_is_damaged(root: Path, runtime: Runtime) -> None:
    """A segment with right checksums and manifest, whose pages do not make the database sum that both name."""
    manifests = make_chain(root, IMAGES[:4])
    info = reseal(root / manifests[2].key, database_sum=1)
    forged = replace(manifests[2], database_sum=f"{1:016x}", sha256=info.sha256)
    (root / keys.manifest_key("app.db", 3)).write_bytes(encode_manifest(forged))
    assert states(verify(root, runtime, read_data=False)) == ["ok", "ok", "ok", "damaged"]
    report = verify(root, runtime)
    assert states(report) == ["ok", "ok", "damaged", "damaged"]
    assert "make the database sum" in report.points[2].why
    later = verify(root, runtime, read_data=False)  # which sees nothing of it, and does not take it back
    assert states(later) == ["ok", "ok", "damaged", "damaged"]
    assert "make the database sum" in later.points[2].why
    (_, _, listed, _) = run_backups(BackupsRequest(repository=str(root)), runtime).backups
    assert listed.verification is not None and listed.verification.state == "damaged"


def test_branches_are_proved(root: Path, runtime: Runtime) -> None:
    """Two segments that continue the same restore point, as a fold may leave them."""
    make_chain(root, IMAGES[:4])
    path = root.parent / "page-set"
    head = replace(segment_header(txid=5), txid_from=2)
    other = b"x" * 100 + IMAGES[1][100:]
    with (
        source(root.parent, other) as pages,
        map_of(root.parent / "map", IMAGES[1], txid=2) as base,
        SegmentWriter(path, head, base, level=1, threads=1) as writer,
    ):
        writer.copy(pages, 1, pages.pages)
        put_point(root, 5, path, writer.seal(pages=pages.pages))
    put_segment(root, other, IMAGES[1], txid=6)
    report = verify(root, runtime)
    assert (states(report), [point.data for point in report.points]) == (["ok"] * 6, [True] * 6)
    damage(root / keys_of(report)[3])
    assert states(verify(root, runtime)) == ["ok", "ok", "ok", "damaged", "ok", "ok"]


def keys_of(report: VerifyReport) -> list[str]:
    """Return the keys of all objects."""
    return [point.key for point in report.points]


def test_a_part_goes_on_where_the_last_one_ended(root: Path, runtime: Runtime) -> None:
    """And goes round; new objects get their turn; the database sums are proved all the same."""
    make_chain(root, IMAGES[:8])
    seen = []
    for _ in range(4):
        report = verify(root, runtime, read_subset="3")
        assert (report.exit_code, report.objects, report.objects_read) == (0, 8, 3)
        assert all(point.data for point in report.points if point.read)
        seen.append(read(report))
    assert seen == [[1, 2, 3], [4, 5, 6], [1, 7, 8], [2, 3, 4]]
    put_segment(root, IMAGES[7], IMAGES[8], txid=9)
    assert read(verify(root, runtime, read_subset="5")) == [5, 6, 7, 8, 9]
    # A whole run does not disturb the round.
    verify(root, runtime)
    assert read(verify(root, runtime, read_subset="1")) == [1]


def test_a_percentage_is_of_the_stored_bytes(root: Path, runtime: Runtime) -> None:
    """Of each database; at least one object, and all have had their turn when the percentages make a hundred."""
    manifests = make_chain(root, IMAGES[:8])
    make_chain(root, IMAGES[:2], name="other.db")
    seen: set[str] = set()
    for _ in range(10):
        report = verify(root, runtime, read_subset="10%")
        found = [point for point in report.points if point.read]
        assert {point.database for point in found} == {"app.db", "other.db"}
        stored = sum(each.bytes for each in manifests if each.key in {point.key for point in found})
        assert stored >= sum(each.bytes for each in manifests) / 10
        seen.update(point.key for point in found)
    assert len(seen) == 10
    assert verify(root, runtime, read_subset="100%").objects_read == 10


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-1", "5 percent", "1e3", "٣%"])
def test_a_part_that_is_none_is_refused(root: Path, runtime: Runtime, text: str) -> None:
    """Before anything is read."""
    make_repository(root)
    with pytest.raises(ConfigurationInvalid, match="no part of a repository"):
        verify(root, runtime, read_subset=text)
    with pytest.raises(ConfigurationInvalid, match="no time to verify in"):
        verify(root, runtime, max_time=0.0)


def test_a_run_whose_time_is_up_goes_on_later(root: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends between two batches, says how far it came, and the next one begins there."""
    monkeypatch.setattr(judging, "_OBJECTS", 2)
    make_chain(root, IMAGES[:5])
    make_chain(root, IMAGES[:2], name="other.db")
    now = [0.0]
    monkeypatch.setattr(runtime, "monotonic", lambda: now[0])
    monkeypatch.setattr(runtime, "progress", lambda *_: now.__setitem__(0, now[0] + 1))
    seen = []
    for _ in range(4):
        report = verify(root, runtime, read_data=True, max_time=1.0)
        assert report.exit_code == 0
        seen.append([(point.database, point.position.txid) for point in report.points if point.read and point.position])
    assert seen[0] == [("app.db", 1), ("app.db", 2)]
    assert seen[1] == [("other.db", 1), ("other.db", 2)]  # the one that waited longest
    assert seen[2] == [("app.db", 3), ("app.db", 4)]
    assert seen[3] == [("other.db", 1), ("other.db", 2)]


def test_what_is_missing_is_seen_by_a_part(root: Path, runtime: Runtime) -> None:
    """That an object is there is proved of all; what it holds of those that are read; known damage is not forgotten."""
    manifests = make_chain(root, IMAGES[:6])
    damage(root / manifests[1].key)
    assert states(verify(root, runtime)) == ["ok"] + ["damaged"] * 5
    report = verify(root, runtime, read_subset="1")
    assert states(report) == ["ok"] + ["damaged"] * 5
    assert "as of 2026-" in report.points[1].why
    (root / manifests[4].key).unlink()
    report = verify(root, runtime, read_subset="1")
    assert states(report) == ["ok", "damaged", "damaged", "damaged", "missing", "missing"]
    # It is read again in its turn, and what is whole then is whole.
    (root / manifests[1].key).write_bytes(b"")
    data = (root / manifests[0].key).read_bytes()
    assert data
    damage(root / manifests[0].key)
    assert "damaged" in states(verify(root, runtime, read_subset="6"))


def test_results_are_kept_and_shown(root: Path, runtime: Runtime) -> None:
    """By `backups`, of each restore point by its whole chain; stored bytes alone are told from data."""
    manifests = make_chain(root, IMAGES[:4])

    def shown() -> list[tuple[str, bool] | None]:
        report = run_backups(BackupsRequest(repository=str(root)), runtime)
        assert report.warnings == ()
        return [
            None if each.verification is None else (each.verification.state, each.verification.data)
            for each in report.backups
        ]

    assert shown() == [None] * 4
    verify(root, runtime, read_data=False)
    assert shown() == [("ok", False)] * 4
    verify(root, runtime)
    assert shown() == [("ok", True)] * 4
    damage(root / manifests[2].key)
    verify(root, runtime)
    assert shown() == [("ok", True)] * 2 + [("damaged", True)] * 2
    # The same key with other bytes: what was found is of the old ones.
    put_segment(root, IMAGES[1], IMAGES[2], txid=3)
    manifest = replace(manifests[2], sha256="0" * 64)
    (root / keys.manifest_key("app.db", 3)).write_bytes(encode_manifest(manifest))
    assert shown() == [("ok", True)] * 2 + [None] * 2


def test_results_that_are_damaged_are_named_and_begun_anew(root: Path, runtime: Runtime) -> None:
    """By `backups`, and by the next `verify`, which keeps them aside."""
    make_chain(root, IMAGES[:2])
    verify(root, runtime)
    (path,) = (runtime.state / "verification").iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    report = run_backups(BackupsRequest(repository=str(root)), runtime)
    assert [each.verification for each in report.backups] == [None, None]
    assert f"{path} is damaged" in report.warnings[0]
    assert "it is kept as" in verify(root, runtime).warnings[0]
    assert verify(root, runtime).warnings == ()
    shutil.rmtree(runtime.state)
    runtime.state.write_bytes(b"")
    assert "could not be kept" in verify(root, runtime).warnings[0]


def once(runtime: Runtime, act: Callable[[], None]) -> None:
    """Let something happen in the midst of the next run: when it tells of its first progress."""
    done: list[bool] = []

    def progress(*_: object) -> None:
        if not done:
            done.append(True)
            act()

    runtime.progress = progress


@pytest.fixture
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, so that most is still to be read when something happens."""
    monkeypatch.setattr(judging, "_OBJECTS", 2)


def purge(root: Path, *manifests: Manifest) -> None:
    """Remove restore points as a prune does: manifests, then objects."""
    for each in manifests:
        (root / keys.manifest_key(each.database, each.sequence)).unlink()
    for each in manifests:
        (root / each.key).unlink()


@pytest.mark.usefixtures("two_at_once")
def test_what_is_pruned_meanwhile_is_no_damage(root: Path, runtime: Runtime) -> None:
    """H31: restore points that go while the run is under way are not in its report, nor in what is kept."""
    manifests = make_chain(root, IMAGES, snapshots=(1, 4, 8))
    once(runtime, lambda: purge(root, *manifests[3:7]))
    report = verify(root, runtime)
    assert (states(report), report.exit_code) == (["ok"] * 6, 0)
    assert [point.position.txid for point in report.points if point.position] == [1, 2, 3, 8, 9, 10]
    assert [point.data for point in report.points] == [True] * 6
    listed = run_backups(BackupsRequest(repository=str(root)), runtime).backups
    assert [each.verification and each.verification.state for each in listed] == ["ok"] * 6
    # The same in a run for a part.
    once(runtime, lambda: purge(root, *manifests[8:]))
    report = verify(root, runtime, read_subset="4")
    assert (states(report), report.exit_code) == (["ok"] * 4, 0)


@pytest.mark.usefixtures("two_at_once")
def test_what_is_stored_anew_meanwhile_is_proved_as_it_is_now(root: Path, runtime: Runtime) -> None:
    """A restore point whose object is superseded and goes: its new one is read instead, and all that continue it."""
    manifests = make_chain(root, IMAGES[:8])

    def compact() -> None:
        path = root.parent / "page-set"
        info = write(path, IMAGES[5], header(len(IMAGES[5]) // 512, txid=6))
        put_point(root, 6, path, info, generation=1)
        purge(root, *manifests[1:6])

    once(runtime, compact)
    report = verify(root, runtime)
    assert (states(report), report.exit_code) == (["ok"] * 4, 0)
    assert [point.position.txid for point in report.points if point.position] == [1, 6, 7, 8]
    assert [point.data for point in report.points] == [True] * 4


@pytest.mark.usefixtures("two_at_once")
def test_a_backup_meanwhile_changes_nothing(root: Path, runtime: Runtime) -> None:
    """What is committed after the run has begun is neither a stray nor read, and the next run reads it."""
    make_chain(root, IMAGES[:6])

    def back_up() -> None:
        put_segment(root, IMAGES[5], IMAGES[6], txid=7)

    once(runtime, back_up)
    report = verify(root, runtime)
    assert states(report) == ["ok"] * 6
    assert states(verify(root, runtime)) == ["ok"] * 7


@pytest.mark.usefixtures("two_at_once")
def test_what_is_really_missing_stays_missing_beside_a_prune(root: Path, runtime: Runtime) -> None:
    """One object that is lost, while another restore point is pruned."""
    manifests = make_chain(root, IMAGES, snapshots=(1, 4, 8))
    (root / manifests[8].key).unlink()
    once(runtime, lambda: purge(root, *manifests[3:7]))
    report = verify(root, runtime)
    assert states(report) == ["ok", "ok", "ok", "ok", "missing", "missing"]


def test_a_remote_target_is_proved_without_files(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Objects are fetched, read once, and let go; where a part would need those below again, only pages are proved."""
    manifests = make_chain(root, IMAGES[:6])
    target = MemoryTarget(
        objects={str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    )
    repository = Repository.open(target, target.url)
    monkeypatch.setattr(runtime, "repository", lambda *_, **__: repository)
    report = verify(root, runtime)
    assert [point.data for point in report.points] == [True] * 6
    assert report.bytes_read == sum(each.bytes for each in manifests)
    part = verify(root, runtime, read_subset="2")
    assert [(point.read, point.data) for point in part.points] == [(True, True)] * 2 + [(False, False)] * 4
    part = verify(root, runtime, read_subset="2")
    assert [(point.read, point.data) for point in part.points][2:4] == [(True, False)] * 2
    assert part.exit_code == 0
    spool = repository.store.staging("x").parent
    assert [path for path in spool.rglob("*") if path.is_file()] == []


def test_one_that_cannot_be_fetched_is_unknown(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """And those that need it; all others of its batch are proved."""
    manifests = make_chain(root, IMAGES[:6], snapshots=(1, 5))

    class Refusing(MemoryTarget):
        def open(self, key: str) -> Path | None:
            """Refuse one."""
            if key == manifests[2].key:
                raise PermissionError(13, "Permission denied")
            return super().open(key)

    target = Refusing(
        objects={str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    )
    repository = Repository.open(target, target.url)
    monkeypatch.setattr(runtime, "repository", lambda *_, **__: repository)
    report = verify(root, runtime)
    assert states(report) == ["ok", "ok", "unknown", "unknown", "ok", "ok"]
    assert (report.verdict, report.exit_code) == (Verdict.UNKNOWN, 3)
    assert "permission denied" in report.points[2].why
    assert report.points[3].needs == manifests[2].key
