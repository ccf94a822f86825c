"""A snapshot and many segments: how much longer a restore of all of them takes than one of the snapshot alone.

The segments are made here, byte by byte: taking 1,000 real backups reads the database 1,000 times.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from pagewarden.repository import Manifest, Repository, keys
from pagewarden.repository.format import Kind, PageSetHeader, pages_per_frame
from pagewarden.repository.keys import ObjectKey
from pagewarden.repository.manifest import encode_manifest
from pagewarden_target_directory import DirectoryFactory
from tests.support.segments import page_set, sum_of

SEGMENTS = 1000
PAGES = 100
"""Pages that change from one restore point to the next."""

HOT = 0.02
"""The part of the database that nine in ten changes are in, where not all of it changes alike."""


def add_segments(
    root: Path, database: Path, *, segments: int = SEGMENTS, pages: int = PAGES, hot: float = 0.0, seed: int = 1
) -> None:
    """Add restore points to a repository that holds one snapshot of `database`.

    Pages change anywhere alike; with `hot`, nine in ten of them are in that part of the database.
    """
    repository = Repository.open(DirectoryFactory().open(str(root), create=False), str(root))
    base = repository.resolve_chain().point
    chance = random.Random(seed)
    with database.open("rb") as file:
        changed: dict[int, bytes] = {}  # the last version of each page
        for manifest, data in _segments(base, chance, segments, pages, hot, file.fileno(), changed):
            path = root / manifest.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            key = keys.manifest_key(manifest.database, manifest.sequence)
            (root / key).write_bytes(encode_manifest(manifest))


def _segments(
    base: Manifest,
    chance: random.Random,
    segments: int,
    pages: int,
    hot: float,
    file: int,
    changed: dict[int, bytes],
) -> Iterator[tuple[Manifest, bytes]]:
    """Yield segments that follow `base`, and their manifests."""
    last, size = base, base.page_size
    anywhere = range(2, base.pages + 1)
    often = chance.sample(anywhere, round(hot * len(anywhere)))
    for _ in range(segments):
        position = replace(
            last.position, txid=last.position.txid + 1, time=last.position.time + timedelta(milliseconds=1)
        )
        total, held = int(last.database_sum, 16), {}
        some = round(pages * 0.9) if often else 0
        for pgno in {*chance.sample(often, some), *chance.sample(anywhere, pages - some)}:
            old = changed.get(pgno) or os.pread(file, size, (pgno - 1) * size)
            at = chance.randrange(size - 200)
            page = old[:at] + chance.randbytes(100) + old[at + 100 :]
            total ^= sum_of(pgno, old) ^ sum_of(pgno, page)
            held[pgno] = changed[pgno] = page
        header = PageSetHeader(
            kind=Kind.SEGMENT,
            page_size=size,
            pages=base.pages,
            pages_per_frame=pages_per_frame(size),
            timeline=position.timeline,
            txid_from=last.position.txid,
            txid=position.txid,
            time=position.time,
        )
        data = page_set(header, held, database_sum=total, database_sum_from=int(last.database_sum, 16))
        parts = ObjectKey(
            name=base.database, timeline=position.timeline, txid=position.txid, nonce=chance.randbytes(8).hex()
        )
        last = replace(
            last,
            kind="segment",
            sequence=last.sequence + 1,
            position=position,
            parent=last.position,
            key=keys.object_key(parts),
            bytes=len(data),
            sha256=data[-40:-8].hex(),
            database_sum=f"{total:016x}",
        )
        yield last, data
