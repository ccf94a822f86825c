"""What the page reader answers: pages, sums, copies, stored page sets; and its errors by their names."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pagewarden import durable
from pagewarden.errors import (
    DatabaseNotFound,
    DatabaseUnreadable,
    DatabaseUnsettled,
    OutOfSpace,
    ReaderCrashed,
    RepositoryDamaged,
    TargetFailed,
)
from pagewarden.processes import attach, client, reader_main, stored
from pagewarden.processes import reader as calls
from pagewarden.processes.channel import Channel, ProtocolError, Value
from pagewarden.processes.image import RawImage
from pagewarden.processes.reader import PageReader
from pagewarden.processes.wire import header_from_wire, header_to_wire, info_from_wire, info_to_wire
from pagewarden.repository.format import PageSetHeader, PageSetInfo
from tests.support.databases import build, file_sums
from tests.support.program import succeed
from tests.support.restoring import bring_back
from tests.support.session import Session

NOW = datetime(2026, 11, 22, 10, 15, 0, 123456, tzinfo=UTC)
HEADER = PageSetHeader(page_size=4096, pages=0, pages_per_frame=4, timeline="0a" * 16, txid=7, time=NOW)


def test_pages_and_sums_are_those_of_the_file(
    reader: PageReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the size of the messages that carry them."""
    path = build(tmp_path / "a.db", rows=400)
    data, sums = path.read_bytes(), file_sums(path, 4096)
    for at_once, in_message, pages_at_once in ((1 << 27, 4 << 20, 8 << 20), (3 * 4096, 2, 65536)):
        monkeypatch.setattr(calls, "_SUMS_AT_ONCE", at_once)
        monkeypatch.setattr(calls, "SUMS_AT_ONCE", in_message)
        monkeypatch.setattr(stored, "PAGES_AT_ONCE", pages_at_once)
        attachment = reader.attach(str(path))
        told: list[tuple[int, int]] = []

        def note(done: int, total: int, told: list[tuple[int, int]] = told) -> None:
            told.append((done, total))

        walked = list(reader.all_sums(attachment, note))
        assert b"".join(part for _, part in walked) == sums
        assert [first for first, _ in walked] == [1, *(done + 1 for done, _ in told[:-1])]
        assert told[-1] == (attachment.pages, attachment.pages)
        pgnos = [3, 1, *range(1, attachment.pages + 1)]
        assert reader.pages(attachment.handle, pgnos) == [data[(n - 1) * 4096 : n * 4096] for n in pgnos]
        assert reader.pages(attachment.handle, []) == []
        assert reader.sums(attachment.handle, 2, 5) == sums[8:48]
        reader.detach(attachment.handle)


def test_an_attachment_tells_what_it_is(reader: PageReader, tmp_path: Path) -> None:
    """Trailing and missing bytes, the decoded header; none of it for an empty database."""
    path = build(tmp_path / "a.db")
    size = path.stat().st_size
    attachment = reader.attach(str(path))
    assert attachment.database_header is not None and attachment.database_header.page_count * 4096 == size
    assert attachment.trailing_bytes == attachment.missing_bytes == 0
    reader.detach(attachment.handle)
    for change, expected in ((100, (100, 0)), (-4096, (0, 4096))):
        os.truncate(path, size + change)
        attachment = reader.attach(str(path))
        assert (attachment.trailing_bytes, attachment.missing_bytes) == expected
        reader.release(attachment.handle)
        reader.release(attachment.handle)
    os.truncate(path, 0)
    attachment = reader.attach(str(path))
    assert (attachment.pages, attachment.database_header) == (0, None)
    assert list(reader.all_sums(attachment)) == []
    reader.detach(attachment.handle)


def test_descriptors_are_closed_at_detach_and_when_it_fails(reader: PageReader, tmp_path: Path) -> None:
    """Nothing of a database stays open in the reader, neither after success nor after step 6 refused."""
    path = build(tmp_path / "a.db")

    def held() -> list[str]:
        folder = f"/proc/{reader.pid}/fd"
        return [name for fd in os.listdir(folder) if (name := os.readlink(f"{folder}/{fd}")).startswith(str(path))]

    attachment = reader.attach(str(path))
    assert held() == [str(path)]
    reader.detach(attachment.handle)
    assert held() == []
    attachment = reader.attach(str(path))
    os.truncate(path, 4096)
    with pytest.raises(DatabaseUnsettled):
        reader.detach(attachment.handle)
    assert held() == []
    with pytest.raises(ReaderCrashed, match="started again since"):
        reader.detach(attachment.handle)


