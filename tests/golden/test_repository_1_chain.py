"""A repository with a segment, as version 1 of the formats wrote it, kept for ever: it opens, and is written so."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pagewarden.pages import backend
from pagewarden.processes.reader import PageReader
from pagewarden.repository import Repository
from pagewarden.repository.format import Kind
from pagewarden.repository.manifest import encode_manifest
from pagewarden.repository.mapfacts import MapFacts
from pagewarden.repository.pagemap import PageMap, write_map
from pagewarden.repository.pageset import PageSetFile, verify_pageset
from pagewarden.repository.segment import SegmentWriter
from pagewarden_target_directory import DirectoryFactory
from tests.core.repository.segments import parse, sums_of
from tests.core.repository.sets import source
from tests.golden import test_repository_1 as snapshot
from tests.support.restoring import bring_back_chain
from tests.support.segments import page_set

HERE = Path(__file__).parent
ROOT = HERE / "repository-1-chain"
DATABASE = (HERE / "app-2.db").read_bytes()
KEY = f"golden=20app.db/objects/{snapshot.TIMELINE}/0000000000000002-8899aabbccddeeff.pageset.zst"
STORED = ROOT / KEY
HEADER = replace(
    snapshot.HEADER,
    kind=Kind.SEGMENT,
    pages=38,
    txid_from=1,
    txid=2,
    time=snapshot.HEADER.time + timedelta(hours=1),
)
MANIFEST = replace(
    snapshot.MANIFEST,
    kind="segment",
    sequence=2,
    position=replace(snapshot.MANIFEST.position, txid=2, time=HEADER.time),
    parent=snapshot.MANIFEST.position,
    key=KEY,
    bytes=4726,
    sha256="3586446088ba95fd14f5897ecd9b83ae4b702f19b1909019afa28dadfae6798e",
    pages=38,
    database_sum="40c3101750b1af40",
    facts=replace(snapshot.MANIFEST.facts, change_counter=3),
    verified_at=snapshot.MANIFEST.verified_at + timedelta(hours=1),
)
HELD = 17


@pytest.fixture
def repository() -> Repository:
    """The golden repository."""
    return Repository.open(DirectoryFactory().open(str(ROOT), create=False), str(ROOT))


def test_both_points_of_the_golden_repository_are_restored(repository: Repository, tmp_path: Path) -> None:
    """The snapshot, and the chain of snapshot and segment, come back byte for byte."""
    chain = repository.resolve_chain()
    assert chain.links == (snapshot.MANIFEST, MANIFEST)
    with PageReader() as reader:
        assert bring_back_chain(reader, repository, chain, tmp_path / "2.db") == DATABASE
        one = bring_back_chain(reader, repository, repository.resolve_chain(txid=1), tmp_path / "1.db")
    assert one == snapshot.DATABASE
    with closing(sqlite3.connect(tmp_path / "2.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*), max(id) FROM golden").fetchone() == (55, 100)


def test_the_golden_segment_decodes() -> None:
    """Our reader proves every page and gives the header it was written with; another reader reads the same."""
    info = verify_pageset(STORED, threads=2, read_data=True, drop_cache=False)
    assert (info.header, info.held) == (HEADER, HELD)
    assert info.database_sum_from == int(snapshot.MANIFEST.database_sum, 16)
    assert MANIFEST.contradiction(info) == ""
    parsed = parse(STORED)
    assert parsed.applied_to(snapshot.DATABASE, 1024) == DATABASE
    with PageSetFile(STORED) as file:
        assert file.numbers(0, HELD) == parsed.numbers
        assert tuple(map(file.page, parsed.numbers)) == parsed.content


def test_the_tables_of_the_format_give_the_same_bytes() -> None:
    """Given the golden frames, whatever zstd compressed them, everything around them is what the documents say."""
    with PageSetFile(STORED) as file:
        frames = [os.pread(file.fileno(), frame.csize, frame.offset) for frame in file.frames()]
        pages = {pgno: file.page(pgno) for pgno in file.numbers(0, HELD)}
        made = page_set(
            HEADER,
            pages,
            database_sum=file.info.database_sum,
            database_sum_from=file.info.database_sum_from,
            frames=frames,
        )
    assert made == STORED.read_bytes()


def test_comparing_the_databases_writes_the_same_around_the_frames(tmp_path: Path) -> None:
    """Written anew, page numbers, sums and database sums are the golden ones; frames may be those of another zstd."""
    sums = sums_of(snapshot.DATABASE, 1024)
    facts = MapFacts(timeline=snapshot.TIMELINE, txid=1, page_size=1024, pages=37, database_sum=backend().fold(sums))
    write_map(tmp_path / "map", facts, lambda first, count: sums[(first - 1) * 8 : (first - 1 + count) * 8])
    with (
        source(tmp_path, DATABASE, 1024) as pages,
        PageMap(tmp_path / "map", facts) as base,
        SegmentWriter(tmp_path / "set", replace(HEADER, pages=0), base, level=1, threads=2) as writer,
    ):
        writer.copy(pages, 1, 38)
        info = writer.seal(pages=38)
    golden = verify_pageset(STORED, threads=1, read_data=False, drop_cache=False)
    assert (info.header, info.held, info.frames) == (golden.header, golden.held, golden.frames)
    assert (info.database_sum, info.database_sum_from) == (golden.database_sum, golden.database_sum_from)
    data, wanted = (tmp_path / "set").read_bytes(), STORED.read_bytes()
    assert data[:128] == wanted[:128]
    assert data[info.numbers_offset : info.index_offset] == wanted[golden.numbers_offset : golden.index_offset]
    assert data[info.sums_offset : -192] == wanted[golden.sums_offset : -192]
    if data[128 : info.numbers_offset] == wanted[128 : golden.numbers_offset]:
        assert data == wanted


def test_the_manifests_are_still_written_byte_for_byte() -> None:
    """The documents of today's code are those of the golden repository."""
    for number, manifest in enumerate((snapshot.MANIFEST, MANIFEST), 1):
        path = ROOT / f"golden=20app.db/manifests/{number:016}.json"
        assert encode_manifest(manifest) == path.read_bytes()
