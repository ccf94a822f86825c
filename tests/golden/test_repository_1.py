"""A repository as version 1 of the formats wrote it, kept for ever: it opens, and would be written the same today."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.pages import Batch, FrameCopy
from pagewarden.repository.format import PageSetHeader, PageSetInfo
from pagewarden.repository.manifest import Manifest, SourceFacts, encode_document, encode_manifest
from pagewarden.repository.pageset import PageSetFile, verify_pageset
from pagewarden.repository.repository import Marker, Repository
from pagewarden.repository.writer import SnapshotWriter
from pagewarden.values import Position, SourceVerdict, Verdict
from pagewarden_target_directory import DirectoryFactory
from tests.core.repository.sets import assemble, source, stock

HERE = Path(__file__).parent
ROOT = HERE / "repository-1"
DATABASE = (HERE / "app-1.db").read_bytes()
NAME = "golden app.db"
TIMELINE = "0123456789abcdeffedcba9876543210"
KEY = f"golden=20app.db/objects/{TIMELINE}/0000000000000001-0011223344556677.pageset.zst"
STORED = ROOT / KEY
HEADER = PageSetHeader(
    page_size=1024,
    pages=37,
    pages_per_frame=4,
    timeline=TIMELINE,
    txid=1,
    time=datetime(2026, 11, 22, 10, 15, 30, 123456, UTC),
)
MANIFEST = Manifest(
    database=NAME,
    kind="snapshot",
    sequence=1,
    position=Position(timeline=TIMELINE, txid=1, time=HEADER.time),
    parent=None,
    key=KEY,
    bytes=14034,
    sha256="9a5c0ccc5d5942009ae650fa84bc5083e54556b78d47d7b32a965119276fce9c",
    page_size=1024,
    pages=37,
    database_sum="65db914919645bd6",
    compression=1,
    source=SourceVerdict(verdict=Verdict.SOUND, level="quick"),
    facts=SourceFacts(
        path="/srv/golden app.db",
        host="example",
        change_counter=2,
        schema_cookie=1,
        journal_mode="delete",
        sqlite_version="3.40.1",
    ),
    verified_at=datetime(2026, 11, 22, 10, 15, 31, tzinfo=UTC),
    created_by="pagewarden 0.1.0",
)


@pytest.fixture
def repository() -> Repository:
    """The golden repository."""
    return Repository.open(DirectoryFactory().open(str(ROOT), create=False), str(ROOT))


def test_the_golden_repository_opens_and_restores(repository: Repository, tmp_path: Path) -> None:
    """Its restore point is listed, its object proved, and the database comes back byte for byte."""
    chain = repository.resolve_chain()
    assert chain.links == (MANIFEST,)
    assert repository.resolve() == MANIFEST.restore_point
    infos = assemble([repository.object_path(MANIFEST.key)], tmp_path / "app.db")
    repository.confirm(chain.links, infos)
    assert (tmp_path / "app.db").read_bytes() == DATABASE
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        assert connection.execute("SELECT count(*), sum(id) FROM golden").fetchone() == (60, 1830)


def test_the_golden_page_set_decodes() -> None:
    """Stock zstd gives the database; our reader proves every page, and gives the header it was written with."""
    assert stock(STORED) == DATABASE
    info = verify_pageset(STORED, threads=2, read_data=True, drop_cache=False)
    assert info.header == HEADER
    assert MANIFEST.contradiction(info) == ""
    with PageSetFile(STORED) as file:
        assert b"".join(file.page(pgno) for pgno in range(1, 38)) == DATABASE


def assert_equal(path: Path, info: PageSetInfo) -> None:
    """Assert that a file is the golden one."""
    assert path.read_bytes() == STORED.read_bytes()
    assert info == verify_pageset(STORED, threads=1, read_data=False, drop_cache=False)


def test_the_encoder_still_writes_it_byte_for_byte(tmp_path: Path) -> None:
    """Given the golden frames, whatever zstd compressed them, everything around them is written the same."""
    with PageSetFile(STORED) as file, SnapshotWriter(tmp_path / "set", HEADER, level=1, threads=1) as writer:
        for frame in file.frames():
            data = os.pread(file.fileno(), frame.csize, frame.offset)
            copied = FrameCopy(first=frame.first, count=frame.count, csize=frame.csize)
            writer._take(Batch(frames=(copied,), data=memoryview(data), sums=file.sums(frame.first, frame.count)))
        assert_equal(tmp_path / "set", writer.seal(pages=37))


def test_copying_the_database_writes_the_same_around_the_frames(tmp_path: Path) -> None:
    """Copied anew, header, sums and database sum are those of the golden file; frames may be those of another zstd."""
    with (
        source(tmp_path, DATABASE, 1024) as pages,
        SnapshotWriter(tmp_path / "set", HEADER, level=1, threads=2) as writer,
        PageSetFile(STORED) as golden,
    ):
        writer.copy(pages, 1, 37)
        info = writer.seal(pages=37)
        assert (info.header, info.frames, info.database_sum) == (HEADER, 10, golden.info.database_sum)
        with PageSetFile(tmp_path / "set") as file:
            assert file.sums(1, 37) == golden.sums(1, 37)
            sizes = [frame.csize for frame in file.frames()] == [frame.csize for frame in golden.frames()]
        data = (tmp_path / "set").read_bytes(), STORED.read_bytes()
        assert data[0][:128] == data[1][:128]
        if sizes and data[0][128 : info.index_offset] == data[1][128 : golden.info.index_offset]:
            assert_equal(tmp_path / "set", info)


def test_marker_and_manifest_are_still_written_byte_for_byte() -> None:
    """The documents of today's code are those of the golden repository."""
    assert encode_document("repository", Marker()) == (ROOT / "pagewarden.json").read_bytes()
    manifest = ROOT / "golden=20app.db/manifests/0000000000000001.json"
    assert encode_manifest(MANIFEST) == manifest.read_bytes()
