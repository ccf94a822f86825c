"""Restores of points that a snapshot and segments make, also while what they are made of is stored anew or goes."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.errors import RepositoryDamaged, RepositoryNotFound
from pagewarden.pages import MAX_PAGES
from pagewarden.processes.reader import PageReader
from pagewarden.repository import Manifest, PageSetInfo, Repository, keys
from pagewarden.repository.format import Kind, PageSetHeader, pages_per_frame
from pagewarden.repository.keys import ObjectKey
from pagewarden.repository.manifest import encode_manifest
from pagewarden.restore import RestoreRequest, run_restore, write
from pagewarden.restore.speed import Speed, read_speed, remember_speed
from pagewarden.runtime import Runtime
from tests.core.repository.chains import claim_pages
from tests.core.repository.sets import NOW
from tests.core.restore.conftest import make, names, says
from tests.support.segments import database_sum_of, page_set, segment_between

POINTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A repository with a snapshot, segments after it, and what the database was at each."""

    url: str
    images: tuple[bytes, ...]

    def opened(self, runtime: Runtime) -> Repository:
        """Open it."""
        return runtime.repository(self.url)

    def compact(self, runtime: Runtime, txid: int, below: int | None) -> None:
        """Store the point at `txid` anew, relative to the one at `below`, or as a snapshot; take the old one away."""
        repository = self.opened(runtime)
        manifest = repository.resolve_chain(txid=txid).point
        size = manifest.page_size
        head = PageSetHeader(
            page_size=size,
            pages=manifest.pages,
            pages_per_frame=pages_per_frame(size),
            timeline=manifest.position.timeline,
            txid=txid,
            time=manifest.position.time,
        )
        after = self.images[txid - 1]
        if below is None:
            pages = {pgno: after[(pgno - 1) * size : pgno * size] for pgno in range(1, manifest.pages + 1)}
            data = page_set(head, pages, database_sum=database_sum_of(after, size))
            parent = manifest.parent
        else:
            segment = replace(head, kind=Kind.SEGMENT, txid_from=below)
            data = segment_between(self.images[below - 1], after, segment)
            parent = repository.resolve_chain(txid=below).point.position
        parts = ObjectKey(
            name=manifest.database, timeline=manifest.position.timeline, txid=txid, nonce=f"{txid:08x}{below or 0:08x}"
        )
        anew = replace(
            manifest,
            kind="snapshot" if below is None else "segment",
            parent=parent,
            key=keys.object_key(parts),
            bytes=len(data),
            sha256=data[-40:-8].hex(),
        )
        root = Path(self.url)
        (root / anew.key).write_bytes(data)
        (root / keys.manifest_key(manifest.database, manifest.sequence, 1)).write_bytes(encode_manifest(anew))
        self.remove(manifest)

    def remove(self, manifest: Manifest) -> None:
        """Remove a manifest and its object."""
        (Path(self.url) / keys.manifest_key(manifest.database, manifest.sequence)).unlink()
        (Path(self.url) / manifest.key).unlink()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> History:
    """A repository that no test changes."""
    folder = tmp_path_factory.mktemp("history")
    source, url = make(folder / "app.db", "0"), str(folder / "repository")
    images = []
    for number in range(1, POINTS + 1):
        with closing(sqlite3.connect(source, isolation_level=None)) as connection:
            connection.execute("UPDATE t SET who = ?, body = zeroblob(3000) WHERE id = ?", (str(number), number))
            if number == 3:
                connection.execute("INSERT INTO t(who, body) VALUES('3', randomblob(20000))")
        report = run_backup(BackupRequest(database=str(source), repository=url, check="none"), runtime)
        assert report.kind == ("segment" if number > 1 else "snapshot")
        images.append(source.read_bytes())
    return History(url=url, images=tuple(images))


@pytest.fixture
def history(stored: History, tmp_path: Path) -> History:
    """A copy of it."""
    shutil.copytree(stored.url, tmp_path / "repository")
    return replace(stored, url=str(tmp_path / "repository"))