def test_a_file_that_shrinks_is_unsettled_not_zeros(reader: PageReader, tmp_path: Path) -> None:
    """A short read is told, with the path."""
    path = build(tmp_path / "a.db")
    attachment = reader.attach(str(path))
    os.truncate(path, 4096 + 100)
    for call in (
        lambda: reader.sums(attachment.handle, 1, attachment.pages),
        lambda: reader.pages(attachment.handle, [2]),
    ):
        with pytest.raises(DatabaseUnsettled, match=f"{path} shrank while it was read: .* within page 2"):
            call()
    reader.release(attachment.handle)


def test_values_travel_unchanged() -> None:
    """A page set's header and description are the same on both sides."""
    assert header_from_wire(header_to_wire(HEADER)) == HEADER
    info = PageSetInfo(
        header=HEADER,
        frames=3,
        held=11,
        database_sum=(1 << 64) - 1,
        database_sum_from=1 << 63,
        sha256="ab" * 32,
        bytes=1 << 40,
        numbers_offset=4,
        index_offset=5,
        sums_offset=6,
    )
    assert info_from_wire(info_to_wire(info)) == info


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda reader: reader.glance("a"), 5),
        (lambda reader: reader.sums(1, 1, 1), "no bytes"),
        (lambda reader: reader.open_file("a", 512), b"no number"),
        (lambda reader: reader.copy_file("a", "b"), 1),
        (lambda reader: reader.chain_pages(["a"], [1, 2]), [b"one"]),
        (lambda reader: reader.chain_pages(["a"], [1]), [1]),
        (lambda reader: reader.pageset_info("a"), {"header": {}}),
        (lambda reader: reader.chain_infos(["a"]), []),
        (lambda reader: reader.chain_infos(["a"]), b"[]"),
        (lambda reader: reader.chain_infos(["a"]), b"[{}]"),
        (lambda reader: reader.chain_infos(["a"]), b"nonsense"),
        (lambda reader: reader.attach("a"), {"unknown": 1}),
    ],
)
def test_an_answer_of_another_kind_is_a_crash(
    call: Callable[[PageReader], object], answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that was taken over cannot hand its caller anything but what was asked for (H29)."""
    with PageReader() as reader:
        monkeypatch.setattr(client, "_converse", lambda *_args: {"value": answer})
        monkeypatch.setattr(reader, "_known", lambda _handle: None)
        with pytest.raises(ReaderCrashed, match="answered nonsense"):
            call(reader)


def test_a_file_is_copied_and_its_header_told(reader: PageReader, tmp_path: Path) -> None:
    """Byte for byte, never over another file; the header as it stands in the file, whatever a log says."""
    path = build(tmp_path / "a.db", rows=1500)
    assert path.stat().st_size > 8 << 20
    reader.copy_file(path, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert reader.file_header(path) == path.read_bytes()[:100]
    with pytest.raises(TargetFailed, match="file exists"):
        reader.copy_file(path, tmp_path / "copy")
    with pytest.raises(DatabaseNotFound):
        reader.copy_file(tmp_path / "nothing", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_snapshot_goes_there_and_back(reader: PageReader, tmp_path: Path) -> None:
    """Copy, copy again what differs, seal, prove, read from it, restore: the file is the database."""
    path = build(tmp_path / "a.db", rows=100)
    attachment = reader.attach(str(path))
    told: list[tuple[int, int]] = []
    snapshot = reader.begin_snapshot(tmp_path / "set", HEADER, 1)
    reader.copy(snapshot, attachment.handle, 1, attachment.pages, lambda done, total: told.append((done, total)))
    assert told[-1] == (attachment.pages, attachment.pages)
    assert reader.recopy_changed(snapshot, attachment.handle, 1, attachment.pages) == 0
    reader.detach(attachment.handle)
    with path.open("r+b") as file:
        file.seek(5 * 4096 + 7)
        file.write(b"other")
    attachment = reader.attach(str(path))
    assert reader.recopy_changed(snapshot, attachment.handle, 1, attachment.pages) == HEADER.pages_per_frame
    reader.detach(attachment.handle)
    later = NOW + timedelta(seconds=5)
    info = reader.seal(snapshot, attachment.pages, later)
    assert (info.header.pages, info.header.time) == (attachment.pages, later)
    assert reader.pageset_info(tmp_path / "set") == info
    assert reader.verify_pageset(tmp_path / "set", read_data=True, drop_cache=True) == info
    sums = file_sums(path, 4096)
    assert reader.chain_infos([tmp_path / "set"]) == [info]
    assert reader.chain_sums([tmp_path / "set"], 1, attachment.pages) == sums
    assert reader.chain_pages([tmp_path / "set"], [6, 1]) == [
        path.read_bytes()[5 * 4096 : 6 * 4096],
        path.read_bytes()[:4096],
    ]
    told.clear()
    told_of = bring_back(reader, [tmp_path / "set"], tmp_path / "back", progress=lambda *done: told.append(done))
    assert told_of == [info] and told[-1] == (attachment.pages, attachment.pages)
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    assert b"".join(part for _, part in reader.file_sums(tmp_path / "back", 4096)) == sums
    with pytest.raises(TargetFailed, match="file exists"):
        bring_back(reader, [tmp_path / "set"], tmp_path / "back")


def test_a_snapshot_that_is_abandoned_leaves_nothing(reader: PageReader, tmp_path: Path) -> None:
    """Neither does one whose file cannot be made; an existing file is never touched."""
    (tmp_path / "there").write_bytes(b"precious")
    with pytest.raises(TargetFailed, match="file exists"):
        reader.begin_snapshot(tmp_path / "there", HEADER, 1)
    with pytest.raises(TargetFailed, match="file exists"):
        reader.begin_image(tmp_path / "there", 4096)
    assert (tmp_path / "there").read_bytes() == b"precious"
    snapshot, image = reader.begin_snapshot(tmp_path / "set", HEADER, 1), reader.begin_image(tmp_path / "image", 4096)
    for copy in (snapshot, image):
        reader.abandon(copy)
        reader.abandon(copy)
        with pytest.raises(ReaderCrashed, match="started again since"):
            reader.seal(copy, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_a_raw_image_is_the_file(reader: PageReader, tmp_path: Path) -> None:
    """Copied in parts, again where it differs, and cut where the database shrank."""
    path = build(tmp_path / "a.db", rows=300)
    data = bytearray(path.read_bytes())
    attachment = reader.attach(str(path))
    image = reader.begin_image(tmp_path / "image", 4096)
    half = attachment.pages // 2
    reader.copy(image, attachment.handle, 1, half)
    assert reader.recopy_changed(image, attachment.handle, 1, attachment.pages) == attachment.pages - half
    reader.detach(attachment.handle)
    for pgno in (5, 6, 7, 20):
        data[pgno * 4096 - 1] ^= 1
    path.write_bytes(data)
    attachment = reader.attach(str(path))
    assert reader.recopy_changed(image, attachment.handle, 1, attachment.pages) == 4
    assert reader.recopy_changed(image, attachment.handle, 1, attachment.pages) == 0
    reader.detach(attachment.handle)
    reader.seal_image(image, attachment.pages - 3)
    assert (tmp_path / "image").read_bytes() == data[: -3 * 4096]
    assert oct((tmp_path / "image").stat().st_mode & 0o777) == "0o600"


def test_a_stored_page_set_that_was_exchanged_is_read_anew(reader: PageReader, tmp_path: Path) -> None:
    """A few stay open, but never one that is not the file at the path; and not ever more of them."""
    paths = []
    for number in range(6):
        path = build(tmp_path / f"{number}.db", rows=10 + number, seed=number)
        attachment = reader.attach(str(path))
        snapshot = reader.begin_snapshot(tmp_path / f"set{number}", HEADER, 1)
        reader.copy(snapshot, attachment.handle, 1, attachment.pages)
        reader.detach(attachment.handle)
        reader.seal(snapshot, attachment.pages)
        paths.append(path)
    for _ in range(2):
        for number, path in enumerate(paths):
            assert reader.chain_sums([tmp_path / f"set{number}"], 1, 1) == file_sums(path, 4096)[:8]
    folder = f"/proc/{reader.pid}/fd"
    assert sum("/set" in os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)) == 4
    os.replace(tmp_path / "set1", tmp_path / "set5")
    assert reader.chain_sums([tmp_path / "set5"], 1, 1) == file_sums(paths[1], 4096)[:8]


def test_stored_files_that_are_damaged_or_missing_are_named(reader: PageReader, tmp_path: Path) -> None:
    """The repository's own errors cross the border."""
    (tmp_path / "set").write_bytes(b"no page set" * 100)
    for call in (
        reader.pageset_info,
        lambda path: reader.chain_pages([path], [1]),
        lambda path: reader.verify_pageset(path, read_data=True),
        lambda path: bring_back(reader, [path], tmp_path / "to"),
    ):
        with pytest.raises(RepositoryDamaged):
            call(tmp_path / "set")
        with pytest.raises(TargetFailed, match=r"cannot read .*nothing: no such file"):
            call(tmp_path / "nothing")
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("what", ["set", "image", "restore", "copy"])
def test_a_full_file_system_is_out_of_space(what: str, tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk: the error is named and what was begun is removed."""
    path = build(tmp_path / "a.db", rows=400)
    with PageReader() as reader:
        attachment = reader.attach(str(path))
        stored = reader.begin_snapshot(tmp_path / "stored", HEADER, 1)
        reader.copy(stored, attachment.handle, 1, attachment.pages)
        reader.seal(stored, attachment.pages)
        assert reader.pid is not None
        limits = resource.prlimit(reader.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(reader.pid, resource.RLIMIT_FSIZE, (100_000, limits[1]))
        if what == "restore":
            with pytest.raises(OutOfSpace):
                bring_back(reader, [tmp_path / "stored"], tmp_path / "restore")
        elif what == "copy":
            with pytest.raises(OutOfSpace):
                reader.copy_file(path, tmp_path / "copy")
        else:
            copy = (
                reader.begin_snapshot(tmp_path / what, HEADER, 1)
                if what == "set"
                else reader.begin_image(tmp_path / what, 4096)
            )
            with pytest.raises(OutOfSpace):
                reader.copy(copy, attachment.handle, 1, attachment.pages)
            reader.abandon(copy)
        assert not (tmp_path / what).exists()
        assert reader.ping()
        resource.prlimit(reader.pid, resource.RLIMIT_FSIZE, limits)


def test_a_read_error_names_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO of the disk under a page becomes DatabaseUnreadable, with the path."""
    path = build(tmp_path / "a.db")
    made = reader_main.Reader(Channel(-1, -1), 1)
    assert "value" in reader_main.answer(made, "attach", {"handle": 1, "database": str(path)})

    def fail(*_args: object, **_kwargs: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(reader_main, "scan_sums", fail)
    answer = reader_main.answer(made, "sums", {"handle": 1, "first": 1, "count": 1})
    error = answer["error"]
    assert isinstance(error, dict)
    assert error["slug"] == DatabaseUnreadable.slug
    assert error["message"] == f"{path} cannot be read: Input/output error"
    monkeypatch.setattr(os, "pread", fail)
    answer = reader_main.answer(made, "attach", {"handle": 2, "database": str(path)})
    assert isinstance(answer["error"], dict) and answer["error"]["slug"] == DatabaseUnreadable.slug
    reader_main.answer(made, "detach", {"handle": 1, "check": False})


def test_serving_ends_with_the_conversation(tmp_path: Path) -> None:
    """At the end of the input, at an answer that nobody takes any more; and nonsense from the parent ends it, too."""

    def serve(*messages: Value, deaf: bool = False) -> None:
        asked, answers = os.pipe(), os.pipe()
        parent = Channel(answers[0], asked[1])
        for message in messages:
            parent.send(message)
        os.close(asked[1])
        if deaf:
            os.close(answers[0])
        try:
            reader_main.serve(Channel(asked[0], answers[1]))
        finally:
            os.close(asked[0])
            os.close(answers[1])
            if not deaf:
                os.close(answers[0])

    ping: dict[str, Value] = {"call": "ping", "arguments": {}}
    serve({"threads": 1, "copies": True, "stored": False}, ping)
    serve({"threads": 1, "copies": False, "stored": False}, ping, ping, deaf=True)
    with pytest.raises(ProtocolError, match="no map"):
        serve({"threads": 1, "copies": False, "stored": False}, "ping")


def test_the_parent_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was given to another parent ends, though its input is still held open by somebody."""
    parents = iter([7, 7, 7, 1])
    ended: list[int] = []
    monkeypatch.setattr(reader_main, "_LOOK_EVERY", 1)
    monkeypatch.setattr(reader_main, "_GRACE", 0)
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "_exit", ended.append)
    reading, writing = os.pipe()
    monkeypatch.setattr(reader_main, "_INPUT", reading)
    reader_main._watch_parent()
    assert ended == [1] and list(parents) == []
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("failing", ["ftruncate", "first write", "second write"])
def test_an_image_on_a_full_disk_is_out_of_space(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write it is that fails: the pages, their sums, the cut at the end."""
    path = build(tmp_path / "a.db")
    attached = attach.Attached(str(path))
    image = RawImage(tmp_path / "image", 4096)
    writes = iter([None, None, None, None] if failing == "ftruncate" else [None] * (failing == "second write"))

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_at(*_args: object) -> None:
        if next(writes, full) is full:
            full()

    monkeypatch.setattr(durable, "write_at", write_at)
    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(OutOfSpace):
        image.copy(attached.source, 1, 3)
        image.seal(pages=3)
    image.abandon()
    assert not (tmp_path / "image").exists()
    attached.close()


def test_an_image_takes_only_pages_of_its_size(tmp_path: Path) -> None:
    """A database whose page size changed is begun anew, never mixed."""
    path = build(tmp_path / "a.db", page_size=1024)
    attached = attach.Attached(str(path))
    image = RawImage(tmp_path / "image", 4096)
    with pytest.raises(ValueError, match="pages of 1024 bytes do not fit an image of 4096"):
        image.copy(attached.source, 1, 1)
    image.abandon()
    attached.close()


def test_memory_does_not_grow_with_the_database(tmp_path: Path) -> None:
    """Sums, an image and a snapshot of 1.5 GiB, mostly holes, stay below 150 MB."""
    path = build(tmp_path / "a.db", page_size=65536)
    pages = (3 << 29) // 65536
    with path.open("r+b") as file:
        file.truncate(pages * 65536)
        file.seek(28)
        file.write(pages.to_bytes(4, "big"))
    header = PageSetHeader(page_size=65536, pages=0, pages_per_frame=4, timeline="0a" * 16, txid=7, time=NOW)
    with PageReader() as reader:
        attachment = reader.attach(str(path))
        assert attachment.pages == pages
        list(reader.all_sums(attachment))
        snapshot = reader.begin_snapshot(tmp_path / "set", header, 1)
        reader.copy(snapshot, attachment.handle, 1, 4096)
        reader.abandon(snapshot)
        status = Path(f"/proc/{reader.pid}/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0])
    assert peak < 150_000, f"{peak} kB"


def test_a_hostile_file_cannot_take_the_caller_down(tmp_path: Path) -> None:
    """Headers, logs and wal-indexes of random bytes, a hundred of them, in a process that lives on (H29)."""
    program = """
    import os, random, sys
    from pathlib import Path
    from pagewarden.errors import PagewardenError
    from pagewarden.processes.reader import PageReader

    folder = Path(sys.argv[1])
    good = {suffix: Path(f"{sys.argv[2]}{suffix}").read_bytes() for suffix in ("", "-wal", "-shm")}
    chance = random.Random(20261122)
    with PageReader() as reader:
        reader.ping()
        first = reader.pid
        for number in range(100):
            path = folder / f"{number % 10}.db"
            for suffix, data in good.items():
                hostile = bytearray(data)
                for _ in range(chance.choice((0, 1, 3, 50))):
                    limit = chance.choice((100, 140, len(hostile)))
                    hostile[chance.randrange(min(limit, len(hostile)))] = chance.randrange(256)
                cut = chance.choice((len(hostile), chance.randrange(len(hostile))))
                Path(f"{path}{suffix}").write_bytes(hostile[:cut])
            try:
                attachment = reader.attach(str(path))
                reader.sums(attachment.handle, 1, min(attachment.pages, 1000))
                reader.pages(attachment.handle, range(1, min(attachment.pages, 20) + 1))
                reader.detach(attachment.handle)
            except PagewardenError as error:
                assert error.exit_code != 70, error
        assert reader.pid == first
    """
    path = build(tmp_path / "a.db", mode="wal", page_size=512, rows=30)
    with Session(path) as session:
        session.run("UPDATE item SET name = 'x' || name")
        (tmp_path / "hostile").mkdir()
        succeed(program, tmp_path / "hostile", path)