def restore(history: History, to: Path, runtime: Runtime, **more: Any) -> bytes:
    """Restore to a path; return the file."""
    run_restore(RestoreRequest(repository=history.url, to=str(to), **more), runtime)
    return to.read_bytes()


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_every_point_comes_back(
    stored: History, tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Each equals the database at its moment, however many objects the page reader opens at once."""
    monkeypatch.setattr(write, "_AT_ONCE", at_once)
    for txid in range(1, POINTS + 1):
        to = tmp_path / f"{txid}.db"
        assert restore(stored, to, runtime, txid=txid, read_back=txid % 2 == 0) == stored.images[txid - 1]
        assert says(to)


def test_no_room_is_given_to_what_an_object_alone_says_of_its_size(
    history: History, tmp_path: Path, runtime: Runtime
) -> None:
    """A segment that claims a terabyte is refused by what its manifest says, before a byte of it is allocated."""
    manifest = history.opened(runtime).resolve_chain().point
    path = Path(history.url) / manifest.key
    path.chmod(0o600)
    claim_pages(path, MAX_PAGES)
    with pytest.raises(RepositoryDamaged, match=r"4,294,967,294 pages of .* and not what its manifest says"):
        restore(history, tmp_path / "app.db", runtime)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_few_bytes_are_fetched_at_once(
    stored: History, tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would need much room beside the database comes one by one."""
    seen: list[int] = []
    plain = PageReader.assemble

    def assemble(self: PageReader, assembly: int, paths: list[Path], *rest: Any) -> list[PageSetInfo]:
        seen.append(len(paths))
        return plain(self, assembly, paths, *rest)

    monkeypatch.setattr(PageReader, "assemble", assemble)
    monkeypatch.setattr(write, "_BYTES_AT_ONCE", 1)
    assert restore(stored, tmp_path / "app.db", runtime) == stored.images[-1]
    assert seen == [1] * POINTS


def test_a_dry_run_names_objects_bytes_and_seconds(stored: History, tmp_path: Path, runtime: Runtime) -> None:
    """What is read, how much that is, and how long it takes by what was last measured of this repository."""
    chain = stored.opened(runtime).resolve_chain(txid=4)
    request = RestoreRequest(repository=stored.url, to=str(tmp_path / "app.db"), txid=4, dry_run=True)
    remember_speed(runtime.state, stored.url, 10 << 20, 2.0, NOW)
    report = run_restore(request, runtime)
    assert (report.objects, report.bytes_fetched) == (4, chain.bytes)
    assert report.expected_seconds == pytest.approx((chain.bytes + report.bytes) / (5 << 20))
    assert report.steps[1] == (
        f"read a snapshot and 3 segments, {chain.bytes:,} bytes; about {report.expected_seconds:,.1f} s, at 5 MB/s, as "
        "measured at 2026-11-22T10:15:00.123456Z"
    )
    assert "a snapshot and 1 segment," in run_restore(replace(request, txid=2), runtime).steps[1]
    assert names(tmp_path) == []


def test_speeds_are_remembered_where_they_say_something(tmp_path: Path) -> None:
    """A restore that is over before it runs says nothing; a memory that is broken is none; a full disk is told."""
    url = "s3://bucket/x"
    assert read_speed(tmp_path, url) == Speed()
    assert "assumed" in str(Speed())
    for count, took in ((100, 1.0), (1 << 30, 0.0)):
        assert remember_speed(tmp_path, url, count, took, NOW) == ""
    assert read_speed(tmp_path, url) == Speed()
    assert remember_speed(tmp_path, url, 1 << 30, 4.0, NOW) == ""
    assert read_speed(tmp_path, url) == Speed(bytes_per_second=(1 << 30) / 4, measured=NOW)
    assert read_speed(tmp_path, url).seconds(1 << 29) == 2.0
    assert read_speed(tmp_path, "s3://bucket/y") == Speed()
    (file,) = (tmp_path / "speeds").iterdir()
    for broken in (b"{}x", b'{"bytes_per_second":0}', b'{"bytes_per_second":1e300}'):
        file.write_bytes(broken)
        assert read_speed(tmp_path, url) == Speed()
    (tmp_path / "file").write_bytes(b"")
    assert "could not be remembered" in remember_speed(tmp_path / "file", url, 1 << 30, 4.0, NOW)


class MeetingReader(PageReader):
    """A page reader that lets something happen to the repository before it takes objects number `after` and later."""

    def __init__(self, what: Callable[[], None], after: int) -> None:
        super().__init__()
        self._what, self._after = [what], after

    def assemble(self, *arguments: Any, **named: Any) -> list[PageSetInfo]:
        """Let it happen, once."""
        if self._after == 0 and self._what:
            self._what.pop()()
        self._after -= 1
        return super().assemble(*arguments, **named)


def meeting(history: History, to: Path, state: Path, what: Callable[[Runtime], None], after: int) -> bytes:
    """Restore the newest point while `what` happens."""
    with Runtime(state=state) as runtime, Runtime(state=state) as other:
        runtime._reader = MeetingReader(lambda: what(other), after)
        return restore(history, to, runtime)


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize(
    "stored_anew",
    [
        [(5, None)],
        [(5, 1)],
        [(4, 2), (5, 4)],
        [(2, None), (3, 2)],
        [(3, 1), (5, 3)],
        [(1, None)],
    ],
    ids=str,
)
def test_a_restore_that_meets_a_prune_goes_on(
    history: History,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stored_anew: list[tuple[int, int | None]],
    after: int,
) -> None:
    """Whatever is stored anew while objects are taken one by one, the restored database is that of the point."""
    monkeypatch.setattr(write, "_AT_ONCE", 1)

    def prune(runtime: Runtime) -> None:
        for txid, below in stored_anew:
            history.compact(runtime, txid, below)

    assert meeting(history, tmp_path / "app.db", tmp_path / "state", prune, after) == history.images[-1]


def test_objects_that_are_gone_before_they_are_opened_are_looked_up_again(history: History, tmp_path: Path) -> None:
    """All of a chain at once: the page reader finds none of them, and the new one is taken."""

    def prune(runtime: Runtime) -> None:
        history.compact(runtime, 5, None)
        for manifest in history.opened(runtime).resolve_chain(txid=4).links:
            history.remove(manifest)

    assert meeting(history, tmp_path / "app.db", tmp_path / "state", prune, 0) == history.images[-1]


def test_a_point_that_goes_meanwhile_is_named(history: History, tmp_path: Path) -> None:
    """The restore point itself was purged: there is nothing to go on with, and the path is as it was."""

    def purge(runtime: Runtime) -> None:
        history.remove(history.opened(runtime).resolve_chain(txid=5).point)

    to = make(tmp_path / "app.db", "old")
    with pytest.raises(RepositoryNotFound, match=r"no restore point of app\.db at .*:5 any more"):
        meeting(history, to, tmp_path / "state", purge, 0)
    assert says(to) == "old"
    assert [name for name in names(tmp_path) if ".new" in name] == []


@pytest.mark.parametrize("txid", [1, 3, 5])
def test_an_object_that_is_lost_is_named(history: History, tmp_path: Path, runtime: Runtime, txid: int) -> None:
    """Nothing took its place, so it is missing, whichever part of the chain it is."""
    lost = history.opened(runtime).resolve_chain(txid=txid).point
    (Path(history.url) / lost.key).unlink()
    with pytest.raises(RepositoryDamaged, match=f"{lost.key} is missing") as caught:
        restore(history, tmp_path / "app.db", runtime)
    assert "verify" in caught.value.hint
    assert not (tmp_path / "app.db").exists()


def test_a_lost_manifest_is_a_gap_that_is_named(history: History, tmp_path: Path, runtime: Runtime) -> None:
    """Points above it cannot be restored, those below can, and the hint says which is the last of those."""
    lost = history.opened(runtime).resolve_chain(txid=3).point
    (Path(history.url) / keys.manifest_key("app.db", lost.sequence)).unlink()
    for txid in (4, 5):
        with pytest.raises(
            RepositoryDamaged, match=r"cannot bring back app\.db .*:4 continues .*:3, of which"
        ) as caught:
            restore(history, tmp_path / "app.db", runtime, txid=txid)
        assert caught.value.hint == "to go back to the last one before it: --txid 2"
    assert restore(history, tmp_path / "app.db", runtime, txid=2) == history.images[1]
    (Path(history.url) / keys.manifest_key("app.db", 1)).unlink()
    with pytest.raises(RepositoryDamaged, match="continues") as caught:
        restore(history, tmp_path / "app.db", runtime, txid=2)
    assert "verify" in caught.value.hint


def test_a_segment_in_the_place_of_another_is_refused(history: History, tmp_path: Path, runtime: Runtime) -> None:
    """Whole in itself, but not the one of its manifest; and one whose manifest was forged to fit does not continue."""
    repository = history.opened(runtime)
    two, three = (repository.resolve_chain(txid=txid).point for txid in (2, 3))
    root = Path(history.url)
    good = (root / three.key).read_bytes()
    (root / three.key).chmod(0o600)
    (root / three.key).write_bytes((root / two.key).read_bytes())
    with pytest.raises(RepositoryDamaged, match="not the one of its manifest"):
        restore(history, tmp_path / "app.db", runtime)
    size = three.page_size
    wrong = bytearray(history.images[1])
    wrong[size * 2 : size * 3] = b"x" * size
    head = PageSetHeader(
        kind=Kind.SEGMENT,
        page_size=size,
        pages=three.pages,
        pages_per_frame=pages_per_frame(size),
        timeline=three.position.timeline,
        txid_from=2,
        txid=3,
        time=three.position.time,
    )
    data = segment_between(bytes(wrong), history.images[2], head)
    (root / three.key).write_bytes(data)
    forged = replace(three, bytes=len(data), sha256=data[-40:-8].hex())
    (root / keys.manifest_key("app.db", 3)).chmod(0o600)
    (root / keys.manifest_key("app.db", 3)).write_bytes(encode_manifest(forged))
    with pytest.raises(RepositoryDamaged, match="does not continue"):
        restore(history, tmp_path / "app.db", runtime)
    assert len(good) > 0 and not (tmp_path / "app.db").exists()
